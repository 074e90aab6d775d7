//! Durations as Go writes them: `5s`, `1m30s`, `1.5h`, `0`.

use std::time::Duration;

/// Reads a duration that is not negative, for clap.
pub(super) fn parse(text: &str) -> std::result::Result<Duration, String> {
    signed(text)?.ok_or_else(|| format!("{text:?} is negative"))
}

/// Reads a duration; none if it is negative.
pub(super) fn signed(text: &str) -> std::result::Result<Option<Duration>, String> {
    let wrong = || format!("{text:?} is not a duration; write for example 5s, 2m or 1h30m");
    let negative = text.starts_with('-');
    let mut rest = text.trim_start_matches(['-', '+']);
    if rest == "0" {
        return Ok(Some(Duration::ZERO));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..unit_end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[unit_end..];
    }
    Ok((!negative).then_some(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, seconds) in [("5s", 5.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("0", 0.0), ("250ms", 0.25)] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for wrong in ["", "5", "s", "5x", "-1s", "1e99h", "..s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(signed("-1s"), Ok(None));
    }
}
