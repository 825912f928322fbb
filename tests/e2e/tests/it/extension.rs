//! A server of somebody's own: a crate outside the workspace, with one policy.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use merpati_e2e::demo::{Demo, workspace};
use merpati_e2e::smtp::Smtp;
use merpati_e2e::until;

const LIMIT: Duration = Duration::from_secs(20);

const MAIN: &str = r#"mod quiet;

fn main() -> std::process::ExitCode {
    merpati_role::Role::mx().policy("quiet", quiet::Quiet::from_config).main()
}
"#;

const POLICY: &str = r#"use merpati_plugin::options::{Invalid, Options};
use merpati_plugin::{
    Connection, Conversation, Outcome, Policy, PolicyFactory, PolicyResult, Transaction, async_trait,
};
use merpati_types::{Mailbox, Recipient, Rejection, Status};

/// Refuses mail for one mailbox.
#[derive(Clone)]
pub struct Quiet(Mailbox);

impl Quiet {
    pub fn from_config(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let mailbox = reader.required("mailbox");
        reader.finish()?;
        Ok(Self(mailbox?))
    }
}

impl PolicyFactory for Quiet {
    fn name(&self) -> &str {
        "quiet"
    }
    fn begin(&self, _: &Connection) -> Box<dyn Policy> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Policy for Quiet {
    async fn rcpt(&mut self, _: &Conversation, _: &Transaction, to: &Recipient) -> PolicyResult {
        if to.address == self.0 {
            return Ok(Rejection::permanent(Status::POLICY, "quiet, please").into());
        }
        Ok(Outcome::CONTINUE)
    }
}
"#;

/// Writes the crate, and builds it beside what is built already; answers the binary.
fn build(dir: &Path) -> PathBuf {
    let root = workspace().canonicalize().unwrap();
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    // With the workspace's own profiles its dependencies need not be built again.
    let (_, profiles) = manifest.split_once("[profile.dev]").unwrap();
    let dependency = |name: &str| {
        format!("merpati-{name} = {{ path = \"{}\" }}\n", root.join("crates").join(name).display())
    };
    let dependencies: String = ["plugin", "role", "types"].map(dependency).concat();
    let text = format!(
        "[package]\nname = \"quiet-mx\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\n{dependencies}\n[workspace]\n\n[profile.dev]{profiles}"
    );
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(dir.join("Cargo.toml"), text).unwrap();
    fs::write(dir.join("src/main.rs"), MAIN).unwrap();
    fs::write(dir.join("src/quiet.rs"), POLICY).unwrap();
    fs::copy(root.join("Cargo.lock"), dir.join("Cargo.lock")).unwrap();
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&*name);
        }
    }
    cargo.args(["build", "--quiet", "--offline", "--target-dir"]).arg(target).current_dir(dir);
    assert!(cargo.status().unwrap().success(), "the crate does not build");
    target.join("debug/quiet-mx")
}

#[test]
fn a_policy_from_outside_refuses_a_recipient() {
    assert!(MAIN.lines().count() <= 20);
    let demo = Demo::start().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let binary = build(dir.path());
    // The demo's mx, with the policy behind its own.
    let address: SocketAddr = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    };
    let text = fs::read_to_string(demo.config("mx")).unwrap();
    let text = text
        .replace(&demo.address("mx").to_string(), &address.to_string())
        .replace(
            &format!("{}/mx/state", demo.dir.display()),
            &format!("{}/mx/state/own", demo.dir.display()),
        )
        .replace(
            "[[transport]]",
            "[[policy]]\nuse = \"quiet\"\nmailbox = \"bob@receiver.test\"\n\n[[transport]]",
        );
    let config = demo.dir.join("mx/own.toml");
    fs::write(&config, text).unwrap();
    let mut server =
        Command::new(binary).arg("--config").arg(&config).stdin(Stdio::null()).spawn().unwrap();
    let codes = until::within(LIMIT, || {
        let mut client = Smtp::plain(address).ok()?;
        client.say("MAIL FROM:<a@client.test>").ok()?.expect(250).ok()?;
        let bob = client.say("RCPT TO:<bob@receiver.test>").ok()?;
        let other = client.say("RCPT TO:<user1@receiver.test>").ok()?;
        Some((bob.to_string(), other.code))
    });
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(codes, Some(("550 5.7.1 quiet, please".to_owned(), 250)));
}
