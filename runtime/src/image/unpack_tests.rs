//! Layers against a real file system, and archives that try to get out of it.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use super::*;
use crate::image::testing::in_mount_namespace;

/// One entry of a test archive, with names that no well-meaning library would write.
struct Made {
    name: Vec<u8>,
    flag: u8,
    link: Vec<u8>,
    data: Vec<u8>,
    mode: u32,
    owner: u64,
    device: (u32, u32),
    pax: Vec<(&'static str, Vec<u8>)>,
}

fn made(flag: u8, name: &str, link: &str) -> Made {
    Made {
        name: name.into(),
        flag,
        link: link.into(),
        data: Vec::new(),
        mode: if flag == b'5' { 0o755 } else { 0o644 },
        owner: 0,
        device: (0, 0),
        pax: Vec::new(),
    }
}

fn file(name: &str, data: &str) -> Made {
    Made { data: data.into(), ..made(b'0', name, "") }
}

fn dir(name: &str) -> Made {
    made(b'5', name, "")
}

fn symlink(name: &str, target: &str) -> Made {
    made(b'2', name, target)
}

fn archive(entries: &[Made]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut records = Vec::new();
        let path = [("path", entry.name.clone()), ("linkpath", entry.link.clone())];
        for (key, value) in path.into_iter().chain(entry.pax.clone()) {
            let body = [b" ", key.as_bytes(), b"=", &value, b"\n"].concat();
            let mut length = body.len() + 1;
            while length != body.len() + length.to_string().len() {
                length += 1;
            }
            records.extend([length.to_string().as_bytes(), &body].concat());
        }
        block(&mut bytes, b'x', &Made { data: records, ..made(b'x', "pax", "") });
        block(&mut bytes, entry.flag, entry);
    }
    bytes.extend([0; 1024]);
    bytes
}

fn block(bytes: &mut Vec<u8>, flag: u8, entry: &Made) {
    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[156] = flag;
    header.set_size(entry.data.len() as u64);
    header.set_mode(entry.mode);
    header.set_uid(entry.owner);
    header.set_gid(entry.owner);
    header.set_mtime(1_000_000_000);
    header.set_device_major(entry.device.0).unwrap();
    header.set_device_minor(entry.device.1).unwrap();
    header.set_cksum();
    bytes.extend(header.as_bytes());
    bytes.extend(&entry.data);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
}

/// A stack of layers in a directory, beside a file that nobody may touch.
struct Stacked {
    dir: tempfile::TempDir,
    layers: Vec<PathBuf>,
}

impl Stacked {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        std::fs::write(dir.path().join("outside/file"), "untouched").unwrap();
        Self { dir, layers: Vec::new() }
    }

    fn push(&mut self, entries: &[Made]) -> Result<(), Error> {
        let path = self.dir.path().join(format!("layer{}", self.layers.len()));
        std::fs::create_dir(&path).unwrap();
        let result =
            apply(archive(entries).as_slice(), &path, self.layers.iter().rev().map(PathBuf::as_path));
        self.layers.push(path);
        result
    }

    fn layer(entries: &[Made]) -> Self {
        let mut stacked = Self::new();
        stacked.push(entries).unwrap();
        stacked
    }

    fn at(&self, layer: usize, path: &str) -> PathBuf {
        self.layers[layer].join(path)
    }

    fn read(&self, layer: usize, path: &str) -> String {
        std::fs::read_to_string(self.at(layer, path)).unwrap()
    }

    fn is_opaque(&self, layer: usize, path: &str) -> bool {
        let mut value = [0; 1];
        rustix::fs::lgetxattr(self.at(layer, path), OPAQUE, &mut value[..]).is_ok() && value == *b"y"
    }

    fn is_whiteout(&self, layer: usize, path: &str) -> bool {
        let Ok(metadata) = std::fs::symlink_metadata(self.at(layer, path)) else {
            return false;
        };
        metadata.file_type().is_char_device() && metadata.rdev() == 0
    }

    /// What an overlay of all layers shows.
    fn merged(&self) -> Vec<String> {
        let target = self.dir.path().join("merged");
        std::fs::create_dir_all(&target).unwrap();
        std::fs::create_dir_all(self.dir.path().join("empty")).unwrap();
        let layers: Vec<_> = self.layers.iter().rev().map(|layer| layer.display().to_string()).collect();
        let options = format!("lowerdir={}:{}/empty", layers.join(":"), self.dir.path().display());
        let options = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("overlay", &target, "overlay", flags, options.as_c_str()).unwrap();
        let show = |path: PathBuf| {
            let name = path.strip_prefix(&target).unwrap().display().to_string();
            let regular = std::fs::symlink_metadata(&path).unwrap().is_file();
            if regular { format!("{name}={}", std::fs::read_to_string(&path).unwrap()) } else { name }
        };
        let mut found: Vec<String> = walk(&target).into_iter().map(show).collect();
        found.sort();
        rustix::mount::unmount(&target, rustix::mount::UnmountFlags::empty()).unwrap();
        found
    }

    /// What lies outside of the layers, with content.
    fn outside(&self) -> Vec<String> {
        let mut found: Vec<String> = walk(self.dir.path())
            .into_iter()
            .filter(|path| !self.layers.iter().any(|layer| path.starts_with(layer)))
            .map(|path| {
                let metadata = std::fs::symlink_metadata(&path).unwrap();
                let content =
                    if metadata.is_file() { std::fs::read_to_string(&path).unwrap() } else { String::new() };
                let name = path.strip_prefix(self.dir.path()).unwrap().display().to_string();
                format!("{name} {:o} {} {} {content}", metadata.mode(), metadata.uid(), metadata.nlink())
            })
            .collect();
        found.sort();
        found
    }
}

fn walk(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(walk(&path));
        }
        found.push(path);
    }
    found
}

fn hostile_archives(outside: &str) -> Vec<(&'static str, Vec<Made>)> {
    let target = format!("{outside}/file");
    let above = "../".repeat(40) + target.trim_start_matches('/');
    let long = "x".repeat(300);
    let deep = "d/".repeat(3000);
    let through = |link: Made| vec![link, file("link/file", "evil"), file("link/new", "evil")];
    let hidden = |name: &str| made(b'0', name, "");
    vec![
        ("dots", vec![file("../outside/file", "evil"), file("a/../../outside/file", "evil")]),
        ("absolute", vec![file(&target, "evil"), dir(outside), file("/new", "evil")]),
        ("absolute symlink", through(symlink("link", outside))),
        ("relative symlink", through(symlink("link", "../outside"))),
        ("symlink in a chain", {
            let mut entries = vec![symlink("a", "b/../.."), symlink("b", "/"), symlink("link", "a/outside")];
            entries.extend([file("link/file", "evil"), symlink("link2", "link"), file("link2/x", "evil")]);
            entries
        }),
        ("parent replaced by a symlink", {
            vec![
                dir("d"),
                file("d/file", ""),
                symlink("d", outside),
                file("d/file", "evil"),
                file("d/new", "evil"),
            ]
        }),
        ("link that its own path leads through", {
            let mut entries = vec![dir("a"), symlink("a/self", "."), file("a/self/x", "")];
            entries.extend([symlink("a/self/self", outside), file("a/self/file", "evil")]);
            entries
        }),
        ("target replaced by a symlink", {
            let mut entries = vec![file("f", ""), made(b'1', "l", "f"), symlink("f", &target)];
            entries.extend([made(b'1', "m", "f"), file("m", "evil"), file("f", "evil")]);
            entries
        }),
        ("proc", through(symlink("link", "/proc/self/root"))),
        ("file over symlink", vec![symlink("link", &target), file("link", "evil")]),
        (
            "directory over symlink",
            vec![symlink("link", outside), Made { mode: 0o777, owner: 9, ..dir("link") }],
        ),
        ("node over symlink", vec![symlink("link", &target), made(b'6', "link", "")]),
        ("hard link by path", vec![made(b'1', "l", &target), file("l", "evil")]),
        ("hard link by dots", vec![made(b'1', "l", &above), file("l", "evil")]),
        ("hard link to a symlink", vec![symlink("s", &target), made(b'1', "l", "s"), file("l", "evil")]),
        (
            "hard link through a symlink",
            vec![symlink("s", outside), made(b'1', "l", "s/file"), file("l", "evil")],
        ),
        ("whiteout of dots", vec![hidden("a/.wh..."), hidden(".wh..")]),
        ("whiteout of nothing", vec![hidden(".wh.")]),
        ("whiteout through a symlink", vec![symlink("link", outside), hidden("link/.wh.file")]),
        ("opaque through a symlink", vec![symlink("link", outside), hidden("link/.wh..wh..opq")]),
        ("removal through a symlink", vec![symlink("link", outside), file("link", ""), dir("link")]),
        ("long component", vec![file(&long, "evil")]),
        ("deep path", vec![file(&deep, "evil")]),
        ("nul", vec![file("a\0b", "evil"), symlink("c", "/\0")]),
        ("loop", vec![symlink("l", "l"), file("l/x", "evil")]),
        ("file as parent", vec![file("f", ""), file("f/x", "evil")]),
        ("link to a directory", vec![dir("d"), made(b'1', "l", "d")]),
        ("sparse", vec![Made { pax: vec![("GNU.sparse.major", b"1".to_vec())], ..file("s", "") }]),
        ("bad owner", vec![Made { pax: vec![("uid", b"4294967295".to_vec())], ..file("s", "") }]),
        ("unknown type", vec![made(b'Z', "z", "")]),
    ]
}

#[test]
fn a_hostile_archive_touches_nothing_outside() {
    let names: Vec<&str> = hostile_archives("/").iter().map(|(name, _)| *name).collect();
    for (number, name) in names.into_iter().enumerate() {
        for with_lower in [false, true] {
            let mut stacked = Stacked::new();
            let outside = stacked.dir.path().join("outside").display().to_string();
            if with_lower {
                stacked.push(&[symlink("link", &outside), symlink("s", &outside), dir("a")]).unwrap();
            }
            let before = stacked.outside();
            let (_, entries) = hostile_archives(&outside).swap_remove(number);
            // Each entry also alone and on top of all before it, as some stop at their first entry.
            let result = stacked.push(&entries);
            assert_eq!(stacked.outside(), before, "{name}: {result:?}");
            if let Err(error) = result {
                assert!(error.to_string().len() < 8000, "{name}");
            }
        }
    }
}

#[test]
fn refusals_name_the_entry_and_the_reason() {
    let cases = [
        (made(b'0', "a/.wh.", ""), "whiteout of nothing"),
        (made(b'0', "a/.wh...", ""), "whiteout of nothing"),
        (made(b'1', "l", "missing"), "\"missing\" does not exist"),
        (made(b'1', "l", "/"), "is the root"),
        (file(&"x".repeat(300), ""), "cannot look at what is there"),
    ];
    for (entry, expected) in cases {
        let name = String::from_utf8(entry.name.clone()).unwrap();
        let text = Stacked::new().push(&[entry]).unwrap_err().to_string();
        assert!(text.contains(expected) && text.contains(&name), "{text}");
    }
}

#[test]
fn content_owner_mode_and_times_arrive() {
    let stacked = Stacked::layer(&[
        Made { mode: 0o2750, owner: 7, ..dir("d") },
        Made { mode: 0o4711, owner: 12, ..file("d/setuid", "x") },
        symlink("d/link", "/anywhere"),
        made(b'1', "d/hard", "d/setuid"),
        Made { device: (1, 3), mode: 0o666, ..made(b'3', "d/null", "") },
        made(b'6', "d/fifo", ""),
    ]);
    let at = |path: &str| std::fs::symlink_metadata(stacked.at(0, path)).unwrap();
    assert_eq!((at("d").mode() & 0o7777, at("d").gid(), at("d").mtime()), (0o2750, 7, 1_000_000_000));
    let setuid = at("d/setuid");
    assert_eq!((setuid.mode() & 0o7777, setuid.uid(), setuid.mtime()), (0o4711, 12, 1_000_000_000));
    assert_eq!(at("d/hard").ino(), setuid.ino());
    assert_eq!((at("d/null").rdev(), at("d/null").mode() & 0o777), (rustix::fs::makedev(1, 3), 0o666));
    assert!(at("d/fifo").file_type().is_fifo());
    assert_eq!((at("d/link").mtime(), at("d/link").is_symlink()), (1_000_000_000, true));
}

#[test]
fn file_capabilities_survive_and_overlay_attributes_do_not() {
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].to_vec();
    let pax = vec![
        ("SCHILY.xattr.security.capability", capability.clone()),
        ("SCHILY.xattr.user.note", b"yes".to_vec()),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc".to_vec()),
    ];
    let stacked = Stacked::layer(&[Made { pax, owner: 5, mode: 0o755, ..file("ping", "x") }]);
    let mut value = [0; 64];
    let path = stacked.at(0, "ping");
    assert_eq!(rustix::fs::lgetxattr(&path, "security.capability", &mut value[..]), Ok(capability.len()));
    assert_eq!(rustix::fs::lgetxattr(&path, "user.note", &mut value[..]), Ok(3));
    let redirect = rustix::fs::lgetxattr(&path, "trusted.overlay.redirect", &mut value[..]);
    assert_eq!(redirect, Err(Errno::NODATA));
}

#[test]
fn whiteouts_and_opaque_markers_hide_lower_layers_only() {
    let mut stacked =
        Stacked::layer(&[dir("d"), file("d/old", "1"), file("gone", "1"), dir("e"), file("e/x", "1")]);
    stacked
        .push(&[
            dir("d"),
            file("d/new", "2"),
            made(b'0', "d/.wh..wh..opq", ""),
            Made { owner: 3, ..made(b'0', ".wh.gone", "") },
            dir("e"),
            made(b'0', ".wh.e", ""),
            file("kept", "2"),
            made(b'0', ".wh.kept", ""),
            made(b'0', ".wh..wh.plnk/x", ""),
        ])
        .unwrap();
    assert!(stacked.is_opaque(1, "d") && stacked.is_opaque(1, "e") && stacked.is_whiteout(1, "gone"));
    assert_eq!(std::fs::symlink_metadata(stacked.at(1, "gone")).unwrap().uid(), 3);
    assert_eq!((stacked.read(1, "d/new"), stacked.read(1, "kept")), ("2".into(), "2".into()));
    assert!(!stacked.at(1, ".wh..wh.plnk").exists());
}

#[test]
fn what_follows_a_whiteout_starts_empty() {
    let mut stacked = Stacked::layer(&[dir("d"), file("d/old", "1"), dir("e"), file("e/old", "1")]);
    let hide = |name: &str| made(b'0', name, "");
    stacked.push(&[hide(".wh.d"), dir("d"), file("d/new", "2"), hide(".wh.e"), file("e/new", "2")]).unwrap();
    assert!(stacked.is_opaque(1, "d") && stacked.is_opaque(1, "e"));
    assert_eq!(stacked.read(1, "e/new"), "2");
}

#[test]
fn an_opaque_root_hides_each_name_below_it() {
    let mut stacked = Stacked::layer(&[dir("d"), file("f", "1"), file("g", "1")]);
    stacked.push(&[dir("d"), file("g", "2"), made(b'0', ".wh..wh..opq", "")]).unwrap();
    assert!(stacked.is_opaque(1, "d") && stacked.is_whiteout(1, "f"));
    assert_eq!(stacked.read(1, "g"), "2");
}

#[test]
fn parents_that_the_layer_does_not_list_are_as_below() {
    let mut stacked = Stacked::layer(&[
        Made { mode: 0o1777, owner: 8, ..dir("tmp") },
        dir("usr"),
        dir("usr/lib"),
        symlink("lib", "usr/lib"),
    ]);
    stacked.push(&[file("tmp/a/b", "2"), file("lib/c", "2")]).unwrap();
    let tmp = std::fs::metadata(stacked.at(1, "tmp")).unwrap();
    assert_eq!((tmp.mode() & 0o7777, tmp.uid(), tmp.mtime()), (0o1777, 8, 1_000_000_000));
    assert_eq!(std::fs::metadata(stacked.at(1, "tmp/a")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(stacked.read(1, "usr/lib/c"), "2");
    assert!(std::fs::symlink_metadata(stacked.at(1, "lib")).is_err());
}

#[test]
fn a_hard_link_to_a_lower_layer_copies_its_target_up() {
    let mut stacked =
        Stacked::layer(&[dir("d"), Made { mode: 0o4755, ..file("d/target", "1") }, symlink("s", "x")]);
    stacked.push(&[made(b'1', "link", "d/target"), made(b'1', "slink", "s")]).unwrap();
    let (target, link) = (stacked.at(1, "d/target"), stacked.at(1, "link"));
    let metadata = std::fs::metadata(&target).unwrap();
    assert_eq!(metadata.ino(), std::fs::metadata(&link).unwrap().ino());
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o4755, 1_000_000_000));
    assert_eq!(stacked.read(1, "link"), "1");
    assert_eq!(std::fs::read_link(stacked.at(1, "slink")).unwrap(), Path::new("x"));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let mut stacked = Stacked::layer(&[dir("a"), file("a/low", "1")]);
    stacked
        .push(&[
            file("a", "2"),
            dir("a"),
            file("a/high", "2"),
            dir("b"),
            file("b/x", "2"),
            file("b", "3"),
            file("b", "4"),
        ])
        .unwrap();
    assert!(stacked.is_opaque(1, "a"), "the file had hidden what is below");
    assert_eq!((stacked.read(1, "b"), stacked.read(1, "a/high")), ("4".into(), "2".into()));
}

#[test]
fn the_kernel_merges_layers_as_the_specification_says() {
    in_mount_namespace("unpack::tests::merged_by_the_kernel");
}

#[test]
#[ignore = "run by the_kernel_merges_layers_as_the_specification_says, in a mount namespace"]
fn merged_by_the_kernel() {
    let hide = |name: &str| made(b'0', name, "");
    let mut stacked = Stacked::layer(&[
        dir("gone"),
        file("gone/x", "1"),
        dir("opaque"),
        file("opaque/old", "1"),
        dir("again"),
        file("again/old", "1"),
        dir("usr"),
        symlink("lib", "usr"),
        file("usr/kept", "1"),
        file("linked", "1"),
    ]);
    stacked
        .push(&[
            hide(".wh.gone"),
            file("opaque/new", "2"),
            hide("opaque/.wh..wh..opq"),
            hide(".wh.again"),
            file("again/new", "2"),
            file("lib/new", "2"),
            made(b'1', "link", "linked"),
        ])
        .unwrap();
    let merged = stacked.merged();
    let expected = ["again", "again/new=2", "lib", "link=1", "linked=1", "opaque", "opaque/new=2", "usr"];
    assert_eq!(merged, [&expected[..], &["usr/kept=1", "usr/new=2"]].concat());
    stacked.push(&[file("usr/last", "3"), hide(".wh..wh..opq"), dir("opaque")]).unwrap();
    assert_eq!(stacked.merged(), ["opaque", "usr", "usr/last=3"]);
}
