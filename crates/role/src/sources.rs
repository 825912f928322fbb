//! Where mail is sent from, as it is configured.

use std::sync::Arc;

use merpati_config::RoleConfig;
use merpati_config::sections;
use merpati_deliver::smtp::{Socks5, SocksUser, Source, SourcePool, Sources, Via};

/// The sources and pools of a configuration. A source's name is also that of a pool of its own.
pub(crate) fn sources(config: &RoleConfig) -> Sources {
    let made = |section: &sections::Source| Arc::new(source(section));
    let known: Vec<Arc<Source>> = config.sources.iter().map(made).collect();
    let mut sources = Sources::unnamed(config.deliver.source.clone());
    for source in &known {
        let Some(name) = &source.name else { continue };
        let members = vec![(Arc::clone(source), 1)];
        sources = sources.with_pool(SourcePool { name: Arc::clone(name), members });
    }
    for pool in &config.source_pools {
        // One that is not known is an error, and has been told.
        let member = |member: &sections::PoolMember| {
            let name = member.name.value.as_str();
            let source = known.iter().find(|source| source.name.as_deref() == Some(name))?;
            Some((Arc::clone(source), member.weight))
        };
        let members = pool.sources.iter().filter_map(member).collect();
        sources = sources.with_pool(SourcePool { name: pool.name.value.as_str().into(), members });
    }
    match &config.deliver.source_pool {
        Some(name) => sources.by_default(&name.value),
        None => sources,
    }
}

fn source(section: &sections::Source) -> Source {
    let via = match &section.via {
        None => Via::Direct,
        Some(sections::Via::Haproxy(address)) => Via::Haproxy(*address),
        Some(sections::Via::Socks5 { address, user }) => {
            let user = user.clone().map(|(name, password)| SocksUser { name, password });
            Via::Socks5(Socks5 { address: *address, user })
        }
    };
    Source {
        name: Some(section.name.value.as_str().into()),
        addresses: section.addresses.clone(),
        hello: section.hello.clone(),
        via,
    }
}
