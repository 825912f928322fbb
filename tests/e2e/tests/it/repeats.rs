//! Transactions that a client repeats because it never saw our 250.

use std::collections::BTreeSet;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::message;
use merpati_e2e::smtp::{By, Mail, Smtp};

const BOB: &str = "bob@receiver.test";

/// What the client does once it has the 250.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// It is gone before it says another word.
    Gone,
    /// It says good-bye.
    Quit,
}

/// Sends a message, and answers the queue id it was told.
fn send(demo: &Demo, role: &str, content: &[u8], to: &[&str], after: After) -> String {
    let mut client = Smtp::plain(demo.address(role)).unwrap();
    let mail = Mail { from: "a@client.test", to, parameters: "", content, by: By::Data };
    let reply = client.send(&mail).unwrap().to_string();
    if after == After::Quit {
        client.say("QUIT").unwrap();
    }
    let (_, id) = reply.rsplit_once("queued as ").expect("a queue id");
    id.trim().to_owned()
}

#[test]
fn what_was_never_heard_of_is_kept_once_and_everything_else_as_often_as_it_is_sent() {
    let mut demo = Demo::start().unwrap();
    let with_id = message("repeated", "a@client.test", b"Coo.\r\n");
    assert!(String::from_utf8_lossy(&with_id).contains("Message-ID:"));
    let text = String::from_utf8(with_id.clone()).unwrap();
    let lines = text.split_inclusive("\r\n").filter(|line| !line.starts_with("Message-ID:"));
    let without = lines.collect::<String>().into_bytes();

    let first = send(&demo, "relay", &with_id, &[BOB], After::Gone);
    assert_eq!(send(&demo, "relay", &with_id, &[BOB], After::Gone), first);
    demo.kill("relay").unwrap();
    assert_eq!(send(&demo, "relay", &with_id, &[BOB], After::Gone), first, "after a restart");

    let others = [
        send(&demo, "relay", &with_id, &[BOB, "carol@receiver.test"], After::Gone),
        send(&demo, "relay", &message("other", "a@client.test", b"Coo.\r\n"), &[BOB], After::Gone),
        send(&demo, "relay", &without, &[BOB], After::Gone),
        send(&demo, "relay", &without, &[BOB], After::Gone),
        // It was told, so from now on it is a new one.
        send(&demo, "relay", &with_id, &[BOB], After::Quit),
    ];
    assert_eq!(others[4], first);
    let heard = send(&demo, "relay", &with_id, &[BOB], After::Quit);
    let ids: BTreeSet<&String> = others.iter().chain([&heard]).collect();
    assert_eq!(ids.len(), 6, "{ids:?}");

    let strangers: Vec<String> =
        (0..2).map(|_| send(&demo, "mx", &with_id, &[BOB], After::Gone)).collect();
    assert_ne!(strangers[0], strangers[1], "what strangers send twice is two messages");
}
