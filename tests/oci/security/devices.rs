//! `/dev/null` of an image (CVE-2025-31133). `/dev` itself is in `places`.

use serde_json::json;

#[test]
fn what_an_image_has_for_the_null_device_masks_nothing() {
    let mut bundle = target!();
    bundle.relink("dev/null", "/proc/sys/kernel/domainname");
    bundle.keep_mounts(&["/proc"]);
    bundle.configure(|config| {
        config["linux"]["maskedPaths"] = json!(["/proc/keys"]);
        config["linux"]["readonlyPaths"] = json!([]);
    });
    bundle.script("echo written > /proc/keys; cat /proc/sys/kernel/domainname");
    bundle.oci(&["run", &bundle.id]).fails(1);
    // Were it accepted as a device, masks would still be made of the runtime's own.
    if bundle.go_without("null") {
        assert!(!bundle.oci(&["run", &bundle.id]).ok().contains("written"));
        bundle.go_without("null,own-null");
        assert_eq!(bundle.oci(&["run", &bundle.id]).ok(), "written\n");
    }
}

#[test]
fn a_runtime_without_a_null_device_makes_nothing() {
    let mut bundle = target!();
    bundle.host_directory();
    std::fs::write(bundle.path("host/open"), "shown").unwrap();
    bundle.configure(|config| config["linux"]["maskedPaths"] = json!(["/proc/keys"]));
    bundle.args(&["/bin/grep", "shown", "/proc/keys"]);
    let run = |bundle: &crate::bundle::Bundle| {
        let runtime = bundle.command(&["run", &bundle.id]);
        let mut command = std::process::Command::new("unshare");
        let script = "mount --bind host/open /dev/null && exec \"$@\"";
        command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.arg(runtime.get_program()).args(runtime.get_args()).current_dir(&bundle.directory);
        command.envs(runtime.get_envs().filter_map(|(name, value)| Some((name, value?))));
        bundle.to_files(command)
    };
    assert!(!run(&bundle).status.success());
    if bundle.go_without("null") {
        assert_eq!(run(&bundle).ok(), "shown\n");
    }
}
