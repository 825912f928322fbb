//! What is remembered of a domain's policy, and when it is fetched anew (RFC 8461 §3.3, §5.1).

use std::time::Duration;

use merpati_types::Timestamp;

use super::{Policy, PolicyId};
use crate::txt::NoRecord;

/// How often a policy is fetched again although its id is the same, so that it does not run out
/// while nobody looks (RFC 8461 §10.2); for a policy that counts less than twice as long, at half
/// its time.
pub const REFRESH_EVERY: Duration = Duration::from_secs(86_400);

/// How long a version that could not be fetched is left alone (RFC 8461 §3.3).
pub const RETRY_AFTER: Duration = Duration::from_secs(300);

/// A policy as it was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedPolicy {
    /// The policy.
    pub policy: Policy,
    /// The id that the record had.
    pub id: PolicyId,
    /// When it was fetched.
    pub fetched: Timestamp,
}

/// A stored policy that cannot be read back. It is as good as none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored policy is damaged")]
pub struct DamagedPolicy;

/// The first line of a stored policy.
const FORM: &str = "merpati-mta-sts 1";

impl CachedPolicy {
    /// From when on it no longer counts.
    #[must_use]
    pub fn expires(&self) -> Timestamp {
        self.fetched.after(self.policy.max_age)
    }

    /// Whether it counts.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        now < self.expires()
    }

    /// Whether it should be fetched again, even with the same id.
    #[must_use]
    pub fn is_stale(&self, now: Timestamp) -> bool {
        // Fetched in the future: the clock was wrong then, and would keep the policy too long.
        now < self.fetched || now.since(self.fetched) >= REFRESH_EVERY.min(self.policy.max_age / 2)
    }

    /// For storage: lines of text, the first of which names the form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (fetched, id) = (self.fetched.as_millis(), self.id.as_str());
        format!("{FORM}\n{fetched}\n{id}\n{}", self.policy).into_bytes()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`DamagedPolicy`], when it did not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DamagedPolicy> {
        let text = std::str::from_utf8(bytes).map_err(|_| DamagedPolicy)?;
        // The age comes last: without its line's end it may have lost digits.
        if !text.ends_with('\n') {
            return Err(DamagedPolicy);
        }
        let mut lines = text.splitn(4, '\n');
        let mut line = || lines.next().ok_or(DamagedPolicy);
        if line()? != FORM {
            return Err(DamagedPolicy);
        }
        let fetched = line()?.parse().map_err(|_| DamagedPolicy)?;
        let id = PolicyId::parse(line()?).ok_or(DamagedPolicy)?;
        let policy = Policy::parse_text(line()?).map_err(|_| DamagedPolicy)?;
        Ok(Self { policy, id, fetched: Timestamp::from_millis(fetched) })
    }
}

/// What the DNS said when asked for the `_mta-sts` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxtAnswer {
    /// There is a policy, of this version.
    Id(PolicyId),
    /// There is none, or none that can be used.
    NoRecord(NoRecord),
    /// It could not be found out now.
    Unknown,
}

impl From<Result<PolicyId, NoRecord>> for TxtAnswer {
    fn from(found: Result<PolicyId, NoRecord>) -> Self {
        match found {
            Ok(id) => Self::Id(id),
            Err(why) => Self::NoRecord(why),
        }
    }
}

/// Why a policy that the DNS speaks of is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFault {
    /// No connection, no answer in time, a status other than 200 (a redirect too), another media
    /// type, too long.
    #[error("the policy cannot be fetched")]
    Unreachable,
    /// The policy host's certificate is not valid.
    #[error("the policy host has no valid certificate")]
    Certificate,
    /// What was fetched is no policy.
    #[error("the policy is malformed")]
    Invalid,
}

/// What MTA-STS says of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sts<'a> {
    /// Nothing, and there never was anything.
    NoPolicy,
    /// This.
    Policy(&'a Policy),
    /// Nothing any more: the policy is too old, and there is no other.
    Expired,
    /// Nothing, although the DNS speaks of a policy: as if there were none (RFC 8461 §3.3), but
    /// it is reported.
    Unfetchable(FetchFault),
}

/// What to do before a domain's mail goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: [`Memory::state`] holds.
    Settled,
    /// Fetch the policy, and tell [`Memory::handle_policy`] or [`Memory::handle_failure`]. Until
    /// then [`Memory::state`] holds: where it has a policy, mail need not wait.
    Fetch(PolicyId),
}

/// What is known of one domain.
///
/// ```text
///   record's id    in memory                               step
///   none, unknown  –                                       settled: what is in memory counts
///   any            this version failed < 5 minutes ago     settled
///   any            nothing, expired, another id, stale     fetch
///   any            this id, fresh                          settled
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    cached: Option<CachedPolicy>,
    failed: Option<Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    id: PolicyId,
    at: Timestamp,
    fault: FetchFault,
}

impl Memory {
    /// What was stored.
    #[must_use]
    pub fn restored(cached: CachedPolicy) -> Self {
        Self { cached: Some(cached), failed: None }
    }

    /// The policy, to be stored; it may have expired.
    #[must_use]
    pub fn cached(&self) -> Option<&CachedPolicy> {
        self.cached.as_ref()
    }

    /// The DNS has been asked, as it is before every attempt. A recipient may fail for good only
    /// after this and the step it asks for (RFC 8461 §5.1).
    pub fn handle_record(&mut self, answer: &TxtAnswer, now: Timestamp) -> Step {
        let id = match answer {
            TxtAnswer::Id(id) => id,
            // RFC 8461 §3.3: who can hide the record must not be able to take the policy away.
            TxtAnswer::Unknown => return Step::Settled,
            TxtAnswer::NoRecord(_) => {
                self.failed = None;
                return Step::Settled;
            }
        };
        let rests = |failure: &Failure| {
            failure.id == *id && failure.at <= now && now.since(failure.at) < RETRY_AFTER
        };
        if self.failed.as_ref().is_some_and(rests) {
            return Step::Settled;
        }
        let fresh =
            |cached: &CachedPolicy| cached.id == *id && cached.counts(now) && !cached.is_stale(now);
        match &self.cached {
            Some(cached) if fresh(cached) => Step::Settled,
            _ => Step::Fetch(id.clone()),
        }
    }

    /// The policy has been fetched.
    pub fn handle_policy(&mut self, id: PolicyId, policy: Policy, now: Timestamp) {
        self.cached = Some(CachedPolicy { policy, id, fetched: now });
        self.failed = None;
    }

    /// The policy could not be fetched. An earlier one counts until it expires, whatever its id
    /// (RFC 8461 §3.3).
    pub fn handle_failure(&mut self, id: PolicyId, fault: FetchFault, now: Timestamp) {
        self.failed = Some(Failure { id, at: now, fault });
    }

    /// What counts.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> Sts<'_> {
        match (&self.cached, &self.failed) {
            (Some(cached), _) if cached.counts(now) => Sts::Policy(&cached.policy),
            (_, Some(failure)) => Sts::Unfetchable(failure.fault),
            (Some(_), None) => Sts::Expired,
            (None, None) => Sts::NoPolicy,
        }
    }

    /// Whether the last try to renew a policy that counts failed: something to tell the operator
    /// (RFC 8461 §10.2), unless the policy says nothing.
    #[must_use]
    pub fn renewal_fails(&self, now: Timestamp) -> Option<FetchFault> {
        let cached = self.cached.as_ref().filter(|cached| cached.counts(now))?;
        let failure = self.failed.as_ref()?;
        (cached.policy.mode != super::Mode::None).then_some(failure.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(1_795_420_800_000 + seconds * 1_000)
    }

    fn id(text: &str) -> PolicyId {
        PolicyId::parse(text).unwrap()
    }

    fn policy(mode: &str, max_age: i64) -> Policy {
        let text = format!("version: STSv1\nmode: {mode}\nmx: *.a.test\nmax_age: {max_age}\n");
        Policy::parse(text.as_bytes()).unwrap()
    }

    /// One line each: seconds, what happens (`id X`, `none`, `unknown`, `got X MODE MAX_AGE`,
    /// `failed X`), `->`, what to do, `|`, what counts.
    fn check(script: &str) {
        let mut memory = Memory::default();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (event, expected) = line.split_once(" -> ").unwrap();
            let words: Vec<&str> = event.split_whitespace().collect();
            let now = at(words[0].parse().unwrap());
            let step = match words[1..] {
                ["id", text] => memory.handle_record(&TxtAnswer::Id(id(text)), now),
                ["none"] => memory.handle_record(&TxtAnswer::NoRecord(NoRecord::Absent), now),
                ["unknown"] => memory.handle_record(&TxtAnswer::Unknown, now),
                ["got", version, mode, max_age] => {
                    let policy = policy(mode, max_age.parse().unwrap());
                    memory.handle_policy(id(version), policy, now);
                    Step::Settled
                }
                ["failed", version] => {
                    memory.handle_failure(id(version), FetchFault::Unreachable, now);
                    Step::Settled
                }
                _ => panic!("{line}"),
            };
            let step = match step {
                Step::Settled => "settled".to_owned(),
                Step::Fetch(id) => format!("fetch {}", id.as_str()),
            };
            let state = match memory.state(now) {
                Sts::NoPolicy => "nothing".to_owned(),
                Sts::Policy(policy) => policy.mode.as_str().to_owned(),
                Sts::Expired => "expired".to_owned(),
                Sts::Unfetchable(_) => "unfetchable".to_owned(),
            };
            let alarm = if memory.renewal_fails(now).is_some() { " alarm" } else { "" };
            assert_eq!(format!("{step} | {state}{alarm}"), expected, "{line}");
        }
    }

    #[test]
    fn a_policy_is_fetched_kept_and_renewed() {
        check(
            "0      none                     -> settled | nothing
             1      unknown                  -> settled | nothing
             2      id 1                     -> fetch 1 | nothing
             3      got 1 enforce 604800     -> settled | enforce
             4      id 1                     -> settled | enforce
             86402  id 1                     -> settled | enforce
             86403  id 1                     -> fetch 1 | enforce
             86404  got 1 enforce 604800     -> settled | enforce
             86405  id 2                     -> fetch 2 | enforce
             86406  got 2 none 86400         -> settled | none
             129605 id 2                     -> settled | none
             129606 id 2                     -> fetch 2 | none
             172805 id 2                     -> fetch 2 | none
             172806 none                     -> settled | expired",
        );
    }

    #[test]
    fn what_fails_takes_nothing_away_until_it_expires() {
        check(
            "0      id 1                     -> fetch 1 | nothing
             1      got 1 enforce 1000       -> settled | enforce
             2      none                     -> settled | enforce
             3      unknown                  -> settled | enforce
             4      id 2                     -> fetch 2 | enforce
             5      failed 2                 -> settled | enforce alarm
             6      id 2                     -> settled | enforce alarm
             304    id 2                     -> settled | enforce alarm
             305    id 2                     -> fetch 2 | enforce alarm
             306    failed 2                 -> settled | enforce alarm
             307    id 3                     -> fetch 3 | enforce alarm
             1000   unknown                  -> settled | enforce alarm
             1001   unknown                  -> settled | unfetchable
             1002   id 3                     -> fetch 3 | unfetchable
             1003   none                     -> settled | expired
             1004   id 3                     -> fetch 3 | expired
             1005   got 3 testing 10         -> settled | testing
             1006   failed 3                 -> settled | testing alarm",
        );
        check(
            "0 id 1 -> fetch 1 | nothing
             1 failed 1 -> settled | unfetchable
             2 none -> settled | nothing",
        );
        // The clock went back a day: the policy is renewed, and counts meanwhile.
        check(
            "90000 got 1 enforce 604800 -> settled | enforce
             3600  id 1 -> fetch 1 | enforce
             3601  failed 1 -> settled | enforce alarm
             3602  id 1 -> settled | enforce alarm",
        );
        check("0 got 1 none 100 -> settled | none\n 1 failed 1 -> settled | none");
        check("0 got 1 enforce 0 -> settled | expired");
    }

    #[test]
    fn what_is_stored_is_read_back_or_known_to_be_damaged() {
        let cached =
            CachedPolicy { policy: policy("testing", DAY), id: id("2026Z"), fetched: at(5) };
        let bytes = cached.to_bytes();
        assert_eq!(CachedPolicy::from_bytes(&bytes).as_ref(), Ok(&cached));
        assert_eq!(Memory::restored(cached.clone()).cached(), Some(&cached));
        let text = "merpati-mta-sts 1\n1795420805000\n2026Z\nversion: STSv1\nmode: testing\n\
                    mx: *.a.test\nmax_age: 86400\n";
        assert_eq!(bytes, text.as_bytes());
        for (from, to) in [("sts 1", "sts 2"), ("1795", "x"), ("2026Z", ""), ("mode", "node")] {
            let damaged = text.replacen(from, to, 1);
            assert_eq!(CachedPolicy::from_bytes(damaged.as_bytes()), Err(DamagedPolicy), "{to}");
        }
        let read = |length: usize| CachedPolicy::from_bytes(&bytes[..length]);
        assert!((0..bytes.len()).all(|length| read(length).is_err()), "a part is not the whole");
    }
}
