//! What the journal says of messages: the records of the spool.

use std::sync::Arc;

use bytes::Bytes;
use merpati_journal::{Entry, Record};
use merpati_plugin::spool::{Change, MessageInfo, NewMessage, NextHop, ParcelId, RecipientResult};
use merpati_types::{MessageId, Timestamp};

use crate::codec::{Decoder, Encoder, Malformed};
use crate::envelope;

/// Reasons are shown to operators and kept in memory: what is longer is cut.
pub(crate) const REASON_LIMIT: usize = 500;

/// Kinds of records, as the journal has them.
pub(crate) mod kind {
    pub(crate) const MESSAGE: u8 = 1;
    pub(crate) const COPY: u8 = 2;
    pub(crate) const ATTEMPT: u8 = 3;
    pub(crate) const OUTCOME: u8 = 4;
    pub(crate) const MARK: u8 = 5;
    pub(crate) const DONE: u8 = 6;
}

/// Something that happened to a message.
#[derive(Debug, Clone)]
pub(crate) enum Fact {
    /// It was accepted.
    Message { info: Arc<MessageInfo>, place: Place },
    /// It was moved forward, with its state so far.
    Copy { info: Arc<MessageInfo>, place: Place, parcels: Vec<ParcelState> },
    /// The final dot of a parcel is about to be sent.
    Attempt { number: u32, remote: String },
    /// An attempt was settled.
    Outcome { number: u32, results: Vec<(u32, RecipientResult)>, retry_at: Timestamp, warned: bool },
    /// An operator changed a parcel.
    Mark { number: u32, mark: Mark },
    /// No recipient is left.
    Done,
}

/// What an operator did to a parcel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mark {
    Hold { reason: String },
    Release { due: Timestamp },
    Requeue { due: Timestamp },
    Expire { due: Timestamp },
    Delete,
}

impl From<Change> for Mark {
    fn from(change: Change) -> Self {
        match change {
            Change::Hold { reason } => Self::Hold { reason },
            Change::Release { due } => Self::Release { due },
            Change::Requeue { due } => Self::Requeue { due },
            Change::Expire { due } => Self::Expire { due },
            Change::Delete => Self::Delete,
        }
    }
}

/// Where the received bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the record itself.
    Inline,
    /// In the body file named by the id.
    File,
}

/// What is kept of a parcel besides its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParcelState {
    pub(crate) next_hop: NextHop,
    pub(crate) pending: Vec<u32>,
    pub(crate) attempts: u32,
    pub(crate) due: Timestamp,
    pub(crate) warned: bool,
    pub(crate) expired: bool,
    pub(crate) held: Option<String>,
    pub(crate) last_reason: Option<String>,
    pub(crate) unknown_at: Option<String>,
}

impl ParcelState {
    /// The parcels of a new message.
    pub(crate) fn of(message: &NewMessage) -> Vec<Self> {
        let due = message.attributes.not_before.unwrap_or_default().max(message.arrived);
        let parcels = NextHop::split(&message.envelope.recipients);
        let parcel = |(next_hop, pending)| Self {
            next_hop,
            pending,
            attempts: 0,
            due,
            warned: false,
            expired: false,
            held: message.attributes.hold.clone(),
            last_reason: None,
            unknown_at: None,
        };
        parcels.into_iter().map(parcel).collect()
    }

    /// Whether synced facts have led to the same; the rest may differ for a while.
    pub(crate) fn has_same_facts(&self, other: &Self) -> bool {
        let facts = |p: &Self| (p.pending.clone(), p.attempts, p.held.clone(), p.expired);
        facts(self) == facts(other)
    }

    /// Writes it, its reasons cut to so many octets.
    pub(crate) fn encode(&self, out: &mut Encoder, reason: usize) {
        let short =
            |text: &Option<String>| text.as_deref().map(|text| cut(text, reason).to_owned());
        out.text(self.next_hop.as_str());
        out.list(self.pending.iter(), |out, place| out.u32(*place));
        out.u32(self.attempts);
        out.time(self.due);
        out.flag(self.warned);
        out.flag(self.expired);
        out.option(short(&self.held).as_deref(), Encoder::text);
        out.option(short(&self.last_reason).as_deref(), Encoder::text);
        out.option(self.unknown_at.as_deref(), Encoder::text);
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            next_hop: NextHop::from_text(from.text()?),
            pending: from.list(Decoder::u32)?,
            attempts: from.u32()?,
            due: from.time()?,
            warned: from.flag()?,
            expired: from.flag()?,
            held: from.option(Decoder::string)?,
            last_reason: from.option(Decoder::string)?,
            unknown_at: from.option(Decoder::string)?,
        })
    }
}

impl Place {
    fn encode(self, out: &mut Encoder) {
        out.u8(match self {
            Self::Inline => 0,
            Self::File => 1,
        });
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        match from.u8()? {
            0 => Ok(Self::Inline),
            1 => Ok(Self::File),
            _ => Err(Malformed),
        }
    }
}

impl Fact {
    /// Whether it is a new message with a body file of its own.
    pub(crate) fn has_file(&self) -> bool {
        matches!(self, Self::Message { place: Place::File, .. })
    }

    /// The fact as a record; `body` is of use for messages only.
    pub(crate) fn to_record(&self, id: MessageId, body: Vec<Bytes>) -> Record {
        let mut out = Encoder::default();
        let kind = match self {
            Self::Message { info, place } => {
                head(&mut out, info, *place);
                kind::MESSAGE
            }
            Self::Copy { info, place, parcels } => {
                head(&mut out, info, *place);
                out.list(parcels.iter(), |out, parcel| parcel.encode(out, REASON_LIMIT));
                kind::COPY
            }
            Self::Attempt { number, remote } => {
                out.u32(*number);
                out.text(cut_reason(remote));
                kind::ATTEMPT
            }
            Self::Outcome { number, results, retry_at, warned } => {
                out.u32(*number);
                out.list(results.iter(), encode_result);
                out.time(*retry_at);
                out.flag(*warned);
                kind::OUTCOME
            }
            Self::Mark { number, mark } => {
                out.u32(*number);
                encode_mark(&mut out, mark);
                kind::MARK
            }
            Self::Done => kind::DONE,
        };
        Record { kind, key: id.as_u64(), meta: out.finish().into(), body }
    }

    /// The fact an entry of the journal states.
    pub(crate) fn from_entry(entry: &Entry) -> Result<(MessageId, Self), Malformed> {
        let mut from = Decoder(&entry.meta);
        let fact = match entry.kind {
            kind::MESSAGE => {
                let (info, place) = read_head(&mut from)?;
                Self::Message { info: Arc::new(info), place }
            }
            kind::COPY => {
                let (info, place) = read_head(&mut from)?;
                Self::Copy { info: Arc::new(info), place, parcels: from.list(ParcelState::decode)? }
            }
            kind::ATTEMPT => Self::Attempt { number: from.u32()?, remote: from.string()? },
            kind::OUTCOME => Self::Outcome {
                number: from.u32()?,
                results: from.list(decode_result)?,
                retry_at: from.time()?,
                warned: from.flag()?,
            },
            kind::MARK => Self::Mark { number: from.u32()?, mark: decode_mark(&mut from)? },
            kind::DONE => Self::Done,
            _ => return Err(Malformed),
        };
        Ok((MessageId::from_u64(entry.key), fact))
    }
}

/// What a message's or a copy's record says of the message itself.
pub(crate) fn info_of(meta: &[u8]) -> Result<MessageInfo, Malformed> {
    read_head(&mut Decoder(meta)).map(|(info, _)| info)
}

/// The parcel of a message with this number.
pub(crate) fn parcel_id(message: MessageId, place: usize) -> ParcelId {
    ParcelId { message, number: u32::try_from(place).expect("fewer parcels than recipients") }
}

/// A reason, cut to what is kept.
pub(crate) fn cut_reason(text: &str) -> &str {
    cut(text, REASON_LIMIT)
}

fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=text.len().min(limit)).rev().find(|&at| text.is_char_boundary(at));
    &text[..end.unwrap_or(0)]
}

fn head(out: &mut Encoder, info: &MessageInfo, place: Place) {
    out.u64(info.size);
    place.encode(out);
    envelope::encode(out, &info.message);
}

fn read_head(from: &mut Decoder<'_>) -> Result<(MessageInfo, Place), Malformed> {
    let size = from.u64()?;
    let place = Place::decode(from)?;
    Ok((MessageInfo { message: envelope::decode(from)?, size }, place))
}

fn encode_result(out: &mut Encoder, (place, result): &(u32, RecipientResult)) {
    out.u32(*place);
    match result {
        RecipientResult::Delivered => out.u8(0),
        RecipientResult::Deferred { reason } => {
            out.u8(1);
            out.text(cut_reason(reason));
        }
        RecipientResult::Failed { reason } => {
            out.u8(2);
            out.text(cut_reason(reason));
        }
    }
}

fn decode_result(from: &mut Decoder<'_>) -> Result<(u32, RecipientResult), Malformed> {
    let place = from.u32()?;
    let result = match from.u8()? {
        0 => RecipientResult::Delivered,
        1 => RecipientResult::Deferred { reason: from.string()? },
        2 => RecipientResult::Failed { reason: from.string()? },
        _ => return Err(Malformed),
    };
    Ok((place, result))
}

fn encode_mark(out: &mut Encoder, mark: &Mark) {
    match mark {
        Mark::Hold { reason } => {
            out.u8(0);
            out.text(cut_reason(reason));
        }
        Mark::Release { due } => {
            out.u8(1);
            out.time(*due);
        }
        Mark::Requeue { due } => {
            out.u8(2);
            out.time(*due);
        }
        Mark::Expire { due } => {
            out.u8(3);
            out.time(*due);
        }
        Mark::Delete => out.u8(4),
    }
}

fn decode_mark(from: &mut Decoder<'_>) -> Result<Mark, Malformed> {
    Ok(match from.u8()? {
        0 => Mark::Hold { reason: from.string()? },
        1 => Mark::Release { due: from.time()? },
        2 => Mark::Requeue { due: from.time()? },
        3 => Mark::Expire { due: from.time()? },
        4 => Mark::Delete,
        _ => return Err(Malformed),
    })
}
