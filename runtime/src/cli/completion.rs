//! `hull completion` and `hull man`: generated from the definition of the command line.

use std::io::Write;
use std::path::PathBuf;

use super::{Error, Exit, Result};

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub(super) struct Completion {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Shells that hull can be completed in.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    /// Source it: `. <(hull completion bash)`
    Bash,
    /// Save it as `_hull` in a directory of `fpath`.
    Zsh,
    /// Save it as `hull.fish` in fish's completions directory.
    Fish,
}

impl Completion {
    pub(super) fn act(self) -> Result {
        let shell = match self.shell {
            Shell::Bash => clap_complete::Shell::Bash,
            Shell::Zsh => clap_complete::Shell::Zsh,
            Shell::Fish => clap_complete::Shell::Fish,
        };
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut super::command(), "hull", &mut script);
        std::io::stdout().write_all(&script).map_err(Error::Output)?;
        Ok(Exit::Success)
    }
}

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Where to put hull.1, hull-apply.1 and so on.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Man {
    pub(super) fn act(self) -> Result {
        let path = self.directory;
        let made =
            std::fs::create_dir_all(&path).and_then(|()| clap_mangen::generate_to(super::command(), &path));
        made.map_err(|source| Error::File { operation: "write manual pages into", path, source })?;
        Ok(Exit::Success)
    }
}
