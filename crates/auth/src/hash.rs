//! Argon2id: making hashes, and checking passwords against them.

use std::str::FromStr;

use argon2::password_hash::phc::{Output, Salt};
use argon2::{
    ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, PasswordHash, PasswordHasher as _, Version,
};
use merpati_types::Secret;

/// The most memory one check may take, in KiB: what a hash asks for comes from a file.
const MEMORY_LIMIT: u32 = 1024 * 1024;
/// The most passes over the memory.
const PASSES_LIMIT: u32 = 64;

/// No hash could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot hash the password: {0}")]
pub struct HashError(argon2::password_hash::Error);

/// Hashes a password for the file of users.
///
/// Argon2id with 19 MiB, two passes, one lane (the recommendation of the OWASP Password Storage
/// Cheat Sheet) and 16 octets of random salt. Takes about 17 ms.
///
/// # Errors
/// [`HashError`], when the system has no random numbers.
pub fn hash_password(password: &Secret<String>) -> Result<String, HashError> {
    let hash = Argon2::default().hash_password(password.expose().as_bytes());
    Ok(hash.map_err(HashError)?.to_string())
}

/// Why a text is no hash that can be checked. Never quotes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadHash {
    /// Not in the PHC string format, or without salt, output or sensible parameters.
    #[error("the hash is malformed")]
    Malformed,
    /// Of another function, or of another kind of argon2.
    #[error("the hash is not argon2id")]
    Algorithm,
    /// One login could hold the machine.
    #[error("the hash asks for more than {MEMORY_LIMIT} KiB or {PASSES_LIMIT} passes")]
    TooCostly,
}

/// A hash that has been looked over and can be checked against.
#[derive(Clone, Debug)]
pub(crate) struct StoredHash {
    argon2: Argon2<'static>,
    salt: Salt,
    output: Output,
}

/// The memory a check works in, kept for the next one. Left to the allocator, every thread that
/// ever checked a password would keep a piece of its own.
#[derive(Default)]
pub(crate) struct Scratch(Vec<Block>);

impl Scratch {
    fn blocks(&mut self, count: usize) -> &mut [Block] {
        if self.0.len() < count {
            // The old piece goes first: two at a time are never needed.
            self.0 = Vec::new();
            self.0 = vec![Block::new(); count];
        }
        &mut self.0[..count]
    }
}

/// What a check takes. The order is that of the work, roughly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost {
    memory: u32,
    passes: u32,
    lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self::of(&Params::DEFAULT)
    }
}

impl Cost {
    fn of(params: &Params) -> Self {
        Self { memory: params.m_cost(), passes: params.t_cost(), lanes: params.p_cost() }
    }
}

impl FromStr for StoredHash {
    type Err = BadHash;

    fn from_str(text: &str) -> Result<Self, BadHash> {
        let hash = PasswordHash::new(text).map_err(|_| BadHash::Malformed)?;
        if hash.algorithm != ARGON2ID_IDENT {
            return Err(BadHash::Algorithm);
        }
        let (Some(salt), Some(output)) = (hash.salt, hash.hash) else {
            return Err(BadHash::Malformed);
        };
        let params = Params::try_from(&hash).map_err(|_| BadHash::Malformed)?;
        let version = hash.version.map_or(Ok(Version::default()), Version::try_from);
        let version = version.map_err(|_| BadHash::Malformed)?;
        let cost = Cost::of(&params);
        if cost.memory > MEMORY_LIMIT || cost.passes > PASSES_LIMIT {
            return Err(BadHash::TooCostly);
        }
        let argon2 = Argon2::new(Algorithm::Argon2id, version, params);
        Ok(Self { argon2, salt, output })
    }
}

impl StoredHash {
    /// A hash that no password has, and that costs as much to check as others of this cost.
    pub(crate) fn decoy(cost: Cost) -> Self {
        let Cost { memory, passes, lanes } = cost;
        // Salt and output are fixed: they are never answered with, only worked on.
        let text = format!(
            "$argon2id$v=19$m={memory},t={passes},p={lanes}$ZGVjb3lkZWNveWRlY28$\
             AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        );
        text.parse().expect("a decoy is built from parameters that were read before")
    }

    pub(crate) fn cost(&self) -> Cost {
        Cost::of(self.argon2.params())
    }

    /// Does the work; compares in constant time. Blocks for as long as the cost says.
    pub(crate) fn matches(&self, password: &Secret<String>, scratch: &mut Scratch) -> bool {
        let mut buffer = [0; Output::MAX_LENGTH];
        let computed = &mut buffer[..self.output.len()];
        let blocks = scratch.blocks(self.argon2.params().block_count());
        let password = password.expose().as_bytes();
        let done =
            self.argon2.hash_password_into_with_memory(password, &self.salt, computed, blocks);
        done.is_ok() && Output::new(computed).is_ok_and(|computed| computed == self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_hash_is_checked_by_its_own_parameters_and_salted() {
        let [one, two] = [(); 2].map(|()| hash_password(&secret("päss word")).unwrap());
        assert_ne!(one, two);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        let stored: StoredHash = one.parse().unwrap();
        let scratch = &mut Scratch::default();
        assert!(stored.matches(&secret("päss word"), scratch));
        for wrong in ["", "päss", "päss word ", "Päss word"] {
            assert!(!stored.matches(&secret(wrong), scratch), "{wrong}");
        }
        // What the memory was used for before does not matter.
        assert!(
            !StoredHash::decoy(Cost { memory: 8, passes: 3, lanes: 1 })
                .matches(&secret(""), scratch)
        );
        assert!(stored.matches(&secret("päss word"), scratch));
    }

    #[test]
    fn hashes_of_the_reference_implementation_are_checked() {
        let scratch = &mut Scratch::default();
        for hash in [
            "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
            "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc",
        ] {
            let stored: StoredHash = hash.parse().unwrap();
            assert!(stored.matches(&secret("password"), scratch), "{hash}");
            assert!(!stored.matches(&secret("passwore"), scratch), "{hash}");
        }
    }

    #[test]
    fn a_decoy_costs_the_same_and_matches_nothing() {
        let cost = Cost { memory: 64, passes: 3, lanes: 1 };
        let decoy = StoredHash::decoy(cost);
        assert_eq!(decoy.cost(), cost);
        assert!(!decoy.matches(&secret(""), &mut Scratch::default()));
        let _ = StoredHash::decoy(Cost::default());
    }

    #[test]
    fn other_hashes_are_refused() {
        let rest = "ZGVjb3lkZWNveWRlY28$AAAAAAAAAAAAAAAAAAAAAA";
        for (text, why) in [
            (String::new(), BadHash::Malformed),
            ("hunter2".to_owned(), BadHash::Malformed),
            (format!("$argon2i$v=19$m=64,t=1,p=1${rest}"), BadHash::Algorithm),
            (format!("$scrypt$m=64${rest}"), BadHash::Algorithm),
            ("$argon2id$v=19$m=64,t=1,p=1".to_owned(), BadHash::Malformed),
            (format!("$argon2id$v=19$m=1,t=1,p=1${rest}"), BadHash::Malformed),
            (format!("$argon2id$v=19$m=1048577,t=1,p=1${rest}"), BadHash::TooCostly),
            (format!("$argon2id$v=19$m=64,t=65,p=1${rest}"), BadHash::TooCostly),
        ] {
            assert_eq!(text.parse::<StoredHash>().unwrap_err(), why, "{text}");
        }
    }
}
