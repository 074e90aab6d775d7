//! A process of no other use: systemd makes a scope around a process that exists, and what is to be in the scope comes
//! later.

use std::os::fd::AsFd;

use nix::sched::CloneFlags;

use crate::harmless;
use crate::sys::{pidfd, process};

/// Holds a unit until there is something in it. Ends with this value, and with whoever made it.
#[derive(Debug)]
pub(crate) struct Placeholder(process::Child);

impl Placeholder {
    /// Starts it.
    pub(crate) fn start() -> nix::Result<Self> {
        process::spawn(CloneFlags::empty(), None, &(), hold).map(Self)
    }

    /// Its number, for systemd.
    pub(crate) fn pid(&self) -> Option<u32> {
        u32::try_from(self.0.pid).ok()
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        harmless(pidfd::signal(self.0.pidfd.as_fd(), libc::SIGKILL));
        process::reap_ended(self.0.pidfd.as_fd());
    }
}

/// Waits to be killed; dies with its maker.
fn hold((): &()) -> ! {
    harmless(process::die_with_parent(libc::SIGKILL));
    loop {
        nix::unistd::pause();
    }
}
