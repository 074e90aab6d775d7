//! `hull exec`

use super::context::Context;
use super::session::{self, Common, Streams};
use super::{Error, Result};

/// Arguments of `exec`.
#[derive(Debug, clap::Args)]
#[command(override_usage = "hull exec [OPTIONS] POD -- COMMAND [ARG]...")]
pub(super) struct Exec {
    #[command(flatten)]
    common: Common,
    /// Words before `--` that kubectl does not take any more either.
    #[arg(hide = true)]
    surplus: Vec<String>,
    /// The command and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
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
        let place = self.common.place(context, "exec into").await?;
        let streams = Streams::new(self.common.stdin, self.common.tty);
        let socket = place.open(context, ("/exec", &self.command), streams).await?;
        Ok(session::run(socket, streams).await?.exit())
    }
}
