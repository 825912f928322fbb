//! The real server, held to the scripts of `tests/scripts`.

use std::path::Path;

use merpati_testkit::script::{Case, ServerRunner};

#[tokio::test]
async fn it_plays_every_script_for_it() {
    let server = ServerRunner::relay(env!("CARGO_BIN_EXE_merpati-relay")).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scripts");
    let mut failures = Vec::new();
    let mut played = 0;
    for case in Case::load(&directory).unwrap() {
        if server.plays(&case) {
            played += 1;
            failures.extend(server.run(&case).await.err().map(|error| error.to_string()));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {played} failed\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
    assert!(played > 3, "only {played} cases were found");
}
