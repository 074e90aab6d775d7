//! `hull-oci`: the OCI runtime on hull's engine, for callers of runc.

use std::process::ExitCode;

fn main() -> ExitCode {
    hull_shim::oci::run(std::env::args_os().skip(1))
}
