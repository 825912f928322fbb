//! Changes, and how a commit of them is written.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::{MAX_KEY, MAX_VALUE};

const PUT: u8 = 1;
const REMOVE: u8 = 2;

/// A change to one fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has this value from now on.
    Put {
        /// Which fact; at most [`MAX_KEY`] octets.
        key: Bytes,
        /// Its value; at most [`MAX_VALUE`] octets.
        value: Bytes,
    },
    /// There is no such fact any more.
    Remove {
        /// Which fact; at most [`MAX_KEY`] octets.
        key: Bytes,
    },
}

impl Change {
    /// Gives a fact its value.
    pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }

    /// Takes a fact away.
    pub fn remove(key: impl Into<Bytes>) -> Self {
        Self::Remove { key: key.into() }
    }

    /// The fact it is about.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Remove { key } => key,
        }
    }

    pub(crate) fn is_within_limits(&self) -> bool {
        let value = match self {
            Self::Put { value, .. } => value.len(),
            Self::Remove { .. } => 0,
        };
        self.key().len() <= MAX_KEY && value <= MAX_VALUE
    }
}

/// Changes within limits, as a record holds them.
pub(crate) fn encode<'a>(changes: impl IntoIterator<Item = &'a Change>) -> Bytes {
    let mut octets = BytesMut::new();
    for change in changes {
        let tag = if matches!(change, Change::Put { .. }) { PUT } else { REMOVE };
        let key = change.key();
        octets.put_u8(tag);
        octets.put_u16_le(u16::try_from(key.len()).expect("keys are within limits"));
        octets.put_slice(key);
        if let Change::Put { value, .. } = change {
            octets.put_u32_le(u32::try_from(value.len()).expect("values are within limits"));
            octets.put_slice(value);
        }
    }
    octets.freeze()
}

/// What [`encode`] has written; `None` if it has not.
pub(crate) fn decode(mut octets: Bytes) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while octets.has_remaining() {
        let tag = octets.try_get_u8().ok()?;
        let length = octets.try_get_u16_le().ok()?;
        let key = take(&mut octets, usize::from(length))?;
        changes.push(match tag {
            PUT => {
                let length = octets.try_get_u32_le().ok()?;
                Change::Put { key, value: take(&mut octets, length as usize)? }
            }
            REMOVE => Change::Remove { key },
            _ => return None,
        });
    }
    Some(changes)
}

fn take(octets: &mut Bytes, length: usize) -> Option<Bytes> {
    (length <= octets.len()).then(|| octets.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let changes = [Change::put("a", "1"), Change::remove(""), Change::put("bc", "")];
        let octets = encode(&changes);
        assert_eq!(decode(octets.clone()).unwrap(), changes);
        let whole: Vec<usize> =
            (0..octets.len()).filter(|&cut| decode(octets.slice(..cut)).is_some()).collect();
        assert_eq!(whole, [0, 9, 12], "a cut between two changes is the only one that reads");
        assert_eq!(decode(Bytes::from_static(&[3, 0, 0])), None);
    }
}
