//! What one pass is to do: kill the pod, make a sandbox, kill and start containers (reference 0, 2, 4.4).

use super::action::ProbeKind;
use super::kill::Cause;
use super::pass::Step;
use super::record::Seen;
use super::restart::policy;
use super::state::Standing;
use super::status::EventType;
use super::turn::Turn;
use crate::manifest::pod::{Container, RestartPolicy};

impl Turn<'_> {
    /// The steps of this pass, from what is known now.
    pub(super) fn decide(&mut self) -> Vec<Step> {
        if self.state.sandbox.standing != Standing::Up {
            return self.decide_sandbox();
        }
        if self.restart_all_trigger().is_some() {
            return self.restart_all();
        }
        let init = self.plan_init();
        if init.kill_pod {
            return vec![Step::KillPod, Step::StopSandbox];
        }
        let mut kills = init.kills;
        let mut starts: Vec<&Container> =
            init.starts.iter().filter_map(|position| self.pod.spec.init_containers.get(*position)).collect();
        if init.initialised {
            let (kept, main_kills, main_starts) = self.plan_main();
            if kept == 0 && main_starts.is_empty() {
                return vec![Step::KillPod, Step::StopSandbox];
            }
            kills.extend(main_kills);
            starts.extend(main_starts);
        }
        let kill = |(container, cause)| Step::Kill { container, cause };
        let mut steps: Vec<Step> = kills.into_iter().map(kill).collect();
        steps.extend(starts.into_iter().map(|container| self.start_step(container)));
        steps
    }

    /// Main containers: how many are kept, which are killed, which are started.
    fn plan_main(&self) -> (usize, Vec<(String, Cause)>, Vec<&Container>) {
        let (mut kept, mut kills, mut starts) = (0, Vec::new(), Vec::new());
        for container in &self.pod.spec.containers {
            let name = container.name.as_str();
            let Seen::Running(attempt) = self.seen(container) else {
                if self.should_restart(container) {
                    starts.push(container);
                }
                continue;
            };
            if self.definition_changed(container) {
                kills.push((name.to_owned(), Cause::Definition));
                starts.push(container);
                continue;
            }
            let Some(cause) = self.probe_verdict(name, attempt) else {
                kept += 1;
                continue;
            };
            kills.push((name.to_owned(), cause));
            if policy(&self.pod.spec, container) != RestartPolicy::Never {
                starts.push(container);
            }
        }
        (kept, kills, starts)
    }

    fn probe_verdict(&self, name: &str, attempt: u32) -> Option<Cause> {
        let failed = |kind| self.probe_result(name, kind, attempt) == Some(false);
        match (failed(ProbeKind::Liveness), failed(ProbeKind::Startup)) {
            (true, _) => Some(Cause::Liveness),
            (false, true) => Some(Cause::Startup),
            (false, false) => None,
        }
    }

    /// The pod has no sandbox that is ready.
    fn decide_sandbox(&mut self) -> Vec<Step> {
        let spec = &self.pod.spec;
        let attempt = match self.state.sandbox.made {
            true => self.state.sandbox.attempt.saturating_add(1),
            false => 0,
        };
        let was_created = |container: &Container| {
            self.state.records.get(container.name.as_str()).is_some_and(|record| record.used.is_some())
        };
        if spec.restart_policy == RestartPolicy::Never
            && attempt != 0
            && spec.all_containers().any(was_created)
        {
            return vec![Step::KillPod, Step::StopSandbox];
        }
        let is_done = |container: &&Container| {
            policy(spec, container) == RestartPolicy::OnFailure
                && matches!(self.seen(container), Seen::Exited { code: 0, .. })
        };
        let main: Vec<&Container> = spec.containers.iter().filter(|container| !is_done(container)).collect();
        if main.is_empty() && spec.containers.iter().any(was_created) {
            return vec![Step::KillPod, Step::StopSandbox];
        }
        let starts = match spec.init_containers.first() {
            Some(first) => vec![first],
            None => main,
        };
        let starts: Vec<Step> = starts.into_iter().map(|container| self.start_step(container)).collect();
        if attempt != 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.pod_event(EventType::Normal, "SandboxChanged", text);
        }
        let mut steps =
            vec![Step::KillPod, Step::StopSandbox, Step::PurgeInit, Step::CreateSandbox { attempt }];
        steps.extend(starts);
        steps
    }

    /// A start that is judged by the instances that are there now.
    fn start_step(&self, container: &Container) -> Step {
        let name = container.name.as_str();
        let newest_end = self.state.records.get(name).and_then(|record| record.newest_end());
        Step::Start { container: name.to_owned(), newest_end }
    }
}
