//! The command line: flags, output, error texts and exit codes are kubectl's.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hull_tests::{Host, host, skip};

const SOON: Duration = Duration::from_secs(10);

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, imagePullPolicy: IfNotPresent, command: [sleep, '1000']}
";

fn get(host: &Host, words: &[&str]) -> String {
    host.hull(&[&["get"], words].concat()).ok()
}

#[test]
fn pods_are_shown_in_every_form() {
    let host = host!();
    assert_eq!(host.hull(&["get", "pods"]).stderr, "No resources found in default namespace.\n");
    host.apply_ready(POD);
    host.apply_ready(
        &POD.replace("name: web,", "name: other, namespace: elsewhere,").replace("app: web", "app: other"),
    );
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let table = get(&host, &["pods"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(words(lines[0]), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(words(lines[1])[..4], ["web", "1/1", "Running", "0"]);
    assert_eq!(lines.len(), 2);
    let wide = get(&host, &["po", "-o", "wide"]);
    let tail = ["NODE", "NOMINATED", "NODE", "READINESS", "GATES"];
    assert!(words(wide.lines().next().unwrap()).ends_with(&tail.map(str::to_owned)), "{wide}");
    let all = get(&host, &["pods", "-A"]);
    assert_eq!(words(all.lines().next().unwrap())[0], "NAMESPACE");
    assert_eq!(all.lines().count(), 3);
    assert_eq!(get(&host, &["pods", "-A", "-l", "app=other", "-o", "name"]), "pod/other\n");
    assert_eq!(get(&host, &["pods", "-l", "app in (web,x),tier!=back", "-o", "name"]), "pod/web\n");
    assert_eq!(get(&host, &["pods", "-n", "elsewhere", "--no-headers"]).lines().count(), 1);
    assert_eq!(get(&host, &["pod", "web", "-o", "jsonpath={.metadata.labels.tier}"]), "front");
    assert_eq!(
        get(&host, &["pods", "-A", "-o", "jsonpath={range .items[*]}{.metadata.name}{\"\\n\"}{end}"])
            .lines()
            .count(),
        2
    );
    let list: serde_json::Value = serde_json::from_str(&get(&host, &["pods", "-o", "json"])).unwrap();
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&"List".into(), &"web".into()));
    assert!(get(&host, &["pod", "web", "-o", "yaml"]).starts_with("apiVersion: v1\nkind: Pod\nmetadata:\n"));
    host.leave_nothing();
}

#[test]
fn applying_again_changes_nothing_or_says_what_may_not_change() {
    let host = host!();
    let directory = host.root().join("manifests");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("pod.yaml"), POD).unwrap();
    fs::write(
        directory.join("svc.yml"),
        "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 1}]}}",
    )
    .unwrap();
    let path = directory.to_string_lossy().into_owned();
    assert_eq!(host.hull(&["apply", "-f", &path, "--validate"]).ok(), "pod/web valid\nservice/s valid\n");
    assert_eq!(get(&host, &["svc", "-o", "name"]), "");
    assert_eq!(host.hull(&["apply", "-f", &path]).ok(), "service/s created\npod/web created\n");
    assert_eq!(host.hull(&["apply", "-f", &path]).ok(), "service/s unchanged\npod/web unchanged\n");
    let changed = host.hull_with_input(&["apply", "-f", "-"], &POD.replace("'1000'", "'7'")).fails(1);
    let wanted = "The Pod \"web\" is invalid: spec: Forbidden: pod updates may not change fields other than";
    assert!(changed.starts_with(wanted), "{changed}");
    assert!(changed.contains("spec.containers[0].command[1]"), "{changed}");
    for (manifest, wanted) in [
        (
            POD.replace("name: main", "name: Main"),
            "The Pod \"web\" is invalid: spec.containers[0].name: Invalid value: \"Main\"",
        ),
        (POD.replace("containers:", "kontainers:"), "kontainers"),
        (POD.replace("kind: Pod", "kind: Deployment"), "Deployment"),
        ("{".to_owned(), "error: "),
    ] {
        let said = host.hull_with_input(&["apply", "-f", "-", "--validate"], &manifest).fails(1);
        assert!(said.contains(wanted), "{said}");
    }
    let missing = host.hull(&["apply", "-f", "/nonexistent.yaml"]).fails(1);
    assert!(missing.starts_with("error: "), "{missing}");
    host.hull(&["delete", "-f", &path]).ok();
    host.assert_clean();
}

#[test]
fn a_bad_file_keeps_no_other_object_from_coming_and_going() {
    let host = host!();
    let directory = host.root().join("manifests");
    fs::create_dir(&directory).unwrap();
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).unwrap();
    let other = POD.replace("name: web,", "name: other,");
    write("a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n");
    write("b.yaml", "metadata: [");
    write("c.yaml", &format!("{}---{POD}", POD.replace("name: web,", "name: Bad,")));
    write("d.yaml", &other);
    let path = directory.to_string_lossy().into_owned();
    let valid = host.hull(&["apply", "--validate", "-f", &path]);
    assert_eq!((valid.status.code(), valid.stdout.as_str()), (Some(1), "pod/web valid\npod/other valid\n"));
    let applied = host.hull(&["apply", "-f", &path, "--wait", "--timeout=30s"]);
    assert_eq!(applied.status.code(), Some(1), "{applied}");
    assert_eq!(applied.stdout, "pod/web created\npod/other created\n");
    for wanted in ["no matches for kind \"Deployment\"", "b.yaml:", "The Pod \"Bad\" is invalid: "] {
        assert!(applied.stderr.contains(wanted), "{applied}");
    }
    let missing = host.hull(&["apply", "-f", &path, "-f", "/nonexistent"]).fails(1);
    assert_eq!(missing, "error: the path \"/nonexistent\" does not exist\n");

    // What names a pod is enough to delete it.
    write("d.yaml", &other.replace("containers:", "kontainers:"));
    let deleted = host.hull(&["delete", "-f", &path, "--ignore-not-found"]);
    assert_eq!(deleted.status.code(), Some(1), "{deleted}");
    assert!(deleted.stdout.contains("pod \"web\" deleted"), "{deleted}");
    assert!(deleted.stdout.contains("pod \"other\" deleted"), "{deleted}");
    host.assert_clean();
}

#[test]
fn errors_and_exit_codes_are_those_of_kubectl() {
    let host = host!();
    for (words, wanted) in [
        (&["get", "pod", "x"][..], "Error from server (NotFound): pods \"x\" not found\n"),
        (&["delete", "pod", "x"], "Error from server (NotFound): pods \"x\" not found\n"),
        (&["logs", "x"], "Error from server (NotFound): pods \"x\" not found\n"),
        (&["describe", "pod", "x"], "Error from server (NotFound): pods \"x\" not found\n"),
        (&["wait", "pod/x", "--for=condition=Ready"], "Error from server (NotFound): pods \"x\" not found\n"),
    ] {
        assert_eq!(host.hull(words).fails(1), wanted, "{words:?}");
    }
    let kind = host.hull(&["get", "gadgets"]).fails(1);
    assert!(kind.starts_with("error: the server doesn't have a resource type \"gadgets\""), "{kind}");
    let out = host.hull(&["get", "pods", "-o", "toml"]).fails(1);
    assert!(out.contains("toml"), "{out}");
    host.hull(&["frobnicate"]).fails(1);
    host.hull(&["delete", "pod", "x", "--ignore-not-found"]).ok();
    assert!(host.hull(&["version"]).ok().contains(env!("CARGO_PKG_VERSION")));
    host.assert_clean();
}

#[test]
fn changes_are_watched_and_waited_for() {
    let host = host!();
    let watch = host.start(&["get", "pods", "-w"]);
    let events = host.start(&["events", "-w"]);
    host.apply(POD);
    host.hull(&["wait", "pod/web", "--for=condition=Ready", "--timeout=20s"]).ok();
    watch.wait_line(SOON, "running pod", |line| line.contains("1/1") && line.contains("Running"));
    events.wait_line(SOON, "Started", |line| line.contains("Started") && line.contains("web"));
    let said = host.hull(&["wait", "pod/web", "--for=jsonpath={.status.phase}=Running"]).ok();
    assert_eq!(said, "pod/web condition met\n");
    let late = host.hull(&["wait", "pod/web", "--for=condition=Other", "--timeout=1s"]).fails(1);
    assert_eq!(late, "error: timed out waiting for the condition on pods/web\n");
    let mut gone = host.start(&["wait", "pod/web", "--for=delete", "--timeout=20s"]);
    assert_eq!(host.hull(&["delete", "pod", "web"]).ok(), "pod \"web\" deleted from default namespace\n");
    assert!(gone.wait(SOON).success());
    watch.wait_line(SOON, "ending pod", |line| line.contains("Terminating"));
    drop((watch, events));
    host.assert_clean();
}

#[test]
fn the_end_of_a_pod_is_noticed_also_without_inotify() {
    let host = host!();
    host.apply_ready(POD);
    // A user namespace has limits of its own.
    let without = |words: &[&str]| {
        let script = "echo 0 >/proc/sys/user/max_inotify_instances && exec \"$@\"";
        let mut command = host.command("unshare");
        command.args(["--user", "--map-root-user", "--", "sh", "-c", script, "sh"]);
        command
            .arg(hull_tests::binaries::program("hull").unwrap())
            .arg("--root")
            .arg(host.root())
            .args(words);
        command
    };
    let mut gone =
        hull_tests::Running::start(&mut without(&["wait", "pod/web", "--for=delete", "--timeout=20s"]));
    let deleted = hull_tests::command::run(&mut without(&["delete", "pod", "web"]), "", 2 * SOON).ok();
    assert_eq!(deleted, "pod \"web\" deleted from default namespace\n");
    assert!(gone.wait(SOON).success());
    host.assert_clean();
}

#[test]
fn run_prints_what_a_pod_says_and_leaves_nothing() {
    let host = host!();
    let pod = POD
        .replace("[sleep, '1000']", "[sh, -c, 'echo one; sleep 0.2; echo two']")
        .replace("  containers:", "  restartPolicy: Never\n  containers:");
    let output = host.hull_with_input(&["run", "-f", "-"], &pod);
    assert!(output.stdout.contains("one\n") && output.stdout.contains("two\n"), "{output}");
    output.ok();
    let failing = host.hull_with_input(&["run", "-f", "-"], &pod.replace("echo two", "exit 3"));
    assert!(!failing.status.success(), "{failing}");
    host.assert_clean();
}

#[test]
fn completions_and_manual_pages_come_from_the_same_definitions() {
    let host = match Host::without_images() {
        Ok(host) => host,
        Err(reason) => skip!("{reason}"),
    };
    let script = host.hull(&["completion", "bash"]).ok();
    let checked = hull_tests::command::run(Command::new("bash").arg("-n"), &script, SOON);
    checked.ok();
    for shell in ["zsh", "fish"] {
        assert!(host.hull(&["completion", shell]).ok().contains("apply"), "{shell}");
    }
    let pages = host.root().join("man");
    fs::create_dir(&pages).unwrap();
    host.hull(&["man", &pages.to_string_lossy()]).ok();
    let page = fs::read_to_string(pages.join("hull-apply.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("validate"), "{page}");
    assert!(!pages.join("hull-supervise.1").exists());
}
