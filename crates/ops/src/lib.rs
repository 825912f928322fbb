//! Admin API, metrics, health, tracing set-up, privileges.
