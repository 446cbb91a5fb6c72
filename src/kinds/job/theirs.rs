//! Facts of the jobs in an agent's ledger, and what is remembered of them from look to look: ledgers keep the last
//! execution, not how often in a row something was so.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::cadence::{self, Last, Plan};
use super::ledgers::{self, Entry, Ledger, Outcome, When};
use super::{MAX_JOBS, Settings, before_words, failing, from, lasting};
use crate::clean;
use crate::facts::{Class, Edge, Facts, MAX_TEXT_BYTES, Scale, Subject, Unit, Unread};
use crate::kinds::Fetched;
use crate::redact::Clean;
use crate::words::{count, span};

/// The key under which is kept what is remembered.
pub(super) const KEPT: &str = "jobs";
/// A heartbeat may wait this long for its active hours, where its scheduler says so.
const HEARTBEAT_WAITS: SignedDuration = SignedDuration::from_hours(24);
/// How long a scheduler waits before it tries again, by errors in a row.
const BACK_OFF: [SignedDuration; 5] = [
    SignedDuration::from_secs(30),
    SignedDuration::from_secs(60),
    SignedDuration::from_mins(5),
    SignedDuration::from_mins(15),
    SignedDuration::from_mins(60),
];
/// Where neither the job nor the settings limit an execution: from so long on it is too long, and stuck.
const UNLIMITED: (SignedDuration, SignedDuration) = (SignedDuration::from_hours(2), SignedDuration::from_hours(6));
/// What a scheduler is given to end an execution that is over its limit.
const TO_END: SignedDuration = SignedDuration::from_mins(1);
/// A recorded start that lies this far beyond another is not the same: plans are in whole minutes.
const MOVED_ON: SignedDuration = SignedDuration::from_secs(30);

/// A fetch without its futures: all of it blocks.
pub(super) struct Look {
    pub settings: Settings,
    pub now: Timestamp,
    pub first_seen: Timestamp,
    pub zone: TimeZone,
    pub folder: PathBuf,
    pub kept: Option<Vec<u8>>,
    pub deadline: Instant,
}

/// What is remembered of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    /// When the last execution that was seen began (or ended, where only that is told), in milliseconds.
    run: Option<i64>,
    /// Errors in a row, interrupted ones among them.
    errors: u32,
    interrupted: u32,
    /// Executions in a row that ended well and printed nothing.
    empty: u32,
    enabled: bool,
    schedule: String,
    /// Since when it has this schedule and is switched on, where that was seen to change: a second since 1970.
    since: Option<i64>,
}

impl Kept {
    /// What to remember after this look. Errors since the last look are taken for what the last of them was.
    fn after(before: Option<&Self>, entry: &Entry, now: Timestamp) -> Self {
        let run = entry.last_start.or(entry.last_end).map(Timestamp::as_millisecond);
        let schedule = match &entry.plan {
            // Counted from the last run: that it moves is no other schedule.
            When::Planned(Plan::Every { every, .. }) => every.as_millis().to_string(),
            When::Planned(plan) => plan.to_string(),
            When::Untold | When::Unreadable(_) => String::new(),
        };
        let fresh = before.is_none_or(|before| before.run != run) && run.is_some();
        let moved = before.filter(|before| entry.enabled && (!before.enabled || before.schedule != schedule));
        let (errors, interrupted) = Self::errors(before, entry, fresh);
        let empty = match before {
            _ if entry.outcome != Outcome::Empty => 0,
            Some(before) => before.empty.max(1) + u32::from(fresh && before.empty > 0),
            None => 1,
        };
        let since = moved.map(|_| now.as_second()).or_else(|| before.and_then(|before| before.since));
        Self { run, errors, interrupted, empty, enabled: entry.enabled, schedule, since }
    }

    fn errors(before: Option<&Self>, entry: &Entry, fresh: bool) -> (u32, u32) {
        let is_interrupted = entry.outcome == Outcome::Interrupted;
        let (old, old_interrupted) = before.map_or((0, 0), |before| (before.errors, before.interrupted));
        let Some(errors) = entry.errors else {
            return match entry.outcome {
                Outcome::Ok | Outcome::Empty | Outcome::Never => (0, 0),
                Outcome::Error | Outcome::Interrupted if fresh => {
                    (old.saturating_add(1), old_interrupted.saturating_add(u32::from(is_interrupted)))
                }
                _ => (old, old_interrupted),
            };
        };
        if let Some(known) = entry.interrupted {
            return (errors, known.min(errors));
        }
        // Fewer than before: it ended well in between.
        let (old, old_interrupted) = if errors < old { (0, 0) } else { (old, old_interrupted) };
        let new = if is_interrupted { errors.saturating_sub(old) } else { 0 };
        (errors, old_interrupted.saturating_add(new).min(errors))
    }
}

impl Look {
    pub(super) fn run(&self) -> Result<Fetched, Unread> {
        let ledger = ledgers::read(self.settings.source, &self.folder, &self.zone, self.deadline)?;
        // What can't be read of it was not written by this version: it begins anew.
        let before: BTreeMap<String, Kept> =
            self.kept.as_deref().and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let mut after = BTreeMap::new();
        let mut fetched = Fetched::default();
        let none = Subject::none();
        fetched.facts.state(&none, "layout", ledger.layout);
        if let Some(written) = ledger.legacy {
            fetched.facts.info(&none, "legacy_ledger", written);
        }
        self.missing(&ledger, &mut fetched.facts);
        let off = |entry: &Entry| !entry.enabled && entry.auto_disabled.is_none();
        fetched.facts.info(&none, "jobs_disabled", ledger.jobs.iter().filter(|entry| off(entry)).count());
        let judged: Vec<&Entry> = ledger.jobs.iter().filter(|entry| !off(entry) && self.wanted(entry)).collect();
        let left_out = judged.len().saturating_sub(MAX_JOBS) + ledger.left_out;
        fetched.facts.info(&none, "jobs", judged.len().min(MAX_JOBS));
        // A job that is taken out or switched off is looked at no more: that is said, once.
        let switched_on = judged.iter().take(MAX_JOBS).map(|entry| Clean::line(&entry.name, 120)).collect();
        fetched.facts.set(&none, "switched_on", switched_on, true);
        if left_out > 0 {
            fetched.facts.info(&none, "jobs_left_out", left_out);
        }
        for entry in judged.iter().take(MAX_JOBS) {
            let is_only_one = judged.iter().filter(|other| other.name == entry.name).count() == 1;
            let subject = Subject::new(if is_only_one { &entry.name } else { &entry.id });
            let kept = Kept::after(before.get(&entry.id), entry, self.now);
            self.job(&subject, entry, &kept, &mut fetched.facts);
            after.insert(entry.id.clone(), kept);
        }
        // That a job was switched off is remembered, so that it isn't late when it is switched on again.
        for entry in ledger.jobs.iter().filter(|entry| off(entry)).take(MAX_JOBS) {
            after.insert(entry.id.clone(), Kept::after(before.get(&entry.id), entry, self.now));
        }
        let jobs = &self.settings.jobs;
        for (name, unread) in ledger.unread.into_iter().filter(|(name, _)| jobs.is_empty() || jobs.contains(name)) {
            fetched.unread.insert(Subject::new(&name), unread);
        }
        fetched.remember = vec![(KEPT.to_owned(), serde_json::to_vec(&after).ok())];
        Ok(fetched)
    }

    fn wanted(&self, entry: &Entry) -> bool {
        let jobs = &self.settings.jobs;
        jobs.is_empty() || jobs.contains(&entry.name) || jobs.contains(&entry.id)
    }

    /// Says which of the jobs that the config names are not in the ledger, or switched off.
    fn missing(&self, ledger: &Ledger, facts: &mut Facts) {
        let there = |job: &String| {
            let is_on = |entry: &&Entry| entry.enabled || entry.auto_disabled.is_some();
            let named = ledger.jobs.iter().filter(is_on).any(|entry| entry.name == *job || entry.id == *job);
            named || ledger.unread.iter().any(|(name, _)| name == job)
        };
        let gone: Vec<String> =
            self.settings.jobs.iter().filter(|job| !there(job)).map(|job| format!("`{job}`")).collect();
        if !gone.is_empty() {
            facts.info(&Subject::none(), "jobs_missing", gone.join(", "));
        }
    }

    /// The facts of one job.
    fn job(&self, me: &Subject, entry: &Entry, kept: &Kept, facts: &mut Facts) {
        facts.info(me, "last_result", entry.outcome.word());
        if let Some(started) = entry.last_start {
            facts.info(me, "last_start", started);
        }
        if let Some(ended) = entry.last_end {
            facts.info(me, "last_end", ended);
        }
        if let Some(error) = entry.error.as_ref().filter(|_| kept.errors > 0) {
            facts.put_foreign(me, "last_error", Clean::text(error, MAX_TEXT_BYTES), Class::Info);
        }
        let failed = u64::from(kept.errors.saturating_sub(kept.interrupted));
        let last = match &entry.error {
            Some(error) if entry.outcome == Outcome::Error => Clean::line(error, 400).quoted().to_string(),
            _ => "an error".to_owned(),
        };
        facts.gauge(me, "consecutive_failures", failed, failing(&self.settings, failed, &last));
        facts.info(me, "interrupted", kept.interrupted);
        if let Some(why) = entry.auto_disabled.as_ref().filter(|_| !entry.enabled) {
            facts.put_foreign(me, "auto_disabled", Clean::line(why, MAX_TEXT_BYTES), Class::Info);
            return;
        }
        self.words(me, entry, kept, facts);
        let due = self.due(entry, kept);
        let since = entry.running_since.or_else(|| self.begun(entry, due?.0));
        self.running(me, entry, since, facts);
        self.cadence(me, entry, (since.is_some(), due), kept, facts);
    }

    /// When the next start is due, and the period from there on.
    fn due(&self, entry: &Entry, kept: &Kept) -> Option<(Timestamp, SignedDuration)> {
        let When::Planned(plan) = &entry.plan else { return None };
        let since = kept.since.and_then(|since| Timestamp::from_second(since).ok());
        let lasted = entry.last_start.zip(entry.lasted);
        let ended = lasted.and_then(|(start, lasted)| start.checked_add(lasted).ok()).or(entry.last_end);
        // What was switched on or planned anew counts from then, like a job that never ran.
        let last = entry.last_start.or(entry.last_end).filter(|last| since.is_none_or(|since| since <= *last));
        let last = last.map(|_| Last { started: entry.last_start, ended });
        let first = since.or(entry.created).unwrap_or(self.first_seen);
        cadence::due(plan, last, first)
    }

    /// Since when a job runs whose scheduler tells of a run only at its end: it moved the next start on beyond the one
    /// that is due.
    fn begun(&self, entry: &Entry, due: Timestamp) -> Option<Timestamp> {
        let moved_on = entry.recorded_start.is_some_and(|recorded| recorded.duration_since(due) >= MOVED_ON);
        (entry.told_at_end && moved_on && due <= self.now).then_some(due)
    }

    /// What became of what it printed, and of the starts that its scheduler left out.
    fn words(&self, me: &Subject, entry: &Entry, kept: &Kept, facts: &mut Facts) {
        let mut empty = Scale::plain(Unit::None);
        if self.settings.empty_runs > 0 {
            empty.warn = Some(from(self.settings.empty_runs, "empty_output"));
            let times = count(u64::from(kept.empty), "time", "times in a row");
            empty.says = clean!("ended well {times} and printed nothing");
        }
        facts.gauge(me, "empty_runs", kept.empty, empty);
        let mut skipped = Scale::plain(Unit::None);
        // A heartbeat with nothing to do, or nobody to tell, is skipped by design.
        if !entry.is_heartbeat {
            skipped.warn = Some(from(self.settings.failures.fail, "skipped"));
            let times = count(u64::from(entry.skipped), "time", "times in a row");
            skipped.says = clean!("was skipped by its scheduler {times}");
        }
        facts.gauge(me, "skipped_starts", entry.skipped, skipped);
        if entry.undelivered {
            facts.info(me, "undelivered", true);
            if let Some(why) = &entry.delivery_error {
                facts.put_foreign(me, "delivery_error", Clean::line(why, MAX_TEXT_BYTES), Class::Info);
            }
        }
        if entry.schedule_errors > 0 {
            facts.info(me, "schedule_errors", entry.schedule_errors);
        }
    }

    fn running(&self, me: &Subject, entry: &Entry, since: Option<Timestamp>, facts: &mut Facts) {
        facts.info(me, "running", u32::from(since.is_some()));
        let running = since.map(|since| self.now.duration_since(since).max(SignedDuration::ZERO));
        let Some(runtime) = running.or(entry.lasted) else { return };
        let secs = runtime.as_secs();
        let scale = match running {
            Some(_) if self.settings.max_runtime.is_none() => own_limit(entry.limit, secs),
            _ => lasting(&self.settings, running.is_some(), secs),
        };
        facts.gauge(me, "runtime_s", secs, scale);
    }

    /// Whether it started when it should have; its scheduler's own idea of the next start is held against that.
    fn cadence(
        &self,
        me: &Subject,
        entry: &Entry,
        (runs, due): (bool, Option<(Timestamp, SignedDuration)>),
        kept: &Kept,
        facts: &mut Facts,
    ) {
        if let Some(recorded) = entry.recorded_start {
            facts.info(me, "recorded_start", recorded);
        }
        let plan = match &entry.plan {
            When::Planned(plan) => plan,
            When::Untold => {
                facts.info(me, "schedule", "none known: whether a start is late can't be told");
                return;
            }
            When::Unreadable(text) => {
                facts.put_foreign(me, "unreadable_schedule", Clean::line(text, MAX_TEXT_BYTES), Class::Info);
                return;
            }
        };
        facts.info(me, "schedule", plan.to_string());
        let waits = self.waits(entry);
        if let Some(second) = plan.next_after(self.now).and_then(|next| plan.next_after(next)) {
            facts.info(me, "second_start", second.checked_add(waits).unwrap_or(second));
        }
        let Some((due, period)) = due else { return };
        facts.info(me, "next_start", due);
        let errors = usize::try_from(kept.errors).unwrap_or(usize::MAX).min(BACK_OFF.len());
        let back_off = errors.checked_sub(1).and_then(|at| BACK_OFF.get(at)).copied().unwrap_or_default();
        let grace = cadence::grace(&self.settings, period).saturating_add(back_off).saturating_add(waits);
        facts.info(me, "start_grace_s", grace.as_secs());
        let late = self.now.duration_since(due).as_secs();
        let before = match entry.last_end {
            Some(end) => format!("the last execution ended {} ago", span(self.now.duration_since(end).as_secs())),
            None => before_words(self.now, entry.last_start),
        };
        let scale =
            if runs { Scale::plain(Unit::Seconds) } else { cadence::lateness(plan, grace, period, late, &before) };
        facts.gauge(me, "overdue_s", late, scale);
    }

    /// How much longer than others a heartbeat may wait: outside its active hours it does not run, and only its scheduler
    /// knows those. So it is believed where it has the heartbeat planned within a day.
    fn waits(&self, entry: &Entry) -> SignedDuration {
        let planned = entry.recorded_start.map(|at| at.duration_since(self.now));
        match planned {
            Some(ahead) if entry.is_heartbeat && ahead > SignedDuration::ZERO && ahead <= HEARTBEAT_WAITS => {
                HEARTBEAT_WAITS
            }
            _ => SignedDuration::ZERO,
        }
    }
}

/// The bands of an execution that goes on, by the job's own limit or, without one, by ours.
fn own_limit(limit: Option<SignedDuration>, secs: i64) -> Scale {
    let edge = |at: SignedDuration, code: &'static str| Edge { at: at.as_secs_f64(), code: code.into(), settled: true };
    let runs = span(secs);
    let mut scale = Scale::plain(Unit::Seconds);
    if let Some(limit) = limit {
        scale.fail = Some(edge(limit.saturating_add(TO_END), "stuck"));
        scale.says = clean!("has been running for {runs}, its own limit is {}", span(limit.as_secs()));
    } else {
        scale.warn = Some(edge(UNLIMITED.0, "too_long"));
        scale.fail = Some(edge(UNLIMITED.1, "stuck"));
        scale.says = clean!("has been running for {runs}, and nothing limits it");
    }
    scale
}
