//! Hooks of the runtime's namespaces: `prestart`, `createRuntime`, `poststart`, `poststop`
//! (oci-runtime.md section 3). The others run inside, which is the engine's.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::runtime::Hook;
use serde::Deserialize;
use std::os::fd::AsFd;

use super::error::{Error, words};
use super::store::Record;
use crate::harmless;
use crate::sys::pidfd;

/// Most of a hook's output that a message carries.
const OUTPUT: u64 = 4096;

/// Which list of hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Prestart,
    CreateRuntime,
    Poststart,
    Poststop,
}

impl Kind {
    /// Its name in `config.json`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// What the container does when its hooks run.
    fn status(self) -> &'static str {
        match self {
            Self::Prestart | Self::CreateRuntime => "creating",
            Self::Poststart => "running",
            Self::Poststop => "stopped",
        }
    }
}

/// Only the lists that run here, so that the rest of a large configuration costs nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Lists {
    prestart: Vec<Hook>,
    create_runtime: Vec<Hook>,
    poststart: Vec<Hook>,
    poststop: Vec<Hook>,
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    hooks: Option<Lists>,
}

/// The hooks of one kind in the configuration `bytes`.
pub(crate) fn of(bytes: &[u8], kind: Kind) -> Result<Vec<Hook>, Error> {
    let config: Config =
        serde_json::from_slice(bytes).map_err(|error| Error::Json("config.json".to_owned(), error))?;
    let lists = config.hooks.unwrap_or_default();
    Ok(match kind {
        Kind::Prestart => lists.prestart,
        Kind::CreateRuntime => lists.create_runtime,
        Kind::Poststart => lists.poststart,
        Kind::Poststop => lists.poststop,
    })
}

/// Runs hooks one after the other; the first that fails is the last.
pub(crate) fn run(hooks: &[Hook], kind: Kind, record: &Record) -> Result<(), Error> {
    hooks.iter().enumerate().try_for_each(|(index, hook)| one(hook, index, kind, record))
}

/// Runs hooks of which none keeps the next from running; the messages of those that failed.
pub(crate) fn run_all(hooks: &[Hook], kind: Kind, record: &Record) -> Vec<String> {
    let failed = |(index, hook)| one(hook, index, kind, record).err().map(|error| error.chain());
    hooks.iter().enumerate().filter_map(failed).collect()
}

fn one(hook: &Hook, index: usize, kind: Kind, record: &Record) -> Result<(), Error> {
    let pid = match kind {
        Kind::Poststop => 0,
        _ => record.init.map_or(0, |init| init.pid),
    };
    let state = super::container::hook_state(record, kind.status(), pid);
    execute(hook, &state, record).map_err(|message| Error::Hook { kind: kind.name(), index, message })
}

/// Runs one hook to its end. State and output go through files in memory, so that a hook that reads or writes
/// nothing, or much, blocks nobody.
fn execute(hook: &Hook, state: &[u8], record: &Record) -> Result<(), String> {
    if !hook.path().is_absolute() {
        return Err(format!("path {:?} is not absolute", hook.path()));
    }
    let memory = |_| memfd_create(c"hook", MFdFlags::MFD_CLOEXEC).map(File::from).map_err(words);
    let (mut input, output, complaint) = (memory(0)?, memory(1)?, memory(2)?);
    let rewound = input.write_all(state).and_then(|()| input.seek(SeekFrom::Start(0)));
    rewound.map_err(|error| error.to_string())?;
    let copy = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let mut command = Command::new(hook.path());
    command.stdin(input).stdout(copy(&output)?).stderr(copy(&complaint)?);
    if let Some((name, arguments)) = hook.args().as_ref().and_then(|all| all.split_first()) {
        command.arg0(name).args(arguments);
    }
    if let Some(variables) = hook.env() {
        command.env_clear();
        command.envs(variables.iter().filter_map(|one| one.split_once('=')));
    }
    if record.bundle.is_dir() {
        command.current_dir(&record.bundle);
    }
    let mut child = command.spawn().map_err(|error| match error.raw_os_error() {
        Some(errno) => format!("fork/exec {}: {}", hook.path().display(), words(nix::Error::from_raw(errno))),
        None => error.to_string(),
    })?;
    let ended = await_end(&mut child, hook.timeout().filter(|seconds| *seconds > 0));
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}, {}", describe(status), told(output, complaint))),
        Err(message) => Err(format!("{message}, {}", told(output, complaint))),
    }
}

fn await_end(child: &mut Child, timeout: Option<i64>) -> Result<ExitStatus, String> {
    if let Some(seconds) = timeout {
        let process = i32::try_from(child.id()).ok().and_then(|pid| pidfd::open(pid).ok());
        let process = process.ok_or("open the process of the hook")?;
        let mut polled = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        let milliseconds = i32::try_from(seconds.saturating_mul(1000)).unwrap_or(i32::MAX);
        let limit = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
        if poll(&mut polled, limit).map_err(words)? == 0 {
            harmless(child.kill());
            harmless(child.wait());
            return Err(format!("hook ran past specified timeout of {seconds}.0s"));
        }
    }
    child.wait().map_err(|error| error.to_string())
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
    }
}

fn told(output: File, complaint: File) -> String {
    let text = |mut file: File| {
        let mut bytes = Vec::new();
        // What cannot be read is missing from a message that says more important things.
        harmless(file.seek(SeekFrom::Start(0)));
        harmless(file.take(OUTPUT).read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    format!("stdout: {}, stderr: {}", text(output), text(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        serde_json::from_value(serde_json::json!({
            "ociVersion": "1.2.0", "id": "x", "bundle": "/", "rootfs": "/r", "created": "", "owner": 0,
            "ownPidNamespace": true, "cgroup": {}, "init": {"pid": 7, "startTime": 1}
        }))
        .unwrap()
    }

    fn shell(kind: Kind, hook: &str) -> Result<(), Error> {
        let hook = serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", hook], "env": ["A=1"]});
        run(&[serde_json::from_value(hook).unwrap()], kind, &record())
    }

    #[test]
    fn a_hook_reads_the_state_and_has_its_own_variables_only() {
        shell(Kind::CreateRuntime, "read -r state; case $state in *'\"status\":\"creating\"'*) ;; *) exit 1;; esac; test \"$A$HOME\" = 1").unwrap();
        shell(Kind::Poststop, "read -r state; case $state in *'\"pid\":0'*) ;; *) exit 1;; esac").unwrap();
    }

    #[test]
    fn what_a_failing_hook_says_is_told() {
        let told = shell(Kind::Prestart, "echo out; echo err >&2; exit 3").unwrap_err().to_string();
        assert_eq!(told, "error running prestart hook #0: exit status 3, stdout: out\n, stderr: err\n");
    }

    #[test]
    fn a_hook_that_takes_too_long_is_killed() {
        let hook =
            serde_json::json!({"path": "/bin/sh", "args": ["sh", "-c", "while :; do :; done"], "timeout": 1});
        let told = run(&[serde_json::from_value(hook).unwrap()], Kind::Poststart, &record()).unwrap_err();
        assert!(told.to_string().contains("hook ran past specified timeout of 1.0s"), "{told}");
    }

    #[test]
    fn only_the_lists_that_run_here_are_read() {
        let config = br#"{"hooks": {"createContainer": 5, "poststop": [{"path": "/x"}]}, "mounts": 7}"#;
        assert_eq!(of(config, Kind::Poststop).unwrap().len(), 1);
        assert!(of(b"{}", Kind::Poststop).unwrap().is_empty());
    }
}
