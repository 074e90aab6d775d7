//! The cases: what hull does, by area. Run them with `make test`, or one of them with
//! `tests/run cargo test -p hull-tests --test cases NAME`.
#![expect(clippy::unwrap_used, reason = "a case fails by panicking, in its helpers too")]

mod api;
mod changes;
mod cli;
mod containers;
mod crash;
mod disk;
mod events;
mod full_root;
mod harness;
mod hooks;
mod host_files;
mod images;
mod init;
mod leftovers;
mod lifecycle;
mod manifests;
mod pause;
mod port_forward;
mod probes;
mod resandbox;
mod sandbox;
mod scale;
mod services;
mod sidecars;
mod simulate;
mod starting;
mod succession;
mod terminal;
mod termination;
mod volumes;
