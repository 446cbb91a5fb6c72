//! What the tasks of a queue add up to, and whether they moved since the last look. Pure.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::settings::Settings;
use super::{Seen, State, Task};
use crate::clean;
use crate::facts::{Class, Edge, Facts, Scale, Subject, Unit, Unread, Worse};
use crate::kinds::Fetched;
use crate::redact::Clean;
use crate::words::{count, span};

/// The key under which the last look is kept.
pub(super) const MEMORY: &str = "last";
/// Tasks that are remembered: the oldest.
const MAX_KEPT: usize = 2_000;
/// Bytes of a task's id that are shown.
const MAX_ID_BYTES: usize = 120;

/// The last look.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Last {
    /// When something moved last.
    moved: Timestamp,
    done: Option<u64>,
    /// Whether all tasks were looked at.
    whole: bool,
    tasks: BTreeMap<String, Kept>,
}

/// What is kept of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    rank: u8,
    tasks: u64,
    since: Option<Timestamp>,
    /// When it was first seen at this.
    first: Timestamp,
    /// Whether it is one that has a name, and not so many of a state.
    named: bool,
}

/// How far a task is.
fn rank(state: State) -> u8 {
    match state {
        State::Queued | State::Other | State::Waiting => 0,
        State::Processing => 1,
        State::Done => 2,
    }
}

/// What tells a task from others. Not the text itself: it may hold anything.
fn key(task: &Task) -> String {
    let name = task.id.as_ref().or(task.identity.as_ref());
    let Some(name) = name else { return format!("{:?}", task.state).to_lowercase() };
    let hash = Sha256::digest(name.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(hash.get(..16).unwrap_or_default())
}

/// The facts of one look, and what the next one needs.
pub(super) fn fetched(settings: &Settings, seen: &Seen, before: Option<&[u8]>, now: Timestamp) -> Fetched {
    // What an earlier version left is as good as nothing.
    let before: Option<Last> = before.and_then(|bytes| serde_json::from_slice(bytes).ok());
    let sums = Sums::of(seen);
    let mut last = Last { moved: now, done: sums.done, whole: !seen.cut, tasks: BTreeMap::new() };
    remember(seen, before.as_ref(), now, &mut last);
    let moved = before.as_ref().is_none_or(|before| has_moved(before, &last));
    if let Some(before) = before.as_ref().filter(|_| !moved && sums.depth > 0) {
        last.moved = before.moved;
    }
    let mut fetched = Fetched::default();
    put(settings, seen, &sums, &last, now, &mut fetched.facts);
    fetched.facts.info(&Subject::none(), "advanced", before.is_some() && moved);
    if seen.cut {
        fetched.facts.info(&Subject::none(), "cut", true);
        let full = settings.fail_depth.is_some_and(|most| sums.depth > u64::from(most));
        if !full {
            let said = clean!("there are more than {} tasks", seen.tasks.len());
            fetched.unread.insert(Subject::none(), Unread::blind("queue_too_long", said));
        }
    }
    // The oldest are those that tell whether it moves; the bound is far from what a value may be.
    let mut by_age: Vec<(String, Kept)> = last.tasks.into_iter().collect();
    by_age.sort_by_key(|(_, kept)| (kept.since.unwrap_or(kept.first), kept.first));
    last.whole &= by_age.len() <= MAX_KEPT;
    by_age.truncate(MAX_KEPT);
    last.tasks = by_age.into_iter().collect();
    fetched.remember.push((MEMORY.to_owned(), serde_json::to_vec(&last).ok()));
    fetched
}

fn remember(seen: &Seen, before: Option<&Last>, now: Timestamp, last: &mut Last) {
    for task in seen.tasks.iter().filter(|task| task.state != State::Done) {
        let (key, rank) = (key(task), rank(task.state));
        let known = before.and_then(|before| before.tasks.get(&key)).filter(|known| known.rank == rank);
        let first = known.map_or(now, |known| known.first);
        let named = task.id.is_some() || task.identity.is_some();
        let kept = last.tasks.entry(key).or_insert(Kept { rank, tasks: 0, since: task.since, first, named });
        kept.tasks += task.tasks;
        kept.since = kept.since.min(task.since).or(kept.since).or(task.since);
    }
}

/// Whether work was taken up or done between two looks. What was only added is no movement, nor is what went back.
fn has_moved(before: &Last, now: &Last) -> bool {
    if now.done.zip(before.done).is_some_and(|(now, before)| now > before) {
        return true;
    }
    before.tasks.iter().any(|(key, was)| match now.tasks.get(key) {
        // Where not all was looked at, it may be where nobody looked.
        None => now.whole,
        Some(is) if is.rank != was.rank => is.rank > was.rank,
        Some(is) => is.tasks < was.tasks || (!is.named && is.since > was.since),
    })
}

/// How many there are of each.
struct Sums {
    depth: u64,
    waiting: u64,
    processing: u64,
    other: u64,
    done: Option<u64>,
    /// Whether the source tells one state from another.
    has_states: bool,
}

impl Sums {
    fn of(seen: &Seen) -> Self {
        let of = |state: State| {
            let tasks = seen.tasks.iter().filter(|task| task.state == state);
            tasks.map(|task| task.tasks).fold(0, u64::saturating_add)
        };
        let (queued, other) = (of(State::Queued), of(State::Other));
        let (waiting, processing, done) = (of(State::Waiting), of(State::Processing), of(State::Done));
        Self {
            depth: queued.saturating_add(other).saturating_add(waiting).saturating_add(processing),
            waiting,
            processing,
            other,
            done: seen.done.or((done > 0).then_some(done)),
            has_states: queued == 0 && !seen.tasks.is_empty(),
        }
    }
}

fn put(settings: &Settings, seen: &Seen, sums: &Sums, last: &Last, now: Timestamp, facts: &mut Facts) {
    let me = &Subject::none();
    facts.gauge(me, "depth", sums.depth, depth_scale(settings, sums.depth));
    if sums.has_states {
        facts.gauge(me, "waiting", sums.waiting, Scale::plain(Unit::None));
        facts.gauge(me, "processing", sums.processing, Scale::plain(Unit::None));
    }
    if sums.other > 0 {
        facts.info(me, "other", sums.other);
    }
    if let Some(done) = sums.done {
        facts.info(me, "done", done);
    }
    let since = |task: &Task| {
        let first_seen = || last.tasks.get(&key(task)).filter(|kept| kept.named).map(|kept| kept.first);
        task.since.or_else(first_seen)
    };
    let oldest_of = |state: State| {
        let those = seen.tasks.iter().filter(|task| task.state == state);
        those.filter_map(|task| since(task).map(|since| (since, task))).min_by_key(|(since, _)| *since)
    };
    let in_work = oldest_of(State::Processing);
    // Where a status is not known it may be in processing.
    let in_queue = oldest_of(State::Queued).into_iter().chain(oldest_of(State::Other)).min_by_key(|(since, _)| *since);
    if let Some((since, task)) = in_work.or(in_queue) {
        let age = age(since, now);
        facts.gauge(me, "oldest_s", age, oldest_scale(settings, task, age));
        if let Some(id) = &task.id {
            facts.put_foreign(me, "oldest_id", Clean::line(id, MAX_ID_BYTES), Class::Info);
        }
    }
    if let Some((since, _)) = oldest_of(State::Waiting) {
        let age = age(since, now);
        let most = settings.max_wait;
        let bound =
            most.map_or_else(String::new, |most| format!(", at most {} is allowed", span(most.signed().as_secs())));
        let scale = Scale {
            fail: most.map(|most| edge(most.as_secs_f64(), "waits_long")),
            says: clean!("the oldest waiting task waits for {}{bound}", span(age)),
            ..Scale::plain(Unit::Seconds)
        };
        facts.gauge(me, "oldest_waiting_s", age, scale);
    }
    let unmoved = age(last.moved, now);
    let who = if sums.depth == 1 { "not one task".to_owned() } else { format!("none of {} tasks", sums.depth) };
    let scale = Scale {
        fail: Some(edge(settings.unmoved_after().as_secs_f64(), "unmoved")),
        says: clean!("{who} was taken up or done for {}", span(unmoved)),
        ..Scale::plain(Unit::Seconds)
    };
    facts.gauge(me, "unmoved_s", unmoved, scale);
}

fn age(since: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(since).as_secs().max(0)
}

fn edge(at: f64, code: &'static str) -> Edge {
    Edge { at, code: code.into(), settled: true }
}

fn depth_scale(settings: &Settings, depth: u64) -> Scale {
    let edge = |at: Option<u32>, code: &'static str| {
        at.map(|at| Edge { at: f64::from(at), code: code.into(), settled: false })
    };
    let bound = settings.warn_depth.or(settings.fail_depth);
    let bound = bound.map_or_else(String::new, |most| format!(", expected at most {most}"));
    Scale {
        worse: Worse::Above,
        warn: edge(settings.warn_depth, "filling"),
        fail: edge(settings.fail_depth, "full"),
        says: clean!("{} in the queue{bound}", count(depth, "task", "tasks")),
        ..Scale::plain(Unit::None)
    }
}

fn oldest_scale(settings: &Settings, task: &Task, age: i64) -> Scale {
    let name = task.id.as_ref().map(|id| Clean::line(id, MAX_ID_BYTES));
    let shown = name.as_ref().map_or_else(String::new, |id| format!(" {}", Clean::line(id.as_str(), 60).quoted()));
    let place = if task.state == State::Processing { "in processing" } else { "in the queue" };
    let stuck = settings.stuck_after;
    Scale {
        warn: Some(edge(settings.warn_after().as_secs_f64(), "takes_long")),
        fail: Some(edge(stuck.as_secs_f64(), "stuck")),
        says: clean!("task{shown} is {place} for {}, at most {} is allowed", span(age), span(stuck.signed().as_secs())),
        episode: name,
        ..Scale::plain(Unit::Seconds)
    }
}
