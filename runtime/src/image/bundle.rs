//! What is imported: a directory, or an archive spooled to numbered files.
//!
//! The files of an archive never get a name of the archive's choosing on disk; names and links inside it
//! exist only in a map here. Each is hashed on the way in, so a blob is read once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::compression;
use super::digest::{Algorithm, Digest, Hashed};
use super::document::JSON_LIMIT;
use super::error::Error;
use super::import::Source;
use super::resolve::{clean, joined};
use super::tarball::{Entry, Kind, Tarball};
use super::tree;

/// More entries than any image archive has; each costs an inode while the import lasts.
const ENTRY_LIMIT: usize = 100_000;
const LINK_LIMIT: usize = 40;

/// The files of an image source by name.
pub(super) struct Bundle {
    /// For messages.
    pub(super) display: String,
    files: Files,
}

enum Files {
    Directory(OwnedFd),
    Archive(BTreeMap<Vec<u8>, Item>),
}

enum Item {
    File(Spooled),
    Link(Vec<u8>),
}

/// A file of an archive, on disk.
#[derive(Clone)]
pub(super) struct Spooled {
    pub(super) path: PathBuf,
    pub(super) sha256: Digest,
    pub(super) size: u64,
}

/// One file of the source.
pub(super) enum Content {
    Spooled(Spooled),
    Open(File),
}

impl Bundle {
    /// Opens a source; `spool` is an empty directory for an archive's files.
    pub(super) fn open(source: Source<'_>, spool: &Path) -> Result<Self, Error> {
        match source {
            Source::Path(path) if path.is_dir() => Ok(Self {
                display: path.display().to_string(),
                files: Files::Directory(tree::open_dir(path)?),
            }),
            Source::Path(path) => {
                let file = File::open(path).map_err(Error::io("open", path))?;
                Self::archive(path.display().to_string(), file, spool)
            }
            Source::Stream(stream) => Self::archive("standard input".into(), stream, spool),
        }
    }

    fn archive(display: String, stream: impl Read, spool: &Path) -> Result<Self, Error> {
        let read = |source| Error::Read { what: display.clone(), source };
        let mut tarball = Tarball::new(compression::unpacked(stream).map_err(read)?);
        let mut items = BTreeMap::new();
        while let Some(entry) = tarball.next().map_err(|error| not_an_archive(&display, &items, error))? {
            if items.len() >= ENTRY_LIMIT {
                let problem = format!("has more than {ENTRY_LIMIT} entries");
                return Err(Error::Document { what: display, problem });
            }
            let item = match entry.kind {
                Kind::File => Item::File(spool_file(&mut tarball, &spool.join(items.len().to_string()))?),
                Kind::HardLink => Item::Link(joined(&clean(&entry.link))),
                Kind::Symlink => Item::Link(symlink_target(&entry)),
                Kind::Directory | Kind::Character | Kind::Block | Kind::Fifo => continue,
            };
            items.insert(joined(&clean(&entry.name)), item);
        }
        io::copy(&mut tarball.into_inner(), &mut io::sink()).map_err(read)?;
        Ok(Self { display, files: Files::Archive(items) })
    }

    /// A file of the source, if it is there.
    pub(super) fn file(&self, name: &str) -> Result<Option<Content>, Error> {
        match &self.files {
            Files::Directory(root) => self.open_in(root, name),
            Files::Archive(items) => {
                let mut name = joined(&clean(name.as_bytes()));
                for _ in 0..LINK_LIMIT {
                    match items.get(&name) {
                        None => return Ok(None),
                        Some(Item::File(spooled)) => return Ok(Some(Content::Spooled(spooled.clone()))),
                        Some(Item::Link(target)) => name.clone_from(target),
                    }
                }
                Err(self.problem(format!("has a circle of links at {}", String::from_utf8_lossy(&name))))
            }
        }
    }

    fn open_in(&self, root: &OwnedFd, name: &str) -> Result<Option<Content>, Error> {
        // A FIFO in the directory must not block us.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(root, name, flags, Mode::empty(), resolve) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            result => File::from(result.map_err(Error::io("open", Path::new(name)))?),
        };
        let regular = file.metadata().map_err(Error::io("look at", Path::new(name)))?.is_file();
        if regular {
            Ok(Some(Content::Open(file)))
        } else {
            Err(self.problem(format!("has no regular file {name}")))
        }
    }

    fn problem(&self, problem: String) -> Error {
        Error::Document { what: self.display.clone(), problem }
    }

    /// A JSON document of the source, if it is there.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(content) = self.file(name)? else {
            return Ok(None);
        };
        let what = format!("{name} of {}", self.display);
        read_document(what, content.open()?).map(Some)
    }

    /// For a file that must be there.
    pub(super) fn missing(&self, what: &str) -> Error {
        Error::Missing { what: what.to_owned(), archive: self.display.clone() }
    }
}

impl Content {
    /// The file, from its beginning.
    pub(super) fn open(self) -> Result<File, Error> {
        match self {
            Self::Open(file) => Ok(file),
            Self::Spooled(spooled) => File::open(&spooled.path).map_err(Error::io("open", &spooled.path)),
        }
    }
}

/// Reads a JSON document whole, if it is not too large.
pub(super) fn read_document(what: String, file: impl Read) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    if let Err(source) = file.take(JSON_LIMIT + 1).read_to_end(&mut bytes) {
        return Err(Error::Read { what, source });
    }
    if bytes.len() as u64 > JSON_LIMIT { Err(Error::TooLarge { what, limit: JSON_LIMIT }) } else { Ok(bytes) }
}

/// Copies a stream into a new file, hashing it.
pub(super) fn spool_file(stream: &mut impl Read, path: &Path) -> Result<Spooled, Error> {
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    let mut hashed = Hashed::new(stream, Algorithm::Sha256);
    io::copy(&mut hashed, &mut file).map_err(Error::io("fill", path))?;
    let (sha256, size) = hashed.finish().map_err(Error::io("fill", path))?;
    Ok(Spooled { path: path.to_owned(), sha256, size })
}

/// A first block that is no tar header means that this is something else altogether.
fn not_an_archive(display: &str, items: &BTreeMap<Vec<u8>, Item>, error: Error) -> Error {
    match error {
        Error::Tar { .. } if items.is_empty() => Error::UnknownFormat { archive: display.to_owned() },
        error => error,
    }
}

/// Where a symlink of the archive points to inside it.
fn symlink_target(entry: &Entry) -> Vec<u8> {
    let mut path = Vec::new();
    if !entry.link.starts_with(b"/") {
        let mut directory = clean(&entry.name);
        directory.pop();
        path = joined(&directory);
    }
    path.push(b'/');
    path.extend(&entry.link);
    joined(&clean(&path))
}
