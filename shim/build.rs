//! Link flags of `hull-shim` and `hull-oci`: they are linked for a fixed address.
//!
//! A static position-independent program relocates itself whenever it starts, and so writes to nearly every page that has a
//! pointer in it: more than half of the page faults of a start that does nothing (docs/performance.md), and private memory of every
//! resident shim. Both talk to the host's root only; stack, heap and the kernel's pages stay where chance puts them. `hull`, which talks to pods, stays position-independent.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=-static");
}
