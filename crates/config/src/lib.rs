//! TOML configuration with messages that point at the line.
