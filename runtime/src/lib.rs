//! hull: runs Kubernetes Pod manifests with the kubelet's lifecycle on one Linux host, with no
//! cluster. See `ARCHITECTURE.md`.

pub mod api;
pub mod cli;
pub mod core;
pub mod dns;
pub mod driver;
pub mod hook;
pub mod image;
pub mod manifest;
pub mod network;
pub mod print;
pub mod probe;
pub mod spec;
pub mod store;
pub mod volume;
