//! `hull exec`

use serde_json::Value;

use super::context::Context;
use super::print::field;
use super::session::{self, Streams};
use super::{Error, Result, choose, describe, resource};
use crate::api::client;
use crate::api::query;
use crate::api::session::PROTOCOLS;

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "hull exec [OPTIONS] POD -- COMMAND [ARG]...")]
pub(super) struct Exec {
    /// The pod: `web` or `pod/web`.
    #[arg(value_name = "POD")]
    pod: String,
    /// Words before `--` that kubectl does not take any more either.
    #[arg(hide = true)]
    surplus: Vec<String>,
    /// The command and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Which container.
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Pass standard input on.
    #[arg(short = 'i', long)]
    stdin: bool,
    /// Give the command a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Print only what the command prints.
    #[arg(short, long)]
    quiet: bool,
}

impl Exec {
    pub(super) async fn act(self, context: &Context) -> Result {
        if !self.surplus.is_empty() {
            return Err(Error::Usage(
                "exec [POD] [COMMAND] is not supported anymore. Use exec [POD] -- [COMMAND] instead"
                    .to_owned(),
            ));
        }
        if self.command.is_empty() {
            return Err(Error::Usage("you must specify at least one command for the container".to_owned()));
        }
        let pod = context.pod(&resource::pod_name(&self.pod)?)?;
        let object = context.client.pod(&pod).await?;
        refuse_completed(&object, "exec into")?;
        let container = choose::container(context, &object, self.container.as_deref(), self.quiet)?;
        let streams = Streams::new(self.stdin, self.tty);
        let mut url = format!("{}?{}", pod.path("/exec"), streams.query());
        query::push(&mut url, "container", &container);
        for word in &self.command {
            query::push(&mut url, "command", word);
        }
        let socket = context.client.web_socket(&pod, &url, PROTOCOLS[0]).await.map_err(not_upgraded)?;
        Ok(session::run(socket, streams).await?.exit())
    }
}

/// Nothing runs in a pod that has ended.
pub(super) fn refuse_completed(pod: &Value, what: &str) -> Result<()> {
    if !describe::is_over(pod) {
        return Ok(());
    }
    let phase = field::text(pod, "/status/phase");
    Err(Error::Usage(format!("cannot {what} a container in a completed pod; current phase is {phase}")))
}

/// What kubectl says when a session is refused.
pub(super) fn not_upgraded(error: client::Error) -> Error {
    match error {
        client::Error::Status(status) if status.code == 404 => {
            Error::Usage(format!("unable to upgrade connection: {}", status.message))
        }
        client::Error::Status(status) => Error::Usage(status.message),
        other => other.into(),
    }
}
