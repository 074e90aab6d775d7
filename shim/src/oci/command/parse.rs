//! The parser of the command line, after Go's `flag` package and runc's use of it: long options take one or
//! two dashes, `--name=value` and `--name value` mean the same, and nothing is bundled.

use std::fmt;

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It is there or not; `--name=false` takes it back.
    Nothing,
    /// A value; the last one counts.
    Value,
    /// A value each time it is given.
    Values,
}

/// One flag of a command.
#[derive(Debug)]
pub(crate) struct Flag {
    /// Its long name, without dashes.
    pub(crate) name: &'static str,
    /// Its short name, or nothing.
    pub(crate) short: &'static str,
    /// What it takes.
    pub(crate) takes: Takes,
    /// For `--help`; a flag without is not shown.
    pub(crate) about: &'static str,
}

/// Where flags may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Before the first argument only: what follows belongs to another command.
    First,
    /// Anywhere before `--`.
    Anywhere,
}

/// Why a command line cannot be used, in the words of Go's `flag`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Misuse {
    /// No such flag.
    Unknown(String),
    /// A flag at the end that takes a value.
    NoValue(String),
    /// A value that does not fit.
    Invalid {
        /// The value.
        value: String,
        /// The flag.
        flag: &'static str,
    },
}

impl fmt::Display for Misuse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(flag) => write!(out, "flag provided but not defined: -{flag}"),
            Self::NoValue(flag) => write!(out, "flag needs an argument: -{flag}"),
            Self::Invalid { value, flag } => {
                write!(out, "invalid value {value:?} for flag -{flag}: parse error")
            }
        }
    }
}

impl std::error::Error for Misuse {}

/// A command line taken apart.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    flags: Vec<(&'static str, String)>,
    /// What is no flag, in order.
    pub(crate) arguments: Vec<String>,
    /// `--help` or `-h` was among the flags.
    pub(crate) help: bool,
}

impl Parsed {
    /// Takes `words` apart.
    pub(crate) fn new(flags: &'static [Flag], order: Order, words: &[String]) -> Result<Self, Misuse> {
        let mut parsed = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(name) = flag_name(word) else {
                parsed.arguments.push(word.clone());
                if order == Order::First {
                    break;
                }
                continue;
            };
            if name.is_empty() {
                break;
            }
            let (name, given) =
                name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            match flags.iter().find(|flag| flag.name == name || !name.is_empty() && flag.short == name) {
                Some(flag) => parsed.take(flag, given, || words.next())?,
                None if name == "help" || name == "h" => parsed.help = true,
                None => return Err(Misuse::Unknown(name.to_owned())),
            }
        }
        parsed.arguments.extend(words.cloned());
        Ok(parsed)
    }

    fn take<'a>(
        &mut self,
        flag: &'static Flag,
        given: Option<&str>,
        next: impl FnOnce() -> Option<&'a String>,
    ) -> Result<(), Misuse> {
        let value = match (flag.takes, given) {
            (Takes::Nothing, None) => "true".to_owned(),
            (Takes::Nothing, Some(value)) => boolean(value)
                .ok_or_else(|| Misuse::Invalid { value: value.to_owned(), flag: flag.name })?
                .to_string(),
            (_, Some(value)) => value.to_owned(),
            (_, None) => next().cloned().ok_or_else(|| Misuse::NoValue(flag.name.to_owned()))?,
        };
        if flag.takes != Takes::Values {
            self.flags.retain(|(name, _)| *name != flag.name);
        }
        self.flags.push((flag.name, value));
        Ok(())
    }

    /// Whether the switch `name` is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.value(name) == Some("true")
    }

    /// The value of `name`, if it was given.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`.
    pub(crate) fn values(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.flags.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// The value of `name` as a number, or of another type with a text form.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &'static str) -> Result<Option<T>, Misuse> {
        let invalid = |value: &str| Misuse::Invalid { value: value.to_owned(), flag: name };
        self.value(name).map(|value| value.parse().map_err(|_| invalid(value))).transpose()
    }
}

/// What stands behind the dashes; none where `word` is an argument. A lone dash is one.
fn flag_name(word: &str) -> Option<&str> {
    let name = word.strip_prefix('-')?;
    match name {
        "" => None,
        name => Some(name.strip_prefix('-').unwrap_or(name)),
    }
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: [Flag; 3] = [
        Flag { name: "bundle", short: "b", takes: Takes::Value, about: "" },
        Flag { name: "detach", short: "d", takes: Takes::Nothing, about: "" },
        Flag { name: "env", short: "e", takes: Takes::Values, about: "" },
    ];

    fn parse(order: Order, line: &str) -> Result<Parsed, Misuse> {
        Parsed::new(&FLAGS, order, &line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn one_dash_and_two_mean_the_same() {
        for line in ["-bundle /b c", "--bundle /b c", "-bundle=/b c", "--bundle=/b c", "-b /b c", "c -b=/b"] {
            let parsed = parse(Order::Anywhere, line).unwrap();
            assert_eq!(
                (parsed.value("bundle"), parsed.arguments.clone()),
                (Some("/b"), vec!["c".to_owned()]),
                "{line}"
            );
        }
    }

    #[test]
    fn flags_behind_the_first_argument_belong_to_the_command_that_is_executed() {
        let parsed = parse(Order::First, "-d id ls -b -l --").unwrap();
        assert!(parsed.is_on("detach"));
        assert_eq!(parsed.arguments, ["id", "ls", "-b", "-l", "--"]);
    }

    #[test]
    fn two_dashes_end_the_flags() {
        assert_eq!(parse(Order::Anywhere, "-- -d").unwrap().arguments, ["-d"]);
        assert_eq!(parse(Order::Anywhere, "-d=false -").unwrap().arguments, ["-"]);
    }

    #[test]
    fn the_last_value_counts_unless_all_do() {
        let parsed = parse(Order::Anywhere, "-b 1 -b 2 -e A=1 -e B=2").unwrap();
        assert_eq!(parsed.value("bundle"), Some("2"));
        assert_eq!(parsed.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
    }

    #[test]
    fn misuse_is_told_in_the_words_that_callers_look_for() {
        let told = |line| parse(Order::Anywhere, line).unwrap_err().to_string();
        assert_eq!(told("--bundle"), "flag needs an argument: -bundle");
        assert_eq!(told("--nonesuch"), "flag provided but not defined: -nonesuch");
        assert_eq!(told("--detach=perhaps"), "invalid value \"perhaps\" for flag -detach: parse error");
        assert!(parse(Order::Anywhere, "-h").unwrap().help);
    }
}
