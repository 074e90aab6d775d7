//! What child and maker tell each other: one packet of fixed size each, made without allocation.

use nix::errno::Errno;

use super::failed::{Doing, Failed};
use super::hook::Ending;

/// From the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Message {
    /// The hooks of the maker's namespaces may run; the child waits.
    Due,
    /// A step failed, and the child ends.
    Failed {
        /// Its number.
        step: u16,
        /// Doing what and why.
        failed: Failed,
    },
    /// A hook failed, and the child ends.
    Hook {
        /// Its number.
        step: u16,
        /// How.
        ending: Ending,
    },
    /// All is made. A terminal's master comes along.
    Ready,
}

const DUE: u8 = 1;
const FAILED: u8 = 2;
const HOOK: u8 = 3;
const READY: u8 = 4;

impl Message {
    /// Length on the wire.
    pub(crate) const LENGTH: usize = 8;

    /// The bytes of the packet.
    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        let (kind, detail, step, value) = match self {
            Self::Due => (DUE, 0, 0, 0),
            Self::Failed { step, failed } => (FAILED, failed.doing as u8, step, failed.errno as i32),
            Self::Hook { step, ending } => {
                let (detail, value) = ending.to_parts();
                (HOOK, detail, step, value)
            }
            Self::Ready => (READY, 0, 0, 0),
        };
        let ([s0, s1], [v0, v1, v2, v3]) = (step.to_ne_bytes(), value.to_ne_bytes());
        [kind, detail, s0, s1, v0, v1, v2, v3]
    }

    /// Reads what [`Message::to_bytes`] wrote; none for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [kind, detail, s0, s1, v0, v1, v2, v3] = *bytes.first_chunk::<{ Self::LENGTH }>()?;
        let step = u16::from_ne_bytes([s0, s1]);
        let value = i32::from_ne_bytes([v0, v1, v2, v3]);
        match kind {
            DUE => Some(Self::Due),
            FAILED => {
                let failed = Failed { doing: Doing::from_number(detail), errno: Errno::from_raw(value) };
                Some(Self::Failed { step, failed })
            }
            HOOK => Some(Self::Hook { step, ending: Ending::from_parts(detail, value) }),
            READY => Some(Self::Ready),
            _ => None,
        }
    }
}

/// From the maker: go on. Carries the child's pid in the maker's PID namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Go {
    /// As the maker sees it.
    pub(crate) pid: i32,
}

impl Go {
    /// Length on the wire.
    pub(crate) const LENGTH: usize = 4;

    /// The bytes of the packet.
    pub(crate) fn to_bytes(self) -> [u8; Self::LENGTH] {
        self.pid.to_ne_bytes()
    }

    /// Reads what [`Go::to_bytes`] wrote.
    pub(crate) fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self { pid: i32::from_ne_bytes(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_socket() {
        let failed = Failed { doing: Doing::Attach, errno: Errno::EPERM };
        for message in [
            Message::Due,
            Message::Failed { step: 700, failed },
            Message::Hook { step: 3, ending: Ending::Exited(7) },
            Message::Hook { step: 3, ending: Ending::TimedOut },
            Message::Ready,
        ] {
            assert_eq!(Message::from_bytes(&message.to_bytes()), Some(message));
        }
        assert_eq!(Message::from_bytes(&[9; 8]), None);
        assert_eq!(Message::from_bytes(&[]), None);
    }
}
