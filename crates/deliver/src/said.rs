//! What programs and servers of the web say, for logs and reports.

/// How much of it is told.
const TOLD: usize = 400;

/// On one line, without control characters.
pub(crate) fn readable(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let words = text.split(|c: char| c.is_control() || c.is_whitespace());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(TOLD).collect()
}
