//! Running a program: to its end within a deadline, or in the background with its output at hand.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wait::{now, patience, pause, wait_until};

/// What a program that ended left.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// The command, for messages.
    pub command: String,
}

impl Output {
    /// The standard output of a program that succeeded.
    ///
    /// # Panics
    /// When it failed.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "it is also called for its check alone")]
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{self}");
        self.stdout
    }

    /// The standard error of a program that failed with this exit code.
    ///
    /// # Panics
    /// When it ended otherwise.
    #[track_caller]
    #[expect(clippy::must_use_candidate, reason = "it is also called for its check alone")]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{self}");
        self.stderr
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "$ {}\n{}", self.command, self.status)?;
        write!(out, "--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// Runs `command` to its end with `input` as standard input.
///
/// # Panics
/// When it cannot be started, or does not end within `limit`; it is killed then.
#[track_caller]
pub fn run(command: &mut Command, input: &str, limit: Duration) -> Output {
    let text = describe(command);
    let mut child = command
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{text}: {error}"));
    let feeder = child.stdin.take().map(|mut pipe| {
        let input = input.to_owned();
        // A program that does not read its input says so by its exit code.
        std::thread::spawn(move || pipe.write_all(input.as_bytes()).is_ok())
    });
    let stdout = child.stdout.take().map(Drain::of);
    let stderr = child.stderr.take().map(Drain::of);
    let (start, limit) = (now(), patience(limit));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < limit => pause(Duration::from_millis(2)),
            Ok(None) => {
                end(&mut child);
                panic!(
                    "$ {text}\ndid not end within {limit:?}; stderr: {}",
                    stderr.map(Drain::finish).unwrap_or_default()
                );
            }
            Err(error) => panic!("$ {text}\n{error}"),
        }
    };
    drop(feeder);
    Output {
        status,
        stdout: stdout.map(Drain::finish).unwrap_or_default(),
        stderr: stderr.map(Drain::finish).unwrap_or_default(),
        command: text,
    }
}

/// Copies a program that is to be executed, by another process: a case beside this one may be about to fork, and until
/// its child executes something it would keep the copy open for writing, which is then too busy to be executed.
///
/// # Panics
/// When it cannot be copied.
#[track_caller]
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "cp {} {}", from.display(), to.display());
}

/// What comes out of a pipe, read on a thread of its own.
struct Drain {
    text: Arc<Mutex<Vec<u8>>>,
    thread: JoinHandle<()>,
}

impl Drain {
    /// Reads to the end of the pipe.
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&text);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(count @ 1..) = pipe.read(&mut buffer) {
                if let Ok(mut text) = shared.lock() {
                    text.extend_from_slice(&buffer[..count]);
                }
            }
        });
        Self { text, thread }
    }

    /// What was read when the program has ended. The end of the pipe is waited for only a little: a
    /// process that the program left behind may hold it open for ever.
    fn finish(self) -> String {
        let start = now();
        while !self.thread.is_finished() && start.elapsed() < Duration::from_millis(500) {
            pause(Duration::from_millis(1));
        }
        let bytes = self.text.lock().map_or_else(|_| Vec::new(), |text| text.clone());
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The command as one would type it.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Kills and reaps a child of ours.
fn end(child: &mut Child) {
    // It may have ended by itself in this moment; reaping it is all that is wanted.
    if child.kill().is_err() || child.wait().is_err() {
        eprintln!("process {} was gone already", child.id());
    }
}

/// A program in the background (`get -w`, `logs -f`), killed when this goes.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    lines: Arc<Mutex<Vec<String>>>,
    gatherers: Vec<JoinHandle<()>>,
}

/// How long the last lines of a program that ended may take.
const GATHERED: Duration = Duration::from_millis(500);

impl Running {
    /// Starts `command`; lines of standard output and standard error are gathered together.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let text = describe(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{text}: {error}"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stdout = child.stdout.take().map(|pipe| gather(pipe, &lines));
        let stderr = child.stderr.take().map(|pipe| gather(pipe, &lines));
        let gatherers = stdout.into_iter().chain(stderr).collect();
        Self { child, command: text, lines, gatherers }
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().map_or_else(|_| Vec::new(), |lines| lines.clone())
    }

    /// Waits until a line satisfies `wanted`, and returns it.
    ///
    /// # Panics
    /// When there is none within `limit`.
    #[track_caller]
    pub fn wait_line(&self, limit: Duration, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        wait_until(limit, what, || {
            let lines = self.lines();
            let found = lines.iter().find(|line| wanted(line)).cloned();
            found.ok_or_else(|| format!("$ {}\n{}", self.command, lines.join("\n")))
        })
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// When it does not read any more.
    pub fn write(&mut self, text: &str) {
        let pipe = self.child.stdin.as_mut().expect("its input is a pipe until it is closed");
        pipe.write_all(text.as_bytes()).expect("the program reads its input");
    }

    /// Closes its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Waits for its end, and until what it wrote is gathered.
    ///
    /// # Panics
    /// When it does not come within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let (child, lines, command) = (&mut self.child, &self.lines, &self.command);
        let status = wait_until(limit, "end of the program", || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("$ {command}\n{lines:?}")),
            Err(error) => Err(error.to_string()),
        });
        // A pipe that somebody else holds does not end.
        let ended = now();
        while ended.elapsed() < GATHERED && !self.gatherers.iter().all(JoinHandle::is_finished) {
            pause(Duration::from_millis(5));
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            end(&mut self.child);
        }
    }
}

/// Gathers the lines of a pipe on a thread that ends with the pipe.
fn gather(pipe: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Ok(mut lines) = lines.lock() {
                lines.push(line);
            }
        }
    })
}
