//! `run`: create and start, and unless `--detach` is given wait for the end and delete.

use super::start::Started;
use super::{delete, start};
use crate::container::engine::plan::Start;
use crate::harmless;
use crate::oci::command::parse::Parsed;
use crate::oci::container::{Container, print};
use crate::oci::error::Error;
use crate::oci::global::Global;
use crate::oci::handover::Front;
use crate::oci::make::{Blueprint, Made};
use crate::oci::protect;
use crate::oci::relay::{self, Relay};
use crate::oci::{Code, SUCCESS};
use crate::sys::process;

pub(super) fn run(global: &Global<'_>, id: &str, given: &Parsed) -> Result<Code, Error> {
    protect::ensure()?;
    let run = || {
        if given.is_on("detach") {
            detached(global, id, given).map(|()| SUCCESS)
        } else {
            attached(global, id, given)
        }
    };
    run().map_err(|error| Error::Make("run", Box::new(error)))
}

fn detached(global: &Global<'_>, id: &str, given: &Parsed) -> Result<(), Error> {
    let blueprint = Blueprint::new(global, id, given, (Front::Detached, Start::Now))?;
    if given.is_on("dry-run") {
        return print(&blueprint.print());
    }
    let Started { container, notify, .. } = begin(global, id, blueprint, None)?;
    start::await_ready(&container, notify.as_ref());
    Ok(())
}

fn attached(global: &Global<'_>, id: &str, given: &Parsed) -> Result<Code, Error> {
    let blueprint = Blueprint::new(global, id, given, (Front::Attached, Start::Now))?;
    if given.is_on("dry-run") {
        return print(&blueprint.print()).map(|()| SUCCESS);
    }
    if !given.is_on("no-subreaper") {
        process::become_subreaper().map_err(Error::kernel("become a subreaper"))?;
    }
    let mut relay = Relay::new().map_err(Error::kernel("take signals"))?;
    let Started { container, pid, pidfd, notify } = begin(global, id, blueprint, Some(&mut relay))?;
    relay.forward(notify);
    let exit = relay.run(&pidfd, pid).map_err(Error::kernel("wait for the container"))?;
    if !given.is_on("keep") {
        remove(global, &container);
    }
    Ok(relay::status(exit))
}

/// Makes the container and has its program run.
fn begin(
    global: &Global<'_>,
    id: &str,
    blueprint: Blueprint,
    relay: Option<&mut Relay>,
) -> Result<Started, Error> {
    let started = if blueprint.is_at_once() {
        let (made, notify) = blueprint.start(global, relay)?;
        start::follow(made, notify)
    } else {
        start::let_run(blueprint.create(global, relay)?)
    };
    started.inspect_err(|_| clean(global, id))
}

/// Waits for the end of a container that was restored, and deletes it.
pub(super) fn attend(global: &Global<'_>, relay: Relay, made: Made) -> Result<Code, Error> {
    let Made { container, held, pid, pidfd } = made;
    drop(held);
    let exit = relay.run(&pidfd, pid).map_err(Error::kernel("wait for the container"))?;
    remove(global, &container);
    Ok(relay::status(exit))
}

/// The status of the program is what the caller asked for, whoever took the container away meanwhile.
fn remove(global: &Global<'_>, container: &Container) {
    let removed = container.place.hold().and_then(|held| delete::destroy(global, container, held));
    match removed {
        Ok(()) | Err(Error::Missing) => {}
        Err(error) => global.log.warn(&error.chain()),
    }
}

/// Takes a container away that did not start. Why it did not is what the caller hears of.
fn clean(global: &Global<'_>, id: &str) {
    harmless(delete::force(global, id));
}
