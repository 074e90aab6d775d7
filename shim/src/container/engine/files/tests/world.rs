//! What the tests have in common: a private place on the host, and a child that performs a plan.

use std::ffi::CStr;
use std::io::Read as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::super::{
    Abilities, Base, ChangeRoot, Covers, Groups, Known, Opened, Plan, Rights, Root, Step, Users, plan,
};
use crate::container::engine::failed::{Doing, Failed};
use crate::guard::{self, Guard};
use crate::sys::{clock, process};

/// Set in a test program that is in its namespaces already.
const INSIDE: &str = "HULL_FILES_TEST";

/// Runs `body` in a test program of its own, in new namespaces, with `/mnt` empty and private.
pub(super) fn isolate(name: &str, body: fn()) {
    if std::env::var(INSIDE).is_ok_and(|inside| inside == name) {
        return body();
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: mounts need root");
        return;
    }
    let script = "mount -t tmpfs tmpfs /mnt && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--net"])
        .args(["sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(INSIDE, name)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    print!("{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("1 passed"), "no test has the name {name}");
}

/// Defines a test that runs isolated.
macro_rules! isolated {
    ($($(#[$attribute:meta])* fn $name:ident() $body:block)*) => {$(
        #[test]
        $(#[$attribute])*
        fn $name() {
            let path = concat!(module_path!(), "::", stringify!($name));
            let path = path.split_once("::").unwrap().1;
            $crate::container::engine::files::tests::world::isolate(path, || $body);
        }
    )*};
}
pub(super) use isolated;

/// One container to be.
pub(super) struct World {
    pub(super) config: Value,
    pub(super) users: Users,
    pub(super) rights: Rights,
    pub(super) change: ChangeRoot,
    pub(super) base: Base,
    pub(super) kernel: Abilities,
    pub(super) groups: Vec<(String, PathBuf)>,
    /// The container's group, where the host is one of v2.
    pub(super) unified: Option<PathBuf>,
    pub(super) without: Vec<Guard>,
    /// Nanoseconds of each step are told instead of a look inside.
    pub(super) timed: bool,
    pub(super) covers: Rc<Covers>,
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All steps and the look inside.
    Fine,
    /// A step failed.
    Failed(String, Doing, Errno),
    /// The look inside.
    Wrong(String),
}

pub(super) const ROOT: &str = "/mnt/rootfs";

/// A root file system with the directories that images have.
pub(super) fn world() -> World {
    for directory in ["proc", "sys", "dev", "etc", "tmp", "data"] {
        std::fs::create_dir_all(Path::new(ROOT).join(directory)).unwrap();
    }
    std::fs::create_dir_all("/mnt/host").unwrap();
    std::fs::create_dir_all("/mnt/volume").unwrap();
    let planned = planned();
    let Abilities { set_attributes, copy_with_attributes, .. } = Abilities::probe();
    let kernel = Abilities { set_attributes, copy_with_attributes, ..planned.kernel };
    World { kernel, ..planned }
}

/// A container that is only planned.
pub(super) fn planned() -> World {
    World {
        config: config(),
        users: Users::Host,
        rights: Rights::Root,
        change: ChangeRoot::Pivot,
        base: Base::Host,
        kernel: Abilities {
            set_attributes: true,
            copy_with_attributes: false,
            kcore: true,
            procfs_by_namespace: false,
        },
        groups: vec![],
        unified: None,
        without: vec![],
        timed: false,
        covers: Rc::new(Covers::default()),
    }
}

fn config() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "root": { "path": "rootfs" },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
        ],
        "linux": {
            "namespaces": [{ "type": "mount" }],
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/acpi", "/proc/timer_list", "/proc/scsi",
                "/proc/asound", "/proc/latency_stats", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

impl World {
    pub(super) fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        let entry = json!({ "destination": destination, "type": kind, "source": source, "options": options });
        self.config["mounts"].as_array_mut().unwrap().push(entry);
    }

    pub(super) fn plan(&self) -> Result<Plan, String> {
        let spec: Spec = serde_json::from_value(self.config.clone()).unwrap();
        plan(&spec, &self.known()).map_err(|error| error.to_string())
    }

    fn known(&self) -> Known<'_> {
        Known {
            root: Path::new(ROOT),
            bundle: Path::new("/mnt"),
            groups: self.unified.as_deref().map_or(Groups::V1(&self.groups), Groups::V2),
            users: self.users,
            rights: self.rights,
            change: self.change,
            base: self.base,
            joins_last: false,
            kernel: self.kernel,
        }
    }

    /// Makes it, and looks at it from inside.
    pub(super) fn run(&self, look: fn() -> Result<(), String>) -> Outcome {
        self.run_in(CloneFlags::CLONE_NEWNS, look)
    }

    pub(super) fn run_in(&self, flags: CloneFlags, look: fn() -> Result<(), String>) -> Outcome {
        let plan = self.plan().unwrap();
        guard::take_out(&self.without);
        let outcome = self.perform(&plan, flags, look);
        guard::take_out(&[]);
        outcome
    }

    fn perform(&self, plan: &Plan, flags: CloneFlags, look: fn() -> Result<(), String>) -> Outcome {
        let failed = |what: String| move |failed: Failed| Outcome::Failed(what, failed.doing, failed.errno);
        let root = match Root::prepare(plan, self.covers.clone()) {
            Ok(root) => root,
            Err(error) => return failed("prepare".to_owned())(error),
        };
        let mut opened = Vec::new();
        for step in plan.steps() {
            match step.open(None) {
                Ok(one) => opened.push(one),
                Err(error) => return failed(step.to_string())(error),
            }
        }
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let (go_read, go_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let timed = self.timed;
        let job = Job { plan, opened, root, look, timed, report: write, go: go_read };
        let child = process::spawn(flags, None, &job, act).unwrap();
        drop(job);
        if flags.contains(CloneFlags::CLONE_NEWUSER) {
            for file in ["uid_map", "gid_map"] {
                std::fs::write(format!("/proc/{}/{file}", child.pid), "0 0 100000").unwrap();
            }
        }
        nix::unistd::write(&go_write, b"x").unwrap();
        let mut answer = String::new();
        std::fs::File::from(read).read_to_string(&mut answer).unwrap();
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(child.pid), None).unwrap();
        understood(plan, &answer)
    }
}

fn understood(plan: &Plan, answer: &str) -> Outcome {
    if answer == "fine" {
        return Outcome::Fine;
    }
    let parts: Vec<&str> = answer.splitn(4, ' ').collect();
    match parts[..] {
        ["step", index, doing, errno] => {
            let step = plan.steps().nth(index.parse().unwrap()).unwrap();
            let doing = Doing::from_number(doing.parse().unwrap());
            Outcome::Failed(step.to_string(), doing, Errno::from_raw(errno.parse().unwrap()))
        }
        _ => Outcome::Wrong(answer.to_owned()),
    }
}

const MOST_STEPS: usize = 64;

struct Job<'a> {
    plan: &'a Plan,
    opened: Vec<Opened>,
    root: Root,
    look: fn() -> Result<(), String>,
    timed: bool,
    report: OwnedFd,
    go: OwnedFd,
}

fn act(job: &Job<'_>) -> ! {
    assert!(process::await_byte(job.go.as_raw_fd()));
    let mut failed = None;
    let mut times = [0; MOST_STEPS];
    for (index, (step, opened)) in job.plan.steps().zip(&job.opened).enumerate() {
        let before = clock::monotonic();
        if let Err(error) = step.perform(opened, &job.root) {
            failed = Some((index, error));
            break;
        }
        times[index] = clock::monotonic() - before;
    }
    let answer = match failed {
        Some((index, error)) => {
            let doing = error.doing as u8;
            format!("step {index} {doing} {}", error.errno as i32)
        }
        None if job.timed => times.map(|time| time.to_string()).join(" "),
        None => match std::panic::catch_unwind(job.look) {
            Ok(Ok(())) => "fine".to_owned(),
            Ok(Err(why)) => why,
            Err(_) => "the look inside panicked".to_owned(),
        },
    };
    process::report(job.report.as_fd().as_raw_fd(), answer.as_bytes());
    process::leave(0)
}

/// An error unless `condition`.
pub(super) fn ensure(condition: bool, what: &str) -> Result<(), String> {
    if condition { Ok(()) } else { Err(what.to_owned()) }
}

/// The line of mountinfo for the topmost mount at `point`: its options, optional fields and file system.
pub(super) fn mounted(point: &str) -> Result<String, String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let found = table.lines().rfind(|line| line.split(' ').nth(4) == Some(point));
    found
        .map(|line| line.split(' ').skip(5).collect::<Vec<_>>().join(" "))
        .ok_or(format!("no mount on {point}"))
}

/// Every step that a plan has, in words.
pub(super) fn words(plan: &Plan) -> Vec<String> {
    plan.steps().map(Step::to_string).collect()
}

/// Mounts something on the host's side of the test.
pub(super) fn mount_on(path: &str) {
    std::fs::create_dir_all(path).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, None::<&CStr>).unwrap();
}
