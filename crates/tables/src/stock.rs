//! The kinds of table that need no plugin of one's own.

use std::sync::Arc;

use merpati_plugin::Table;
use merpati_plugin::options::{Invalid, Options};

use crate::file::FileTable;
use crate::regex::RegexTable;

/// The names of the kinds.
pub const STOCK: [&str; 2] = ["file", "regex"];

/// A table of a kind, from its options; `None` if there is no such kind.
#[must_use]
pub fn stock(kind: &str, options: &Options) -> Option<Result<Arc<dyn Table>, Invalid>> {
    Some(match kind {
        "file" => FileTable::from_options(options).map(|table| Arc::new(table) as Arc<dyn Table>),
        "regex" => RegexTable::from_options(options).map(|table| Arc::new(table) as Arc<dyn Table>),
        _ => return None,
    })
}
