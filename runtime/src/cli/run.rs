//! `hull run`: apply, follow, remove.

use std::collections::HashSet;
use std::path::PathBuf;

use serde_json::Value;

use super::accept::NetworkFlags;
use super::cgroups::CgroupFlags;
use super::context::Context;
use super::logs::Merged;
use super::print::{field, pod};
use super::{Error, Exit, Result, apply, delete, describe, manifests};
use crate::api::client::{Follower, PodRef};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The manifests: files, directories, or `-` for standard input.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Take manifests from directories below a directory, too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Leave the pods where they are in the end.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    cgroups: CgroupFlags,
}

impl Run {
    /// Ends with the exit code of the pod's only container, or 1 if any of several failed.
    pub(super) async fn act(self, context: &Context) -> Result {
        let objects = manifests::all(&self.filename, self.recursive)?;
        let applied = apply::apply(context, objects, &self.network, self.cgroups).await?;
        let mut followed = Followed::new(context, &applied.pods);
        let ended = tokio::select! {
            ended = followed.follow_to_end(context) => ended,
            interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| Exit::Failure).map_err(Error::Terminal),
        };
        if !self.keep {
            delete::pods(context, &applied.pods).await?;
        }
        Ok(applied.exit.worse(ended?))
    }
}

/// Pods whose logs are printed until they end.
struct Followed {
    pods: Vec<(PodRef, Follower)>,
    logs: Merged,
    /// Instances whose logs are followed already.
    known: HashSet<(String, String, i64)>,
    /// Logs of several containers need to tell whose they are.
    prefix: bool,
}

impl Followed {
    fn new(context: &Context, pods: &[PodRef]) -> Self {
        let pods: Vec<_> =
            pods.iter().map(|pod| (pod.clone(), Follower::of_pod(&context.client, pod))).collect();
        let prefix = pods.len() > 1;
        Self { pods, logs: Merged::default(), known: HashSet::new(), prefix }
    }

    async fn follow_to_end(&mut self, context: &Context) -> Result {
        let mut exit = Exit::Success;
        while !self.pods.is_empty() {
            tokio::select! {
                (index, update) = next(&mut self.pods) => match update {
                    Some(update) => {
                        let pod = self.pods[index].0.clone();
                        let object = update?.object;
                        self.follow_new(context, &pod, &object);
                        if describe::is_over(&object) {
                            exit = exit.worse(outcome(context, &object));
                            self.pods.swap_remove(index);
                        }
                    }
                    None => drop(self.pods.swap_remove(index)),
                },
                Some(text) = self.logs.next() => print(context, text)?,
            }
        }
        while let Some(text) = self.logs.next().await {
            print(context, text)?;
        }
        Ok(exit)
    }

    /// Follows the log of every instance that has begun to run.
    fn follow_new(&mut self, context: &Context, pod: &PodRef, object: &Value) {
        let lists = ["/status/initContainerStatuses", "/status/containerStatuses"];
        let statuses: Vec<&Value> = lists.into_iter().flat_map(|list| field::list(object, list)).collect();
        let prefix = self.prefix || statuses.len() > 1;
        for status in statuses {
            let began = field::some(status, "/state/running").is_some()
                || field::some(status, "/state/terminated/containerID").is_some();
            let name = field::text(status, "/name").to_owned();
            let instance = (pod.uid.clone(), name.clone(), field::number(status, "/restartCount"));
            if began && self.known.insert(instance) {
                self.logs.follow(context.client.clone(), pod.clone(), name, prefix);
            }
        }
    }
}

fn print(context: &Context, text: Result<Vec<u8>>) -> Result<()> {
    match text {
        Ok(text) => context.print_bytes(&text),
        Err(error) => {
            context.report(&error);
            Ok(())
        }
    }
}

/// The next update of any pod, and whose it is.
async fn next(
    pods: &mut [(PodRef, Follower)],
) -> (usize, Option<crate::api::client::Result<crate::api::client::Update>>) {
    let waiting = pods
        .iter_mut()
        .enumerate()
        .map(|(index, (_, follower))| Box::pin(async move { (index, follower.next().await) }));
    futures_util::future::select_all(waiting).await.0
}

/// How a pod that has ended counts.
fn outcome(context: &Context, object: &Value) -> Exit {
    if field::text(object, "/status/phase") == "Succeeded" {
        return Exit::Success;
    }
    let name = field::text(object, "/metadata/name");
    context.note(&format!("pod/{name} failed: {}", pod::summarize(object).status));
    match field::list(object, "/status/containerStatuses") {
        [only] => match u8::try_from(field::number(only, "/state/terminated/exitCode")) {
            Ok(code @ 1..) => Exit::Remote(code),
            _ => Exit::Failure,
        },
        _ => Exit::Failure,
    }
}
