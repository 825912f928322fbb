//! `/v1/suppression`: who is not written to.

use serde::{Deserialize, Serialize};

/// Why mail is kept from an address or a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionView {
    /// `local@domain`, or `@domain`, in lower case.
    pub who: String,
    /// `operator`, `bounce` or `complaint`.
    pub source: String,
    /// The class of the bounce, if it was one.
    pub class: Option<String>,
    /// RFC 3339.
    pub since: String,
    /// RFC 3339; none is for good.
    pub until: Option<String>,
    /// In words.
    pub reason: String,
}

/// Asks for a page of the list. Every field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuppressionListRequest {
    /// Of this source.
    pub source: Option<String>,
    /// Of this class.
    pub class: Option<String>,
    /// Address or domain contains this.
    pub who: Option<String>,
    /// Where the last page ended.
    pub after: Option<String>,
    /// How many at most; default 100, at most 1000.
    pub limit: Option<usize>,
}

/// A page of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressionPage {
    /// In the order of `who`.
    pub entries: Vec<SuppressionView>,
    /// Where the next page begins, if there may be one.
    pub after: Option<String>,
}

/// Adds an entry, or replaces the one there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuppressionAddRequest {
    /// An address, or `@domain`.
    pub who: String,
    /// Why.
    pub reason: String,
    /// The class, if it was a bounce.
    pub class: Option<String>,
    /// Until when, RFC 3339. For good without this and `seconds`.
    pub until: Option<String>,
    /// For how long.
    pub seconds: Option<u64>,
}

/// Names an address or a domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SuppressionWho {
    /// An address, or `@domain`.
    pub who: String,
}
