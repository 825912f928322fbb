//! What outbound policies make of mail on a real relay.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message, read, subject};
use merpati_e2e::smtp::{By, Mail};
use merpati_e2e::until;

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
const LIMIT: Duration = Duration::from_secs(30);

/// Writes a file that only the servers' user can read.
fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(path.parent().unwrap().join("state")).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[test]
fn mail_is_signed_and_kept_from_whom_it_is_not_for() {
    let mut demo = Demo::start().unwrap();
    let (key, list) = (demo.dir.join("relay/dkim.pem"), demo.dir.join("relay/suppressed"));
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    secret(&key, &pair.serialize_pem());
    secret(&list, "gone@receiver.test 2099-01-01 moved away\n");
    demo.reconfigure("relay", |text| {
        format!(
            "{text}\n[report]\nlanguage = \"id\"\n\n[[outbound]]\nuse = \"suppress\"\nfile = \"{}\"\n\n[[outbound]]\n\
             use = \"dkim\"\ndomain = \"sender.test\"\nselector = \"e2e\"\nkey_file = \"{}\"\n",
            list.display(),
            key.display()
        )
    })
    .unwrap();
    let content = message("signed", ALICE, b"Coo.\r\n");
    let to = &[BOB, "gone@receiver.test"];
    let mail = Mail { from: ALICE, to, parameters: "", content: &content, by: By::Data };
    demo.submit_as(ALICE).unwrap().send(&mail).unwrap();

    let arrived = until::within(LIMIT, || {
        let files = delivered(demo.maildir(BOB)).into_iter();
        files
            .filter_map(|file| read(&file).ok())
            .find(|text| subject(text).as_deref() == Some("signed"))
    });
    let arrived = String::from_utf8(arrived.expect("it arrives")).unwrap();
    let signature = "DKIM-Signature: v=1; a=ed25519-sha256; s=e2e; d=sender.test;";
    assert_eq!(arrived.matches(signature).count(), 1, "{arrived}");
    // Alice is told, in the operator's language.
    let report = until::within(LIMIT, || delivered(demo.maildir(ALICE)).pop());
    let report = String::from_utf8(read(&report.expect("a report")).unwrap()).unwrap();
    for part in [
        "Subject: Surel tidak terkirim dan dikembalikan kepada pengirim\r\n",
        "Final-Recipient: rfc822; gone@receiver.test\r\n",
        "this address is suppressed here: moved away",
    ] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
}
