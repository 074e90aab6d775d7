//! A shim that is killed while it writes to a log: every line is there once, and whole.

use std::fs;
use std::path::PathBuf;

use hull_shim::wire::{CreateConfig, Exit, InstanceId};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::cases::Case;
use crate::keeper::{feed, input};
use crate::looks::{await_some, kernel};
use crate::pod::Pod;

/// Every case with its name.
pub(crate) const ALL: &[Case] = &[
    (
        "a_shim_killed_at_any_point_of_an_output_loses_no_line",
        a_shim_killed_at_any_point_of_an_output_loses_no_line,
    ),
    (
        "a_shim_killed_at_any_point_doubles_no_line_of_many_the_same",
        a_shim_killed_at_any_point_doubles_no_line_of_many_the_same,
    ),
    ("a_terminal_loses_nothing_with_its_shim", a_terminal_loses_nothing_with_its_shim),
    ("shim_and_keeper_killed_at_any_point_lose_no_line", shim_and_keeper_killed_at_any_point_lose_no_line),
    (
        "a_log_put_aside_meanwhile_gets_the_rest_of_its_line",
        a_log_put_aside_meanwhile_gets_the_rest_of_its_line,
    ),
    ("a_full_log_has_whole_lines_only", a_full_log_has_whole_lines_only),
];

/// Where a shim is killed (`transit`), as lists: a successor may be killed while it takes up what was under way.
const POINTS: [&str; 8] =
    ["seen", "noted", "half", "written", "taken", "struck", "half\nwritten", "noted\nwritten\ntaken\nstruck"];
/// Does what it reads. A terminal does not show that in between what is said.
const OBEDIENT: &str = "stty -echo 2> /dev/null; while read -r x; do eval \"$x\"; done";
/// Lines that a container writes at once, more than a pipe holds.
const BURST: u32 = 1000;

/// A container whose shim is killed at given points of its output.
struct Victim {
    pod: Pod,
    is_kept: bool,
    instance: InstanceId,
    points: PathBuf,
    lines: u32,
}

impl Victim {
    fn new(name: &str, is_kept: bool, change: impl FnOnce(&mut serde_json::Value)) -> Self {
        let points = std::env::temp_dir().join(format!("hull-points-{name}-{}", std::process::id()));
        let path = points.display().to_string();
        let (mut pod, _) = Pod::start_with(name, &[("HULL_OUTPUT_FAULT", &path)], |_| ());
        if is_kept {
            pod.get_a_keeper();
        }
        let mut config: CreateConfig = pod.bundle("c", &["sh", "-c", OBEDIENT], change);
        config.stdin = true;
        let instance = pod.launch_config(config);
        Self { pod, is_kept, instance, points, lines: 0 }
    }

    /// Has the container do something, and the shim die at these points of what it says.
    fn die_at(&mut self, points: &str, command: &str) {
        // What it said before may still be on its way.
        let input = input(&mut self.pod, &self.instance);
        fs::write(&self.points, format!("{points}\n")).unwrap();
        nix::unistd::write(&input, format!("{command}\n").as_bytes()).unwrap();
        let are_passed = |points: &PathBuf| fs::read_to_string(points).unwrap().is_empty();
        if self.pod.shim.is_none() {
            await_some("the death of each shim", || {
                self.pod.start_detached();
                are_passed(&self.points).then_some(())
            });
            // Without this the last one has its successor when the keeper's pause is over.
            self.pod.start_detached();
        } else {
            for _ in points.lines() {
                self.pod.shim.as_mut().unwrap().wait().unwrap();
                self.pod.start_shim();
            }
            assert!(are_passed(&self.points));
        }
        self.pod.greet();
    }

    /// A command that writes the next numbered lines.
    fn count(&mut self) -> String {
        let (from, to) = (self.lines + 1, self.lines + BURST);
        self.lines = to;
        format!("awk 'BEGIN {{ for (i = {from}; i <= {to}; i++) printf \"%d %0190d\\n\", i, i }}'")
    }

    fn end(&mut self) {
        feed(&mut self.pod, &self.instance, "exit 7\n");
        let exit = self.pod.exit_of(&self.instance).exit;
        // Without a keeper it is nobody's child any more: a kernel before 6.15 does not tell how it ends.
        let may_be_unknown = !self.is_kept && kernel() < (6, 15);
        assert!(exit == Exit::Code(7) || exit == Exit::Unknown && may_be_unknown, "{exit:?}");
        fs::remove_file(&self.points).unwrap();
    }
}

/// The lines of a stream, put together from their parts.
fn said(log: &str, stream: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for line in log.lines() {
        let fields: Vec<&str> = line.splitn(4, ' ').collect();
        let &[stamp, name, tag, text] = fields.as_slice() else { panic!("{line:?}") };
        assert!(stamp.len() == "2024-01-02T03:04:05.000000000Z".len() && stamp.ends_with('Z'), "{line:?}");
        assert!(["stdout", "stderr"].contains(&name) && ["F", "P"].contains(&tag), "{line:?}");
        if name == stream {
            lines.last_mut().unwrap().push_str(text);
            lines.extend((tag == "F").then(String::new));
        }
    }
    assert_eq!(lines.pop().unwrap(), "", "half a line");
    lines
}

/// All numbers are there once and in order.
fn assert_counted(said: &[String], lines: u32) {
    let numbers = said.iter().filter_map(|line| {
        let (number, padded) = line.split_once(' ')?;
        let number: u32 = number.parse().ok()?;
        assert_eq!(format!("{number:0190}"), padded);
        Some(number)
    });
    assert_eq!(numbers.collect::<Vec<_>>(), (1..=lines).collect::<Vec<_>>());
}

fn a_shim_killed_at_any_point_of_an_output_loses_no_line() {
    die_while_counting(&mut Victim::new("points", true, |_| ()));
}

/// What holds without a keeper holds after the death of both.
fn shim_and_keeper_killed_at_any_point_lose_no_line() {
    die_while_counting(&mut Victim::new("bothdead", false, |_| ()));
}

fn die_while_counting(victim: &mut Victim) {
    for points in POINTS {
        let count = victim.count();
        victim.die_at(points, &format!("{{ {count} & {count} >&2; wait; }}"));
    }
    victim.end();
    let log = victim.pod.log("c");
    ["stdout", "stderr"].iter().for_each(|stream| assert_counted(&said(&log, stream), victim.lines));
}

fn a_shim_killed_at_any_point_doubles_no_line_of_many_the_same() {
    const MANY: usize = 40_000;
    let mut victim = Victim::new("same", true, |_| ());
    for points in POINTS {
        victim.die_at(points, &format!("yes | head -n {MANY}"));
    }
    victim.end();
    let said = said(&victim.pod.log("c"), "stdout");
    assert_eq!(said.len(), MANY * POINTS.len());
    assert!(said.iter().all(|line| line == "y"));
}

fn a_terminal_loses_nothing_with_its_shim() {
    let mut victim = Victim::new("tty", true, |config| config["process"]["terminal"] = json!(true));
    for points in POINTS.into_iter().chain(["fed"]) {
        let count = victim.count();
        victim.die_at(points, &count);
    }
    victim.end();
    assert_counted(&said(&victim.pod.log("c"), "stdout"), victim.lines);
}

fn a_log_put_aside_meanwhile_gets_the_rest_of_its_line() {
    let mut victim = Victim::new("aside", false, |_| ());
    let count = victim.count();
    let input = input(&mut victim.pod, &victim.instance);
    fs::write(&victim.points, "half\n").unwrap();
    nix::unistd::write(&input, format!("{count}\n").as_bytes()).unwrap();
    victim.pod.shim.as_mut().unwrap().wait().unwrap();
    let log = victim.pod.log_path("c");
    let aside = log.with_file_name("c.log.20240102-030405");
    fs::rename(&log, &aside).unwrap();
    victim.pod.start_shim();
    victim.pod.greet();
    victim.end();
    let [old, new] = [&aside, &log].map(|path| fs::read_to_string(path).unwrap());
    assert!(old.ends_with('\n') && !new.is_empty());
    assert_counted(&said(&(old + &new), "stdout"), victim.lines);
}

fn a_full_log_has_whole_lines_only() {
    let mut victim = Victim::new("full", true, |_| ());
    let directory = victim.pod.log_path("c").parent().unwrap().to_owned();
    mount(Some("none"), &directory, Some("tmpfs"), MsFlags::empty(), Some("size=128k")).unwrap();
    // Its successor opens the log on the new file system.
    victim.die_at("noted", "echo begin");
    let count = victim.count();
    victim.die_at("half", &format!("{count}; {count}"));
    await_some("a complaint", || victim.pod.diagnostics().contains("No space left").then_some(()));
    mount(Some("none"), &directory, Some("tmpfs"), MsFlags::MS_REMOUNT, Some("size=1m")).unwrap();
    victim.die_at("noted", "echo; echo end");
    victim.end();
    let log = victim.pod.log("c");
    umount2(&directory, MntFlags::MNT_DETACH).unwrap();
    let said = said(&log, "stdout");
    assert_eq!((said.first().unwrap().as_str(), said.last().unwrap().as_str()), ("begin", "end"));
}
