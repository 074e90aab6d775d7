//! `process.apparmorProfile`, where AppArmor is on: the test machine (`make test-vm`), and most distributions.

use std::fs;
use std::process::Command;
use std::time::Duration;

use hull_tests::command;
use serde_json::json;

use crate::bundle::Bundle;

/// How long the parser may take, also in an emulated machine.
const SOON: Duration = Duration::from_secs(60);

/// A profile of this case alone, in the kernel as long as this lives.
struct Profile {
    name: String,
    file: std::path::PathBuf,
}

/// Whether the kernel has AppArmor, and it is on.
fn is_on() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'))
}

fn parser(option: &str, file: &std::path::Path) -> hull_tests::Output {
    command::run(Command::new("apparmor_parser").args(["--skip-cache", option]).arg(file), "", SOON)
}

impl Profile {
    /// Loads one that allows everything but what is below `/work/hidden`.
    #[track_caller]
    fn load(bundle: &Bundle) -> Self {
        let name = format!("hull-{}", bundle.id);
        let file = bundle.path("profile");
        let rules = "file, capability, network, signal, ptrace, mount, umount, pivot_root, unix,";
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n{rules}\ndeny /work/hidden/** rw,\n}}\n"
        );
        fs::write(&file, text).unwrap();
        parser("--replace", &file).ok();
        Self { name, file }
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        // Harmless where it could not be loaded.
        parser("--remove", &self.file);
    }
}

/// A bundle with a file that the profile hides and one that it does not.
fn bundle() -> Result<Bundle, String> {
    let bundle = Bundle::new()?;
    fs::create_dir(bundle.path("rootfs/work/hidden")).unwrap();
    fs::write(bundle.path("rootfs/work/hidden/file"), "hidden").unwrap();
    fs::write(bundle.path("rootfs/work/file"), "plain").unwrap();
    Ok(bundle)
}

#[test]
fn a_container_and_what_is_executed_in_it_are_confined_by_its_profile() {
    if !is_on() {
        return println!("left out: AppArmor is off");
    }
    let mut bundle = match bundle() {
        Ok(bundle) => bundle,
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    let profile = Profile::load(&bundle);
    let look = "cat /proc/self/attr/current /work/file; cat /work/hidden/file && echo read it";
    bundle.script(&format!("{look}; exec sleep 1000"));
    bundle.configure(|config| config["process"]["apparmorProfile"] = json!(profile.name));
    bundle.up();
    let wanted = format!("{} (enforce)\nplain", profile.name);
    bundle.shows("stdout", &wanted);
    bundle.shows("stderr", "can't open '/work/hidden/file': Permission denied");
    // One that is executed has the container's, although nobody says so.
    let inside = bundle.exec(&["sh", "-c", look]);
    assert_eq!(inside.stdout, wanted);
    assert!(inside.stderr.contains("Permission denied"), "{}", inside.stderr);
    bundle.delete();
}

#[test]
fn a_command_may_have_a_profile_of_its_own() {
    if !is_on() {
        return println!("left out: AppArmor is off");
    }
    let bundle = match bundle() {
        Ok(bundle) => bundle,
        Err(reason) => hull_tests::skip!("{reason}"),
    };
    let profile = Profile::load(&bundle);
    bundle.up();
    let look = ["/bin/cat", "/proc/self/attr/current"];
    assert!(bundle.exec(&look).ok().starts_with("unconfined"));
    let confined = bundle.oci(&[&["exec", "--apparmor", &profile.name, &bundle.id], &look[..]].concat());
    assert_eq!(confined.ok().trim(), format!("{} (enforce)", profile.name));
    bundle.delete();
}

#[test]
fn a_profile_that_is_not_loaded_is_told_by_its_name() {
    if !is_on() {
        return println!("left out: AppArmor is off");
    }
    let mut bundle = bundle!();
    bundle.configure(|config| config["process"]["apparmorProfile"] = json!("hull-of-nobody"));
    let told = bundle.detached(&["create", &bundle.id]).fails(1);
    assert!(told.contains("apparmor") && told.contains("hull-of-nobody"), "{told}");
    bundle.assert_gone();
    // Nor is it left out for a command.
    bundle.configure(|config| config["process"]["apparmorProfile"] = json!(""));
    bundle.up();
    let told = bundle.oci(&["exec", "--apparmor", "hull-of-nobody", &bundle.id, "/bin/true"]);
    assert!(!told.status.success() && told.stderr.contains("hull-of-nobody"), "{}", told.stderr);
}
