//! Where mail is sent from: addresses of ours, alone or in pools, perhaps through a proxy.

mod choice;
mod explain;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use merpati_plugin::deliver::SourceRests;
use merpati_types::{Domain, Secret};

pub(crate) use choice::{ANYWHERE, Choice, NoSource};

/// A place to send from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// Its name in pools, logs and reports; `None` is that of a server that has no others.
    pub name: Option<Arc<str>>,
    /// Addresses to send from, at most one of each family. None leaves it to the system, or to the
    /// proxy. Where there are some, a named source sends to no address of another family.
    pub addresses: Vec<IpAddr>,
    /// The name we give in hello; `None` is the transport's.
    pub hello: Option<Domain>,
    /// How connections are made.
    pub via: Via,
}

/// How connections are made.
#[derive(Clone, Debug, Default)]
pub enum Via {
    /// By ourselves, from the source's address.
    #[default]
    Direct,
    /// By a SOCKS5 proxy (RFC 1928), from the address that it has.
    Socks5(Socks5),
    /// By HAProxy, or what understands the same, here: the PROXY header, version 2, says where to
    /// connect from and to.
    Haproxy(SocketAddr),
}

/// A SOCKS5 proxy.
#[derive(Clone, Debug)]
pub struct Socks5 {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who we are to it (RFC 1929); `None` is nobody.
    pub user: Option<SocksUser>,
}

/// A user of a SOCKS5 proxy.
#[derive(Clone, Debug)]
pub struct SocksUser {
    /// At most 255 octets, and not empty.
    pub name: String,
    /// The same.
    pub password: Secret<String>,
}

/// Sources between which messages are shared.
#[derive(Clone, Debug)]
pub struct SourcePool {
    /// The pool's name.
    pub name: Arc<str>,
    /// Who sends, and how large a share; 0 is none.
    pub members: Vec<(Arc<Source>, u32)>,
}

/// The sources of a server.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    pools: BTreeMap<Arc<str>, SourcePool>,
    default: Usual,
    rests: Arc<SourceRests>,
}

/// What messages are sent from for which nobody has chosen a pool.
#[derive(Clone, Debug)]
enum Usual {
    Unnamed(Arc<Source>),
    Pool(Arc<str>),
}

impl Default for Usual {
    fn default() -> Self {
        Self::Unnamed(Arc::default())
    }
}

impl Sources {
    /// Sends from these addresses, at most one of each family; none leaves it to the system.
    #[must_use]
    pub fn unnamed(addresses: Vec<IpAddr>) -> Self {
        let source = Source { addresses, ..Source::default() };
        Self { default: Usual::Unnamed(Arc::new(source)), ..Self::default() }
    }

    /// With a pool that messages may be sent from. One of the same name is replaced.
    #[must_use]
    pub fn with_pool(mut self, pool: SourcePool) -> Self {
        self.pools.insert(Arc::clone(&pool.name), pool);
        self
    }

    /// With a pool for all messages for which nobody has chosen another.
    #[must_use]
    pub fn by_default(self, pool: &str) -> Self {
        Self { default: Usual::Pool(pool.into()), ..self }
    }

    /// With this knowledge of who rests where, which others may share.
    #[must_use]
    pub fn resting(self, rests: Arc<SourceRests>) -> Self {
        Self { rests, ..self }
    }

    /// Whether there is a pool of this name.
    #[must_use]
    pub fn has_pool(&self, name: &str) -> bool {
        self.pools.contains_key(name)
    }

    /// The names of all pools.
    pub fn pools(&self) -> impl Iterator<Item = &str> {
        self.pools.keys().map(|name| &**name)
    }

    /// The names that sources give in hello.
    pub fn hellos(&self) -> impl Iterator<Item = &Domain> {
        self.all().filter_map(|source| source.hello.as_ref())
    }

    /// Every source that a message may be sent from.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Source>> {
        let unnamed = match &self.default {
            Usual::Unnamed(source) => Some(source),
            Usual::Pool(_) => None,
        };
        let members = self.pools.values().flat_map(|pool| &pool.members);
        unnamed.into_iter().chain(members.map(|(source, _)| source))
    }
}

impl Source {
    /// The address that connections to `to` come from, if that is known.
    pub(super) fn address_for(&self, to: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().find(|from| from.is_ipv4() == to.is_ipv4()).copied()
    }

    /// Whether it sends to this address at all.
    pub(super) fn reaches(&self, to: IpAddr) -> bool {
        self.name.is_none() || self.addresses.is_empty() || self.address_for(to).is_some()
    }
}

/// The source of a connection: two are the same if their names are, since a server's names do not
/// change.
#[derive(Clone, Debug, Default)]
pub(crate) struct SentFrom(pub(crate) Arc<Source>);

impl PartialEq for SentFrom {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for SentFrom {}

impl Hash for SentFrom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}
