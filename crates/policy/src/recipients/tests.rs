//! Recipients, asked through a chain.

use super::*;
use crate::fixture::Fixture;

const UNKNOWN: &str = "550 5.1.1 no such mailbox here";
const FOREIGN: &str = "550 5.7.1 relay access denied";

const FILE: &str = "\
# people
Bob@a.test
\"odd one\"@a.test
bob+exact@a.test
postmaster@a.test

@all.test
bob@bücher.test
";

struct Site {
    directory: tempfile::TempDir,
    config: RecipientsConfig,
}

impl Site {
    /// The domains are separated by spaces.
    fn new(domains: &str, file: &str, postmaster: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let domains = domains.split_whitespace().map(|text| Domain::parse(text).unwrap());
        let mut config = RecipientsConfig::new(domains.collect(), directory.path().join("file"));
        config.postmaster = postmaster.map(|text| Mailbox::parse(text).unwrap());
        let site = Self { directory, config };
        site.write(file);
        site
    }

    fn write(&self, file: &str) {
        std::fs::write(self.directory.path().join("file"), file).unwrap();
    }

    fn open(&self) -> Result<Recipients, RecipientsError> {
        let hostname = Domain::parse("mx.host.test").unwrap();
        Recipients::open(self.config.clone(), &Environment::new(hostname))
    }
}

/// Expects a ruling, and the recipients after it.
async fn check(recipients: &Recipients, recipient: &str, ruling: &str, after: &[&str]) {
    let fixture = Fixture::of("192.0.2.1");
    let (answer, now) = fixture.rcpt(recipients.clone(), recipient).await;
    let now: Vec<_> = now.iter().map(|recipient| recipient.address.to_string()).collect();
    let after: Vec<_> = after.iter().map(ToString::to_string).collect();
    assert_eq!((answer.as_str(), now), (ruling, after), "{recipient}");
}

#[tokio::test]
async fn known_recipients_are_vouched_for_and_others_refused() {
    let site = Site::new("a.test all.test bücher.test", FILE, Some("bob@a.test"));
    let recipients = site.open().unwrap();
    for known in [
        "bob@a.test",
        "BOB@A.test",
        "bob+lists@a.test",
        "bob+@a.test",
        "bob+a+b@a.test",
        "bob+exact@a.test",
        "\"odd one\"@a.test",
        "\"bob\"@a.test",
        "anybody@all.test",
        "bob@xn--bcher-kva.test",
        "Postmaster@a.test",
    ] {
        let same = Mailbox::parse(known).unwrap().to_string();
        check(&recipients, known, "proceed", &[&same]).await;
    }
    for unknown in ["bo@a.test", "bobb@a.test", "+bob@a.test", "bob-x@a.test", "x+bob@a.test"] {
        check(&recipients, unknown, UNKNOWN, &[]).await;
    }
    for foreign in ["bob@sub.a.test", "bob@b.test", "bob@[192.0.2.1]", "bob@mx.host.test", "x@test"]
    {
        check(&recipients, foreign, FOREIGN, &[]).await;
    }
}

#[tokio::test]
async fn the_separator_is_an_option() {
    let mut site = Site::new("a.test", "bob@a.test\npostmaster@a.test\n", None);
    site.config.separator = Some('-');
    let recipients = site.open().unwrap();
    check(&recipients, "bob-x@a.test", "proceed", &["bob-x@a.test"]).await;
    check(&recipients, "bob+x@a.test", UNKNOWN, &[]).await;
    site.config.separator = None;
    check(&site.open().unwrap(), "bob-x@a.test", UNKNOWN, &[]).await;
}

#[tokio::test]
async fn there_is_always_a_postmaster() {
    let both = "bob@a.test\npostmaster@a.test\n@b.test";
    let with_mailbox = Site::new("a.test b.test", both, None).open().unwrap();
    check(&with_mailbox, "POSTMASTER@a.test", "proceed", &["POSTMASTER@a.test"]).await;
    check(&with_mailbox, "postmaster@b.test", "proceed", &["postmaster@b.test"]).await;
    check(&with_mailbox, "postmaster@mx.host.test", "proceed", &["postmaster@a.test"]).await;
    check(&with_mailbox, "postmaster@c.test", FOREIGN, &[]).await;

    let with_target = Site::new("a.test b.test", "bob@a.test", Some("bob@a.test"));
    let with_target = with_target.open().unwrap();
    for name in ["postmaster@a.test", "Postmaster@b.test", "postmaster@mx.host.test"] {
        check(&with_target, name, "proceed", &["bob@a.test"]).await;
    }

    let whole = Site::new("b.test", "@b.test", None).open().unwrap();
    check(&whole, "postmaster@mx.host.test", "proceed", &["postmaster@b.test"]).await;
    let target = Site::new("b.test", "@b.test", Some("op@far.test")).open().unwrap();
    check(&target, "postmaster@b.test", "proceed", &["op@far.test"]).await;
}

#[tokio::test]
async fn reports_name_the_postmaster_that_was_asked_for() {
    let site = Site::new("a.test", "bob@a.test", Some("bob@a.test"));
    let fixture = Fixture::of("192.0.2.1");
    let (_, now) = fixture.rcpt(site.open().unwrap(), "postmaster@a.test").await;
    assert_eq!(now[0].orcpt.as_ref().unwrap().to_string(), "rfc822;postmaster@a.test");
}

#[tokio::test]
async fn a_reload_takes_the_new_file_or_keeps_the_old_one() {
    let site = Site::new("a.test", "bob@a.test\npostmaster@a.test\n", None);
    let recipients = site.open().unwrap();
    // A session that began before the reload sees it too.
    let begun = recipients.clone();
    site.write("carol@a.test\npostmaster@a.test\n");
    recipients.reload().unwrap();
    check(&begun, "carol@a.test", "proceed", &["carol@a.test"]).await;
    check(&begun, "bob@a.test", UNKNOWN, &[]).await;
    site.write("bob@a.test\n");
    assert!(matches!(recipients.reload(), Err(RecipientsError::NoPostmaster { .. })));
    check(&begun, "carol@a.test", "proceed", &["carol@a.test"]).await;
}

#[test]
fn says_what_is_wrong() {
    let check = |domains: &str, file: &str, postmaster, expected: &str| {
        let site = Site::new(domains, file, postmaster);
        let error = site.open().err().map(|error| error.to_string()).unwrap_or_default();
        let path = site.config.file.display().to_string();
        assert_eq!(error.replace(&path, "FILE"), expected, "{file}");
    };
    let ok = "postmaster@a.test\n";
    check("a.test", ok, None, "");
    check("a.test", &format!("{ok}\nbob\n"), None, "FILE:3: not an address: address has no @");
    check("a.test", "@a..test", None, "FILE:1: not a domain: domain has an empty label");
    let foreign = "FILE:1: not in one of the policy's domains";
    check("a.test", "bob@b.test", None, foreign);
    check("a.test", "@b.test", None, foreign);
    check("a.test", "bob@[192.0.2.1]", None, foreign);
    check("", "", None, "there must be at least one domain");
    let none = "FILE has no mailbox postmaster@b.test, which RFC 5321 §4.5.1 demands; add it, or \
                set `postmaster`";
    check("a.test b.test", ok, None, none);
    check("a.test b.test", ok, Some("postmaster@a.test"), "");
    check("a.test", "bob@a.test", Some("x@far.test"), "");
    let target = "`postmaster` is carol@a.test, which is not in FILE";
    check("a.test", "bob@a.test", Some("carol@a.test"), target);
}
