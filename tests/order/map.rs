//! What lld says of a program that it linked (`-Map`), and names for its sections that the next build has too.
//!
//! A line has address, load address, size and alignment, and then, indented by its kind, an output section, an input
//! section (`FILE:(SECTION)`, `ARCHIVE(MEMBER):(SECTION)`) or a symbol.

use std::collections::BTreeMap;
use std::path::Path;

/// An input section with instructions.
pub(crate) struct Section {
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// As a linker script has it.
    pub(crate) pattern: String,
}

/// The instructions of a program.
pub(crate) struct Map {
    /// By where they begin.
    sections: BTreeMap<u64, Section>,
    /// Where functions begin.
    pub(crate) functions: Vec<u64>,
    /// Bytes of all sections that a pattern takes in.
    sizes: BTreeMap<String, u64>,
}

/// Blanks before the three kinds of names, after the column of the alignment.
const INPUT: usize = 9;
const SYMBOL: usize = 17;

impl Map {
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let map = Self::parse(&text);
        if map.functions.is_empty() {
            return Err(format!("{}: no functions; is it lld's?", path.display()));
        }
        Ok(map)
    }

    fn parse(text: &str) -> Self {
        let mut map = Self { sections: BTreeMap::new(), functions: Vec::new(), sizes: BTreeMap::new() };
        let mut in_text = false;
        for (start, size, indent, name) in text.lines().filter_map(line) {
            match indent {
                INPUT => {
                    in_text = false;
                    if let Some(pattern) = pattern(name).filter(|_| size > 0) {
                        in_text = true;
                        *map.sizes.entry(pattern.clone()).or_default() += size;
                        map.sections.insert(start, Section { start, size, pattern });
                    }
                }
                SYMBOL if in_text => map.functions.push(start),
                _ => {}
            }
        }
        map.functions.sort_unstable();
        map.functions.dedup();
        map
    }

    /// The section that an address is in.
    pub(crate) fn section(&self, address: u64) -> Option<&Section> {
        let (_, section) = self.sections.range(..=address).next_back()?;
        (address < section.start + section.size).then_some(section)
    }

    /// Bytes that a pattern takes in.
    pub(crate) fn size(&self, pattern: &str) -> u64 {
        self.sizes.get(pattern).copied().unwrap_or_default()
    }
}

fn line(text: &str) -> Option<(u64, u64, usize, &str)> {
    let mut rest = text;
    let mut numbers = [0; 4];
    for (at, number) in numbers.iter_mut().enumerate() {
        let (word, after) = rest.trim_start().split_once(' ')?;
        // The last is decimal; nobody reads it.
        *number = u64::from_str_radix(word, if at < 3 { 16 } else { 10 }).ok()?;
        rest = after;
    }
    let name = rest.trim_start();
    Some((numbers[0], numbers[2], rest.len() - name.len() + 1, name))
}

/// Names a section without what differs from build to build. A function of Rust has a section of its own; of the C library's files
/// each is taken as a whole.
fn pattern(name: &str) -> Option<String> {
    let (file, section) = name.strip_suffix(')')?.rsplit_once(":(")?;
    let function = section.strip_prefix(".text")?;
    let function = function.strip_prefix(".unlikely").unwrap_or(function);
    let either = |function: &str| Some(format!("*(.text*{function})"));
    // Small ones: of equal instances the compiler keeps one, now this, now that.
    for (part, all) in [("drop_in_place", "._ZN4core3ptr*drop_in_place*"), ("7raw_vec", ".*5alloc7raw_vec*")]
    {
        if function.contains(part) {
            return either(all);
        }
    }
    if function.starts_with("._ZN") {
        // The hash is at the end; what the compiler splits off or adds follows it.
        return either(&format!("{}17h*", &function[..function.rfind("17h")?]));
    }
    if function.starts_with("._R") {
        return either(&without_hashes(function));
    }
    let file = file.rsplit('/').next()?;
    let Some((archive, member)) = file.strip_suffix(')').and_then(|file| file.split_once('(')) else {
        // Of ours `main`, of the compiler's what a program begins with.
        let has_own = file.ends_with(".rcgu.o") && section != ".text";
        return if has_own {
            Some(format!("*({section})"))
        } else {
            Some(format!("*{file}({section})")).filter(|_| file.starts_with("crt"))
        };
    };
    // libm is packaged with its version in its name.
    let archive = archive.split_once('-').map_or(archive.to_owned(), |(stem, _)| format!("{stem}*"));
    Some(format!("*{archive}:{member}(.text .text.*)"))
}

/// A name in Rust's second form with `*` for the hash of each crate (`Cs` and digits of base 62 up to `_`), and for the crate at its end:
/// the one that asked for the instance, which is kept for others.
fn without_hashes(name: &str) -> String {
    let mut parts = name.split("Cs");
    let mut general = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('_') {
            Some((hash, rest)) if hash.len() > 8 && hash.chars().all(|one| one.is_ascii_alphanumeric()) => {
                general.push_str("Cs*_");
                general.push_str(rest);
            }
            Some(_) | None => {
                general.push_str("Cs");
                general.push_str(part);
            }
        }
    }
    let stem = match general.rsplit_once("Cs*_") {
        Some((stem, last))
            if last
                .chars()
                .skip_while(char::is_ascii_digit)
                .all(|one| one.is_ascii_lowercase() || one == '_') =>
        {
            stem
        }
        Some(_) | None => match general.strip_suffix('_').and_then(|cut| cut.rsplit_once('B')) {
            Some((stem, digits)) if digits.len() < 3 => stem,
            Some(_) | None => return general,
        },
    };
    format!("{stem}*")
}
