//! The registry of the stock policies, and what they take from outside.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use merpati_dsn::Classifier;
use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{OutboundPolicy, PolicyFactory, Tables};
use merpati_types::{Domain, Timestamp};

use crate::batv::BatvPolicy;
use crate::fixups::Fixups;
use crate::hold::{Hold, HoldConfig};
use crate::loops::{Loops, LoopsConfig};
use crate::quota::{Quota, QuotaConfig, Usage};
use crate::recipients::{Recipients, RecipientsError};
use crate::returned::{Returned, ReturnedConfig};
use crate::sender::{Sender, SenderConfig};
use crate::srs::SrsPolicy;
use crate::suppress::Suppress;
use crate::suppression::Suppression;
use crate::tell::Tell;
use crate::trusted::{Trusted, TrustedConfig};
use crate::verp::VerpPolicy;

/// The names of the stock policies.
pub const STOCK: [&str; 8] =
    ["fixups", "hold", "loops", "quota", "recipients", "returned", "sender", "trusted"];

/// The names of the stock outbound policies.
pub const STOCK_OUTBOUND: [&str; 4] = ["batv", "srs", "suppress", "verp"];

/// The stock outbound policy of this name, with these options; `None` if there is none of the
/// name. Its files are read again by making it anew.
///
/// # Errors
/// [`Invalid`]; what is wrong with the options has been recorded.
#[must_use]
pub fn find_outbound(
    name: &str,
    options: &Options,
    environment: &Environment,
) -> Option<Result<Arc<dyn OutboundPolicy>, Invalid>> {
    Some(match name {
        "batv" => BatvPolicy::from_options(options, environment).map(shared),
        "srs" => SrsPolicy::from_options(options, environment).map(shared),
        "suppress" => Suppress::from_options(options, environment).map(shared),
        "verp" => VerpPolicy::from_options(options).map(shared),
        _ => return None,
    })
}

fn shared(policy: impl OutboundPolicy + 'static) -> Arc<dyn OutboundPolicy> {
    Arc::new(policy)
}

/// Reads a policy's files again. What it had stays where that fails. Blocks on the disk.
pub type Reload = Arc<dyn Fn() -> Result<(), RecipientsError> + Send + Sync>;

/// A policy that is ready for its place in a chain.
#[derive(Clone)]
pub struct Stock {
    /// The policy.
    pub factory: Arc<dyn PolicyFactory>,
    /// For a policy with files of its own.
    pub reload: Option<Reload>,
}

impl Stock {
    /// The stock policy of this name, with these options; `None` if there is none of the name.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong with the options has been recorded.
    #[must_use]
    pub fn find(
        name: &str,
        options: &Options,
        environment: &Environment,
    ) -> Option<Result<Self, Invalid>> {
        Some(match name {
            "fixups" => {
                let read = options.reader().finish();
                read.map(|()| Fixups::new(environment.clone()).into())
            }
            "hold" => HoldConfig::from_options(options).map(|config| Hold::new(config).into()),
            "loops" => LoopsConfig::from_options(options).map(|config| Loops::new(config).into()),
            "quota" => QuotaConfig::from_options(options)
                .map(|config| Quota::new(config, environment.usage.clone()).into()),
            "recipients" => Recipients::from_options(options, environment).map(Self::from),
            "returned" => ReturnedConfig::from_options(options)
                .map(|config| Returned::new(config, environment).into()),
            "sender" => SenderConfig::from_options(options).map(|c| Sender::new(c).into()),
            "trusted" => TrustedConfig::from_options(options).map(|c| Trusted::new(c).into()),
            _ => return None,
        })
    }
}

impl From<Recipients> for Stock {
    fn from(recipients: Recipients) -> Self {
        let again = recipients.clone();
        Self { factory: Arc::new(recipients), reload: Some(Arc::new(move || again.reload())) }
    }
}

macro_rules! without_files {
    ($($policy:ty)*) => {$(
        impl From<$policy> for Stock {
            fn from(policy: $policy) -> Self {
                Self { factory: Arc::new(policy), reload: None }
            }
        }
    )*};
}

without_files! { Fixups Hold Loops Quota Returned Sender Trusted }

impl fmt::Debug for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stock").field(&self.factory.name()).finish()
    }
}

/// What the stock policies take from the process they run in.
#[derive(Clone)]
pub struct Environment {
    /// The name of this server.
    pub hostname: Domain,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Differs from process to process.
    pub seed: u64,
    /// How much is queued; connected once the queue is open.
    pub usage: Usage,
    /// The tables that options may name.
    pub tables: Tables,
    /// Who is not to be written to, if that is kept; connected once its ledger is open.
    pub suppression: Option<Suppression>,
    /// Tells what replies mean.
    pub classifier: Classifier,
    /// Who is told of reports; connected once there are observers.
    pub tell: Tell,
}

impl Environment {
    /// The system's clock, and a seed from the system's random numbers.
    #[must_use]
    pub fn new(hostname: Domain) -> Self {
        // Every `RandomState` of a process differs, and its first comes from the system.
        let seed = RandomState::new().hash_one(0_u8);
        Self {
            hostname,
            now: system_time,
            seed,
            usage: Usage::default(),
            tables: Tables::default(),
            suppression: None,
            classifier: Classifier::default(),
            tell: Tell::default(),
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

fn system_time() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use merpati_plugin::options::{Entry, Kind, Span, Value};

    use super::*;
    use crate::fixture::Fixture;

    fn find(name: &str, entries: &[(&str, Value)]) -> Result<Stock, Vec<String>> {
        let options = Options::new(entries.iter().cloned());
        let environment = Environment::new(Domain::parse("mx.host.test").unwrap());
        Stock::find(name, &options, &environment)
            .unwrap()
            .map_err(|Invalid| options.errors().sorted().iter().map(ToString::to_string).collect())
    }

    fn check(name: &str, entries: &[(&str, Value)], expected: &[&str]) {
        assert_eq!(find(name, entries).err().unwrap_or_default(), expected, "{name} {entries:?}");
    }

    /// An inline table.
    fn table<const N: usize>(entries: [(&str, Value); N]) -> Value {
        let entry = |(key, value): (&str, Value)| Entry {
            key: key.to_owned(),
            key_span: Span::default(),
            value,
        };
        Kind::Table(entries.into_iter().map(entry).collect()).into()
    }

    #[test]
    fn every_name_is_that_of_its_policy() {
        let options = Options::new([]);
        let environment = Environment::new(Domain::parse("mx.host.test").unwrap());
        for name in STOCK {
            if let Ok(stock) = Stock::find(name, &options, &environment).unwrap() {
                assert_eq!(stock.factory.name(), name);
            }
        }
        assert!(Stock::find("nothing", &options, &environment).is_none());
    }

    #[test]
    fn mistakes_are_told() {
        check("trusted", &[("networks", ["::1", "192.0.2.0/24"].into())], &[]);
        check("trusted", &[("authenticated", true.into())], &[]);
        check("trusted", &[("certificates", ["app.test"].into())], &[]);
        let nobody = "nobody is trusted: set `networks`, `certificates` or `authenticated`";
        check("trusted", &[], &[nobody]);
        check(
            "trusted",
            &[("networks", ["192.0.2.0/33", "::1"].into()), ("certificate", true.into())],
            &[
                "networks[0]: `192.0.2.0/33` is neither an address nor a network \
                 (write \"192.0.2.0/24\", \"192.0.2.1\" or \"2001:db8::/32\")",
                "certificate: unknown key `certificate` (did you mean `certificates`?)",
            ],
        );
        check("sender", &[("allow_null", true.into())], &[]);
        check(
            "sender",
            &[("allow_null", 1.into())],
            &["allow_null: expected `true` or `false`, found an integer"],
        );
        check("fixups", &[], &[]);
        check(
            "fixups",
            &[("date", true.into())],
            &["date: unknown key `date` (nothing is known here)"],
        );
        check("hold", &[], &[]);
        check("hold", &[("domains", ["b.test"].into()), ("reason", "later".into())], &[]);
        check("hold", &[("reason", true.into())], &["reason: expected a string, found a boolean"]);
        check("quota", &[("whole", table([("messages", 5.into())]))], &[]);
        let gibibyte = table([("bytes", "1GiB".into())]);
        check("quota", &[("when_full", "close".into()), ("sender", gibibyte)], &[]);
        let nothing = "nothing is bounded: set a bound, such as `whole`";
        check("quota", &[("when_full", "close".into())], &[nothing]);
        check(
            "quota",
            &[("sender", table([])), ("account", table([("octets", 5.into())]))],
            &[
                "account.octets: unknown key `octets` (known: `bytes`, `messages`)",
                "sender: expected `messages`, `bytes`, or both",
            ],
        );
        check("loops", &[("limit", 30.into())], &[]);
        check("loops", &[("limit", 0.into())], &["limit: 0 is not between 1 and 1000"]);
    }

    #[tokio::test]
    async fn recipients_are_read_and_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "bob@a.test\n").unwrap();
        let path = path.display().to_string();
        let file = || ("file", Value::from(path.as_str()));
        let domains = || ("domains", Value::from(["a.test"]));
        let postmaster = |address: &'static str| ("postmaster", Value::from(address));

        check("recipients", &[], &["domains: `domains` is missing", "file: `file` is missing"]);
        check(
            "recipients",
            &[file(), domains(), postmaster("eve@a.test")],
            &[&format!("postmaster: `postmaster` is eve@a.test, which is not in {path}")],
        );
        check(
            "recipients",
            &[("file", "/nowhere/file".into()), domains(), ("separator", "ab".into())],
            &[
                "separator: expected one character",
                "file: cannot read /nowhere/file: No such file or directory (os error 2)",
            ],
        );
        let none = ("separator", Value::from(""));
        let stock = find("recipients", &[file(), domains(), postmaster("bob@a.test"), none]);
        let stock = stock.unwrap();
        let ask = |address: &'static str| {
            let stock = stock.clone();
            async move { Fixture::of("192.0.2.1").rcpt(stock, address).await.0 }
        };
        assert_eq!(ask("bob@a.test").await, "proceed");
        assert_eq!(ask("bob+x@a.test").await, "550 5.1.1 no such mailbox here");
        std::fs::write(&path, "bob@a.test\neve@a.test\n").unwrap();
        stock.reload.as_ref().unwrap()().unwrap();
        assert_eq!(ask("eve@a.test").await, "proceed");
    }
}
