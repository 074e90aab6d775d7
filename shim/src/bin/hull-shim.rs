//! `hull-shim`: the resident process of one pod. Only hull starts it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use hull_shim::resident::{self, Options};

#[global_allocator]
// SAFETY: this program starts no thread. Of what it links only libcontainer would, for a hook with a timeout, which
// `container::spec::complete` refuses.
static HEAP: hull_shim::Heap = unsafe { hull_shim::Heap::new() };

const USAGE: &str = "usage: hull-shim pod [--root DIR] --uid UID [--ready-fd N]
       hull-shim remove [--root DIR] --uid UID
       hull-shim --version";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => serve(options),
        Ok(None) => {
            println!("hull-shim {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("hull-shim: {message}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn serve(options: Options) -> ExitCode {
    match resident::run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("hull-shim: {text}");
            ExitCode::FAILURE
        }
    }
}

/// None for `--version`.
fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Option<Options>, String> {
    let mut arguments = arguments;
    let mut options = Options::default();
    let mut is_pod = false;
    while let Some(argument) = arguments.next() {
        let name = argument.to_string_lossy().into_owned();
        let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "--version" => return Ok(None),
            "pod" => is_pod = true,
            "remove" => (is_pod, options.remove) = (true, true),
            "--root" => options.root = Some(absolute(value()?)?),
            "--uid" => options.uid = value()?.to_string_lossy().into_owned(),
            "--ready-fd" => {
                let number = value()?;
                let parsed = number.to_string_lossy().parse();
                options.ready = Some(parsed.map_err(|_| format!("--ready-fd {number:?} is not a number"))?);
            }
            "--protected" => options.protected = Some(value()?.into()),
            "--foreground" => options.foreground = true,
            _ => return Err(format!("unknown argument {name:?}")),
        }
    }
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    match options.uid.as_str() {
        _ if !is_pod => Err("only `pod` and `remove` can be asked for".to_owned()),
        "" => Err("--uid is missing".to_owned()),
        uid if !uid.chars().all(plain) => Err(format!("--uid {uid:?} is not a uid")),
        _ => Ok(Some(options)),
    }
}

fn absolute(path: OsString) -> Result<PathBuf, String> {
    std::path::absolute(&path).map_err(|error| format!("--root {}: {error}", path.to_string_lossy()))
}
