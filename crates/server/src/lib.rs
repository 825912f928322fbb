#![doc = include_str!("../README.md")]

mod conversation;
mod driver;
pub mod limits;
pub mod listener;
mod proxy;
mod received;
mod repeat;
mod serve;
mod service;
mod stream;
pub mod tls;
mod verdicts;

pub use driver::run;
pub use serve::{Listener, PeerTest, Server};
pub use service::{Clock, Repeats, Service, ServiceSettings, SystemClock, TlsMode, TraceClient};
pub use stream::Transport;
