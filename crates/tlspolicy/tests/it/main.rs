//! Policies fetched from real servers on loopback.

#[cfg(test)]
mod sts;
