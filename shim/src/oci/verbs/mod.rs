//! The commands, one file each.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod run;
mod start;
mod state;
mod update;

use super::command::parse::Parsed;
use super::command::table::Verb;
use super::error::Error;
use super::global::Global;
use super::{features, spec};
use crate::oci::{Code, SUCCESS};

/// Does what a command asks for.
pub(super) fn obey(verb: Verb, global: &Global<'_>, given: &Parsed) -> Result<Code, Error> {
    let id = given.arguments.first().map_or("", String::as_str);
    let done = match verb {
        Verb::Checkpoint => checkpoint::checkpoint(global, id, given),
        Verb::Create => create::create(global, id, given),
        Verb::Delete => delete::delete(global, id, given),
        Verb::Events => events::events(global, id, given),
        Verb::Exec => return exec::exec(global, id, given),
        Verb::Features => features::print(),
        Verb::Kill => kill::kill(global, id, given),
        Verb::List => list::list(global, given),
        Verb::Pause => pause::pause(global, id),
        Verb::Ps => ps::ps(global, id, given),
        Verb::Restore => return restore::restore(global, id, given),
        Verb::Resume => pause::resume(global, id),
        Verb::Run => return run::run(global, id, given),
        Verb::Spec => spec::write(given),
        Verb::Start => start::start(global, id),
        Verb::State => state::state(global, id),
        Verb::Update => update::update(global, id, given),
    };
    done.map(|()| SUCCESS)
}
