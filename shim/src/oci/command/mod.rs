//! The command line: a parser, a table of commands and flags, and the help made from it.
//!
//! Our own rather than clap, since runc's callers write `-no-subreaper` with one dash, and since every verb
//! pays for the parser's start.

pub(crate) mod help;
pub(crate) mod parse;
pub(crate) mod table;
