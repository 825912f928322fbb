//! What fuzzing holds the codec and the session machine to.

pub mod addresses;
pub mod commands;
pub mod data_bdat;
pub mod proxy;
pub mod replies;
pub mod reports;
pub mod server_session;

/// Cuts `data` into a first octet, which steers, and the rest.
fn steered(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(&first, rest)| (first, rest))
}

/// `data` in pieces of `step` octets, or whole when that is 0.
fn pieces(data: &[u8], step: u8) -> impl Iterator<Item = &[u8]> {
    let step = if step == 0 { data.len().max(1) } else { usize::from(step) };
    data.chunks(step)
}
