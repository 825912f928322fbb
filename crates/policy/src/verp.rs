#![doc = include_str!("../docs/verp.md")]

use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::spool::Parcel;
use merpati_plugin::{Failure, OutboundPolicy, SendAs, async_trait};
use merpati_types::ReversePath;

use crate::addresses::{Owners, is_same, read_verp};

/// Gives each recipient of some senders a reverse path.
#[derive(Debug)]
pub struct VerpPolicy {
    owners: Owners,
}

impl VerpPolicy {
    /// Reads the options.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let owners = read_verp(&mut reader);
        reader.finish()?;
        Ok(Self { owners: owners? })
    }
}

#[async_trait]
impl OutboundPolicy for VerpPolicy {
    fn name(&self) -> &str {
        "verp"
    }

    async fn send_as(&self, parcel: &Parcel) -> Result<SendAs, Failure> {
        let ReversePath::Mailbox(sender) = parcel.reverse_path() else {
            return Ok(SendAs::Itself);
        };
        let owner = self.owners.iter().find(|(owner, _)| is_same(owner, sender));
        let Some((_, verp)) = owner else { return Ok(SendAs::Itself) };
        let paths = parcel.recipients().map(|(_, recipient)| {
            let path = verp.encode(&recipient.address).unwrap_or_else(|error| {
                let to = &recipient.address;
                tracing::debug!(id = %parcel.id, %to, %error, "no reverse path of its own");
                sender.clone()
            });
            ReversePath::Mailbox(path)
        });
        Ok(SendAs::Each(paths.collect()))
    }
}

#[cfg(test)]
mod tests {
    use merpati_testkit::spool_contract::parcel;

    use super::*;

    #[tokio::test]
    async fn each_recipient_has_a_sender() {
        let options = [("senders", ["list@lists.test"].into()), ("delimiters", "-=".into())];
        let policy = VerpPolicy::from_options(&Options::new(options)).unwrap();
        let long = format!("{}@x.test", "b".repeat(60));
        let parcel = parcel(1, &["a@x.test", &long, "b@x.test"], "x.test");
        let list = ReversePath::parse("<List@lists.test>").unwrap();
        let sent = policy.send_as(&parcel.under(list.clone())).await.unwrap();
        let path = |text: &str| ReversePath::parse(text).unwrap();
        let [a, b] = ["a", "b"].map(|to| path(&format!("<list-{to}=x.test@lists.test>")));
        assert_eq!(sent, SendAs::Each(vec![a, list, b]));
        for other in ["<other@lists.test>", "<>"] {
            let sent = policy.send_as(&parcel.under(path(other))).await.unwrap();
            assert_eq!(sent, SendAs::Itself);
        }
        let told = |entries: &[(&str, merpati_plugin::options::Value)]| -> Vec<String> {
            let options = Options::new(entries.iter().cloned());
            assert!(VerpPolicy::from_options(&options).is_err());
            options.errors().sorted().iter().map(ToString::to_string).collect()
        };
        let senders = || ("senders", ["list@lists.test"].into());
        assert_eq!(told(&[]), ["senders: `senders` is missing"]);
        let dash = told(&[senders(), ("delimiters", "+-".into())]);
        assert_eq!(dash, ["delimiters: '-' cannot part VERP addresses"]);
        let one = told(&[senders(), ("delimiters", "+".into())]);
        assert_eq!(one, ["delimiters: expected two characters, such as \"+=\""]);
    }
}
