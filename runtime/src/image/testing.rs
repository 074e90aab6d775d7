//! What tests of this folder share.

/// Runs an ignored test, named by its path below `image::`, in a mount namespace of its own; prints why
/// where that cannot be.
pub(super) fn in_mount_namespace(test: &str) {
    let output = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("image::{test}"), "--ignored"])
        .output()
        .unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if text.contains("unshare failed") {
        println!("skipped: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
