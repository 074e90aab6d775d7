//! A BPF machine as the kernel has it for seccomp(2), and what it is shown.

use super::super::Instruction;

/// What the kernel shows a filter: `struct seccomp_data` without the instruction pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
}

/// Runs a filter; panics where the kernel would have refused it.
pub(super) fn run(program: &[Instruction], data: &Data) -> u32 {
    let word = |offset: u32| match offset {
        0 => data.number,
        4 => data.audit,
        16..64 if offset.is_multiple_of(8) => data.arguments[(offset as usize - 16) / 8] as u32,
        16..64 if offset % 8 == 4 => (data.arguments[(offset as usize - 16) / 8] >> 32) as u32,
        _ => panic!("load from {offset}"),
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let one = &program[at];
        at += 1;
        let holds = match one.code {
            0x20 => {
                accumulator = word(one.k);
                continue;
            }
            0x54 => {
                accumulator &= one.k;
                continue;
            }
            0x05 => {
                at += one.k as usize;
                continue;
            }
            0x06 => return one.k,
            0x15 => accumulator == one.k,
            0x25 => accumulator > one.k,
            0x35 => accumulator >= one.k,
            0x45 => accumulator & one.k != 0,
            other => panic!("unknown code {other:#x}"),
        };
        at += usize::from(if holds { one.jt } else { one.jf });
    }
}
