//! What is remembered of a log: how many events an hour are usual, who was seen, who was turned away lately.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::words::seconds;

/// Hours of which the events are remembered: two weeks, so that each hour of the day stands in it often enough.
const HOURS: usize = 14 * 24;
/// Hours after which there is something to compare with.
pub(super) const ENOUGH_HOURS: usize = 24;
/// Keys of one rule that are remembered.
pub(super) const MAX_KEYS: usize = 5_000;
/// A key that was not seen for so long is new again.
const FORGET: SignedDuration = SignedDuration::from_hours(90 * 24);
/// Failures this far apart belong together: an attack may be slow.
const TOGETHER: SignedDuration = SignedDuration::from_hours(1);
/// How long a login that came after many failures stands in the report.
const HOLD: SignedDuration = SignedDuration::from_hours(24);
/// Such logins that are remembered.
const MAX_BREACHES: usize = 50;
const HOUR_S: i64 = 3_600;

/// The events of one rule, by time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rate {
    /// Events in each hour since 1970 of which anything was seen.
    hours: BTreeMap<i64, f64>,
    /// What was counted lately: from when, until when, how many.
    recent: Vec<(Timestamp, Timestamp, u64)>,
}

impl Rate {
    /// Takes in what came between two looks. More than `cap` an hour is not taken for usual later.
    pub fn add(&mut self, from: Timestamp, now: Timestamp, events: u64, cap: Option<f64>) {
        let hour_ago = now.checked_sub(SignedDuration::from_secs(HOUR_S)).unwrap_or(now);
        self.recent.retain(|(_, until, _)| *until > hour_ago && *until <= now);
        self.recent.push((from.min(now), now, events));
        let (first, last) = (from.min(now).as_second(), now.as_second());
        let total = seconds(last - first);
        let oldest = (last / HOUR_S) - i64::try_from(HOURS).unwrap_or(0);
        for hour in (first / HOUR_S).max(oldest)..=(last / HOUR_S) {
            let begins = hour * HOUR_S;
            let inside = seconds((last.min(begins + HOUR_S) - first.max(begins)).max(0));
            let share = if total > 0.0 { inside / total } else { 1.0 };
            let seen = self.hours.entry(hour).or_default();
            *seen += number(events) * share;
            if let Some(cap) = cap {
                *seen = seen.min(cap);
            }
        }
        self.hours = self.hours.split_off(&oldest);
    }

    /// Events in the last hour. What came in between two looks counts as spread evenly.
    pub fn last_hour(&self, now: Timestamp) -> f64 {
        let hour_ago = now.as_second() - HOUR_S;
        let parts = self.recent.iter().map(|(from, until, events)| {
            let length = seconds(until.as_second() - from.as_second());
            let inside = seconds(until.as_second() - from.as_second().max(hour_ago)).max(0.0);
            number(*events) * if length > 0.0 { (inside / length).min(1.0) } else { 1.0 }
        });
        parts.sum()
    }

    /// Whole hours before this one that are remembered.
    pub fn hours(&self, now: Timestamp) -> usize {
        self.before(now).count()
    }

    /// Events an hour that are usual: the mean of all hours, or the median of this hour of earlier days where that is higher
    /// (a nightly job is usual at night; an attack of one night is not). None before there is enough to compare with.
    pub fn usual(&self, now: Timestamp) -> Option<f64> {
        if self.hours(now) < ENOUGH_HOURS {
            return None;
        }
        let hour = now.as_second() / HOUR_S;
        // The last sixty minutes lie in two hours of the clock.
        let of_day = |back: i64| {
            let earlier = self.before(now).filter(|(at, _)| hour - at > 12 && (hour - back - at) % 24 == 0);
            median(earlier.map(|(_, events)| events).collect())
        };
        [mean(self.before(now)), of_day(0), of_day(1)].into_iter().flatten().reduce(f64::max)
    }

    fn before(&self, now: Timestamp) -> impl Iterator<Item = (i64, f64)> {
        self.hours.range(..now.as_second() / HOUR_S).map(|(hour, events)| (*hour, *events))
    }
}

/// The lower one of at least two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1).filter(|last| *last > 0)?;
    values.get(last / 2).copied()
}

fn mean(hours: impl Iterator<Item = (i64, f64)>) -> Option<f64> {
    let (sum, count) = hours.fold((0.0, 0.0), |(sum, count), (_, events)| (sum + events, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[expect(clippy::cast_precision_loss, reason = "counts of events and seconds between looks fit 53 bits")]
fn number(n: u64) -> f64 {
    n as f64
}

/// Who was seen, and when last. To the day, so that the same people leave the same bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Known(BTreeMap<String, i64>);

impl Known {
    /// Notes a key; says whether it is new.
    pub fn meet(&mut self, key: &str, now: Timestamp) -> bool {
        if self.0.len() >= 2 * MAX_KEYS {
            self.age(now);
        }
        self.0.insert(key.to_owned(), day(now)).is_none()
    }
    /// Forgets whom nobody saw for long, and the oldest where there are too many; says how many there were too many.
    pub fn age(&mut self, now: Timestamp) -> usize {
        let oldest = day(now) - FORGET.as_hours() / 24;
        self.0.retain(|_, seen| *seen >= oldest);
        let too_many = self.0.len().saturating_sub(MAX_KEYS);
        forget_oldest(&mut self.0, too_many, |seen| *seen);
        too_many
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

fn day(at: Timestamp) -> i64 {
    at.as_second() / (24 * HOUR_S)
}

fn forget_oldest<V, O: Ord + Copy>(map: &mut BTreeMap<String, V>, count: usize, when: impl Fn(&V) -> O) {
    if count == 0 {
        return;
    }
    let mut times: Vec<O> = map.values().map(&when).collect();
    times.sort_unstable();
    let Some(edge) = times.get(count - 1).copied() else { return };
    let mut left = count;
    map.retain(|_, value| {
        let goes = left > 0 && when(value) <= edge;
        left -= usize::from(goes);
        !goes
    });
}

/// Who was turned away, and who was then let in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refused {
    /// How often and when last, by key.
    keys: BTreeMap<String, (u64, Timestamp)>,
    /// Logins that came after many failures.
    pub breaches: Vec<Breach>,
}

/// A login that came after many failures from the same place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Breach {
    /// Which rule saw the login.
    pub rule: String,
    /// Where from.
    pub key: String,
    /// As whom, where that is told.
    pub who: Option<String>,
    /// How many failures came before.
    pub failures: u64,
    /// When it was seen.
    pub at: Timestamp,
}

impl Refused {
    /// Somebody was turned away. Those who were last turned away long ago begin anew.
    pub fn failed(&mut self, key: &str, times: u64, now: Timestamp) {
        if self.keys.len() >= 2 * MAX_KEYS {
            self.age(now);
        }
        let (count, last) = self.keys.entry(key.to_owned()).or_insert((0, now));
        if now.duration_since(*last) > TOGETHER {
            *count = 0;
        }
        *count = count.saturating_add(times);
        *last = now;
    }

    /// Somebody was let in: a breach where `many` failures came before. Fewer are somebody who mistyped.
    pub fn let_in(&mut self, rule: &str, key: &str, who: Option<&str>, many: u64, now: Timestamp) {
        let Some((failures, last)) = self.keys.remove(key) else { return };
        if failures < many || now.duration_since(last) > TOGETHER || self.breaches.len() >= MAX_BREACHES {
            return;
        }
        let (rule, key, who) = (rule.to_owned(), key.to_owned(), who.map(str::to_owned));
        self.breaches.push(Breach { rule, key, who, failures, at: now });
    }

    pub fn age(&mut self, now: Timestamp) {
        self.keys.retain(|_, (_, last)| now.duration_since(*last) <= TOGETHER);
        let too_many = self.keys.len().saturating_sub(MAX_KEYS);
        // Whom it turned away least often is forgotten first.
        forget_oldest(&mut self.keys, too_many, |(count, last)| (*count, *last));
        self.breaches.retain(|breach| now.duration_since(breach.at) <= HOLD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::at;

    /// Events of each quarter of an hour for some days, by the hour of the day.
    fn days(count: i64, events: impl Fn(i64) -> u64) -> (Rate, Timestamp) {
        let mut rate = Rate::default();
        let quarters = count * 24 * 4;
        for quarter in 0..quarters {
            let from = quarter * 900;
            rate.add(at(from), at(from + 900), events(from / HOUR_S % 24), None);
        }
        (rate, at(quarters * 900))
    }

    #[test]
    fn the_last_hour_is_what_came_in_it() {
        let (mut rate, now) = days(1, |_| 3);
        assert!((rate.last_hour(now) - 12.0).abs() < 0.01);
        // A gap of ten hours: what came in it is spread over it.
        let later = now + SignedDuration::from_hours(10);
        rate.add(now, later, 500, None);
        assert!((rate.last_hour(later) - 50.0).abs() < 0.01, "{}", rate.last_hour(later));
        // Looks in quick succession don't multiply what came.
        rate.add(later, later + SignedDuration::from_secs(3), 2, None);
        let now = later + SignedDuration::from_secs(3);
        assert!(rate.last_hour(now) < 52.1, "{}", rate.last_hour(now));
        // A clock that was set back loses nothing but the past.
        rate.add(now, at(1_000), 7, None);
        assert!((rate.last_hour(at(1_000)) - 7.0).abs() < 0.01);
    }

    #[test]
    fn usual_needs_a_day_and_knows_the_hours() {
        let (rate, now) = days(1, |_| 3);
        assert_eq!(rate.usual(now), Some(12.0));
        assert_eq!(rate.usual(now - SignedDuration::from_hours(2)), None, "less than a day lies before that");
        assert_eq!(Rate::default().usual(now), None);
        // A job at two in the morning is usual then, and not at noon.
        let (rate, midnight) = days(5, |hour| if hour == 2 { 100 } else { 1 });
        let at_hour = |hour| rate.usual(midnight + SignedDuration::from_hours(hour)).unwrap();
        assert!((at_hour(2) - 400.0).abs() < 0.01 && at_hour(12) < 25.0, "{} {}", at_hour(2), at_hour(12));
        assert!(serde_json::to_vec(&rate).unwrap().len() < 10_000);
    }

    #[test]
    fn two_weeks_are_remembered_and_an_attack_is_not_usual() {
        let (mut rate, now) = days(30, |_| 1);
        assert_eq!(rate.hours.len(), HOURS + 1);
        rate.add(now, now + SignedDuration::from_mins(15), 100_000, Some(40.0));
        let usual = rate.usual(now + SignedDuration::from_hours(1)).unwrap();
        assert!(usual < 5.0, "{usual}");
        // One that goes on does not become usual while it does, nor at the same hour of the next day.
        let (mut rate, now) = days(2, |_| 5);
        let hours = |hours| now + SignedDuration::from_hours(hours);
        (0..3).for_each(|hour| rate.add(hours(hour), hours(hour + 1), 4_000, Some(100.0)));
        for hour in [3, 25, 26] {
            assert!(rate.usual(hours(hour)).unwrap() < 26.0, "{hour}: {:?}", rate.usual(hours(hour)));
        }
    }

    #[test]
    fn who_was_not_seen_for_long_is_new_again() {
        let mut known = Known::default();
        assert!(known.meet("a", at(0)) && !known.meet("a", at(60)));
        known.age(at(90 * 86_400));
        assert!(!known.meet("a", at(90 * 86_400)));
        known.age(at(200 * 86_400));
        assert!(known.meet("a", at(200 * 86_400)));
        for n in 0..MAX_KEYS {
            known.meet(&format!("k{n}"), at(201 * 86_400));
        }
        assert_eq!(known.age(at(201 * 86_400)), 1);
        assert_eq!(known.len(), MAX_KEYS);
        assert!(known.meet("a", at(201 * 86_400)), "the oldest goes first");
        assert!(serde_json::to_vec(&known).unwrap().len() < 1 << 20);
    }

    #[test]
    fn a_login_after_many_failures_and_one_after_few() {
        let breaches = |failures: &[(i64, u64)], login: i64| {
            let mut refused = Refused::default();
            for (second, times) in failures {
                refused.failed("a", *times, at(*second));
            }
            refused.failed("b", 500, at(login));
            refused.let_in("ssh-login", "a", Some("root"), 10, at(login));
            refused.breaches.iter().map(|breach| breach.failures).collect::<Vec<_>>()
        };
        assert_eq!(breaches(&[(0, 10)], 60), [10]);
        assert_eq!(breaches(&[(0, 9)], 60), Vec::<u64>::new());
        assert_eq!(breaches(&[], 60), Vec::<u64>::new());
        assert_eq!(breaches(&[(0, 10)], 4_000), Vec::<u64>::new(), "long ago");
        assert_eq!(breaches(&[(0, 5), (4_000, 5)], 4_001), Vec::<u64>::new(), "begun anew");
        let slow: Vec<(i64, u64)> = (0..10).map(|n| (n * 3_000, 1)).collect();
        assert_eq!(breaches(&slow, 28_000), [10], "a slow one");
        let mut refused = Refused::default();
        refused.failed("a", 20, at(0));
        refused.let_in("ssh-login", "a", None, 10, at(0));
        refused.age(at(86_400));
        assert_eq!(refused.breaches.len(), 1);
        refused.age(at(86_401));
        assert_eq!(refused.breaches.len(), 0);
        (0..2 * MAX_KEYS).for_each(|n| refused.failed(&format!("k{n}"), 1, at(86_401)));
        refused.failed("often", 50, at(86_401));
        refused.age(at(86_401));
        assert!(refused.keys.len() == MAX_KEYS && refused.keys.contains_key("often"));
    }
}
