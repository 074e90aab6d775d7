//! Everything of hull that reads bytes which somebody else wrote, under libFuzzer; `make fuzz` runs each target for
//! a while. `HULL_FUZZ` names the target. An input that crashes one is kept by libFuzzer beside its corpus:
//! mend the bug, and keep the input as a unit test beside the parser.
#![no_main]

mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::{Corpus, fuzz_target};

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("HULL_FUZZ").unwrap_or_default();
        let Some((_, target)) = targets::all().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = targets::all().map(|(name, _)| name).collect();
            eprintln!("HULL_FUZZ={name:?}: no such target; there are: {}", names.join(" "));
            std::process::exit(2);
        };
        TARGET.get_or_init(|| target);
    },
    |bytes: &[u8]| -> Corpus {
        if let Some(target) = TARGET.get() {
            target(bytes);
        }
        Corpus::Keep
    }
);
