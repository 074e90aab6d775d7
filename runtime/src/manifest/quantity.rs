//! Kubernetes quantities (`100m`, `1.5`, `64Mi`, `1e3`) as whole thousandths, exactly.
//!
//! Amounts are rounded up to a thousandth, as the API server does when it applies defaults, and written
//! back in its canonical form: no fraction, the largest suffix that loses nothing, the family of suffixes
//! that was used. Amounts beyond 2^63-1 are cut there.

use std::fmt;

/// An amount: thousandths, and how to write it.
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    milli: i128,
    format: Format,
}

/// A family of suffixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// `m`, none, `k`, `M` …
    Decimal,
    /// `Ki`, `Mi` …
    Binary,
    /// `e3`, `e6` …
    Exponent,
}

/// Why a text is no quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not of the shape number and suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Shape,
    /// An unknown suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
    /// More digits after the point than can be counted exactly.
    #[error("a quantity may have at most {MAX_FRACTION} digits after the point")]
    Fraction,
}

/// Digits after the point that are read.
const MAX_FRACTION: usize = 15;
/// The largest amount, in thousandths.
const MAX_MILLI: u128 = i64::MAX as u128 * 1000;

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(Malformed::Shape);
        }
        let fraction = fraction.trim_end_matches('0');
        if fraction.len() > MAX_FRACTION {
            return Err(Malformed::Fraction);
        }
        let (format, scale) = Scale::parse(suffix)?;
        let magnitude = scale.milli(whole, fraction).min(MAX_MILLI);
        let milli = i128::try_from(magnitude).unwrap_or(i128::MAX);
        Ok(Self { milli: if negative { -milli } else { milli }, format })
    }

    /// In thousandths.
    #[must_use]
    pub fn milli(self) -> i128 {
        self.milli
    }

    /// In whole units, rounded up.
    #[must_use]
    pub fn units(self) -> i128 {
        self.milli.div_euclid(1000) + i128::from(self.milli.rem_euclid(1000) != 0)
    }
}

/// What a suffix multiplies by.
enum Scale {
    Ten(i32),
    Two(u32),
}

impl Scale {
    fn parse(suffix: &str) -> Result<(Format, Self), Malformed> {
        if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Ok((Format::Decimal, Self::Ten(*power)));
        }
        if let Some(index) = BINARY.iter().position(|name| *name == suffix) {
            let index = u32::try_from(index).unwrap_or(0);
            return Ok((Format::Binary, Self::Two(10 * (index + 1))));
        }
        if !suffix.chars().all(|c| "eEinumkKMGTP+-0123456789".contains(c)) {
            return Err(Malformed::Shape);
        }
        let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Malformed::Suffix)?;
        let power: i32 = exponent.parse().map_err(|_| Malformed::Suffix)?;
        Ok((Format::Exponent, Self::Ten(power)))
    }

    /// The magnitude in thousandths, rounded up and saturating.
    fn milli(&self, whole: &str, fraction: &str) -> u128 {
        // Only digits come here, so a failure to read them is an overflow.
        let whole = if whole.is_empty() { 0 } else { whole.parse::<u128>().unwrap_or(u128::MAX) };
        let digits = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
        let part = fraction.parse::<u128>().unwrap_or(0);
        match *self {
            Self::Two(power) => {
                let factor = 1000_u128 << power;
                let part = (part * factor).div_ceil(10_u128.pow(digits));
                whole.saturating_mul(factor).saturating_add(part)
            }
            Self::Ten(power) => {
                let whole = shift(whole, power.saturating_add(3));
                let part_power = power.saturating_add(3).saturating_sub_unsigned(digits);
                join(whole, shift(part, part_power))
            }
        }
    }
}

/// A whole number and whether something smaller was left.
type Shifted = (u128, bool);

/// `number * 10^power`.
fn shift(number: u128, power: i32) -> Shifted {
    if number == 0 {
        return (0, false);
    }
    let factor = 10_u128.checked_pow(power.unsigned_abs());
    match (power < 0, factor) {
        (false, Some(factor)) => (number.saturating_mul(factor), false),
        (false, None) => (u128::MAX, false),
        (true, Some(factor)) => (number / factor, !number.is_multiple_of(factor)),
        (true, None) => (0, true),
    }
}

/// The sum, rounded up.
fn join(whole: Shifted, part: Shifted) -> u128 {
    // Both remainders are below one and the part's is finer, so together they stay below one.
    whole.0.saturating_add(part.0).saturating_add(u128::from(whole.1 || part.1))
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.milli == other.milli
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.milli.cmp(&other.milli)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.milli == 0 {
            return out.write_str("0");
        }
        let sign = if self.milli < 0 { "-" } else { "" };
        let milli = self.milli.unsigned_abs();
        if self.format == Format::Binary && milli >= 1024 * 1000 && milli.is_multiple_of(1000) {
            let (number, suffix) = binary(milli / 1000);
            return write!(out, "{sign}{number}{suffix}");
        }
        let (mut number, mut power) = (milli, -3);
        while number.is_multiple_of(1000) && power < 18 {
            number /= 1000;
            power += 3;
        }
        match (self.format, power) {
            (_, 0) => write!(out, "{sign}{number}"),
            (Format::Exponent, power) => write!(out, "{sign}{number}e{power}"),
            (Format::Decimal | Format::Binary, power) => {
                let suffix = DECIMAL.iter().find(|(_, of)| *of == power).map_or("", |(name, _)| name);
                write!(out, "{sign}{number}{suffix}")
            }
        }
    }
}

fn binary(mut number: u128) -> (u128, &'static str) {
    let mut suffix = "";
    for name in BINARY {
        if !number.is_multiple_of(1024) {
            break;
        }
        number /= 1024;
        suffix = name;
    }
    (number, suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        Quantity::parse(text).map_or_else(|error| format!("{error:?}"), |quantity| quantity.to_string())
    }

    #[test]
    fn quantities_are_shown_in_canonical_form() {
        for (text, canonical) in [
            ("100m", "100m"),
            ("0.1", "100m"),
            (".5", "500m"),
            ("1.", "1"),
            ("1.5", "1500m"),
            ("2", "2"),
            ("1000m", "1"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e-1", "1200e-3"),
            ("1E", "1E"),
            ("1000k", "1M"),
            ("64Mi", "64Mi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1536", "1536"),
            ("512Ki", "512Ki"),
            ("0.5Ki", "512"),
            ("0.0005Ki", "512m"),
            ("0", "0"),
            ("-1", "-1"),
            ("+1", "1"),
        ] {
            assert_eq!(shown(text), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_finer_than_a_thousandth_is_rounded_up() {
        for (text, milli) in [
            ("100n", 1),
            ("0.0001", 1),
            ("1.0001", 1001),
            ("1001u", 2),
            ("1e-9", 1),
            ("1.5e-3", 2),
            ("1e-400", 1),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().milli(), milli, "{text}");
        }
    }

    #[test]
    fn too_large_an_amount_is_cut() {
        for text in ["1e400", "99999999999999999999999999999999999999999999", "16Ei", "9223372036854775808"] {
            assert_eq!(Quantity::parse(text).unwrap().units(), i128::from(i64::MAX), "{text}");
        }
    }

    #[test]
    fn a_text_that_is_no_quantity_is_refused() {
        for (text, error) in [
            ("", Malformed::Shape),
            (".", Malformed::Shape),
            ("1.2.3", Malformed::Shape),
            ("abc", Malformed::Shape),
            ("1 Mi", Malformed::Shape),
            ("1Mb", Malformed::Shape),
            ("1K", Malformed::Suffix),
            ("1mi", Malformed::Suffix),
            ("1e", Malformed::Suffix),
            ("1.0000000000000001", Malformed::Fraction),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn units_are_rounded_up() {
        assert_eq!(Quantity::parse("1500m").unwrap().units(), 2);
        assert_eq!(Quantity::parse("-1500m").unwrap().units(), -1);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _parsed = Quantity::parse(&text);
        }

        #[test]
        fn the_canonical_form_reads_back_as_the_same_amount(
            number in 0_u64..10_000_000, suffix in "(n|u|m||k|M|G|Ki|Mi|Gi|e3|e-2)"
        ) {
            let quantity = Quantity::parse(&format!("{number}{suffix}")).unwrap();
            let again = Quantity::parse(&quantity.to_string()).unwrap();
            proptest::prop_assert_eq!(quantity, again);
        }
    }
}
