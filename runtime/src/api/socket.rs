//! The pod's socket: made and reached also where its path is too long for a socket address.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Longest path in `sockaddr_un`, without its final zero byte; unix(7).
const LONGEST: usize = 107;

/// Listens at `path`, in place of whatever socket an earlier process left there; only the owner may connect.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (short, _directory) = short(path)?;
    let listener = UnixListener::bind(short)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the socket at `path`.
///
/// # Errors
/// Nobody listens there.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (short, _directory) = short(path)?;
    UnixStream::connect(short).await
}

/// The path itself, or one through a descriptor of its directory, which must stay open meanwhile.
fn short(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} names no file", path.display())));
    };
    if path.as_os_str().as_bytes().len() <= LONGEST {
        return Ok((path.to_owned(), None));
    }
    let directory = File::open(directory)?;
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    Ok((short, Some(directory)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_path_of_any_length_can_be_listened_at() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("d".repeat(200));
        std::fs::create_dir(&directory).unwrap();
        for path in [root.path().join("s"), directory.join("s")] {
            let first = listen(&path).unwrap();
            drop(first);
            let second = listen(&path).unwrap();
            let (client, server) = tokio::join!(connect(&path), second.accept());
            client.unwrap();
            server.unwrap();
        }
    }
}
