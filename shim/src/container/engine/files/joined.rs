//! procfs of a PID namespace that the init joins last. Whoever mounts one the usual way gets that of the PID namespace that
//! he is in, and until then nobody who makes the container is in its own. So the maker makes the file system, with
//! the option `pidns` (proc(5), Linux 6.18), and the child attaches it.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;

use super::Opened;
use super::bind::Tree;
use super::guard::{self, Guard};
use super::place::{Kind, Links};
use super::root::{Root, Setting};
use crate::container::engine::failed::{Doing, Failed};
use crate::sys::mount;

/// A mount of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedProcfs {
    /// Inside the root, absolute, without `.` and `..`.
    pub(super) destination: CString,
    /// Of the file system: `hidepid=2`, say.
    pub(super) options: Vec<(CString, Option<CString>)>,
    /// `MOUNT_ATTR_*`.
    pub(super) attributes: u64,
    /// Made afterwards.
    pub(super) settings: Vec<Setting>,
}

impl JoinedProcfs {
    pub(super) fn open(&self, pid_namespace: Option<BorrowedFd<'_>>) -> Result<Opened, Failed> {
        let there = pid_namespace.ok_or(Errno::EBADF).map_err(Doing::Namespace.failed())?;
        let mount = mount::new_procfs(there, &self.options, self.attributes);
        let mount = mount.map_err(Doing::Configure.failed())?;
        Ok(Opened { trees: vec![Tree { mount, kind: Kind::Directory }], ..Opened::default() })
    }

    pub(super) fn perform(&self, opened: &Opened, root: &Root) -> Result<(), Failed> {
        let tree = opened.trees.first().ok_or(Errno::EBADF).map_err(Doing::Source.failed())?;
        let links = if guard::is_off(Guard::Ordinary) { Links::Followed } else { Links::Refused };
        let place = root.place(&self.destination, Kind::Directory, links)?;
        mount::attach(tree.mount.as_fd(), place.as_fd()).map_err(Doing::Attach.failed())?;
        for setting in &self.settings {
            root.set(tree.mount.as_fd(), *setting).map_err(Doing::Attributes.failed())?;
        }
        Ok(())
    }
}
