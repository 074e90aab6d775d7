//! `kill`: a signal for a container's init, or SIGKILL for all that share its PID namespace.

use crate::harmless;
use crate::oci::command::parse::Parsed;
use crate::oci::container::Container;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::signal;

pub(super) fn kill(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    let named = given.arguments.get(1).filter(|name| !name.is_empty());
    let number = signal::parse(named.map_or("SIGTERM", String::as_str))?;
    let container = Container::find(global, id)?;
    match send(&container, number) {
        // `--all` is from a time when it meant more; its callers expect no error from a container that is done.
        Err(Error::NotRunning) if given.is_on("all") => Ok(()),
        other => other,
    }
}

/// Sends a signal as `kill` does.
pub(super) fn send(container: &Container, number: i32) -> Result<(), Error> {
    let record = &container.record;
    if number == libc::SIGKILL && !record.own_pid_namespace {
        // No namespace dies with the init: all that is left would stay.
        if container.init().is_none() && record.cgroup.pids().is_empty() {
            return Err(Error::NotRunning);
        }
        if record.cgroup.kill()? {
            return Ok(());
        }
    }
    if !container.signal(number)? {
        return Err(Error::NotRunning);
    }
    if number == libc::SIGKILL {
        // On cgroup v1 nothing dies in the freezer. It may not be frozen at all.
        harmless(record.cgroup.thaw());
    }
    Ok(())
}
