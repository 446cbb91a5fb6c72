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
    }
}
