//! The authenticator on the file of users.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use merpati_plugin::{AuthAnswer, Authenticator, Mechanisms, async_trait};
use merpati_types::Secret;
use tokio::sync::Semaphore;
use tokio::task;

use crate::config::FileConfig;
use crate::hash::Scratch;
use crate::users::{Users, UsersError};

/// Checks passwords against a file of users.
pub struct FileAuthenticator {
    path: PathBuf,
    users: RwLock<Arc<Users>>,
    turns: Arc<Semaphore>,
    /// One for each turn that was ever taken at the same time as the others.
    scratches: Arc<Mutex<Vec<Scratch>>>,
    wait: Duration,
}

/// Why a password could not be checked.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("no turn to check a password within {0:?}")]
    Busy(Duration),
    #[error("the check did not end")]
    Lost(#[from] task::JoinError),
}

impl FileAuthenticator {
    /// Reads the file.
    ///
    /// # Errors
    /// [`UsersError`], when the file cannot be read, is open to others, or has a wrong line.
    pub fn open(config: FileConfig) -> Result<Self, UsersError> {
        let users = Users::load(&config.path)?;
        tracing::info!(path = %config.path.display(), users = users.len(), "users read");
        Ok(Self {
            path: config.path,
            users: RwLock::new(Arc::new(users)),
            turns: Arc::new(Semaphore::new(config.hashes.max(1))),
            scratches: Arc::default(),
            wait: config.wait,
        })
    }

    /// Reads the file again. Checks under way end with what they began with.
    ///
    /// # Errors
    /// [`UsersError`]; the users stay as they were.
    pub fn reload(&self) -> Result<(), UsersError> {
        let users = Users::load(&self.path)?;
        tracing::info!(path = %self.path.display(), users = users.len(), "users read again");
        // A writer only swaps a pointer: there is no half-made state behind a poisoned lock.
        *self.users.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(users);
        Ok(())
    }

    async fn check(
        &self,
        login: &str,
        password: &Secret<String>,
    ) -> Result<AuthAnswer, CheckError> {
        let turn = tokio::time::timeout(self.wait, Arc::clone(&self.turns).acquire_owned());
        let turn = turn.await.map_err(|_| CheckError::Busy(self.wait))?;
        let turn = turn.expect("the semaphore is never closed");
        let users = Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner));
        let (user, hash) = users.find(login);
        let (hash, password) = (hash.clone(), password.clone());
        // The turn goes with the work: a session that ends early frees no core.
        let scratches = Arc::clone(&self.scratches);
        let work = task::spawn_blocking(move || {
            let lock = || scratches.lock().unwrap_or_else(PoisonError::into_inner);
            let mut scratch = lock().pop().unwrap_or_default();
            let matches = hash.matches(&password, &mut scratch);
            lock().push(scratch);
            (matches, turn)
        });
        let (matches, _turn) = work.await?;
        Ok(match user {
            Some(user) if matches => AuthAnswer::Account(user.account.clone()),
            _ => AuthAnswer::Refused,
        })
    }
}

#[async_trait]
impl Authenticator for FileAuthenticator {
    fn name(&self) -> &str {
        "file"
    }

    fn mechanisms(&self) -> Mechanisms {
        Mechanisms { password: true }
    }

    async fn check_password(&self, user: &str, password: &Secret<String>) -> AuthAnswer {
        match self.check(user, password).await {
            Ok(answer) => answer,
            Err(error) => AuthAnswer::Unavailable(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// The hash of `secret`, at the lowest cost there is.
    fn cheap_hash() -> String {
        use argon2::{Argon2, Params, PasswordHasher as _};
        let params = Params::new(Params::MIN_M_COST, 1, 1, None).unwrap();
        Argon2::from(params).hash_password(b"secret").unwrap().to_string()
    }

    struct Fixture {
        directory: tempfile::TempDir,
    }

    impl Fixture {
        fn new(text: &str) -> Self {
            let fixture = Self { directory: tempfile::tempdir().unwrap() };
            fixture.write(text, 0o600);
            fixture
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("users")
        }

        fn write(&self, text: &str, mode: u32) {
            fs::write(self.path(), text.replace("SECRET", &cheap_hash())).unwrap();
            fs::set_permissions(self.path(), fs::Permissions::from_mode(mode)).unwrap();
        }

        fn open(&self) -> FileAuthenticator {
            FileAuthenticator::open(FileConfig::new(self.path())).unwrap()
        }
    }

    /// The login, `refused` or `unavailable`.
    async fn ask(users: &FileAuthenticator, login: &str, password: &str) -> String {
        match users.check_password(login, &Secret::new(password.to_owned())).await {
            AuthAnswer::Account(account) => account.login,
            AuthAnswer::Refused => "refused".to_owned(),
            AuthAnswer::Unavailable(_) => "unavailable".to_owned(),
        }
    }

    #[tokio::test]
    async fn knows_users_by_their_passwords() {
        let users = Fixture::new("alice@a.test:SECRET\nbob:SECRET:bob@a.test\n").open();
        for (login, password, answer) in [
            ("alice@a.test", "secret", "alice@a.test"),
            ("ALICE@A.test", "secret", "alice@a.test"),
            ("bob", "secret", "bob"),
            ("alice@a.test", "Secret", "refused"),
            ("alice@a.test", "", "refused"),
            ("bob@a.test", "secret", "refused"),
            ("", "secret", "refused"),
        ] {
            assert_eq!(ask(&users, login, password).await, answer, "{login} {password}");
        }
    }

    #[tokio::test]
    async fn a_reload_takes_the_new_file_or_keeps_the_old_one() {
        let fixture = Fixture::new("alice@a.test:SECRET\n");
        let users = fixture.open();
        fixture.write("bob@a.test:SECRET\n", 0o640);
        users.reload().unwrap();
        assert_eq!(ask(&users, "alice@a.test", "secret").await, "refused");
        assert_eq!(ask(&users, "bob@a.test", "secret").await, "bob@a.test");
        fixture.write("carol@a.test\n", 0o600);
        assert!(matches!(users.reload(), Err(UsersError::Line { line: 1, .. })));
        fs::remove_file(fixture.path()).unwrap();
        assert!(matches!(users.reload(), Err(UsersError::Read { .. })));
        assert_eq!(ask(&users, "bob@a.test", "secret").await, "bob@a.test");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let fixture = Fixture::new("");
        for (mode, taken) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            fixture.write("", mode);
            let error = FileAuthenticator::open(FileConfig::new(fixture.path())).err();
            let refused =
                matches!(error, Some(UsersError::Permissions { mode: m, .. }) if m == mode);
            assert_eq!(refused, !taken, "{mode:o}");
        }
    }

    #[tokio::test]
    async fn who_gets_no_turn_is_told_to_try_again() {
        let mut users = Fixture::new("alice@a.test:SECRET\n").open();
        users.wait = Duration::ZERO;
        let all = u32::try_from(users.turns.available_permits()).unwrap();
        let turns = Arc::clone(&users.turns).acquire_many_owned(all).await.unwrap();
        for login in ["alice@a.test", "nobody"] {
            assert_eq!(ask(&users, login, "secret").await, "unavailable");
        }
        drop(turns);
        assert_eq!(ask(&users, "alice@a.test", "secret").await, "alice@a.test");
        assert_eq!(ask(&users, "nobody", "secret").await, "refused");
        assert_eq!(users.turns.available_permits(), all as usize);
        assert_eq!(users.scratches.lock().unwrap().len(), 1);
    }
}
