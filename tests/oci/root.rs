//! The root file system, masked and read-only paths, and fields that nobody knows (oci-runtime.md 4.1, 4.8), as the container
//! sees them.

use std::fs;

use serde_json::{Value, json};

use crate::mounts::{add, run, shown};

#[test]
fn a_root_that_is_read_only_has_mounts_that_are_not() {
    let mut bundle = bundle!();
    bundle.script("(echo > /new) 2>/dev/null || echo closed; : > /work/new && : > /dev/shm/new && echo open");
    bundle.configure(|config| config["root"]["readonly"] = json!(true));
    add(&mut bundle, json!({"destination": "/work", "type": "tmpfs", "source": "x"}));
    assert_eq!(run(&bundle), "closed\nopen\n");
}

#[test]
fn a_root_may_be_named_by_an_absolute_path_and_has_to_be_a_directory() {
    let mut bundle = bundle!();
    let path = bundle.path("rootfs");
    bundle.args(&["/bin/echo", "in"]).configure(|config| config["root"]["path"] = json!(path));
    assert_eq!(run(&bundle), "in\n");
    fs::write(bundle.path("file"), "").unwrap();
    bundle.configure(|config| config["root"]["path"] = json!("file"));
    bundle.detached(&["create", &bundle.id]).fails(1);
    bundle.assert_gone();
}

#[test]
fn fields_and_annotations_that_nobody_knows_are_ignored() {
    let mut bundle = bundle!();
    bundle.args(&["/bin/echo", "in"]).configure(|config| {
        config["future"] = json!({"a": 1});
        config["process"]["future"] = json!([1]);
        config["linux"]["future"] = json!("x");
        config["linux"]["resources"]["future"] = json!({});
        config["mounts"][0]["future"] = json!(true);
        config["annotations"] = json!({"org.example.unknown": "1", "org.opencontainers.image.os": "linux"});
    });
    assert_eq!(run(&bundle), "in\n");
}

#[test]
fn a_value_that_is_none_of_its_field_is_an_error() {
    let changes: [fn(&mut Value); 7] = [
        |config| config["process"]["args"] = json!("sh"),
        |config| config["root"]["readonly"] = json!("yes"),
        |config| config["process"]["user"]["uid"] = json!(-1),
        |config| config["mounts"][0]["options"] = json!("ro"),
        |config| config["linux"]["namespaces"][0]["type"] = json!("nonesuch"),
        |config| config["linux"]["resources"]["memory"] = json!({"limit": "64m"}),
        |config| config["linux"]["rootfsPropagation"] = json!("nonesuch"),
    ];
    for change in changes {
        let mut bundle = bundle!();
        bundle.configure(change);
        let output = bundle.detached(&["create", &bundle.id]);
        assert_eq!(output.status.code(), Some(1), "{} {output}", bundle.read("config.json"));
        bundle.assert_gone();
    }
}

#[test]
fn a_masked_directory_is_empty_and_a_masked_file_too() {
    let mut bundle = bundle!();
    let hidden = bundle.path("rootfs/hidden");
    fs::create_dir(&hidden).unwrap();
    fs::write(hidden.join("file"), "hidden").unwrap();
    fs::write(bundle.path("rootfs/secret"), "hidden").unwrap();
    bundle.configure(|config| {
        config["linux"]["maskedPaths"] = json!(["/hidden", "/secret", "/nonesuch", "/proc/keys"]);
    });
    bundle.script(
        "ls -A /hidden; cat /secret /proc/keys; (: > /hidden/new) 2>/dev/null || echo closed; echo x > /secret; cat /secret
         test -e /nonesuch || echo none",
    );
    assert_eq!(run(&bundle), "closed\nnone\n");
    assert_eq!(fs::metadata(bundle.path("rootfs/secret")).unwrap().len(), 6);
}

#[test]
fn a_path_is_read_only_with_all_below_it_unless_it_is_not_there() {
    let mut bundle = bundle!();
    fs::create_dir_all(bundle.path("rootfs/closed/below")).unwrap();
    fs::write(bundle.path("rootfs/closed/file"), "").unwrap();
    add(
        &mut bundle,
        json!({"destination": "/closed/tmpfs", "type": "tmpfs", "source": "x", "options": ["nosuid"]}),
    );
    bundle.configure(|config| {
        config["linux"]["readonlyPaths"] = json!(["/closed", "/nonesuch", "/proc/sys", "/work"]);
        // Of both, the mask is over the other.
        config["linux"]["maskedPaths"] = json!(["/closed/below", "/work"]);
    });
    bundle.script(
        "for each in /closed/file /closed/new /closed/below/new /proc/sys/kernel/domainname /work/new; do
             (echo x > $each) 2>/dev/null && echo $each
         done; ls -A /closed/below /work; cat /proc/self/mountinfo",
    );
    let seen = run(&bundle);
    assert!(seen.starts_with("/closed/below:\n\n/work:\n"), "{seen}");
    assert!(shown(&seen, "/closed").attributes.contains(&"ro".to_owned()), "{seen}");
    // What is mounted below keeps what it had.
    assert!(shown(&seen, "/closed/tmpfs").attributes.contains(&"nosuid".to_owned()), "{seen}");
}
