//! New file systems: proc, sysfs, tmpfs, devpts, mqueue, cgroup2 and whatever else the kernel knows by name.
//!
//! The child changes into the place, which it has opened inside the root, and mounts over `.`: four system calls,
//! no path to exchange under it, no procfs needed, and every option in one string. (fsopen(2) and its
//! siblings were measured dearer, by three calls and a fifth of the time.)

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::fstat;
use nix::unistd::fchdir;

use super::bind::Source;
use super::guard::{self, Guard};
use super::place::{Kind, Links};
use super::root::{Change, Root, Setting};
use super::text::Text;
use super::{Opened, Opener, copy, options};
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::mount::{self, Reach};

/// A new file system, or a change to a mounted one (`MS_REMOUNT`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(super) filesystem: CString,
    pub(super) source: CString,
    /// Inside the root, absolute, without `.` and `..`.
    pub(super) destination: CString,
    pub(super) links: Links,
    /// `MOUNT_ATTR_*` of the mount.
    pub(super) attributes: u64,
    /// Of the file system and of the call.
    pub(super) flags: MsFlags,
    pub(super) data: CString,
    /// SELinux's, of a file system that takes none as an option.
    pub(super) label: Option<CString>,
    pub(super) directory: DirectoryMode,
    /// Made afterwards.
    pub(super) settings: Vec<Setting>,
    /// What is bound in its stead when this user may not have it.
    pub(super) otherwise: Option<Source>,
}

/// What becomes of the mode and the contents of the directory that is covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectoryMode {
    /// Nothing.
    Own,
    /// The new directory gets the mode of a covered one that was there.
    Kept,
    /// Both; `tmpcopyup`. The mode only where the options give none.
    Copied {
        /// The options give the mode.
        mode_given: bool,
    },
}

const LONGEST_DATA: usize = 4096;

impl Instance {
    pub(super) fn open(&self) -> Result<Opened, Failed> {
        match &self.otherwise {
            Some(source) if source.opener == Opener::Maker => {
                Ok(Opened { trees: source.open().into_iter().collect(), ..Opened::default() })
            }
            _ => Ok(Opened::default()),
        }
    }

    pub(super) fn perform(&self, opened: &Opened, root: &Root) -> Result<(), Failed> {
        let links = if guard::is_off(Guard::Ordinary) { Links::Followed } else { self.links };
        let there = match self.directory {
            DirectoryMode::Own => true,
            DirectoryMode::Kept | DirectoryMode::Copied { .. } => root.find(&self.destination, links).is_ok(),
        };
        let place = root.place(&self.destination, Kind::Directory, links)?;
        match self.mount(place.as_fd(), there) {
            Err(Failed { errno: Errno::EPERM | Errno::EBUSY, .. }) if self.otherwise.is_some() => {
                return self.bind(place.as_fd(), opened, root);
            }
            answer => answer?,
        }
        if matches!(self.directory, DirectoryMode::Copied { .. }) {
            let new = root.find(&self.destination, links).map_err(Doing::Place.failed())?;
            copy::contents(place.as_fd(), new.as_fd()).map_err(Doing::Write.failed())?;
        }
        if let Some(label) = &self.label {
            let new = root.find(&self.destination, links).map_err(Doing::Place.failed())?;
            fchdir(new).map_err(Doing::Place.failed())?;
            mount::label_here(label).map_err(Doing::Configure.failed())?;
        }
        self.set(root, links)
    }

    fn mount(&self, place: BorrowedFd<'_>, there: bool) -> Result<(), Failed> {
        let failed = Doing::Configure.failed();
        let keeps = match self.directory {
            DirectoryMode::Own => false,
            DirectoryMode::Kept => there,
            DirectoryMode::Copied { mode_given } => there && !mode_given,
        };
        fchdir(place).map_err(Doing::Place.failed())?;
        let flags = self.flags | options::legacy(self.attributes);
        if !keeps {
            return mount::mount_here(&self.source, &self.filesystem, flags, &self.data).map_err(failed);
        }
        let data = with_mode_of(place, &self.data).map_err(&failed)?;
        let data = data.as_c_str().map_err(&failed)?;
        mount::mount_here(&self.source, &self.filesystem, flags, data).map_err(failed)
    }

    fn bind(&self, place: BorrowedFd<'_>, opened: &Opened, root: &Root) -> Result<(), Failed> {
        let own;
        let tree = match (opened.trees.first(), &self.otherwise) {
            (Some(tree), _) => tree,
            (None, Some(source)) => {
                own = source.open()?;
                &own
            }
            (None, None) => return Err(Doing::Configure.failed()(Errno::EPERM)),
        };
        mount::attach(tree.mount.as_fd(), place).map_err(Doing::Attach.failed())?;
        let reach = if root.sets_detached() { Reach::Tree } else { Reach::One };
        let own = Setting { reach, change: Change::Attributes { set: self.attributes, clear: 0 } };
        for setting in std::iter::once(&own).chain(&self.settings) {
            root.set(tree.mount.as_fd(), *setting).map_err(Doing::Attributes.failed())?;
        }
        Ok(())
    }

    fn set(&self, root: &Root, links: Links) -> Result<(), Failed> {
        if self.settings.is_empty() {
            return Ok(());
        }
        let new = root.find(&self.destination, links).map_err(Doing::Place.failed())?;
        for setting in &self.settings {
            root.set(new.as_fd(), *setting).map_err(Doing::Attributes.failed())?;
        }
        Ok(())
    }
}

fn with_mode_of(place: BorrowedFd<'_>, data: &CStr) -> nix::Result<Text<LONGEST_DATA>> {
    let mode = fstat(place)?.st_mode & 0o7777;
    let mut text = Text::new();
    text.push(data.to_bytes())?;
    if !data.is_empty() {
        text.push(b",")?;
    }
    text.push(b"mode=")?;
    text.number(mode, 8)?;
    Ok(text)
}
