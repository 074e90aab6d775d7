//! Finding and making places inside the root, from the root's descriptor and never out of it.
//!
//! Another container may share a volume with this one and exchange directories for symbolic links while we
//! look (CVE-2021-30465, CVE-2024-45310). So the kernel resolves each path in one go, with `RESOLVE_IN_ROOT`, and
//! what it opened is what is used. What is missing is made one name at a time, relative to the
//! descriptor of its directory.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat, mkdirat};

use super::guard;
use super::root::Root;
use super::text::Text;
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::descriptor::Loose;
use crate::sys::mount;

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

/// How symbolic links on the way are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Followed, inside the root; the place may not turn out to be one of procfs.
    Followed,
    /// The last component is taken as it is.
    LastKept,
    /// There must be none (CVE-2019-19921).
    Refused,
}

/// Renames on the way make a lookup fail with EAGAIN; so often it is tried again.
const ATTEMPTS: u32 = 128;
/// As many symbolic links as the kernel follows.
const MOST_LINKS: u32 = 40;
const DIRECTORY_MODE: Mode = Mode::from_bits_truncate(0o755);
const LONGEST: usize = libc::PATH_MAX as usize;

/// Makes a place for a mount at `path` inside the directory `root`, unless it is there.
pub(crate) fn make_place(root: &CStr, path: &CStr, kind: Kind, links: Links) -> Result<(), Failed> {
    Root::at(root)?.place(path, kind, links).map(drop)
}

impl Root {
    /// Opens what there is at `path`, as a place and nothing more (`O_PATH`).
    pub(super) fn find(&self, path: &CStr, links: Links) -> nix::Result<Loose> {
        let (mut flags, mut resolve) = (libc::O_PATH, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS);
        match links {
            Links::Followed => {}
            Links::LastKept => flags |= libc::O_NOFOLLOW,
            Links::Refused => resolve |= libc::RESOLVE_NO_SYMLINKS,
        }
        if guard::is_off(guard::Guard::InRoot) {
            return guard::unguarded(self.directory()?, path, flags).map(|found| self.loose(found));
        }
        self.lookup(path, flags, resolve).map(|found| self.loose(found))
    }

    fn lookup(&self, path: &CStr, flags: i32, resolve: u64) -> nix::Result<OwnedFd> {
        let mut left = ATTEMPTS;
        loop {
            match mount::open_below(self.directory()?, path, flags, resolve) {
                // EXDEV is told for `..` while somebody renames.
                Err(Errno::EAGAIN | Errno::EXDEV) if left > 0 => left -= 1,
                answer => return answer,
            }
        }
    }

    /// The place of a mount at `path`, made if it is missing.
    pub(super) fn place(&self, path: &CStr, kind: Kind, links: Links) -> Result<Loose, Failed> {
        let failed = Doing::Place.failed();
        let (above, name) = split(path);
        if let Some(parent) = self.take_above(above, links)
            && make_in(parent.as_fd(), name, kind).is_ok()
        {
            return self.just_made((parent, above), name, links).map_err(failed);
        }
        // Without symbolic links the plan has judged the path already.
        match self.find(path, Links::Refused) {
            Ok(found) => return Ok(found),
            Err(Errno::ELOOP) if links != Links::Refused => {}
            Err(Errno::ELOOP) => return Err(Doing::Verify.failed()(Errno::ELOOP)),
            Err(Errno::ENOENT) => return self.make_last(path, kind, links).map_err(failed),
            Err(errno) => return Err(failed(errno)),
        }
        let found = match self.find(path, links) {
            Ok(found) => found,
            Err(Errno::ENOENT) => self.make(path, kind, links).map_err(failed)?,
            Err(errno) => return Err(failed(errno)),
        };
        self.judge(found.as_fd()).map_err(Doing::Verify.failed())?;
        Ok(found)
    }

    /// Makes the directory `path`, unless it is there.
    pub(crate) fn make_directory(&self, path: &CStr) -> Result<(), Failed> {
        if path == c"/" {
            return Ok(());
        }
        if self.directory().is_err() {
            // Without a mount namespace nothing was attached.
            self.adopt()?;
        }
        self.place(path, Kind::Directory, Links::Followed).map(drop)
    }

    /// A symbolic link of the image may lead neither into procfs nor to the root itself.
    fn judge(&self, found: BorrowedFd<'_>) -> nix::Result<()> {
        if guard::is_off(guard::Guard::Procfs) {
            return Ok(());
        }
        if nix::sys::statfs::fstatfs(found)?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC {
            return Err(Errno::EPERM);
        }
        let (found, root) = (fstat(found)?, fstat(self.directory()?)?);
        if (found.st_dev, found.st_ino) == (root.st_dev, root.st_ino) {
            return Err(Errno::EBUSY);
        }
        Ok(())
    }

    /// Makes `path` where only the last name is missing, as most often; otherwise all that is.
    fn make_last(&self, path: &CStr, kind: Kind, links: Links) -> nix::Result<Loose> {
        let mut parent = Text::<LONGEST>::new();
        let (above, name) = split(path);
        parent.push(above)?;
        let Ok(parent) = self.find(parent.as_c_str()?, links) else { return self.make(path, kind, links) };
        if make_in(parent.as_fd(), name, kind).is_err() {
            return self.make(path, kind, links);
        }
        self.just_made((parent, above), name, links)
    }

    /// What was made in a directory just now.
    fn just_made(&self, (parent, above): (Loose, &[u8]), name: &CStr, links: Links) -> nix::Result<Loose> {
        // Somebody may have put a symbolic link there meanwhile: it is not followed, and nothing is attached to it.
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
        let made = mount::open_below(parent.as_fd(), name, flags, resolve)?;
        self.keep_above(above, links, parent);
        Ok(self.loose(made))
    }

    /// Makes `path` with all that is missing of it. A symbolic link whose target is missing is followed, and its
    /// target made (an image with `/var/run` -> `/run` need not have `/run`).
    fn make(&self, path: &CStr, kind: Kind, links: Links) -> nix::Result<Loose> {
        let mut done = Text::<LONGEST>::new();
        let mut rest = Text::<LONGEST>::new();
        rest.push(path.to_bytes())?;
        let mut links_left = MOST_LINKS;
        let mut at = 0;
        while let Some((start, end)) = component(rest.as_bytes(), at) {
            let name = &rest.as_bytes()[start..end];
            let last = component(rest.as_bytes(), end).is_none();
            let kind = if last { kind } else { Kind::Directory };
            let before = done.as_bytes().len();
            done.push(b"/")?;
            done.push(name)?;
            match self.made(&mut done, before, kind, links)? {
                None => at = end,
                Some(target) => {
                    links_left = links_left.checked_sub(1).ok_or(Errno::ELOOP)?;
                    if target.as_bytes().first() == Some(&b'/') {
                        done.truncate(0);
                    }
                    let mut further = target;
                    further.push(&rest.as_bytes()[end..])?;
                    (rest, at) = (further, 0);
                }
            }
        }
        self.find(done.as_c_str()?, links)
    }

    /// Makes the last name of `done`, whose directory ends at `before`, unless it is there. If a symbolic link is there
    /// whose target is not, tells that target, and the name is gone from `done`.
    fn made(
        &self,
        done: &mut Text<LONGEST>,
        before: usize,
        kind: Kind,
        links: Links,
    ) -> nix::Result<Option<Text<LONGEST>>> {
        let links = if links == Links::Refused { Links::Refused } else { Links::Followed };
        match self.find(done.as_c_str()?, links) {
            Ok(_) => return Ok(None),
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let mut name = Text::<256>::new();
        name.push(&done.as_bytes()[before + 1..])?;
        let name = name.as_c_str()?;
        let whole = done.as_bytes().len();
        let mut parent = Text::<LONGEST>::new();
        parent.push(if before == 0 { b"/" } else { &done.as_bytes()[..before] })?;
        let parent = self.find(parent.as_c_str()?, links)?;
        match make_in(parent.as_fd(), name, kind) {
            Ok(()) => Ok(None),
            Err(Errno::EEXIST) => {
                let target = link_target(parent.as_fd(), name)?;
                // The name gives way to what the link says; a directory made by somebody meanwhile is fine.
                done.truncate(if target.is_some() { before } else { whole });
                Ok(target)
            }
            Err(errno) => Err(errno),
        }
    }
}

/// Where the next name of `path` starts and ends.
fn component(path: &[u8], from: usize) -> Option<(usize, usize)> {
    let start = from + path[from..].iter().position(|byte| *byte != b'/')?;
    let end = path[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |at| start + at);
    Some((start, end))
}

/// The directory and the name of an absolute path.
pub(super) fn split(path: &CStr) -> (&[u8], &CStr) {
    let bytes = path.to_bytes_with_nul();
    let at = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let name = CStr::from_bytes_with_nul(bytes.get(at + 1..).unwrap_or_default()).unwrap_or(c"");
    (if at == 0 { b"/" } else { &bytes[..at] }, name)
}

fn make_in(directory: BorrowedFd<'_>, name: &CStr, kind: Kind) -> nix::Result<()> {
    match kind {
        Kind::Directory => mkdirat(directory, name, DIRECTORY_MODE),
        Kind::File => new_file(directory, name),
    }
}

/// Makes an empty file for something to be mounted over.
pub(super) fn new_file(directory: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, DIRECTORY_MODE).map(drop)
}

fn link_target(directory: BorrowedFd<'_>, name: &CStr) -> nix::Result<Option<Text<LONGEST>>> {
    let status = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if status.st_mode & libc::S_IFMT != libc::S_IFLNK {
        return Ok(None);
    }
    let mut buffer = [0_u8; LONGEST];
    let length = mount::read_link(directory, name, &mut buffer)?;
    let mut target = Text::new();
    target.push(&buffer[..length])?;
    Ok(Some(target))
}
