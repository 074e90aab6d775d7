//! Who is in a group.

use std::path::PathBuf;
use std::time::Duration;

use super::file::{members, pids};
use super::freezer::Deadline;
use super::{Error, Group, Hierarchies, Removal, v1};

/// How far down to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// In the group itself.
    Own,
    /// In the groups below as well.
    Recursive,
}

/// Pauses while processes leave a group, in milliseconds: the first one and the longest.
const PAUSES: (u16, u16) = (1, 32);

impl Group {
    /// The pids of its processes, as this process's PID namespace has them.
    #[must_use]
    pub fn processes(&self, depth: Depth) -> Vec<i32> {
        match (self.directory(), depth) {
            (None, _) => Vec::new(),
            (Some(directory), Depth::Own) => members(&directory),
            (Some(directory), Depth::Recursive) => pids(&directory),
        }
    }

    /// Whether it was made.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.directory().is_some_and(|directory| directory.exists())
    }

    /// Refuses a group in which somebody else's processes are, and one that is frozen: before a container is
    /// made in it. On v1 it looks into one hierarchy, as runc does. Tells whether the group is there.
    ///
    /// # Errors
    /// It is in use.
    pub fn check_unused(&self) -> Result<bool, Error> {
        if !self.exists() {
            return Ok(false);
        }
        let count = self.processes(Depth::Recursive).len();
        if count > 0 {
            return Err(Error::NotEmpty(count));
        }
        if self.is_frozen() { Err(Error::Frozen) } else { Ok(true) }
    }

    /// Kills all processes and removes the group; waits until they have left it. Not for an event loop, which
    /// uses [`Group::kill`] and [`Group::remove`] with a timer of its own.
    ///
    /// # Errors
    /// It takes longer than `limit`, or the kernel refuses it.
    pub fn remove_within(&self, limit: Duration) -> Result<(), Error> {
        let path = self.directory().unwrap_or_default();
        let mut deadline = Deadline::new("remove", &path, limit);
        let (mut pause, longest) = PAUSES;
        while self.remove()? == Removal::Busy {
            self.kill()?;
            deadline.pause(pause)?;
            pause = (pause * 2).min(longest);
        }
        Ok(())
    }

    /// The directory in which members are listed.
    pub(super) fn directory(&self) -> Option<PathBuf> {
        match &*self.hierarchies {
            Hierarchies::V1(all) => v1::killing(all).map(|hierarchy| hierarchy.root.join(&self.path)),
            Hierarchies::V2(root) => Some(root.join(&self.path)),
        }
    }
}
