//! What child and maker tell each other: one packet of fixed size each, made without allocation.

use nix::errno::Errno;

use super::failed::{Doing, Failed};
use super::hook::Ending;
use crate::container::transform::Problem;

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
    /// The master of the terminal comes along.
    Terminal,
    /// All is made, but the child cannot become a process of the container, and ends.
    Member(Problem),
    /// The init is there, under this pid; whoever told ends.
    Appeared(i32),
    /// All is made.
    Ready,
    /// It lives on without its maker.
    Released,
}

const DUE: u8 = 1;
const FAILED: u8 = 2;
const HOOK: u8 = 3;
const READY: u8 = 4;
const TERMINAL: u8 = 5;
const MEMBER: u8 = 6;
const APPEARED: u8 = 7;
const RELEASED: u8 = 8;

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
            Self::Terminal => (TERMINAL, 0, 0, 0),
            Self::Member(problem) => return Self::with(problem),
            Self::Appeared(pid) => (APPEARED, 0, 0, pid),
            Self::Ready => (READY, 0, 0, 0),
            Self::Released => (RELEASED, 0, 0, 0),
        };
        let ([s0, s1], [v0, v1, v2, v3]) = (step.to_ne_bytes(), value.to_ne_bytes());
        [kind, detail, s0, s1, v0, v1, v2, v3]
    }

    /// A problem has three bytes and a number, in its eight.
    fn with(problem: Problem) -> [u8; Self::LENGTH] {
        let [kind, index, more, _, errno @ ..] = problem.to_bytes();
        let [e0, e1, e2, e3] = errno;
        [MEMBER, kind, index, more, e0, e1, e2, e3]
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
            TERMINAL => Some(Self::Terminal),
            MEMBER => {
                let problem = [detail, s0, s1, 0, v0, v1, v2, v3];
                Some(Self::Member(Problem::from_bytes(problem)))
            }
            APPEARED => Some(Self::Appeared(value)),
            READY => Some(Self::Ready),
            RELEASED => Some(Self::Released),
            _ => None,
        }
    }
}

/// What a maker has heard so far. Whoever traces an init may have its socket say anything, so nothing is heard that is not
/// due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    due: bool,
    terminal: bool,
    /// An init that joins its PID namespace last is there.
    pub(crate) appeared: bool,
}

impl Heard {
    /// Takes note of a message; false for one that cannot come now. `joins_last` says whether an init is to appear.
    #[must_use]
    pub(crate) fn note(&mut self, message: Message, joins_last: bool) -> bool {
        let is_expected = match message {
            Message::Failed { .. } | Message::Member(_) => true,
            Message::Hook { .. } => !self.appeared,
            Message::Due => !self.appeared && !self.due,
            Message::Terminal => !self.appeared && !self.terminal,
            Message::Appeared(_) => joins_last && !self.appeared,
            Message::Ready => self.appeared == joins_last,
            // It is heard by whoever releases it.
            Message::Released => false,
        };
        self.due |= message == Message::Due;
        self.terminal |= message == Message::Terminal;
        self.appeared |= matches!(message, Message::Appeared(_));
        is_expected
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
    use crate::container::transform::Step;

    #[test]
    fn messages_survive_the_socket() {
        let failed = Failed { doing: Doing::Attach, errno: Errno::EPERM };
        for message in [
            Message::Due,
            Message::Failed { step: 700, failed },
            Message::Hook { step: 3, ending: Ending::Exited(7) },
            Message::Hook { step: 3, ending: Ending::TimedOut },
            Message::Terminal,
            Message::Member(Problem { step: Step::HookEnded(2, 130), errno: Errno::EPERM }),
            Message::Member(Problem { step: Step::Directory, errno: Errno::ENOENT }),
            Message::Ready,
            Message::Released,
        ] {
            assert_eq!(Message::from_bytes(&message.to_bytes()), Some(message));
        }
        assert_eq!(Message::from_bytes(&[9; 8]), None);
        assert_eq!(Message::from_bytes(&[]), None);
    }
    #[test]
    fn each_message_is_heard_once_and_in_its_time() {
        let heard = |messages: &[Message], joins_last| {
            let mut heard = Heard::default();
            messages.iter().map(|message| heard.note(*message, joins_last)).collect::<Vec<_>>()
        };
        let (due, terminal, ready) = (Message::Due, Message::Terminal, Message::Ready);
        assert_eq!(heard(&[due, terminal, ready], false), [true; 3]);
        assert_eq!(heard(&[due, due, terminal, terminal], false), [true, false, true, false]);
        let appeared = Message::Appeared(7);
        assert_eq!(heard(&[appeared, Message::Released], false), [false, false]);
        assert_eq!(heard(&[ready, due, terminal, appeared, ready], true), [false, true, true, true, true]);
        let hook = Message::Hook { step: 1, ending: Ending::Exited(1) };
        let late = [appeared, due, terminal, hook, appeared];
        assert_eq!(heard(&late, true), [true, false, false, false, false]);
        let problem = Problem { step: Step::Directory, errno: Errno::ENOENT };
        assert_eq!(heard(&[appeared, Message::Member(problem)], true), [true, true]);
    }
}
