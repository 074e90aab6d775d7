//! `hull-order`: which functions a program runs, in the order of their first call, as a script for the linker that puts them
//! side by side (`make order`; `shim/hull-oci.ld`, `shim/hull-shim.ld`, `runtime/hull.ld`; docs/performance.md says what that gains).
//!
//! usage: hull-order PROGRAM,MAP,SCRIPT[,children]... -- COMMAND [ARGUMENT...]
//!
//! COMMAND runs with every function of each PROGRAM that it or its descendants execute marked; MAP is what lld wrote about the
//! PROGRAM with `-Map`, SCRIPT is written. With `children` what the forked
//! children of the PROGRAM run before they execute something else comes first: each of them maps that anew.

mod map;
mod trace;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use map::Map;
use trace::Program;

/// One word of the command line.
struct Wanted {
    program: PathBuf,
    map: PathBuf,
    script: PathBuf,
    /// Its forked children first.
    children: bool,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("hull-order: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), String> {
    let end = words.iter().position(|word| word == "--").ok_or("no -- before the command")?;
    let wanted = words[..end].iter().map(|word| parse(word)).collect::<Result<Vec<_>, _>>()?;
    let maps = wanted.iter().map(|one| Map::read(&one.map)).collect::<Result<Vec<_>, _>>()?;
    let mut programs = Vec::new();
    for (one, map) in wanted.iter().zip(&maps) {
        programs.push(Program::open(&one.program, &map.functions, one.children)?);
    }
    trace::run(&words[end + 1..], &mut programs)?;
    for ((Wanted { script, .. }, map), program) in wanted.iter().zip(&maps).zip(&programs) {
        let lines = order(map, &program.called());
        if lines.is_empty() {
            return Err(format!("{}: no function of its programs was called", script.display()));
        }
        std::fs::write(script, text(&lines)).map_err(|error| format!("{}: {error}", script.display()))?;
        println!("{}: {} patterns", script.display(), lines.len());
    }
    Ok(())
}

fn parse(word: &str) -> Result<Wanted, String> {
    let (program, map, script, children) = match word.split(',').collect::<Vec<_>>()[..] {
        [program, map, script] => (program, map, script, false),
        [program, map, script, "children"] => (program, map, script, true),
        _ => return Err(format!("{word}: not PROGRAM,MAP,SCRIPT[,children]")),
    };
    Ok(Wanted { program: program.into(), map: map.into(), script: script.into(), children })
}

/// Bytes of functions that were not called which a pattern may take in before it is put behind the others.
const BALLAST: u64 = 16_384;

/// The patterns in the order of the first call. One that takes in much that was not called (instances of one generic
/// function have one name) comes after those that do not.
fn order(map: &Map, called: &[u64]) -> Vec<String> {
    let (mut near, mut far) = (Vec::new(), Vec::new());
    let mut bytes: BTreeMap<&str, u64> = BTreeMap::new();
    let sections: BTreeSet<u64> =
        called.iter().filter_map(|at| map.section(*at)).map(|one| one.start).collect();
    for section in sections.iter().filter_map(|at| map.section(*at)) {
        *bytes.entry(&section.pattern).or_default() += section.size;
    }
    let mut known = BTreeSet::new();
    for section in called.iter().filter_map(|at| map.section(*at)) {
        if known.insert(&section.pattern) {
            let is_near = map.size(&section.pattern) - bytes[section.pattern.as_str()] <= BALLAST;
            if is_near { &mut near } else { &mut far }.push(section.pattern.clone());
        }
    }
    near.append(&mut far);
    near
}

fn text(lines: &[String]) -> String {
    let head = "/* What the program runs comes first, in the order of its first call; what is not named here follows as it came.\n\
                \x20  `make order` records it. ld manual, SECTIONS and INSERT. */\n";
    // The jumps to the C library's choices for this processor, which every program makes.
    let jumps = "*(.iplt)";
    format!("{head}SECTIONS {{ .text.first : {{\n{jumps}\n{}\n}} }} INSERT BEFORE .text;\n", lines.join("\n"))
}
