//! Queue ids.

use std::fmt;
use std::str::FromStr;

/// Crockford's base 32: no letter looks like a digit.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Enough digits for 64 bits.
const LENGTH: usize = 13;

/// Names a message in this spool, from `Received` to the last log line. Later ids are larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

impl MessageId {
    /// The id of this number.
    #[must_use]
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

/// 13 lower-case digits of Crockford's base 32; they sort as the ids do.
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; LENGTH];
        let mut rest = self.0;
        for digit in digits.iter_mut().rev() {
            *digit = ALPHABET[(rest % 32) as usize];
            rest /= 32;
        }
        f.write_str(std::str::from_utf8(&digits).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// The text is no queue id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id: 13 letters and digits are expected")]
pub struct MessageIdError;

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        if text.len() != LENGTH {
            return Err(MessageIdError);
        }
        let mut number: u64 = 0;
        for byte in text.bytes() {
            let digit = ALPHABET.iter().position(|&letter| letter == byte.to_ascii_lowercase());
            let digit = digit.ok_or(MessageIdError)? as u64;
            number =
                number.checked_mul(32).and_then(|n| n.checked_add(digit)).ok_or(MessageIdError)?;
        }
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_number_agree_in_value_and_order() {
        let numbers = [0, 1, 31, 32, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        for pair in numbers.windows(2) {
            let texts = [pair[0], pair[1]].map(|n| MessageId::from_u64(n).to_string());
            assert!(texts[0] < texts[1]);
        }
        for number in numbers {
            let id = MessageId::from_u64(number);
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for wrong in ["", "0", "zzzzzzzzzzzzz", "000000000000u", "0000000000000 "] {
            assert_eq!(wrong.parse::<MessageId>(), Err(MessageIdError), "{wrong}");
        }
    }
}
