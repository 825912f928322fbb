#![doc = include_str!("../README.md")]

pub mod activity;
pub mod admin;
pub mod api;
pub mod client;
pub mod events;
pub mod log;
pub mod metrics;
pub mod privileges;
pub mod signals;
pub mod state_dir;

pub use activity::Activity;
pub use admin::{
    Admin, AdminError, AdminSettings, Command, CommandError, DnssecHealth, Phase, Readiness,
    Serving, Shedding, Vitals,
};
pub use events::EventLog;
pub use metrics::Metrics;
pub use privileges::{PrivilegeError, User};
pub use signals::{Signal, Signals};
