//! The end of the pod: whatever is mounted below its directory is unmounted, the directory and the name link
//! go, and the shim with its supervisor.

use std::path::PathBuf;

use super::Shim;
use super::sandbox::Goal;
use super::supervisor::Reply;
use super::timers::Timer;
use crate::harmless;
use crate::sandbox::mounts;
use crate::tree;
use crate::wire::{Answer, Failure};

/// Milliseconds that the supervisor has to end by itself.
const PATIENCE: u64 = 5000;

/// Whether the pod is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Finish {
    #[default]
    No,
    /// It is to end once the supervisor has.
    Asked,
    Done,
}

impl Finish {
    pub(super) fn is_asked(self) -> bool {
        self != Self::No
    }

    pub(super) fn is_done(self) -> bool {
        self == Self::Done
    }
}

impl Shim {
    pub(super) fn finish(&mut self, reply: Reply) {
        if self.sandbox.is_changing() {
            let message = "a sandbox is being made or removed".to_owned();
            return self.answer(Some(reply), Err(Failure::State { message }));
        }
        self.begin_stop(Goal::Finish(Some(reply)));
    }

    /// There is no sandbox any more, or some of it could not be removed and the pod stays.
    pub(super) fn finish_now(&mut self, reply: Option<Reply>, outcome: Result<Answer, Failure>) {
        if outcome.is_ok() || reply.is_none() {
            self.finish = Finish::Asked;
            self.record();
            self.kill_requested_tasks();
            self.timers.after(PATIENCE, Timer::SupervisorOverdue(self.supervisor.generation()));
        }
        let over = outcome.is_ok();
        self.answer(reply, outcome);
        if over {
            self.close_link();
        }
        self.finish_if_alone();
    }

    pub(super) fn finish_if_alone(&mut self) {
        if self.finish != Finish::Asked || self.supervisor.is_alive() {
            return;
        }
        if let Err(message) = self.remove_pod() {
            self.complain(format_args!("remove the pod: {message}"));
        }
        self.finish = Finish::Done;
    }

    fn remove_pod(&self) -> Result<(), String> {
        let directory = self.pod.dir();
        for place in [directory, self.pod.disk()] {
            mounts::unmount_below(place).map_err(|error| super::chain(&error))?;
        }
        // The name first: a directory without a name is found again by its uid, not so the other way.
        self.remove_name()?;
        // Found by the directory on disk, should this shim be killed here.
        tree::remove(&self.logs()).map_err(|error| super::chain(&error))?;
        tree::remove(self.pod.disk()).map_err(|error| super::chain(&error))?;
        let endpoint = self.layout.endpoint(&self.config.uid);
        tree::remove(&endpoint).map_err(|error| super::chain(&error))?;
        let entries = match std::fs::read_dir(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| format!("read {}: {error}", directory.display()))?,
        };
        // As long as the configuration is there a successor goes on with this; then there is no pod to take up.
        let last = [self.pod.sandbox_config(), self.pod.shim_record(), self.pod.shim_lock()];
        let first = entries.flatten().map(|entry| entry.path()).filter(|path| !last.contains(path));
        for path in first.chain(last.clone()).chain([directory.to_owned()]) {
            tree::remove(&path).map_err(|error| super::chain(&error))?;
        }
        Ok(())
    }

    /// Where the supervisor has the pod's logs, which it has removed if it could.
    fn logs(&self) -> PathBuf {
        self.layout.pod_logs(&self.config.namespace, &self.config.name, &self.config.uid)
    }

    fn remove_name(&self) -> Result<(), String> {
        let link = self.layout.name_link(&self.config.namespace, &self.config.name);
        let is_ours = std::fs::read_link(&link)
            .is_ok_and(|target| target.file_name().is_some_and(|name| name == self.config.uid.as_str()));
        if is_ours {
            std::fs::remove_file(&link).map_err(|error| format!("remove {}: {error}", link.display()))?;
        }
        if let Some(namespace) = link.parent() {
            // Other pods of the namespace keep it.
            harmless(std::fs::remove_dir(namespace));
        }
        Ok(())
    }
}
