#![doc = include_str!("../docs/trusted.md")]

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use merpati_plugin::{
    Connection, Conversation, Decision, Policy, PolicyFactory, PolicyResult, Transaction,
    async_trait,
};
use merpati_types::Recipient;

/// Who is trusted. By default nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedConfig {
    /// Peers with an address in one of these.
    pub networks: Vec<IpNet>,
    /// Peers with a verified client certificate that bears one of these names.
    pub certificates: Vec<String>,
    /// Peers that have authenticated.
    pub authenticated: bool,
}

impl TrustedConfig {
    /// Whether nobody can be trusted by it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.certificates.is_empty() && !self.authenticated
    }

    fn has_network_of(&self, address: IpAddr) -> bool {
        // A dual-stack listener sees IPv4 peers as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    fn has_one_of(&self, names: &[String]) -> bool {
        let listed = |name: &String| self.certificates.iter().any(|c| c.eq_ignore_ascii_case(name));
        names.iter().any(listed)
    }
}

/// Vouches for every recipient of trusted peers.
#[derive(Clone, Debug)]
pub struct Trusted {
    config: Arc<TrustedConfig>,
}

impl Trusted {
    /// With this configuration.
    #[must_use]
    pub fn new(config: TrustedConfig) -> Self {
        Self { config: Arc::new(config) }
    }
}

impl PolicyFactory for Trusted {
    fn name(&self) -> &str {
        "trusted"
    }

    fn begin(&self, connection: &Connection) -> Box<dyn Policy> {
        let by_network = self.config.has_network_of(connection.peer.ip());
        Box::new(Judge { config: Arc::clone(&self.config), by_network })
    }
}

struct Judge {
    config: Arc<TrustedConfig>,
    by_network: bool,
}

#[async_trait]
impl Policy for Judge {
    async fn rcpt(
        &mut self,
        conversation: &Conversation,
        _transaction: &Transaction,
        _recipient: &Recipient,
    ) -> PolicyResult {
        let by_account = || self.config.authenticated && conversation.account.is_some();
        let by_certificate = || {
            let tls = conversation.tls.as_ref();
            tls.is_some_and(|tls| self.config.has_one_of(&tls.client_names))
        };
        let trusted = self.by_network || by_account() || by_certificate();
        Ok(if trusted { Decision::Accept } else { Decision::Continue }.into())
    }
}

#[cfg(test)]
mod tests {
    use merpati_plugin::TlsFacts;

    use super::*;
    use crate::fixture::{Fixture, account};

    fn config(networks: &[&str], certificates: &[&str], authenticated: bool) -> TrustedConfig {
        TrustedConfig {
            networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
            certificates: certificates.iter().map(ToString::to_string).collect(),
            authenticated,
        }
    }

    async fn check(config: TrustedConfig, fixture: Fixture, trusted: bool) {
        let case = format!("{config:?} {:?}", fixture.conversation);
        let (ruling, _) = fixture.rcpt(Trusted::new(config), "x@far.test").await;
        let expected = if trusted { "proceed" } else { "550 5.7.1 relay access denied" };
        assert_eq!(ruling, expected, "{case}");
    }

    #[tokio::test]
    async fn peers_are_trusted_by_their_address() {
        let nets = ["127.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"];
        for (peer, trusted) in [
            ("127.0.0.1", true),
            ("127.255.255.255", true),
            ("128.0.0.0", false),
            ("::ffff:127.0.0.1", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::1", false),
        ] {
            check(config(&nets, &[], false), Fixture::of(peer), trusted).await;
        }
        check(config(&["0.0.0.0/0"], &[], false), Fixture::of("::1"), false).await;
        check(TrustedConfig::default(), Fixture::of("127.0.0.1"), false).await;
        assert!(TrustedConfig::default().is_empty());
        assert!(!config(&["::1/128"], &[], false).is_empty());
    }

    #[tokio::test]
    async fn peers_are_trusted_by_their_certificate() {
        for (names, trusted) in [
            (&[][..], false),
            (&["other.test"], false),
            (&["other.test", "APP.test"], true),
            (&["sub.app.test"], false),
        ] {
            let mut fixture = Fixture::of("192.0.2.1");
            let client_names = names.iter().map(ToString::to_string).collect();
            fixture.conversation.tls = Some(TlsFacts { client_names, ..TlsFacts::default() });
            check(config(&[], &["app.test", "x@app.test"], false), fixture, trusted).await;
        }
    }

    #[tokio::test]
    async fn accounts_are_trusted_where_the_option_says_so() {
        for authenticated in [true, false] {
            let mut fixture = Fixture::of("192.0.2.1");
            fixture.conversation.account = Some(account(&[]));
            check(config(&[], &[], authenticated), fixture, authenticated).await;
            check(config(&[], &[], authenticated), Fixture::of("192.0.2.1"), false).await;
        }
    }
}
