//! What is kept is what was compiled, and nothing of anybody else is believed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};

use super::super::{Arch, Cache, Filter, compile};
use super::profiles::{profile, rule};

/// A directory of a test's own.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hull-filters-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn cache(&self) -> PathBuf {
        self.0.join("seccomp")
    }

    /// The one file that was kept.
    fn file(&self) -> PathBuf {
        let entries: Vec<_> =
            fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = entries.as_slice() else { panic!("{entries:?}") };
        file.clone()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn denying(errno: u32) -> LinuxSeccomp {
    profile(Action::ScmpActAllow, &[], vec![rule(&["getppid"], Action::ScmpActErrno, Some(errno), vec![])])
}

/// What is kept of a profile, or is from now on.
fn filter(cache: &mut Cache, profile: &LinuxSeccomp, arch: Arch) -> Rc<Filter> {
    let text = serde_json::to_string(profile).unwrap();
    cache.find(&text, arch).unwrap_or_else(|| cache.compile(&text, profile, arch).unwrap())
}

/// What a process that starts now gets.
fn fresh(directory: &Path, errno: u32) -> Rc<Filter> {
    filter(&mut Cache::on_disk(directory.to_owned()), &denying(errno), Arch::NATIVE)
}

/// A program that no profile compiles to, in a file that is sound otherwise: whoever gets it read the file.
fn plant(file: &Path) -> Filter {
    use std::hash::{DefaultHasher, Hasher};
    let mut bytes = fs::read(file).unwrap();
    // Magic number and version, then four numbers: the third is that of the instructions, of eight bytes each.
    let count = u32::from_le_bytes(bytes[16..20].try_into().unwrap()) as usize;
    let last = 24 + count * 8;
    // The last instruction returns; what it returns is its last four bytes.
    bytes[last - 4..last].copy_from_slice(&0x0005_0063_u32.to_le_bytes());
    let end = bytes.len() - 8;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes[..last]);
    bytes[end..].copy_from_slice(&hasher.finish().to_le_bytes());
    fs::write(file, bytes).unwrap();
    let mut planted = compile(&denying(1), Arch::NATIVE).unwrap();
    planted.program.last_mut().unwrap().k = 0x0005_0063;
    planted
}

#[test]
fn one_profile_is_compiled_once() {
    let mut cache = Cache::new();
    let mut of = |errno, arch| filter(&mut cache, &denying(errno), arch);
    let first = of(1, Arch::X86_64);
    assert!(Rc::ptr_eq(&first, &of(1, Arch::X86_64)));
    assert_ne!(first, of(2, Arch::X86_64));
    assert_ne!(first, of(1, Arch::Aarch64));
    for errno in 0..200 {
        assert_eq!(*of(errno, Arch::X86_64), compile(&denying(errno), Arch::X86_64).unwrap());
    }
}

#[test]
fn the_next_process_reads_what_was_kept() {
    let directory = Directory::new("kept");
    let compiled = compile(&denying(1), Arch::NATIVE).unwrap();
    assert_eq!(*fresh(&directory.cache(), 1), compiled);
    assert_eq!(fs::metadata(directory.cache()).unwrap().permissions().mode() & 0o777, 0o700);
    let file = directory.file();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(*fresh(&directory.cache(), 1), compiled);
    assert_eq!(*fresh(&directory.cache(), 1), compiled);
    let planted = plant(&file);
    assert_eq!(*fresh(&directory.cache(), 1), planted, "the file is what is read");
}

#[test]
fn a_damaged_file_is_compiled_anew_and_mended() {
    let directory = Directory::new("damaged");
    let compiled = fresh(&directory.cache(), 1);
    let file = directory.file();
    let sound = fs::read(&file).unwrap();
    for at in 0..sound.len() {
        let mut damaged = sound.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).unwrap();
        assert_eq!(fresh(&directory.cache(), 1), compiled, "byte {at}");
        assert_eq!(fs::read(&file).unwrap(), sound, "byte {at}");
    }
    for length in [0, 1, 47, sound.len() - 1] {
        fs::write(&file, &sound[..length]).unwrap();
        assert_eq!(fresh(&directory.cache(), 1), compiled);
    }
    fs::write(&file, [sound.as_slice(), &sound].concat()).unwrap();
    assert_eq!(fresh(&directory.cache(), 1), compiled);
    fs::write(&file, vec![0; 1 << 20]).unwrap();
    assert_eq!(fresh(&directory.cache(), 1), compiled);
}

#[test]
fn a_file_under_another_profiles_name_is_not_believed() {
    let directory = Directory::new("renamed");
    fresh(&directory.cache(), 1);
    let first = directory.file();
    let bytes = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    fresh(&directory.cache(), 2);
    fs::write(directory.file(), bytes).unwrap();
    assert_eq!(*fresh(&directory.cache(), 2), compile(&denying(2), Arch::NATIVE).unwrap());
}

#[test]
fn what_others_can_write_is_not_believed() {
    let directory = Directory::new("strange");
    let compiled = fresh(&directory.cache(), 1);
    let (cache, file) = (directory.cache(), directory.file());
    let planted = plant(&file);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for (path, loose, tight) in [(&cache, 0o777, 0o700), (&cache, 0o710, 0o700), (&file, 0o606, 0o600)] {
        assert_eq!(*fresh(&cache, 1), planted);
        mode(path, loose);
        assert_eq!(fresh(&cache, 1), compiled, "{} {loose:o}", path.display());
        mode(path, tight);
        plant(&file);
    }
    if nix::unistd::geteuid().is_root() {
        for path in [&cache, &file] {
            chown(path, Some(12345), None).unwrap();
            assert_eq!(fresh(&cache, 1), compiled, "{}", path.display());
            chown(path, Some(0), None).unwrap();
            plant(&file);
        }
    }
    let elsewhere = directory.0.join("elsewhere");
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    assert_eq!(fresh(&cache, 1), compiled, "a link is not followed");
    fs::rename(&cache, directory.0.join("moved")).unwrap();
    symlink(directory.0.join("moved"), &cache).unwrap();
    plant(&directory.0.join("moved").join(file.file_name().unwrap()));
    assert_eq!(fresh(&cache, 1), compiled, "nor for the directory");
}

#[test]
fn a_cache_without_a_place_compiles_all_the_same() {
    let directory = Directory::new("nowhere");
    let compiled = compile(&denying(1), Arch::NATIVE).unwrap();
    assert_eq!(*fresh(&directory.0.join("no/such/place"), 1), compiled);
    fs::write(directory.cache(), "a file").unwrap();
    assert_eq!(*fresh(&directory.cache(), 1), compiled);
}

#[test]
fn the_directory_does_not_grow_without_end() {
    let directory = Directory::new("full");
    for errno in 0..150 {
        fresh(&directory.cache(), errno);
    }
    let count = fs::read_dir(directory.cache()).unwrap().count();
    assert!((1..=64).contains(&count), "{count}");
}
