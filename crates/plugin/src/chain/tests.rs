//! Chains as data: what each policy answers at RCPT or MAIL, and what the chain makes of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use merpati_types::{Envelope, Mailbox, Recipient, Rejection, ReversePath, Status};

use super::{Chain, ChainError, Ruling};
use crate::connection::{Connection, Conversation, Protocol};
use crate::decision::{Decision, Effect, Effects, Failure, Outcome, PolicyResult};
use crate::facts::{Fact, FactKind};
use crate::observer::{Event, Observer, Observers};
use crate::policy::{Policy, PolicyFactory};
use crate::transaction::Transaction;

/// What a scripted policy does whenever it is asked.
#[derive(Clone, Copy, Debug)]
enum Does {
    Continue,
    Accept,
    Reject,
    Disconnect,
    Discard,
    Fail,
    Panic,
    Hang,
    /// Continues, and asks for another recipient.
    Alias,
    /// Continues, and says that another recipient is meant.
    Readdress,
    /// Accepts that other recipient only.
    AcceptMeant,
    /// Accepts if an earlier policy has tagged the transaction.
    WantsTag,
    Tag,
}

struct Scripted(Does);

impl PolicyFactory for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }
    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(Scripted(self.0))
    }
}

impl Scripted {
    async fn answer(&self, transaction: &Transaction, asked: Option<&Recipient>) -> PolicyResult {
        let no = Rejection::permanent(Status::POLICY, "no");
        let decision = match self.0 {
            Does::Continue => Decision::Continue,
            Does::Accept => Decision::Accept,
            Does::Reject => Decision::Reject(no),
            Does::Disconnect => Decision::Disconnect(no),
            Does::Discard => Decision::Discard,
            Does::Fail => return Err(Failure::new("the database is at 192.0.2.1")),
            Does::Panic => panic!("a plugin's own bug"),
            Does::Hang => {
                std::future::pending::<()>().await;
                Decision::Continue
            }
            Does::Alias => {
                let other = Recipient::new(Mailbox::parse("other@mx.test")?);
                let effects = Effects::NONE.with(Effect::AddRecipient(other));
                return Ok(Outcome::effects(effects));
            }
            Does::Readdress => {
                let meant = Recipient::new(Mailbox::parse("meant@mx.test")?);
                return Ok(Outcome::effects(Effects::NONE.with(Effect::Readdress(meant))));
            }
            Does::AcceptMeant => match asked.map(|asked| asked.address.local().as_str()) {
                Some("meant") => Decision::Accept,
                _ => Decision::Reject(no),
            },
            Does::Tag => {
                let effects = Effects::NONE.with(Effect::Tag("k".to_owned(), "v".to_owned()));
                return Ok(Outcome::effects(effects));
            }
            Does::WantsTag if transaction.attributes.tags.contains_key("k") => Decision::Accept,
            Does::WantsTag => Decision::Reject(no),
        };
        Ok(decision.into())
    }
}

#[async_trait]
impl Policy for Scripted {
    async fn mail(&mut self, _: &Conversation, transaction: &Transaction) -> PolicyResult {
        self.answer(transaction, None).await
    }
    async fn rcpt(
        &mut self,
        _: &Conversation,
        transaction: &Transaction,
        asked: &Recipient,
    ) -> PolicyResult {
        self.answer(transaction, Some(asked)).await
    }
}

/// Notes each verdict's name.
#[derive(Default)]
struct Notes(Mutex<Vec<&'static str>>);

impl Observer for Notes {
    fn observe(&self, event: &Event<'_>) {
        if let Event::Verdict { record, .. } = event {
            self.0.lock().unwrap().push(record.decision);
        }
    }
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

fn chain(policies: &[Does]) -> (Chain, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let observers = Observers::new(vec![Arc::clone(&notes) as _]);
    let link = |does: &Does| -> (Arc<dyn PolicyFactory>, Duration) {
        (Arc::new(Scripted(*does)), Duration::from_secs(5))
    };
    (Chain::new(policies.iter().map(link).collect(), observers).unwrap(), notes)
}

fn show(ruling: &Ruling) -> String {
    match ruling {
        Ruling::Proceed => "proceed".to_owned(),
        Ruling::Refuse(why) => why.to_string(),
        Ruling::Disconnect(why) => format!("{why}, bye"),
        Ruling::Discard => "discard".to_owned(),
    }
}

const FAILED: &str = "451 4.3.0 temporary failure, try again later";
const NOBODY: &str = "550 5.7.1 relay access denied";

/// At RCPT: the ruling, the recipients that were added, and the verdicts that were noted.
async fn check_rcpt(policies: &[Does], ruling: &str, added: &[&str], noted: &[&str]) {
    let (chain, notes) = chain(policies);
    let conversation = conversation();
    let mut session = chain.begin(&conversation.connection);
    let mut transaction = Transaction::new(Envelope::new(ReversePath::Null), None);
    let bob = Recipient::new(Mailbox::parse("bob@mx.test").unwrap());
    let got = session.rcpt(&conversation, &mut transaction, bob).await;
    assert_eq!(show(&got), ruling, "{policies:?}");
    let recipients = transaction.envelope.recipients.iter();
    let recipients: Vec<_> = recipients.map(|r| r.address.to_string()).collect();
    assert_eq!(recipients, added, "{policies:?}");
    assert_eq!(*notes.0.lock().unwrap(), noted, "{policies:?}");
}

#[tokio::test(start_paused = true)]
async fn a_recipient_needs_somebody_who_vouches_and_nobody_who_refuses() {
    use Does::{
        Accept, AcceptMeant, Alias, Continue, Discard, Disconnect, Fail, Hang, Panic, Readdress,
        Reject,
    };
    let bob = ["bob@mx.test"];
    check_rcpt(&[], NOBODY, &[], &[]).await;
    check_rcpt(&[Continue], NOBODY, &[], &["continue"]).await;
    check_rcpt(&[Accept], "proceed", &bob, &["accept"]).await;
    check_rcpt(&[Accept, Continue], "proceed", &bob, &["accept", "continue"]).await;
    check_rcpt(&[Accept, Reject], "550 5.7.1 no", &[], &["accept", "reject"]).await;
    check_rcpt(&[Reject, Accept], "550 5.7.1 no", &[], &["reject"]).await;
    check_rcpt(&[Accept, Disconnect], "550 5.7.1 no, bye", &[], &["accept", "disconnect"]).await;
    check_rcpt(&[Discard, Reject], "discard", &[], &["discard"]).await;
    check_rcpt(&[Accept, Fail], FAILED, &[], &["accept", "failed"]).await;
    check_rcpt(&[Accept, Panic], FAILED, &[], &["accept", "panicked"]).await;
    check_rcpt(&[Hang, Accept], FAILED, &[], &["timed out"]).await;
    let both = ["bob@mx.test", "other@mx.test"];
    check_rcpt(&[Alias, Accept], "proceed", &both, &["continue", "accept"]).await;
    // What a refused recipient would have brought leaves no trace.
    check_rcpt(&[Alias, Accept, Reject], "550 5.7.1 no", &[], &["continue", "accept", "reject"])
        .await;
    check_rcpt(&[Alias], NOBODY, &[], &["continue"]).await;
    // Who is meant is asked about from there on.
    let meant = ["meant@mx.test"];
    check_rcpt(&[Readdress], NOBODY, &[], &["continue"]).await;
    check_rcpt(&[Readdress, AcceptMeant], "proceed", &meant, &["continue", "accept"]).await;
    check_rcpt(&[AcceptMeant, Readdress], "550 5.7.1 no", &[], &["reject"]).await;
}

#[tokio::test(start_paused = true)]
async fn elsewhere_accept_ends_the_stage_and_effects_are_seen() {
    use Does::{Accept, Continue, Discard, Reject, Tag, WantsTag};
    let check = async |policies: &[Does], ruling: &str| {
        let (chain, _) = chain(policies);
        let conversation = conversation();
        let mut transaction = Transaction::new(Envelope::new(ReversePath::Null), None);
        let mut session = chain.begin(&conversation.connection);
        let got = session.mail(&conversation, &mut transaction).await;
        assert_eq!(show(&got), ruling, "{policies:?}");
    };
    check(&[], "proceed").await;
    check(&[Continue, Reject], "550 5.7.1 no").await;
    check(&[Accept, Reject], "proceed").await;
    check(&[Discard, Reject], "discard").await;
    check(&[Tag, WantsTag], "proceed").await;
    check(&[WantsTag, Tag], "550 5.7.1 no").await;
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_broke_down_is_gone_for_the_connection_only() {
    for broken in [Does::Panic, Does::Hang] {
        let (chain, notes) = chain(&[broken]);
        let conversation = conversation();
        let mut transaction = Transaction::new(Envelope::new(ReversePath::Null), None);
        let mut session = chain.begin(&conversation.connection);
        for _ in 0..2 {
            let ruling = session.mail(&conversation, &mut transaction).await;
            assert_eq!(show(&ruling), FAILED);
        }
        assert_eq!(notes.0.lock().unwrap().len(), 1, "it was asked again");
        // Notes to it are dropped, too; another connection has a policy of its own.
        session.aborted();
        session.closed();
        let mut other = chain.begin(&conversation.connection);
        other.mail(&conversation, &mut transaction).await;
        assert_eq!(notes.0.lock().unwrap().len(), 2);
    }
}

struct Spf;
impl Fact for Spf {
    const NAME: &'static str = "spf";
}

struct Facts {
    needs: Vec<FactKind>,
    provides: Vec<FactKind>,
}

impl PolicyFactory for Facts {
    fn name(&self) -> &str {
        "facts"
    }
    fn needs(&self) -> &[FactKind] {
        &self.needs
    }
    fn provides(&self) -> &[FactKind] {
        &self.provides
    }
    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(Scripted(Does::Continue))
    }
}

#[test]
fn a_fact_must_be_provided_before_it_is_needed() {
    let spf = || vec![FactKind::of::<Spf>()];
    let provider = || Facts { needs: vec![], provides: spf() };
    let user = || Facts { needs: spf(), provides: vec![] };
    let build = |policies: Vec<Facts>| {
        let link = |policy: Facts| -> (Arc<dyn PolicyFactory>, Duration) {
            (Arc::new(policy), Duration::from_secs(1))
        };
        Chain::new(policies.into_iter().map(link).collect(), Observers::default()).map(drop)
    };
    assert_eq!(build(vec![provider(), user()]), Ok(()));
    let missing = Err(ChainError::Missing { place: 0, policy: "facts".to_owned(), fact: "spf" });
    assert_eq!(build(vec![user(), provider()]), missing);
}
