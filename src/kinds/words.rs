//! Words for numbers in what kinds say.

use crate::settings::Size;

/// A size as the number that bands are made of.
#[expect(clippy::cast_precision_loss, reason = "sizes are shown and compared in three digits")]
pub(super) fn as_number(size: Size) -> f64 {
    size.0 as f64
}

/// Bytes in the largest binary unit that leaves a number from 1: `12.3 GiB`, `999 B`.
pub(super) fn bytes(n: f64) -> String {
    let mut n = n.max(0.0);
    if n < 1024.0 {
        return format!("{n:.0} B");
    }
    let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB"].into_iter().peekable();
    while let Some(unit) = units.next() {
        n /= 1024.0;
        // 1023.96 would be written as 1024.0 of this unit.
        if n < 1023.95 || units.peek().is_none() {
            return format!("{n:.1} {unit}");
        }
    }
    String::new()
}

/// A length of time in its two largest units: `5 d 3 h`, `3 h 20 min`, `12 min`, `40 s`.
pub(super) fn span(secs: u64) -> String {
//! The words in which kinds say lengths of time and sizes, and the names of jobs as settings carry them.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::facts::{BadName, is_name};

/// A length of time in its two largest units: `5 d 3 h`, `3 h 20 min`, `12 min`, `40 s`. The sign is dropped.
pub(super) fn span(secs: i64) -> String {
    let secs = secs.unsigned_abs();
    let two = |large: u64, large_word: &str, small: u64, small_word: &str| {
        if small == 0 { format!("{large} {large_word}") } else { format!("{large} {large_word} {small} {small_word}") }
    };
    match secs {
        0..60 => format!("{secs} s"),
        60..3_600 => format!("{} min", secs / 60),
        3_600..86_400 => two(secs / 3_600, "h", secs % 3_600 / 60, "min"),
        _ => two(secs / 86_400, "d", secs % 86_400 / 3_600, "h"),
    }
}

/// A number of bytes to three digits: `812 B`, `1.5 KiB`, `20.0 MiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded down: no float, so nothing is lost or rounded up into the next unit.
    let (mut tenths, mut unit) = (u128::from(bytes) * 10 / 1_024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&"EiB"))
}

/// `1 row`, `3 rows`.
pub(super) fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Whole seconds as the number that gauges and bands are made of.
#[expect(clippy::cast_precision_loss, reason = "seconds of centuries fit 53 bits")]
pub(super) fn seconds(whole: i64) -> f64 {
    whole as f64
}

/// The name of a job, as `pulsecheck exec --job NAME` takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct JobName(String);

impl JobName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for JobName {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        if is_name(&name) { Ok(Self(name)) } else { Err(BadName(name)) }
    }
}
impl JsonSchema for JobName {
    fn schema_name() -> Cow<'static, str> {
        "JobName".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "The name of a job, as `pulsecheck exec --job` takes it.",
            "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_take_the_unit_that_fits() {
        for (n, words) in [
            (0.0, "0 B"),
            (1023.0, "1023 B"),
            (1024.0, "1.0 KiB"),
            (1_048_575.0, "1.0 MiB"),
            (13_207_024_435.0, "12.3 GiB"),
            (1e30, "888178419700125.2 PiB"),
        ] {
            assert_eq!(bytes(n), words);
        }
    fn spans_sizes_and_counts() {
        for (secs, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (12_000, "3 h 20 min"),
            (-442_800, "5 d 3 h"),
            (i64::MIN, "106751991167300 d 15 h"),
        ] {
            assert_eq!(span(secs), words);
        }
        for (bytes, words) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1.0 KiB"),
            (1_536, "1.5 KiB"),
            (1_048_575, "1023.9 KiB"),
            (20 << 20, "20.0 MiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(size(bytes), words);
        }
        assert_eq!((count(1, "row", "rows").as_str(), count(0, "row", "rows").as_str()), ("1 row", "0 rows"));
    }
}
