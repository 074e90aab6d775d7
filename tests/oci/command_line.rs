//! Flags, help, versions, `features`, `spec` and the log (oci-runtime.md 2.1, 2.5, 2.6, 9).

use serde_json::Value;

use crate::bundle::is_peer;

const VERBS: [&str; 17] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

#[test]
fn help_of_everything_ends_with_success() {
    let bundle = bundle!();
    for flag in ["--help", "-h", "help"] {
        assert!(bundle.oci(&[flag]).ok().contains("COMMANDS"), "{flag}");
    }
    for verb in VERBS {
        assert!(bundle.oci(&[verb, "--help"]).ok().contains(verb), "{verb}");
        assert!(bundle.oci(&[verb, "-h"]).ok().contains(verb), "{verb}");
    }
}

#[test]
fn the_version_is_told_line_by_line() {
    let bundle = bundle!();
    for flag in ["--version", "-v"] {
        let text = bundle.oci(&[flag]).ok();
        assert!(text.starts_with("runc version ") && text.contains("\nspec: 1."), "{text}");
    }
}

#[test]
fn a_wrong_number_of_arguments_is_told() {
    let bundle = bundle!();
    for line in [&["state"][..], &["state", "a", "b"], &["create"], &["kill"], &["list", "x"], &["exec"]] {
        let told = bundle.oci(line).fails(1);
        assert!(told.contains("requires") && told.contains("argument"), "{told}");
    }
}

#[test]
fn unknown_flags_and_missing_values_are_told() {
    let bundle = bundle!();
    assert!(
        bundle.oci(&["list", "--nonesuch"]).fails(1).contains("flag provided but not defined: -nonesuch")
    );
    // podman looks for this text to learn whether the flag is there.
    let told = bundle.oci(&["restore", "--lsm-mount-context"]);
    assert!(format!("{told}").contains("flag needs an argument"), "{told}");
}

#[test]
fn the_root_directory_of_the_host_is_no_place_for_state() {
    if is_peer() {
        // runc 1.1 takes it.
        return;
    }
    let bundle = bundle!();
    let told = bundle.oci(&["--root", "/", "list"]).fails(1);
    assert!(told.contains("Option --root argument should not be set to /"), "{told}");
}

#[test]
fn an_error_is_one_line_of_the_log_and_plain_on_standard_error() {
    let bundle = bundle!();
    let (file, path) = (bundle.path("log"), bundle.path("log").display().to_string());
    let told = bundle.oci(&["--log", &path, "--log-format", "json", "state", "nonesuch"]).fails(1);
    assert_eq!(told, "container does not exist\n");
    let log = std::fs::read_to_string(&file).unwrap();
    let entry: Value = serde_json::from_str(&log).unwrap();
    assert_eq!((&entry["level"], &entry["msg"]), (&"error".into(), &"container does not exist".into()));
    assert!(entry["time"].as_str().unwrap().contains('T'));
    bundle.oci(&["--log", &path, "--log-format", "json", "state", "nonesuch"]).fails(1);
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
}

#[test]
fn without_a_log_file_the_entry_goes_to_standard_error_as_text() {
    let bundle = bundle!();
    let told = bundle.oci(&["state", "nonesuch"]).fails(1);
    assert!(told.contains("level=error msg=\"container does not exist\""), "{told}");
}

#[test]
fn an_unknown_format_of_the_log_is_refused() {
    let bundle = bundle!();
    let told = bundle.oci(&["--log-format", "xml", "list"]).fails(1);
    // runc 1.1 says `unknown log-format "xml"`, 1.2 and later what is asked for here.
    assert!(told.contains(if is_peer() { "log-format" } else { "invalid log-format: xml" }), "{told}");
}

#[test]
fn features_name_what_callers_look_for() {
    let bundle = bundle!();
    let features: Value = serde_json::from_str(&bundle.oci(&["features"]).ok()).unwrap();
    for key in ["ociVersionMin", "ociVersionMax"] {
        assert!(features[key].as_str().is_some_and(|text| !text.is_empty()), "{key}");
    }
    let has =
        |list: &Value, wanted: &str| list.as_array().is_some_and(|all| all.iter().any(|one| one == wanted));
    assert!(has(&features["mountOptions"], "rro") && has(&features["hooks"], "poststop"));
    assert!(has(&features["linux"]["seccomp"]["actions"], "SCMP_ACT_ERRNO"));
    assert!(has(&features["linux"]["capabilities"], "CAP_SYS_ADMIN"));
    if !is_peer() {
        // runc 1.1 does not tell of it.
        assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    }
}

#[test]
fn spec_writes_a_configuration_once() {
    let bundle = bundle!();
    let place = bundle.path("new");
    std::fs::create_dir(&place).unwrap();
    let path = place.display().to_string();
    bundle.oci(&["spec", "--bundle", &path]).ok();
    let spec: Value =
        serde_json::from_str(&std::fs::read_to_string(place.join("config.json")).unwrap()).unwrap();
    assert_eq!(spec["process"]["args"], serde_json::json!(["sh"]));
    assert_eq!(spec["root"], serde_json::json!({"path": "rootfs", "readonly": true}));
    let told = bundle.oci(&["spec", "-b", &path]).fails(1);
    assert!(told.contains("File config.json exists. Remove it first"), "{told}");
}

#[test]
fn spec_for_an_ordinary_user_has_a_user_namespace() {
    let bundle = bundle!();
    let place = bundle.path("new");
    std::fs::create_dir(&place).unwrap();
    bundle.oci(&["spec", "--rootless", "-b", &place.display().to_string()]).ok();
    let text = std::fs::read_to_string(place.join("config.json")).unwrap();
    let spec: Value = serde_json::from_str(&text).unwrap();
    let kinds: Vec<&Value> =
        spec["linux"]["namespaces"].as_array().unwrap().iter().map(|one| &one["type"]).collect();
    assert!(kinds.contains(&&"user".into()) && !kinds.contains(&&"network".into()), "{kinds:?}");
    assert_eq!(spec["linux"]["uidMappings"][0]["size"], 1);
}

#[test]
fn an_unknown_capability_is_a_warning_that_only_debugging_shows() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/true"]).configure(|config| {
        let set = config["process"]["capabilities"]["bounding"].as_array_mut().unwrap();
        set.push("CAP_FUTURE".into());
    });
    let log = bundle.path("log.json").display().to_string();
    let flags = ["--log", &log, "--log-format", "json"];
    let run = |more: &[&str]| bundle.oci(&[&flags[..], more, &["run", &bundle.id]].concat()).ok();
    run(&[]);
    if !crate::bundle::is_peer() {
        // podman reads the whole file as one JSON object; runc would spoil it.
        assert_eq!(bundle.read("log.json"), "");
    }
    run(&["--debug"]);
    let text = bundle.read("log.json");
    assert!(text.contains("CAP_FUTURE") && text.contains("\"level\":\"warning\""), "{text}");
}
