//! Link flags of `hull-shim` and `hull-oci`: they are linked for a fixed address, and what they run lies together.
//!
//! A static position-independent program relocates itself whenever it starts, and so writes to nearly every page that has a
//! pointer in it: more than half of the page faults of a start that does nothing (docs/performance.md), and private memory of every
//! resident shim. Both talk to the host's root only; stack, heap and the kernel's pages stay where chance puts them. `hull`, which talks to pods, stays position-independent.
//!
//! The kernel maps program text in pieces of 64 kB around what is executed. What runs comes first in the programs that are installed
//! (`hull-oci.ld`, `hull-shim.ld`, which `make order` records), so that a short command has a third of its text in memory and takes fewer page faults. lld and GNU ld take such a
//! script; with a linker that does not (gold, mold), `HULL_NO_ORDER=1 make build` leaves it out.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=HULL_NO_ORDER");
    let is_release = std::env::var_os("PROFILE").is_some_and(|profile| profile == "release");
    let is_ordered = is_release && std::env::var_os("HULL_NO_ORDER").is_none();
    for program in ["hull-oci", "hull-shim"] {
        println!("cargo:rerun-if-changed={program}.ld");
        if is_ordered {
            println!("cargo:rustc-link-arg-bin={program}=-T{}/{program}.ld", env!("CARGO_MANIFEST_DIR"));
        }
    }
    println!("cargo:rustc-link-arg-bins=-no-pie");
    println!("cargo:rustc-link-arg-bins=-static");
}
