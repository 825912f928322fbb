//! The file of users. Its form is in the crate's documentation.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use merpati_plugin::Account;
use merpati_types::{Mailbox, MailboxError};

use crate::hash::{BadHash, Cost, StoredHash};

/// The longest file, in octets.
const SIZE_LIMIT: u64 = 16 * 1024 * 1024;

/// Why a file of users is not taken. Nothing of the file's content is in the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UsersError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Everybody on the machine could read the hashes.
    #[error("{} can be read or written by others (mode {mode:o}); use mode 600 or 640", path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file is longer than 16 MiB.
    #[error("{} is longer than {limit} octets", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A line is wrong.
    #[error("{}:{line}: {error}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
}

/// What is wrong with a line of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// There are not two or three parts between colons, or the login is empty.
    #[error("expected `login:hash` or `login:hash:address,address`")]
    Form,
    /// The hash is no argon2id hash, or asks for too much.
    #[error("{0}")]
    Hash(#[from] BadHash),
    /// One of the addresses is none; or none is listed and the login is none.
    #[error("address {place} is no mailbox: {error}")]
    Address {
        /// Which one, from 1.
        place: usize,
        /// Why.
        error: MailboxError,
    },
    /// The login is no address, so that the addresses must be listed.
    #[error("the login is no address; list the addresses after the hash")]
    NoAddress,
    /// The login is on an earlier line.
    #[error("the login is on line {first} already")]
    Duplicate {
        /// The earlier line, from 1.
        first: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) account: Account,
    pub(crate) hash: StoredHash,
    line: usize,
}

/// The users of a file.
#[derive(Debug)]
pub(crate) struct Users {
    by_login: HashMap<String, User>,
    decoy: StoredHash,
}

impl Users {
    pub(crate) fn load(path: &Path) -> Result<Self, UsersError> {
        let text = read(path)?;
        Self::parse(&text).map_err(|(line, error)| UsersError::Line {
            path: path.to_owned(),
            line,
            error,
        })
    }

    fn parse(text: &str) -> Result<Self, (usize, LineError)> {
        let mut by_login: HashMap<String, User> = HashMap::new();
        for (number, line) in text.lines().enumerate() {
            let (number, line) = (number + 1, line.trim());
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let user = read_line(number, line).map_err(|error| (number, error))?;
            let key = user.account.login.to_ascii_lowercase();
            if let Some(first) = by_login.get(&key) {
                return Err((number, LineError::Duplicate { first: first.line }));
            }
            by_login.insert(key, user);
        }
        let decoy = StoredHash::decoy(usual_cost(&by_login));
        Ok(Self { by_login, decoy })
    }

    pub(crate) fn len(&self) -> usize {
        self.by_login.len()
    }

    /// The user, and the hash to check: for unknown users one that never matches.
    pub(crate) fn find(&self, login: &str) -> (Option<&User>, &StoredHash) {
        let user = self.by_login.get(&login.to_ascii_lowercase());
        (user, user.map_or(&self.decoy, |user| &user.hash))
    }
}

fn read(path: &Path) -> Result<String, UsersError> {
    let unreadable = |source| UsersError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    let mode = about.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(UsersError::Permissions { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    let read = file.by_ref().take(SIZE_LIMIT + 1).read_to_string(&mut text).map_err(unreadable)?;
    if read as u64 > SIZE_LIMIT {
        return Err(UsersError::TooLong { path: path.to_owned(), limit: SIZE_LIMIT });
    }
    Ok(text)
}

fn read_line(number: usize, line: &str) -> Result<User, LineError> {
    let mut parts = line.splitn(3, ':');
    let (Some(login), Some(hash), addresses) = (parts.next(), parts.next(), parts.next()) else {
        return Err(LineError::Form);
    };
    let login = login.trim();
    if login.is_empty() || login.chars().any(char::is_control) {
        return Err(LineError::Form);
    }
    let hash = hash.trim().parse()?;
    let addresses = match addresses.map(str::trim).filter(|list| !list.is_empty()) {
        Some(list) => read_addresses(list)?,
        None => vec![Mailbox::parse(login).map_err(|_| LineError::NoAddress)?],
    };
    Ok(User { account: Account { login: login.to_owned(), addresses }, hash, line: number })
}

fn read_addresses(list: &str) -> Result<Vec<Mailbox>, LineError> {
    let read = |(place, address): (usize, &str)| {
        Mailbox::parse(address.trim())
            .map_err(|error| LineError::Address { place: place + 1, error })
    };
    list.split(',').enumerate().map(read).collect()
}

/// The cost that most users' hashes have: an unknown login must take what a known one does.
fn usual_cost(users: &HashMap<String, User>) -> Cost {
    let mut counts: BTreeMap<Cost, usize> = BTreeMap::new();
    for user in users.values() {
        *counts.entry(user.hash.cost()).or_default() += 1;
    }
    let usual = counts.into_iter().max_by_key(|&(cost, count)| (count, cost));
    usual.map_or_else(Cost::default, |(cost, _)| cost)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: &str = "$argon2id$v=19$m=8,t=1,p=1$ZGVjb3lkZWNveWRlY28$AAAAAAAAAAAAAAAAAAAAAA";
    const DEAR: &str = "$argon2id$v=19$m=16,t=1,p=1$ZGVjb3lkZWNveWRlY28$AAAAAAAAAAAAAAAAAAAAAA";

    fn check(text: &str, expected: Result<&[(&str, &str)], (usize, LineError)>) {
        let text = text.replace("CHEAP", CHEAP).replace("DEAR", DEAR);
        match (Users::parse(&text), expected) {
            (Ok(users), Ok(expected)) => {
                assert_eq!(users.len(), expected.len(), "{text}");
                for (login, addresses) in expected {
                    let (user, _) = users.find(login);
                    let list = &user.expect(login).account.addresses;
                    let list: Vec<_> = list.iter().map(ToString::to_string).collect();
                    assert_eq!(list.join(","), *addresses, "{text}");
                }
            }
            (Err(error), Err(expected)) => assert_eq!(error, expected, "{text}"),
            (read, expected) => panic!("{text}: {read:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn reads_users() {
        check("", Ok(&[]));
        check("# nobody\n\n   \r\n", Ok(&[]));
        check("A@b.test:CHEAP\n", Ok(&[("a@b.test", "A@b.test")]));
        check("A@b.test:CHEAP:\r\n", Ok(&[("a@B.test", "A@b.test")]));
        check(
            "a:CHEAP:x@b.test, y@b.test\nb:DEAR:z@[192.0.2.1]",
            Ok(&[("a", "x@b.test,y@b.test"), ("b", "z@[192.0.2.1]")]),
        );
        check("a:CHEAP:x@[IPv6:2001:db8::1]", Ok(&[("A", "x@[IPv6:2001:db8::1]")]));
    }

    #[test]
    fn says_what_is_wrong_on_which_line() {
        check("\nalice", Err((2, LineError::Form)));
        check(":CHEAP", Err((1, LineError::Form)));
        check("alice:CHEAP", Err((1, LineError::NoAddress)));
        check("a@b.test:secret", Err((1, BadHash::Malformed.into())));
        check(
            "a:CHEAP:a@b.test,nobody",
            Err((1, LineError::Address { place: 2, error: MailboxError::NoAt })),
        );
        check("a@b.test:CHEAP\n#\nA@B.test:DEAR", Err((3, LineError::Duplicate { first: 1 })));
    }

    #[test]
    fn the_decoy_costs_what_most_users_do() {
        let check = |hashes: &[&str], like: &str| {
            let line = |(number, hash): (usize, &&str)| format!("u{number}@b.test:{hash}\n");
            let text: String = hashes.iter().enumerate().map(line).collect();
            let users = Users::parse(&text).unwrap();
            let (user, hash) = users.find("nobody");
            assert!(user.is_none());
            assert_eq!(hash.cost(), like.parse::<StoredHash>().unwrap().cost(), "{text}");
        };
        check(&[CHEAP, CHEAP, DEAR], CHEAP);
        check(&[CHEAP, DEAR, DEAR], DEAR);
        check(&[CHEAP, DEAR], DEAR);
        assert_eq!(Users::parse("").unwrap().find("x").1.cost(), Cost::default());
    }
}
