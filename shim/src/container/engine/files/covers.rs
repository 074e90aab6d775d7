//! What is put over paths that a container may not see: the null device over files, an empty read-only directory over
//! directories. One of each serves every container of this process, as trees of mounts in no namespace.

use std::cell::{Cell, OnceCell};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::stat::{fstat, major, minor};

use super::guard::{self, Guard};
use super::place::Kind;
use super::root::Root;
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::mount::{self, Reach};

/// The covers of this process.
#[derive(Debug)]
pub(crate) enum Covers {
    /// Those of its containers are copied from these, made when they are first asked for.
    Shared { null: OnceCell<OwnedFd>, empty: OnceCell<OwnedFd> },
    /// It makes one container, which gets them: to take a tree of mounts apart that nobody needs, the kernel waits for an RCU
    /// grace period.
    OfOne,
}

impl Default for Covers {
    fn default() -> Self {
        Self::Shared { null: OnceCell::new(), empty: OnceCell::new() }
    }
}

/// The covers of one container. A mount is copied from one that is in the same namespace (others can be copied
/// since Linux 6.15, and only by the one who made them); so the first mask takes the cover itself, and further ones
/// a copy of that.
#[derive(Debug)]
pub(super) struct OwnCovers {
    null: Cover,
    empty: Cover,
}

#[derive(Debug)]
struct Cover {
    mount: OwnedFd,
    used: Cell<bool>,
}

const NULL_DEVICE: (u64, u64) = (1, 3);
const EMPTY: u64 = mount::RDONLY | mount::NOSUID | mount::NODEV | mount::NOEXEC;

impl Covers {
    /// Whether whoever has them makes one container.
    pub(crate) fn is_of_one(&self) -> bool {
        matches!(self, Self::OfOne)
    }

    /// Covers for one container: in the maker, or in a child that has left none of its mounts yet.
    pub(super) fn own(&self, label: Option<&CStr>) -> Result<OwnCovers, Failed> {
        match self {
            // No other container has its label.
            _ if label.is_some() => Ok(OwnCovers { null: cover(null()?), empty: cover(empty(label)?) }),
            Self::Shared { null: one, empty: other } => {
                Ok(OwnCovers { null: copied(one, null)?, empty: copied(other, || empty(None))? })
            }
            Self::OfOne => Ok(OwnCovers { null: cover(null()?), empty: cover(empty(None)?) }),
        }
    }
}

fn cover(mount: OwnedFd) -> Cover {
    Cover { mount, used: Cell::new(false) }
}

fn copied(shared: &OnceCell<OwnedFd>, new: fn() -> Result<OwnedFd, Failed>) -> Result<Cover, Failed> {
    let copy = |of: &OwnedFd| mount::copy_of(of.as_fd(), Reach::One);
    if let Some(copied) = shared.get().and_then(|shared| copy(shared).ok()) {
        return Ok(cover(copied));
    }
    let made = new()?;
    match copy(&made) {
        Ok(copied) => {
            crate::harmless(shared.set(made));
            Ok(cover(copied))
        }
        // It cannot be copied from no namespace: each container gets a new one.
        Err(_) => Ok(cover(made)),
    }
}

fn null() -> Result<OwnedFd, Failed> {
    let null = mount::copy(c"/dev/null", Reach::One).map_err(Doing::Source.failed())?;
    verify(null.as_fd()).map_err(Doing::Verify.failed())?;
    Ok(null)
}

fn empty(label: Option<&CStr>) -> Result<OwnedFd, Failed> {
    // Room for its root and nothing else.
    let options = std::iter::once((c"nr_inodes", c"1"));
    let label = label.map(|label| (c"context", label));
    mount::new_tmpfs(options.chain(label), EMPTY).map_err(Doing::Configure.failed())
}

impl OwnCovers {
    /// The descriptors of both.
    pub(super) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        [&self.null, &self.empty].into_iter().map(|cover| cover.mount.as_raw_fd())
    }

    /// Both.
    pub(super) fn into_descriptors(self) -> impl Iterator<Item = OwnedFd> {
        [self.null, self.empty].into_iter().map(|cover| cover.mount)
    }

    /// Covers a place.
    pub(super) fn cover(&self, root: &Root, place: BorrowedFd<'_>, kind: Kind) -> Result<(), Failed> {
        if kind == Kind::File && guard::is_off(Guard::OwnNull) {
            let image = mount::copy(c"/dev/null", Reach::One).map_err(Doing::Source.failed())?;
            return mount::attach(image.as_fd(), place).map_err(Doing::Attach.failed());
        }
        let cover = match kind {
            Kind::Directory => &self.empty,
            Kind::File => &self.null,
        };
        let copy;
        let cover = if cover.used.replace(true) {
            copy =
                root.loose(mount::copy_of(cover.mount.as_fd(), Reach::One).map_err(Doing::Source.failed())?);
            copy.as_fd()
        } else {
            cover.mount.as_fd()
        };
        mount::attach(cover, place).map_err(Doing::Attach.failed())
    }
}

/// Something else under the null device's name would be opened to the container (CVE-2025-31133).
fn verify(file: BorrowedFd<'_>) -> nix::Result<()> {
    let status = fstat(file)?;
    let device = (major(status.st_rdev), minor(status.st_rdev));
    let is_null = status.st_mode & libc::S_IFMT == libc::S_IFCHR && device == NULL_DEVICE;
    if is_null || guard::is_off(Guard::Null) { Ok(()) } else { Err(Errno::ENODEV) }
}
