//! Deletes a tree that a hostile container may have built, and may still be building.
//!
//! Every step goes through a descriptor of a directory that was opened without following links and without crossing a
//! mount, so that nothing outside the tree is touched. A directory inside a directory is moved up before it is emptied,
//! so that depth costs neither stack nor descriptors.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Failed, failed};

/// Removes a file, a link, or a directory with all in it; what is not there is no error.
pub(super) fn tree(path: &Path) -> Result<(), Failed> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(failed("remove", path)(Errno::INVAL));
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = match rustix::fs::open(parent, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened.map_err(failed("open", parent))?,
    };
    let name = CString::new(name.as_encoded_bytes()).map_err(failed("remove", path))?;
    remove(parent.as_fd(), &name).map_err(failed("remove", path))
}

fn remove(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    if !is_full_directory(parent, name)? {
        return Ok(());
    }
    empty(open_below(parent, name)?)?;
    unlink(parent, name, AtFlags::REMOVEDIR)
}

/// Removes what can be removed at once, and tells whether a directory with content is left.
fn is_full_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<bool, Errno> {
    match unlink(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        done => return done.map(|()| false),
    }
    match unlink(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(true),
        done => done.map(|()| false),
    }
}

fn unlink(parent: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

/// Opens a directory right below `parent`: no link, no other mount.
fn open_below(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

/// The names in a directory, read to the end before any is touched.
fn entries(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if name.as_c_str() != c"." && name.as_c_str() != c".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Empties a directory: each of its directories hands its own directories up, and goes.
fn empty(top: OwnedFd) -> Result<(), Errno> {
    let mut moved = 0_u64;
    loop {
        let names = entries(top.as_fd())?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            if !is_full_directory(top.as_fd(), &name)? {
                continue;
            }
            let directory = open_below(top.as_fd(), &name)?;
            for inner in entries(directory.as_fd())? {
                if is_full_directory(directory.as_fd(), &inner)? {
                    move_up(directory.as_fd(), &inner, top.as_fd(), &mut moved)?;
                }
            }
        }
    }
}

/// Moves a directory up, to a name that nobody took.
fn move_up(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let free = CString::new(format!("..removing.{moved}")).map_err(|_| Errno::INVAL)?;
        match rustix::fs::renameat_with(from, name, to, &free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            Err(Errno::NOENT) => return Ok(()),
            done => return done,
        }
    }
}
