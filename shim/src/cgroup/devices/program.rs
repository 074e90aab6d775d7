//! Device rules for cgroup v2: a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
//!
//! Pure: rules go in, instructions come out. Rules are applied in order, so the program looks at the last
//! one first. An allowing rule decides when it grants all of what is asked for, a denying one when it
//! refuses any of it; where no rule decides, the answer is no.

use std::collections::BTreeSet;

use super::{Access, Rule};

/// The kernel's `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// The program for these rules.
pub(crate) fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = prologue();
    let rules = in_force(rules);
    for run in rules.chunk_by(|one, next| {
        is_listed(one) && is_listed(next) && (one.allow, one.kind) == (next.allow, next.kind)
    }) {
        match run {
            [one] => program.extend(block(*one)),
            more => more.chunks(LONGEST).for_each(|some| program.extend(list(some))),
        }
    }
    if !rules.last().is_some_and(Rule::is_unconditional) {
        // The kernel refuses a program with instructions that are never reached.
        program.extend(answer(false));
    }
    program
}

/// The rules that are ever asked, the last one first: none before one that decides all, nor one whose devices a later one decides.
fn in_force(rules: &[Rule]) -> Vec<Rule> {
    let mut asked: Vec<Rule> = Vec::new();
    let mut decided = BTreeSet::new();
    for rule in rules.iter().rev() {
        let devices = (rule.kind, rule.major, rule.minor);
        if !decided.contains(&devices) {
            asked.push(*rule);
        }
        if rule.access == Access::ALL {
            decided.insert(devices);
        }
        if rule.is_unconditional() {
            break;
        }
    }
    asked
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
/// Of the lower halves; the upper one becomes zero.
const MOVE_WORD: u8 = 0xbc;
const XOR_WORD: u8 = 0xa4;
const AND: u8 = 0x57;
const OR_REGISTER: u8 = 0x4f;
const ADD: u8 = 0x07;
const SHIFT_LEFT: u8 = 0x67;
const SHIFT_RIGHT: u8 = 0x77;
const SET: u8 = 0xb7;
const JUMP_UNLESS: u8 = 0x55;
const JUMP_UNLESS_REGISTER: u8 = 0x5d;
const JUMP_IF: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Registers: 1 is the context, then scratch; 2 the type, 3 the access, 4 the major, 5 the minor number, 6 both.
fn prologue() -> Vec<Instruction> {
    let load = |register: u8, offset| instruction(LOAD_WORD, register | 1 << 4, offset, 0);
    vec![
        load(2, 0),
        instruction(MOVE, 3 | 2 << 4, 0, 0),
        instruction(AND, 2, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 16),
        load(4, 4),
        load(5, 8),
        instruction(MOVE, 6 | 4 << 4, 0, 0),
        instruction(SHIFT_LEFT, 6, 0, MINOR_BITS as i32),
        instruction(OR_REGISTER, 6 | 5 << 4, 0, 0),
    ]
}

/// The kernel's numbers: majors have 12 bits, minors 20.
const MINOR_BITS: u32 = 20;

/// Rules in one list: a jump reaches over 32,767 instructions.
const LONGEST: usize = 1024;

/// Whether a rule is about one device, or all of a major number, and everything that is done with them.
fn is_listed(rule: &Rule) -> bool {
    let is_kernels = |number: u32, bits: u32| number >> bits == 0;
    rule.access == Access::ALL
        && rule.major.is_some_and(|major| is_kernels(major, 12))
        && rule.minor.is_none_or(|minor| is_kernels(minor, MINOR_BITS))
}

/// Listed rules that differ in their devices alone. Whether one of them is asked for is computed, without a jump: the kernel's
/// verifier follows every path, and those of the usual rules as [`block`]s took it four times as long.
fn list(rules: &[Rule]) -> Vec<Instruction> {
    let mut found = vec![instruction(SET, 0, 0, 0)];
    for rule in rules {
        let major = rule.major.unwrap_or_default();
        let (register, number) = match rule.minor {
            Some(minor) => (6, major << MINOR_BITS | minor),
            None => (4, major),
        };
        found.extend([
            instruction(MOVE_WORD, 1 | register << 4, 0, 0),
            instruction(XOR_WORD, 1, 0, number.cast_signed()),
            // Zero, and nothing else, has its highest bit set when one is taken away.
            instruction(ADD, 1, 0, -1),
            instruction(SHIFT_RIGHT, 1, 0, 63),
            instruction(OR_REGISTER, 1 << 4, 0, 0),
        ]);
    }
    let [set, exit] = answer(rules.first().is_some_and(|rule| rule.allow));
    found.extend([instruction(JUMP_IF, 0, 2, 0), set, exit]);
    let kind = rules.first().and_then(|rule| rule.kind);
    let of_kind = kind.map(|kind| instruction(JUMP_UNLESS, 2, found.len() as i16, kind as i32));
    of_kind.into_iter().chain(found).collect()
}

fn block(rule: Rule) -> Vec<Instruction> {
    let mut block = Vec::new();
    let unequal = |register: u8, value: i32| instruction(JUMP_UNLESS, register, 0, value);
    block.extend(rule.kind.map(|kind| unequal(2, kind as i32)));
    if rule.access != Access::ALL {
        block.push(instruction(MOVE, 1 | 3 << 4, 0, 0));
        block.push(instruction(AND, 1, 0, rule.access.0.into()));
        block.push(if rule.allow {
            instruction(JUMP_UNLESS_REGISTER, 1 | 3 << 4, 0, 0)
        } else {
            instruction(JUMP_IF, 1, 0, 0)
        });
    }
    block.extend(rule.major.map(|major| unequal(4, number(major))));
    block.extend(rule.minor.map(|minor| unequal(5, number(minor))));
    block.extend(answer(rule.allow));
    let end = block.len();
    for (at, one) in block.iter_mut().enumerate() {
        if matches!(one.code, JUMP_UNLESS | JUMP_UNLESS_REGISTER | JUMP_IF) {
            // A block has nine instructions at most.
            one.offset = (end - at - 1) as i16;
        }
    }
    block
}

/// As the kernel compares it; numbers that it does not have are equal to none.
fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn answer(allow: bool) -> [Instruction; 2] {
    [instruction(SET, 0, 0, i32::from(allow)), instruction(EXIT, 0, 0, 0)]
}

fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType};
    use proptest::prelude::*;

    use super::super::Kind;
    use super::*;

    const BLOCK: i32 = 1;
    const CHARACTER: i32 = 2;
    const MKNOD: i32 = 1;
    const READ: i32 = 2;
    const WRITE: i32 = 4;

    fn rule(allow: bool, kind: LinuxDeviceType, access: &str) -> LinuxDeviceCgroup {
        LinuxDeviceCgroupBuilder::default().allow(allow).typ(kind).access(access).build().unwrap()
    }

    fn compile(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
        super::compile(&super::super::rules(rules).unwrap())
    }

    /// Runs a program as the kernel does.
    fn ask(program: &[Instruction], kind: i32, access: i32, major: i64, minor: i64) -> bool {
        let context = [i64::from(access << 16 | kind), major, minor];
        let mut registers = [0_i64; 7];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let value = i64::from(immediate);
            let mut jumps = false;
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[to] = registers[from],
                MOVE_WORD => registers[to] = i64::from(registers[from] as u32),
                XOR_WORD => registers[to] = i64::from((registers[to] as i32 ^ immediate).cast_unsigned()),
                ADD => registers[to] = registers[to].wrapping_add(value),
                AND => registers[to] &= value,
                OR_REGISTER => registers[to] |= registers[from],
                SHIFT_LEFT => registers[to] <<= value,
                SHIFT_RIGHT => registers[to] = (registers[to].cast_unsigned() >> value).cast_signed(),
                SET => registers[to] = value,
                JUMP_UNLESS => jumps = registers[to] != value,
                JUMP_UNLESS_REGISTER => jumps = registers[to] != registers[from],
                JUMP_IF => jumps = registers[to] == value,
                _ => return registers[0] == 1,
            }
            at += 1 + if jumps { usize::try_from(offset).unwrap() } else { 0 };
        }
    }

    #[test]
    fn by_default_only_harmless_devices_may_be_used() {
        let program = compile(&[rule(false, LinuxDeviceType::A, "rwm")]);
        assert!(ask(&program, CHARACTER, READ | WRITE, 1, 3));
        assert!(ask(&program, CHARACTER, READ | WRITE, 136, 7));
        assert!(ask(&program, BLOCK, MKNOD, 8, 0));
        assert!(!ask(&program, BLOCK, READ, 8, 0));
        assert!(!ask(&program, CHARACTER, READ, 1, 1));
        assert!(!ask(&compile(&[]), BLOCK, READ, 8, 0));
    }

    #[test]
    fn the_last_rule_that_speaks_of_an_access_counts() {
        let all = rule(true, LinuxDeviceType::A, "rwm");
        let program = compile(&[all.clone(), rule(false, LinuxDeviceType::B, "w")]);
        assert!(ask(&program, BLOCK, READ, 8, 0));
        assert!(!ask(&program, BLOCK, READ | WRITE, 8, 0));
        assert!(ask(&program, CHARACTER, READ | WRITE, 8, 0));
        assert!(ask(&compile(&[rule(false, LinuxDeviceType::A, "rwm"), all]), BLOCK, READ | WRITE, 8, 0));
    }

    /// What the rules say, one after the other.
    fn judge(rules: &[Rule], kind: i32, access: i32, major: i64, minor: i64) -> bool {
        let is = |wanted: Option<u32>, number: i64| wanted.is_none_or(|wanted| i64::from(wanted) == number);
        let decides = |rule: &&Rule| {
            let asked = i32::from(rule.access.0) & access;
            rule.kind.is_none_or(|wanted| wanted as i32 == kind)
                && is(rule.major, major)
                && is(rule.minor, minor)
                && if rule.allow { asked == access } else { asked != 0 }
        };
        rules.iter().rev().find(decides).is_some_and(|rule| rule.allow)
    }

    fn any_rule() -> impl Strategy<Value = Rule> {
        let kind = prop_oneof![Just(None), Just(Some(Kind::Block)), Just(Some(Kind::Character))];
        let number = |most: u32| prop_oneof![Just(None), (0..3_u32).prop_map(Some), Just(Some(most))];
        let access = prop_oneof![Just(7_u8), 1..8_u8].prop_map(Access);
        (any::<bool>(), kind, number(4095), prop_oneof![number(0xf_ffff), Just(Some(u32::MAX))], access)
            .prop_map(|(allow, kind, major, minor, access)| Rule { allow, kind, major, minor, access })
    }

    proptest! {
        #[test]
        fn a_program_says_what_its_rules_say(rules in proptest::collection::vec(any_rule(), 0..12)) {
            let program = super::compile(&rules);
            for (kind, access) in (BLOCK..=CHARACTER).flat_map(|kind| (1..8).map(move |access| (kind, access))) {
                for (major, minor) in [0, 1, 2, 4095].into_iter().flat_map(|one| [(one, 0), (one, 2), (one, 0xf_ffff)]) {
                    let (told, expected) =
                        (ask(&program, kind, access, major, minor), judge(&rules, kind, access, major, minor));
                    prop_assert_eq!(told, expected, "{} {} {}:{}", kind, access, major, minor);
                }
            }
            match crate::sys::bpf::load_device_program(&program) {
                Ok(_) | Err(nix::Error::EPERM) => {}
                Err(errno) => prop_assert!(false, "{}: {:?}", errno, program),
            }
        }
    }

    #[test]
    fn many_devices_take_many_lists() {
        let one = |minor| Rule {
            allow: true,
            kind: Some(Kind::Block),
            major: Some(8),
            minor: Some(minor),
            access: Access::ALL,
        };
        let program = super::compile(&(0..40_000).map(one).collect::<Vec<_>>());
        assert!(ask(&program, BLOCK, READ, 8, 0) && ask(&program, BLOCK, READ, 8, 39_999));
        assert!(!ask(&program, BLOCK, READ, 8, 40_000) && !ask(&program, CHARACTER, READ, 8, 0));
    }

    #[test]
    fn the_kernel_takes_the_program() {
        let program = compile(&[rule(false, LinuxDeviceType::A, "rwm"), rule(true, LinuxDeviceType::B, "r")]);
        match crate::sys::bpf::load_device_program(&program) {
            Ok(_) => {}
            Err(nix::Error::EPERM) => eprintln!("skipped: may not load BPF programs"),
            Err(errno) => panic!("{errno}"),
        }
    }
}
