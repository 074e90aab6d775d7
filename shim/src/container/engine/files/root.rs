//! The root of a container's files: one descriptor, below which everything is looked up, and what the steps share.

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;

use super::covers::{Covers, OwnCovers};
use super::place::Links;
use super::text::Text;
use super::{Opener, Plan};
use crate::container::engine::failed::{Doing, Failed};
use crate::container::engine::procfs;
use crate::sys::descriptor::Loose;
use crate::sys::mount::{self, Propagation, Reach};

/// One change to a mount, and one system call where mount_setattr(2) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) reach: Reach,
    pub(crate) change: Change,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Attributes that are set, and such that are cleared.
    Attributes {
        /// `MOUNT_ATTR_*`.
        set: u64,
        /// `MOUNT_ATTR_*`.
        clear: u64,
    },
    /// How mounts travel.
    Propagation(Propagation),
}

/// So many descriptors are left open before they are closed.
const MOST_LEFT: u32 = 64;

/// What the steps of one container share. The maker prepares it before the child is made.
#[derive(Debug)]
pub(crate) struct Root {
    tree: OnceCell<OwnedFd>,
    covers: OnceCell<OwnCovers>,
    /// What those are copied from.
    shared_covers: Rc<Covers>,
    /// SELinux's, of those.
    label: Option<CString>,
    /// The runtime's own procfs, through which kernels before 5.12 change a mount by its descriptor.
    procfs: Option<OwnedFd>,
    /// open_tree_attr(2) is there.
    copies_with_attributes: bool,
    /// How many descriptors the child has left open; none where it closes each of them.
    left: Option<Cell<u32>>,
    /// In which directory a step has just made the place of its mount. What is mounted there lies below it, not over it or
    /// its path, so the next step may make its own place there without looking the path up again.
    above: RefCell<Option<Above>>,
}

/// A directory that was found at a path.
#[derive(Debug)]
pub(super) struct Above {
    /// One that is longer is looked up again.
    path: Text<64>,
    links: Links,
    directory: Loose,
}

impl Root {
    /// Opens what the maker can: the root file system as a tree of mounts that is in no namespace yet.
    pub(crate) fn prepare(plan: &Plan, covers: Rc<Covers>) -> Result<Self, Failed> {
        let procfs = if plan.kernel.set_attributes {
            None
        } else {
            Some(procfs::root().map_err(Doing::Source.failed())?)
        };
        let label = plan.label.clone();
        // Where the child opens what it keeps, it could not tell that from the rest.
        let left = (plan.opener == Opener::Maker && plan.root().is_some()).then(Cell::default);
        let root = Self {
            tree: OnceCell::new(),
            covers: OnceCell::new(),
            shared_covers: covers,
            label,
            procfs,
            copies_with_attributes: plan.kernel.copy_with_attributes,
            left,
            above: RefCell::default(),
        };
        if plan.opener == Opener::Maker {
            if plan.masks() {
                root.fill_covers()?;
            }
            if let Some(path) = plan.root() {
                root.open(path)?;
            }
        }
        Ok(root)
    }

    /// The descriptors that the child keeps.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let own = self.tree.get().into_iter().chain(&self.procfs).map(AsRawFd::as_raw_fd);
        own.chain(self.covers.get().into_iter().flat_map(OwnCovers::numbers))
    }

    /// All that is open.
    pub(crate) fn into_descriptors(self) -> impl Iterator<Item = OwnedFd> {
        let covers = self.covers.into_inner().into_iter().flat_map(OwnCovers::into_descriptors);
        self.tree.into_inner().into_iter().chain(self.procfs).chain(covers)
    }

    /// Opens the root file system at `path`, unless that is done.
    pub(super) fn open(&self, path: &CStr) -> Result<BorrowedFd<'_>, Failed> {
        if self.tree.get().is_none() {
            let tree = mount::copy_unfollowed(path, Reach::Tree).map_err(Doing::Source.failed())?;
            // Set once: this is the only place that does, in a process of one thread.
            crate::harmless(self.tree.set(tree));
        }
        self.directory().map_err(Doing::Source.failed())
    }

    /// Gets the covers ready, from the mounts of this process.
    pub(super) fn fill_covers(&self) -> Result<(), Failed> {
        let own = self.shared_covers.own(self.label.as_deref())?;
        crate::harmless(self.covers.set(own));
        Ok(())
    }

    /// What masks are made of.
    pub(super) fn covers(&self) -> Result<&OwnCovers, Failed> {
        self.covers.get().ok_or(Failed { doing: Doing::Source, errno: Errno::EBADF })
    }

    /// The directory at `path`, for whoever only makes places in it.
    pub(super) fn at(path: &CStr) -> Result<Self, Failed> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty());
        let tree = OnceCell::from(root.map_err(Doing::Place.failed())?);
        Ok(Self {
            tree,
            covers: OnceCell::new(),
            shared_covers: Rc::default(),
            label: None,
            procfs: None,
            copies_with_attributes: false,
            left: None,
            above: RefCell::default(),
        })
    }

    /// A descriptor that this step opened and needs no longer than itself. The child of a maker leaves it open: it closes all of
    /// them together, in one call where closing each would be one for nearly every path of a container.
    pub(super) fn loose(&self, file: OwnedFd) -> Loose {
        self.left.iter().for_each(|left| left.set(left.get() + 1));
        Loose::new(file, self.left.is_some())
    }

    /// Whether the child leaves descriptors open.
    pub(crate) fn may_be_littered(&self) -> bool {
        self.left.is_some()
    }

    /// Whether the child has left so many descriptors open that it should close them.
    pub(crate) fn is_littered(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.get() >= MOST_LEFT)
    }

    /// They are closed.
    pub(crate) fn is_swept(&self) {
        // Of those that are left open none is closed a second time.
        self.above.take();
        self.left.iter().for_each(|left| left.set(0));
    }

    /// Keeps a directory for the next step, where its path is a short one.
    pub(super) fn keep_above(&self, path: &[u8], links: Links, directory: Loose) {
        let mut text = Text::new();
        if text.push(path).is_ok() {
            self.above.replace(Some(Above { path: text, links, directory }));
        }
    }

    /// The directory that was kept, if it is the one at `path`. None is kept any more.
    pub(super) fn take_above(&self, path: &[u8], links: Links) -> Option<Loose> {
        let above = self.above.take()?;
        (above.path.as_bytes() == path && above.links == links).then_some(above.directory)
    }

    /// Takes the root directory that this process has.
    pub(super) fn adopt(&self) -> Result<(), Failed> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(c"/", flags, nix::sys::stat::Mode::empty());
        crate::harmless(self.tree.set(root.map_err(Doing::Place.failed())?));
        Ok(())
    }

    /// The root directory.
    pub(crate) fn directory(&self) -> nix::Result<BorrowedFd<'_>> {
        self.tree.get().map(AsFd::as_fd).ok_or(Errno::EBADF)
    }

    /// Carries a change out on an attached mount, by the root of it that `target` is.
    pub(super) fn set(&self, target: BorrowedFd<'_>, setting: Setting) -> nix::Result<()> {
        match self.procfs.as_ref() {
            None => set_by_descriptor(target, setting),
            Some(procfs) => {
                let set = set_by_path(procfs.as_fd(), target, setting);
                // Nothing of the container ever runs with the host's procfs as its working directory.
                nix::unistd::fchdir(self.directory()?)?;
                set
            }
        }
    }

    /// A read-only copy of the tree of mounts at a place, where the kernel makes one in a single call.
    pub(super) fn copy_read_only(&self, place: BorrowedFd<'_>) -> nix::Result<Option<Loose>> {
        if !self.copies_with_attributes {
            return Ok(None);
        }
        match mount::copy_of_with(place, Reach::Tree, (mount::RDONLY, 0)) {
            // Whoever filters our calls may not know this one.
            Err(Errno::ENOSYS | Errno::EPERM) => Ok(None),
            copy => copy.map(|copy| Some(self.loose(copy))),
        }
    }

    /// Whether changes may be made before a mount is attached.
    pub(super) fn sets_detached(&self) -> bool {
        self.procfs.is_none()
    }
}

/// The way of Linux 5.12 and later, for attached mounts and others.
pub(super) fn set_by_descriptor(target: BorrowedFd<'_>, setting: Setting) -> nix::Result<()> {
    match setting.change {
        Change::Attributes { set, clear } => mount::set(target, setting.reach, (set, clear), None),
        Change::Propagation(propagation) => mount::set(target, setting.reach, (0, 0), Some(propagation)),
    }
}

/// All of these, in their order: attributes and the propagation that follows them take one call.
pub(super) fn set_all_by_descriptor(target: BorrowedFd<'_>, settings: &[Setting]) -> nix::Result<()> {
    match settings {
        [
            Setting { reach, change: Change::Attributes { set, clear } },
            Setting { reach: same, change: Change::Propagation(propagation) },
            rest @ ..,
        ] if reach == same => {
            mount::set(target, *reach, (*set, *clear), Some(*propagation))?;
            set_all_by_descriptor(target, rest)
        }
        [first, rest @ ..] => {
            set_by_descriptor(target, *first)?;
            set_all_by_descriptor(target, rest)
        }
        [] => Ok(()),
    }
}

/// The way before: mount(2) on the magic link of the descriptor. It replaces all attributes, so the present ones
/// are read first; those that a user namespace has locked are therefore kept.
fn set_by_path(procfs: BorrowedFd<'_>, target: BorrowedFd<'_>, setting: Setting) -> nix::Result<()> {
    let mut link = Text::<32>::new();
    link.push(b"self/fd/")?;
    link.number(target.as_raw_fd() as u32, 10)?;
    nix::unistd::fchdir(procfs)?;
    let recursive = match setting.reach {
        Reach::One => MsFlags::empty(),
        Reach::Tree => MsFlags::MS_REC,
    };
    match setting.change {
        Change::Propagation(propagation) => mount::change(link.as_c_str()?, propagation.flag() | recursive),
        Change::Attributes { .. } if setting.reach == Reach::Tree => Err(Errno::ENOSYS),
        Change::Attributes { set, clear } => {
            let present = present_attributes(target)?;
            let flags = super::options::legacy(present & !clear | set);
            mount::change(link.as_c_str()?, flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND)
        }
    }
}

fn present_attributes(target: BorrowedFd<'_>) -> nix::Result<u64> {
    let flags = nix::sys::statvfs::fstatvfs(target)?.flags().bits();
    let table = [
        (libc::ST_RDONLY, mount::RDONLY),
        (libc::ST_NOSUID, mount::NOSUID),
        (libc::ST_NODEV, mount::NODEV),
        (libc::ST_NOEXEC, mount::NOEXEC),
        (libc::ST_NOATIME, mount::NOATIME),
        (libc::ST_NODIRATIME, mount::NODIRATIME),
        (ST_NOSYMFOLLOW, mount::NOSYMFOLLOW),
    ];
    let strict = if flags & (libc::ST_NOATIME | libc::ST_RELATIME) == 0 { mount::STRICTATIME } else { 0 };
    let set = table.iter().filter(|(flag, _)| flags & flag != 0);
    Ok(set.fold(strict, |all, (_, attribute)| all | attribute))
}

/// `ST_NOSYMFOLLOW` of the kernel's `statfs.h`, which libc lacks.
const ST_NOSYMFOLLOW: libc::c_ulong = 0x2000;
