//! `delete`: what a container leaves is removed, in the order of oci-runtime.md section 5.

use std::os::fd::OwnedFd;

use super::kill;
use crate::oci::command::parse::Parsed;
use crate::oci::container::Container;
use crate::oci::criu;
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::hooks::{Due, Kind};
use crate::oci::make::refuse;
use crate::oci::status::Status;
use crate::oci::store::{Held, Id, Place};
use crate::{harmless, procfs};

/// How long the init of a container may take to die of SIGKILL, and `--force` waits for another command.
const DEATH: u16 = 10_000;
/// How long it is waited for before it is seen to again.
const LOOK: u16 = 100;

pub(super) fn delete(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    let force = given.is_on("force");
    let container = match Container::find(global, id) {
        Err(Error::Missing) => return remove_leftovers(&Place::new(&global.root, &Id::new(id)?), force),
        other => other?,
    };
    match container.status() {
        _ if force => {}
        Status::Stopped | Status::Created => {}
        other => return Err(Error::NotStopped(id.to_owned(), other)),
    }
    match finish(global, &container) {
        // Another command was faster.
        Err(Error::Missing) if force => Ok(()),
        finished => finished,
    }
}

/// Deletes a container whatever it does.
pub(super) fn force(global: &Global<'_>, id: &str) -> Result<(), Error> {
    finish(global, &Container::find(global, id)?)
}

fn finish(global: &Global<'_>, container: &Container) -> Result<(), Error> {
    end(container)?;
    let held = container.place.hold()?;
    destroy(global, container, held)
}

/// A `create` that was killed early leaves a directory without a record.
fn remove_leftovers(place: &Place, force: bool) -> Result<(), Error> {
    if place.directory().is_dir() && place.try_hold()?.is_some() {
        // One that another command is at just now is not ours to remove.
        place.remove()?;
    }
    if force { Ok(()) } else { Err(Error::Missing) }
}

/// Ends the init, if it still lives, and waits for it.
fn end(container: &Container) -> Result<(), Error> {
    let init = container.init();
    match kill::send(container, libc::SIGKILL) {
        Ok(()) | Err(Error::NotRunning) => {}
        Err(error) => return Err(error),
    }
    init.as_ref().map_or(Ok(()), |init| await_death(container, init))
}

/// Waits for the init of a container, which has been killed.
pub(super) fn await_death(container: &Container, init: &OwnedFd) -> Result<(), Error> {
    for _ in 0..DEATH / LOOK {
        if procfs::wait_end(init, LOOK) {
            return Ok(());
        }
        // The criu of a `checkpoint` that was killed may have it in its hands, or have frozen it after we thawed it. It
        // may not be frozen at all.
        criu::orphan::end(container.record.init.map_or(0, |init| init.pid));
        harmless(container.record.cgroup.thaw());
    }
    Err(Error::StillRunning)
}

/// Removes what is left of a container whose init ended.
pub(super) fn destroy(global: &Global<'_>, container: &Container, held: Held) -> Result<(), Error> {
    let Container { place, record } = container;
    record.cgroup.remove()?;
    if let Some(group) = &record.resctrl {
        group.remove().map_err(refuse)?;
    }
    let config = place.config();
    place.remove()?;
    drop(held);
    match config.and_then(|bytes| Due::new(bytes, Kind::Poststop, record)) {
        // The container is gone by now: nothing is left that an error would keep.
        Ok(due) => due.run_all().iter().for_each(|failure| global.log.warn(failure)),
        Err(error) => global.log.warn(&error.chain()),
    }
    Ok(())
}
