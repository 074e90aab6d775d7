//! Standard streams and terminals of a container that comes back: those of whoever restores it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{LIMIT, assert_unknown, checkpoint, counting, restore};
use crate::bundle::is_peer;
use crate::console::{listen, receive, shows};

const ECHO: &str = "echo ready; while read -r line; do echo got $line; done; echo end; exit 5";

#[test]
fn pipes_of_the_foreground_are_those_of_the_restorer() {
    let mut bundle = counting!();
    bundle.script(ECHO);
    let mut run = hull_tests::Running::start(bundle.command(&["run", &bundle.id]).stdin(Stdio::piped()));
    run.wait_line(LIMIT, "ready", |line| line == "ready");
    checkpoint(&bundle, &[]).ok();
    assert_eq!(run.wait(LIMIT).code(), Some(137));
    assert_unknown(&bundle);
    let mut command = bundle.command(&["restore", &bundle.id]);
    let output = hull_tests::command::run(&mut command, "one\ntwo\n", LIMIT);
    assert_eq!(output.stdout, "got one\ngot two\nend\n");
    output.fails(5);
    assert_unknown(&bundle);
}

#[test]
fn a_file_of_the_maker_is_written_on() {
    if is_peer() {
        // runc knows of pipes alone; criu refuses files on no mount of the container.
        return;
    }
    let mut bundle = counting!();
    bundle.script(
        "echo first; echo err >&2; while ! test -e /work/on; do sleep 0.05; done; echo on; sleep 1000",
    );
    let with_log = |args: &[&str]| {
        let log = std::fs::File::options().create(true).append(true).open(bundle.path("log")).unwrap();
        let mut command = bundle.command(args);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        assert!(command.status().unwrap().success(), "{}", bundle.read("log"));
    };
    with_log(&["run", "-d", &bundle.id]);
    bundle.shows("log", "first\nerr");
    checkpoint(&bundle, &[]).ok();
    with_log(&["restore", "-d", &bundle.id]);
    std::fs::write(bundle.path("rootfs/work/on"), "").unwrap();
    bundle.shows("log", "first\nerr\non\n");
}

#[test]
fn a_pipe_that_the_container_made_for_itself_is_its_own() {
    let mut bundle = counting!();
    let script = "exec 3>&1; /bin/sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done' |
        while read -r i; do echo $i > /work/count; done";
    bundle.script(script);
    super::up(&bundle);
    let at = super::counts_beyond(&bundle, 3);
    checkpoint(&bundle, &[]).ok();
    restore(&bundle, &[]).ok();
    super::counts_beyond(&bundle, at);
}

#[test]
fn a_terminal_comes_back_over_the_console_socket() {
    let mut bundle = counting!();
    bundle.script(ECHO).configure(|config| config["process"]["terminal"] = json!(true));
    let (listener, path) = listen(&bundle, "console");
    let mut run = bundle.command(&["run", "-d", "--console-socket", &path, &bundle.id]);
    assert!(run.stdin(Stdio::null()).status().unwrap().success());
    let (_, master) = receive(&listener);
    shows(&master, "ready");
    checkpoint(&bundle, &[]).ok();
    drop(master);
    let told = bundle.detached(&["restore", "-d", &bundle.id]).fails(1);
    assert!(
        told.contains("cannot allocate tty if runc will detach without setting console socket"),
        "{told}"
    );
    restore(&bundle, &["--console-socket", &path]).ok();
    let (_, master) = receive(&listener);
    let mut writer = std::fs::File::from(master.try_clone().unwrap());
    writer.write_all(b"this\n").unwrap();
    shows(&master, "got this");
    let terminal = bundle.exec(&["/bin/readlink", "/proc/1/fd/0"]).ok();
    assert_eq!(terminal, "/dev/pts/0\n");
}

#[test]
fn a_terminal_in_the_foreground_is_the_restorers() {
    let mut bundle = counting!();
    let script = "echo ready; while ! test -e /work/end; do echo tick; sleep 0.05; done; test -t 0 && exit 5";
    bundle.script(script).configure(|config| config["process"]["terminal"] = json!(true));
    let (listener, path) = listen(&bundle, "console");
    let mut run = bundle.command(&["run", "-d", "--console-socket", &path, &bundle.id]);
    assert!(run.stdin(Stdio::null()).status().unwrap().success());
    let (_, master) = receive(&listener);
    shows(&master, "ready");
    checkpoint(&bundle, &[]).ok();
    let restore = bundle.command(&["restore", &bundle.id]);
    let words = std::iter::once(restore.get_program()).chain(restore.get_args());
    let line = words.map(|word| format!("'{}'", word.to_string_lossy())).collect::<Vec<_>>().join(" ");
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).current_dir(&bundle.directory);
    script.envs(restore.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut running = hull_tests::Running::start(&mut script);
    running.wait_line(LIMIT, "a line", |line| line.trim() == "tick");
    std::fs::write(bundle.path("rootfs/work/end"), "").unwrap();
    assert_eq!(running.wait(LIMIT).code(), Some(5));
    assert_unknown(&bundle);
}
