//! Fuzzes [`merpati_fuzz::server_session`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| merpati_fuzz::server_session::check(data));

#[cfg(not(fuzzing))]
fn main() {}
