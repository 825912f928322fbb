//! Configuration values with their positions.

/// A stretch of a configuration file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The line it begins in, from 1; 0 when the value came from no file.
    pub line: usize,
    /// The character it begins at, from 1.
    pub column: usize,
    /// The first byte, from 0.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// A value, and where it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it stands.
    pub span: Span,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    String(String),
    /// Values in order.
    Array(Vec<Value>),
    /// Values with names.
    Table(Vec<Entry>),
}

/// One `key = value` of a table. Keys are unique within a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The name.
    pub key: String,
    /// Where the name stands.
    pub key_span: Span,
    /// What it names.
    pub value: Value,
}

impl Kind {
    /// What it is, for messages: `a string`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a float",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// An empty table.
impl Default for Kind {
    fn default() -> Self {
        Self::Table(Vec::new())
    }
}

impl From<Kind> for Value {
    fn from(kind: Kind) -> Self {
        Self { kind, span: Span::default() }
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Kind::Boolean(value).into()
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Kind::Integer(value).into()
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Kind::String(value.to_owned()).into()
    }
}

impl<V: Into<Value>, const N: usize> From<[V; N]> for Value {
    fn from(values: [V; N]) -> Self {
        Kind::Array(values.into_iter().map(Into::into).collect()).into()
    }
}
