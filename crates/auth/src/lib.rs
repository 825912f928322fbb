#![doc = include_str!("../README.md")]

mod authenticator;
mod hash;
mod users;

pub use authenticator::{FileAuthenticator, FileConfig};
pub use hash::{BadHash, HashError, hash_password};
pub use users::{LineError, UsersError};
