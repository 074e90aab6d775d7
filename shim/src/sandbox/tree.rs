//! Removes a directory tree without leaving it: no symlink is followed and no mount is crossed, even one
//! that bind-mounts the same file system (openat2(2) with `RESOLVE_NO_XDEV`).
//!
//! Containers can nest directories deeper than a process has descriptors, so what lies deep is moved to the
//! top first and removed from there.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, renameat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// How deep removal descends before it moves a directory up.
const DEEPEST: usize = 32;

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("remove {} below {}", name.to_string_lossy(), root.display())]
pub(crate) struct Error {
    root: PathBuf,
    name: CString,
    #[source]
    source: Errno,
}

/// Removes `directory` and everything in it; one that is not there is removed already.
pub(crate) fn remove(directory: &Path) -> Result<(), Error> {
    remove_in_order(directory, &[])
}

/// The same, with the files `last` at its top after everything else, in this order.
pub(crate) fn remove_in_order(directory: &Path, last: &[CString]) -> Result<(), Error> {
    let fail = |name: &CStr, source| Error { root: directory.to_owned(), name: name.to_owned(), source };
    let top = match open(AT_FDCWD, directory, ResolveFlag::RESOLVE_NO_MAGICLINKS) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return Ok(()),
        Err(source) => return Err(fail(c".", source)),
    };
    let mut removal = Removal { top: top.as_fd(), last, moved: 0 };
    // Each pass empties the top but for what it moved there itself.
    loop {
        let before = removal.moved;
        removal.empty(top.as_fd(), 0).map_err(|(name, source)| fail(&name, source))?;
        if removal.moved == before {
            break;
        }
    }
    for name in last {
        let removed = unlinkat(top.as_fd(), name.as_c_str(), UnlinkatFlags::NoRemoveDir);
        ignore_missing(removed).map_err(|source| fail(name, source))?;
    }
    match unlinkat(AT_FDCWD, directory, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(source) => Err(fail(c".", source)),
    }
}

fn open<P: nix::NixPath + ?Sized>(
    at: BorrowedFd<'_>,
    path: &P,
    resolve: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat2(at, path, OpenHow::new().flags(flags).resolve(resolve))
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    last: &'a [CString],
    moved: usize,
}

type Failed = (CString, Errno);

impl Removal<'_> {
    fn empty(&mut self, directory: BorrowedFd<'_>, depth: usize) -> Result<(), Failed> {
        for (name, is_directory) in entries(directory)? {
            if depth == 0 && self.last.contains(&name) {
                continue;
            }
            let removed = if is_directory {
                self.remove_directory(directory, &name, depth)
            } else {
                ignore_missing(unlinkat(directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir))
                    .map_err(|errno| (name.clone(), errno))
            };
            removed?;
        }
        Ok(())
    }

    fn remove_directory(&mut self, at: BorrowedFd<'_>, name: &CString, depth: usize) -> Result<(), Failed> {
        let fail = |errno| (name.clone(), errno);
        if depth == DEEPEST {
            self.moved += 1;
            let place = format!(".removed-{}", self.moved);
            return renameat(at, name.as_c_str(), self.top, place.as_str()).map_err(fail);
        }
        let resolve =
            ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS;
        let below = open(at, name.as_c_str(), resolve).map_err(fail)?;
        self.empty(below.as_fd(), depth + 1)?;
        ignore_missing(unlinkat(at, name.as_c_str(), UnlinkatFlags::RemoveDir)).map_err(fail)
    }
}

fn entries(directory: BorrowedFd<'_>) -> Result<Vec<(CString, bool)>, Failed> {
    let fail = |errno| (CString::from(c"."), errno);
    let copy = directory.try_clone_to_owned().map_err(|_| fail(Errno::EMFILE))?;
    let mut listed = Vec::new();
    for entry in Dir::from_fd(copy).map_err(fail)?.iter() {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_directory = match entry.file_type() {
            Some(kind) => kind == Type::Directory,
            None => is_directory(directory, name),
        };
        listed.push((name.to_owned(), is_directory));
    }
    Ok(listed)
}

fn is_directory(at: BorrowedFd<'_>, name: &CStr) -> bool {
    nix::sys::stat::fstatat(at, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
        .is_ok_and(|node| node.st_mode & libc::S_IFMT == libc::S_IFDIR)
}

fn ignore_missing(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    }
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
    fn what_comes_last_is_there_until_all_else_is_gone() {
        let tree = scratch("order");
        std::fs::create_dir_all(tree.join("a")).unwrap();
        std::fs::write(tree.join("config"), "x").unwrap();
        remove_in_order(&tree, &[c"config".into(), c"absent".into()]).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn a_very_deep_tree_goes_too() {
        let tree = scratch("deep");
        let mut at = open(AT_FDCWD, &tree, ResolveFlag::empty()).unwrap();
        for _ in 0..300 {
            nix::sys::stat::mkdirat(&at, "d", nix::sys::stat::Mode::S_IRWXU).unwrap();
            at = open(at.as_fd(), "d", ResolveFlag::empty()).unwrap();
        }
        remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
