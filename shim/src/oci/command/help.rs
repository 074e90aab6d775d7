//! What `--help` prints.

use std::fmt::Write as _;

use super::parse::{Flag, Takes};
use super::table::{COMMANDS, Command, GLOBAL};
use crate::harmless;

/// Help on everything.
pub(crate) fn overview() -> String {
    let mut text = String::from(
        "NAME:\n   hull-oci - an OCI runtime on hull's engine, for callers of runc\n\n\
         USAGE:\n   hull-oci [global options] command [command options] [arguments...]\n\nCOMMANDS:\n",
    );
    for command in COMMANDS {
        line(&mut text, command.name, command.about);
    }
    text.push_str("\nGLOBAL OPTIONS:\n");
    options(&mut text, GLOBAL);
    text
}

/// Help on one command.
pub(crate) fn of(command: &Command) -> String {
    let Command { name, arguments, about, .. } = command;
    let mut text = format!("NAME:\n   hull-oci {name} - {about}\n\nUSAGE:\n   hull-oci {name}");
    text.push_str(if command.flags.is_empty() { "" } else { " [command options]" });
    if !arguments.is_empty() {
        text.push(' ');
        text.push_str(arguments);
    }
    text.push_str("\n\nOPTIONS:\n");
    options(&mut text, command.flags);
    text
}

fn options(text: &mut String, flags: &[Flag]) {
    for flag in flags.iter().filter(|flag| !flag.about.is_empty()) {
        let value = if flag.takes == Takes::Nothing { "" } else { " value" };
        let long = format!("--{}{value}", flag.name);
        let both = match flag.short {
            "" => long,
            short => format!("{long}, -{short}{value}"),
        };
        line(text, &both, flag.about);
    }
    line(text, "--help, -h", "show help");
}

fn line(text: &mut String, left: &str, right: &str) {
    // Writing to a String cannot fail.
    harmless(writeln!(text, "   {left:<34} {right}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_flag_that_is_not_hidden() {
        for command in COMMANDS {
            let text = of(command);
            for flag in command.flags.iter().filter(|flag| !flag.about.is_empty()) {
                assert!(text.contains(&format!("--{}", flag.name)), "{} {}", command.name, flag.name);
            }
        }
    }

    #[test]
    fn no_flag_stands_twice() {
        for command in COMMANDS {
            for (at, flag) in command.flags.iter().enumerate() {
                let clash = |other: &Flag| {
                    other.name == flag.name || !flag.short.is_empty() && other.short == flag.short
                };
                assert!(!command.flags[..at].iter().any(clash), "{} {}", command.name, flag.name);
            }
        }
    }
}
