//! `hull attach`

use super::context::Context;
use super::print::field;
use super::session::{self, Common, End, Place, Streams};
use super::{Exit, Result};

/// Arguments of `attach`.
#[derive(Debug, clap::Args)]
pub(super) struct Attach {
    #[command(flatten)]
    common: Common,
}

impl Attach {
    pub(super) async fn act(self, context: &Context) -> Result {
        let place = self.common.place(context, "attach").await?;
        let streams = self.streams(context, &place);
        let socket = place.open(context, ("/attach", &[]), streams).await?;
        if !self.common.quiet {
            context.note(
                "All commands and output from this session will be recorded in container logs, including credentials and sensitive information passed through the command prompt.",
            );
            context.note("If you don't see a command prompt, try pressing enter.");
        }
        let end = session::run(socket, streams).await?;
        if streams.tty && streams.stdin && end == End::Detached {
            context.note(&format!(
                "Session ended, resume using 'hull attach {} -c {} -n {} -i -t' command",
                place.pod.name, place.container, place.pod.namespace
            ));
        }
        Ok(Exit::Success)
    }

    /// The container's own terminal decides.
    fn streams(&self, context: &Context, place: &Place) -> Streams {
        let Place { object: pod, container, .. } = place;
        let mut all =
            field::list(pod, "/spec/containers").iter().chain(field::list(pod, "/spec/initContainers"));
        let spec = all.find(|each| field::text(each, "/name") == *container);
        let has_terminal = spec.is_some_and(|spec| field::is_true(spec, "/tty"));
        if self.common.tty && !has_terminal {
            context.note(&format!("error: Unable to use a TTY - container {container} did not allocate one"));
        }
        let mut streams = Streams::new(self.common.stdin, self.common.tty && has_terminal);
        streams.tty = has_terminal;
        streams.detachable = true;
        streams
    }
}
