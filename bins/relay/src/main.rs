//! The relay (MTA).

fn main() {}
