//! Starts that fail or wait: the command, the configuration, the image.

use std::time::Duration;

use hull_tests::pod::{container, text};
use hull_tests::{host, wait_until};

/// A step that needs no waiting of its own.
const SOON: Duration = Duration::from_secs(15);
/// A step that waits for the first back-off of 10 s.
const AFTER_BACKOFF: Duration = Duration::from_secs(30);

#[test]
fn a_missing_command_is_a_start_error() {
    let host = host!();
    let manifest = |name: &str, policy: &str| {
        format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: {policy}
  containers:
  - {{name: app, image: busybox, imagePullPolicy: IfNotPresent, command: [no-such-command]}}
"#
        )
    };
    host.apply(&manifest("never", "Never"));
    host.wait_row("never", SOON, "0/1", "StartError");
    let pod = host.wait_pod("never", SOON, "phase Failed", |pod| pod["status"]["phase"] == "Failed");
    let ended = &container(&pod, "app")["state"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"StartError".into(), &128.into()));
    let message = text(&ended["message"]);
    assert!(message.contains("exec: \"no-such-command\": executable file not found in $PATH"), "{message}");
    host.wait_event("never", SOON, "Failed", "executable file not found in $PATH");

    host.apply(&manifest("always", "Always"));
    let rows = host.follow_rows("always");
    rows.wait_statuses(SOON, &["RunContainerError", "CrashLoopBackOff"]);
    let pod = host.pod("always").unwrap();
    let ended = &container(&pod, "app")["lastState"]["terminated"];
    assert_eq!((&ended["reason"], &ended["exitCode"]), (&"StartError".into(), &128.into()));
    drop(rows);
    host.end(&["never", "always"]);
}

#[test]
fn a_container_waits_for_its_config_map_and_starts_when_it_comes() {
    let host = host!();
    host.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: needs}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, "echo value=$KEY; exec sleep 1000"]
    env:
    - {name: KEY, valueFrom: {configMapKeyRef: {name: cm, key: key}}}
"#,
    );
    host.wait_row("needs", SOON, "0/1", "CreateContainerConfigError");
    let pod = host.pod("needs").unwrap();
    let waiting = &container(&pod, "app")["state"]["waiting"];
    assert_eq!(waiting["message"], "configmap \"cm\" not found");
    assert_eq!(pod["status"]["phase"], "Pending");
    host.wait_event("needs", SOON, "Failed", "Error: configmap \"cm\" not found");
    host.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {key: here}\n");
    host.wait_row("needs", SOON, "1/1", "Running");
    let logs = wait_until(SOON, "the log", || {
        let logs = host.hull(&["logs", "needs"]).ok();
        if logs.is_empty() { Err("empty".to_owned()) } else { Ok(logs) }
    });
    assert_eq!(logs, "value=here\n");
    assert_eq!(container(&host.pod("needs").unwrap(), "app")["restartCount"], 0);
    host.end(&["needs"]);
}

#[test]
fn images_that_cannot_be_had_say_why() {
    let host = host!();
    let manifest = |name: &str, image: &str, policy: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  \
             - {{name: app, image: '{image}', imagePullPolicy: {policy}, command: [sleep, '1000']}}\n"
        )
    };
    host.apply(&manifest("pull", "example.com/none:1", "IfNotPresent"));
    host.apply(&manifest("never", "example.com/none:1", "Never"));
    host.apply(&manifest("name", "UPPER:case", "IfNotPresent"));
    let rows = host.follow_rows("pull");

    host.wait_row("never", SOON, "0/1", "ErrImageNeverPull");
    let text = "Container image \"example.com/none:1\" is not present with pull policy of Never";
    assert_eq!(host.wait_event("never", SOON, "ErrImageNeverPull", text)["type"], "Warning");
    host.wait_event("never", SOON, "Failed", "Error: ErrImageNeverPull");

    host.wait_row("name", SOON, "0/1", "InvalidImageName");
    let pod = host.pod("name").unwrap();
    let waiting = hull_tests::pod::text(&container(&pod, "app")["state"]["waiting"]["message"]).to_owned();
    assert!(waiting.starts_with("Failed to apply default image tag \"UPPER:case\": "), "{waiting}");
    host.wait_event("name", SOON, "InspectFailed", "Failed to apply default image tag \"UPPER:case\": ");

    host.wait_event("pull", SOON, "Pulling", "Pulling image \"example.com/none:1\"");
    host.wait_event("pull", SOON, "Failed", "Failed to pull image \"example.com/none:1\": ");
    host.wait_event("pull", SOON, "Failed", "Error: ErrImagePull");
    rows.wait_statuses(AFTER_BACKOFF, &["ErrImagePull", "ImagePullBackOff"]);
    host.wait_event("pull", SOON, "BackOff", "Back-off pulling image \"example.com/none:1\"");
    drop(rows);

    // Not one of them has a container to wait for.
    host.end(&["pull", "never", "name"]);
}
