//! How the mounts of a container are restricted: looked at when it is dumped, kept with the checkpoint, and looked at again
//! before the restored container runs. criu 4.2 makes a mount writable that was read-only where another mount shows the
//! same file of the host.
//!
//! **Invariant:** no container runs with a mount that was restricted when it was dumped, or, where the checkpoint does not
//! know, that its configuration restricts, and the kernel does not.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;

use super::children;
use super::outside::{Mounted, find, mounts, mounts_of, open_root};
use super::streams::mount_of;
use crate::container::engine::files::{Restriction, restrictions, wanted};
use crate::oci::error::Error;
use crate::oci::store::write_whole;
use crate::sys::mount::{self, Reach};
use crate::sys::{namespace, pidfd, process};

/// The file of a checkpoint with the mounts that it was made of; as proc(5) shows them.
const MOUNTS: &str = "mountinfo";

/// Keeps with a checkpoint what mounts the process `pid` has.
pub(crate) fn keep(images: &Path, pid: i32) -> Result<(), Error> {
    let path = format!("/proc/{pid}/mountinfo");
    let shown = std::fs::read(&path).map_err(Error::file("read", Path::new(&path)))?;
    write_whole(&images.join(MOUNTS), &shown, 0o600)
}

/// Sets again what is missing on the mounts of the process `pid`, which is stopped.
pub(super) fn seal(spec: &Spec, bundle: &Path, images: &Path, pid: i32) -> Result<(), Error> {
    let root = open_root(pid)?;
    let path = images.join(MOUNTS);
    // Other runtimes keep none.
    let before = if path.exists() { mounts(&path)? } else { Vec::new() };
    let asked = placed(restrictions(spec, bundle), &root);
    let mut open = Vec::new();
    for mounted in mounts_of(pid)? {
        let missing = missing(&mounted, &before, &asked);
        // What something else lies over is in nobody's reach.
        let found = (missing != 0).then(|| find(&root, &mounted.point)).flatten();
        if let Some((mount, _)) = found.filter(|(mount, _)| number(mount) == Some(mounted.number)) {
            open.push((mounted.point, mount, missing));
        }
    }
    for (path, mount, missing) in open {
        set(pid, mount.as_raw_fd(), missing).map_err(|errno| {
            Error::Kernel(format!("restrict the restored mount at {}", path.display()), errno)
        })?;
    }
    Ok(())
}

/// The restrictions at the places that their paths lead to.
fn placed(mut all: Vec<Restriction>, root: &OwnedFd) -> Vec<Restriction> {
    for one in &mut all {
        if let Some((_, place)) = find(root, &one.place) {
            one.place = place;
        }
    }
    all
}

fn missing(mounted: &Mounted, before: &[Mounted], asked: &[Restriction]) -> u64 {
    // Of several at one place the last is the one that was seen.
    let known = before.iter().rev().find(|known| known.point == mounted.point);
    known.map_or_else(|| wanted(asked, &mounted.point), |known| known.attributes) & !mounted.attributes
}

/// Of the mount that a descriptor belongs to.
fn number(descriptor: &OwnedFd) -> Option<u64> {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).ok()?;
    mount_of(&about)?.parse().ok()
}

struct Work {
    init: OwnedFd,
    mount: RawFd,
    missing: u64,
}

/// A mount is changed from inside its mount namespace alone; a child goes there for it.
fn set(pid: i32, mount: RawFd, missing: u64) -> nix::Result<()> {
    let work = Work { init: pidfd::open(pid)?, mount, missing };
    children::wait(&process::spawn(CloneFlags::empty(), None, &work, join_and_set)?)
}

fn join_and_set(work: &Work) -> ! {
    let joined = namespace::join(work.init.as_raw_fd(), libc::CLONE_NEWNS);
    let set = joined.and_then(|()| mount::set_attributes_of(work.mount, Reach::One, work.missing));
    process::leave(set.map_or_else(|errno| errno as i32, |()| 0))
}
