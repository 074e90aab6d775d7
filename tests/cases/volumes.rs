//! Volumes: what is in them, whose they are, and what may not be reached through them.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use hull_tests::pod::busybox;
use hull_tests::{Host, PodFiles, host, wait_until};

const SOON: Duration = Duration::from_secs(10);

fn pod(name: &str, mounts: &str, volumes: &str) -> String {
    let rest = format!(
        "    command: [sleep, '1000']
    resources: {{limits: {{memory: 64Mi}}}}
    volumeMounts: {mounts}
  - name: side
    image: busybox
    imagePullPolicy: IfNotPresent
    command: [sleep, '1000']
    volumeMounts: {mounts}
  volumes:
{volumes}
"
    );
    busybox(&format!("name: {name}, labels: {{app: shop}}, annotations: {{note: 'two words'}}"), &rest)
}

fn sh(host: &Host, pod: &str, script: &str) -> String {
    host.hull(&["exec", pod, "-c", "main", "--", "sh", "-c", script]).ok().trim().to_owned()
}

#[test]
fn an_empty_directory_is_shared_and_ends_with_its_pod() {
    let host = host!();
    let mounts = "[{name: disk, mountPath: /disk}, {name: memory, mountPath: /memory}]";
    let volumes =
        "  - {name: disk, emptyDir: {}}\n  - {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}";
    host.apply_ready(&pod("empty", mounts, volumes));
    sh(&host, "empty", "echo here >/disk/file; test $(stat -c %a /disk) = 777");
    assert_eq!(host.hull(&["exec", "empty", "-c", "side", "--", "cat", "/disk/file"]).ok(), "here\n");
    let table = sh(&host, "empty", "grep ' /memory ' /proc/mounts");
    assert!(table.starts_with("tmpfs ") || table.contains(" tmpfs "), "{table}");
    let full = sh(&host, "empty", "dd if=/dev/zero of=/memory/x bs=64k count=32 2>&1; true");
    assert!(full.contains("No space left"), "{full}");
    host.leave_nothing();
}

#[test]
fn a_directory_of_the_host_is_what_its_type_says() {
    let host = host!();
    let outside = host.root().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "of the host").unwrap();
    let path = outside.display();
    let mounts = "[{name: plain, mountPath: /plain}, {name: fixed, mountPath: /fixed, readOnly: true}, \
        {name: made, mountPath: /made}]";
    let volumes = format!(
        "  - {{name: plain, hostPath: {{path: {path}, type: Directory}}}}
  - {{name: fixed, hostPath: {{path: {path}/file, type: File}}}}
  - {{name: made, hostPath: {{path: {path}/new, type: DirectoryOrCreate}}}}"
    );
    host.apply_ready(&pod("paths", mounts, &volumes));
    assert_eq!(sh(&host, "paths", "cat /fixed"), "of the host");
    sh(&host, "paths", "echo inside >/plain/other; echo made >/made/x");
    assert_eq!(fs::read_to_string(outside.join("other")).unwrap(), "inside\n");
    assert_eq!(fs::read_to_string(outside.join("new/x")).unwrap(), "made\n");
    assert!(sh(&host, "paths", "(echo x >/fixed) 2>&1; true").contains("Read-only file system"));
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "of the host");

    let wrong = format!("  - {{name: plain, hostPath: {{path: {path}/none, type: Directory}}}}");
    host.apply(&pod("wrong", "[{name: plain, mountPath: /plain}]", &wrong));
    let text = event(&host, "wrong", "FailedMount");
    assert!(text.contains("hostPath type check failed"), "{text}");
    host.wait_row("wrong", SOON, "0/2", "ContainerCreating");
    host.leave_nothing();
    // What is the host's stays.
    assert!(outside.join("new/x").exists());
}

/// Waits for an event with this reason, and returns its message.
fn event(host: &Host, pod: &str, reason: &str) -> String {
    wait_until(SOON, reason, || {
        let text = host.hull(&["events", "--for", &format!("pod/{pod}")]).ok();
        text.lines().find(|line| line.contains(reason)).map(str::to_owned).ok_or(text)
    })
}

const OBJECTS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red, size: '7'}
binaryData: {raw: AAEC}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: s3cret}
---
";

#[test]
fn files_are_made_of_objects_with_their_modes() {
    let host = host!();
    let mounts = "[{name: config, mountPath: /config}, {name: secret, mountPath: /secret}, \
        {name: all, mountPath: /all}, {name: down, mountPath: /down}, \
        {name: config, mountPath: /one, subPath: color}]";
    let volumes = "
  - {name: config, configMap: {name: settings, defaultMode: 0640, items: [{key: color, path: deep/color}, {key: raw, path: raw, mode: 0600}, {key: color, path: color}]}}
  - {name: secret, secret: {secretName: keys}}
  - name: all
    projected:
      sources:
      - {configMap: {name: settings, items: [{key: size, path: size}]}}
      - {secret: {name: keys}}
      - {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}
  - name: down
    downwardAPI:
      items:
      - {path: labels, fieldRef: {fieldPath: metadata.labels}}
      - {path: memory, resourceFieldRef: {containerName: main, resource: limits.memory}}
";
    host.apply_ready(&format!("{OBJECTS}{}", pod("files", mounts, volumes)));
    assert_eq!(sh(&host, "files", "cat /config/deep/color; stat -Lc ' %a' /config/deep/color"), "red 640");
    assert_eq!(sh(&host, "files", "od -An -tx1 /config/raw; stat -Lc %a /config/raw"), "00 01 02\n600");
    assert_eq!(sh(&host, "files", "cat /secret/token; stat -Lc ' %a' /secret/token"), "s3cret 644");
    assert!(sh(&host, "files", "grep ' /secret ' /proc/mounts").contains("tmpfs"));
    assert_eq!(sh(&host, "files", "cd /all; cat size name token"), "7filess3cret");
    assert_eq!(sh(&host, "files", "cat /down/labels; echo; cat /down/memory"), "app=\"shop\"\n67108864");
    assert_eq!(sh(&host, "files", "cat /one"), "red");
    let said = sh(&host, "files", "(echo x >/config/y) 2>&1; rm /secret/token 2>&1; true");
    assert!(said.matches("Read-only file system").count() == 2, "{said}");
    host.hull(&["delete", "cm/settings", "secret/keys"]).ok();
    host.leave_nothing();
}

#[test]
fn files_follow_their_objects_but_those_of_a_sub_path() {
    let host = host!();
    let mounts = "[{name: config, mountPath: /config}, {name: secret, mountPath: /secret}, \
        {name: all, mountPath: /all}, {name: config, mountPath: /one, subPath: color}]";
    let volumes = "
  - {name: config, configMap: {name: settings}}
  - {name: secret, secret: {secretName: keys}}
  - name: all
    projected: {sources: [{configMap: {name: settings, items: [{key: size, path: size}]}}, {secret: {name: keys}}]}
";
    host.apply_ready(&format!("{OBJECTS}{}", pod("follows", mounts, volumes)));
    let changed = OBJECTS.replace("{color: red, size: '7'}", "{color: blue, size: '8', shape: round}");
    let changed = changed.replace("s3cret", "n3w").trim_end().trim_end_matches("---").to_owned();
    host.apply(&changed);
    let show = "cat /config/color /config/shape /secret/token /all/size /all/token /one 2>&1; true";
    let shows = |wanted: &str| {
        wait_until(SOON, wanted, || {
            let shown = sh(&host, "follows", show);
            if shown == wanted { Ok(()) } else { Err(shown) }
        });
    };
    shows("blueroundn3w8n3wred");
    // What is gone stays as it was, and does not keep others from changing.
    host.hull(&["delete", "secret/keys"]).ok();
    host.apply(&changed.replace("blue", "green"));
    shows("greenroundn3w8n3wred");
    // A supervisor that was not there when it changed finds out.
    let files = PodFiles::find(&host, "follows").unwrap();
    files.kill_supervisor();
    host.apply(&changed.replace("round", "square"));
    shows("bluesquaren3w8n3wred");
    host.hull(&["delete", "cm/settings", "secret/keys"]).ok();
    host.leave_nothing();
}

#[test]
fn a_volume_that_cannot_be_written_keeps_no_other_back_and_is_tried_again() {
    let host = host!();
    let mounts = "[{name: first, mountPath: /first}, {name: second, mountPath: /second}]";
    let volumes =
        "  - {name: first, configMap: {name: settings}}\n  - {name: second, configMap: {name: settings}}";
    host.apply_ready(&format!("{OBJECTS}{}", pod("stuck", mounts, volumes)));
    let uid = PodFiles::find(&host, "stuck").unwrap().uid();
    let obstacle = host.root().join("lib/pods").join(uid).join("volumes/first/..data_tmp");
    fs::create_dir(&obstacle).unwrap();
    host.apply(OBJECTS.replace("red", "blue").trim_end().trim_end_matches("---"));
    let shows = |wanted: &str| {
        wait_until(SOON, wanted, || {
            let shown = sh(&host, "stuck", "cat /first/color; echo; cat /second/color");
            if shown == wanted { Ok(()) } else { Err(shown) }
        });
    };
    shows("red\nblue");
    fs::remove_dir(&obstacle).unwrap();
    shows("blue\nblue");
    host.hull(&["delete", "cm/settings", "secret/keys"]).ok();
    host.leave_nothing();
}

#[test]
fn a_volume_of_the_image_can_be_written_to_although_the_root_cannot() {
    let host = host!();
    host.apply_ready(
        "
apiVersion: v1
kind: Pod
metadata: {name: image}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: redis
    imagePullPolicy: IfNotPresent
    command: [sh, -c, 'trap \"exit 0\" USR1; while :; do sleep 0.1; done']
    securityContext: {readOnlyRootFilesystem: true}
",
    );
    sh(&host, "image", "echo here >/data/file && test $(cat /data/file) = here");
    assert!(sh(&host, "image", "(: >/file) 2>&1; true").contains("Read-only file system"));
    // It is of the instance, and goes with it.
    sh(&host, "image", "kill -USR1 1");
    host.wait_pod("image", SOON, "a restart", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    });
    sh(&host, "image", "test ! -e /data/file && echo there >/data/file");
    host.leave_nothing();
}

#[test]
fn a_pod_waits_for_an_object_that_its_volume_needs() {
    let host = host!();
    let volumes = "  - {name: config, configMap: {name: settings}}";
    host.apply(&pod("waits", "[{name: config, mountPath: /config}]", volumes));
    let text = event(&host, "waits", "FailedMount");
    let wanted = "MountVolume.SetUp failed for volume \"config\" : configmap \"settings\" not found";
    assert!(text.contains(wanted), "{text}");
    host.wait_row("waits", SOON, "0/2", "ContainerCreating");
    host.apply(OBJECTS.trim_end().trim_end_matches("---"));
    host.wait_row("waits", Duration::from_secs(20), "2/2", "Running");
    assert_eq!(sh(&host, "waits", "cat /config/size"), "7");
    host.hull(&["delete", "cm/settings", "secret/keys"]).ok();
    host.leave_nothing();
}

#[test]
fn a_part_of_a_volume_cannot_lead_out_of_it() {
    let host = host!();
    let outside = host.root().join("outside");
    fs::create_dir_all(outside.join("volume/good")).unwrap();
    fs::write(outside.join("volume/good/file"), "good").unwrap();
    fs::write(outside.join("private"), "private").unwrap();
    symlink("../private", outside.join("volume/relative")).unwrap();
    symlink(outside.join("private"), outside.join("volume/absolute")).unwrap();
    symlink("good", outside.join("volume/inside")).unwrap();
    let volumes = format!("  - {{name: part, hostPath: {{path: {}/volume}}}}", outside.display());
    let mounts = |part: &str| format!("[{{name: part, mountPath: /part, subPath: {part}}}]");
    host.apply_ready(&pod("good", &mounts("good"), &volumes));
    assert_eq!(sh(&host, "good", "cat /part/file"), "good");
    host.apply_ready(&pod("made", &mounts("not/there"), &volumes));
    assert!(outside.join("volume/not/there").is_dir());
    for (name, part) in [("relative", "relative"), ("absolute", "absolute")] {
        host.apply(&pod(name, &mounts(part), &volumes));
        host.wait_row(name, SOON, "0/2", "CreateContainerConfigError");
    }
    host.leave_nothing();
}
