//! Any process of a pod is killed at any moment: containers go on, nothing is lost, told twice or left behind.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use hull_tests::pod_files::{Instance, kill_now};
use hull_tests::{Host, PodFiles, host, process, wait_until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// Prints numbers for as long as it lives, quickly at first, and ends at once with 0 when asked to.
const COUNTER: &str =
    "trap 'exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; [ $i -lt 20000 ] || sleep 0.01; done";
/// Sleeps, and says so and ends with 7 when asked to.
const SLEEPER: &str = "trap 'echo last words; exit 7' TERM; while :; do sleep 0.05; done";
pub(crate) fn two_containers(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 2
  restartPolicy: Never
  containers:
  - {{name: counter, image: busybox, command: [sh, -c, {COUNTER:?}]}}
  - {{name: sleeper, image: busybox, command: [sh, -c, {SLEEPER:?}]}}
"
    )
}

/// Every number that was printed by the end, in the file that no supervisor reads or writes.
pub(crate) fn logged(host: &Host, pod: &PodFiles, name: &str, container: &str) -> Vec<u64> {
    let path = host.root().join(format!("log/pods/default_{name}_{}/{container}/0.log", pod.uid()));
    let text = fs::read_to_string(path).unwrap_or_default();
    let number = |line: &str| line.rsplit(' ').next().and_then(|number| number.parse().ok());
    text.lines().filter_map(number).collect()
}

fn assert_each_once(numbers: &[u64]) {
    let wrong = numbers.iter().zip(1..).find(|(found, wanted)| **found != *wanted);
    assert_eq!(wrong, None, "of {} numbers", numbers.len());
}

pub(crate) fn wait_for_number(host: &Host, pod: &PodFiles, name: &str, wanted: u64) {
    wait_until(SOON, &format!("number {wanted} in the log"), || {
        let newest = logged(host, pod, name, "counter").last().copied().unwrap_or_default();
        if newest >= wanted { Ok(()) } else { Err(format!("{newest}")) }
    });
}

/// Reason, message and count of each event, sorted: what happened, whatever the order of parallel parts.
pub(crate) fn events(host: &Host) -> Vec<(String, String, u64)> {
    let list: Value = serde_json::from_str(&host.hull(&["events", "-o", "json"]).ok()).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut events: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| (text(&each["reason"]), text(&each["message"]), each["count"].as_u64().unwrap()))
        .collect();
    events.sort();
    events
}

pub(crate) fn statuses(pod: &Value) -> BTreeMap<String, Value> {
    let list = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    list.into_iter().map(|each| (each["name"].as_str().unwrap_or_default().to_owned(), each)).collect()
}

pub(crate) fn running(host: &Host, name: &str) -> (PodFiles, BTreeMap<String, Instance>) {
    host.wait_pod(name, SOON, "all running", |pod| {
        let statuses = statuses(pod);
        !statuses.is_empty() && statuses.values().all(|each| each["state"]["running"].is_object())
    });
    let files = PodFiles::find(host, name).unwrap();
    let containers = files.processes().containers;
    (files, containers)
}

pub(crate) fn assert_same_containers(files: &PodFiles, before: &BTreeMap<String, Instance>) {
    assert_eq!(files.processes().containers, *before);
    for instance in before.values() {
        assert!(process::is_alive(instance.pid), "{instance:?}");
    }
}

#[test]
fn a_killed_supervisor_is_replaced_and_nothing_is_lost() {
    let host = host!();
    host.apply(&two_containers("a"));
    let (files, before) = running(&host, "a");
    let told = events(&host);
    for round in 1..=4 {
        let took = files.replace_supervisor();
        assert!(took < Duration::from_secs(1), "round {round}: {took:?}");
        let pod = host.pod("a").unwrap();
        assert_same_containers(&files, &before);
        for (name, status) in statuses(&pod) {
            assert_eq!(status["restartCount"], 0, "{name}");
            assert_eq!(status["containerID"], format!("hull://{}", before[&name].id));
        }
        assert_eq!(events(&host), told);
        assert_eq!(host.exec("a", &["echo", "here"]).ok(), "here\n");
    }
    wait_for_number(&host, &files, "a", 20_500);
    assert_each_once(&logged(&host, &files, "a", "counter"));
    // An exit is seen whoever was there when it came.
    let pid = files.kill_supervisor();
    kill_now(before["sleeper"].pid);
    host.wait_pod("a", SOON, "exit code 137", |pod| {
        statuses(pod)["sleeper"]["state"]["terminated"]["exitCode"] == 137
    });
    assert!(!process::is_alive(pid));
    host.delete("a", &[]);
    host.assert_clean();
}

/// Starts a pod with everything that a start can have.
pub(crate) fn rich(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 3
  restartPolicy: Always
  volumes: [{{name: data, emptyDir: {{}}}}]
  initContainers:
  - {{name: first, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, 'echo one >> /data/init'], volumeMounts: [{{name: data, mountPath: /data}}]}}
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, {SLEEPER:?}]
    volumeMounts: [{{name: data, mountPath: /data}}]
    lifecycle:
      postStart: {{exec: {{command: [sh, -c, 'echo started >> /data/hook']}}}}
      preStop: {{exec: {{command: [sh, -c, 'echo stopping >> /data/hook']}}}}
    startupProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}}
    readinessProbe: {{exec: {{command: ['true']}}, periodSeconds: 1}}
  - {{name: other, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, {SLEEPER:?}]}}
"
    )
}

/// Kills the supervisor as soon as its diagnostics speak of `moment`.
fn kill_supervisor_at(host: &Host, name: &str, moment: &str) {
    let files = PodFiles::wait(host, name, SOON);
    wait_until(SOON, moment, || {
        if files.diagnostics().contains(moment) { Ok(()) } else { Err(files.diagnostics()) }
    });
    files.kill_supervisor();
}

#[test]
fn a_supervisor_killed_at_any_step_of_a_start_changes_nothing() {
    let host = host!();
    let up = |moment: Option<&str>| {
        let mut apply = host.start_debug(&["apply", "-f", "-"], &rich("a"));
        if let Some(moment) = moment {
            kill_supervisor_at(&host, "a", moment);
        }
        host.wait_row("a", SOON, "2/2", "Running");
        let status = apply.wait(SOON);
        assert!(status.success(), "{moment:?}: {:?}", apply.lines());
        let told = events(&host);
        let inits = host.exec("a", &["cat", "/data/init"]).ok();
        assert_eq!(host.columns("a").unwrap()[3], "0", "{moment:?}");
        host.delete("a", &["--now"]);
        (told, inits)
    };
    let undisturbed = up(None);
    for moment in [
        "SandboxUp",
        "PrepareVolumes",
        "action=EnsureImage",
        "action=CreateContainer",
        "input=Created",
        "action=StartContainer",
        "input=Started",
        "input=Exited",
        "action=RunHook",
        "input=HookDone",
        "action=RunProbe",
        "input=ProbeDone",
    ] {
        assert_eq!(up(Some(moment)), undisturbed, "{moment}");
    }
    host.assert_clean();
}

#[test]
fn a_supervisor_killed_at_any_step_of_a_deletion_delays_nothing() {
    let host = host!();
    for moment in [
        "input=Delete",
        "hook: PreStop",
        "action=Signal",
        "input=Exited { instance: InstanceId { container: \"main\"",
        "action=StopSandbox",
        "input=SandboxStopped",
        "action=Finish",
    ] {
        host.start_debug(&["apply", "-f", "-"], &rich("a")).wait(SOON);
        host.wait_row("a", SOON, "2/2", "Running");
        let files = PodFiles::find(&host, "a").unwrap();
        let mut delete = host.start(&["delete", "pod", "a"]);
        wait_until(SOON, moment, || {
            let gone = !files.file("").exists();
            if gone || files.diagnostics().contains(moment) { Ok(()) } else { Err(files.diagnostics()) }
        });
        if let Some(supervisor) = files.processes().supervisor {
            kill_now(supervisor);
        }
        assert!(delete.wait(SOON).success(), "{moment}: {:?}", delete.lines());
        host.assert_clean();
    }
}

#[test]
fn crash_loop_back_off_goes_on_over_deaths_of_the_supervisor() {
    let host = host!();
    host.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: [{name: main, image: busybox, command: [sh, -c, 'exit 3']}]
",
    );
    host.wait_row("a", SOON, "0/1", "CrashLoopBackOff");
    let (files, told) = (PodFiles::find(&host, "a").unwrap(), host.pod("a").unwrap());
    let restarts = |pod: &Value| statuses(pod)["main"]["restartCount"].as_u64().unwrap();
    let finished = |pod: &Value| {
        let status = &statuses(pod)["main"];
        let last = &status["lastState"]["terminated"]["finishedAt"];
        let ended = &status["state"]["terminated"]["finishedAt"];
        seconds(ended.as_str().or(last.as_str()).unwrap())
    };
    for _ in 0..3 {
        files.replace_supervisor();
        let pod = host.pod("a").unwrap();
        assert_eq!(restarts(&pod), restarts(&told));
        assert_eq!(finished(&pod), finished(&told));
        assert_eq!(host.columns("a").unwrap()[2], "CrashLoopBackOff");
    }
    let again = host.wait_pod("a", SOON, "another restart", |pod| restarts(pod) > restarts(&told));
    let waited = wait_until(SOON, "another end", || {
        let pod = host.pod("a")?;
        let ended = finished(&pod);
        if ended > finished(&told) { Ok(ended - finished(&told)) } else { Err(ended.to_string()) }
    });
    assert_eq!(restarts(&again), restarts(&told) + 1);
    assert!((9..=13).contains(&waited), "restarted after {waited} s");
    host.delete("a", &["--now"]);
    host.assert_clean();
}

/// Seconds of the day of a time as the API writes it.
fn seconds(time: &str) -> i64 {
    let clock = time.split_once('T').unwrap().1.trim_end_matches('Z');
    clock.split(':').fold(0, |sum, part| sum * 60 + part.parse::<i64>().unwrap())
}

#[test]
fn readiness_and_liveness_go_on_over_deaths_of_the_supervisor() {
    let host = host!();
    host.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: busybox
    command: [sh, -c, 'touch /tmp/live; while :; do sleep 0.1; done']
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -e, /tmp/live]}, periodSeconds: 1, failureThreshold: 3}
",
    );
    host.wait_row("a", SOON, "0/1", "Running");
    let files = PodFiles::find(&host, "a").unwrap();
    let watch = host.start(&["get", "pods", "a", "-w", "--no-headers"]);
    files.replace_supervisor();
    host.wait_row("a", SOON, "0/1", "Running");
    assert_eq!(host.exec("a", &["touch", "/tmp/ready"]).ok(), "");
    host.wait_row("a", SOON, "1/1", "Running");
    let since = watch.lines().len();
    files.replace_supervisor();
    // What was published stays published: no reader sees it unready.
    host.wait_row("a", SOON, "1/1", "Running");
    assert!(!watch.lines()[since..].iter().any(|line| line.contains("0/1")), "{:?}", watch.lines());
    assert_eq!(host.exec("a", &["rm", "/tmp/live"]).ok(), "");
    wait_until(SOON, "one failed liveness probe", || {
        let told = events(&host);
        let failed = told.iter().any(|(_, text, _)| text.contains("Liveness probe failed"));
        if failed { Ok(()) } else { Err(format!("{told:?}")) }
    });
    files.replace_supervisor();
    host.wait_pod("a", SOON, "one restart", |pod| statuses(pod)["main"]["restartCount"] == 1);
    let failures = |(reason, text, count): &(String, String, u64)| {
        (reason == "Unhealthy" && text.contains("Liveness")).then_some(*count)
    };
    let count: u64 = events(&host).iter().filter_map(failures).sum();
    assert!((3..=4).contains(&count), "{:?}", events(&host));
    drop(watch);
    host.delete("a", &["--now"]);
    host.assert_clean();
}

#[test]
fn a_pod_without_shim_supervisor_or_pause_is_deleted_whole() {
    let host = host!();
    type Harm = fn(&PodFiles);
    let harms: [(&str, Harm); 7] = [
        ("keeper", |files| files.processes().keeper.into_iter().for_each(kill_now)),
        ("keeper and shim", |files| assert!(files.kill_shim_for_good() > 0)),
        ("shim", |files| assert!(files.kill_shim() > 0)),
        ("shim and supervisor", |files| {
            let supervisor = files.processes().supervisor;
            files.kill_shim();
            supervisor.into_iter().for_each(kill_now);
        }),
        ("pause", |files| files.processes().pause.into_iter().for_each(kill_now)),
        ("shim and pause", |files| {
            let pause = files.processes().pause;
            files.kill_shim();
            pause.into_iter().for_each(kill_now);
        }),
        ("all of it", |files| {
            let all = files.processes();
            files.kill_shim_for_good();
            all.supervisor.into_iter().chain(all.pause).for_each(kill_now);
            all.containers.values().for_each(|instance| kill_now(instance.pid));
        }),
    ];
    for (what, harm) in harms {
        host.apply(&two_containers("a"));
        let (files, _) = running(&host, "a");
        harm(&files);
        let output = host.hull(&["delete", "pod", "a"]);
        assert!(output.status.success(), "{what}: {output}");
        host.assert_clean();
    }
}

#[test]
fn a_killed_pause_gives_the_pod_a_new_sandbox() {
    let host = host!();
    host.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: busybox, command: [sh, -c, 'while :; do sleep 0.1; done']}]
",
    );
    let (files, before) = running(&host, "a");
    let pause = files.processes().pause.unwrap();
    kill_now(pause);
    host.wait_pod("a", SOON, "a container in a new sandbox", |pod| {
        let status = &statuses(pod)["main"];
        status["state"]["running"].is_object() && status["restartCount"] == 1
    });
    let after = files.processes();
    assert_ne!(after.pause, Some(pause));
    assert_ne!(after.containers["main"].id, before["main"].id);
    let told = events(&host);
    assert!(told.iter().any(|(reason, ..)| reason == "SandboxChanged"), "{told:?}");
    assert_eq!(host.exec("a", &["echo", "here"]).ok(), "here\n");
    host.delete("a", &[]);
    host.assert_clean();
}

#[test]
fn an_init_killed_from_outside_is_restarted() {
    let host = host!();
    host.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: main, image: busybox, command: [sh, -c, 'while :; do sleep 0.1; done']}]
",
    );
    let (files, before) = running(&host, "a");
    kill_now(before["main"].pid);
    let pod = host.wait_pod("a", SOON, "a restart", |pod| {
        let status = &statuses(pod)["main"];
        status["state"]["running"].is_object() && status["restartCount"] == 1
    });
    assert_eq!(statuses(&pod)["main"]["lastState"]["terminated"]["exitCode"], 137);
    assert_eq!(statuses(&pod)["main"]["lastState"]["terminated"]["reason"], "Error");
    assert_ne!(files.processes().containers["main"].id, before["main"].id);
    host.delete("a", &["--now"]);
    host.assert_clean();
}

/// Waits until the shim of a pod runs a task of this name, and kills that; none if the pod runs before.
fn kill_task(files: &PodFiles, host: &Host, task: &str) -> bool {
    let wanted = format!("task {task}");
    let root = host.root().to_string_lossy().into_owned();
    wait_until(SOON, task, || {
        let found = process::all().into_iter().find(|pid| {
            let line = process::command_line(*pid);
            line.contains(&root) && line.ends_with(&wanted)
        });
        match found {
            Some(pid) => {
                kill_now(pid);
                Ok(true)
            }
            None if files.processes().containers.contains_key("main") => Ok(false),
            None => Err("not seen".to_owned()),
        }
    })
}

#[test]
fn a_killed_host_task_is_made_good() {
    let host = host!();
    for task in ["network-up", "volumes-up", "rootfs-up"] {
        let mut apply = host.start_debug(&["apply", "-f", "-"], &rich("a"));
        let files = PodFiles::wait(&host, "a", SOON);
        kill_task(&files, &host, task);
        // A failed start is tried again by the kubelet's rules, after ten seconds at most.
        host.wait_row("a", Duration::from_secs(40), "2/2", "Running");
        apply.wait(SOON);
        host.delete("a", &["--now"]);
        host.assert_clean();
    }
}

#[test]
fn one_name_applied_by_ten_at_once_is_one_pod() {
    let host = host!();
    let mut applies: Vec<_> =
        (0..10).map(|_| host.start_debug(&["apply", "-f", "-"], &two_containers("a"))).collect();
    let outcomes: Vec<_> =
        applies.iter_mut().map(|apply| (apply.wait(SOON), apply.lines().join("\n"))).collect();
    let created = outcomes.iter().filter(|(_, said)| said.contains("pod/a created")).count();
    assert_eq!(created, 1, "{outcomes:#?}");
    for (status, said) in &outcomes {
        let one_of =
            said.contains("created") || said.contains("unchanged") || said.contains("already exists");
        assert!(one_of, "{status} {said}");
    }
    running(&host, "a");
    assert_eq!(fs::read_dir(host.root().join("run/pods")).unwrap().count(), 1);
    host.delete("a", &["--now"]);
    host.assert_clean();
}

#[test]
fn a_command_line_killed_in_apply_or_delete_leaves_a_whole_pod_or_none() {
    let host = host!();
    for milliseconds in [0, 5, 10, 15, 20, 30, 40, 60, 90, 150] {
        let apply = host.start_debug(&["apply", "-f", "-", "--wait"], &two_containers("a"));
        hull_tests::wait::pause(Duration::from_millis(milliseconds));
        kill_now(apply.pid().cast_signed());
        drop(apply);
        // Applied again it is there, made now or then.
        let again = host.apply(&two_containers("a"));
        assert!(again.contains("created") || again.contains("unchanged"), "{again}");
        running(&host, "a");
        let delete = host.start(&["delete", "pod", "a", "--now"]);
        hull_tests::wait::pause(Duration::from_millis(milliseconds));
        kill_now(delete.pid().cast_signed());
        drop(delete);
        host.delete("a", &["--now", "--ignore-not-found"]);
        host.assert_clean();
    }
}

/// Waits for the next reader of a file: no attempt lives long enough to be seen itself.
fn await_read(path: &std::path::Path, files: &PodFiles) {
    let read_at = || fs::metadata(path).unwrap().accessed().unwrap();
    let before = read_at();
    // relatime: a read is noted when the file was changed since the last.
    fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    wait_until(SOON, "an attempt", || if read_at() == before { Err(files.diagnostics()) } else { Ok(()) });
}

#[test]
fn a_supervisor_that_cannot_start_says_why_once() {
    let host = host!();
    host.apply(&two_containers("a"));
    let (files, before) = running(&host, "a");
    let record = fs::read(files.file("record.json")).unwrap();
    fs::write(files.file("record.json"), "{\"half\": ").unwrap();
    files.kill_supervisor();
    for _ in 0..3 {
        await_read(&files.file("record.json"), &files);
    }
    let said = files.diagnostics();
    let reasons: Vec<_> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert!(matches!(reasons[..], [reason] if reason.contains("record.json")), "{said}");
    assert_same_containers(&files, &before);
    // What was mended serves again at the next attempt.
    fs::write(files.file("record.json"), record).unwrap();
    wait_until(SOON, "a supervisor that serves", || host.pod("a").map(drop));
    host.delete("a", &[]);
    host.assert_clean();
}
