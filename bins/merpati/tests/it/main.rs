//! The tool against a server that answers what the test says.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use merpati_ops::Phase;
use merpati_ops::api::{
    ActivityView, DeadlineView, DnssecView, HealthView, ListPage, MessageView, ParcelView,
    SpoolHealthView, State, StatsView, Status, SuppressionPage, SuppressionView,
};

mod bulk;
mod load;
mod spool;

/// Runs the tool with `input` on its standard input.
fn merpati(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_merpati"))
        .args(args)
        .env_remove("MERPATI_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A tool that does not read its input closes the pipe first.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Runs the tool against a server that gives these answers, one a request; gives what the tool
/// wrote, and the requests.
fn with_server(args: &[&str], answers: &[String]) -> (Output, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let args = [&["--admin", socket.to_str().unwrap()], args].concat();
    thread::scope(|scope| {
        let server = scope.spawn(move || answers.iter().map(|a| answer(&listener, a)).collect());
        let output = merpati(&args, "");
        (output, server.join().unwrap())
    })
}

/// Answers one request, and gives its first line and its body.
fn answer(listener: &UnixListener, answer: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let head_out = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
    stream.write_all((head_out + answer).as_bytes()).unwrap();
    let first = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
    format!("{first} {}", text(&body)).trim_end().to_owned()
}

fn parcel(number: u32) -> ParcelView {
    ParcelView {
        id: format!("000000000000a/{number}"),
        message: "000000000000a".to_owned(),
        number,
        sender: String::new(),
        recipients: vec!["b@receiver.test".to_owned(), "c@receiver.test".to_owned()],
        domain: "receiver.test".to_owned(),
        state: State::Deferred,
        attempts: 3,
        arrived: "2026-11-23T08:00:00.000Z".to_owned(),
        due: "2026-11-23T09:00:00.000Z".to_owned(),
        size: 20,
        reason: Some("450 busy\u{1b}[2J".to_owned()),
        warned: false,
        expired: false,
        unknown_at: Some("mx.receiver.test [192.0.2.7]:25".to_owned()),
    }
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap()
}

#[test]
fn lists_page_by_page() {
    let first = ListPage { parcels: vec![parcel(0)], cursor: Some("000000000000a/0".to_owned()) };
    let second = ListPage { parcels: vec![parcel(12)], cursor: None };
    let args =
        ["queue", "list", "--site", "receiver.test", "--older-than", "2h", "--younger", "1d"];
    let (output, requests) = with_server(&args, &[json(&first), json(&second)]);
    let expected = "\
000000000000a/0  deferred  2026-11-23T08:00:00  20  3x  <>  <b@receiver.test> and 1 more
    450 busy?[2J
    may have been delivered already by mx.receiver.test [192.0.2.7]:25
000000000000a/12  deferred  2026-11-23T08:00:00  20  3x  <>  <b@receiver.test> and 1 more
    450 busy?[2J
    may have been delivered already by mx.receiver.test [192.0.2.7]:25
";
    assert_eq!(text(&output.stdout), expected);
    assert!(requests[0].contains("\"domain\":\"receiver.test\""), "{}", requests[0]);
    assert!(requests[0].contains("\"older_seconds\":7200"), "{}", requests[0]);
    assert!(requests[0].contains("\"younger_seconds\":86400"), "{}", requests[0]);
    assert!(requests[1].contains("\"cursor\":\"000000000000a/0\""), "{}", requests[1]);

    let (output, _) = with_server(&["queue", "list", "--json", "--limit", "1"], &[json(&first)]);
    let line = text(&output.stdout).trim_end();
    assert_eq!(serde_json::from_str::<ParcelView>(line).unwrap(), parcel(0));
}

#[test]
fn shows_and_writes_messages() {
    let message = MessageView {
        id: "000000000000a".to_owned(),
        sender: "a@sender.test".to_owned(),
        recipients: vec!["b@receiver.test".to_owned()],
        arrived: "2026-11-23T08:00:00.000Z".to_owned(),
        size: 20,
        peer: Some("192.0.2.1".to_owned()),
        hello: None,
        account: None,
        hold: None,
        priority: 4,
        not_before: Some("2026-11-23T10:00:00.000Z".to_owned()),
        deliver_by: Some(DeadlineView {
            at: "2026-11-23T12:00:00.000Z".to_owned(),
            mode: "return".to_owned(),
        }),
        folder: None,
        envid: None,
        tags: [("list".to_owned(), "yes".to_owned())].into(),
        parcels: vec![],
    };
    let (output, requests) = with_server(&["queue", "show", "000000000000a"], &[json(&message)]);
    assert_eq!(requests, ["GET /v1/queue/message/000000000000a"]);
    let expected = "\
id          000000000000a
sender      <a@sender.test>
arrived     2026-11-23T08:00:00
size        20
priority    4
peer        192.0.2.1
not before  2026-11-23T10:00:00
deliver by  2026-11-23T12:00:00, else return
tag list    yes
recipient   <b@receiver.test>

";
    assert_eq!(text(&output.stdout), expected);

    let raw = "Subject: x\r\n\r\nbody".to_owned();
    let (output, requests) =
        with_server(&["queue", "cat", "000000000000a"], std::slice::from_ref(&raw));
    assert_eq!(requests, ["GET /v1/queue/message/000000000000a/raw"]);
    assert_eq!(text(&output.stdout), raw);
}

#[test]
fn changes_what_is_named() {
    let changed = "{\"changed\":1}".to_owned();
    let args = ["queue", "hold", "a", "b", "--reason", "why"];
    let (output, requests) = with_server(&args, &[changed.clone(), changed.clone()]);
    assert_eq!(text(&output.stdout), "hold: 2\n");
    assert!(requests[1].starts_with("POST /v1/queue/hold"), "{}", requests[1]);
    assert!(requests[1].contains("\"id\":\"b\"") && requests[1].contains("\"reason\":\"why\""));

    for action in ["release", "retry", "bounce", "delete"] {
        let args = ["queue", action, "--all", "--json"];
        let (output, requests) = with_server(&args, std::slice::from_ref(&changed));
        assert_eq!(text(&output.stdout), "{\"changed\":1}\n");
        assert!(requests[0].contains("\"all\":true"), "{}", requests[0]);
    }
}

#[test]
fn goes_on_step_by_step() {
    let step = r#"{"changed":7,"next":"000000000000a/1"}"#.to_owned();
    let last = r#"{"changed":1,"next":null}"#.to_owned();
    let args = ["queue", "hold", "--all", "--step", "7", "--after", "0000000000009/0"];
    let args = [&args[..], &["--progress"]].concat();
    let (output, requests) = with_server(&args, &[step, last]);
    assert_eq!(text(&output.stdout), "hold: 8\n");
    assert_eq!(text(&output.stderr), "hold: 7 so far\nhold: 8 so far\n");
    assert!(requests[0].contains("\"step\":7"), "{}", requests[0]);
    assert!(requests[0].contains("\"cursor\":\"0000000000009/0\""), "{}", requests[0]);
    assert!(requests[1].contains("\"cursor\":\"000000000000a/1\""), "{}", requests[1]);
}

#[test]
fn tells_how_the_server_is() {
    let mut health = HealthView {
        status: Status::Ok,
        ready: true,
        phase: Phase::Serving,
        reasons: Vec::new(),
        spool: SpoolHealthView::default(),
        shedding: None,
        dnssec: DnssecView { state: "validating".to_owned(), ..DnssecView::default() },
    };
    let (output, requests) = with_server(&["health"], &[json(&health)]);
    assert_eq!(requests, ["GET /v1/health"]);
    let expected = "status      ok\nphase       serving\ntakes mail  yes\ndamaged     0\nindex       whole\n\
         dnssec      validating\n";
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), expected));

    health.status = Status::Degraded;
    health.reasons.push("the spool is full: no room".to_owned());
    let (output, _) = with_server(&["health"], &[json(&health)]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), ""));
    assert!(text(&output.stdout).ends_with("\nthe spool is full: no room\n"));
    let (output, _) = with_server(&["health", "--json"], &[json(&health)]);
    assert_eq!(serde_json::from_slice::<HealthView>(&output.stdout).unwrap(), health);
}

#[test]
fn watches_on_a_pipe() {
    let view = |at, delivered| ActivityView {
        at,
        status: Status::Ok,
        reasons: Vec::new(),
        queue: StatsView::default(),
        accepted: 0,
        delivered,
        deferred: 0,
        bounced: 0,
        hops: Vec::new(),
    };
    let views = [json(&view(0, 0)), json(&view(1_000, 5)), json(&view(2_000, 6))];
    let args = ["queue", "watch", "--count", "2", "--interval", "1ms"];
    let (output, requests) = with_server(&args, &views);
    assert_eq!(requests, ["GET /v1/activity"; 3]);
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("delivered 5.0") && lines[1].contains("delivered 1.0"), "{lines:?}");

    let (output, _) = with_server(&[&args[..], &["--json"]].concat(), &views);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["rates"]["delivered"], 5.0);
}

#[test]
fn finds_the_server_by_its_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("admin.sock")).unwrap();
    let config = directory.path().join("mx.toml");
    let state_dir = directory.path().display();
    std::fs::write(&config, format!("hostname = 'a.test'\nstate_dir = '{state_dir}'\n")).unwrap();
    let server = thread::spawn(move || answer(&listener, &json(&StatsView::default())));
    let output = merpati(&["queue", "stats", "--config", config.to_str().unwrap()], "");
    assert_eq!(server.join().unwrap(), "GET /v1/queue/stats");
    assert!(text(&output.stdout).starts_with("messages  0\nactive    0\n"));

    std::fs::write(&config, "state_dri = 'x'\n").unwrap();
    let output = merpati(&["queue", "stats", "--config", config.to_str().unwrap()], "");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("did you mean `state_dir`?"));
}

#[test]
fn says_why_there_is_no_server() {
    let check = |args: &[&str], says: &str| {
        let output = merpati(args, "");
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        assert!(said.contains(says) && said.lines().count() == 1, "{said}");
    };
    check(&["queue", "stats"], "say which server");
    let absent = Path::new("/nonexistent/admin.sock").to_str().unwrap();
    check(&["--admin", absent, "queue", "stats"], "cannot reach the server at /nonexistent/");
    check(&["--config", "/nonexistent/mx.toml", "queue", "stats"], "/nonexistent/mx.toml: ");
}

#[test]
fn writes_a_line_for_a_file_of_users() {
    let check = |args: &[&str], input: &str, begins: &str, ends: &str| {
        let output = merpati(&[&["password"], args].concat(), input);
        let line = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(line.starts_with(begins) && line.ends_with(ends), "{line}");
        assert!(!line.contains("hunter2"));
    };
    check(&["alice@sender.test"], "hunter2\n", "alice@sender.test:$argon2id$", "\n");
    let args = ["alice", "--address", "a@b.test", "--address", "c@b.test"];
    check(&args, "hunter2", "alice:$argon2id$", ":a@b.test,c@b.test\n");

    let refuse = |args: &[&str], input: &str, says: &str| {
        let output = merpati(&[&["password"], args].concat(), input);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), ""));
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    };
    refuse(&["alice@sender.test"], "\n", "empty password");
    refuse(&["alice"], "hunter2\n", "--address");
    refuse(&["a:b@c.test"], "hunter2\n", "cannot have");
    refuse(&["alice", "--address", "a@"], "hunter2\n", "`a@`");
}

#[test]
fn shows_and_changes_whom_mail_is_kept_from() {
    let view = |who: &str, until: Option<&str>| SuppressionView {
        who: who.to_owned(),
        source: "bounce".to_owned(),
        class: Some("unknown-user".to_owned()),
        since: "2026-11-23T08:00:00.000Z".to_owned(),
        until: until.map(str::to_owned),
        reason: "550 no\u{1b}[2J".to_owned(),
    };
    let until = Some("2027-02-21T08:00:00.000Z");
    let page = |entry, after: Option<&str>| {
        json(&SuppressionPage { entries: vec![entry], after: after.map(str::to_owned) })
    };
    let pages =
        [page(view("@gone.test", None), Some("@gone.test")), page(view("b@x.test", until), None)];
    let (output, requests) =
        with_server(&["suppression", "list", "--class", "unknown-user"], &pages);
    let expected = "\
@gone.test  bounce  unknown-user  2026-11-23  for good  550 no?[2J
b@x.test  bounce  unknown-user  2026-11-23  2027-02-21  550 no?[2J
";
    assert_eq!(text(&output.stdout), expected);
    assert!(requests[1].contains("\"after\":\"@gone.test\""), "{}", requests[1]);
    assert!(requests[1].contains("\"class\":\"unknown-user\""), "{}", requests[1]);

    let entry = json(&view("b@x.test", until));
    let args = ["suppression", "add", "b@x.test", "--for", "90d", "--reason", "why", "--json"];
    let (output, requests) = with_server(&args, std::slice::from_ref(&entry));
    assert_eq!(text(&output.stdout).trim_end(), entry);
    assert!(requests[0].starts_with("POST /v1/suppression/add"), "{}", requests[0]);
    assert!(requests[0].contains("\"seconds\":7776000"), "{}", requests[0]);

    let args = ["suppression", "remove", "b@x.test"];
    let (output, requests) = with_server(&args, std::slice::from_ref(&entry));
    assert_eq!(text(&output.stdout), "removed b@x.test\n");
    assert_eq!(requests, ["POST /v1/suppression/remove {\"who\":\"b@x.test\"}"]);

    let args = ["suppression", "show", "b@x.test"];
    let (output, _) = with_server(&args, &[page(view("b@x.test", until), None)]);
    assert!(text(&output.stdout).starts_with("b@x.test  bounce"), "{output:?}");
}
