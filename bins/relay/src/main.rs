//! The relay (MTA): takes mail from trusted hosts, queues it and delivers it.

use std::process::ExitCode;

fn main() -> ExitCode {
    merpati_role::Role::relay().main()
}
