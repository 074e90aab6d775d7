//! The FIFOs of an instance: standard input, output and error, which outlive the shim that made them.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chown, mkfifo};

use super::instance::Files;
use super::launch;
use super::output::Kind;
use crate::container::engine::Stdio;
use crate::container::identity::Identity;
use crate::harmless;
use crate::wire::CreateConfig;

/// The standard streams of an instance: its ends, and ours.
pub(super) struct Streams {
    pub(super) stdio: Stdio,
    pub(super) ours: Vec<(Kind, OwnedFd)>,
    pub(super) stdin: Option<OwnedFd>,
}

/// The FIFOs of an instance. Its own ends of standard output are open for reading too, so that it never gets
/// EPIPE while no shim is there.
pub(super) fn make_streams(config: &CreateConfig, identity: &Identity) -> Result<Streams, String> {
    let files = Files(config);
    if config.tty {
        // Its output goes through here.
        make_fifo(&files.stdout(), identity)?;
        return Ok(Streams { stdio: Stdio::Terminal, ours: Vec::new(), stdin: None });
    }
    let open_both = |kind, path: &Path| {
        make_fifo(path, identity)?;
        // The reader first: it is told of the writers' end only when it was there before them.
        let ours = open_fifo(path, OFlag::O_RDONLY)?;
        Ok::<_, String>(((kind, ours), open_blocking(path, OFlag::O_RDWR)?))
    };
    let (stdout, their_stdout) = open_both(Kind::Stdout, &files.stdout())?;
    let (stderr, their_stderr) = open_both(Kind::Stderr, &files.stderr())?;
    let (their_stdin, stdin) = if config.stdin {
        let path = files.stdin();
        make_fifo(&path, identity)?;
        let theirs = open_blocking(&path, OFlag::O_RDONLY)?;
        (theirs, Some(open_fifo(&path, OFlag::O_WRONLY)?))
    } else {
        (super::null().map_err(launch::reason)?, None)
    };
    let stdio = Stdio::Files([their_stdin, their_stdout, their_stderr]);
    Ok(Streams { stdio, ours: vec![stdout, stderr], stdin })
}

pub(super) fn make_fifo(path: &Path, identity: &Identity) -> Result<(), String> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => {
            return Err(format!("make the FIFO {}: {}", path.display(), launch::reason(errno)));
        }
    }
    // The container may open its /dev/stdout anew, as its own user.
    chown(path, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))
        .map_err(|errno| format!("chown {}: {}", path.display(), launch::reason(errno)))
}

/// Opens a FIFO without waiting for its other end.
pub(super) fn open_fifo(path: &Path, access: OFlag) -> Result<OwnedFd, String> {
    open(path, access | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
        .map_err(|errno| format!("open {}: {}", path.display(), launch::reason(errno)))
}

/// The same for a process that expects reads and writes to wait.
pub(super) fn open_blocking(path: &Path, access: OFlag) -> Result<OwnedFd, String> {
    let end = open_fifo(path, access)?;
    fcntl(&end, FcntlArg::F_SETFL(access)).map_err(launch::reason)?;
    Ok(end)
}

/// Removes what the shim made for an instance in its directory.
pub(super) fn remove_files(config: &CreateConfig) {
    let files = Files(config);
    for path in [files.stdin(), files.stdout(), files.stderr(), files.start(), files.go()] {
        // An instance with a terminal has only some of them.
        harmless(std::fs::remove_file(path));
    }
    if let Err(error) = crate::tree::remove(&files.work()) {
        super::complain(format_args!("{}", super::chain(&error)));
    }
}
