//! When a start is due, computed from a plan and the last start, and how late it may be.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::Settings;
use crate::clean;
use crate::facts::{Edge, Scale, Unit};
use crate::schedule::Schedule;
use crate::settings::Dur;
use crate::words::span;

/// The grace where none is set is a tenth of the plan's period, within these bounds.
const GRACE: (SignedDuration, SignedDuration) = (SignedDuration::from_mins(5), SignedDuration::from_hours(1));
/// A late start turns from warn to fail after one more period, at most this much.
const LATE_AT_MOST: SignedDuration = SignedDuration::from_hours(1);
/// A start this little before its slot is that slot's (clocks differ), as far as the period allows.
const EARLY: SignedDuration = SignedDuration::from_secs(60);

/// When a job starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// In the slots of a schedule, in its zone.
    Slots(Schedule),
    /// This often, counted from a moment.
    Every { every: SignedDuration, anchor: Timestamp },
    /// Once.
    Once(Timestamp),
}

impl Plan {
    /// The first start after `t`.
    pub(super) fn next_after(&self, t: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Slots(schedule) => schedule.next_after(t),
            Self::Once(at) => Some(*at).filter(|at| *at > t),
            Self::Every { every, anchor } => {
                let every = every.as_millis();
                let since = t.duration_since(*anchor).as_millis();
                let steps = if every > 0 { since.div_euclid(every).checked_add(1)? } else { return None };
                let ahead = i64::try_from(steps.checked_mul(every)?).ok()?;
                anchor.checked_add(SignedDuration::from_millis(ahead)).ok()
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots(schedule) => schedule.fmt(f),
            Self::Every { every, .. } => write!(f, "every {}", span(every.as_secs())),
            Self::Once(at) => write!(f, "once at {at}"),
        }
    }
}

/// The last execution: its start and its end, where they are known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
}

/// When the next start is due, and the time from there to the one after it.
pub(super) fn due(plan: &Plan, last: Option<Last>, first_seen: Timestamp) -> Option<(Timestamp, SignedDuration)> {
    let started = last.and_then(|last| last.started);
    let from = started.or_else(|| last?.ended).unwrap_or(first_seen);
    let slot = |after: Timestamp| {
        let slot = plan.next_after(after)?;
        let after_it = plan.next_after(slot);
        // What comes once has no period: its grace is the longest.
        Some((slot, after_it.map_or(GRACE.1 * 10, |after_it| after_it.duration_since(slot))))
    };
    let (mut due, mut period) = slot(from)?;
    if started.is_some() && due.duration_since(from) < EARLY.min(period / 4) {
        (due, period) = slot(due)?;
    }
    // What ran on beyond its next slot could not start in it.
    match last.and_then(|last| last.ended).filter(|ended| *ended > due) {
        Some(ended) => slot(ended),
        None => Some((due, period)),
    }
}

/// How late a start may be.
pub(super) fn grace(settings: &Settings, period: SignedDuration) -> SignedDuration {
    settings.grace.map_or_else(|| (period / 10).clamp(GRACE.0, GRACE.1), Dur::signed)
}

/// The bands of a start that is `late` by so many seconds, `before` in words.
pub(super) fn lateness(plan: &Plan, grace: SignedDuration, period: SignedDuration, late: i64, before: &str) -> Scale {
    let edge = |at: SignedDuration, code: &'static str| Edge { at: at.as_secs_f64(), code: code.into(), settled: true };
    Scale {
        warn: Some(edge(grace, "late")),
        fail: Some(edge(grace.saturating_add(period.min(LATE_AT_MOST)), "overdue")),
        says: clean!("was due {} ago (`{plan}`), {before}", span(late)),
        ..Scale::plain(Unit::Seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::at;

    #[test]
    fn an_anchor_tells_the_slots() {
        let ms = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let half_hourly = Plan::Every { every: SignedDuration::from_mins(30), anchor: ms(1_113_887) };
        // As seen on a live scheduler.
        assert_eq!(half_hourly.next_after(ms(1_795_297_809_272)), Some(ms(1_795_299_513_887)));
        assert_eq!(half_hourly.next_after(ms(1_795_299_513_887)), Some(ms(1_795_301_313_887)));
        // An anchor ahead counts backwards as well.
        assert_eq!(half_hourly.next_after(at(0)), Some(ms(1_113_887)));
        let never = Plan::Every { every: SignedDuration::ZERO, anchor: at(0) };
        assert_eq!(never.next_after(at(5)), None);
        let once = Plan::Once(at(100));
        assert_eq!((once.next_after(at(99)), once.next_after(at(100))), (Some(at(100)), None));
        assert_eq!(half_hourly.next_after(Timestamp::MAX), None);
    }
}
