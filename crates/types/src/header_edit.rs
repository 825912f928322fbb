//! Changes to a header section, kept beside the message and made whenever it is read.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::header::{HeaderField, HeaderSection};

/// Lines are folded where they exceed this (RFC 5322 §2.1.1).
const FOLD_AT: usize = 78;
/// The longest line (RFC 5322 §2.1.1).
const LINE_LIMIT: usize = 998;

/// Why an edit is impossible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// Not printable ASCII without a colon.
    #[error("header field name is malformed")]
    Name,
    /// Control characters, or a word longer than a line.
    #[error("header field value is malformed")]
    Value,
    /// What was stored cannot be read back.
    #[error("stored header edits are damaged")]
    Damaged,
}

/// The name of a header field: printable ASCII without a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Box<str>);

impl FieldName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`EditError::Name`].
    pub fn new(name: &str) -> Result<Self, EditError> {
        let printable = |byte: u8| matches!(byte, b'!'..=b'~') && byte != b':';
        if name.is_empty() || name.len() > 76 || !name.bytes().all(printable) {
            return Err(EditError::Name);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The value of a header field. Line feeds in it are places to fold; nothing else in it can end
/// a line, so that no value can smuggle in a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldValue(Box<str>);

impl FieldValue {
    /// Checks a value. Each line of it becomes a line of the field; a line of more than 78
    /// octets is folded at spaces.
    ///
    /// # Errors
    /// [`EditError::Value`].
    pub fn new(value: &str) -> Result<Self, EditError> {
        let allowed = |c: char| c == '\n' || c == '\t' || !c.is_control();
        let mut lines = value.split('\n');
        if !value.chars().all(allowed)
            || lines.any(|line| line.trim().is_empty())
            || value.split(['\n', ' ', '\t']).any(|word| word.len() + 76 > LINE_LIMIT)
        {
            return Err(EditError::Value);
        }
        Ok(Self(value.into()))
    }

    /// The value as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderEdit {
    /// A new field before all others; of several, the last one asked for stands first.
    Prepend(FieldName, FieldValue),
    /// A new field after all others.
    Append(FieldName, FieldValue),
    /// Remove every field of this name.
    RemoveAll(FieldName),
    /// Remove one field of this name, counted from 0 at the top.
    Remove(FieldName, u32),
    /// Give one field of this name, counted from 0 at the top, another value.
    Replace(FieldName, u32, FieldValue),
}

/// Changes in the order they were asked for. Removals and replacements count among the fields
/// as received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits(Vec<HeaderEdit>);

impl HeaderEdits {
    /// Adds a change.
    pub fn push(&mut self, edit: HeaderEdit) {
        self.0.push(edit);
    }

    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &HeaderEdit> {
        self.0.iter()
    }

    /// The header section with the changes made, every field with its line end.
    #[must_use]
    pub fn apply(&self, section: &HeaderSection) -> Bytes {
        let mut out = BytesMut::with_capacity(section.raw().len() + 256 * self.0.len());
        for edit in self.0.iter().rev() {
            if let HeaderEdit::Prepend(name, value) = edit {
                write_field(&mut out, name.as_str(), value.as_str());
            }
        }
        if self.0.iter().all(|edit| matches!(edit, HeaderEdit::Prepend(..))) {
            out.put_slice(section.raw());
            return out.freeze();
        }
        for (place, field) in section.fields().enumerate() {
            self.copy_field(&mut out, section, place, &field);
        }
        for edit in &self.0 {
            if let HeaderEdit::Append(name, value) = edit {
                write_field(&mut out, name.as_str(), value.as_str());
            }
        }
        out.freeze()
    }

    fn copy_field(
        &self,
        out: &mut BytesMut,
        section: &HeaderSection,
        place: usize,
        field: &HeaderField<'_>,
    ) {
        let same = |name: &FieldName| name.as_str().eq_ignore_ascii_case(field.name());
        let number = |name: &FieldName| {
            let before = section.fields().take(place);
            before.filter(|f| f.name().eq_ignore_ascii_case(name.as_str())).count()
        };
        let is = |name: &FieldName, wanted: u32| same(name) && number(name) == wanted as usize;
        let mut replaced = None;
        for edit in &self.0 {
            match edit {
                HeaderEdit::RemoveAll(name) if same(name) => return,
                HeaderEdit::Remove(name, wanted) if is(name, *wanted) => return,
                HeaderEdit::Replace(name, wanted, value) if is(name, *wanted) => {
                    replaced = Some(value);
                }
                _ => {}
            }
        }
        match replaced {
            Some(value) => write_field(out, field.name(), value.as_str()),
            None => {
                out.put_slice(field.raw());
                // The last line of a message may lack its end; a field after it must not join.
                if !field.raw().ends_with(b"\n") {
                    out.put_slice(b"\r\n");
                }
            }
        }
    }

    /// The changes as bytes, for [`Self::decode`]. The form is stable.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
            out.extend(text.as_bytes());
        };
        for edit in &self.0 {
            let (kind, name, number, value) = match edit {
                HeaderEdit::Prepend(name, value) => (1, name, 0, Some(value)),
                HeaderEdit::Append(name, value) => (2, name, 0, Some(value)),
                HeaderEdit::RemoveAll(name) => (3, name, 0, None),
                HeaderEdit::Remove(name, number) => (4, name, *number, None),
                HeaderEdit::Replace(name, number, value) => (5, name, *number, Some(value)),
            };
            out.push(kind);
            text(&mut out, name.as_str());
            out.extend(number.to_le_bytes());
            text(&mut out, value.map_or("", FieldValue::as_str));
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// [`EditError::Damaged`].
    pub fn decode(mut bytes: &[u8]) -> Result<Self, EditError> {
        fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], EditError> {
            bytes.split_off(..length).ok_or(EditError::Damaged)
        }
        fn number(bytes: &mut &[u8]) -> Result<u32, EditError> {
            let octets = take(bytes, 4)?.try_into().map_err(|_| EditError::Damaged)?;
            Ok(u32::from_le_bytes(octets))
        }
        fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, EditError> {
            let length = number(bytes)? as usize;
            std::str::from_utf8(take(bytes, length)?).map_err(|_| EditError::Damaged)
        }
        let mut edits = Self::default();
        while !bytes.is_empty() {
            let kind = take(&mut bytes, 1)?[0];
            let name = FieldName::new(text(&mut bytes)?).map_err(|_| EditError::Damaged)?;
            let place = number(&mut bytes)?;
            let value = text(&mut bytes)?;
            let value = || FieldValue::new(value).map_err(|_| EditError::Damaged);
            edits.push(match kind {
                1 => HeaderEdit::Prepend(name, value()?),
                2 => HeaderEdit::Append(name, value()?),
                3 => HeaderEdit::RemoveAll(name),
                4 => HeaderEdit::Remove(name, place),
                5 => HeaderEdit::Replace(name, place, value()?),
                _ => return Err(EditError::Damaged),
            });
        }
        Ok(edits)
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Writes a field, folded.
fn write_field(out: &mut BytesMut, name: &str, value: &str) {
    out.put_slice(name.as_bytes());
    out.put_slice(b":");
    let mut column = name.len() + 1;
    for (number, line) in value.split('\n').enumerate() {
        if number > 0 {
            out.put_slice(b"\r\n\t");
            column = 8;
        }
        for (place, word) in line.split(' ').filter(|word| !word.is_empty()).enumerate() {
            let fresh_line = number > 0 && place == 0;
            if place > 0 && column + 1 + word.len() > FOLD_AT {
                out.put_slice(b"\r\n\t");
                column = 8;
            } else if !fresh_line {
                out.put_slice(b" ");
                column += 1;
            }
            out.put_slice(word.as_bytes());
            column += word.len();
        }
    }
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FieldName {
        FieldName::new(text).unwrap()
    }
    fn value(text: &str) -> FieldValue {
        FieldValue::new(text).unwrap()
    }

    #[test]
    fn makes_changes_in_order() {
        let raw = Bytes::from_static(b"A: 1\r\nB: 2\r\na: 3\r\n\r\n");
        let section = HeaderSection::read(&raw).unwrap();
        let check = |edits: Vec<HeaderEdit>, expected: &str| {
            let edits = HeaderEdits(edits);
            assert_eq!(std::str::from_utf8(&edits.apply(&section)).unwrap(), expected);
            assert_eq!(HeaderEdits::decode(&edits.encode()), Ok(edits));
        };
        use HeaderEdit::{Append, Prepend, Remove, RemoveAll, Replace};
        check(vec![], "A: 1\r\nB: 2\r\na: 3\r\n");
        check(
            vec![Prepend(name("X"), value("x")), Prepend(name("Y"), value("y"))],
            "Y: y\r\nX: x\r\nA: 1\r\nB: 2\r\na: 3\r\n",
        );
        check(vec![Append(name("Z"), value("z"))], "A: 1\r\nB: 2\r\na: 3\r\nZ: z\r\n");
        check(vec![RemoveAll(name("A"))], "B: 2\r\n");
        check(vec![Remove(name("A"), 1)], "A: 1\r\nB: 2\r\n");
        check(vec![Replace(name("A"), 0, value("9"))], "A: 9\r\nB: 2\r\na: 3\r\n");
    }

    #[test]
    fn folds_long_lines_at_spaces_and_where_told() {
        let mut out = BytesMut::new();
        write_field(&mut out, "X", &format!("one\ntwo {} end", "w".repeat(75)));
        let expected = format!("X: one\r\n\ttwo\r\n\t{}\r\n\tend\r\n", "w".repeat(75));
        assert_eq!(out, expected.as_bytes());
    }

    #[test]
    fn no_value_smuggles_a_field_in() {
        for wrong in ["a\r\nB: c", "a\n\nb", "a\0", "", " ", "a\rb", &"w".repeat(998)] {
            assert_eq!(FieldValue::new(wrong), Err(EditError::Value), "{wrong:?}");
        }
        for wrong in ["", "a b", "a:", "é", "a\r\n"] {
            assert_eq!(FieldName::new(wrong), Err(EditError::Name), "{wrong:?}");
        }
        assert_eq!(HeaderEdits::decode(&[1, 9]), Err(EditError::Damaged));
    }
}
