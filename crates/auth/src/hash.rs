//! Argon2id: making hashes, and checking passwords against them.

use std::str::FromStr;

use argon2::password_hash::phc::Ident;
use argon2::{
    ARGON2ID_IDENT, Argon2, Params, PasswordHash, PasswordHasher as _, PasswordVerifier as _,
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
    hash: PasswordHash,
    cost: Cost,
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
        if hash.salt.is_none() || hash.hash.is_none() {
            return Err(BadHash::Malformed);
        }
        let cost = Cost::of(&Params::try_from(&hash).map_err(|_| BadHash::Malformed)?);
        if cost.memory > MEMORY_LIMIT || cost.passes > PASSES_LIMIT {
            return Err(BadHash::TooCostly);
        }
        Ok(Self { hash, cost })
    }
}

impl StoredHash {
    /// A hash that no password has, and that costs as much to check as others of this cost.
    pub(crate) fn decoy(cost: Cost) -> Self {
        let ident: Ident = ARGON2ID_IDENT;
        let Cost { memory, passes, lanes } = cost;
        // Salt and output are fixed: they are never answered with, only worked on.
        let text = format!(
            "${ident}$v=19$m={memory},t={passes},p={lanes}$ZGVjb3lkZWNveWRlY28$\
             AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        );
        text.parse().expect("a decoy is built from parameters that were read before")
    }

    pub(crate) fn cost(&self) -> Cost {
        self.cost
    }

    /// Does the work; compares in constant time. Blocks for as long as the cost says.
    pub(crate) fn matches(&self, password: &Secret<String>) -> bool {
        let password = password.expose().as_bytes();
        // The parameters, the algorithm and the version are those of the hash.
        Argon2::default().verify_password(password, &self.hash).is_ok()
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
        assert!(stored.matches(&secret("päss word")));
        for wrong in ["", "päss", "päss word ", "Päss word"] {
            assert!(!stored.matches(&secret(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_decoy_costs_the_same_and_matches_nothing() {
        let cost = Cost { memory: 64, passes: 3, lanes: 1 };
        let decoy = StoredHash::decoy(cost);
        assert_eq!(decoy.cost(), cost);
        assert!(!decoy.matches(&secret("")));
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
