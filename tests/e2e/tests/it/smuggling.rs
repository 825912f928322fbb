//! What never ends a message, and what never leaves: at the real servers.

use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message, read, subject};
use merpati_e2e::sink::{Keeps, Sink, SinkSettings};
use merpati_e2e::smtp::{By, Mail, Smtp};
use merpati_e2e::until;

const ALICE: &str = "alice@sender.test";
const BOB: &str = "bob@receiver.test";
const LIMIT: Duration = Duration::from_secs(30);

/// Each is no end of a message. A bare CR or LF is refused once the true end has come; a NUL is
/// part of the message.
const ENDINGS: [&str; 10] = [
    "\n.\n",
    "\r.\r",
    "\r.\n",
    "\n.\r",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r\n",
    "\r\n.\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
];

#[test]
fn only_one_ending_ends_a_message() {
    let demo = Demo::start().unwrap();
    for role in ["submission", "relay", "mx"] {
        let mut client = match role {
            "submission" => demo.submit_as(ALICE).unwrap(),
            _ => Smtp::plain(demo.address(role)).unwrap(),
        };
        for ending in ENDINGS {
            let body = format!(
                "Coo.{ending}MAIL FROM:<{ALICE}>\r\nRCPT TO:<{BOB}>\r\nDATA\r\n\
                 Subject: smuggled\r\n\r\nBoo.\r\n"
            );
            let content = message("smuggler", ALICE, body.as_bytes());
            let mail =
                Mail { from: ALICE, to: &[BOB], parameters: "", content: &content, by: By::Data };
            client.envelope(&mail).unwrap();
            client.say("DATA").unwrap().expect(354).unwrap();
            client.write(&content).unwrap();
            client.write(b".\r\n").unwrap();
            let reply = client.reply().unwrap();
            let expected = if ending.contains('\0') { "250 2.0.0" } else { "550 5.6.0" };
            let said = reply.to_string();
            assert!(said.starts_with(expected), "{role} {ending:?}: {said}");
            // Another reply would come before this one.
            let noop = client.say("NOOP").unwrap();
            assert_eq!(noop.code, 250, "{role} {ending:?}: {noop}");
        }
    }
    let arrived = || delivered(demo.maildir(BOB)).len() >= 6;
    assert!(until::holds(LIMIT, arrived), "{}", demo.tail("relay"));
    for file in delivered(demo.maildir(BOB)) {
        let content = read(&file).unwrap();
        assert_eq!(subject(&content).as_deref(), Some("smuggler"));
        assert!(content.ends_with(b"Boo.\r\n"));
    }
}

#[test]
fn nothing_leaves_with_a_bare_line_end() {
    let mut demo = Demo::start().unwrap();
    let sink = |extensions, behind_starttls| {
        let delay = Duration::ZERO;
        let keeps = Keeps::Everything;
        Sink::start(SinkSettings { extensions, keeps, behind_starttls, delay }).unwrap()
    };
    let old = sink(&["8BITMIME"], "");
    let binary = sink(&["8BITMIME", "CHUNKING", "BINARYMIME"], "");
    let injector = sink(&["STARTTLS"], "250-sink.test\r\n250 SIZE\r\n");
    let transport = |name: &str, sink: &Sink| {
        format!(
            "\n[[transport]]\nmatch = \"{name}.test\"\n\
             smtp = {{ host = \"mail.sender.test\", port = {} }}\n",
            sink.address.port()
        )
    };
    let transports =
        [("old", &old), ("binary", &binary), ("injector", &injector)].map(|(n, s)| transport(n, s));
    demo.reconfigure("relay", |text| text + &transports.concat()).unwrap();

    let mut client = Smtp::plain(demo.address("relay")).unwrap();
    let mut send = |name: &str, to: &str, body: &[u8], parameters, by| {
        let content = message(name, ALICE, body);
        client.send(&Mail { from: ALICE, to: &[to], parameters, content: &content, by }).unwrap();
    };
    let bare: &[u8] = b"a\n.\nb\r.\rc";
    let dots: &[u8] = b".\r\n..\r\n\r\n.\r\nend";
    let (whole, parameters) = (By::Chunks(100), " BODY=BINARYMIME");
    send("bare", "x@old.test", bare, parameters, whole);
    send("bare", "x@binary.test", bare, parameters, whole);
    send("dots", "x@old.test", dots, "", whole);
    send("injected", "x@injector.test", b"Coo.\r\n", "", By::Data);

    let arrived = || old.messages() >= 1 && binary.messages() >= 1;
    assert!(until::holds(LIMIT, arrived), "{}", demo.tail("relay"));
    let returned = || !delivered(demo.maildir(ALICE)).is_empty();
    assert!(until::holds(LIMIT, returned), "no report comes back: {}", demo.tail("relay"));
    let report = std::fs::read_to_string(&delivered(demo.maildir(ALICE))[0]).unwrap();
    assert!(report.contains("Status: 5.6.3"), "{report}");

    let of_old = old.kept().concat();
    assert!(is_clean(&of_old), "{:?}", String::from_utf8_lossy(&of_old));
    assert_eq!(old.messages(), 1);
    let stuffed: &[u8] = b"\r\n..\r\n...\r\n\r\n..\r\nend\r\n.\r\n";
    assert!(memchr::memmem::find(&of_old, stuffed).is_some());
    assert!(memchr::memmem::find(&binary.kept().concat(), bare).is_some());

    // What came in clear behind the 220 is no reply to what is said under TLS.
    assert!(until::holds(LIMIT, || !injector.kept().is_empty()));
    let tried = || injector.kept()[0].len() > b"EHLO relay.sender.test\r\nSTARTTLS\r\n".len();
    let _ = until::holds(Duration::from_secs(1), tried);
    let first = String::from_utf8_lossy(&injector.kept()[0]).into_owned();
    assert!(first.ends_with("STARTTLS\r\n"), "the client goes on after an injection: {first:?}");
}

fn is_clean(bytes: &[u8]) -> bool {
    let pairs = memchr::memmem::find_iter(bytes, b"\r\n").count();
    pairs == memchr::memchr_iter(b'\r', bytes).count()
        && pairs == memchr::memchr_iter(b'\n', bytes).count()
}
