//! The engine against the real kernel: whole containers, seen from inside, without a shim.

mod at_once;
mod hooks;
mod namespaces;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::failure::Failure;
use super::files::{Abilities, Base, ChangeRoot, Covers};
use super::gate::Outcome;
use super::plan::{CgroupView, Keyring, MakerRights, Start};
use super::request::Fault;
use super::{Gate, Known, Making, Plan, Progress, Request, Stdio, begin};
use crate::cgroup::Entry;
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::sys::process::{self, Vector};
use crate::wire::Exit;

/// Longer than anything here takes, in milliseconds.
const PATIENCE: u16 = 20_000;

/// A bundle in a directory of its own.
struct Bundle {
    directory: PathBuf,
    config: Value,
    fault: Option<Fault>,
    outlives_maker: bool,
    start: Start,
}

/// What a container did.
#[derive(Debug)]
struct Ran {
    output: String,
    exit: Option<Exit>,
}

impl Bundle {
    /// A container that runs a shell script; none where tests cannot make one.
    fn new(script: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
            println!("skipped: needs root and /bin/busybox");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("hull-engine-{}-{number}", std::process::id()));
        for name in ["bin", "dev", "proc", "sys", "tmp"] {
            std::fs::create_dir_all(directory.join("rootfs").join(name)).unwrap();
        }
        copy_busybox(&directory.join("rootfs/bin"));
        std::os::unix::fs::symlink("busybox", directory.join("rootfs/bin/sh")).unwrap();
        let config = configuration(script);
        Some(Self { directory, config, fault: None, outlives_maker: false, start: Start::Later })
    }

    fn with(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    fn spec(&self) -> Spec {
        serde_json::from_value(self.config.clone()).unwrap()
    }

    fn plan(&self, spec: &Spec, container: &Vector) -> Result<Plan, super::plan::Error> {
        let known = Known {
            id: "web",
            bundle: &self.directory,
            sandbox: None,
            cgroup: CgroupView::V1(Vec::new()),
            maker: MakerRights::Root,
            kernel: Abilities::probe(),
            root: &self.directory.join("rootfs"),
            change_root: ChangeRoot::Pivot,
            base: Base::Host,
            keyring: Keyring::New,
            start: self.start,
        };
        let own = || Vector::new(vec![c"PATH=/bin:/usr/bin".into()]);
        Plan::new(spec, &known, &own, container)
    }

    fn begin(&self, stdio: Stdio) -> Result<(Making, Rc<Identity>, Rc<Program>), Failure> {
        let entry = Entry::default();
        let request = self.request(stdio, &entry);
        let (identity, program) = (Rc::clone(&request.identity), Rc::clone(&request.program));
        Ok((begin(request, Gate::make(&self.directory).unwrap())?, identity, program))
    }

    fn request<'a>(&self, stdio: Stdio, cgroup: &'a Entry) -> Request<'a> {
        let spec = self.spec();
        let identity = Rc::new(Identity::new(&spec, &self.directory.join("rootfs"), None).unwrap());
        let args = spec.process().as_ref().unwrap().args().clone().unwrap();
        let program = Rc::new(Program::new(&identity, &args, &[]).unwrap());
        let mut plan = self.plan(&spec, &program.environment).unwrap();
        plan.outlives_maker = self.outlives_maker;
        Request {
            plan: Rc::new(plan),
            identity,
            program,
            stdio,
            cgroup,
            sandbox: None,
            mounts: None,
            preserved: 0,
            looks_up: false,
            covers: Rc::<Covers>::default(),
            procfs: None,
            fault: self.fault,
        }
    }

    /// Makes it, starts it, and waits for its end.
    fn run(&self) -> Result<Ran, String> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let stdio = Stdio::Files([null(), write.try_clone().unwrap(), write]);
        let (making, identity, program) = self.begin(stdio).map_err(|failure| failure.message)?;
        let created = finish(making).map_err(|failure| failure.message)?;
        let (_, pidfd, _) = created.release();
        let result = self.start();
        let mut output = String::new();
        File::from(read).read_to_string(&mut output).unwrap();
        let exit = await_end(&pidfd);
        match result {
            Outcome::Failed(problem) => Err(program.explain(&identity, problem)),
            Outcome::Executed | Outcome::Waiting => Ok(Ran { output, exit }),
        }
    }

    fn start(&self) -> Outcome {
        let result = Gate::listen(&self.directory).unwrap();
        Gate::open(&self.directory).unwrap();
        loop {
            assert!(is_readable(&result), "the init says nothing");
            match Gate::outcome(&result) {
                Outcome::Waiting => {}
                outcome => return outcome,
            }
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

/// By another process: what a test beside this one forks would keep the copy open for writing, too busy to be executed.
fn copy_busybox(directory: &Path) {
    let status = std::process::Command::new("cp").arg("/bin/busybox").arg(directory).status();
    assert!(status.unwrap().success());
}

fn finish(mut making: Making) -> Result<super::Created, Failure> {
    let pidfd = crate::sys::pidfd::open(making.pid()).unwrap();
    loop {
        let pid = making.pid();
        assert!(is_readable(&making.descriptor()), "the init says nothing: {}", looks(pid));
        match making.advance() {
            Ok(Progress::Waiting) => {}
            Ok(Progress::Created(created)) => return Ok(created),
            Err(failure) => {
                drop(making);
                await_end(&pidfd);
                return Err(failure);
            }
        }
    }
}

/// What the kernel tells of a process that hangs.
fn looks(pid: i32) -> String {
    let read = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    ["stat", "wchan", "syscall", "stack"].map(read).join("\n")
}

fn is_readable(descriptor: &impl AsFd) -> bool {
    poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], PATIENCE).unwrap() > 0
}

fn await_end(pidfd: &OwnedFd) -> Option<Exit> {
    assert!(is_readable(pidfd), "the init does not end");
    process::reap_child(pidfd.as_fd())
}

fn configuration(script: &str) -> Value {
    let mut config: Value =
        serde_json::from_str(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/config.json")))
            .unwrap();
    config["hostname"] = json!("inside");
    config["process"] = json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/made/here",
        "noNewPrivileges": true,
    });
    config["linux"]["sysctl"] = json!({"net.ipv4.ip_unprivileged_port_start": "7"});
    config["linux"]["maskedPaths"] = json!(["/proc/keys"]);
    config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
    config
}

#[test]
fn a_container_has_what_its_configuration_says() {
    let script = "busybox hostname; busybox cat /proc/sys/kernel/domainname; echo $$; busybox pwd; \
        busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start; busybox ls /proc/self/fd; \
        busybox ifconfig lo | busybox grep -c UP; echo x 2>&- >/proc/sys/kernel/domainname || echo sealed";
    let Some(bundle) = Bundle::new(script) else { return };
    let bundle = bundle.with(|config| config["domainname"] = json!("domain"));
    let ran = bundle.run().unwrap();
    assert_eq!(ran.output, "inside\ndomain\n1\n/made/here\n7\n0\n1\n2\n3\n1\nsealed\n");
    assert_eq!(ran.exit, Some(Exit::Code(0)));
}

#[test]
fn a_program_that_cannot_be_executed_says_why() {
    let Some(bundle) = Bundle::new("") else { return };
    let bundle = bundle.with(|config| config["process"]["args"] = json!(["nothing"]));
    let error = bundle.run().unwrap_err();
    assert_eq!(
        error,
        "unable to start container process: exec: \"nothing\": executable file not found in $PATH"
    );
    assert!(nobody_waits(&bundle.directory));
}

/// Whether no init waits at the gate, or soon does not: what a test beside this one forks has our descriptors for a moment.
fn nobody_waits(directory: &Path) -> bool {
    (0..500).any(|_| {
        let gone = Gate::open(directory) == Err(Errno::ENXIO);
        if !gone {
            // An interrupted wait is a short one.
            crate::harmless(poll(&mut [], 10_u16));
        }
        gone
    })
}

#[test]
fn every_step_that_fails_is_named_and_leaves_nothing() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    let spec = bundle.spec();
    let plan = bundle.plan(&spec, &Vector::new(Vec::new())).unwrap();
    let mounts = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count();
    let before = mounts();
    for step in 0..plan.steps.len() {
        bundle.fault = Some(Fault { step, errno: Errno::EUCLEAN });
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let begun = bundle.begin(Stdio::Files([null(), null(), null()]));
        let failure = begun.and_then(|(making, ..)| finish(making).map(drop)).unwrap_err();
        assert_eq!((failure.step, failure.errno), (Some(step), Some(Errno::EUCLEAN)), "{failure}");
        let expected = format!("{}: structure needs cleaning", plan.describe(step));
        assert_eq!(failure.message, expected);
        assert!(nobody_waits(&bundle.directory), "an init still waits");
    }
    assert_eq!(mounts(), before);
    bundle.fault = None;
    assert_eq!(bundle.run().unwrap().exit, Some(Exit::Code(0)));
}

#[test]
fn a_plan_reads_as_it_is_recorded() {
    let Some(mut bundle) = Bundle::new("true") else { return };
    std::fs::remove_dir_all(&bundle.directory).unwrap();
    bundle.directory = "/bundle".into();
    let spec = bundle.spec();
    let text = bundle.plan(&spec, &Vector::new(Vec::new())).unwrap().to_string();
    // A kernel that has the file gets one link more, at the end of the others.
    let link = ", core -> /proc/kcore";
    assert_eq!(text.contains(link), Path::new("/proc/kcore").exists(), "{text}");
    let text = text.replace(link, "");
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plan.txt");
    if std::env::var_os("HULL_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&golden).unwrap(), "{}", golden.display());
}

#[test]
fn a_terminal_is_the_containers_own() {
    let script = "busybox tty; busybox stty size; busybox test -c /dev/console && echo console";
    let Some(bundle) = Bundle::new(script) else { return };
    let bundle = bundle.with(|config| {
        config["process"]["terminal"] = json!(true);
        config["process"]["consoleSize"] = json!({"height": 31, "width": 97});
    });
    let (making, ..) = bundle.begin(Stdio::Terminal).unwrap();
    let (_, pidfd, master) = finish(making).unwrap().release();
    assert_eq!(bundle.start(), Outcome::Executed);
    let mut master = File::from(master.unwrap());
    let (mut output, mut buffer) = (Vec::new(), [0; 512]);
    // EIO: the container has gone.
    while let Ok(length @ 1..) = master.read(&mut buffer) {
        output.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(await_end(&pidfd), Some(Exit::Code(0)));
    assert_eq!(String::from_utf8(output).unwrap(), "/dev/pts/0\r\n31 97\r\nconsole\r\n");
}

#[test]
fn a_filter_that_notifies_hands_its_listener_over() {
    let Some(bundle) = Bundle::new("true") else { return };
    let socket = bundle.directory.join("agent.sock");
    let agent = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let bundle = bundle.with(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": socket,
            "listenerMetadata": "about",
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
        });
    });
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let (making, ..) = bundle.begin(Stdio::Files([null(), null(), null()])).unwrap();
    let (pid, pidfd, _) = finish(making).unwrap().release();
    assert_eq!(bundle.start(), Outcome::Executed);
    let (stream, _) = agent.accept().unwrap();
    assert!(is_readable(&stream));
    let mut buffer = [0; 4096];
    let mut space = nix::cmsg_space!([i32; 4]);
    let mut parts = [std::io::IoSliceMut::new(&mut buffer)];
    let flags = nix::sys::socket::MsgFlags::MSG_CMSG_CLOEXEC;
    let received =
        nix::sys::socket::recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags).unwrap();
    let descriptors: Vec<_> = received.cmsgs().unwrap().collect();
    let length = received.bytes;
    let state: Value = serde_json::from_slice(&buffer[..length]).unwrap();
    assert_eq!((&state["pid"], &state["state"]["pid"]), (&json!(pid), &json!(pid)));
    assert_eq!((&state["metadata"], &state["fds"]), (&json!("about"), &json!(["seccompFd"])));
    assert_eq!(descriptors.len(), 1);
    assert_eq!(await_end(&pidfd), Some(Exit::Code(0)));
}

#[test]
fn a_making_that_is_dropped_takes_its_init_along() {
    let Some(bundle) = Bundle::new("true") else { return };
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let (making, ..) = bundle.begin(Stdio::Files([null(), null(), null()])).unwrap();
    let pidfd = crate::sys::pidfd::open(making.pid()).unwrap();
    drop(making);
    assert_eq!(await_end(&pidfd), Some(Exit::Signaled(9)));
    let (making, ..) = bundle.begin(Stdio::Files([null(), null(), null()])).unwrap();
    let pidfd = crate::sys::pidfd::open(making.pid()).unwrap();
    // Created, and never released: it ends with its maker's socket.
    drop(finish(making).unwrap());
    assert!(await_end(&pidfd).is_some());
}

#[test]
fn an_init_that_outlives_its_maker_waits_for_the_successor() {
    let Some(mut bundle) = Bundle::new("exit 7") else { return };
    bundle.outlives_maker = true;
    // As if the maker were killed after its record: the thread is the init's parent, whose end the kernel tells it, and
    // then the socket is closed.
    let directory = bundle.directory.clone();
    let made = std::thread::spawn(move || {
        let null = || OwnedFd::from(File::open("/dev/null").unwrap());
        let (making, ..) = bundle.begin(Stdio::Files([null(), null(), null()])).unwrap();
        (finish(making).unwrap(), bundle)
    });
    let (created, _bundle) = made.join().unwrap();
    let pidfd = created.pidfd.try_clone().unwrap();
    let lives_on = || poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], 200_u16) == Ok(0);
    assert!(lives_on());
    drop(created);
    assert!(lives_on());
    Gate::open(&directory).unwrap();
    assert_eq!(await_end(&pidfd), Some(Exit::Code(7)));
}

/// What a process of the host's root sees of an init at its gate: a line of its status, and where its descriptors lead.
fn at_gate(bundle: &Bundle) -> (String, Vec<String>) {
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let (making, ..) = bundle.begin(Stdio::Files([null(), null(), null()])).unwrap();
    let (pid, pidfd, _) = finish(making).unwrap().release_for_good().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // One that is closed between the two looks leads nowhere.
    let open = || {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        let there = links.filter_map(|link| std::fs::read_link(link.path()).ok());
        there.map(|to| to.display().to_string()).collect::<Vec<_>>()
    };
    // It closes the socket by which it was told first, and then the rest.
    for _ in 0..1000 {
        if open().len() == 5 {
            break;
        }
        // An interrupted wait is a short one.
        crate::harmless(poll(&mut [], 10_u16));
    }
    let open_now = open();
    assert_eq!(bundle.start(), Outcome::Executed);
    await_end(&pidfd);
    (status, open_now)
}

#[test]
fn an_init_at_its_gate_has_nothing_of_the_hosts() {
    let Some(bundle) = Bundle::new("true") else { return };
    let bundle = bundle.with(|config| config["process"]["user"] = json!({"uid": 1000, "gid": 1000}));
    let (status, open) = at_gate(&bundle);
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Uid:\t1000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert_eq!(open.iter().filter(|link| *link == "/dev/null").count(), 3, "{open:?}");
    let gate = bundle.directory.display().to_string();
    assert_eq!(open.iter().filter(|link| link.starts_with(&gate)).count(), 2, "{open:?}");
    assert_eq!(open.len(), 5, "{open:?}");
}

#[test]
fn what_keeps_an_init_from_becoming_a_member_fails_its_making() {
    let Some(bundle) = Bundle::new("true") else { return };
    let bundle = bundle.with(|config| config["process"]["cwd"] = json!("/bin/busybox/x"));
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let (making, ..) = bundle.begin(Stdio::Files([null(), null(), null()])).unwrap();
    let told = finish(making).map(drop).unwrap_err().message;
    assert!(
        told.contains("chdir to cwd (\"/bin/busybox/x\") set in config.json failed: not a directory"),
        "{told}"
    );
}

#[test]
fn an_init_at_its_gate_ends_when_it_is_asked_to() {
    let Some(bundle) = Bundle::new("true") else { return };
    let null = || OwnedFd::from(File::open("/dev/null").unwrap());
    let (making, ..) = bundle.begin(Stdio::Files([null(), null(), null()])).unwrap();
    let (_, pidfd, _) = finish(making).unwrap().release();
    crate::sys::pidfd::signal(pidfd.as_fd(), libc::SIGTERM).unwrap();
    assert_eq!(await_end(&pidfd), Some(Exit::Code(143)));
}
