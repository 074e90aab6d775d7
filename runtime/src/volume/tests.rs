//! Volumes on a real file system. What mounts runs in a mount namespace of its own: the test starts itself anew behind
//! `unshare`, or says why it cannot.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use hull_shim::layout::{Layout, PodLayout};
use jiff::Timestamp;

use super::step::{Action, Check, Content, File};
use super::*;

const INSIDE: &str = "HULL_TEST_MOUNT_NAMESPACE";

/// Whether the test is to go on here. If not, it ran inside a mount namespace or had to be skipped.
fn in_mount_namespace(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let usable = Command::new("unshare").args(["-m", "true"]).output().is_ok_and(|out| out.status.success());
    if !usable {
        eprintln!("skipped: a mount namespace cannot be made here (unshare -m)");
        return false;
    }
    let this = std::env::current_exe().unwrap();
    let name = format!("volume::tests::{name}");
    let out = Command::new("unshare")
        .args(["-m", "--propagation", "private"])
        .arg(this)
        .args(["--exact", &name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
    false
}

fn layout(root: &tempfile::TempDir) -> PodLayout {
    Layout::new(Some(root.path().canonicalize().unwrap())).pod("uid")
}

fn run(action: Action) -> Result<(), String> {
    let steps = vec![Step { volume: "v".to_owned(), action }];
    let mut errors = up(&TaskInput::Steps(UpInput { now: Timestamp::UNIX_EPOCH, steps }));
    errors.pop().map_or(Ok(()), |error| {
        assert_eq!((error.volume.as_str(), errors.len()), ("v", 0));
        Err(error.message)
    })
}

fn file(path: &str, mode: u32, text: &str) -> File {
    File { path: path.to_owned(), mode, content: Content::new(text.as_bytes()) }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_directory_is_open_to_all_and_made_once() {
    let root = tempfile::tempdir().unwrap();
    let path = layout(&root).volumes().join("v");
    let make = || run(Action::Directory { path: path.clone(), mode: 0o777, group: None });
    make().unwrap();
    assert_eq!(mode(&path), 0o777);
    std::fs::write(path.join("kept"), "x").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    make().unwrap();
    assert_eq!((mode(&path), names(&path)), (0o700, vec!["kept".to_owned()]));
}

#[test]
fn a_group_owns_what_is_made_in_its_directory() {
    let root = tempfile::tempdir().unwrap();
    let path = layout(&root).volumes().join("v");
    run(Action::Directory { path: path.clone(), mode: 0o777, group: Some(2000) }).unwrap();
    assert_eq!((mode(&path), std::fs::metadata(&path).unwrap().gid()), (0o2777, 2000));
    std::fs::write(path.join("new"), "").unwrap();
    assert_eq!(std::fs::metadata(path.join("new")).unwrap().gid(), 2000);
}

#[test]
fn a_half_made_directory_of_a_crash_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let path = layout(&root).volumes().join("v");
    std::fs::create_dir_all(path.with_file_name(".v.new")).unwrap();
    run(Action::Directory { path: path.clone(), mode: 0o777, group: None }).unwrap();
    assert_eq!(names(path.parent().unwrap()), ["v"]);
}

#[test]
fn a_volume_that_cannot_be_made_keeps_no_other_back() {
    let root = tempfile::tempdir().unwrap();
    let missing = Action::HostPath { path: root.path().join("none"), kind: Check::File };
    let made = |name: &str| Action::Directory { path: root.path().join(name), mode: 0o777, group: None };
    let actions =
        [("a", made("a")), ("b", missing.clone()), ("b", made("b")), ("c", missing), ("d", made("d"))];
    let steps = actions.map(|(volume, action)| Step { volume: volume.to_owned(), action });
    let errors = up(&TaskInput::Steps(UpInput { now: Timestamp::UNIX_EPOCH, steps: steps.into() }));
    assert_eq!(errors.iter().map(|error| error.volume.as_str()).collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(names(root.path()), ["a", "d"]);
}

#[test]
fn paths_of_the_host_are_checked_in_the_words_of_the_kubelet() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    std::fs::create_dir(at("dir")).unwrap();
    std::fs::write(at("file"), "").unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    let null = PathBuf::from("/dev/null");
    let good = [
        (at("dir"), Check::Directory),
        (at("dir"), Check::DirectoryOrCreate),
        (at("file"), Check::File),
        (at("file"), Check::FileOrCreate),
        (at("socket"), Check::Socket),
        (null.clone(), Check::CharDevice),
        (at("file"), Check::Unset),
        (at("a/b"), Check::Unset),
        (at("c/d"), Check::DirectoryOrCreate),
        (at("new"), Check::FileOrCreate),
    ];
    for (path, kind) in good {
        run(Action::HostPath { path, kind }).unwrap();
    }
    assert!(at("a/b").is_dir() && at("c/d").is_dir() && at("new").is_file());
    assert_eq!((mode(&at("c/d")), mode(&at("new"))), (0o755, 0o644));
    let bad = [
        (at("file"), Check::Directory, "directory"),
        (at("none"), Check::Directory, "directory"),
        (at("file"), Check::DirectoryOrCreate, "directory"),
        (at("dir"), Check::File, "file"),
        (at("dir"), Check::FileOrCreate, "file"),
        (at("file"), Check::Socket, "socket file"),
        (at("file"), Check::CharDevice, "character device"),
        (null, Check::BlockDevice, "block device"),
    ];
    for (path, kind, wanted) in bad {
        let expected = format!("hostPath type check failed: {} is not a {wanted}", path.display());
        assert_eq!(run(Action::HostPath { path, kind }), Err(expected));
    }
    let error = run(Action::HostPath { path: at("file/below"), kind: Check::DirectoryOrCreate }).unwrap_err();
    assert!(error.starts_with("mkdir ") && error.contains("file/below: Not a directory"), "{error}");
}

#[test]
fn files_change_all_at_once() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_owned();
    let write = |files: Vec<File>| run(Action::Files { path: path.clone(), files, group: None });
    write(vec![file("a", 0o644, "1"), file("x/y", 0o400, "2"), file("x/z", 0o444, "3")]).unwrap();
    assert_eq!(names(&path), ["..1970_01_01_00_00_00.0", "..data", "a", "x"]);
    assert_eq!(std::fs::read_link(path.join("a")).unwrap(), Path::new("..data/a"));
    assert_eq!(std::fs::read_link(path.join("..data")).unwrap(), Path::new("..1970_01_01_00_00_00.0"));
    assert_eq!(std::fs::read_to_string(path.join("x/y")).unwrap(), "2");
    assert_eq!((mode(&path.join("a")), mode(&path.join("x/y"))), (0o644, 0o400));
    // The same again changes nothing; something else replaces all.
    write(vec![file("a", 0o644, "1"), file("x/y", 0o400, "2"), file("x/z", 0o444, "3")]).unwrap();
    assert_eq!(names(&path)[0], "..1970_01_01_00_00_00.0");
    write(vec![file("a", 0o600, "1"), file("b", 0o644, "4")]).unwrap();
    assert_eq!(names(&path), ["..1970_01_01_00_00_00.1", "..data", "a", "b"]);
    assert_eq!(mode(&path.join("a")), 0o600);
}

#[test]
fn files_of_a_crash_are_cleaned_up() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_owned();
    std::fs::create_dir(path.join("..1970_01_01_00_00_00.0")).unwrap();
    std::fs::write(path.join("..1970_01_01_00_00_00.0/half"), "").unwrap();
    symlink("nowhere", path.join("..data_tmp")).unwrap();
    run(Action::Files { path: path.clone(), files: vec![file("a", 0o644, "1")], group: Some(7) }).unwrap();
    assert_eq!(names(&path), ["..1970_01_01_00_00_00.1", "..data", "a"]);
    let made = std::fs::metadata(path.join("a")).unwrap();
    assert_eq!((made.gid(), made.mode() & 0o777), (7, 0o644));
}

#[test]
fn a_secret_is_readable_for_the_pods_group() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_owned();
    run(Action::Files { path: path.clone(), files: vec![file("d/key", 0o400, "s")], group: Some(7) })
        .unwrap();
    assert_eq!((mode(&path.join("d/key")), mode(&path.join("d"))), (0o440, 0o2775));
}

#[test]
fn removal_does_not_follow_links_and_knows_no_depth() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "x").unwrap();
    let directory = root.path().join("volumes");
    let mut deep = directory.clone();
    std::fs::create_dir(&deep).unwrap();
    for _ in 0..200 {
        deep.push("d");
        std::fs::create_dir(&deep).unwrap();
        std::fs::write(deep.join("f"), "").unwrap();
        symlink(&outside, deep.join("link")).unwrap();
    }
    symlink(&outside, directory.join("link")).unwrap();
    down(&DownInput { directories: vec![directory.clone()] }).unwrap();
    assert!(!directory.exists() && outside.join("precious").exists());
    // Repeated, and through a link in its place.
    down(&DownInput { directories: vec![directory.clone()] }).unwrap();
    symlink(&outside, &directory).unwrap();
    down(&DownInput { directories: vec![directory.clone()] }).unwrap();
    assert!(directory.symlink_metadata().is_err() && outside.join("precious").exists());
}

#[test]
fn large_inputs_go_by_file() {
    let root = tempfile::tempdir().unwrap();
    let layout = layout(&root);
    std::fs::create_dir_all(layout.dir()).unwrap();
    std::fs::create_dir_all(layout.volumes().join("v")).unwrap();
    let steps = |text: &str| {
        let action = Action::Files {
            path: layout.volumes().join("v"),
            files: vec![file("k", 0o600, text)],
            group: None,
        };
        UpInput { now: Timestamp::UNIX_EPOCH, steps: vec![Step { volume: "v".to_owned(), action }] }
    };
    assert!(matches!(task_input(&layout, "volumes", steps("x")).unwrap(), TaskInput::Steps(_)));
    let text = "x".repeat(1 << 20);
    let input = task_input(&layout, "volumes", steps(&text)).unwrap();
    let json = serde_json::to_string(&input).unwrap();
    assert!(json.len() < 1000);
    let path = layout.dir().join(".volumes.json");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(up(&serde_json::from_str(&json).unwrap()), []);
    assert_eq!(std::fs::read_to_string(layout.volumes().join("v/k")).unwrap(), text);
    assert!(!path.exists());
}

#[test]
fn a_tmpfs_has_its_size_and_is_mounted_once() {
    if !in_mount_namespace("a_tmpfs_has_its_size_and_is_mounted_once") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let layout = layout(&root);
    let path = layout.volumes().join("v");
    let make = || run(Action::Tmpfs { path: path.clone(), size: Some(1 << 20), mode: 0o777, group: Some(9) });
    make().unwrap();
    std::fs::write(path.join("kept"), "x").unwrap();
    make().unwrap();
    assert_eq!((mode(&path), std::fs::metadata(&path).unwrap().gid()), (0o2777, 9));
    let found = rustix::fs::statvfs(&path).unwrap();
    assert_eq!(found.f_blocks * found.f_frsize, 1 << 20);
    assert!(std::fs::write(path.join("big"), vec![0; 2 << 20]).is_err());
    down(&all(&layout)).unwrap();
    assert!(!layout.volumes().exists() && path.symlink_metadata().is_err());
}

#[test]
fn removal_refuses_to_cross_a_mount() {
    if !in_mount_namespace("removal_refuses_to_cross_a_mount") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    let inside = root.path().join("tree/inside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::create_dir_all(&inside).unwrap();
    std::fs::write(outside.join("precious"), "x").unwrap();
    rustix::mount::mount_bind(&outside, &inside).unwrap();
    assert!(hull_shim::tree::remove(&root.path().join("tree")).is_err());
    assert!(outside.join("precious").exists());
    // The task itself unmounts first.
    let tree = root.path().canonicalize().unwrap().join("tree");
    down(&DownInput { directories: vec![tree.clone()] }).unwrap();
    assert!(!tree.exists() && outside.join("precious").exists());
}

#[test]
fn a_part_of_a_volume_stays_inside_it() {
    if !in_mount_namespace("a_part_of_a_volume_stays_inside_it") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let layout = layout(&root);
    let volume = layout.volumes().join("v");
    run(Action::Directory { path: volume.clone(), mode: 0o777, group: None }).unwrap();
    let outside = root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("precious"), "x").unwrap();
    symlink(&outside, volume.join("absolute")).unwrap();
    symlink("../../../../outside", volume.join("relative")).unwrap();
    let target = layout.sub_paths().join("app.0/0");
    let bind = |path: &str| {
        run(Action::SubPath { root: volume.clone(), path: path.to_owned(), target: target.clone() })
    };
    // A link that leaves the volume is read as one inside it, where there is nothing.
    for path in ["absolute", "relative"] {
        assert!(bind(path).unwrap_err().starts_with("open subPath "), "{path}");
        assert!(!target.join("precious").exists());
    }
    bind("a/b").unwrap();
    assert_eq!(mode(&volume.join("a/b")), 0o777);
    std::fs::write(target.join("f"), "1").unwrap();
    assert!(volume.join("a/b/f").exists());
    // Once bound, names in the volume do not matter any more.
    std::fs::rename(volume.join("a"), volume.join("moved")).unwrap();
    symlink(&outside, volume.join("a")).unwrap();
    assert!(target.join("f").exists() && !target.join("precious").exists());
    // Again, a file this time, as after a crash before the container was made.
    std::fs::write(volume.join("file"), "2").unwrap();
    bind("file").unwrap();
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "2");
    let instance = hull_shim::wire::InstanceId { container: "app".to_owned(), attempt: 0 };
    down(&of_instance(&layout, &instance)).unwrap();
    assert!(names(&layout.sub_paths()).is_empty() && volume.join("file").exists());
    down(&all(&layout)).unwrap();
    assert!(!volume.exists() && outside.join("precious").exists());
}
