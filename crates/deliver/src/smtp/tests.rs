//! The transport against a server that follows a script.

mod hostile;
mod login;
mod many;
mod sink;
mod sources;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use merpati_plugin::deliver::{AttemptNotes, DeliveryResult, Handover, MessageSource};
use merpati_plugin::resolver::{Lookup, MxRecord};
use merpati_plugin::spool::SpoolError;
use merpati_plugin::{BodyReader, Dnssec, OutboundChain, ResolveError, Resolver};
use merpati_testkit::spool_contract::parcel;

use merpati_route::security::Override;
use merpati_types::Host;

use super::*;
use sink::{After, Script, Sink};

/// Nobody is asked: all hosts are addresses.
pub(crate) struct NoNames;

#[async_trait]
impl Resolver for NoNames {
    async fn mx(&self, _: &Domain) -> Lookup<MxRecord> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn addresses(&self, _: &Domain) -> Lookup<IpAddr> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn names(&self, _: IpAddr) -> Lookup<Domain> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }

    async fn txt(&self, _: &Domain) -> Lookup<Vec<u8>> {
        Err(ResolveError::NoData(Dnssec::Insecure))
    }
}

struct Pieces {
    piece: Bytes,
    count: usize,
}

#[async_trait]
impl MessageSource for Pieces {
    fn size(&self) -> u64 {
        (self.piece.len() * self.count) as u64
    }

    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(Left(vec![self.piece.clone(); self.count])))
    }
}

struct Left(Vec<Bytes>);

#[async_trait]
impl BodyReader for Left {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        Ok(self.0.pop())
    }
}

#[derive(Default)]
struct Notes {
    dots: AtomicU32,
    connections: AtomicU32,
}

#[async_trait]
impl AttemptNotes for Notes {
    async fn final_dot(&self, _: &str) {
        self.dots.fetch_add(1, Ordering::Relaxed);
    }

    fn connecting(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }
}

/// What became of a message to `recipients`: outcomes, final dots, connections.
struct Became {
    outcomes: Vec<DeliveryOutcome>,
    dots: u32,
    connections: u32,
}

async fn deliver(transport: &Smtp, recipients: &[&str], pieces: usize) -> Became {
    deliver_parcel(transport, parcel(1, recipients, "mail.test"), pieces).await
}

async fn deliver_parcel(transport: &Smtp, parcel: Parcel, pieces: usize) -> Became {
    let piece = Bytes::from(b"0123456789012345678901234567890123456789\r\n".repeat(6_000));
    let notes = Arc::new(Notes::default());
    let job = Job {
        parcel: Arc::new(parcel),
        message: Arc::new(Pieces { piece, count: pieces }),
        notes: Arc::<Notes>::clone(&notes),
        outbound: OutboundChain::default(),
    };
    let outcomes = transport.deliver(job).await;
    let count = |number: &AtomicU32| number.load(Ordering::Relaxed);
    Became { outcomes, dots: count(&notes.dots), connections: count(&notes.connections) }
}

fn host(address: SocketAddr) -> RelayHost {
    RelayHost { host: Host::Literal(address.ip()), port: Some(address.port()) }
}

fn transport(sink: &Sink, protocol: Protocol, tls: Option<Override>) -> Smtp {
    Smtp::new(config(sink, protocol, tls), Arc::new(NoNames)).unwrap()
}

fn config(sink: &Sink, protocol: Protocol, tls: Option<Override>) -> SmtpConfig {
    config_to(sink.address, protocol, tls)
}

fn config_to(address: SocketAddr, protocol: Protocol, tls: Option<Override>) -> SmtpConfig {
    SmtpConfig {
        name: "smtp".to_owned(),
        protocol,
        target: Target::Hosts(vec![host(address)]),
        port: 25,
        hello: "relay.test".to_owned(),
        tls: TlsSettings { wanted: tls, ..TlsSettings::default() },
        sts: None,
        tls_results: None,
        login: None,
        own_names: Vec::new(),
        barred: Barred::default(),
        sources: Arc::default(),
        recipients: 100,
    }
}

fn deferred(outcome: &DeliveryOutcome) -> DeferClass {
    match outcome.result {
        DeliveryResult::Deferred { class, .. } => class,
        _ => panic!("not deferred: {outcome:?}"),
    }
}

#[tokio::test]
async fn lmtp_answers_for_each_recipient() {
    let sink = Sink::start(Script {
        after: After::Says(&["250 2.1.5 one", "452 4.2.2 two is full", "550 5.1.1 no three"]),
        ..Script::default()
    })
    .await;
    let transport = transport(&sink, Protocol::Lmtp, Some(Override::None));
    let became = deliver(&transport, &["1@x.test", "2@x.test", "3@x.test"], 1).await;
    let [one, two, three] = &became.outcomes[..] else { panic!("three") };
    assert_eq!(one.result, DeliveryResult::Delivered(Handover::Final));
    assert_eq!(two.diagnostic, "452 4.2.2 two is full");
    assert!(matches!(three.result, DeliveryResult::Failed { .. }));
    assert_eq!((became.dots, became.connections), (1, 1));
    // The connection is kept, and used again.
    assert_eq!(deliver(&transport, &["1@x.test"], 1).await.connections, 0);
}

#[tokio::test]
async fn a_handshake_that_fails_is_followed_by_what_the_policy_says() {
    for (tls, expected) in [
        (None, None),
        (Some(Override::Encrypt), Some(DeferClass::Connection)),
        (Some(Override::Verify), Some(DeferClass::Connection)),
    ] {
        let sink = Sink::start(Script { breaks_tls: true, ..Script::default() }).await;
        let transport = transport(&sink, Protocol::Smtp, tls.clone());
        let became = deliver(&transport, &["1@x.test"], 1).await;
        let outcome = &became.outcomes[0];
        match expected {
            None => assert!(matches!(outcome.result, DeliveryResult::Delivered(_)), "{outcome:?}"),
            Some(class) => assert_eq!(deferred(outcome), class, "{tls:?}"),
        }
        assert_eq!(became.connections, if expected.is_none() { 2 } else { 1 });
        let mails = sink.heard().iter().filter(|line| line.starts_with("MAIL")).count();
        assert_eq!(mails, usize::from(expected.is_none()), "{tls:?}");
    }
}

#[tokio::test]
async fn a_reply_that_never_came_is_told() {
    let sink = Sink::start(Script { after: After::Closes, ..Script::default() }).await;
    let transport = transport(&sink, Protocol::Smtp, Some(Override::None));
    let became = deliver(&transport, &["1@x.test"], 1).await;
    assert_eq!(became.dots, 1);
    let diagnostic = &became.outcomes[0].diagnostic;
    assert!(diagnostic.ends_with("its reply is unknown"), "{diagnostic}");
    assert_eq!(deferred(&became.outcomes[0]), DeferClass::Connection);
}

/// A server may refuse a message in the middle of it and read no further.
#[tokio::test]
async fn a_refusal_in_the_middle_of_a_body_is_heard() {
    for (reply, fails) in [("552 5.3.4 too big", true), ("452 4.3.1 no room", false)] {
        let sink = Sink::start(Script { mid_body: Some(reply), ..Script::default() }).await;
        let transport = transport(&sink, Protocol::Smtp, Some(Override::None));
        let became = deliver(&transport, &["1@x.test"], 100).await;
        let outcome = &became.outcomes[0];
        assert_eq!(outcome.diagnostic, reply);
        assert_eq!(became.dots, 0);
        if fails {
            assert!(matches!(outcome.result, DeliveryResult::Failed { .. }), "{outcome:?}");
        } else {
            assert_eq!(deferred(outcome), DeferClass::Peer);
        }
    }
}
