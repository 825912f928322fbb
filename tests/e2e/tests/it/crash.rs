//! Servers that are killed while messages pass; `cargo xtask soak kill` does more of it.

use merpati_e2e::demo::{Demo, ROLES};
use merpati_e2e::random;
use merpati_e2e::soak::kill::{Extent, run};

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let mut demo = Demo::start().unwrap();
    demo.retry_soon().unwrap();
    let seed = random::seed();
    println!("seed {seed}");
    for role in ROLES {
        let extent = Extent { messages: 60, kills: 2, seed };
        let found;
        (demo, found) = run(demo, role, extent).unwrap_or_else(|error| panic!("{role}: {error}"));
        println!("{role}: {found}");
    }
}
