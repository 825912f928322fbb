//! The sections of a role's file.
//!
//! Every field tells its key, its default, and where the default comes from.

mod deliver;
mod destination;
mod limits;
mod listen;
mod mta_sts;
mod plugins;
mod process;
mod report;
pub(crate) mod source;
mod stores;
mod suppression;
mod tls_report;

pub use deliver::{Deliver, OutboundTls, Retry};
pub use destination::{Destination, Rate, RateError};
pub use limits::Limits;
pub use listen::{AuthRule, Certificate, Listen, ListenTls, OfferRule, Protocol, Tls};
pub use mta_sts::MtaSts;
pub use plugins::{Plugin, Table, Transport};
pub use process::{Admin, AdminTcp, Log, LogFormat};
pub use report::Report;
pub use source::{PoolMember, Source, SourcePool, Via};
pub use stores::{Dns, Dnssec, Spool};
pub use suppression::Suppression;
pub use tls_report::TlsReport;
