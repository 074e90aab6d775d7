//! Freezing a group: all of its processes stop at once, where they are.
//!
//! v2 tells when all have stopped (`cgroup.events` can be polled); v1 does not, so there who waits looks again after
//! growing pauses.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::file::{keyed_in, write};
use super::{Error, Group, Hierarchies};
use crate::harmless;
use crate::sys::clock;

/// How far a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezer {
    /// Its processes run.
    Thawed,
    /// It was asked to freeze and not all have stopped.
    Freezing,
    /// All have stopped.
    Frozen,
}

/// First pause between two looks, in milliseconds, and the longest.
const PAUSES: (u16, u16) = (1, 16);

impl Group {
    /// Asks all processes to stop, and does not wait for it.
    ///
    /// # Errors
    /// The group is gone or there is no freezer.
    pub fn begin_freeze(&self) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(_) => write(self.freezer_file("freezer.state")?, "FROZEN"),
            Hierarchies::V2(_) => write(self.freezer_file("cgroup.freeze")?, "1"),
        }
    }

    /// Stops all processes and waits until they have. Not for an event loop.
    ///
    /// # Errors
    /// It takes longer than `limit`; then all run again.
    pub fn freeze(&self, limit: Duration) -> Result<(), Error> {
        self.begin_freeze()?;
        let waited = match &*self.hierarchies {
            Hierarchies::V1(_) => self.look_until_frozen(limit),
            Hierarchies::V2(_) => self.poll_until_frozen(limit),
        };
        if waited.is_err() {
            // The failure is what the caller hears of.
            harmless(self.thaw());
        }
        waited
    }

    /// Lets all processes go on.
    ///
    /// # Errors
    /// The group is gone or there is no freezer.
    pub fn thaw(&self) -> Result<(), Error> {
        match &*self.hierarchies {
            Hierarchies::V1(_) => write(self.freezer_file("freezer.state")?, "THAWED"),
            Hierarchies::V2(_) => write(self.freezer_file("cgroup.freeze")?, "0"),
        }
    }

    /// How far it is; a group that is gone, and one without a freezer, is thawed.
    #[must_use]
    pub fn freezer(&self) -> Freezer {
        let read = |file| {
            let path = self.freezer_file(file).ok()?;
            std::fs::read_to_string(path).ok()
        };
        match &*self.hierarchies {
            Hierarchies::V1(_) => match read("freezer.state").unwrap_or_default().trim() {
                "FROZEN" => Freezer::Frozen,
                "FREEZING" => Freezer::Freezing,
                _ => Freezer::Thawed,
            },
            Hierarchies::V2(_) => {
                let events = read("cgroup.events").unwrap_or_default();
                let asked = || read("cgroup.freeze").is_some_and(|asked| asked.trim() == "1");
                match keyed_in(&events, "frozen") {
                    Some(1) => Freezer::Frozen,
                    _ if asked() => Freezer::Freezing,
                    _ => Freezer::Thawed,
                }
            }
        }
    }

    /// Whether all processes have stopped. On v1 also when the group above is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.freezer() == Freezer::Frozen
    }

    fn freezer_file(&self, file: &str) -> Result<PathBuf, Error> {
        self.file("freezer", file).ok_or_else(|| Error::NoController("freezer".to_owned()))
    }

    fn look_until_frozen(&self, limit: Duration) -> Result<(), Error> {
        let path = self.freezer_file("freezer.state")?;
        let mut deadline = Deadline::new("freeze", &path, limit);
        let (mut pause, longest) = PAUSES;
        while self.freezer() != Freezer::Frozen {
            deadline.pause(pause)?;
            pause = (pause * 2).min(longest);
            // A process that was forked meanwhile may have escaped: it is asked again.
            write(path.clone(), "FROZEN")?;
        }
        Ok(())
    }

    fn poll_until_frozen(&self, limit: Duration) -> Result<(), Error> {
        let path = self.freezer_file("cgroup.events")?;
        let fail = |source| Error::File { operation: "read", path: path.clone(), source };
        let mut events = File::open(&path).map_err(fail)?;
        let deadline = Deadline::new("freeze", &path, limit);
        loop {
            let mut text = String::new();
            events.rewind().and_then(|()| events.read_to_string(&mut text)).map_err(fail)?;
            if keyed_in(&text, "frozen") == Some(1) {
                return Ok(());
            }
            let left = PollTimeout::try_from(deadline.left()?).unwrap_or(PollTimeout::MAX);
            // An interrupted wait is a short one.
            harmless(poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], left));
        }
    }
}

/// The end of a wait.
pub(super) struct Deadline<'a> {
    operation: &'static str,
    path: &'a Path,
    limit: Duration,
    end: i64,
}

impl<'a> Deadline<'a> {
    pub(super) fn new(operation: &'static str, path: &'a Path, limit: Duration) -> Self {
        let length = i64::try_from(limit.as_nanos()).unwrap_or(i64::MAX);
        Self { operation, path, limit, end: clock::monotonic().saturating_add(length) }
    }

    /// What is left of it, at least a millisecond.
    pub(super) fn left(&self) -> Result<Duration, Error> {
        let left = u64::try_from(self.end - clock::monotonic()).unwrap_or_default();
        if left == 0 {
            let (operation, path) = (self.operation, self.path.to_owned());
            return Err(Error::Timeout { operation, path, milliseconds: self.limit.as_millis() });
        }
        Ok(Duration::from_nanos(left).max(Duration::from_millis(1)))
    }

    /// Waits for nothing but the time: where the kernel tells nobody.
    pub(super) fn pause(&mut self, milliseconds: u16) -> Result<(), Error> {
        let left = u16::try_from(self.left()?.as_millis()).unwrap_or(u16::MAX);
        // An interrupted wait is a short one.
        harmless(poll(&mut [], milliseconds.min(left)));
        Ok(())
    }
}
