//! Resolving paths in a stack of unpacked layers, as the overlay made of them will.
//!
//! A layer may name `lib/x` where `/lib` is a symlink that only a lower layer has. So names are walked in
//! the merged view, symlinks followed by hand and clamped at the root; what comes out is a canonical
//! path without any symlink, which is then opened in the layer's own directory with
//! `RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS`. See openat2(2), overlayfs.rst.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::Error;
use super::tree;

/// Says that nothing of lower layers shows through a directory.
pub(super) const OPAQUE: &str = "trusted.overlay.opaque";
/// The kernel's own limit, MAXSYMLINKS.
const LINK_LIMIT: usize = 40;
const PATH_LIMIT: usize = 4095;

/// The components of a path, from the root.
pub(super) type Components = Vec<Vec<u8>>;

/// A layer under way on top of finished ones.
pub(super) struct Stack {
    /// The layer's own directory first, then the lower ones from the top down.
    layers: Vec<OwnedFd>,
}

/// An existing file in the merged view.
pub(super) struct Found {
    /// 0 for the layer's own.
    pub(super) layer: usize,
    pub(super) stat: Stat,
}

enum Probe {
    Present(Stat),
    /// Not there, and layers below may have it.
    Absent,
    /// Not there, and lower layers cannot show it.
    Hidden,
}

impl Stack {
    /// `lowers` from the top down.
    pub(super) fn open<'a>(own: &'a Path, lowers: impl Iterator<Item = &'a Path>) -> Result<Self, Error> {
        let layers = std::iter::once(own).chain(lowers).map(tree::open_dir).collect::<Result<_, _>>()?;
        Ok(Self { layers })
    }

    /// How many layers there are, the own one included.
    pub(super) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// The root of a layer; 0 is the own one.
    fn root(&self, layer: usize) -> BorrowedFd<'_> {
        self.layers[layer].as_fd()
    }

    /// Resolves every component, following symlinks in the merged view, and never leaves the root.
    pub(super) fn canonical(&self, path: &Components) -> Result<Components, Errno> {
        let mut queue: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut at = Components::new();
        let mut links = 0;
        while let Some(component) = queue.pop_front() {
            if component == b".." {
                at.pop();
                continue;
            }
            at.push(component);
            if joined(&at).len() > PATH_LIMIT {
                return Err(Errno::NAMETOOLONG);
            }
            let Some(found) = self.lookup(&at)? else { continue };
            match FileType::from_raw_mode(found.stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink if links < LINK_LIMIT => {
                    links += 1;
                    let target = self.read_link(found.layer, &at)?;
                    at.pop();
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    for component in components(&target).into_iter().rev() {
                        queue.push_front(component);
                    }
                }
                FileType::Symlink => return Err(Errno::LOOP),
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }

    /// The file at a canonical path, in the topmost layer that has it.
    pub(super) fn lookup(&self, path: &Components) -> Result<Option<Found>, Errno> {
        for layer in 0..self.layers.len() {
            match self.probe(layer, path)? {
                Probe::Present(stat) if is_whiteout(&stat) => return Ok(None),
                Probe::Present(stat) => return Ok(Some(Found { layer, stat })),
                Probe::Hidden => return Ok(None),
                Probe::Absent => {}
            }
        }
        Ok(None)
    }

    fn probe(&self, layer: usize, path: &Components) -> Result<Probe, Errno> {
        let Some((name, parents)) = path.split_last() else {
            return Ok(Probe::Present(rustix::fs::fstat(self.root(layer))?));
        };
        let mut at = rustix::io::dup(self.root(layer))?;
        let mut opaque = false;
        for parent in parents {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = match rustix::fs::openat(&at, parent.as_slice(), flags, Mode::empty()) {
                Ok(child) => child,
                Err(Errno::NOENT) if !opaque => return Ok(Probe::Absent),
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Probe::Hidden),
                Err(error) => return Err(error),
            };
            opaque |= is_opaque(at.as_fd());
        }
        match rustix::fs::statat(&at, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Probe::Present(stat)),
            Err(Errno::NOENT) => Ok(if opaque { Probe::Hidden } else { Probe::Absent }),
            Err(error) => Err(error),
        }
    }

    /// Opens a canonical path in one layer; a symlink on the way is an error.
    pub(super) fn open_in(&self, layer: usize, path: &Components, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
        let path = if path.is_empty() { b".".to_vec() } else { joined(path) };
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat2(self.root(layer), path, flags, Mode::empty(), resolve)
    }

    /// Opens a directory of one layer for reading.
    pub(super) fn open_dir(&self, layer: usize, path: &Components) -> Result<OwnedFd, Errno> {
        self.open_in(layer, path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// The target of the symlink at a canonical path of one layer.
    pub(super) fn read_link(&self, layer: usize, path: &Components) -> Result<Vec<u8>, Errno> {
        let link = self.open_in(layer, path, OFlags::PATH)?;
        Ok(rustix::fs::readlinkat(&link, c"", Vec::new())?.into_bytes())
    }
}

/// Splits a path; `.` and empty components go, `..` stays.
pub(super) fn components(path: &[u8]) -> Components {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec).collect()
}

/// Splits and cleans a name of an archive: `..` is taken back by what stands before it, or by the root.
pub(super) fn clean(name: &[u8]) -> Components {
    let mut cleaned = Components::new();
    for component in components(name) {
        if component == b".." {
            cleaned.pop();
        } else {
            cleaned.push(component);
        }
    }
    cleaned
}

/// The components with slashes between them.
pub(super) fn joined(path: &Components) -> Vec<u8> {
    path.join(&b'/')
}

/// A whiteout of overlayfs: a character device 0:0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0; 2];
    matches!(rustix::fs::fgetxattr(dir, OPAQUE, &mut value[..]), Ok(1)) && value[0] == b'y'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_clamped_at_the_root() {
        for (name, expected) in [
            ("a/b", "a/b"),
            ("/a//./b/", "a/b"),
            ("../../a", "a"),
            ("a/../../b", "b"),
            ("..", ""),
            ("./", ""),
            ("a/b/../..", ""),
        ] {
            assert_eq!(joined(&clean(name.as_bytes())), expected.as_bytes(), "{name}");
        }
    }

    #[test]
    fn symlinks_of_lower_layers_are_followed_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let (own, lower) = (dir.path().join("own"), dir.path().join("lower"));
        for path in [&own, &lower] {
            std::fs::create_dir(path).unwrap();
        }
        let link = |target: &str, name: &str| std::os::unix::fs::symlink(target, lower.join(name)).unwrap();
        std::fs::create_dir_all(lower.join("usr/lib")).unwrap();
        link("usr/lib", "lib");
        link("/../../usr", "absolute");
        link("../../../..", "up");
        link("loop", "loop");
        std::fs::write(lower.join("file"), "").unwrap();
        let stack = Stack::open(&own, std::iter::once(lower.as_path())).unwrap();
        let canonical = |path: &str| stack.canonical(&components(path.as_bytes())).map(|path| joined(&path));
        assert_eq!(canonical("lib/x"), Ok(b"usr/lib/x".to_vec()));
        assert_eq!(canonical("absolute/lib"), Ok(b"usr/lib".to_vec()));
        assert_eq!(canonical("up/up/x"), Ok(b"x".to_vec()));
        assert_eq!(canonical("loop/x"), Err(Errno::LOOP));
        assert_eq!(canonical("file/x"), Err(Errno::NOTDIR));
        assert_eq!(canonical("missing/x"), Ok(b"missing/x".to_vec()));
    }
}
