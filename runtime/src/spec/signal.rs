//! Signals as images and manifests name them.

/// First and last real-time signal that programs may use with glibc and musl alike.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// Signals 1 to 31 in order, with the numbers of x86-64 and aarch64.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The number of a signal given as number or name, with or without `SIG`.
#[must_use]
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name {
        "IOT" => 6,
        "CLD" => 17,
        "POLL" => 29,
        "RTMIN" => RTMIN,
        "RTMAX" => RTMAX,
        _ => real_time(name).or_else(|| {
            let position = SIGNALS.iter().position(|known| *known == name)?;
            i32::try_from(position + 1).ok()
        })?,
    };
    (1..=RTMAX).contains(&number).then_some(number)
}

/// `RTMIN+n` and `RTMAX-n`.
fn real_time(name: &str) -> Option<i32> {
    let offset = |text: &str| text.parse::<u8>().ok().map(i32::from);
    let number = match (name.strip_prefix("RTMIN+"), name.strip_prefix("RTMAX-")) {
        (Some(up), _) => RTMIN + offset(up)?,
        (_, Some(down)) => RTMAX - offset(down)?,
        (None, None) => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name_and_by_number() {
        let cases = [
            ("SIGQUIT", Some(3)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("SIGSYS", Some(31)),
            ("", None),
            ("0", None),
            ("65", None),
            ("SIGRTMIN+99", None),
            ("SIGNOPE", None),
        ];
        for (text, number) in cases {
            assert_eq!(signal_number(text), number, "{text}");
        }
    }
}
