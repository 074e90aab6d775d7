//! Any process of a pod is killed at any moment: containers go on, nothing is lost, told twice or left behind.
//! Here the supervisor dies while a pod runs.

mod parts;
pub(crate) mod steps;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use hull_tests::pod::busybox;
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
    host.apply(&busybox(
        "name: a",
        "    command: [sh, -c, 'touch /tmp/live; while :; do sleep 0.1; done']
    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}
    livenessProbe: {exec: {command: [test, -e, /tmp/live]}, periodSeconds: 1, failureThreshold: 3}",
    ));
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
