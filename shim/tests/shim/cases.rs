//! The cases; each has a pod of its own.

use hull_shim::wire::{Answer, Command, Exit, Failure, InstanceState};
use serde_json::json;

use crate::pod::{Pod, exec_config, find};

type Case = (&'static str, fn());

/// Every case with its name.
pub const ALL: &[Case] = &[
    ("a_sandbox_has_its_namespaces", a_sandbox_has_its_namespaces),
    (
        "a_container_runs_and_its_exit_is_kept",
        a_container_runs_and_its_exit_is_kept,
    ),
    (
        "an_exec_has_the_containers_identity",
        an_exec_has_the_containers_identity,
    ),
    (
        "an_exec_is_killed_whole_at_its_limit",
        an_exec_is_killed_whole_at_its_limit,
    ),
    ("what_cannot_execute_says_why", what_cannot_execute_says_why),
    ("a_finished_pod_leaves_nothing", a_finished_pod_leaves_nothing),
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
    assert!(
        ended
            .started_at
            .is_some_and(|started| started <= ended.finished_at)
    );
    let log = pod.log("c");
    for line in [
        " stdout F out\n",
        " stderr F err\n",
        " stdout F host-exit\n",
        " F /made/by/hull\n",
        " F /root\n",
    ] {
        assert!(log.contains(line), "{line:?} is not in {log}");
    }
    pod.drop_supervisor();
    let hello = pod.greet();
    assert_eq!(hello.supervisor_starts, 1);
    assert_eq!(find(&hello, &instance).state, InstanceState::Exited(ended));
    assert_eq!(pod.exit_of(&instance), ended);
    assert_eq!(
        pod.ask(Command::Forget {
            instance: instance.clone()
        }),
        Ok(Answer::Ok)
    );
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
    for name in [
        "Uid", "Groups", "Seccomp:", "CapEff", "CapPrm", "CapInh", "CapAmb",
    ] {
        let line = |text: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .map(str::to_owned)
        };
        assert_eq!(line(&init), line(&status), "{name} of init and exec");
    }
    let script = "ulimit -n; echo $COLOUR $MORE $HOME; pwd; ls /proc/self/fd; cat /proc/self/oom_score_adj";
    let (_, _, output) = pod.run(&instance, &["sh", "-c", script], None);
    assert_eq!(
        output,
        "256\nblue more /home/web\n/made/by/hull\n0\n1\n2\n3\n500\n"
    );
    let (exit, _, _) = pod.run(&instance, &["sh", "-c", "kill -9 $$"], None);
    assert_eq!(exit, Exit::Signaled(9));
}

fn pid_of(pod: &mut Pod) -> i32 {
    pod.drop_supervisor();
    pod.greet().instances[0].pid
}

fn an_exec_is_killed_whole_at_its_limit() {
    let (mut pod, _) = Pod::start("limit", |_| ());
    let instance = pod.launch("c", &["sleep", "1000"]);
    // The pipe is read to its end: the grandchild, which holds it, must be gone too.
    let (exit, timed_out, output) = pod.run(
        &instance,
        &["sh", "-c", "sleep 500 & echo begun; wait"],
        Some(300),
    );
    assert_eq!(
        (exit, timed_out, output.as_str()),
        (Exit::Signaled(9), true, "begun\n")
    );
    let (exit, timed_out, _) = pod.run(&instance, &["true"], Some(10_000));
    assert_eq!((exit, timed_out), (Exit::Code(0), false));
}

fn what_cannot_execute_says_why() {
    let (mut pod, _) = Pod::start("missing", |_| ());
    let prefix = "unable to start container process: ";
    for (name, args, message) in [
        (
            "a",
            "nothing",
            "exec: \"nothing\": executable file not found in $PATH",
        ),
        ("b", "/nothing", "exec: \"/nothing\": no such file or directory"),
        (
            "c",
            "/bin/not-executable",
            "exec: \"/bin/not-executable\": permission denied",
        ),
    ] {
        let config = pod.bundle(name, &[args], |_| ());
        let instance = config.instance.clone();
        pod.ask(Command::Create(Box::new(config))).unwrap();
        let message = format!("{prefix}{message}");
        assert_eq!(
            pod.ask(Command::Start {
                instance: instance.clone()
            }),
            Err(Failure::Start { message })
        );
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
