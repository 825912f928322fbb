//! The generator against the sink.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::text;

/// A sink, and where it listens.
struct Sink {
    child: Child,
    address: String,
    lines: BufReader<std::process::ChildStdout>,
}

impl Sink {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_merpati"))
            .args(["load", "sink", "--json"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Self { child, address: told["listening"].as_str().unwrap().to_owned(), lines }
    }

    /// What it says next of what has come.
    fn told(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // A child that is gone already needs nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(sink: &Sink, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_merpati"))
        .args(["load", "send", "--json", "--to", &sink.address])
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn every_message_arrives_once_however_it_is_sent() {
    let mut sink = Sink::start(&["--every", "50"]);
    let ways: [&[&str]; 4] = [
        &["--connections", "5"],
        &["--connections", "5", "--new-connections"],
        &["--connections", "3", "--no-pipelining", "--size", "300"],
        &["--connections", "5", "--rate", "5000", "--idle", "7"],
    ];
    for (round, way) in (1..).zip(ways) {
        let output = send(&sink, &[&["--messages", "50"], way].concat());
        assert!(output.status.success(), "{way:?}: {}", text(&output.stderr));
        let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&figures["messages"], &figures["failed"]), (&50.into(), &0.into()), "{way:?}");
        assert!(figures["latency_ms"]["max"].as_f64() >= figures["latency_ms"]["p50"].as_f64());
        let told = sink.told();
        assert_eq!(told["messages"], 50 * round, "{way:?}");
        assert_eq!(told["repeated"], 0, "{way:?}");
    }
}

#[test]
fn what_fails_is_counted_by_reply() {
    let sink = Sink::start(&["--reply", "451 4.3.0 later"]);
    let output = send(&sink, &["--messages", "20", "--connections", "2"]);
    let figures: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figures["failures"], serde_json::json!({ "451 4.3.0": 20 }));
}

#[test]
fn the_same_answer_twice_is_noticed() {
    let sink = Sink::start(&["--reply", "250 queued as 1"]);
    let output = send(&sink, &["--messages", "3", "--connections", "1"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("2 messages were taken for repetitions"));
    assert!(send(&sink, &["--messages", "3", "--reused-ids"]).status.success());
}

#[test]
fn strangers_are_not_loaded_by_mistake() {
    let run = |to: &str| {
        let args = ["load", "send", "--to", to, "--messages", "30"];
        Command::new(env!("CARGO_BIN_EXE_merpati")).args(args).output().unwrap()
    };
    let refused = run("192.0.2.1:25");
    assert!(text(&refused.stderr).contains("--allow-public"));
    // Nobody listens there: port 1 of this machine.
    let closed = run("127.0.0.1:1");
    assert!(!closed.status.success());
    assert!(text(&closed.stderr).contains("failures in a row"), "{}", text(&closed.stderr));
}
