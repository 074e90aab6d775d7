//! The command line: one file per verb. Verbs, flags and output are kubectl's where it has them.
//!
//! `run` parses, calls the verb, prints the error once and gives the exit code.

pub mod accept;
mod apply;
mod attach;
mod boot;
mod cgroups;
mod choose;
mod completion;
mod context;
mod delete;
mod describe;
mod duration;
mod error;
mod events;
mod exec;
mod get;
mod image;
pub mod jsonpath;
pub mod launch;
mod logs;
mod manifests;
mod output;
mod port_forward;
use crate::print;
mod resource;
mod run;
mod session;
mod simulate;
mod supervise;
mod task;
mod version;
mod wait;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use hull_shim::layout::Layout;

use context::Context;
pub use error::{Error, Exit};

/// A result of a verb.
pub type Result<T = Exit> = std::result::Result<T, Error>;

/// Runs Kubernetes Pod manifests on this host, with the kubelet's lifecycle and without a cluster.
#[derive(Debug, Parser)]
#[command(name = "hull", version, propagate_version = false, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Args)]
struct Global {
    /// Keep everything below this directory instead of /run/hull, /var/lib/hull and /var/log/pods.
    #[arg(long, global = true, value_name = "DIR", env = "HULL_ROOT", help_heading = "Global options")]
    root: Option<PathBuf>,
    /// The namespace of the objects spoken of.
    #[arg(short, long, global = true, value_name = "NAME", help_heading = "Global options")]
    namespace: Option<String>,
    /// Colour output: on terminals only, always or never. NO_COLOR in the environment turns `auto` off.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN", help_heading = "Global options")]
    color: Color,
}

/// When output has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Create the objects of manifests: pods start to run.
    Apply(apply::Apply),
    /// Apply manifests, print the logs of their pods until they end, and remove them.
    Run(run::Run),
    /// Print one or many objects.
    Get(get::Get),
    /// Show details of pods and their events.
    Describe(describe::Describe),
    /// Print the logs of a container.
    Logs(logs::Logs),
    /// Execute a command in a container.
    Exec(exec::Exec),
    /// Attach to the main process of a running container.
    Attach(attach::Attach),
    /// Forward ports of this host to a pod.
    PortForward(port_forward::PortForward),
    /// Delete objects; pods are stopped gracefully.
    Delete(delete::Delete),
    /// List the events of pods.
    Events(events::Events),
    /// Wait for a condition of objects.
    Wait(wait::Wait),
    /// Print the life that the pod of a manifest would have; nothing runs.
    Simulate(simulate::Simulate),
    /// Manage images.
    Image(image::Image),
    /// Print the version.
    Version(version::Version),
    /// Print a completion script for a shell.
    Completion(completion::Completion),
    /// Write the manual pages into a directory.
    Man(completion::Man),
    /// Supervise one pod; started by hull-shim.
    #[command(hide = true)]
    Supervise(supervise::Supervise),
    /// Do one job on the host's side; started by hull-shim.
    #[command(hide = true)]
    Task(task::Task),
}

/// The verbs that are run again and again by programs, alone: to define all the others takes longer than to parse these.
#[derive(Debug, Parser)]
#[command(name = "hull", disable_help_flag = true, disable_help_subcommand = true)]
struct Often {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: OftenVerb,
}

#[derive(Debug, Subcommand)]
enum OftenVerb {
    Exec(exec::Exec),
    Supervise(supervise::Supervise),
    Task(task::Task),
}

impl From<Often> for Cli {
    fn from(Often { global, verb }: Often) -> Self {
        let verb = match verb {
            OftenVerb::Exec(exec) => Verb::Exec(exec),
            OftenVerb::Supervise(supervise) => Verb::Supervise(supervise),
            OftenVerb::Task(task) => Verb::Task(task),
        };
        Self { global, verb }
    }
}

/// Parses with the whole definition unless the short one fits; help and errors are the whole one's.
fn parse(arguments: &[OsString]) -> std::result::Result<Cli, clap::Error> {
    let often = arguments.iter().any(|word| word == "exec" || word == "supervise" || word == "task");
    match often.then(|| Often::try_parse_from(arguments)) {
        Some(Ok(often)) => Ok(often.into()),
        Some(Err(_)) | None => Cli::try_parse_from(arguments),
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match parse(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let asked = !error.use_stderr();
            // Nothing can be said any more when the help cannot be printed.
            return if error.print().is_ok() && asked { Exit::Success } else { Exit::Failure };
        }
    };
    match cli.act() {
        Ok(exit) => exit,
        Err(error) => {
            error.print();
            Exit::Failure
        }
    }
}

/// The definition of the command line, for completions, manual pages and tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

impl Cli {
    fn act(self) -> Result {
        let layout = Layout::new(self.global.root.map(absolute).transpose()?);
        // What has no use for pods comes first: it needs no asynchronous runtime.
        let verb = match self.verb {
            Verb::Supervise(supervise) => return supervise.act(&layout),
            Verb::Task(task) => return task.act(&layout),
            Verb::Image(image) => return image.act(&layout, jiff::Timestamp::now()),
            Verb::Version(version) => return version.act(),
            Verb::Completion(completion) => return completion.act(),
            Verb::Man(man) => return man.act(),
            other => other,
        };
        let namespace = self.global.namespace.filter(|namespace| !namespace.is_empty());
        if let Some(namespace) = namespace.as_deref().filter(|namespace| !is_label(namespace)) {
            return Err(Error::Usage(format!(
                "{namespace:?} is no namespace: lower-case letters, digits and '-', at most 63"
            )));
        }
        boot::forget_earlier(&layout).map_err(|error| Error::Other(Box::new(error)))?;
        let context = Context::new(layout, namespace, self.global.color);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let exit = runtime.map_err(Error::Runtime)?.block_on(verb.act(&context))?;
        Ok(exit.worse(context.worst()))
    }
}

impl Verb {
    async fn act(self, context: &Context) -> Result {
        match self {
            Self::Apply(apply) => apply.act(context).await,
            Self::Run(run) => run.act(context).await,
            Self::Get(get) => get.act(context).await,
            Self::Describe(describe) => describe.act(context).await,
            Self::Logs(logs) => logs.act(context).await,
            Self::Exec(exec) => exec.act(context).await,
            Self::Attach(attach) => attach.act(context).await,
            Self::PortForward(forward) => forward.act(context).await,
            Self::Delete(delete) => delete.act(context).await,
            Self::Events(events) => events.act(context).await,
            Self::Wait(wait) => wait.act(context).await,
            Self::Simulate(simulate) => simulate.act(context),
            Self::Image(_)
            | Self::Version(_)
            | Self::Completion(_)
            | Self::Man(_)
            | Self::Supervise(_)
            | Self::Task(_) => unreachable!("these verbs are carried out before there is a runtime"),
        }
    }
}

/// Whether a text is a DNS-1123 label.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|source| Error::File { operation: "find", path, source })
}

#[cfg(test)]
mod tests;
