//! `hull apply`

use std::path::PathBuf;
use std::time::Duration;

use hull_shim::wire::CgroupManager;

use super::accept::{self, NetworkFlags, Object, Outcome};
use super::cgroups::CgroupFlags;
use super::context::Context;
use super::resource::Kind;
use super::{Error, Exit, Result, duration, launch, manifests, wait};
use crate::api::client::PodRef;
use crate::network::Config;

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
pub(super) struct Apply {
    /// The manifests: files, directories, or `-` for standard input.
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    filename: Vec<PathBuf>,
    /// Take manifests from directories below a directory, too.
    #[arg(short = 'R', long)]
    recursive: bool,
    /// Wait until the pods are ready or have completed.
    #[arg(long)]
    wait: bool,
    /// How long to wait with --wait; 0 for ever.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    timeout: Duration,
    /// Check the manifests and do nothing.
    #[arg(long)]
    validate: bool,
    #[command(flatten)]
    network: NetworkFlags,
    #[command(flatten)]
    cgroups: CgroupFlags,
}

impl Apply {
    pub(super) async fn act(self, context: &Context) -> Result {
        let objects = manifests::readable(context, (&self.filename, self.recursive), accept::read)?;
        if self.validate {
            return validate(context, objects);
        }
        let applied = apply(context, objects, &self.network, self.cgroups).await?;
        if self.wait {
            return wait::until_up(context, &applied.pods, self.timeout)
                .await
                .map(|exit| applied.exit.worse(exit));
        }
        Ok(applied.exit)
    }
}

/// What came out of applying.
#[derive(Debug)]
pub(super) struct Applied {
    /// The pods of the manifests, whether new or not.
    pub(super) pods: Vec<PodRef>,
    /// Whether all went well.
    pub(super) exit: Exit,
}

/// Applies objects: what pods need first, then the pods. A failure does not keep the others back.
pub(super) async fn apply(
    context: &Context,
    objects: Vec<Object>,
    network: &NetworkFlags,
    cgroups: CgroupFlags,
) -> Result<Applied> {
    let mut applied = Applied { pods: Vec::new(), exit: Exit::Success };
    let (pods, others): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| object.kind == Kind::Pod);
    let network = network.config(context.layout())?;
    for object in others {
        if let Err(error) = other(context, object, &network).await {
            applied.exit = context.report(&error);
        }
    }
    let manager = cgroups.manager();
    for object in pods {
        match pod(context, object, &network, manager).await {
            Ok(pod) => applied.pods.push(pod),
            Err(error) => applied.exit = context.report(&error),
        }
    }
    Ok(applied)
}

/// The namespace of an object: its `own`, which must be the one that was asked for, if one was.
pub(super) fn namespace(context: &Context, own: Option<&str>) -> Result<String> {
    match (own, context.given_namespace()) {
        (Some(own), Some(given)) if own != given => Err(Error::Usage(format!(
            "the namespace from the provided object {own:?} does not match the namespace {given:?}. You must pass '--namespace={own}' to perform this operation."
        ))),
        (Some(own), _) => Ok(own.to_owned()),
        (None, _) => Ok(context.namespace().to_owned()),
    }
}

fn validate(context: &Context, objects: Vec<Object>) -> Result {
    let mut exit = Exit::Success;
    for object in objects {
        let (kind, name) = (object.kind, object.name.clone());
        match check(context, object) {
            Ok(()) => context.print(&format!("{}/{name} valid\n", kind.singular()))?,
            Err(error) => exit = context.report(&error),
        }
    }
    Ok(exit)
}

fn check(context: &Context, object: Object) -> Result<()> {
    let namespace = namespace(context, object.namespace.as_deref())?;
    object.accept(&namespace, ("validated", context.now()), None)?;
    Ok(())
}

async fn other(context: &Context, object: Object, network: &Config) -> Result<()> {
    let namespace = namespace(context, object.namespace.as_deref())?;
    let (kind, name) = (object.kind, object.name.clone());
    let uid = launch::uid().map_err(|source| Error::Launch { pod: name.clone(), source })?;
    let outcome = object.apply(context.layout(), &namespace, (&uid, context.now()), network)?;
    context.print(&format!("{}/{name} {outcome}\n", kind.singular()))?;
    if outcome != Outcome::Unchanged {
        announce(context, kind, (&namespace, &name)).await;
    }
    Ok(())
}

/// Tells all pods that an object changed: they may wait for it. Those that are silent will see it when they look.
pub(super) async fn announce(context: &Context, kind: Kind, (namespace, name): (&str, &str)) {
    let pods = context.client.list(None).unwrap_or_default();
    for pod in pods {
        let url = format!("/api/v1/namespaces/{namespace}/{}/{name}", kind.plural());
        if let Err(error) = context.client.object_changed(&pod, &url).await {
            tracing::debug!(%error, %pod, "a pod was not told of a changed object");
        }
    }
}

async fn pod(context: &Context, object: Object, network: &Config, manager: CgroupManager) -> Result<PodRef> {
    let namespace = namespace(context, object.namespace.as_deref())?;
    let name = object.name.clone();
    let failed = |source| Error::Launch { pod: name.clone(), source };
    let uid = launch::uid().map_err(failed)?;
    let Some(mut accepted) = object.clone().accept(&namespace, (&uid, context.now()), Some(network))? else {
        return Err(Error::Usage(format!("{name} is no Pod")));
    };
    accepted.sandbox.cgroup_manager = manager;
    if let Some(known) = context.client.find(&namespace, &name)? {
        let running = context.client.pod(&known).await?;
        let outcome = match object.reapply(&namespace, &running)? {
            None => Outcome::Unchanged,
            Some(new) => context.client.replace(&known, &new).await.map(|_| Outcome::Configured)?,
        };
        context.print(&format!("pod/{name} {outcome}\n"))?;
        return Ok(known);
    }
    context.progress(&format!("pod/{name}: starting"));
    match launch::pod(context.layout(), &accepted).await {
        Ok(()) => {}
        Err(launch::Error::Exists { name }) => {
            let status = crate::api::status::Status {
                code: 409,
                reason: "AlreadyExists".to_owned(),
                message: format!("pods {name:?} already exists"),
            };
            return Err(status.into());
        }
        Err(source) => return Err(failed(source)),
    }
    context.print(&format!("pod/{name} created\n"))?;
    Ok(PodRef { namespace, name, uid })
}
