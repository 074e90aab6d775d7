//! Every verdict beside libseccomp's, which a small C program asks for (`libseccomp.c`, compiled by the test); the
//! library is no part of hull.
//!
//! runc puts instructions of its own before libseccomp's: what they answer is written down in [`Reference::expected`].

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use oci_spec::runtime::{
    Arch as Listed, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompOperator as Operator,
    LinuxSyscall,
};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::super::rules::{AUDIT_AARCH64, AUDIT_ARM, AUDIT_I386, AUDIT_X86_64};
use super::super::table::TABLE;
use super::super::{Arch, Error, Instruction, compile};
use super::machine::{Data, run};
use super::plain::expected;
use super::profiles::{LISTED, OPERATORS, Style, WORDS, any_profile, argument, containers, profile, rule};
use super::{Random, action_value, reference_or_skip};

/// An ABI, libseccomp's name for it (`SCMP_ARCH_*`), the kernel's, and the profile's.
type Listing = (Abi, u32, u32, Listed);

const ABIS: [Listing; 5] = [
    (Abi::X86_64, 0xc000_003e, AUDIT_X86_64, Listed::ScmpArchX86_64),
    (Abi::I386, 0x4000_0003, AUDIT_I386, Listed::ScmpArchX86),
    (Abi::X32, 0x4000_003e, AUDIT_X86_64, Listed::ScmpArchX32),
    (Abi::Aarch64, 0xc000_00b7, AUDIT_AARCH64, Listed::ScmpArchAarch64),
    (Abi::Arm, 0x4000_0028, AUDIT_ARM, Listed::ScmpArchArm),
];

/// The C program at work.
pub(super) struct Reference {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    _directory: Directory,
}

/// A directory that goes with its value.
struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Reference {
    /// Compiles and starts it, or says what is missing.
    pub(super) fn start() -> Result<Self, String> {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("hull-libseccomp-{}-{number}", std::process::id()));
        std::fs::create_dir(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let directory = Directory(directory);
        let binary = directory.0.join("libseccomp");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/container/seccomp/tests/libseccomp.c");
        let built = Command::new("cc").args([source, "-o"]).arg(&binary).arg("-lseccomp").output();
        match built {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Err(format!("libseccomp-dev: {}", String::from_utf8_lossy(&output.stderr))),
            Err(error) => return Err(format!("cc: {error}")),
        }
        let mut child = Command::new(&binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let (commands, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Ok(Self { child, commands, answers, _directory: directory })
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.commands, "{line}").unwrap();
    }

    fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        let mut answer = String::new();
        assert_ne!(self.answers.read_line(&mut answer).unwrap(), 0, "it ended after {line}");
        answer.trim_end().to_owned()
    }

    /// The number of a call, if libseccomp knows the name; pseudo numbers are negative.
    fn resolve(&mut self, arch: u32, name: &str) -> Option<i64> {
        let number: i64 = self.ask(&format!("resolve {arch} {name}")).parse().unwrap();
        (number != -1).then_some(number)
    }

    /// Takes what libseccomp has never heard of out of `profile`, so that both know the same.
    pub(super) fn known(&mut self, mut profile: LinuxSeccomp) -> LinuxSeccomp {
        let (_, native, ..) = ABIS[0];
        let mut rules = profile.syscalls().clone().unwrap_or_default();
        for rule in &mut rules {
            let names =
                rule.names().iter().filter(|name| self.resolve(native, name).is_some()).cloned().collect();
            rule.set_names(names);
        }
        profile.set_syscalls(Some(rules));
        profile
    }

    /// What libseccomp makes of `profile` for calls through one of `abis` (at least one); none where it refuses.
    pub(super) fn compile(&mut self, profile: &LinuxSeccomp, abis: &[Listing]) -> Option<Vec<Instruction>> {
        let default = action_value(profile.default_action(), profile.default_errno_ret());
        self.tell(&format!("begin {default} {}", abis[0].1));
        for (_, token, ..) in abis {
            self.tell(&format!("arch {token}"));
        }
        for rule in profile.syscalls().iter().flatten() {
            let action = action_value(rule.action(), rule.errno_ret());
            if action != default {
                // A call that an architecture lacks makes libseccomp 2.5 forget to load the number there.
                let exists = |name: &str| {
                    abis.iter().any(|(abi, ..)| abi.number(name).is_some() || abi.multiplexed(name).is_some())
                };
                for name in rule.names().iter().filter(|name| abis.len() > 1 || exists(name)) {
                    self.rules(name, action, rule);
                }
            }
        }
        let answer = self.ask("export");
        let mut numbers = answer.split(' ').map_while(|word| word.parse::<u32>().ok());
        let mut program = Vec::new();
        while let Some(code) = numbers.next() {
            let mut next = || numbers.next().unwrap();
            program.push(Instruction { code: code as u16, jt: next() as u8, jf: next() as u8, k: next() });
        }
        (!program.is_empty()).then_some(program)
    }

    /// The same for this machine.
    pub(super) fn native(&mut self, profile: &LinuxSeccomp) -> Option<Vec<Instruction>> {
        self.compile(profile, &covered(profile, Arch::NATIVE))
    }

    /// As runc gives them: one rule, or one for each condition as soon as two look at the same argument.
    fn rules(&mut self, name: &str, action: u32, rule: &LinuxSyscall) {
        let arguments = rule.args().as_deref().unwrap_or_default();
        let indices: BTreeSet<_> = arguments.iter().map(|one| one.index()).collect();
        let words: Vec<_> = arguments
            .iter()
            .map(|one| {
                let two = one.value_two().unwrap_or(0);
                format!(" {} {} {} {two}", one.index(), one.op() as u32, one.value())
            })
            .collect();
        if indices.len() == arguments.len() {
            self.tell(&format!("rule {action} {name} {}{}", words.len(), words.concat()));
        } else {
            words.iter().for_each(|word| self.tell(&format!("rule {action} {name} 1{word}")));
        }
    }
}

/// The ABIs that a filter of `profile` speaks of.
fn covered(profile: &LinuxSeccomp, arch: Arch) -> Vec<Listing> {
    let native = |abi| matches!((arch, abi), (Arch::X86_64, Abi::X86_64) | (Arch::Aarch64, Abi::Aarch64));
    let foreign = |abi| matches!(abi, Abi::Aarch64 | Abi::Arm) != (arch == Arch::Aarch64);
    let listed = |wanted| profile.architectures().iter().flatten().any(|one| *one == wanted);
    ABIS.into_iter().filter(|(abi, _, _, name)| native(*abi) || !foreign(*abi) && listed(*name)).collect()
}

/// runc's own part: `ENOSYS` for what is newer than all that the profile names, where the default would refuse it.
/// It asks before the filter does, and so hides rules on private calls and, on 32-bit x86, on the direct socket calls; we
/// let rules go first. It takes -1, which a tracer leaves behind, for a new call; we do not.
fn newer_than(profile: &LinuxSeccomp, abi: Abi) -> Option<u32> {
    if matches!(profile.default_action(), Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace) {
        return None;
    }
    let names = profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
    let numbers = names.flat_map(|name| [abi.number(name), abi.multiplexed(name).map(|(gate, _)| gate)]);
    numbers
        .flatten()
        .filter(|number| *number < ARM_PRIVATE || abi == Abi::X32)
        .max()
        .filter(|last| *last != 0)
}

/// Numbers that some verdict may begin or end at.
fn numbers(abi: Abi) -> impl Iterator<Item = u32> {
    let bit = if abi == Abi::X32 { X32_BIT } else { 0 };
    let special =
        [u32::MAX, ARM_PRIVATE + 1, ARM_PRIVATE + 2, ARM_PRIVATE + 5, ARM_PRIVATE + 7, X32_BIT - 1, 4000];
    (0..620).map(move |number| number | bit).chain(special)
}

/// Whether calls with this number come through `abi`, where they do through one that its machine has.
fn belongs(number: u32, abi: Abi) -> bool {
    match abi {
        Abi::X86_64 => number < X32_BIT || number == u32::MAX,
        Abi::X32 => number >= X32_BIT,
        Abi::I386 | Abi::Aarch64 | Abi::Arm => true,
    }
}

/// What a comparison came to.
#[derive(Debug, Default)]
struct Tally {
    /// Verdicts that are the same.
    agreed: usize,
    /// Verdicts of libseccomp that no rule of the profile asks for: it wrote a wrong program. Version 2.5 does where a
    /// comparison is reached with the other half of the argument loaded, where two rules share what follows
    /// a bound, and for an upper bound after another condition on a 32-bit ABI.
    wrong: usize,
    /// Verdicts where several rules match and the older one counts for libseccomp, not the tighter one: where the
    /// upper half alone decides on two upper bounds or inequalities.
    older: usize,
}

/// Compares all verdicts on calls through `abis`.
fn compare(
    profile: &LinuxSeccomp,
    abis: &[Listing],
    (theirs, ours): (&[Instruction], &[Instruction]),
    tally: &mut Tally,
) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (abi, _, audit, _) in abis.iter().copied() {
        let last = newer_than(profile, abi);
        let judged: BTreeSet<u32> = judged(profile, abi);
        for number in numbers(abi).filter(|number| belongs(*number, abi)) {
            let newer =
                last.is_some_and(|last| number > last) && number != u32::MAX && !judged.contains(&number);
            for _ in 0..if judged.contains(&number) { 60 } else { 1 } {
                let arguments = std::array::from_fn(|_| random.of(&WORDS));
                let data = Data { number, audit, arguments };
                let wanted = if newer { 0x0005_0026 } else { run(theirs, &data) };
                let found = run(ours, &data);
                if found == wanted {
                    tally.agreed += 1;
                    continue;
                }
                let arch = if matches!(abi, Abi::Aarch64 | Abi::Arm) { Arch::Aarch64 } else { Arch::X86_64 };
                let plain = expected(profile, arch, &data);
                let rules = on(profile, abi, number);
                let older =
                    plain.contains(&wanted) && rules.iter().filter(|rule| is_negated(rule)).count() > 1;
                assert!(
                    plain.contains(&found) && (older || !plain.contains(&wanted)),
                    "{abi:?} {data:x?}: ours {found:#x}, libseccomp's {wanted:#x}\n{}",
                    serde_json::to_string(&rules).unwrap()
                );
                if older {
                    tally.older += 1;
                } else {
                    tally.wrong += 1;
                }
            }
        }
    }
}

fn is_negated(rule: &LinuxSyscall) -> bool {
    let negated = [Operator::ScmpCmpNe, Operator::ScmpCmpLt, Operator::ScmpCmpLe];
    rule.args().iter().flatten().any(|one| negated.contains(&one.op()))
}

/// The rules of `profile` on one call.
fn on(profile: &LinuxSeccomp, abi: Abi, number: u32) -> Vec<&LinuxSyscall> {
    let speaks = |name: &String| {
        [abi.number(name), abi.multiplexed(name).map(|(gate, _)| gate)].contains(&Some(number))
    };
    profile.syscalls().iter().flatten().filter(|rule| rule.names().iter().any(speaks)).collect()
}

/// Numbers that `profile` speaks of.
fn judged(profile: &LinuxSeccomp, abi: Abi) -> BTreeSet<u32> {
    let names = profile.syscalls().iter().flatten().flat_map(LinuxSyscall::names);
    names.flat_map(|name| [abi.number(name), abi.multiplexed(name).map(|(gate, _)| gate)]).flatten().collect()
}

/// What Linux has, and libseccomp 2.5 on some ABI not yet.
const LATER: [&str; 3] = ["map_shadow_stack", "uretprobe", "sync_file_range2"];

#[test]
fn every_number_is_the_one_that_libseccomp_has() {
    let Some(mut reference) = reference_or_skip() else { return };
    for (abi, token, ..) in ABIS {
        let mut compared = 0;
        for (name, _) in TABLE {
            match reference.resolve(token, name) {
                // Multiplexed calls have pseudo numbers on 32-bit x86, whether they have one of their own or not.
                Some(number) if number < 0 => {
                    assert!(
                        abi.number(name).is_none() || abi.multiplexed(name).is_some() || LATER.contains(name),
                        "{abi:?} {name}"
                    );
                }
                Some(number) => {
                    assert_eq!(abi.number(name).map(i64::from), Some(number), "{abi:?} {name}");
                    compared += 1;
                }
                None => {
                    assert!(
                        abi.number(name).is_none_or(|number| number & !X32_BIT > 440) || LATER.contains(name),
                        "{abi:?} {name}"
                    )
                }
            }
        }
        assert!(compared > 300, "{abi:?}: {compared}");
        for number in numbers(abi).filter(|number| *number != u32::MAX) {
            let name = reference.ask(&format!("name {token} {number}"));
            if name != "-" {
                assert_eq!(abi.number(&name), Some(number), "{abi:?} {name}");
            }
        }
    }
}

#[test]
fn the_profile_of_podman_means_the_same() {
    let Some(mut reference) = reference_or_skip() else { return };
    for count in 0..=LISTED.len() - 1 {
        let profile = match containers(&LISTED[..count]) {
            Ok(profile) => reference.known(profile),
            Err(reason) => return super::skip(&reason),
        };
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let abis = covered(&profile, arch);
            let theirs = reference.compile(&profile, &abis).unwrap();
            let ours = compile(&profile, arch).unwrap().program;
            assert!(ours.len() < theirs.len(), "{} and {}", ours.len(), theirs.len());
            let mut tally = Tally::default();
            compare(&profile, &abis, (&theirs, &ours), &mut tally);
            assert!(tally.agreed > 600 && tally.wrong + tally.older == 0, "{tally:?}");
        }
    }
}

/// Throws `count` profiles of `style` at both.
fn agree_on_random(style: Style, count: u32) {
    let Some(mut reference) = reference_or_skip() else { return };
    let mut runner = TestRunner::deterministic();
    let (mut tally, mut refused) = (Tally::default(), 0);
    for _ in 0..count {
        let any = any_profile(style).new_tree(&mut runner).unwrap().current();
        let profile = reference.known(any);
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let ours = match compile(&profile, arch) {
                Ok(ours) => ours.program,
                Err(Error::Contradiction { .. }) => continue,
                Err(error) => panic!("{error} {}", serde_json::to_string(&profile).unwrap()),
            };
            for abi in covered(&profile, arch) {
                match reference.compile(&profile, &[abi]) {
                    Some(theirs) => compare(&profile, &[abi], (&theirs, &ours), &mut tally),
                    // It refuses more than contradictions: that depends on the order of the rules.
                    None => refused += 1,
                }
            }
        }
    }
    println!("{tally:?}, and {refused} filters refused");
    assert!(tally.agreed > 1000 && tally.wrong + tally.older < tally.agreed / 100, "{tally:?}");
}

#[test]
fn rules_with_one_condition_have_libseccomps_precedence() {
    agree_on_random(Style::Single, 60);
}

#[test]
fn rules_with_several_conditions_have_libseccomps_precedence() {
    agree_on_random(Style::Nested, 60);
}

#[test]
fn every_operator_is_libseccomps() {
    let Some(mut reference) = reference_or_skip() else { return };
    for op in OPERATORS {
        for value in WORDS {
            let args = vec![argument(2, op, value, Some(5))];
            let rules = vec![rule(&["read", "clone"], Action::ScmpActAllow, None, args)];
            let profile = profile(Action::ScmpActErrno, &LISTED[..5], rules);
            for arch in [Arch::X86_64, Arch::Aarch64] {
                let abis = covered(&profile, arch);
                let theirs = reference.compile(&profile, &abis).unwrap();
                let ours = compile(&profile, arch).unwrap().program;
                let mut tally = Tally::default();
                compare(&profile, &abis, (&theirs, &ours), &mut tally);
                assert!(tally.agreed > 600 && tally.wrong + tally.older == 0, "{tally:?}");
            }
        }
    }
}
