//! Fuzzes [`merpati_fuzz::data_bdat`].
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| merpati_fuzz::data_bdat::check(data));

#[cfg(not(fuzzing))]
fn main() {}
