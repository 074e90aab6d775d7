//! `hull image`

use std::path::{Path, PathBuf};

use hull_shim::layout::Layout;
use jiff::Timestamp;

use super::{Error, Exit, Result};
use crate::image::{Source, verbs};

/// Arguments of `image`.
#[derive(Debug, clap::Args)]
pub(super) struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Import an OCI layout, or an archive of one or of `docker save`.
    Import {
        /// The layout's directory or the archive; `-` reads an archive from standard input.
        #[arg(value_name = "PATH")]
        source: PathBuf,
        /// Name the image so, where it has no name of its own.
        #[arg(long, value_name = "REFERENCE")]
        name: Option<String>,
    },
    /// List images.
    Ls {
        /// Print identifiers alone.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove images by name or identifier.
    Rm {
        /// Which.
        #[arg(required = true, value_name = "IMAGE")]
        names: Vec<String>,
    },
    /// Print images as JSON.
    Inspect {
        /// Which.
        #[arg(required = true, value_name = "IMAGE")]
        names: Vec<String>,
    },
}

impl Image {
    pub(super) fn act(self, layout: &Layout, now: Timestamp) -> Result {
        let out = &mut std::io::stdout().lock();
        let done = match self.verb {
            Verb::Import { source, name } if source == Path::new("-") => {
                verbs::import(layout, Source::Stream(&mut std::io::stdin().lock()), name.as_deref(), out)
            }
            Verb::Import { source, name } => {
                verbs::import(layout, Source::Path(&source), name.as_deref(), out)
            }
            Verb::Ls { quiet } => verbs::ls(layout, quiet, now, out),
            Verb::Rm { names } => verbs::rm(layout, &names, out),
            Verb::Inspect { names } => verbs::inspect(layout, &names, out),
        };
        done.map(|()| Exit::Success).map_err(Error::Image)
    }
}
