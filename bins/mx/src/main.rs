//! The MX ingress: takes mail for local domains from the internet.

use std::process::ExitCode;

fn main() -> ExitCode {
    merpati_role::Role::mx().main()
}
