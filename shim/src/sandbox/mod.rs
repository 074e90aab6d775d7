//! The sandbox: pause in new namespaces, its hostname, loopback, sysctls and `/dev/shm`, and what is mounted
//! in a pod's directory.

pub(crate) mod mounts;
pub(crate) mod pause;
