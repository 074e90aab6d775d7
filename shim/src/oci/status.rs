//! What a container is doing, from what is to be seen of it (oci-runtime.md section 1.3).

use std::fmt;

/// As `status` of the state JSON has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// `create` is at it.
    Creating,
    /// Its init waits for `start`.
    Created,
    /// Its program runs.
    Running,
    /// Its cgroup is frozen.
    Paused,
    /// Its init ended.
    Stopped,
}

/// What can be seen of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The init recorded exists and is no zombie.
    pub(crate) init_lives: bool,
    /// `create` has not come to its end.
    pub(crate) unfinished: bool,
    /// The init is at its gate still.
    pub(crate) has_gate: bool,
    /// The cgroup is frozen.
    pub(crate) is_frozen: bool,
}

impl Status {
    /// Decides.
    pub(crate) fn of(seen: Seen) -> Self {
        match seen {
            Seen { unfinished: true, init_lives: true, .. } => Self::Creating,
            Seen { init_lives: false, .. } => Self::Stopped,
            Seen { is_frozen: true, .. } => Self::Paused,
            Seen { has_gate: true, .. } => Self::Created,
            _ => Self::Running,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: Seen = Seen { init_lives: true, unfinished: false, has_gate: false, is_frozen: false };

    #[test]
    fn a_frozen_init_is_paused_and_a_dead_one_stopped_wherever_it_waited() {
        assert_eq!(Status::of(RUNNING), Status::Running);
        assert_eq!(Status::of(Seen { has_gate: true, ..RUNNING }), Status::Created);
        assert_eq!(Status::of(Seen { has_gate: true, is_frozen: true, ..RUNNING }), Status::Paused);
        assert_eq!(Status::of(Seen { unfinished: true, has_gate: true, ..RUNNING }), Status::Creating);
        assert_eq!(Status::of(Seen { init_lives: false, is_frozen: true, ..RUNNING }), Status::Stopped);
        assert_eq!(Status::of(Seen { init_lives: false, unfinished: true, ..RUNNING }), Status::Stopped);
    }
}
