#![doc = include_str!("../README.md")]

mod body;
mod client;
mod error;
mod request;

pub use client::{Client, Roots, RootsError};
pub use error::HttpError;
pub use request::{Body, Limits, Method, Request, Response};
