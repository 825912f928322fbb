//! Typed values that policies leave on a transaction for later policies.

use std::any::{Any, TypeId};
use std::sync::Arc;

/// A value that one policy establishes and others may need, such as the result of SPF.
pub trait Fact: Any + Send + Sync {
    /// The name used in configuration errors and in `explain`, for example `spf`.
    const NAME: &'static str;
}

/// Which fact: the type and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactKind {
    id: TypeId,
    name: &'static str,
}

impl FactKind {
    /// The kind of `F`.
    #[must_use]
    pub fn of<F: Fact>() -> Self {
        Self { id: TypeId::of::<F>(), name: F::NAME }
    }

    /// The fact's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// A fact on its way to a transaction.
#[derive(Clone)]
pub struct SomeFact {
    kind: FactKind,
    value: Arc<dyn Any + Send + Sync>,
}

impl SomeFact {
    /// Wraps `fact`.
    #[must_use]
    pub fn new<F: Fact>(fact: F) -> Self {
        Self { kind: FactKind::of::<F>(), value: Arc::new(fact) }
    }
}

impl std::fmt::Debug for SomeFact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SomeFact").field(&self.kind.name).finish()
    }
}

/// The facts of one transaction. A later value of a kind replaces an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Facts(Vec<SomeFact>);

impl Facts {
    /// The fact of type `F`, if a policy established it.
    #[must_use]
    pub fn find<F: Fact>(&self) -> Option<&F> {
        let kind = FactKind::of::<F>();
        let found = self.0.iter().find(|fact| fact.kind == kind)?;
        found.value.downcast_ref()
    }

    /// Adds a fact, or replaces the one of its kind.
    pub fn set(&mut self, fact: SomeFact) {
        self.0.retain(|old| old.kind != fact.kind);
        self.0.push(fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Score(u32);
    impl Fact for Score {
        const NAME: &'static str = "score";
    }

    #[test]
    fn a_later_fact_replaces_an_earlier_one_of_its_kind() {
        let mut facts = Facts::default();
        assert_eq!(facts.find::<Score>(), None);
        facts.set(SomeFact::new(Score(1)));
        facts.set(SomeFact::new(Score(2)));
        assert_eq!(facts.find(), Some(&Score(2)));
    }
}
