//! The commands, one file each.

mod delete;
mod kill;
mod list;
mod ps;
mod state;

use std::process::ExitCode;

use super::command::parse::Parsed;
use super::command::table::Verb;
use super::error::Error;
use super::global::Global;
use super::{features, spec};

/// Does what a command asks for.
pub(super) fn obey(verb: Verb, global: &Global<'_>, given: &Parsed) -> Result<ExitCode, Error> {
    let id = given.arguments.first().map_or("", String::as_str);
    let done = match verb {
        Verb::Delete => delete::delete(global, id, given),
        Verb::Features => features::print(),
        Verb::Kill => kill::kill(global, id, given),
        Verb::List => list::list(global, given),
        Verb::Ps => ps::ps(global, id, given),
        Verb::Spec => spec::write(given),
        Verb::State => state::state(global, id),
        _ => Err(Error::Refused("not there yet".to_owned())),
    };
    done.map(|()| ExitCode::SUCCESS)
}
