//! Link flags of `hull-pause`, for this package alone.
//!
//! The small file needs the `pause` profile (it aborts on panic): `cargo build -p hull-pause --profile
//! pause`. Other profiles only get what they need to link at all.

use std::env;

/// What makes the file small: no relocation or unwind tables, no build id, headers and code in one page.
const SMALL: &str = "-Wl,-n,--no-pie,--build-id=none,-z,norelro,-z,noseparate-code,--gc-sections,\
                     --no-eh-frame-hdr,-z,noexecstack,-s";

fn main() {
    let directory = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    println!("cargo:rerun-if-changed=pause.ld");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-nostartfiles");
    // Cargo tells a build script neither the profile's name nor its panic strategy; `opt-level = "z"`
    // belongs to the `pause` profile alone.
    if env::var("OPT_LEVEL").as_deref() == Ok("z") {
        for flag in ["-nostdlib", SMALL, &format!("-Wl,-T,{directory}/pause.ld")] {
            println!("cargo:rustc-link-arg-bins={flag}");
        }
    }
}
