//! Containers that are started as soon as they are made.

use std::cell::Cell;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use super::*;
use crate::container::engine::at_once::{self, Recorder};
use crate::container::engine::plan::Start;
use crate::procfs;

type Started = (Result<process::Child, Failure>, OwnedFd);

impl Bundle {
    fn at_once(script: &str) -> Option<Self> {
        let mut bundle = Self::new(script)?;
        bundle.start = Start::Now;
        Some(bundle)
    }

    /// Starts it, and where its output is to be read.
    fn start_at_once(&self, write: &dyn Fn(i32, u64) -> nix::Result<()>) -> Started {
        self.start_recorded(&File::open(&self.directory).unwrap(), write)
    }

    fn start_recorded(&self, directory: &File, write: &dyn Fn(i32, u64) -> nix::Result<()>) -> Started {
        let (read, output) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        let entry = Entry::default();
        let request = self.request(Stdio::Files([null, output.try_clone().unwrap(), output]), &entry);
        assert!(request.plan.at_once);
        (at_once::start(request, Recorder { directory: directory.as_fd(), write }), read)
    }
}

fn told(read: OwnedFd) -> String {
    let mut output = String::new();
    File::from(read).read_to_string(&mut output).unwrap();
    output
}

#[test]
fn a_container_is_recorded_before_its_program_runs() {
    let Some(bundle) = Bundle::at_once("echo $$; busybox hostname; busybox ls /proc/self/fd; exit 3") else {
        return;
    };
    let recorded = Cell::new(None);
    let directory = File::open(&bundle.directory).unwrap();
    let write = |pid, start_time| {
        recorded.set(Some((pid, start_time)));
        // The root is the container's by now, and the directory is still there.
        let flags = OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        openat(&directory, "record", flags, Mode::S_IRUSR)?;
        assert!(openat(AT_FDCWD, "/bin/busybox", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).is_ok());
        Ok(())
    };
    let (child, read) = bundle.start_recorded(&directory, &write);
    let child = child.unwrap();
    assert_eq!(recorded.get(), procfs::start_time(child.pid).map(|time| (child.pid, time)));
    assert!(bundle.directory.join("record").exists());
    assert_eq!(told(read), "1\ninside\n0\n1\n2\n3\n");
    assert_eq!(await_end(&child.pidfd), Some(Exit::Code(3)));
}

#[test]
fn every_step_that_fails_is_named_and_leaves_nothing() {
    let Some(mut bundle) = Bundle::at_once("echo started") else { return };
    let plan = bundle.plan(&bundle.spec(), &Vector::new(Vec::new())).unwrap();
    for step in 0..plan.steps.len() {
        bundle.fault = Some(Fault { step, errno: Errno::EUCLEAN });
        let (started, read) = bundle.start_at_once(&|_, _| Ok(()));
        let failure = started.unwrap_err();
        assert_eq!((failure.step, failure.errno), (Some(step), Some(Errno::EUCLEAN)), "{failure}");
        assert_eq!(failure.message, format!("{}: structure needs cleaning", plan.describe(step)));
        // Nobody has the other end.
        assert_eq!(told(read), "");
    }
}

#[test]
fn a_container_that_cannot_be_recorded_does_not_start() {
    let Some(bundle) = Bundle::at_once("echo started") else { return };
    let (started, read) = bundle.start_at_once(&|_, _| Err(Errno::ENOSPC));
    assert_eq!(started.unwrap_err().message, "record that it runs: no space left on device");
    assert_eq!(told(read), "");
}

#[test]
fn a_program_that_cannot_be_executed_says_why() {
    let Some(bundle) = Bundle::at_once("") else { return };
    let bundle = bundle.with(|config| config["process"]["args"] = json!(["/bin"]));
    let (started, read) = bundle.start_at_once(&|_, _| Ok(()));
    let expected = "unable to start container process: exec: \"/bin\": permission denied";
    assert_eq!(started.unwrap_err().message, expected);
    assert_eq!(told(read), "");
}

#[test]
fn an_init_that_is_killed_by_its_filter_is_told_from_one_that_executes() {
    let Some(bundle) = Bundle::at_once("true") else { return };
    // Without no_new_privs the filter is in force while capabilities are dropped.
    let bundle = bundle.with(|config| {
        config["process"]["noNewPrivileges"] = json!(false);
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["capset"], "action": "SCMP_ACT_KILL_PROCESS"}],
        });
    });
    let (started, _) = bundle.start_at_once(&|_, _| Ok(()));
    let message = started.unwrap_err().message;
    assert_eq!(message, format!("its init was killed by signal {}", libc::SIGSYS));
}

#[test]
fn whoever_has_a_part_in_the_making_keeps_a_container_from_starting_at_once() {
    let device = json!({"eth0": {}});
    let limit = json!({"memory": {"limit": 1 << 20}});
    let maps = json!([{"containerID": 0, "hostID": 0, "size": 1}]);
    let user = json!({
        "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "user"}], "uidMappings": maps, "gidMappings": maps,
    });
    let network = json!({"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}], "netDevices": device});
    let changes: [(&str, Value); 9] = [
        ("/linux/resources", limit),
        ("/linux", user),
        ("/linux", network),
        ("/process/terminal", json!(true)),
        ("/hooks", json!({"createContainer": [{"path": "/bin/true"}]})),
        ("/hooks", json!({"startContainer": [{"path": "/bin/true"}]})),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "pid"}, {"type": "ipc", "path": "/proc/self/ns/ipc"}]),
        ),
        ("/linux/namespaces", json!([{"type": "mount"}])),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "pid"}, {"type": "time"}])),
    ];
    for (field, value) in changes {
        let Some(mut bundle) = Bundle::at_once("true") else { return };
        bundle.config["hooks"] = json!({});
        bundle.config["linux"]["resources"] = json!({});
        bundle.config["process"]["terminal"] = json!(false);
        let plan = |bundle: &Bundle| bundle.plan(&bundle.spec(), &Vector::new(Vec::new())).unwrap();
        assert!(plan(&bundle).at_once);
        bundle.config["linux"]["sysctl"] = json!({});
        bundle.config["hostname"] = json!("");
        *bundle.config.pointer_mut(field).unwrap() = value.clone();
        let plan = plan(&bundle);
        assert!(!plan.at_once, "{field} {value}");
        assert!(!plan.steps.contains(&super::super::step::Step::Record), "{field} {value}");
    }
}

#[test]
fn an_init_of_another_user_has_that_users_rights() {
    let Some(bundle) = Bundle::at_once("busybox id -u; busybox grep CapBnd /proc/self/status") else {
        return;
    };
    let bundle = bundle.with(|config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
    });
    let (started, read) = bundle.start_at_once(&|_, _| Ok(()));
    let child = started.unwrap();
    assert_eq!(told(read), "1000\nCapBnd:\t0000000000000000\n");
    assert_eq!(await_end(&child.pidfd), Some(Exit::Code(0)));
}
