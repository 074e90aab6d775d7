//! The resolver that the supervisor runs in the sandbox.
