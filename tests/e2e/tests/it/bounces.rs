//! Reports that cannot be delivered end.

use std::fs;
use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::message;
use merpati_e2e::smtp::{By, Mail, Smtp};
use merpati_e2e::until;
use merpati_ops::api::StatsView;
use merpati_ops::client::Client;

const LIMIT: Duration = Duration::from_secs(30);

/// Nobody has either address: what comes back comes back once, and the report of it ends.
#[test]
fn a_bounce_of_a_bounce_ends() {
    let demo = Demo::start().unwrap();
    let from = "ghost@receiver.test";
    let content = message("lost", from, b"Coo.\r\n");
    let to = &["nobody@receiver.test"];
    let mail = Mail { from, to, parameters: "", content: &content, by: By::Data };
    Smtp::plain(demo.address("relay")).unwrap().send(&mail).unwrap();

    let count = |log: &str, event: &str| {
        let event = format!("event=\"{event}\"");
        log.lines().filter(|line| line.contains(&event)).count()
    };
    let client = Client::new(&demo.dir.join("relay/state/admin.sock"));
    let log = until::within(LIMIT, || {
        let log = fs::read_to_string(demo.log("relay")).unwrap();
        // What follows from an attempt is queued in the commit that ends it.
        let left = client.get::<StatsView>("/v1/queue/stats").ok()?.messages;
        (left == 0 && count(&log, "bounced") >= 2).then_some(log)
    });
    let log = log.expect("the queue empties");
    assert_eq!((count(&log, "bounced"), count(&log, "reported")), (2, 1), "{log}");
}
