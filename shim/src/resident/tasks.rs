//! Host tasks: `hull task NAME` in the host's namespaces, input on standard input, output captured in the
//! loop up to a limit.

use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::children::Role;
use super::supervisor::Reply;
use super::watch::{Source, Token};
use super::{Shim, launch};
use crate::harmless;
use crate::sys::pidfd;
use crate::wire::{Answer, Exit, Failure, InstanceId};

/// Most bytes kept of each stream of a task.
const LIMIT: usize = 1 << 20;

/// Who waits for a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A request of the supervisor.
    Request(Reply),
    /// A log that has grown too large.
    LogRotate(InstanceId),
    /// The sandbox being made.
    NetworkUp,
    /// The sandbox being removed.
    NetworkDown,
}

#[derive(Debug)]
struct Capture {
    pipe: OwnedFd,
    token: Token,
    bytes: Vec<u8>,
    open: bool,
}

/// A task under way.
#[derive(Debug)]
pub(super) struct Task {
    name: String,
    purpose: Purpose,
    pidfd: OwnedFd,
    /// Standard output and standard error.
    captures: [Capture; 2],
    too_long: bool,
}

impl Task {
    pub(super) fn is_network_up(&self) -> bool {
        self.purpose == Purpose::NetworkUp
    }

    pub(super) fn is_network_down(&self) -> bool {
        self.purpose == Purpose::NetworkDown
    }

    pub(super) fn is_log_rotation(&self) -> bool {
        matches!(self.purpose, Purpose::LogRotate(_))
    }

    pub(super) fn kill(&self) {
        kill(&self.pidfd);
    }
}

/// What a task came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) exit: Exit,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Outcome {
    /// The failure of a task that the shim itself needed.
    pub(super) fn failure(&self, name: &str) -> Option<String> {
        if self.exit == Exit::Code(0) {
            return None;
        }
        let said = self.stderr.trim();
        Some(match self.exit {
            Exit::Code(_) if !said.is_empty() => format!("{name}: {said}"),
            exit => format!("{name} ended with {exit:?} {said}").trim_end().to_owned(),
        })
    }
}

impl Shim {
    /// Starts a task, with `extra` as descriptor 3.
    pub(super) fn start_task(
        &mut self,
        name: &str,
        input: &serde_json::Value,
        extra: Option<OwnedFd>,
        purpose: Purpose,
    ) -> Result<(), String> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if name.is_empty() || name.starts_with('-') || !name.chars().all(plain) {
            return Err(format!("{name:?} is not the name of a task"));
        }
        let stdin = input_file(input)?;
        let key = self.key();
        let text = |errno: Errno| launch::reason(errno);
        let (out, out_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(text)?;
        let (err, err_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(text)?;
        let captures = [self.capture(out, key)?, self.capture(err, key)?];
        let mut descriptors = vec![stdin.as_fd(), out_write.as_fd(), err_write.as_fd()];
        descriptors.extend(extra.iter().map(AsFd::as_fd));
        let launch = launch::Launch {
            program: &self.programs.hull,
            arguments: launch::arguments("hull", self.layout.root(), &["task", name]),
            descriptors,
            sandbox: None,
            dies_with_shim: true,
        };
        let child = launch.start(&self.programs).map_err(|errno| format!("start {name}: {}", text(errno)))?;
        self.roles.insert(child.pid, Role::Task(key));
        let task = Task { name: name.to_owned(), purpose, pidfd: child.pidfd, captures, too_long: false };
        self.tasks.insert(key, task);
        Ok(())
    }

    fn capture(&mut self, pipe: OwnedFd, key: u64) -> Result<Capture, String> {
        super::set_nonblocking(&pipe).map_err(launch::reason)?;
        let token = self.watch.add(&pipe, Source::Task(key)).map_err(launch::reason)?;
        Ok(Capture { pipe, token, bytes: Vec::new(), open: true })
    }

    pub(super) fn task_event(&mut self, key: u64) {
        let Some(task) = self.tasks.get_mut(&key) else {
            return;
        };
        for capture in &mut task.captures {
            capture.read();
            if !capture.open {
                self.watch.remove(&capture.pipe, capture.token);
            }
            if capture.bytes.len() > LIMIT && !task.too_long {
                task.too_long = true;
                kill(&task.pidfd);
            }
        }
    }

    pub(super) fn task_ended(&mut self, key: u64, exit: Exit) {
        self.task_event(key);
        let Some(task) = self.tasks.remove(&key) else {
            return;
        };
        for capture in task.captures.iter().filter(|capture| capture.open) {
            self.watch.remove(&capture.pipe, capture.token);
        }
        let [stdout, stderr] =
            task.captures.map(|capture| String::from_utf8_lossy(&capture.bytes).into_owned());
        let outcome = Outcome { exit, stdout, stderr };
        match task.purpose {
            Purpose::Request(reply) => {
                let answer = if task.too_long {
                    let message = format!("task {} printed more than {LIMIT} bytes", task.name);
                    Err(Failure::Other { message })
                } else {
                    Ok(Answer::Task { exit, stdout: outcome.stdout, stderr: outcome.stderr })
                };
                self.answer(Some(reply), answer);
            }
            Purpose::LogRotate(instance) => self.log_is_rotated(&instance, &outcome),
            Purpose::NetworkUp => self.network_is_up(&outcome),
            Purpose::NetworkDown => self.network_is_down(&outcome),
        }
        self.start_supervisor_if_quiet();
    }

    /// The supervisor that asked for them is gone, and the next one asks anew.
    pub(super) fn kill_requested_tasks(&mut self) {
        let requested = self.tasks.values().filter(|task| matches!(task.purpose, Purpose::Request(_)));
        requested.for_each(Task::kill);
    }
}

fn kill(task: &OwnedFd) {
    // ESRCH is no error; nothing else can come of a signal to one's own child.
    harmless(pidfd::signal(task.as_fd(), libc::SIGKILL));
}

impl Capture {
    fn read(&mut self) {
        let mut buffer = [0; 16 * 1024];
        while self.open && self.bytes.len() <= LIMIT {
            match nix::unistd::read(&self.pipe, &mut buffer) {
                Ok(0) => self.open = false,
                Ok(count) => self.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
}

/// A file in memory rather than a pipe: a task that never reads its input blocks nobody.
fn input_file(input: &serde_json::Value) -> Result<OwnedFd, String> {
    let descriptor = memfd_create(c"task", MFdFlags::MFD_CLOEXEC).map_err(launch::reason)?;
    let mut file = std::fs::File::from(descriptor);
    let bytes = serde_json::to_vec(input).map_err(|error| error.to_string())?;
    file.write_all(&bytes).and_then(|()| file.rewind()).map_err(|error| error.to_string())?;
    Ok(file.into())
}
