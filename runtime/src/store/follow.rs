//! Waiting for files to change: inotify(7) as a future.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify;
pub use rustix::fs::inotify::WatchFlags;
use tokio::io::unix::AsyncFd;

/// How often is looked where the kernel does not tell.
const PERIOD: Duration = Duration::from_secs(1);

/// Waits for what a watch tells; without one, as when the user has no more of them, until it is time to look again.
/// Cancel-safe.
pub async fn changed(watch: Option<&Watch>) {
    match watch {
        Some(watch) if watch.changed().await.is_ok() => {}
        _ => tokio::time::sleep(PERIOD).await,
    }
}

/// Watches files and directories.
#[derive(Debug)]
pub struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// A watch of nothing yet.
    ///
    /// # Errors
    /// The user has too many watches (`fs.inotify.max_user_instances`).
    pub fn new() -> io::Result<Self> {
        let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        Ok(Self(crate::driver::readiness::register(fd)?))
    }

    /// Adds a file or directory.
    ///
    /// # Errors
    /// It does not exist, or there are too many watches.
    pub fn add(&self, path: &Path, flags: WatchFlags) -> io::Result<()> {
        inotify::add_watch(self.0.get_ref(), path, flags)?;
        Ok(())
    }

    /// Waits for changes, and takes all that there are by now: the names concerned in watched directories.
    /// Cancel-safe.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub async fn changed(&self) -> io::Result<Vec<OsString>> {
        loop {
            let mut guard = self.0.readable().await?;
            let names = self.take()?;
            // Everything was read: the next change makes it readable again.
            guard.clear_ready();
            if let Some(names) = names {
                return Ok(names);
            }
        }
    }

    /// The names of all pending changes; none if there is no change.
    fn take(&self) -> io::Result<Option<Vec<OsString>>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        let mut names = None;
        loop {
            match reader.next() {
                Ok(event) => {
                    let names = names.get_or_insert_with(Vec::new);
                    if let Some(name) = event.file_name() {
                        names.push(OsString::from_vec(name.to_bytes().to_vec()));
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(names),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_watch_it_is_time_to_look_again_soon() {
        let waited = tokio::time::timeout(2 * PERIOD, changed(None)).await;
        assert!(waited.is_ok());
    }
}
