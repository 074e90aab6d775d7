//! Places for mounts, before a container is restored. criu mounts over what is there; in a root file system that no
//! container was made in yet, or a volume that is empty, something may be missing.

use std::path::{Path, PathBuf};

use super::text;
use crate::container::engine::files::{Entry, Kind, Links, Origin, make_place};
use crate::oci::error::Error;

/// One place: a path inside a directory of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place<'a> {
    inside: &'a Path,
    path: PathBuf,
    links: Links,
    source: Option<&'a Path>,
}

/// Makes the places for `entries` that will not come with a restored file system.
pub(crate) fn make(rootfs: &Path, entries: &[Entry]) -> Result<(), Error> {
    for place in places(rootfs, entries) {
        let is_file = place.source.is_some_and(|source| source.exists() && !source.is_dir());
        let kind = if is_file { Kind::File } else { Kind::Directory };
        let path = Path::new("/").join(&place.path);
        make_place(&text(place.inside)?, &text(&path)?, kind, place.links).map_err(|failed| {
            let whole = place.inside.join(&place.path);
            Error::Kernel(format!("make a place for the mount at {}", whole.display()), failed.errno)
        })?;
    }
    Ok(())
}

/// Where each place is: in the last mount before that holds it, if that shows the host, or in the root.
fn places<'a>(rootfs: &'a Path, entries: &'a [Entry]) -> Vec<Place<'a>> {
    let place = |(at, entry): (usize, &'a Entry)| {
        let holds = |above: &&Entry| entry.destination.starts_with(&above.destination);
        let (inside, above) = match entries.get(..at)?.iter().rev().find(holds) {
            None => (rootfs, Path::new("/")),
            Some(Entry { origin: Origin::Host(source), destination }) => {
                (source.as_path(), destination.as_path())
            }
            // Its content comes with the checkpoint.
            Some(Entry { origin: Origin::Own | Origin::Groups, .. }) => return None,
        };
        let (links, source) = match &entry.origin {
            Origin::Host(source) => (Links::Followed, Some(source.as_path())),
            Origin::Own => (Links::Followed, None),
            // They lie in /sys.
            Origin::Groups => return None,
        };
        let path = entry.destination.strip_prefix(above).ok()?.to_owned();
        (!path.as_os_str().is_empty()).then_some(Place { inside, path, links, source })
    };
    entries.iter().enumerate().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_made_where_its_mount_will_be() {
        let entry = |destination: &str, origin| Entry { destination: destination.into(), origin };
        let host = |source: &str| Origin::Host(source.into());
        let entries = [
            entry("/proc", Origin::Own),
            entry("/dev", Origin::Own),
            entry("/dev/pts", Origin::Own),
            entry("/data", host("/vol")),
            entry("/data/sub/file", host("/file")),
            entry("/data/sub", Origin::Own),
            entry("/data", host("/vol")),
            entry("/sys/fs/cgroup", Origin::Groups),
        ];
        let made = places(Path::new("/r"), &entries);
        let shown: Vec<_> =
            made.iter().map(|place| place.inside.join(&place.path).display().to_string()).collect();
        assert_eq!(shown, ["/r/proc", "/r/dev", "/r/data", "/vol/sub/file", "/vol/sub"]);
    }
}
