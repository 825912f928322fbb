#![doc = include_str!("../README.md")]

mod body;
mod config;
mod der;
#[cfg(test)]
mod fixture;
mod key;
mod sign;
mod signer;
mod signers;

pub use body::{BodyHash, BodyHasher, Canonicalization};
pub use key::{Algorithm, BadKey, DkimKey, KeyError, Selector, SelectorError};
pub use sign::DkimPolicy;
pub use signer::{DkimSigner, FieldError, FieldNames, SignError, SigningRules};
pub use signers::{DkimSigners, Scope};
