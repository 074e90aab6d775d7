//! What every verb works with: the pods, the namespace, the terminal and the clock.

use std::cell::Cell;
use std::io::{IsTerminal, Write};

use hull_shim::layout::Layout;
use jiff::Timestamp;

use super::{Color, Error, Exit, Result};
use crate::api::client::{Client, PodRef};

/// What every verb works with.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) client: Client,
    given_namespace: Option<String>,
    pub(super) color: bool,
    /// A progress line stands on the terminal and is to be wiped away.
    progress: Cell<bool>,
    /// The worst that was reported.
    worst: Cell<Exit>,
}

impl Context {
    pub(super) fn new(layout: Layout, namespace: Option<String>, color: Color) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => !plain && std::io::stdout().is_terminal(),
        };
        Self {
            client: Client::new(layout),
            given_namespace: namespace,
            color,
            progress: Cell::new(false),
            worst: Cell::new(Exit::Success),
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        self.client.layout()
    }

    /// The namespace that is spoken of.
    pub(super) fn namespace(&self) -> &str {
        self.given_namespace.as_deref().unwrap_or("default")
    }

    /// The namespace of `--namespace`, if it was given.
    pub(super) fn given_namespace(&self) -> Option<&str> {
        self.given_namespace.as_deref()
    }

    /// The present time; the only place where the command line reads a clock.
    pub(super) fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    /// Writes to standard output at once.
    pub(super) fn print(&self, text: &str) -> Result<()> {
        self.print_bytes(text.as_bytes())
    }

    /// The same with bytes of any kind.
    pub(super) fn print_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.end_progress();
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::Output)
    }

    /// Says something beside the output.
    pub(super) fn note(&self, text: &str) {
        self.end_progress();
        super::error::note(text);
    }

    /// Prints an error and goes on; the verb is to end with the value.
    pub(super) fn report(&self, error: &Error) -> Exit {
        self.end_progress();
        error.print();
        self.worst.set(Exit::Failure);
        Exit::Failure
    }

    /// How the process is to end if the verb itself came to a good end.
    pub(super) fn worst(&self) -> Exit {
        self.worst.get()
    }

    /// Shows on a terminal how far a slow step has come, in one line that is overwritten.
    pub(super) fn progress(&self, text: &str) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{text}");
            self.progress.set(true);
        }
    }

    fn end_progress(&self) {
        if self.progress.take() {
            eprint!("\r\x1b[K");
        }
    }

    /// The pod of this name in the namespace that is spoken of.
    pub(super) fn pod(&self, name: &str) -> Result<PodRef> {
        self.client.find(self.namespace(), name)?.ok_or_else(|| Error::not_found("pods", name))
    }

    /// The pods of the namespace that is spoken of, or all.
    pub(super) fn pods(&self, all_namespaces: bool) -> Result<Vec<PodRef>> {
        Ok(self.client.list((!all_namespaces).then(|| self.namespace()))?)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.end_progress();
    }
}
