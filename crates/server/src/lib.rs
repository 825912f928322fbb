//! Listeners, TLS, time-outs and drain; drives the server session.
