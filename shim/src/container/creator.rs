//! The creator: a child of the shim, forked for one container, that builds it through libcontainer.
//!
//! libcontainer changes its caller (working directory, dumpable, descriptors) and allocates in forked
//! children; so it runs here, in a process that ends right after. With `as_sibling` the container's init
//! is the shim's child all the same. The init waits on libcontainer's notify socket and then calls
//! [`Last`], which is [`transform`](super::transform).
//!
//! **Invariant:** the creator never returns into the shim's code and drops nothing of it. It keeps no
//! descriptor of the shim but those of its job, since the init holds them all until `execve`.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use super::engine::Stdio;
use super::identity::Identity;
use super::program::Program;
use super::transform::{Handles, transform};
use crate::harmless;
use crate::sys::{descriptor, process, socket};

/// What the creator needs.
pub(crate) struct Job {
    /// The completed specification.
    pub(crate) spec: Spec,
    /// Name of the container in libcontainer's state directory.
    pub(crate) id: String,
    /// A directory of the container's own, for the completed `config.json` and libcontainer's state.
    pub(crate) work: PathBuf,
    pub(crate) identity: Identity,
    pub(crate) program: Program,
    pub(crate) stdio: Stdio,
    /// The result goes here, one packet; with a terminal its master comes along.
    pub(crate) result: OwnedFd,
    /// A failing `execve` is told here.
    pub(crate) start: OwnedFd,
}

/// What the creator tells.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The init waits for its start.
    Created(i32),
    /// Why it could not be built.
    Failed(String),
}

/// Where the completed `config.json` lies below [`Job::work`].
const BUNDLE: &str = "bundle";
const STATE: &str = "state";
const CONSOLE: &str = "console.sock";

/// The socket that starts the container `id` built in `work`.
pub(crate) fn notify_socket(work: &Path, id: &str) -> PathBuf {
    work.join(STATE).join(id).join(libcontainer::notify_socket::NOTIFY_FILE)
}

/// Runs in the forked child.
pub(crate) fn run(job: &Job) -> ! {
    let status = match build(job) {
        Ok(()) => 0,
        Err(message) => {
            answer(job.result.as_fd(), &Outcome::Failed(message), &[]);
            1
        }
    };
    process::leave(status)
}

fn answer(result: BorrowedFd<'_>, outcome: &Outcome, descriptors: &[RawFd]) {
    let bytes = serde_json::to_vec(outcome).unwrap_or_default();
    // The shim takes a creator that ends without a word as a failure, so there is nobody else to tell.
    harmless(socket::send(result, &bytes, descriptors));
}

fn build(job: &Job) -> Result<(), String> {
    keep_only_the_jobs(job).map_err(|error| format!("close the shim's descriptors: {error}"))?;
    // A shim that dies leaves no half-built container behind: its successor kills the cgroup.
    process::die_with_parent(libc::SIGKILL).map_err(|error| format!("PR_SET_PDEATHSIG: {error}"))?;
    trace::install();
    let bundle = job.work.join(BUNDLE);
    std::fs::create_dir_all(&bundle).map_err(|error| format!("create {}: {error}", bundle.display()))?;
    let console = match job.stdio.files() {
        None => Some(listen(&job.work.join(CONSOLE))?),
        Some(_) => None,
    };
    job.spec.save(bundle.join("config.json")).map_err(|error| format!("write config.json: {error}"))?;
    let pid = match call_libcontainer(job, &bundle) {
        Ok(pid) => pid,
        Err(error) => return Err(trace::explain(&error)),
    };
    let master = console.map(|listener| receive_master(&listener)).transpose()?;
    let descriptors: Vec<RawFd> = master.iter().map(AsRawFd::as_raw_fd).collect();
    answer(job.result.as_fd(), &Outcome::Created(pid), &descriptors);
    Ok(())
}

fn keep_only_the_jobs(job: &Job) -> nix::Result<()> {
    let mut keep = vec![job.result.as_raw_fd(), job.start.as_raw_fd()];
    keep.extend(job.stdio.files().into_iter().flatten().map(AsRawFd::as_raw_fd));
    keep.sort_unstable();
    descriptor::close_all_but(&keep)
}

fn call_libcontainer(job: &Job, bundle: &Path) -> Result<i32, libcontainer::error::LibcontainerError> {
    let last =
        Last { identity: job.identity.clone(), program: job.program.clone(), pipe: job.start.as_raw_fd() };
    let mut builder = ContainerBuilder::new(job.id.clone(), SyscallType::default())
        .with_root_path(job.work.join(STATE))?
        .with_executor(last);
    match job.stdio.files() {
        None => builder = builder.with_console_socket(Some(job.work.join(CONSOLE))),
        Some([stdin, stdout, stderr]) => {
            let copy =
                |file: &OwnedFd| file.try_clone().map_err(libcontainer::error::LibcontainerError::OtherIO);
            builder = builder.with_stdin(copy(stdin)?).with_stdout(copy(stdout)?).with_stderr(copy(stderr)?);
        }
    }
    let container = builder.as_init(bundle).with_systemd(false).as_sibling(true).with_detach(true).build()?;
    Ok(container.pid().map_or(0, |pid| pid.as_raw()))
}

/// Binds a socket by a name relative to its directory: the full path may be longer than a socket's
/// name can be. The creator's working directory is its own.
fn listen(path: &Path) -> Result<UnixListener, String> {
    let fail = |error: std::io::Error| format!("listen on {}: {error}", path.display());
    let dir = path.parent().unwrap_or(Path::new("/"));
    std::env::set_current_dir(dir).map_err(fail)?;
    let listener = UnixListener::bind(CONSOLE).map_err(fail)?;
    std::env::set_current_dir("/").map_err(fail)?;
    Ok(listener)
}

/// Room for the name that comes beside a terminal.
const LONGEST_NAME: usize = 4096;

/// libcontainer's init connected and sent before `build` returned, so this waits for nothing.
fn receive_master(listener: &UnixListener) -> Result<OwnedFd, String> {
    let (stream, _) = listener.accept().map_err(|error| format!("accept the terminal: {error}"))?;
    match socket::receive(stream.as_fd(), LONGEST_NAME) {
        Ok(socket::Packet::Message(_, mut descriptors)) if descriptors.len() == 1 => {
            Ok(descriptors.remove(0))
        }
        Ok(other) => Err(format!("receive the terminal: got {other:?}")),
        Err(error) => Err(format!("receive the terminal: {error}")),
    }
}

/// The last stretch of the container's init, after its start signal.
#[derive(Clone)]
struct Last {
    identity: Identity,
    program: Program,
    pipe: RawFd,
}

impl Executor for Last {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        // As runc does; a directory that cannot be made is reported by chdir.
        harmless(std::fs::create_dir_all(self.identity.directory.to_string_lossy().as_ref()));
        transform(&self.identity, &self.program, &Handles::default()).report(self.pipe)
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        // `transform` hands its own environment to execve.
        Ok(())
    }
}

/// libcontainer says the causes of a failure to `tracing` only, in whichever of its processes it happens:
/// this collects them in a pipe that they all share.
mod trace {
    use std::fmt::Write as _;
    use std::fs::File;
    use std::io::{Read, Write as _};
    use std::sync::OnceLock;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::{OwnedFd, harmless};

    static PIPE: OnceLock<(File, File)> = OnceLock::new();

    /// Without the pipe the causes are lost, and nothing else.
    pub(super) fn install() {
        let flags = nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK;
        if let Ok((read, write)) = nix::unistd::pipe2(flags) {
            let file = |end: OwnedFd| File::from(end);
            if PIPE.set((file(read), file(write))).is_ok() {
                harmless(tracing::subscriber::set_global_default(Errors));
            }
        }
    }

    /// The chain of causes of `error`, and what was traced.
    pub(super) fn explain(error: &dyn std::error::Error) -> String {
        let mut parts: Vec<String> = Vec::new();
        let mut next = Some(error);
        while let Some(cause) = next {
            push(&mut parts, cause.to_string());
            next = cause.source();
        }
        let mut traced = Vec::new();
        if let Some((mut read, _)) = PIPE.get().map(|(read, write)| (read, write)) {
            // Ends with EAGAIN, since we hold the writing end ourselves.
            harmless(read.read_to_end(&mut traced));
        }
        String::from_utf8_lossy(&traced).lines().for_each(|line| push(&mut parts, line.to_owned()));
        parts.join(": ")
    }

    fn push(parts: &mut Vec<String>, part: String) {
        if !part.is_empty() && !parts.iter().any(|known| known.contains(&part)) {
            parts.push(part);
        }
    }

    struct Errors;

    impl Subscriber for Errors {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::ERROR
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, event: &Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            let text = line.0.replace('\n', " ");
            if let Some((_, mut write)) = PIPE.get().map(|(read, write)| (read, write)) {
                // A full pipe has causes enough.
                harmless(write.write_all(format!("{text}\n").as_bytes()));
            }
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            let separator = if self.0.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            harmless(match field.name() {
                "message" => write!(self.0, "{separator}{value:?}"),
                name => write!(self.0, "{separator}{name}={value:?}"),
            });
        }
    }
}
