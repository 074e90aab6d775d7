//! The plan as text, and real overlays in a mount namespace of their own.

use super::*;
use crate::image::testing::in_mount_namespace;

fn overlay(count: usize, base: &str) -> Overlay {
    let lower = (0..count).map(|number| format!("{base}/{number:064}").into()).collect();
    Overlay { lower, upper: "/run/c/upper".into(), work: "/run/c/work".into() }
}

#[test]
fn few_layers_are_named_by_their_paths_top_first() {
    let overlay = Overlay { lower: vec!["/b".into(), "/a".into()], ..overlay(0, "") };
    let expected = format!("lowerdir=/b:/a,upperdir=/run/c/upper,workdir=/run/c/work,{OPTIONS}");
    assert_eq!(overlay.plan(), Plan::Paths(expected));
}

#[test]
fn what_does_not_fit_a_page_or_could_be_misread_goes_by_descriptor() {
    assert!(matches!(overlay(40, "/images/layers").plan(), Plan::Paths(_)));
    for misread in
        [overlay(60, "/images/layers"), overlay(1, "/a:b"), overlay(1, "/a,b"), overlay(1, "/a\\b")]
    {
        let Plan::Descriptors(paths) = misread.plan() else { panic!("{misread:?}") };
        assert_eq!(paths.len(), misread.lower.len() + 2);
        assert_eq!(paths[0], misread.lower[0]);
    }
}

/// An image of `layers` layers, each with its own file, and all with `same`.
fn store_with_image(layout: &Layout, layers: usize) -> String {
    use crate::image::Source;
    use crate::image::digest::Digest;
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut blob = |bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let size = bytes.len();
        files.push((digest.blob_path(), bytes));
        serde_json::json!({"digest": digest.to_string(), "size": size})
    };
    let typed = |mut descriptor: serde_json::Value, kind: &str| {
        descriptor["mediaType"] = format!("application/vnd.oci.image.{kind}").into();
        descriptor
    };
    let content = |number: usize| {
        let mut builder = tar::Builder::new(Vec::new());
        for name in [format!("file{number}"), "same".into()] {
            let mut header = tar::Header::new_ustar();
            let data = number.to_string();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, data.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    };
    let blobs: Vec<_> = (0..layers).map(|number| typed(blob(content(number)), "layer.v1.tar")).collect();
    let diff_ids: Vec<_> = blobs.iter().map(|layer| layer["digest"].clone()).collect();
    let config = serde_json::json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = typed(blob(config.to_string().into_bytes()), "config.v1+json");
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": blobs});
    let manifest = typed(blob(manifest.to_string().into_bytes()), "manifest.v1+json");
    files.push(("oci-layout".into(), b"{}".to_vec()));
    files.push(("index.json".into(), serde_json::json!({"manifests": [manifest]}).to_string().into_bytes()));
    let source = tempfile::tempdir().unwrap();
    for (name, data) in files {
        let path = source.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }
    let images = Store::open(layout).import(Source::Path(source.path()), Some("a")).unwrap();
    images[0].id.clone()
}

#[test]
fn a_rootfs_comes_up_and_goes_without_a_trace() {
    in_mount_namespace("rootfs::tests::rootfs_in_a_namespace");
}

#[test]
#[ignore = "run by a_rootfs_comes_up_and_goes_without_a_trace, in a mount namespace"]
fn rootfs_in_a_namespace() {
    // 1 and 3 layers go by path, 100 by descriptor; so does a root with a colon.
    for (layers, name) in [(0, "root"), (1, "root"), (3, "root"), (100, "root"), (2, "a:b,c")] {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(dir.path().join(name)));
        let image_id = store_with_image(&layout, layers);
        let pod = layout.pod("uid");
        let (instance_dir, writable_dir) = (pod.instance("c", 0), pod.writable("c", 0));
        std::fs::create_dir_all(&instance_dir).unwrap();
        let input = RootfsInput { image_id, instance_dir, writable_dir };
        round(&layout, &input, layers);
        round(&layout, &input, layers);
        let left: Vec<_> = std::fs::read_dir(&input.instance_dir).unwrap().collect();
        assert!(left.is_empty() && !input.writable_dir.exists(), "{left:?}");
    }
}

fn round(layout: &Layout, input: &RootfsInput, layers: usize) {
    let root = rootfs_up(layout, input).unwrap().rootfs;
    std::fs::write(root.join("written"), "x").unwrap();
    assert!(input.writable_dir.join("upper/written").exists());
    assert_eq!(rootfs_up(layout, input).unwrap().rootfs, root);
    assert!(root.join("written").exists(), "the second call must not mount again");
    assert_eq!(std::fs::metadata(&root).unwrap().permissions().mode() & 0o7777, 0o755);
    if layers > 0 {
        assert_eq!(std::fs::read_to_string(root.join("same")).unwrap(), (layers - 1).to_string());
        assert!(root.join("file0").exists());
        let store = Store::open(layout);
        let image = store.resolve("a").unwrap().unwrap();
        assert_eq!(store.remove("a").unwrap().layers_in_use, layers);
        assert!(image.layers[0].exists());
    }
    // Someone is still in it.
    let busy = File::open(&root).unwrap();
    rootfs_down(layout, input).unwrap();
    rootfs_down(layout, input).unwrap();
    drop(busy);
    assert!(!root.exists());
    if layers > 0 {
        store_with_image(layout, layers);
    }
}

#[test]
fn an_overlay_on_an_overlay_is_explained() {
    in_mount_namespace("rootfs::tests::overlay_on_overlay");
}

#[test]
#[ignore = "run by an_overlay_on_an_overlay_is_explained, in a mount namespace"]
fn overlay_on_overlay() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(Some(dir.path().join("root")));
    let image_id = store_with_image(&layout, 1);
    let outer = dir.path().join("outer");
    let [lower, upper, work, merged] = ["l", "u", "w", "m"].map(|name| outer.join(name));
    for path in [&lower, &upper, &work, &merged] {
        std::fs::create_dir_all(path).unwrap();
    }
    let names = [&lower, &upper, &work].map(|path| path.to_str().unwrap().to_owned());
    mount_overlay(&merged, &options(&names)).unwrap();
    let input = RootfsInput { image_id, instance_dir: merged.clone(), writable_dir: merged.join("disk") };
    let error = rootfs_up(&layout, &input).unwrap_err();
    assert!(error.to_string().contains("itself on an overlay"), "{error}");
    unmount(&merged).unwrap();
}

#[test]
fn an_image_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(Some(dir.path().join("root")));
    let (instance_dir, writable_dir) = (dir.path().into(), dir.path().join("disk"));
    let input = RootfsInput { image_id: "sha256:00".into(), instance_dir, writable_dir };
    assert_eq!(rootfs_up(&layout, &input).unwrap_err().to_string(), "no such image: sha256:00");
    rootfs_down(&layout, &input).unwrap();
}
