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

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "target/deps/hull_oci-1.hull_oci.2-cgu.0.rcgu.o";

    #[test]
    fn a_name_is_without_what_differs_from_build_to_build() {
        let named = |section: &str| pattern(&format!("{OURS}:({section})"));
        for (section, wanted) in [
            (".text._ZN9hull_shim3oci4main17h0123456789abcdefE", "*(.text*._ZN9hull_shim3oci4main17h*)"),
            (".text.unlikely._ZN3std4fail17h0123456789abcdefE.llvm.7", "*(.text*._ZN3std4fail17h*)"),
            (".text._ZN4core3ptr9drop_in_place17h0123456789abcdefE", "*(.text*._ZN4core3ptr*drop_in_place*)"),
            (
                ".text._RNvNtCs4X4t9plMPHF_9addr2line4line9path_push",
                "*(.text*._RNvNtCs*_9addr2line4line9path_push)",
            ),
            (
                ".text._RNvMs4_NtCslNYArtu3iFV_5alloc4growCs4X4t9plMPHF_5gimli",
                "*(.text*._RNvMs4_NtCs*_5alloc4grow*)",
            ),
            (".text._RNvNtCslNYArtu3iFV_5alloc4growB7_", "*(.text*._RNvNtCs*_5alloc4grow*)"),
            (".text.main", "*(.text.main)"),
        ] {
            assert_eq!(named(section).as_deref(), Some(wanted), "{section}");
        }
        assert_eq!((named(".text"), named(".rodata._ZN3std17h0E")), (None, None));
    }

    #[test]
    fn files_of_the_c_library_are_taken_whole() {
        let named = |name: &str| pattern(name).unwrap();
        assert_eq!(named("/usr/lib/libc.a(malloc.o):(.text)"), "*libc.a:malloc.o(.text .text.*)");
        assert_eq!(named("/usr/lib/libm-2.36.a(e_log2.o):(.text.fma)"), "*libm*:e_log2.o(.text .text.*)");
        assert_eq!(named("/usr/lib/crt1.o:(.text)"), "*crt1.o(.text)");
    }

    #[test]
    fn functions_are_symbols_of_sections_with_instructions() {
        let text = format!(
            "             VMA              LMA     Size Align Out     In      Symbol\n\
             \x20         200000           200000       10     4 .rodata\n\
             \x20         200000           200000       10     4         {OURS}:(.rodata.x)\n\
             \x20         200000           200000       10     1                 constant\n\
             \x20         2d4600           2d4600       30    64 .text\n\
             \x20         2d4600           2d4600       30    64         {OURS}:(.text._ZN1a1b17h0E)\n\
             \x20         2d4600           2d4600       20     1                 a::b\n"
        );
        let map = Map::parse(&text);
        assert_eq!(map.functions, [0x2d_4600]);
        assert_eq!(map.section(0x2d_462f).unwrap().pattern, "*(.text*._ZN1a1b17h*)");
        assert!(map.section(0x2d_4630).is_none() && map.section(0x20_0000).is_none());
        assert_eq!(map.size("*(.text*._ZN1a1b17h*)"), 0x30);
    }
}
