//! Servers that mean no good, or do none: what becomes of the message, after how much time, by a
//! simulated clock, and after how many octets.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use merpati_route::security::{Asked, Need, Security, Source};

use super::super::dial::Trip;
use super::super::outcome::{Tally, unsettled};
use super::super::pool::{Key, Policy};
use super::super::source::SentFrom;
use super::super::stream::{Endpoint, Stream};
use super::*;

/// What a server does next.
#[derive(Clone, Copy)]
enum Step {
    Says(&'static str),
    /// Reads until a line that begins so.
    Hears(&'static str),
    /// Lets so many seconds pass.
    Waits(u64),
    /// Says it again and again, with so many seconds after each time.
    Repeats(&'static str, u64),
    /// Neither reads nor speaks, and does not go away.
    Stops,
}

use Step::{Hears, Repeats, Says, Stops, Waits};

/// No more than this is taken from a server that says too much.
const OCTETS: usize = 72 * 1_024;

/// Follows its steps, and closes at their end. Answers how much could be said.
async fn serve(mut stream: DuplexStream, steps: &[Step]) -> usize {
    let mut said = 0;
    for step in steps {
        match *step {
            Says(text) => {
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return said;
                }
                said += text.len();
            }
            Hears(text) => {
                let (mut line, mut octet) = (Vec::new(), [0]);
                while !(line.starts_with(text.as_bytes()) && line.ends_with(b"\n")) {
                    if line.ends_with(b"\n") {
                        line.clear();
                    }
                    if stream.read_exact(&mut octet).await.is_err() {
                        return said;
                    }
                    line.push(octet[0]);
                }
            }
            Waits(seconds) => pass(seconds).await,
            Repeats(text, seconds) => {
                while stream.write_all(text.as_bytes()).await.is_ok() {
                    said += text.len();
                    pass(seconds).await;
                }
                return said;
            }
            Stops => std::future::pending().await,
        }
    }
    said
}

async fn pass(seconds: u64) {
    tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_secs(seconds)).await;
}

/// A message to two people: `delivered`, or the code, status and text that stand for it.
async fn meet(stream: DuplexStream) -> String {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink, Protocol::Smtp, Some(Override::None));
    let piece = Bytes::from(b"0123456789012345678901234567890123456789\r\n".repeat(6_000));
    let job = Job {
        parcel: Arc::new(parcel(1, &["1@x.test", "2@x.test"], "mail.test")),
        message: Arc::new(Pieces { piece, count: 2 }),
        notes: Arc::new(Notes::default()),
        outbound: OutboundChain::default(),
    };
    let security = Security {
        need: Need::Clear,
        source: Source::Configured,
        why: "in the clear".to_owned(),
        asked: Asked::Nothing,
        trial: None,
        faults: Vec::new(),
    };
    let key = Key {
        endpoint: Endpoint::Tcp("192.0.2.1:25".parse().unwrap()),
        host: "mx.test".to_owned(),
        policy: Policy(Arc::new(security)),
        user: None,
        source: SentFrom::default(),
    };
    let mut tally = Tally::new(job.parcel.recipients().map(|(_, r)| r.clone()).collect());
    let trip = Trip { job: &job, survey: None };
    match transport.0.greet(trip, &key, Stream::Pipe(stream)).await {
        Ok(mut connection) => {
            transport.0.transactions(&mut connection, &job, &mut tally).await;
            connection.quit().await;
        }
        Err(error) => tally.note(unsettled("mx.test", &error)),
    }
    let outcomes = tally.finish(None);
    assert_eq!(outcomes[0].result, outcomes[1].result);
    let DeliveryOutcome { result, diagnostic, .. } = &outcomes[0];
    match result {
        DeliveryResult::Delivered(_) => "delivered".to_owned(),
        DeliveryResult::Deferred { status, .. } => format!("waits {status}: {diagnostic}"),
        DeliveryResult::Failed { status } => format!("bounces {status}: {diagnostic}"),
    }
}

async fn check(name: &str, steps: &[Step], expected: &str, seconds: u64) {
    let (ours, theirs) = tokio::io::duplex(4_096);
    let begun = tokio::time::Instant::now();
    let ((became, took), said) = tokio::join!(
        async { (meet(ours).await, begun.elapsed()) },
        tokio::time::timeout(Duration::from_secs(86_400), serve(theirs, steps)),
    );
    assert_eq!(became, expected, "{name}");
    assert_eq!(took.as_secs(), seconds, "{name}: seconds");
    // Who stops is still there.
    let said = said.unwrap_or(0);
    assert!(said <= OCTETS, "{name}: {said} octets were taken");
}

const GREETS: [Step; 3] = [Says("220 mx.test\r\n"), Hears("EHLO"), Says("250 mx.test\r\n")];

/// Greets, takes the envelope and DATA.
const TAKES: [Step; 11] = [
    Says("220 mx.test\r\n"),
    Hears("EHLO"),
    Says("250 mx.test\r\n"),
    Hears("MAIL"),
    Says("250 ok\r\n"),
    Hears("RCPT"),
    Says("250 ok\r\n"),
    Hears("RCPT"),
    Says("250 ok\r\n"),
    Hears("DATA"),
    Says("354 go on\r\n"),
];

fn after(first: &[Step], then: &[Step]) -> Vec<Step> {
    [first, then].concat()
}

#[tokio::test(start_paused = true)]
async fn greetings_end() {
    let long = "220-0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    let longer: &'static str = Box::leak(format!("220-{}\r\n", "x".repeat(1_900)).into_boxed_str());
    let garbled = "waits 4.4.2: server does not speak SMTP: reply";
    let silent = "waits 4.4.2: time-out waiting for the greeting";
    for (name, steps, expected, seconds) in [
        ("endless", vec![Repeats(long, 0)], &*format!("{garbled} of more than 128 lines"), 0),
        ("long lines", vec![Repeats(longer, 0)], &format!("{garbled} longer than 65536 octets"), 0),
        (
            "one line",
            vec![Says("220 "), Repeats("xxxxxxxxxxxxxxxx", 0)],
            &format!("{garbled} longer than 2048 octets"),
            0,
        ),
        ("an octet a minute", vec![Says("220 "), Repeats("x", 60)], silent, 300),
        ("a line a minute", vec![Repeats(long, 60)], silent, 300),
        ("silence", vec![Stops], silent, 300),
        ("no word", vec![], "waits 4.4.2: connection closed by the server", 0),
        (
            "another protocol",
            vec![Says("HTTP/1.1 400 Bad Request\r\n")],
            &format!("{garbled} line without a valid code"),
            0,
        ),
        (
            "two codes",
            vec![Says("220-one\r\n250 other\r\n")],
            &format!("{garbled} lines with the codes 220 and 250"),
            0,
        ),
        ("busy", vec![Says("421 4.3.2 later\r\n")], "waits 4.3.2: 421 4.3.2 later", 0),
        ("never", vec![Says("554 5.7.1 go\r\n")], "bounces 5.7.1: 554 5.7.1 go", 0),
        (
            "hello without end",
            vec![Says("220 mx.test\r\n"), Hears("EHLO"), Repeats("250-X\r\n", 0)],
            &format!("{garbled} of more than 128 lines"),
            0,
        ),
    ] {
        check(name, &steps, expected, seconds).await;
    }
}

#[tokio::test(start_paused = true)]
async fn conversations_end() {
    let slow = |step: &Step| match step {
        Says("354 go on\r\n") => vec![Waits(119), *step],
        Says(_) => vec![Waits(299), *step],
        _ => vec![*step],
    };
    let slow: Vec<Step> = TAKES.iter().flat_map(slow).collect();
    let taken = [Says("250 2.0.0 taken\r\n"), Hears("QUIT"), Says("221 bye\r\n")];
    for (name, steps, expected, seconds) in [
        ("good", after(&TAKES, &after(&[Hears(".\r")], &taken)), "delivered", 0),
        (
            "as slow as may be",
            after(&slow, &after(&[Hears(".\r"), Waits(599)], &taken)),
            "delivered",
            5 * 299 + 119 + 599,
        ),
        (
            "one reply too many",
            after(
                &[Says("220 mx.test\r\n250 ahead\r\n")],
                &[&TAKES[1..], &[Hears("QUIT"), Says("221 bye\r\n")]].concat(),
            ),
            "waits 4.5.0: 250 ok",
            0,
        ),
        // An answer to RSET is waited for, 10 seconds.
        (
            "yes to everything",
            after(&TAKES[..10], &[Says("250 ok\r\n"), Hears("QUIT")]),
            "waits 4.5.0: 250 ok",
            10,
        ),
        (
            "go on to everything",
            after(&GREETS, &[Hears("MAIL"), Says("354 go on\r\n"), Stops]),
            "waits 4.5.0: 354 go on",
            10,
        ),
        (
            "an octet a minute",
            after(&GREETS, &[Hears("MAIL"), Says("250 "), Repeats("x", 60)]),
            "waits 4.4.2: time-out waiting for the reply to MAIL",
            300,
        ),
    ] {
        check(name, &steps, expected, seconds).await;
    }
}

#[tokio::test(start_paused = true)]
async fn messages_end() {
    let doubt = "after the message had been sent whole: its reply is unknown";
    for (name, steps, expected, seconds) in [
        (
            "an octet a minute at the end",
            after(&TAKES, &[Hears(".\r"), Says("250 "), Repeats("x", 60)]),
            &*format!("waits 4.4.2: time-out waiting for the reply to the message {doubt}"),
            600,
        ),
        (
            "gone at the end",
            after(&TAKES, &[Hears(".\r")]),
            &format!("waits 4.4.2: connection closed by the server {doubt}"),
            0,
        ),
        ("gone in the body", TAKES.to_vec(), "waits 4.4.2: connection closed by the server", 0),
        // What it says in the end is waited for, 5 seconds.
        (
            "reads no body",
            after(&TAKES, &[Stops]),
            "waits 4.4.2: connection closed by the server",
            185,
        ),
        (
            "chatters in the body",
            after(&TAKES, &[Repeats("250 ok\r\n", 0)]),
            "waits 4.4.2: server sent a reply to no command",
            0,
        ),
        (
            "does not let go",
            after(
                &TAKES,
                &[
                    Hears(".\r"),
                    Says("250 2.0.0 taken\r\n"),
                    Hears("QUIT"),
                    Repeats("221-x\r\n", 1),
                ],
            ),
            "delivered",
            10,
        ),
    ] {
        check(name, &steps, expected, seconds).await;
    }
}

/// What a server says ends up in logs and reports.
#[tokio::test(start_paused = true)]
async fn what_servers_say_controls_no_terminal() {
    let refusal = [Hears("MAIL"), Says("550 5.7.1 \u{1b}[2Jno\0 \u{7}way\r\n"), Hears("QUIT")];
    let (ours, theirs) = tokio::io::duplex(4_096);
    let steps = after(&GREETS, &refusal);
    let (became, _) = tokio::join!(meet(ours), serve(theirs, &steps));
    assert!(became.starts_with("bounces 5.7.1: 550 5.7.1 "), "{became}");
    assert!(!became.contains(|c: char| c.is_control()), "{became:?}");
}
