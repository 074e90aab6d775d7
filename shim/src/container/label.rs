//! AppArmor profile and SELinux label of a container's processes, which `execve` is to put in force.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use oci_spec::runtime::Process;

use super::engine::procfs;
use super::identity::{Error, text};
use super::transform::{Problem, Step};

/// What comes before the name of a profile that `execve` is to put in force.
const EXEC: &[u8] = b"exec ";
/// The label of keys that this thread makes.
const KEYS: &CStr = c"thread-self/attr/keycreate";
/// The kernel's own choice.
const NO_LABEL: &[u8] = b"\n";

/// What to write to `attr/exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Label {
    /// `exec NAME`.
    apparmor: Option<CString>,
    selinux: Option<CString>,
}

impl Label {
    /// Reads it. Whether the kernel has the module is asked where the plan is made; without it the write below fails.
    pub(crate) fn new(process: &Process) -> Result<Self, Error> {
        let value = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
        let profile = value(process.apparmor_profile()).map(|profile| format!("exec {profile}"));
        Ok(Self {
            apparmor: profile.map(|profile| text("apparmorProfile", &profile)).transpose()?,
            selinux: value(process.selinux_label()).map(|label| text("selinuxLabel", &label)).transpose()?,
        })
    }

    /// The AppArmor profile that is asked for.
    pub(crate) fn profile(&self) -> Option<Cow<'_, str>> {
        let written = self.apparmor.as_deref()?.to_bytes();
        Some(String::from_utf8_lossy(written.strip_prefix(EXEC).unwrap_or(written)))
    }

    /// The SELinux label that is asked for.
    pub(crate) fn selinux(&self) -> Option<Cow<'_, str>> {
        self.selinux.as_deref().map(CStr::to_string_lossy)
    }

    /// Whether there is anything to write.
    pub(crate) fn is_some(&self) -> bool {
        self.apparmor.is_some() || self.selinux.is_some()
    }

    /// Keys that this thread makes from here on have the label of the processes: a confined one could not use its own session
    /// keyring otherwise. Allocates nothing.
    pub(crate) fn begin_keys(&self, procfs: Option<BorrowedFd<'_>>) -> Result<(), Problem> {
        self.selinux.as_deref().map_or(Ok(()), |label| write_keys(procfs, label.to_bytes()))
    }

    /// Until here.
    pub(crate) fn end_keys(&self, procfs: Option<BorrowedFd<'_>>) -> Result<(), Problem> {
        self.selinux.as_deref().map_or(Ok(()), |_| write_keys(procfs, NO_LABEL))
    }

    /// Writes it, through a procfs that the container cannot have touched. Allocates nothing.
    pub(crate) fn apply(&self, procfs: Option<BorrowedFd<'_>>) -> Result<(), Problem> {
        if !self.is_some() {
            return Ok(());
        }
        let failed = Problem::at(Step::Label);
        let procfs = procfs.ok_or(Errno::ENOENT).map_err(&failed)?;
        if let Some(profile) = &self.apparmor {
            let written = procfs::write(procfs, c"thread-self/attr/apparmor/exec", profile.to_bytes());
            match written {
                // Before Linux 5.1 there was one file for all modules.
                Err(Errno::ENOENT) => {
                    procfs::write(procfs, c"thread-self/attr/exec", profile.to_bytes()).map_err(&failed)?;
                }
                result => result.map_err(&failed)?,
            }
        }
        match &self.selinux {
            Some(label) => procfs::write(procfs, c"thread-self/attr/exec", label.to_bytes()).map_err(&failed),
            None => Ok(()),
        }
    }
}

fn write_keys(procfs: Option<BorrowedFd<'_>>, label: &[u8]) -> Result<(), Problem> {
    let written = procfs.ok_or(Errno::ENOENT).and_then(|procfs| procfs::write(procfs, KEYS, label));
    written.map_err(Problem::at(Step::Label))
}
