//! Numbers as people read them: `5 d 3 h`, `12.3 GiB`, `3 rows`.

use crate::facts::Unit;

/// A length of time in its two largest units: `5 d 3 h`, `3 h 20 min`, `12 min`, `40 s`. The sign is dropped.
#[must_use]
pub fn span(secs: impl Into<i128>) -> String {
    let secs = secs.into().unsigned_abs();
    let two = |large: u128, large_word: &str, small: u128, small_word: &str| {
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
#[must_use]
pub fn size(bytes: u64) -> String {
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

/// The same of a number that was calculated; what is negative counts as nothing.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and bytes are whole"
)]
pub fn bytes(n: f64) -> String {
    size(n.max(0.0).round() as u64)
}

/// A number in its unit, as it is shown: `5 d 3 h`, `12.3 GiB`, `93.0 %`, `$4.20`.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and seconds are shown whole")]
pub fn human(value: f64, unit: Unit) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    match unit {
        Unit::Seconds if value.abs() < 1.0 && value != 0.0 => format!("{:.0} ms", value * 1_000.0),
        Unit::Seconds => format!("{sign}{}", span(value as i128)),
        Unit::Bytes => format!("{sign}{}", bytes(value.abs())),
        Unit::Percent => format!("{value:.1} %"),
        Unit::Usd => format!("{sign}${:.2}", value.abs()),
        Unit::Celsius => format!("{value:.0} °C"),
        Unit::None => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// `1 row`, `3 rows`.
#[must_use]
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Whole seconds as the number that gauges and bands are made of.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds of centuries fit 53 bits")]
pub fn seconds(whole: i64) -> f64 {
    whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
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
