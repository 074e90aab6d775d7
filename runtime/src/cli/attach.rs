//! `hull attach`

use serde_json::Value;

use super::context::Context;
use super::print::field;
use super::session::{self, End, Streams};
use super::{Exit, Result, choose, exec, resource};
use crate::api::query;
use crate::api::session::PROTOCOLS;

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub(super) struct Attach {
    /// The pod: `web` or `pod/web`.
    #[arg(value_name = "POD")]
    pod: String,
    /// Which container.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Standard input is a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Print only what the container prints.
    #[arg(short, long)]
    quiet: bool,
}

impl Attach {
    pub(super) async fn act(self, context: &Context) -> Result {
        let pod = context.pod(&resource::pod_name(&self.pod)?)?;
        let object = context.client.pod(&pod).await?;
        exec::refuse_completed(&object, "attach")?;
        let container = choose::container(context, &object, self.container.as_deref(), self.quiet)?;
        let streams = self.streams(context, &object, &container);
        let mut url = format!("{}?{}", pod.path("/attach"), streams.query());
        query::push(&mut url, "container", &container);
        let socket = context.client.web_socket(&pod, &url, PROTOCOLS[0]).await.map_err(exec::not_upgraded)?;
        if !self.quiet {
            context.note(
                "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.",
            );
            context.note("If you don't see a command prompt, try pressing enter.");
        }
        let end = session::run(socket, streams).await?;
        if streams.tty && streams.stdin && end == End::Detached {
            context.note(&format!(
                "Session ended, resume using 'hull attach {} -c {container} -n {} -i -t' command",
                pod.name, pod.namespace
            ));
        }
        Ok(Exit::Success)
    }

    /// The container's own terminal decides.
    fn streams(&self, context: &Context, pod: &Value, container: &str) -> Streams {
        let mut all =
            field::list(pod, "/spec/containers").iter().chain(field::list(pod, "/spec/initContainers"));
        let spec = all.find(|each| field::text(each, "/name") == container);
        let has_terminal = spec.is_some_and(|spec| field::is_true(spec, "/tty"));
        if self.tty && !has_terminal {
            context.note(&format!("error: Unable to use a TTY - container {container} did not allocate one"));
        }
        let mut streams = Streams::new(self.stdin, self.tty && has_terminal);
        streams.tty = has_terminal;
        streams.detachable = true;
        streams
    }
}
