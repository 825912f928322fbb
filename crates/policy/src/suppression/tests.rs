//! The list over its life: restarts, expiry, limits.

use std::sync::Arc;

use merpati_testkit::disk::SimDisk;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const NOW: Timestamp = Timestamp::from_millis(1_795_444_077_000);

fn open(disk: &SimDisk) -> SuppressionList {
    let limits = SuppressionRules::default().ledger_limits();
    SuppressionList::new(Ledger::open(Arc::new(disk.clone()), limits).unwrap().0)
}

fn with(disk: &SimDisk, rules: SuppressionRules) -> Suppression {
    let suppression = Suppression::new(rules);
    suppression.connect(open(disk));
    suppression
}

fn address(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn subject(text: &str) -> Subject {
    text.parse().unwrap()
}

fn entry(until: Option<Timestamp>) -> Entry {
    let reason = "asked to".to_owned();
    Entry { source: Source::Operator, class: None, since: NOW, until, reason }
}

/// Who of these mail is kept from.
fn kept<'a>(list: &SuppressionList, now: Timestamp, all: &[&'a str]) -> Vec<&'a str> {
    all.iter().copied().filter(|text| list.find(&address(text), now).is_some()).collect()
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_power_cut() {
    let disk = SimDisk::new();
    let list = open(&disk);
    let later = NOW.after(DAY);
    for (who, until) in [("Bob@a.test", None), ("@gone.test", Some(later)), ("eve@a.test", None)] {
        list.add(subject(who), entry(until), 10).await.unwrap();
    }
    assert!(list.remove(subject("eve@A.test")).await.unwrap().is_some());
    assert!(list.remove(subject("eve@a.test")).await.unwrap().is_none());
    drop(list);
    for seed in 0..5 {
        let list = open(&disk.crash(seed));
        let all = ["bob@A.test", "anybody@gone.test", "eve@a.test", "a@sub.gone.test"];
        assert_eq!(kept(&list, NOW, &all), ["bob@A.test", "anybody@gone.test"]);
        assert_eq!(kept(&list, later, &all), ["bob@A.test"]);
        let found = list.find(&address("x@gone.test"), NOW).unwrap();
        assert_eq!(found, (subject("@gone.test"), entry(Some(later))));
        let page = list.list(None, 1, NOW, |_, _| true);
        assert_eq!(page, [(subject("@gone.test"), entry(Some(later)))]);
        let page = list.list(Some(&page[0].0), 9, NOW, |_, _| true);
        assert_eq!(page, [(subject("bob@a.test"), entry(None))]);
        assert!(list.list(None, 9, NOW, |_, entry| entry.class.is_some()).is_empty());
    }
}

#[tokio::test]
async fn bounces_count_by_class_and_time() {
    use BounceClass::{MailboxFull, UnknownUser};
    let disk = SimDisk::new();
    let rules = SuppressionRules { bounces: 2, within: 3 * DAY, ..SuppressionRules::default() };
    for (who, class, day, expected) in [
        ("a@x.test", UnknownUser, 0, false),
        ("A@x.test", MailboxFull, 0, false),
        ("b@x.test", UnknownUser, 0, false),
        // The first one is too old by now.
        ("a@x.test", UnknownUser, 3, false),
        ("A@X.test", UnknownUser, 5, true),
        // It is there already.
        ("a@x.test", UnknownUser, 5, false),
    ] {
        // Counts outlive the process.
        let suppression = with(&disk, rules.clone());
        let now = NOW.after(day * DAY);
        let bounce = Bounce { address: &address(who), class, why: "550 no" };
        let listed = suppression.bounced(&[bounce], now).await.unwrap();
        assert_eq!(listed, [expected], "{who} {class} on day {day}");
    }
    let list = open(&disk);
    let (_, found) = list.find(&address("a@x.test"), NOW.after(6 * DAY)).unwrap();
    assert_eq!((found.source, found.class), (Source::Bounce, Some(UnknownUser)));
    assert_eq!((found.reason.as_str(), found.until), ("550 no", Some(NOW.after(95 * DAY))));
    assert!(list.find(&address("a@x.test"), NOW.after(95 * DAY)).is_none());

    let never = with(&SimDisk::new(), SuppressionRules::default());
    let bounce = Bounce { address: &address("a@x.test"), class: UnknownUser, why: "" };
    assert_eq!(never.bounced(&[bounce], NOW).await.unwrap(), [false]);
}

#[tokio::test]
async fn complaints_add_and_what_is_in_force_stays() {
    let suppression = with(&SimDisk::new(), SuppressionRules::default());
    let list = suppression.list().unwrap();
    list.add(subject("a@x.test"), entry(Some(NOW.after(DAY))), 10).await.unwrap();
    let complain = async |days: u32| {
        let now = NOW.after(days * DAY);
        suppression.complained(&address("a@x.test"), "abuse", now).await.unwrap()
    };
    assert!(!complain(0).await);
    assert!(complain(1).await);
    let found = list.entry(&subject("a@x.test"), NOW.after(900 * DAY)).unwrap();
    assert_eq!((found.source, found.until), (Source::Complaint, None));
}

#[tokio::test]
async fn there_are_never_more_than_allowed() {
    let list = open(&SimDisk::new());
    let tomorrow = Some(NOW.after(DAY));
    for (who, until) in [("a@x.test", tomorrow), ("b@x.test", None)] {
        list.add(subject(who), entry(until), 2).await.unwrap();
    }
    let add = async |who: &str, since| {
        let entry = Entry { since, ..entry(None) };
        list.add(subject(who), entry, 2).await.map_err(|error| error.to_string())
    };
    let full = "the suppression list has 2 entries, the most it may have";
    assert_eq!(add("c@x.test", NOW).await, Err(full.to_owned()));
    assert_eq!(add("b@x.test", NOW).await, Ok(()), "it is replaced");
    assert_eq!(add("c@x.test", NOW.after(DAY)).await, Ok(()), "the expired one is forgotten");
    assert_eq!(kept(&list, NOW, &["a@x.test", "b@x.test", "c@x.test"]), ["b@x.test", "c@x.test"]);

    let rules = SuppressionRules { bounces: 9, most: 1, ..SuppressionRules::default() };
    let suppression = with(&SimDisk::new(), rules);
    let bounce = async |who: &str, days: u32| {
        let class = BounceClass::UnknownUser;
        let bounce = Bounce { address: &address(who), class, why: "" };
        suppression.bounced(&[bounce], NOW.after(days * DAY)).await.is_ok()
    };
    assert!(bounce("a@x.test", 0).await);
    assert!(!bounce("b@x.test", 0).await);
    assert!(bounce("b@x.test", 30).await, "the count that is too old is forgotten");
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_not_in_effect() {
    let disk = SimDisk::new();
    let list = open(&disk);
    disk.trouble(Some(merpati_testkit::disk::Fault::Io));
    assert!(list.add(subject("a@x.test"), entry(None), 9).await.is_err());
    assert!(list.find(&address("a@x.test"), NOW).is_none());
}

/// A message to many who are gone is one write, and those who find room are kept.
#[tokio::test]
async fn many_bounces_are_one_change() {
    let disk = SimDisk::new();
    let rules = SuppressionRules { bounces: 1, most: 3, ..SuppressionRules::default() };
    let suppression = with(&disk, rules);
    let addresses: Vec<_> =
        ["a", "b", "c", "d"].iter().map(|local| address(&format!("{local}@x.test"))).collect();
    let classes = [BounceClass::UnknownUser, BounceClass::Spam];
    let bounce = |address, class| Bounce { address, class, why: "no" };
    let two = [bounce(&addresses[0], classes[0]), bounce(&addresses[1], classes[1])];
    let before = disk.operations();
    assert_eq!(suppression.bounced(&two, NOW).await.unwrap(), [true, false]);
    let one_write = disk.operations() - before;
    let all: Vec<_> = addresses.iter().map(|address| bounce(address, classes[0])).collect();
    let before = disk.operations();
    let full = "the suppression list has 3 entries, the most it may have";
    assert_eq!(suppression.bounced(&all, NOW).await.unwrap_err().to_string(), full);
    assert!(disk.operations() - before <= one_write);
    let list = open(&disk.crash(1));
    let who = ["a@x.test", "b@x.test", "c@x.test", "d@x.test"];
    assert_eq!(kept(&list, NOW, &who), who[..3]);
}
