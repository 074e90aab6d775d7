//! One container: from `config.json` to a running process, exec, signal, delete.

pub mod seccomp;
