//! Why the network could not be made or removed.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::config::{Cidr, ConfigError};

/// Why the network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Settings that do not go together.
    #[error("the pod network's settings are wrong")]
    Config(#[source] ConfigError),
    /// The configuration file is not what it should be.
    #[error("cannot parse {}", path.display())]
    ConfigFile {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: serde_json::Error,
    },
    /// A file of the lease record or a setting of the kernel.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Every address of the range has an owner.
    #[error("no address is left in {range}")]
    RangeFull {
        /// The range.
        range: Cidr,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// An address that was asked for has another owner.
    #[error("address {address} belongs to {owner}")]
    AddressTaken {
        /// Which.
        address: Ipv4Addr,
        /// Whose it is.
        owner: String,
    },
    /// An address that was asked for is none that can be given.
    #[error("address {address} cannot be given from {range}: it lies outside, or is the range's own")]
    AddressOutside {
        /// Which.
        address: Ipv4Addr,
        /// The range.
        range: Cidr,
    },
    /// A link of that name is there and is not ours.
    #[error("link {bridge} belongs to {owner}")]
    BridgeTaken {
        /// Its name.
        bridge: String,
        /// What is known of its owner.
        owner: String,
    },
    /// The bridge serves another range, and pods use it.
    #[error("bridge {bridge} has the address {current} and pods use it, so it cannot serve {wanted}")]
    RangeChanged {
        /// Its name.
        bridge: String,
        /// Its address.
        current: String,
        /// The range asked for.
        wanted: Cidr,
    },
    /// Another link of the host has addresses of the pod range.
    #[error("the pod range {range} overlaps with {taken} of the link {link}")]
    RangeTaken {
        /// The pod range.
        range: Cidr,
        /// The link's address.
        taken: String,
        /// The link.
        link: String,
    },
    /// The kernel has no such thing.
    #[error("cannot {operation}: this kernel lacks {feature}")]
    KernelLacks {
        /// What was tried.
        operation: String,
        /// The kernel's configuration option.
        feature: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {operation}")]
    Kernel {
        /// What was tried on what.
        operation: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl Error {
    /// What would work.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::RangeFull { flag, .. } => {
                Some(format!("delete pods, or choose a larger range with {flag}"))
            }
            Self::BridgeTaken { bridge, .. } => Some(format!(
                "choose another with --bridge and --pod-cidr; if it is left over: ip link delete {bridge}"
            )),
            Self::RangeChanged { current, .. } => Some(format!(
                "use the range of {current} (--pod-cidr), another --bridge, or delete the pods first"
            )),
            Self::RangeTaken { .. } => Some("choose another range with --pod-cidr".to_owned()),
            Self::KernelLacks { feature, .. } => Some(format!(
                "load the module behind {feature}, or run pods without a network: --network loopback"
            )),
            Self::Kernel { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "run as root (CAP_NET_ADMIN), or run pods without a network: --network loopback".to_owned(),
            ),
            Self::AddressTaken { .. } | Self::AddressOutside { .. } => {
                Some("leave the address out to get a free one".to_owned())
            }
            Self::Config(_) | Self::ConfigFile { .. } | Self::File { .. } | Self::Kernel { .. } => None,
        }
    }

    /// For `map_err` of a file operation.
    pub(super) fn file(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { operation, path, source }
    }

    /// For `map_err` of a netlink request that stands or falls with one option of the kernel.
    pub(super) fn kernel(
        operation: impl Into<String>,
        feature: &'static str,
    ) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| {
            // EOPNOTSUPP: no such kind of link, no such subsystem. EPROTONOSUPPORT: no such netlink family.
            // ENOENT for a part of a rule: no such expression or chain type.
            let lacks = match rustix::io::Errno::from_io_error(&source) {
                Some(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::PROTONOSUPPORT) => true,
                Some(rustix::io::Errno::NOENT) => feature.starts_with("CONFIG_NF"),
                _ => false,
            };
            if lacks {
                Self::KernelLacks { operation, feature, source }
            } else {
                Self::Kernel { operation, source }
            }
        }
    }
}
