//! The tables of a configuration, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::Table;
use crate::options::{Errors, Invalid, Located};

/// The tables of a configuration: `[[table]] name = "…"`. Clones share the tables.
#[derive(Clone, Default)]
pub struct Tables(BTreeMap<String, Arc<dyn Table>>);

impl Tables {
    /// The table that an option names.
    ///
    /// # Errors
    /// [`Invalid`], recorded at the option, when there is no table of this name.
    pub fn named(
        &self,
        name: &Located<String>,
        errors: &Errors,
    ) -> Result<Arc<dyn Table>, Invalid> {
        self.get(&name.value).ok_or_else(|| {
            let known: Vec<_> = self.names().collect();
            errors.report_unknown(&name.place, &name.value, &known)
        })
    }

    /// The table of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn Table>> {
        self.0.get(name).cloned()
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Adds a table. One of the same name is replaced and handed back.
    pub fn insert(&mut self, name: String, table: Arc<dyn Table>) -> Option<Arc<dyn Table>> {
        self.0.insert(name, table)
    }
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
