//! Unpacks one layer into a directory that serves as an overlayfs lower directory.
//!
//! Each layer is unpacked alone; whiteouts become character devices 0:0 and opaque directories carry
//! `trusted.overlay.opaque`. Lower layers are only looked at: for the attributes of parents that the layer
//! does not list, for symlinks on the way to an entry, and for targets of hard links, which are
//! copied up as overlayfs itself does.
//!
//! **Invariant:** names are resolved by [`super::resolve`] to a path without symlinks, and each file is made
//! by its single last component in a directory descriptor below the layer's own root. No archive can
//! write elsewhere. Follows image-spec `layer.md`.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timestamps, XattrFlags};
use rustix::io::Errno;

use super::attributes::{Attributes, Failure};
use super::error::Error;
use super::resolve::{self, Components, Found, OPAQUE, Stack};
use super::tarball::{Entry, Kind, Tarball};
use super::tree;

const WHITEOUT: &[u8] = b".wh.";
/// What aufs kept for itself; the opaque marker is one of them.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE_MARKER: &[u8] = b".wh..opq";

/// Unpacks the uncompressed `stream` into the empty directory `own`, on top of `lowers` (from the top
/// down). Reads the stream to its end.
pub(super) fn apply<'a>(
    stream: impl Read,
    own: &'a Path,
    lowers: impl Iterator<Item = &'a Path>,
) -> Result<(), Error> {
    let mut layer = Layer { stack: Stack::open(own, lowers)?, parent: None, times: Vec::new() };
    let mut tarball = Tarball::new(stream);
    while let Some(entry) = tarball.next()? {
        layer.entry(&entry, &mut tarball)?;
    }
    layer.set_directory_times().map_err(Error::io("set the times below", own))?;
    io::copy(&mut tarball.into_inner(), &mut io::sink())
        .map_err(|source| Error::Read { what: "layer".into(), source })?;
    Ok(())
}

struct Layer {
    stack: Stack,
    /// The directory of the last entry; archives list a directory's entries together.
    parent: Option<Parent>,
    /// Set at the end, because making an entry changes its directory's times.
    times: Vec<(Components, Timestamps)>,
}

/// An existing directory of the layer.
struct Parent {
    /// As the archive spells it.
    asked: Components,
    /// Where it is.
    path: Components,
    dir: OwnedFd,
}

/// What stood where an entry is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Directory,
    /// Something that hid lower layers, and is gone now.
    Removed,
}

/// Why an entry was not made.
enum Trouble {
    Step(Failure),
    Problem(String),
    Read(io::Error),
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Step(failure)
    }
}

/// For `map_err`: names the step that failed.
fn step(step: &'static str) -> impl Fn(Errno) -> Trouble {
    move |errno| Trouble::Step((step, errno))
}

impl Layer {
    fn entry<R: Read>(&mut self, entry: &Entry, tarball: &mut Tarball<R>) -> Result<(), Error> {
        self.apply(entry, tarball).map_err(|trouble| {
            let name = entry.display_name();
            match trouble {
                Trouble::Step((step, errno)) => Error::EntryIo { name, step, source: errno.into() },
                Trouble::Problem(problem) => Error::Entry { name, problem },
                Trouble::Read(source) => Error::EntryIo { name, step: "copy its data", source },
            }
        })
    }

    fn apply<R: Read>(&mut self, entry: &Entry, tarball: &mut Tarball<R>) -> Result<(), Trouble> {
        if entry.name.contains(&0) || entry.link.contains(&0) {
            return Err(Trouble::Problem("its name or target has a NUL byte".into()));
        }
        let path = resolve::clean(&entry.name);
        let Some((name, parents)) = path.split_last() else {
            // The root's attributes are the overlay's upper directory's.
            return Ok(());
        };
        let opaque = name.strip_prefix(WHITEOUT) == Some(OPAQUE_MARKER);
        let aufs = |component: &Vec<u8>| component.starts_with(AUFS);
        if parents.iter().any(aufs) || aufs(name) && !opaque {
            return Ok(());
        }
        let parent = self.parent(parents)?;
        let result = match name.strip_prefix(WHITEOUT) {
            Some(_) if opaque => self.make_opaque(&parent),
            Some(hidden) => whiteout(&parent, hidden, entry),
            None => self.make(&parent, name, entry, tarball),
        };
        // Kept only while nothing was removed that its path may lead through.
        let removed = result?;
        self.parent = (removed != Before::Removed).then_some(parent);
        Ok(())
    }

    /// The directory that an entry belongs in, made where the layer does not have it yet.
    fn parent(&mut self, asked: &[Vec<u8>]) -> Result<Parent, Trouble> {
        if let Some(parent) = self.parent.take_if(|parent| parent.asked == asked) {
            return Ok(parent);
        }
        let asked = asked.to_vec();
        match self.stack.open_dir(0, &asked) {
            Ok(dir) => {
                return Ok(Parent { path: asked.clone(), asked, dir });
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(Trouble::Step(("open its directory", errno))),
        }
        let path = self.stack.canonical(&asked).map_err(step("resolve its directory"))?;
        let dir = self.make_parents(&path)?;
        Ok(Parent { asked, path, dir })
    }

    /// Opens the directory at a canonical path, making what is missing as it is in the layers below.
    fn make_parents(&mut self, path: &Components) -> Result<OwnedFd, Trouble> {
        let mut dir = self.stack.open_dir(0, &Vec::new()).map_err(step("open the layer"))?;
        for length in 1..=path.len() {
            let (here, name) = (path[..length].to_vec(), path[length - 1].as_slice());
            dir = match open_dir_at(&dir, name) {
                Err(Errno::NOENT) => self.make_parent(&dir, here)?,
                // Resolving found no file here, so this is a whiteout: the new directory starts empty.
                Err(Errno::NOTDIR) => {
                    rustix::fs::unlinkat(&dir, name, AtFlags::empty()).map_err(step("replace a whiteout"))?;
                    let made = self.make_parent(&dir, here)?;
                    set_opaque(&made)?;
                    made
                }
                result => result.map_err(step("open its directory"))?,
            };
        }
        Ok(dir)
    }

    fn make_parent(&mut self, dir: &OwnedFd, path: Components) -> Result<OwnedFd, Trouble> {
        let below = self.stack.lookup(&path).map_err(step("look at lower layers"))?;
        let name = path.last().map(Vec::as_slice).unwrap_or_default();
        rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o755)).map_err(step("make its directory"))?;
        let made = open_dir_at(dir, name).map_err(step("open its directory"))?;
        rustix::fs::fchmod(&made, Mode::from_raw_mode(0o755)).map_err(step("make its directory"))?;
        if let Some(Found { layer, .. }) = below {
            let read = |errno| Trouble::Step(("read the attributes of its directory below", errno));
            let original = self.stack.open_dir(layer, &path).map_err(read)?;
            let attributes = Attributes::of_file(original.as_fd()).map_err(read)?;
            attributes.apply(made.as_fd())?;
            self.times.push((path, attributes.times()));
        }
        Ok(made)
    }

    /// Makes an ordinary entry.
    fn make<R: Read>(
        &mut self,
        parent: &Parent,
        name: &[u8],
        entry: &Entry,
        tarball: &mut Tarball<R>,
    ) -> Result<Before, Trouble> {
        if entry.kind == Kind::HardLink {
            return self.hard_link(parent, name, entry);
        }
        let before = clear(parent, name, entry.kind)?;
        let attributes = Attributes::of_entry(entry);
        let special = match entry.kind {
            Kind::Directory => {
                self.directory(parent, name, before, &attributes)?;
                return Ok(before);
            }
            Kind::File => {
                copy_file(&parent.dir, name, tarball, &attributes)?;
                return Ok(before);
            }
            Kind::Symlink | Kind::HardLink => {
                rustix::fs::symlinkat(entry.link.as_slice(), &parent.dir, name)
                    .map_err(step("make the symlink"))?;
                FileType::Symlink
            }
            Kind::Character => make_node(parent, name, FileType::CharacterDevice, entry.device)?,
            Kind::Block => make_node(parent, name, FileType::BlockDevice, entry.device)?,
            Kind::Fifo => make_node(parent, name, FileType::Fifo, (0, 0))?,
        };
        attributes.apply_at(parent.dir.as_fd(), name, special)?;
        Ok(before)
    }

    fn directory(
        &mut self,
        parent: &Parent,
        name: &[u8],
        before: Before,
        attributes: &Attributes,
    ) -> Result<(), Trouble> {
        if before != Before::Directory {
            rustix::fs::mkdirat(&parent.dir, name, Mode::RWXU).map_err(step("make the directory"))?;
        }
        let made = open_dir_at(&parent.dir, name).map_err(step("open the directory"))?;
        if before == Before::Removed {
            set_opaque(&made)?;
        }
        attributes.apply(made.as_fd())?;
        self.times.push((child(&parent.path, name), attributes.times()));
        Ok(())
    }

    /// Links to a file of this layer, or to one of a lower layer that is copied up first. Attributes are
    /// the target's: an archive repeats them here, often without the extended ones.
    fn hard_link(&mut self, parent: &Parent, name: &[u8], entry: &Entry) -> Result<Before, Trouble> {
        let problem = |problem: &str| {
            Trouble::Problem(format!("its link target {:?} {problem}", String::from_utf8_lossy(&entry.link)))
        };
        let target = resolve::clean(&entry.link);
        let Some((target_name, target_parents)) = target.split_last() else {
            return Err(problem("is the root"));
        };
        let mut target =
            self.stack.canonical(&target_parents.to_vec()).map_err(step("resolve its link target"))?;
        target.push(target_name.clone());
        let found = self.stack.lookup(&target).map_err(step("look at its link target"))?;
        let Some(found) = found else {
            return Err(problem("does not exist"));
        };
        if FileType::from_raw_mode(found.stat.st_mode) == FileType::Directory {
            return Err(problem("is a directory"));
        }
        if found.layer > 0 {
            self.copy_up(&target, &found)?;
        }
        if target == child(&parent.path, name) {
            return Ok(Before::Nothing);
        }
        let before = clear(parent, name, entry.kind)?;
        let directory = self.stack.open_dir(0, &target[..target.len() - 1].to_vec());
        let directory = directory.map_err(step("open the directory of its link target"))?;
        rustix::fs::linkat(&directory, target_name.as_slice(), &parent.dir, name, AtFlags::empty())
            .map_err(step("make the hard link"))?;
        Ok(before)
    }

    /// Copies a file of a lower layer into this one, as overlayfs does before it links.
    fn copy_up(&mut self, path: &Components, found: &Found) -> Result<(), Trouble> {
        let failed = |errno| Trouble::Step(("copy its link target from a lower layer", errno));
        let (name, parents) = path.split_last().ok_or_else(|| failed(Errno::INVAL))?;
        let dir = self.make_parents(&parents.to_vec())?;
        let attributes = Attributes::of_stat(&found.stat);
        let kind = FileType::from_raw_mode(found.stat.st_mode);
        match kind {
            FileType::RegularFile => {
                let original = self.stack.open_in(found.layer, path, OFlags::RDONLY).map_err(failed)?;
                let attributes = Attributes::of_file(original.as_fd()).map_err(failed)?;
                return copy_file(&dir, name, &mut std::fs::File::from(original), &attributes);
            }
            FileType::Symlink => {
                let target = self.stack.read_link(found.layer, path).map_err(failed)?;
                rustix::fs::symlinkat(target, &dir, name.as_slice()).map_err(failed)?;
            }
            kind => {
                rustix::fs::mknodat(&dir, name.as_slice(), kind, Mode::empty(), found.stat.st_rdev)
                    .map_err(failed)?;
            }
        }
        Ok(attributes.apply_at(dir.as_fd(), name, kind)?)
    }

    /// Hides everything that lower layers have in a directory.
    fn make_opaque(&mut self, parent: &Parent) -> Result<Before, Trouble> {
        if parent.path.is_empty() {
            self.hide_root(parent)?;
        } else {
            set_opaque(&parent.dir)?;
        }
        Ok(Before::Nothing)
    }

    /// The kernel does not ask whether a layer's root is opaque, so each name below is hidden by itself.
    fn hide_root(&self, parent: &Parent) -> Result<(), Trouble> {
        let read = |errno| Trouble::Step(("read the root of a lower layer", errno));
        for layer in 1..self.stack.depth() {
            let root = self.stack.open_dir(layer, &Vec::new()).map_err(read)?;
            for (name, _) in tree::names(&root).map_err(read)? {
                hide(parent, name.as_bytes(), (0, 0))?;
            }
        }
        Ok(())
    }

    fn set_directory_times(&self) -> Result<(), Errno> {
        for (path, times) in &self.times {
            match self.stack.open_dir(0, path) {
                Ok(dir) => rustix::fs::futimens(&dir, times)?,
                // A later entry replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Applies `.wh.<hidden>`, which speaks of lower layers only.
fn whiteout(parent: &Parent, hidden: &[u8], entry: &Entry) -> Result<Before, Trouble> {
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(Trouble::Problem("it is a whiteout of nothing".into()));
    }
    hide(parent, hidden, (entry.uid, entry.gid))?;
    Ok(Before::Nothing)
}

/// Hides what lower layers have under a name; what this layer has there stays.
fn hide(parent: &Parent, name: &[u8], (uid, gid): (u32, u32)) -> Result<(), Trouble> {
    match rustix::fs::statat(&parent.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
            return set_opaque(&open_dir_at(&parent.dir, name).map_err(step("open the directory"))?);
        }
        // Any other file hides by being there.
        Ok(_) => return Ok(()),
        Err(errno) => return Err(Trouble::Step(("look at what it hides", errno))),
    }
    rustix::fs::mknodat(&parent.dir, name, FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(step("make the whiteout"))?;
    let owner = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
    rustix::fs::chownat(&parent.dir, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(step("set the whiteout's owner"))
}

/// Makes room for an entry: a directory merges with a directory, anything else is replaced.
fn clear(parent: &Parent, name: &[u8], kind: Kind) -> Result<Before, Trouble> {
    match rustix::fs::statat(&parent.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Before::Nothing),
        Err(errno) => return Err(Trouble::Step(("look at what is there", errno))),
        Ok(stat) => {
            let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if directory && kind == Kind::Directory {
                return Ok(Before::Directory);
            }
        }
    }
    let name =
        std::ffi::CString::new(name).map_err(|_| Trouble::Problem("its name has a NUL byte".into()))?;
    hull_shim::tree::remove_at(parent.dir.as_fd(), &name)
        .map_err(|errno| Trouble::Step(("replace what is there", Errno::from_raw_os_error(errno as i32))))?;
    Ok(Before::Removed)
}

fn copy_file(
    dir: &OwnedFd,
    name: &[u8],
    data: &mut impl Read,
    attributes: &Attributes,
) -> Result<(), Trouble> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(step("make the file"))?;
    let mut file = std::fs::File::from(file);
    io::copy(data, &mut file).map_err(Trouble::Read)?;
    attributes.apply(file.as_fd())?;
    rustix::fs::futimens(&file, &attributes.times()).map_err(step("set its times"))
}

fn make_node(
    parent: &Parent,
    name: &[u8],
    kind: FileType,
    (major, minor): (u32, u32),
) -> Result<FileType, Trouble> {
    let device = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(&parent.dir, name, kind, Mode::empty(), device).map_err(step("make the node"))?;
    Ok(kind)
}

fn open_dir_at(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn set_opaque(dir: &OwnedFd) -> Result<(), Trouble> {
    rustix::fs::fsetxattr(dir, OPAQUE, b"y", XattrFlags::empty()).map_err(step("make the directory opaque"))
}

fn child(parent: &Components, name: &[u8]) -> Components {
    let mut path = parent.clone();
    path.push(name.to_vec());
    path
}

#[cfg(test)]
#[path = "unpack_tests.rs"]
mod tests;
