//! Pods under podman.

use super::{IMAGE, Podman};

#[test]
fn a_pod_shares_its_namespaces() {
    let podman = caller!(Podman);
    podman.podman(&["pod", "create", "--name=pod", "--network=none", "--hostname=shared"]).ok();
    podman.podman(&["run", "-d", "--pod=pod", "--name=one", IMAGE, "sleep", "1000"]).ok();
    let namespace = |name: &str| podman.podman(&["exec", name, "readlink", "/proc/self/ns/net"]).ok();
    podman.podman(&["run", "-d", "--pod=pod", "--name=two", IMAGE, "sleep", "1000"]).ok();
    assert_eq!(namespace("one"), namespace("two"));
    assert_eq!(podman.podman(&["run", "--rm", "--pod=pod", IMAGE, "hostname"]).ok(), "shared\n");
    let stats =
        podman.podman(&["pod", "stats", "--no-stream", "--format", "{{.Name}} {{.PIDS}}", "pod"]).ok();
    assert!(stats.contains("one 1") && stats.contains("two 1"), "{stats}");
    podman.podman(&["pod", "pause", "pod"]).ok();
    assert_eq!(podman.field("one", ".State.Status"), "paused");
    podman.podman(&["pod", "unpause", "pod"]).ok();
    podman.podman(&["pod", "restart", "pod"]).ok();
    podman.podman(&["pod", "kill", "pod"]).ok();
    podman.podman(&["pod", "rm", "--force", "--time=0", "pod"]).ok();
    assert_eq!(podman.podman(&["ps", "-aq"]).ok(), "");
}

/// An init container that is kept: podman 4.3 sometimes fails to remove one that ends at once.
const MANIFEST: &str = "apiVersion: v1
kind: Pod
metadata: {name: web, annotations: {io.podman.annotations.init.container.type: always}}
spec:
  initContainers:
  - name: first
    image: IMAGE
    command: [sh, -c, 'echo made > /shared/file']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: main
    image: IMAGE
    command: [sh, -c, 'trap exit TERM; while :; do sleep 0.1; done']
    env: [{name: A, value: b}]
    resources: {limits: {memory: 50Mi}}
    securityContext: {runAsUser: 5, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]
";

#[test]
fn a_manifest_is_played_and_taken_down() {
    let podman = caller!(Podman);
    let path = podman.place.write("pod.yaml", &MANIFEST.replace("IMAGE", IMAGE));
    podman.podman(&["kube", "play", "--network=none", &path]).ok();
    let script = "id -u; echo $A; cat /shared/file /sys/fs/cgroup/memory/memory.limit_in_bytes; grep CapBnd /proc/self/status";
    let seen = podman.podman(&["exec", "web-main", "sh", "-c", script]).ok();
    assert_eq!(seen, "5\nb\nmade\n52428800\nCapBnd:\t0000000000000000\n");
    podman.podman(&["kube", "down", &path]).ok();
    assert_eq!(podman.podman(&["ps", "-aq"]).ok(), "");
}
