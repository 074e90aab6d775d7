//! What a configuration forbids on mounts, looked at before a restored container runs: criu 4.2 makes a mount writable that
//! was read-only where another mount shows the same file of the host.
//!
//! **Invariant:** no container runs with a mount that its configuration restricts and the kernel does not.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::sched::CloneFlags;
use nix::sys::statvfs::{FsFlags, fstatvfs};
use oci_spec::runtime::Spec;

use super::children;
use super::outside::{find, mount_points, open_root};
use crate::container::engine::files::restrictions;
use crate::oci::error::Error;
use crate::sys::mount::{self, Reach};
use crate::sys::{namespace, pidfd, process};

/// Attributes of a mount, and how statvfs(3) shows them.
const SHOWN: [(u64, FsFlags); 4] = [
    (mount::RDONLY, FsFlags::ST_RDONLY),
    (mount::NOSUID, FsFlags::ST_NOSUID),
    (mount::NODEV, FsFlags::ST_NODEV),
    (mount::NOEXEC, FsFlags::ST_NOEXEC),
];

/// Sets again what is missing on the mounts of the process `pid`, which is stopped.
pub(super) fn seal(spec: &Spec, bundle: &Path, pid: i32) -> Result<(), Error> {
    let root = open_root(pid)?;
    let points = mount_points(pid)?;
    let mut open = Vec::new();
    for (path, wanted) in restrictions(spec, bundle) {
        // A container that may has perhaps unmounted it.
        let found = find(&root, &path).filter(|(_, point)| points.contains(point));
        let Some((mount, _)) = found else { continue };
        let failed =
            |errno| Error::Kernel(format!("restrict the restored mount at {}", path.display()), errno);
        let missing = wanted & !attributes(&mount).map_err(failed)?;
        if missing != 0 {
            open.push((path, mount, missing));
        }
    }
    for (path, mount, missing) in open {
        let set = set(pid, mount.as_raw_fd(), missing);
        set.map_err(|errno| {
            Error::Kernel(format!("restrict the restored mount at {}", path.display()), errno)
        })?;
    }
    Ok(())
}

fn attributes(mount: &OwnedFd) -> nix::Result<u64> {
    let shown = fstatvfs(mount)?.flags();
    Ok(SHOWN.iter().filter(|(_, flag)| shown.contains(*flag)).fold(0, |all, (attribute, _)| all | attribute))
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
