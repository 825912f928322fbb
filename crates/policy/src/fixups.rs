#![doc = include_str!("../docs/fixups.md")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use merpati_plugin::{
    Connection, Conversation, Effect, Effects, Message, Outcome, Policy, PolicyFactory,
    PolicyResult, Transaction, async_trait,
};
use merpati_types::{
    EditError, FieldName, FieldValue, HeaderEdit, HeaderEdits, HeaderSection, MessageId, Rejection,
    Status,
};

use crate::stock::Environment;

/// The fields that stand at most once (RFC 5322 §3.6).
const ONCE: [&str; 11] = [
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Subject",
];

/// Adds what a message lacks, refuses what cannot be mended.
#[derive(Clone)]
pub struct Fixups {
    shared: Arc<Shared>,
}

struct Shared {
    environment: Environment,
    /// Tells the messages of one millisecond apart.
    counter: AtomicU64,
}

impl Fixups {
    /// With the clock, the host name and the random seed of this environment.
    #[must_use]
    pub fn new(environment: Environment) -> Self {
        Self { shared: Arc::new(Shared { environment, counter: AtomicU64::new(0) }) }
    }
}

impl Shared {
    fn date(&self) -> String {
        (self.environment.now)().to_rfc5322()
    }

    /// `<time.random@hostname>`. The random part is the process's seed, so that two processes
    /// with one host name do not meet, and a counter, run through a permutation of all numbers.
    fn message_id(&self) -> String {
        let Environment { hostname, now, seed, .. } = &self.environment;
        let time = u64::try_from(now().as_millis()).unwrap_or(0);
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        // SplitMix64: an odd step and two multiply-xorshift rounds, each of which is invertible.
        let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let [time, mixed] = [time, mixed].map(MessageId::from_u64);
        format!("<{time}.{mixed}@{}>", hostname.as_ascii())
    }
}

impl PolicyFactory for Fixups {
    fn name(&self) -> &str {
        "fixups"
    }

    fn begin(&self, _connection: &Connection) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Policy for Fixups {
    async fn message(
        &mut self,
        _conversation: &Conversation,
        transaction: &Transaction,
        message: &Message<'_>,
    ) -> PolicyResult {
        let section = message.headers;
        let counts = count(section);
        if let Some(refusal) = judge(section, &counts, transaction.envelope.smtputf8) {
            return Ok(refusal.into());
        }
        let has = |name: &str| {
            let place = ONCE.iter().position(|once| *once == name);
            place.is_some_and(|place| counts[place] > 0) || adds(&transaction.edits, name)
        };
        if !has("From") {
            return Ok(Rejection::permanent(Status::CONTENT, "the From field is missing").into());
        }
        let mut effects = Effects::NONE;
        if !has("Date") {
            effects = effects.with(append("Date", &self.shared.date())?);
        }
        if !has("Message-ID") {
            effects = effects.with(append("Message-ID", &self.shared.message_id())?);
        }
        Ok(Outcome::effects(effects))
    }
}

/// How often each field of [`ONCE`] stands.
fn count(section: &HeaderSection) -> [u32; ONCE.len()] {
    let mut counts = [0; ONCE.len()];
    for field in section.fields() {
        if let Some(place) = ONCE.iter().position(|once| field.name().eq_ignore_ascii_case(once)) {
            counts[place] += 1;
        }
    }
    counts
}

fn judge(section: &HeaderSection, counts: &[u32], smtputf8: bool) -> Option<Rejection> {
    if let Some((name, _)) = ONCE.iter().zip(counts).find(|&(_, &count)| count > 1) {
        let text = format!("there is more than one {name} field");
        return Some(Rejection::permanent(Status::CONTENT, &text));
    }
    if smtputf8 {
        return None;
    }
    let field = section.fields().find(|field| !field.raw().is_ascii())?;
    let text = format!("the {} field is not ASCII; send it with SMTPUTF8", field.name());
    Some(Rejection::permanent(Status::UTF8_HEADER, &text))
}

fn adds(edits: &HeaderEdits, wanted: &str) -> bool {
    edits.iter().any(|edit| match edit {
        HeaderEdit::Prepend(name, _) | HeaderEdit::Append(name, _) => {
            name.as_str().eq_ignore_ascii_case(wanted)
        }
        _ => false,
    })
}

fn append(name: &str, value: &str) -> Result<Effect, EditError> {
    Ok(Effect::Header(HeaderEdit::Append(FieldName::new(name)?, FieldValue::new(value)?)))
}

#[cfg(test)]
mod tests {
    use merpati_types::{Domain, Timestamp};

    use super::*;
    use crate::fixture::Fixture;

    const DATE: &str = "Date: Mon, 23 Nov 2026 08:00:00 +0000\r\n";
    const MESSAGE_ID: &str = "Message-ID: <00001m83pph3v.5d4gp3m80p1f5@mail.test>\r\n";

    fn fixups() -> Fixups {
        let now = || Timestamp::from_millis(1_795_420_800_123);
        let hostname = Domain::parse("Mail.test").unwrap();
        Fixups::new(Environment { now, seed: 1, ..Environment::new(hostname) })
    }

    async fn check(header: &str, ruling: &str, added: &str) {
        let message = format!("{header}\r\nDate: body\r\n");
        let (answer, edited) = Fixture::of("192.0.2.1").message(fixups(), &message).await;
        assert_eq!(answer, ruling, "{header}");
        assert_eq!(edited, format!("{header}{added}"));
    }

    #[tokio::test]
    async fn what_is_missing_is_added() {
        let both = format!("{DATE}{MESSAGE_ID}");
        check("From: a@b.test\r\n", "proceed", &both).await;
        check("From: a@b.test\r\ndate: x\r\n", "proceed", MESSAGE_ID).await;
        check("From: a@b.test\r\nMESSAGE-ID: <x>\r\n", "proceed", DATE).await;
        check("Message-id: <x>\r\nFROM: a@b.test\r\nDate: x\r\n", "proceed", "").await;
        check("Resent-Date: x\r\nFrom: a\r\n b\r\n", "proceed", &both).await;
    }

    #[tokio::test]
    async fn what_cannot_be_mended_is_refused() {
        check("", "550 5.6.0 the From field is missing", "").await;
        check("Resent-From: a@b.test\r\n", "550 5.6.0 the From field is missing", "").await;
        for name in ONCE {
            let header = format!("From: a\r\n{name}: x\r\n{}: y\r\n", name.to_uppercase());
            let ruling = format!("550 5.6.0 there is more than one {name} field");
            check(&header, &ruling, "").await;
        }
        let ruling = "550 5.6.9 the Subject field is not ASCII; send it with SMTPUTF8";
        check("From: a\r\nSubject: a\r\n bé\r\n", ruling, "").await;
    }

    #[tokio::test]
    async fn smtputf8_and_earlier_policies_count() {
        let mut fixture = Fixture::of("192.0.2.1");
        fixture.transaction.envelope.smtputf8 = true;
        for (name, value) in [("From", "b"), ("DATE", "c"), ("Message-Id", "<d>")] {
            let edit = append(name, value).unwrap();
            fixture.transaction.apply(Effects::NONE.with(edit));
        }
        let (ruling, edited) = fixture.message(fixups(), "Subject: é\r\n\r\n").await;
        assert_eq!(ruling, "proceed");
        assert_eq!(edited, "Subject: é\r\nFrom: b\r\nDATE: c\r\nMessage-Id: <d>\r\n");
    }

    #[test]
    fn message_ids_differ() {
        let shared = fixups().shared;
        let ids: std::collections::HashSet<_> = (0..1_000).map(|_| shared.message_id()).collect();
        assert_eq!(ids.len(), 1_000);
    }
}
