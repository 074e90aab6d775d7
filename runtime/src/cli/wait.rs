//! `hull wait`, and the waiting of `apply --wait` and `delete`.

use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use super::context::Context;
use super::jsonpath::{self, Template};
use super::print::{field, pod};
use super::resource::{self, Kind, Target};
use super::{Error, Exit, Result, describe, duration};
use crate::api::client::{Follower, PodRef};
use crate::api::selector::Selector;
use crate::store::follow::{Watch, WatchFlags, changed};

/// Arguments of `wait`.
#[derive(Debug, clap::Args)]
pub(super) struct Wait {
    /// Which pods: `pod NAME…`, `pod/NAME…`, or `pod` with --all or --selector.
    #[arg(required = true, value_name = "TYPE [NAME]")]
    what: Vec<String>,
    /// What to wait for: `condition=NAME[=VALUE]`, `delete`, `create` or `jsonpath={PATH}[=VALUE]`.
    #[arg(long = "for", required = true, value_name = "CONDITION")]
    condition: Condition,
    /// How long; 0 looks once, a negative value waits for a week.
    #[arg(long, value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = timeout)]
    timeout: Timeout,
    /// All pods of the namespace.
    #[arg(long)]
    all: bool,
    /// Pods with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timeout(Duration);

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

fn timeout(text: &str) -> std::result::Result<Timeout, String> {
    Ok(Timeout(duration::signed(text)?.unwrap_or(WEEK)))
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Delete,
    Create,
    Status { kind: String, value: String },
    Path { template: Template, value: Option<String> },
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once('=') {
            None if text.eq_ignore_ascii_case("delete") => Ok(Self::Delete),
            None if text.eq_ignore_ascii_case("create") => Ok(Self::Create),
            Some(("condition", condition)) => {
                let (kind, value) = condition.split_once('=').unwrap_or((condition, "true"));
                Ok(Self::Status { kind: kind.to_owned(), value: value.to_owned() })
            }
            Some(("jsonpath", path)) => Self::path(path),
            _ => Err(format!("unrecognized condition: {text:?}")),
        }
    }
}

impl Condition {
    /// `{PATH}=VALUE`, `{PATH}`, or the same without braces; a value may stand in quotes.
    fn path(text: &str) -> std::result::Result<Self, String> {
        let end = text.rfind('}').map_or_else(|| text.find('=').unwrap_or(text.len()), |end| end + 1);
        let (template, value) = text.split_at(end);
        let value = match value.strip_prefix('=') {
            Some("") => return Err("jsonpath wait has to have a value after equal sign".to_owned()),
            Some(value) => Some(value.trim_matches(['"', '\'']).to_owned()),
            None if value.is_empty() => None,
            None => {
                return Err(format!(
                    "jsonpath wait format must be --for=jsonpath='{{.status.phase}}'=Running, not {text:?}"
                ));
            }
        };
        let template = Template::parse(template).map_err(|error| error.to_string())?;
        Ok(Self::Path { template, value })
    }

    /// Whether an object that exists meets it.
    fn met(&self, object: &Value) -> bool {
        match self {
            Self::Delete => false,
            Self::Create => true,
            Self::Status { kind, value } => {
                field::list(object, "/status/conditions").iter().any(|condition| {
                    field::text(condition, "/type").eq_ignore_ascii_case(kind)
                        && field::text(condition, "/status").eq_ignore_ascii_case(value)
                })
            }
            Self::Path { template, value } => {
                let found = template.values(object);
                match value {
                    Some(value) => found.iter().any(|each| jsonpath::plain(each) == *value),
                    None => !found.is_empty(),
                }
            }
        }
    }
}

impl Wait {
    pub(super) async fn act(self, context: &Context) -> Result {
        let targets = resource::targets(&self.what)?;
        if let Some(target) = targets.iter().find(|target| target.kind != Kind::Pod) {
            return Err(Error::Usage(format!("only pods can be waited for, not {}", target.kind.plural())));
        }
        let names = self.names(context, targets).await?;
        if names.is_empty() && self.condition != Condition::Delete {
            return Err(Error::Usage("no matching resources found".to_owned()));
        }
        let end = tokio::time::Instant::now() + self.timeout.0;
        let mut exit = Exit::Success;
        for name in names {
            match tokio::time::timeout_at(end, self.one(context, &name)).await {
                Ok(Ok(true)) => context.print(&format!("pod/{name} condition met\n"))?,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => exit = context.report(&error),
                Err(_) => {
                    let message = format!("timed out waiting for the condition on pods/{name}");
                    exit = context.report(&Error::Usage(message));
                }
            }
        }
        Ok(exit)
    }

    async fn names(&self, context: &Context, targets: Vec<Target>) -> Result<Vec<String>> {
        let named: Vec<String> = targets.into_iter().filter_map(|target| target.name).collect();
        if !named.is_empty() {
            return Ok(named);
        }
        let Some(labels) = &self.selector else {
            if self.all {
                return Ok(context.pods(false)?.into_iter().map(|pod| pod.name).collect());
            }
            return Err(Error::Usage(
                "resource(s) were provided, but no name was specified; give names, a selector or --all"
                    .to_owned(),
            ));
        };
        let selector = Selector::parse(labels, "")?;
        let pods = super::get::pods(context, false).await?;
        let pods = pods.iter().filter(|pod| selector.matches(pod));
        Ok(pods.map(|pod| field::text(pod, "/metadata/name").to_owned()).collect())
    }

    /// Waits for one pod; false when there is nothing to say about it.
    async fn one(&self, context: &Context, name: &str) -> Result<bool> {
        let pod = match (&self.condition, context.pod(name)) {
            (Condition::Delete, Err(error)) if error.is_not_found() => return Ok(false),
            (Condition::Create, Err(error)) if error.is_not_found() => created(context, name).await?,
            (_, pod) => pod?,
        };
        if self.condition == Condition::Delete {
            gone(context, &pod).await?;
            return Ok(true);
        }
        let object = context.client.pod(&pod).await?;
        if self.condition.met(&object) {
            return Ok(true);
        }
        let mut follower = Follower::of_pod(&context.client, &pod);
        while let Some(update) = follower.next().await {
            let update = update?;
            if update.kind != "DELETED" && self.condition.met(&update.object) {
                return Ok(true);
            }
        }
        Err(Error::not_found("pods", name))
    }
}

/// Waits until there is a pod of this name.
async fn created(context: &Context, name: &str) -> Result<PodRef> {
    let subject = crate::api::client::Subject {
        namespace: Some(context.namespace().to_owned()),
        names: vec![name.to_owned()],
        resource: "pods",
        labels: String::new(),
    };
    let mut follower = Follower::new(&context.client, subject);
    match follower.next().await {
        Some(update) => drop(update?),
        None => return Err(Error::not_found("pods", name)),
    }
    context.pod(name)
}

/// Waits until nothing is left of a pod: neither its directory nor its name. One whose shim dies meanwhile is
/// taken up again, so that it ends at all.
async fn gone(context: &Context, pod: &PodRef) -> Result<()> {
    let pods = context.layout().pods();
    let watch = Watch::new().ok();
    let exists = || context.layout().pod(&pod.uid).dir().exists();
    while exists() {
        let flags = WatchFlags::DELETE | WatchFlags::MOVED_FROM;
        let watch = watch.as_ref().filter(|watch| watch.add(&pods, flags).is_ok());
        if !exists() {
            break;
        }
        let mut follower = Follower::of_pod(&context.client, pod);
        let followed = async { while let Some(Ok(_)) = follower.next().await {} };
        tokio::select! {
            () = changed(watch) => {}
            // Over, or it does not answer: its shim has a moment to remove it.
            () = followed => drop(tokio::time::timeout(Duration::from_secs(1), changed(watch)).await),
        }
    }
    Ok(())
}

/// Waits until nothing is left of a pod; false when that takes longer.
pub(super) async fn is_gone_within(context: &Context, pod: &PodRef, limit: Duration) -> Result<bool> {
    match tokio::time::timeout(limit, gone(context, pod)).await {
        Ok(gone) => gone.map(|()| true),
        Err(_) => Ok(false),
    }
}

/// Waits until nothing is left of these pods; zero waits for as long as it takes.
pub(super) async fn until_gone(context: &Context, pods: &[PodRef], timeout: Duration) -> Result {
    let limit = if timeout.is_zero() { WEEK } else { timeout };
    let end = tokio::time::Instant::now() + limit;
    let mut exit = Exit::Success;
    for pod in pods {
        context.progress(&format!("pod/{}: terminating", pod.name));
        match tokio::time::timeout_at(end, gone(context, pod)).await {
            Ok(result) => result?,
            Err(_) => {
                exit = context.report(&Error::Usage(format!(
                    "timed out waiting for the condition on pods/{}",
                    pod.name
                )))
            }
        }
    }
    Ok(exit)
}

/// Waits until pods are ready or have completed; zero waits for as long as it takes. A pod that fails is a failure.
pub(super) async fn until_up(context: &Context, pods: &[PodRef], timeout: Duration) -> Result {
    let limit = if timeout.is_zero() { WEEK } else { timeout };
    let end = tokio::time::Instant::now() + limit;
    let mut exit = Exit::Success;
    for pod in pods {
        match tokio::time::timeout_at(end, up(context, pod)).await {
            Ok(up) => exit = exit.worse(up?),
            Err(_) => {
                exit = context.report(&Error::Usage(format!(
                    "timed out waiting for the condition on pods/{}",
                    pod.name
                )))
            }
        }
    }
    Ok(exit)
}

async fn up(context: &Context, pod: &PodRef) -> Result {
    let ready = Condition::Status { kind: "Ready".to_owned(), value: "True".to_owned() };
    let mut follower = Follower::of_pod(&context.client, pod);
    while let Some(update) = follower.next().await {
        let object = update?.object;
        let summary = pod::summarize(&object);
        if ready.met(&object) {
            return Ok(Exit::Success);
        }
        if describe::is_over(&object) {
            let failed = field::text(&object, "/status/phase") == "Failed";
            if failed {
                return Ok(context.report(&Error::Hinted {
                    message: format!("pod {} failed: {}", pod.name, summary.status),
                    hint: format!("hull describe pod {0}; hull logs {0}", pod.name),
                }));
            }
            return Ok(Exit::Success);
        }
        context
            .progress(&format!("pod/{}: {}/{} {}", pod.name, summary.ready, summary.total, summary.status));
    }
    Err(Error::not_found("pods", &pod.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn conditions_are_written_as_for_kubectl() {
        let pod =
            json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        for (text, met) in [
            ("condition=Ready", true),
            ("condition=ready=TRUE", true),
            ("condition=Ready=false", false),
            ("condition=Initialized", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath=.status.phase=Running", true),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.podIP}", false),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(text.parse::<Condition>().unwrap().met(&pod), met, "{text}");
        }
        for wrong in ["ready", "jsonpath={.a}=", "jsonpath={.a}x", "phase=Running", "jsonpath='{.a}'=x"] {
            assert!(wrong.parse::<Condition>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_negative_timeout_is_a_week() {
        assert_eq!(timeout("-1s"), Ok(Timeout(WEEK)));
        assert_eq!(timeout("5s"), Ok(Timeout(Duration::from_secs(5))));
    }
}
