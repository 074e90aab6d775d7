//! The cases; each has a pod of its own.

use hull_shim::wire::{Answer, Command, Exit, Failure, InstanceId, InstanceState, Report};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use serde_json::json;

use crate::looks::{find, kernel};
use crate::pod::{Pod, exec_config};

/// A case and its name.
pub(crate) type Case = (&'static str, fn());

/// Every case with its name.
pub(crate) const ALL: &[Case] = &[
    ("a_sandbox_has_its_namespaces", a_sandbox_has_its_namespaces),
    ("a_container_runs_and_its_exit_is_kept", a_container_runs_and_its_exit_is_kept),
    ("an_exec_has_the_containers_identity", an_exec_has_the_containers_identity),
    ("an_exec_hands_the_listener_of_its_filter_over", an_exec_hands_the_listener_of_its_filter_over),
    ("an_exec_shows_nothing_of_the_host_to_a_tracer", an_exec_shows_nothing_of_the_host_to_a_tracer),
    ("an_exec_is_killed_whole_at_its_limit", an_exec_is_killed_whole_at_its_limit),
    ("what_cannot_execute_says_why", what_cannot_execute_says_why),
    ("a_finished_pod_leaves_nothing", a_finished_pod_leaves_nothing),
    ("seccomp_holds_without_no_new_privileges", seccomp_holds_without_no_new_privileges),
    ("signals_and_kill_reach_a_container", signals_and_kill_reach_a_container),
    ("a_killed_supervisor_loses_no_line", a_killed_supervisor_loses_no_line),
    ("a_successor_takes_the_pod_up", a_successor_takes_the_pod_up),
    ("a_successor_finds_what_ended_meanwhile", a_successor_finds_what_ended_meanwhile),
    ("tasks_run_and_are_bounded", tasks_run_and_are_bounded),
    ("a_dead_sandbox_is_told_and_made_anew", a_dead_sandbox_is_told_and_made_anew),
    ("attached_clients_see_output_and_feed_input", attached_clients_see_output_and_feed_input),
    ("terminals_have_a_size_and_a_log", terminals_have_a_size_and_a_log),
    ("containers_may_share_a_pid_namespace", containers_may_share_a_pid_namespace),
    ("an_out_of_memory_kill_is_seen", an_out_of_memory_kill_is_seen),
    ("a_container_that_cannot_be_built_says_why", a_container_that_cannot_be_built_says_why),
    ("logs_are_written_and_lines_are_cut", logs_are_written_and_lines_are_cut),
    ("a_detached_shim_says_when_it_is_ready", a_detached_shim_says_when_it_is_ready),
    ("a_sandbox_that_cannot_be_made_leaves_nothing", a_sandbox_that_cannot_be_made_leaves_nothing),
];

fn a_sandbox_has_its_namespaces() {
    let (pod, hello) = Pod::start("sandbox", |_| ());
    let sandbox = hello.sandbox.expect("a sandbox");
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let its = std::fs::read_link(format!("/proc/{}/ns/net", sandbox.pid)).unwrap();
    assert_ne!(own, its);
    let network = sandbox.network.unwrap();
    assert_eq!(network["namespace"], json!(its.display().to_string()));
    assert_eq!(network["input"], json!({"pod": "sandbox"}));
    assert!(!pod.cgroups().is_empty());
}

fn a_container_runs_and_its_exit_is_kept() {
    let (mut pod, _) = Pod::start("exit", |_| ());
    let script = "echo out; echo err >&2; hostname; pwd; id -u; echo $HOME; exit 7";
    let instance = pod.launch("c", &["sh", "-c", script]);
    let ended = pod.exit_of(&instance);
    assert_eq!((ended.exit, ended.oom_killed), (Exit::Code(7), false));
    assert!(ended.started_at.is_some_and(|started| started <= ended.finished_at));
    let log = pod.log("c");
    for line in
        [" stdout F out\n", " stderr F err\n", " stdout F host-exit\n", " F /made/by/hull\n", " F /root\n"]
    {
        assert!(log.contains(line), "{line:?} is not in {log}");
    }
    pod.drop_supervisor();
    let hello = pod.greet();
    assert_eq!(hello.supervisor_starts, 1);
    assert_eq!(find(&hello, &instance).state, InstanceState::Exited(ended));
    assert_eq!(pod.exit_of(&instance), ended);
    // Its predecessor may have died before it heard that it started.
    let started_at = ended.started_at.unwrap();
    assert_eq!(pod.ask(Command::Start { instance: instance.clone() }), Ok(Answer::Started { started_at }));
    assert_eq!(pod.ask(Command::Forget { instance: instance.clone() }), Ok(Answer::Ok));
    pod.drop_supervisor();
    assert!(pod.greet().instances.is_empty());
}

fn an_exec_has_the_containers_identity() {
    let (mut pod, _) = Pod::start("exec", |_| ());
    let config = pod.bundle("c", &["sleep", "1000"], |config| {
        config["process"]["user"] = json!({"uid": 7, "gid": 8, "additionalGids": [9]});
    });
    let instance = pod.launch_config(config);
    let (exit, _, status) = pod.run(&instance, &["cat", "/proc/self/status"], None);
    assert_eq!(exit, Exit::Code(0));
    for line in [
        "Uid:\t7\t7",
        "Gid:\t8\t8",
        "Groups:\t9 ",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapBnd:\t00000000000004e1",
    ] {
        assert!(status.contains(line), "{line:?} is not in {status}");
    }
    let init = std::fs::read_to_string(format!("/proc/{}/status", pid_of(&mut pod))).unwrap();
    for name in ["Uid", "Groups", "Seccomp:", "CapEff", "CapPrm", "CapInh", "CapAmb"] {
        let line = |text: &str| text.lines().find(|line| line.starts_with(name)).map(str::to_owned);
        assert_eq!(line(&init), line(&status), "{name} of init and exec");
    }
    let script = "ulimit -n; echo $COLOUR $MORE $HOME; pwd; ls /proc/self/fd; cat /proc/self/oom_score_adj";
    let (_, _, output) = pod.run(&instance, &["sh", "-c", script], None);
    assert_eq!(output, "256\nblue more /home/web\n/made/by/hull\n0\n1\n2\n3\n500\n");
    let (exit, _, _) = pod.run(&instance, &["sh", "-c", "kill -9 $$"], None);
    assert_eq!(exit, Exit::Signaled(9));
}

fn an_exec_hands_the_listener_of_its_filter_over() {
    let (mut pod, _) = Pod::start("notify", |_| ());
    let path = pod.root.join("agent.sock");
    let agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let config = pod.bundle("c", &["sleep", "1000"], |config| {
        config["linux"]["seccomp"]["listenerPath"] = json!(path);
        let syscalls = config["linux"]["seccomp"]["syscalls"].as_array_mut().unwrap();
        syscalls.push(json!({"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}));
    });
    let instance = pod.launch_config(config);
    let told = |pid: i32| {
        let (mut stream, _) = agent.accept().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["state"]["pid"], json!(pid), "{told}");
        told
    };
    let init = pid_of(&mut pod);
    assert_eq!(told(init)["pid"], json!(init));
    let (exit, ..) = pod.run(&instance, &["true"], None);
    assert_eq!(exit, Exit::Code(0));
    assert_ne!(told(init)["pid"], json!(init));
}

fn an_exec_shows_nothing_of_the_host_to_a_tracer() {
    let (mut pod, _) = Pod::start("tracer", |_| ());
    // The pod's own directory is on the host and not in the container.
    let host = pod.root.display().to_string();
    let script = format!(
        "while :; do for p in /proc/[0-9]*; do if [ -e $p/root{host} ]; then echo alien; fi; done; done"
    );
    let config = pod.bundle("c", &["sh", "-c", &script], |config| {
        let sets = config["process"]["capabilities"].as_object_mut().unwrap();
        for set in sets.values_mut() {
            set.as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
        }
    });
    let instance = pod.launch_config(config);
    let (exit, _, status) = pod.run(&instance, &["grep", "Cap", "/proc/self/status"], None);
    let init = std::fs::read_to_string(format!("/proc/{}/status", pid_of(&mut pod))).unwrap();
    let of_init: String =
        init.lines().filter(|line| line.contains("Cap")).map(|line| format!("{line}\n")).collect();
    assert_eq!((exit, status), (Exit::Code(0), of_init));
    for code in 1..40 {
        let script = format!("ls /proc/self/fd; cat /proc/self/oom_score_adj; exit {code}");
        let (exit, _, output) = pod.run(&instance, &["sh", "-c", &script], None);
        assert_eq!((exit, output.as_str()), (Exit::Code(code), "0\n1\n2\n3\n500\n"));
    }
    let (exit, timed_out, _) = pod.run(&instance, &["sh", "-c", "sleep 500 & wait"], Some(300));
    assert_eq!((exit, timed_out), (Exit::Signaled(9), true));
    let null = std::fs::File::open("/dev/null").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&null);
    let config = exec_config(&instance, 900, &["nothing"], None);
    let (answer, _) = pod.ask_with(Command::Exec(Box::new(config)), &[number; 3]);
    assert!(matches!(answer, Err(Failure::Start { .. })), "{answer:?}");
    assert!(!pod.log("c").contains("alien"), "an exec'd process showed the host's root");
}

fn pid_of(pod: &mut Pod) -> i32 {
    pod.drop_supervisor();
    pod.greet().instances[0].pid
}

fn an_exec_is_killed_whole_at_its_limit() {
    let (mut pod, _) = Pod::start("limit", |_| ());
    let instance = pod.launch("c", &["sleep", "1000"]);
    // The pipe is read to its end: the grandchild, which holds it, must be gone too.
    let (exit, timed_out, output) =
        pod.run(&instance, &["sh", "-c", "sleep 500 & echo begun; wait"], Some(300));
    assert_eq!((exit, timed_out, output.as_str()), (Exit::Signaled(9), true, "begun\n"));
    let (exit, timed_out, _) = pod.run(&instance, &["true"], Some(10_000));
    assert_eq!((exit, timed_out), (Exit::Code(0), false));
}

fn what_cannot_execute_says_why() {
    let (mut pod, _) = Pod::start("missing", |_| ());
    let prefix = "unable to start container process: ";
    for (name, args, message) in [
        ("a", "nothing", "exec: \"nothing\": executable file not found in $PATH"),
        ("b", "/nothing", "exec: \"/nothing\": no such file or directory"),
        ("c", "/bin/not-executable", "exec: \"/bin/not-executable\": permission denied"),
    ] {
        let config = pod.bundle(name, &[args], |_| ());
        let instance = config.instance.clone();
        pod.ask(Command::Create(Box::new(config))).unwrap();
        let message = format!("{prefix}{message}");
        assert_eq!(pod.ask(Command::Start { instance: instance.clone() }), Err(Failure::Start { message }));
        let ended = pod.exit_of(&instance);
        assert_eq!((ended.exit, ended.started_at), (Exit::Code(128), None));
    }
    let instance = pod.launch("d", &["sleep", "1000"]);
    let null = std::fs::File::open("/dev/null").unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&null);
    let config = exec_config(&instance, 900, &["nothing"], None);
    let (answer, _) = pod.ask_with(Command::Exec(Box::new(config)), &[number; 3]);
    let message = format!("{prefix}exec: \"nothing\": executable file not found in $PATH");
    assert_eq!(answer, Err(Failure::Start { message }));
}

fn a_finished_pod_leaves_nothing() {
    let (mut pod, hello) = Pod::start("finish", |_| ());
    let instance = pod.launch("c", &["sleep", "1000"]);
    assert_eq!(pod.ask(Command::StopSandbox), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&instance).exit, Exit::Signaled(9));
    assert!(pod.cgroups().is_empty(), "{:?}", pod.cgroups());
    let pause = hello.sandbox.unwrap().pid;
    assert!(!std::path::Path::new(&format!("/proc/{pause}")).exists());
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends());
    assert!(!pod.layout.dir().exists());
    assert!(!pod.root.join("run/names/default").exists());
}

fn seccomp_holds_without_no_new_privileges() {
    let (mut pod, _) = Pod::start("seccomp", |_| ());
    let config = pod.bundle("c", &["sleep", "1000"], |config| {
        config["process"]["noNewPrivileges"] = json!(false);
        let all = json!(["CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID"]);
        config["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
    });
    let instance = pod.launch_config(config);
    let script = "grep -E 'Seccomp:|NoNewPrivs' /proc/self/status; hostname x || echo refused; hostname";
    let (exit, _, output) = pod.run(&instance, &["sh", "-c", script], None);
    assert_eq!(exit, Exit::Code(0), "{output}");
    assert!(output.contains("NoNewPrivs:\t0\nSeccomp:\t2\n"), "{output}");
    assert!(output.ends_with("refused\nhost-seccomp\n"), "{output}");
}

fn signals_and_kill_reach_a_container() {
    let (mut pod, _) = Pod::start("signal", |_| ());
    let instance =
        pod.launch("c", &["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done"]);
    pod.await_log("c", "ready");
    assert_eq!(pod.ask(Command::Signal { instance: instance.clone(), signal: 15 }), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(5));
    let again = pod.ask(Command::Signal { instance, signal: 15 });
    assert!(matches!(again, Err(Failure::State { .. })), "{again:?}");
    let other = pod.launch("d", &["sleep", "1000"]);
    let usage = pod.ask(Command::Statistics { instance: Some(other.clone()) });
    assert!(matches!(&usage, Ok(Answer::Statistics(usage)) if usage.pids == 1), "{usage:?}");
    assert_eq!(pod.ask(Command::Kill { instance: other.clone() }), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&other).exit, Exit::Signaled(9));
    let missing = InstanceId { container: "none".into(), attempt: 0 };
    assert!(matches!(pod.ask(Command::Start { instance: missing }), Err(Failure::State { .. })));
}

const COUNT: &str = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); sleep 0.005; done; echo done";

fn assert_counted(log: &str) {
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.split_once(" stdout F line ")).map(|(_, n)| n).collect();
    let wanted: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    assert_eq!(lines, wanted);
}

fn a_killed_supervisor_loses_no_line() {
    let (mut pod, _) = Pod::start("super", |_| ());
    let instance = pod.launch("c", &["sh", "-c", COUNT]);
    for starts in 1..=3 {
        pod.drop_supervisor();
        assert_eq!(pod.greet().supervisor_starts, starts);
    }
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(0));
    assert_counted(&pod.log("c"));
}

fn a_successor_takes_the_pod_up() {
    let (mut pod, hello) = Pod::start("successor", |_| ());
    let running = pod.launch("c", &["sh", "-c", COUNT]);
    let created = pod.bundle("d", &["sh", "-c", "exit 4"], |_| ());
    let waiting = created.instance.clone();
    pod.ask(Command::Create(Box::new(created))).unwrap();
    let ended = pod.launch("e", &["sh", "-c", "exit 3"]);
    let end = pod.exit_of(&ended);
    pod.kill_shim();
    pod.start_shim();
    let again = pod.greet();
    assert_eq!(again.sandbox, hello.sandbox);
    assert!(matches!(find(&again, &running).state, InstanceState::Running { .. }));
    assert_eq!(find(&again, &waiting).state, InstanceState::Created);
    assert_eq!(find(&again, &ended).state, InstanceState::Exited(end));
    let (exit, _, output) = pod.run(&running, &["sh", "-c", "grep Seccomp: /proc/self/status; pwd"], None);
    assert_eq!((exit, output.as_str()), (Exit::Code(0), "Seccomp:\t2\n/made/by/hull\n"));
    assert!(matches!(pod.ask(Command::Start { instance: waiting.clone() }), Ok(Answer::Started { .. })));
    // They are nobody's children any more: a kernel before 6.15 does not tell how they end.
    for (instance, exit) in [(&waiting, Exit::Code(4)), (&running, Exit::Code(0))] {
        let told = pod.exit_of(instance).exit;
        assert!(told == exit || told == Exit::Unknown && kernel() < (6, 15), "{told:?}");
    }
    assert_counted(&pod.log("c"));
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends());
    assert!(!pod.layout.dir().exists() && pod.cgroups().is_empty());
}

fn a_successor_finds_what_ended_meanwhile() {
    let (mut pod, hello) = Pod::start("meanwhile", |_| ());
    let instance = pod.launch("c", &["sh", "-c", "echo last words; exec sleep 1000"]);
    pod.await_log("c", "last words");
    pod.kill_shim();
    for pid in [pod.init_of(&instance), hello.sandbox.unwrap().pid] {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    pod.start_shim();
    let again = pod.greet();
    assert!(again.sandbox.is_none());
    let ended = pod.exit_of(&instance);
    // A zombie or the kernel's memory of it tells; when both are gone it is unknown.
    assert!(matches!(ended.exit, Exit::Signaled(9) | Exit::Unknown), "{ended:?}");
    assert_eq!(pod.ask(Command::CreateSandbox { attempt: 1 }), Ok(Answer::Ok));
    pod.drop_supervisor();
    assert_eq!(pod.greet().sandbox.unwrap().attempt, 1);
}

fn tasks_run_and_are_bounded() {
    let (mut pod, _) = Pod::start("tasks", |_| ());
    let task = |name: &str| Command::Task { name: name.into(), input: json!({"a": [1, 2]}) };
    let answer = |exit, stdout: &str, stderr: &str| Answer::Task {
        exit,
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    assert_eq!(pod.ask(task("echo")), Ok(answer(Exit::Code(0), "{\"a\":[1,2]}", "")));
    assert_eq!(pod.ask(task("nope")), Ok(answer(Exit::Code(9), "", "no task nope\n")));
    assert!(matches!(pod.ask(task("flood")), Err(Failure::Other { .. })));
    assert!(matches!(pod.ask(task("--root")), Err(Failure::Other { .. })));
    for (stream, kind) in [(false, SockType::Datagram), (true, SockType::Stream)] {
        let (answer, sockets) = pod.ask_with(Command::HostSocket { v6: false, stream }, &[]);
        assert_eq!((answer, sockets.len()), (Ok(Answer::Socket), 1));
        assert_eq!(getsockopt(&sockets[0], sockopt::SockType), Ok(kind));
    }
}

fn a_dead_sandbox_is_told_and_made_anew() {
    let (mut pod, hello) = Pod::start("dead", |_| ());
    let instance = pod.launch("c", &["sleep", "1000"]);
    let pause = hello.sandbox.unwrap().pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pause), nix::sys::signal::Signal::SIGKILL).unwrap();
    pod.expect(|report| matches!(report, Report::SandboxDied).then_some(()));
    assert_eq!(pod.exit_of(&instance).exit, Exit::Signaled(9));
    let refused = pod.bundle("d", &["true"], |_| ());
    assert!(matches!(pod.ask(Command::Create(Box::new(refused))), Err(Failure::State { .. })));
    assert_eq!(pod.ask(Command::Forget { instance }), Ok(Answer::Ok));
    assert_eq!(pod.ask(Command::CreateSandbox { attempt: 1 }), Ok(Answer::Ok));
    pod.drop_supervisor();
    let sandbox = pod.greet().sandbox.unwrap();
    assert_eq!(sandbox.attempt, 1);
    assert_ne!(sandbox.pid, pause);
    let instance = pod.launch("e", &["true"]);
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(0));
}

fn attached_clients_see_output_and_feed_input() {
    let (mut pod, _) = Pod::start("attach", |_| ());
    let mut config = pod.bundle("c", &["cat"], |_| ());
    config.stdin = true;
    let instance = pod.launch_config(config);
    let (answer, mut descriptors) = pod.ask_with(Command::Attach { instance: instance.clone() }, &[]);
    assert_eq!((answer, descriptors.len()), (Ok(Answer::Attached), 2));
    let output = descriptors.remove(1);
    nix::unistd::write(&descriptors[0], b"hello\n").unwrap();
    let mut buffer = [0; 100];
    let count = nix::unistd::read(&output, &mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"\x01hello\n");
    drop(descriptors);
    assert_eq!(pod.ask(Command::CloseStdin { instance: instance.clone() }), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(0));
    assert_eq!(nix::unistd::read(&output, &mut buffer), Ok(0));
}

fn terminals_have_a_size_and_a_log() {
    let (mut pod, _) = Pod::start("tty", |_| ());
    let config = pod.bundle("c", &["sh", "-c", "tty; stty size; echo end; sleep 1000"], |config| {
        config["process"]["terminal"] = json!(true);
    });
    let instance = pod.launch_config(config);
    pod.await_said("c", "end\n");
    assert!(pod.said("c").starts_with("/dev/pts/0\n"), "{}", pod.log("c"));
    let resize = Command::Resize { instance: instance.clone(), exec: None, size: (100, 30) };
    assert_eq!(pod.ask(resize), Ok(Answer::Ok));
    let mut config =
        exec_config(&instance, 77, &["sh", "-c", "tty; stty size < /dev/pts/0; stty size; echo $TERM"], None);
    config.tty = Some((90, 20));
    let (answer, descriptors) = pod.ask_with(Command::Exec(Box::new(config)), &[]);
    assert!(matches!(answer, Ok(Answer::Exec { .. })), "{answer:?}");
    let (exit, _) = pod.exec_exit(77);
    let (mut text, mut buffer) = (String::new(), [0; 200]);
    // EIO: all of it was read.
    while let Ok(count @ 1..) = nix::unistd::read(&descriptors[0], &mut buffer) {
        text.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert_eq!((exit, text.as_str()), (Exit::Code(0), "/dev/pts/1\r\n30 100\r\n20 90\r\nxterm\r\n"));
}

fn containers_may_share_a_pid_namespace() {
    let (mut pod, _) = Pod::start("share", |config| config.share_pid = true);
    let instance = pod.launch("c", &["sh", "-c", "sleep 900 & exec sleep 1000"]);
    let (_, _, output) = pod.run(&instance, &["sh", "-c", "cat /proc/1/comm; echo $$"], None);
    assert!(!output.starts_with("sleep\n") || !output.ends_with("\n1\n"), "{output}");
    assert_eq!(pod.ask(Command::Kill { instance: instance.clone() }), Ok(Answer::Ok));
    assert_eq!(pod.exit_of(&instance).exit, Exit::Signaled(9));
    assert_eq!(pod.ask(Command::Forget { instance }), Ok(Answer::Ok));
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    assert!(pod.shim_ends() && pod.cgroups().is_empty());
}

fn an_out_of_memory_kill_is_seen() {
    let (mut pod, _) = Pod::start("oom", |_| ());
    // tail keeps its last line in memory, and this one has no end.
    let instance = pod
        .launch("c", &["sh", "-c", "yes | head -c 300000000 | busybox tr -d '\\n' | busybox tail; exit 1"]);
    let ended = pod.exit_of(&instance);
    assert!(ended.oom_killed, "{ended:?} {}", pod.log("c"));
}

fn a_container_that_cannot_be_built_says_why() {
    let (mut pod, _) = Pod::start("broken", |_| ());
    let config = pod.bundle("c", &["true"], |config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({"destination": "/tmp", "type": "bind", "source": "/does/not/exist", "options": ["bind"]}),
        );
    });
    match pod.ask(Command::Create(Box::new(config.clone()))) {
        Err(Failure::Create { message }) => assert!(message.contains("/does/not/exist"), "{message}"),
        other => panic!("{other:?}"),
    }
    // The same instance may be tried again.
    let again = pod.bundle("c", &["true"], |_| ());
    let instance = pod.launch_config(again);
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(0));
}

fn logs_are_written_and_lines_are_cut() {
    let (mut pod, _) = Pod::start("logs", |_| ());
    let script = "yes abc | head -c 200000; echo first; read x; echo second";
    let mut config = pod.bundle("c", &["sh", "-c", script], |_| ());
    config.stdin = true;
    config.stdin_once = true;
    let instance = pod.launch_config(config);
    pod.await_log("c", "first");
    assert_eq!(pod.log("c").lines().filter(|line| line.ends_with(" stdout F abc")).count(), 50_000);
    // The only client's end is the end of input.
    let (_, descriptors) = pod.ask_with(Command::Attach { instance: instance.clone() }, &[]);
    drop(descriptors);
    assert_eq!(pod.exit_of(&instance).exit, Exit::Code(0));
    assert!(pod.log("c").ends_with(" stdout F second\n"), "{}", pod.log("c"));
}

fn a_detached_shim_says_when_it_is_ready() {
    let (mut pod, hello) = Pod::start("detached", |_| ());
    pod.kill_shim();
    assert_eq!(pod.start_detached(), "1");
    let again = pod.greet();
    assert_eq!(again.sandbox, hello.sandbox);
    // A second one leaves the pod to the first.
    assert_eq!(pod.start_detached(), "1");
    assert_eq!(pod.ask(Command::Finish), Ok(Answer::Ok));
    pod.await_gone();
    let said = pod.start_detached();
    assert!(said.starts_with("0pod test-detached-") && said.contains("never applied"), "{said}");
}

fn a_sandbox_that_cannot_be_made_leaves_nothing() {
    let (mut pod, hello) = Pod::start("unmade", |config| {
        config.sysctls.insert("net.ipv4.no_such_sysctl".into(), "1".into());
    });
    assert!(hello.sandbox.is_none());
    let failure = hello.sandbox_failure.unwrap();
    assert_eq!(failure, "write /proc/sys/net/ipv4/no_such_sysctl: no such file or directory");
    assert!(pod.cgroups().is_empty());
    let message = failure;
    let again = pod.ask(Command::CreateSandbox { attempt: 1 });
    assert_eq!(again, Err(Failure::Other { message }));
}
