//! Queue runner, connection pool and transports; drives the client session.

pub mod maildir;
