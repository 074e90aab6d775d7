//! Where messages go: `--log`, `--log-format`, `--debug`; oci-runtime.md section 2.5.
//!
//! **Invariant:** at the default level a command writes one line at most, the error that ended it: podman reads
//! the whole file as one JSON object.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::error::Error;
use crate::harmless;
use crate::sys::clock;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// `time="…" level=error msg="…"`
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// The log of one command.
#[derive(Debug, Default)]
pub(crate) struct Log {
    file: Option<RefCell<File>>,
    format: Format,
    debug: bool,
}

impl Log {
    /// Opens the log.
    pub(crate) fn open(path: Option<&Path>, format: Format, debug: bool) -> Result<Self, Error> {
        let open = |path: &Path| {
            let mut options = File::options();
            options.create(true).append(true).mode(0o644).custom_flags(libc::O_SYNC);
            options.open(path).map_err(Error::file("open", path))
        };
        Ok(Self { file: path.map(open).transpose()?.map(RefCell::new), format, debug })
    }

    /// The error that ends the command; also on standard error, where that is not the log.
    pub(crate) fn fatal(&self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            // Nobody is left to be told.
            harmless(writeln!(std::io::stderr(), "{message}"));
        }
    }

    /// Something that was asked for and cannot be had: only where more than one line is expected.
    pub(crate) fn warn(&self, message: &str) {
        if self.debug {
            self.write("warning", message);
        }
    }

    fn write(&self, level: &str, message: &str) {
        let time = stamp();
        let line = match self.format {
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
            Format::Json => {
                format!("{}\n", serde_json::json!({"level": level, "msg": message, "time": time}))
            }
        };
        // A log that cannot be written must not keep a container from being killed.
        harmless(match &self.file {
            Some(file) => file.borrow_mut().write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        });
    }
}

/// The time in RFC 3339 without fraction.
fn stamp() -> String {
    let time = clock::timestamp(clock::wall());
    format!("{}Z", time.split('.').next().unwrap_or_default())
}
