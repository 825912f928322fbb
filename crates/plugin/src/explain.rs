//! What a decision rests on, as a tree that people and programs read.

/// A step of a decision, or a fact that it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: a short name that stays the same from case to case, such as `host`.
    pub key: &'static str,
    /// What was found.
    pub value: String,
    /// Why it is so, or where it came from; nothing where that goes without saying.
    pub why: String,
    /// What it rests on, or what follows from it.
    pub below: Vec<Finding>,
}

impl Finding {
    /// A finding that speaks for itself.
    #[must_use]
    pub fn new(key: &'static str, value: impl Into<String>) -> Self {
        Self { key, value: value.into(), why: String::new(), below: Vec::new() }
    }

    /// The same, with a reason.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }

    /// The same, with these below it.
    #[must_use]
    pub fn with(mut self, below: impl IntoIterator<Item = Self>) -> Self {
        self.below.extend(below);
        self
    }
}
