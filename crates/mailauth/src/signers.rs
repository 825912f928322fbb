//! Who signs which message.

use std::collections::HashMap;
use std::sync::Arc;

use mail_parser::parsers::MessageStream;
use mail_parser::{Address, HeaderValue};
use merpati_types::{Domain, HeaderSection};

use crate::signer::DkimSigner;

/// For which authors a signer signs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Those of its domain.
    #[default]
    Exact,
    /// Those of its domain and of all domains below it. Their mail is aligned for DMARC unless
    /// `adkim=s` asks for more (RFC 7489 §3.1.1).
    Subdomains,
}

/// The signers of all domains, and which of them signs a message.
#[derive(Clone, Debug, Default)]
pub struct DkimSigners {
    by_domain: HashMap<Domain, (Arc<DkimSigner>, Scope)>,
}

impl DkimSigners {
    /// Adds a signer. One of the same domain that was there before is given back.
    pub fn insert(&mut self, signer: DkimSigner, scope: Scope) -> Option<Arc<DkimSigner>> {
        let domain = signer.domain().clone();
        self.by_domain.insert(domain, (Arc::new(signer), scope)).map(|(before, _)| before)
    }

    /// All signers, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DkimSigner>> {
        self.by_domain.values().map(|(signer, _)| signer)
    }

    /// Who signs for authors at `domain`: its own signer, or that of the closest domain above it
    /// that signs for what is below.
    #[must_use]
    pub fn for_domain(&self, domain: &Domain) -> Option<&Arc<DkimSigner>> {
        if let Some((signer, _)) = self.by_domain.get(domain) {
            return Some(signer);
        }
        let mut name = domain.as_ascii();
        while let Some((_, parent)) = name.split_once('.') {
            name = parent;
            // What is left of a domain may be none, such as digits alone.
            let Ok(parent) = Domain::parse(parent) else { continue };
            if let Some((signer, Scope::Subdomains)) = self.by_domain.get(&parent) {
                return Some(signer);
            }
        }
        None
    }

    /// Who signs a message with this header section: the signer of its author, and of several
    /// authors that of the first who has one.
    ///
    /// Nobody signs a message with several `From` fields: readers do not agree which of them
    /// counts (RFC 5322 §3.6 allows one).
    #[must_use]
    pub fn for_message(&self, header: &HeaderSection) -> Option<&Arc<DkimSigner>> {
        if self.by_domain.is_empty() {
            return None;
        }
        let mut fields = header.named("From");
        let (Some(from), None) = (fields.next(), fields.next()) else { return None };
        // The reader wants its line end.
        let value = [from.value(), b"\r\n"].concat();
        let HeaderValue::Address(authors) = MessageStream::new(&value).parse_address() else {
            return None;
        };
        let mut mailboxes: Box<dyn Iterator<Item = _>> = match &authors {
            Address::List(mailboxes) => Box::new(mailboxes.iter()),
            Address::Group(groups) => Box::new(groups.iter().flat_map(|group| &group.addresses)),
        };
        mailboxes.find_map(|mailbox| {
            let (_, domain) = mailbox.address.as_deref()?.rsplit_once('@')?;
            self.for_domain(&Domain::parse(domain.trim()).ok()?)
        })
    }
}

#[cfg(test)]
mod tests;
