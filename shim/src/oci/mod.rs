//! `hull-oci`: an OCI runtime on hull's engine that takes runc's place.
//!
//! What callers of runc see is the contract: the command line, texts, files and exit statuses of runc 1.5 (command
//! line in [`command`], texts in [`error`]). One file per command. State is in [`store`]; making a container is the
//! engine's, joining one is `container::exec`'s.
//!
//! **Invariant:** one thread, no async, nothing resident: each command does its work and ends.

mod command;
mod config;
mod container;
mod criu;
mod error;
mod features;
#[cfg(fuzzing)]
pub mod fuzz;
mod global;
mod grounds;
mod groups;
mod handover;
mod hooks;
mod log;
mod make;
mod notify;
mod process;
mod protect;
mod quantity;
mod relay;
mod signal;
mod spec;
mod status;
mod store;
mod units;
mod verbs;

use std::ffi::OsString;
use std::io::Write;

use command::help;
use command::parse::{Order, Parsed};
use command::table::{Command, Count, GLOBAL};
use container::print;
use error::Error;
use global::{Caller, Global};
use log::Log;

use crate::harmless;

/// What runc this is to be taken for, and what it is.
const VERSION: &str = concat!("1.5.0+hull-oci.", env!("CARGO_PKG_VERSION"));
/// The newest runtime-spec that is understood.
const SPEC_VERSION: &str = "1.3.0";

/// How a command ended, for who called the program.
pub type Code = u8;

const SUCCESS: Code = 0;

/// The whole program: runs its command line and ends.
pub fn main() -> ! {
    crate::sys::process::begin();
    // What goes to standard output is written by then, and nobody has anything to do at the end.
    crate::sys::process::leave(run(std::env::args_os().skip(1)).into())
}

/// What a command that makes a process uses of its stack, in bytes.
const STACK: usize = 44 << 10;

/// Runs one command line, without the program's name; its exit status.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Code {
    #[cfg(debug_assertions)]
    if let Err(name) = crate::guard::take_out_named() {
        return fail(&Log::default(), &Error::Refused(format!("HULL_WITHOUT: no guard is called {name:?}")));
    }
    let words: Result<Vec<String>, OsString> = arguments.map(OsString::into_string).collect();
    if let Ok(words) = &words
        && makes_processes(words)
    {
        protect::early();
        crate::sys::ahead::stack(STACK);
        crate::sys::process::note_ignored_signals();
    }
    let parsed = words
        .map_err(|word| Error::Refused(format!("argument {word:?} is not UTF-8")))
        .and_then(|words| Ok((Parsed::new(GLOBAL, Order::First, &words)?, words)));
    let log = parsed.and_then(|(flags, _)| Ok((global::open_log(&flags)?, flags)));
    match log {
        Ok((log, flags)) => match obey(&flags, &log) {
            Ok(code) => code,
            Err(error) => fail(&log, &error),
        },
        Err(error) => {
            if matches!(error, Error::Misuse(_)) {
                misused(&error, &help::overview());
            }
            fail(&Log::default(), &error)
        }
    }
}

/// Whether a command line looks as if it made processes of a container, before it is read.
fn makes_processes(words: &[String]) -> bool {
    words.iter().any(|word| matches!(word.as_str(), "create" | "run" | "exec"))
}

fn fail(log: &Log, error: &Error) -> Code {
    log.fatal(&error.chain());
    error.status()
}

/// As runc: the reason and the help go to standard output, the reason again to the log.
fn misused(error: &Error, help: &str) {
    harmless(write!(std::io::stdout(), "Incorrect Usage: {error}\n\n{help}\n"));
}

fn obey(flags: &Parsed, log: &Log) -> Result<Code, Error> {
    if flags.is_on("version") {
        return print(&version()).map(|()| SUCCESS);
    }
    let (name, words) = match flags.arguments.split_first() {
        None => return print(&help::overview()).map(|()| SUCCESS),
        Some(_) if flags.help => return print(&help::overview()).map(|()| SUCCESS),
        Some((name, words)) if name == "help" || name == "h" => {
            let of = words.first().and_then(|name| Command::named(name));
            return print(&of.map_or_else(help::overview, help::of)).map(|()| SUCCESS);
        }
        Some((name, words)) => (name, words),
    };
    let Some(command) = Command::named(name) else {
        return Err(Error::Refused(format!("No help topic for '{name}'")));
    };
    let given = Parsed::new(command.flags, command.order, words).inspect_err(|misuse| {
        misused(&Error::Misuse(misuse.clone()), &help::of(command));
    })?;
    if given.help {
        return print(&help::of(command)).map(|()| SUCCESS);
    }
    count(command, given.arguments.len()).inspect_err(|_| {
        harmless(write!(std::io::stdout(), "Incorrect Usage.\n\n{}\n", help::of(command)));
    })?;
    let global = Global::new(flags, &Caller::current(), log)?;
    verbs::obey(command.verb, &global, &given)
}

fn count(command: &Command, there: usize) -> Result<(), Error> {
    let name = command.name;
    let wrong =
        |wanted: String| Err(Error::Refused(format!("hull-oci: {name:?} requires {wanted} argument(s)")));
    match command.count {
        Count::Exactly(wanted) if there != wanted => wrong(format!("exactly {wanted}")),
        Count::AtLeast(wanted) if there < wanted => wrong(format!("a minimum of {wanted}")),
        Count::Between(least, _) if there < least => wrong(format!("a minimum of {least}")),
        Count::Between(_, most) if there > most => wrong(format!("a maximum of {most}")),
        _ => Ok(()),
    }
}

fn version() -> String {
    format!("runc version {VERSION}\nspec: {SPEC_VERSION}\n")
}
