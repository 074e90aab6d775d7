//! Pods that are applied again with another manifest: what may change changes while they run, and all else is named.

use std::time::Duration;

use hull_tests::pod_files::PodFiles;
use hull_tests::{Host, host, pod::text, wait_until};

const SOON: Duration = Duration::from_secs(20);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 5
  activeDeadlineSeconds: 1000
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']
    volumeMounts: [{name: info, mountPath: /info}]
  - name: other
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'trap \"exit 0\" TERM; while :; do sleep 0.1; done']
  volumes: [{name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}]
";

fn shown(host: &Host, path: &str) -> String {
    host.hull(&["get", "pod", "web", "-o", &format!("jsonpath={{{path}}}")]).ok()
}

#[test]
fn labels_and_deadlines_change_while_the_containers_go_on() {
    let host = host!();
    host.apply_ready(POD);
    let before = shown(&host, ".status.containerStatuses[*].containerID");
    assert_eq!(host.apply(POD), "pod/web unchanged\n");
    let watch = host.start(&["get", "pods", "-w", "--show-labels"]);
    watch.wait_line(SOON, "the label", |line| line.ends_with("app=web"));
    let selected =
        host.start(&["get", "pods", "-w", "-l", "app=web", "--show-labels", "--output-watch-events"]);
    selected.wait_line(SOON, "its coming", |line| line.starts_with("ADDED "));
    let labelled = POD.replace("{app: web}", "{app: db, tier: back}");
    assert_eq!(host.apply(&labelled), "pod/web configured\n");
    watch.wait_line(SOON, "the new labels", |line| line.ends_with("app=db,tier=back"));
    drop(watch);
    selected.wait_line(SOON, "its going", |line| line.starts_with("DELETED ") && line.ends_with("app=web"));
    assert_eq!(host.apply(POD), "pod/web configured\n");
    wait_until(SOON, "its return", || {
        let lines = selected.lines();
        let added = lines.iter().filter(|line| line.starts_with("ADDED ")).count();
        if added == 2 { Ok(()) } else { Err(lines.join("\n")) }
    });
    drop(selected);
    assert_eq!(host.apply(&labelled), "pod/web configured\n");
    assert_eq!(host.hull(&["get", "pods", "-l", "tier=back", "-o", "name"]).ok(), "pod/web\n");
    wait_until(SOON, "labels in the volume", || {
        let labels = host.hull(&["exec", "web", "-c", "main", "--", "cat", "/info/labels"]).stdout;
        if labels.contains("app=\"db\"") { Ok(()) } else { Err(labels) }
    });
    assert_eq!(shown(&host, ".metadata.generation"), "1");

    let deadline = |seconds| labelled.replace("Seconds: 1000", &format!("Seconds: {seconds}"));
    assert_eq!(host.apply(&deadline("900")), "pod/web configured\n");
    let refused = host.hull_with_input(&["apply", "-f", "-"], &deadline("901")).fails(1);
    let wanted = "The Pod \"web\" is invalid: spec.activeDeadlineSeconds: Invalid value: 901: must be less than or equal to previous value\n";
    assert_eq!(refused, wanted);
    let grace =
        deadline("900").replace("terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds: 6");
    let refused = host.hull_with_input(&["apply", "-f", "-"], &grace).fails(1);
    assert!(refused.contains("spec.terminationGracePeriodSeconds: 5 -> 6"), "{refused}");
    let tolerant =
        deadline("900").replace("  restartPolicy:", "  tolerations: [{operator: Exists}]\n  restartPolicy:");
    assert_eq!(host.apply(&tolerant), "pod/web configured\n");
    assert_eq!(shown(&host, ".metadata.generation"), "3");

    // The next supervisor knows of it.
    PodFiles::find(&host, "web").unwrap().replace_supervisor();
    assert_eq!(host.apply(&tolerant), "pod/web unchanged\n");
    assert_eq!(shown(&host, ".spec.activeDeadlineSeconds"), "900");
    assert_eq!(shown(&host, ".status.containerStatuses[*].containerID"), before);
    assert_eq!(host.apply(&tolerant.replace("Seconds: 900", "Seconds: 1")), "pod/web configured\n");
    host.wait_pod("web", SOON, "passed deadline", |pod| pod["status"]["reason"] == "DeadlineExceeded");
    host.leave_nothing();
}

#[test]
fn a_container_with_another_image_is_restarted_with_it() {
    let host = host!();
    host.apply_ready(POD);
    let other = shown(&host, ".status.containerStatuses[1].containerID");
    let changed = POD.replacen("image: busybox", "image: tutum/dnsutils", 1);
    assert_eq!(host.apply(&changed), "pod/web configured\n");
    let said = "Container main definition changed, will be restarted";
    host.wait_event("web", SOON, "Killing", said);
    let pod = host.wait_pod("web", SOON, "restarted container", |pod| {
        let main = &pod["status"]["containerStatuses"][0];
        main["restartCount"] == 1 && main["state"]["running"].is_object()
    });
    let statuses = &pod["status"]["containerStatuses"];
    assert!(text(&statuses[0]["image"]).contains("tutum/dnsutils"), "{statuses:#}");
    assert_eq!(statuses[0]["lastState"]["terminated"]["exitCode"], 0);
    assert_eq!(
        (text(&statuses[1]["containerID"]), &statuses[1]["restartCount"]),
        (other.as_str(), &0.into())
    );
    let found = host.hull(&["exec", "web", "-c", "main", "--", "sh", "-c", "command -v dig"]).ok();
    assert!(found.ends_with("dig\n"), "{found}");
    assert_eq!(host.apply(&changed), "pod/web unchanged\n");
    host.leave_nothing();
}
