//! Every command and flag, as runc has them (oci-runtime.md section 2).

use super::parse::{Flag, Order, Takes};

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Just so many.
    Exactly(usize),
    /// So many or more.
    AtLeast(usize),
    /// From the first to the second number.
    Between(usize, usize),
}

/// One command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Checkpoint,
    Create,
    Delete,
    Events,
    Exec,
    Features,
    Kill,
    List,
    Pause,
    Ps,
    Restore,
    Resume,
    Run,
    Spec,
    Start,
    State,
    Update,
}

/// What the command line may be.
#[derive(Debug)]
pub(crate) struct Command {
    /// Which.
    pub(crate) verb: Verb,
    /// How it is called.
    pub(crate) name: &'static str,
    /// Its arguments, for `--help`.
    pub(crate) arguments: &'static str,
    /// How many of them.
    pub(crate) count: Count,
    /// Where its flags stand.
    pub(crate) order: Order,
    /// For `--help`.
    pub(crate) about: &'static str,
    /// Its flags.
    pub(crate) flags: &'static [Flag],
}

impl Command {
    /// The command of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| command.name == name)
    }
}

const fn switch(name: &'static str, about: &'static str) -> Flag {
    Flag { name, short: "", takes: Takes::Nothing, about }
}

const fn value(name: &'static str, about: &'static str) -> Flag {
    Flag { name, short: "", takes: Takes::Value, about }
}

const fn values(name: &'static str, about: &'static str) -> Flag {
    Flag { name, short: "", takes: Takes::Values, about }
}

const fn short(short: &'static str, flag: Flag) -> Flag {
    Flag { short, ..flag }
}

/// Flags before the command.
pub(crate) const GLOBAL: &[Flag] = &[
    switch("debug", "log what is done"),
    value("log", "file that messages go to (default: standard error)"),
    value("log-format", "'text' (default) or 'json'"),
    value("root", "directory for the state of containers"),
    value("criu", ""),
    switch("systemd-cgroup", "have systemd make cgroups; cgroupsPath is then slice:prefix:name"),
    value("rootless", "ignore what cgroups refuse: 'true', 'false' or 'auto' (default)"),
    short("v", switch("version", "print the version")),
];

const BUNDLE: Flag =
    short("b", value("bundle", "directory with config.json (default: the working directory)"));
const CONSOLE: Flag = value("console-socket", "unix socket that the terminal's master is sent to");
const PIDFD: Flag = value("pidfd-socket", "unix socket that a descriptor of the process is sent to");
const PID_FILE: Flag = value("pid-file", "file to write the process id to");
const NO_PIVOT: Flag = switch("no-pivot", "move the root file system instead of pivot_root, for a ramdisk");
const NO_KEYRING: Flag = switch("no-new-keyring", "keep the caller's session keyring");
const PRESERVE: Flag = value("preserve-fds", "pass on so many descriptors after those of LISTEN_FDS");
const DETACH: Flag = short("d", switch("detach", "do not wait for the process"));
const NO_SUBREAPER: Flag = switch("no-subreaper", "do not adopt orphans of the container");
const DRY_RUN: Flag = switch("dry-run", "print what would be done, and do nothing");
const FORMAT: Flag = short("f", value("format", "'table' or 'json'"));

const CREATE: &[Flag] = &[BUNDLE, CONSOLE, PIDFD, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE, DRY_RUN];
const RUN: &[Flag] = &[
    BUNDLE,
    CONSOLE,
    PIDFD,
    DETACH,
    switch("keep", "do not delete the container when it ends"),
    PID_FILE,
    NO_SUBREAPER,
    NO_PIVOT,
    NO_KEYRING,
    PRESERVE,
    DRY_RUN,
];
const EXEC: &[Flag] = &[
    CONSOLE,
    PIDFD,
    value("cwd", "working directory in the container"),
    short("e", values("env", "set a variable, NAME=VALUE")),
    short("t", switch("tty", "give the process a terminal")),
    short("u", value("user", "UID[:GID]")),
    short("g", values("additional-gids", "supplementary groups")),
    short("p", value("process", "file with the process as JSON")),
    DETACH,
    PID_FILE,
    value("process-label", "SELinux label of the process"),
    value("apparmor", "AppArmor profile of the process"),
    switch("no-new-privs", "set no_new_privs"),
    short("c", values("cap", "add a capability")),
    PRESERVE,
    values("cgroup", "an existing group below the container's: [CONTROLLER[,CONTROLLER...]:]PATH"),
    switch("ignore-paused", "also in a paused container"),
];
const CHECKPOINT: &[Flag] = &[
    value("image-path", "directory of the checkpoint"),
    value("work-path", "directory for logs"),
    value("parent-path", "directory of the pre-dump, relative to the image path"),
    switch("leave-running", "let the container run on"),
    switch("tcp-established", "with open TCP connections"),
    switch("tcp-skip-in-flight", "without TCP connections that are being opened"),
    switch("link-remap", "with deleted files that are still linked"),
    switch("ext-unix-sk", "with unix sockets that lead outside"),
    switch("shell-job", "with a shell's job"),
    switch("lazy-pages", "restore memory on demand"),
    value("status-fd", "descriptor that is told when lazy pages are ready"),
    value("page-server", "ADDRESS:PORT of a page server"),
    switch("file-locks", "with file locks"),
    switch("pre-dump", "memory only, and let the container run on"),
    value("manage-cgroups-mode", "'soft', 'full', 'strict' or 'ignore'"),
    values("empty-ns", "make this namespace, but restore nothing in it"),
    switch("auto-dedup", "share memory images"),
];
const RESTORE: &[Flag] = &[
    CONSOLE,
    value("image-path", "directory of the checkpoint"),
    value("work-path", "directory for logs"),
    switch("tcp-established", "with open TCP connections"),
    switch("tcp-close", "close TCP connections"),
    switch("ext-unix-sk", "with unix sockets that lead outside"),
    switch("shell-job", "with a shell's job"),
    switch("file-locks", "with file locks"),
    value("manage-cgroups-mode", "'soft', 'full', 'strict' or 'ignore'"),
    BUNDLE,
    DETACH,
    PID_FILE,
    NO_SUBREAPER,
    NO_PIVOT,
    values("empty-ns", "make this namespace, but restore nothing in it"),
    switch("auto-dedup", "share memory images"),
    switch("lazy-pages", "restore memory on demand"),
    value("lsm-profile", "TYPE:NAME of the profile to restore with"),
    value("lsm-mount-context", "SELinux context of the mounts"),
];
const UPDATE: &[Flag] = &[
    short("r", value("resources", "JSON file with resources, or '-'; other flags are then ignored")),
    value("blkio-weight", "weight of block I/O, 10 to 1000"),
    value("cpu-period", "CPU period in microseconds"),
    value("cpu-quota", "CPU time per period in microseconds"),
    value("cpu-burst", "CPU time that may be saved up, in microseconds"),
    value("cpu-share", "CPU shares"),
    value("cpu-rt-period", "CPU real-time period in microseconds"),
    value("cpu-rt-runtime", "CPU real-time per period in microseconds"),
    value("cpuset-cpus", "CPUs to use"),
    value("cpuset-mems", "memory nodes to use"),
    value("kernel-memory", ""),
    value("kernel-memory-tcp", ""),
    value("memory", "limit of memory in bytes"),
    value("cpu-idle", "1 for SCHED_IDLE"),
    value("memory-reservation", "soft limit of memory in bytes"),
    value("memory-swap", "limit of memory and swap in bytes, -1 for none"),
    value("pids-limit", "limit of processes"),
    value("l3-cache-schema", "Intel RDT L3 cache schema"),
    value("mem-bw-schema", "Intel RDT memory bandwidth schema"),
];

const ONE: Count = Count::Exactly(1);
const NONE: Count = Count::Exactly(0);

const fn command(
    verb: Verb,
    (name, arguments): (&'static str, &'static str),
    count: Count,
    about: &'static str,
    flags: &'static [Flag],
) -> Command {
    let order = match verb {
        // `ps` hands its options on, `exec` a whole command line.
        Verb::Exec | Verb::Ps => Order::First,
        _ => Order::Anywhere,
    };
    Command { verb, name, arguments, count, order, about, flags }
}

/// All commands.
pub(crate) static COMMANDS: &[Command] = &[
    command(Verb::Checkpoint, ("checkpoint", ID), ONE, "checkpoint a running container", CHECKPOINT),
    command(Verb::Create, ("create", ID), ONE, "create a container", CREATE),
    command(
        Verb::Delete,
        ("delete", ID),
        ONE,
        "delete any resources held by the container",
        &[short("f", switch("force", "kill the container if it is still running"))],
    ),
    command(
        Verb::Events,
        ("events", ID),
        ONE,
        "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
        &[value("interval", "time between statistics (default: 5s)"), switch("stats", "statistics once")],
    ),
    command(
        Verb::Exec,
        ("exec", "<container-id> <command> [command options]  || -p process.json <container-id>"),
        Count::AtLeast(1),
        "execute new process inside the container",
        EXEC,
    ),
    command(Verb::Features, ("features", ""), NONE, "show the enabled features", &[]),
    command(
        Verb::Kill,
        ("kill", "<container-id> [signal]"),
        Count::Between(1, 2),
        "send the specified signal (default: SIGTERM) to the container's init process",
        &[short("a", switch("all", ""))],
    ),
    command(
        Verb::List,
        ("list", ""),
        NONE,
        "list containers started with the given root",
        &[FORMAT, short("q", switch("quiet", "only container ids"))],
    ),
    command(Verb::Pause, ("pause", ID), ONE, "suspend all processes inside the container", &[]),
    command(
        Verb::Ps,
        ("ps", "<container-id> [ps options]"),
        Count::AtLeast(1),
        "display the processes running inside a container",
        &[FORMAT],
    ),
    command(Verb::Restore, ("restore", ID), ONE, "restore a container from a previous checkpoint", RESTORE),
    command(Verb::Resume, ("resume", ID), ONE, "resume all processes that have been paused", &[]),
    command(Verb::Run, ("run", ID), ONE, "create and run a container", RUN),
    command(
        Verb::Spec,
        ("spec", ""),
        NONE,
        "create a new specification file",
        &[
            short("b", value("bundle", "directory to write config.json to")),
            switch("rootless", "for a rootless container"),
        ],
    ),
    command(Verb::Start, ("start", ID), ONE, "execute the user defined process in a created container", &[]),
    command(Verb::State, ("state", ID), ONE, "output the state of a container", &[]),
    command(Verb::Update, ("update", ID), ONE, "update container resource constraints", UPDATE),
];

const ID: &str = "<container-id>";
