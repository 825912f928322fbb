#![doc = include_str!("../README.md")]

pub mod authenticator;
pub mod body;
pub mod chain;
pub mod connection;
pub mod decision;
pub mod deliver;
pub mod explain;
pub mod facts;
mod guard;
pub mod observer;
pub mod options;
pub mod outbound;
pub mod policy;
pub mod resolver;
pub mod route;
pub mod spool;
pub mod state;
pub mod table;
pub mod tls;
pub mod transaction;

pub use async_trait::async_trait;
pub use authenticator::{AuthAnswer, Authenticator, Mechanisms};
pub use body::{BodyReader, BodySource};
pub use chain::{Chain, ChainError, ChainSession, Ruling};
pub use connection::{Account, Connection, Conversation, Hello, Protocol, TlsFacts};
pub use decision::{Decision, Effect, Effects, Failure, Outcome, PolicyResult};
pub use deliver::{Deliverer, DeliveryOutcome, ExplainHow, Job};
pub use explain::Finding;
pub use facts::{Fact, FactKind, Facts};
pub use observer::{Event, News, Observer, Observers, Stage};
pub use outbound::{
    Leave, OutboundChain, OutboundPolicy, PeerTls, RemoteHost, SendAs, Sending, Stopped,
};
pub use policy::{Policy, PolicyFactory};
pub use resolver::{Alias, Answer, Dnssec, Lookup, MxRecord, ResolveError, Resolver, TlsaRecord};
pub use route::{Branch, Headers, NoHeaders, Route, Router};
pub use spool::{Spool, SpoolError, SpoolWriter};
pub use state::State;
pub use table::{Hit, Table, TableError, Tables, lookup_address};
pub use tls::{SessionPolicy, StsPolicies, TLS_REPORT_TAG, TlsResults, TlsSession};
pub use transaction::{Message, Transaction};
