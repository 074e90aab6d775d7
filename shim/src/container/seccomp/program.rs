//! From a plan to instructions.
//!
//! BPF jumps forward only, by at most 255 instructions when they are conditional. So the program is
//! written from its end to its start: where a jump goes is there already, and if that is too far away
//! an unconditional jump (or a second copy of the `return`) is put in between.

use std::collections::HashMap;

use super::entry::{KILL_THREAD, Return, Test};
use super::rules::{Condition, Section, Verdict};
use super::{Error, Instruction};

/// Load a word of `struct seccomp_data`: BPF_LD | BPF_W | BPF_ABS.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ABOVE: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const AUDIT: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A little less than a jump's reach: what is still put in between must fit too.
const NEAR: usize = 250;
/// `BPF_MAXINSNS`.
const MOST: usize = 4096;

/// Where a jump goes.
#[derive(Debug, Clone, Copy)]
enum Target {
    /// To a `return` of this value, wherever there is one.
    Return(Return),
    /// To the instruction with this place, counted from the end of the program.
    At(usize),
}

/// Writes the program for `sections`; any other architecture is killed.
pub(super) fn assemble(sections: &[Section]) -> Result<Vec<Instruction>, Error> {
    let mut writer = Writer::default();
    let mut entry = Target::Return(KILL_THREAD);
    let mut blocks = Vec::new();
    for section in sections {
        let tree = writer.tree(&section.ranges);
        writer.arrive(tree);
        blocks.push((section.audit, writer.push(LOAD, NUMBER)));
    }
    // The native architecture comes first in the list and shall be asked for first.
    for (audit, block) in blocks.into_iter().rev() {
        entry = writer.jump(JUMP_EQUAL, audit, (block, entry));
    }
    writer.arrive(entry);
    writer.push(LOAD, AUDIT);
    let mut program = writer.reversed;
    if program.len() > MOST {
        return Err(Error::TooLong(program.len()));
    }
    program.reverse();
    Ok(program)
}

/// The program so far, last instruction first.
#[derive(Debug, Default)]
struct Writer {
    reversed: Vec<Instruction>,
    /// The nearest `return` of each value.
    returns: HashMap<Return, usize>,
}

impl Writer {
    /// A binary search over ranges; the accumulator holds the number.
    fn tree(&mut self, ranges: &[(u32, Verdict)]) -> Target {
        match ranges {
            [] => Target::Return(KILL_THREAD),
            [(_, verdict)] => self.verdict(verdict),
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let at_least = self.tree(high);
                let below = self.tree(low);
                let start = high.first().map_or(0, |(start, _)| *start);
                self.jump(JUMP_AT_LEAST, start, (at_least, below))
            }
        }
    }

    /// One range's verdict.
    fn verdict(&mut self, verdict: &Verdict) -> Target {
        match verdict {
            Verdict::Always(value) => Target::Return(*value),
            Verdict::Depends { rules, fallback } => {
                rules.iter().rev().fold(Target::Return(*fallback), |otherwise, rule| {
                    let matched = Target::Return(rule.action);
                    rule.conditions
                        .iter()
                        .rev()
                        .fold(matched, |then, condition| self.condition(condition, (then, otherwise)))
                })
            }
        }
    }

    /// One comparison of an argument, upper half first; goes to the first target when it holds.
    fn condition(&mut self, condition: &Condition, (holds, fails): (Target, Target)) -> Target {
        let (yes, no) = if condition.negated { (fails, holds) } else { (holds, fails) };
        let low = ARGUMENTS + 8 * condition.index;
        let upper = |value: u64| (value >> 32) as u32;
        let lower = |value: u64| value as u32;
        match condition.test {
            Test::Equal(value) => self.both((low, condition.wide), (u64::MAX, value), (yes, no)),
            Test::Masked { mask, value } => self.both((low, condition.wide), (mask, value), (yes, no)),
            Test::AtLeast(value) => {
                self.jump(JUMP_AT_LEAST, lower(value), (yes, no));
                self.order(low, condition.wide.then_some(upper(value)), (yes, no))
            }
            Test::Above(value) => {
                self.jump(JUMP_ABOVE, lower(value), (yes, no));
                self.order(low, condition.wide.then_some(upper(value)), (yes, no))
            }
        }
    }

    /// Equality of an argument under a mask.
    fn both(
        &mut self,
        (low, wide): (u32, bool),
        (mask, value): (u64, u64),
        (yes, no): (Target, Target),
    ) -> Target {
        let upper = |value: u64| (value >> 32) as u32;
        let lower = |value: u64| value as u32;
        let rest = self.equal((low, lower(mask), lower(value)), (yes, no));
        match wide {
            true => self.equal((low + 4, upper(mask), upper(value)), (rest, no)),
            false => rest,
        }
    }

    /// Equality of one half of an argument under a mask.
    fn equal(&mut self, (offset, mask, value): (u32, u32, u32), targets: (Target, Target)) -> Target {
        if mask == 0 {
            // Nothing is compared; `value` lies within the mask.
            return targets.0;
        }
        self.jump(JUMP_EQUAL, value, targets);
        if mask != u32::MAX {
            self.push(AND, mask);
        }
        self.push(LOAD, offset)
    }

    /// What comes before the comparison of the lower half that was written last: its load and, for a
    /// wide argument, the comparison of the upper half.
    fn order(&mut self, low: u32, upper: Option<u32>, (yes, no): (Target, Target)) -> Target {
        let lower = self.push(LOAD, low);
        let Some(upper) = upper else { return lower };
        let not_above = self.jump(JUMP_EQUAL, upper, (lower, no));
        self.jump(JUMP_ABOVE, upper, (yes, not_above));
        self.push(LOAD, low + 4)
    }

    /// A conditional jump on the accumulator, to the first target when the comparison holds.
    fn jump(&mut self, code: u16, k: u32, (yes, no): (Target, Target)) -> Target {
        let no = self.near(no);
        let yes = self.near(yes);
        let skip = |place: usize, from: usize| u8::try_from(from - place - 1).unwrap_or(u8::MAX);
        let from = self.reversed.len();
        let (jt, jf) = (skip(yes, from), skip(no, from));
        self.reversed.push(Instruction { code, jt, jf, k });
        Target::At(from)
    }

    /// The place of `target`, or of something nearer that leads there.
    fn near(&mut self, target: Target) -> usize {
        let here = self.reversed.len();
        match target {
            Target::At(place) if here - place <= NEAR => place,
            Target::At(place) => {
                self.push(JUMP, u32::try_from(here - place - 1).unwrap_or(u32::MAX));
                here
            }
            Target::Return(value) => match self.returns.get(&value) {
                Some(place) if here - place <= NEAR => *place,
                Some(_) | None => {
                    self.push(RETURN, value);
                    self.returns.insert(value, here);
                    here
                }
            },
        }
    }

    /// Makes sure that what is written next goes on at `target`.
    fn arrive(&mut self, target: Target) {
        let place = self.near(target);
        let here = self.reversed.len();
        if place + 1 != here {
            self.push(JUMP, u32::try_from(here - place - 1).unwrap_or(u32::MAX));
        }
    }

    /// An instruction that goes on with the one written before.
    fn push(&mut self, code: u16, k: u32) -> Target {
        self.reversed.push(Instruction { code, jt: 0, jf: 0, k });
        Target::At(self.reversed.len() - 1)
    }
}
