//! What callers of runc see: cases for the rows of the OCI runtime's tables, run against `hull-oci` and, as a check
//! on the cases themselves, against an established runtime (`make test-oci`). A case that differs on purpose says
//! why.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking, in its helpers too")]

#[macro_use]
mod bundle;

mod apparmor;
mod at_once;
mod checkpoint;
mod command_line;
mod console;
mod delete;
mod devices;
mod exec;
mod filters;
mod flags;
mod hooks;
mod kill;
mod lifecycle;
mod limits;
mod mounts;
mod namespaces;
mod network;
mod outputs;
mod process;
mod refusals;
mod resources;
mod root;
mod rootless;
mod seccomp;
mod security;
mod selinux;
mod soak;
mod stdio;
mod strain;
mod systemd;
mod update;
mod validation;
