//! What a real relay makes of real faults.

use merpati_e2e::soak::faults;

#[test]
fn an_index_that_vanishes_loses_nothing() {
    let told = faults::index(20).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(told.ends_with("42 acknowledged, 0 lost"), "{told}");
}
