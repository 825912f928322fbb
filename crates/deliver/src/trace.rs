//! What final delivery adds to a message.

use bytes::Bytes;
use merpati_plugin::Job;
use merpati_types::{FieldName, FieldValue, HeaderEdit, HeaderEdits, HeaderSection, Recipient};

/// The fields that final delivery adds (RFC 5321 §4.4).
pub(crate) fn trace(job: &Job, recipient: &Recipient) -> Bytes {
    let mut edits = HeaderEdits::default();
    let mut prepend = |name: &str, value: String| {
        let name = FieldName::new(name).expect("the name is a constant");
        // An address has no control characters and fits a line by its own limits.
        if let Ok(value) = FieldValue::new(&value) {
            edits.push(HeaderEdit::Prepend(name, value));
        }
    };
    prepend("Delivered-To", recipient.address.to_string());
    prepend("Return-Path", job.parcel.reverse_path().to_string());
    let empty = HeaderSection::read(&Bytes::new()).expect("nothing exceeds no limit");
    edits.apply(&empty)
}
