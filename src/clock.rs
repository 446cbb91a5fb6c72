//! The only reader of a clock. Everything else is handed a [`Now`], so that a month of cycles can run in a test.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// One reading: the wall clock, and the time since the machine started (suspended time included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall clock.
    pub wall: Timestamp,
    /// Time since boot; it never jumps, so a difference between the two is a clock that was set.
    pub boot: Duration,
}

/// Added to the time since boot of a clock that was moved: however far back it was moved, that time stays positive and goes
/// along with the wall.
const LONG_AGO: SignedDuration = SignedDuration::from_hours(100 * 365 * 24);

/// Where readings come from: the machine's clocks, both moved by a fixed shift in tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    shift: Option<SignedDuration>,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn machine() -> Self {
        Self::default()
    }

    /// A clock that reads `wall` now and goes on from there.
    #[must_use]
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { shift: Some(wall.duration_since(Self::machine().now().wall)) }
    }

    /// Reads the clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn now(self) -> Now {
        let wall = Timestamp::now();
        let boot = since_boot();
        let Some(shift) = self.shift else { return Now { wall, boot: boot.unsigned_abs() } };
        let moved = boot.saturating_add(shift).saturating_add(LONG_AGO);
        Now { wall: wall.checked_add(shift).unwrap_or(wall), boot: moved.unsigned_abs() }
    }
}

fn since_boot() -> SignedDuration {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    SignedDuration::new(read.tv_sec, i32::try_from(read.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_clock_moves_both_readings_wherever_it_starts() {
        let machine = Clock::machine().now().wall;
        for years in [-40, -1, 0, 1, 40] {
            let at = machine + SignedDuration::from_hours(years * 365 * 24);
            let first = Clock::starting_at(at).now();
            let later = Clock::starting_at(at + SignedDuration::from_mins(15)).now();
            let apart = later.boot.abs_diff(first.boot).abs_diff(Duration::from_mins(15));
            assert!(later.boot > first.boot && apart < Duration::from_mins(1), "{years}: {first:?} {later:?}");
        }
    }
}
