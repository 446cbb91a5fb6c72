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

/// Where readings come from: the machine's clocks, moved by a fixed shift in tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock {
    shift: SignedDuration,
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
        Self { shift: wall.duration_since(Self::machine().now().wall) }
    }

    /// Reads the clocks.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn now(self) -> Now {
        let wall = Timestamp::now();
        Now { wall: wall.checked_add(self.shift).unwrap_or(wall), boot: boot_time(self.shift) }
    }
}

/// How long a machine has been up before the time at which a test's clock starts can only be made up: long enough that it
/// is no negative time, however far in the past a test begins.
const MADE_UP: SignedDuration = SignedDuration::from_hours(100 * 365 * 24);

fn boot_time(shift: SignedDuration) -> Duration {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since = SignedDuration::new(read.tv_sec, i32::try_from(read.tv_nsec).unwrap_or(0));
    if shift.is_zero() {
        return since.unsigned_abs();
    }
    // Both clocks of a test are moved alike: a difference between them would be a clock that was set.
    let moved = since.checked_add(shift).and_then(|moved| moved.checked_add(MADE_UP));
    moved.filter(|moved| moved.is_positive()).unwrap_or(since).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passes_for_a_test_passes_on_both_clocks() {
        let machine = Clock::machine().now();
        for years in [-30, -1, 1, 30] {
            let begins = machine.wall + SignedDuration::from_hours(years * 365 * 24);
            let before = Clock::starting_at(begins).now();
            let after = Clock::starting_at(begins + SignedDuration::from_mins(15)).now();
            let boot = SignedDuration::try_from(after.boot.checked_sub(before.boot).unwrap()).unwrap();
            let apart = after.wall.duration_since(before.wall) - boot;
            assert!(apart.abs() < SignedDuration::from_secs(30), "{years}: {apart}");
        }
    }
}
