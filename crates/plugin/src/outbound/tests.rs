//! What a chain makes of what its policies say.

use std::sync::Mutex;

use merpati_types::{
    Envelope, HeaderEdits, Mailbox, MessageId, Recipient, ReversePath, Status, Timestamp,
};

use super::*;
use crate::body::BodyReader;
use crate::spool::{Attributes, MessageInfo, NewMessage, NextHop, Origin, ParcelId, SpoolError};

/// What a policy does at each stage.
#[derive(Clone, Copy)]
enum Does {
    Nothing,
    Stops,
    Fails,
    Panics,
    Hangs,
}

struct Scripted {
    name: &'static str,
    does: Does,
    told: Mutex<Vec<usize>>,
}

impl Scripted {
    async fn act(&self) -> Result<Option<Rejection>, Failure> {
        match self.does {
            Does::Nothing => Ok(None),
            Does::Stops => Ok(Some(Rejection::permanent(Status::POLICY, self.name))),
            Does::Fails => Err(std::io::Error::other("a secret of the policy").into()),
            Does::Panics => panic!("a policy panics"),
            Does::Hangs => std::future::pending().await,
        }
    }
}

#[async_trait]
impl OutboundPolicy for Scripted {
    fn name(&self) -> &str {
        self.name
    }

    async fn route(&self, _: &Parcel) -> Result<Vec<Stopped>, Failure> {
        let why = self.act().await?;
        // The second recipient, and one that is not pending.
        let stop = |why: Rejection| [3, 9].map(|recipient| Stopped { recipient, why: why.clone() });
        Ok(why.map(stop).into_iter().flatten().collect())
    }

    async fn dial(&self, _: &Parcel, _: RemoteHost<'_>) -> Result<Leave, Failure> {
        Ok(self.act().await?.map_or(Leave::Proceed, Leave::Stop))
    }

    async fn tls(
        &self,
        _: &Parcel,
        _: RemoteHost<'_>,
        _: Option<&PeerTls>,
    ) -> Result<Leave, Failure> {
        Ok(self.act().await?.map_or(Leave::Proceed, Leave::Stop))
    }

    async fn send(&self, _: &Parcel, _: &dyn MessageSource) -> Result<Sending, Failure> {
        let field = Bytes::from(format!("{}: x\r\n", self.name));
        Ok(self.act().await?.map_or(Sending::With(field), Sending::Stop))
    }

    async fn outcome(&self, _: &Parcel, outcomes: &[DeliveryOutcome]) {
        self.told.lock().unwrap().push(outcomes.len());
        let _ = self.act().await;
    }
}

struct Empty;

#[async_trait]
impl MessageSource for Empty {
    fn size(&self) -> u64 {
        0
    }

    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Err(SpoolError::NotFound)
    }
}

/// Sends as it says.
struct As(fn(&Parcel) -> SendAs);

#[async_trait]
impl OutboundPolicy for As {
    fn name(&self) -> &str {
        "as"
    }

    async fn send_as(&self, parcel: &Parcel) -> Result<SendAs, Failure> {
        Ok(self.0(parcel))
    }
}

/// Of four recipients the first and the last are pending.
fn parcel() -> Parcel {
    let recipient = |n: u32| Recipient::new(Mailbox::parse(&format!("{n}@x.test")).unwrap());
    let sender = ReversePath::Null;
    let message = NewMessage {
        envelope: Envelope { recipients: (0..4).map(recipient).collect(), ..Envelope::new(sender) },
        edits: HeaderEdits::default(),
        attributes: Attributes::default(),
        origin: Origin::default(),
        arrived: Timestamp::from_millis(0),
    };
    Parcel {
        id: ParcelId { message: MessageId::from_u64(1), number: 0 },
        next_hop: NextHop::from_text("x.test"),
        info: Arc::new(MessageInfo { message, size: 0 }),
        pending: vec![0, 3],
        attempts: 0,
        due: Timestamp::from_millis(0),
        warned: false,
        expired: false,
        last_reason: None,
        unknown_at: None,
        sent_as: None,
    }
}

async fn check(policies: &[(&'static str, Does)], expected: [&str; 4]) {
    let scripted: Vec<_> = policies
        .iter()
        .map(|&(name, does)| Arc::new(Scripted { name, does, told: Mutex::default() }))
        .collect();
    let links = scripted.iter().map(|policy| {
        (Arc::<Scripted>::clone(policy) as Arc<dyn OutboundPolicy>, Duration::from_secs(5))
    });
    let chain = OutboundChain::new(links.collect());
    let (parcel, host) = (parcel(), RemoteHost { name: "mx.test", address: "[192.0.2.1]:25" });
    let word = |result: Result<(), Rejection>| {
        result.map_or_else(|why| why.to_string(), |()| "go".to_owned())
    };
    let route = chain.route(&parcel).await;
    let route: Vec<_> = route
        .into_iter()
        .map(|verdict| verdict.map_or_else(|| "go".to_owned(), |why| why.to_string()))
        .collect();
    let send = chain.send(&parcel, &Empty).await;
    let send = send.map_or_else(
        |why| why.to_string(),
        |fields| String::from_utf8_lossy(&fields).replace("\r\n", "|"),
    );
    let said = [
        route.join(" / "),
        word(chain.dial(&parcel, host).await),
        word(chain.tls(&parcel, host, None).await),
        send,
    ];
    assert_eq!(said.each_ref().map(String::as_str), expected);
    chain.outcome(&parcel, &[]).await;
    for policy in &scripted {
        assert_eq!(*policy.told.lock().unwrap(), [0], "everybody is told, whatever the others do");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_that_stops_counts_and_failures_defer() {
    let later = "451 4.3.0 temporary failure, try again later";
    let both = format!("{later} / {later}");
    check(&[], ["go / go", "go", "go", ""]).await;
    check(&[("a", Does::Nothing), ("b", Does::Nothing)], ["go / go", "go", "go", "b: x|a: x|"])
        .await;
    let stops = "550 5.7.1 b";
    check(
        &[("a", Does::Nothing), ("b", Does::Stops), ("c", Does::Fails)],
        [&format!("{later} / {stops}"), stops, stops, stops],
    )
    .await;
    for does in [Does::Fails, Does::Panics, Does::Hangs] {
        check(&[("a", does), ("b", Does::Stops)], [&both, later, later, later]).await;
    }
}

#[tokio::test]
async fn senders_are_rewritten_in_order() {
    fn path(local: &str) -> ReversePath {
        ReversePath::parse(&format!("<{local}@us.test>")).unwrap()
    }
    fn local(path: &ReversePath) -> String {
        path.mailbox().map_or_else(String::new, |mailbox| mailbox.local().to_string())
    }
    let itself: fn(&Parcel) -> SendAs = |_| SendAs::Itself;
    let marked: fn(&Parcel) -> SendAs =
        |parcel| SendAs::All(path(&format!("{}x", local(parcel.reverse_path()))));
    let each: fn(&Parcel) -> SendAs = |parcel| {
        let to = |recipient: &Recipient| path(&format!("to{}", recipient.address.local()));
        SendAs::Each(parcel.recipients().map(|(_, recipient)| to(recipient)).collect())
    };
    let too_few: fn(&Parcel) -> SendAs = |_| SendAs::Each(vec![path("a")]);
    for (policies, expected) in [
        (&[][..], "<> 0 3"),
        (&[itself], "<> 0 3"),
        (&[marked, itself, marked], "<xx@us.test> 0 3"),
        (&[each], "<to0@us.test> 0 / <to3@us.test> 3"),
        (&[marked, each, marked], "<to0x@us.test> 0 / <to3x@us.test> 3"),
        (&[each, each], "<to0@us.test> 0 / <to3@us.test> 3"),
        (&[too_few], "451 4.3.0 temporary failure, try again later"),
    ] {
        let link = |does: &fn(&Parcel) -> SendAs| {
            (Arc::new(As(*does)) as Arc<dyn OutboundPolicy>, Duration::from_secs(5))
        };
        let chain = OutboundChain::new(policies.iter().map(link).collect());
        let show = |part: &Arc<Parcel>| {
            let to = part.recipients().map(|(_, to)| to.address.local().to_string());
            format!("{} {}", part.reverse_path(), to.collect::<Vec<_>>().join(" "))
        };
        let said = match chain.send_as(&Arc::new(parcel())).await {
            Ok(parts) => parts.iter().map(show).collect::<Vec<_>>().join(" / "),
            Err(why) => why.to_string(),
        };
        assert_eq!(said, expected);
    }
}
