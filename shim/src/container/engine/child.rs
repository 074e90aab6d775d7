//! The child's half: performs the plan, step by step, and becomes the container's program.
//!
//! It was forked, so it has a copy of the maker's memory and, at first, of all its descriptors; where it is started at once
//! it has that memory itself ([`at_once`](super::at_once)). It allocates nothing: what it needs is in [`Work`]; only what a child
//! does that shares its maker's memory may, which is to name and to record itself. It never returns.
//!
//! **Invariant:** at its gate, where it waits for as long as its caller pleases, it has the rights of the container and
//! no descriptor but those of the gate and what the program inherits. Processes of other containers may see it there:
//! a PID namespace can be shared.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::setsid;

use super::at_once::{Said, Word};
use super::console;
use super::failed::{Doing, Failed};
use super::hook::Ending;
use super::lookup;
use super::message::{Go, Message};
use super::namespace;
use super::netlink;
use super::plan::MakerRights;
use super::procfs;
use super::request::Stdio;
use super::start_hooks;
use super::step::Step;
use super::user;
use super::work::{Ends, Maker, Work};
use crate::container::identity::Identity;
use crate::container::transform::{
    Handles, Limits, Observer, Problem, Step as Last, Told, become_member, confine, execute,
};
use crate::harmless;
use crate::sys::{interface, keyring, process, socket, terminal};

/// The number that stands for what comes before the first step.
pub(super) const PRELUDE: u16 = u16::MAX;

/// What the child has made so far.
#[derive(Default)]
struct Made {
    /// As the maker sees it, once it told.
    pid: i32,
    /// In clock ticks since boot, where it is to be recorded.
    start_time: u64,
    /// The candidate for the program that was found, where one was looked for.
    candidate: usize,
}

/// Why a step ends the child.
enum Trouble {
    Failed(Failed),
    Hook(Ending),
    Member(Problem),
    /// The maker is gone: there is nobody to tell.
    Alone,
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// The body of the child.
pub(super) fn run(work: &Work<'_>) -> ! {
    #[cfg(test)]
    crate::sys::strict::forbid();
    perform_all(work, Made::default())
}

/// The body of a child that shares its maker's memory. `pid` is its own, as that maker sees it.
pub(super) fn run_at_once(work: &Work<'_>, pid: i32) -> ! {
    perform_all(work, Made { pid, ..Made::default() })
}

fn perform_all(work: &Work<'_>, mut made: Made) -> ! {
    if let Err(trouble) = settle(work, &mut made) {
        give_up(work, PRELUDE, trouble);
    }
    for (index, step) in work.plan.steps.iter().enumerate() {
        let outcome = match fault(work, index) {
            Some(errno) => Err(Trouble::Failed(Failed { doing: Doing::Itself, errno })),
            None => perform(work, &mut made, step),
        };
        if let Err(trouble) = outcome.and_then(|()| Ok(sweep(work)?)) {
            give_up(work, index as u16, trouble);
        }
    }
    if let Err(problem) = become_harmless(work, &mut made) {
        give_up(work, PRELUDE, Trouble::Member(problem));
    }
    if work.last_namespace().is_some() { send_ahead(work) } else { live(work, &made) }
}

fn live(work: &Work<'_>, made: &Made) -> ! {
    match &work.maker {
        Maker::Apart(ends) => {
            wait_at_gate(work, ends);
            start(work, ends, made).report(ends.result)
        }
        Maker::Still(word, _) => {
            let problem = start_at_once(work, word, made);
            word.say(Said::NotExecuted(problem));
            process::leave(128)
        }
    }
}

/// It is on disk, and its own from here on.
fn start_at_once(work: &Work<'_>, word: &Word, made: &Made) -> Problem {
    if let Err(errno) = process::die_with_parent(0) {
        return Problem { step: Last::Hide, errno };
    }
    if let Err(problem) = become_ready(work, made) {
        return problem;
    }
    word.say(Said::Executes);
    execute(work.program, made.candidate)
}

/// Makes the init, in the PID namespace that it joins, with all that this process has become, and ends.
fn send_ahead(work: &Work<'_>) -> ! {
    let closed = work.keep.appear().map_err(Problem::at(Last::Descriptors));
    let made =
        closed.and_then(|()| process::spawn_sibling(work, appear).map_err(Problem::at(Last::Namespaces)));
    match made {
        Ok(pid) => {
            if tell(work, Message::Appeared(pid), None).is_err() {
                // Nobody will ever know of it.
                process::kill_sibling(pid);
            }
        }
        Err(problem) => give_up(work, PRELUDE, Trouble::Member(problem)),
    }
    process::leave(0)
}

/// The body of an init that joined last.
fn appear(work: &Work<'_>) -> ! {
    match settle_in(work) {
        Ok(made) => live(work, &made),
        Err(trouble) => give_up(work, PRELUDE, trouble),
    }
}

fn settle_in(work: &Work<'_>) -> Result<Made, Trouble> {
    process::die_with_parent(libc::SIGKILL).map_err(Doing::Itself.failed())?;
    let session = Problem::at(Last::Session);
    setsid().map_err(&session).map_err(Trouble::Member)?;
    if let Stdio::Terminal = work.stdio {
        terminal::control_standard_input().map_err(&session).map_err(Trouble::Member)?;
    }
    // The maker says what our pid is to it, and that it took us for its container's init.
    let made = Made { pid: await_go(work)?.pid, ..Made::default() };
    if notifies(work.identity) {
        confine(work.identity, &handles(work, &made)).map_err(Trouble::Member)?;
    }
    Ok(made)
}

fn give_up(work: &Work<'_>, step: u16, trouble: Trouble) -> ! {
    let message = match trouble {
        Trouble::Failed(failed) => Some(Message::Failed { step, failed }),
        Trouble::Hook(ending) => Some(Message::Hook { step, ending }),
        Trouble::Member(problem) => Some(Message::Member(problem)),
        Trouble::Alone => None,
    };
    if let Some(message) = message {
        match &work.maker {
            // One that is gone does not need to know.
            Maker::Apart(_) => harmless(tell(work, message, None)),
            Maker::Still(word, _) => word.say(Said::Failed(message)),
        }
    }
    process::leave(1)
}

/// Closes what the steps before this left open, where that has become much.
fn sweep(work: &Work<'_>) -> Result<(), Failed> {
    let root = &work.opened.sources.root;
    if root.is_littered() {
        work.keep.sweep().map_err(Doing::Itself.failed())?;
        root.is_swept();
    }
    Ok(())
}

#[cfg(debug_assertions)]
fn fault(work: &Work<'_>, index: usize) -> Option<Errno> {
    work.fault.filter(|fault| fault.step == index).map(|fault| fault.errno)
}

#[cfg(not(debug_assertions))]
fn fault(work: &Work<'_>, _: usize) -> Option<Errno> {
    work.fault.and(None)
}

/// A packet goes and comes by write(2) and read(2), as far as that is possible: the container's filter may be in force, and
/// no program can do without these.
fn tell(work: &Work<'_>, message: Message, descriptor: Option<RawFd>) -> nix::Result<()> {
    let bytes = message.to_bytes();
    match descriptor {
        None => process::write_to(socket(work)?, &bytes),
        Some(_) => socket::tell(socket(work)?, &[IoSlice::new(&bytes)], descriptor),
    }
}

/// A maker that stands still cannot hear; no step of such a plan tells it anything.
fn socket(work: &Work<'_>) -> nix::Result<RawFd> {
    match &work.maker {
        Maker::Apart(ends) => Ok(ends.socket),
        Maker::Still(..) => Err(Errno::ENOTCONN),
    }
}

fn await_go(work: &Work<'_>) -> Result<Go, Trouble> {
    let mut bytes = [0; Go::LENGTH];
    let socket = socket(work).map_err(|_| Trouble::Alone)?;
    match socket::hear(socket, &mut bytes) {
        Ok(Go::LENGTH) => Ok(Go::from_bytes(bytes)),
        Ok(_) | Err(_) => Err(Trouble::Alone),
    }
}

/// Hides, lets go of what is the maker's, and becomes root of a new user namespace.
fn settle(work: &Work<'_>, made: &mut Made) -> Result<(), Trouble> {
    if work.plan.maps.is_some() && work.plan.maker == MakerRights::Rootless {
        // Its maps are files of the host's root while it is hidden: an ordinary user could not write them. Nobody
        // else is in its namespaces yet.
        process::die_with_parent(libc::SIGKILL).map_err(Doing::Itself.failed())?;
    } else {
        belong_to_maker()?;
    }
    work.keep.begin().map_err(Doing::Itself.failed())?;
    match work.maker {
        Maker::Apart(_) => process::unblock_signals(),
        // Its maker cannot be asked to end meanwhile either.
        Maker::Still(..) => name(work, made)?,
    }
    if work.plan.maps.is_none() {
        return Ok(());
    }
    made.pid = await_go(work)?.pid;
    user::become_root().map_err(Doing::Namespace.failed())?;
    // A change of user makes a process visible and forgets its parent's death.
    belong_to_maker()?;
    Ok(())
}

/// What a maker that stands still cannot do: says when its child started, and sets what is its own in procfs.
fn name(work: &Work<'_>, made: &mut Made) -> Result<(), Trouble> {
    let start_time = crate::procfs::own_start_time(made.pid);
    made.start_time = start_time.ok_or(Errno::ESRCH).map_err(Doing::Itself.failed())?;
    if let (Some(procfs), Some(score)) = (&work.opened.procfs, work.identity.oom_score_adj) {
        let set = procfs::set_oom_score(procfs.as_fd(), "self", score);
        set.map_err(Problem::at(Last::OomScore)).map_err(Trouble::Member)?;
    }
    Ok(())
}

fn belong_to_maker() -> Result<(), Failed> {
    process::hide().map_err(Doing::Itself.failed())?;
    process::die_with_parent(libc::SIGKILL).map_err(Doing::Itself.failed())
}

fn perform(work: &Work<'_>, made: &mut Made, step: &Step) -> Result<(), Trouble> {
    let failed = Doing::Itself.failed();
    match step {
        Step::Cgroup => work.cgroup.enter().map_err(Doing::Write.failed())?,
        Step::MountNamespace => {
            let trimmed = work.mounts.ok_or(Errno::EBADF).map_err(Doing::Namespace.failed())?;
            let kind = CloneFlags::CLONE_NEWNS;
            crate::sys::namespace::join(trimmed, kind.bits()).map_err(Doing::Namespace.failed())?;
            unshare(kind).map_err(Doing::Namespace.failed())?;
        }
        Step::CgroupNamespace => unshare(CloneFlags::CLONE_NEWCGROUP).map_err(Doing::Namespace.failed())?,
        Step::Join => work.opened.joins.join()?,
        Step::Time { offsets } => new_time(work, offsets.to_bytes())?,
        Step::Keyring(name) => {
            let (label, procfs) = (&work.identity.label, procfs(work).ok());
            label.begin_keys(procfs).map_err(Trouble::Member)?;
            keyring::join_session(name).map_err(failed)?;
            label.end_keys(procfs).map_err(Trouble::Member)?;
        }
        Step::Session => drop(setsid().map_err(failed)?),
        Step::Loopback => interface::raise_loopback().map_err(failed)?,
        Step::Files(part, at) => {
            if let Some(step) = work.plan.file_step(*part, *at) {
                work.opened.sources.perform(*part, *at, step)?;
            }
        }
        Step::Meet => {
            let socket = match work.plan.devices.is_empty() {
                true => None,
                false => Some(netlink::open().map_err(&failed)?),
            };
            let socket = socket.as_ref().map(AsRawFd::as_raw_fd);
            tell(work, Message::Due, socket).map_err(|_| Trouble::Alone)?;
            made.pid = await_go(work)?.pid;
        }
        Step::Hook(index) => run_hook(work, made.pid, *index)?,
        Step::Record => {
            if let Maker::Still(_, recorder) = &work.maker {
                (recorder.write)(made.pid, made.start_time).map_err(failed)?;
            }
        }
        Step::Directory(path) => {
            let_go(work)?;
            // As runc does; a directory that cannot be made is reported by `chdir`.
            harmless(work.opened.sources.root.make_directory(path));
        }
        Step::Console { size } => {
            enter(work)?;
            let master = console::make(*size, work.identity.uid)?;
            if work.last_namespace().is_none() {
                terminal::control_standard_input().map_err(&failed)?;
            }
            tell(work, Message::Terminal, Some(master.as_raw_fd())).map_err(|_| Trouble::Alone)?;
        }
        Step::Stdio => place_stdio(work)?,
        Step::Hostname(name) => process::set_hostname(name).map_err(failed)?,
        Step::Domainname(name) => process::set_domainname(name).map_err(failed)?,
        Step::Sysctl { file, value } => {
            procfs::write(procfs(work)?, file, value.to_bytes()).map_err(Doing::Write.failed())?;
        }
    }
    Ok(())
}

fn procfs<'a>(work: &'a Work<'_>) -> Result<BorrowedFd<'a>, Failed> {
    work.opened.procfs.as_ref().map(AsFd::as_fd).ok_or(Failed { doing: Doing::Write, errno: Errno::EBADF })
}

fn new_time(work: &Work<'_>, offsets: &[u8]) -> Result<(), Failed> {
    let hidden = work.plan.maps.is_some();
    if hidden {
        // A hidden process of a user namespace may not write to its own files.
        process::show().map_err(Doing::Itself.failed())?;
    }
    let entered = procfs(work).and_then(|procfs| namespace::enter_new_time(procfs, offsets));
    if hidden {
        process::hide().map_err(Doing::Itself.failed())?;
    }
    entered
}

fn run_hook(work: &Work<'_>, pid: i32, index: usize) -> Result<(), Trouble> {
    let (Some(hook), Some(output)) = (work.plan.hooks.create_container.get(index), work.output) else {
        return Ok(());
    };
    hook.run(&work.plan.states[0], pid, output).map_err(Trouble::Hook)
}

/// Lets go of what is outside the root, before anything in it is looked up that the image may have made, unless a step before
/// has done so.
fn enter(work: &Work<'_>) -> Result<(), Failed> {
    let is_done = work.plan.steps.iter().any(|step| matches!(step, Step::Directory(_)));
    if is_done { Ok(()) } else { let_go(work) }
}

fn let_go(work: &Work<'_>) -> Result<(), Failed> {
    work.keep.enter().map_err(Doing::Itself.failed())?;
    work.opened.sources.root.is_swept();
    Ok(())
}

fn place_stdio(work: &Work<'_>) -> Result<(), Failed> {
    match work.stdio {
        Stdio::Pipes(pipes)
            if work.identity.uid == 0 && work.plan.maker == MakerRights::Root && work.plan.maps.is_none() =>
        {
            // They are root's already.
            console::place_as_they_are(pipes)
        }
        Stdio::Files(files) | Stdio::Pipes(files) => {
            enter(work)?;
            console::place(files, work.identity.uid)
        }
        Stdio::Terminal => Err(Failed { doing: Doing::Verify, errno: Errno::ENOTTY }),
    }
}

/// Takes the rights of a process of the container and no others.
fn become_harmless(work: &Work<'_>, made: &mut Made) -> Result<(), Problem> {
    if let Some(there) = work.last_namespace() {
        // For the child that is yet to be made, while there still is the right to.
        let kind = CloneFlags::CLONE_NEWPID.bits();
        crate::sys::namespace::join(there, kind).map_err(Problem::at(Last::Namespaces))?;
    }
    work.keep.become_member().map_err(Problem::at(Last::Descriptors))?;
    if let Maker::Apart(_) = work.maker {
        // While it waits.
        process::end_when_asked();
    }
    if work.looks_up {
        made.candidate = lookup::first(work.identity, work.program)?;
    }
    let handles = handles(work, made);
    let has_users = work.plan.namespaces.all().contains(CloneFlags::CLONE_NEWUSER);
    if become_member(work.identity, &handles)? || has_users {
        // A change of user makes a process visible and forgets its parent's death, and so may joining a user namespace.
        belong_to_maker().map_err(|failed| Problem { step: Last::Hide, errno: failed.errno })?;
    }
    if notifies(work.identity) && work.last_namespace().is_none() {
        // Who answers it is told by way of a descriptor that does not stay.
        confine(work.identity, &handles)?;
    }
    Ok(())
}

fn notifies(identity: &Identity) -> bool {
    identity.filter.as_ref().is_some_and(|filter| filter.needs_listener())
}

/// Tells the maker that all is made, and waits: for the maker to have it on disk, unless it outlives that anyway, then for
/// the start.
fn wait_at_gate(work: &Work<'_>, ends: &Ends) {
    let stays = match work.plan.outlives_maker {
        // A maker that is killed from here on may have it on disk.
        true => process::die_with_parent(0).is_ok() && tell(work, Message::Ready, None).is_ok(),
        false => is_released(work),
    };
    if !stays {
        process::leave(1);
    }
    let failed = Problem::at(Last::Descriptors);
    if let Err(problem) = work.keep.wait().map_err(failed) {
        problem.report(ends.result);
    }
    if !process::await_byte(ends.go) {
        process::leave(1);
    }
}

fn is_released(work: &Work<'_>) -> bool {
    let is_told = tell(work, Message::Ready, None).is_ok() && await_go(work).is_ok();
    let is_free = is_told && process::die_with_parent(0).is_ok();
    if is_free {
        // Its maker may have been killed meanwhile.
        harmless(tell(work, Message::Released, None));
    }
    is_free
}

/// The hooks are the container's as well: their programs come from its image, so they get its rights.
fn start(work: &Work<'_>, ends: &Ends, made: &Made) -> Problem {
    if let Err(problem) = become_ready(work, made) {
        return problem;
    }
    start_hooks::run(work, ends.result, made.pid);
    execute(work.program, made.candidate)
}

/// The last that comes before whatever is the container's own.
fn become_ready(work: &Work<'_>, made: &Made) -> Result<(), Problem> {
    process::default_signals();
    if notifies(work.identity) { Ok(()) } else { confine(work.identity, &handles(work, made)) }
}

fn handles<'a>(work: &'a Work<'_>, made: &Made) -> Handles<'a> {
    let observer = work.observer.zip(work.plan.listener.as_ref());
    Handles {
        // Nothing else is left, and all of it is close-on-exec but what the program inherits.
        closed_from: None,
        procfs: procfs(work).ok(),
        limits: if work.plan.sets_limits() { Limits::Set } else { Limits::Own },
        observer: observer.map(|(socket, listener)| Observer {
            socket,
            state: &listener.state,
            process: Told::Before(made.pid),
        }),
    }
}
