//! The tool on a spool whose server is down.

use std::fs;
use std::path::{Path, PathBuf};

use merpati_plugin::Spool;
use merpati_plugin::spool::{Attributes, Durability, NewMessage, Origin};
use merpati_spool::{DiskSpool, Options};
use merpati_types::{
    Envelope, FieldName, FieldValue, HeaderEdit, HeaderEdits, Mailbox, MessageId, Notify,
    Recipient, ReversePath, Timestamp,
};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{merpati, text};

const MESSAGES: usize = 12;

/// A spool nobody has open: the last message has a body file.
struct Down {
    directory: tempfile::TempDir,
    ids: Vec<MessageId>,
}

fn body(number: usize) -> String {
    let text =
        if number + 1 == MESSAGES { "x\r\n".repeat(150_000) } else { "hello\r\n".to_owned() };
    format!("Subject: {number}\r\n\r\nFrom here\r\n>From there\r\n{text}")
}

impl Down {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { min_free: 0, ..Options::default() };
        let (spool, _) = DiskSpool::open(&directory.path().join("spool"), options).unwrap();
        let mut ids = Vec::new();
        Runtime::new().unwrap().block_on(async {
            for number in 0..MESSAGES {
                let mut writer = spool.begin().await.unwrap();
                ids.push(writer.id());
                writer.write(body(number).into()).await.unwrap();
                let sender = format!("<user{}@sender.test>", number % 3);
                let mut envelope = Envelope::new(ReversePath::parse(&sender).unwrap());
                let mut recipient = Recipient::new(Mailbox::parse("bob@receiver.test").unwrap());
                recipient.notify = Notify::Never;
                envelope.recipients.push(recipient);
                let mut edits = HeaderEdits::default();
                let name = FieldName::new("Received").unwrap();
                edits.push(HeaderEdit::Prepend(name, FieldValue::new("by us").unwrap()));
                let message = NewMessage {
                    envelope,
                    edits,
                    attributes: Attributes { priority: 3, ..Attributes::default() },
                    origin: Origin::default(),
                    arrived: Timestamp::from_millis(1_700_000_000_000),
                };
                writer.commit(message, Durability::Sync).await.unwrap();
            }
            spool.close().await;
        });
        Self { directory, ids }
    }

    fn spool(&self) -> PathBuf {
        self.directory.path().join("spool")
    }

    fn out(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the tool; gives its exit code and what it wrote.
    fn run(&self, command: &str, args: &[&str]) -> (i32, String, String) {
        let spool = self.spool();
        let all = [&["spool", command, "--spool", spool.to_str().unwrap()], args].concat();
        let output = merpati(&all, "");
        let [out, errors] = [&output.stdout, &output.stderr].map(|bytes| text(bytes).to_owned());
        (output.status.code().unwrap(), out, errors)
    }

    fn export(&self, form: &str, to: &Path, args: &[&str]) -> (i32, String, String) {
        self.run("export", &[&["--form", form, "--to", to.to_str().unwrap()], args].concat())
    }
}

fn whole(number: usize) -> String {
    format!("Received: by us\r\n{}", body(number))
}

#[test]
fn exports_all_that_is_known() {
    let down = Down::new();
    let (code, out, _) = down.run("check", &[]);
    assert_eq!((code, out.as_str()), (0, "12 messages, 0 problems\n"));
    let (code, out, _) = down.run("stats", &["--json"]);
    let stats: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &stats["messages"], &stats["body_files"]), (0, &12.into(), &1.into()));

    let eml = down.out("eml");
    let (code, out, errors) = down.export("eml", &eml, &[]);
    assert_eq!((code, out.as_str()), (0, "exported 12, failed 0\n"), "{errors}");
    for (number, id) in down.ids.iter().enumerate() {
        let octets = fs::read_to_string(eml.join(format!("{id}.eml"))).unwrap();
        assert!(octets == whole(number), "{number}");
        let about = fs::read_to_string(eml.join(format!("{id}.json"))).unwrap();
        let about: Value = serde_json::from_str(&about).unwrap();
        let sender = format!("<user{}@sender.test>", number % 3);
        assert_eq!(about["envelope"]["sender"], sender);
        let recipient = &about["envelope"]["recipients"][0];
        assert_eq!((&recipient["notify"], &recipient["pending"]), (&"NEVER".into(), &true.into()));
        assert_eq!(about["message"]["priority"], 3);
    }

    let maildir = down.out("maildir");
    let (_, out, _) = down.export("maildir", &maildir, &["--sender", "user1@", "--json"]);
    assert_eq!(out, "{\"exported\":4,\"failed\":0}\n");
    let file = maildir.join("new").join(format!("1700000000.{}.merpati", down.ids[1]));
    assert_eq!(fs::read_to_string(file).unwrap(), whole(1).replace("\r\n", "\n"));
    assert!(maildir.join("envelopes").join(format!("{}.json", down.ids[1])).exists());
    assert_eq!(fs::read_dir(maildir.join("new")).unwrap().count(), 4);

    let mbox = down.out("mbox");
    let one = down.ids[2].to_string();
    down.export("mbox", &mbox, &[&one]);
    let expected = "From user2@sender.test Tue Nov 14 22:13:20 2023\nReceived: by us\nSubject: 2\n\n\
                    >From here\n>>From there\nhello\n\n";
    assert_eq!(fs::read_to_string(&mbox).unwrap(), expected);
    let envelopes = fs::read_to_string(down.out("mbox.envelopes")).unwrap();
    assert_eq!(envelopes.lines().count(), 1);
    // What is there is not written over.
    let (code, _, errors) = down.export("mbox", &mbox, &[]);
    assert!(code == 1 && errors.contains("exists"), "{errors}");
}

#[test]
fn names_damage_and_exports_the_rest() {
    let down = Down::new();
    let segments = fs::read_dir(down.spool().join("journal")).unwrap();
    let segments = segments.map(|entry| entry.unwrap().path());
    let needle = b"Subject: 5\r\n";
    let found = segments.into_iter().find_map(|path| {
        let octets = fs::read(&path).unwrap();
        let at = octets.windows(needle.len()).position(|window| window == needle)?;
        Some((path, octets, at))
    });
    let (path, mut octets, at) = found.unwrap();
    octets[at] ^= 0x20;
    fs::write(&path, octets).unwrap();
    let large = down.ids[MESSAGES - 1].to_string();
    fs::remove_file(down.spool().join("bodies").join(&large)).unwrap();

    let (code, out, _) = down.run("check", &[]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((code, lines.len(), lines[2]), (1, 3, "12 messages, 2 problems"), "{out}");
    let name = path.file_name().unwrap().to_str().unwrap();
    let id = down.ids[5];
    let begins = format!("damage: journal/{name} at ");
    let ends = format!(": the message record is damaged (message {id})");
    assert!(lines[0].starts_with(&begins) && lines[0].ends_with(&ends), "{out}");
    assert_eq!(lines[1], format!("damage: bodies/{large}: it is missing (message {large})"));

    for form in ["eml", "maildir", "mbox"] {
        let (code, out, errors) = down.export(form, &down.out(form), &[]);
        assert_eq!((code, out.as_str()), (1, "exported 10, failed 2\n"));
        assert!(errors.contains(&id.to_string()) && errors.contains(&large), "{errors}");
    }
    let mbox = fs::read_to_string(down.out("mbox")).unwrap();
    assert_eq!(mbox.lines().filter(|line| line.starts_with("From ")).count(), 10);

    let (code, out, _) = down.run("repair", &[]);
    assert!(code == 0 && out.ends_with("nothing was changed; --yes does it\n"), "{out}");
    let (code, out, errors) = down.run("repair", &["--yes"]);
    let done = "done: 12 messages are served, 2 parcels are held\n";
    assert!(code == 0 && out.ends_with(done), "{out}{errors}");
    let (_, out, _) = down.run("stats", &["--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["held"], 2);
}

#[test]
fn keeps_its_hands_off_a_spool_in_use() {
    let down = Down::new();
    let options = Options { min_free: 0, ..Options::default() };
    let (spool, _) = DiskSpool::open(&down.spool(), options).unwrap();
    for (command, args) in [("check", &[][..]), ("stats", &[]), ("repair", &["--yes"])] {
        let (code, out, errors) = down.run(command, args);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(errors.contains("a server has the spool open"), "{errors}");
    }
    drop(spool);
    fs::remove_dir_all(down.spool().join("journal")).unwrap();
    let (code, _, errors) = down.run("check", &[]);
    assert!(code == 1 && errors.contains("there is no spool in"), "{errors}");
}
