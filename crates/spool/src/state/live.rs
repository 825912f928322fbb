//! A message with a recipient left.

use std::sync::Arc;

use merpati_journal::Position;
use merpati_plugin::spool::{Flow, MessageInfo, NextHop, Share};
use merpati_types::MessageId;

use super::parcel::LiveParcel;
use crate::body::Kept;
use crate::codec::{Decoder, Encoder, Malformed};
use crate::fact::{ParcelState, Place, REASON_LIMIT};

/// The longest reason an index entry keeps when it would be too large otherwise.
const SHORT_REASON: usize = 60;

/// A message with a recipient left.
#[derive(Debug)]
pub(crate) struct Live {
    /// Where its own record is.
    pub(crate) base: Position,
    /// The number of that record.
    pub(crate) base_seq: u64,
    /// The last synced fact that is in here.
    pub(crate) seq: u64,
    pub(crate) size: u64,
    pub(crate) place: Place,
    pub(crate) whose: Whose,
    pub(crate) parcels: Vec<LiveParcel>,
    /// The last fact that its entry in the index has in it, if there is one.
    pub(crate) indexed: Option<u64>,
    /// How many facts about it are on their way to the journal.
    pub(crate) busy: u32,
    /// Kept until its first attempt is over, if there is room.
    pub(crate) fresh: Option<Fresh>,
}

/// Whose a message is: what fair shares and quotas are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whose {
    pub(crate) flow: Flow,
    /// [`Share::Sender`] and [`Share::SenderDomain`].
    pub(crate) sender: u64,
    pub(crate) domain: u64,
    pub(crate) priority: i8,
}

/// What a message that was just accepted need not be read back for.
#[derive(Debug, Clone)]
pub(crate) struct Fresh {
    pub(crate) info: Arc<MessageInfo>,
    pub(crate) body: Option<Kept>,
}

/// What is needed to read or attempt a parcel, taken out of the lock.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) base: Position,
    pub(crate) size: u64,
    pub(crate) place: Place,
    pub(crate) fresh: Option<Fresh>,
}

/// A message that is over: what is left to clear away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) id: MessageId,
    pub(crate) place: Place,
}

impl Whose {
    pub(crate) fn of(info: &MessageInfo) -> Self {
        let sender = info.message.envelope.sender.mailbox();
        let address = sender.map(ToString::to_string).unwrap_or_default();
        let domain = sender.map(NextHop::of);
        Self {
            flow: Flow::of(&info.message),
            sender: Share::Sender(&address).digest(),
            domain: Share::SenderDomain(domain.as_ref().map_or("", NextHop::as_str)).digest(),
            priority: info.message.attributes.priority.clamp(-9, 9),
        }
    }

    fn encode(&self, out: &mut Encoder) {
        out.u64(self.flow.0);
        out.u64(self.sender);
        out.u64(self.domain);
        out.u8(self.priority.cast_unsigned());
    }

    fn decode(from: &mut Decoder<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            flow: Flow(from.u64()?),
            sender: from.u64()?,
            domain: from.u64()?,
            priority: from.u8()?.cast_signed().clamp(-9, 9),
        })
    }
}

impl Live {
    pub(super) fn at(
        seq: u64,
        base: Position,
        info: &MessageInfo,
        place: Place,
        parcels: Vec<ParcelState>,
        fresh: Option<Fresh>,
    ) -> Self {
        let parcels = parcels.into_iter().map(LiveParcel::new).collect();
        let whose = Whose::of(info);
        Self {
            base,
            base_seq: seq,
            seq,
            size: info.size,
            place,
            whose,
            parcels,
            indexed: None,
            busy: 0,
            fresh,
        }
    }

    /// Whether it is worth a place in the index: it did not go at once.
    pub(super) fn has_stayed(&self) -> bool {
        let stays = |p: &LiveParcel| p.state.attempts > 0 || p.state.held.is_some();
        self.parcels.iter().any(stays)
    }

    /// Octets of the journal that it needs.
    pub(crate) fn octets(&self) -> u64 {
        u64::from(self.base.meta_len) + u64::from(self.base.body_len)
    }

    pub(crate) fn view(&self) -> View {
        let Self { base, size, place, fresh, .. } = self;
        View { base: *base, size: *size, place: *place, fresh: fresh.clone() }
    }

    pub(crate) fn parcel_states(&self) -> Vec<ParcelState> {
        self.parcels.iter().map(|parcel| parcel.state.clone()).collect()
    }

    /// For the index; none if it would be larger than `limit`. [`Self::decode`] reads it.
    pub(crate) fn encode(&self, limit: usize) -> Option<Vec<u8>> {
        let encode = |reason: usize| {
            let mut out = Encoder::default();
            out.u64(self.base.segment);
            out.u64(self.base.offset);
            out.u32(self.base.meta_len);
            out.u32(self.base.body_len);
            out.u64(self.base_seq);
            out.u64(self.seq);
            out.u64(self.size);
            out.flag(self.place == Place::File);
            self.whose.encode(&mut out);
            out.list(self.parcels.iter(), |out, parcel| parcel.state.encode(out, reason));
            out.finish()
        };
        let fits = |entry: &Vec<u8>| entry.len() <= limit;
        Some(encode(REASON_LIMIT)).filter(fits).or_else(|| Some(encode(SHORT_REASON)).filter(fits))
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut from = Decoder(bytes);
        Ok(Self {
            base: Position {
                segment: from.u64()?,
                offset: from.u64()?,
                meta_len: from.u32()?,
                body_len: from.u32()?,
            },
            base_seq: from.u64()?,
            seq: from.u64()?,
            size: from.u64()?,
            place: if from.flag()? { Place::File } else { Place::Inline },
            whose: Whose::decode(&mut from)?,
            parcels: from.list(ParcelState::decode)?.into_iter().map(LiveParcel::new).collect(),
            indexed: None,
            busy: 0,
            fresh: None,
        })
    }
}
