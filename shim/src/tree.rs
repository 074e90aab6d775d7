//! Removes a tree that a hostile container may have built, and may still be building.
//!
//! Every step goes through a descriptor of a directory that was opened without following links and without
//! crossing a mount, even one that bind-mounts the same file system (openat2(2) with `RESOLVE_NO_XDEV`): nothing
//! outside the tree is touched. Containers can nest directories deeper than a process has descriptors, so what lies
//! deep is moved to the top first and removed from there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, RenameFlags, ResolveFlag, openat2, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How deep removal descends before it moves a directory up.
const DEEPEST: usize = 32;

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("remove {} below {}", name.to_string_lossy(), root.display())]
pub struct Error {
    root: PathBuf,
    name: CString,
    #[source]
    source: Errno,
}

impl From<Error> for std::io::Error {
    /// The kernel's answer, for a caller that names the tree itself.
    fn from(error: Error) -> Self {
        error.source.into()
    }
}

/// Removes a file, a link, or a directory with everything in it; what is not there is removed already.
///
/// # Errors
/// Names what could not be removed; a mount point inside is one such thing (EXDEV), and stays.
pub fn remove(path: &Path) -> Result<(), Error> {
    let fail = |(name, source)| Error { root: path.to_owned(), name, source };
    let itself = |source| fail((CString::from(c"."), source));
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(itself(Errno::EINVAL));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let parent = match nix::fcntl::open(parent, flags, nix::sys::stat::Mode::empty()) {
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(()),
        opened => opened.map_err(itself)?,
    };
    let name = CString::new(name.as_bytes()).map_err(|_| itself(Errno::EINVAL))?;
    remove_entry(parent.as_fd(), &name).map_err(fail)
}

/// A path as the mount table has it: the directory that it is in may be reached through links, as a disk's is that
/// somebody linked to `/var/lib/hull`. The last name stands for itself, whatever it is.
#[must_use]
pub fn real(path: &Path) -> PathBuf {
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// As [`remove`], for the entry `name` of the directory `parent`.
///
/// # Errors
/// Why it, or something below, could not be removed.
pub fn remove_at(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
    remove_entry(parent, name).map_err(|(_, errno)| errno)
}

/// The name of what could not be removed, and why.
type Failed = (CString, Errno);

fn remove_entry(parent: BorrowedFd<'_>, name: &CStr) -> Result<(), Failed> {
    let fail = |errno| (name.to_owned(), errno);
    if !is_full_directory(parent, name).map_err(fail)? {
        return Ok(());
    }
    let top = open_below(parent, name).map_err(fail)?;
    let mut removal = Removal { top: top.as_fd(), moved: 0 };
    // Each pass empties the top but for what it moved there itself.
    loop {
        let before = removal.moved;
        removal.empty(top.as_fd(), 0)?;
        if removal.moved == before {
            break;
        }
    }
    unlink(parent, name, UnlinkatFlags::RemoveDir).map_err(fail)
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    moved: u64,
}

impl Removal<'_> {
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Result<(), Failed> {
        for (name, kind) in entries(directory).map_err(|errno| (CString::from(c"."), errno))? {
            let fail = |errno| (name.clone(), errno);
            let full = match kind {
                Some(Type::Directory) => true,
                Some(_) | None => is_full_directory(directory, &name).map_err(fail)?,
            };
            if full {
                self.remove_directory(directory, &name, depth)?;
            }
        }
        Ok(())
    }

    fn remove_directory(&mut self, at: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), Failed> {
        let fail = |errno| (name.to_owned(), errno);
        if depth == DEEPEST {
            return self.move_up(at, name).map_err(fail);
        }
        let below = match open_below(at, name) {
            Err(Errno::ENOENT) => return Ok(()),
            // No directory any more: somebody still builds here.
            Err(Errno::ENOTDIR | Errno::ELOOP) => {
                return unlink(at, name, UnlinkatFlags::NoRemoveDir).map_err(fail);
            }
            opened => opened.map_err(fail)?,
        };
        self.empty(below.as_fd(), depth + 1)?;
        drop(below);
        unlink(at, name, UnlinkatFlags::RemoveDir).map_err(fail)
    }

    /// Moves a directory to the top, to a name that nobody took: the tree may hold any.
    fn move_up(&mut self, from: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        loop {
            self.moved += 1;
            let place = format!(".removed-{}", self.moved);
            match renameat2(from, name, self.top, place.as_str(), RenameFlags::RENAME_NOREPLACE) {
                Err(Errno::EEXIST) => {}
                Err(Errno::ENOENT) => return Ok(()),
                done => return done,
            }
        }
    }
}

/// Removes what can be removed at once, and tells whether a directory with content is left.
fn is_full_directory(parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<bool> {
    match unlink(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        done => return done.map(|()| false),
    }
    match unlink(parent, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(true),
        done => done.map(|()| false),
    }
}

fn unlink(parent: BorrowedFd<'_>, name: &CStr, kind: UnlinkatFlags) -> nix::Result<()> {
    match unlinkat(parent, name, kind) {
        Err(Errno::ENOENT) => Ok(()),
        done => done,
    }
}

/// Opens a directory right below `at`: no link, no other mount.
fn open_below(at: BorrowedFd<'_>, name: &CStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
    openat2(at, name, OpenHow::new().flags(flags).resolve(resolve))
}

/// The entries of a directory, read to the end before any is touched: removing while reading may skip some.
fn entries(directory: BorrowedFd<'_>) -> nix::Result<Vec<(CString, Option<Type>)>> {
    let copy = directory.try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
    let mut listed = Vec::new();
    for entry in Dir::from_fd(copy)?.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            listed.push((name.to_owned(), entry.file_type()));
        }
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("hull-tree-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_tree_goes_and_what_its_links_point_to_stays() {
        let (kept, tree) = (scratch("kept"), scratch("tree"));
        std::fs::write(kept.join("file"), "x").unwrap();
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&kept, tree.join("a/link")).unwrap();
        remove(&tree).unwrap();
        assert!(!tree.exists() && kept.join("file").exists());
        remove(&kept).unwrap();
    }

    #[test]
    fn a_path_through_a_link_is_as_the_mount_table_has_it() {
        let tree = scratch("real");
        std::fs::create_dir_all(tree.join("disk/a")).unwrap();
        std::os::unix::fs::symlink("disk", tree.join("link")).unwrap();
        std::os::unix::fs::symlink("disk", tree.join("disk/b")).unwrap();
        let disk = tree.canonicalize().unwrap().join("disk");
        assert_eq!(real(&tree.join("link/a")), disk.join("a"));
        assert_eq!(real(&tree.join("link/b")), disk.join("b"));
        assert_eq!(real(&tree.join("none/a")), tree.join("none/a"));
        remove(&tree).unwrap();
    }

    #[test]
    fn a_very_deep_tree_goes_too() {
        let tree = scratch("deep");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut at = nix::fcntl::open(&tree, flags, nix::sys::stat::Mode::empty()).unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
            at = open_below(at.as_fd(), c"d").unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists());
        remove(&tree).unwrap();
        remove(&tree.join("deeper")).unwrap();
    }
}
