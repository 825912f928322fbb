//! Fuzzes [`merpati_fuzz::reports`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| merpati_fuzz::reports::check(data));

#[cfg(not(fuzzing))]
fn main() {}
