//! The built-in pod network: a bridge, a veth pair and an address per pod, masquerading; by netlink,
//! in process.
//!
//! ```text
//!  pod's namespace                   host's namespace
//!   lo    127.0.0.1, <resolver>/32
//!   eth0  <pod>/16  --- veth pair --- hull<hash> -- hull0 (bridge, <gateway>/16) -- masquerading -- world
//! ```
//!
//! [`up`] and [`down`] are host tasks: short-lived, blocking, in the host's namespaces. `down` undoes
//! whatever part of `up` was done, and may be done again. Everything an `up` makes is found again by the
//! pod's uid: the lease names it, the veth's name is derived from it, and the rest (bridge, rules) goes when
//! no lease is left.
//!
//! The one namespace entered is the pod's, by a thread of the task that opens one netlink socket there and
//! ends (`rtnetlink`): addresses and routes cannot be set from outside. Nothing is executed.
//!
//! **Invariant:** a lease is made before anything that bears its address, and given back after all of it is
//! gone. Links, rules and forwarding are the host's; forwarding (`ip_forward`) stays on, for others may rely
//! on it by then.

mod bridge;
mod config;
mod error;
mod lease;
mod nft;
mod rtnetlink;
mod task;
#[cfg(test)]
mod tests;

pub use config::{BridgeName, Cidr, Config, ConfigError, Flags, Mode};
pub use error::Error;
pub use task::{Input, Up, claim_service_address, down, release_service, service_address, task_netns, up};
