//! The own ledger: executions under `pulsecheck exec`.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::cadence::{self, Last, Plan};
use super::{MAX_JOBS, Settings, before_words, failing, lasting};
use crate::facts::{Class, Facts, MAX_TEXT_BYTES, Scale, Subject, Unit, Unread};
use crate::kinds::ledger::Ledger;
use crate::kinds::{Fetched, Records};
use crate::records::{Ending, Execution};
use crate::schedule::Schedule;

/// Executions of a job that are looked back through.
pub(super) const MAX_EXECUTIONS: usize = 50;
/// Executions that touch for no longer than this follow each other.
const TOUCH: SignedDuration = SignedDuration::from_secs(1);

/// A fetch without its futures: all of it blocks.
pub(super) struct Look {
    pub settings: Settings,
    pub now: Timestamp,
    pub first_seen: Timestamp,
    pub zone: TimeZone,
    pub proc: PathBuf,
    pub records: Arc<dyn Records>,
}

/// One execution and how it ended, if it did.
struct Seen {
    execution: Execution,
    ending: Option<Ending>,
}

impl Seen {
    fn runtime(&self, now: Timestamp) -> SignedDuration {
        let until = match (&self.ending, self.execution.ended) {
            (None, _) => now,
            // Of one that was lost nobody knows when it ended.
            (Some(_), ended) => ended.unwrap_or(self.execution.started),
        };
        until.duration_since(self.execution.started).max(SignedDuration::ZERO)
    }
    fn failed(&self) -> bool {
        matches!(&self.ending, Some(ending) if !matches!(ending, Ending::Exit(0) | Ending::Interrupted))
    }
}

impl Look {
    pub(super) fn run(&self) -> Result<Fetched, Unread> {
        let mut names = self.settings.jobs.clone();
        if names.is_empty() {
            names = self.records.jobs()?;
        }
        let left_out = names.len().saturating_sub(MAX_JOBS);
        names.truncate(MAX_JOBS);
        let ledger = Ledger::read(&self.proc);
        let mut facts = Facts::new();
        facts.info(&Subject::none(), "jobs", names.len());
        if left_out > 0 {
            facts.info(&Subject::none(), "jobs_left_out", left_out);
        }
        for name in names {
            let seen: Vec<Seen> = self
                .records
                .executions(&name, MAX_EXECUTIONS)?
                .into_iter()
                .map(|execution| Seen { ending: ledger.ending(&execution), execution })
                .collect();
            self.job(&Subject::new(&name), &seen, &mut facts);
        }
        Ok(facts.into())
    }

    /// The facts of one job, from its executions, the newest first.
    fn job(&self, me: &Subject, seen: &[Seen], facts: &mut Facts) {
        facts.info(
            me,
            "last_result",
            seen.first().map_or_else(|| "never".to_owned(), |newest| word(newest.ending.as_ref())),
        );
        self.failures(me, seen, facts);
        self.cadence(me, seen, facts);
        let Some(newest) = seen.first() else { return };
        facts.info(me, "last_start", newest.execution.started);
        if let Some(success) = seen.iter().find(|seen| seen.ending == Some(Ending::Exit(0))) {
            facts.info(me, "last_success", success.execution.ended.unwrap_or(success.execution.started));
        }
        let running = seen.iter().filter(|seen| seen.ending.is_none()).count();
        facts.info(me, "running", running);
        if let Some(before) = seen.get(1) {
            let began = newest.execution.started;
            facts.info(me, "interval_s", began.duration_since(before.execution.started).as_secs());
            let touched = before.execution.ended.is_some_and(|ended| ended.duration_since(began) > TOUCH);
            facts.info(me, "overlapping", running > 1 || touched);
        }
        let cut_short = |seen: &&Seen| seen.ending == Some(Ending::Interrupted);
        let interrupted = seen.iter().filter(|seen| seen.ending.is_some()).take_while(cut_short).count();
        facts.info(me, "interrupted", interrupted);
        // The oldest that runs is the one that hangs.
        let timed = seen.iter().rfind(|seen| seen.ending.is_none()).unwrap_or(newest);
        let runtime = timed.runtime(self.now).as_secs();
        facts.gauge(me, "runtime_s", runtime, lasting(&self.settings, timed.ending.is_none(), runtime));
        if let (true, Some(tail)) = (newest.failed(), &newest.execution.tail) {
            let text = tail.as_str();
            let from = text.ceil_char_boundary(text.len().saturating_sub(MAX_TEXT_BYTES));
            facts.put_foreign(me, "tail", text.get(from..).unwrap_or_default(), Class::Info);
        }
    }

    fn failures(&self, me: &Subject, seen: &[Seen], facts: &mut Facts) {
        let ended = || seen.iter().filter(|seen| !matches!(seen.ending, None | Some(Ending::Interrupted)));
        let failed = ended().take_while(|seen| seen.failed()).count();
        let last = ended().next().and_then(|seen| seen.ending.as_ref());
        let failed = u64::try_from(failed).unwrap_or(u64::MAX);
        facts.gauge(me, "consecutive_failures", failed, failing(&self.settings, failed, &word(last)));
    }

    /// Whether it started when it should have. Where it runs it can't be late: how long it runs is said elsewhere.
    fn cadence(&self, me: &Subject, seen: &[Seen], facts: &mut Facts) {
        let recorded = seen.iter().find_map(|seen| seen.execution.schedule.as_deref());
        let schedule = match (&self.settings.schedule, recorded) {
            (Some(schedule), _) => schedule.clone(),
            (None, Some(text)) => {
                let Ok(schedule) = Schedule::parse(text) else {
                    facts.put_foreign(me, "unreadable_schedule", text, Class::Info);
                    return;
                };
                schedule
            }
            (None, None) => {
                facts.info(me, "schedule", "none known: whether a start is late can't be told");
                return;
            }
        };
        let plan = Plan::Slots(schedule.in_zone(&self.zone));
        facts.info(me, "schedule", plan.to_string());
        let last = seen.first();
        let before = last.map(|last| Last { started: Some(last.execution.started), ended: last.execution.ended });
        let Some((due, period)) = cadence::due(&plan, before, self.first_seen) else { return };
        facts.info(me, "next_start", due);
        let late = self.now.duration_since(due).as_secs();
        let scale = if last.is_none_or(|last| last.ending.is_some()) {
            let before = before_words(self.now, before.and_then(|last| last.started));
            cadence::lateness(&plan, cadence::grace(&self.settings, period), period, late, &before)
        } else {
            Scale::plain(Unit::Seconds)
        };
        facts.gauge(me, "overdue_s", late, scale);
    }
}

fn word(ending: Option<&Ending>) -> String {
    match ending {
        None => "running".to_owned(),
        Some(Ending::Exit(status)) => format!("exit status {status}"),
        Some(Ending::Signal(signal)) => format!("signal {signal}"),
        Some(Ending::NotStarted(_)) => "not started".to_owned(),
        Some(Ending::Interrupted) => "interrupted".to_owned(),
    }
}
