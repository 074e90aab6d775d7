//! `hull describe`

use serde_json::Value;

use super::context::Context;
use super::print::{describe, field};
use super::resource::{self, Kind};
use super::{Error, Exit, Result};
use crate::api::client::PodRef;
use crate::api::selector::Selector;

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub(super) struct Describe {
    /// Which pods: `pod [NAME…]` or `pod/NAME…`; a name may be the beginning of names.
    #[arg(required = true, value_name = "TYPE [NAME]")]
    what: Vec<String>,
    /// Only pods with these labels.
    #[arg(short = 'l', long, value_name = "LABELS", default_value = "")]
    selector: String,
    /// Pods of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// Show events; by default they are shown when one pod is described.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    show_events: Option<bool>,
}

impl Describe {
    pub(super) async fn act(self, context: &Context) -> Result {
        let targets = resource::targets(&self.what)?;
        if let Some(target) = targets.iter().find(|target| target.kind != Kind::Pod) {
            return Err(Error::Usage(format!(
                "{} cannot be described yet; hull get {} prints them",
                target.kind.plural(),
                target.kind.plural()
            )));
        }
        let selector = Selector::parse(&self.selector, "")?;
        let mut exit = Exit::Success;
        let mut pods = Vec::new();
        for target in targets {
            match self.matching(context, target.name.as_deref(), &selector).await {
                Ok(found) => pods.extend(found),
                Err(error) => exit = context.report(&error),
            }
        }
        let with_events = self.show_events.unwrap_or(pods.len() == 1);
        for (index, (pod, object)) in pods.iter().enumerate() {
            let events = if with_events { Some(context.client.events(pod).await?) } else { None };
            let gap = if index == 0 { "" } else { "\n\n" };
            let text = describe::pod(object, events.as_deref(), context.now());
            context.print(&format!("{gap}{text}"))?;
        }
        if pods.is_empty() && exit == Exit::Success {
            context.note(&format!("No resources found in {} namespace.", context.namespace()));
        }
        Ok(exit)
    }

    /// The pod of this name, or else those whose names begin so.
    async fn matching(
        &self,
        context: &Context,
        name: Option<&str>,
        selector: &Selector,
    ) -> Result<Vec<(PodRef, Value)>> {
        let all = context.pods(self.all_namespaces)?;
        let exact = all.iter().any(|pod| Some(pod.name.as_str()) == name);
        let wanted = |pod: &PodRef| match name {
            Some(name) if exact => pod.name == name,
            Some(name) => pod.name.starts_with(name),
            None => true,
        };
        let mut found = Vec::new();
        for pod in all.into_iter().filter(wanted) {
            match context.client.pod(&pod).await {
                Ok(object) if selector.matches(&object) => found.push((pod, object)),
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        match name {
            Some(name) if found.is_empty() => Err(Error::not_found("pods", name)),
            _ => Ok(found),
        }
    }
}

/// Whether an object is a pod that has ended for good.
pub(super) fn is_over(pod: &Value) -> bool {
    matches!(field::text(pod, "/status/phase"), "Succeeded" | "Failed")
}
