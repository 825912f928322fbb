//! Whom a real relay does not write to any more.

use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message, read};
use merpati_e2e::smtp::{By, Mail};
use merpati_e2e::until;
use merpati_ops::api::{SuppressionListRequest, SuppressionPage, SuppressionView, SuppressionWho};
use merpati_ops::client::Client;

const ALICE: &str = "alice@sender.test";
const NOBODY: &str = "nobody@receiver.test";
const LIMIT: Duration = Duration::from_secs(30);

/// Alice writes to an address, and hears what came of it; answers all of her reports, which are then
/// `count`.
fn report(demo: &Demo, to: &str, count: usize) -> String {
    let content = message(&format!("lost-{count}"), ALICE, b"Coo.\r\n");
    let mail = Mail { from: ALICE, to: &[to], parameters: "", content: &content, by: By::Data };
    demo.submit_as(ALICE).unwrap().send(&mail).unwrap();
    let reports = until::within(LIMIT, || {
        let files = delivered(demo.maildir(ALICE));
        (files.len() == count).then_some(files)
    });
    let texts = reports.expect("a report").into_iter().map(|file| read(&file).unwrap());
    let whole = texts.flatten().collect::<Vec<_>>();
    // Lines are folded.
    String::from_utf8(whole).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn who_bounces_is_not_written_to_until_an_operator_says_so() {
    let mut demo = Demo::start().unwrap();
    demo.reconfigure("relay", |text| {
        format!("{text}\n[suppression]\nbounces = 1\n\n[[outbound]]\nuse = \"suppress\"\n")
    })
    .unwrap();
    let client = Client::new(&demo.dir.join("relay/state/admin.sock"));
    let list = || -> Vec<SuppressionView> {
        // Ports are bound before the admin socket is.
        let page = until::within(LIMIT, || {
            let request = SuppressionListRequest::default();
            client.post::<SuppressionPage>("/v1/suppression/list", &request).ok()
        });
        page.expect("the server answers").entries
    };
    assert_eq!(list(), []);
    let told = report(&demo, NOBODY, 1);
    assert!(told.contains("no such mailbox here"), "{told}");
    let entries = list();
    let [entry] = &entries[..] else { panic!("{entries:?}") };
    assert_eq!((entry.who.as_str(), entry.source.as_str()), (NOBODY, "bounce"));
    assert_eq!(entry.class.as_deref(), Some("unknown-user"));

    // It is kept, however the server ends.
    demo.kill("relay").unwrap();
    assert_eq!(list(), entries);
    let why = "this address is suppressed here: 550 5.1.1 no such mailbox here";
    assert!(!told.contains(why));
    assert!(report(&demo, NOBODY, 2).contains(why));

    let who = SuppressionWho { who: NOBODY.to_owned() };
    let removed: SuppressionView = client.post("/v1/suppression/remove", &who).unwrap();
    assert_eq!(&removed, entry);
    demo.kill("relay").unwrap();
    assert_eq!(list(), []);
    // The server of the domain is asked again.
    report(&demo, NOBODY, 3);
    assert_eq!(list().len(), 1);
}
