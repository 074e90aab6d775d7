//! The last changes, after the pivot: read-only mounts, read-only paths, masked paths.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::fstat;

use super::place::{Kind, Links};
use super::root::{Change, Root, Setting};
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::descriptor::Loose;
use crate::sys::mount::{self, Reach};

const READ_ONLY: Change = Change::Attributes { set: mount::RDONLY, clear: 0 };

/// A mount that had to be writable until now is so no longer.
pub(super) fn remount(root: &Root, path: &CStr) -> Result<(), Failed> {
    let found = root.find(path, Links::Followed).map_err(Doing::Place.failed())?;
    let setting = Setting { reach: Reach::One, change: READ_ONLY };
    root.set(found.as_fd(), setting).map_err(Doing::Attributes.failed())
}

/// The root is read-only; its other attributes stay.
pub(super) fn remount_root(root: &Root) -> Result<(), Failed> {
    let setting = Setting { reach: Reach::One, change: READ_ONLY };
    root.directory().and_then(|mount| root.set(mount, setting)).map_err(Doing::Attributes.failed())
}

/// A path can be read and no more. One that is missing needs nothing.
pub(super) fn read_only(root: &Root, path: &CStr) -> Result<(), Failed> {
    let Some(place) = present(root, path)? else { return Ok(()) };
    if let Some(copy) = root.copy_read_only(place.as_fd()).map_err(Doing::Source.failed())? {
        return mount::attach(copy.as_fd(), place.as_fd()).map_err(Doing::Attach.failed());
    }
    let copy = root.loose(mount::copy_of(place.as_fd(), Reach::Tree).map_err(Doing::Source.failed())?);
    let attributes = Doing::Attributes.failed();
    if root.sets_detached() {
        root.set(copy.as_fd(), Setting { reach: Reach::Tree, change: READ_ONLY }).map_err(attributes)?;
        return mount::attach(copy.as_fd(), place.as_fd()).map_err(Doing::Attach.failed());
    }
    mount::attach(copy.as_fd(), place.as_fd()).map_err(Doing::Attach.failed())?;
    root.set(copy.as_fd(), Setting { reach: Reach::One, change: READ_ONLY }).map_err(attributes)
}

/// A path cannot be seen. One that is missing needs nothing.
pub(super) fn mask(root: &Root, path: &CStr) -> Result<(), Failed> {
    let Some(place) = present(root, path)? else { return Ok(()) };
    let mode = fstat(&place).map_err(Doing::Verify.failed())?.st_mode;
    let kind = if mode & libc::S_IFMT == libc::S_IFDIR { Kind::Directory } else { Kind::File };
    root.covers()?.cover(root, place.as_fd(), kind)
}

fn present(root: &Root, path: &CStr) -> Result<Option<Loose>, Failed> {
    match root.find(path, Links::Followed) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(Doing::Place.failed()(errno)),
    }
}
