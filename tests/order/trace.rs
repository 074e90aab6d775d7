//! Marks every function of some programs with a breakpoint, in all descendants of a command, and notes which are met;
//! ptrace(2). A breakpoint goes when it was met, so that the command runs on nearly as fast as alone.
//! Forked children get theirs back, where a program's children are watched.
//!
//! A signal that stops a process does not stop one that is watched.
//!
//! What a program maps anew (`shim/src/sys/image.rs`) has no breakpoints: to see the rest, it is started where it need not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// `int3`, after which the process stands behind it.
#[cfg(target_arch = "x86_64")]
const BREAKPOINT: ([u8; 1], u64) = ([0xcc], 1);
/// `brk 0`, at which it stands still.
#[cfg(target_arch = "aarch64")]
const BREAKPOINT: ([u8; 4], u64) = ([0, 0, 0x20, 0xd4], 0);

type Instruction = [u8; BREAKPOINT.0.len()];

/// Where a process goes on.
fn counter(registers: &mut nix::libc::user_regs_struct) -> &mut u64 {
    #[cfg(target_arch = "x86_64")]
    let counter = &mut registers.rip;
    #[cfg(target_arch = "aarch64")]
    let counter = &mut registers.pc;
    counter
}

/// A program whose functions are marked.
pub(crate) struct Program {
    device: u64,
    inode: u64,
    /// Loaded where chance puts it.
    is_movable: bool,
    /// What stood where functions begin.
    functions: BTreeMap<u64, Instruction>,
    /// In forked children every function is marked again.
    watches_children: bool,
    /// What forked children call before they execute something else, and what is called at all.
    by_children: Calls,
    by_any: Calls,
}

/// Functions in the order of their first call.
#[derive(Default)]
struct Calls {
    all: Vec<u64>,
    known: BTreeSet<u64>,
}

impl Calls {
    fn note(&mut self, function: u64) {
        if self.known.insert(function) {
            self.all.push(function);
        }
    }
}

/// A process that runs a program of ours, and what is added to its addresses.
#[derive(Debug)]
struct Tracee {
    program: usize,
    base: u64,
    /// What it called since its fork, if that is watched.
    called: Option<Vec<u64>>,
}

impl Program {
    pub(crate) fn open(path: &Path, functions: &[u64], watches_children: bool) -> Result<Self, String> {
        /// Of `e_type`; elf(5).
        const DYNAMIC: u8 = 3;
        let say = |error| format!("{}: {error}", path.display());
        let facts = fs::metadata(path).map_err(say)?;
        let mut kind = [0];
        File::open(path).and_then(|file| file.read_exact_at(&mut kind, 16)).map_err(say)?;
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
            is_movable: kind[0] == DYNAMIC,
            functions: functions.iter().map(|at| (*at, Instruction::default())).collect(),
            watches_children,
            by_children: Calls::default(),
            by_any: Calls::default(),
        })
    }

    /// Functions in the order of their first call, those of children first where they are watched.
    pub(crate) fn called(&self) -> Vec<u64> {
        [self.by_children.all.as_slice(), self.by_any.all.as_slice()].concat()
    }

    fn is_run_by(&self, pid: Pid) -> bool {
        let facts = fs::metadata(format!("/proc/{pid}/exe"));
        facts.is_ok_and(|facts| (facts.dev(), facts.ino()) == (self.device, self.inode))
    }

    /// Puts a breakpoint at each function of a process that has just begun; returns its base.
    fn mark(&mut self, pid: Pid) -> Result<u64, String> {
        let say = |error: std::io::Error| format!("process {pid}: {error}");
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).map_err(say)?;
        // ADDRESS-ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH; the first of its own mappings is the lowest.
        let inode = self.inode.to_string();
        let own = maps.lines().find(|line| line.split(' ').nth(4) == Some(&inode));
        let lowest = own.and_then(|line| u64::from_str_radix(line.split('-').next()?, 16).ok());
        let base = if self.is_movable { lowest.ok_or("it has no mapping of its program")? } else { 0 };
        self.put_breakpoints(pid, base, true)?;
        Ok(base)
    }

    /// Puts one at each function. What stands there is to be kept where `are_new`.
    fn put_breakpoints(&mut self, pid: Pid, base: u64, are_new: bool) -> Result<(), String> {
        let say = |error: std::io::Error| format!("process {pid}: {error}");
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem")).map_err(say)?;
        let Some((first, last)) = self.functions.keys().next().zip(self.functions.keys().next_back()) else {
            return Err("a program without functions".to_owned());
        };
        let (first, last) = (*first, *last);
        let mut text = vec![0; (last - first) as usize + BREAKPOINT.0.len()];
        memory.read_exact_at(&mut text, base + first).map_err(say)?;
        for (at, was) in &mut self.functions {
            let at = (*at - first) as usize;
            let there = &mut text[at..at + BREAKPOINT.0.len()];
            if are_new {
                was.copy_from_slice(there);
            }
            there.copy_from_slice(&BREAKPOINT.0);
        }
        memory.write_all_at(&text, base + first).map_err(say)
    }

    /// Takes the breakpoint away that a process has met, and notes the function that begins there; none if it met something else.
    fn meet(&mut self, pid: Pid, base: u64) -> Result<Option<u64>, String> {
        let say = |error: nix::Error| format!("process {pid}: {error}");
        let mut registers = ptrace::getregs(pid).map_err(say)?;
        let at = *counter(&mut registers) - BREAKPOINT.1 - base;
        let Some(was) = self.functions.get(&at) else { return Ok(None) };
        let memory = File::options().write(true).open(format!("/proc/{pid}/mem"));
        memory
            .and_then(|file| file.write_all_at(was, base + at))
            .map_err(|error| format!("process {pid}: {error}"))?;
        *counter(&mut registers) -= BREAKPOINT.1;
        ptrace::setregs(pid, registers).map_err(say)?;
        self.by_any.note(at);
        Ok(Some(at))
    }
}

/// Runs a command to its end, and to that of all its descendants.
pub(crate) fn run(command: &[String], programs: &mut [Program]) -> Result<(), String> {
    // It waits to be traced.
    let mut words = vec!["-c", "kill -STOP $$; exec \"$@\"", "sh"];
    words.extend(command.iter().map(String::as_str));
    let child = Command::new("sh").args(words).spawn().map_err(|error| format!("sh: {error}"))?;
    let first = Pid::from_raw(child.id().cast_signed());
    let say = |error: nix::Error| format!("tracing: {error}");
    waitpid(first, Some(WaitPidFlag::WUNTRACED)).map_err(say)?;
    let options = Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(first, options).map_err(say)?;
    kill(first, Signal::SIGCONT).map_err(say)?;
    let mut family = Family {
        tracees: BTreeMap::from([(first, None)]),
        early: BTreeSet::new(),
        forked: BTreeSet::new(),
        programs,
    };
    let mut status = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == first => status = Some(code),
            Ok(event) => family.step(event)?,
            Err(nix::Error::ECHILD) => break,
            Err(error) => return Err(say(error)),
        }
    }
    if status == Some(0) { Ok(()) } else { Err(format!("{}: it ended with {status:?}", command[0])) }
}

/// The command and its descendants.
struct Family<'a> {
    tracees: BTreeMap<Pid, Option<Tracee>>,
    /// Those that stopped before their parent's fork was told.
    early: BTreeSet<Pid>,
    /// Those that were forked and have not begun.
    forked: BTreeSet<Pid>,
    programs: &'a mut [Program],
}

impl Family<'_> {
    fn step(&mut self, event: WaitStatus) -> Result<(), String> {
        match event {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) => {
                self.tracees.remove(&pid);
            }
            WaitStatus::PtraceEvent(pid, _, event) if event == ptrace::Event::PTRACE_EVENT_EXEC as i32 => {
                let tracee = self.begin(pid)?;
                if let Some(Some(Tracee { program, called, .. })) = self.tracees.insert(pid, tracee) {
                    let by_children = &mut self.programs[program].by_children;
                    called.into_iter().flatten().for_each(|function| by_children.note(function));
                }
                go_on(pid, None);
            }
            WaitStatus::PtraceEvent(pid, _, event) if event == ptrace::Event::PTRACE_EVENT_STOP as i32 => {
                if self.tracees.contains_key(&pid) {
                    self.let_begin(pid);
                } else {
                    self.early.insert(pid);
                }
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                if let Ok(child) = ptrace::getevent(pid) {
                    let child = Pid::from_raw(child as i32);
                    let is_forked = event != ptrace::Event::PTRACE_EVENT_VFORK as i32;
                    let tracee = self.tracees.get(&pid).and_then(Option::as_ref).map(|parent| {
                        let is_watched = is_forked && self.programs[parent.program].watches_children;
                        Tracee { called: is_watched.then(Vec::new), ..*parent }
                    });
                    if tracee.as_ref().is_some_and(|tracee| tracee.called.is_some()) {
                        self.forked.insert(child);
                    }
                    self.tracees.insert(child, tracee);
                    if self.early.remove(&child) {
                        self.let_begin(child);
                    }
                }
                go_on(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => {
                let met = match self.tracees.get_mut(&pid) {
                    Some(Some(tracee)) if signal == Signal::SIGTRAP => {
                        let met = self.programs[tracee.program].meet(pid, tracee.base)?;
                        tracee.called.iter_mut().for_each(|called| called.extend(met));
                        met
                    }
                    Some(_) | None => None,
                };
                go_on(pid, Some(signal).filter(|_| met.is_none()));
            }
            WaitStatus::PtraceSyscall(_) | WaitStatus::Continued(_) | WaitStatus::StillAlive => {}
        }
        Ok(())
    }

    /// A process that stopped; a forked one does so before it runs anything.
    fn let_begin(&mut self, pid: Pid) {
        if let Some(Some(Tracee { program, base, .. })) = self.tracees.get(&pid)
            && self.forked.remove(&pid)
        {
            // One that was killed meanwhile runs nothing.
            if let Err(reason) = self.programs[*program].put_breakpoints(pid, *base, false) {
                eprintln!("hull-order: {reason}");
            }
        }
        go_on(pid, None);
    }

    /// A process executes something.
    fn begin(&mut self, pid: Pid) -> Result<Option<Tracee>, String> {
        let Some(program) = self.programs.iter().position(|one| one.is_run_by(pid)) else { return Ok(None) };
        let base = self.programs[program].mark(pid)?;
        Ok(Some(Tracee { program, base, called: None }))
    }
}

/// One that was killed meanwhile is waited for like any other.
fn go_on(pid: Pid, signal: Option<Signal>) {
    match ptrace::cont(pid, signal) {
        Ok(()) | Err(nix::Error::ESRCH) => {}
        Err(error) => eprintln!("hull-order: process {pid}: {error}"),
    }
}
