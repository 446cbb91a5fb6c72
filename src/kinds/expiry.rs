//! What certificates and tokens share: how long before its end a thing with a lifetime begins to matter, and the words
//! for the time that is left.

use crate::facts::Edge;
use crate::words::span;

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

/// `expires in 5 d 3 h`, `expired 2 h ago`: true on either side of the end.
pub(super) fn ends(left_s: i64) -> String {
    if left_s > 0 { format!("expires in {}", span(left_s)) } else { format!("expired {} ago", span(left_s)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_said_on_either_side_of_it() {
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
