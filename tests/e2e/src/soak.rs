//! Load on the three servers, for `cargo xtask soak`: longer than tests may take.

pub mod dead_site;
pub mod faults;
pub mod kill;
pub mod memory;
pub mod postfix;
pub mod relay;
