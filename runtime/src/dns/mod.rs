//! The resolver that the supervisor runs in the sandbox: names of the cluster from a [`Zone`], all others
//! from the host's resolvers.
//!
//! ```text
//!  query --> answer(zone, query) --> Local(reply)               -> client
//!  (UDP, TCP)   pure             --> Forward                    -> upstream -> client
//!                                --> Follow (an ExternalName)   -> upstream -> finish -> client
//! ```
//!
//! The supervisor asks the host's resolvers for itself too (`lookup`): hosts of probes and hooks may be names.
//!
//! Names and their meaning: reference `pod-lifecycle.md` 11.9, RFC 1034, 1035, 2308 (negative answers), 2782
//! (SRV), 6891 (EDNS). What goes upstream leaves by a socket of the host's network namespace, so that a
//! resolver on the host's loopback answers too: by TCP for clients that ask by it, and for what a datagram does not hold.
//!
//! The few message formats needed are our own (`read`, `write`): a query has to be forwarded whatever its
//! type and its EDNS flags, and `simple-dns` refuses types that it does not know. It checks ours in the
//! tests.

mod answer;
mod forward;
mod hosts;
mod lookup;
mod message;
mod read;
mod resolv_conf;
mod serve;
mod stream;
#[cfg(test)]
mod tests;
mod write;
mod zone;

pub use answer::{Answer, Follow, Transport, answer};
pub use forward::{StreamWanted, Upstream};
pub use hosts::known_addresses;
pub use lookup::{NotFound, look_up};
pub use message::Name;
pub use resolv_conf::ResolvConf;
pub use serve::{Error, Listeners, serve};
pub use zone::{Endpoint, ServicePort, ServiceRecord, Zone};

/// Where resolvers listen.
pub const PORT: u16 = 53;
