//! A parcel whose recipients go different ways: one attempt, in as many jobs.

use std::sync::Arc;

use futures_util::future::join_all;
use merpati_plugin::deliver::{DeferClass, DeliveryOutcome};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{Deliverer, Job, async_trait};
use merpati_types::Rejection;

use super::attempt::broken;

/// Delivers each part of a parcel by a way of its own, all at once.
pub(super) struct Branches {
    name: String,
    parts: Vec<Part>,
}

/// Some recipients, and their way.
pub(super) struct Part {
    pub(super) places: Vec<u32>,
    pub(super) way: Way,
}

/// Where they go.
pub(super) enum Way {
    Deliver(Arc<dyn Deliverer>),
    Refuse(Rejection),
}

impl Branches {
    /// Parts that have each pending recipient once.
    pub(super) fn new(parts: Vec<Part>) -> Self {
        let name = |part: &Part| match &part.way {
            Way::Deliver(transport) => Some(transport.name().to_owned()),
            Way::Refuse(_) => None,
        };
        let names: Vec<_> = parts.iter().filter_map(name).collect();
        Self { name: names.join("+"), parts }
    }
}

#[async_trait]
impl Deliverer for Branches {
    fn name(&self) -> &str {
        &self.name
    }

    async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
        let Job { parcel, message, notes, outbound } = job;
        let attempts = self.parts.iter().map(|Part { places, way }| {
            let mut part = Parcel::clone(&parcel);
            part.pending.retain(|place| places.contains(place));
            let part = Arc::new(part);
            let job = Job {
                parcel: Arc::clone(&part),
                message: Arc::clone(&message),
                notes: Arc::clone(&notes),
                outbound: outbound.clone(),
            };
            async move {
                let outcomes = match way {
                    _ if part.pending.is_empty() => Vec::new(),
                    Way::Deliver(transport) => {
                        super::supervised::transmit(Arc::clone(transport), job).await
                    }
                    Way::Refuse(rejection) => {
                        let refused = DeliveryOutcome::refused(rejection, DeferClass::Local);
                        super::attempt::same(&part, refused)
                    }
                };
                part.pending.iter().copied().zip(outcomes).collect::<Vec<_>>()
            }
        });
        let mut known: Vec<_> = join_all(attempts).await.into_iter().flatten().collect();
        known.sort_by_key(|(place, _)| *place);
        let outcome = |place: &u32| match known.binary_search_by_key(place, |(known, _)| *known) {
            Ok(at) => known[at].1.clone(),
            // The router has left somebody out.
            Err(_) => broken("delivery failed"),
        };
        parcel.pending.iter().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use merpati_plugin::deliver::{AttemptNotes, DeliveryResult, Handover, MessageSource};
    use merpati_plugin::spool::SpoolError;
    use merpati_plugin::{BodyReader, OutboundChain};
    use merpati_testkit::spool_contract::parcel;
    use merpati_types::Status;

    use super::*;

    struct Nothing;

    #[async_trait]
    impl MessageSource for Nothing {
        fn size(&self) -> u64 {
            0
        }

        async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
            Err(SpoolError::NotFound)
        }
    }

    #[async_trait]
    impl AttemptNotes for Nothing {
        async fn final_dot(&self, _: &str) {}
    }

    /// Takes mail for whom it is asked, and says who that was.
    struct Takes(&'static str);

    #[async_trait]
    impl Deliverer for Takes {
        fn name(&self) -> &str {
            self.0
        }

        async fn deliver(&self, job: Job) -> Vec<DeliveryOutcome> {
            assert!(self.0 != "breaks", "it breaks");
            let outcome = |(_, recipient): (u32, &merpati_types::Recipient)| DeliveryOutcome {
                result: DeliveryResult::Delivered(Handover::Final),
                remote: None,
                source: None,
                diagnostic: format!("{} {}", self.0, recipient.address.local()),
            };
            job.parcel.recipients().map(outcome).collect()
        }
    }

    #[tokio::test]
    async fn each_part_goes_its_way_and_outcomes_keep_their_order() {
        let part = |places: &[u32], way| Part { places: places.to_vec(), way };
        let to = |name| Way::Deliver(Arc::new(Takes(name)) as Arc<dyn Deliverer>);
        let refused = Rejection::permanent(Status::NO_DOMAIN, "nobody");
        let branches = Branches::new(vec![
            part(&[4, 1], to("one")),
            part(&[0], to("two")),
            part(&[3], Way::Refuse(refused)),
            part(&[5], to("breaks")),
        ]);
        assert_eq!(branches.name(), "one+two+breaks");
        let recipients = ["a@x.test", "b@x.test", "c@x.test", "d@x.test", "e@x.test", "f@x.test"];
        let mut parcel = parcel(1, &recipients, "x.test");
        let mut check = async |pending: &[u32], expected: &[&str]| {
            parcel.pending = pending.to_vec();
            let job = Job {
                parcel: Arc::new(parcel.clone()),
                message: Arc::new(Nothing),
                notes: Arc::new(Nothing),
                outbound: OutboundChain::default(),
            };
            let outcomes = branches.deliver(job).await;
            let said: Vec<_> = outcomes.iter().map(|outcome| &*outcome.diagnostic).collect();
            assert_eq!(said, expected);
        };
        let broken = broken("delivery failed").diagnostic;
        let all = ["two a", "one b", &broken, "550 5.1.2 nobody", "one e", &broken];
        check(&[0, 1, 2, 3, 4, 5], &all).await;
        // A policy may keep some back.
        check(&[1, 3], &["one b", "550 5.1.2 nobody"]).await;
        check(&[4], &["one e"]).await;
    }
}
