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
use crate::sys::{descriptor, pidfd, process, terminal};
use crate::wire::Exit;

/// What one write moves: `PIPE_BUF`.
const CHUNK: usize = 4096;

/// One direction of copying.
#[derive(Debug)]
struct Stream {
    from: End,
    /// Dropped, it tells the reader that no more comes.
    to: Option<End>,
    pending: Vec<u8>,
    /// It carries what the process says, so it is emptied at the end.
    is_output: bool,
    /// poll(2) said so of the end whose turn it is.
    is_ready: bool,
}

/// What is copied from or to.
#[derive(Debug)]
enum End {
    /// One of our own standard streams.
    Standard(BorrowedFd<'static>),
    /// The process's.
    Own(OwnedFd),
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Standard(standard) => *standard,
            Self::Own(own) => own.as_fd(),
        }
    }
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

/// Most streams that there are.
const MOST: usize = 3;

/// What a look at everything found.
struct Seen {
    /// There are signals to take.
    signal: bool,
    /// There is anything.
    any: bool,
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
        // The ends that the process gets of the first two have numbers side by side, and are closed together here.
        let [output, input, complaint] = [pipe()?, pipe()?, pipe()?];
        let [stdin, stdout, stderr] = descriptor::standard().map(End::Standard);
        self.streams = vec![
            Stream::new(stdin, End::Own(input.1), false),
            Stream::new(End::Own(output.0), stdout, true),
            Stream::new(End::Own(complaint.0), stderr, true),
        ];
        Ok([input.0, output.1, complaint.1])
    }

    /// Copies from and to the master of a terminal.
    pub(crate) fn attach(&mut self, master: OwnedFd) -> nix::Result<()> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))?;
        let copy = || master.as_fd().try_clone_to_owned().map(End::Own).map_err(to_errno);
        let [stdin, stdout, _] = descriptor::standard();
        self.streams = vec![
            Stream::new(End::Standard(stdin), copy()?, false),
            Stream::new(copy()?, End::Standard(stdout), true),
        ];
        if let Ok(before) = tcgetattr(stdin) {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            // Only input: output goes through the terminal in the container first.
            tcsetattr(stdin, SetArg::TCSANOW, &raw)?;
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
            let Seen { signal, .. } = self.wait(Some(child))?;
            if let Some(exit) = signal.then(|| self.signals(child, pid)).flatten() {
                break exit;
            }
            self.copy();
            if self.notify.as_ref().is_some_and(|notify| is_readable(notify.as_fd()) && notify.forward(pid)) {
                self.notify = None;
            }
        };
        // What it wrote last is still in the pipes. Who holds them open beyond its end is not waited for.
        self.copy();
        while self.streams.iter().any(|stream| stream.is_output && stream.to.is_some()) {
            if !self.wait(None)?.any {
                break;
            }
            self.copy();
        }
        drop(self.raw.take());
        // This process ends soon, and what it holds with it.
        std::mem::forget(self);
        Ok(exit)
    }

    /// Waits for something to do; at the end only looks.
    fn wait(&mut self, child: Option<&OwnedFd>) -> nix::Result<Seen> {
        let limit = match child {
            Some(_) => PollTimeout::NONE,
            // What was read is written, however long its reader takes.
            None if self.streams.iter().any(|stream| stream.is_output && !stream.pending.is_empty()) => {
                PollTimeout::NONE
            }
            None => PollTimeout::ZERO,
        };
        let mut polled: Vec<PollFd<'_>> = Vec::with_capacity(5);
        // The streams first, each in its place.
        let (mut ready, mut places) = ([false; MOST], [None; MOST]);
        for (stream, place) in self.streams.iter().zip(&mut places) {
            if let Some(one) = stream.polled().filter(|_| stream.is_output || child.is_some()) {
                *place = Some(polled.len());
                polled.push(one);
            }
        }
        let streams = polled.len();
        if child.is_some() {
            let readable = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
            polled.push(readable(self.signals.as_fd()));
            polled.extend(self.notify.iter().map(|notify| readable(notify.as_fd())));
        }
        let count = match poll(&mut polled, limit) {
            // Whatever there is shows at the next look.
            Err(Errno::EINTR) => return Ok(Seen { signal: false, any: true }),
            result => result?,
        };
        let is_ready = |at: usize| polled.get(at).and_then(PollFd::any).unwrap_or(false);
        for (ready, place) in ready.iter_mut().zip(places) {
            *ready = place.is_some_and(is_ready);
        }
        let seen = Seen { signal: child.is_some() && is_ready(streams), any: count > 0 };
        for (stream, ready) in self.streams.iter_mut().zip(ready) {
            stream.is_ready = ready;
        }
        Ok(seen)
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
    fn new(from: End, to: End, is_output: bool) -> Self {
        Self { from, to: Some(to), pending: Vec::new(), is_output, is_ready: false }
    }

    fn polled(&self) -> Option<PollFd<'_>> {
        let to = self.to.as_ref()?;
        Some(if self.pending.is_empty() {
            PollFd::new(self.from.as_fd(), PollFlags::POLLIN)
        } else {
            PollFd::new(to.as_fd(), PollFlags::POLLOUT)
        })
    }

    /// Reads and writes once, as far as that does not block.
    fn step(&mut self) {
        if !std::mem::take(&mut self.is_ready) {
            return;
        }
        if self.pending.is_empty() {
            self.read();
            let takes = |one: PollFd<'_>| poll(&mut [one], PollTimeout::ZERO).is_ok_and(|ready| ready > 0);
            if self.pending.is_empty() || !self.polled().is_some_and(takes) {
                return;
            }
        }
        self.write();
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
        let mut stream = Stream::new(End::Own(read), End::Own(to), true);
        stream.step();
        nix::unistd::write(&write, b"text").unwrap();
        stream.is_ready = true;
        stream.step();
        let mut buffer = [0; 8];
        assert_eq!(nix::unistd::read(&result, &mut buffer), Ok(4));
        drop(write);
        stream.is_ready = true;
        stream.step();
        assert_eq!(nix::unistd::read(&result, &mut buffer), Ok(0));
    }

    #[test]
    fn a_death_by_signal_is_told_as_shells_tell_it() {
        assert_eq!(status(Exit::Code(3)), 3);
        assert_eq!(status(Exit::Signaled(9)), 137);
    }
}
