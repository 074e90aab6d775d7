//! A process of no other use: systemd makes a scope around a process that exists, and what is to be in the scope comes
//! later.

use std::os::fd::AsFd;

use nix::sched::CloneFlags;
use nix::unistd::Pid;

use crate::harmless;
use crate::sys::{descriptor, pidfd, process};

/// Holds a unit until there is something in it. Ends with this value, and with whoever made it.
#[derive(Debug)]
pub(crate) struct Placeholder(process::Child);

impl Placeholder {
    /// Starts it.
    pub(crate) fn start() -> nix::Result<Self> {
        process::spawn(CloneFlags::empty(), None, &nix::unistd::getpid(), hold).map(Self)
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

/// Waits to be killed; dies with its maker, also where that was killed before it could be said.
fn hold(maker: &Pid) -> ! {
    let kept = descriptor::close_all_but(&[]).and_then(|()| process::die_with_parent(libc::SIGKILL));
    if kept.is_err() || nix::unistd::getppid() != *maker {
        process::leave(1);
    }
    loop {
        nix::unistd::pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_maker_is_gone_ends() {
        // As after the maker's death: another process is its parent.
        let orphan = process::spawn(CloneFlags::empty(), None, &Pid::from_raw(1), hold).unwrap();
        let orphan = Placeholder(orphan);
        let mut polled = [nix::poll::PollFd::new(orphan.0.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut polled, 20_000_u16), Ok(1));
        let held = Placeholder::start().unwrap();
        assert_eq!(process::exit_of_child(held.0.pidfd.as_fd()), None);
    }
}
