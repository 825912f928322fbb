//! Real files.

use merpati_plugin::OutboundChain;
use merpati_plugin::deliver::AttemptNotes;
use merpati_testkit::spool_contract::parcel;
use tempfile::TempDir;

use super::*;
use crate::runner::tests::source;

struct NoNotes;

#[async_trait]
impl AttemptNotes for NoNotes {
    async fn final_dot(&self, _: &str) {}
}

fn mbox(dir: &TempDir, lock_timeout: Duration) -> Mbox {
    let path = format!("{}/m/{{domain}}/{{user}}", dir.path().display());
    let path = Template::new(&path).unwrap();
    Mbox::new(MboxConfig { name: "mbox".to_owned(), path, lock_timeout })
}

async fn deliver(mbox: &Mbox, recipients: &[&str], content: &'static [u8]) -> Vec<String> {
    let job = Job {
        parcel: Arc::new(parcel(1, recipients, "x.test")),
        message: source(content),
        notes: Arc::new(NoNotes),
        outbound: OutboundChain::default(),
    };
    let outcomes = mbox.deliver(job).await;
    outcomes.into_iter().map(|outcome| outcome.diagnostic).collect()
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn messages_are_appended_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let mbox = mbox(&dir, LONG);
    let file = dir.path().join("m/x.test/b");
    let one = "From a@sender.test Thu Jan  1 00:00:00 1970\n\
               Return-Path: <a@sender.test>\nDelivered-To: b@x.test\nSubject: x\n\n>From here\n\n";
    let when = asctime(parcel(1, &["b@x.test"], "x.test").info.message.arrived);
    let one = one.replace("Thu Jan  1 00:00:00 1970", &when);
    let content = b"Subject: x\r\n\r\nFrom here\r\n";
    for count in 1..=3 {
        let told = deliver(&mbox, &["b@x.test"], content).await;
        assert_eq!(told, [format!("appended to {}", file.display())]);
        assert_eq!(fs::read_to_string(&file).unwrap(), one.repeat(count));
    }
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    // Who was here before has not ended the last line.
    fs::write(&file, "x").unwrap();
    deliver(&mbox, &["b@x.test"], content).await;
    assert_eq!(fs::read_to_string(&file).unwrap(), format!("x\n\n{one}"));
    // Many at once: none is lost, and none is mixed with another.
    fs::remove_file(&file).unwrap();
    let sending: Vec<_> = (0..20)
        .map(|_| {
            let mbox = mbox.clone();
            tokio::spawn(async move { deliver(&mbox, &["b@x.test"], content).await })
        })
        .collect();
    for sent in sending {
        sent.await.unwrap();
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), one.repeat(20));
}

#[tokio::test]
async fn only_files_are_mailboxes() {
    let dir = tempfile::tempdir().unwrap();
    let mbox = mbox(&dir, LONG);
    let place = dir.path().join("m/x.test");
    fs::create_dir_all(place.join("directory")).unwrap();
    let secret = dir.path().join("secret");
    fs::write(&secret, "secret\n").unwrap();
    std::os::unix::fs::symlink(&secret, place.join("link")).unwrap();
    fs::hard_link(&secret, place.join("twin")).unwrap();
    for user in ["directory", "link", "twin"] {
        let told = deliver(&mbox, &[&format!("{user}@x.test")], b"Subject: x\r\n\r\n").await;
        assert_eq!(told, ["local delivery failed"], "{user}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret\n");
}

/// A message that cannot be read to its end leaves nothing behind.
#[tokio::test]
async fn what_is_not_whole_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("box");
    fs::write(&file, "From x\n\nold\n\n").unwrap();
    let open = Open::lock(&file, LONG).unwrap();
    let mut writer = Writer { open: Some(open), pending: BytesMut::from("From y\nhalf") };
    writer.write_out().await.unwrap();
    assert!(fs::read_to_string(&file).unwrap().ends_with("half"));
    writer.undo().await;
    assert_eq!(fs::read_to_string(&file).unwrap(), "From x\n\nold\n\n");
}

/// Another process holds the lock: a thread's would be our own.
#[tokio::test]
async fn somebody_elses_lock_is_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let mbox = mbox(&dir, Duration::from_millis(1));
    let file = dir.path().join("m/x.test/b");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "").unwrap();
    let script = "import fcntl, sys; f = open(sys.argv[1], 'r+'); \
                  fcntl.lockf(f, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()";
    let holder = tokio::process::Command::new("python3")
        .args(["-c", script])
        .arg(&file)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let Ok(mut holder) = holder else {
        eprintln!("SKIPPED: python3 is not installed, and nothing else holds the lock");
        return;
    };
    let mut line = [0; 7];
    let said = holder.stdout.as_mut().unwrap();
    tokio::io::AsyncReadExt::read_exact(said, &mut line).await.unwrap();
    let told = deliver(&mbox, &["b@x.test"], b"Subject: x\r\n\r\n").await;
    assert_eq!(told, ["local delivery failed"]);
    drop(holder.stdin.take());
    holder.wait().await.unwrap();
    let told = deliver(&mbox, &["b@x.test"], b"Subject: x\r\n\r\n").await;
    assert!(told[0].starts_with("appended to "), "{told:?}");
}
