//! Steps in words, for `--dry-run` and for errors.

use std::ffi::CStr;
use std::fmt;

use super::bind::{Bind, Nature, Source};
use super::device::{How, Nodes};
use super::enter::{Leave, Site};
use super::id_map::IdMap;
use super::instance::{DirectoryMode, Instance};
use super::place::Links;
use super::root::{Change, Setting};
use super::{Opener, Plan, Step};
use crate::sys::mount::{self, Propagation, Reach};

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps().try_for_each(|step| writeln!(out, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RestrictOldRoot(propagation) => write!(out, "make the old root r{}", word(*propagation)),
            Self::RestrictOldRootAlone => write!(out, "make the old root's own mount private"),
            Self::Root(attach) => {
                let at = match attach.at {
                    Site::OwnPath => "its own path",
                    Site::Top => "the root directory",
                };
                write!(out, "attach the root {} to {at}", shown(&attach.path))?;
                attach.settings.iter().try_for_each(|setting| write!(out, ", {setting}"))
            }
            Self::AdoptRoot => write!(out, "take the root of the joined mount namespace"),
            Self::Bind(bind) => write!(out, "{bind}"),
            Self::Mount(instance) => write!(out, "{instance}"),
            Self::JoinedProcfs(procfs) => {
                write!(out, "mount proc of the joined PID namespace on {}", shown(&procfs.destination))?;
                procfs.settings.iter().try_for_each(|setting| write!(out, ", {setting}"))
            }
            Self::Nodes(nodes) => write!(out, "{nodes}"),
            Self::Leave(Leave::Pivot) => write!(out, "pivot_root"),
            Self::Leave(Leave::PivotShared) => write!(out, "pivot_root, and make the old root rslave"),
            Self::Leave(Leave::Move) => write!(out, "move the root over the old one and chroot"),
            Self::ChangeRoot(path) => write!(out, "chroot to {}", shown(path)),
            Self::RootPropagation(propagation, reach) => {
                write!(out, "make the root {}{}", recursive(*reach), word(*propagation))
            }
            Self::ReadOnlyMount(path) => write!(out, "remount {} read-only", shown(path)),
            Self::ReadOnlyRoot => write!(out, "remount the root read-only"),
            Self::ReadOnlyPath(path) => write!(out, "make {} read-only", shown(path)),
            Self::Mask(path) => write!(out, "mask {}", shown(path)),
        }
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.how {
            How::Made => "make",
            How::Bound | How::BoundByChild => "bind",
        };
        write!(out, "{verb} devices in {}:", shown(&self.directory))?;
        self.nodes.iter().try_for_each(|node| {
            let (major, minor) = (nix::sys::stat::major(node.device), nix::sys::stat::minor(node.device));
            let (user, group) = node.owner;
            write!(out, " {} {major}:{minor} {:o} {user}:{group},", node.name.to_string_lossy(), node.mode)
        })?;
        self.links.iter().try_for_each(|(name, target)| {
            write!(out, " {} -> {},", name.to_string_lossy(), target.to_string_lossy())
        })
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} to {}", self.source, shown(&self.destination))?;
        if self.links == Links::LastKept {
            write!(out, ", itself")?;
        }
        self.settings.iter().try_for_each(|setting| write!(out, ", {setting}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}bind {}", recursive(self.reach), shown(&self.path))?;
        match self.nature {
            Nature::Any => {}
            Nature::LinkKept => write!(out, " (a link itself)")?,
            Nature::LinkCopied => write!(out, " (a link copied)")?,
            Nature::Procfs => write!(out, " (a proc file system)")?,
        }
        if self.opener == Opener::Child {
            write!(out, " (opened by the child)")?;
        }
        match &self.id_map {
            None => Ok(()),
            Some((reach, IdMap::Joined(path))) => {
                write!(out, " ({}idmap by {path:?})", recursive(*reach))
            }
            Some((reach, IdMap::Made { users, groups })) => {
                write!(out, " ({}idmap users {users:?} groups {groups:?})", recursive(*reach))
            }
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.filesystem.to_string_lossy();
        write!(out, "mount {} of type {name} to {}", shown(&self.source), shown(&self.destination))?;
        if self.links == Links::Refused {
            write!(out, " (an ordinary directory)")?;
        }
        attributes(out, self.attributes)?;
        if !self.flags.is_empty() {
            write!(out, ", {:?}", self.flags)?;
        }
        if !self.data.is_empty() {
            write!(out, ", {}", shown(&self.data))?;
        }
        if let Some(label) = &self.label {
            write!(out, ", then labelled {}", shown(label))?;
        }
        match self.directory {
            DirectoryMode::Own => {}
            DirectoryMode::Kept => write!(out, ", mode kept")?,
            DirectoryMode::Copied { .. } => write!(out, ", contents copied")?,
        }
        self.settings.iter().try_for_each(|setting| write!(out, ", {setting}"))?;
        match &self.otherwise {
            Some(source) => write!(out, "; or {source}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = recursive(self.reach);
        match self.change {
            Change::Propagation(propagation) => write!(out, "{prefix}{}", word(propagation)),
            Change::Attributes { set, clear } => {
                write!(out, "{prefix}set")?;
                attributes(out, set)?;
                let clear = clear & !if clear & mount::ATIME == mount::ATIME { mount::ATIME } else { 0 };
                if clear != 0 {
                    write!(out, " {prefix}clear")?;
                    attributes(out, clear)?;
                }
                Ok(())
            }
        }
    }
}

fn attributes(out: &mut fmt::Formatter<'_>, set: u64) -> fmt::Result {
    let names = [
        (mount::RDONLY, "ro"),
        (mount::NOSUID, "nosuid"),
        (mount::NODEV, "nodev"),
        (mount::NOEXEC, "noexec"),
        (mount::NOATIME, "noatime"),
        (mount::STRICTATIME, "strictatime"),
        (mount::NODIRATIME, "nodiratime"),
        (mount::NOSYMFOLLOW, "nosymfollow"),
    ];
    names.iter().filter(|(flag, _)| set & flag != 0).try_for_each(|(_, name)| write!(out, " {name}"))
}

fn recursive(reach: Reach) -> &'static str {
    match reach {
        Reach::One => "",
        Reach::Tree => "r",
    }
}

fn word(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Shared => "shared",
        Propagation::Slave => "slave",
        Propagation::Private => "private",
        Propagation::Unbindable => "unbindable",
    }
}

fn shown(text: &CStr) -> String {
    format!("{:?}", text.to_string_lossy())
}
