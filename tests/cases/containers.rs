//! Containers: what confines them, what they are given, their streams, and what is executed in them.

use std::time::Duration;

use hull_tests::pod::busybox;
use hull_tests::{Host, host, wait_until};

const SOON: Duration = Duration::from_secs(10);

/// A pod with one container; `container` holds more fields of it, `pod` of the pod's spec.
fn one(name: &str, script: &str, container: &str, pod: &str) -> String {
    let rest = format!("    command: [sh, -c, {script:?}]\n    {container}\n  {pod}\n");
    busybox(&format!("name: {name}, labels: {{app: shop}}, annotations: {{note: 'two words'}}"), &rest)
}

const IDLE: &str = "exec sleep 1000";

fn sh(host: &Host, pod: &str, script: &str) -> String {
    host.exec(pod, &["sh", "-c", script]).ok().trim().to_owned()
}

fn status_line(text: &str, field: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{field} in {text}")).trim().to_owned()
}

#[test]
fn a_container_and_what_is_executed_in_it_are_confined_alike() {
    let host = host!();
    let script =
        "cat /proc/self/status; dmesg; unshare -U true; mount -t tmpfs x /mnt; echo end; exec sleep 1000";
    host.apply_ready(&one("confined", script, "", ""));
    let log = wait_until(SOON, "end of the script", || {
        let log = host.hull(&["logs", "confined"]).ok();
        if log.contains("end\n") { Ok(log) } else { Err(log) }
    });
    let exec = sh(
        &host,
        "confined",
        "cat /proc/self/status; unshare -U true 2>&1; mount -t tmpfs x /tmp 2>&1; true",
    );
    for text in [&log, &exec] {
        assert_eq!(status_line(text, "CapEff"), "00000000a80425fb");
        assert_eq!(status_line(text, "CapBnd"), "00000000a80425fb");
        assert_eq!(status_line(text, "CapInh"), "0000000000000000");
        assert_eq!(status_line(text, "Seccomp"), "2");
        assert_eq!(status_line(text, "NoNewPrivs"), "0");
        assert!(text.contains("unshare: unshare(0x10000000): Operation not permitted"), "{text}");
    }
    // The kernel itself lets anyone make a user namespace: it was the filter that refused.
    let free = "securityContext: {seccompProfile: {type: Unconfined}}";
    host.apply_ready(&one("free", IDLE, free, ""));
    assert_eq!(status_line(&sh(&host, "free", "cat /proc/self/status"), "Seccomp"), "0");
    sh(&host, "free", "unshare -U true");
    assert!(log.contains("dmesg: klogctl: Operation not permitted"), "{log}");

    let read = |path: &str| host.exec("confined", &["sh", "-c", &format!("head -c 1 {path} | wc -c")]).ok();
    for masked in ["/proc/timer_list", "/proc/keys"] {
        assert_eq!(read(masked).trim(), "0", "{masked}");
    }
    for fixed in ["/proc/sys/kernel/domainname", "/proc/irq/default_smp_affinity"] {
        let said = sh(&host, "confined", &format!("test ! -e {fixed} || (echo x >{fixed}) 2>&1; true"));
        assert!(said.is_empty() || said.contains("Read-only file system"), "{fixed}: {said}");
    }
    assert_eq!(sh(&host, "confined", "ls /sys/firmware"), "");
    host.leave_nothing();
}

#[test]
fn a_security_context_is_what_the_container_gets() {
    let host = host!();
    let container = "securityContext: {runAsUser: 1000, runAsGroup: 2000, readOnlyRootFilesystem: true, \
        allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_BIND_SERVICE]}}";
    let pod = "securityContext: {supplementalGroups: [4000], fsGroup: 3000, runAsNonRoot: true}";
    let pod = format!("{pod}\n  volumes: [{{name: work, emptyDir: {{}}}}]");
    let container = format!("{container}\n    volumeMounts: [{{name: work, mountPath: /work}}]");
    host.apply_ready(&one("narrow", IDLE, &container, &pod));
    let of_init = sh(&host, "narrow", "cat /proc/1/status");
    let of_exec = sh(&host, "narrow", "cat /proc/self/status");
    for text in [&of_init, &of_exec] {
        assert_eq!(status_line(text, "Uid"), "1000\t1000\t1000\t1000");
        assert_eq!(status_line(text, "Gid"), "2000\t2000\t2000\t2000");
        assert_eq!(status_line(text, "Groups"), "2000 3000 4000", "{text}");
        assert_eq!(status_line(text, "CapBnd"), "0000000000000400");
        assert_eq!(status_line(text, "CapEff"), "0000000000000000");
        assert_eq!(status_line(text, "NoNewPrivs"), "1");
        assert_eq!(status_line(text, "Seccomp"), "2");
    }
    assert!(sh(&host, "narrow", "touch /file 2>&1; true").contains("Read-only file system"));
    sh(&host, "narrow", "touch /work/file && test $(stat -c %g /work/file) = 3000");

    host.apply(&one("root", IDLE, "securityContext: {runAsNonRoot: true}", ""));
    host.wait_row("root", SOON, "0/1", "CreateContainerConfigError");
    let why =
        host.pod("root").unwrap()["status"]["containerStatuses"][0]["state"]["waiting"]["message"].clone();
    assert!(why.as_str().unwrap().contains("container has runAsNonRoot and image will run as root"), "{why}");
    host.leave_nothing();
}

#[test]
fn the_environment_is_made_from_fields_objects_and_services() {
    let host = host!();
    let container = r#"
    workingDir: /tmp/there
    envFrom: [{configMapRef: {name: settings}}, {secretRef: {name: keys}, prefix: SECRET_}]
    env:
    - {name: PLAIN, value: "$(BASE)/x $$(BASE) $(NONE)"}
    - {name: BASE, value: base}
    - {name: AFTER, value: "$(BASE)/y"}
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LABEL, valueFrom: {fieldRef: {fieldPath: "metadata.labels['app']"}}}
    - {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}}
    - {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
    - {name: ONE, valueFrom: {configMapKeyRef: {name: settings, key: COLOR}}}
    - {name: TWO, valueFrom: {secretKeyRef: {name: keys, key: TOKEN}}}
    - {name: MISSING, valueFrom: {configMapKeyRef: {name: nothing, key: X, optional: true}}}
    resources: {limits: {cpu: 250m, memory: 32Mi}}
"#;
    let objects = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {COLOR: red, SIZE: '7'}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {TOKEN: s3cret}
---
apiVersion: v1
kind: Service
metadata: {name: my-svc}
spec: {ports: [{port: 80, name: web}]}
---
";
    let text = format!("{objects}{}", one("env", IDLE, container, ""));
    host.apply_ready(&text);
    let environment = sh(&host, "env", "pwd; env");
    let address = host.pod("env").unwrap()["status"]["podIP"].as_str().unwrap().to_owned();
    let (ip, port) = (format!("IP={address}"), "MY_SVC_SERVICE_PORT_WEB=80");
    for wanted in [
        "/tmp/there",
        "PLAIN=$(BASE)/x $(BASE) $(NONE)",
        "AFTER=base/y",
        "POD=env",
        &ip,
        "LABEL=shop",
        "CPU=250",
        "MEMORY=32",
        "ONE=red",
        "TWO=s3cret",
        "COLOR=red",
        "SIZE=7",
        "SECRET_TOKEN=s3cret",
        port,
        "MY_SVC_SERVICE_PORT=80",
        "HOSTNAME=env",
    ] {
        assert!(environment.lines().any(|line| line == wanted), "{wanted} is not in\n{environment}");
    }
    assert!(!environment.contains("MISSING"));
    assert!(environment.contains("MY_SVC_SERVICE_HOST=10."), "{environment}");
    host.hull(&["delete", "svc/my-svc", "cm/settings", "secret/keys"]).ok();
    host.leave_nothing();
}

#[test]
fn limits_hold_and_are_visible_from_inside() {
    let host = host!();
    let container = "resources: {requests: {cpu: 100m}, limits: {cpu: 500m, memory: 48Mi}}";
    host.apply_ready(&one("small", IDLE, container, ""));
    let seen = sh(
        &host,
        "small",
        "cd /sys/fs/cgroup; if [ -d memory ]; then
           cat cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us cpu/cpu.shares memory/memory.limit_in_bytes; grep -c . pids/cgroup.procs
         else cat cpu.max | tr ' ' '\\n'; echo 102; cat memory.max; grep -c . cgroup.procs; fi; ls pids/pids.max pids.max 2>/dev/null || true",
    );
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..4], ["50000", "100000", "102", "50331648"], "{seen}");
    assert!(lines[5].contains("pids.max"), "{seen}");
    assert!(
        sh(&host, "small", "touch /sys/fs/cgroup/memory/x /sys/fs/cgroup/x 2>&1; true")
            .contains("Read-only file system")
    );
    host.leave_nothing();
}

#[test]
fn the_ends_of_executed_commands_are_told_as_kubectl_tells_them() {
    let host = host!();
    let two = one("work", IDLE, "", "")
        + "  - {name: side, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}\n";
    host.apply_ready(&two);
    let exec = |words: &[&str]| host.hull(&[&["exec"], words].concat());
    assert_eq!(exec(&["work", "-c", "main", "--", "true"]).ok(), "");
    let said = exec(&["work", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 42"]);
    assert_eq!(said.stdout, "out\n");
    assert_eq!(said.fails(42), "err\ncommand terminated with exit code 42\n");
    let killed = exec(&["work", "-c", "main", "--", "sh", "-c", "kill -9 $$"]).fails(137);
    assert_eq!(killed, "command terminated with exit code 137\n");
    let missing = exec(&["work", "-c", "main", "--", "nosuch"]).fails(1);
    assert!(missing.starts_with("error: Internal error occurred: "), "{missing}");
    assert!(missing.contains("exec: \"nosuch\": executable file not found in $PATH"), "{missing}");
    let denied = exec(&["work", "-c", "main", "--", "/etc/passwd"]).fails(1);
    assert!(denied.contains("permission denied"), "{denied}");
    assert_eq!(exec(&["work", "--", "true"]).stderr, "Defaulted container \"main\" out of: main, side\n");
    assert_eq!(
        exec(&["work", "-c", "x", "--", "true"]).fails(1),
        "error: container x is not valid for pod work out of: main, side\n"
    );
    assert_eq!(
        exec(&["gone", "--", "true"]).fails(1),
        "Error from server (NotFound): pods \"gone\" not found\n"
    );
    assert_eq!(exec(&["work"]).fails(1), "error: you must specify at least one command for the container\n");

    host.apply_ready(&one("over", "true", "", "restartPolicy: Never"));
    host.wait_pod("over", SOON, "phase Succeeded", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(
        exec(&["over", "--", "true"]).fails(1),
        "error: cannot exec into a container in a completed pod; current phase is Succeeded\n"
    );
    host.leave_nothing();
}

#[test]
fn five_megabytes_of_any_bytes_pass_through_an_executed_command() {
    let host = host!();
    host.apply_ready(&one("pipe", IDLE, "", ""));
    let directory = host.root().join("bytes");
    std::fs::create_dir(&directory).unwrap();
    let (there, back) = (directory.join("there"), directory.join("back"));
    let mut seed = 1_u32;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed.to_be_bytes()[0]
    })
    .take(5 << 20)
    .collect();
    std::fs::write(&there, &bytes).unwrap();
    let script = "exec \"$0\" --root \"$1\" exec -i pipe -- cat <\"$2\" >\"$3\"";
    let hull = hull_tests::binaries::program("hull").unwrap();
    let output =
        host.command("sh").args(["-c", script]).args([&hull, host.root(), &there, &back]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(std::fs::read(&back).unwrap() == bytes, "other bytes came back");
    std::fs::remove_dir_all(&directory).unwrap();
    host.leave_nothing();
}

/// Runs `hull` on a terminal of 33 rows and 77 columns that `script` makes, with `input` typed.
fn on_terminal(host: &Host, arguments: &str, input: &str) -> String {
    let hull = hull_tests::binaries::program("hull").unwrap();
    let line =
        format!("stty rows 33 cols 77; exec {} --root {} {arguments}", hull.display(), host.root().display());
    let mut command = host.command("script");
    command.args(["-q", "-e", "-c", &line, "/dev/null"]);
    hull_tests::command::run(&mut command, input, Duration::from_secs(20)).ok()
}

#[test]
fn a_command_gets_a_terminal_of_the_callers_size() {
    let host = host!();
    host.apply_ready(&one("term", IDLE, "", ""));
    let said = on_terminal(&host, "exec -it term -- sh", "stty size; tty; exit 0\n");
    assert!(said.contains("33 77"), "{said}");
    assert!(said.contains("/dev/pts/"), "{said}");
    let plain = host.exec("term", &["sh", "-c", "test -t 0 || echo none"]).ok();
    assert_eq!(plain, "none\n");
    host.leave_nothing();
}

#[test]
fn one_attaches_to_a_container_with_input_or_a_terminal() {
    let host = host!();
    host.apply_ready(&one(
        "cat",
        "echo started; exec cat",
        "stdin: true\n    stdinOnce: true",
        "restartPolicy: Never",
    ));
    let mut attached = host.start(&["attach", "-i", "cat"]);
    attached.write("typed\n");
    attached.wait_line(SOON, "echo", |line| line == "typed");
    attached.close_input();
    assert!(attached.wait(SOON).success());
    // Its input was to be closed after the first session.
    host.wait_row("cat", SOON, "0/1", "Completed");
    assert_eq!(host.hull(&["logs", "cat"]).ok(), "started\ntyped\n");

    host.apply_ready(&one("shell", "tty; exec sh -i", "stdin: true\n    tty: true", ""));
    let said = on_terminal(&host, "attach -it shell", "stty size; exit\n");
    assert!(said.contains("33 77"), "{said}");
    host.leave_nothing();
}

#[test]
fn logs_are_kept_in_the_cri_format_and_shown_as_asked() {
    let host = host!();
    let script = "for i in 1 2 3 4 5; do echo line $i; done; printf 'no end' >&2; \
        test -e /keep/again || { touch /keep/again; exit 3; }; exec sleep 1000";
    let pod = "volumes: [{name: keep, emptyDir: {}}]";
    host.apply(&one("talk", script, "volumeMounts: [{name: keep, mountPath: /keep}]", pod));
    wait_until(Duration::from_secs(30), "second instance", || {
        let pod = host.pod("talk")?;
        let status = &pod["status"]["containerStatuses"][0];
        if status["restartCount"] == 1 && status["state"]["running"].is_object() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let uid = host.pod("talk").unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let file = host.root().join(format!("log/pods/default_talk_{uid}/main/0.log"));
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    assert!(lines.iter().any(|line| line[1..] == ["stdout", "F", "line 1"]), "{text}");
    assert!(lines.iter().any(|line| line[1..] == ["stderr", "P", "no end"]), "{text}");
    assert!(lines.iter().all(|line| line[0].len() == 30 && line[0].ends_with('Z')), "{text}");

    let logs = |words: &[&str]| host.hull(&[&["logs", "talk"], words].concat());
    assert_eq!(logs(&["-p", "--tail=2"]).ok(), "line 5\nno end");
    assert!(logs(&["-p"]).ok().starts_with("line 1\nline 2\n"));
    // What has no end yet, a prompt say, is told at once.
    wait_until(SOON, "five lines and the sixth's beginning", || {
        let text = logs(&["--since=1h"]).ok();
        if text.ends_with("line 5\nno end") { Ok(()) } else { Err(text) }
    });
    let stamped = logs(&["--timestamps", "--tail=2"]).ok();
    assert!(stamped.contains("Z line 5\n"), "{stamped}");
    assert_eq!(logs(&["--since-time=2999-01-01T00:00:00Z"]).ok(), "");
    assert_eq!(logs(&["-c", "x"]).fails(1), "error: container x is not valid for pod talk out of: main\n");
    assert!(logs(&["--tail=x"]).fails(1).contains("--tail"));
    let mut follow = host.start(&["logs", "-f", "talk", "--tail=2"]);
    follow.wait_line(SOON, "last line", |line| line == "line 5");
    host.hull(&["delete", "pod", "talk", "--now"]).ok();
    assert!(follow.wait(SOON).success());
    assert_eq!(
        host.hull(&["logs", "talk"]).fails(1),
        "Error from server (NotFound): pods \"talk\" not found\n"
    );
    host.leave_nothing();
}
