//! A real relay that sends from several addresses.

use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message, read, subject};
use merpati_e2e::smtp::{By, Mail};
use merpati_e2e::until;
use merpati_ops::api::{ExplainRequest, FindingView};
use merpati_ops::client::Client;

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
const OTHER: &str = "user1@receiver.test";
const LIMIT: Duration = Duration::from_secs(30);

const SOURCES: &str = r#"
[[source]]
name = "one"
addresses = ["127.0.0.2"]
hello = "out1.sender.test"

[[source]]
name = "two"
addresses = ["127.0.0.3"]
hello = "out2.sender.test"

[[source_pool]]
name = "letters"
sources = [{ name = "one", weight = 3 }, { name = "two" }]

[[route]]
recipient = "user1@*"
source_pool = "two"

[[route]]
source_pool = "letters"
"#;

/// The first trace field of a message: what the mx saw.
fn seen(demo: &Demo, mailbox: &str, wanted: &str) -> String {
    let arrived = until::within(LIMIT, || {
        let files = delivered(demo.maildir(mailbox)).into_iter();
        let mut texts = files.filter_map(|file| read(&file).ok());
        texts.find(|text| subject(text).as_deref() == Some(wanted))
    });
    let Some(text) = arrived else { panic!("nothing for {mailbox}: {}", demo.tail("relay")) };
    let text = String::from_utf8(text).unwrap();
    let (_, field) = text.split_once("Received: ").unwrap();
    field.split("\r\n\tby ").next().unwrap_or_default().to_owned()
}

#[test]
fn routes_choose_where_mail_is_sent_from() {
    let mut demo = Demo::start().unwrap();
    demo.reconfigure("relay", |text| format!("{text}{SOURCES}")).unwrap();
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut client = demo.submit_as(ALICE).unwrap();
    for name in names {
        let content = message(name, ALICE, b"Coo.\r\n");
        let to = &[BOB, OTHER];
        let mail = Mail { from: ALICE, to, parameters: "", content: &content, by: By::Data };
        client.send(&mail).unwrap();
    }
    let came_from = |field: &str, number: u32| {
        field.contains(&format!("out{number}.sender.test"))
            && field.contains(&format!("127.0.0.{}", number + 1))
    };
    for name in names {
        let field = seen(&demo, OTHER, name);
        assert!(came_from(&field, 2), "{field}");
        let field = seen(&demo, BOB, name);
        assert!(came_from(&field, 1) || came_from(&field, 2), "{field}");
    }
    let log = demo.tail("relay");
    assert!(log.contains("source=\"two\""), "{log}");

    let client = Client::new(demo.admin("relay"));
    let request = ExplainRequest { address: BOB.to_owned(), ..Default::default() };
    let found: FindingView = client.post("/v1/explain/rcpt", &request).unwrap();
    let said = format!("{found:?}");
    for expected in ["letters", "weight 3: 75 % of the messages", "out2.sender.test", "127.0.0.3"] {
        assert!(said.contains(expected), "{expected} is not in {said}");
    }
}
