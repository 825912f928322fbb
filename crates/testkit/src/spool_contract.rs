//! The contract every [`Spool`] keeps, as one suite.
//!
//! A backend implements [`Storage`] and calls [`check`] for each new, empty
//! storage the suite asks for. A failure panics and names the case.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use merpati_plugin::BodySource;
use merpati_plugin::spool::{
    Attributes, Change, Cursor, Durability, Filter, FollowUp, Lease, MessageInfo, NewMessage,
    NextHop, NextHops, Origin, Parcel, ParcelId, ParcelState, RecipientResult, Settlement, Spool,
    SpoolError,
};
use merpati_types::{
    Envelope, FieldName, FieldValue, HeaderEdit, HeaderEdits, Mailbox, MessageId, Recipient,
    ReversePath, Timestamp,
};

mod operators;

/// Storage that a spool can be closed on and opened again.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Opens the spool on what the storage holds.
    async fn open(&self) -> Arc<dyn Spool>;
}

/// When the suite's messages arrive.
pub const NOW: Timestamp = Timestamp::from_millis(1_795_420_800_000);

/// How long the suite leases for.
pub const TTL: Duration = Duration::from_secs(600);

/// Runs every case, each on a new, empty storage.
pub async fn check<S: Storage>(mut new_storage: impl FnMut() -> S) {
    let mut case = async |name: &str, run: Case| {
        let storage = new_storage();
        eprintln!("spool contract: {name}");
        run(&storage).await;
    };
    case("bodies read back", |storage| Box::pin(bodies_read_back(storage))).await;
    case("edits are applied", |storage| Box::pin(edits_are_applied(storage))).await;
    case("a dropped writer leaves nothing", |storage| Box::pin(dropped_writer(storage))).await;
    case("ids rise", |storage| Box::pin(ids_rise(storage))).await;
    case("parcels go their ways", |storage| Box::pin(parcels_go_their_ways(storage))).await;
    case("the earliest due goes first", |storage| Box::pin(earliest_first(storage))).await;
    case("leases are fenced", |storage| Box::pin(leases_are_fenced(storage))).await;
    case("outcomes are kept", |storage| Box::pin(outcomes_are_kept(storage))).await;
    case("follow-ups come with them", |storage| Box::pin(follow_ups(storage))).await;
    case("an attempt leaves a note", |storage| Box::pin(attempts_leave_a_note(storage))).await;
    case("waiting ends", |storage| Box::pin(waiting_ends(storage))).await;
    case("a closed spool refuses", |storage| Box::pin(closed_refuses(storage))).await;
    case("operators list", |storage| Box::pin(operators::list(storage))).await;
    case("operators hold", |storage| Box::pin(operators::hold(storage))).await;
    case("operators requeue", |storage| Box::pin(operators::requeue(storage))).await;
    case("operators delete", |storage| Box::pin(operators::delete(storage))).await;
}

type Case = for<'a> fn(&'a dyn Storage) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A message from `a@sender.test` to these recipients.
#[must_use]
pub fn message(recipients: &[&str]) -> NewMessage {
    let sender = ReversePath::parse("<a@sender.test>").expect("a path");
    let mut envelope = Envelope::new(sender);
    let mailbox = |text: &&str| Recipient::new(Mailbox::parse(text).expect("a mailbox"));
    envelope.recipients = recipients.iter().map(mailbox).collect();
    NewMessage {
        envelope,
        edits: HeaderEdits::default(),
        attributes: Attributes::default(),
        origin: Origin::default(),
        arrived: NOW,
    }
}

/// A parcel of message `id`, with all of these recipients pending.
#[must_use]
pub fn parcel(id: u64, recipients: &[&str], next_hop: &str) -> Parcel {
    Parcel {
        id: ParcelId { message: MessageId::from_u64(id), number: 0 },
        next_hop: NextHop::from_text(next_hop),
        info: Arc::new(MessageInfo { message: message(recipients), size: 0 }),
        pending: (0..).zip(recipients).map(|(place, _)| place).collect(),
        attempts: 0,
        due: NOW,
        warned: false,
        expired: false,
        last_reason: None,
        unknown_at: None,
        sent_as: None,
    }
}

/// A body of this length, with a header section and octets of every value.
#[must_use]
pub fn body(len: usize) -> Bytes {
    let start = b"Subject: x\r\nX-Long: y\r\n\r\n".iter().copied();
    start.chain((0..=255).cycle()).take(len).collect()
}

/// Writes and commits a message.
///
/// # Errors
/// As the spool says.
pub async fn put(
    spool: &dyn Spool,
    message: NewMessage,
    body: &Bytes,
) -> Result<MessageId, SpoolError> {
    let mut writer = spool.begin().await?;
    let id = writer.id();
    for chunk in body.chunks(50_000) {
        writer.write(body.slice_ref(chunk)).await?;
    }
    writer.commit(message, Durability::Sync).await?;
    Ok(id)
}

/// Reads a message as a transport does.
///
/// # Errors
/// As the spool says.
pub async fn read(spool: &dyn Spool, id: MessageId) -> Result<Vec<u8>, SpoolError> {
    let source = spool.message(id).await?;
    let mut reader = source.open().await?;
    let mut out = Vec::new();
    while let Some(piece) = reader.next().await.map_err(SpoolError::Unavailable)? {
        assert!(!piece.is_empty() && piece.len() <= 256 << 10, "pieces are neither empty nor big");
        out.extend_from_slice(&piece);
    }
    assert_eq!(out.len() as u64, source.size(), "the size is announced");
    Ok(out)
}

/// Leases everything due at `now`.
pub async fn lease(spool: &dyn Spool, now: Timestamp) -> Vec<(Lease, Parcel)> {
    spool.lease(now, TTL, &NextHops::All, 1000).await.expect("leases")
}

/// A settlement with these results, to be retried a minute later.
#[must_use]
pub fn settlement(results: Vec<(u32, RecipientResult)>) -> Settlement {
    let retry_at = NOW.after(Duration::from_secs(60));
    Settlement { results, retry_at, warned: false, follow_ups: Vec::new() }
}

fn deferred() -> RecipientResult {
    RecipientResult::Deferred { reason: "451 later".into() }
}

async fn reopen(storage: &dyn Storage, spool: Arc<dyn Spool>) -> Arc<dyn Spool> {
    spool.close().await;
    drop(spool);
    storage.open().await
}

async fn bodies_read_back(storage: &dyn Storage) {
    let mut spool = storage.open().await;
    let mut ids = Vec::new();
    let lengths = [0, 1, 25, 10_000, 256 << 10, (256 << 10) + 1, 3_000_000];
    for len in lengths {
        let mut writer = spool.begin().await.expect("begins");
        let body = body(len);
        let (head, tail) = body.split_at(len / 2);
        for part in [head, tail] {
            writer.write(body.slice_ref(part)).await.expect("writes");
            let written = writer.written().await.expect("can be read while written");
            assert!(matches!(written.size() as usize, n if n == len / 2 || n == len));
        }
        let written = writer.written().await.expect("can be read while written");
        assert_eq!(read_source(&*written).await, body, "{len} octets as written");
        ids.push(writer.id());
        writer.commit(message(&["b@c.test"]), Durability::Sync).await.expect("commits");
    }
    for _ in 0..3 {
        for (id, len) in ids.iter().zip(lengths) {
            assert_eq!(read(&*spool, *id).await.expect("reads"), body(len), "{len} octets");
        }
        assert_eq!(spool.stats().await.expect("counts").messages, ids.len() as u64);
        spool = reopen(storage, spool).await;
    }
    let unknown = spool.message(MessageId::from_u64(1)).await;
    assert!(matches!(unknown.err(), Some(SpoolError::NotFound)));
}

async fn read_source(source: &dyn BodySource) -> Vec<u8> {
    let mut reader = source.open().await.expect("opens");
    let mut out = Vec::new();
    while let Some(piece) = reader.next().await.expect("reads") {
        out.extend_from_slice(&piece);
    }
    out
}

async fn edits_are_applied(storage: &dyn Storage) {
    let spool = storage.open().await;
    let name = |text: &str| FieldName::new(text).expect("a name");
    let value = FieldValue::new("from here").expect("a value");
    let mut long = b"Subject: x\r\n".to_vec();
    (0..3000).for_each(|n| long.extend(format!("X-{n}: {}\r\n", "y".repeat(60)).bytes()));
    let cases: [(Bytes, &str, &str); 5] = [
        (body(1000), "Received: from here\r\nSubject: x\r\n\r\n", "whole"),
        (body(400_000), "Received: from here\r\nSubject: x\r\n\r\n", "in a file"),
        (Bytes::from_static(b"no header"), "Received: from here\r\nno header", "none"),
        // What the sender wrote continues no field of ours.
        (Bytes::from_static(b" fold\r\n"), "Received: from here\r\n\r\n fold", "a continuation"),
        (long.into(), "Received: from here\r\nSubject: x\r\nX-0: ", "beyond the limits"),
    ];
    for (body, expected, what) in cases {
        let mut new = message(&["b@c.test"]);
        new.edits.push(HeaderEdit::Prepend(name("Received"), value.clone()));
        new.edits.push(HeaderEdit::RemoveAll(name("X-Long")));
        let id = put(&*spool, new, &body).await.expect("commits");
        let read = read(&*spool, id).await.expect("reads");
        assert!(read.starts_with(expected.as_bytes()), "{what}");
        assert!(read.ends_with(&body[body.len().saturating_sub(300)..]), "{what}");
    }
}

async fn dropped_writer(storage: &dyn Storage) {
    let spool = storage.open().await;
    for len in [10, 1_000_000] {
        let mut writer = spool.begin().await.expect("begins");
        writer.write(body(len)).await.expect("writes");
    }
    let spool = reopen(storage, spool).await;
    assert_eq!(spool.stats().await.expect("counts").messages, 0);
    assert!(lease(&*spool, Timestamp::MAX).await.is_empty());
}

async fn ids_rise(storage: &dyn Storage) {
    let mut spool = storage.open().await;
    let mut last = MessageId::from_u64(0);
    for _ in 0..3 {
        for _ in 0..20 {
            let id = put(&*spool, message(&["b@c.test"]), &body(10)).await.expect("commits");
            assert!(id > last);
            last = id;
        }
        spool = reopen(storage, spool).await;
    }
}

async fn parcels_go_their_ways(storage: &dyn Storage) {
    let spool = storage.open().await;
    let recipients = ["a@one.test", "b@two.test", "c@ONE.test", "d@[192.0.2.1]"];
    let id = put(&*spool, message(&recipients), &body(10)).await.expect("commits");
    let hop = NextHop::from_text;
    let take = async |hops: NextHops, most: usize| {
        let leased = spool.lease(NOW, TTL, &hops, most).await.expect("leases");
        leased.iter().map(|(_, p)| p.next_hop.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(take(NextHops::Only(vec![hop("none.test")]), 9).await, [""; 0]);
    assert_eq!(take(NextHops::Only(vec![hop("two.test")]), 9).await, ["two.test"]);
    assert_eq!(take(NextHops::Only(vec![hop("two.test")]), 9).await, [""; 0], "it is leased");
    assert_eq!(take(NextHops::Except(vec![hop("one.test")]), 9).await, ["[192.0.2.1]"]);
    let leased = spool.lease(NOW, TTL, &NextHops::All, 9).await.expect("leases");
    let [(lease, parcel)] = &leased[..] else { panic!("one is left: {leased:?}") };
    assert_eq!((parcel.id.message, &parcel.pending[..]), (id, &[0, 2][..]));
    assert_eq!(parcel.info.message.envelope.recipients.len(), 4);
    assert_eq!((parcel.attempts, parcel.due, lease.until), (0, NOW, NOW.after(TTL)));
    let stats = spool.stats().await.expect("counts");
    assert_eq!((stats.messages, stats.leased, stats.active), (1, 3, 0));
}

async fn earliest_first(storage: &dyn Storage) {
    let spool = storage.open().await;
    let mut expected = Vec::new();
    for (seconds, recipient) in [(30, "a@one.test"), (10, "b@two.test"), (20, "c@one.test")] {
        let mut new = message(&[recipient]);
        new.attributes.not_before = Some(NOW.after(Duration::from_secs(seconds)));
        let id = put(&*spool, new, &body(10)).await.expect("commits");
        expected.push((seconds, id));
    }
    expected.sort_unstable();
    assert!(lease(&*spool, NOW).await.is_empty(), "not before its time");
    let later = NOW.after(Duration::from_secs(20));
    let leased = spool.lease(later, TTL, &NextHops::All, 1).await.expect("leases");
    assert_eq!(leased[0].1.id.message, expected[0].1);
    let ids: Vec<_> =
        lease(&*spool, Timestamp::MAX).await.iter().map(|(_, p)| p.id.message).collect();
    assert!(ids.contains(&expected[1].1) && ids.contains(&expected[2].1));
}

async fn leases_are_fenced(storage: &dyn Storage) {
    let spool = storage.open().await;
    put(&*spool, message(&["b@c.test"]), &body(10)).await.expect("commits");
    let (old, _) = lease(&*spool, NOW).await.remove(0);
    let end = NOW.after(TTL);
    assert!(lease(&*spool, Timestamp::from_millis(end.as_millis() - 1)).await.is_empty());
    let renewed = spool.renew(&old, end.after(TTL)).await.expect("renews");
    assert_eq!(renewed.until, end.after(TTL));
    assert!(lease(&*spool, end).await.is_empty(), "it was renewed");

    let (new, _) = lease(&*spool, end.after(TTL)).await.remove(0);
    assert!(new.fence > old.fence);
    let stale = |result: Result<(), SpoolError>, what: &str| {
        assert!(matches!(result, Err(SpoolError::StaleLease)), "{what}: {result:?}");
    };
    let delivered = || settlement(vec![(0, RecipientResult::Delivered)]);
    stale(spool.attempt(&renewed, "mx.test").await, "attempt");
    stale(spool.renew(&old, Timestamp::MAX).await.map(drop), "renew");
    stale(spool.release(old.clone(), NOW).await, "release");
    stale(spool.settle(old, delivered()).await, "settle");
    spool.release(new.clone(), NOW.after(TTL)).await.expect("releases");
    stale(spool.settle(new, delivered()).await, "settle after release");
    let (_, parcel) = lease(&*spool, NOW.after(TTL)).await.remove(0);
    assert_eq!((parcel.attempts, parcel.due), (0, NOW.after(TTL)));
}

async fn outcomes_are_kept(storage: &dyn Storage) {
    let mut spool = storage.open().await;
    let recipients = ["a@one.test", "b@one.test", "c@one.test", "d@two.test"];
    let id = put(&*spool, message(&recipients), &body(300_000)).await.expect("commits");
    for (lease, parcel) in lease(&*spool, NOW).await {
        let result = match parcel.next_hop.as_str() {
            "one.test" => Settlement {
                warned: true,
                ..settlement(vec![
                    (0, RecipientResult::Delivered),
                    (1, deferred()),
                    (2, RecipientResult::Failed { reason: "550 no".into() }),
                ])
            },
            _ => settlement(vec![(3, RecipientResult::Delivered)]),
        };
        spool.settle(lease, result).await.expect("settles");
    }
    let retry_at = settlement(Vec::new()).retry_at;
    for _ in 0..3 {
        assert!(lease(&*spool, NOW).await.is_empty(), "it is not due yet");
        let stats = spool.stats().await.expect("counts");
        assert_eq!((stats.messages, stats.deferred, stats.active), (1, 1, 0));
        let (lease, parcel) = lease(&*spool, retry_at).await.remove(0);
        assert_eq!((&parcel.pending[..], parcel.attempts), (&[1][..], 1));
        assert_eq!((parcel.warned, parcel.due), (true, retry_at));
        assert_eq!(parcel.last_reason.as_deref(), Some("451 later"));
        assert_eq!(read(&*spool, id).await.expect("reads"), body(300_000));
        spool.release(lease, retry_at).await.expect("releases");
        spool = reopen(storage, spool).await;
    }
    let (last, _) = lease(&*spool, retry_at).await.remove(0);
    spool.settle(last, settlement(vec![(1, RecipientResult::Delivered)])).await.expect("settles");
    for _ in 0..2 {
        let message = spool.message(id).await;
        assert!(matches!(message.err(), Some(SpoolError::NotFound)), "it is over");
        assert!(lease(&*spool, Timestamp::MAX).await.is_empty());
        spool = reopen(storage, spool).await;
    }
}

async fn follow_ups(storage: &dyn Storage) {
    let mut spool = storage.open().await;
    let bodies = [body(500), body(400_000)];
    put(&*spool, message(&["b@c.test"]), &body(10)).await.expect("commits");
    let (stale, _) = lease(&*spool, NOW).await.remove(0);
    let (fresh, _) = lease(&*spool, NOW.after(TTL)).await.remove(0);
    let failed = || {
        let mut dsn = message(&["a@sender.test"]);
        dsn.envelope.sender = ReversePath::Null;
        let follow_up = |body: &Bytes| FollowUp { message: dsn.clone(), body: body.clone() };
        Settlement {
            follow_ups: bodies.iter().map(follow_up).collect(),
            ..settlement(vec![(0, RecipientResult::Failed { reason: "550 no".into() })])
        }
    };
    let refused = spool.settle(stale, failed()).await;
    assert!(matches!(refused, Err(SpoolError::StaleLease)));
    assert_eq!(spool.stats().await.expect("counts").messages, 1, "nothing came of it");
    spool.settle(fresh, failed()).await.expect("settles");
    for _ in 0..2 {
        let leased = lease(&*spool, NOW.after(TTL)).await;
        assert_eq!(leased.len(), 2);
        for ((lease, parcel), body) in leased.into_iter().zip(&bodies) {
            assert_eq!(parcel.info.message.envelope.sender, ReversePath::Null);
            let read = read(&*spool, parcel.id.message).await.expect("reads");
            assert_eq!(read, &body[..]);
            spool.release(lease, NOW).await.expect("releases");
        }
        spool = reopen(storage, spool).await;
    }
}

async fn attempts_leave_a_note(storage: &dyn Storage) {
    let spool = storage.open().await;
    put(&*spool, message(&["b@c.test"]), &body(10)).await.expect("commits");
    let (leased, parcel) = lease(&*spool, NOW).await.remove(0);
    assert_eq!(parcel.unknown_at, None);
    spool.attempt(&leased, "mx.c.test").await.expect("notes");
    let spool = reopen(storage, spool).await;
    let (leased, parcel) = lease(&*spool, NOW).await.remove(0);
    assert_eq!(parcel.unknown_at.as_deref(), Some("mx.c.test"));
    spool.settle(leased, settlement(vec![(0, deferred())])).await.expect("settles");
    let spool = reopen(storage, spool).await;
    assert_eq!(lease(&*spool, Timestamp::MAX).await[0].1.unknown_at, None);
}

async fn waiting_ends(storage: &dyn Storage) {
    let spool = storage.open().await;
    let waiting = tokio::time::timeout(Duration::from_millis(20), spool.wait_due(NOW));
    assert!(waiting.await.is_err(), "there is nothing to wait for");
    let (_, id) = tokio::join!(spool.wait_due(NOW), async {
        tokio::task::yield_now().await;
        put(&*spool, message(&["b@c.test"]), &body(10)).await
    });
    let id = id.expect("commits");
    let (leased, parcel) = lease(&*spool, NOW).await.remove(0);
    assert_eq!(parcel.id.message, id);
    spool.release(leased, NOW.after(Duration::from_millis(10))).await.expect("releases");
    spool.wait_due(NOW).await;
    let (leased, _) = lease(&*spool, NOW.after(Duration::from_millis(10))).await.remove(0);
    tokio::join!(spool.wait_due(NOW), async {
        tokio::task::yield_now().await;
        spool.release(leased, NOW).await.expect("releases");
    });
    spool.close().await;
    spool.wait_due(NOW).await;
}

async fn closed_refuses(storage: &dyn Storage) {
    let spool = storage.open().await;
    let mut writer = spool.begin().await.expect("begins");
    writer.write(body(10)).await.expect("writes");
    spool.close().await;
    assert!(matches!(spool.begin().await.err(), Some(SpoolError::Unavailable(_))));
    let late = writer.commit(message(&["b@c.test"]), Durability::Sync).await;
    assert!(matches!(late, Err(SpoolError::Unavailable(_))));
    spool.close().await;
    drop(spool);
    let spool = storage.open().await;
    assert_eq!(spool.stats().await.expect("counts").messages, 0);
}
