//! The states of a server session; each holds the data it needs.

use std::time::Instant;

use merpati_types::{BodyType, Rejection};
use merpati_wire::{BdatDecoder, DataDecoder, Last};

use super::replies::Counts;

/// What the machine is doing.
#[derive(Debug)]
pub(super) enum State {
    /// Waits with the greeting, to see who talks too early.
    Greeting { until: Instant },
    /// Greeted; the peer has not said hello since the last greeting or handshake.
    Strange,
    /// Between transactions.
    Ready,
    /// After MAIL.
    Mail(Transaction),
    /// Reads a message after 354.
    Data { transaction: Transaction, decoder: DataDecoder, fate: Fate, until: Instant },
    /// Reads a BDAT chunk.
    Chunk { message: Chunked, last: Last },
    /// After a chunk that was not the last: only BDAT goes on.
    BetweenChunks(Chunked),
    /// A BDAT chunk was refused: later ones are dropped until RSET (RFC 3030 §2).
    Spoiled,
    /// Reads and drops a chunk that is refused in any case, then says why.
    Dropping { left: u64, why: Rejection, counts: Counts, then: AfterDrop },
    /// In an AUTH exchange: the next line is a response.
    Auth,
    /// 220 is on its way to the peer; the handshake is next.
    StartingTls,
    /// The handshake is the driver's.
    AwaitTls,
    /// A question is open.
    Asked(Asked),
    /// Nothing more will be said; what is in `out` goes first.
    Closing,
    /// `Close` was given.
    Closed,
}

/// Where a dropped chunk leads.
#[derive(Debug)]
pub(super) enum AfterDrop {
    Strange,
    Ready,
    Mail(Transaction),
    Spoiled,
}

/// The open question, and what its answer goes on with.
#[derive(Debug)]
pub(super) enum Asked {
    Connect,
    Hello(HelloKind),
    Auth,
    Mail(Transaction),
    Rcpt(Transaction),
    /// Before 354.
    Data(Transaction),
    /// Before the first chunk is read.
    FirstChunk {
        transaction: Transaction,
        size: u64,
        last: Last,
    },
    Message(Transaction),
    Xclient,
}

/// How the peer said hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// HELO: no extensions.
    Helo,
    /// EHLO.
    Ehlo,
    /// LHLO.
    Lhlo,
}

/// A transaction, as far as the protocol needs to know it.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) body: BodyType,
    pub(super) smtputf8: bool,
    /// Recipients accepted.
    pub(super) accepted: u32,
    /// Recipients refused.
    pub(super) refused: u32,
}

/// A message that comes in chunks.
#[derive(Debug)]
pub(super) struct Chunked {
    pub(super) transaction: Transaction,
    pub(super) decoder: BdatDecoder,
    pub(super) fate: Fate,
    pub(super) until: Instant,
}

/// What becomes of the message that is being read.
#[derive(Debug)]
pub(super) enum Fate {
    /// Its bytes are handed on.
    Keep,
    /// It is read to its end, dropped, and refused with this.
    Refuse(Rejection),
}
