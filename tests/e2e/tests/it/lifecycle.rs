//! SIGTERM and SIGHUP.

use std::fs;
use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::mail::{delivered, message};
use merpati_e2e::process;
use merpati_e2e::smtp::{By, Mail, Smtp};
use merpati_e2e::until;
use rustix::process::Signal;

const BOB: &str = "bob@receiver.test";
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_server_that_is_told_to_stop_finishes_what_is_at_hand() {
    let mut demo = Demo::start().unwrap();
    let mx = demo.address("mx");
    let content = message("at hand", "a@client.test", b"Coo.\r\n");
    let (from, to) = ("a@client.test", &[BOB][..]);
    let mail = Mail { from, to, parameters: "", content: &content, by: By::Data };
    let mut busy = Smtp::plain(mx).unwrap();
    busy.envelope(&mail).unwrap();
    busy.say("DATA").unwrap().expect(354).unwrap();
    busy.write(&content[..20]).unwrap();
    let mut idle = Smtp::plain(mx).unwrap();

    process::send(demo.pid("mx"), Signal::TERM).unwrap();
    let farewell = idle.reply().unwrap();
    assert_eq!(farewell.code, 421, "{farewell}");
    assert!(idle.is_closed());
    assert!(Smtp::plain(mx).is_err(), "a new session is let in");
    busy.write(&content[20..]).unwrap();
    busy.write(b".\r\n").unwrap();
    busy.reply().unwrap().expect(250).unwrap();
    assert_eq!(busy.reply().unwrap().code, 421);
    process::wait_for_end(demo.pid("mx")).unwrap();

    demo.start_again("mx").unwrap();
    let arrived = until::holds(LIMIT, || delivered(demo.maildir(BOB)).len() == 1);
    assert!(arrived, "{}", demo.tail("mx"));
}

#[test]
fn recipients_and_certificates_are_read_again() {
    let demo = Demo::start().unwrap();
    let mx = demo.address("mx");
    let newcomer = "newcomer@receiver.test";
    let asks = |recipient: &str| {
        let mut client = Smtp::plain(mx).unwrap();
        client.say("MAIL FROM:<a@client.test>").unwrap().expect(250).unwrap();
        client.say(&format!("RCPT TO:<{recipient}>")).unwrap().code
    };
    assert_eq!(asks(newcomer), 550);
    let recipients = demo.dir.join("mx/recipients");
    let text = fs::read_to_string(&recipients).unwrap();
    fs::write(&recipients, format!("{text}{newcomer}\n")).unwrap();
    process::send(demo.pid("mx"), Signal::HUP).unwrap();
    assert!(until::holds(LIMIT, || asks(newcomer) == 250), "{}", demo.tail("mx"));

    // A configuration that cannot be used changes nothing.
    let config = demo.config("mx");
    let text = fs::read_to_string(config).unwrap();
    fs::write(config, format!("{text}\nnonsense = 1\n")).unwrap();
    process::send(demo.pid("mx"), Signal::HUP).unwrap();
    let said = || fs::read_to_string(demo.log("mx")).unwrap().contains("not reloaded");
    assert!(until::holds(LIMIT, said), "{}", demo.tail("mx"));
    assert_eq!(asks(newcomer), 250);

    // The relay's certificate does for another name than submission's.
    let connects =
        |name: &str| Smtp::tls(demo.address("submission"), name, &demo.ca).map(drop).is_ok();
    assert!(connects("mail.sender.test") && !connects("relay.sender.test"));
    for ending in ["pem", "key"] {
        let (from, to) = (
            demo.dir.join(format!("relay/relay.sender.test.{ending}")),
            demo.dir.join(format!("submission/mail.sender.test.{ending}")),
        );
        // The owner stays who it is.
        fs::write(to, fs::read(from).unwrap()).unwrap();
    }
    process::send(demo.pid("submission"), Signal::HUP).unwrap();
    assert!(until::holds(LIMIT, || connects("relay.sender.test")), "{}", demo.tail("submission"));
}
