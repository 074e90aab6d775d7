//! Deadlines of the loop, all on one timerfd that is armed for the earliest; timerfd_create(2).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::cgroup::Group;
use crate::sys::clock;
use crate::wire::InstanceId;

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS: i64 = 1_000_000_000;

/// What is due.
#[derive(Debug, Clone)]
pub(super) enum Timer {
    /// Start the supervisor again.
    Supervisor,
    /// The supervisor of this generation closed its socket, or the pod is finished, and it has not ended.
    SupervisorOverdue(u32),
    /// An exec'd process reached its time limit.
    Exec(u64),
    /// A creator hangs.
    Creator(InstanceId),
    /// A log is to be rotated.
    Rotation(InstanceId),
    /// Remove a cgroup that was busy, after so many attempts.
    Remove(Group, u32),
    /// The same for the pod's own group.
    PodGroup(u32),
}

/// The deadlines, by monotonic time and a number that keeps equal times apart.
pub(super) struct Timers {
    descriptor: TimerFd,
    pending: BTreeMap<(i64, u64), Timer>,
    next: u64,
    /// What the timer is armed for, and not yet ready; not known once it was.
    armed: Cell<Option<Option<i64>>>,
}

impl Timers {
    pub(super) fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let descriptor = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        Ok(Self { descriptor, pending: BTreeMap::new(), next: 0, armed: Cell::new(Some(None)) })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Sets a deadline, some milliseconds from now.
    pub(super) fn after(&mut self, milliseconds: u64, timer: Timer) {
        self.next += 1;
        let delay = i64::try_from(milliseconds).unwrap_or(i64::MAX).saturating_mul(NANOS_PER_MILLI);
        self.pending.insert((clock::monotonic().saturating_add(delay), self.next), timer);
    }

    /// Takes back the deadline of an exec'd process.
    pub(super) fn cancel_exec(&mut self, key: u64) {
        self.pending.retain(|_, timer| !matches!(timer, Timer::Exec(known) if *known == key));
    }

    /// A creation ended; its limit wakes nobody.
    pub(super) fn cancel_creator(&mut self, instance: &InstanceId) {
        self.pending.retain(|_, timer| !matches!(timer, Timer::Creator(known) if known == instance));
    }

    /// A group is made again under its name: what is in it from now on stays.
    pub(super) fn cancel_removal(&mut self, group: &Group) {
        self.pending.retain(|_, timer| !matches!(timer, Timer::Remove(known, _) if known.is_at(group)));
    }

    /// Arms the timer for the earliest deadline, or not at all.
    pub(super) fn arm(&self) {
        let earliest = self.pending.keys().next().map(|(due, _)| *due);
        if self.armed.replace(Some(earliest)) == Some(earliest) {
            return;
        }
        let result = match earliest {
            None => self.descriptor.unset(),
            Some(due) => {
                let at = TimeSpec::new(due / NANOS, due % NANOS);
                self.descriptor.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
        };
        if let Err(errno) = result {
            self.armed.set(None);
            super::complain(format_args!("arm the timer: {errno}"));
        }
    }

    /// Takes out what is due by now.
    pub(super) fn due(&mut self) -> Vec<Timer> {
        let later = self.pending.split_off(&(clock::monotonic() + 1, 0));
        // Setting the timer anew clears its readiness: `arm` runs before each wait.
        self.armed.set(None);
        std::mem::replace(&mut self.pending, later).into_values().collect()
    }
}
