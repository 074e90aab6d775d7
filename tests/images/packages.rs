//! Debian packages: which ones a package needs, fetching and unpacking them. apt checks their signatures.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Result, failed};

/// What packages unpack to.
pub(crate) struct Tree {
    /// The packages that were asked for.
    pub(crate) own: PathBuf,
    /// Everything that those depend on.
    pub(crate) dependencies: PathBuf,
}

struct Package {
    name: String,
    version: String,
    file: String,
    size: u64,
}

/// Directories of a Debian system since its merge of `/usr`, as links.
pub(crate) const MERGED: [(&str, &str); 4] =
    [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")];

/// Fetches packages with all that they need, and unpacks them below `work`.
pub(crate) fn tree(wanted: &[&str], cache: &Path, work: &Path) -> Result<Tree> {
    let tree = Tree { own: work.join("own"), dependencies: work.join("dependencies") };
    prepare(&tree.own)?;
    prepare(&tree.dependencies)?;
    let packages = closure(wanted)?;
    fetch(&packages, cache)?;
    for package in &packages {
        let own = wanted.contains(&package.name.as_str());
        unpack(&cache.join(&package.file), if own { &tree.own } else { &tree.dependencies })?;
    }
    Ok(tree)
}

/// As `dpkg-deb -x`, which would replace the links of a merged `/usr` by directories.
fn unpack(package: &Path, target: &Path) -> Result<()> {
    let mut archive = Command::new("dpkg-deb");
    archive.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped());
    let mut archive = archive.spawn().map_err(|error| format!("cannot run dpkg-deb: {error}"))?;
    let stream = archive.stdout.take().ok_or("dpkg-deb has no output")?;
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--keep-directory-symlink", "--directory"]).arg(target).stdin(stream);
    let unpacked = run(&mut tar);
    // Ended now, since nobody holds its pipe any more.
    drop(tar);
    let status = archive.wait().map_err(|error| format!("cannot wait for dpkg-deb: {error}"))?;
    unpacked?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("dpkg-deb cannot read {}: {status}", package.display()))
    }
}

fn prepare(root: &Path) -> Result<()> {
    for (name, target) in MERGED {
        let directory = root.join(target);
        std::fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        let link = root.join(name);
        std::os::unix::fs::symlink(target, &link).map_err(failed("link", &link))?;
    }
    Ok(())
}

/// Asks apt what it would install on a system without any package.
fn closure(wanted: &[&str]) -> Result<Vec<Package>> {
    let mut command = apt();
    command.args(["-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=false"]);
    let text = run(command.args(["-qq", "--print-uris", "install"]).args(wanted))
        .map_err(|problem| format!("{problem}\ntry: apt-get update"))?;
    text.lines().map(|line| package(line).ok_or_else(|| format!("apt-get printed {line:?}"))).collect()
}

/// `'http://…/name_1%3a2_amd64.deb' name_1%3a2_amd64.deb 1234 SHA256:…`
fn package(line: &str) -> Option<Package> {
    let mut fields = line.split_whitespace().skip(1);
    let file = fields.next()?.to_owned();
    let size = fields.next()?.parse().ok()?;
    let mut parts = file.split('_');
    let (name, version) = (parts.next()?.to_owned(), parts.next()?.replace("%3a", ":"));
    Some(Package { name, version, file, size })
}

/// Fetches what the cache does not have, by one apt-get, since each start of it costs a second.
fn fetch(packages: &[Package], cache: &Path) -> Result<()> {
    let absent = |package: &&Package| {
        let metadata = std::fs::metadata(cache.join(&package.file));
        !metadata.is_ok_and(|metadata| metadata.len() == package.size)
    };
    let missing: Vec<&Package> = packages.iter().filter(absent).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let exactly = missing.iter().map(|package| format!("{}={}", package.name, package.version));
    run(apt().current_dir(cache).args(["-q", "download"]).args(exactly))?;
    match missing.into_iter().find(absent) {
        Some(package) => {
            Err(format!("apt-get download did not make {}", cache.join(&package.file).display()))
        }
        None => Ok(()),
    }
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    // The cache may be where apt's own user cannot write.
    command.args(["-o", "APT::Sandbox::User=root"]).env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a command; what it printed, or what it complained about.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("cannot run {shown}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{shown} ended with {}: {}", output.status, complaint.trim()))
}
