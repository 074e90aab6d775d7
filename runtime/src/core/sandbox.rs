//! The sandbox and the volumes: what is heard of them, and what follows (reference 2).

use std::net::IpAddr;

use super::action::Action;
use super::input::DnsWarning;
use super::pass::Waiting;
use super::record::{Life, Record};
use super::state::{Stage, Standing};
use super::status::{EventType, Ip};
use super::time::Mono;
use super::turn::{Turn, instance};

impl Turn<'_> {
    /// A sandbox stands.
    pub(super) fn sandbox_up(&mut self, attempt: u32, ips: Vec<IpAddr>, host_ips: Vec<IpAddr>) {
        let sandbox = &mut self.state.sandbox;
        let known = sandbox.made && attempt <= sandbox.attempt && sandbox.standing != Standing::Up;
        if self.state.stage != Stage::Syncing || known {
            return;
        }
        sandbox.attempt = attempt;
        sandbox.standing = Standing::Up;
        sandbox.made = true;
        sandbox.ips = ips;
        sandbox.host_ips = host_ips;
        if let Some(Waiting::Sandbox { .. }) = self.awaited() {
            self.answered();
            self.acted();
        } else if self.state.pass.is_none() {
            self.state.retry_at = self.state.retry_at.filter(|_| self.state.volumes_ready);
            self.state.again |= self.state.retry_at.is_none();
        }
        self.show_sandbox();
    }

    /// Not all of `resolv.conf` is as it was asked for.
    pub(super) fn resolv_conf_warnings(&mut self, attempt: u32, warnings: Vec<(DnsWarning, String)>) {
        let sandbox = &mut self.state.sandbox;
        if sandbox.attempt != attempt || sandbox.standing != Standing::Up || sandbox.warned == Some(attempt) {
            return;
        }
        sandbox.warned = Some(attempt);
        for (warning, message) in warnings {
            self.pod_event(EventType::Warning, warning.reason(), message);
        }
    }

    /// Addresses and `PodReadyToStartContainers` do not wait for the end of a pass.
    fn show_sandbox(&mut self) {
        let mut status = self.state.published.clone();
        self.fill_addresses(&mut status);
        self.refresh_sandbox_condition(&mut status);
        self.publish(status);
    }

    /// Writes the addresses into a status.
    pub(super) fn fill_addresses(&self, status: &mut super::status::PodStatus) {
        let list = |ips: &[IpAddr]| -> Vec<Ip> { ips.iter().map(|ip| Ip { ip: ip.to_string() }).collect() };
        status.pod_ips = list(&self.state.sandbox.ips);
        status.host_ips = list(&self.state.sandbox.host_ips);
        status.pod_ip = status.pod_ips.first().map(|ip| ip.ip.clone());
        status.host_ip = status.host_ips.first().map(|ip| ip.ip.clone());
    }

    /// A sandbox could not be made.
    pub(super) fn sandbox_failed(&mut self, message: &str) {
        if self.state.stage != Stage::Syncing || self.state.sandbox.standing == Standing::Up {
            return;
        }
        self.state.sandbox.standing = Standing::Failed;
        if self.state.deletion.is_none() {
            let text = format!("Failed to create pod sandbox: {message}");
            self.pod_event(EventType::Warning, "FailedCreatePodSandBox", text);
        }
        if let Some(Waiting::Sandbox { .. }) = self.awaited() {
            self.answered();
            self.abort();
        } else if self.state.pass.is_none() && self.state.retry_at.is_none() {
            self.state.again = false;
            self.state.retry_at = Some(self.now.mono + std::time::Duration::from_secs(10));
        }
    }

    /// Pause ended unasked.
    pub(super) fn sandbox_died(&mut self) {
        if self.state.sandbox.standing == Standing::Up {
            self.state.sandbox.standing = Standing::Dead;
            self.state.again = true;
        }
    }

    /// Asks for the end of the sandbox, unless there is none.
    pub(super) fn begin_sandbox_stop(&mut self) {
        let nothing_to_stop = match self.state.sandbox.standing {
            Standing::Gone => true,
            Standing::Failed => self.state.stage == Stage::Syncing,
            Standing::Coming | Standing::Up | Standing::Dead => false,
        };
        if !nothing_to_stop {
            self.act(Action::StopSandbox);
            self.wait(Waiting::SandboxStop);
        }
    }

    /// Nothing of the sandbox is left, so nothing runs in it any more.
    pub(super) fn sandbox_stopped(&mut self) {
        if self.awaited() != Some(&Waiting::SandboxStop) {
            return;
        }
        self.state.sandbox.standing = Standing::Gone;
        self.lose_all();
        self.answered();
        self.acted();
    }

    fn lose_all(&mut self) {
        let is_alive = |record: &Record| {
            let newest = record.newest.as_ref();
            newest.is_some_and(|newest| !matches!(newest.life, Life::Exited { .. }))
        };
        let alive = self.state.records.iter().filter(|(_, record)| is_alive(record));
        let names: Vec<String> = alive.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.vanished(&name);
        }
    }

    /// All instances of init containers are removed, with their logs. They are still shown.
    pub(super) fn purge_init(&mut self) {
        for container in &self.pod.spec.init_containers {
            let name = container.name.as_str();
            let record = self.record_of(name);
            let older = record.older.take().map(|dead| dead.attempt);
            let newest = record.newest.as_mut().filter(|newest| !newest.purged).map(|newest| {
                newest.purged = true;
                newest.attempt
            });
            for attempt in older.into_iter().chain(newest) {
                self.act(Action::RemoveLogs { instance: instance(name, attempt) });
            }
        }
    }

    /// All volumes are there.
    pub(super) fn volumes_ready(&mut self) {
        if self.awaited() == Some(&Waiting::Volumes) {
            self.state.volumes_ready = true;
            self.answered();
        }
    }

    /// A volume could not be made; the pass fails.
    pub(super) fn volumes_failed(&mut self, volume: &str, message: &str) {
        if self.awaited() == Some(&Waiting::Volumes) {
            let text = format!("MountVolume.SetUp failed for volume \"{volume}\" : {message}");
            self.pod_event(EventType::Warning, "FailedMount", text);
            self.answered();
            self.abort();
        }
    }

    /// Objects changed: whoever waits for one need not wait any longer, and volumes show others.
    pub(super) fn objects_changed(&mut self) {
        self.refresh_volumes();
        let lacks = |record: &Record| {
            let reason = record.error.as_ref().map(|error| error.reason.as_str());
            reason == Some("CreateContainerConfigError") && record.running().is_none()
        };
        let waits = !self.state.volumes_ready || self.state.records.values().any(lacks);
        let was_tried = self.state.retry_at.is_some() || self.state.pass.is_some();
        self.state.again |= waits && was_tried;
    }

    /// Has volumes that are there show what their objects hold now.
    pub(super) fn refresh_volumes(&mut self) {
        let mut volumes = self.pod.spec.volumes.iter();
        let state = &self.state;
        let serves = state.volumes_ready && state.stage == Stage::Syncing && state.deletion.is_none();
        if serves && volumes.any(|volume| volume.source.shows_objects()) {
            self.act_once(Action::RefreshVolumes);
        }
    }

    /// The moment of an event that was reported with a wall clock time, at most since the last step.
    pub(super) fn moment_of(&self, nanoseconds: i64) -> Mono {
        let late = self.now.wall.as_nanosecond() - i128::from(nanoseconds);
        let late = std::time::Duration::from_nanos(u64::try_from(late.max(0)).unwrap_or(u64::MAX));
        Mono(self.now.mono.0.saturating_sub(late)).max(self.state.last)
    }
}
