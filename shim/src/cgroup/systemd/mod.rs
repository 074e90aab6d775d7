//! Groups that systemd makes: a container is a transient scope, and its limits are the scope's properties as well as
//! values in its files; systemd.scope(5), systemd.resource-control(5).
//!
//! What is asked for is pure ([`Unit`], [`properties`], [`annotation`]); [`manager`] asks, over a D-Bus client that
//! knows just what this needs ([`bus`], [`message`]). systemd knows coarser values than the kernel, and not all: after
//! [`manager::Manager::start`] a group is created and its limits are applied as without systemd.

pub mod annotation;
pub mod bus;
pub mod manager;
pub mod message;
mod placeholder;
pub mod pod;
pub mod properties;

use std::path::PathBuf;

pub(crate) use placeholder::Placeholder;

use super::resources::Invalid;

/// A container's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The slice that it is in; none for the manager's own choice.
    pub slice: String,
    /// What it is called.
    pub name: String,
}

const SLICE: &str = ".slice";

impl Unit {
    /// What a `cgroupsPath` of the form `slice:prefix:name` means; without one, the container's id in the default
    /// slice, which is `system.slice`, or `user.slice` for a user's manager.
    ///
    /// # Errors
    /// It has another form.
    pub fn from_oci_path(path: Option<&str>, id: &str, default_slice: &str) -> Result<Self, Invalid> {
        let path = path.unwrap_or_default();
        let (slice, prefix, name) = match path.split(':').collect::<Vec<_>>()[..] {
            [""] => ("", "hull", id),
            [slice, prefix, name] => (slice, prefix, name),
            _ => return Err(Invalid::SystemdPath(path.to_owned())),
        };
        let name = if name.ends_with(SLICE) { name.to_owned() } else { format!("{prefix}-{name}.scope") };
        if name.contains('/') {
            return Err(Invalid::SystemdPath(path.to_owned()));
        }
        let slice = if slice.is_empty() { default_slice } else { slice }.to_owned();
        expand(&slice)?;
        Ok(Self { slice, name })
    }

    /// Whether it is a slice, which holds other units.
    #[must_use]
    pub fn is_slice(&self) -> bool {
        self.name.ends_with(SLICE)
    }

    /// Its group below that of the manager, as a `cgroupsPath`.
    ///
    /// # Errors
    /// Its slice has no valid name.
    pub fn path(&self) -> Result<PathBuf, Invalid> {
        let parent = expand(&self.slice)?;
        Ok(parent.join(&self.name))
    }
}

/// Where a slice is: its name says it, `a-b.slice` is in `a.slice`.
fn expand(slice: &str) -> Result<PathBuf, Invalid> {
    let bad = || Invalid::Slice(slice.to_owned());
    let name = slice.strip_suffix(SLICE).filter(|name| !name.contains('/')).ok_or_else(bad)?;
    let mut path = PathBuf::from("/");
    if name == "-" {
        return Ok(path);
    }
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return Err(bad());
        }
        path.push(format!("{prefix}{part}{SLICE}"));
        prefix = format!("{prefix}{part}-");
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
