//! Flags that change what is dumped.

use std::fs;
use std::os::unix::fs::MetadataExt;

use hull_tests::criu;

use super::{checkpoint, counting, counts_beyond, restore, there_and_back, up};
use crate::bundle::{Bundle, is_peer};

#[test]
fn memory_is_dumped_ahead_and_the_rest_later() {
    let bundle = counting!();
    up(&bundle);
    let at = counts_beyond(&bundle, 3);
    let ahead = checkpoint(&bundle, &["--pre-dump", "--image-path", "parent"]);
    assert_eq!(bundle.status(), "running");
    if !criu::has("mem_dirty_track") {
        let told = ahead.fails(1);
        assert!(told.to_lowercase().contains("criu is missing features"), "{told}");
        println!("the kernel does not tell which memory changed: only the refusal was seen");
        return;
    }
    ahead.ok();
    checkpoint(&bundle, &["--parent-path", "../parent", "--image-path", "rest"]).ok();
    assert!(fs::symlink_metadata(bundle.path("rest/parent")).unwrap().is_symlink());
    restore(&bundle, &["--image-path", "rest"]).ok();
    counts_beyond(&bundle, at);
}

#[test]
fn a_flag_that_makes_no_sense_is_told_by_name() {
    let bundle = counting!();
    up(&bundle);
    let told = |flags: &[&str]| checkpoint(&bundle, flags).fails(1);
    // runc 1.1 has no dashes in it.
    let mode = told(&["--manage-cgroups-mode", "none"]).to_lowercase().replace('-', " ");
    assert!(mode.contains("invalid manage cgroups mode"), "{mode}");
    assert!(told(&["--empty-ns", "ipc"]).contains("is not supported"));
    assert!(told(&["--parent-path", "/tmp"]).contains("--parent-path"));
    assert!(told(&["--page-server", "nowhere"]).to_lowercase().contains("use --page-server address:port"));
    if !is_peer() {
        assert!(told(&["--status-fd", "77"]).contains("invalid --status-fd argument 77"));
    }
    assert_eq!(bundle.status(), "running");
}

#[test]
fn groups_are_those_of_the_runtime_in_either_mode() {
    // criu writes the files of every group anew in mode `full`, those of the host's root too, which hybrid hosts refuse.
    // runc 1.1 does not know `ignore`.
    for mode in if is_peer() { &["soft"][..] } else { &["soft", "ignore"] } {
        let bundle = counting!();
        up(&bundle);
        there_and_back(&bundle, &["--manage-cgroups-mode", mode], || ());
        assert!(!bundle.groups().is_empty(), "{mode}");
        let shown = bundle.exec(&["/bin/cat", "/proc/1/cgroup"]).ok();
        assert!(shown.contains(&bundle.id), "{mode}: {shown}");
    }
}

#[test]
fn a_deleted_file_is_kept_open() {
    let mut bundle = counting!();
    let script = format!("exec 5>/work/gone; /bin/busybox rm /work/gone; {}", super::COUNTER);
    bundle.script(&script);
    up(&bundle);
    there_and_back(&bundle, &["--file-locks"], || ());
    let opened = bundle.exec(&["/bin/readlink", "/proc/1/fd/5"]).ok();
    assert!(opened.contains("(deleted)"), "{opened}");
}

/// How much room the memory of a checkpoint takes.
fn room(bundle: &Bundle) -> u64 {
    let files = fs::read_dir(bundle.path("checkpoint")).unwrap().flatten();
    let pages = files.filter(|file| file.file_name().to_string_lossy().starts_with("pages-"));
    pages.map(|file| file.metadata().unwrap().blocks()).sum()
}

#[test]
fn memory_that_is_restored_gives_its_room_back_on_request() {
    let bundle = counting!();
    up(&bundle);
    // At a checkpoint it is about an earlier one, of which this one takes the place.
    there_and_back(&bundle, &[], || assert!(room(&bundle) > 0));
    assert!(room(&bundle) > 0);
    let mut before = 0;
    there_and_back(&bundle, &["--auto-dedup"], || before = room(&bundle));
    assert!(before > 0 && room(&bundle) < before / 2, "{before}, then {}", room(&bundle));
}

#[test]
fn a_file_that_has_another_name_left_is_kept_open_on_request() {
    if is_peer() {
        // runc 1.1 has no such flag.
        return;
    }
    let mut bundle = counting!();
    let prepare = "exec 5>/work/gone; /bin/busybox ln /work/gone /work/other; /bin/busybox rm /work/gone";
    bundle.script(&format!("{prepare}; {}", super::COUNTER));
    up(&bundle);
    counts_beyond(&bundle, 3);
    let told = checkpoint(&bundle, &[]).fails(1);
    assert!(told.contains("link-remap"), "{told}");
    let at = counts_beyond(&bundle, super::count(&bundle).unwrap_or_default());
    checkpoint(&bundle, &["--link-remap"]).ok();
    restore(&bundle, &[]).ok();
    counts_beyond(&bundle, at);
    bundle.exec(&["/bin/sh", "-c", "echo same > /proc/1/fd/5"]).ok();
    assert_eq!(bundle.read("rootfs/work/other"), "same\n");
}

#[test]
fn memory_goes_to_a_server_on_request() {
    let bundle = counting!();
    up(&bundle);
    let at = counts_beyond(&bundle, 3);
    let images = bundle.path("served").display().to_string();
    fs::create_dir(&images).unwrap();
    let port = (30_000 + std::process::id() % 10_000).to_string();
    let mut serve = std::process::Command::new(criu::program().unwrap());
    serve.args(["page-server", "--address", "127.0.0.1", "--port", &port, "--images-dir", &images]);
    serve.args(["-v4", "--log-file", "server.log"]);
    let mut server = hull_tests::Running::start(&mut serve);
    let log = bundle.path("served/server.log");
    hull_tests::wait_until(super::LIMIT, "the page server", || match fs::read_to_string(&log) {
        Ok(text) if text.contains("Starting page server") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    checkpoint(&bundle, &["--page-server", &format!("127.0.0.1:{port}")]).ok();
    assert!(server.wait(super::LIMIT).success());
    assert_eq!(room(&bundle), 0);
    restore(&bundle, &[]).fails(1);
    for file in fs::read_dir(&images).unwrap().flatten() {
        fs::rename(file.path(), bundle.path("checkpoint").join(file.file_name())).unwrap();
    }
    restore(&bundle, &[]).ok();
    counts_beyond(&bundle, at);
}

#[test]
fn who_fetches_memory_later_is_told_when_it_can_be_had() {
    let bundle = counting!();
    if !criu::has("uffd-noncoop") {
        hull_tests::skip!("the kernel has no userfaultfd that criu can use");
    }
    up(&bundle);
    counts_beyond(&bundle, 3);
    let port = 20_000 + (std::process::id() % 10_000) as u16;
    let mut dump = dump_without_memory(&bundle, port);
    // Who wants nothing lets it end.
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    dump.wait(super::LIMIT);
}

#[test]
fn memory_is_fetched_when_it_is_needed() {
    if std::env::var_os("HULL_VM").is_none() {
        return println!("left out: without CAP_SYS_RESOURCE criu's own lazy restore hangs, under runc too");
    }
    let mut bundle = counting!();
    if !criu::has("uffd-noncoop") {
        hull_tests::skip!("the kernel has no userfaultfd that criu can use");
    }
    up(&bundle);
    let at = counts_beyond(&bundle, 3);
    let port = 10_000 + (std::process::id() % 10_000) as u16;
    let mut dump = dump_without_memory(&bundle, port);
    let fetched = bundle.path("fetched");
    fs::create_dir(&fetched).unwrap();
    let mut fetch = std::process::Command::new(criu::program().unwrap());
    fetch.args(["lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", &port.to_string()]);
    fetch.arg("--images-dir").arg(bundle.path("lazy")).arg("--work-dir").arg(&fetched);
    let mut fetching = hull_tests::Running::start(&mut fetch);
    hull_tests::wait_until(super::LIMIT, "the socket of who fetches", || {
        let there = fetched.join("lazy-pages.socket").exists();
        if there { Ok(()) } else { Err(format!("{} is not there", fetched.display())) }
    });
    // The one that is dumped is there until all its memory was fetched.
    let again = format!("{}-again", bundle.id);
    bundle.configure(|config| config["linux"]["cgroupsPath"] = format!("/{again}").into());
    bundle
        .detached(&[
            "restore",
            "-d",
            "--lazy-pages",
            "--image-path",
            "lazy",
            "--work-path",
            "fetched",
            &again,
        ])
        .ok();
    counts_beyond(&bundle, at);
    assert!(fetching.wait(super::LIMIT).success());
    assert!(dump.wait(super::LIMIT).success());
    bundle.oci(&["state", &bundle.id]).fails(1);
    let state = bundle.oci(&["state", &again]).ok();
    assert!(state.contains("running"), "{state}");
    counts_beyond(&bundle, super::count(&bundle).unwrap_or_default());
}

/// A `checkpoint` that keeps the memory until somebody has fetched it from `port`, once it can be had.
fn dump_without_memory(bundle: &Bundle, port: u16) -> hull_tests::Running {
    let server = format!("127.0.0.1:{port}");
    fs::create_dir_all(bundle.path("lazy")).unwrap();
    // The shell opens a pipe as descriptor 7, in which the runtime says that pages can be had.
    let line = bundle.command(&["checkpoint", "--lazy-pages", "--page-server", &server, "--status-fd", "7"]);
    let mut shell = std::process::Command::new("sh");
    let words = line.get_args().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>();
    shell.args(["-c", "\"$@\" 7>status", "sh"]).arg(line.get_program()).args(words);
    shell.args(["--image-path", "lazy", "--work-path", "lazy", &bundle.id]).current_dir(&bundle.directory);
    shell.envs(line.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let dump = hull_tests::Running::start(&mut shell);
    hull_tests::wait_until(super::LIMIT, "the page server", || match fs::read(bundle.path("status")) {
        Ok(bytes) if bytes == [0] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    dump
}
