//! Which parcels a command is about.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// All that is said must hold.
#[derive(Clone, Debug, Args)]
pub(crate) struct Narrow {
    /// The sender contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) sender: Option<String>,
    /// A recipient that is left contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) recipient: Option<String>,
    /// For recipients in this domain
    #[arg(long, visible_alias = "site", value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,
    /// In this state
    #[arg(long)]
    pub(crate) state: Option<StateArg>,
    /// Arrived longer ago than this: 30m, 4h, 2d
    #[arg(long = "older-than", visible_alias = "older", value_name = "TIME",
          value_parser = merpati_config::parse_duration)]
    pub(crate) older: Option<Duration>,
    /// Arrived no longer ago than this
    #[arg(long = "younger-than", visible_alias = "younger", value_name = "TIME",
          value_parser = merpati_config::parse_duration)]
    pub(crate) younger: Option<Duration>,
}

/// A parcel's state.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum StateArg {
    Active,
    Deferred,
    Held,
    /// Being attempted: only while the server runs
    Leased,
}
