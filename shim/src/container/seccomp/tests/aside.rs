//! A profile that is set aside comes to the filter that it comes to otherwise, and no other text does.

use std::rc::Rc;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action, Spec};

use super::super::aside::{KnownFilter, read};
use super::super::{Arch, Cache, Filter, compile};
use super::profiles::{Style, profile, rule};
use super::random_profiles;

fn parse(bytes: &[u8]) -> serde_json::Result<(Box<Spec>, ())> {
    serde_json::from_slice(bytes).map(|spec| (spec, ()))
}

/// What a configuration comes to: its filter, and whether that was found by its text.
fn filter(cache: &mut Cache, config: &str) -> (Option<Rc<Filter>>, bool) {
    let (spec, (), known) = read(config.as_bytes(), cache, parse).unwrap();
    let is_found = matches!(known, KnownFilter::Filter(_));
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    assert!(!is_found || profile.is_none(), "the stand-in stays: {spec:?}");
    (cache.filter(&spec, &known).unwrap(), is_found)
}

fn config(profile: &str) -> String {
    format!(
        r#"{{"ociVersion": "1.0.2", "linux": {{ "seccomp" : {profile}, "cgroupsPath": "/a"}}, "hostname": "x"}}"#
    )
}

fn text(profile: &LinuxSeccomp) -> String {
    serde_json::to_string(profile).unwrap()
}

fn compiled(profile: &LinuxSeccomp) -> Filter {
    compile(profile, Arch::NATIVE).unwrap()
}

fn denying(errno: u32) -> LinuxSeccomp {
    profile(Action::ScmpActAllow, &[], vec![rule(&["getppid"], Action::ScmpActErrno, Some(errno), vec![])])
}

#[test]
fn the_second_of_a_text_is_found_and_the_same() {
    let mut cache = Cache::new();
    let config = config(&text(&denying(7)));
    let (first, was_found) = filter(&mut cache, &config);
    assert!(!was_found);
    let (second, is_found) = filter(&mut cache, &config);
    assert!(is_found);
    assert!(Rc::ptr_eq(&first.unwrap(), second.as_ref().unwrap()));
    assert_eq!(*second.unwrap(), compiled(&denying(7)));
    let (spec, ..) = read(config.as_bytes(), &mut cache, parse).unwrap();
    let mut whole: Box<Spec> = serde_json::from_str(&config).unwrap();
    whole.linux_mut().as_mut().unwrap().set_seccomp(None);
    assert_eq!(spec, whole, "all the rest is as it is");
}

#[test]
fn any_profile_has_the_filter_that_it_has_alone() {
    let mut cache = Cache::new();
    for (profile, _) in random_profiles(Style::Any, 60) {
        let Ok(alone) = compile(&profile, Arch::NATIVE) else { continue };
        let config = config(&text(&profile));
        for _ in 0..2 {
            assert_eq!(*filter(&mut cache, &config).0.unwrap(), alone, "{config}");
        }
    }
}

#[test]
fn a_text_that_stands_elsewhere_is_no_profile() {
    let (strict, loose) = (text(&denying(7)), text(&denying(1)));
    let mut cache = Cache::new();
    filter(&mut cache, &config(&strict));
    let elsewhere = format!(r#"{{"ociVersion": "1.0.2", "other": {{"seccomp": {strict}}}, "linux": {{}}}}"#);
    assert_eq!(filter(&mut cache, &elsewhere), (None, false));
    // The real one is spelled with an escape.
    let hidden = format!(
        r#"{{"ociVersion": "1.0.2", "other": {{"seccomp": {strict}}}, "linux": {{"\u0073eccomp": {loose}}}}}"#
    );
    assert_eq!(*filter(&mut cache, &hidden).0.unwrap(), compiled(&denying(1)));
    // So is one that says what takes a profile's place meanwhile, which is refused, since it has no path of a listener.
    let stand_in = r#"{"defaultAction":"SCMP_ACT_KILL_PROCESS","listenerMetadata":"set aside"}"#;
    for name in ["\\u0073eccomp", "secco\\u006dp", "secc\\u006Fmp"] {
        let sly = hidden.replace("\\u0073eccomp", name).replace(&loose, stand_in);
        let (spec, (), known) = read(sly.as_bytes(), &mut cache, parse).unwrap();
        assert!(cache.filter(&spec, &known).is_err(), "{sly}");
    }
    let named = config(&strict).replace("\"x\"", "\"seccomp\"");
    assert!(!filter(&mut cache, &named).1, "which of two it is nobody looks for");
}

#[test]
fn nobody_keeps_a_filter_under_the_text_of_another() {
    let (strict, loose) = (text(&denying(7)), text(&denying(1)));
    let mut cache = Cache::new();
    let hidden = format!(
        r#"{{"ociVersion": "1.0.2", "other": {{"seccomp": {strict}}}, "linux": {{"\u0073eccomp": {loose}}}}}"#
    );
    for _ in 0..2 {
        assert_eq!(*filter(&mut cache, &hidden).0.unwrap(), compiled(&denying(1)));
    }
    assert_eq!(filter(&mut cache, &config(&strict)), (Some(Rc::new(compiled(&denying(7)))), false));
}

#[test]
fn profiles_that_others_take_part_in_stay_in_the_specification() {
    let mut cache = Cache::new();
    let listened = r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/a", "syscalls": [{"names": ["chdir"], "action": "SCMP_ACT_NOTIFY"}]}"#;
    for _ in 0..2 {
        let (spec, (), known) = read(config(listened).as_bytes(), &mut cache, parse).unwrap();
        assert!(matches!(known, KnownFilter::Nothing));
        assert!(cache.filter(&spec, &known).unwrap().unwrap().needs_listener());
    }
}

#[test]
fn what_is_wrong_is_told_as_of_the_whole() {
    let sound = config(&text(&denying(7)));
    for broken in [
        config("{"),
        config("7"),
        config(r#"{"defaultAction": "SCMP_ACT_NONE"}"#),
        sound.replace("\"hostname\"", "hostname"),
        sound.replace("1.0.2\"", "1.0.2"),
        sound.replace("\"linux\"", "\"ociVersion\""),
    ] {
        let told = read(broken.as_bytes(), &mut Cache::new(), parse).map(drop).unwrap_err().to_string();
        assert_eq!(told, parse(broken.as_bytes()).unwrap_err().to_string(), "{broken}");
        let mut cache = Cache::new();
        filter(&mut cache, &sound);
        let told = read(broken.as_bytes(), &mut cache, parse).map(drop).unwrap_err().to_string();
        assert_eq!(told, parse(broken.as_bytes()).unwrap_err().to_string(), "{broken}");
    }
    let without = r#"{"ociVersion": "1.0.2", "linux": {"seccomp": null}}"#;
    assert_eq!(filter(&mut Cache::new(), without), (None, false));
}
