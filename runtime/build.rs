//! Link flags of `hull`: relative relocations in the packed form (`DT_RELR`), and what it runs lies together (`order.ld`; see
//! `shim/build.rs`).
//!
//! A static position-independent program relocates itself whenever it starts. The usual table has 24 bytes for each of tens of
//! thousands of pointers; the packed one is a bitmap a hundredth as long, so that a start reads and takes faults for far
//! fewer pages. glibc knows it since 2.36 and GNU ld since 2.38; an older linker warns and goes on without.

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=order.ld");
    let order = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("order.ld");
    if std::env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{}", order.display());
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
