//! Messages to send, and what became of them in Maildirs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// A message with the fields that nobody needs to add, then `body`.
#[must_use]
pub fn message(id: &str, from: &str, body: &[u8]) -> Vec<u8> {
    let header = format!(
        "From: <{from}>\r\nSubject: {id}\r\nDate: Mon, 23 Nov 2026 08:00:00 +0000\r\n\
         Message-ID: <{id}@sender.test>\r\n\r\n"
    );
    [header.as_bytes(), body].concat()
}

/// The files of a Maildir that hold delivered messages.
#[must_use]
pub fn delivered(maildir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(maildir.join("new")) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}

/// What is in a delivered file, LF line ends mapped back to CRLF.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    Ok(to_crlf(&fs::read(file)?))
}

/// Every LF becomes CRLF.
#[must_use]
pub fn to_crlf(stored: &[u8]) -> Vec<u8> {
    let mut mapped = Vec::with_capacity(stored.len() + stored.len() / 32);
    let mut from = 0;
    for at in memchr::memchr_iter(b'\n', stored) {
        mapped.extend_from_slice(&stored[from..at]);
        mapped.extend_from_slice(b"\r\n");
        from = at + 1;
    }
    mapped.extend_from_slice(&stored[from..]);
    mapped
}

/// The subject, which names a message here.
#[must_use]
pub fn subject(content: &[u8]) -> Option<String> {
    let start = memchr::memmem::find(content, b"\nSubject: ")? + 10;
    let end = start + memchr::memchr2(b'\r', b'\n', &content[start..])?;
    String::from_utf8(content[start..end].to_vec()).ok()
}
