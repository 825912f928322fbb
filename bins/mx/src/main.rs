//! The MX ingress server.

fn main() {}
