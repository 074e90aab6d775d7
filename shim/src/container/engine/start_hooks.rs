//! `startContainer` hooks, which the init runs once it is let go, and how it tells of one that fails.

use std::os::fd::RawFd;

use nix::errno::Errno;

use super::gate;
use super::hook::Ending;
use super::work::Work;
use crate::container::transform::{Problem, Step as Last};
use crate::sys::{memory, process};

/// Runs them for the init that is `pid` to its maker. One that fails is told through `result`, and ends the init. Allocates nothing.
pub(super) fn run(work: &Work<'_>, result: RawFd, pid: i32) {
    for (index, hook) in work.plan.hooks.start_container.iter().enumerate() {
        let Some(output) = work.output else { break };
        if let Err(ending) = hook.run(&work.plan.states[1], pid, output) {
            tell_output(result, explain(index as u8, ending), output);
        }
    }
}

/// Tells of a hook that failed and of what it printed, and ends. Nobody else has its output any more.
fn tell_output(result: RawFd, problem: Problem, output: [RawFd; 2]) -> ! {
    let mut message = [0; gate::LONGEST];
    let (head, texts) = message.split_at_mut(gate::HEAD);
    let half = texts.len() / 2;
    let (out, err) = texts.split_at_mut(half);
    let length = memory::read_beginning(output[0], out);
    let more = memory::read_beginning(output[1], err);
    head[..Problem::LENGTH].copy_from_slice(&problem.to_bytes());
    head[Problem::LENGTH..].copy_from_slice(&(length as u16).to_ne_bytes());
    texts.copy_within(half..half + more, length);
    process::report(result, message.get(..gate::HEAD + length + more).unwrap_or_default());
    process::leave(128)
}

fn explain(index: u8, ending: Ending) -> Problem {
    let ended = |status| Problem { step: Last::HookEnded(index, status), errno: Errno::ECANCELED };
    match ending {
        Ending::Exited(status) => ended(status),
        Ending::Signaled(signal) => ended(128_u8.saturating_add(signal)),
        Ending::TimedOut => ended(u8::MAX),
        Ending::NotRun(errno) => Problem { step: Last::Hook(index), errno },
    }
}
