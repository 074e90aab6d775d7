//! Who has which address. The record is made of symbolic links, each made whole or not at all:
//!
//! ```text
//! <network>/<pods|services>/lock               held over every change
//! <network>/<pods|services>/addresses/<ip>     -> owner    making it claims the address
//! <network>/<pods|services>/owners/<owner>     -> ip       finds it again without a search
//! ```
//!
//! **Invariant:** an address is claimed before its owner's link exists, and the owner's link goes before the
//! claim. So a crash in between leaves a claim that names its owner, which the owner's next claim or release
//! finds again, and which others take once the owner is gone. The lock dies with its process and is held for
//! a few system calls. Nothing is synced: `/run` and the addresses themselves both end with the machine.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use hull_shim::layout::Layout;

use super::Error;
use super::config::Cidr;

/// The locked record of one range.
#[derive(Debug)]
pub(super) struct Leases {
    addresses: PathBuf,
    owners: PathBuf,
    /// The lock, held until this is dropped.
    _lock: File,
}

/// Which addresses may be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    /// From this range, but not its first and last address.
    pub(super) range: Cidr,
    /// Nor this one: the gateway, or the resolver.
    pub(super) reserved: Ipv4Addr,
    /// The flag that sets the range.
    pub(super) flag: &'static str,
}

impl Pool {
    fn may_give(&self, address: Ipv4Addr) -> bool {
        self.range.contains(address)
            && address != self.range.network()
            && address != self.range.broadcast()
            && address != self.reserved
    }
}

/// What a claim brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The owner's address.
    pub(super) address: Ipv4Addr,
    /// Owners that are gone without having given theirs back, and lost it now.
    pub(super) reclaimed: Vec<String>,
}

impl Leases {
    /// Opens and locks the record of the pods' addresses.
    pub(super) fn pods(layout: &Layout) -> Result<Self, Error> {
        Self::lock(&layout.network().join("pods"))
    }

    /// Opens and locks the record of the Services' addresses.
    pub(super) fn services(layout: &Layout) -> Result<Self, Error> {
        Self::lock(&layout.network().join("services"))
    }

    fn lock(dir: &Path) -> Result<Self, Error> {
        let (addresses, owners) = (dir.join("addresses"), dir.join("owners"));
        for path in [&addresses, &owners] {
            fs::create_dir_all(path).map_err(Error::file("make", path))?;
        }
        let path = dir.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(Error::file("open", &path))?;
        lock.lock().map_err(Error::file("lock", &path))?;
        Ok(Self { addresses, owners, _lock: lock })
    }

    /// The address of `owner`: the one it has, else a free one, which is the same again if it can be: the
    /// search starts at a place that the owner's name gives.
    pub(super) fn claim(
        &self,
        pool: Pool,
        owner: &str,
        alive: impl Fn(&str) -> bool,
    ) -> Result<Claim, Error> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
        let start = fnv1a(owner.as_bytes()) as u32;
        self.claim_from(pool, owner, start, alive)
    }

    /// The address of `owner`: the one it has, else a free one. The search starts at `start`: with a different
    /// one each time it is short, and an address that was given back is not the next one given.
    pub(super) fn claim_from(
        &self,
        pool: Pool,
        owner: &str,
        start: u32,
        alive: impl Fn(&str) -> bool,
    ) -> Result<Claim, Error> {
        let mut reclaimed = Vec::new();
        if let Some(address) = self.address_of(owner)? {
            if pool.may_give(address) && self.try_claim(address, owner)?.is_none_or(|holder| holder == owner)
            {
                return Ok(Claim { address, reclaimed });
            }
            self.release(owner)?;
        }
        for step in 0..pool.range.size() {
            let address = pool.range.nth(start.wrapping_add(step));
            if !pool.may_give(address) {
                continue;
            }
            match self.try_claim(address, owner)? {
                Some(holder) if holder == owner => {}
                Some(holder) if !alive(&holder) => {
                    self.free(address, &holder)?;
                    reclaimed.push(holder);
                    self.try_claim(address, owner)?;
                }
                Some(_) => continue,
                None => {}
            }
            self.point(owner, address)?;
            return Ok(Claim { address, reclaimed });
        }
        Err(Error::RangeFull { range: pool.range, flag: pool.flag })
    }

    /// Gives `owner` just this address, in place of any other it has.
    pub(super) fn claim_exact(&self, pool: Pool, owner: &str, address: Ipv4Addr) -> Result<(), Error> {
        if !pool.may_give(address) {
            return Err(Error::AddressOutside { address, range: pool.range });
        }
        match self.try_claim(address, owner)? {
            Some(holder) if holder != owner => {
                return Err(Error::AddressTaken { address, owner: holder });
            }
            Some(_) | None => {}
        }
        match self.address_of(owner)? {
            Some(old) if old == address => return Ok(()),
            Some(old) => self.free(old, owner)?,
            None => {}
        }
        self.point(owner, address)
    }

    /// Gives back whatever `owner` has; nothing is fine.
    pub(super) fn release(&self, owner: &str) -> Result<(), Error> {
        if let Some(address) = self.address_of(owner)? {
            return self.free(address, owner);
        }
        // No link: there is nothing, or a crash came between the two steps of a claim or a release.
        for claim in self.all()? {
            let (address, holder) = claim?;
            if holder == owner {
                self.free(address, owner)?;
            }
        }
        Ok(())
    }

    /// Whether anyone alive has an address. Those who are gone lose theirs and are returned.
    pub(super) fn sweep(&self, alive: impl Fn(&str) -> bool) -> Result<Sweep, Error> {
        let mut gone = Vec::new();
        for claim in self.all()? {
            let (address, holder) = claim?;
            if alive(&holder) {
                return Ok(Sweep { gone, in_use: true });
            }
            self.free(address, &holder)?;
            gone.push(holder);
        }
        Ok(Sweep { gone, in_use: false })
    }

    /// All claims. What is no address is none of ours and is left alone.
    fn all(&self) -> Result<impl Iterator<Item = Result<(Ipv4Addr, String), Error>>, Error> {
        let entries = fs::read_dir(&self.addresses).map_err(Error::file("read", &self.addresses))?;
        Ok(entries.filter_map(|entry| {
            let entry = match entry.map_err(Error::file("read", &self.addresses)) {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let address = entry.file_name().to_str()?.parse().ok()?;
            read_link(&entry.path()).transpose().map(|holder| Ok((address, holder?)))
        }))
    }

    fn address_of(&self, owner: &str) -> Result<Option<Ipv4Addr>, Error> {
        Ok(read_link(&self.owner_path(owner))?.and_then(|text| text.parse().ok()))
    }

    /// Claims an address, or tells who holds it.
    fn try_claim(&self, address: Ipv4Addr, owner: &str) -> Result<Option<String>, Error> {
        let path = self.addresses.join(address.to_string());
        match symlink(owner, &path) {
            Ok(()) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Ok(Some(read_link(&path)?.unwrap_or_default()))
            }
            Err(source) => Err(Error::File { operation: "make", path, source }),
        }
    }

    fn point(&self, owner: &str, address: Ipv4Addr) -> Result<(), Error> {
        let path = self.owner_path(owner);
        remove(&path)?;
        symlink(address.to_string(), &path).map_err(Error::file("make", &path))
    }

    fn free(&self, address: Ipv4Addr, owner: &str) -> Result<(), Error> {
        remove(&self.owner_path(owner))?;
        let path = self.addresses.join(address.to_string());
        if read_link(&path)?.is_some_and(|holder| holder == owner) { remove(&path) } else { Ok(()) }
    }

    /// `/` parts namespace and name of a Service; neither holds a `_`.
    fn owner_path(&self, owner: &str) -> PathBuf {
        self.owners.join(owner.replace('/', "_"))
    }
}

/// What [`Leases::sweep`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sweep {
    /// Owners that were gone.
    pub(super) gone: Vec<String>,
    /// Somebody alive has an address.
    pub(super) in_use: bool,
}

/// The text of a link; none where there is no link.
fn read_link(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_link(path) {
        Ok(text) => Ok(text.into_os_string().into_string().ok()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => {
            Ok(None)
        }
        Err(source) => Err(Error::File { operation: "read", path: path.to_owned(), source }),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The 64-bit FNV-1a hash: short, even enough, and the same in every version of hull.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn pool(range: &str) -> Pool {
        let range: Cidr = range.parse().unwrap();
        Pool { range, reserved: range.nth(1), flag: "--pod-cidr" }
    }

    fn all(leases: &Leases) -> Vec<(Ipv4Addr, String)> {
        leases.all().unwrap().map(Result::unwrap).collect()
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(Some(root.path().to_owned()));
        (root, layout)
    }

    #[test]
    fn an_owner_keeps_its_address_until_it_gives_it_back() {
        let (_root, layout) = layout();
        let leases = Leases::pods(&layout).unwrap();
        let first = leases.claim(pool("10.3.0.0/24"), "a", |_| true).unwrap();
        assert_eq!(leases.claim(pool("10.3.0.0/24"), "a", |_| true).unwrap(), first);
        leases.release("a").unwrap();
        leases.release("a").unwrap();
        assert_eq!(leases.sweep(|_| true).unwrap(), Sweep { gone: vec![], in_use: false });
    }

    #[test]
    fn a_range_gives_every_address_but_its_own_and_then_says_that_it_is_full() {
        let (_root, layout) = layout();
        let leases = Leases::pods(&layout).unwrap();
        let given: BTreeSet<Ipv4Addr> = (0..5)
            .map(|n| leases.claim(pool("10.3.0.0/29"), &format!("p{n}"), |_| true).unwrap().address)
            .collect();
        assert_eq!(given, (2..7).map(|n| Ipv4Addr::new(10, 3, 0, n)).collect());
        let error = leases.claim(pool("10.3.0.0/29"), "one-more", |_| true).unwrap_err();
        assert!(matches!(error, Error::RangeFull { .. }));
    }

    #[test]
    fn an_owner_that_is_gone_loses_its_address_to_the_next() {
        let (_root, layout) = layout();
        let leases = Leases::pods(&layout).unwrap();
        for n in 0..5 {
            leases.claim(pool("10.3.0.0/29"), &format!("p{n}"), |_| true).unwrap();
        }
        let claim = leases.claim(pool("10.3.0.0/29"), "new", |owner| owner != "p3").unwrap();
        assert_eq!(claim.reclaimed, ["p3"]);
        assert_eq!(leases.address_of("p3").unwrap(), None);
        assert_eq!(leases.address_of("new").unwrap(), Some(claim.address));
    }

    #[test]
    fn a_claim_cut_off_in_the_middle_is_found_again() {
        let (_root, layout) = layout();
        let leases = Leases::pods(&layout).unwrap();
        let before = leases.claim(pool("10.3.0.0/24"), "a", |_| true).unwrap();
        fs::remove_file(leases.owner_path("a")).unwrap();
        assert_eq!(leases.claim(pool("10.3.0.0/24"), "a", |_| true).unwrap(), before);
        fs::remove_file(leases.owner_path("a")).unwrap();
        leases.release("a").unwrap();
        assert_eq!(all(&leases), []);
    }

    #[test]
    fn an_address_of_another_range_is_exchanged() {
        let (_root, layout) = layout();
        let leases = Leases::pods(&layout).unwrap();
        leases.claim(pool("10.3.0.0/24"), "a", |_| true).unwrap();
        let claim = leases.claim(pool("10.4.0.0/24"), "a", |_| true).unwrap();
        assert_eq!(all(&leases), [(claim.address, "a".to_owned())]);
    }

    #[test]
    fn an_address_can_be_asked_for_by_number() {
        let (_root, layout) = layout();
        let leases = Leases::services(&layout).unwrap();
        let wanted = Ipv4Addr::new(10, 3, 0, 77);
        leases.claim(pool("10.3.0.0/24"), "default/a", |_| true).unwrap();
        leases.claim_exact(pool("10.3.0.0/24"), "default/a", wanted).unwrap();
        assert_eq!(all(&leases), [(wanted, "default/a".to_owned())]);
        let taken = leases.claim_exact(pool("10.3.0.0/24"), "default/b", wanted).unwrap_err();
        assert!(matches!(taken, Error::AddressTaken { owner, .. } if owner == "default/a"));
        let gateway =
            leases.claim_exact(pool("10.3.0.0/24"), "default/b", Ipv4Addr::new(10, 3, 0, 1)).unwrap_err();
        assert!(matches!(gateway, Error::AddressOutside { .. }));
    }

    #[test]
    fn many_at_once_get_an_address_each() {
        let (_root, layout) = layout();
        let claim = |n| {
            let leases = Leases::pods(&layout).unwrap();
            leases.claim(pool("10.3.0.0/26"), &format!("p{n}"), |_| true).unwrap().address
        };
        let given: BTreeSet<Ipv4Addr> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..50).map(|n| scope.spawn(move || claim(n))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(given.len(), 50);
    }
}
