//! What operators do with a spool.

use super::{
    Change, Cursor, Duration, Filter, MessageId, NOW, NextHop, ParcelState, Spool, Storage, TTL,
    Timestamp, body, deferred, lease, message, put, reopen, settlement,
};

/// Five messages: the first deferred, the second leased, the third held, two parcels in the
/// fourth, the last from somebody else.
async fn fill(spool: &dyn Spool) -> Vec<MessageId> {
    let mut ids = Vec::new();
    put_with(spool, &mut ids, &["deferred@one.test"], |_| ()).await;
    let (first, _) = lease(spool, NOW).await.remove(0);
    spool.settle(first, settlement(vec![(0, deferred())])).await.expect("settles");
    put_with(spool, &mut ids, &["leased@two.test"], |_| ()).await;
    lease(spool, NOW).await;
    put_with(spool, &mut ids, &["held@one.test"], |new| {
        new.attributes.hold = Some("quarantine".into());
    })
    .await;
    put_with(spool, &mut ids, &["x@one.test", "y@two.test"], |_| ()).await;
    put_with(spool, &mut ids, &["z@two.test"], |new| {
        new.arrived = Timestamp::from_millis(NOW.as_millis() - 1);
    })
    .await;
    ids
}

async fn put_with(
    spool: &dyn Spool,
    ids: &mut Vec<MessageId>,
    recipients: &[&str],
    change: impl FnOnce(&mut super::NewMessage),
) {
    let mut new = message(recipients);
    change(&mut new);
    ids.push(put(spool, new, &body(10)).await.expect("commits"));
}

/// Filters by what they find: messages by their place in [`fill`].
fn filters(ids: &[MessageId]) -> Vec<(Filter, Vec<usize>)> {
    let any = Filter::default;
    let state = |state| Filter { state: Some(state), ..any() };
    vec![
        (any(), vec![0, 1, 2, 3, 3, 4]),
        (Filter { id: Some(ids[3]), ..any() }, vec![3, 3]),
        (Filter { sender: Some("A@Sender".into()), ..any() }, vec![0, 1, 2, 3, 3, 4]),
        (Filter { sender: Some("nobody".into()), ..any() }, vec![]),
        (Filter { recipient: Some("X@one".into()), ..any() }, vec![3]),
        (Filter { next_hop: Some(NextHop::from_text("two.test")), ..any() }, vec![1, 3, 4]),
        (state(ParcelState::Deferred), vec![0]),
        (state(ParcelState::Leased), vec![1]),
        (state(ParcelState::Held), vec![2]),
        (state(ParcelState::Active), vec![3, 3, 4]),
        (Filter { arrived_before: Some(NOW), ..any() }, vec![4]),
        (Filter { reason: Some("451".into()), ..any() }, vec![0]),
        (Filter { id: Some(ids[0]), sender: Some("nobody".into()), ..any() }, vec![]),
    ]
}

async fn found(spool: &dyn Spool, filter: &Filter) -> Vec<MessageId> {
    let listed = spool.list(filter, None, 1000).await.expect("lists");
    listed.iter().map(|listed| listed.parcel.id.message).collect()
}

pub(super) async fn list(storage: &dyn Storage) {
    let spool = storage.open().await;
    let ids = fill(&*spool).await;
    for (filter, expected) in filters(&ids) {
        let expected: Vec<MessageId> = expected.into_iter().map(|place| ids[place]).collect();
        assert_eq!(found(&*spool, &filter).await, expected, "{filter:?}");
        // One at a time comes to the same.
        let (mut cursor, mut one_by_one) = (None, Vec::new());
        loop {
            let page = spool.list(&filter, cursor, 1).await.expect("lists");
            let Some(listed) = page.first() else { break };
            cursor = Some(Cursor(listed.parcel.id));
            one_by_one.push(listed.parcel.id.message);
        }
        assert_eq!(one_by_one, expected, "{filter:?} one by one");
    }
    let stats = spool.stats().await.expect("counts");
    assert_eq!((stats.messages, stats.active, stats.deferred), (5, 3, 1));
    assert_eq!((stats.held, stats.leased, stats.bytes), (1, 1, 50));
}

/// Changes all that matches, in steps of two parcels or so.
async fn change(spool: &dyn Spool, filter: &Filter, change: Change) -> u64 {
    let (mut after, mut changed) = (None, 0);
    loop {
        let step = spool.change(filter, &change, after, 2).await.expect("changes");
        changed += step.parcels;
        match step.next {
            Some(next) => after = Some(next),
            None => return changed,
        }
    }
}

pub(super) async fn hold(storage: &dyn Storage) {
    let mut spool = storage.open().await;
    let ids = fill(&*spool).await;
    let two = Filter { next_hop: Some(NextHop::from_text("two.test")), ..Filter::default() };
    assert_eq!(change(&*spool, &two, Change::Hold { reason: "site is moving".into() }).await, 3);
    assert_eq!(
        change(&*spool, &two, Change::Hold { reason: "again".into() }).await,
        0,
        "it is held already"
    );
    for _ in 0..2 {
        spool = reopen(storage, spool).await;
        let held = Filter { state: Some(ParcelState::Held), ..Filter::default() };
        assert_eq!(found(&*spool, &held).await, [ids[1], ids[2], ids[3], ids[4]]);
        let due: Vec<_> =
            lease(&*spool, NOW).await.into_iter().map(|(_, p)| p.id.message).collect();
        assert_eq!(due, [ids[3]], "the held are not leased");
    }
    let reason = Filter { reason: Some("MOVING".into()), ..Filter::default() };
    assert_eq!(change(&*spool, &reason, Change::Release { due: NOW.after(TTL) }).await, 3);
    assert_eq!(change(&*spool, &reason, Change::Release { due: NOW }).await, 0);
    spool = reopen(storage, spool).await;
    let due: Vec<_> =
        lease(&*spool, NOW).await.into_iter().map(|(_, p)| p.next_hop.to_string()).collect();
    assert_eq!(due, ["one.test"], "not before its time");
    assert_eq!(lease(&*spool, NOW.after(TTL)).await.len(), 5);
}

pub(super) async fn requeue(storage: &dyn Storage) {
    let spool = storage.open().await;
    let ids = fill(&*spool).await;
    let soon = NOW.after(Duration::from_secs(1));
    let first = Filter { id: Some(ids[0]), ..Filter::default() };
    assert_eq!(change(&*spool, &first, Change::Requeue { due: soon }).await, 1);
    let held = Filter { id: Some(ids[2]), ..Filter::default() };
    assert_eq!(change(&*spool, &held, Change::Requeue { due: soon }).await, 0, "it stays held");
    assert_eq!(change(&*spool, &first, Change::Expire { due: soon }).await, 1);
    let spool = reopen(storage, spool).await;
    let leased = lease(&*spool, soon).await;
    let parcel = leased.iter().map(|(_, p)| p).find(|p| p.id.message == ids[0]);
    assert_eq!(parcel.map(|p| (p.due, p.expired)), Some((soon, true)));
    assert_eq!(leased.iter().filter(|(_, p)| p.expired).count(), 1);
}

pub(super) async fn delete(storage: &dyn Storage) {
    let mut spool = storage.open().await;
    let ids = fill(&*spool).await;
    let leased = lease(&*spool, NOW).await.into_iter();
    let stale = leased.filter(|(_, p)| p.next_hop.as_str() == "two.test").map(|(lease, _)| lease);
    let two = Filter { next_hop: Some(NextHop::from_text("two.test")), ..Filter::default() };
    assert_eq!(change(&*spool, &two, Change::Delete).await, 3);
    for stale in stale {
        let settled = spool.settle(stale, settlement(vec![(0, deferred())])).await;
        assert!(matches!(settled, Err(super::SpoolError::StaleLease)), "it was deleted");
    }
    for _ in 0..2 {
        let left = found(&*spool, &Filter::default()).await;
        assert_eq!(left, [ids[0], ids[2], ids[3]]);
        spool = reopen(storage, spool).await;
    }
    assert_eq!(change(&*spool, &Filter::default(), Change::Delete).await, 3);
    assert_eq!(found(&*spool, &Filter::default()).await, []);
}
