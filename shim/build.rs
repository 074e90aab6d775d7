//! Link flags of `hull-shim` and `hull-oci`: they are linked for a fixed address, and what they run lies together.
//!
//! A static position-independent program relocates itself whenever it starts, and so writes to nearly every page that has a
//! pointer in it: more than half of the page faults of a start that does nothing (docs/performance.md), and private memory of every
//! resident shim. Both talk to the host's root only; stack, heap and the kernel's pages stay where chance puts them. `hull`, which talks to pods, stays position-independent.
//!
//! The kernel maps program text in pieces of 64 kB around what is executed. What runs comes first in the programs that are installed
//! (`order.ld`, which `make order` records), so that a short command has a third of its text in memory and takes fewer page faults.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=order.ld");
    let order = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("order.ld");
    if std::env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", order.display());
    }
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=-static");
}
