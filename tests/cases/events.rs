//! Events for real: their order, their counting, what `describe` and `get` make of it.

use std::time::Duration;

use hull_tests::pod::text;
use hull_tests::{host, wait_until};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_healthy_start_tells_its_steps_in_order() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: busybox, imagePullPolicy: Always, command: [sleep, "1000"]}
"#,
    );
    host.wait_row("web", SOON, "1/1", "Running");
    let lines = host.event_lines("web");
    let reasons: Vec<_> = lines.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(reasons, ["Scheduled", "Pulling", "Pulled", "Created", "Started"], "{lines:#?}");
    assert!(lines[0].starts_with("Scheduled: Successfully assigned default/web to "), "{}", lines[0]);
    assert_eq!(lines[1], "Pulling: Pulling image \"busybox\"");
    assert!(lines[2].starts_with("Pulled: Successfully pulled image \"busybox\" in "), "{}", lines[2]);
    assert!(lines[2].ends_with(" bytes."), "{}", lines[2]);
    let event = &host.events("web").unwrap()[4];
    assert_eq!(event["involvedObject"]["fieldPath"], "spec.containers{app}");
    assert_eq!(event["source"]["component"], "kubelet");
    assert_eq!(event["count"], 1);
    assert!(text(&event["metadata"]["name"]).starts_with("web."), "{event}");
    host.end(&["web"]);
}

#[test]
fn a_repeated_event_is_counted_and_describe_says_over_how_long() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sleep, "1000"]
    readinessProbe: {exec: {command: [sh, -c, "echo no; exit 1"]}, periodSeconds: 1}
"#,
    );
    let event = wait_until(SOON, "a fourth failure", || {
        let event = host.wait_event("web", SOON, "Unhealthy", "Readiness probe failed: no");
        if event["count"].as_u64() >= Some(4) { Ok(event) } else { Err(event.to_string()) }
    });
    assert_ne!(event["firstTimestamp"], event["lastTimestamp"]);
    let rows = host.events("web").unwrap();
    assert_eq!(rows.iter().filter(|event| event["reason"] == "Unhealthy").count(), 1);
    let described = host.hull(&["describe", "pod", "web"]).ok();
    let line = described.lines().find(|line| line.contains("Unhealthy")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    // Warning Unhealthy 0s (x4 over 3s) kubelet spec.containers{app}: Readiness probe failed: no
    assert_eq!((words[0], words[4]), ("Warning", "over"), "{line}");
    let count: u32 = words[3].strip_prefix("(x").and_then(|count| count.parse().ok()).unwrap();
    let over: u32 = words[5].strip_suffix("s)").and_then(|seconds| seconds.parse().ok()).unwrap();
    assert!(count >= 4 && over >= 2 && over <= count + 3, "{line}");
    assert_eq!(words[6], "kubelet");
    assert!(line.contains("spec.containers{app}: Readiness probe failed: no"), "{line}");
    let listed = host.hull(&["get", "events"]).ok();
    assert!(listed.lines().any(|line| line.contains("pod/web") && line.contains("Unhealthy")), "{listed}");
    host.end(&["web"]);
}

#[test]
fn from_the_tenth_different_message_on_events_are_combined() {
    let host = host!();
    let dir = host.shared_dir();
    host.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sleep, "1000"]
    readinessProbe:
      exec: {{command: [sh, -c, "echo x >> /out/count; echo failure $(wc -l < /out/count); exit 1"]}}
      periodSeconds: 1
    volumeMounts: [{{name: out, mountPath: /out}}]
  volumes: [{{name: out, hostPath: {{path: {}}}}}]
"#,
        dir.display()
    ));
    host.wait_event(
        "web",
        SOON,
        "Unhealthy",
        "(combined from similar events): Readiness probe failed: failure 11",
    );
    let rows: Vec<_> =
        host.event_lines("web").into_iter().filter(|line| line.starts_with("Unhealthy")).collect();
    assert_eq!(rows.len(), 10, "{rows:#?}");
    assert_eq!(rows[0], "Unhealthy: Readiness probe failed: failure 1\n");
    host.end(&["web"]);
}

#[test]
fn a_watch_of_events_outlives_its_pod() {
    let host = host!();
    let manifest = r#"
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, "1000"]}
"#;
    host.apply(manifest);
    let watch = host.start(&["events", "--for", "pod/web", "-w"]);
    watch.wait_line(SOON, "the start", |line| line.contains("Container started"));
    host.begin_end("web", &[]);
    host.wait_gone_only("web", SOON);
    host.apply(manifest);
    wait_until(SOON, "the second start", || {
        let lines = watch.lines();
        let count = lines.iter().filter(|line| line.contains("Container started")).count();
        if count == 2 { Ok(()) } else { Err(lines.join("\n")) }
    });
    let lines = watch.lines();
    assert!(!lines.iter().any(|line| line.contains("error")), "{lines:#?}");
    drop(watch);
    host.end(&["web"]);
}
