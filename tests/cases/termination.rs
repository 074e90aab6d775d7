//! How pods end, for real: grace, preStop's share of it, SIGKILL, the flags of delete, deletion at awkward
//! moments, and the last words of containers.

use std::time::Duration;

use hull_tests::pod::{container, text};
use hull_tests::{Host, host, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// A pod `app` that writes when it began, when it heard SIGTERM, and every moment that it lives after that.
fn stubborn(host: &Host, grace: u32, hooks: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: app}}
spec:
  terminationGracePeriodSeconds: {grace}
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "trap 'cat /proc/uptime >> /out/term' TERM; echo up > /out/up; while :; do cat /proc/uptime > /out/tmp; mv /out/tmp /out/alive; sleep 0.05; done"]
    lifecycle: {hooks}
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes: [{{name: out, hostPath: {{path: {}}}}}]
"#,
        host.shared_dir().display()
    )
}

/// Seconds since boot.
fn uptime() -> f64 {
    let text = std::fs::read_to_string("/proc/uptime").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The moment that a file's first line says.
fn moment(host: &Host, file: &str) -> f64 {
    let lines = host.shared_lines(file);
    let first = lines.first().unwrap_or_else(|| panic!("{file} is empty"));
    first.split(' ').next().unwrap().parse().unwrap()
}

/// Deletes the pod; from then on the seconds to SIGTERM and to the last sign of life.
fn ended(host: &Host, flags: &[&str]) -> (f64, f64) {
    wait_until(SOON, "the pod", || {
        if host.shared_lines("up").is_empty() { Err("not up".to_owned()) } else { Ok(()) }
    });
    host.wait_row("app", SOON, "1/1", "Running");
    let begun = uptime();
    host.begin_end("app", flags);
    host.wait_gone("app", SOON);
    (moment(host, "term") - begun, moment(host, "alive") - begun)
}

#[track_caller]
fn about(seconds: f64, wanted: f64) {
    assert!((wanted - 0.2..wanted + 1.5).contains(&seconds), "{seconds} s, not about {wanted} s");
}

#[test]
fn a_stubborn_process_is_killed_at_the_end_of_the_grace_period() {
    let host = host!();
    host.apply(&stubborn(&host, 3, "{}"));
    let (term, end) = ended(&host, &[]);
    about(term, 0.0);
    about(end, 3.0);
    assert_eq!(host.shared_lines("term").len(), 1, "one stop signal");
}

#[test]
fn what_pre_stop_takes_is_taken_from_the_grace_period() {
    let host = host!();
    host.apply(&stubborn(&host, 5, "{preStop: {sleep: {seconds: 2}}}"));
    let (term, end) = ended(&host, &[]);
    about(term, 2.0);
    about(end, 5.0);
}

#[test]
fn a_pre_stop_hook_longer_than_the_grace_period_is_abandoned() {
    let host = host!();
    host.apply(&stubborn(&host, 2, "{preStop: {exec: {command: [sleep, '60']}}}"));
    let (term, end) = ended(&host, &[]);
    about(term, 2.0);
    about(end, 4.0);
}

#[test]
fn now_leaves_pre_stop_one_second_and_the_process_two() {
    let host = host!();
    host.apply(&stubborn(&host, 30, "{preStop: {exec: {command: [sleep, '60']}}}"));
    let (term, end) = ended(&host, &["--now"]);
    about(term, 1.0);
    about(end, 3.0);
}

#[test]
fn a_grace_period_given_with_the_deletion_replaces_the_pods() {
    let host = host!();
    host.apply(&stubborn(&host, 30, "{}"));
    let (term, end) = ended(&host, &["--grace-period=3"]);
    about(term, 0.0);
    about(end, 3.0);
}

#[test]
fn force_leaves_the_shortest_grace() {
    let host = host!();
    host.apply(&stubborn(&host, 30, "{}"));
    let (_, end) = ended(&host, &["--force"]);
    assert!(end < 3.5, "{end}");
}

#[test]
fn a_second_deletion_shortens_the_first() {
    let host = host!();
    host.apply(&stubborn(&host, 60, "{}"));
    host.wait_row("app", SOON, "1/1", "Running");
    host.begin_end("app", &[]);
    host.wait_row("app", SOON, "1/1", "Terminating");
    let pod = host.pod("app").unwrap();
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 60);
    // A longer one changes nothing, a shorter one does.
    host.begin_end("app", &["--grace-period=600"]);
    assert_eq!(host.pod("app").unwrap()["metadata"]["deletionGracePeriodSeconds"], 60);
    host.begin_end("app", &["--grace-period=2"]);
    assert_eq!(host.pod("app").unwrap()["metadata"]["deletionGracePeriodSeconds"], 2);
    let begun = uptime();
    host.wait_gone("app", SOON);
    assert!(uptime() - begun < 6.0);
    assert_eq!(host.shared_lines("term").len(), 1);
}

#[test]
fn a_pod_that_obeys_is_completed_in_its_last_row() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sh, -c, "trap 'exit 0' TERM; sleep 1000 & wait"]}
"#,
    );
    host.wait_row("app", SOON, "1/1", "Running");
    let rows = host.follow_rows("app");
    rows.wait_statuses(SOON, &["Running"]);
    host.begin_end("app", &[]);
    rows.wait_statuses(SOON, &["Running", "Terminating", "Completed"]);
    drop(rows);
    host.wait_gone("app", SOON);
}

#[test]
fn a_pod_can_be_deleted_while_its_post_start_hook_runs() {
    let host = host!();
    host.apply(&stubborn(
        &host,
        1,
        "{postStart: {exec: {command: [sh, -c, 'until test -e /out/go; do sleep 0.1; done']}}}",
    ));
    host.wait_event("app", SOON, "Started", "Container started");
    host.begin_end("app", &[]);
    host.wait_row("app", SOON, "0/1", "Terminating");
    // The pass has to return before the pod is killed.
    assert!(host.shared_lines("term").is_empty());
    std::fs::write(host.shared_dir().join("go"), "").unwrap();
    host.wait_gone("app", SOON);
    assert_eq!(host.shared_lines("term").len(), 1);
}

#[test]
fn a_pod_can_be_deleted_while_its_image_is_missing_or_it_backs_off() {
    let host = host!();
    let manifest = |name: &str, image: &str, command: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  \
             - {{name: app, image: '{image}', imagePullPolicy: IfNotPresent, command: [{command}]}}\n"
        )
    };
    host.apply(&manifest("image", "example.com/none:1", "sleep, '1000'"));
    host.apply(&manifest("loop", "busybox", "'false'"));
    host.apply(&manifest("new", "busybox", "sleep, '1000'"));
    // At once, whatever it is doing.
    host.begin_end("new", &["--now"]);
    host.wait_gone_only("new", SOON);
    host.wait_event("image", SOON, "Failed", "Error: ErrImagePull");
    host.wait_row("loop", SOON, "0/1", "CrashLoopBackOff");
    host.begin_end("image", &[]);
    host.begin_end("loop", &[]);
    host.wait_gone_only("image", Duration::from_secs(5));
    host.wait_gone("loop", Duration::from_secs(5));
}

#[test]
fn a_pod_can_be_deleted_during_each_part_of_its_start() {
    let host = host!();
    let pod = |n: u32| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p{n}}}\nspec:\n  terminationGracePeriodSeconds: 1\n  \
             initContainers:\n  - {{name: i, image: busybox, imagePullPolicy: IfNotPresent, command: ['true']}}\n  \
             containers:\n  - {{name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}}\n"
        )
    };
    for n in 0..8 {
        host.apply(&pod(n));
        // Not a wait: each pod is caught a little further on.
        hull_tests::wait::pause(Duration::from_millis(u64::from(n) * 25));
        host.begin_end(&format!("p{n}"), &["--now"]);
    }
    for n in 0..8 {
        host.wait_gone_only(&format!("p{n}"), SOON);
    }
    host.assert_clean();
}

#[test]
fn a_container_has_the_last_4096_bytes_of_its_message() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: words}
spec:
  restartPolicy: Never
  containers:
  - name: file
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "(yes a | tr -d '\\n' | head -c 1000; yes b | tr -d '\\n' | head -c 4000) > /dev/termination-log"]
  - name: path
    image: busybox
    imagePullPolicy: IfNotPresent
    terminationMessagePath: /tmp/message
    command: [sh, -c, "echo -n own > /tmp/message; exit 1"]
"#,
    );
    let pod = host.wait_pod("words", SOON, "the end", |pod| pod["status"]["phase"] == "Failed");
    let message = text(&container(&pod, "file")["state"]["terminated"]["message"]).to_owned();
    assert_eq!(message.len(), 4096);
    assert_eq!(message, "a".repeat(96) + &"b".repeat(4000));
    assert_eq!(container(&pod, "path")["state"]["terminated"]["message"], "own");
    host.end(&["words"]);
}

#[test]
fn a_failed_container_without_a_message_may_fall_back_to_its_log() {
    let host = host!();
    let container_of = |name: &str, command: &str| {
        format!(
            "  - {{name: {name}, image: busybox, imagePullPolicy: IfNotPresent, terminationMessagePolicy: \
             FallbackToLogsOnError, command: [sh, -c, \"{command}\"]}}\n"
        )
    };
    let containers = container_of("many", "seq 1 200; exit 2")
        + &container_of("long", "yes x | tr -d '\\\\n' | head -c 3000; exit 2")
        + &container_of("well", "seq 1 200")
        + &container_of("said", "echo noise; echo -n said > /dev/termination-log; exit 2");
    host.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: words}}\nspec:\n  restartPolicy: Never\n  containers:\n{containers}"
    ));
    let pod = host.wait_pod("words", SOON, "the end", |pod| pod["status"]["phase"] == "Failed");
    let message = |name: &str| text(&container(&pod, name)["state"]["terminated"]["message"]).to_owned();
    let last: String = (121..=200).map(|n| format!("{n}\n")).collect();
    assert_eq!(message("many"), last);
    assert_eq!(message("long"), "x".repeat(2048));
    assert_eq!(message("well"), "");
    assert_eq!(message("said"), "said");
    host.end(&["words"]);
}
