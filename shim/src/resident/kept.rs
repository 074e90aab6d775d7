//! The shim's side of its keeper: what is entrusted to it before it is recorded, and taken back after.
//!
//! **Invariant:** a process or descriptor is the keeper's before the record speaks of it, and is given up only
//! when the record does not any more, or with an instance that is over. So a successor finds with the keeper whatever it needs of
//! what its record names.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

use super::children::Role;
use super::instance::Held;
use super::keeper::{End, Ended, Inheritance, LONGEST, Name, Of, Order, Store};
use super::output::Kind;
use super::record::ProcessRecord;
use super::watch::{Source, Token};
use super::{Shim, launch};
use crate::sys::{clock, socket};
use crate::wire::{Exit, InstanceId};

impl From<Kind> for Of {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Stdout | Kind::Terminal => Self::Stdout,
            Kind::Stderr => Self::Stderr,
        }
    }
}

/// What this shim knows of its keeper.
#[derive(Default)]
pub(super) struct Kept {
    link: Option<(OwnedFd, Token)>,
    /// What predecessors left.
    store: Store,
    /// Children of a predecessor, now the keeper's, which tells how they end.
    wards: BTreeMap<ProcessRecord, Role>,
    processes: RefCell<BTreeSet<ProcessRecord>>,
    descriptors: RefCell<BTreeMap<InstanceId, BTreeSet<Of>>>,
    is_ready: Cell<bool>,
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
        self.take(instance, Of::Terminal)
    }

    pub(super) fn take_output(&mut self, instance: &InstanceId, kind: Kind) -> Option<OwnedFd> {
        self.take(instance, kind.into())
    }

    fn take(&mut self, instance: &InstanceId, of: Of) -> Option<OwnedFd> {
        self.store.descriptors.remove(&Name { instance: instance.clone(), of })
    }

    /// What no instance took is open in the keeper until the record is discharged, and need not be here.
    pub(super) fn close_rest(&mut self) {
        self.store.descriptors.clear();
    }

    /// Whether the keeper could be told to close it.
    fn release(&self, instance: &InstanceId, of: Of) -> bool {
        self.tell(&Order::Release(Name { instance: instance.clone(), of }), None)
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
        let mut descriptors: BTreeMap<InstanceId, BTreeSet<Of>> = BTreeMap::new();
        for Name { instance, of } in store.descriptors.keys() {
            descriptors.entry(instance.clone()).or_default().insert(*of);
        }
        self.kept = Kept {
            link: Some((socket, token)),
            processes: RefCell::new(store.held.keys().copied().collect()),
            descriptors: RefCell::new(descriptors),
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
        let mut known = self.kept.processes.borrow_mut();
        for process in self.named_processes() {
            if !known.contains(&process) && self.kept.tell(&Order::Hold(process), None) {
                known.insert(process);
            }
        }
        let mut known = self.kept.descriptors.borrow_mut();
        for (instance, held) in &self.instances {
            for (of, descriptor) in descriptors(held) {
                if known.get(instance).is_some_and(|known| known.contains(&of)) {
                    continue;
                }
                let name = Name { instance: instance.clone(), of };
                if self.kept.tell(&Order::Keep(name), Some(descriptor)) {
                    known.entry(instance.clone()).or_default().insert(of);
                }
            }
        }
    }

    /// After it: what it does not name any more is given up.
    pub(super) fn discharge(&self) {
        let mut named: Vec<ProcessRecord> = self.named_processes().collect();
        named.sort_unstable();
        let is_kept = |order: Order| !self.kept.tell(&order, None);
        self.kept
            .processes
            .borrow_mut()
            .retain(|process| named.binary_search(process).is_ok() || is_kept(Order::Forget(*process)));
        self.kept.descriptors.borrow_mut().retain(|instance, known| {
            let held = self.instances.get(instance);
            let is_named = |of| held.into_iter().flat_map(descriptors).any(|(other, _)| other == of);
            known.retain(|of| is_named(*of) || !self.kept.release(instance, *of));
            !known.is_empty()
        });
    }

    /// When an instance is over or was never one: what is made under its name next is something else, even if no record is
    /// written before. A successor needs nothing of such an instance, whatever the record says.
    pub(super) fn withdraw(&self, instance: &InstanceId) {
        let mut known = self.kept.descriptors.borrow_mut();
        if let Some(known) = known.get_mut(instance) {
            known.retain(|of| !self.kept.release(instance, *of));
        }
    }

    fn named_processes(&self) -> impl Iterator<Item = ProcessRecord> {
        let inits = self.instances.values().filter_map(|held| held.init.as_ref());
        let processes = inits.chain(self.sandbox.pause_process()).map(|init| init.record);
        // Those that are adopted never become the keeper's: it was not there when they were started.
        let ours = processes.filter(|process| !self.adopted.contains_key(&process.pid));
        let lost = self.instances.values().filter_map(|held| held.lost);
        ours.chain(lost).chain(self.kept.wards.keys().copied())
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

/// What no successor could open again; nothing of an instance that is over.
fn descriptors(held: &Held) -> impl Iterator<Item = (Of, RawFd)> {
    let terminal = held.terminal.iter().map(|terminal| (Of::Terminal, terminal.as_raw_fd()));
    let stdin = held.stdin.iter().map(|stdin| (Of::Stdin, stdin.as_raw_fd()));
    let outputs = held.output.sources().map(|(kind, source)| (kind.into(), source.as_raw_fd()));
    terminal.chain(stdin).chain(outputs).filter(|_| held.is_alive())
}

/// What a successor finds of the terminal and the input of an instance.
pub(super) fn resume(kept: &mut Kept, held: &mut Held, stdin_open: bool) {
    let instance = held.create.instance.clone();
    held.terminal = kept.take_terminal(&instance);
    let stdin = kept.take(&instance, Of::Stdin);
    if stdin_open && stdin.is_some() {
        held.stdin = stdin;
    }
}
