#![doc = include_str!("../README.md")]

mod authenticator;
mod config;
mod hash;
mod users;

pub use authenticator::FileAuthenticator;
pub use config::FileConfig;
pub use hash::{BadHash, HashError, hash_password};
pub use users::{LineError, UsersError};
