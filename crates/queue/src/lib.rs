#![doc = include_str!("../README.md")]

mod rate;
mod schedule;
mod scheduler;
mod window;

pub use rate::Rate;
pub use schedule::{Cause, Course, Intervals, Next, Schedule};
pub use scheduler::{Finished, Limits, Offer, Scheduler, SiteLimits, SiteState};
pub use window::Window;
