//! Groups below others, as somebody finds them who did not make them: the leaves of exec'd processes, and what a killed
//! shim left.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::rc::Rc;

use super::file::{make_directory, pids, subdirectories, write};
use super::{Error, Group, Hierarchies, v1};

/// A leaf that still forks after so many rounds of moving is left as it is.
const MOVE_ROUNDS: usize = 16;

impl Group {
    /// The leaves below this group whose names begin with `prefix`, whoever made them.
    pub(crate) fn leaves(&self, prefix: &str) -> Vec<Self> {
        let (hierarchies, root) = match &*self.hierarchies {
            Hierarchies::V1(all) => match v1::killing(all) {
                Some(one) => (Rc::new(Hierarchies::V1(vec![one.clone()])), &one.root),
                None => return Vec::new(),
            },
            Hierarchies::V2(root) => (Rc::clone(&self.hierarchies), root),
        };
        let names = subdirectories(&root.join(&self.path)).into_iter();
        let names = names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
        let named = names.filter(|name| name.starts_with(prefix));
        named.map(|name| Self::new(Rc::clone(&hierarchies), self.path.join(name))).collect()
    }

    /// The groups right below this one, whoever made them and in whichever hierarchies.
    pub(crate) fn children(&self) -> Vec<Self> {
        let found = self.hierarchies.roots().flat_map(|root| subdirectories(&root.join(&self.path)));
        let names: BTreeSet<String> =
            found.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.iter().map(|name| self.child(name)).collect()
    }

    /// Its last component.
    pub(crate) fn name(&self) -> &str {
        self.path.file_name().and_then(OsStr::to_str).unwrap_or_default()
    }

    /// Makes the group alone, on v2: what is above it is there, and keeps the controllers that it has on.
    pub(crate) fn create_alone(&self) -> Result<(), Error> {
        self.hierarchies.roots().try_for_each(|root| make_directory(&root.join(&self.path)).map(drop))
    }

    /// Moves what is left in a leaf into the group above, so that the leaf can be removed without killing it.
    pub(crate) fn move_up(&self) -> Result<(), Error> {
        self.parent().map_or(Ok(()), |above| self.move_to(&above))
    }

    /// Moves what is in this group, and not below it, into another.
    pub(crate) fn move_to(&self, other: &Self) -> Result<(), Error> {
        let Some(root) = self.hierarchies.roots().next() else { return Ok(()) };
        let to = root.join(&other.path).join("cgroup.procs");
        // What forks meanwhile is found in the next round.
        for _ in 0..MOVE_ROUNDS {
            let found = pids(&root.join(&self.path));
            if found.is_empty() {
                break;
            }
            for pid in found {
                match write(to.clone(), &pid.to_string()) {
                    // It ended by itself.
                    Err(Error::File { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => {}
                    moved => moved?,
                }
            }
        }
        Ok(())
    }
}
