//! SIGHUP.

use std::fs;
use std::time::Duration;

use merpati_e2e::demo::Demo;
use merpati_e2e::process;
use merpati_e2e::smtp::Smtp;
use merpati_e2e::until;
use rustix::process::Signal;

const LIMIT: Duration = Duration::from_secs(20);

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
