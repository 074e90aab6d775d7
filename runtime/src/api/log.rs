//! `…/log`: the log of one container instance, from its CRI log file (reference 10.4 and 10.5).

mod line;
mod read;

use std::path::Path;
use std::sync::Arc;

use hyper::Response;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::broadcast::error::RecvError;

use super::body::{self, Body, Sink};
use super::query::Query;
use super::status::Status;
use super::{Server, order};
use crate::core::status::{ContainerStatus, PodStatus};
use crate::driver::handle::{Change, Handle};
use crate::store::follow::{Watch, WatchFlags, changed};
use line::Writer;
use read::Reader;

/// What is asked for.
#[derive(Debug, Clone)]
struct Options {
    follow: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    timestamps: bool,
    limit: Option<u64>,
}

impl Options {
    fn of_query(query: &Query, now: Timestamp) -> Result<Self, Status> {
        let not_negative = |name: &str| match query.number(name)? {
            Some(number) if number < 0 => Err(Status::bad_request(format!(
                "{name}: Invalid value: {number}: must be greater than or equal to 0"
            ))),
            other => Ok(other.and_then(|number| u64::try_from(number).ok())),
        };
        Ok(Self {
            follow: query.flag("follow"),
            tail: not_negative("tailLines")?.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
            since: since(query, now)?,
            timestamps: query.flag("timestamps"),
            limit: not_negative("limitBytes")?,
        })
    }
}

fn since(query: &Query, now: Timestamp) -> Result<Option<Timestamp>, Status> {
    match (query.number("sinceSeconds")?, query.text("sinceTime")) {
        (Some(_), Some(_)) => {
            Err(Status::bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified"))
        }
        (Some(seconds), None) if seconds < 1 => Err(Status::bad_request(format!(
            "sinceSeconds: Invalid value: {seconds}: must be greater than 0"
        ))),
        (Some(seconds), None) => Ok(now.checked_sub(SignedDuration::from_secs(seconds)).ok()),
        (None, Some(time)) => {
            let parsed = time.parse();
            parsed
                .map(Some)
                .map_err(|_| Status::bad_request(format!("sinceTime: {time:?} is not a time as in RFC 3339")))
        }
        (None, None) => Ok(None),
    }
}

/// `GET …/log`
pub(super) fn answer(server: &Server, query: &Query) -> Result<Response<Body>, Status> {
    let options = Options::of_query(query, (server.pod.clock)())?;
    let container = order::container(server, query)?;
    let snapshot = server.handle.snapshot();
    let name = container.as_str().to_owned();
    let attempt = instance(&snapshot.view.status, &server.pod.name, &name, query.flag("previous"))?;
    let path = server.pod.logs.join(&name).join(format!("{attempt}.log"));
    let follow = options.follow.then(|| Instance { handle: server.handle.clone(), container: name, attempt });
    Ok(body::stream("text/plain", async move |sink| {
        if let Err(error) = copy(&path, &options, follow, &sink).await {
            tracing::warn!(%error, path = %path.display(), "cannot read a log");
        }
    }))
}

/// The number of the instance whose log is meant.
fn instance(status: &PodStatus, pod: &str, container: &str, previous: bool) -> Result<u32, Status> {
    let all = status.init_container_statuses.iter().chain(&status.container_statuses);
    let Some(found) = all.into_iter().find(|each| each.name == container) else {
        return Err(Status::bad_request(format!("container {container:?} in pod {pod:?} is not available")));
    };
    let about = format!("container {container:?} in pod {pod:?}");
    if previous {
        let message = format!("previous terminated {about} not found");
        return last(found).ok_or_else(|| Status::bad_request(message));
    }
    let terminated = || Status::bad_request(format!("{about} is terminated"));
    let state = &found.state;
    if state.running.is_some() {
        return Ok(found.restart_count);
    }
    if let Some(ended) = &state.terminated {
        let ran = ended.container_id.is_some().then_some(found.restart_count);
        return ran.or_else(|| last(found)).ok_or_else(terminated);
    }
    if found.last_state.terminated.is_some() {
        return last(found).ok_or_else(terminated);
    }
    let reason = state.waiting.as_ref().map(|waiting| waiting.reason.as_deref().unwrap_or_default());
    Err(Status::bad_request(match reason {
        Some("ErrImagePull") => format!("{about} is waiting to start: image can't be pulled"),
        Some("ImagePullBackOff") => format!("{about} is waiting to start: trying and failing to pull image"),
        Some(reason) => format!("{about} is waiting to start: {reason}"),
        None => format!("{about} is waiting to start - no logs yet"),
    }))
}

/// The instance in `lastState`: the newest one while a restart is pending, else the one before.
fn last(status: &ContainerStatus) -> Option<u32> {
    status.last_state.terminated.as_ref()?.container_id.as_ref()?;
    match status.state.waiting {
        Some(_) => Some(status.restart_count),
        None => status.restart_count.checked_sub(1),
    }
}

/// The instance whose end ends the log.
struct Instance {
    handle: Handle,
    container: String,
    attempt: u32,
}

impl Instance {
    fn runs(&self) -> bool {
        let snapshot = self.handle.snapshot();
        let status = &snapshot.view.status;
        let mut all = status.init_container_statuses.iter().chain(&status.container_statuses);
        all.any(|each| {
            each.name == self.container && each.restart_count == self.attempt && each.state.running.is_some()
        })
    }

    /// Waits until the instance has stopped.
    async fn stopped(&self) {
        let (_, mut changes) = self.handle.follow();
        while self.runs() {
            match changes.recv().await {
                Ok(Change::Pod(_) | Change::Event(_)) | Err(RecvError::Lagged(_)) => {}
                Ok(Change::Gone(_)) | Err(RecvError::Closed) => return,
            }
        }
    }
}

async fn copy(path: &Path, options: &Options, follow: Option<Instance>, sink: &Sink) -> std::io::Result<()> {
    // Watched before it is first read, so that nothing written in between is missed.
    let watch = follow.is_some().then(|| watch(path)).flatten();
    let mut reader = Reader::open(path, options.tail)?;
    let mut writer = Writer::new(options.since, options.timestamps, options.limit);
    let Some(instance) = follow.map(Arc::new) else {
        forward(&mut reader, &mut writer, sink).await?;
        return Ok(());
    };
    let mut stopped = std::pin::pin!(instance.stopped());
    let mut running = true;
    loop {
        if !forward(&mut reader, &mut writer, sink).await? || !running {
            return Ok(());
        }
        if reader.rotated(path)? {
            continue;
        }
        tokio::select! {
            () = changed(watch.as_ref()) => {}
            // What was written before the end is read once more.
            () = &mut stopped => running = false,
        }
    }
}

/// Watches the directory of a log; none where the user has no watch left, and it is looked at every second then.
fn watch(path: &Path) -> Option<Watch> {
    let watch = Watch::new().ok()?;
    let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
    watch.add(path.parent()?, flags).ok().map(|()| watch)
}

/// Sends all complete lines that there are now; false when no more are wanted.
async fn forward(reader: &mut Reader, writer: &mut Writer, sink: &Sink) -> std::io::Result<bool> {
    while let Some(lines) = reader.lines()? {
        let (text, more) = writer.convert(&lines);
        if !text.is_empty() && sink.send(text.into()).await.is_err() {
            return Ok(false);
        }
        if !more {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(state: serde_json::Value, last: serde_json::Value, restarts: u32) -> PodStatus {
        let container = json!({"name": "app", "state": state, "lastState": last, "restartCount": restarts});
        serde_json::from_value(json!({"phase": "Running", "containerStatuses": [container]})).unwrap()
    }

    #[test]
    fn the_instance_is_chosen_by_the_status() {
        let running = || json!({"running": {"startedAt": "2024-01-02T03:04:05Z"}});
        let ended = || json!({"terminated": {"exitCode": 1, "containerID": "hull://1"}});
        let never_ran = || json!({"terminated": {"exitCode": 128}});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let none = || json!({});
        for (state, last, restarts, previous, expected) in [
            (running(), none(), 0, false, Ok(0)),
            (running(), ended(), 3, false, Ok(3)),
            (running(), ended(), 3, true, Ok(2)),
            (
                running(),
                none(),
                0,
                true,
                Err("previous terminated container \"app\" in pod \"web\" not found"),
            ),
            (ended(), ended(), 1, false, Ok(1)),
            (ended(), ended(), 1, true, Ok(0)),
            (never_ran(), none(), 0, false, Err("container \"app\" in pod \"web\" is terminated")),
            (waiting("CrashLoopBackOff"), ended(), 2, false, Ok(2)),
            (waiting("CrashLoopBackOff"), ended(), 2, true, Ok(2)),
            (
                waiting("ContainerCreating"),
                none(),
                0,
                false,
                Err("container \"app\" in pod \"web\" is waiting to start: ContainerCreating"),
            ),
            (
                waiting("ErrImagePull"),
                none(),
                0,
                false,
                Err("container \"app\" in pod \"web\" is waiting to start: image can't be pulled"),
            ),
            (
                waiting("ImagePullBackOff"),
                none(),
                0,
                false,
                Err("container \"app\" in pod \"web\" is waiting to start: trying and failing to pull image"),
            ),
            (
                none(),
                none(),
                0,
                false,
                Err("container \"app\" in pod \"web\" is waiting to start - no logs yet"),
            ),
        ] {
            let found = instance(&status(state, last, restarts), "web", "app", previous);
            assert_eq!(
                found.as_ref().map_err(|status| status.message.as_str()),
                expected.as_ref().map_err(|text| *text)
            );
        }
    }

    #[test]
    fn options_are_checked() {
        let now = "2024-01-02T03:05:00Z".parse().unwrap();
        let read = |query: &str| Options::of_query(&Query::parse(query), now);
        assert_eq!(read("sinceSeconds=60").unwrap().since, "2024-01-02T03:04:00Z".parse().ok());
        assert_eq!(read("tailLines=0").unwrap().tail, Some(0));
        for wrong in
            ["sinceSeconds=0", "sinceSeconds=1&sinceTime=2024-01-02T03:04:00Z", "tailLines=-1", "sinceTime=x"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
