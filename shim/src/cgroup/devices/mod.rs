//! Which devices a group may use: the rules of a `config.json`, in the kernel's numbers.
//!
//! Pure. v1 takes a list of writes ([`list`]), v2 a program ([`program`]); both say the same: rules apply in
//! order, the last one that speaks of an access decides, and where none does the answer is no.
//! What was loaded is kept ([`loaded`]).

pub mod list;
pub(crate) mod loaded;
pub mod program;

use std::fmt;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::resources::Invalid;

/// Block or character; the kernel's numbers in a device program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A block device.
    Block = 1,
    /// A character device.
    Character = 2,
}

/// What is done with a device, as bits: 1 makes its node, 2 reads, 4 writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(pub(super) u8);

impl Access {
    /// Making nodes.
    pub const MKNOD: Self = Self(1);
    /// Reading.
    pub const READ: Self = Self(2);
    /// Writing.
    pub const WRITE: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);
}

/// One rule; none is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Whether it grants or refuses.
    pub allow: bool,
    /// Which sort of device.
    pub kind: Option<Kind>,
    /// Which major number.
    pub major: Option<u32>,
    /// Which minor number.
    pub minor: Option<u32>,
    /// What is done with it.
    pub access: Access,
}

impl Rule {
    /// Whether it speaks of every access to every device.
    #[must_use]
    pub fn is_unconditional(&self) -> bool {
        (self.kind, self.major, self.minor, self.access) == (None, None, None, Access::ALL)
    }
}

/// What every container may use, as with runc: making nodes, `/dev/{null,zero,full,random,urandom,tty}`, terminals
/// and tunnels.
const ALWAYS: [(Kind, Option<u32>, Option<u32>, Access); 11] = [
    (Kind::Character, None, None, Access::MKNOD),
    (Kind::Block, None, None, Access::MKNOD),
    (Kind::Character, Some(1), Some(3), Access::ALL),
    (Kind::Character, Some(1), Some(8), Access::ALL),
    (Kind::Character, Some(1), Some(7), Access::ALL),
    (Kind::Character, Some(5), Some(0), Access::ALL),
    (Kind::Character, Some(1), Some(5), Access::ALL),
    (Kind::Character, Some(1), Some(9), Access::ALL),
    (Kind::Character, Some(136), None, Access::ALL),
    (Kind::Character, Some(5), Some(2), Access::ALL),
    (Kind::Character, Some(10), Some(200), Access::ALL),
];

/// The rules of a `config.json`, and behind them what every container may use.
///
/// # Errors
/// A rule has a letter or a number that means nothing.
pub fn rules(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Invalid> {
    let always = ALWAYS
        .map(|(kind, major, minor, access)| Ok(Rule { allow: true, kind: Some(kind), major, minor, access }));
    rules.iter().map(read).chain(always).collect()
}

fn read(rule: &LinuxDeviceCgroup) -> Result<Rule, Invalid> {
    let number = |value: Option<i64>| match value {
        // runc's callers write -1 for any.
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| Invalid::DeviceNumber(value)),
    };
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::B => Some(Kind::Block),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Character),
        LinuxDeviceType::A => None,
        LinuxDeviceType::P => return Err(Invalid::DeviceType("p")),
    };
    let access = access(rule.access().as_deref().unwrap_or("rwm"))?;
    Ok(Rule { allow: rule.allow(), kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
}

fn access(letters: &str) -> Result<Access, Invalid> {
    let bit = |letter| match letter {
        'r' => Some(Access::READ.0),
        'w' => Some(Access::WRITE.0),
        'm' => Some(Access::MKNOD.0),
        _ => None,
    };
    let bits = letters.chars().try_fold(0, |all, letter| bit(letter).map(|bit| all | bit));
    bits.filter(|bits| *bits != 0).map(Access).ok_or_else(|| Invalid::DeviceAccess(letters.to_owned()))
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")];
        letters.iter().filter(|(bit, _)| self.0 & bit.0 != 0).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// As the files of v1 have it: `c 1:3 rwm`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            None => "a",
            Some(Kind::Block) => "b",
            Some(Kind::Character) => "c",
        };
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}
