//! `hull delete`

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::context::Context;
use super::print::field;
use super::resource::{self, Kind, Target};
use super::{Error, Exit, Result, accept, apply, duration, manifests, wait};
use crate::api::client::{PodRef, shim};
use crate::api::selector::Selector;

/// How long a pod that is deleted by force may take to answer, and to go by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `delete`.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Delete {
    /// What to delete: `TYPE NAME…` or `TYPE/NAME…`; types are pods, services, configmaps, secrets.
    #[arg(value_name = "TYPE [NAME]", required_unless_present = "filename")]
    what: Vec<String>,
    /// Delete the objects of these manifests: files, directories, or `-` for standard input.
    #[arg(short, long, value_name = "FILE", conflicts_with = "what")]
    filename: Vec<PathBuf>,
    /// Take manifests from directories below a directory, too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Delete all objects of the types.
    #[arg(long)]
    all: bool,
    /// Look in all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Only objects with these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Seconds that a pod gets to end; by default what its manifest says. 0 needs --force.
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    grace_period: Option<i64>,
    /// The same as --grace-period=1.
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// Kill at once.
    #[arg(long)]
    force: bool,
    /// Wait until the objects are gone.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value = "true", default_missing_value = "true", require_equals = true)]
    wait: bool,
    /// How long to wait; 0 for as long as it takes.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    timeout: Duration,
    /// It is no error if an object does not exist.
    #[arg(long)]
    ignore_not_found: bool,
    /// Print names only: `name`.
    #[arg(short, long, value_name = "FORMAT", value_parser = ["name"])]
    output: Option<String>,
}

/// An object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Doomed {
    kind: Kind,
    namespace: String,
    name: String,
}

impl Delete {
    pub(super) async fn act(self, context: &Context) -> Result {
        let grace = self.grace_seconds()?;
        let doomed = self.doomed(context).await?;
        if doomed.is_empty() && context.worst() == Exit::Success {
            context.note("No resources found");
        }
        let mut exit = Exit::Success;
        let mut pods = Vec::new();
        for each in doomed {
            match self.delete(context, &each, grace).await {
                Ok(pod) => pods.extend(pod),
                Err(error) if (self.ignore_not_found || self.all) && error.is_not_found() => {}
                Err(error) => exit = context.report(&error),
            }
        }
        if self.force && self.wait {
            self.see_to(context, &pods).await?;
        }
        if self.wait {
            exit = exit.worse(wait::until_gone(context, &pods, self.timeout).await?);
        }
        Ok(exit)
    }

    /// Seconds to ask for (reference 7.1); none leaves it to the pod.
    fn grace_seconds(&self) -> Result<Option<i64>> {
        match (self.grace_period.filter(|seconds| *seconds >= 0), self.now, self.force) {
            (_, true, _) => Ok(Some(1)),
            (Some(seconds), false, true) if seconds > 0 => Err(Error::Usage(
                "--force and --grace-period greater than 0 cannot be specified together".to_owned(),
            )),
            (_, false, true) => Ok(Some(0)),
            (Some(0), false, false) => Ok(Some(1)),
            (seconds, false, false) => Ok(seconds),
        }
    }

    async fn doomed(&self, context: &Context) -> Result<Vec<Doomed>> {
        if self.filename.is_empty() {
            let mut doomed = Vec::new();
            for target in resource::targets(&self.what)? {
                doomed.extend(self.of_target(context, target).await?);
            }
            return Ok(doomed);
        }
        let mut doomed = Vec::new();
        for named in manifests::readable(context, (&self.filename, self.recursive), accept::identify)? {
            match apply::namespace(context, named.namespace.as_deref()) {
                Ok(namespace) => doomed.push(Doomed { kind: named.kind.into(), namespace, name: named.name }),
                Err(error) => drop(context.report(&error)),
            }
        }
        Ok(doomed)
    }

    async fn of_target(&self, context: &Context, target: Target) -> Result<Vec<Doomed>> {
        let kind = target.kind;
        let doomed = |(namespace, name): Named| Doomed { kind, namespace, name };
        if kind == Kind::Event {
            return Err(Error::Usage("events go with their pod and cannot be deleted".to_owned()));
        }
        if let Some(name) = target.name {
            if self.all_namespaces {
                return Err(Error::Usage(
                    "a resource cannot be retrieved by name across all namespaces".to_owned(),
                ));
            }
            return Ok(vec![doomed((context.namespace().to_owned(), name))]);
        }
        if !self.all && self.selector.is_none() {
            return Err(Error::Usage(
                "resource(s) were provided, but no name was specified; give names, a selector or --all"
                    .to_owned(),
            ));
        }
        // Without a selector a name is enough: a pod that does not answer can be deleted, too.
        let Some(labels) = &self.selector else {
            return Ok(names(context, kind, self.all_namespaces)?.into_iter().map(doomed).collect());
        };
        let selector = Selector::parse(labels, "")?;
        let objects = super::get::fetch(context, &Target { kind, name: None }, self.all_namespaces).await?;
        let objects = objects.into_iter().filter(|object| selector.matches(object));
        Ok(objects.map(|object| doomed(named(&object))).collect())
    }

    /// Deletes one object; a pod comes back to be waited for.
    async fn delete(&self, context: &Context, doomed: &Doomed, grace: Option<i64>) -> Result<Option<PodRef>> {
        let Doomed { kind, namespace, name } = doomed;
        let not_found = || Error::not_found(kind.plural(), name);
        let pod = if *kind == Kind::Pod {
            let pod = context.client.find(namespace, name)?.ok_or_else(not_found)?;
            self.delete_pod(context, &pod, grace).await?;
            Some(pod)
        } else {
            if !accept::remove(context.layout(), *kind, namespace, name)? {
                return Err(not_found());
            }
            apply::announce(context, *kind, (namespace, name)).await;
            None
        };
        context.print(&self.said(doomed))?;
        Ok(pod)
    }

    /// Asks the pod to go. One that cannot be asked any more, because its records are damaged or its supervisor
    /// does not come up, is removed without it if that was asked for.
    async fn delete_pod(&self, context: &Context, pod: &PodRef, grace: Option<i64>) -> Result<()> {
        let asked = context.client.delete(pod, grace);
        if !self.force {
            return Ok(asked.await.map(drop)?);
        }
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_not_found() => Err(error.into()),
            Ok(Err(_)) | Err(_) => Ok(shim::remove(context.layout(), &pod.uid)?),
        }
    }

    /// Removes those that were asked to go and do not.
    async fn see_to(&self, context: &Context, pods: &[PodRef]) -> Result<()> {
        for pod in pods {
            if !wait::is_gone_within(context, pod, PATIENCE).await? {
                shim::remove(context.layout(), &pod.uid)?;
            }
        }
        Ok(())
    }

    fn said(&self, doomed: &Doomed) -> String {
        let kind = doomed.kind.singular();
        if self.output.is_some() {
            return format!("{kind}/{}\n", doomed.name);
        }
        let force = if self.force { "force " } else { "" };
        format!("{kind} {:?} {force}deleted from {} namespace\n", doomed.name, doomed.namespace)
    }
}

/// Namespace and name.
type Named = (String, String);

fn named(object: &Value) -> Named {
    let text = |path| field::text(object, path).to_owned();
    (text("/metadata/namespace"), text("/metadata/name"))
}

fn names(context: &Context, kind: Kind, everywhere: bool) -> Result<Vec<Named>> {
    if kind == Kind::Pod {
        let pods = context.pods(everywhere)?;
        return Ok(pods.into_iter().map(|pod| (pod.namespace, pod.name)).collect());
    }
    let namespace = (!everywhere).then(|| context.namespace());
    let objects = accept::list(context.layout(), kind, namespace)?;
    Ok(objects.iter().map(named).collect())
}

/// Deletes pods in their own time and waits until they are gone.
pub(super) async fn pods(context: &Context, pods: &[PodRef]) -> Result {
    for pod in pods {
        match context.client.delete(pod, None).await {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    wait::until_gone(context, pods, Duration::ZERO).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grace_period_follows_the_flags() {
        let grace = |grace_period, now, force| {
            Delete { grace_period, now, force, ..Delete::default() }.grace_seconds().ok()
        };
        assert_eq!(grace(None, false, false), Some(None));
        assert_eq!(grace(Some(-1), false, false), Some(None));
        assert_eq!(grace(Some(0), false, false), Some(Some(1)));
        assert_eq!(grace(Some(9), false, false), Some(Some(9)));
        assert_eq!(grace(None, true, false), Some(Some(1)));
        assert_eq!(grace(None, false, true), Some(Some(0)));
        assert_eq!(grace(Some(0), false, true), Some(Some(0)));
        assert_eq!(grace(Some(5), false, true), None);
    }

    #[test]
    fn deletion_is_told_as_kubectl_does() {
        let doomed = Doomed { kind: Kind::Pod, namespace: "default".into(), name: "web".into() };
        let plain = Delete::default();
        assert_eq!(plain.said(&doomed), "pod \"web\" deleted from default namespace\n");
        let forced = Delete { force: true, ..Delete::default() };
        assert_eq!(forced.said(&doomed), "pod \"web\" force deleted from default namespace\n");
    }
}
