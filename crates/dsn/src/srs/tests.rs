//! What others write is written and read alike; what nobody has signed is refused.

use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

const DAY: i64 = 86_400_000;
/// Mon, 23 Nov 2026, of which the time stamp is `JM`.
const NOW: i64 = 1_795_443_000_000;

fn secret(text: &str) -> Secret<Vec<u8>> {
    Secret::new(text.as_bytes().to_vec())
}

fn srs(key: &str, domain: &str) -> Srs {
    options(key, domain, SrsOptions::default())
}

fn options(key: &str, domain: &str, options: SrsOptions) -> Srs {
    Srs::new(Keyring::new(secret(key)), Domain::parse(domain).unwrap(), options)
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn address(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

fn reversed(srs: &Srs, text: &str, millis: i64) -> Result<String, SrsReverseError> {
    srs.reverse(&address(text), at(millis)).map(|mailbox| mailbox.to_string())
}

#[test]
fn what_others_write_is_written_and_read() {
    let mut count = 0;
    for line in include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split(' ').collect();
        let [_, key, seconds, sender, domain, written] = fields[..] else { panic!("{line}") };
        let now = seconds.parse::<i64>().unwrap() * 1_000;
        let separator = match written.as_bytes()[4] {
            b'+' => SrsSeparator::Plus,
            b'-' => SrsSeparator::Minus,
            _ => SrsSeparator::Equals,
        };
        let hash_length = u8::try_from(written[5..].find('=').unwrap()).unwrap();
        let srs =
            options(key, domain, SrsOptions { separator, hash_length, ..SrsOptions::default() });
        let own = srs.forward(&address(sender), at(now)).unwrap().to_string();
        // Hosts' letter case is kept by some; it is no part of the hash.
        assert!(own.eq_ignore_ascii_case(written), "{line}: {own}");
        assert_eq!(own[..5 + usize::from(hash_length)], written[..5 + usize::from(hash_length)]);
        let back = srs.reverse(&address(written), at(now)).unwrap();
        let expected = match sender.strip_prefix("SRS1=") {
            // Back to the first forwarder, over the heads of those between.
            Some(_) => "SRS0=",
            None => sender,
        };
        assert!(back.to_string().to_lowercase().starts_with(&expected.to_lowercase()), "{back}");
        count += 1;
    }
    assert!(count >= 20);
}

#[test]
fn a_message_is_forwarded_and_its_bounce_comes_back() {
    let hops = [srs("one", "one.test"), srs("two", "two.test"), srs("three", "three.test")];
    let mut sender = ReversePath::Mailbox(address("alice@sender.test"));
    for hop in &hops {
        sender = hop.forward_path(&sender, at(NOW)).unwrap();
        // Once more by the same hop changes nothing.
        assert_eq!(hop.forward_path(&sender, at(NOW)).unwrap(), sender);
    }
    let bounce = sender.mailbox().unwrap().clone();
    assert!(hops[2].is_srs(&bounce) && !hops[0].is_srs(&bounce));
    assert_eq!(hops[0].reverse(&bounce, at(NOW)), Err(SrsReverseError::NotSrs));
    let first = hops[2].reverse(&bounce, at(NOW + 20 * DAY)).unwrap();
    assert_eq!(first.host().to_string(), "one.test");
    assert_eq!(hops[0].reverse(&first, at(NOW + 20 * DAY)), Ok(address("alice@sender.test")));
    assert_eq!(hops[0].forward_path(&ReversePath::Null, at(NOW)), Ok(ReversePath::Null));
}

#[test]
fn addresses_come_back_until_they_are_old() {
    let srs = srs("tops3cret", "fwd.test");
    let text = "SRS0=+aFq=JM=sender.test=alice@fwd.test";
    for (days, expected) in [
        (-2, Some(1_022)),
        (-1, None),
        (0, None),
        (21, None),
        (22, Some(22)),
        (1_000, Some(1_000)),
        (1_024, None),
    ] {
        let expected = match expected {
            Some(days) => Err(SrsReverseError::Expired { days }),
            None => Ok("alice@sender.test".to_owned()),
        };
        assert_eq!(reversed(&srs, text, NOW + days * DAY), expected, "after {days} days");
    }
    // The time stamps begin anew every 1,024 days.
    let last = at(1_023 * DAY);
    let written = srs.forward(&address("a@x.test"), last).unwrap();
    assert!(written.to_string().contains("=77="), "{written}");
    assert!(srs.reverse(&written, at(1_030 * DAY)).is_ok());
}

#[test]
fn forged_and_odd_addresses_are_refused() {
    use SrsReverseError::{Forged, Malformed, NotSrs};
    let srs = srs("tops3cret", "fwd.test");
    let check = |local: &str, expected| {
        let mailbox = Mailbox::new(
            LocalPart::from_content(local).unwrap(),
            address("a@fwd.test").host().clone(),
        );
        let found = srs.reverse(&mailbox, at(NOW)).map(|mailbox| mailbox.to_string());
        assert_eq!(found, expected, "{local}");
    };
    let alice = || Ok("alice@sender.test".to_owned());
    check("SRS0=+aFq=JM=sender.test=alice", alice());
    check("SRS0++aFq=JM=sender.test=alice", alice());
    check("srs0-+AFQ=jm=SENDER.TEST=alice", Ok("alice@SENDER.TEST".to_owned()));
    check("SRS0=+aFq=JM=sender.test=ALICE", Ok("ALICE@sender.test".to_owned()));
    check("SRS0=+aFr=JM=sender.test=alice", Err(Forged));
    check("SRS0=+aFq=JN=sender.test=alice", Err(Forged));
    check("SRS0=+aFq=JM=sender.tesu=alice", Err(Forged));
    check("SRS0=+aFq=JM=sender.test=alicf", Err(Forged));
    // A shorter hash is easier to guess, and one of nothing needs no guess.
    check("SRS0=+aF=JM=sender.test=alice", Err(Forged));
    check("SRS0==JM=sender.test=alice", Err(Malformed));
    check(&format!("SRS0={}=JM=x=y", "a".repeat(28)), Err(Forged));
    check("SRS0=+aFq=JM=sender.test", Err(Malformed));
    check("SRS0=+aFq=JM=sender.test=", Err(Forged));
    check("SRS0=", Err(Malformed));
    check("SRS1=abcd", Err(Malformed));
    check("SRS1=abcd=one.test", Err(Malformed));
    check("SRS1=abcd=one.test==a=b=c=d", Err(Forged));
    // Without a hash it is the form of the first drafts, by which anybody could relay.
    check("SRS1=one.test==HHHH=TT=x.test=a", Err(Malformed));
    for ordinary in ["SRS0", "SRS01", "SRS2=a=b=c=d", "srs0.a", "alice", "SRSé0=a", ""] {
        check(ordinary, Err(NotSrs));
    }
}

#[test]
fn what_was_signed_is_checked_for_sense() {
    // Whoever shares the secret may have signed what is no address.
    let srs = srs("k", "fwd.test");
    let sign = |parts: &[&str]| srs.hash(srs.keys.current(), parts);
    let check = |local: String| {
        let found = reversed(&srs, &format!("{local}@fwd.test"), NOW);
        assert_eq!(found, Err(SrsReverseError::Malformed), "{local}");
    };
    check(format!("SRS0={}=J1=x.test=a", sign(&["J1", "x.test", "a"])));
    check(format!("SRS0={}=JMM=x.test=a", sign(&["JMM", "x.test", "a"])));
    check(format!("SRS0={}=JM=x_-.test=a", sign(&["JM", "x_-.test", "a"])));
    check(format!("SRS1={}=one.test=HHHH=TT=x=a", sign(&["one.test", "HHHH=TT=x=a"])));
}

#[test]
fn secrets_are_changed_without_losing_bounces() {
    let old = srs("old", "fwd.test");
    let written = old.forward(&address("alice@sender.test"), at(NOW)).unwrap();
    let domain = Domain::parse("fwd.test").unwrap();
    let keys = Keyring::new(secret("new")).with_older(secret("x")).with_older(secret("old"));
    let both = Srs::new(keys, domain.clone(), SrsOptions::default());
    assert!(both.reverse(&written, at(NOW)).is_ok());
    let new = srs("new", "fwd.test");
    assert_eq!(new.reverse(&written, at(NOW)), Err(SrsReverseError::Forged));
    // The newest signs.
    let written = both.forward(&address("alice@sender.test"), at(NOW)).unwrap();
    assert!(new.reverse(&written, at(NOW)).is_ok());
    assert!(old.reverse(&written, at(NOW)).is_err());
}

#[test]
fn senders_of_all_kinds() {
    let srs = srs("tops3cret", "fwd.test");
    let check = |sender: &str, expected: Result<&str, SrsForwardError>| {
        let found = srs.forward(&address(sender), at(NOW)).map(|mailbox| mailbox.to_string());
        let expected = expected.map(str::to_owned);
        assert_eq!(found, expected, "{sender}");
        if let Ok(written) = found {
            let back = srs.reverse(&address(&written), at(NOW));
            let unchanged = written == sender;
            assert!(unchanged || back == Ok(address(sender)), "{back:?}");
        }
    };
    let too_long = Err(SrsForwardError::TooLong { limit: 64 });
    check("me@FWD.test", Ok("me@FWD.test"));
    check("a@[192.0.2.1]", Err(SrsForwardError::Literal));
    // As pysrs 1.0.4 writes it.
    check("\"a b\"@x.test", Ok("\"SRS0=K8Fa=JM=x.test=a b\"@fwd.test"));
    check("\"\"@x.test", Ok("SRS0=bvHa=JM=x.test=@fwd.test"));
    check("a@bücher.test", Ok("SRS0=L0oo=JM=xn--bcher-kva.test=a@fwd.test"));
    check(&format!("{}@x.test", "a".repeat(45)), too_long);
    assert!(srs.forward(&address(&format!("{}@x.test", "a".repeat(44))), at(NOW)).is_ok());
    // What only looks like SRS1 is an address as any other; srslib 0.1.5 agrees.
    check("SRS1=odd@x.test", Ok("SRS0=zeGW=JM=x.test=SRS1=odd@fwd.test"));
    for odd in ["SRS1=h=one.test=@x.test", "SRS1=h=one.test=a@x.test", "SRS1=h=no_-==a@x.test"] {
        let written = srs.forward(&address(odd), at(NOW)).unwrap();
        assert!(written.local().as_str().starts_with("SRS0="), "{written}");
        assert_eq!(srs.reverse(&written, at(NOW)), Ok(address(odd)));
    }
}

#[test]
fn options_out_of_range_are_brought_into_it() {
    let odd = SrsOptions { hash_length: 0, max_age: u16::MAX, ..SrsOptions::default() };
    let srs = options("k", "fwd.test", odd);
    assert_eq!((srs.options.hash_length, srs.options.max_age), (1, 1_022));
    let long = SrsOptions { hash_length: 255, ..SrsOptions::default() };
    let srs = options("k", "fwd.test", long);
    let written = srs.forward(&address("a@x.test"), at(NOW)).unwrap();
    assert!(srs.reverse(&written, at(NOW)).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: RngSeed::Fixed(5_321),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Nothing that was not written comes back, and nothing panics.
    #[test]
    fn any_local_part_is_read(
        local in prop_oneof!["(SRS|srs)[01][=+-][A-Za-z=+/. é-]{0,40}", "\\PC{0,20}"],
        day in 0..3_000_i64,
    ) {
        let srs = srs("k", "fwd.test");
        if let Ok(local) = LocalPart::from_content(&local) {
            let mailbox = Mailbox::new(local, Domain::parse("fwd.test").unwrap());
            prop_assert!(srs.reverse(&mailbox, at(day * DAY)).is_err());
        }
    }

    /// What is written comes back.
    #[test]
    fn senders_come_back(local in "[a-zA-Z0-9=+. é\"\\\\-]{0,30}", day in 0..3_000_i64) {
        let srs = srs("k", "fwd.test");
        let Ok(local) = LocalPart::from_content(&local) else { return Ok(()) };
        let sender = Mailbox::new(local, Domain::parse("x.test").unwrap());
        if let Ok(written) = srs.forward(&sender, at(day * DAY)) {
            let read = address(&written.to_string());
            prop_assert_eq!(srs.reverse(&read, at((day + 21) * DAY)), Ok(sender));
        }
    }
}
