//! A mount namespace with next to nothing in it, held by a long-lived maker.
//!
//! A new mount namespace is a copy of the one that its maker is in, mount by mount, and all but one of these copies are
//! thrown away again at the change of root. A child that joins this one before it takes its own copies a single mount,
//! whatever the host has. What it needs of the host, the maker has opened.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;

use crate::harmless;
use crate::sys::{mount, process, socket};

/// Makes it, by a child that hands the namespace over and ends.
pub(crate) fn make() -> nix::Result<OwnedFd> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let number = theirs.as_raw_fd();
    let child = process::spawn(CloneFlags::CLONE_NEWNS, None, &number, run)?;
    drop(theirs);
    let told = socket::receive(ours.as_fd(), size_of::<i32>());
    process::reap_ended(child.pidfd.as_fd());
    match told? {
        socket::Packet::Message(_, mut namespaces) if namespaces.len() == 1 => Ok(namespaces.remove(0)),
        socket::Packet::Message(bytes, _) => {
            let errno = bytes.first_chunk().map_or(libc::EPROTO, |bytes| i32::from_ne_bytes(*bytes));
            Err(Errno::from_raw(errno))
        }
        socket::Packet::Closed | socket::Packet::Truncated => Err(Errno::ECHILD),
    }
}

fn run(tell: &RawFd) -> ! {
    let (errno, namespace) = match trim() {
        Ok(namespace) => (0, Some(namespace)),
        Err(errno) => (errno as i32, None),
    };
    let descriptor = namespace.as_ref().map(AsRawFd::as_raw_fd);
    // A maker that is gone does not need to know.
    harmless(socket::tell(*tell, &[IoSlice::new(&errno.to_ne_bytes())], descriptor));
    process::leave(0)
}

fn trim() -> nix::Result<OwnedFd> {
    mount::change(c"/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let own = open(c"/proc/thread-self/ns/mnt", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let options = [(c"nr_blocks", c"1"), (c"nr_inodes", c"1"), (c"mode", c"555")];
    let root = mount::new_tmpfs(options, mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC)?;
    mount::attach_at(root.as_fd(), c"/")?;
    fchdir(&root)?;
    mount::pivot_here()?;
    mount::detach(c".")?;
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_one_mount() {
        if !nix::unistd::geteuid().is_root() {
            return println!("skipped: needs root");
        }
        let namespace = make().unwrap();
        let procfs = super::super::procfs::root().unwrap();
        let seen = std::thread::spawn(move || {
            nix::sched::unshare(CloneFlags::CLONE_FS).unwrap();
            nix::sched::setns(&namespace, CloneFlags::CLONE_NEWNS).unwrap();
            let file =
                super::super::procfs::open_below(procfs.as_fd(), c"thread-self/mountinfo", OFlag::O_RDONLY);
            std::io::read_to_string(std::fs::File::from(file.unwrap())).unwrap()
        });
        let seen = seen.join().unwrap();
        assert_eq!(seen.lines().count(), 1, "{seen}");
        assert!(seen.contains(" / / ro,"), "{seen}");
    }
}
