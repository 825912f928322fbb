//! Tests of the whole, and the tools they stand on: a demo that is kept running, a mail client, a
//! sink. See `tests/README.md`.

pub mod bench;
pub mod demo;
pub mod mail;
pub mod process;
pub mod random;
pub mod sink;
pub mod smtp;
pub mod soak;
pub mod until;
