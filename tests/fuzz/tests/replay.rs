//! Runs every file of the corpora through its target.

use std::fs;
use std::path::Path;

fn replay(target: &str, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<_> =
        fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", directory.display());
    for file in files {
        println!("{}", file.display());
        check(&fs::read(&file).unwrap());
    }
}

#[test]
fn commands() {
    replay("commands", merpati_fuzz::commands::check);
}

#[test]
fn replies() {
    replay("replies", merpati_fuzz::replies::check);
}

#[test]
fn addresses() {
    replay("addresses", merpati_fuzz::addresses::check);
}

#[test]
fn data_bdat() {
    replay("data_bdat", merpati_fuzz::data_bdat::check);
}

#[test]
fn proxy() {
    replay("proxy", merpati_fuzz::proxy::check);
}

#[test]
fn server_session() {
    replay("server_session", merpati_fuzz::server_session::check);
}

#[test]
fn reports() {
    replay("reports", merpati_fuzz::reports::check);
}
