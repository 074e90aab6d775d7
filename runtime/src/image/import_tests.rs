//! Imports of archives made here, of archives made by skopeo and umoci where they are installed, and of archives
//! that are not what they say.

use std::io::Write as _;
use std::process::Command;

use hull_shim::layout::Layout;

use super::*;
use crate::image::document::{DOCKER_INDEX, OCI_INDEX};
use crate::image::{ImageConfig, verbs};

/// A store of its own, and a place for sources.
struct Bench {
    dir: tempfile::TempDir,
    layout: Layout,
    store: Store,
}

/// An uncompressed layer, and how to pack it.
type Packed = (Vec<u8>, fn(&[u8]) -> Vec<u8>);

/// An OCI layout under construction: files by name.
#[derive(Default, Clone)]
struct Oci {
    files: BTreeMap<String, Vec<u8>>,
    manifests: Vec<serde_json::Value>,
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

impl Oci {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> serde_json::Value {
        let digest = Digest::of(bytes);
        self.files.insert(digest.blob_path(), bytes.to_vec());
        serde_json::json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    /// Adds an image of these uncompressed layers, packed as told.
    fn image(&mut self, architecture: &str, layers: &[Packed]) -> serde_json::Value {
        let diff_ids: Vec<_> = layers.iter().map(|(tar, _)| Digest::of(tar).to_string()).collect();
        let layers: Vec<_> =
            layers.iter().map(|(tar, pack)| self.blob(&format!("{OCI_LAYER}+gzip"), &pack(tar))).collect();
        let config = serde_json::json!({
            "os": "linux", "architecture": architecture, "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["/bin/true"], "Env": ["A=b"], "StopSignal": "SIGQUIT", "User": null},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(OCI_CONFIG, config.to_string().as_bytes());
        let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.blob(OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    fn named(mut self, mut descriptor: serde_json::Value, annotations: &[(&str, &str)]) -> Self {
        let annotations: BTreeMap<_, _> = annotations.iter().copied().collect();
        descriptor["annotations"] = serde_json::to_value(annotations).unwrap();
        self.manifests.push(descriptor);
        self
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        let index = serde_json::json!({"schemaVersion": 2, "manifests": self.manifests});
        files.insert("index.json".into(), index.to_string().into_bytes());
        files
    }

    fn tar(&self) -> Vec<u8> {
        let files = self.all();
        tar_of(&files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect::<Vec<_>>())
    }

    fn directory(&self, path: &Path) {
        for (name, data) in self.all() {
            let path = path.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, data).unwrap();
        }
    }

    /// A layout with one image of one small layer.
    fn simple(name: &str, content: &str) -> Self {
        let mut oci = Self::default();
        let image = oci.image(&host(), &[(tar_of(&[("file", content.as_bytes())]), gzip)]);
        oci.named(image, &[("org.opencontainers.image.ref.name", name)])
    }
}

fn host() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "amd64".into(),
        "aarch64" => "arm64".into(),
        other => other.into(),
    }
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(dir.path().join("root")));
        Self { store: Store::open(&layout), layout, dir }
    }

    fn import(&self, bytes: &[u8]) -> Result<Vec<Image>, Error> {
        self.store.import(Source::Stream(&mut &bytes[..]), None)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is left in the store's folders.
    fn count(&self, part: &str) -> usize {
        std::fs::read_dir(self.store.root().join(part)).map_or(0, Iterator::count)
    }
}

fn read(image: &Image, layer: usize, name: &str) -> String {
    std::fs::read_to_string(image.layers[layer].join(name)).unwrap()
}

#[test]
fn an_oci_archive_comes_back_as_it_went_in_however_it_is_packed() {
    let mut oci = Oci::default();
    let layers = [
        (tar_of(&[("a", b"1"), ("b", b"1")]), gzip as fn(&[u8]) -> Vec<u8>),
        (tar_of(&[("b", b"2")]), zstandard),
        (tar_of(&[("c", b"3")]), <[u8]>::to_vec),
    ];
    let image = oci.image(&host(), &layers);
    let oci = oci.named(image, &[("org.opencontainers.image.ref.name", "example.com/a:1")]);
    let bench = Bench::new();
    oci.directory(&bench.path("layout"));
    for bytes in [oci.tar(), gzip(&oci.tar()), zstandard(&oci.tar())] {
        bench.import(&bytes).unwrap();
    }
    let images = bench.store.import(Source::Path(&bench.path("layout")), None).unwrap();
    assert_eq!(images.len(), 1);
    let image = bench.store.resolve("example.com/a:1").unwrap().unwrap();
    assert_eq!(image, images[0]);
    assert_eq!(
        (read(&image, 0, "b"), read(&image, 1, "b"), read(&image, 2, "c")),
        ("1".into(), "2".into(), "3".into())
    );
    let expected = ImageConfig {
        cmd: vec!["/bin/true".into()],
        env: vec!["A=b".into()],
        stop_signal: "SIGQUIT".into(),
        ..ImageConfig::default()
    };
    assert_eq!(image.config, expected);
    assert_eq!(image.names, ["example.com/a:1"]);
    for wanted in [&image.id, &image.digest, &image.id[7..19], &format!("example.com/a@{}", image.digest)] {
        assert_eq!(
            bench.store.resolve(wanted).unwrap().as_ref().map(|found| &found.id),
            Some(&image.id),
            "{wanted}"
        );
    }
    assert_eq!(bench.store.resolve("example.com/a:2").unwrap(), None);
    assert_eq!((bench.count("layers"), bench.count("blobs/sha256")), (3, 5));
}

#[test]
fn a_docker_archive_becomes_an_oci_image() {
    let layer = tar_of(&[("file", b"docker")]);
    let diff_id = Digest::of(&layer).to_string();
    let config = serde_json::json!({"os": "linux", "architecture": host(), "rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]}});
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": ["nginx:1", "docker.io/library/nginx:2"], "Layers": ["x/layer.tar", "y/layer.tar"]}]);
    let mut builder = tar::Builder::new(tar_of(&[
        ("x/layer.tar", &layer),
        ("c.json", config.to_string().as_bytes()),
        ("manifest.json", manifest.to_string().as_bytes()),
        ("repositories", b"{}"),
    ]));
    // `docker save` links layers that are the same. The first archive's end is cut off.
    let length = builder.get_ref().len() - 1024;
    builder.get_mut().truncate(length);
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    builder.append_link(&mut link, "y/layer.tar", "../x/layer.tar").unwrap();
    let bench = Bench::new();
    let images = bench.import(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(images[0].names, ["docker.io/library/nginx:1", "docker.io/library/nginx:2"]);
    assert_eq!(images[0].id, Digest::of(config.to_string().as_bytes()).to_string());
    assert_eq!((images[0].layers.len(), read(&images[0], 1, "file")), (2, "docker".into()));
}

#[test]
fn names_move_and_images_go_with_their_last_name() {
    let bench = Bench::new();
    let first = bench.import(&Oci::simple("a:1", "first").tar()).unwrap().remove(0);
    let named = bench.store.import(Source::Stream(&mut &Oci::simple("a:1", "first").tar()[..]), Some("b"));
    assert_eq!(named.unwrap()[0].names, ["docker.io/library/a:1", "docker.io/library/b:latest"]);
    let second = bench.import(&Oci::simple("a:1", "second").tar()).unwrap().remove(0);
    assert_eq!(bench.store.resolve("a:1").unwrap().unwrap().id, second.id);
    assert_eq!(bench.store.resolve("b").unwrap().unwrap().id, first.id);
    bench.import(&Oci::simple("b:latest", "second").tar()).unwrap();
    let unnamed = bench.store.resolve(&first.id).unwrap().unwrap();
    assert_eq!((unnamed.names.len(), unnamed.reference), (0, first.id.clone()));
    assert_eq!(bench.store.list().unwrap().len(), 2);

    let removed = bench.store.remove(&first.id[7..20]).unwrap();
    assert_eq!((removed.deleted, removed.untagged.len()), (vec![first.id], 0));
    let removed = bench.store.remove("a:1").unwrap();
    assert_eq!((removed.deleted.len(), removed.untagged), (0, vec!["docker.io/library/a:1".to_owned()]));
    assert_eq!(bench.store.remove("b").unwrap().deleted, [second.id]);
    assert!(matches!(bench.store.remove("b"), Err(Error::NoSuchImage(_))));
    assert_eq!((bench.count("layers"), bench.count("blobs/sha256")), (0, 0));
}

#[test]
fn layers_that_an_instance_uses_outlive_their_image() {
    let bench = Bench::new();
    let image = bench.import(&Oci::simple("a:1", "x").tar()).unwrap().remove(0);
    let instance = bench.layout.pod("uid").instance("c", 0);
    std::fs::create_dir_all(&instance).unwrap();
    let layer = image.layers[0].file_name().unwrap().to_str().unwrap();
    let lease = serde_json::json!({"imageId": image.id, "layers": [layer]});
    std::fs::write(instance.join("lease.json"), lease.to_string()).unwrap();
    assert_eq!(bench.store.remove("a:1").unwrap().layers_in_use, 1);
    assert_eq!(read(&image, 0, "file"), "x");
    std::fs::remove_dir_all(instance).unwrap();
    bench.import(&Oci::simple("b:1", "y").tar()).unwrap();
    assert!(!image.layers[0].exists());
}

#[test]
fn the_image_for_this_host_is_chosen() {
    let mut oci = Oci::default();
    let own = oci.image(&host(), &[(tar_of(&[("own", b"")]), gzip)]);
    let mut entries = vec![serde_json::json!({
        "mediaType": OCI_MANIFEST, "digest": format!("sha256:{}", "0".repeat(64)), "size": 1,
        "platform": {"os": "unknown", "architecture": "unknown"},
    })];
    let mut missing = entries[0].clone();
    missing["platform"] = serde_json::json!({"os": "linux", "architecture": "mips"});
    entries.extend([missing, own]);
    entries[2]["platform"] = serde_json::json!({"os": "linux", "architecture": host()});
    let inner = serde_json::json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let inner = oci.blob(DOCKER_INDEX, inner.as_bytes());
    let outer = serde_json::json!({"schemaVersion": 2, "manifests": [inner]}).to_string();
    let outer = oci.blob(OCI_INDEX, outer.as_bytes());
    let bench = Bench::new();
    let images = bench.import(&oci.named(outer, &[("io.containerd.image.name", "a.b/c:d")]).tar()).unwrap();
    assert_eq!(images[0].names, ["a.b/c:d"]);
    assert!(images[0].layers[0].join("own").exists());

    let mut foreign = Oci::default();
    let image = foreign.image("mips", &[]);
    let error = bench.import(&foreign.named(image, &[]).tar()).unwrap_err();
    assert!(error.to_string().ends_with("it has linux/mips"), "{error}");
}

#[test]
fn what_does_not_match_its_digest_or_its_kind_changes_nothing() {
    let good = Oci::simple("a:1", "x");
    let changed = |change: &dyn Fn(&mut Oci)| {
        let mut oci = good.clone();
        change(&mut oci);
        oci.tar()
    };
    let layer = good.files.iter().find(|(_, data)| data.starts_with(&[0x1f, 0x8b])).unwrap().0.clone();
    let both = br#"{"manifests":[],"layers":[],"config":{"digest":"","size":0}}"#;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (changed(&|oci| oci.files.get_mut(&layer).unwrap()[20] ^= 1), "has digest"),
        (changed(&|oci| oci.files.get_mut(&layer).unwrap().push(0)), "its descriptor says"),
        (changed(&|oci| drop(oci.files.remove(&layer))), "is missing in"),
        (changed(&|oci| oci.manifests[0]["size"] = 7.into()), "its descriptor says 7"),
        (changed(&|oci| oci.manifests[0]["digest"] = "sha256:../../../etc/passwd".into()), "not a sha256"),
        (changed(&|oci| oci.manifests[0] = oci.clone().blob(OCI_MANIFEST, both)), "is missing in"),
        (
            changed(&|oci| {
                let blob = oci.blob(OCI_MANIFEST, both);
                oci.manifests[0] = blob;
            }),
            "both manifests and layers",
        ),
        (
            changed(&|oci| {
                let tar = tar_of(&[("a", b"")]);
                let mut image = oci.image(&host(), &[(tar, |_| gzip(&tar_of(&[("b", b"")])))]);
                image["annotations"] = serde_json::json!({});
                oci.manifests[0] = image;
            }),
            "uncompressed, has digest",
        ),
        (b"not an archive at all".repeat(100), "neither an OCI image layout nor"),
        (tar_of(&[("manifest.json", b"[{")]), "is not the JSON"),
        (tar_of(&[("readme", b"")]), "neither an OCI image layout nor"),
        (tar_of(&[("manifest.json", br#"[{"Config":"../../../etc/passwd"}]"#)]), "is missing in"),
        (tar_of(&[("oci-layout", b"{}"), ("index.json", &vec![b' '; 21 << 20])]), "is larger than"),
    ];
    let bench = Bench::new();
    bench.import(&Oci::simple("kept:1", "kept").tar()).unwrap();
    for (bytes, expected) in cases {
        let error = bench.import(&bytes).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}: expected {expected}");
        assert_eq!(bench.store.list().unwrap().len(), 1);
        assert_eq!((bench.count("layers"), bench.count("blobs/sha256")), (1, 3), "{expected}");
    }
}

#[test]
fn the_verbs_print_what_docker_prints() {
    let bench = Bench::new();
    std::fs::write(bench.path("a.tar"), Oci::simple("nginx:1", "x").tar()).unwrap();
    let mut out = Vec::new();
    verbs::import(&bench.layout, Source::Path(&bench.path("a.tar")), None, &mut out).unwrap();
    verbs::ls(&bench.layout, false, "2026-01-11T00:00:00Z".parse().unwrap(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "Loaded image: nginx:1");
    assert_eq!(lines[1], "REPOSITORY   TAG   IMAGE ID       CREATED       SIZE");
    assert!(lines[2].starts_with("nginx        1     ") && lines[2].contains("   10 days ago   "), "{text}");

    let mut out = Vec::new();
    verbs::inspect(&bench.layout, &["nginx:1".into()], &mut out).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(shown[0]["RepoTags"], serde_json::json!(["nginx:1"]));
    assert_eq!(shown[0]["Config"]["StopSignal"], "SIGQUIT");
    assert_eq!(shown[0]["RootFS"]["Type"], "layers");

    let mut out = Vec::new();
    verbs::rm(&bench.layout, &["nginx:1".into()], &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().starts_with("Untagged: nginx:1\nDeleted: sha256:"));
}

/// Runs a tool of the machine; tells why not when it is missing.
fn tool(name: &str, arguments: &[&str]) -> bool {
    match Command::new(name).args(arguments).output() {
        Err(error) => {
            println!("skipped: {name} cannot be run: {error}");
            false
        }
        Ok(output) => {
            assert!(
                output.status.success(),
                "{name} {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            true
        }
    }
}

#[test]
fn what_skopeo_copies_is_imported() {
    let bench = Bench::new();
    Oci::simple("a:1", "skopeo").directory(&bench.path("layout"));
    let source = format!("oci:{}:a:1", bench.path("layout").display());
    for (kind, name) in
        [("oci-archive", "docker.io/library/a:2"), ("docker-archive", "docker.io/library/a:3")]
    {
        let archive = bench.path(kind);
        let target = format!("{kind}:{}:{name}", archive.display());
        if !tool("skopeo", &["--insecure-policy", "copy", &source, &target]) {
            return;
        }
        let images = bench.store.import(Source::Path(&archive), None).unwrap();
        assert_eq!(
            (images[0].names.last().unwrap().as_str(), read(&images[0], 0, "file")),
            (name, "skopeo".into())
        );
    }
    // And the store itself is a layout that skopeo reads.
    let source = format!("oci:{}:docker.io/library/a:2", bench.store.root().display());
    assert!(tool("skopeo", &["inspect", &source]));
}

#[test]
fn what_umoci_makes_is_imported_by_name() {
    let bench = Bench::new();
    let layout = bench.path("layout").display().to_string();
    let image = format!("{layout}:latest");
    let content = bench.path("content");
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join("file"), "umoci").unwrap();
    let insert = ["insert", "--image", &image, content.to_str().unwrap(), "/data"];
    if !tool("umoci", &["init", "--layout", &layout]) {
        return;
    }
    assert!(tool("umoci", &["new", "--image", &image]) && tool("umoci", &insert));
    let images = bench.store.import(Source::Path(Path::new(&layout)), Some("made/by-umoci")).unwrap();
    assert_eq!(images[0].reference, "docker.io/made/by-umoci:latest");
    assert_eq!(read(&images[0], 0, "data/file"), "umoci");
}

/// The other half of the next test: imports what comes on standard input, into the store that the
/// environment names.
#[test]
#[ignore = "run by a_killed_import_leaves_a_usable_store"]
fn import_for_the_kill_test() {
    let Some(root) = std::env::var_os("HULL_KILL_TEST") else {
        return;
    };
    let store = Store::open(&Layout::new(Some(root.into())));
    store.import(Source::Stream(&mut std::io::stdin().lock()), None).unwrap();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the deadline of a wait on another process")]
fn a_killed_import_leaves_a_usable_store() {
    let bench = Bench::new();
    bench.import(&Oci::simple("kept:1", "kept").tar()).unwrap();
    let mut oci = Oci::default();
    let files: Vec<(String, Vec<u8>)> =
        (0..3000_u32).map(|number| (format!("file{number}"), number.to_le_bytes().repeat(500))).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, data)| (name.as_str(), data.as_slice())).collect();
    let image = oci.image(&host(), &[(tar_of(&files), <[u8]>::to_vec)]);
    let archive = oci.named(image, &[("io.containerd.image.name", "docker.io/library/big:1")]).tar();
    let tmp = bench.store.root().join("tmp");
    // Killed while the archive is read; while its layer is unpacked; and whenever it may be then.
    for (sent, seen) in
        [(archive.len() / 2, "spool/0"), (archive.len(), "1/file5"), (archive.len(), "1/file2000")]
    {
        let name = "image::import::tests::import_for_the_kill_test";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored", "--quiet"])
            .env("HULL_KILL_TEST", bench.path("root"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&archive[..sent]).unwrap();
        let mut stdin = Some(stdin);
        if sent == archive.len() {
            stdin = None;
        }
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !tmp.join(seen).exists() && child.try_wait().unwrap().is_none() {
            assert!(std::time::Instant::now() < deadline, "no {seen} appeared");
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        drop(stdin);
        assert_eq!(bench.store.list().unwrap().len(), 1);
        assert_eq!(bench.count("layers"), 1);
    }
    bench.import(&archive).unwrap();
    assert_eq!(bench.count("layers"), 2);
    let image = bench.store.resolve("big:1").unwrap().unwrap();
    assert_eq!(std::fs::read_dir(&image.layers[0]).unwrap().count(), 3000);
    assert!(!tmp.exists(), "nothing unfinished stays");
}
