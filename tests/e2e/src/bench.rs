//! What `cargo xtask bench` measures: the spool beside a bare file, and the relay beside Postfix
//! and beside a sink that stores nothing.
//!
//! Whoever is compared takes turns, on the same disk and with the same generator and sink, and each
//! turn begins with nothing and leaves nothing. Figures are medians.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

mod deliver;
pub mod fill;
mod idle;
mod mail;
mod million;
mod ours;
mod report;
mod sites;
mod spool;
mod tool;

pub use report::print;

/// Octets of a message.
const SIZE: usize = 10_240;
/// Connections that send at once.
const CLIENTS: usize = 50;

/// How much is measured, and where.
pub struct Plan {
    /// The binaries, of a release build.
    pub binaries: PathBuf,
    /// A directory on the disk that is measured.
    pub base: PathBuf,
    /// How often each is measured.
    pub rounds: usize,
    /// A quick run makes do with less of everything.
    pub quick: bool,
    /// Which parts.
    pub parts: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The spool alone, and a bare file.
    Spool,
    /// Taking mail over connections that are kept.
    AcceptKept,
    /// Taking mail over a new connection each.
    AcceptNew,
    /// Passing mail on.
    Relay,
    /// Passing on what is queued already.
    Deliver,
    /// Many domains on few sites, one of them dead and one slow.
    Sites,
    /// A million messages that wait.
    Million,
    /// Ten thousand connections that do nothing.
    Idle,
}

impl Part {
    /// All of them, in the order in which they are measured.
    pub const ALL: [Self; 8] = [
        Self::Spool,
        Self::AcceptKept,
        Self::AcceptNew,
        Self::Relay,
        Self::Deliver,
        Self::Sites,
        Self::Million,
        Self::Idle,
    ];

    /// Its key in the JSON.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Spool => "spool",
            Self::AcceptKept => "accept_kept",
            Self::AcceptNew => "accept_new",
            Self::Relay => "relay",
            Self::Deliver => "deliver",
            Self::Sites => "sites",
            Self::Million => "million",
            Self::Idle => "idle",
        }
    }
}

impl Plan {
    /// This much, or less if it is to be quick.
    fn scaled(&self, whole: u64, quick: u64) -> u64 {
        if self.quick { quick } else { whole }
    }
}

/// Measures what the plan says; what is not measured is null.
///
/// # Errors
/// Something does not start, refuses mail, or loses some.
pub fn run(plan: &Plan) -> Result<Value> {
    tool::raise_descriptor_limit()?;
    let mut figures = json!({});
    for part in Part::ALL {
        figures[part.key()] = if plan.parts.contains(&part) {
            eprintln!("measuring {} …", part.key());
            match part {
                Part::Spool => spool::measure(plan)?,
                Part::AcceptKept => mail::accept(plan, &[])?,
                Part::AcceptNew => mail::accept(plan, &["--new-connections"])?,
                Part::Relay => mail::relay(plan)?,
                Part::Deliver => deliver::measure(plan)?,
                Part::Sites => sites::measure(plan)?,
                Part::Million => million::measure(plan)?,
                Part::Idle => idle::measure(plan)?,
            }
        } else {
            Value::Null
        };
    }
    Ok(figures)
}

/// The middle one; 0 of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
