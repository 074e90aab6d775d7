//! Why a step failed, in a form that crosses from the child to the maker: eight bytes, no allocation.

use std::fmt;

use nix::errno::Errno;

/// What a step was doing. A step may do several things; this says which of them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Doing {
    /// Looking up or making the place of a mount, device or link inside the root.
    Place,
    /// Making a new file system instance.
    Configure,
    /// Copying a mount (`open_tree`) or opening its source.
    Source,
    /// Setting mount attributes or propagation.
    Attributes,
    /// Attaching a mount to its place.
    Attach,
    /// Making a node, link, directory or file.
    Make,
    /// Owner or mode of what was made.
    Own,
    /// Writing a value.
    Write,
    /// Checking that something is what it must be.
    Verify,
    /// Joining or leaving a namespace.
    Namespace,
    /// Anything that the step's own name says.
    Itself,
}

/// A failure inside one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Doing what.
    pub(crate) doing: Doing,
    /// Why.
    pub(crate) errno: Errno,
}

const ALL: [Doing; 11] = [
    Doing::Place,
    Doing::Configure,
    Doing::Source,
    Doing::Attributes,
    Doing::Attach,
    Doing::Make,
    Doing::Own,
    Doing::Write,
    Doing::Verify,
    Doing::Namespace,
    Doing::Itself,
];

impl Doing {
    /// What `doing as u8` stands for.
    pub(crate) fn from_number(number: u8) -> Self {
        ALL.get(usize::from(number)).copied().unwrap_or(Self::Itself)
    }

    /// For `map_err`.
    pub(crate) fn failed(self) -> impl Fn(Errno) -> Failed {
        move |errno| Failed { doing: self, errno }
    }
}

impl fmt::Display for Doing {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Place => "find or make its place",
            Self::Configure => "configure the file system",
            Self::Source => "open its source",
            Self::Attributes => "set its attributes",
            Self::Attach => "attach it",
            Self::Make => "make it",
            Self::Own => "set its owner or mode",
            Self::Write => "write it",
            Self::Verify => "verify it",
            Self::Namespace => "change the namespace",
            Self::Itself => "perform it",
        })
    }
}
