//! The shim's side of its keeper: what is entrusted to it before it is recorded, and taken back after.
//!
//! **Invariant:** a process or descriptor is the keeper's before the record speaks of it, and is given up only
//! when the record does not any more. So a successor finds with the keeper whatever its record names.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::children::Role;
use super::instance::Held;
use super::keeper::{End, Ended, Inheritance, LONGEST, Order, Store};
use super::output::Kind;
use super::record::ProcessRecord;
use super::watch::{Source, Token};
use super::{Shim, launch};
use crate::sys::{clock, socket};
use crate::wire::{Exit, InstanceId};

/// What this shim knows of its keeper.
#[derive(Default)]
pub(super) struct Kept {
    link: Option<(OwnedFd, Token)>,
    /// What predecessors left.
    store: Store,
    /// Children of a predecessor, now the keeper's, which tells how they end.
    wards: BTreeMap<ProcessRecord, Role>,
    processes: RefCell<BTreeSet<ProcessRecord>>,
    names: RefCell<BTreeSet<String>>,
    is_ready: Cell<bool>,
}

/// Name of an instance's terminal with the keeper.
fn terminal(instance: &InstanceId) -> String {
    format!("terminal {instance}")
}

/// Name of our writing end of an instance's standard input.
fn stdin(instance: &InstanceId) -> String {
    format!("stdin {instance}")
}

/// Name of our end of a FIFO of an instance's output.
fn output(instance: &InstanceId, kind: Kind) -> String {
    format!("{} {instance}", kind.name())
}

impl Kept {
    /// How a process of a predecessor ended, if its keeper saw that.
    pub(super) fn end_of(&self, process: ProcessRecord) -> Option<End> {
        self.store.held.get(&process).copied().flatten()
    }

    /// Whether the keeper will tell how a process ends.
    pub(super) fn is_ward(&self, process: ProcessRecord) -> bool {
        self.link.is_some() && self.store.held.get(&process) == Some(&None)
    }

    /// Waits for the keeper's word about a process.
    pub(super) fn await_end(&mut self, process: ProcessRecord, role: Role) {
        self.wards.insert(process, role);
    }

    pub(super) fn take_terminal(&mut self, instance: &InstanceId) -> Option<OwnedFd> {
        self.store.descriptors.remove(&terminal(instance))
    }

    pub(super) fn take_stdin(&mut self, instance: &InstanceId) -> Option<OwnedFd> {
        self.store.descriptors.remove(&stdin(instance))
    }

    pub(super) fn take_output(&mut self, instance: &InstanceId, kind: Kind) -> Option<OwnedFd> {
        self.store.descriptors.remove(&output(instance, kind))
    }

    /// What no instance took is open in the keeper until the record is discharged, and need not be here.
    pub(super) fn close_rest(&mut self) {
        self.store.descriptors.clear();
    }

    /// Tells the keeper something; false when it cannot be told now, and should be told again.
    fn tell(&self, order: &Order, descriptor: Option<RawFd>) -> bool {
        let Some((link, _)) = &self.link else { return false };
        let bytes = serde_json::to_vec(order).unwrap_or_default();
        socket::send(link.as_fd(), &bytes, descriptor.as_slice()).is_ok()
    }
}

impl Shim {
    /// Takes over what the keeper had for this shim.
    pub(super) fn inherit(&mut self, inheritance: Inheritance) -> nix::Result<()> {
        let Inheritance { socket, mut store, ready, predecessor, .. } = inheritance;
        if let Some(exit) = predecessor {
            self.complain(format_args!(
                "the shim before this one ended: {exit:?}; this one takes the pod up"
            ));
        }
        if let Some(taken) = store.taken.take() {
            self.transit.inherit(taken);
        }
        let token = self.watch.add(&socket, Source::Keeper)?;
        self.ready = ready;
        self.kept = Kept {
            link: Some((socket, token)),
            processes: RefCell::new(store.held.keys().copied().collect()),
            names: RefCell::new(store.descriptors.keys().cloned().collect()),
            store,
            ..Kept::default()
        };
        Ok(())
    }

    /// The caller of `hull-shim pod` was told.
    pub(super) fn tell_ready(&self) {
        if !self.kept.is_ready.replace(true) {
            self.kept.tell(&Order::Ready, None);
        }
    }

    /// Before a record: what it will name is the keeper's too.
    pub(super) fn entrust(&self) {
        let (mut known, mut names) = (self.kept.processes.borrow_mut(), self.kept.names.borrow_mut());
        for process in self.named_processes() {
            if !known.contains(&process) && self.kept.tell(&Order::Hold(process), None) {
                known.insert(process);
            }
        }
        for (name, descriptor) in self.named_descriptors() {
            if !names.contains(&name) && self.kept.tell(&Order::Keep(name.clone()), Some(descriptor)) {
                names.insert(name);
            }
        }
    }

    /// After it: what it does not name any more is given up.
    pub(super) fn discharge(&self) {
        let named: BTreeSet<ProcessRecord> = self.named_processes().collect();
        let names: BTreeSet<String> = self.named_descriptors().map(|(name, _)| name).collect();
        let is_kept = |order: &Order| !self.kept.tell(order, None);
        let forget = |process: &ProcessRecord| is_kept(&Order::Forget(*process));
        self.kept.processes.borrow_mut().retain(|process| named.contains(process) || forget(process));
        let release = |name: &String| is_kept(&Order::Release(name.clone()));
        self.kept.names.borrow_mut().retain(|name| names.contains(name) || release(name));
    }

    fn named_processes(&self) -> impl Iterator<Item = ProcessRecord> {
        let inits = self.instances.values().filter_map(|held| held.init.as_ref());
        let processes = inits.chain(self.sandbox.pause_process()).map(|init| init.record);
        // Those that are adopted never become the keeper's: it was not there when they were started.
        let ours = processes.filter(|process| !self.adopted.contains_key(&process.pid));
        let lost = self.instances.values().filter_map(|held| held.lost);
        ours.chain(lost).chain(self.kept.wards.keys().copied())
    }

    fn named_descriptors(&self) -> impl Iterator<Item = (String, RawFd)> {
        let alive = self.instances.values().filter(|held| held.is_alive());
        alive.flat_map(|held| {
            let instance = &held.create.instance;
            let terminal =
                held.terminal.as_ref().map(|descriptor| (terminal(instance), descriptor.as_raw_fd()));
            let stdin = held.stdin.as_ref().map(|descriptor| (stdin(instance), descriptor.as_raw_fd()));
            let sources = held.output.sources();
            let outputs = sources.map(|(kind, source)| (output(instance, kind), source.as_raw_fd()));
            terminal.into_iter().chain(stdin).chain(outputs)
        })
    }

    /// The keeper tells of an end, or is gone.
    pub(super) fn keeper_event(&mut self) {
        while let Some((link, _)) = &self.kept.link {
            match socket::receive(link.as_fd(), LONGEST) {
                Ok(socket::Packet::Message(bytes, _)) => {
                    let told = serde_json::from_slice::<Ended>(&bytes).ok();
                    let role = told.as_ref().and_then(|told| self.kept.wards.remove(&told.process));
                    if let (Some(told), Some(role)) = (told, role) {
                        self.ended(role, told.end);
                    }
                }
                Ok(socket::Packet::Truncated) | Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(Errno::EAGAIN) => return,
                Ok(socket::Packet::Closed) | Err(_) => return self.go_on_alone(),
            }
        }
    }

    /// Without a keeper everything goes on; should this shim be killed too, the next command for the pod starts a
    /// successor, which learns what the kernel still tells.
    fn go_on_alone(&mut self) {
        if let Some((link, token)) = self.kept.link.take() {
            self.watch.remove(&link, token);
        }
        self.complain(format_args!("the keeper of this shim was killed: this one goes on without"));
        for (ProcessRecord { pid, .. }, role) in std::mem::take(&mut self.kept.wards) {
            let process = match &role {
                Role::Pause => self.sandbox.pause_process(),
                Role::Init(instance) => self.instances.get(instance).and_then(|held| held.init.as_ref()),
                Role::Supervisor | Role::Creator(_) | Role::Making(_) | Role::Exec(_) | Role::Task(_) => None,
            };
            let watched =
                process.map(|process| self.watch.add(&process.pidfd, Source::Adopted(pid, role.clone())));
            match watched {
                Some(Ok(token)) => drop(self.adopted.insert(pid, token)),
                Some(Err(errno)) => {
                    self.complain(format_args!("watch process {pid}: {}", launch::reason(errno)))
                }
                None => self.ended(role, End { exit: Exit::Unknown, at: clock::wall() }),
            }
        }
    }
}

/// What a successor finds of the terminal and the input of an instance.
pub(super) fn resume(kept: &mut Kept, held: &mut Held, stdin_open: bool) {
    let instance = held.create.instance.clone();
    held.terminal = kept.take_terminal(&instance);
    let stdin = kept.take_stdin(&instance);
    if stdin_open && stdin.is_some() {
        held.stdin = stdin;
    }
}
