//! Device rules for cgroup v2: a `BPF_PROG_TYPE_CGROUP_DEVICE` program.
//!
//! Pure: rules go in, instructions come out. Rules are applied in order, so the program looks at the last
//! one first. An allowing rule decides when it grants all of what is asked for, a denying one when it
//! refuses any of it; where no rule decides, the answer is no.

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
    for rule in rules.iter().rev() {
        program.extend(block(*rule));
        if rule.is_unconditional() {
            // The kernel refuses a program with instructions that are never reached.
            return program;
        }
    }
    program.extend(answer(false));
    program
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const SET: u8 = 0xb7;
const JUMP_UNLESS: u8 = 0x55;
const JUMP_UNLESS_REGISTER: u8 = 0x5d;
const JUMP_IF: u8 = 0x15;
const EXIT: u8 = 0x95;

/// Registers: 1 is the context, then scratch; 2 the type, 3 the access, 4 the major, 5 the minor number.
fn prologue() -> Vec<Instruction> {
    let load = |register: u8, offset| instruction(LOAD_WORD, register | 1 << 4, offset, 0);
    vec![
        load(2, 0),
        instruction(MOVE, 3 | 2 << 4, 0, 0),
        instruction(AND, 2, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 16),
        load(4, 4),
        load(5, 8),
    ]
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

/// The kernel compares the lower halves as they are, sign or no sign: majors have 12 bits, minors 20.
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
        let mut registers = [0_i64; 6];
        let mut at = 0;
        loop {
            let Instruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let value = i64::from(immediate);
            let mut jumps = false;
            match code {
                LOAD_WORD => registers[to] = context[usize::try_from(offset).unwrap() / 4],
                MOVE => registers[to] = registers[from],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
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
