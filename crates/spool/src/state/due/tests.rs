//! Order, fairness, and what is not in memory.

use super::*;

fn parcel(number: u64) -> ParcelId {
    ParcelId { message: MessageId::from_u64(number), number: 0 }
}

fn hop(name: &str) -> NextHop {
    NextHop::from_text(name)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn lane(flow: u64, priority: i8, name: &str) -> LaneKey {
    LaneKey { group: GroupKey { flow: Flow(flow), priority }, hop: hop(name) }
}

fn numbers(found: &Found) -> Vec<u64> {
    found.parcels.iter().map(|parcel| parcel.message.as_u64()).collect()
}

#[test]
fn the_earliest_come_first_across_next_hops_and_within_a_filter() {
    let mut queue = DueQueue::default();
    for (name, due, number) in
        [("a", 5, 1), ("a", 1, 2), ("b", 2, 3), ("b", 9, 4), ("c", 3, 5), ("a", 1, 6)]
    {
        queue.insert(&lane(0, 0, name), (at(due), parcel(number)));
    }
    let only = |names: &[&str]| NextHops::Only(names.iter().map(|name| hop(name)).collect());
    let except = |names: &[&str]| NextHops::Except(names.iter().map(|name| hop(name)).collect());
    let cases: [(i64, NextHops, usize, &[u64]); 8] = [
        (9, NextHops::All, 9, &[2, 6, 3, 5, 1, 4]),
        (3, NextHops::All, 9, &[2, 6, 3, 5]),
        (9, NextHops::All, 3, &[2, 6, 3]),
        (0, NextHops::All, 9, &[]),
        (9, except(&["a"]), 9, &[3, 5, 4]),
        (9, only(&["b", "a", "b"]), 3, &[2, 6, 3]),
        (9, only(&["c", "z"]), 9, &[5]),
        (9, NextHops::All, 0, &[]),
    ];
    for (now, hops, most, expected) in cases {
        assert_eq!(numbers(&queue.due(at(now), &hops, most)), expected, "{hops:?}");
    }
    assert_eq!(queue.earliest(), Some(at(1)));
    assert_eq!(queue.next_after(at(1)), Some(at(2)));
    queue.remove(&lane(0, 0, "a"), (at(1), parcel(2)));
    queue.remove(&lane(0, 0, "a"), (at(1), parcel(6)));
    assert_eq!(queue.earliest(), Some(at(2)));
    for (name, due, number) in [("a", 5, 1), ("b", 2, 3), ("b", 9, 4), ("c", 3, 5)] {
        queue.remove(&lane(0, 0, name), (at(due), parcel(number)));
    }
    assert_eq!((queue.earliest(), queue.groups.len()), (None, 0));
}

/// Takes `most` and leaves them out of the queue.
fn take(queue: &mut DueQueue, lanes: &[LaneKey], most: usize) -> Vec<u64> {
    let found = queue.due(at(100), &NextHops::All, most);
    for parcel in &found.parcels {
        for lane in lanes {
            queue.remove(lane, (at(1), *parcel));
            queue.remove(lane, (at(2), *parcel));
        }
    }
    numbers(&found)
}

#[test]
fn a_bulk_sender_delays_nobody_and_priority_gives_a_larger_share() {
    let bulk = lane(1, 0, "a");
    let lanes = [bulk.clone(), lane(2, 0, "a"), lane(3, 9, "a"), lane(4, -9, "a")];
    let mut queue = DueQueue::default();
    (0..10_000).for_each(|n| queue.insert(&bulk, (at(1), parcel(n))));
    assert_eq!(take(&mut queue, &lanes, 1000).len(), 1000, "alone, it gets everything");
    // A single message of somebody else is among the next two.
    queue.insert(&lanes[1], (at(2), parcel(20_000)));
    assert!(take(&mut queue, &lanes, 2).contains(&20_000));
    // High priority goes first, and low priority is not forgotten.
    (30_000..30_100).for_each(|n| queue.insert(&lanes[2], (at(2), parcel(n))));
    (40_000..40_100).for_each(|n| queue.insert(&lanes[3], (at(2), parcel(n))));
    let next = take(&mut queue, &lanes, 100);
    let high = next.iter().filter(|n| (30_000..40_000).contains(*n)).count();
    let low = next.iter().filter(|n| **n >= 40_000).count();
    assert!(high >= 90 && (1..=5).contains(&low), "{high} high, {low} low");
}

#[test]
fn a_lane_asks_for_what_is_not_in_memory_when_its_turn_comes() {
    let mut queue = DueQueue::default();
    let (a, b) = (lane(0, 0, "a"), lane(0, 0, "b"));
    queue.add_far(&a, (at(3), parcel(3)));
    queue.add_far(&a, (at(1), parcel(1)));
    queue.insert(&b, (at(2), parcel(2)));
    assert_eq!((queue.earliest(), queue.far_from(&a)), (Some(at(1)), Some((at(1), parcel(1)))));
    let found = queue.due(at(2), &NextHops::All, 9);
    assert_eq!((numbers(&found), &found.wanted), (vec![2], &vec![a.clone()]));
    let others = NextHops::Except(vec![hop("a")]);
    assert_eq!(queue.due(at(2), &others, 9).wanted, []);
    queue.remove_far(&a);
    queue.insert(&a, (at(1), parcel(1)));
    queue.advance_far(&a, (at(3), parcel(3)));
    let found = queue.due(at(2), &NextHops::All, 9);
    assert_eq!((numbers(&found), found.wanted), (vec![1, 2], vec![]));
    queue.remove_far(&a);
    assert_eq!(queue.far_from(&a), None);
}
