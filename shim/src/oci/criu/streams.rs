//! Standard streams that lead out of a container: pipes and files of whoever made it. A checkpoint keeps their names, in
//! runc's file and form; a restored container has its maker's in their place.
//!
//! What counts is what the streams were when the container was made: a pipe that a container has put there since is its
//! own, and both of its ends are restored.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::request::Options;
use crate::oci::error::Error;
use crate::oci::store::write_whole;

/// The file of a checkpoint with their names.
const DESCRIPTORS: &str = "descriptors.json";

/// Tells a dump of the process `pid` which of its streams, that were `made` once, are files from outside; the names of all.
pub(crate) fn name(options: &mut Options, made: &[String], pid: i32) -> Vec<String> {
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let inside = |mount: &str| mounts.lines().any(|line| line.split(' ').next() == Some(mount));
    let named = made.iter().enumerate().map(|(number, name)| match outside(pid, number, name, &inside) {
        Some(key) => {
            options.external(&key);
            key
        }
        None => name.clone(),
    });
    named.collect()
}

/// How criu calls the file behind a stream, if it is on no mount of the container.
fn outside(pid: i32, number: usize, name: &str, inside: &dyn Fn(&str) -> bool) -> Option<String> {
    let link = format!("/proc/{pid}/fd/{number}");
    let is_same = std::fs::read_link(&link).is_ok_and(|now| now == Path::new(name));
    if !name.starts_with('/') || !is_same {
        return None;
    }
    let about = std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).ok()?;
    let mount = mount_of(&about).filter(|mount| !inside(mount))?;
    Some(key(mount.parse().ok()?, std::fs::metadata(&link).ok()?.ino()))
}

/// The mount that a descriptor belongs to; proc(5).
pub(super) fn mount_of(about: &str) -> Option<&str> {
    about.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim)
}

fn key(mount: u32, inode: u64) -> String {
    format!("file[{mount:x}:{inode:x}]")
}

/// Keeps the names with a checkpoint.
pub(crate) fn write(images: &Path, names: &[String]) -> Result<(), Error> {
    let path = images.join(DESCRIPTORS);
    let bytes = serde_json::to_vec(names).map_err(|error| Error::Json(path.display().to_string(), error))?;
    write_whole(&path, &bytes, 0o600)
}

/// The names that a checkpoint keeps.
pub(crate) fn read(images: &Path) -> Result<Vec<String>, Error> {
    let path = images.join(DESCRIPTORS);
    let invalid = "invalid directory to restore checkpoint: read";
    let bytes = std::fs::read(&path).map_err(Error::file(invalid, &path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Json(path.display().to_string(), error))
}

/// Tells criu, when restoring, that its own standard streams take the place of these. A file that is there twice is
/// inherited once: criu knows it by its name.
pub(crate) fn give(options: &mut Options, names: &[String]) {
    let leads_out = |name: &str| name.starts_with("pipe:") || name.starts_with("file[");
    for (number, name) in names.iter().enumerate().take(3).filter(|(_, name)| leads_out(name)) {
        if !names.iter().take(number).any(|before| before == name) {
            options.inherit(name, number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_on_no_mount_of_the_container_is_from_outside() {
        let own = std::process::id().cast_signed();
        let link = std::fs::read_link("/proc/self/fd/0").unwrap().display().to_string();
        let is_path = link.starts_with('/');
        assert_eq!(outside(own, 0, &link, &|_| false).is_some(), is_path);
        assert_eq!(outside(own, 0, &link, &|_| true), None);
        assert_eq!(outside(own, 0, "/another", &|_| false), None);
        assert_eq!(mount_of("pos:\t0\nflags:\t0\nmnt_id:\t29\nino:\t5\n"), Some("29"));
        assert_eq!(key(43, 4097), "file[2b:1001]");
    }

    #[test]
    fn each_stream_that_leads_out_is_given_once() {
        let names = ["pipe:[7]", "file[2b:1001]", "file[2b:1001]"].map(str::to_owned);
        let (mut given, mut wanted) = (Options::default(), Options::default());
        give(&mut given, &names);
        wanted.inherit("pipe:[7]", 0).inherit("file[2b:1001]", 1);
        assert_eq!(given, wanted);
        let mut none = Options::default();
        give(&mut none, &["/dev/null".to_owned(), "/dev/pts/0".to_owned()]);
        assert_eq!(none, Options::default());
    }

    #[test]
    fn names_are_kept_as_runc_keeps_them() {
        let images = std::env::temp_dir().join(format!("streams-{}", std::process::id()));
        std::fs::create_dir_all(&images).unwrap();
        write(&images, &["/dev/null".to_owned(), "pipe:[7]".to_owned()]).unwrap();
        let text = std::fs::read_to_string(images.join("descriptors.json")).unwrap();
        assert_eq!(text, r#"["/dev/null","pipe:[7]"]"#);
        assert_eq!(read(&images).unwrap(), ["/dev/null", "pipe:[7]"]);
        std::fs::remove_dir_all(&images).unwrap();
        assert!(read(&images).unwrap_err().chain().contains("no such file or directory"));
    }
}
