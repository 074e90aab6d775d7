//! Hooks of `config.json`: programs run at fixed points, each with the container's state on standard input.
//!
//! A hook is run by a process that may be a forked child, so everything is prepared before and nothing here allocates
//! once [`Hook::run`] is called. What a hook prints goes to two memory files, which the maker reads when it failed.

use std::ffi::CString;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use oci_spec::runtime::{Hook as Listed, Spec};

use super::plan::Error;
use crate::harmless;
use crate::sys::process::Vector;
use crate::sys::{descriptor, memory, pidfd, process};
use crate::wire::Exit;

/// One hook, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    path: CString,
    arguments: Vector,
    environment: Vector,
    /// In milliseconds.
    timeout: Option<i32>,
}

/// The hooks of one container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hooks {
    pub(crate) prestart: Vec<Hook>,
    pub(crate) create_runtime: Vec<Hook>,
    pub(crate) create_container: Vec<Hook>,
    pub(crate) start_container: Vec<Hook>,
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
}

/// How a hook ended that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With this status.
    Exited(u8),
    /// By this signal.
    Signaled(u8),
    /// It ran past its limit and was killed.
    TimedOut,
    /// It could not be run.
    NotRun(Errno),
}

impl Ending {
    /// Two numbers for a packet.
    pub(crate) fn to_parts(self) -> (u8, i32) {
        match self {
            Self::Exited(status) => (0, i32::from(status)),
            Self::Signaled(signal) => (1, i32::from(signal)),
            Self::TimedOut => (2, 0),
            Self::NotRun(errno) => (3, errno as i32),
        }
    }

    /// Reads what [`Ending::to_parts`] wrote.
    pub(crate) fn from_parts(kind: u8, value: i32) -> Self {
        match kind {
            0 => Self::Exited(value as u8),
            1 => Self::Signaled(value as u8),
            2 => Self::TimedOut,
            _ => Self::NotRun(Errno::from_raw(value)),
        }
    }
}

/// A JSON text about a process whose pid is not known yet: the pid belongs between every two pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pieces: Vec<Vec<u8>>,
}

impl State {
    /// The state of a container at one point of its life.
    pub(crate) fn new(spec: &Spec, id: &str, bundle: &Path, status: &str) -> Self {
        let annotations = spec.annotations().as_ref().filter(|all| !all.is_empty()).map(|all| {
            let ordered: std::collections::BTreeMap<_, _> = all.iter().collect();
            let object = serde_json::to_string(&ordered).unwrap_or_else(|_| "{}".to_owned());
            format!(",\"annotations\":{object}")
        });
        let head = format!(
            "{{\"ociVersion\":{},\"id\":{},\"status\":{},\"pid\":",
            quote(spec.version()),
            quote(id),
            quote(status)
        );
        let tail =
            format!(",\"bundle\":{}{}}}", quote(&bundle.to_string_lossy()), annotations.unwrap_or_default());
        Self { pieces: vec![head.into_bytes(), tail.into_bytes()] }
    }

    /// The state of a process that installed a seccomp filter with a listener.
    pub(crate) fn of_listener(spec: &Spec, id: &str, bundle: &Path, metadata: &str) -> Self {
        let outer = format!(
            "{{\"ociVersion\":{},\"fds\":[\"seccompFd\"],\"metadata\":{},\"pid\":",
            quote(spec.version()),
            quote(metadata)
        );
        let mut pieces = vec![outer.into_bytes()];
        pieces.extend(Self::new(spec, id, bundle, "creating").pieces);
        if let [_, inner, last] = pieces.as_mut_slice() {
            inner.splice(0..0, *b",\"state\":");
            last.push(b'}');
        }
        Self { pieces }
    }

    /// The same of a process that joined the container whose init is `init`.
    pub(crate) fn of_joining(spec: &Spec, id: &str, bundle: &Path, (metadata, init): (&str, i32)) -> Self {
        let mut pieces = Self::of_listener(spec, id, bundle, metadata).pieces;
        let running = Self::new(spec, id, bundle, "running").pieces;
        pieces.truncate(1);
        pieces.push([b",\"state\":", &*running.join(init.to_string().as_bytes()), b"}"].concat());
        Self { pieces }
    }

    /// The parts of the text for the process `pid`, whose digits land in `digits`.
    pub(crate) fn parts<'a>(&'a self, pid: i32, digits: &'a mut [u8; 10]) -> [IoSlice<'a>; 5] {
        let piece = |at: usize| IoSlice::new(self.pieces.get(at).map_or(&[], Vec::as_slice));
        let digits = decimal(pid, digits);
        let second: &[u8] = if self.pieces.len() > 2 { digits } else { &[] };
        [piece(0), IoSlice::new(digits), piece(1), IoSlice::new(second), piece(2)]
    }
}

fn quote(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// The digits of a pid, without allocation.
fn decimal(pid: i32, digits: &mut [u8; 10]) -> &[u8] {
    let mut rest = pid.unsigned_abs();
    let mut at = digits.len();
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        at -= 1;
        if rest == 0 {
            break;
        }
    }
    digits.get(at..).unwrap_or_default()
}

/// Where the output of hooks goes.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Output {
    /// Two empty files.
    pub(crate) fn new() -> nix::Result<Self> {
        Ok(Self { stdout: memory::file(c"hook-stdout")?, stderr: memory::file(c"hook-stderr")? })
    }

    /// Both, for a child to keep.
    pub(crate) fn numbers(&self) -> [RawFd; 2] {
        [self.stdout.as_raw_fd(), self.stderr.as_raw_fd()]
    }

    /// What was printed, as it stands in runc's errors.
    pub(crate) fn text(&self) -> String {
        let read = |file: &OwnedFd| {
            let mut buffer = vec![0; 4096];
            let length = nix::sys::uio::pread(file, &mut buffer, 0).unwrap_or_default();
            buffer.truncate(length);
            String::from_utf8_lossy(&buffer).into_owned()
        };
        format!("stdout: {}, stderr: {}", read(&self.stdout), read(&self.stderr))
    }
}

impl Hooks {
    /// Reads them from a configuration. Those without variables of their own get `own`, the maker's; those that the
    /// container's init runs at its start get `container`.
    pub(crate) fn new(spec: &Spec, own: &dyn Fn() -> Vector, container: &Vector) -> Result<Self, Error> {
        let Some(hooks) = spec.hooks() else { return Ok(Self::default()) };
        let own = &own();
        let all = |listed: &Option<Vec<Listed>>, default: &Vector| {
            listed.iter().flatten().map(|one| Hook::new(one, default)).collect::<Result<Vec<_>, _>>()
        };
        let prestart = hooks.prestart();
        Ok(Self {
            prestart: all(prestart, own)?,
            create_runtime: all(hooks.create_runtime(), own)?,
            create_container: all(hooks.create_container(), own)?,
            start_container: all(hooks.start_container(), container)?,
            poststart: all(hooks.poststart(), own)?,
            poststop: all(hooks.poststop(), own)?,
        })
    }

    /// Whether some must run while the container is made.
    pub(crate) fn of_maker(&self) -> bool {
        !self.prestart.is_empty() || !self.create_runtime.is_empty()
    }

    /// Whether some run while the container is made, in whatever namespaces, and are told of its init.
    pub(crate) fn of_making(&self) -> bool {
        self.of_maker() || !self.create_container.is_empty()
    }

    /// Whether the init has to know its pid.
    pub(crate) fn of_init(&self) -> bool {
        !self.create_container.is_empty() || !self.start_container.is_empty()
    }
}

impl Hook {
    fn new(listed: &Listed, default: &Vector) -> Result<Self, Error> {
        let path = listed.path();
        let invalid = |what: &str| Error::Invalid(format!("hook {}: {what}", path.display()));
        if !path.is_absolute() {
            return Err(invalid("path is not absolute"));
        }
        let text = |one: &[u8]| CString::new(one).map_err(|_| invalid("null byte"));
        let all =
            |list: &[String]| list.iter().map(|one| text(one.as_bytes())).collect::<Result<Vec<_>, _>>();
        let file = text(path.as_os_str().as_bytes())?;
        let arguments = match listed.args().as_deref() {
            Some(args) if !args.is_empty() => all(args)?,
            Some(_) | None => vec![file.clone()],
        };
        let environment = match listed.env().as_deref() {
            Some(variables) => Vector::new(all(variables)?),
            None => default.clone(),
        };
        let timeout = match listed.timeout() {
            Some(seconds) if seconds <= 0 => return Err(invalid("timeout is not positive")),
            Some(seconds) => Some(i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX)),
            None => None,
        };
        Ok(Self { path: file, arguments: Vector::new(arguments), environment, timeout })
    }

    /// Runs it for the container whose init is `pid` and waits for its end.
    pub(crate) fn run(&self, state: &State, pid: i32, output: [RawFd; 2]) -> Result<(), Ending> {
        let input = self.input(state, pid).map_err(Ending::NotRun)?;
        let (told, tell) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(Ending::NotRun)?;
        let start =
            Start { hook: self, stdio: [input.as_raw_fd(), output[0], output[1]], tell: tell.as_raw_fd() };
        let child = process::spawn(CloneFlags::empty(), None, &start, become_hook).map_err(Ending::NotRun)?;
        drop(tell);
        let mut errno = [0; size_of::<i32>()];
        if nix::unistd::read(&told, &mut errno) == Ok(errno.len()) {
            await_end(child.pidfd.as_fd(), None);
            return Err(Ending::NotRun(Errno::from_raw(i32::from_ne_bytes(errno))));
        }
        match await_end(child.pidfd.as_fd(), self.timeout) {
            Some(Exit::Code(0)) => Ok(()),
            Some(Exit::Code(status)) => Err(Ending::Exited(status)),
            Some(Exit::Signaled(signal)) => Err(Ending::Signaled(signal)),
            Some(Exit::Unknown) => Err(Ending::NotRun(Errno::ECHILD)),
            None => Err(Ending::TimedOut),
        }
    }

    fn input(&self, state: &State, pid: i32) -> nix::Result<OwnedFd> {
        let file = memory::file(c"hook-state")?;
        let mut digits = [0; 10];
        memory::write_parts(file.as_fd(), &state.parts(pid, &mut digits))?;
        nix::unistd::lseek(&file, 0, nix::unistd::Whence::SeekSet)?;
        Ok(file)
    }

    /// What went wrong, in runc's words.
    pub(crate) fn explain(&self, name: &str, index: usize, ending: Ending, output: &str) -> String {
        let what = match ending {
            Ending::Exited(status) => format!("exit status {status}"),
            Ending::Signaled(signal) => format!("signal: {signal}"),
            Ending::TimedOut => {
                let seconds = f64::from(self.timeout.unwrap_or_default()) / 1000.0;
                format!("hook ran past specified timeout of {seconds:.1}s")
            }
            Ending::NotRun(errno) => {
                let reason = crate::container::program::lower(errno.desc());
                format!("fork/exec {}: {reason}", self.path.to_string_lossy())
            }
        };
        format!("error running {name} hook #{index}: {what}, {output}")
    }
}

/// How the child ended; none when it had to be killed at its limit.
fn await_end(child: BorrowedFd<'_>, timeout: Option<i32>) -> Option<Exit> {
    let limit =
        timeout.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
    let mut polled = [PollFd::new(child, PollFlags::POLLIN)];
    // A signal handled by this process would begin the wait anew; hull handles none.
    let in_time = loop {
        match poll(&mut polled, limit) {
            Err(Errno::EINTR) => {}
            result => break result.is_ok_and(|ready| ready > 0),
        }
    };
    if !in_time {
        harmless(pidfd::signal(child, libc::SIGKILL));
        harmless(poll(&mut [PollFd::new(child, PollFlags::POLLIN)], PollTimeout::NONE));
    }
    let exit = process::reap_child(child);
    if in_time { exit.or(Some(Exit::Unknown)) } else { None }
}

struct Start<'a> {
    hook: &'a Hook,
    stdio: [RawFd; 3],
    tell: RawFd,
}

fn become_hook(start: &Start<'_>) -> ! {
    let errno = match prepare(start) {
        Ok(()) => process::execute(&start.hook.path, &start.hook.arguments, &start.hook.environment),
        Err(errno) => errno,
    };
    process::report(start.tell, &(errno as i32).to_ne_bytes());
    process::leave(127)
}

fn prepare(start: &Start<'_>) -> nix::Result<()> {
    // Nobody would take note of its end. A container's filter that refuses this need not keep it from running.
    harmless(process::die_with_parent(libc::SIGKILL));
    // Above 2, so that placing one does not replace another.
    for (number, from) in start.stdio.iter().enumerate() {
        descriptor::place_raw(*from, number as RawFd)?;
    }
    descriptor::close_on_exec_from(3)?;
    // The init makes files with none.
    process::set_umask(0o022);
    process::default_signals();
    Ok(())
}

/// A run of hooks in a process of its own, for a maker that must not wait.
pub(crate) struct Run<'a> {
    pub(crate) hooks: [&'a [Hook]; 2],
    pub(crate) state: &'a State,
    pub(crate) pid: i32,
    pub(crate) output: [RawFd; 2],
    /// Gets list, index and ending of the first that fails.
    pub(crate) tell: RawFd,
}

/// Length of what [`run_all`] tells.
pub(crate) const TOLD: usize = 8;

/// Runs hooks one after another until one fails; the body of a forked child.
pub(crate) fn run_all(run: &Run<'_>) -> ! {
    // Of the maker's descriptors (its locks!) none outlives the maker here, and no hook does.
    let [stdout, stderr] = run.output;
    let mut keep = [stdout, stderr, run.tell];
    keep.sort_unstable();
    let alone = descriptor::close_all_but(&keep).and_then(|()| process::die_with_parent(libc::SIGKILL));
    if let Err(errno) = alone {
        tell(run, [0, 0], Ending::NotRun(errno));
    }
    for (list, hooks) in run.hooks.iter().enumerate() {
        for (index, hook) in hooks.iter().enumerate() {
            if let Err(ending) = hook.run(run.state, run.pid, run.output) {
                tell(run, [list as u8, index as u8], ending);
            }
        }
    }
    process::leave(0)
}

fn tell(run: &Run<'_>, [list, index]: [u8; 2], ending: Ending) -> ! {
    let (kind, value) = ending.to_parts();
    let [v0, v1, v2, v3] = value.to_ne_bytes();
    process::report(run.tell, &[list, index, kind, 0, v0, v1, v2, v3]);
    process::leave(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_has_the_pid_between_its_halves() {
        let mut spec = Spec::default();
        spec.set_annotations(Some([("a.b".to_owned(), "c\"d".to_owned())].into()));
        let state = State::new(&spec, "web", Path::new("/b"), "creating");
        let mut digits = [0; 10];
        let parts = state.parts(12_345, &mut digits);
        let text: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["pid"], 12_345);
        assert_eq!(value["id"], "web");
        assert_eq!(value["annotations"]["a.b"], "c\"d");
        let state = State::of_listener(&spec, "web", Path::new("/b"), "m");
        let text: Vec<u8> = state.parts(7, &mut digits).iter().flat_map(|part| part.to_vec()).collect();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&value["pid"], &value["state"]["pid"]), (&7.into(), &7.into()));
        let state = State::of_joining(&spec, "web", Path::new("/b"), ("m", 5));
        let text: Vec<u8> = state.parts(7, &mut digits).iter().flat_map(|part| part.to_vec()).collect();
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&value["pid"], &value["state"]["pid"]), (&7.into(), &5.into()));
        assert_eq!((&value["metadata"], &value["state"]["status"]), (&"m".into(), &"running".into()));
    }

    #[test]
    fn a_hook_gets_the_state_and_its_failure_is_told() {
        let hook = |script: &str, timeout: i32| Hook {
            path: c"/bin/sh".into(),
            arguments: Vector::new(vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap()]),
            environment: Vector::new(vec![c"PATH=/bin:/usr/bin".into()]),
            timeout: Some(timeout),
        };
        let state = State { pieces: vec![b"{\"pid\":".into(), b"}".into()] };
        let output = Output::new().unwrap();
        let run = |hook: &Hook| hook.run(&state, 77, output.numbers());
        assert_eq!(run(&hook("test \"$(cat)\" = '{\"pid\":77}'", 9000)), Ok(()));
        let failing = hook("cat; echo no >&2; exit 3", 9000);
        assert_eq!(run(&failing), Err(Ending::Exited(3)));
        let text = failing.explain("prestart", 0, Ending::Exited(3), &output.text());
        assert_eq!(text, "error running prestart hook #0: exit status 3, stdout: {\"pid\":77}, stderr: no\n");
        assert_eq!(run(&hook("sleep 100", 50)), Err(Ending::TimedOut));
        let missing = Hook { path: c"/nothing".into(), ..hook("", 9000) };
        assert_eq!(run(&missing), Err(Ending::NotRun(Errno::ENOENT)));
    }
}
