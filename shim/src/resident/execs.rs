//! Processes exec'd in running instances: probes, hooks, `hull exec`.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use super::children::Role;
use super::instance::{Held, State, unfit, unknown};
use super::supervisor::Reply;
use super::timers::Timer;
use super::watch::{Source, Token};
use super::{Shim, launch};
use crate::cgroup::{Group, Removal};
use crate::container::engine::listener::Listener;
use crate::container::engine::plan::keyring_name;
use crate::container::exec::{self, Stdio, Target};
use crate::container::program::Program;
use crate::container::spec;
use crate::container::transform::Problem;
use crate::harmless;
use crate::sys::process::Child;
use crate::wire::{Answer, ExecConfig, Exit, Failure, InstanceId, PreStop, Report};

/// How the cgroups of exec'd processes are called, before their keys.
const LEAF: &str = "exec-";

/// One exec'd process, by a key of our own: the supervisor's numbers begin anew with each supervisor.
pub(super) struct Running {
    exec: u64,
    asked: Asked,
    instance: InstanceId,
    pid: i32,
    leaf: Group,
    program: Program,
    /// Until its `execve` is done.
    starting: Option<Starting>,
    terminal: Option<OwnedFd>,
    timed_out: bool,
}

/// Who asked for it and what for, which tells who is to hear of its end.
#[derive(Debug, Clone, Copy)]
struct Asked {
    generation: u32,
    /// It is the preStop hook of its instance.
    pre_stop: bool,
    /// It could not execute, and its request was answered so.
    failed: bool,
}

impl Asked {
    /// Whether the end is reported to this supervisor. A preStop hook is everybody's, one that could not execute too:
    /// who asked for it has heard so, and not its successor.
    fn is_told(self, generation: u32) -> bool {
        if self.generation == generation { !self.failed } else { self.pre_stop }
    }
}

struct Starting {
    pipe: OwnedFd,
    token: Token,
    reply: Reply,
    /// The terminal to hand out.
    master: Option<OwnedFd>,
}

/// A process that is about to execute its program.
struct Started {
    child: Child,
    token: Token,
    pipe: OwnedFd,
    leaf: Group,
}

impl Shim {
    pub(super) fn exec(&mut self, config: ExecConfig, descriptors: Vec<OwnedFd>, reply: Reply) {
        if let Err(failure) = self.try_exec(&config, descriptors, reply) {
            self.answer(Some(reply), Err(failure));
        }
    }

    fn try_exec(&mut self, config: &ExecConfig, files: Vec<OwnedFd>, reply: Reply) -> Result<(), Failure> {
        self.make_readable(&config.instance)?;
        let held = self.instances.get(&config.instance).ok_or_else(|| unknown(&config.instance))?;
        let (State::Running, Some(init)) = (&held.state, &held.init) else {
            return Err(unfit(held, "running"));
        };
        let program = program(held, config)?;
        let (stdio, master) = match config.tty {
            Some(size) => {
                let opened = exec::open_terminal(init.record.pid, Some(size), held.identity.uid);
                opened.map(|(stdio, master)| (stdio, Some(master)))
            }
            None => three(files).map(|files| (Stdio::Files(files), None)),
        }
        .map_err(|message| failed(&config.instance, &message))?;
        let (key, instance) = (self.key(), config.instance.clone());
        let started = match config.pre_stop {
            true => self.start_pre_stop(config, key, &program, &stdio),
            false => self.start_exec(&instance, key, &program, &stdio),
        };
        let Started { child, token, pipe, leaf } = started.map_err(|message| failed(&instance, &message))?;
        let running = Running {
            exec: config.exec,
            asked: Asked {
                generation: self.supervisor.generation(),
                pre_stop: config.pre_stop,
                failed: false,
            },
            instance,
            pid: child.pid,
            leaf,
            program,
            terminal: master.as_ref().and_then(|master| master.try_clone().ok()),
            starting: Some(Starting { pipe, token, reply, master }),
            timed_out: false,
        };
        self.roles.insert(child.pid, Role::Exec(key));
        self.execs.insert(key, running);
        if let Some(milliseconds) = config.timeout_ms {
            self.timers.after(milliseconds, Timer::Exec(key));
        }
        Ok(())
    }

    /// What could not be read when the instance was taken up may be there by now.
    fn make_readable(&mut self, instance: &InstanceId) -> Result<(), Failure> {
        let held = self.instances.get_mut(instance).ok_or_else(|| unknown(instance))?;
        if held.unreadable.is_none() {
            return Ok(());
        }
        held.read_again(self.config.share_pid, &self.filters).map_err(|message| failed(instance, &message))
    }

    /// Starts a preStop hook. It is recorded before it runs: a successor is not to run it once more.
    fn start_pre_stop(
        &mut self,
        config: &ExecConfig,
        key: u64,
        program: &Program,
        stdio: &Stdio,
    ) -> Result<Started, String> {
        self.note_pre_stop(&config.instance, PreStop::Running { exec: config.exec });
        self.record();
        let started = self.start_exec(&config.instance, key, program, stdio);
        if started.is_err() {
            self.note_pre_stop(&config.instance, PreStop::Ended(Exit::Unknown));
        }
        started
    }

    /// Starts the process, in a cgroup of its own below the instance's.
    fn start_exec(
        &mut self,
        instance: &InstanceId,
        key: u64,
        program: &Program,
        stdio: &Stdio,
    ) -> Result<Started, String> {
        let held = self.instances.get(instance).ok_or("it is gone")?;
        let init = held.init.as_ref().ok_or("it is gone")?;
        let leaf = held.group.leaf(&format!("{LEAF}{key}"), &held.entry);
        let (leaf, entry) = leaf.map_err(|error| super::chain(&error))?;
        // With a shared PID namespace any container of the pod sees the new process.
        let watched = held.identity.may_trace()
            || self.config.share_pid && self.instances.values().any(|other| other.identity.may_trace());
        let listener = self.listener(held, init.record.pid)?;
        let keyring = keyring_name(&held.create.id).map_err(|error| error.to_string())?;
        let agent =
            listener.as_ref().map(Listener::connect).transpose().map_err(|failure| failure.message)?;
        let target = Target {
            init: init.pidfd.as_fd(),
            identity: &held.identity,
            cgroup: &entry,
            own_pid_namespace: self.own_pid_namespace.as_fd(),
            way: if watched { exec::Way::unseen() } else { exec::Way::Directly },
            keyring: Some(&keyring),
            procfs: self.engine.procfs.as_ref(),
            namespaces: exec::NAMESPACES,
            preserved: 0,
            observer: agent.as_ref().zip(listener.as_ref()).map(|(agent, told)| (agent.as_fd(), &told.state)),
        };
        let started = exec::start(&target, program, stdio)
            .and_then(|(child, pipe)| Ok((child, self.watch.add(&pipe, Source::Exec(key))?, pipe)));
        match started {
            Ok((child, token, pipe)) => Ok(Started { child, token, pipe, leaf }),
            Err(errno) => {
                harmless(leaf.kill());
                self.remove_group(&leaf, 0);
                Err(launch::reason(errno))
            }
        }
    }

    /// Who takes the listener of the instance's filter, where that has one.
    fn listener(&self, held: &Held, init: i32) -> Result<Option<Listener>, String> {
        if !held.identity.filter.as_ref().is_some_and(|filter| filter.needs_listener()) {
            return Ok(None);
        }
        let bundle = &held.create.bundle;
        let spec = spec::load(&bundle.join("config.json")).map_err(|error| super::chain(&error))?;
        Ok(Listener::of_joining(&spec, &held.create.id, bundle, init))
    }

    /// The process executed its program, or told why it could not.
    pub(super) fn exec_event(&mut self, key: u64) {
        let Some(running) = self.execs.get_mut(&key) else {
            return;
        };
        let Some(starting) = &running.starting else { return };
        let mut bytes = [0; Problem::LENGTH];
        let read = match nix::unistd::read(&starting.pipe, &mut bytes) {
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            result => result,
        };
        let Some(starting) = running.starting.take() else {
            return;
        };
        self.watch.remove(&starting.pipe, starting.token);
        if let Ok(Problem::LENGTH) = read {
            running.asked.failed = true;
            let problem = Problem::from_bytes(bytes);
            let message = match self.instances.get(&running.instance) {
                Some(held) => running.program.explain(&held.identity, problem),
                None => format!("unable to start container process: {}", launch::reason(problem.errno)),
            };
            return self.answer(Some(starting.reply), Err(Failure::Start { message }));
        }
        let pid = running.pid;
        let descriptors = starting.master.into_iter().collect();
        self.answer_with(Some(starting.reply), Ok(Answer::Exec { pid }), descriptors);
    }

    pub(super) fn exec_ended(&mut self, key: u64, exit: Exit) {
        self.exec_event(key);
        let Some(running) = self.execs.remove(&key) else {
            return;
        };
        self.timers.cancel_exec(key);
        if running.timed_out {
            self.remove_group(&running.leaf, 0);
        } else {
            self.dissolve(&running.leaf);
        }
        if running.asked.pre_stop {
            self.note_pre_stop(&running.instance, PreStop::Ended(exit));
        }
        if running.asked.is_told(self.supervisor.generation()) {
            let Running { exec, timed_out, .. } = running;
            self.report(&Report::ExecExited { exec, exit, timed_out });
        }
    }

    fn note_pre_stop(&mut self, instance: &InstanceId, pre_stop: PreStop) {
        if let Some(held) = self.instances.get_mut(instance) {
            held.pre_stop = Some(pre_stop);
        }
    }

    /// What an exec'd process left running stays, in the instance's own group: a leaf means that somebody still
    /// waits for its process.
    fn dissolve(&mut self, leaf: &Group) {
        match leaf.remove() {
            Ok(Removal::Gone) => return,
            Ok(Removal::Busy) => {}
            Err(error) => return self.complain(format_args!("{}", super::chain(&error))),
        }
        if let Err(error) = leaf.move_up() {
            self.complain(format_args!("{}", super::chain(&error)));
        }
        self.remove_group(leaf, 0);
    }

    /// Kills what a predecessor exec'd in an instance: whoever asked for it went with that shim, and nobody
    /// would keep its time limit.
    pub(super) fn end_old_execs(&mut self, instance: &Group) {
        for leaf in instance.leaves(LEAF) {
            if let Err(error) = leaf.kill() {
                self.complain(format_args!("{}", super::chain(&error)));
            }
            self.remove_group(&leaf, 0);
        }
    }

    pub(super) fn exec_overdue(&mut self, key: u64) {
        if let Some(running) = self.execs.get_mut(&key) {
            running.timed_out = true;
            if let Err(error) = running.leaf.kill() {
                super::complain(format_args!("{}", super::chain(&error)));
            }
        }
    }

    fn find_exec(&self, exec: u64) -> Option<&Running> {
        let generation = self.supervisor.generation();
        self.execs.values().find(|running| running.exec == exec && running.asked.generation == generation)
    }

    pub(super) fn kill_exec(&mut self, exec: u64) -> Result<(), Failure> {
        let missing = || Failure::State { message: format!("there is no exec {exec}") };
        let running = self.find_exec(exec).ok_or_else(missing)?;
        running.leaf.kill().map_err(|error| Failure::Other { message: super::chain(&error) })
    }

    pub(super) fn terminal_of_exec(&self, exec: u64) -> Option<&OwnedFd> {
        self.find_exec(exec).and_then(|running| running.terminal.as_ref())
    }

    /// Nobody can resize them any more, and their processes are to see the hang-up.
    pub(super) fn forget_terminals_of_execs(&mut self) {
        self.execs.values_mut().for_each(|running| running.terminal = None);
    }
}

fn program(held: &Held, config: &ExecConfig) -> Result<Program, Failure> {
    let mut variables = config.env.clone();
    if config.tty.is_some() && !variables.iter().any(|one| one.starts_with("TERM=")) {
        variables.push("TERM=xterm".to_owned());
    }
    Program::new(&held.identity, &config.args, &variables)
        .map_err(|error| Failure::Start { message: super::chain(&error) })
}

fn failed(instance: &InstanceId, message: &str) -> Failure {
    Failure::Other { message: format!("exec in {instance}: {message}") }
}

fn three(files: Vec<OwnedFd>) -> Result<[OwnedFd; 3], String> {
    let count = files.len();
    files.try_into().map_err(|_| format!("needs three descriptors, and {count} came along"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_pre_stop_hook_is_told_to_whoever_has_not_heard_of_it() {
        let asked = |pre_stop, failed| Asked { generation: 1, pre_stop, failed };
        let told = |asked: Asked| [1, 2].map(|generation| asked.is_told(generation));
        assert_eq!(told(asked(false, false)), [true, false]);
        assert_eq!(told(asked(false, true)), [false, false]);
        assert_eq!(told(asked(true, false)), [true, true]);
        assert_eq!(told(asked(true, true)), [false, true]);
    }
}
