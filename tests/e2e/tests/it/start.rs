//! What a server says that cannot start.

use std::fs;
use std::process::{Command, Output, Stdio};

use merpati_e2e::demo::Demo;
use merpati_e2e::process;

/// Runs the demo's mx with its configuration changed; it is to fail at once.
fn start_with(demo: &Demo, change: impl Fn(String) -> String) -> (Output, String) {
    let origin = process::origin(demo.pid("mx")).unwrap();
    let text = fs::read_to_string(demo.config("mx")).unwrap();
    let changed = change(text.clone());
    assert_ne!(changed, text, "the configuration does not change");
    let file = demo.dir.join("mx/changed.toml");
    fs::write(&file, changed).unwrap();
    let output = Command::new(&origin.argv[0])
        .arg("--config")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

#[test]
fn a_server_that_cannot_start_says_why_in_a_line() {
    let demo = Demo::start().unwrap();
    let mx = demo.address("mx").to_string();
    let state = demo.dir.join("mx/state").display().to_string();
    let file = demo.dir.join("file");
    fs::write(&file, "").unwrap();
    let unwritable = file.join("state").display().to_string();
    let free = "127.0.0.1:0";
    type Change<'a> = &'a dyn Fn(String) -> String;
    let cases: [(&str, Change<'_>, &str); 3] = [
        ("a port in use", &|text| text.replace("# ", ""), &mx),
        (
            "no certificate",
            &|text| text.replace("mx.receiver.test.pem", "missing.pem").replace(&mx, free),
            "missing.pem",
        ),
        (
            "an unwritable directory",
            &|text| text.replace(&state, &unwritable).replace(&mx, free),
            &unwritable,
        ),
    ];
    for (name, change, named) in cases {
        let changed = |text: String| format!("# {name}\n{}", change(text));
        let (output, said) = start_with(&demo, changed);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(named), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}");
        println!("{name}: {said}");
        if name != "no certificate" {
            assert_eq!(said.lines().count(), 1, "{name}: {said}");
        }
    }
}

#[test]
fn all_mistakes_of_a_configuration_are_said_with_their_places() {
    let demo = Demo::start().unwrap();
    let change = |text: String| {
        format!("hostnam = 1\n{text}")
            .replace("[limits]\n", "[limits]\nconnections = \"many\"\n")
            .replace("use = \"recipients\"", "use = \"recipient\"")
    };
    let (output, said) = start_with(&demo, change);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for place in ["changed.toml:1:1", "hostnam", "connections", "recipient", "mistakes in"] {
        assert!(said.contains(place), "{place} is not in\n{said}");
    }
}
