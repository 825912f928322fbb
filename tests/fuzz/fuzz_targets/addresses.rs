//! Fuzzes [`merpati_fuzz::addresses`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| merpati_fuzz::addresses::check(data));

#[cfg(not(fuzzing))]
fn main() {}
