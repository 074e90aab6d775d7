//! `hull-oci`: the OCI runtime on hull's engine, for callers of runc. This build has its name only.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    // A global option, as for every binary of hull.
    if arguments.next_if_eq("--root").is_some() {
        drop(arguments.next());
    }
    arguments.next_if(|argument| argument.starts_with("--root="));
    if arguments.next().as_deref() == Some("--version") {
        println!("hull-oci {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    eprintln!("hull-oci: this build has no OCI command line yet");
    ExitCode::FAILURE
}
