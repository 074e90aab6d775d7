//! What `hull image import|ls|rm|inspect` print.

use std::io::{self, Write};

use hull_shim::layout::Layout;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::Error;
use super::import::Source;
use super::reference::Reference;
use super::store::{Image, Store};

/// `hull image import SOURCE [--name NAME]`: prints a line per image, as `docker load` does.
///
/// # Errors
/// As [`Store::import`].
pub fn import(
    layout: &Layout,
    source: Source<'_>,
    name: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    for image in Store::open(layout).import(source, name)? {
        if image.names.is_empty() {
            print(out, format_args!("Loaded image ID: {}\n", image.id))?;
        }
        for name in &image.names {
            print(out, format_args!("Loaded image: {}\n", familiar(name)))?;
        }
    }
    Ok(())
}

/// `hull image ls [-q]`: a row per name, with `docker image ls`'s columns.
///
/// # Errors
/// When the store cannot be read.
pub fn ls(layout: &Layout, quiet: bool, now: Timestamp, out: &mut dyn Write) -> Result<(), Error> {
    let images = Store::open(layout).list()?;
    if quiet {
        return images.iter().try_for_each(|image| print(out, format_args!("{}\n", short(&image.id))));
    }
    let mut rows = vec![["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"].map(str::to_owned)];
    for image in &images {
        rows.extend(table_rows(image, now));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(width);
    for row in &rows {
        let cells = row[..4].iter().zip(widths).map(|(cell, width)| format!("{cell:width$}   "));
        print(out, format_args!("{}{}\n", cells.collect::<String>(), row[4]))?;
    }
    Ok(())
}

/// `hull image rm NAME…`: removes names, and images with their last name; prints as `docker rmi` does.
///
/// # Errors
/// At the first that does not exist or cannot be removed.
pub fn rm(layout: &Layout, names: &[String], out: &mut dyn Write) -> Result<(), Error> {
    let store = Store::open(layout);
    for name in names {
        let removed = store.remove(name)?;
        for name in &removed.untagged {
            print(out, format_args!("Untagged: {}\n", familiar(name)))?;
        }
        for id in &removed.deleted {
            print(out, format_args!("Deleted: {id}\n"))?;
        }
    }
    Ok(())
}

/// `hull image inspect NAME…`: a JSON array shaped as `docker image inspect`'s.
///
/// # Errors
/// At the first that does not exist.
pub fn inspect(layout: &Layout, names: &[String], out: &mut dyn Write) -> Result<(), Error> {
    let store = Store::open(layout);
    let mut found = Vec::new();
    for name in names {
        let image = store.resolve(name)?.ok_or_else(|| Error::NoSuchImage(name.clone()))?;
        found.push(describe(&image));
    }
    let text = serde_json::to_string_pretty(&found).expect("JSON values can be written");
    print(out, format_args!("{text}\n"))
}

/// The object that `inspect` shows of one image.
#[must_use]
pub fn describe(image: &Image) -> Value {
    let references = || image.names.iter().filter_map(|name| name.parse::<Reference>().ok());
    let mut digests: Vec<String> =
        references().map(|name| name.at_digest(&image.digest).familiar()).collect();
    digests.sort();
    digests.dedup();
    json!({
        "Id": image.id,
        "RepoTags": references().map(|name| name.familiar()).collect::<Vec<_>>(),
        "RepoDigests": digests,
        "Created": image.created,
        "Size": image.size,
        "Os": image.os,
        "Architecture": image.architecture,
        "Config": image.config,
        "RootFS": { "Type": "layers", "Layers": image.diff_ids },
    })
}

fn table_rows(image: &Image, now: Timestamp) -> Vec<[String; 5]> {
    let row = |repository: String, tag: String| {
        let created = created(&image.created, now);
        [repository, tag, short(&image.id).to_owned(), created, human_size(image.size)]
    };
    let named = |name: &String| {
        let reference = name.parse::<Reference>().ok()?;
        let tag = match reference.version() {
            super::reference::Version::Tag(tag) => tag.clone(),
            super::reference::Version::Digest(_) => "<none>".into(),
        };
        Some(row(reference.familiar_repository(), tag))
    };
    let rows: Vec<_> = image.names.iter().filter_map(named).collect();
    if rows.is_empty() { vec![row("<none>".into(), "<none>".into())] } else { rows }
}

fn print(out: &mut dyn Write, text: std::fmt::Arguments<'_>) -> Result<(), Error> {
    match out.write_fmt(text) {
        // `hull image ls | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(Error::Output),
    }
}

fn familiar(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |name: Reference| name.familiar())
}

fn short(id: &str) -> &str {
    let hex = id.strip_prefix("sha256:").unwrap_or(id);
    hex.get(..12).unwrap_or(hex)
}

/// `3 weeks ago`, in docker's words.
fn created(text: &str, now: Timestamp) -> String {
    let Ok(then) = text.parse::<Timestamp>() else {
        return "N/A".into();
    };
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let days = hours / 24;
    let words = match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    };
    format!("{words} ago")
}

/// Three digits and a decimal unit: `1.24MB`.
fn human_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    let units = ["B", "kB", "MB", "GB", "TB"];
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let decimals = match value {
        _ if unit == 0 => 0,
        value if value < 10.0 => 2,
        value if value < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_read_as_dockers() {
        let sizes = [(0, "0B"), (999, "999B"), (4_260_000, "4.26MB"), (187_500_000, "188MB")];
        for (bytes, expected) in sizes {
            assert_eq!(human_size(bytes), expected);
        }
        let now: Timestamp = "2026-03-01T00:00:00Z".parse().unwrap();
        let ages = [
            ("2026-02-28T23:59:30Z", "30 seconds ago"),
            ("2026-02-28T23:00:00Z", "About an hour ago"),
            ("2026-02-08T00:00:00Z", "3 weeks ago"),
            ("1970-01-01T00:00:00Z", "56 years ago"),
            ("", "N/A"),
        ];
        for (then, expected) in ages {
            assert_eq!(created(then, now), expected, "{then}");
        }
    }
}
