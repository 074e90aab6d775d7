//! Images: what is imported, from which kinds of archive, and what a hostile one cannot do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hull_tests::{Host, binaries, skip};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: uses}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: busybox, imagePullPolicy: Never, command: [sleep, '1000']}
";

fn empty_host() -> Result<(Host, PathBuf), String> {
    let archives = binaries::image_archives()?;
    let busybox = archives.into_iter().find(|path| path.ends_with("busybox.tar"));
    Ok((Host::without_images()?, busybox.ok_or("there is no busybox.tar")?))
}

fn import(host: &Host, path: &Path) -> hull_tests::Output {
    host.hull(&["image", "import", &path.to_string_lossy()])
}

#[test]
fn an_image_is_imported_shown_kept_while_used_and_removed() {
    let (host, archive) = match empty_host() {
        Ok(both) => both,
        Err(reason) => skip!("{reason}"),
    };
    assert_eq!(import(&host, &archive).ok(), "Loaded image: busybox:latest\n");
    let list = host.hull(&["image", "ls"]).ok();
    assert!(list.starts_with("REPOSITORY"), "{list}");
    assert!(list.lines().any(|line| line.contains("busybox") && line.contains("latest")), "{list}");
    let details = host.hull(&["image", "inspect", "busybox"]).ok();
    assert!(details.ends_with("]\n"), "{details}");
    let details: serde_json::Value = serde_json::from_str(&details).unwrap();
    assert!(details.to_string().contains("\"Cmd\":[\"sh\"]"), "{details:#}");

    host.apply_ready(POD);
    // Its layers stay for what runs on them; only the name goes.
    let removed = host.hull(&["image", "rm", "busybox"]).ok();
    assert!(removed.starts_with("Untagged: busybox:latest\nDeleted: sha256:"), "{removed}");
    assert!(host.exec("uses", &["cat", "/etc/passwd"]).ok().starts_with("root:x:0:0"));
    host.hull(&["delete", "pod", "uses", "--now"]).ok();
    assert_eq!(host.hull(&["image", "ls"]).ok().lines().count(), 1);
    let missing = host.hull(&["image", "inspect", "busybox"]).fails(1);
    assert!(missing.contains("busybox"), "{missing}");
    host.assert_clean();
}

#[test]
fn docker_archives_and_layouts_are_imported_too() {
    let (host, archive) = match empty_host() {
        Ok(both) => both,
        Err(reason) => skip!("{reason}"),
    };
    if Command::new("skopeo").arg("--version").output().is_err() {
        skip!("needs skopeo");
    }
    let directory = host.root().join("made");
    fs::create_dir(&directory).unwrap();
    let source = format!("oci-archive:{}", archive.display());
    let docker = directory.join("docker.tar");
    let layout = directory.join("layout");
    for target in [
        format!("docker-archive:{}:example.test/docker:1", docker.display()),
        format!("oci:{}:example.test/layout:2", layout.display()),
    ] {
        let output = Command::new("skopeo")
            .args(["copy", "--insecure-policy", "--tmpdir"])
            .arg(&directory)
            .args([&source, &target])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(import(&host, &docker).ok().contains("example.test/docker:1"));
    assert!(import(&host, &layout).ok().contains("example.test/layout:2"));
    for image in ["example.test/docker:1", "example.test/layout:2"] {
        let name = image.rsplit('/').next().unwrap().split(':').next().unwrap();
        host.apply_ready(&POD.replace("image: busybox", &format!("image: '{image}'")).replace("uses", name));
        assert_eq!(host.exec(name, &["echo", "runs"]).ok(), "runs\n");
    }
    host.leave_nothing();
}

/// The bytes of a docker archive whose only layer is `layer`.
fn docker_archive(path: &Path, layer: &[u8]) {
    let digest = {
        use sha2::Digest;
        sha2::Sha256::digest(layer).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    };
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": ["example.test/hostile:1"], "Layers": ["layer.tar"]}
    ]);
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in [
        ("config.json", config.to_string().into_bytes()),
        ("layer.tar", layer.to_vec()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.finish().unwrap();
}

/// An entry whose name is not looked at by the library that writes it.
fn entry(kind: tar::EntryType, name: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn a_hostile_archive_writes_nothing_outside() {
    let (host, _) = match empty_host() {
        Ok(both) => both,
        Err(reason) => skip!("{reason}"),
    };
    let target = host.root().join("target");
    fs::create_dir(&target).unwrap();
    let victim = target.join("owned");
    let (inside, up) = (victim.to_string_lossy().into_owned(), "../".repeat(16));
    let through = target.to_string_lossy().into_owned();
    let attacks: [Vec<Vec<u8>>; 4] = [
        vec![entry(tar::EntryType::Regular, &format!("{up}{inside}"), "", b"x")],
        vec![entry(tar::EntryType::Regular, &inside, "", b"x")],
        vec![
            entry(tar::EntryType::Symlink, "way", &through, b""),
            entry(tar::EntryType::Regular, "way/owned", "", b"x"),
        ],
        vec![
            entry(tar::EntryType::Symlink, "way", &format!("{up}{through}"), b""),
            entry(tar::EntryType::Link, "way/owned", "/etc/hostname", b""),
        ],
    ];
    for (index, mut attack) in attacks.into_iter().enumerate() {
        attack.push(vec![0; 1024]);
        let path = host.root().join(format!("hostile{index}.tar"));
        docker_archive(&path, &attack.concat());
        // Whether it is refused or kept inside: nothing comes about where it points to.
        let output = import(&host, &path);
        assert!(output.status.code().is_some_and(|code| code < 2), "{output}");
        assert!(fs::symlink_metadata(&victim).is_err(), "attack {index}: {output}");
    }
    let text = fs::read_to_string(binaries::repository().join("Cargo.toml")).unwrap();
    let wrong = host.root().join("wrong.tar");
    fs::write(&wrong, text).unwrap();
    assert!(import(&host, &wrong).fails(1).contains("wrong.tar"));
    host.assert_clean();
}
