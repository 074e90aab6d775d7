//! A pod on disk, its shim, and the test's place as its supervisor.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process};

use hull_shim::layout::{Layout, PodLayout};
use hull_shim::wire::{
    Answer, Command, CreateConfig, ExecConfig, Exit, Failure, InstanceId, Inventory, MAX_PACKET, Report,
    Request, Resources, SandboxConfig,
};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde_json::json;

use crate::bundle::install;
use crate::looks::cgroup_roots;
use crate::stand_in::{ATTEMPTS, SOCKET};

/// Longer than anything here takes, in milliseconds: `HULL_TEST_SLOWNESS` times as long on machines that need it.
fn patience() -> i32 {
    let slowness = std::env::var("HULL_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok());
    20_000 * slowness.unwrap_or(1).max(1)
}

/// Why these tests cannot run on this host.
pub(crate) fn cannot_run() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root");
    }
    (!Path::new("/bin/busybox").exists()).then_some("needs /bin/busybox (busybox-static)")
}

/// Mounts made here are not the host's.
pub(crate) fn isolate() {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
}

/// One pod with its shim.
pub(crate) struct Pod {
    pub(crate) root: PathBuf,
    pub(crate) uid: String,
    pub(crate) layout: PodLayout,
    pub(crate) shim: Option<Child>,
    listener: UnixListener,
    pub(crate) link: Option<Link>,
    seen: VecDeque<Report>,
    next: u64,
    /// For its shims.
    variables: Vec<(String, String)>,
}

pub(crate) struct Link {
    socket: OwnedFd,
    _supervisor: UnixStream,
}

impl Pod {
    /// A pod of this name, with its shim running and its supervisor greeted.
    pub(crate) fn start(name: &str, change: impl FnOnce(&mut SandboxConfig)) -> (Self, Inventory) {
        Self::start_with(name, &[], change)
    }

    /// The same, with variables for its shim.
    pub(crate) fn start_with(
        name: &str,
        variables: &[(&str, &str)],
        change: impl FnOnce(&mut SandboxConfig),
    ) -> (Self, Inventory) {
        let uid = format!("test-{name}-{}", std::process::id());
        let root = std::env::temp_dir().join(format!("hull-shim-{uid}"));
        let all = Layout::new(Some(root.clone()));
        let layout = all.pod(&uid);
        std::fs::create_dir_all(layout.dir()).unwrap();
        let mut config = SandboxConfig {
            uid: uid.clone(),
            namespace: "default".into(),
            name: name.into(),
            hostname: Some(format!("host-{name}")),
            host_network: false,
            host_ipc: false,
            share_pid: false,
            host_pid: false,
            cgroup_manager: hull_shim::wire::CgroupManager::default(),
            sysctls: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "7".to_owned())].into(),
            resources: Resources { pids_limit: Some(200), cpu_shares: Some(512), ..Resources::default() },
            network: Some(json!({"pod": name})),
        };
        change(&mut config);
        std::fs::write(layout.sandbox_config(), serde_json::to_vec(&config).unwrap()).unwrap();
        let link = all.name_link("default", name);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(format!("../../pods/{uid}"), link).unwrap();
        install(&root.join("bin"));
        let listener = UnixListener::bind(root.join("test.sock")).unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut pod = Self {
            root,
            uid,
            layout,
            shim: None,
            listener,
            link: None,
            seen: VecDeque::new(),
            next: 0,
            variables: variables.collect(),
        };
        pod.start_shim();
        let hello = pod.greet();
        (pod, hello)
    }

    /// Starts a shim, the first or a successor.
    pub(crate) fn start_shim(&mut self) {
        let mut command = Process::new(self.root.join("bin/hull-shim"));
        command.arg("pod").arg("--root").arg(&self.root).args(["--uid", &self.uid, "--foreground"]);
        command.env(SOCKET, self.root.join("test.sock"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        self.shim = Some(command.spawn().unwrap());
    }

    /// Starts a shim whose supervisors each add a letter to `attempts` and end.
    pub(crate) fn start_shim_in_vain(&mut self, attempts: &Path) {
        let mut command = Process::new(self.root.join("bin/hull-shim"));
        command.arg("pod").arg("--root").arg(&self.root).args(["--uid", &self.uid, "--foreground"]);
        command.env(ATTEMPTS, attempts);
        self.shim = Some(command.spawn().unwrap());
    }

    /// Starts a detached shim as `hull apply` does; what it says on the ready descriptor.
    pub(crate) fn start_detached(&self) -> String {
        let (read, write) = nix::unistd::pipe().unwrap();
        let number = write.as_raw_fd().to_string();
        let mut command = Process::new(self.root.join("bin/hull-shim"));
        command.arg("pod").arg("--root").arg(&self.root).args(["--uid", &self.uid, "--ready-fd", &number]);
        command.env(SOCKET, self.root.join("test.sock"));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        assert!(command.status().unwrap().success());
        drop(write);
        let mut said = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut said).unwrap();
        said
    }

    /// Waits for the next supervisor and its greeting.
    pub(crate) fn greet(&mut self) -> Inventory {
        self.link = None;
        wait_readable(&self.listener, "a supervisor");
        let (stream, _) = self.listener.accept().unwrap();
        let mut byte = [0];
        let (_, mut received) = receive(&stream, &mut byte);
        self.link = Some(Link { socket: received.remove(0), _supervisor: stream });
        match self.report() {
            (Report::Hello(inventory), _) => *inventory,
            other => panic!("not a greeting: {other:?}"),
        }
    }

    /// SIGKILL to the shim.
    pub(crate) fn kill_shim(&mut self) {
        let mut shim = self.shim.take().unwrap();
        shim.kill().unwrap();
        shim.wait().unwrap();
    }

    /// Lets the supervisor end, as a crash would.
    pub(crate) fn drop_supervisor(&mut self) {
        self.link = None;
        self.seen.clear();
    }

    /// Goes on with a shim that has a keeper, as `hull apply` starts it.
    pub(crate) fn get_a_keeper(&mut self) {
        self.kill_shim();
        assert_eq!(self.start_detached(), "1");
        self.greet();
    }

    /// The pids of a detached shim and of its keeper.
    pub(crate) fn residents(&self) -> [i32; 2] {
        let text = std::fs::read_to_string(self.layout.shim_lock()).unwrap_or_default();
        let pids: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        pids.try_into().unwrap_or_else(|_| panic!("{text:?} are not two pids"))
    }

    /// Waits for the shim's own end.
    pub(crate) fn shim_ends(&mut self) -> bool {
        self.link = None;
        let mut shim = self.shim.take().unwrap();
        shim.wait().unwrap().success()
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, command: Command) -> Result<Answer, Failure> {
        self.ask_with(command, &[]).0
    }

    pub(crate) fn ask_with(
        &mut self,
        command: Command,
        descriptors: &[RawFd],
    ) -> (Result<Answer, Failure>, Vec<OwnedFd>) {
        let wanted = self.tell(command, descriptors);
        loop {
            match self.report() {
                (Report::Done { id, result }, descriptors) if id == wanted => return (result, descriptors),
                (other, _) => self.seen.push_back(other),
            }
        }
    }

    /// Sends a request; its number.
    pub(crate) fn tell(&mut self, command: Command, descriptors: &[RawFd]) -> u64 {
        self.next += 1;
        let bytes = serde_json::to_vec(&Request { id: self.next, command }).unwrap();
        let parts = [std::io::IoSlice::new(&bytes)];
        let rights = [ControlMessage::ScmRights(descriptors)];
        let control = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
        let socket = self.link.as_ref().unwrap().socket.as_raw_fd();
        sendmsg::<UnixAddr>(socket, &parts, control, MsgFlags::empty(), None).unwrap();
        self.next
    }

    fn report(&mut self) -> (Report, Vec<OwnedFd>) {
        let socket = &self.link.as_ref().unwrap().socket;
        wait_readable(socket, "a report");
        let mut buffer = vec![0; MAX_PACKET];
        let (length, descriptors) = receive(socket, &mut buffer);
        assert!(length > 0, "the shim closed its socket");
        (serde_json::from_slice(&buffer[..length]).unwrap(), descriptors)
    }

    /// Waits for a report that `pick` takes.
    pub(crate) fn expect<T>(&mut self, pick: impl Fn(&Report) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|report| pick(report).is_some()) {
            return pick(&self.seen.remove(at).unwrap()).unwrap();
        }
        loop {
            let (report, _) = self.report();
            match pick(&report) {
                Some(found) => return found,
                None => self.seen.push_back(report),
            }
        }
    }

    pub(crate) fn exit_of(&mut self, instance: &InstanceId) -> hull_shim::wire::Ended {
        self.expect(|report| match report {
            Report::Exited { instance: ended, exit } if ended == instance => Some(*exit),
            _ => None,
        })
    }

    pub(crate) fn exec_exit(&mut self, wanted: u64) -> (Exit, bool) {
        self.expect(|report| match report {
            Report::ExecExited { exec, exit, timed_out } if *exec == wanted => Some((*exit, *timed_out)),
            _ => None,
        })
    }

    /// Creates and starts a container that runs `args`.
    pub(crate) fn launch(&mut self, name: &str, args: &[&str]) -> InstanceId {
        let config = self.bundle(name, args, |_| ());
        self.launch_config(config)
    }

    pub(crate) fn launch_config(&mut self, config: CreateConfig) -> InstanceId {
        let instance = config.instance.clone();
        let created = self.ask(Command::Create(Box::new(config)));
        assert!(matches!(created, Ok(Answer::Created { .. })), "{created:?}\n{}", self.diagnostics());
        let started = self.ask(Command::Start { instance: instance.clone() });
        assert!(matches!(started, Ok(Answer::Started { .. })), "{started:?}\n{}", self.diagnostics());
        instance
    }

    /// Runs a command in an instance: its exit, whether it timed out, and its output.
    pub(crate) fn run(
        &mut self,
        instance: &InstanceId,
        args: &[&str],
        timeout_ms: Option<u64>,
    ) -> (Exit, bool, String) {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        self.next += 1;
        let exec = self.next;
        let config = exec_config(instance, exec, args, timeout_ms);
        let files = [null.as_raw_fd(), write.as_raw_fd(), write.as_raw_fd()];
        let (answer, _) = self.ask_with(Command::Exec(Box::new(config)), &files);
        assert!(matches!(answer, Ok(Answer::Exec { .. })), "{answer:?}");
        drop(write);
        let mut output = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(read), &mut output).unwrap();
        let (exit, timed_out) = self.exec_exit(exec);
        (exit, timed_out, output)
    }
}

pub(crate) fn exec_config(
    instance: &InstanceId,
    exec: u64,
    args: &[&str],
    timeout_ms: Option<u64>,
) -> ExecConfig {
    ExecConfig {
        instance: instance.clone(),
        exec,
        args: args.iter().map(|one| (*one).to_owned()).collect(),
        env: vec!["MORE=more".into()],
        tty: None,
        timeout_ms,
        pre_stop: false,
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- diagnostics of {}\n{}", self.uid, self.diagnostics());
        }
        self.link = None;
        match self.shim.take() {
            Some(mut shim) => {
                drop(shim.kill());
                drop(shim.wait());
            }
            // The keeper first: it would start another shim.
            None if self.layout.shim_lock().exists() => {
                for pid in self.residents().into_iter().rev() {
                    signal(pid, nix::sys::signal::Signal::SIGKILL);
                }
            }
            None => {}
        }
        for _ in 0..200 {
            let groups = self.cgroups();
            if groups.is_empty() {
                break;
            }
            groups.iter().for_each(|group| sweep(group));
        }
        // The pod's /dev/shm, when the case ended before the pod did.
        nix::mount::umount2(&self.layout.shm(), nix::mount::MntFlags::MNT_DETACH).ok();
        drop(std::fs::remove_dir_all(&self.root));
        for root in cgroup_roots() {
            drop(std::fs::remove_dir(root.join("hull")));
        }
    }
}

/// One that is gone already is as good.
pub(crate) fn signal(pid: i32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).ok();
}

/// Kills and removes what a failed test left in a cgroup.
fn sweep(group: &Path) {
    for below in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            sweep(&below.path());
        }
    }
    for pid in std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default().lines() {
        let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap_or(i32::MAX));
        // Gone already is as good.
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
    }
    drop(std::fs::remove_dir(group));
}

fn wait_readable(descriptor: &impl AsFd, what: &str) {
    let mut polled = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
    let patience = patience();
    let ready = poll(&mut polled, PollTimeout::try_from(patience).unwrap()).unwrap();
    assert!(ready > 0, "no {what} within {patience} ms");
}

fn receive(socket: impl AsFd, buffer: &mut [u8]) -> (usize, Vec<OwnedFd>) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors = Vec::new();
    for one in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = one {
            descriptors.extend(received);
        }
    }
    (message.bytes, descriptors)
}
