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

fn boot_time(shift: SignedDuration) -> Duration {
    let read = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since = SignedDuration::new(read.tv_sec, i32::try_from(read.tv_nsec).unwrap_or(0));
    // A test's clock that starts in the future has been up for that long; one in the past keeps the real time.
    let moved = since.checked_add(shift).filter(SignedDuration::is_positive).unwrap_or(since);
    moved.unsigned_abs()
}
