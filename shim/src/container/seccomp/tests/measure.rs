//! How long it takes, for podman's profile: `cargo test -p hull-shim --lib seccomp::tests::measure -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitStatus, waitpid};

use super::super::{Arch, Cache, Filter, compile};
use super::kernel::{Shared, forked};
use super::profiles::{LISTED, containers};
use super::reference_or_skip;
use crate::sys::seccomp;

#[expect(clippy::disallowed_methods, reason = "nothing else than time is looked at here")]
fn timed<T>(mut work: impl FnMut() -> T) -> Duration {
    let once = |work: &mut dyn FnMut() -> T| {
        let start = Instant::now();
        drop(work());
        start.elapsed()
    };
    let mut all: Vec<_> = (0..101).map(|_| once(&mut work)).collect();
    all.sort();
    all[50]
}

/// The median of installing `filter`, each time in a process of its own.
#[expect(clippy::disallowed_methods, reason = "nothing else than time is looked at here")]
fn install(filter: &Filter) -> Duration {
    let shared = Shared::new();
    let mut all: Vec<_> = (0..101)
        .map(|_| {
            let child = forked(|| {
                let start = Instant::now();
                let installed = seccomp::install(filter);
                shared.set(0, start.elapsed().as_nanos() as i32);
                i32::from(installed.is_err())
            });
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
            Duration::from_nanos(shared.numbers(1)[0] as u64)
        })
        .collect();
    all.sort();
    all[50]
}

#[test]
#[ignore = "a measurement"]
fn compiling_reading_and_installing() {
    let Some(mut reference) = reference_or_skip() else { return };
    let profile = containers(&LISTED[..3]).unwrap();
    let directory = std::env::temp_dir().join(format!("hull-measure-{}", std::process::id()));
    let ours = compile(&profile, Arch::NATIVE).unwrap();
    let text = serde_json::to_string(&profile).unwrap();
    let theirs = Filter { program: reference.native(&profile).unwrap(), flags: ours.flags };
    println!("instructions: {}, libseccomp's {}", ours.program.len(), theirs.program.len());
    println!("compile       {:?}", timed(|| compile(&profile, Arch::NATIVE)));
    println!("compile, libseccomp in another process {:?}", timed(|| reference.native(&profile)));
    println!(
        "keep          {:?}",
        timed(|| {
            let made = Cache::on_disk(directory.clone()).compile(&text, &profile, Arch::NATIVE);
            std::fs::remove_dir_all(&directory).unwrap();
            made
        })
    );
    Cache::on_disk(directory.clone()).compile(&text, &profile, Arch::NATIVE).unwrap();
    let read = || Cache::on_disk(directory.clone()).find(&text, Arch::NATIVE).unwrap();
    println!("read          {:?}", timed(read));
    let mut cache = Cache::new();
    cache.compile(&text, &profile, Arch::NATIVE).unwrap();
    println!("from memory   {:?}", timed(|| cache.find(&text, Arch::NATIVE)));
    println!("install       {:?}, libseccomp's {:?}", install(&ours), install(&theirs));
    std::fs::remove_dir_all(&directory).unwrap();
}
