//! Compiled filters by what they were made from, in memory and on disk.
//!
//! That is the profile's text, the architecture, and the compiler's version; so an entry is never out of date, and the
//! directory may be removed at any time. A hash of these is where an entry is looked for, no more: the text itself stands in it and
//! is compared, which takes a small part of what a digest does that nobody can forge. (The hash is the standard library's:
//! a build with another one finds nothing and compiles anew.)
//!
//! **Invariant:** a file is believed only when it and its directory belong to this user and nobody else may write them,
//! it is a plain file of the lengths that it names, and its checksum holds; it is used only for the very text that it holds.
//! Everything else is compiled anew. A cache that
//! cannot be read or written costs time and nothing else, so that is said in the log at most.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::LinuxSeccomp;

use super::{Arch, Error, Filter, Instruction, compile};

/// Changes with everything that changes what a profile compiles to, and with the file's form.
const VERSION: u32 = 3;
/// Most filters that are kept; then the cache begins anew.
const MOST: usize = 64;
/// Magic number and version, architecture, flags, number of instructions, length of the text.
const HEAD: usize = 8 + 4 * 4;
/// Length of the checksum.
const CHECKSUM: usize = 8;
/// Longest text of a profile that is kept.
const LONGEST_TEXT: usize = 256 << 10;
const INSTRUCTION: usize = size_of::<Instruction>();
/// Most instructions that the kernel takes.
const LONGEST: usize = 4096;

/// What a filter is made from.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    text: &'a str,
    arch: Arch,
    /// Of both.
    hash: u64,
}

/// A filter in memory.
#[derive(Debug)]
struct Kept {
    text: Box<str>,
    arch: Arch,
    filter: Rc<Filter>,
}

/// Filters that were compiled before.
#[derive(Debug, Default)]
pub struct Cache {
    filters: HashMap<u64, Kept>,
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
        let source = Source::new(text, arch);
        let kept = self.filters.get(&source.hash);
        if let Some(kept) = kept.filter(|kept| (&*kept.text, kept.arch) == (text, arch)) {
            return Some(Rc::clone(&kept.filter));
        }
        let read = self.directory.as_deref().and_then(|directory| read_if_sound(directory, source));
        read.map(|filter| self.remember(source, filter))
    }

    /// Compiles `profile`, which is what `text` says, and keeps it.
    pub fn compile(&mut self, text: &str, profile: &LinuxSeccomp, arch: Arch) -> Result<Rc<Filter>, Error> {
        let (source, filter) = (Source::new(text, arch), compile(profile, arch)?);
        self.directory.iter().for_each(|directory| keep_if_possible(directory, source, &filter));
        Ok(self.remember(source, filter))
    }

    fn remember(&mut self, source: Source<'_>, filter: Filter) -> Rc<Filter> {
        if self.filters.len() >= MOST {
            self.filters.clear();
        }
        let filter = Rc::new(filter);
        let kept = Kept { text: source.text.into(), arch: source.arch, filter: Rc::clone(&filter) };
        self.filters.insert(source.hash, kept);
        filter
    }
}

impl<'a> Source<'a> {
    fn new(text: &'a str, arch: Arch) -> Self {
        Self { text, arch, hash: hash(&[&magic(), &[arch as u8], text.as_bytes()]) }
    }
}

fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

fn file(directory: &Path, source: Source<'_>) -> PathBuf {
    directory.join(format!("{:016x}", source.hash))
}

/// The filter on disk; none where there is none, or none that is to be believed.
fn read_if_sound(directory: &Path, source: Source<'_>) -> Option<Filter> {
    let path = file(directory, source);
    match read(directory, &path) {
        Ok(bytes) => decode(&bytes, source).or_else(|| {
            tracing::debug!(path = %path.display(), "a kept seccomp filter is damaged or another's, compiling it anew");
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
    let most = HEAD + LONGEST * INSTRUCTION + LONGEST_TEXT + CHECKSUM;
    let mut bytes = Vec::with_capacity(16 << 10);
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
fn keep_if_possible(directory: &Path, source: Source<'_>, filter: &Filter) {
    if source.text.len() > LONGEST_TEXT {
        return;
    }
    if let Err(error) = keep(directory, source, filter) {
        tracing::debug!(path = %directory.display(), %error, "the seccomp filter is not kept");
    }
}

fn keep(directory: &Path, source: Source<'_>, filter: &Filter) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    ours(&fs::symlink_metadata(directory)?, libc::S_IFDIR)?;
    make_room(directory)?;
    let path = file(directory, source);
    let temporary = directory.join(format!(".{}", std::process::id()));
    let written = write(&temporary, &encode(filter, source)).and_then(|()| fs::rename(&temporary, &path));
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

/// The file of a filter: head, instructions, the profile's text, checksum of head and instructions: the text is compared.
fn encode(filter: &Filter, source: Source<'_>) -> Vec<u8> {
    let length = HEAD + filter.program.len() * INSTRUCTION + source.text.len() + CHECKSUM;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(magic());
    let numbers = [source.arch as u32, filter.flags, filter.program.len() as u32, source.text.len() as u32];
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    for Instruction { code, jt, jf, k } in &filter.program {
        bytes.extend(code.to_le_bytes());
        bytes.extend([*jt, *jf]);
        bytes.extend(k.to_le_bytes());
    }
    let checksum = hash(&[&bytes]).to_le_bytes();
    bytes.extend(source.text.as_bytes());
    bytes.extend(checksum);
    bytes
}

/// The filter in a file; none when a byte is not as it was written, or it is of something else.
fn decode(bytes: &[u8], source: Source<'_>) -> Option<Filter> {
    let (content, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    let (head, rest) = content.split_first_chunk::<HEAD>()?;
    let (numbers, _) = head.strip_prefix(&magic())?.as_chunks::<4>();
    let [arch, flags, count, length] = *numbers else { return None };
    let [arch, flags, count, length] = [arch, flags, count, length].map(u32::from_le_bytes);
    let (program, text) = rest.split_at_checked(count as usize * INSTRUCTION)?;
    let plausible = (1..=LONGEST).contains(&(count as usize)) && text.len() == length as usize;
    let is_its = arch == source.arch as u32 && text == source.text.as_bytes();
    if !plausible || !is_its || hash(&[head, program]) != u64::from_le_bytes(*checksum) {
        return None;
    }
    let (instructions, _) = program.as_chunks::<INSTRUCTION>();
    let program = instructions.iter().map(|&[code, code_high, jt, jf, a, b, c, d]| Instruction {
        code: u16::from_le_bytes([code, code_high]),
        jt,
        jf,
        k: u32::from_le_bytes([a, b, c, d]),
    });
    Some(Filter { program: program.collect(), flags })
}
