//! Being told when a group runs out of memory: a descriptor to poll, and what to read when it is ready.
//!
//! v1: an eventfd that is bound to `memory.oom_control` (`cgroups-v1/memory.rst`, section 10). v2: `memory.events` is
//! watched by inotify(7), since the file itself is always ready to read. Both are also woken when the group goes.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::file::{keyed, write};
use super::{Error, Group, Hierarchies};

/// Tells of a group that runs out of memory. Poll it for input.
#[derive(Debug)]
pub struct OutOfMemory {
    told: Told,
    /// The file with the count of kills.
    events: PathBuf,
    kills: u64,
}

#[derive(Debug)]
enum Told {
    Counter(EventFd),
    Changes(Inotify),
}

/// What happened since it was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happened {
    /// So many processes were killed for want of memory; with none, the group was at its limit.
    Kills(u64),
    /// The group is gone and nothing more will come.
    Gone,
}

impl AsFd for OutOfMemory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.told {
            Told::Counter(counter) => counter.as_fd(),
            Told::Changes(changes) => changes.as_fd(),
        }
    }
}

impl Group {
    /// Asks to be told.
    ///
    /// # Errors
    /// There is no memory controller, or the group is gone.
    pub fn watch_out_of_memory(&self) -> Result<OutOfMemory, Error> {
        let controller = || Error::NoController("memory".to_owned());
        let told = match &*self.hierarchies {
            Hierarchies::V1(_) => {
                let events = self.file("memory", "memory.oom_control").ok_or_else(controller)?;
                let control = self.file("memory", "cgroup.event_control").ok_or_else(controller)?;
                (Told::Counter(bind(&events, control)?), events)
            }
            Hierarchies::V2(_) => {
                let events = self.file("memory", "memory.events").ok_or_else(controller)?;
                (Told::Changes(watch(&events)?), events)
            }
        };
        let (told, events) = told;
        let kills = keyed(&events, "oom_kill").unwrap_or_default();
        Ok(OutOfMemory { told, events, kills })
    }

    /// How many of its processes were killed for want of memory; 0 where nobody counts.
    #[must_use]
    pub fn killed_for_memory(&self) -> u64 {
        let name = match &*self.hierarchies {
            Hierarchies::V1(_) => "memory.oom_control",
            Hierarchies::V2(_) => "memory.events",
        };
        self.file("memory", name).and_then(|file| keyed(&file, "oom_kill")).unwrap_or_default()
    }
}

fn bind(events: &Path, control: PathBuf) -> Result<EventFd, Error> {
    let file = std::fs::File::open(events);
    let file = OwnedFd::from(file.map_err(|source| fail("open", events, source))?);
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let counter =
        EventFd::from_value_and_flags(0, flags).map_err(|errno| fail("watch", events, errno.into()))?;
    // The kernel keeps what it needs of both; the file may be closed.
    write(control, &format!("{} {}", counter.as_fd().as_raw_fd(), file.as_raw_fd()))?;
    Ok(counter)
}

fn watch(events: &Path) -> Result<Inotify, Error> {
    let watched = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).and_then(|changes| {
        changes.add_watch(events, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF)?;
        Ok(changes)
    });
    watched.map_err(|errno| fail("watch", events, errno.into()))
}

fn fail(operation: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::File { operation, path: path.to_owned(), source }
}

impl OutOfMemory {
    /// Reads what happened; none when it was woken for nothing. Never blocks.
    pub fn read(&mut self) -> Option<Happened> {
        let woken = match &self.told {
            Told::Counter(counter) => counter.read().map(drop),
            Told::Changes(changes) => changes.read_events().map(drop),
        };
        if matches!(woken, Err(Errno::EAGAIN | Errno::EINTR)) {
            return None;
        }
        self.compare()
    }

    /// What happened until now, told or not: of a v2 group the kernel holds news back for up to 10 ms, and whom they
    /// are about may be dead by then.
    pub fn last(&mut self) -> Option<Happened> {
        match self.told {
            Told::Counter(_) => self.read(),
            Told::Changes(_) => self.compare(),
        }
    }

    fn compare(&mut self) -> Option<Happened> {
        let v1 = matches!(self.told, Told::Counter(_));
        let Some(kills) = keyed(&self.events, "oom_kill") else {
            // Before 4.13 v1 had no count: the wake-up is all there is.
            return if v1 && self.events.exists() { Some(Happened::Kills(0)) } else { Some(Happened::Gone) };
        };
        let fresh = kills.saturating_sub(self.kills);
        self.kills = kills;
        // v2 also tells of other limits (`high`, `max`), which kill nobody.
        if fresh > 0 || v1 { Some(Happened::Kills(fresh)) } else { None }
    }
}
