//! What is put over paths that a container may not see: the null device over files, an empty read-only directory over
//! directories. One of each serves every container of this process, as trees of mounts in no namespace.

use std::cell::OnceCell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::stat::{fstat, major, minor};

use super::guard::{self, Guard};
use super::place::Kind;
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::mount::{self, Reach};

/// The two covers.
#[derive(Debug, Default)]
pub(crate) struct Covers {
    null: OnceCell<OwnedFd>,
    empty: OnceCell<OwnedFd>,
}

const NULL_DEVICE: (u64, u64) = (1, 3);
const EMPTY: u64 = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;

impl Covers {
    /// Makes what is missing, from the mounts of this process: in the maker, or in a child that has left
    /// none of them yet.
    pub(super) fn fill(&self) -> Result<(), Failed> {
        if self.null.get().is_none() {
            let null = mount::copy(c"/dev/null", Reach::One).map_err(Doing::Source.failed())?;
            verify(null.as_fd()).map_err(Doing::Verify.failed())?;
            crate::harmless(self.null.set(null));
        }
        if self.empty.get().is_none() {
            let options = [(c"nr_blocks", c"1"), (c"nr_inodes", c"1"), (c"mode", c"755")];
            let empty = mount::new_tmpfs(&options, EMPTY).map_err(Doing::Configure.failed())?;
            crate::harmless(self.empty.set(empty));
        }
        Ok(())
    }

    /// The descriptors of both, as far as they are made.
    pub(super) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        [&self.null, &self.empty].into_iter().filter_map(|cover| cover.get().map(AsRawFd::as_raw_fd))
    }

    /// A copy of the cover that fits.
    pub(super) fn copy(&self, kind: Kind) -> nix::Result<OwnedFd> {
        let cover = match kind {
            Kind::Directory => &self.empty,
            Kind::File => &self.null,
        };
        mount::copy_of(cover.get().ok_or(Errno::EBADF)?.as_fd(), Reach::One)
    }
}

/// Something else under the null device's name would be opened to the container (CVE-2025-31133).
fn verify(file: BorrowedFd<'_>) -> nix::Result<()> {
    let status = fstat(file)?;
    let device = (major(status.st_rdev), minor(status.st_rdev));
    let is_null = status.st_mode & libc::S_IFMT == libc::S_IFCHR && device == NULL_DEVICE;
    if is_null || guard::is_off(Guard::Null) { Ok(()) } else { Err(Errno::ENODEV) }
}
