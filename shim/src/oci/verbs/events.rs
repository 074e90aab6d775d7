//! `events`: statistics, once or time and again, and what happens for want of memory.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

use crate::cgroup::memory_events::{Happened, OutOfMemory};
use crate::harmless;
use crate::oci::command::parse::{Misuse, Parsed};
use crate::oci::container::Container;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::quantity;
use crate::oci::status::Status;
use crate::resctrl;
use crate::sys::clock;

const INTERVAL: Duration = Duration::from_secs(5);
/// How often it is looked whether the container still lives.
const MILLION: i64 = 1_000_000;

pub(super) fn events(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    let interval = match given.value("interval") {
        None => INTERVAL,
        Some(text) => quantity::duration(text)
            .ok_or_else(|| Misuse::Invalid { value: text.to_owned(), flag: "interval" })?,
    };
    if interval.is_zero() {
        return Err(Error::Refused("duration interval must be greater than 0".to_owned()));
    }
    let container = Container::find(global, id)?;
    if container.status() == Status::Stopped {
        return Err(Error::Refused(format!("container with id {id} is not running")));
    }
    if given.is_on("stats") {
        return tell(&statistics(&container)?);
    }
    stream(&container, interval)
}

fn statistics(container: &Container) -> Result<Value, Error> {
    let group = container.record.cgroup.needed()?;
    let mut data = group.full_statistics(container.record.init.map(|init| init.pid));
    if let Some(group) = &container.record.resctrl {
        data.intel_rdt = group.statistics(Path::new(resctrl::ROOT));
    }
    Ok(json!({"type": "stats", "id": container.record.id, "data": data}))
}

/// One line per event; a reader that is gone ends it.
fn tell(event: &Value) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{event}").and_then(|()| out.flush());
    written.map_err(Error::file("write", Path::new("/dev/stdout")))
}

/// Until the container ends.
fn stream(container: &Container, interval: Duration) -> Result<(), Error> {
    // Where there is no memory controller nothing is ever told of it.
    let mut memory = container.record.cgroup.needed()?.watch_out_of_memory().ok();
    let out_of_memory = json!({"type": "oom", "id": container.record.id});
    let step = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
    let mut due = clock::monotonic().saturating_add(step);
    while let Some(init) = container.init() {
        let left = (due - clock::monotonic()).max(0) / MILLION + 1;
        let timeout = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
        let mut polled = vec![PollFd::new(init.as_fd(), PollFlags::POLLIN)];
        polled.extend(memory.as_ref().map(|memory| PollFd::new(memory.as_fd(), PollFlags::POLLIN)));
        // An interrupted wait is a short one.
        harmless(poll(&mut polled, timeout));
        if let Some(kills) = memory.as_mut().and_then(OutOfMemory::read) {
            match kills {
                Happened::Kills(_) => tell(&out_of_memory)?,
                Happened::Gone => return Ok(()),
            }
        }
        if clock::monotonic() >= due {
            due = due.saturating_add(step);
            tell(&statistics(container)?)?;
        }
    }
    match memory.as_mut().and_then(OutOfMemory::last) {
        Some(Happened::Kills(_)) => tell(&out_of_memory),
        Some(Happened::Gone) | None => Ok(()),
    }
}
