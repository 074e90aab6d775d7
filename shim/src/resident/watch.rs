//! What the loop waits for: epoll(7), with a token per descriptor that is never used twice.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::children::Role;
use super::output::Kind;
use crate::harmless;
use crate::wire::InstanceId;

/// Whose descriptor it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Signals,
    Timer,
    Supervisor,
    /// A process that an earlier shim started.
    Adopted(i32, Role),
    Output(InstanceId, Kind),
    Start(InstanceId),
    Making(InstanceId),
    Exec(u64),
    Task(u64),
    Pause,
    Keeper,
}

/// Names one registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token(u64);

/// The descriptors under watch.
pub(super) struct Watch {
    epoll: Epoll,
    sources: BTreeMap<Token, Source>,
    next: u64,
}

impl Watch {
    pub(super) fn new() -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        Ok(Self { epoll, sources: BTreeMap::new(), next: 0 })
    }

    pub(super) fn add(&mut self, descriptor: &impl AsFd, source: Source) -> nix::Result<Token> {
        self.next += 1;
        let token = Token(self.next);
        self.epoll.add(descriptor, EpollEvent::new(EpollFlags::EPOLLIN, token.0))?;
        self.sources.insert(token, source);
        Ok(token)
    }

    /// Also says when `descriptor` can be written to, or no longer.
    pub(super) fn want_write(&mut self, descriptor: &impl AsFd, token: Token, wanted: bool) {
        let mut flags = EpollFlags::EPOLLIN;
        flags.set(EpollFlags::EPOLLOUT, wanted);
        // Only fails for a descriptor that was never added.
        harmless(self.epoll.modify(descriptor, &mut EpollEvent::new(flags, token.0)));
    }

    /// Must be called before `descriptor` is closed: a copy of it in a child would keep the registration.
    pub(super) fn remove(&mut self, descriptor: &impl AsFd, token: Token) {
        self.sources.remove(&token);
        harmless(self.epoll.delete(descriptor));
    }

    pub(super) fn source(&self, token: Token) -> Option<Source> {
        self.sources.get(&token).cloned()
    }

    pub(super) fn wait(&self, ready: &mut Vec<(Token, EpollFlags)>) -> nix::Result<()> {
        let mut events = [EpollEvent::empty(); 32];
        let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            result => result?,
        };
        ready.extend(events.iter().take(count).map(|event| (Token(event.data()), event.events())));
        Ok(())
    }
}
