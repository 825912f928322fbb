//! The header section of a message in the spool.

use bytes::BytesMut;
use merpati_plugin::deliver::MessageSource;
use merpati_plugin::spool::SpoolError;
use merpati_types::HeaderSection;

/// How much of a message is read for it.
const LIMIT: usize = HeaderSection::OCTET_LIMIT;

/// Reads a message up to the end of its header section; `None` if that is malformed, or longer
/// than header sections may be.
///
/// # Errors
/// What the spool said.
pub(crate) async fn header_section(
    message: &dyn MessageSource,
) -> Result<Option<HeaderSection>, SpoolError> {
    let mut reader = message.open().await?;
    let mut bytes = BytesMut::new();
    let mut searched = 0;
    while bytes.len() <= LIMIT {
        match reader.next().await.map_err(SpoolError::Unavailable)? {
            Some(piece) => bytes.extend_from_slice(&piece),
            None => break,
        }
        if memchr::memmem::find(&bytes[searched..], b"\r\n\r\n").is_some() {
            break;
        }
        searched = bytes.len().saturating_sub(3);
    }
    Ok(HeaderSection::read(&bytes.freeze()).ok())
}
