//! The messages between the supervisor and the shim, versioned.
//!
//! They talk over one `SOCK_SEQPACKET` socketpair, made by the shim, whose supervisor end is
//! descriptor [`SUPERVISOR_FD`]. One packet is one JSON message of at most [`MAX_PACKET`] bytes;
//! descriptors travel beside it as `SCM_RIGHTS`, in the order that the message's doc names.
//! Whatever is larger than a packet (an OCI spec, a task's input) goes by file.
//!
//! The supervisor sends [`Request`]s and the shim answers each exactly once with [`Report::Done`] carrying the
//! same id, in any order. The shim also reports, unasked, what it observes. An exit is reported
//! again to each new supervisor until it is acknowledged with [`Command::Forget`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Version of this protocol; a supervisor refuses a shim that speaks another.
pub const VERSION: u32 = 1;
/// The supervisor finds its end of the socketpair here.
pub const SUPERVISOR_FD: i32 = 3;
/// Largest message in bytes.
pub const MAX_PACKET: usize = 128 * 1024;

/// Names one run of one container of the pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId {
    /// The container's name in the manifest.
    pub container: String,
    /// Its restart number, from 0.
    pub attempt: u32,
}

impl std::fmt::Display for InstanceId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}.{}", self.container, self.attempt)
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// It called `exit` with this status.
    Code(u8),
    /// A signal of this number killed it.
    Signaled(u8),
    /// It ended while no shim could see it.
    Unknown,
}

impl Exit {
    /// The exit code that Kubernetes shows: the status, 128 plus the signal, or 255.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signaled(signal) => 128 + i32::from(signal),
            Self::Unknown => 255,
        }
    }
}

/// One request of the supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// Chosen by the supervisor, unique for its life; comes back in [`Report::Done`].
    pub id: u64,
    /// What is to be done.
    pub command: Command,
}

/// What the supervisor can ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Command {
    /// Make a new sandbox after the last one died, was stopped or could not be made, from the pod's
    /// `sandbox.json` ([`SandboxConfig`]): pod cgroup, pause in new namespaces, hostname, `/dev/shm`,
    /// then the `network-up` task. Answers [`Answer::Ok`]; the supervisor then ends with status 0 and
    /// is started again inside the new namespaces. (The first sandbox is made before there is a
    /// supervisor; when that fails the supervisor runs in the host's namespaces.)
    CreateSandbox {
        /// Counts the pod's sandboxes, from 0.
        attempt: u32,
    },
    /// SIGKILL everything left in the sandbox, run the `network-down` task, end pause, unmount
    /// `/dev/shm`, remove the pod's cgroups. The supervisor lives on.
    StopSandbox,
    /// Run a host task in the host's namespaces: `hull [--root R] task NAME`, `input` as JSON on its
    /// standard input. Answers [`Answer::Task`].
    Task {
        /// The task's name, as in `hull task NAME`.
        name: String,
        /// Its input.
        input: serde_json::Value,
    },
    /// Create one instance from `<bundle>/config.json`. The shim completes that spec: every `network`,
    /// `ipc` and `uts` namespace listed without a path is the sandbox's, `pid` too where the sandbox
    /// shares it; `cgroupsPath` is a child of the pod's group. Answers [`Answer::Created`].
    Create(Box<CreateConfig>),
    /// Let a created instance execute its process. Answers [`Answer::Started`]; a failing `execve` is
    /// [`Failure::Start`].
    Start {
        /// Which.
        instance: InstanceId,
    },
    /// Run a further process in a running instance. Answers [`Answer::Exec`]; its end comes as
    /// [`Report::ExecExited`]. With `tty`, no descriptors are sent and the answer carries the pty
    /// master. Else three are sent: stdin, stdout, stderr of the process.
    Exec(Box<ExecConfig>),
    /// Send a signal to an instance's init process.
    Signal {
        /// Which.
        instance: InstanceId,
        /// The signal's number.
        signal: i32,
    },
    /// SIGKILL every process of an instance. Its exit is reported as any other.
    Kill {
        /// Which.
        instance: InstanceId,
    },
    /// SIGKILL an exec'd process and all its descendants.
    KillExec {
        /// The `exec` of [`ExecConfig`].
        exec: u64,
    },
    /// Set the window size of an instance's or exec's terminal.
    Resize {
        /// The instance.
        instance: InstanceId,
        /// The exec in it, or none for the instance's own terminal.
        exec: Option<u64>,
        /// Columns and rows.
        size: (u16, u16),
    },
    /// Hand out descriptors to talk to an instance's standard input and to follow its raw output
    /// (for `attach`): answers [`Answer::Attached`] with two descriptors, a writable stdin (or
    /// `/dev/null`) and a readable `SOCK_SEQPACKET` of output, first byte 1 or 2 naming the stream.
    Attach {
        /// Which.
        instance: InstanceId,
    },
    /// Close an instance's standard input for good (`stdinOnce`).
    CloseStdin {
        /// Which.
        instance: InstanceId,
    },
    /// The exit of this instance is on the supervisor's disk: forget it, remove its cgroup and runtime
    /// state. Its directory and rootfs are removed by the `rootfs-down` task.
    Forget {
        /// Which.
        instance: InstanceId,
    },
    /// CPU, memory and pids of an instance, or of the whole pod.
    Statistics {
        /// Which; none for the pod's own group.
        instance: Option<InstanceId>,
    },
    /// A socket in the host's network namespace, for the resolver's upstream queries: of datagrams, or one to be
    /// connected by TCP. Answers [`Answer::Socket`] with one descriptor.
    HostSocket {
        /// For IPv6.
        v6: bool,
        /// For TCP.
        #[serde(default)]
        stream: bool,
    },
    /// The pod is over: after StopSandbox. Remove the pod's directory and name link and end, with the
    /// supervisor.
    Finish,
}

/// How the sandbox is made; `sandbox.json` in the pod's directory, written by `hull apply`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxConfig {
    /// The pod's uid.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name; with the namespace it tells which name link to remove at the end.
    pub name: String,
    /// Kernel hostname of the new UTS namespace; none with `hostNetwork` (then the host's UTS namespace).
    pub hostname: Option<String>,
    /// `hostNetwork`: no new network namespace.
    pub host_network: bool,
    /// `hostIPC`: no new IPC namespace.
    pub host_ipc: bool,
    /// `shareProcessNamespace`: a PID namespace with pause as PID 1.
    pub share_pid: bool,
    /// `hostPID`: containers run in the host's PID namespace.
    pub host_pid: bool,
    /// Sysctls to write inside, by their dotted names.
    pub sysctls: BTreeMap<String, String>,
    /// Limits of the pod's cgroup.
    pub resources: Resources,
    /// Who makes what the pod's cgroup is in.
    #[serde(default)]
    pub cgroup_manager: CgroupManager,
    /// Input of the `network-up` and `network-down` tasks, which get the network namespace as
    /// descriptor 3; none with `hostNetwork`.
    pub network: Option<serde_json::Value>,
}

/// Who makes the group that a pod's cgroup is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupManager {
    /// The shim: `/hull` in each hierarchy.
    #[default]
    Cgroupfs,
    /// systemd: a delegated scope per pod in `hull.slice`.
    Systemd,
}

/// Limits and weights of a cgroup, in the units of cgroup v1 (the OCI runtime-spec's).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    /// `cpu.shares`, 2 to 262144; converted to a weight on v2.
    pub cpu_shares: Option<u64>,
    /// Microseconds per [`Resources::cpu_period`].
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
    /// Number of tasks.
    pub pids_limit: Option<i64>,
}

/// How an instance is created.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateConfig {
    /// Which.
    pub instance: InstanceId,
    /// 64 hex digits, the container's id towards users.
    pub id: String,
    /// Directory with `config.json`; the rootfs is mounted already.
    pub bundle: PathBuf,
    /// The CRI log file that stdout and stderr are written to; created if missing, appended to.
    pub log: PathBuf,
    /// The container has a standard input (`stdin: true`); else `/dev/null`.
    pub stdin: bool,
    /// Close stdin after the first attached client (`stdinOnce`).
    pub stdin_once: bool,
    /// The container has a terminal.
    pub tty: bool,
    /// Value for `oom_score_adj`, raised to the shim's own where lowering is not permitted.
    pub oom_score_adj: i32,
}

/// How a process is run in a running instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecConfig {
    /// Where.
    pub instance: InstanceId,
    /// Chosen by the supervisor, unique for its life.
    pub exec: u64,
    /// The command vector; `args[0]` is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// Variables on top of the container's own.
    pub env: Vec<String>,
    /// With a terminal of this many columns and rows.
    pub tty: Option<(u16, u16)>,
    /// SIGKILL it and all its descendants after this many milliseconds; its exit then says so.
    pub timeout_ms: Option<u64>,
    /// It is the preStop hook of the instance: every supervisor is told of it, and of its end.
    #[serde(default)]
    pub pre_stop: bool,
}

/// What the shim tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Report {
    /// The first message to every supervisor: what there is. When no sandbox exists yet the
    /// supervisor runs in the host's namespaces.
    Hello(Box<Inventory>),
    /// The one answer to a request.
    Done {
        /// The request's id.
        id: u64,
        /// How it went.
        result: Result<Answer, Failure>,
    },
    /// An instance's init process ended.
    Exited {
        /// Which.
        instance: InstanceId,
        /// How.
        exit: Ended,
    },
    /// An exec'd process ended.
    ExecExited {
        /// The `exec` of [`ExecConfig`].
        exec: u64,
        /// How.
        exit: Exit,
        /// It was killed at its time limit.
        timed_out: bool,
    },
    /// Pause ended although nobody asked.
    SandboxDied,
}

/// What exists when a supervisor starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// The sandbox, if pause lives.
    pub sandbox: Option<Sandbox>,
    /// Why the last attempt to make a sandbox failed.
    pub sandbox_failure: Option<String>,
    /// Every instance not yet forgotten.
    pub instances: Vec<Instance>,
    /// How often a supervisor was started for this pod by this shim, from 0.
    pub supervisor_starts: u32,
}

/// A living sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sandbox {
    /// Counts the pod's sandboxes, from 0.
    pub attempt: u32,
    /// Pid of pause, for display and for `/proc/<pid>/ns/*`.
    pub pid: i32,
    /// What `network-up` printed; none with `hostNetwork`.
    pub network: Option<serde_json::Value>,
}

/// One instance as the shim knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Which.
    pub instance: InstanceId,
    /// Its id towards users.
    pub id: String,
    /// Pid of its init process, for display.
    pub pid: i32,
    /// Where it stands.
    pub state: InstanceState,
    /// Its preStop hook, if that is a process and was started.
    #[serde(default)]
    pub pre_stop: Option<PreStop>,
}

/// A preStop hook that was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PreStop {
    /// It runs; its end comes as [`Report::ExecExited`].
    Running {
        /// The `exec` of [`ExecConfig`].
        exec: u64,
    },
    /// It ended.
    Ended(Exit),
}

/// Where an instance stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum InstanceState {
    /// Waiting for [`Command::Start`].
    Created,
    /// Running since then (nanoseconds since the Unix epoch).
    Running {
        /// Nanoseconds since the Unix epoch.
        started_at: i64,
    },
    /// Ended.
    Exited(Ended),
}

/// How and when an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Exit status or signal.
    pub exit: Exit,
    /// The kernel's out-of-memory killer took a process of its cgroup.
    pub oom_killed: bool,
    /// Nanoseconds since the Unix epoch; absent when it was created but never started.
    pub started_at: Option<i64>,
    /// Nanoseconds since the Unix epoch.
    pub finished_at: i64,
}

/// What a request brought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Answer {
    /// Nothing to tell.
    Ok,
    /// A host task ended.
    Task {
        /// Its exit.
        exit: Exit,
        /// What it printed on standard output, JSON by convention.
        stdout: String,
        /// What it printed on standard error: its error message.
        stderr: String,
    },
    /// An instance waits for its start.
    Created {
        /// Pid of its init process, for display.
        pid: i32,
    },
    /// An instance runs.
    Started {
        /// Nanoseconds since the Unix epoch.
        started_at: i64,
    },
    /// A process runs; with `tty` one descriptor comes along, the pty master.
    Exec {
        /// Its pid, for display.
        pid: i32,
    },
    /// Two descriptors come along; see [`Command::Attach`].
    Attached,
    /// One descriptor comes along.
    Socket,
    /// Usage of a cgroup.
    Statistics(Statistics),
}

/// Usage of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Statistics {
    /// Nanoseconds.
    pub cpu_usage: u64,
    /// Bytes.
    pub memory_usage: u64,
    /// Number of tasks.
    pub pids: u64,
}

/// Why a request failed. `message` is the whole chain of causes in one line, ready for an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Failure {
    /// There is no such instance, exec or sandbox, or it is not in the state that this needs.
    #[error("{message}")]
    State {
        /// What was asked of what.
        message: String,
    },
    /// The instance could not be created.
    #[error("{message}")]
    Create {
        /// Which step failed on what.
        message: String,
    },
    /// The process could not be executed: missing, not permitted, bad directory.
    #[error("{message}")]
    Start {
        /// Path and errno, in the words that callers of OCI runtimes know.
        message: String,
    },
    /// Anything else.
    #[error("{message}")]
    Other {
        /// Which operation on what.
        message: String,
    },
}
