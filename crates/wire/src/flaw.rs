//! What can be wrong with the bytes of a message body.

use std::fmt;

/// An octet that has no place in a message sent as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// A CR without an LF after it (RFC 5321 §2.3.8).
    BareCr,
    /// An LF without a CR before it (RFC 5321 §2.3.8).
    BareLf,
    /// A NUL octet (RFC 5321 §4.5.2 allows it to be refused; RFC 5322 has no place for it).
    Nul,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Flaw::BareCr => "bare CR",
            Flaw::BareLf => "bare LF",
            Flaw::Nul => "NUL",
        })
    }
}

/// The flaws of one body: where the first of each kind is.
///
/// Positions count octets of the decoded body from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flaws {
    bare_cr: Option<u64>,
    bare_lf: Option<u64>,
    nul: Option<u64>,
}

impl Flaws {
    /// Whether the body has none.
    pub fn is_empty(&self) -> bool {
        *self == Flaws::default()
    }

    /// Where the first flaw of this kind is.
    pub fn first(&self, flaw: Flaw) -> Option<u64> {
        match flaw {
            Flaw::BareCr => self.bare_cr,
            Flaw::BareLf => self.bare_lf,
            Flaw::Nul => self.nul,
        }
    }

    /// Whether a line end is broken: a CR or LF stands alone somewhere.
    pub fn has_bare_line_end(&self) -> bool {
        self.bare_cr.is_some() || self.bare_lf.is_some()
    }

    pub(crate) fn note(&mut self, flaw: Flaw, at: u64) {
        let slot = match flaw {
            Flaw::BareCr => &mut self.bare_cr,
            Flaw::BareLf => &mut self.bare_lf,
            Flaw::Nul => &mut self.nul,
        };
        slot.get_or_insert(at);
    }
}
