//! The process's own environment.

/// Removes a variable from this process's environment.
pub(crate) fn forget(name: &str) {
    // SAFETY: remove_var is unsound only while another thread reads the environment, and every caller is
    // the shim's only thread, before it forks for the first time.
    unsafe { std::env::remove_var(name) }
}
