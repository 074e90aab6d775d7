//! The formats of the kernel's files.

use std::collections::BTreeMap;

use super::{BlkioEntry, NetworkInterface, Psi, PsiLine};
use crate::cgroup::resources::ranges;

/// One number; `max` is the largest.
pub(super) fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or_default(),
    }
}

/// `key number` lines.
pub(super) fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Numbers between blanks.
pub(super) fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|one| one.parse().ok()).collect()
}

/// Every member of a list like `0-3,7`.
pub(super) fn set(text: &str) -> Vec<u16> {
    ranges(text).unwrap_or_default().into_iter().flat_map(|(first, last)| first..=last).collect()
}

/// A file of pressure; none where the kernel does not measure it.
pub(super) fn psi(text: &str) -> Option<Psi> {
    let mut psi = Psi::default();
    let mut lines = 0;
    for line in text.lines() {
        let mut words = line.split(' ');
        let place = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            Some(_) | None => continue,
        };
        *place = words.fold(PsiLine::default(), psi_word);
        lines += 1;
    }
    (lines > 0).then_some(psi)
}

fn psi_word(mut line: PsiLine, word: &str) -> PsiLine {
    match word.split_once('=') {
        Some(("avg10", value)) => line.avg10 = value.parse().unwrap_or_default(),
        Some(("avg60", value)) => line.avg60 = value.parse().unwrap_or_default(),
        Some(("avg300", value)) => line.avg300 = value.parse().unwrap_or_default(),
        Some(("total", value)) => line.total = value.parse().unwrap_or_default(),
        Some(_) | None => {}
    }
    line
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v1: `8:0 Read 4096` and `8:0 4096`; sums over all devices are left out.
pub(super) fn blkio(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (place, op, value) = match words[..] {
            [place, op, value] => (place, op, value),
            [place, value] => (place, "", value),
            _ => return None,
        };
        let (major, minor) = device(place)?;
        Some(BlkioEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// v2: one key of `8:0 rbytes=4096 wbytes=0 …` for every device.
pub(super) fn io(text: &str, key: &str, op: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = device(words.next()?)?;
        let value = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        Some(BlkioEntry { major, minor, op: op.to_owned(), value: value.parse().ok()? })
    };
    text.lines().filter_map(entry).collect()
}

/// `/proc/PID/net/dev`; proc_pid_net(5).
pub(super) fn interfaces(text: &str) -> Vec<NetworkInterface> {
    let interface = |line: &str| {
        let (name, columns) = line.split_once(':')?;
        let columns = numbers(columns);
        let column = |index: usize| columns.get(index).copied();
        Some(NetworkInterface {
            name: name.trim().to_owned(),
            rx_bytes: column(0)?,
            rx_packets: column(1)?,
            rx_errors: column(2)?,
            rx_dropped: column(3)?,
            tx_bytes: column(8)?,
            tx_packets: column(9)?,
            tx_errors: column(10)?,
            tx_dropped: column(11)?,
        })
    };
    text.lines().filter_map(interface).filter(|interface| interface.name != "lo").collect()
}
