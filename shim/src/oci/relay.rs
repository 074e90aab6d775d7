//! The standard streams of a process in the foreground: pipes or a terminal, copied from and to our own, and
//! signals handed on to it (oci-runtime.md section 2.9).
//!
//! Nothing is ever read or written that would block: what can be read is polled for, and at most [`CHUNK`] bytes
//! are written where poll(2) said so, which a pipe takes whole. A terminal takes what it has room for, so its master does
//! not block: nobody else has that description open.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::notify::Notify;
use crate::harmless;
use crate::sys::{pidfd, process, terminal};
use crate::wire::Exit;

/// What one write moves: `PIPE_BUF`.
const CHUNK: usize = 4096;

/// One direction of copying.
#[derive(Debug)]
struct Stream {
    from: OwnedFd,
    /// Dropped, it tells the reader that no more comes.
    to: Option<OwnedFd>,
    pending: Vec<u8>,
    /// It carries what the process says, so it is emptied at the end.
    is_output: bool,
}

/// Copies while a process runs.
#[derive(Debug)]
pub(crate) struct Relay {
    signals: SignalFd,
    streams: Vec<Stream>,
    /// The master of the process's terminal.
    master: Option<OwnedFd>,
    raw: Option<Raw>,
    /// Until the process said that it is ready.
    notify: Option<Notify>,
}

/// Our terminal in raw mode; dropped, it is as it was.
#[derive(Debug)]
struct Raw(Termios);

impl Drop for Raw {
    fn drop(&mut self) {
        harmless(tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0));
    }
}

impl Relay {
    /// Holds back all signals, so that none is lost before there is a process to hand it to.
    pub(crate) fn new() -> nix::Result<Self> {
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)?;
        let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { signals, streams: Vec::new(), master: None, raw: None, notify: None })
    }

    /// Pipes for a process without a terminal; the ends that it gets.
    pub(crate) fn pipes(&mut self) -> nix::Result<[OwnedFd; 3]> {
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
        let [input, output, complaint] = [pipe()?, pipe()?, pipe()?];
        let own = |descriptor: BorrowedFd<'_>| descriptor.try_clone_to_owned().map_err(to_errno);
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        self.streams = vec![
            Stream::new(own(stdin.as_fd())?, input.1, false),
            Stream::new(output.0, own(stdout.as_fd())?, true),
            Stream::new(complaint.0, own(stderr.as_fd())?, true),
        ];
        Ok([input.0, output.1, complaint.1])
    }

    /// Copies from and to the master of a terminal.
    pub(crate) fn attach(&mut self, master: OwnedFd) -> nix::Result<()> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        let copy = |descriptor: BorrowedFd<'_>| descriptor.try_clone_to_owned().map_err(to_errno);
        let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
        self.streams = vec![
            Stream::new(copy(stdin.as_fd())?, copy(master.as_fd())?, false),
            Stream::new(copy(master.as_fd())?, copy(stdout.as_fd())?, true),
        ];
        if let Ok(before) = tcgetattr(&stdin) {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            // Only input: output goes through the terminal in the container first.
            tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
            self.raw = Some(Raw(before));
        }
        self.master = Some(master);
        self.resize();
        Ok(())
    }

    /// Hands on what the process says of its readiness.
    pub(crate) fn forward(&mut self, notify: Option<Notify>) {
        self.notify = notify;
    }

    fn resize(&self) {
        let size = terminal::size(std::io::stdin().as_fd());
        if let (Some(master), Ok(size)) = (&self.master, size) {
            // A window of another size is an inconvenience.
            harmless(terminal::resize(master.as_fd(), size));
        }
    }

    /// Copies until the process, a child of ours, ends.
    pub(crate) fn run(mut self, child: &OwnedFd, pid: i32) -> nix::Result<Exit> {
        let exit = loop {
            self.wait(Some(child))?;
            if let Some(exit) = self.signals(child, pid) {
                break exit;
            }
            self.copy();
            if self.notify.as_ref().is_some_and(|notify| is_readable(notify.as_fd()) && notify.forward(pid)) {
                self.notify = None;
            }
        };
        // What it wrote last is still in the pipes. Who holds them open beyond its end is not waited for.
        while self.streams.iter().any(|stream| stream.is_output && stream.to.is_some()) {
            if self.wait(None)? == 0 {
                break;
            }
            self.copy();
        }
        Ok(exit)
    }

    /// Waits for something to do; at the end only looks.
    fn wait(&self, child: Option<&OwnedFd>) -> nix::Result<i32> {
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(5);
        let limit = match child {
            Some(_) => {
                polled.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
                polled
                    .extend(self.notify.iter().map(|notify| PollFd::new(notify.as_fd(), PollFlags::POLLIN)));
                PollTimeout::NONE
            }
            // What was read is written, however long its reader takes.
            None if self.streams.iter().any(|stream| stream.is_output && !stream.pending.is_empty()) => {
                PollTimeout::NONE
            }
            None => PollTimeout::ZERO,
        };
        let open = self.streams.iter().filter(|stream| stream.is_output || child.is_some());
        polled.extend(open.filter_map(Stream::polled));
        match poll(&mut polled, limit) {
            Err(Errno::EINTR) => Ok(1),
            result => result,
        }
    }

    /// Takes signals: hands them on, and tells how the process ended.
    fn signals(&mut self, child: &OwnedFd, pid: i32) -> Option<Exit> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            match signal.ssi_signo as i32 {
                libc::SIGCHLD => {
                    while let Some((ended, exit)) = process::reap() {
                        if ended == pid {
                            return Some(exit);
                        }
                    }
                }
                libc::SIGWINCH => self.resize(),
                // Go's runtime sends SIGURG to itself all the time; a reader that is gone is our business.
                libc::SIGURG | libc::SIGPIPE => {}
                number => harmless(pidfd::signal(child.as_fd(), number)),
            }
        }
        None
    }

    fn copy(&mut self) {
        for stream in &mut self.streams {
            stream.step();
        }
    }
}

impl Stream {
    fn new(from: OwnedFd, to: OwnedFd, is_output: bool) -> Self {
        Self { from, to: Some(to), pending: Vec::new(), is_output }
    }

    fn polled(&self) -> Option<PollFd<'_>> {
        let to = self.to.as_ref()?;
        Some(if self.pending.is_empty() {
            PollFd::new(self.from.as_fd(), PollFlags::POLLIN)
        } else {
            PollFd::new(to.as_fd(), PollFlags::POLLOUT)
        })
    }

    fn is_ready(&self) -> bool {
        self.polled().is_some_and(|one| poll(&mut [one], PollTimeout::ZERO).is_ok_and(|ready| ready > 0))
    }

    /// Reads and writes once, as far as that does not block.
    fn step(&mut self) {
        if self.pending.is_empty() && self.is_ready() {
            self.read();
        }
        if !self.pending.is_empty() && self.is_ready() {
            self.write();
        }
    }

    fn read(&mut self) {
        let mut buffer = vec![0; CHUNK];
        match nix::unistd::read(&self.from, &mut buffer) {
            Ok(length) if length > 0 => {
                buffer.truncate(length);
                self.pending = buffer;
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // A terminal whose last user is gone reads EIO.
            Ok(_) | Err(_) => self.to = None,
        }
    }

    fn write(&mut self) {
        let Some(to) = &self.to else { return };
        match nix::unistd::write(to, &self.pending) {
            Ok(length) => drop(self.pending.drain(..length)),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // Nobody reads any more.
            Err(_) => (self.to, self.pending) = (None, Vec::new()),
        }
    }
}

fn is_readable(descriptor: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(descriptor, PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn to_errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// The exit status of a process as shells and runc tell it.
pub(crate) fn status(exit: Exit) -> u8 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signaled(signal) => 128_u8.saturating_add(signal),
        Exit::Unknown => 255,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_copies_what_is_there_and_ends_with_its_source() {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let (result, to) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut stream = Stream::new(read, to, true);
        stream.step();
        nix::unistd::write(&write, b"text").unwrap();
        stream.step();
        let mut buffer = [0; 8];
        assert_eq!(nix::unistd::read(&result, &mut buffer), Ok(4));
        drop(write);
        stream.step();
        assert_eq!(nix::unistd::read(&result, &mut buffer), Ok(0));
    }

    #[test]
    fn a_death_by_signal_is_told_as_shells_tell_it() {
        assert_eq!(status(Exit::Code(3)), 3);
        assert_eq!(status(Exit::Signaled(9)), 137);
    }
}
