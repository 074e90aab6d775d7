//! The groups of a container, as its record names them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::cgroup::{Depth, Group};

/// How long processes may take to leave a group, and to stop in it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which group a container is in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    /// Its directory per controller, as runc's own state has them; none where the container has no group of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) paths: BTreeMap<String, PathBuf>,
    /// The systemd unit that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

impl Membership {
    /// The group; none where the container has none of its own.
    pub(crate) fn group(&self) -> Option<Group> {
        Group::from_paths(&self.paths)
    }

    /// The group, for what cannot be done without.
    pub(crate) fn needed(&self) -> Result<Group, Error> {
        self.group().ok_or_else(|| Error::Refused("cgroup not exist".to_owned()))
    }

    /// Whether its processes are stopped by the freezer.
    pub(crate) fn is_frozen(&self) -> bool {
        self.group().is_some_and(|group| group.is_frozen())
    }

    /// Every process in it.
    pub(crate) fn pids(&self) -> Vec<i32> {
        self.group().map(|group| group.processes(Depth::Recursive)).unwrap_or_default()
    }

    /// Sends SIGKILL to every process in it; false where the container has no group of its own.
    pub(crate) fn kill(&self) -> Result<bool, Error> {
        let Some(group) = self.group() else {
            return Ok(false);
        };
        group.kill()?;
        // On v1 nothing dies in the freezer; one that is not there holds nobody.
        crate::harmless(group.thaw());
        Ok(true)
    }

    /// Stops its processes where they are.
    pub(crate) fn freeze(&self) -> Result<(), Error> {
        Ok(self.needed()?.freeze(PATIENCE)?)
    }

    /// Lets its processes go on.
    pub(crate) fn thaw(&self) -> Result<(), Error> {
        Ok(self.needed()?.thaw()?)
    }

    /// Ends whoever is left in it and removes it.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let Some(group) = self.group().filter(Group::exists) else {
            return Ok(());
        };
        if group.is_frozen() {
            group.kill()?;
            group.thaw()?;
        }
        Ok(group.remove_within(PATIENCE)?)
    }
}

/// What a group uses, as `events` tells it.
pub(crate) fn statistics(_: &Group) -> serde_json::Value {
    serde_json::json!({})
}
