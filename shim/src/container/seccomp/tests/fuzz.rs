//! Anything that a `config.json` can hold as its profile: it compiles to what the kernel takes, or says why not.

use oci_spec::runtime::LinuxSeccomp;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::super::{Arch, Error, Filter, compile};
use super::machine::{Data, run};
use super::profiles::{NAMES, WORDS};

const WORDS_OF_PROFILES: [&str; 30] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
    "SCMP_ARCH_NATIVE",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_LOONGARCH64",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    "",
    "\u{0}",
];

fn pick(from: std::ops::Range<usize>) -> BoxedStrategy<Value> {
    select(WORDS_OF_PROFILES[from].to_vec()).prop_map(Value::from).boxed()
}

/// `usual`, or now and then what does not belong there.
fn mostly(usual: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    let odd = prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        select(WORDS_OF_PROFILES.to_vec()).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
    ];
    prop_oneof![40 => usual, 1 => odd].boxed()
}

fn list(of: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    mostly(proptest::collection::vec(of, 0..most).prop_map(Value::from).boxed())
}

fn number() -> BoxedStrategy<Value> {
    mostly(prop_oneof![select(&WORDS[..]), any::<u64>()].prop_map(Value::from).boxed())
}

fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let (names, values): (Vec<_>, Vec<_>) =
        fields.into_iter().map(|(name, value)| (name, proptest::option::weighted(0.8, value))).unzip();
    values
        .prop_map(move |values| {
            let given =
                names.iter().zip(values).filter_map(|(name, value)| Some(((*name).to_owned(), value?)));
            Value::Object(given.collect())
        })
        .boxed()
}

fn any_document(rules: usize) -> BoxedStrategy<Value> {
    let index = mostly(prop_oneof![9 => 0..6_u64, 1 => any::<u64>()].prop_map(Value::from).boxed());
    let argument = object(vec![
        ("index", index),
        ("value", number()),
        ("valueTwo", number()),
        ("op", mostly(pick(9..16))),
    ]);
    let name = mostly(select(&NAMES[..]).prop_map(Value::from).boxed());
    let errno = mostly((0..5000_u32).prop_map(Value::from).boxed());
    let rule = object(vec![
        ("names", list(name, 5)),
        ("action", mostly(pick(0..9))),
        ("errnoRet", prop_oneof![3 => Just(Value::Null), 1 => errno.clone()].boxed()),
        ("args", list(argument, 4)),
    ]);
    object(vec![
        ("defaultAction", mostly(pick(0..9))),
        ("defaultErrnoRet", prop_oneof![3 => Just(Value::Null), 1 => errno].boxed()),
        ("architectures", list(pick(16..24), 5)),
        ("flags", list(pick(24..28), 4)),
        ("syscalls", list(rule, rules)),
        ("listenerPath", mostly(Just(json!("/run/agent.sock")).boxed())),
        ("listenerMetadata", mostly(Just(json!("x")).boxed())),
    ])
}

/// The kernel's own check (kernel/seccomp.c, net/core/filter.c), as far as our instructions go.
fn is_sound(Filter { program, flags }: &Filter) -> bool {
    let inside = |at: usize, skip: usize| at + 1 + skip < program.len();
    let sound = program.iter().enumerate().all(|(at, one)| match one.code {
        0x20 => one.k.is_multiple_of(4) && one.k < 64,
        0x54 | 0x06 => true,
        0x05 => inside(at, one.k as usize),
        0x15 | 0x25 | 0x35 => inside(at, one.jt.into()) && inside(at, one.jf.into()),
        _ => false,
    });
    sound
        && (1..=4096).contains(&program.len())
        && program.last().is_some_and(|last| last.code == 0x06)
        && *flags < 64
}

fn check(document: Value) {
    let Ok(profile) = serde_json::from_value::<LinuxSeccomp>(document) else { return };
    for arch in [Arch::X86_64, Arch::Aarch64] {
        match compile(&profile, arch) {
            Ok(filter) => {
                assert!(is_sound(&filter));
                for number in [0, 1, 41, 0x4000_0000, u32::MAX] {
                    run(&filter.program, &Data { number, audit: 0xc000_003e, arguments: [5; 6] });
                }
            }
            Err(Error::TooLong(count)) => assert!(count > 4096),
            Err(error) => assert!(error.to_string().starts_with("linux.seccomp"), "{error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_profile_compiles_or_says_why_not(document in any_document(30)) {
        check(document);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn so_does_a_very_long_one(document in any_document(3000)) {
        check(document);
    }
}
