//! The steps of a plan, as the child performs them.

use std::ffi::CString;
use std::fmt;

/// A part of the files' plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Before the hooks.
    Prepare,
    /// The change of root.
    Enter,
    /// What is closed last.
    Seal,
}

/// One step of the child, in the order of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Writes itself into its v1 groups.
    Cgroup,
    /// Joins the maker's trimmed mount namespace and takes a copy of its own.
    MountNamespace,
    /// Leaves the maker's cgroup namespace.
    CgroupNamespace,
    /// Joins what the plan's namespaces say.
    Join,
    /// A new time namespace, with `offsets` in the kernel's own notation.
    Time {
        /// For `timens_offsets`.
        offsets: CString,
    },
    /// A session keyring of this name.
    Keyring(CString),
    /// A session of its own.
    Session,
    /// Brings `lo` up.
    Loopback,
    /// A step of the files' plan, by its number there.
    Files(Part, usize),
    /// Waits for the maker, who runs the hooks of its own namespaces.
    Meet,
    /// Runs the `createContainer` hook of this number.
    Hook(usize),
    /// Makes the terminal.
    Console {
        /// Columns and rows.
        size: Option<(u16, u16)>,
    },
    /// Standard input, output and error.
    Stdio,
    /// `sethostname`.
    Hostname(CString),
    /// `setdomainname`.
    Domainname(CString),
    /// Writes a sysctl.
    Sysctl {
        /// Below `/proc`.
        file: CString,
        /// What to write.
        value: CString,
    },
    /// Puts the container on disk as one that runs, where its maker stands still.
    Record,
    /// Makes the working directory, if the image lacks it.
    Directory(CString),
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &CString| text.to_string_lossy().into_owned();
        match self {
            Self::Cgroup => write!(out, "enter the cgroup"),
            Self::MountNamespace => write!(out, "new mount namespace, from the trimmed one"),
            Self::CgroupNamespace => write!(out, "new cgroup namespace"),
            Self::Join => write!(out, "join namespaces"),
            Self::Time { offsets } => write!(out, "new time namespace {:?}", text(offsets)),
            Self::Keyring(name) => write!(out, "session keyring {}", text(name)),
            Self::Session => write!(out, "new session"),
            Self::Loopback => write!(out, "bring lo up"),
            // The plan knows the step itself.
            Self::Files(part, index) => write!(out, "files: {part:?} {index}"),
            Self::Meet => write!(out, "wait for the hooks of the runtime's namespaces"),
            Self::Hook(index) => write!(out, "createContainer hook #{index}"),
            Self::Console { size: Some((columns, rows)) } => write!(out, "terminal of {columns}x{rows}"),
            Self::Console { size: None } => write!(out, "terminal"),
            Self::Stdio => write!(out, "standard input, output and error"),
            Self::Hostname(name) => write!(out, "hostname {}", text(name)),
            Self::Domainname(name) => write!(out, "domainname {}", text(name)),
            Self::Sysctl { file, value } => write!(out, "write {:?} to /proc/{}", text(value), text(file)),
            Self::Record => write!(out, "record that it runs"),
            Self::Directory(path) => write!(out, "working directory {}", text(path)),
        }
    }
}
