//! Tests in a network and a mount namespace of their own: every port is free there, and the system's
//! resolver is another one.

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Says that a test runs inside.
const INSIDE: &str = "MERPATI_PEERS_INSIDE";

/// The loopback interface, and a resolver on it whose word on DNSSEC is taken.
const ENTER: &str = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
const RESOLVER: &str = "nameserver 127.0.0.1\noptions edns0 trust-ad\n";

/// Whether this is inside. If it is not, the test of this name runs again, there.
pub(crate) fn enter(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let flags = ["--net", "--mount"];
    let probe =
        Command::new("unshare").args(flags).args(["ip", "link", "set", "lo", "up"]).output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        // Past the test harness, which keeps what passing tests print to itself.
        let _ = writeln!(
            std::io::stderr(),
            "\n!!! NOT TESTED: {test}: no namespace can be made here: {probe:?}\n"
        );
        return false;
    }
    let files = tempfile::tempdir().unwrap();
    let resolver = files.path().join("resolv.conf");
    std::fs::write(&resolver, RESOLVER).unwrap();
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", ENTER]).arg(resolver);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]);
    let output = command.env(INSIDE, "1").stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains(" 1 passed;"), "inside:\n{text}");
    false
}
