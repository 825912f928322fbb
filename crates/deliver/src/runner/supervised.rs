//! A delivery in which the outbound policies have their say.

use std::sync::Arc;

use bytes::Bytes;
use merpati_plugin::deliver::{
    AttemptNotes, DeferClass, DeliveryOutcome, DeliveryResult, MessageSource,
};
use merpati_plugin::spool::{Parcel, SpoolError};
use merpati_plugin::{BodyReader, Deliverer, Job, OutboundChain, async_trait};
use merpati_types::Rejection;

use super::attempt::{broken, same};

/// Tries every pending recipient that no policy keeps back; an outcome for each of all.
pub(super) async fn deliver(
    outbound: OutboundChain,
    transport: Arc<dyn Deliverer>,
    notes: Arc<dyn AttemptNotes>,
    parcel: &Arc<Parcel>,
    message: Arc<dyn MessageSource>,
) -> Vec<DeliveryOutcome> {
    let stopped = outbound.route(parcel).await;
    let tried = without(parcel, &stopped);
    let mut tried_outcomes = Vec::new().into_iter();
    if !tried.pending.is_empty() {
        let outcomes = match prepare(&outbound, &tried, message).await {
            Ok((parts, message)) => {
                let outbound = outbound.clone();
                let job = |parcel| Job {
                    parcel,
                    message: Arc::clone(&message),
                    notes: Arc::clone(&notes),
                    outbound: outbound.clone(),
                };
                each(&transport, parts.into_iter().map(job)).await
            }
            Err(why) => same(&tried, refused(&why)),
        };
        tried_outcomes = outcomes.into_iter();
    }
    let outcomes: Vec<_> = stopped
        .iter()
        .map(|stopped| match stopped {
            Some(why) => refused(why),
            None => tried_outcomes.next().expect("one for each that was tried"),
        })
        .collect();
    outbound.outcome(parcel, &outcomes).await;
    outcomes
}

/// What is sent: the parcel in its transactions, and the message with what goes in front.
async fn prepare(
    outbound: &OutboundChain,
    parcel: &Arc<Parcel>,
    message: Arc<dyn MessageSource>,
) -> Result<(Vec<Arc<Parcel>>, Arc<dyn MessageSource>), Rejection> {
    let parts = outbound.send_as(parcel).await?;
    // Asked once: what is signed is the message, and not its envelope.
    let fields = outbound.send(parcel, message.as_ref()).await?;
    Ok((parts, with_fields(fields, message)))
}

/// Transmits one after the other. A site that cannot be reached is not tried once more for each
/// recipient.
async fn each(
    transport: &Arc<dyn Deliverer>,
    jobs: impl Iterator<Item = Job>,
) -> Vec<DeliveryOutcome> {
    let mut outcomes = Vec::new();
    let mut out_of_reach = None;
    for job in jobs {
        if let Some(outcome) = &out_of_reach {
            outcomes.extend(same(&job.parcel, DeliveryOutcome::clone(outcome)));
            continue;
        }
        let made = transmit(Arc::clone(transport), job).await;
        out_of_reach = made.last().filter(|_| made.iter().all(is_out_of_reach)).cloned();
        outcomes.extend(made);
    }
    outcomes
}

fn is_out_of_reach(outcome: &DeliveryOutcome) -> bool {
    use DeferClass::{Connection, Dns};
    matches!(outcome.result, DeliveryResult::Deferred { class: Connection | Dns, .. })
}

fn refused(why: &Rejection) -> DeliveryOutcome {
    DeliveryOutcome::refused(why, DeferClass::Local)
}

/// The parcel without those who are not to be tried.
fn without(parcel: &Arc<Parcel>, stopped: &[Option<Rejection>]) -> Arc<Parcel> {
    if stopped.iter().all(Option::is_none) {
        return Arc::clone(parcel);
    }
    let mut tried = Parcel::clone(parcel);
    let mut verdicts = stopped.iter();
    tried.pending.retain(|_| verdicts.next().is_some_and(Option::is_none));
    Arc::new(tried)
}

pub(super) async fn transmit(transport: Arc<dyn Deliverer>, job: Job) -> Vec<DeliveryOutcome> {
    let parcel = Arc::clone(&job.parcel);
    // A task of its own, so that a plugin's panic defers this parcel and harms nothing else.
    let outcomes = tokio::spawn(async move { transport.deliver(job).await }).await;
    match outcomes {
        Ok(outcomes) if outcomes.len() == parcel.pending.len() => outcomes,
        Ok(_) => {
            tracing::error!(id = %parcel.id, "transport answered for other recipients than asked");
            same(&parcel, broken("delivery failed"))
        }
        Err(error) => {
            tracing::error!(id = %parcel.id, %error, "transport broke down");
            same(&parcel, broken("delivery failed"))
        }
    }
}

fn with_fields(fields: Bytes, message: Arc<dyn MessageSource>) -> Arc<dyn MessageSource> {
    match fields.is_empty() {
        true => message,
        false => Arc::new(WithFields { fields, message }),
    }
}

/// A message with header fields in front.
struct WithFields {
    fields: Bytes,
    message: Arc<dyn MessageSource>,
}

#[async_trait]
impl MessageSource for WithFields {
    fn size(&self) -> u64 {
        self.message.size() + self.fields.len() as u64
    }

    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        let rest = self.message.open().await?;
        Ok(Box::new(FieldsFirst { fields: Some(self.fields.clone()), rest }))
    }
}

struct FieldsFirst {
    fields: Option<Bytes>,
    rest: Box<dyn BodyReader>,
}

#[async_trait]
impl BodyReader for FieldsFirst {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        match self.fields.take() {
            Some(fields) => Ok(Some(fields)),
            None => self.rest.next().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use merpati_plugin::deliver::Handover;
    use merpati_plugin::{Failure, OutboundPolicy, SendAs, Sending, Stopped};
    use merpati_testkit::spool_contract::parcel;
    use merpati_types::{Recipient, ReversePath, Severity, Status};

    use super::*;
    use crate::runner::tests::source;

    const TO: [&str; 3] = ["0@there.test", "1@there.test", "2@there.test"];

    /// Keeps the second recipient back, puts a field in front, and counts outcomes.
    #[derive(Default)]
    struct Keeper(Mutex<Vec<usize>>);

    #[async_trait]
    impl OutboundPolicy for Keeper {
        fn name(&self) -> &str {
            "keeper"
        }

        async fn route(&self, _: &Parcel) -> Result<Vec<Stopped>, Failure> {
            let why = Rejection::permanent(Status::POLICY, "suppressed");
            Ok(vec![Stopped { recipient: 1, why }])
        }

        async fn send(&self, _: &Parcel, _: &dyn MessageSource) -> Result<Sending, Failure> {
            Ok(Sending::With(Bytes::from_static(b"Seal: yes\r\n")))
        }

        async fn outcome(&self, _: &Parcel, outcomes: &[DeliveryOutcome]) {
            self.0.lock().unwrap().push(outcomes.len());
        }
    }

    /// Takes everything, and keeps it.
    #[derive(Default)]
    struct Taker(Mutex<Vec<(Vec<u32>, Vec<u8>)>>);

    #[async_trait]
    impl Deliverer for Taker {
        fn name(&self) -> &str {
            "taker"
        }

        async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
            let mut text = Vec::new();
            let mut reader = job.message.open().await.unwrap();
            while let Some(piece) = reader.next().await.unwrap() {
                text.extend_from_slice(&piece);
            }
            assert_eq!(job.message.size(), text.len() as u64);
            self.0.lock().unwrap().push((job.parcel.pending.clone(), text));
            let taken = DeliveryOutcome {
                result: DeliveryResult::Delivered(Handover::Final),
                remote: None,
                source: None,
                diagnostic: "taken".to_owned(),
            };
            vec![taken; job.parcel.pending.len()]
        }
    }

    struct NoNotes;

    #[async_trait]
    impl AttemptNotes for NoNotes {
        async fn final_dot(&self, _: &str) {}
    }

    async fn run(pending: &[u32], expected: &str) -> (Arc<Keeper>, Arc<Taker>) {
        let (keeper, taker) = (Arc::new(Keeper::default()), Arc::new(Taker::default()));
        let policy: Arc<dyn OutboundPolicy> = Arc::<Keeper>::clone(&keeper);
        let chain = OutboundChain::new(vec![(policy, Duration::from_secs(5))]);
        let parcel = Arc::new(Parcel { pending: pending.to_vec(), ..parcel(1, &TO, "there.test") });
        let transport: Arc<dyn Deliverer> = Arc::<Taker>::clone(&taker);
        let message = source(b"Subject: x\r\n\r\n");
        let outcomes = deliver(chain, transport, Arc::new(NoNotes), &parcel, message).await;
        let said: Vec<_> = outcomes.iter().map(|outcome| outcome.diagnostic.as_str()).collect();
        assert_eq!(said.join(", "), expected);
        assert_eq!(*keeper.0.lock().unwrap(), [pending.len()]);
        (keeper, taker)
    }

    #[tokio::test]
    async fn who_is_kept_back_is_not_tried_and_the_others_get_what_was_put_in_front() {
        let (_, taker) = run(&[0, 1, 2], "taken, 550 5.7.1 suppressed, taken").await;
        let whole = b"Seal: yes\r\nSubject: x\r\n\r\n".to_vec();
        assert_eq!(*taker.0.lock().unwrap(), [(vec![0, 2], whole)]);
        let (_, taker) = run(&[1], "550 5.7.1 suppressed").await;
        assert!(taker.0.lock().unwrap().is_empty());
    }

    /// A sender for each recipient, of its local part.
    struct Verp;

    #[async_trait]
    impl OutboundPolicy for Verp {
        fn name(&self) -> &str {
            "verp"
        }

        async fn send_as(&self, parcel: &Parcel) -> Result<SendAs, Failure> {
            let path = |to: &Recipient| format!("<list+{}@us.test>", to.address.local());
            let paths = parcel.recipients().map(|(_, to)| ReversePath::parse(&path(to)).unwrap());
            Ok(SendAs::Each(paths.collect()))
        }
    }

    /// Takes what is for the first, refuses the second, and is then gone.
    #[derive(Default)]
    struct Breaking(Mutex<Vec<String>>);

    #[async_trait]
    impl Deliverer for Breaking {
        fn name(&self) -> &str {
            "breaking"
        }

        async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
            let (_, to) = job.parcel.recipients().next().unwrap();
            self.0.lock().unwrap().push(format!("{} {}", job.parcel.reverse_path(), to.address));
            assert_eq!(job.parcel.pending.len(), 1);
            let (class, status) = (DeferClass::Connection, Status::NO_ANSWER);
            let result = match to.address.local().as_str() {
                "0" => DeliveryResult::Delivered(Handover::Final),
                "1" => DeliveryResult::Failed { status: "5.1.1".parse().unwrap() },
                _ => DeliveryResult::Deferred { status: status.with(Severity::Transient), class },
            };
            let diagnostic = to.address.local().to_string();
            vec![DeliveryOutcome { result, remote: None, source: None, diagnostic }]
        }
    }

    #[tokio::test]
    async fn recipients_with_senders_of_their_own_go_one_by_one() {
        let policy: Arc<dyn OutboundPolicy> = Arc::new(Verp);
        let chain = OutboundChain::new(vec![(policy, Duration::from_secs(5))]);
        let to = ["0@there.test", "1@there.test", "2@there.test", "3@there.test"];
        let parcel = Arc::new(parcel(1, &to, "there.test"));
        let breaking = Arc::new(Breaking::default());
        let transport: Arc<dyn Deliverer> = Arc::<Breaking>::clone(&breaking);
        let message = source(b"Subject: x\r\n\r\n");
        let outcomes = deliver(chain, transport, Arc::new(NoNotes), &parcel, message).await;
        let said: Vec<_> = outcomes.iter().map(|outcome| outcome.diagnostic.as_str()).collect();
        assert_eq!(said, ["0", "1", "2", "2"], "who is gone is not tried again");
        let seen = breaking.0.lock().unwrap();
        let expected: [String; 3] =
            std::array::from_fn(|n| format!("<list+{n}@us.test> {n}@there.test"));
        assert_eq!(*seen, expected);
    }
}
