//! The reference's test vectors (section 14) and properties, in simulated time.

mod build;
mod changes;
mod deletion;
mod events;
mod init;
mod probes;
mod properties;
mod recovery;
mod restarts;
mod sandbox;
mod starting;
mod world;
