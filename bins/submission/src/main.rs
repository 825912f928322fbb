//! The submission server (MSA): takes mail from authenticated users and sends it on.

use std::process::ExitCode;

fn main() -> ExitCode {
    merpati_role::Role::submission().main()
}
