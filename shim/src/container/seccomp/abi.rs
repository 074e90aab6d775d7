//! The ways to call the kernel that a filter can see, and how a name becomes a number in each.

use super::table::TABLE;

/// A way to call the kernel: which table of numbers, how wide the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    /// 64-bit on x86_64.
    X86_64,
    /// 32-bit on x86_64.
    I386,
    /// 64-bit registers with 32-bit pointers on x86_64: numbers with [`X32_BIT`] set.
    X32,
    /// 64-bit on aarch64.
    Aarch64,
    /// 32-bit (EABI) on aarch64.
    Arm,
}

/// Set in every number of the x32 ABI.
pub(super) const X32_BIT: u32 = 0x4000_0000;
/// From here on numbers are private to the 32-bit ARM architecture.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

impl Abi {
    /// The number of the call `name`, or none where this ABI has no such call.
    pub(super) fn number(self, name: &str) -> Option<u32> {
        if self == Self::Arm
            && let Some((_, number)) = ARM_CALLS.iter().find(|(known, _)| *known == name)
        {
            return Some(*number);
        }
        let row = TABLE.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
        let (_, numbers) = TABLE.get(row)?;
        let number = u32::try_from(*numbers.get(self as usize)?).ok()?;
        Some(if self == Self::X32 { number | X32_BIT } else { number })
    }

    /// Whether arguments are compared in full, or their lower halves only.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Self::X86_64 | Self::Aarch64)
    }

    /// The call and its first argument through which `name` can also be reached: the old 32-bit x86
    /// entries `socketcall` and `ipc` (linux/net.h, linux/ipc.h).
    pub(super) fn multiplexed(self, name: &str) -> Option<(u32, u64)> {
        if self != Self::I386 {
            return None;
        }
        let of = |list: &[&str], first: u64| {
            list.iter().position(|known| *known == name).map(|place| first + place as u64)
        };
        let socket = of(&SOCKET_CALLS, 1).and_then(|which| Some((self.number("socketcall")?, which)));
        socket.or_else(|| {
            let (_, which) = IPC_CALLS.iter().find(|(known, _)| *known == name)?;
            Some((self.number("ipc")?, *which))
        })
    }
}

/// Sub-calls of `socketcall`, from 1.
const SOCKET_CALLS: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// Sub-calls of `ipc`.
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// Calls private to 32-bit ARM.
const ARM_CALLS: [(&str, u32); 6] = [
    ("breakpoint", ARM_PRIVATE + 1),
    ("cacheflush", ARM_PRIVATE + 2),
    ("usr26", ARM_PRIVATE + 3),
    ("usr32", ARM_PRIVATE + 4),
    ("set_tls", ARM_PRIVATE + 5),
    ("get_tls", ARM_PRIVATE + 6),
];
