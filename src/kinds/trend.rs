//! When a number that keeps going one way will reach its limit: said only where the past allows it. Pure: samples in, a
//! forecast or nothing out.
//!
//! A forecast is worth more than a threshold only while it cries no wolf. So three things are asked of the past: that a
//! straight line fits it so well that its slope is known to 5 %; that it never came as near to the limit as now and went
//! back by itself (a nightly cleanup, the hours of a working day); and that it is long enough for how far ahead is said.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How far apart samples are kept, by their age: each age with the distance up to it. 8 days, about 120 samples.
const KEPT: [(SignedDuration, SignedDuration); 3] = [
    (SignedDuration::from_hours(12), SignedDuration::from_mins(14)),
    (SignedDuration::from_hours(48), SignedDuration::from_mins(59)),
    (SignedDuration::from_hours(192), SignedDuration::from_mins(239)),
];
/// Fewer samples, or less time, say nothing.
const LEAST_SAMPLES: usize = 6;
const LEAST_SPAN_S: f64 = 2.0 * 3_600.0;
/// The standard error of a slope that is said, as a share of it.
const KNOWN_TO: f64 = 0.05;
/// No further ahead is said than this many times what was seen.
const AHEAD: f64 = 10.0;
/// What came back counts from this share of all that the number did: less is scatter.
const CAME_BACK: f64 = 0.2;
/// To be unheard of, it must be this share of what came back nearer to the limit than then: thinned samples miss the last
/// hours before a cleanup.
const BEYOND: f64 = 0.1;

/// What a number was, oldest first, thinned with age. Give it to a check's memory as it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Trend(Vec<(i64, f64)>);

/// When a limit will be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Seconds from now.
    pub in_s: i64,
    /// Seconds of the past that say so.
    pub span_s: i64,
}

impl Trend {
    /// Takes a sample in, where the last one is old enough. Whether anything changed, so that it has to be remembered.
    /// Samples from a clock that was ahead go, and so does a number that isn't finite.
    pub fn note(&mut self, now: Timestamp, value: f64) -> bool {
        let now = now.as_second();
        let before = self.0.len();
        self.0.retain(|(at, _)| *at <= now && now - at <= KEPT[2].0.as_secs());
        let [(_, apart), ..] = KEPT;
        let due = self.0.last().is_none_or(|(at, _)| now - at >= apart.as_secs());
        if due && value.is_finite() {
            self.0.push((now, value));
            self.thin(now);
            return true;
        }
        self.0.len() != before
    }

    /// Whether its last sample is so old that it says nothing any more.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.0.last().is_none_or(|(at, _)| now.as_second() - at > KEPT[2].0.as_secs())
    }

    /// Keeps of each age what belongs to it: from the oldest on, whatever lies too near to the one kept before goes.
    fn thin(&mut self, now: i64) {
        let apart = |age: i64| {
            KEPT.iter().find(|(until, _)| age <= until.as_secs()).map_or(i64::MAX, |(_, apart)| apart.as_secs())
        };
        let mut last: Option<i64> = None;
        self.0.retain(|(at, _)| {
            let keep = last.is_none_or(|last| at - last >= apart(now - at));
            if keep {
                last = Some(*at);
            }
            keep
        });
    }

    /// Seconds until the number, which is `value` now, reaches `limit`. None where it doesn't head there, is there, or
    /// where the past doesn't allow to say so.
    #[must_use]
    pub fn until(&self, now: Timestamp, value: f64, limit: f64) -> Option<Forecast> {
        let left = (limit - value).abs();
        let points = self.points(now, value, limit)?;
        if !unheard_of(&points, left) {
            return None;
        }
        let (first, line) = longest(&points)?;
        // The line says where the number is on the whole; how far it has to go is said from where it really is.
        let in_s = left / -line.slope;
        let span_s = -points.get(first)?.0;
        if line.slope >= 0.0 || in_s > span_s * AHEAD {
            return None;
        }
        let whole = |seconds: f64| SignedDuration::try_from_secs_f64(seconds).ok().map(|it| it.as_secs());
        Some(Forecast { in_s: whole(in_s)?, span_s: whole(span_s)? })
    }

    /// The samples and the present as seconds before now (negative) and what was left to the limit.
    #[expect(clippy::cast_precision_loss, reason = "seconds of some days fit 53 bits")]
    fn points(&self, now: Timestamp, value: f64, limit: f64) -> Option<Vec<(f64, f64)>> {
        let towards = match value.partial_cmp(&limit)? {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Greater => -1.0,
        };
        let now = now.as_second();
        let sampled = self.0.iter().filter(|(at, _)| *at < now);
        let points = sampled.map(|(at, was)| ((at - now) as f64, (limit - was) * towards));
        Some(points.chain([(0.0, (limit - value) * towards)]).collect())
    }
}

/// A line through points, good enough to be gone on with.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// What is left, by the second.
    slope: f64,
}

/// The longest stretch up to now that a line fits: its first point, and the line.
fn longest(points: &[(f64, f64)]) -> Option<(usize, Line)> {
    let mut count = points.len();
    while count >= LEAST_SAMPLES {
        let first = points.len() - count;
        let stretch = points.get(first..)?;
        if stretch.first().is_none_or(|(at, _)| -at < LEAST_SPAN_S) {
            return None;
        }
        if let Some(line) = fit(stretch) {
            return Some((first, line));
        }
        count = count * 4 / 5;
    }
    None
}

/// The line whose slope is the median of all slopes between two points (Theil and Sen), which a few strange points don't
/// move; none where the points scatter so much that the slope is not known.
#[expect(clippy::cast_precision_loss, reason = "there are about a hundred points")]
fn fit(points: &[(f64, f64)]) -> Option<Line> {
    let slopes = points.iter().enumerate().flat_map(|(n, (at, left))| {
        let later = points.get(n + 1..).unwrap_or_default().iter();
        later.filter(move |(then, _)| then > at).map(move |(then, rest)| (rest - left) / (then - at))
    });
    let slope = at_share(slopes.collect(), 0.5)?;
    let level = at_share(points.iter().map(|(at, left)| left - slope * at).collect(), 0.5)?;
    let off: Vec<f64> = points.iter().map(|(at, left)| (left - slope * at - level).abs()).collect();
    let now_off = off.last().copied()?;
    // One in ten may be a burst; of normally scattered points that share lies beyond 1.645 standard deviations.
    let scatter = at_share(off, 0.9)? / 1.645;
    let (first, last) = (points.first()?.0, points.last()?.0);
    let change = slope.abs() * (last - first);
    let error = scatter * (12.0 / points.len() as f64).sqrt();
    let goes_on = now_off <= (3.0 * scatter).max(change * 0.02);
    (change > 0.0 && error <= KNOWN_TO * change && goes_on).then_some(Line { slope })
}

/// The number that this share of the others lies below.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a length is one"
)]
fn at_share(mut numbers: Vec<f64>, share: f64) -> Option<f64> {
    let at = ((numbers.len() as f64 * share) as usize).min(numbers.len().checked_sub(1)?);
    Some(*numbers.select_nth_unstable_by(at, f64::total_cmp).1)
}

/// Whether so little was never left before, where a good part of it came back: what did so by itself may do so again.
fn unheard_of(points: &[(f64, f64)], left: f64) -> bool {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut came_back, mut from) = (0.0, f64::INFINITY);
    for (_, left) in points {
        least = least.min(*left);
        most = most.max(*left);
        if left - least > came_back {
            (came_back, from) = (left - least, least);
        }
    }
    came_back <= (most - least) * CAME_BACK || left < from - came_back * BEYOND
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kinds::testing::at;

    const HOUR: i64 = 3_600;
    const CYCLE: i64 = 900;

    /// Looks each quarter of an hour for so long, and what is said at the last one.
    fn watched(seconds: i64, limit: f64, number: impl Fn(i64) -> f64) -> Option<Forecast> {
        said(seconds, limit, number).pop().unwrap().1
    }

    /// What is said at each look.
    fn said(seconds: i64, limit: f64, number: impl Fn(i64) -> f64) -> Vec<(i64, Option<Forecast>)> {
        let mut trend = Trend::default();
        let look = |second: i64| {
            trend.note(at(second), number(second));
            (second, trend.until(at(second), number(second), limit))
        };
        (0..=seconds / CYCLE).map(|n| n * CYCLE).map(look).collect()
    }

    /// A number from -1 to 1 that depends on the second alone.
    fn noise(seed: u64, second: i64) -> f64 {
        let mut x = seed ^ second.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for _ in 0..3 {
            x ^= x >> 29;
            x = x.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        f64::from(u32::try_from(x >> 32).unwrap()) / f64::from(u32::MAX) * 2.0 - 1.0
    }

    fn hours(second: i64) -> f64 {
        f64::from(i32::try_from(second).unwrap()) / 3_600.0
    }

    #[test]
    fn what_goes_one_way_is_said_and_what_does_not_is_not() {
        // Name, hours watched, limit, the number at a second, and the hours that are said.
        type Row<'a> = (&'a str, i64, f64, &'a dyn Fn(i64) -> f64, Option<f64>);
        let day = |second: i64| hours(second) / 24.0 * std::f64::consts::TAU;
        let table: &[Row<'_>] = &[
            ("falling to nothing", 3, 0.0, &|s| 120.0 - 10.0 * hours(s), Some(9.0)),
            ("rising to a limit", 3, 100.0, &|s| 10.0 + 15.0 * hours(s), Some(3.0)),
            ("for a week", 170, 0.0, &|s| 200.0 - hours(s), Some(30.0)),
            ("leaving the limit", 12, 0.0, &|s| 100.0 + hours(s), None),
            ("over the limit", 12, 50.0, &|s| 60.0 - 0.1 * hours(s), Some(88.0)),
            ("still", 100, 0.0, &|_| 100.0, None),
            ("too short", 1, 0.0, &|s| 120.0 - 10.0 * hours(s), None),
            ("too far ahead", 12, 0.0, &|s| 10_000.0 - hours(s), None),
            ("nothing is left", 12, 0.0, &|s| (10.0 - hours(s)).max(0.0), None),
            ("a new runaway after quiet days", 100, 0.0, &|s| 500.0 - 20.0 * (hours(s) - 90.0).max(0.0), Some(15.0)),
            (
                "slow for days, then quick",
                60,
                0.0,
                &|s| 900.0 - hours(s) - 40.0 * (hours(s) - 50.0).max(0.0),
                Some(10.73),
            ),
            ("a step a day", 150, 0.0, &|s| 1_000.0 - 50.0 * (hours(s) / 24.0).floor(), Some(345.0)),
            ("a burst that is over", 30, 0.0, &|s| if hours(s) < 20.0 { 500.0 } else { 300.0 }, None),
            ("the hours of a day", 120, 0.0, &|s| 50.0 + 40.0 * day(s).cos(), None),
        ];
        for (name, watched_for, limit, number, want) in table {
            let got = watched(watched_for * HOUR, *limit, number).map(|forecast| hours(forecast.in_s));
            let near = got.zip(*want).is_some_and(|(got, want)| (got - want).abs() <= want * 0.05);
            assert!(near || got == *want, "{name}: {got:?}");
        }
    }

    #[test]
    fn a_cleanup_that_comes_each_night_cries_no_wolf() {
        // 4 GiB an hour, all of it back at three in the morning; 110 GiB are free then.
        let nightly = |s: i64| 110.0 - 4.0 * (hours(s) + 21.0).rem_euclid(24.0);
        let wolves: Vec<_> = said(10 * 24 * HOUR, 0.0, nightly)
            .into_iter()
            .filter(|(second, forecast)| *second > 24 * HOUR && forecast.is_some())
            .collect();
        assert_eq!(wolves, []);
        // The night it does not come is said in time.
        let missed =
            |s: i64| if s < 9 * 24 * HOUR { nightly(s) } else { nightly(9 * 24 * HOUR) - 4.0 * (hours(s) - 216.0) };
        let first =
            said(11 * 24 * HOUR, 0.0, missed).into_iter().find(|(second, said)| *second > 24 * HOUR && said.is_some());
        let (second, forecast) = first.unwrap();
        let really = 216.0 + nightly(9 * 24 * HOUR) / 4.0 - hours(second);
        assert!(
            really > 0.5 && (hours(forecast.unwrap().in_s) - really).abs() <= really * 0.05,
            "{second} {forecast:?}"
        );
    }

    #[test]
    fn a_clock_that_is_set_and_hours_without_a_look() {
        let number = |s: i64| 1_000.0 - hours(s);
        let mut trend = Trend::default();
        for n in 0..200 {
            trend.note(at(n * CYCLE), number(n * CYCLE));
        }
        // Set back by a day: what lies ahead is no past.
        let back = at(26 * HOUR);
        assert!(trend.note(back, number(26 * HOUR)));
        assert!(trend.0.iter().all(|(when, _)| *when <= back.as_second()));
        assert!(trend.until(back, number(26 * HOUR), 990.0).is_none());
        // Set to long ago, it begins anew.
        assert!(trend.note(at(-HOUR), 5.0));
        assert_eq!(trend.0, [(-HOUR, 5.0)]);

        let gap = |s: i64| (3 * HOUR..20 * HOUR).contains(&s);
        let mut trend = Trend::default();
        for n in (0..=24 * HOUR / CYCLE).filter(|n| !gap(n * CYCLE)) {
            trend.note(at(n * CYCLE), number(n * CYCLE));
        }
        let forecast = trend.until(at(24 * HOUR), number(24 * HOUR), 900.0).unwrap();
        assert_eq!((forecast.in_s, forecast.span_s), (76 * HOUR, 24 * HOUR));
    }

    #[test]
    fn samples_are_few_and_no_older_than_they_may_be() {
        let mut trend = Trend::default();
        let mut most = 0;
        for minute in 0..20 * 24 * 60 {
            trend.note(at(minute * 60), 1.0);
            most = most.max(trend.0.len());
        }
        assert!((60..=130).contains(&most), "{most}");
        assert!(trend.0.iter().all(|(when, _)| *when >= (20 - 8) * 24 * HOUR - 60));
        assert!(!trend.note(at(20 * 24 * HOUR), f64::NAN));
        let json = serde_json::to_string(&trend).unwrap();
        assert!(json.len() < 4_096, "{} bytes", json.len());
        assert_eq!(serde_json::from_str::<Trend>(&json).unwrap(), trend);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn a_line_is_said_to_five_percent(
            watched_for in 3_i64..100, left in 1.0_f64..9.0, speed in 0.001_f64..1e9, seed: u64, down: bool,
        ) {
            // Noise of a hundredth of what changed.
            let changed = speed * hours(watched_for * HOUR);
            let from = changed * (1.0 + left);
            let number = |s: i64| from - speed * hours(s) + changed * 0.01 * noise(seed, s);
            let number = |s: i64| if down { number(s) } else { -number(s) };
            let forecast = watched(watched_for * HOUR, 0.0, number);
            let really = hours(watched_for * HOUR) * left;
            let said = forecast.map(|forecast| hours(forecast.in_s));
            prop_assert!(said.is_some_and(|said| (said - really).abs() <= really * 0.05), "{said:?}, really {really}");
        }

        #[test]
        fn noise_says_nothing(watched_for in 2_i64..200, spread in 0.01_f64..100.0, seed: u64) {
            for (second, said) in said(watched_for * HOUR, 0.0, |s| 100.0 + spread * noise(seed, s)) {
                prop_assert!(said.is_none(), "after {} h: {said:?}", hours(second));
            }
        }

        #[test]
        fn a_sawtooth_says_nothing_once_it_fell_back(
            period in 2_i64..60, spread in 0.0_f64..0.01, above in 0.01_f64..3.0, seed: u64,
        ) {
            let tooth = hours(period * HOUR);
            let number = |s: i64| tooth * (1.0 + above) - hours(s).rem_euclid(tooth) + tooth * spread * noise(seed, s);
            for (second, said) in said((period * 3).max(30) * HOUR, 0.0, number) {
                prop_assert!(said.is_none() || second <= period * HOUR, "after {} h: {said:?}", hours(second));
            }
        }
    }
}
