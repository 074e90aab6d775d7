//! A criu whose `checkpoint` was killed. It goes on alone; a container that is killed in its hands does not end before it
//! does: an init waits for all of its PID namespace, and they wait for who traces them, which waits for the init.

use std::os::fd::AsFd;

use crate::harmless;
use crate::sys::pidfd;

/// Ends the criu that traces the process `pid`, if one does. A tracer of another name is not ours to end.
pub(crate) fn end(pid: i32) {
    let Some(tracer) = tracer(pid) else { return };
    let Ok(descriptor) = pidfd::open(tracer) else { return };
    // Looked at after the descriptor was opened, so the pid has not changed hands between.
    if self::tracer(pid) == Some(tracer) && is_criu(tracer) {
        harmless(pidfd::signal(descriptor.as_fd(), libc::SIGKILL));
    }
}

fn tracer(pid: i32) -> Option<i32> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// `TracerPid` of proc_pid_status(5), which is 0 where there is none.
fn parse(status: &str) -> Option<i32> {
    let pid = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid != 0)
}

/// At work it is called `criu: dump --rpc -t <pid>`, before that `criu swrk 3`.
fn is_criu(pid: i32) -> bool {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).any(|word| word == b"criu" || word.starts_with(b"criu: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_nobody_traces_has_no_tracer() {
        assert_eq!(parse("Name:\tsh\nTracerPid:\t0\n"), None);
        assert_eq!(parse("Name:\tsh\nTracerPid:\t317\nUid:\t0\n"), Some(317));
        assert_eq!(parse(""), None);
    }
}
