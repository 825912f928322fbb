#![doc = include_str!("../README.md")]

mod schedule;
mod scheduler;
mod window;

pub use schedule::{Next, Schedule};
pub use scheduler::{Finished, Limits, Offer, Scheduler};
pub use window::Window;
