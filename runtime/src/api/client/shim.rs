//! Starting `hull-shim`: for a new pod, and as the successor of one that died.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hull_shim::layout::{Layout, PodLayout};
use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

use super::socket;

/// How long a pod may take to answer after it was taken up again.
const REVIVE: Duration = Duration::from_secs(5);
/// How much of the end of a pod's diagnostics is looked at.
const DIAGNOSTICS_TAIL: u64 = 8192;
/// Between two looks at the socket.
const LOOK: Duration = Duration::from_millis(5);

/// Why a pod did not come up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The shim cannot be executed.
    #[error("cannot execute {}", program.display())]
    Execute {
        /// What was tried.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something around it failed.
    #[error("cannot start hull-shim")]
    Prepare(#[source] io::Error),
    /// It cannot serve the pod.
    #[error("hull-shim: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// It ended without a word.
    #[error("hull-shim ended unexpectedly; see {}", log.display())]
    Ended {
        /// Where shim and supervisor tell what happened.
        log: PathBuf,
    },
    /// The pod ended meanwhile.
    #[error("the pod is gone")]
    Gone,
    /// It could not remove everything.
    #[error("{message}")]
    Remove {
        /// What stays, and why.
        message: String,
    },
    /// The socket stayed silent.
    #[error("nobody answers at {} after {} s{said}; see {}", socket.display(), after.as_secs(), log.display())]
    Silent {
        /// Where.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
        /// The last error of a supervisor, with what introduces it; or nothing.
        said: String,
        /// Where shim and supervisor tell what happened.
        log: PathBuf,
    },
}

impl Error {
    fn silent(files: &PodLayout, after: Duration) -> Self {
        let tail = crate::store::file::tail(&files.diagnostics(), DIAGNOSTICS_TAIL);
        let said = tail.lines().rev().find_map(|line| line.strip_prefix("error: "));
        let said = said.map(|error| format!(", where a supervisor ended with: {error}")).unwrap_or_default();
        Self::Silent { socket: files.api_socket(), after, said, log: files.diagnostics() }
    }
}

/// A shim just started. The process forks at once and its child detaches itself.
///
/// On the report pipe the shim writes `1` once the pod has its supervisor, or another shim has the pod; or `0` and
/// the reason why it cannot serve the pod. The pipe closes without a word when it dies.
#[derive(Debug)]
pub struct Started {
    child: Child,
    report: io::PipeReader,
    said: Vec<u8>,
}

/// Starts a shim for a recorded pod. It detaches itself; nothing of it ends with this process.
///
/// # Errors
/// It cannot be executed.
pub fn start(layout: &Layout, uid: &str) -> Result<Started, Error> {
    let program = beside_this("hull-shim");
    let (report, ready) = io::pipe().map_err(Error::Prepare)?;
    // The one descriptor that the shim is to inherit.
    rustix::io::fcntl_setfd(&ready, rustix::io::FdFlags::empty())
        .map_err(|error| Error::Prepare(error.into()))?;
    // A copy of its mount lives until it is executed: nothing of it is handed on.
    let protected = protected(&program);
    let mut command = match &protected {
        Some((tree, directory)) => {
            let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
            let mut command = command(Path::new(&path), layout, "pod", uid);
            command.arg0("hull-shim").arg("--protected").arg(directory);
            command
        }
        None => command(&program, layout, "pod", uid),
    };
    command.args(["--ready-fd", &ready.as_raw_fd().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    let child = command.spawn().map_err(|source| Error::Execute { program, source })?;
    rustix::io::ioctl_fionbio(&report, true).map_err(|error| Error::Prepare(error.into()))?;
    Ok(Started { child, report, said: Vec::new() })
}

/// A shim keeps its file safe from the containers that it executes. Where this process can do that for it, it need not
/// begin twice.
fn protected(program: &Path) -> Option<(OwnedFd, PathBuf)> {
    let directory = program.parent().filter(|directory| directory.is_absolute())?;
    let tree = hull_shim::resident::protected_program(program).ok()?;
    Some((tree, directory.to_owned()))
}

fn command(program: &Path, layout: &Layout, verb: &str, uid: &str) -> Command {
    let mut command = Command::new(program);
    if let Some(root) = layout.root() {
        command.arg("--root").arg(root);
    }
    command.args([verb, "--uid", uid]);
    command
}

/// Takes away everything of a pod by force, whatever its records say and whoever of it lives.
///
/// # Errors
/// Something of it does not go.
pub fn remove(layout: &Layout, uid: &str) -> Result<(), Error> {
    let program = beside_this("hull-shim");
    let output = command(&program, layout, "remove", uid).stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Execute { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Remove { message: said.trim().to_owned() })
}

/// A program installed beside this one, or else found in `PATH`.
fn beside_this(name: &str) -> PathBuf {
    let here = std::env::current_exe().ok().and_then(|path| Some(path.parent()?.join(name)));
    here.filter(|path| path.is_file()).unwrap_or_else(|| name.into())
}

impl Started {
    /// Waits until the pod's socket answers.
    ///
    /// # Errors
    /// The shim ended, or the time is up.
    pub async fn answers(mut self, layout: &Layout, uid: &str, within: Duration) -> Result<(), Error> {
        let files = layout.pod(uid);
        let end = Instant::now() + within;
        loop {
            self.listen(layout, uid)?;
            // Before, nobody listens.
            if self.said.first() == Some(&b'1') && socket::connect(&files.api_socket()).await.is_ok() {
                return Ok(());
            }
            if !files.dir().exists() {
                return Err(Error::Gone);
            }
            if Instant::now() >= end {
                return Err(Error::silent(&files, within));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Takes what the shim has said by now.
    fn listen(&mut self, layout: &Layout, uid: &str) -> Result<(), Error> {
        // The process that was started forks and ends; this reaps it.
        let ended = self.child.try_wait().map_err(Error::Prepare)?;
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.report, &mut buffer) {
                Ok(0) => break,
                Ok(count) => self.said.extend_from_slice(&buffer[..count]),
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Error::Prepare(error.into())),
            }
        }
        // Whoever held the pipe has closed it: everything is said.
        match self.said.split_first() {
            Some((b'1', _)) => Ok(()),
            Some((b'0', reason)) => {
                Err(Error::Refused { message: String::from_utf8_lossy(reason).trim().to_owned() })
            }
            _ if ended.is_none() => Ok(()),
            _ => Err(Error::Ended { log: layout.pod(uid).diagnostics() }),
        }
    }
}

/// Takes a pod up again whose socket is silent: starts a successor of its shim, unless the shim lives and is
/// just starting a supervisor, and waits for the socket.
///
/// # Errors
/// The socket stays silent.
pub async fn revive(layout: &Layout, uid: &str) -> Result<(), Error> {
    if !lives(layout, uid) {
        match start(layout, uid)?.answers(layout, uid, REVIVE).await {
            // Another successor was faster: its socket is as good.
            Err(Error::Ended { .. } | Error::Refused { .. }) if lives(layout, uid) => {}
            other => return other,
        }
    }
    let files = layout.pod(uid);
    let end = Instant::now() + REVIVE;
    while socket::connect(&files.api_socket()).await.is_err() {
        if !files.dir().exists() {
            return Err(Error::Gone);
        }
        if Instant::now() >= end {
            return Err(Error::silent(&files, REVIVE));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Whether a shim holds the pod's lock.
#[must_use]
pub fn lives(layout: &Layout, uid: &str) -> bool {
    let Ok(file) = std::fs::File::open(layout.pod(uid).shim_lock()) else {
        return false;
    };
    matches!(flock(&file, FlockOperation::NonBlockingLockShared), Err(rustix::io::Errno::WOULDBLOCK))
}
