//! `hull-images --out DIR [--cache DIR] [NAME…]`: builds the test images as OCI archives, from Debian
//! packages, without docker.
//!
//! ```text
//! recipe -> packages (apt-get download, dpkg-deb -x) -> tree -> layers -> <out>/<name>.tar, <name>.stamp
//! ```
//! An archive whose stamp is that of this builder is left as it is. Entries are sorted and carry one fixed
//! time, so the same packages give the same bytes.

mod archive;
mod layer;
mod libraries;
mod packages;
mod recipe;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use recipe::Recipe;

const USAGE: &str = "usage: hull-images --out DIR [--cache DIR] [NAME...]";

/// A failure, already in words.
type Result<T> = std::result::Result<T, String>;

/// Names what failed on which path.
fn failed<E: std::fmt::Display>(action: &str, path: &Path) -> impl FnOnce(E) -> String {
    let what = format!("cannot {action} {}", path.display());
    move |error| format!("{what}: {error}")
}

struct Arguments {
    out: PathBuf,
    cache: PathBuf,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let result = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => {
            println!("{USAGE}\nimages: {}", recipe::names().join(", "));
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("hull-images: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("hull-images: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// None asks for help.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Arguments>> {
    let (mut out, mut cache, mut names) = (None, PathBuf::from("target/images/cache"), Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a directory"));
        match argument.as_str() {
            "-h" | "--help" => return Ok(None),
            "--out" => out = Some(PathBuf::from(value()?)),
            "--cache" => cache = value()?.into(),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => names.push(argument),
        }
    }
    let out = out.ok_or("--out is missing")?;
    Ok(Some(Arguments { out, cache, names }))
}

fn run(arguments: &Arguments) -> Result<()> {
    let recipes = if arguments.names.is_empty() {
        recipe::all()
    } else {
        arguments.names.iter().map(|name| recipe::find(name)).collect::<Result<_>>()?
    };
    for directory in [&arguments.out, &arguments.cache] {
        std::fs::create_dir_all(directory).map_err(failed("create", directory))?;
    }
    recipes.iter().try_for_each(|recipe| bring_up_to_date(recipe, arguments))
}

fn bring_up_to_date(recipe: &Recipe, arguments: &Arguments) -> Result<()> {
    let archive = arguments.out.join(format!("{}.tar", recipe.file_name()));
    let stamp = archive.with_extension("stamp");
    let expected = recipe::stamp();
    if archive.exists() && std::fs::read_to_string(&stamp).is_ok_and(|found| found == expected) {
        return Ok(());
    }
    eprintln!("building {} from {}", archive.display(), recipe.packages.join(", "));
    let work = arguments.cache.join(format!("build-{}", std::process::id()));
    remove(&work)?;
    let built = build(recipe, &arguments.cache, &work, &archive);
    remove(&work)?;
    built?;
    std::fs::write(&stamp, expected).map_err(failed("write", &stamp))
}

fn build(recipe: &Recipe, cache: &Path, work: &Path, archive: &Path) -> Result<()> {
    let base = recipe::base(&packages::tree(&["busybox-static"], cache, &work.join("base"))?)?;
    let mut layers = vec![archive::Layer::gzip(base.tar()?)?];
    if recipe.has_layer() {
        let packages = packages::tree(&recipe.packages, cache, &work.join("packages"))?;
        layers.push(archive::Layer::zstd(recipe.layer(&packages)?.tar()?)?);
    }
    archive::write(archive, &recipe.name, &recipe.config, &layers)
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}
