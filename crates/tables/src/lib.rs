#![doc = include_str!("../README.md")]

mod cached;
mod file;
mod lines;
mod regex;
mod stock;

pub use cached::{CacheConfig, Cached};
pub use file::FileTable;
pub use lines::{FileError, MAX_FILE, MAX_LINE};
pub use regex::RegexTable;
pub use stock::{STOCK, stock};
