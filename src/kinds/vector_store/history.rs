//! What is remembered of collections between looks: since when one is not green, how many points it held, since when it
//! is gone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::settings::{Drop, Settings};
use super::{Collection, Health, secs};
use crate::clean;
use crate::facts::{Edge, Facts, Scale, Subject, Unit, Unread, Worse};
use crate::kinds::Cx;
use crate::redact::Clean;
use crate::settings::Dur;
use crate::words::span;

/// Counts are kept for this long, the highest of each hour.
const COUNTS_KEPT: SignedDuration = SignedDuration::from_hours(24);
const ONE_COUNT_IN: SignedDuration = SignedDuration::from_hours(1);
/// Collections that are gone and remembered as such; of more, the oldest are forgotten.
const MAX_GONE: usize = 40;
/// A count is whole again only this share past the edge, as bands are left.
const WAY_BACK: f64 = 0.05;
const PREFIX: &str = "collection:";

/// What is known of one collection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// Since when it is not green.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    busy_since: Option<Timestamp>,
    /// The most points in an hour that begins with the look at this time, oldest first.
    #[serde(default)]
    highs: Vec<(Timestamp, u64)>,
    /// The drop that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fall: Option<Fall>,
    /// Since when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gone_since: Option<Timestamp>,
}

/// Points were there and are not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fall {
    /// When it was seen first.
    at: Timestamp,
    /// How many points there were.
    from: u64,
    /// The count of the last look, and when that was.
    last: (Timestamp, u64),
}

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct History {
    before: BTreeMap<Subject, Kept>,
    now: BTreeMap<Subject, Kept>,
}

impl History {
    pub fn read(cx: &Cx) -> Result<Self, Unread> {
        let mut before = BTreeMap::new();
        for (key, bytes) in cx.memory.scan(PREFIX)? {
            if let (Some(name), Ok(kept)) = (key.strip_prefix(PREFIX), serde_json::from_slice(&bytes)) {
                before.insert(Subject::new(name), kept);
            }
        }
        Ok(Self { now: before.clone(), before })
    }

    /// What to write for the next time: only what changed.
    pub fn changes(self) -> Vec<(String, Option<Vec<u8>>)> {
        let key = |subject: &Subject| format!("{PREFIX}{subject}");
        let mut changes = Vec::new();
        for (subject, kept) in &self.now {
            if self.before.get(subject) != Some(kept) {
                changes.push((key(subject), serde_json::to_vec(kept).ok()));
            }
        }
        changes.extend(
            self.before.keys().filter(|subject| !self.now.contains_key(subject)).map(|subject| (key(subject), None)),
        );
        changes
    }

    /// Puts what time adds to a look at a collection: for how long it is not green, and how many points are gone.
    pub fn advance(
        &mut self,
        settings: &Settings,
        subject: &Subject,
        collection: &Collection,
        now: Timestamp,
        facts: &mut Facts,
    ) {
        let kept = self.now.entry(subject.clone()).or_default();
        kept.gone_since = None;
        if collection.status.is_some() {
            let since = match collection.health {
                Health::Well => None,
                Health::Busy | Health::Broken => Some(kept.busy_since.filter(|since| *since <= now).unwrap_or(now)),
            };
            kept.busy_since = since;
            let busy = since.filter(|_| collection.health == Health::Busy);
            let busy_s = busy.map_or(0, |since| now.duration_since(since).as_secs());
            facts.gauge(subject, "not_green_s", busy_s, busy_scale(settings, collection, busy_s));
        }
        if let Some(points) = collection.points {
            put_points(settings, subject, kept, points, collection.health == Health::Well, now, facts);
        }
    }

    /// The collections that were there and are not, as far as that is worth saying.
    pub fn gone(
        &mut self,
        there: &BTreeSet<Subject>,
        chosen: impl Fn(&Subject) -> bool,
        accepted_after: Dur,
        now: Timestamp,
    ) -> BTreeSet<Subject> {
        let mut gone = BTreeSet::new();
        self.now.retain(|subject, kept| {
            if there.contains(subject) {
                return true;
            }
            let since = *kept.gone_since.get_or_insert(now);
            // Nobody misses what was empty.
            let held = kept.highs.is_empty() || kept.highs.iter().any(|(_, points)| *points > 0) || kept.fall.is_some();
            let missed = held && chosen(subject) && now.duration_since(since) < accepted_after.signed();
            if missed {
                gone.insert((since, subject.clone()));
            }
            missed
        });
        while gone.len() > MAX_GONE {
            if let Some((_, oldest)) = gone.pop_first() {
                self.now.remove(&oldest);
            }
        }
        gone.into_iter().map(|(_, subject)| subject).collect()
    }
}

fn busy_scale(settings: &Settings, collection: &Collection, busy_s: i64) -> Scale {
    let status = Clean::line(collection.status.as_deref().unwrap_or_default(), 100).quoted();
    Scale {
        unit: Unit::Seconds,
        worse: Worse::Above,
        warn: Some(Edge { at: secs(settings.busy_for.get()), code: "long_busy".into(), settled: false }),
        fail: None,
        says: clean!("its status has been {status} for {}", span(busy_s)),
        episode: None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of points are compared in shares")]
fn number(points: u64) -> f64 {
    points as f64
}

/// How many points may be gone before it is a warn, and a fail.
fn limits(drop: Drop, high: u64) -> (f64, f64) {
    let of = |percent: f64| (number(high) * percent / 100.0).max(number(drop.least));
    (of(drop.warn), of(drop.fail))
}

fn put_points(
    settings: &Settings,
    subject: &Subject,
    kept: &mut Kept,
    points: u64,
    well: bool,
    now: Timestamp,
    facts: &mut Facts,
) {
    let over = kept.fall.as_ref().is_some_and(|fall| {
        let (warn, _) = limits(settings.drop, fall.from);
        let whole = number(fall.from.saturating_sub(points)) <= warn * (1.0 - WAY_BACK);
        let accepted = now.duration_since(fall.at) >= settings.accepted_after.signed();
        if accepted {
            kept.highs = vec![(now, points)];
        }
        whole || accepted
    });
    if over {
        kept.fall = None;
    }
    if kept.fall.is_none() {
        forget_old(&mut kept.highs, now);
        let high = kept.highs.iter().map(|(_, points)| *points).max().unwrap_or(points).max(points);
        if number(high - points) > limits(settings.drop, high).0 {
            kept.fall = Some(Fall { at: now, from: high, last: (now, points) });
        } else if well {
            // While it is optimized, a point may be counted twice.
            count(&mut kept.highs, points, now);
        }
        if kept.fall.is_none() {
            facts.info(subject, "points_high", high);
            facts.gauge(subject, "points_lost", high - points, Scale::plain(Unit::None));
            return;
        }
    }
    let Some(fall) = &mut kept.fall else { return };
    let refilling = is_refilling(settings, fall, points, now);
    if now > fall.last.0 {
        fall.last = (now, points);
    }
    facts.info(subject, "points_high", fall.from);
    facts.info(subject, "refilling", refilling);
    let lost = fall.from.saturating_sub(points);
    let scale = if refilling { Scale::plain(Unit::None) } else { lost_scale(settings.drop, fall.from, points) };
    facts.gauge(subject, "points_lost", lost, scale);
}

fn lost_scale(drop: Drop, high: u64, points: u64) -> Scale {
    let (warn, fail) = limits(drop, high);
    let edge = |at, code: &'static str| Some(Edge { at, code: code.into(), settled: false });
    let says = match high.saturating_sub(points) {
        lost if points == 0 => clean!("it is empty, {lost} points were in it"),
        lost => clean!("{lost} of its {high} points are gone"),
    };
    Scale {
        unit: Unit::None,
        worse: Worse::Above,
        warn: edge(warn, "points_dropped"),
        fail: edge(fail, "points_lost"),
        says,
        episode: None,
    }
}

/// Whether a count rises so fast that all will be there again in time.
fn is_refilling(settings: &Settings, fall: &Fall, points: u64, now: Timestamp) -> bool {
    let (then, before) = fall.last;
    let passed = now.duration_since(then).as_secs_f64();
    if points <= before || passed <= 0.0 {
        return false;
    }
    let missing_s = number(fall.from.saturating_sub(points)) * passed / number(points - before);
    now.duration_since(fall.at).as_secs_f64() + missing_s <= secs(settings.refill_for.get())
}

/// Takes out what is older than a day, but for the newest: after a pause it is all there is to compare with.
fn forget_old(highs: &mut Vec<(Timestamp, u64)>, now: Timestamp) {
    highs.retain(|(at, _)| *at <= now);
    let newest = highs.last().copied();
    highs.retain(|high| now.duration_since(high.0) <= COUNTS_KEPT || Some(*high) == newest);
}

fn count(highs: &mut Vec<(Timestamp, u64)>, points: u64, now: Timestamp) {
    match highs.last_mut() {
        Some((at, high)) if now.duration_since(*at) < ONE_COUNT_IN => *high = points.max(*high),
        _ => highs.push((now, points)),
    }
}
