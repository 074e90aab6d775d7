//! `hull logs` (reference 10.5)

use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::context::Context;
use super::{Error, Exit, Result, choose, duration, resource};
use crate::api::client::{self, Client, PodRef, Reply};
use crate::api::query;
use crate::api::selector::Selector;

/// Arguments of `logs`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Logs {
    /// The pod: `web` or `pod/web`.
    #[arg(value_name = "POD", required_unless_present = "selector")]
    pod: Option<String>,
    /// Which container; the same as --container.
    #[arg(value_name = "CONTAINER")]
    container_argument: Option<String>,
    /// Which container.
    #[arg(short, long, value_name = "NAME", conflicts_with = "container_argument")]
    container: Option<String>,
    /// Go on until the container stops.
    #[arg(short, long)]
    follow: bool,
    /// The instance before the last restart.
    #[arg(short, long)]
    previous: bool,
    /// Only so many of the last lines; -1 for all. With --selector the default is 10.
    #[arg(long, value_name = "LINES", allow_negative_numbers = true)]
    tail: Option<i64>,
    /// Only lines of the last 5s, 2m, 3h …
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "since_time")]
    since: Option<Duration>,
    /// Only lines after a time as in RFC 3339.
    #[arg(long, value_name = "TIME")]
    since_time: Option<Timestamp>,
    /// Put its time before each line.
    #[arg(long)]
    timestamps: bool,
    /// Print at most so many bytes.
    #[arg(long, value_name = "BYTES")]
    limit_bytes: Option<u64>,
    /// The logs of all containers.
    #[arg(long)]
    all_containers: bool,
    /// Put pod and container before each line.
    #[arg(long)]
    prefix: bool,
    /// The logs of pods with these labels.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "pod")]
    selector: Option<String>,
    /// Follow at most so many containers at once.
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    max_log_requests: usize,
    /// With --follow: how long to wait for a container that has not started.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration::parse)]
    pod_running_timeout: Duration,
    /// Go on with the other containers when one has no log.
    #[arg(long)]
    ignore_errors: bool,
}

/// One container's log.
#[derive(Debug, Clone)]
struct Source {
    pod: PodRef,
    container: String,
}

impl Logs {
    pub(super) async fn act(self, context: &Context) -> Result {
        let sources = self.sources(context).await?;
        if self.follow && sources.len() > 1 {
            return self.together(context, sources).await;
        }
        for source in &sources {
            match self.one(context, source).await {
                Ok(()) => {}
                Err(error) if self.ignore_errors => drop(context.report(&error)),
                Err(error) => return Err(error),
            }
        }
        Ok(Exit::Success)
    }

    async fn sources(&self, context: &Context) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for (pod, object) in self.pods(context).await? {
            let asked = self.container.as_deref().or(self.container_argument.as_deref());
            let containers = if self.all_containers {
                choose::in_log_order(&object)
            } else {
                vec![choose::container(context, &object, asked, false)?]
            };
            sources.extend(containers.into_iter().map(|container| Source { pod: pod.clone(), container }));
        }
        Ok(sources)
    }

    async fn pods(&self, context: &Context) -> Result<Vec<(PodRef, Value)>> {
        if let Some(name) = &self.pod {
            let pod = context.pod(&resource::pod_name(name)?)?;
            let object = context.client.pod(&pod).await?;
            return Ok(vec![(pod, object)]);
        }
        let selector = Selector::parse(self.selector.as_deref().unwrap_or_default(), "")?;
        let mut pods = Vec::new();
        for pod in context.pods(false)? {
            let object = context.client.pod(&pod).await?;
            if selector.matches(&object) {
                pods.push((pod, object));
            }
        }
        if pods.is_empty() {
            context.note(&format!("No resources found in {} namespace.", context.namespace()));
        }
        Ok(pods)
    }

    fn url(&self, source: &Source) -> String {
        let mut url = source.pod.path("/log");
        query::push(&mut url, "container", &source.container);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                query::push(&mut url, name, &value);
            }
        };
        let flag = |set: bool| set.then(|| "true".to_owned());
        add("follow", flag(self.follow));
        add("previous", flag(self.previous));
        add("timestamps", flag(self.timestamps));
        let tail = self.tail.or(self.selector.is_some().then_some(10));
        add("tailLines", tail.filter(|lines| *lines >= 0).map(|lines| lines.to_string()));
        // Whole seconds, rounded up, at least one.
        let since = self.since.map(|since| (since.as_secs() + u64::from(since.subsec_nanos() > 0)).max(1));
        add("sinceSeconds", since.map(|seconds| seconds.to_string()));
        add("sinceTime", self.since_time.map(|time| time.to_string()));
        add("limitBytes", self.limit_bytes.map(|bytes| bytes.to_string()));
        url
    }

    /// Opens a log; when following, waits for a container that has not started.
    async fn open(&self, client: &Client, source: &Source) -> Result<Reply> {
        let end = tokio::time::Instant::now() + self.pod_running_timeout;
        loop {
            let error = match client.stream(&source.pod, &self.url(source)).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let waiting = matches!(&error, client::Error::Status(status) if status.message.contains("is waiting to start"));
            if !self.follow || !waiting || tokio::time::Instant::now() >= end {
                return Err(error.into());
            }
            Error::from(error).print();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn one(&self, context: &Context, source: &Source) -> Result<()> {
        let mut reply = self.open(&context.client, source).await?;
        let mut lines = Lines::new(self.prefix.then_some(source));
        while let Some(piece) = reply.piece().await? {
            context.print_bytes(&lines.take(&piece))?;
        }
        context.print_bytes(&lines.rest())
    }

    /// Follows several containers at once, line by line.
    async fn together(self, context: &Context, sources: Vec<Source>) -> Result {
        if sources.len() > self.max_log_requests {
            return Err(Error::Usage(format!(
                "you are attempting to follow {} log streams, but maximum allowed concurrency is {}, use --max-log-requests to increase the limit",
                sources.len(),
                self.max_log_requests
            )));
        }
        let ignore_errors = self.ignore_errors;
        let mut merged = Merged::default();
        for source in sources {
            let logs = self.copy();
            merged.add(context.client.clone(), logs, source);
        }
        while let Some(text) = merged.next().await {
            match text {
                Ok(text) => context.print_bytes(&text)?,
                Err(error) if ignore_errors => drop(context.report(&error)),
                Err(error) => return Err(error),
            }
        }
        Ok(Exit::Success)
    }

    /// The flags that shape a single log.
    fn copy(&self) -> Self {
        Self {
            follow: self.follow,
            previous: self.previous,
            selector: self.selector.clone(),
            tail: self.tail,
            since: self.since,
            since_time: self.since_time,
            timestamps: self.timestamps,
            limit_bytes: self.limit_bytes,
            prefix: self.prefix,
            pod_running_timeout: self.pod_running_timeout,
            ..Self::default()
        }
    }
}

/// Logs of several containers, as their lines come.
pub(super) struct Merged {
    sender: mpsc::Sender<Result<Vec<u8>>>,
    receiver: mpsc::Receiver<Result<Vec<u8>>>,
    tasks: JoinSet<()>,
}

impl Default for Merged {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(16);
        Self { sender, receiver, tasks: JoinSet::new() }
    }
}

impl Merged {
    /// Follows one container's present instance to its end, each line with its container before it if `prefix` is set.
    pub(super) fn follow(&mut self, client: Client, pod: PodRef, container: String, prefix: bool) {
        let logs =
            Logs { follow: true, prefix, pod_running_timeout: Duration::from_secs(20), ..Logs::default() };
        self.add(client, logs, Source { pod, container });
    }

    fn add(&mut self, client: Client, logs: Logs, source: Source) {
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            let end = match copy_lines(&client, &logs, &source, &sender).await {
                Ok(()) => return,
                Err(error) => sender.send(Err(error)).await,
            };
            if end.is_err() {
                tracing::debug!("nobody reads the logs any more");
            }
        });
    }

    /// The next lines; none when all logs have ended. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Result<Vec<u8>>> {
        loop {
            if self.tasks.is_empty() {
                return self.receiver.try_recv().ok();
            }
            tokio::select! {
                biased;
                text = self.receiver.recv() => return text,
                Some(_) = self.tasks.join_next() => {}
            }
        }
    }
}

async fn copy_lines(
    client: &Client,
    logs: &Logs,
    source: &Source,
    sender: &mpsc::Sender<Result<Vec<u8>>>,
) -> Result<()> {
    let mut reply = logs.open(client, source).await?;
    let mut lines = Lines::new(logs.prefix.then_some(source));
    while let Some(piece) = reply.piece().await? {
        if sender.send(Ok(lines.take(&piece))).await.is_err() {
            return Ok(());
        }
    }
    let rest = lines.rest();
    if !rest.is_empty() && sender.send(Ok(rest)).await.is_err() {
        tracing::debug!("nobody reads the logs any more");
    }
    Ok(())
}

/// Cuts a stream into lines and puts a prefix before each; without a prefix bytes pass as they come.
struct Lines {
    prefix: Option<Vec<u8>>,
    partial: Vec<u8>,
}

impl Lines {
    fn new(source: Option<&Source>) -> Self {
        let prefix =
            source.map(|source| format!("[pod/{}/{}] ", source.pod.name, source.container).into_bytes());
        Self { prefix, partial: Vec::new() }
    }

    fn take(&mut self, piece: &[u8]) -> Vec<u8> {
        let Some(prefix) = &self.prefix else {
            return piece.to_vec();
        };
        let mut text = Vec::with_capacity(piece.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                text.extend_from_slice(prefix);
                text.append(&mut self.partial);
            }
        }
        text
    }

    /// A last line without a line break.
    fn rest(&mut self) -> Vec<u8> {
        match &self.prefix {
            Some(prefix) if !self.partial.is_empty() => {
                [prefix.as_slice(), &std::mem::take(&mut self.partial)].concat()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source() -> Source {
        let pod = PodRef { namespace: "default".into(), name: "web".into(), uid: "u".into() };
        Source { pod, container: "app".into() }
    }

    #[test]
    fn each_line_gets_its_prefix() {
        let mut lines = Lines::new(Some(&source()));
        assert_eq!(lines.take(b"one\ntw"), b"[pod/web/app] one\n");
        assert_eq!(lines.take(b"o\nend"), b"[pod/web/app] two\n");
        assert_eq!(lines.rest(), b"[pod/web/app] end");
        assert_eq!(Lines::new(None).take(b"a\nb"), b"a\nb");
    }

    #[test]
    fn flags_become_parameters() {
        let logs = Logs {
            follow: true,
            tail: Some(-1),
            since: Some(Duration::from_millis(1500)),
            ..Logs::default()
        };
        let url = logs.url(&source());
        assert_eq!(url, "/api/v1/namespaces/default/pods/web/log?container=app&follow=true&sinceSeconds=2");
        let selected = Logs { selector: Some("a=b".into()), ..Logs::default() };
        assert!(selected.url(&source()).ends_with("&tailLines=10"));
    }
}
