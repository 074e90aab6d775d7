//! Compiled filters by the digest of what they were made from, in memory and on disk.
//!
//! The digest is of the profile's text, the architecture, and the compiler's version; so an entry is never out of date,
//! and the directory may be removed at any time.
//!
//! **Invariant:** a file is believed only when it and its directory belong to this user and nobody else may write them,
//! it is a plain file of the length that it names, and its checksum holds. Everything else is compiled anew. A cache that
//! cannot be read or written costs time and nothing else, so that is said in the log at most.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::LinuxSeccomp;
use sha2::{Digest, Sha256};

use super::{Arch, Error, Filter, Instruction, compile};

/// Changes with everything that changes what a profile compiles to, and with the file's form.
const VERSION: u32 = 2;
/// Most filters that are kept; then the cache begins anew.
const MOST: usize = 64;
/// Length of a digest and of a checksum.
const DIGEST: usize = 32;
/// Magic number and version, digest, flags, number of instructions.
const HEAD: usize = 8 + DIGEST + 4 + 4;
const INSTRUCTION: usize = size_of::<Instruction>();
/// Most instructions that the kernel takes.
const LONGEST: usize = 4096;

type Key = [u8; DIGEST];

/// Filters that were compiled before.
#[derive(Debug, Default)]
pub struct Cache {
    filters: HashMap<Key, Rc<Filter>>,
    directory: Option<PathBuf>,
}

impl Cache {
    /// In memory alone.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Also on disk, for processes that do not live long. `directory` is made (mode 0700) when there is
    /// something to keep; the directory above it must be there, and belong to nobody less trusted.
    #[must_use]
    pub fn on_disk(directory: PathBuf) -> Self {
        Self { filters: HashMap::new(), directory: Some(directory) }
    }

    /// The filter that was compiled of the profile with this text, if it is kept.
    pub fn find(&mut self, text: &str, arch: Arch) -> Option<Rc<Filter>> {
        let key = key(text, arch);
        if let Some(filter) = self.filters.get(&key) {
            return Some(Rc::clone(filter));
        }
        let read = self.directory.as_deref().and_then(|directory| read_if_sound(directory, &key));
        read.map(|filter| self.remember(key, filter))
    }

    /// Compiles `profile`, which is what `text` says, and keeps it.
    pub fn compile(&mut self, text: &str, profile: &LinuxSeccomp, arch: Arch) -> Result<Rc<Filter>, Error> {
        let (key, filter) = (key(text, arch), compile(profile, arch)?);
        self.directory.iter().for_each(|directory| keep_if_possible(directory, &key, &filter));
        Ok(self.remember(key, filter))
    }

    fn remember(&mut self, key: Key, filter: Filter) -> Rc<Filter> {
        if self.filters.len() >= MOST {
            self.filters.clear();
        }
        let filter = Rc::new(filter);
        self.filters.insert(key, Rc::clone(&filter));
        filter
    }
}

fn key(text: &str, arch: Arch) -> Key {
    let mut digest = Sha256::new();
    digest.update(VERSION.to_le_bytes());
    digest.update([arch as u8]);
    digest.update(text);
    digest.finalize().into()
}

fn file(directory: &Path, key: &Key) -> PathBuf {
    let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    directory.join(name)
}

/// The filter on disk; none where there is none, or none that is to be believed.
fn read_if_sound(directory: &Path, key: &Key) -> Option<Filter> {
    let path = file(directory, key);
    match read(directory, &path) {
        Ok(bytes) => decode(&bytes, key).or_else(|| {
            tracing::debug!(path = %path.display(), "a kept seccomp filter is damaged, compiling it anew");
            None
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!(path = %path.display(), %error, "a kept seccomp filter is not used");
            None
        }
    }
}

fn read(directory: &Path, path: &Path) -> io::Result<Vec<u8>> {
    ours(&fs::symlink_metadata(directory)?, libc::S_IFDIR)?;
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    ours(&file.metadata()?, libc::S_IFREG)?;
    let most = HEAD + LONGEST * INSTRUCTION + DIGEST;
    let mut bytes = Vec::with_capacity(4 << 10);
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses what is of another kind, belongs to somebody else, or can be written by others.
fn ours(found: &fs::Metadata, kind: u32) -> io::Result<()> {
    let mode = found.mode();
    if mode & libc::S_IFMT != kind || mode & 0o077 != 0 || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not this user's alone"));
    }
    Ok(())
}

/// Keeps `filter` for the next process.
fn keep_if_possible(directory: &Path, key: &Key, filter: &Filter) {
    if let Err(error) = keep(directory, key, filter) {
        tracing::debug!(path = %directory.display(), %error, "the seccomp filter is not kept");
    }
}

fn keep(directory: &Path, key: &Key, filter: &Filter) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    ours(&fs::symlink_metadata(directory)?, libc::S_IFDIR)?;
    make_room(directory)?;
    let path = file(directory, key);
    let temporary = directory.join(format!(".{}", std::process::id()));
    let written = write(&temporary, &encode(filter, key)).and_then(|()| fs::rename(&temporary, &path));
    written.map_err(|error| match fs::remove_file(&temporary) {
        Ok(()) | Err(_) => error,
    })
}

/// What a crash left under this name goes first; a link is never followed. Nobody waits for the disk: what a crash cuts
/// short is not believed later.
fn write(temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(bytes)
}

/// Empties a directory that is full.
fn make_room(directory: &Path) -> io::Result<()> {
    let entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    if entries.len() < MOST {
        return Ok(());
    }
    entries.iter().try_for_each(|entry| match fs::remove_file(entry.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    })
}

fn magic() -> [u8; 8] {
    let [a, b, c, d] = VERSION.to_le_bytes();
    [b'h', b'b', b'p', b'f', a, b, c, d]
}

/// The file of a filter: head, instructions, checksum of both.
fn encode(filter: &Filter, key: &Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD + filter.program.len() * INSTRUCTION + DIGEST);
    bytes.extend(magic());
    bytes.extend(key);
    bytes.extend(filter.flags.to_le_bytes());
    bytes.extend((filter.program.len() as u32).to_le_bytes());
    for Instruction { code, jt, jf, k } in &filter.program {
        bytes.extend(code.to_le_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_le_bytes());
    }
    let checksum: [u8; DIGEST] = Sha256::digest(&bytes).into();
    bytes.extend(checksum);
    bytes
}

/// The filter in a file; none when a byte is not as it was written.
fn decode(bytes: &[u8], key: &Key) -> Option<Filter> {
    let (content, checksum) = bytes.split_last_chunk::<DIGEST>()?;
    let (head, program) = content.split_first_chunk::<HEAD>()?;
    let rest = head.strip_prefix(&magic())?.strip_prefix(key)?;
    let (flags, count) = rest.split_first_chunk::<4>()?;
    let count = u32::from_le_bytes(count.try_into().ok()?) as usize;
    let plausible = (1..=LONGEST).contains(&count) && program.len() == count * INSTRUCTION;
    let found: [u8; DIGEST] = Sha256::digest(content).into();
    if !plausible || found != *checksum {
        return None;
    }
    let (instructions, _) = program.as_chunks::<INSTRUCTION>();
    let program = instructions.iter().map(|&[code, code_high, jt, jf, a, b, c, d]| Instruction {
        code: u16::from_le_bytes([code, code_high]),
        jt,
        jf,
        k: u32::from_le_bytes([a, b, c, d]),
    });
    Some(Filter { program: program.collect(), flags: u32::from_le_bytes(*flags) })
}
