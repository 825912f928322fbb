//! Addresses, reports, and what becomes of both.

use std::sync::Mutex;
use std::time::Duration;

use merpati_dsn::{Batv, BatvKey, Keyring, Srs, SrsOptions, Verp, VerpDelimiters};
use merpati_ledger::Ledger;
use merpati_plugin::{Chain, Observer, Observers, Protocol, Ruling};
use merpati_testkit::disk::SimDisk;
use merpati_types::{Domain, Envelope, HeaderSection, Rejection, Secret, Status, Timestamp};

use super::config::{Signed, Unsigned};
use super::*;
use crate::suppression::{Subject, Suppression, SuppressionList, SuppressionRules};

/// Mon, 23 Nov 2026.
const NOW: Timestamp = Timestamp::from_millis(1_795_444_077_000);

fn domain(text: &str) -> Domain {
    Domain::parse(text).unwrap()
}

fn address(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn secret(text: &str) -> Secret<Vec<u8>> {
    Secret::new(text.as_bytes().to_vec())
}

fn srs() -> Srs {
    Srs::new(Keyring::new(secret("tops3cret")), domain("fwd.test"), SrsOptions::default())
}

fn batv(key: &str) -> Batv {
    Batv::new(BatvKey::new(0, secret(key)))
}

fn verp() -> Verp {
    Verp::new(address("list@ours.test"), VerpDelimiters::default())
}

fn signed(text: &str, at: Timestamp) -> String {
    batv("tops3cret").sign(&address(text), at).unwrap().to_string()
}

/// Knows alice and the list of ours.test, and nobody else there.
struct Known;

impl PolicyFactory for Known {
    fn name(&self) -> &str {
        "known"
    }

    fn begin(&self, _: &Connection) -> Box<dyn Policy> {
        Box::new(Self)
    }
}

#[async_trait]
impl Policy for Known {
    async fn rcpt(&mut self, _: &Conversation, _: &Transaction, to: &Recipient) -> PolicyResult {
        let to = to.address.to_string();
        Ok(match to.as_str() {
            "alice@ours.test" | "list@ours.test" | "postmaster@ours.test" => {
                Decision::Accept.into()
            }
            to if to.ends_with("@ours.test") => {
                Rejection::permanent(Status::NO_MAILBOX, "no such mailbox").into()
            }
            _ => Outcome::CONTINUE,
        })
    }
}

/// Keeps what it hears of.
#[derive(Default)]
struct Ears(Mutex<Vec<(Option<MessageId>, News)>>);

impl Observer for Ears {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Heard { id, news } = event {
            self.0.lock().unwrap().push((*id, News::clone(news)));
        }
    }
}

struct Room {
    chain: Chain,
    ears: Arc<Ears>,
    suppression: Suppression,
}

fn room(change: impl FnOnce(&mut ReturnedConfig)) -> Room {
    let batv = Signed {
        domains: vec![domain("ours.test")],
        batv: batv("tops3cret"),
        unsigned: Unsigned::Refuse,
    };
    let mut config = ReturnedConfig {
        srs: Some(srs()),
        batv: Some(batv),
        verp: vec![(address("list@ours.test"), verp())],
        reports: vec![address("reports@ours.example")],
        keep: true,
        believe: Believe::Signed,
    };
    change(&mut config);
    let rules = SuppressionRules { bounces: 1, ..SuppressionRules::default() };
    let ledger = Ledger::open(Arc::new(SimDisk::new()), rules.ledger_limits()).unwrap().0;
    let suppression = Suppression::new(rules);
    suppression.connect(SuppressionList::new(ledger));
    let environment = Environment {
        now: || NOW,
        suppression: Some(suppression.clone()),
        ..Environment::new(domain("mx.test"))
    };
    let ears = Arc::new(Ears::default());
    environment.tell.connect(Observers::new(vec![Arc::clone(&ears) as _]));
    let link = |policy: Arc<dyn PolicyFactory>| (policy, Duration::from_secs(5));
    let links = vec![link(Arc::new(Returned::new(config, &environment))), link(Arc::new(Known))];
    let chain = Chain::new(links, Observers::default()).unwrap();
    Room { chain, ears, suppression }
}

fn conversation() -> Conversation {
    let address = "192.0.2.1:25".parse().unwrap();
    Conversation::new(Connection {
        id: 1,
        listener: "test".into(),
        protocol: Protocol::Smtp,
        local: address,
        peer: address,
    })
}

fn show(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Proceed => "proceed".to_owned(),
        Ruling::Refuse(why) => why.to_string(),
        other => format!("{other:?}"),
    }
}

impl Room {
    /// What is said to RCPT, and whom the mail goes to.
    async fn rcpt(&self, from: &str, to: &str) -> String {
        let conversation = conversation();
        let mut session = self.chain.begin(&conversation.connection);
        let path = ReversePath::parse(from).unwrap();
        let mut transaction = Transaction::new(Envelope::new(path), None);
        let recipient = Recipient::new(address(to));
        let ruling = session.rcpt(&conversation, &mut transaction, recipient).await;
        match transaction.envelope.recipients.first() {
            Some(to) => format!("{} ({})", to.address, to.orcpt.as_ref().unwrap().address()),
            None => show(&ruling),
        }
    }

    /// Takes a message; answers what was said to it, and what was heard.
    async fn message(&self, from: &str, to: &str, message: &str) -> (String, Vec<News>) {
        let conversation = conversation();
        let mut session = self.chain.begin(&conversation.connection);
        let path = ReversePath::parse(from).unwrap();
        let mut transaction = Transaction::new(Envelope::new(path), None);
        session.mail(&conversation, &mut transaction).await;
        let recipient = Recipient::new(address(to));
        let ruling = session.rcpt(&conversation, &mut transaction, recipient).await;
        assert_eq!(show(&ruling), "proceed");
        let bytes = Bytes::from(message.replace('\n', "\r\n"));
        let headers = HeaderSection::read(&bytes).unwrap();
        let message = Message { headers: &headers, source: &bytes };
        let ruling = session.message(&conversation, &mut transaction, &message).await;
        if ruling == Ruling::Proceed {
            assert!(self.ears.0.lock().unwrap().is_empty(), "nothing is durable yet");
            session.committed(MessageId::from_u64(7));
        }
        let heard = std::mem::take(&mut *self.ears.0.lock().unwrap());
        let id = (ruling == Ruling::Proceed).then(|| MessageId::from_u64(7));
        assert!(heard.iter().all(|(heard, _)| *heard == id), "{heard:?}");
        (show(&ruling), heard.into_iter().map(|(_, news)| news).collect())
    }

    fn is_suppressed(&self, who: &str) -> bool {
        let who: Subject = who.parse().unwrap();
        self.suppression.list().unwrap().entry(&who, NOW).is_some()
    }
}

#[tokio::test]
async fn addresses_lead_back_to_who_is_meant() {
    let room = room(|_| {});
    let check = async |from: &str, to: &str, expected: &str| {
        let expected = expected.replace("TO", to);
        assert_eq!(room.rcpt(from, to).await, expected, "{from} to {to}");
    };
    let forged = "550 5.1.1 this is no return address of ours: its signature is wrong";
    let away = |at| srs().forward(&address("eve@away.test"), at).unwrap().to_string();
    for from in ["<>", "<x@y.test>"] {
        check(from, &away(NOW), "eve@away.test (TO)").await;
        check(from, &signed("alice@ours.test", NOW), "alice@ours.test (TO)").await;
    }
    check("<>", &away(NOW).replace("eve@", "adam@"), forged).await;
    let old = away(Timestamp::from_millis(NOW.as_millis() - 22 * 86_400_000));
    check("<>", &old, "550 5.1.1 this return address has expired: it is 22 days old").await;
    let malformed = "550 5.1.1 this is no return address of ours: it is malformed";
    check("<>", "srs0=abcd=JM@fwd.test", malformed).await;
    check("<>", "other@fwd.test", "550 5.7.1 relay access denied").await;

    check("<>", &signed("alice@ours.test", NOW).replace("alice", "list"), forged).await;
    let old = signed("alice@ours.test", Timestamp::from_millis(NOW.as_millis() - 8 * 86_400_000));
    check("<>", &old, "550 5.1.1 this return address has expired").await;
    check("<>", &signed("nobody@ours.test", NOW), "550 5.1.1 no such mailbox").await;
    let unsigned = "550 5.7.1 reports are not taken here for mail that was not sent from here";
    check("<>", "alice@ours.test", unsigned).await;
    check("<>", "list+bob=x.test@ours.test", unsigned).await;
    let listed = signed("list+bob=x.test@ours.test", NOW);
    check("<>", &listed, "list@ours.test (TO)").await;
    check("<x@y.test>", "list+bob=x.test@ours.test", "list@ours.test (TO)").await;
    let accepts = self::room(|config| {
        config.batv.as_mut().unwrap().unsigned = Unsigned::Accept;
    });
    let to = "list+bob=x.test@ours.test";
    assert_eq!(accepts.rcpt("<>", to).await, format!("list@ours.test ({to})"));
}

/// Nobody is turned away who has never been signed.
#[tokio::test]
async fn what_is_never_signed_takes_reports() {
    let room = room(|_| {});
    let said = async |to: &str| {
        let conversation = conversation();
        let mut session = room.chain.begin(&conversation.connection);
        let mut transaction = Transaction::new(Envelope::new(ReversePath::Null), None);
        let recipient = Recipient::new(address(to));
        show(&session.rcpt(&conversation, &mut transaction, recipient).await)
    };
    assert_eq!(said("Postmaster@ours.test").await, "550 5.1.1 no such mailbox");
    assert_eq!(said("postmaster@ours.test").await, "proceed");
    assert_eq!(said("reports@ours.example").await, "proceed");
    let long = format!("{}@ours.test", "a".repeat(50));
    assert_eq!(said(&long).await, "550 5.1.1 no such mailbox");
}

fn bounce(recipient: &str, code: &str) -> String {
    format!(
        "From: MAILER-DAEMON@x.test\nContent-Type: multipart/report; boundary=b\n\n--b\n\nSorry.\n\
         --b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.x.test\n\
         Original-Envelope-Id: QQ1\n\nFinal-Recipient: rfc822; {recipient}\nAction: failed\n\
         Status: 5.0.0\nDiagnostic-Code: smtp; {code}\n--b\nContent-Type: text/rfc822-headers\n\n\
         Subject: hi\nMessage-ID: <1@ours.test>\n--b--\n"
    )
}

fn complaint(from: &str, recipient: &str) -> String {
    format!(
        "From: fbl@x.test\nContent-Type: multipart/report; boundary=b\n\n--b\n\nSpam!\n--b\n\
         Content-Type: message/feedback-report\n\nFeedback-Type: abuse\nVersion: 1\n\
         Original-Mail-From: <{from}>\n{recipient}\n--b--\n"
    )
}

/// Of one piece of news: kind, recipient, class, whether it is signed, and has an effect.
fn tell(news: &[News]) -> String {
    let [one] = news else { return format!("{} pieces", news.len()) };
    let recipient = one.recipient.as_ref().map_or("nobody".to_owned(), ToString::to_string);
    let signed = if one.is_signed { " signed" } else { "" };
    let suppressed = if one.suppressed { " suppressed" } else { "" };
    format!("{} {recipient} {}{signed}{suppressed}", one.kind, one.class.unwrap_or("-"))
}

#[tokio::test]
async fn reports_are_heard_and_believed_where_they_can_be() {
    let gone = bounce("bob@x.test", "550 5.1.1 no such user");
    let full = bounce("bob@x.test", "552 5.2.2 mailbox full");
    let alice = signed("alice@ours.test", NOW);
    let list = signed("list+carol=x.test@ours.test", NOW);
    let plain = "list+carol=x.test@ours.test";
    let away = srs().forward(&address("eve@away.test"), NOW).unwrap().to_string();
    let reports = "reports@ours.example";
    let about_alice = complaint(&alice, "Original-Rcpt-To: <bob@x.test>");
    for (from, to, message, believe, expected) in [
        ("<>", &*alice, &gone, Believe::Signed, "failed bob@x.test unknown-user signed suppressed"),
        ("<>", &alice, &full, Believe::Signed, "failed bob@x.test mailbox-full signed"),
        ("<>", &away, &gone, Believe::Signed, "failed bob@x.test unknown-user signed suppressed"),
        // The address says whom it is about.
        ("<>", &list, &gone, Believe::Signed, "failed carol@x.test unknown-user signed suppressed"),
        ("<>", plain, &gone, Believe::Signed, "failed carol@x.test unknown-user"),
        ("<>", plain, &gone, Believe::All, "failed carol@x.test unknown-user suppressed"),
        ("<a@b.test>", &alice, &gone, Believe::All, "0 pieces"),
        ("<a@b.test>", reports, &gone, Believe::Signed, "failed bob@x.test unknown-user"),
        (
            "<fbl@x.test>",
            reports,
            &about_alice,
            Believe::Signed,
            "abuse bob@x.test - signed suppressed",
        ),
        (
            "<fbl@x.test>",
            reports,
            &complaint(&list, "Original-Rcpt-To: <other@x.test>"),
            Believe::Signed,
            "abuse carol@x.test - signed suppressed",
        ),
        (
            "<fbl@x.test>",
            reports,
            &complaint("alice@ours.test", "Original-Rcpt-To: <bob@x.test>"),
            Believe::Signed,
            "abuse bob@x.test -",
        ),
        (
            "<fbl@x.test>",
            reports,
            &complaint(&alice, "X: y"),
            Believe::All,
            "abuse nobody - signed",
        ),
        ("<>", reports, &"Subject: hello\n\nhello\n".to_owned(), Believe::All, "0 pieces"),
    ] {
        let room = room(|config| {
            config.believe = believe;
            config.batv.as_mut().unwrap().unsigned = Unsigned::Accept;
        });
        let (said, news) = room.message(from, to, message).await;
        assert_eq!((said.as_str(), &*tell(&news)), ("proceed", expected), "{from} to {to}");
        let suppressed = ["bob@x.test", "carol@x.test", "other@x.test"]
            .into_iter()
            .filter(|who| room.is_suppressed(who));
        let expected: Vec<_> = match news.first().filter(|news| news.suppressed) {
            Some(news) => vec![news.recipient.as_ref().unwrap().to_string()],
            None => vec![],
        };
        assert_eq!(suppressed.collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn what_is_known_of_the_message_is_told() {
    let room = room(|_| {});
    let alice = signed("alice@ours.test", NOW);
    let report = bounce("bob@x.test", "550 5.1.1 no such user");
    let (_, news) = room.message("<>", &alice, &report).await;
    let [news] = &news[..] else { panic!("{news:?}") };
    assert_eq!(news.envid.as_deref(), Some("QQ1"));
    assert_eq!(news.message_id.as_deref(), Some("1@ours.test"));
    assert_eq!(news.diagnostic.as_deref(), Some("550 5.1.1 no such user"));
    // What stands beyond the limit is not read, however long the message is.
    let long = report.replacen("Sorry.", &"x".repeat(READ_LIMIT), 1);
    let (said, news) = room.message("<>", &alice, &long).await;
    assert_eq!((said.as_str(), news), ("proceed", vec![]));
}

/// Reports need not be kept once they were read; what is none, or goes to people too, is.
#[tokio::test]
async fn what_is_read_may_go() {
    let room = room(|config| config.keep = false);
    let gone = bounce("bob@x.test", "550 5.1.1 no such user");
    let list = signed("list+carol=x.test@ours.test", NOW);
    let alice = signed("alice@ours.test", NOW);
    for (to, message, expected) in [
        ("reports@ours.example", &gone, "Discard"),
        (&*list, &gone, "Discard"),
        (&alice, &gone, "proceed"),
        ("reports@ours.example", &"Subject: hello\n\nhello\n".to_owned(), "proceed"),
    ] {
        let (said, news) = room.message("<>", to, message).await;
        assert_eq!(said, expected, "{to}");
        assert_eq!(news.is_empty(), message != &gone, "{to}");
    }
}

#[test]
fn mistakes_are_told() {
    use merpati_plugin::options::{Entry, Kind, Options, Span, Value};
    fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
        let entry = |(key, value): (&str, Value)| Entry {
            key: key.to_owned(),
            key_span: Span::default(),
            value,
        };
        Kind::Table(entries.into_iter().map(entry).collect()).into()
    }
    let told = |entries: &[(&str, Value)]| -> Vec<String> {
        let options = Options::new(entries.iter().cloned());
        let _ = ReturnedConfig::from_options(&options);
        options.errors().sorted().iter().map(ToString::to_string).collect()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let key = || table([("file", path.as_str().into())]);
    let nothing = "nothing comes back: set `srs`, `batv`, `verp` or `reports`";
    assert_eq!(told(&[]), [nothing]);
    let srs = || table([("domain", "fwd.test".into()), ("keys", key())]);
    let empty = "srs.keys: there must be a key, and none may be empty";
    assert_eq!(told(&[("srs", srs())])[0], empty);
    std::fs::write(file.path(), "tops3cret\n").unwrap();
    assert_eq!(told(&[("srs", srs())]), Vec::<String>::new());
    let batv = [("domains", ["ours.test"].into()), ("keys", key()), ("unsigned", "no".into())];
    let error = told(&[("batv", table(batv))]);
    assert_eq!(error, ["batv.unsigned: `no` is not known here (known: `accept`, `refuse`)"]);
}
