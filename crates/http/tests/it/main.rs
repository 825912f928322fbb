//! Tests of the client.

#[cfg(test)]
mod client;
