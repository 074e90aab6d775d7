//! Link flags of `hull`: relative relocations in the packed form (`DT_RELR`), and what it runs lies together (`hull.ld`; see
//! `shim/build.rs`).
//!
//! A static position-independent program relocates itself whenever it starts. The usual table has 24 bytes for each of tens of
//! thousands of pointers; the packed one is a bitmap a hundredth as long, so that a start reads and takes faults for far
//! fewer pages. glibc knows it since 2.36 and GNU ld since 2.38; an older linker warns and goes on without.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=hull.ld");
    println!("cargo:rerun-if-env-changed=HULL_NO_ORDER");
    let is_release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    if is_release && std::env::var_os("HULL_NO_ORDER").is_none() {
        println!("cargo:rustc-link-arg-bins=-T{}/hull.ld", env!("CARGO_MANIFEST_DIR"));
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
