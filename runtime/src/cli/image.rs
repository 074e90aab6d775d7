//! `hull image`

use std::path::PathBuf;

use hull_shim::layout::Layout;

use super::{Error, Result};

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
    pub(super) fn act(self, _layout: &Layout) -> Result {
        Err(Error::Usage(format!("image: {:?} is not built in", self.verb)))
    }
}
