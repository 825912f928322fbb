//! The submission server (MSA).

fn main() {}
