//! Descriptors of the host that leak into a container, and working directories that lead there (CVE-2024-21626).

use std::process::Command;

use serde_json::json;

use crate::bundle::Bundle;

/// A runtime whose caller left descriptors 3 to 9 of a directory of the host open.
fn leaky(bundle: &Bundle, args: &[&str]) -> Command {
    let runtime = bundle.command(args);
    let script = "exec 3<host 4<host 5<host 6<host 7<host 8<host 9<host; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(runtime.get_program()).args(runtime.get_args());
    command.current_dir(&bundle.directory);
    for (name, value) in runtime.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

fn host(bundle: &Bundle) {
    bundle.host_directory();
    std::fs::write(bundle.path("host/secret"), "the host's").unwrap();
}

#[test]
fn descriptors_of_the_caller_do_not_reach_a_container() {
    let mut bundle = target!();
    host(&bundle);
    bundle.args(&["/bin/ls", "/proc/self/fd"]);
    // The one more is that of the directory which ls reads.
    let seen = |bundle: &Bundle| bundle.to_files(leaky(bundle, &["run", &bundle.id])).ok().replace('\n', " ");
    assert_eq!(seen(&bundle), "0 1 2 3 ");
    if bundle.go_without("closed") {
        assert!(seen(&bundle).contains("3 4 5 6 7 8 9"));
    }
    bundle.go_without("");
    bundle.args(&["/bin/sleep", "1000"]).up();
    let exec = |bundle: &Bundle| {
        bundle.to_files(leaky(bundle, &["exec", &bundle.id, "ls", "/proc/self/fd"])).ok().replace('\n', " ")
    };
    assert_eq!(exec(&bundle), "0 1 2 3 ");
    if bundle.go_without("closed") {
        assert!(exec(&bundle).contains("3 4 5 6 7 8 9"));
    }
}

#[test]
fn a_working_directory_behind_a_descriptor_is_refused_by_create_and_run() {
    let mut bundle = target!();
    host(&bundle);
    bundle.args(&["/bin/cat", "secret"]);
    let run = |bundle: &Bundle| {
        let output = bundle.to_files(leaky(bundle, &["run", &bundle.id]));
        drop(bundle.oci(&["delete", "--force", &bundle.id]));
        output
    };
    for number in 3..16 {
        bundle.configure(|config| config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}")));
        assert!(!run(&bundle).status.success(), "descriptor {number}");
        let created = bundle.to_files(leaky(&bundle, &["create", &bundle.id]));
        assert!(!(created.status.success() && bundle.oci(&["start", &bundle.id]).status.success()));
        bundle.delete();
    }
    bundle.configure(|config| config["process"]["cwd"] = json!("/proc/self/fd/7"));
    // Each of the two guards is enough.
    for guards in ["closed", "inside"] {
        if bundle.go_without(guards) {
            assert!(!run(&bundle).status.success(), "{guards}");
        }
    }
    if bundle.go_without("closed,inside") {
        assert_eq!(run(&bundle).ok(), "the host's");
    }
}

#[test]
fn a_working_directory_behind_a_descriptor_is_refused_by_exec() {
    let mut bundle = target!();
    host(&bundle);
    bundle.up();
    let exec = |bundle: &Bundle, number: u32| {
        let directory = format!("/proc/self/fd/{number}");
        bundle.to_files(leaky(bundle, &["exec", "--cwd", &directory, &bundle.id, "cat", "secret"]))
    };
    for number in 3..16 {
        assert!(!exec(&bundle, number).status.success(), "descriptor {number}");
    }
    // A link of the image to it is no other.
    bundle.relink("work", "/proc/self/fd/7");
    let line = ["exec", "--cwd", "/work", &bundle.id, "cat", "secret"];
    assert!(!bundle.to_files(leaky(&bundle, &line)).status.success());
    // Each of the two guards is enough, and who goes there has no `/proc/self` in the container.
    for guards in ["closed", "inside", "closed,inside"] {
        if bundle.go_without(guards) {
            assert!(!exec(&bundle, 7).status.success(), "{guards}");
        }
    }
}

#[test]
fn a_working_directory_that_an_image_lacks_is_made_inside_only() {
    let mut bundle = target!();
    let host = bundle.host_directory();
    // Among the runtime's own descriptors is the host's procfs then, whatever its number is.
    bundle.configure(|config| config["process"]["oomScoreAdj"] = json!(100));
    let attack = |bundle: &mut Bundle| {
        for number in 3..64 {
            for way in [format!("..{host}"), format!("1/root{host}")] {
                let directory = format!("/proc/self/fd/{number}/{way}/{number}");
                bundle.configure(|config| config["process"]["cwd"] = json!(directory));
                assert!(!bundle.detached(&["create", &bundle.id]).status.success());
                bundle.relink("work", &format!("/proc/self/fd/{number}/{way}"));
                bundle.configure(|config| config["process"]["cwd"] = json!("/work/made"));
                if bundle.detached(&["create", &bundle.id]).status.success() {
                    bundle.delete();
                }
            }
        }
    };
    attack(&mut bundle);
    assert_eq!(bundle.entries("host"), Vec::<String>::new());
    if bundle.go_without("in-root") {
        attack(&mut bundle);
        assert_ne!(bundle.entries("host"), Vec::<String>::new());
    }
}
