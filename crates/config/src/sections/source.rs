//! `[[source]]` and `[[source_pool]]`: where mail is sent from.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use merpati_plugin::options::{Errors, Found, FromOption, Invalid, Located, Options, Reader};
use merpati_types::{Domain, Secret};

use super::Deliver;

/// `[[source]]`: an address of ours, or one of each family.
#[derive(Clone, Debug)]
pub struct Source {
    /// `name`: what pools call it, and logs. Needed.
    pub name: Located<String>,
    /// `addresses`: at most one of each family; where there are some, it sends to no address of
    /// another. Default: the choice of the system, or of the proxy.
    pub addresses: Vec<IpAddr>,
    /// `hello`: the name it gives; default `hostname`.
    pub hello: Option<Domain>,
    /// `via`: the proxy that connects; default none.
    pub via: Option<Via>,
}

/// `via`: the proxy that a source connects by.
#[derive(Clone, Debug)]
pub enum Via {
    /// `socks5`, perhaps with `user` and `password`: RFC 1928.
    Socks5 {
        /// Where it listens.
        address: SocketAddr,
        /// Name and password (RFC 1929): of 1 to 255 octets each.
        user: Option<(String, Secret<String>)>,
    },
    /// `haproxy`: takes a PROXY header of version 2.
    Haproxy(SocketAddr),
}

/// `[[source_pool]]`: sources between which messages are shared.
#[derive(Clone, Debug)]
pub struct SourcePool {
    /// `name`: what routes and policies choose it by. Needed; unlike every source's.
    pub name: Located<String>,
    /// `sources`: who is in it. Needed; the weight of one at least is not 0.
    pub sources: Vec<PoolMember>,
}

/// `{ name, weight }`: a source of a pool.
#[derive(Clone, Debug)]
pub struct PoolMember {
    /// `name`: the source's. Needed.
    pub name: Located<String>,
    /// `weight`: how large a share it has, up to 1000; 0 is none. Default 1.
    pub weight: u32,
}

impl Source {
    pub(crate) fn read(options: Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let name = name(&mut reader);
        let addresses: Vec<IpAddr> = reader.or("addresses", Vec::new());
        one_of_each_family(&mut reader, "addresses", &addresses);
        let hello = reader.optional("hello");
        let via = reader.optional("via");
        if matches!(via, Some(Via::Haproxy(_))) && addresses.is_empty() {
            reader
                .reject("via", "the proxy is told where to connect from: `addresses` are missing");
        }
        reader.finish()?;
        Ok(Self { name: name?, addresses, hello, via })
    }
}

impl SourcePool {
    pub(crate) fn read(options: Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let name = name(&mut reader);
        let sources = reader.required::<Vec<PoolMember>>("sources");
        if let Ok(sources) = &sources {
            if sources.iter().all(|member| member.weight == 0) {
                reader.reject("sources", "nobody is in it whose `weight` is not 0");
            }
            for (place, member) in sources.iter().enumerate() {
                if sources[..place].iter().any(|other| other.name.value == member.name.value) {
                    let message = format_args!("`{}` is in it already", member.name.value);
                    options.errors().report(&member.name.place, message);
                }
            }
        }
        reader.finish()?;
        Ok(Self { name: name?, sources: sources? })
    }
}

impl FromOption for PoolMember {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let options = found.table()?;
        let mut reader = options.reader();
        let name = reader.required("name");
        let weight = reader.ranged("weight", 0..=1_000, 1);
        reader.finish()?;
        Ok(Self { name: name?, weight })
    }
}

impl FromOption for Via {
    fn from_option(found: &Found<'_>) -> Result<Self, Invalid> {
        let options = found.table()?;
        let mut reader = options.reader();
        let socks5 = reader.optional::<SocketAddr>("socks5");
        let haproxy = reader.optional::<SocketAddr>("haproxy");
        let user = reader.optional::<String>("user");
        let password = reader.optional::<Secret<String>>("password");
        let fits = |length: usize| (1..=255).contains(&length);
        if user.as_ref().is_some_and(|user| !fits(user.len())) {
            reader.reject("user", "1 to 255 octets are expected (RFC 1929)");
        }
        if password.as_ref().is_some_and(|password| !fits(password.expose().len())) {
            reader.reject("password", "1 to 255 octets are expected (RFC 1929)");
        }
        let user = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => return Err(reader.reject("user", "`password` is missing")),
            (None, Some(_)) => return Err(reader.reject("password", "`user` is missing")),
        };
        if haproxy.is_some() && user.is_some() {
            reader.reject("user", "only a `socks5` proxy is told who we are");
        }
        reader.finish()?;
        match (socks5, haproxy) {
            (Some(address), None) => Ok(Self::Socks5 { address, user }),
            (None, Some(address)) => Ok(Self::Haproxy(address)),
            _ => Err(found.reject("either `socks5` or `haproxy` is expected")),
        }
    }
}

fn name(reader: &mut Reader<'_>) -> Result<Located<String>, Invalid> {
    let name = reader.required::<Located<String>>("name")?;
    // `*` is how lists show a source that rests everywhere; spaces would part them.
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match !name.value.is_empty() && name.value.len() <= 64 && name.value.chars().all(plain) {
        true => Ok(name),
        false => {
            Err(reader.reject("name", "1 to 64 letters, digits, `-`, `_` and `.` are expected"))
        }
    }
}

pub(super) fn one_of_each_family(reader: &mut Reader<'_>, key: &'static str, addresses: &[IpAddr]) {
    for family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        if addresses.iter().filter(|address| family(address)).count() > 1 {
            reader.reject(key, "more than one address of a family");
        }
    }
}

/// Whether names are told apart, and lead somewhere.
pub(crate) fn check(deliver: &Deliver, sources: &[Source], pools: &[SourcePool], errors: &Errors) {
    let names = sources.iter().map(|source| &source.name);
    let names: Vec<_> = names.chain(pools.iter().map(|pool| &pool.name)).collect();
    for (place, name) in names.iter().enumerate() {
        if names[..place].iter().any(|other| other.value == name.value) {
            let message = format_args!("there is a source or pool named `{}` already", name.value);
            errors.report(&name.place, message);
        }
    }
    let sources: BTreeSet<_> = sources.iter().map(|source| source.name.value.as_str()).collect();
    let sources: Vec<_> = sources.into_iter().collect();
    for member in pools.iter().flat_map(|pool| &pool.sources) {
        if !sources.contains(&member.name.value.as_str()) {
            errors.report_unknown(&member.name.place, &member.name.value, &sources);
        }
    }
    let Some(chosen) = &deliver.source_pool else { return };
    let names: Vec<_> = names.iter().map(|name| name.value.as_str()).collect();
    if !names.contains(&chosen.value.as_str()) {
        errors.report_unknown(&chosen.place, &chosen.value, &names);
    }
}
