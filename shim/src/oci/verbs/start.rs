//! `start`: an init that waits at its gate is let go.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::container::engine::Gate;
use crate::container::engine::gate::Outcome;
use crate::container::identity::Identity;
use crate::container::program::Program;
use crate::harmless;
use crate::oci::config;
use crate::oci::container::Container;
use crate::oci::error::{Error, words};
use crate::oci::global::Global;
use crate::oci::hooks::{Due, Kind};
use crate::oci::make::Made;
use crate::oci::notify::Notify;
use crate::oci::status::Status;
use crate::oci::store::Held;
use crate::procfs;

/// How long an init that executes may go without an answer: the time of its `startContainer` hooks is
/// not known, so this only bounds one poll.
const LOOK: u16 = 10_000;

pub(super) fn start(global: &Global<'_>, id: &str) -> Result<(), Error> {
    let (container, held) = Container::hold(global, id)?;
    match container.status() {
        Status::Created => {
            let init = container.init().ok_or_else(has_stopped)?;
            let notify = let_go(&container, held, &init)?;
            await_ready(&container, notify.as_ref());
            Ok(())
        }
        Status::Running => {
            // Of a `start` that was killed.
            Gate::remove(container.place.directory());
            Err(refuse("cannot start an already running container"))
        }
        Status::Stopped => Err(has_stopped()),
        other => Err(refuse(&format!("cannot start a container in the {other} state"))),
    }
}

fn refuse(text: &str) -> Error {
    Error::Refused(text.to_owned())
}

fn has_stopped() -> Error {
    refuse("cannot start a container that has stopped")
}

/// A container whose program runs.
pub(super) struct Started {
    pub(super) container: Container,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) notify: Option<Notify>,
}

/// Starts what this process made.
pub(super) fn let_run(made: Made) -> Result<Started, Error> {
    let Made { container, held, pid, pidfd } = made;
    let notify = let_go(&container, held, &pidfd)?;
    Ok(Started { container, pid, pidfd, notify })
}

/// What comes after the start of what this process made and started.
pub(super) fn follow(made: Made, notify: Option<Notify>) -> Result<Started, Error> {
    let Made { container, held, pid, pidfd } = made;
    run_hooks(&container, held)?;
    Ok(Started { container, pid, pidfd, notify })
}

/// Opens the gate and waits for the program to run. `init` is the container's.
fn let_go(container: &Container, held: Held, init: &OwnedFd) -> Result<Option<Notify>, Error> {
    let place = &container.place;
    let directory = place.directory();
    let failed = |what: &str| Error::kernel(format!("{what} in {}", directory.display()));
    let result = Gate::listen(directory).map_err(failed("open the gate's result"))?;
    let notify = Notify::open(place)?;
    if procfs::has_ended(init) {
        return Err(has_stopped());
    }
    Gate::open(directory).map_err(failed("open the gate"))?;
    judge(container, (&result, init), await_outcome(&result, init))?;
    Gate::remove(directory);
    run_hooks(container, held)?;
    Ok(notify)
}

/// Puts into words why the program does not run.
fn judge(container: &Container, (result, init): (&OwnedFd, &OwnedFd), outcome: Outcome) -> Result<(), Error> {
    let Outcome::Failed(problem) = outcome else { return Ok(()) };
    let text = explain(container, container.place.config()?, problem) + &Gate::printed(result);
    procfs::wait_end(init, LOOK);
    Err(Error::Container(text))
}

/// Runs the `poststart` hooks, without the lock: whoever wants to kill the container meanwhile shall not wait for them.
fn run_hooks(container: &Container, held: Held) -> Result<(), Error> {
    let due = Due::new(container.place.config()?, Kind::Poststart, &container.record)?;
    drop(held);
    due.run().inspect_err(|_| {
        // runtime-spec: the container is stopped. That the hook failed is what the caller hears of.
        harmless(super::kill::send(container, libc::SIGKILL));
    })
}

/// Waits until a container that has a socket for it says that it is ready.
pub(super) fn await_ready(container: &Container, notify: Option<&Notify>) {
    if let (Some(notify), Some(init)) = (notify, container.init()) {
        notify.wait(init.as_fd(), container.record.init.map_or(0, |init| init.pid));
    }
}

/// Waits for the result, or the init's end.
fn await_outcome(result: &OwnedFd, init: &OwnedFd) -> Outcome {
    loop {
        match Gate::outcome(result) {
            Outcome::Waiting if procfs::has_ended(init) => return Gate::outcome(result),
            Outcome::Waiting => wait_for(result.as_fd(), init.as_fd()),
            outcome => return outcome,
        }
    }
}

fn wait_for(result: BorrowedFd<'_>, init: BorrowedFd<'_>) {
    let polled = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
    // An interrupted wait is a short one.
    harmless(poll(&mut [polled(result), polled(init)], PollTimeout::from(LOOK)));
}

fn explain(container: &Container, bytes: &[u8], problem: crate::container::transform::Problem) -> String {
    let explained = config::parse(bytes).ok().and_then(|spec| {
        let identity = Identity::new(&spec, &container.record.rootfs, None).ok()?;
        let args = spec.process().as_ref()?.args().clone().unwrap_or_default();
        let program = Program::new(&identity, &args, &[]).ok()?;
        Some(program.explain(&identity, problem))
    });
    explained.unwrap_or_else(|| format!("unable to start container process: {}", words(problem.errno)))
}
