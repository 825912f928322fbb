#![doc = include_str!("../docs/batv.md")]

use merpati_dsn::Batv;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{Failure, OutboundPolicy, SendAs, async_trait};
use merpati_types::{Domain, LocalPart, ReversePath, Timestamp};

use crate::addresses::read_batv;
use crate::stock::Environment;

/// Signs senders.
#[derive(Debug)]
pub struct BatvPolicy {
    batv: Batv,
    domains: Vec<Domain>,
    now: fn() -> Timestamp,
}

impl BatvPolicy {
    /// Signs the senders of these domains.
    #[must_use]
    pub fn new(batv: Batv, domains: Vec<Domain>, environment: &Environment) -> Self {
        Self { batv, domains, now: environment.now }
    }

    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options, environment: &Environment) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let read = read_batv(&mut reader);
        reader.finish()?;
        let (domains, batv) = read?;
        Ok(Self::new(batv, domains, environment))
    }
}

#[async_trait]
impl OutboundPolicy for BatvPolicy {
    fn name(&self) -> &str {
        "batv"
    }

    async fn send_as(&self, parcel: &Parcel) -> Result<SendAs, Failure> {
        let ReversePath::Mailbox(sender) = parcel.reverse_path() else {
            return Ok(SendAs::Itself);
        };
        let domain = sender.host().domain();
        if !domain.is_some_and(|domain| self.domains.contains(domain)) || is_srs(sender.local()) {
            return Ok(SendAs::Itself);
        }
        match self.batv.sign(sender, (self.now)()) {
            Ok(signed) => Ok(SendAs::All(ReversePath::Mailbox(signed))),
            Err(error) => {
                tracing::debug!(id = %parcel.id, %sender, %error, "sender not signed");
                Ok(SendAs::Itself)
            }
        }
    }
}

/// Such an address has a signature of its own.
pub(crate) fn is_srs(local: &LocalPart) -> bool {
    let mut bytes = local.as_str().bytes().map(|byte| byte.to_ascii_lowercase());
    bytes.by_ref().take(3).eq(*b"srs")
        && matches!(bytes.next(), Some(b'0' | b'1'))
        && matches!(bytes.next(), Some(b'=' | b'+' | b'-'))
}

#[cfg(test)]
mod tests {
    use merpati_dsn::BatvKey;
    use merpati_testkit::spool_contract::parcel;
    use merpati_types::Secret;

    use super::*;

    #[tokio::test]
    async fn our_senders_are_signed() {
        let domain = |text: &str| Domain::parse(text).unwrap();
        let now = || Timestamp::from_millis(1_795_444_077_000);
        let environment = Environment { now, ..Environment::new(domain("x.test")) };
        let batv = Batv::new(BatvKey::new(0, Secret::new(b"tops3cret".to_vec())));
        let policy = BatvPolicy::new(batv, vec![domain("sender.test")], &environment);
        let signed = "<prvs=078752fe19=alice@sender.test>";
        let long = format!("<{}@sender.test>", "a".repeat(50));
        for (sender, expected) in [
            ("<alice@sender.test>", signed),
            (signed, signed),
            ("<alice@other.test>", "<alice@other.test>"),
            ("<srs0+abcd=JM=x.test=a@sender.test>", "<srs0+abcd=JM=x.test=a@sender.test>"),
            ("<>", "<>"),
            (&long, &long),
        ] {
            let path = ReversePath::parse(sender).unwrap();
            let parcel = parcel(1, &["bob@x.test"], "x.test").under(path);
            let sent = match policy.send_as(&parcel).await.unwrap() {
                SendAs::All(path) => path.to_string(),
                SendAs::Itself => sender.to_owned(),
                SendAs::Each(_) => unreachable!("all recipients have one sender"),
            };
            assert_eq!(sent, expected);
        }
        let plain = LocalPart::from_content("srsly").unwrap();
        assert!(!is_srs(&plain));
    }
}
