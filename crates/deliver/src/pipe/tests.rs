//! Real programs, short ones.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use merpati_plugin::OutboundChain;
use merpati_plugin::deliver::AttemptNotes;
use merpati_testkit::spool_contract::parcel;

use super::*;
use crate::runner::tests::source;

struct NoNotes;

#[async_trait]
impl AttemptNotes for NoNotes {
    async fn final_dot(&self, _: &str) {}
}

fn pipe(argv: &[&str], time_limit: Duration, line_ending: LineEnding) -> Pipe {
    let arguments = argv.iter().map(|argument| argument.parse().unwrap()).collect();
    let argv = Argv::new(arguments).unwrap();
    let (name, directory) = ("pipe".to_owned(), PathBuf::from("/"));
    Pipe::new(PipeConfig { name, argv, directory, time_limit, line_ending })
}

/// Runs a script of the shell's, as any other program; answers an outcome for each recipient.
async fn run(argv: &[&str], recipients: &[&str], time_limit: Duration) -> Vec<String> {
    let pipe = pipe(argv, time_limit, LineEnding::Lf);
    let job = Job {
        parcel: Arc::new(parcel(1, recipients, "x.test")),
        message: source(b"Subject: x\r\n\r\nCoo.\r\n"),
        notes: Arc::new(NoNotes),
        outbound: OutboundChain::default(),
    };
    let tell = |outcome: DeliveryOutcome| {
        let what = match outcome.result {
            DeliveryResult::Delivered(_) => "delivered".to_owned(),
            DeliveryResult::Deferred { status, .. } => format!("waits {status}"),
            DeliveryResult::Failed { status } => format!("fails {status}"),
        };
        format!("{what}: {}", outcome.diagnostic)
    };
    pipe.deliver(job).await.into_iter().map(tell).collect()
}

const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn programs_get_the_message_and_what_it_is_about() {
    let script = "cat; echo \"$0 $1 $RECIPIENT $USER $DETAIL $SENDER $HOME\"";
    let argv = ["/bin/sh", "-c", script, "{local}", "to={domain}"];
    let told = run(&argv, &["b+tag@x.test"], LONG).await;
    assert_eq!(
        told,
        [
            "delivered: delivered to /bin/sh: Return-Path: <a@sender.test> Delivered-To: b+tag@x.test \
          Subject: x Coo. b+tag to=x.test b+tag@x.test b tag a@sender.test"
        ]
    );
}

#[tokio::test]
async fn exit_statuses_count() {
    for (script, expected) in [
        ("exit 0", "delivered: delivered to /bin/sh"),
        // Who does not read has its reasons.
        ("exec 0<&-; exit 0", "delivered: delivered to /bin/sh"),
        (
            "cat >/dev/null; echo full >&2; exit 75",
            "waits 4.3.0: the program ended with 75, temporary failure: full",
        ),
        ("exit 67", "fails 5.1.1: the program ended with 67, no such user"),
        ("exit 77", "fails 5.7.0: the program ended with 77, permission denied"),
        ("exit 1", "fails 5.3.0: the program ended with 1, failure"),
        ("kill -9 $$", "waits 4.3.0: the program was ended by signal 9"),
        (
            "printf 'a\\033[2Jb\\nc'; exit 70",
            "fails 5.3.0: the program ended with 70, failure: a [2Jb c",
        ),
    ] {
        assert_eq!(
            run(&["/bin/sh", "-c", script], &["b@x.test"], LONG).await,
            [expected],
            "{script}"
        );
    }
    let told = run(&["/nowhere/program"], &["b@x.test"], LONG).await;
    assert_eq!(told, ["waits 4.3.5: the program cannot be run"]);
    let endless =
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done | head -c 1000000; exit 69";
    let told = run(&["/bin/sh", "-c", endless], &["b@x.test"], LONG).await;
    assert!(told[0].starts_with("fails 5.3.0: ") && told[0].len() < 500, "{told:?}");
}

/// A program that hangs is ended, and so is what it has started.
#[tokio::test]
async fn time_is_limited() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("alive");
    let script = format!("mkfifo {0}; (exec 3<>{0}; read line <&3) & wait", fifo.display());
    let told = run(&["/bin/sh", "-c", &script], &["b@x.test"], Duration::from_millis(300)).await;
    assert_eq!(told, ["waits 4.3.0: the program takes too long"]);
    // Nobody has it open once all of them are gone.
    while File::options().write(true).custom_flags(O_NONBLOCK).open(&fifo).is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn addresses_are_no_options() {
    let argv = ["/bin/echo", "{local}"];
    let told = run(&argv, &["-rf@x.test", "b@x.test"], LONG).await;
    assert_eq!(
        told,
        [
            "fails 5.1.3: the address cannot be handed to a program",
            "delivered: delivered to /bin/echo: b"
        ]
    );
    // Behind our own text it is no option.
    let told = run(&["/bin/echo", "to={local}"], &["-rf@x.test"], LONG).await;
    assert_eq!(told, ["delivered: delivered to /bin/echo: to=-rf"]);
}

#[test]
fn argv_is_checked() {
    let check = |argv: &[&str]| {
        let arguments: Result<Vec<Argument>, _> = argv.iter().map(|text| text.parse()).collect();
        arguments.map_err(|_| "argument").and_then(|all| Argv::new(all).map_err(|_| "program"))
    };
    assert!(check(&["/bin/x", "{recipient}", "-f", "{sender}"]).is_ok());
    for argv in [&[][..], &["x"], &["{local}"], &["/bin/{local}"]] {
        assert_eq!(check(argv).unwrap_err(), "program", "{argv:?}");
    }
    for argument in ["{other}", "{", "a{local"] {
        assert_eq!(check(&["/bin/x", argument]).unwrap_err(), "argument", "{argument}");
    }
}
