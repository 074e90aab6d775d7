//! The lifecycle hooks' handlers.
