//! The terminal of an init: made in the container's own devpts and bound to `/dev/console`.
//!
//! Everything goes by descriptor: the multiplexer is checked to be one (CVE-2025-52565), the slave comes from it and not
//! from a name, and `/dev/console` is made without following a link. Nothing here allocates.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, major, minor};
use nix::unistd::{Uid, fchown};

use super::failed::{Doing, Failed};
use crate::container::multiplexer;
use crate::guard::{self, Guard};
use crate::sys::mount::{self, Reach};
use crate::sys::{descriptor, terminal};

/// Makes the terminal, in the container's root, for the user `uid`; it is standard input, output and error then. Its
/// master is to be handed out.
pub(super) fn make(size: Option<(u16, u16)>, uid: u32) -> Result<OwnedFd, Failed> {
    let directory = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(c"/", directory, Mode::empty()).map_err(Doing::Place.failed())?;
    let inside = |flags: OFlag| {
        OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS)
    };
    let master = multiplexer::open(root.as_fd()).map_err(Doing::Make.failed())?;
    let slave = terminal::open_slave(master.as_fd()).map_err(Doing::Make.failed())?;
    if let Some(size) = size {
        terminal::resize(master.as_fd(), size).map_err(Doing::Attributes.failed())?;
    }
    let devices = openat2(&root, c"dev", inside(directory)).map_err(Doing::Place.failed())?;
    bind(slave.as_fd(), devices.as_fd())?;
    fchown(&slave, Some(Uid::from_raw(uid)), None).map_err(Doing::Own.failed())?;
    for number in 0..3 {
        descriptor::place(slave.as_fd(), number).map_err(Doing::Itself.failed())?;
    }
    Ok(master)
}

fn bind(slave: BorrowedFd<'_>, devices: BorrowedFd<'_>) -> Result<(), Failed> {
    let name = c"console";
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
    match openat(devices, name, flags, Mode::from_bits_retain(0o666)) {
        Ok(made) => fchmod(&made, Mode::from_bits_retain(0o666)).map_err(Doing::Own.failed())?,
        Err(Errno::EEXIST) => {}
        Err(errno) => return Err(Doing::Place.failed()(errno)),
    }
    let itself = if guard::is_off(Guard::Terminal) { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let there = openat(devices, name, OFlag::O_PATH | itself | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(Doing::Place.failed())?;
    let kind = SFlag::from_bits_truncate(
        fstat(&there).map_err(Doing::Verify.failed())?.st_mode & SFlag::S_IFMT.bits(),
    );
    if kind == SFlag::S_IFLNK || kind == SFlag::S_IFDIR {
        return Err(Failed { doing: Doing::Verify, errno: Errno::ELOOP });
    }
    let copy = mount::copy_of(slave, Reach::One).map_err(Doing::Source.failed())?;
    mount::attach(copy.as_fd(), there.as_fd()).map_err(Doing::Attach.failed())
}

/// Puts three files at the standard numbers, owned by the user of the container where that is possible. Where one is the
/// host's `/dev/null`, the container's own takes its place.
pub(super) fn place(files: &[OwnedFd; 3], uid: u32) -> Result<(), Failed> {
    for (number, file) in files.iter().enumerate() {
        let status = fstat(file).ok();
        let own = if status.is_some_and(|status| is_null(&status)) { open_null() } else { None };
        let source = own.as_ref().unwrap_or(file);
        descriptor::place(source.as_fd(), number as RawFd).map_err(Doing::Itself.failed())?;
        if own.is_none() {
            give(file.as_fd(), status, uid).map_err(Doing::Own.failed())?;
        }
    }
    Ok(())
}

/// The same for files that are the user's.
pub(super) fn place_as_they_are(files: &[OwnedFd; 3]) -> Result<(), Failed> {
    let mut files = (0..).zip(files);
    files
        .try_for_each(|(number, file)| descriptor::place(file.as_fd(), number))
        .map_err(Doing::Itself.failed())
}

/// Gives the standard descriptors that this process has to the user of the container.
pub(crate) fn own_standard(uid: u32) -> nix::Result<()> {
    descriptor::standard().into_iter().try_for_each(|file| give(file, fstat(file).ok(), uid))
}

/// So that it can open it by `/dev/stdout`. What cannot change hands stays as it is, and everybody's null device too.
fn give(file: BorrowedFd<'_>, status: Option<FileStat>, uid: u32) -> nix::Result<()> {
    if status.is_some_and(|status| is_null(&status) || status.st_uid == uid) {
        return Ok(());
    }
    match fchown(file, Some(Uid::from_raw(uid)), None) {
        Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::EROFS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn is_null(status: &FileStat) -> bool {
    let is_device = status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits();
    is_device && (major(status.st_rdev), minor(status.st_rdev)) == (1, 3)
}

fn open_null() -> Option<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let own = open(c"/dev/null", flags, Mode::empty()).ok()?;
    fstat(&own).is_ok_and(|status| is_null(&status)).then_some(own)
}
