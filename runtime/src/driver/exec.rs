//! Processes run in a container's instance: to their end with their output kept (probes, hooks), or as
//! a session whose streams someone else holds (`exec`).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use hull_shim::wire::{Answer, Command, ExecConfig, Exit, Failure, Instance, InstanceId, PreStop};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{mpsc, oneshot};

use super::handle::{Output, Session};
use super::shim::Shim;
use super::unheard;
use crate::probe::{OUTPUT_LIMIT, Ran};

/// How an exec'd process ended: its exit, and whether it was killed at its time limit.
type End = (Exit, bool);

/// How long the end of a process that was killed waits for the end of its container.
const HELD: Duration = Duration::from_millis(500);
const SIGKILL: u8 = 9;

/// Runs processes, and gives each report of an end to whoever waits for it.
///
/// When a container ends, the kernel kills what was exec'd in it, and lets the container itself end only after
/// that. So the end of a killed process is held back until that of its container was told: a probe that died
/// with its container says nothing about one that runs.
#[derive(Debug)]
pub struct Execs {
    shim: Rc<Shim>,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    /// Ends of what an earlier supervisor ran and this one waits for.
    inherited: RefCell<HashMap<u64, oneshot::Receiver<End>>>,
}

/// Someone who wants to know how a process ended.
#[derive(Debug)]
struct Waiting {
    instance: InstanceId,
    end: oneshot::Sender<End>,
    /// The end, when it is held back.
    held: Option<End>,
}

impl Execs {
    /// Over this connection. `first` keeps the numbers of a restarted supervisor apart from those of
    /// the one before, whose processes may still end; of preStop hooks among them the end is kept for [`Execs::join`].
    #[must_use]
    pub fn new(shim: Rc<Shim>, first: u64, known: &[Instance]) -> Self {
        let execs =
            Self { shim, next: Cell::new(first), waiting: RefCell::default(), inherited: RefCell::default() };
        for known in known {
            if let Some(PreStop::Running { exec }) = known.pre_stop {
                let ended = execs.await_end(exec, known.instance.clone());
                execs.inherited.borrow_mut().insert(exec, ended);
            }
        }
        execs
    }

    /// Takes an [`hull_shim::wire::Report::ExecExited`].
    pub fn ended(self: &Rc<Self>, exec: u64, end: End) {
        // Unknown numbers are of an earlier supervisor, or nobody waits any more.
        if let Some(waiting) = self.waiting.borrow_mut().get_mut(&exec) {
            waiting.held = Some(end);
        }
        if end != (Exit::Signaled(SIGKILL), false) {
            return self.tell(exec);
        }
        let execs = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(HELD).await;
            execs.tell(exec);
        });
    }

    /// The end of an instance was told: what was exec'd in it follows.
    pub fn instance_ended(&self, instance: &InstanceId) {
        let is_held = |waiting: &Waiting| waiting.held.is_some() && waiting.instance == *instance;
        let all = self.waiting.borrow();
        let held: Vec<u64> = all.iter().filter(|(_, it)| is_held(it)).map(|(exec, _)| *exec).collect();
        drop(all);
        for exec in held {
            self.tell(exec);
        }
    }

    fn tell(&self, exec: u64) {
        if let Some(Waiting { end, held: Some(held), .. }) = self.waiting.borrow_mut().remove(&exec) {
            unheard(end.send(held));
        }
    }

    /// Runs a command to its end and keeps the first bytes of its output.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn run(
        &self,
        instance: &InstanceId,
        args: &[String],
        limit: Option<Duration>,
    ) -> Result<Ran, Failure> {
        let (mut stdout, stdout_end) = captured().map_err(|error| no_pipe(&error))?;
        let (mut stderr, stderr_end) = captured().map_err(|error| no_pipe(&error))?;
        let stdin = null().map_err(|error| no_pipe(&error))?;
        let timeout_ms = limit.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX));
        let config = ExecConfig { timeout_ms, ..command(instance, args.to_vec()) };
        let (_, exit, _) = self.start(config, vec![stdin, stdout_end, stderr_end]).await?;
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let reading = async { tokio::join!(keep(&mut stdout, &mut out), keep(&mut stderr, &mut err)) };
        let mut exit = exit;
        let (exit, timed_out) = tokio::select! {
            _ = reading => (&mut exit).await.map_err(|_| gone())?,
            // A process left behind may hold the pipes open for ever: what is there now is the output.
            // Both futures may be dropped: the buffers live outside of them.
            end = &mut exit => end.map_err(|_| gone())?,
        };
        drain(&stdout, &mut out);
        drain(&stderr, &mut err);
        Ok(Ran { code: exit.code(), timed_out, stdout: out, stderr: err })
    }

    /// Runs a preStop hook to its end. What it prints is nobody's, and it may outlive this supervisor.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn run_pre_stop(&self, instance: &InstanceId, args: &[String]) -> Result<Ran, Failure> {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(null().map_err(|error| no_pipe(&error))?);
        }
        let config = ExecConfig { pre_stop: true, ..command(instance, args.to_vec()) };
        let (_, end, _) = self.start(config, streams).await?;
        silent(end).await
    }

    /// Waits for a preStop hook that an earlier supervisor ran.
    ///
    /// # Errors
    /// There is none.
    pub async fn join(&self, exec: u64) -> Result<Ran, Failure> {
        let end = self.inherited.borrow_mut().remove(&exec);
        silent(end.ok_or_else(gone)?).await
    }

    /// Starts a command whose streams the caller wants.
    ///
    /// # Errors
    /// It could not be started.
    pub async fn session(
        self: &Rc<Self>,
        instance: InstanceId,
        args: Vec<String>,
        tty: Option<(u16, u16)>,
        stdin: bool,
    ) -> Result<Session, Failure> {
        let streams =
            if tty.is_some() { None } else { Some(Streams::new(stdin).map_err(|error| no_pipe(&error))?) };
        let config = ExecConfig { tty, ..command(&instance, args) };
        let (theirs, ours) = match streams {
            Some(Streams { theirs, stdin, output }) => (theirs, Some((stdin, output))),
            None => (Vec::new(), None),
        };
        let (exec, ended, mut descriptors) = self.start(config, theirs).await?;
        let (stdin, output) = match (ours, descriptors.pop()) {
            (Some(ours), _) => ours,
            (None, Some(master)) => (None, Output::Terminal(master)),
            (None, None) => return Err(Failure::Other { message: "the shim sent no terminal".into() }),
        };
        let (exit, exited) = oneshot::channel();
        tokio::task::spawn_local(async move {
            if let Ok((end, _)) = ended.await {
                // The session may have been given up.
                unheard(exit.send(end));
            }
        });
        let resize = self.resizer(instance, Some(exec));
        Ok(Session { stdin, output, exit: Some(exited), resize })
    }

    /// A channel whose window sizes reach the terminal of an instance or of an exec in it.
    pub fn resizer(&self, instance: InstanceId, exec: Option<u64>) -> mpsc::Sender<(u16, u16)> {
        let (resize, mut sizes) = mpsc::channel(4);
        let shim = self.shim.clone();
        tokio::task::spawn_local(async move {
            while let Some(size) = sizes.recv().await {
                let command = Command::Resize { instance: instance.clone(), exec, size };
                if let Err(error) = shim.order(command).await {
                    tracing::debug!(%error, "a terminal was not resized");
                }
            }
        });
        resize
    }

    fn await_end(&self, exec: u64, instance: InstanceId) -> oneshot::Receiver<End> {
        let (end, ended) = oneshot::channel();
        self.waiting.borrow_mut().insert(exec, Waiting { instance, end, held: None });
        ended
    }

    async fn start(
        &self,
        config: ExecConfig,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(u64, oneshot::Receiver<End>, Vec<OwnedFd>), Failure> {
        let exec = self.next.replace(self.next.get() + 1);
        let ended = self.await_end(exec, config.instance.clone());
        let command = Command::Exec(Box::new(ExecConfig { exec, ..config }));
        let answer = self.shim.ask(command, &descriptors).await;
        drop(descriptors);
        match answer {
            Ok((Answer::Exec { .. }, descriptors)) => Ok((exec, ended, descriptors)),
            Ok((other, _)) => {
                self.waiting.borrow_mut().remove(&exec);
                Err(Failure::Other { message: format!("the shim answered an exec with {other:?}") })
            }
            Err(failure) => {
                self.waiting.borrow_mut().remove(&exec);
                Err(failure)
            }
        }
    }
}

/// A command without a terminal or a time limit; its number comes when it is started.
fn command(instance: &InstanceId, args: Vec<String>) -> ExecConfig {
    ExecConfig {
        instance: instance.clone(),
        exec: 0,
        args,
        env: Vec::new(),
        tty: None,
        timeout_ms: None,
        pre_stop: false,
    }
}

/// The end of a process that nobody listens to.
async fn silent(end: oneshot::Receiver<End>) -> Result<Ran, Failure> {
    let (exit, timed_out) = end.await.map_err(|_| gone())?;
    Ok(Ran { code: exit.code(), timed_out, stdout: Vec::new(), stderr: Vec::new() })
}

fn gone() -> Failure {
    Failure::Other { message: "nobody tells of its end any more".into() }
}

/// Both ends of a session's streams.
struct Streams {
    theirs: Vec<OwnedFd>,
    stdin: Option<OwnedFd>,
    output: Output,
}

impl Streams {
    fn new(stdin: bool) -> io::Result<Self> {
        let (stdin_theirs, stdin) = match stdin {
            true => pipe_with(PipeFlags::CLOEXEC).map(|(theirs, ours)| (theirs, Some(ours)))?,
            false => (null()?, None),
        };
        let (stdout, stdout_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        let (stderr, stderr_theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        for ours in stdin.iter().chain([&stdout, &stderr]) {
            rustix::io::ioctl_fionbio(ours, true)?;
        }
        let theirs = vec![stdin_theirs, stdout_theirs, stderr_theirs];
        Ok(Self { theirs, stdin, output: Output::Pipes { stdout, stderr } })
    }
}

fn no_pipe(error: &io::Error) -> Failure {
    Failure::Other { message: format!("cannot make a pipe: {error}") }
}

fn captured() -> io::Result<(Receiver, OwnedFd)> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((Receiver::from_owned_fd(ours)?, theirs))
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// Reads to the end; keeps the first [`OUTPUT_LIMIT`] bytes and throws the rest away, so that a talkative
/// process never blocks.
async fn keep(pipe: &mut Receiver, kept: &mut Vec<u8>) {
    while pipe.readable().await.is_ok() && more(pipe, kept) != More::End {}
}

/// Takes what lies in the pipe without waiting for more.
fn drain(pipe: &Receiver, kept: &mut Vec<u8>) {
    while more(pipe, kept) == More::Data {}
}

#[derive(PartialEq, Eq)]
enum More {
    Data,
    NotNow,
    End,
}

fn more(pipe: &Receiver, kept: &mut Vec<u8>) -> More {
    let mut buffer = [0; 4096];
    match pipe.try_read(&mut buffer) {
        Ok(0) => More::End,
        Ok(length) => {
            let room = OUTPUT_LIMIT.saturating_sub(kept.len()).min(length);
            kept.extend_from_slice(&buffer[..room]);
            More::Data
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => More::NotNow,
        Err(_) => More::End,
    }
}
