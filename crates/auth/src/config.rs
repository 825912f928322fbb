//! What the authenticators are told.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use merpati_plugin::Failure;
use merpati_plugin::options::{Invalid, Options};

use crate::authenticator::FileAuthenticator;

/// How long a check waits for its turn: long enough for a crowd after a restart, and far below
/// the clients' time-outs.
const WAIT: Duration = Duration::from_secs(10);

/// How a [`FileAuthenticator`] works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileConfig {
    /// The file of users.
    pub path: PathBuf,
    /// How many passwords are checked at once, at least 1. A check takes a core, and 19 MiB with
    /// the recommended parameters; the memory is kept for the next one. By default half as many
    /// as there are cores: the others serve sessions.
    pub hashes: usize,
    /// How long a check waits for its turn before the client is told to try again. By default
    /// 10 s.
    pub wait: Duration,
}

impl FileConfig {
    /// The defaults, with this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { path: path.into(), hashes: (cores / 2).max(1), wait: WAIT }
    }
}

impl FileAuthenticator {
    /// Reads the options `file`, `hashes` and `wait`, and the file.
    ///
    /// # Errors
    /// [`Invalid`]; what is wrong has been recorded.
    pub fn from_options(options: &Options) -> Result<Self, Invalid> {
        let mut reader = options.reader();
        let path = reader.required::<PathBuf>("file");
        let mut config = FileConfig::new(path.clone().unwrap_or_default());
        config.hashes = reader.ranged("hashes", 1..=1_024, config.hashes);
        config.wait = reader.ranged("wait", Duration::ZERO..=Duration::from_secs(60), config.wait);
        let opened = path.and_then(|_| {
            Self::open(config).map_err(|error| reader.reject("file", Failure::from(error)))
        });
        reader.finish()?;
        opened
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use merpati_plugin::options::Value;

    use super::*;

    #[test]
    fn options_are_read_and_mistakes_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        fs::write(&path, "# nobody\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let path = path.display().to_string();
        let check = |entries: &[(&str, Value)], expected: &[&str]| {
            let options = Options::new(entries.iter().cloned());
            let read = FileAuthenticator::from_options(&options);
            assert_eq!(read.is_ok(), expected.is_empty());
            let told: Vec<_> = options.errors().sorted().iter().map(ToString::to_string).collect();
            assert_eq!(told, expected);
        };
        check(&[("file", path.as_str().into())], &[]);
        let file = || ("file", Value::from(path.as_str()));
        check(&[file(), ("hashes", 4.into()), ("wait", "1s".into())], &[]);
        check(&[], &["file: `file` is missing"]);
        check(
            &[("file", "/nowhere/users".into()), ("hashes", 0.into()), ("waits", 1.into())],
            &[
                "hashes: 0 is not between 1 and 1024",
                "file: cannot read /nowhere/users: No such file or directory (os error 2)",
                "waits: unknown key `waits` (did you mean `wait`?)",
            ],
        );
    }
}
