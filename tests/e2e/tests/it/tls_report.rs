//! What a real relay counts of TLS, for reports.

use std::sync::Arc;
use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message};
use merpati_e2e::smtp::{By, Mail};
use merpati_e2e::until;
use merpati_journal::OsDisk;
use merpati_ledger::{Ledger, Limits};
use rustix::process::Signal;
use serde_json::{Value, json};

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
const LIMIT: Duration = Duration::from_secs(30);

const SECTION: &str = "
[tls_report]
organization = \"Sender\"
contact = \"postmaster@sender.test\"
from = \"tls-reports@sender.test\"
";

#[test]
fn sessions_are_counted_and_the_counts_kept() {
    let mut demo = Demo::start().unwrap();
    demo.reconfigure("relay", |text| format!("{text}{SECTION}")).unwrap();
    let content = message("counted", ALICE, b"Coo.\r\n");
    let mail = Mail { from: ALICE, to: &[BOB], parameters: "", content: &content, by: By::Data };
    demo.submit_as(ALICE).unwrap().send(&mail).unwrap();
    assert!(until::holds(LIMIT, || delivered(demo.maildir(BOB)).len() == 1));
    demo.end("relay", Signal::TERM).unwrap();

    let disk = OsDisk::open(demo.dir.join("relay/state/tls-report")).unwrap();
    let (ledger, _) = Ledger::open(Arc::new(disk), Limits::default()).unwrap();
    let counts: Vec<_> = ledger.with_prefix(b"day/").collect();
    let [(key, value)] = &counts[..] else { panic!("{counts:?}") };
    assert!(key.ends_with(b"/receiver.test"), "{key:?}");
    let found: Value = serde_json::from_slice(value).unwrap();
    let expected = json!([{
        "policy": { "policy-type": "no-policy-found", "policy-domain": "receiver.test" },
        "summary": { "total-successful-session-count": 1, "total-failure-session-count": 0 },
    }]);
    assert_eq!(found["policies"], expected);
}
