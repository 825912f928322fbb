//! Where log lines go, and in what form.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Libraries that tell more at `info` than an operator wants to know.
const QUIET: &str = "hickory_resolver=warn,hickory_net=warn,hickory_proto=warn,rustls=warn";

/// Sends log lines of at least `level` (`error`, `warn`, `info`, `debug`, `trace`) to standard
/// error. A second call in one process changes nothing.
pub fn init(format: Format, level: &str) {
    let level = if is_level(level) { level } else { "info" };
    let filter = EnvFilter::new(match level {
        "error" | "warn" => level.to_owned(),
        _ => format!("{level},{QUIET}"),
    });
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Whoever came first has set the format for the process; that is no error of ours.
    let _ = match format {
        Format::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        Format::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
}

fn is_level(text: &str) -> bool {
    matches!(text, "error" | "warn" | "info" | "debug" | "trace")
}
