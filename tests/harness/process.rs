//! Processes as /proc shows them; proc(5).

use std::fs;
use std::path::Path;

/// Every process that can be seen from here.
#[must_use]
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The arguments of a process with spaces between; empty for a kernel thread and one that is gone.
#[must_use]
pub fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}

/// The content of `/proc/<pid>/<file>`; empty when it is gone.
#[must_use]
pub fn file(pid: i32, file: &str) -> String {
    fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default()
}

/// True while the process is there and not a zombie.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

/// The state letter of a process.
#[must_use]
pub fn state(pid: i32) -> Option<char> {
    field(pid, 3)?.chars().next()
}

/// Processor time that a process used so far, in clock ticks of 10 ms: user and system.
#[must_use]
pub fn ticks(pid: i32) -> Option<u64> {
    let user: u64 = field(pid, 14)?.parse().ok()?;
    let system: u64 = field(pid, 15)?.parse().ok()?;
    Some(user + system)
}

/// Processor time of its children that it has reaped, in clock ticks of 10 ms.
#[must_use]
pub fn children_ticks(pid: i32) -> Option<u64> {
    let user: u64 = field(pid, 16)?.parse().ok()?;
    let system: u64 = field(pid, 17)?.parse().ok()?;
    Some(user + system)
}

/// The parent of a process.
#[must_use]
pub fn parent(pid: i32) -> Option<i32> {
    field(pid, 4)?.parse().ok()
}

/// Field `number` of `/proc/<pid>/stat`, counted from 1 as in the manual; the name may hold anything.
fn field(pid: i32, number: usize) -> Option<String> {
    let text = file(pid, "stat");
    let (_, after_name) = text.rsplit_once(')')?;
    after_name.split_whitespace().nth(number.checked_sub(3)?).map(str::to_owned)
}

/// A line of `/proc/<pid>/smaps_rollup` in kB: `Rss`, `Pss`, `Private_Dirty`.
#[must_use]
pub fn memory_kb(pid: i32, line: &str) -> Option<u64> {
    let text = file(pid, "smaps_rollup");
    let found = text.lines().find(|text| text.split(':').next() == Some(line))?;
    found.split_whitespace().nth(1)?.parse().ok()
}

/// The identity of a namespace of a process, such as `net:[4026531840]`.
#[must_use]
pub fn namespace(pid: i32, kind: &str) -> Option<String> {
    let link = fs::read_link(Path::new("/proc").join(pid.to_string()).join("ns").join(kind)).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// What `work` yields on a thread in the network namespace of a process; sockets made there stay there.
///
/// # Panics
/// When the namespace cannot be entered, or `work` panics.
pub fn in_network_of<T: Send + 'static>(pid: u32, work: impl FnOnce() -> T + Send + 'static) -> T {
    let enter = move || {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = fs::File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        work()
    };
    std::thread::spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
