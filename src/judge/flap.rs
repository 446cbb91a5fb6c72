//! Flapping: Nagios' window of 21 observations and its weights, with thresholds of our own.

use serde::{Deserialize, Serialize};

/// Observations that the window holds; there is one transition less.
pub const WINDOW: u32 = 21;
/// It starts to flap at this weighted share of transitions.
pub const START_PERCENT: f64 = 30.0;
/// It stops at this one.
pub const STOP_PERCENT: f64 = 10.0;

/// The last observations, pass or not; the newest is bit 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    bits: u32,
    len: u8,
}

impl Window {
    /// The window after one more observation.
    #[must_use]
    pub fn with(self, passed: bool) -> Self {
        let bits = (self.bits << 1) | u32::from(!passed);
        Self { bits: bits & ((1 << WINDOW) - 1), len: self.len.saturating_add(1).min(21) }
    }

    /// How many observations it holds.
    #[must_use]
    pub fn len(self) -> u8 {
        self.len
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// How many of the newest did not pass, in a row.
    #[must_use]
    pub fn not_ok(self) -> u32 {
        self.bits.trailing_ones()
    }

    /// How many times pass and not-pass followed each other.
    #[must_use]
    pub fn transitions(self) -> u32 {
        (0..u32::from(self.len).saturating_sub(1)).map(|i| u32::from(self.turned(i))).sum()
    }

    fn turned(self, i: u32) -> bool {
        (self.bits >> i) & 1 != (self.bits >> (i + 1)) & 1
    }

    /// The weighted share of transitions in percent. Transition x, 1 the oldest and 20 the newest, weighs
    /// 0.75 + (x − 1) · 0.5 / 19 (Nagios, `base/flapping.c`); what was never observed is no transition.
    #[must_use]
    pub fn percent(self) -> f64 {
        let sum: f64 = (0..u32::from(self.len).saturating_sub(1))
            .filter(|&i| self.turned(i))
            .map(|i| 0.75 + f64::from(19 - i) * 0.5 / 19.0)
            .sum();
        sum * 100.0 / 20.0
    }

    /// Whether it flaps now, given whether it did: in between, the old verdict stands.
    #[must_use]
    pub fn flaps(self, flapped: bool) -> bool {
        let percent = self.percent();
        if flapped { percent > STOP_PERCENT } else { percent >= START_PERCENT }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A full window with transitions at the given places, 1 the oldest and 20 the newest.
    fn window(turns: &[u32]) -> Window {
        let mut passed = true;
        let mut window = Window::default().with(passed);
        for x in 1..=20 {
            if turns.contains(&x) {
                passed = !passed;
            }
            window = window.with(passed);
        }
        window
    }

    #[test]
    fn the_arithmetic_is_nagios() {
        let all: Vec<u32> = (1..=20).collect();
        let second: Vec<u32> = (1..=20).filter(|x| x % 2 == 0).collect();
        for (turns, percent) in [
            (&all[..], 100.00),
            (&[20], 6.25),
            (&[19, 20], 12.37),
            (&[18, 19, 20], 18.36),
            (&[17, 18, 19, 20], 24.21),
            (&[16, 17, 18, 19, 20], 29.93),
            (&[1], 3.75),
            (&[1, 2, 3, 4, 5], 20.07),
            (&second, 50.66),
            (&[3, 5, 8, 12, 16, 19, 20], 36.25),
        ] {
            let got = window(turns).percent();
            assert!((got - percent).abs() < 0.005, "{turns:?}: {got} and not {percent}");
        }
    }

    #[test]
    fn two_blips_never_start_it_and_alternating_does() {
        for first in 0..19 {
            for second in (first + 2)..20 {
                let mut window = Window::default();
                for i in 0..21 {
                    window = window.with(i != first && i != second);
                    assert!(!window.flaps(false), "blips at {first} and {second}: {}", window.percent());
                }
            }
        }
        let mut window = Window::default();
        let began = (0..21).find(|i| {
            window = window.with(i % 2 == 0);
            window.flaps(false)
        });
        assert_eq!(began, Some(6), "the sixth transition starts it");
    }
}
