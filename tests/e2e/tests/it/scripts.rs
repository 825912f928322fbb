//! Plays `tests/scripts`.

use std::path::Path;

use merpati_testkit::script::{Case, DriverRunner, Runner, ScriptError, run_machine};

/// All cases of all scripts.
fn cases(runner: Runner) -> Vec<Case> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let mut cases = Case::load(&directory).unwrap_or_else(|error| panic!("{error}"));
    cases.retain(|case| case.runs_on(runner));
    assert!(cases.len() > 100, "only {} cases were found", cases.len());
    cases
}

fn all_passed(failures: &[ScriptError]) {
    let told: Vec<_> = failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} cases failed\n\n{}", failures.len(), told.join("\n\n"));
}

#[tokio::test]
async fn the_machine_plays_every_script() {
    let mut failures = Vec::new();
    for case in cases(Runner::Machine) {
        failures.extend(run_machine(&case).await.err());
    }
    all_passed(&failures);
}

#[tokio::test(start_paused = true)]
async fn the_driver_plays_every_script() {
    let runner = DriverRunner::new().unwrap();
    let mut failures = Vec::new();
    for case in cases(Runner::Driver) {
        failures.extend(runner.run(&case).await.err());
    }
    all_passed(&failures);
}
