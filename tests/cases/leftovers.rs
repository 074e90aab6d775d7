//! Damage from outside: files that are broken, a disk that is full, rights that are missing. What happens is said
//! clearly, and nothing stays that cannot be removed.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hull_tests::pod_files::kill_now;
use hull_tests::{Host, Output, PodFiles, binaries, host, skip, wait_until};
use nix::mount::{MsFlags, mount};

const SOON: Duration = Duration::from_secs(20);

fn pod(name: &str) -> String {
    let command = "trap 'exit 0' TERM; while :; do echo line; sleep 0.1; done";
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - {{name: main, image: busybox, command: [sh, -c, {command:?}]}}
"
    )
}

/// Not one of hull's words about itself speaks of a panic.
fn assert_no_panic(output: &Output) {
    assert!(!output.stderr.contains("panicked"), "{output}");
}

fn kill_all(files: &PodFiles) {
    let supervisor = files.processes().supervisor;
    files.kill_shim_for_good();
    supervisor.into_iter().for_each(kill_now);
}

#[test]
fn a_pod_with_damaged_records_is_told_and_can_be_removed_by_force() {
    let host = host!();
    host.apply(&pod("healthy"));
    host.wait_row("healthy", SOON, "1/1", "Running");
    for file in ["shim.json", "record.json", "sandbox.json", "manifest.json"] {
        host.apply(&pod("a"));
        host.wait_row("a", SOON, "1/1", "Running");
        let files = PodFiles::find(&host, "a").unwrap();
        kill_all(&files);
        fs::write(files.file(file), "{\"half\": ").unwrap();
        let output = host.hull(&["get", "pod", "a"]);
        assert_no_panic(&output);
        assert!(!output.status.success() && output.stderr.contains("--force"), "{file}: {output}");
        assert!(output.stderr.contains(file), "{file}: {output}");
        // The others are not hidden by it.
        let output = host.hull(&["get", "pods"]);
        assert!(output.stdout.contains("healthy"), "{file}: {output}");
        let output = host.hull(&["delete", "pod", "a", "--force"]);
        assert!(output.status.success(), "{file}: {output}");
        assert_eq!(host.leftovers().iter().filter(|one| one.contains(&files.uid())).count(), 0, "{file}");
        assert!(PodFiles::find(&host, "a").is_none());
    }
    host.wait_row("healthy", SOON, "1/1", "Running");
    host.delete("healthy", &["--now"]);
    host.assert_clean();
}

#[test]
fn a_pod_without_any_of_its_files_is_removed_by_force() {
    let host = host!();
    host.apply(&pod("a"));
    host.wait_row("a", SOON, "1/1", "Running");
    let files = PodFiles::find(&host, "a").unwrap();
    kill_all(&files);
    for file in ["shim.json", "record.json", "sandbox.json", "manifest.json", "shim.pid", "api.sock"] {
        fs::remove_file(files.file(file)).unwrap();
    }
    let output = host.hull(&["delete", "pod", "a", "--force"]);
    assert!(output.status.success(), "{output}");
    host.assert_clean();
}

#[test]
fn what_a_dead_shim_left_without_a_name_goes_with_the_next_apply() {
    let host = host!();
    host.apply(&pod("a"));
    host.wait_row("a", SOON, "1/1", "Running");
    let files = PodFiles::find(&host, "a").unwrap();
    kill_all(&files);
    fs::remove_file(host.root().join("run/names/default/a")).unwrap();
    host.apply(&pod("b"));
    host.delete("b", &["--now"]);
    host.assert_clean();
}

/// A host whose directory is a file system of this size.
fn small_host(size: &str) -> Result<Host, String> {
    let host = Host::new()?;
    let store = fs::read_link(host.root().join("lib/images")).map_err(|error| error.to_string())?;
    let options = format!("size={size}");
    mount(Some("small"), host.root(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        .map_err(|error| error.to_string())?;
    fs::create_dir_all(host.root().join("lib")).map_err(|error| error.to_string())?;
    std::os::unix::fs::symlink(store, host.root().join("lib/images")).map_err(|error| error.to_string())?;
    Ok(host)
}

fn fill(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    let mut size = 65536;
    while size > 0 {
        if file.write_all(&vec![0; size]).is_err() {
            size /= 2;
        }
    }
}

#[test]
fn a_full_disk_is_told_and_pods_go_on_when_there_is_room() {
    let host = match small_host("6m") {
        Ok(host) => host,
        Err(reason) => skip!("{reason}"),
    };
    host.apply(&pod("a"));
    host.wait_row("a", SOON, "1/1", "Running");
    let files = PodFiles::find(&host, "a").unwrap();
    let filler = host.root().join("filler");
    fill(&filler);

    let output = host.hull_with_input(&["apply", "-f", "-"], &pod("b"));
    assert_no_panic(&output);
    assert!(output.stderr.to_lowercase().contains("no space left on device"), "{output}");
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(PodFiles::find(&host, "b").is_none(), "nothing of it is left");
    assert_eq!(host.columns("a").unwrap()[2], "Running");
    assert_eq!(host.exec("a", &["echo", "here"]).ok(), "here\n");

    // What happens meanwhile is not lost: it is decided upon when it can be written down.
    let before = files.processes();
    kill_now(before.containers["main"].pid);
    before.supervisor.into_iter().for_each(kill_now);
    assert_no_panic(&host.hull(&["get", "pods"]));
    fs::remove_file(&filler).unwrap();
    host.wait_pod("a", SOON, "a restart", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["restartCount"] == 1 && status["state"]["running"].is_object()
    });
    host.apply(&pod("b"));
    host.wait_row("b", SOON, "1/1", "Running");
    fill(&filler);
    let mut delete = host.start(&["delete", "pods", "--all"]);
    assert_no_panic(&host.hull(&["get", "pods"]));
    fs::remove_file(&filler).unwrap();
    assert!(delete.wait(Duration::from_secs(40)).success(), "{:?}", delete.lines());
    wait_until(SOON, "nothing left", || {
        let left = host.leftovers();
        let left: Vec<_> =
            left.iter().filter(|one| **one != format!("mount {}", host.root().display())).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn a_pod_is_removed_by_force_from_a_full_disk() {
    let host = match small_host("6m") {
        Ok(host) => host,
        Err(reason) => skip!("{reason}"),
    };
    host.apply(&pod("a"));
    host.wait_row("a", SOON, "1/1", "Running");
    let files = PodFiles::find(&host, "a").unwrap();
    fill(&host.root().join("filler"));
    let output = host.hull(&["delete", "pod", "a", "--force"]);
    assert!(output.status.success(), "{output}");
    let left = host.leftovers();
    assert!(!left.iter().any(|one| one.contains(&files.uid())), "{left:?}");
}

#[test]
fn who_is_not_root_is_told_what_is_missing() {
    let host = host!();
    let hull = match binaries::program("hull") {
        Ok(hull) => hull,
        Err(reason) => skip!("{reason}"),
    };
    // A place that the user can reach, so that nothing but the right to write is missing.
    let copy = host.root().join("hull");
    hull_tests::command::copy_program(&hull, &copy);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(host.root(), open).unwrap();
    let run = |arguments: &[&str], input: &str| {
        let mut command = host.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&copy);
        command.arg("--root").arg(host.root()).args(arguments);
        hull_tests::command::run(&mut command, input, SOON)
    };
    let output = run(&["apply", "-f", "-"], &pod("a"));
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert!(output.stderr.to_lowercase().contains("permission denied"), "{output}");
    assert!(output.stderr.contains("hint: hull runs as root"), "{output}");
    host.apply(&pod("a"));
    host.wait_row("a", SOON, "1/1", "Running");
    for arguments in [&["get", "pods"] as &[&str], &["delete", "pod", "a"], &["exec", "a", "--", "true"]] {
        let output = run(arguments, "");
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(output.stderr.to_lowercase().contains("permission denied"), "{output}");
        assert_no_panic(&output);
    }
    host.wait_row("a", SOON, "1/1", "Running");
    host.delete("a", &["--now"]);
    host.assert_clean();
}

#[test]
fn a_root_that_cannot_be_one_is_named() {
    let host = host!();
    let file = host.root().join("file");
    fs::write(&file, "").unwrap();
    for (root, word) in [(file.join("below"), "not a directory"), ("/proc/1/nowhere".into(), "nowhere")] {
        let mut command = host.command(binaries::program("hull").unwrap());
        command.arg("--root").arg(&root).args(["apply", "-f", "-"]);
        let output = hull_tests::command::run(&mut command, &pod("a"), SOON);
        assert_eq!(output.status.code(), Some(1), "{output}");
        assert!(output.stderr.to_lowercase().contains(word), "{output}");
        assert_no_panic(&output);
    }
}

#[test]
fn a_long_root_is_no_obstacle() {
    let host = host!();
    // Longer than the path of a socket may be.
    let root = host.root().join("x".repeat(150));
    fs::create_dir_all(root.join("lib")).unwrap();
    std::os::unix::fs::symlink(host.root().join("lib/images"), root.join("lib/images")).unwrap();
    let hull = |arguments: &[&str], input: &str| {
        let mut command = host.command(binaries::program("hull").unwrap());
        command.arg("--root").arg(&root).args(arguments);
        hull_tests::command::run(&mut command, input, Duration::from_secs(40))
    };
    let output = hull(&["apply", "-f", "-", "--wait"], &pod("a"));
    assert!(output.status.success(), "{output}");
    assert_eq!(hull(&["exec", "a", "--", "echo", "here"], "").ok(), "here\n");
    let output = hull(&["delete", "pod", "a", "--now"], "");
    assert!(output.status.success(), "{output}");
    host.assert_clean();
}
