//! Why there is no answer.

/// Why there is no answer, by what the caller does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL or a header is wrong: mend it.
    #[error("{0}")]
    Wrong(String),
    /// No address, no connection, or no answer in time: try again later.
    #[error("{0}")]
    Unreachable(String),
    /// The host cannot prove to be who it should be: tell its operator.
    #[error("the certificate does not hold: {0}")]
    Certificate(String),
    /// The answer is longer than the limit: it is not read to its end.
    #[error("the answer is longer than {limit} octets")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// What came is no HTTP, or ended too early.
    #[error("the answer is broken: {0}")]
    Broken(String),
}
