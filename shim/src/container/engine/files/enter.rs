//! Into the root: attaching it where it can be pivoted to, and leaving the old one; pivot_root(2).

use std::ffi::{CStr, CString};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use nix::unistd::{chdir, chroot, fchdir};

use super::root::{Change, Root, Setting};
use super::{Opened, Opener};
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::mount::{self, Propagation, Reach};
use crate::sys::process;

/// The root file system, attached so that all else can be mounted below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attach {
    /// On the host, absolute.
    pub(super) path: CString,
    pub(super) opener: Opener,
    pub(super) at: Site,
    /// Of the whole tree.
    pub(super) settings: Vec<Setting>,
    /// Masks are to come, which the child has to make itself.
    pub(super) covers: bool,
}

/// Where the root is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// On its own path, where hooks of the runtime's namespaces look for it.
    OwnPath,
    /// Over the root directory: in a trimmed mount namespace there may be no such path.
    Top,
}

/// How the old root goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    /// `pivot_root`; nothing that happens to the old root travels to the host.
    Pivot,
    /// The same, for an old root that shares its mounts with the host: first it is made a slave.
    PivotShared,
    /// `MS_MOVE` and `chroot`, after the maker's proc and sysfs mounts were taken away.
    Move,
}

/// The old root's mounts no longer travel to the host, whatever happens to them here.
pub(super) fn restrict_old_root(propagation: Propagation) -> Result<(), Failed> {
    mount::change(c"/", propagation.flag() | MsFlags::MS_REC).map_err(Doing::Attributes.failed())
}

/// pivot_root(2) wants a parent that does not share, and what is mounted in the root must stay here.
pub(super) fn restrict_old_root_alone() -> Result<(), Failed> {
    mount::change(c"/", MsFlags::MS_PRIVATE).map_err(Doing::Attributes.failed())
}

impl Attach {
    pub(super) fn perform(&self, root: &Root) -> Result<(), Failed> {
        // Modes are what the plan says; the last stretch sets the program's own mask.
        process::set_umask(0);
        if self.opener == Opener::Child && self.covers {
            root.fill_covers()?;
        }
        let tree = root.open(&self.path)?;
        if root.sets_detached() {
            self.set(root)?;
        }
        let at = match self.at {
            Site::OwnPath => &self.path,
            Site::Top => c"/",
        };
        mount::attach_at(tree, at).map_err(Doing::Attach.failed())?;
        if root.sets_detached() { Ok(()) } else { self.set(root) }
    }

    fn set(&self, root: &Root) -> Result<(), Failed> {
        let tree = root.open(&self.path)?;
        let mut settings = self.settings.iter();
        settings.try_for_each(|setting| root.set(tree, *setting)).map_err(Doing::Attributes.failed())
    }
}

impl Leave {
    /// In the maker: which mounts have to go before `MS_MOVE` hides them instead of unmounting.
    pub(super) fn open(self) -> Result<Opened, Failed> {
        match self {
            Self::Pivot | Self::PivotShared => Ok(Opened::default()),
            Self::Move => Ok(Opened { revealing: revealing()?, ..Opened::default() }),
        }
    }

    pub(super) fn perform(self, opened: &Opened, root: &Root) -> Result<(), Failed> {
        match self {
            Self::Pivot => pivot(root),
            Self::PivotShared => pivot_shared(root),
            Self::Move => move_root(&opened.revealing, root),
        }
        .map_err(Doing::Itself.failed())
    }
}

fn pivot(root: &Root) -> nix::Result<()> {
    fchdir(root.directory()?)?;
    mount::pivot_here()?;
    // The old root lies over the new one at `.`, which means the topmost mount here.
    mount::detach(c".")
}

fn pivot_shared(root: &Root) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let old = nix::fcntl::open(c"/", flags, Mode::empty())?;
    fchdir(root.directory()?)?;
    mount::pivot_here()?;
    fchdir(&old)?;
    mount::change(c".", MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
    mount::detach(c".")?;
    fchdir(root.directory()?)
}

fn move_root(revealing: &[CString], root: &Root) -> nix::Result<()> {
    for path in revealing {
        mount::change(path, MsFlags::MS_SLAVE | MsFlags::MS_REC)?;
        match mount::detach(path) {
            // Locked to what it covers, in a user namespace: it can be covered itself.
            Err(Errno::EINVAL | Errno::EPERM) => cover(path)?,
            answer => answer?,
        }
    }
    fchdir(root.directory()?)?;
    mount::move_here_to_root()?;
    chroot(c".")?;
    chdir(c"/")
}

fn cover(path: &CStr) -> nix::Result<()> {
    chdir(path)?;
    mount::mount_here(c"tmpfs", c"tmpfs", MsFlags::empty(), c"size=0k")
}

/// Mount points of complete proc and sysfs file systems, deepest first.
fn revealing() -> Result<Vec<CString>, Failed> {
    let failed = |_| Doing::Source.failed()(Errno::EIO);
    let table = std::fs::read("/proc/self/mountinfo").map_err(failed)?;
    let mut paths: Vec<CString> = table.split(|byte| *byte == b'\n').filter_map(revealed).collect();
    paths.reverse();
    Ok(paths)
}

/// The mount point of a line of mountinfo that is a complete proc or sysfs; proc_pid_mountinfo(5).
fn revealed(line: &[u8]) -> Option<CString> {
    let line = std::str::from_utf8(line).ok()?;
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let kind = file_system.split(' ').next()?;
    if root != "/" || !matches!(kind, "proc" | "sysfs") {
        return None;
    }
    CString::new(unescaped(point)).ok()
}

/// Undoes the octal escapes of mountinfo.
fn unescaped(text: &str) -> Vec<u8> {
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::new(), 0);
    while let Some(byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 4).filter(|_| *byte == b'\\');
        let number = escape.and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) => {
                plain.push(escaped);
                at += 4;
            }
            None => {
                plain.push(*byte);
                at += 1;
            }
        }
    }
    plain
}

/// Without a mount namespace there is nothing to pivot.
pub(super) fn change_root(path: &CStr) -> Result<(), Failed> {
    chdir(path).and_then(|()| chroot(c".")).and_then(|()| chdir(c"/")).map_err(Doing::Itself.failed())
}

/// How mounts of the new root travel.
pub(super) fn set_root(root: &Root, propagation: Propagation, reach: Reach) -> Result<(), Failed> {
    let setting = Setting { reach, change: Change::Propagation(propagation) };
    root.directory().and_then(|root_mount| root.set(root_mount, setting)).map_err(Doing::Attributes.failed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_proc_and_sysfs_mounts_reveal() {
        let line = "30 25 0:24 / /a\\040b rw,nosuid shared:12 - proc proc rw";
        assert_eq!(revealed(line.as_bytes()), Some(c"/a b".into()));
        assert_eq!(revealed(b"30 25 0:24 /sys /x rw - proc proc rw"), None);
        assert_eq!(revealed(b"30 25 0:24 / /x rw - tmpfs tmpfs rw"), None);
        assert_eq!(revealed(b""), None);
    }
}
