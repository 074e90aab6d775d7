//! Programs that have never heard of hull drive `hull-oci`: podman, containerd and docker as Debian has them, each with
//! storage, state and sockets of its own (`make test-callers`). The same cases run against an established runtime
//! with `HULL_TEST_RUNTIME`, as a check on the cases themselves.
//!
//! **Invariant:** no network is used; every daemon is a child of its case and ends with it.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking, in its helpers too")]

#[macro_use]
mod place;

mod containerd;
mod docker;
mod podman;
