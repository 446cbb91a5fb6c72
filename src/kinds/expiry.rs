//! What certificates and tokens share: how long before its end a thing with a lifetime begins to matter, and the words
//! for the time that is left.

use crate::facts::Edge;

/// Seconds of a day.
pub(super) const DAY_S: f64 = 86_400.0;

/// A threshold that shrinks with the lifetime, so that a thing that lives six days isn't in trouble from its birth on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threshold {
    /// At most this many seconds before the end.
    pub cap_s: f64,
    /// At most this part of the lifetime before the end.
    pub part: f64,
}

impl Threshold {
    /// Seconds before the end of a thing that lives `lifetime_s`.
    pub(super) fn of(self, lifetime_s: i64) -> f64 {
        self.cap_s.min(seconds(lifetime_s.max(0)) * self.part)
    }
}

/// Whole seconds as the number that bands are made of.
#[expect(clippy::cast_precision_loss, reason = "seconds of centuries fit 53 bits")]
pub(super) fn seconds(whole: i64) -> f64 {
    whole as f64
}

/// An edge that no waiting crosses back.
pub(super) fn settled(at: f64, code: &'static str) -> Edge {
    Edge { at, code: code.into(), settled: true }
}

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

/// `expires in 5 d 3 h`, `expired 2 h ago`: true on either side of the end.
pub(super) fn ends(left_s: i64) -> String {
    if left_s > 0 { format!("expires in {}", span(left_s)) } else { format!("expired {} ago", span(left_s)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_two_units() {
        for (secs, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min"),
            (3_600, "1 h"),
            (12_000, "3 h 20 min"),
            (86_400, "1 d"),
            (442_800, "5 d 3 h"),
            (-442_800, "5 d 3 h"),
            (i64::MIN, "106751991167300 d 15 h"),
        ] {
            assert_eq!(span(secs), words);
        }
        assert_eq!(ends(7_200), "expires in 2 h");
        assert_eq!(ends(0), "expired 0 s ago");
        assert_eq!(ends(-7_200), "expired 2 h ago");
    }

    #[test]
    fn a_threshold_is_the_smaller_of_its_cap_and_its_part() {
        let day = 86_400;
        let warn = Threshold { cap_s: 21.0 * DAY_S, part: 0.25 };
        for (lifetime, expected) in
            [(398 * day, 21.0 * DAY_S), (90 * day, 21.0 * DAY_S), (6 * day, 1.5 * DAY_S), (-5, 0.0)]
        {
            assert!((warn.of(lifetime) - expected).abs() < 1e-6, "{lifetime}");
        }
    }
}
