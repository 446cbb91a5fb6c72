//! Jobs and whether they run: the ledger of those under `pulsecheck exec`, and the ledgers that agents' own schedulers keep.

mod cadence;
mod exec;
mod judged;
mod ledgers;
mod theirs;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use self::exec::MAX_EXECUTIONS;
use super::common::{FILE_REASONS, LANE_REASONS, MISSING, SQLITE_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, homes};
use crate::clean;
use crate::facts::{BadName, Blame, Edge, Facts, Finding, Scale, Subject, Unit, Unread, Weight, Worse, is_name};
use crate::host::Host;
use crate::redact::Clean;
use crate::schedule::Schedule;
use crate::settings::Dur;
use crate::words::{count, span};

/// Jobs that one check looks at.
const MAX_JOBS: usize = 200;
/// Interrupted executions in a row from which on they are a finding.
const INTERRUPTED: f64 = 3.0;

/// The kind.
pub struct Job;

/// The settings of the kind `job`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whose ledger is read: `exec` (by default: what ran under `pulsecheck exec`), or that of an agent's own scheduler:
    /// `openclaw`, `hermes` or `nanobot`.
    #[serde(default)]
    pub source: Source,
    /// Of an agent's ledger: the folder that it keeps its state in. By default what `$OPENCLAW_STATE_DIR` or
    /// `$HERMES_HOME` says, else `~/.openclaw`, `~/.hermes` or `~/.nanobot`.
    pub path: Option<String>,
    /// The jobs, by name (in an agent's ledger by id as well); without it all that there are.
    #[serde(default)]
    pub jobs: Vec<String>,
    /// When they start, in this machine's zone unless it says `TZ=…`. Without it: what `pulsecheck exec --schedule`
    /// recorded; with neither, nobody can tell that a start is late. An agent's ledger has its own schedules.
    pub schedule: Option<Schedule>,
    /// How late a start may be (default: a tenth of the schedule's period, at least 5m, at most 1h).
    pub grace: Option<Dur>,
    /// How long an execution may take. In an agent's ledger by default: the job's own limit, else 2h (fail: 6h).
    pub max_runtime: Option<Dur>,
    /// How much time must lie between two starts.
    pub min_interval: Option<Dur>,
    /// How many executions in a row may fail.
    #[serde(default)]
    pub failures: Failures,
    /// Of an agent's ledger: warn when so many executions in a row ended well and printed nothing; 0 for never.
    /// Answers that are meant to be kept back (`NO_REPLY`, `HEARTBEAT_OK`) don't count.
    #[serde(default = "three")]
    pub empty_runs: u32,
}

/// Whose ledger is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Of `pulsecheck exec`.
    #[default]
    Exec,
    /// OpenClaw's: its database, or the files that it kept before it had one.
    Openclaw,
    /// Hermes': `cron/jobs.json`.
    Hermes,
    /// nanobot's: `workspace/cron/jobs.json`.
    Nanobot,
}

/// Executions in a row that failed; interrupted ones count neither as failed nor as successful.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Failures {
    /// From so many on it is a warn.
    #[serde(default = "two")]
    pub warn: u32,
    /// From so many on it is a fail.
    #[serde(default = "three")]
    pub fail: u32,
}

fn two() -> u32 {
    2
}
fn three() -> u32 {
    3
}
impl Default for Failures {
    fn default() -> Self {
        Self { warn: two(), fail: three() }
    }
}

const fn reason(code: &'static str, outcome: ReasonOutcome, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome, settled: true, about, action, needs_human: false }
}

const REASONS: &[ReasonDoc] = &[
    reason(
        "failing",
        ReasonOutcome::Warn,
        "as many executions in a row failed as `failures.warn` says",
        "read the end of the job's output and mend its cause",
    ),
    reason(
        "failing_repeatedly",
        ReasonOutcome::Fail,
        "as many executions in a row failed as `failures.fail` says",
        "read the end of the job's output and mend its cause",
    ),
    reason(
        "late",
        ReasonOutcome::Warn,
        "it did not start at its time, and the grace is over",
        "see whether what starts the job still works",
    ),
    reason(
        "overdue",
        ReasonOutcome::Fail,
        "it is late by the grace and one more period, at most one more hour",
        "see whether what starts the job still works",
    ),
    reason(
        "never_ran",
        ReasonOutcome::Warn,
        "it never ran under `pulsecheck exec`, and no schedule says when it should",
        "run it with `pulsecheck exec --job`, or correct its name",
    ),
    reason(
        "too_long",
        ReasonOutcome::Warn,
        "an execution takes or took longer than `max_runtime` or, in an agent's ledger without a limit, 2 h",
        "see what the job waits for",
    ),
    reason(
        "stuck",
        ReasonOutcome::Fail,
        "an execution runs for more than twice `max_runtime`; in an agent's ledger, longer than the job's own limit or 6 h",
        "see what the job waits for, and end it if it hangs",
    ),
    reason(
        "overlapping",
        ReasonOutcome::Warn,
        "an execution began while one before it still ran",
        "keep executions apart (a lock) or give the job more time between them",
    ),
    reason(
        "too_often",
        ReasonOutcome::Warn,
        "less than `min_interval` lies between the last two starts",
        "see what starts the job so often",
    ),
    reason(
        "interrupted",
        ReasonOutcome::Warn,
        "three executions in a row were cut short by a restart or a killed wrapper",
        "see what restarts the machine or kills the job",
    ),
    reason(
        "schedule_unreadable",
        ReasonOutcome::Warn,
        "the schedule recorded with the execution, or in the agent's ledger, is none",
        "correct `--schedule` of `pulsecheck exec` or the job's schedule, or set `schedule` here",
    ),
    reason(
        "too_many_jobs",
        ReasonOutcome::Warn,
        "there are more jobs than one check looks at",
        "name the jobs in checks of their own",
    ),
    reason(
        "auto_disabled",
        ReasonOutcome::Fail,
        "its own scheduler switched it off after failures",
        "mend what failed, then switch the job on again",
    ),
    reason(
        "schedule_errors",
        ReasonOutcome::Warn,
        "its own scheduler can't compute when it starts",
        "correct the job's schedule",
    ),
    reason(
        "next_start_jumped",
        ReasonOutcome::Warn,
        "its scheduler means to start it only after the next two times that its schedule has",
        "see whether the scheduler still keeps to the schedule, and edit or restart it",
    ),
    reason(
        "next_start_passed",
        ReasonOutcome::Warn,
        "the time for which its scheduler has it planned is over, and it did not start",
        "see whether the scheduler still runs",
    ),
    reason(
        "not_delivered",
        ReasonOutcome::Warn,
        "what the last execution said was not delivered, and not because it was meant to be kept back",
        "see the channel that it is delivered to",
    ),
    reason(
        "empty_output",
        ReasonOutcome::Warn,
        "as many executions in a row as `empty_runs` says ended well and printed nothing",
        "see whether the job still does its work, and check what it leaves behind with `output`",
    ),
    reason(
        "skipped",
        ReasonOutcome::Warn,
        "its scheduler left out as many starts in a row as `failures.fail` says",
        "see why the scheduler skips it",
    ),
    reason(
        "no_such_job",
        ReasonOutcome::Warn,
        "the agent's ledger has no job of that name or id, or it is switched off",
        "correct `jobs` or switch the job on",
    ),
    unknown("ledger_missing", Blame::Target, "there is no ledger of jobs in the folder", "correct `path`"),
    unknown(
        "bad_ledger",
        Blame::Blind,
        "the ledger, or a job in it, can't be read",
        "see whether a newer version of the agent wrote it",
    ),
];

const fn unknown(code: &'static str, blame: Blame, about: &'static str, action: &'static str) -> ReasonDoc {
    let settled = matches!(blame, Blame::Blind);
    ReasonDoc { code, outcome: ReasonOutcome::Unknown(blame), settled, about, action, needs_human: settled }
}

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}

const FACTS: &[FactDoc] = &[
    fact("jobs", "info", "of the check itself: how many jobs were looked at"),
    fact("switched_on", "set", "of another ledger: the jobs that are switched on, by name, foreign"),
    fact("jobs_left_out", "info", "of the check itself: how many were not"),
    fact("jobs_disabled", "info", "of the check itself: how many are switched off in the agent's ledger"),
    fact("jobs_missing", "info", "of the check itself: those of `jobs` that the agent's ledger doesn't have"),
    fact(
        "layout",
        "state",
        "of the check itself: how the agent keeps its ledger: `database`, `files`, or `none` while it has no job",
    ),
    fact("legacy_ledger", "info", "of the check itself: when the older ledger beside it was written, which isn't read"),
    fact("consecutive_failures", "gauge", "executions in a row that failed; by `failures`"),
    fact("overdue_s", "gauge", "seconds since its start was due, below 0 before that; over the grace it is `late`"),
    fact("runtime_s", "gauge", "how long the oldest running, else the last execution takes or took; by `max_runtime`"),
    fact(
        "last_result",
        "info",
        "never, running, interrupted, not started, ok, error, skipped, or the exit status or signal",
    ),
    fact("last_start", "info", "when it last started"),
    fact("last_end", "info", "when it last ended, where its ledger tells that and not the start"),
    fact("last_success", "info", "when it last ended successfully"),
    fact("running", "info", "how many executions run"),
    fact("overlapping", "info", "whether an execution began while one before it still ran"),
    fact("interval_s", "info", "seconds between the last two starts"),
    fact("interrupted", "info", "interrupted executions in a row"),
    fact("schedule", "info", "the schedule, or that there is none and lateness can't be told"),
    fact("unreadable_schedule", "info", "what was recorded as its schedule and is none, foreign"),
    fact("next_start", "info", "when it is due, or was"),
    fact(
        "start_grace_s",
        "info",
        "how late a start may be, in seconds: longer while its scheduler backs off after failures",
    ),
    fact("recorded_start", "info", "when its own scheduler means to start it next"),
    fact("second_start", "info", "the second time from now on that its schedule has"),
    fact("tail", "info", "the end of what the last execution printed if it failed, foreign"),
    fact("last_error", "info", "the error of the last execution in the agent's ledger, foreign"),
    fact("empty_runs", "gauge", "executions in a row that ended well and printed nothing; by `empty_runs`"),
    fact(
        "skipped_starts",
        "gauge",
        "starts in a row that the scheduler left out; by `failures.fail`, of a heartbeat shown only",
    ),
    fact("schedule_errors", "info", "errors in a row that the scheduler met when it computed the next start"),
    fact("undelivered", "info", "whether the last execution's words were lost"),
    fact("delivery_error", "info", "why, foreign"),
    fact("auto_disabled", "info", "why the scheduler switched it off, foreign"),
];

impl Kind for Job {
    const DOC: KindDoc = KindDoc {
        name: "job",
        about: "Jobs that run under `pulsecheck exec --job NAME`, or those of an agent's own scheduler. Executions are \
                judged, not looks: a job that failed once passes, however often it is looked at until it runs again; so \
                every reason is settled. When a start is due is computed from the schedule and the last start (or the \
                last end, where a run took longer than a period), for a job that never ran from when it was made or \
                this check was first looked at; what an agent's scheduler says of its next start is held against that. \
                An execution whose wrapper, machine or gateway went away was interrupted: neither failed nor \
                successful. Jobs that are switched off are counted only, unless their scheduler did it.",
        subjects: "each job, by name, in an agent's ledger by id where names repeat",
        facts: FACTS,
        reasons: &[REASONS, SQLITE_REASONS, FILE_REASONS, MISSING, LANE_REASONS],
        example: "\
[check.nightly-jobs]
kind = \"job\"
jobs = [\"backup\", \"report\"]
schedule = \"0 3 * * *\"
grace = \"20m\"
max_runtime = \"2h\"
failures = { warn = 1, fail = 2 }
",
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        let Failures { warn, fail } = settings.failures;
        if warn == 0 || fail < warn {
            report("failures", format!("expected `warn` from 1 and `fail` not below it, found {warn} and {fail}"));
        }
        if settings.failures.fail as usize > MAX_EXECUTIONS {
            report(
                "failures",
                format!("at most {MAX_EXECUTIONS} executions are looked back through, found `fail` {fail}"),
            );
        }
        if settings.schedule.is_some() && settings.jobs.is_empty() {
            report("schedule", "`schedule` needs `jobs` (not all that ever ran start at the same time)".into());
        }
        if settings.jobs.len() > MAX_JOBS {
            report("jobs", format!("one check looks at most at {MAX_JOBS} jobs, found {}", settings.jobs.len()));
        }
        validate_source(settings, report);
        for (key, length) in [("max_runtime", settings.max_runtime), ("min_interval", settings.min_interval)] {
            if length.is_some_and(Dur::is_zero) {
                report(key, "expected a duration above 0s".into());
            }
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let about = format!("jobs of {}", cx.check);
        let (settings, now, zone) = (settings.clone(), cx.now.wall, zone(&cx.host));
        let first_seen = cx.past.first_seen.unwrap_or(now);
        if settings.source == Source::Exec {
            let (proc, records) = (cx.host.paths.proc.clone(), Arc::clone(&cx.records));
            let look = exec::Look { settings, now, first_seen, zone, proc, records };
            return cx.host.lane(&about, cx.deadline, move || look.run()).await?;
        }
        let folder = folder(&settings, &cx.host);
        let kept = cx.memory.get(theirs::KEPT)?;
        let look = theirs::Look { settings, now, first_seen, zone, folder, kept, deadline: cx.deadline };
        cx.host.lane(&about, cx.deadline, move || look.run()).await?
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, now: Timestamp) -> Vec<Finding> {
        let subjects = facts.subjects();
        let mut found: Vec<Finding> = match settings.source {
            Source::Exec => subjects.iter().flat_map(|subject| assess_job(settings, facts, subject)).collect(),
            _ => judged::assess(facts, now),
        };
        if let Some(left_out) = facts.number(&Subject::none(), "jobs_left_out") {
            let said = clean!("{left_out} jobs are not looked at, one check looks at {MAX_JOBS}");
            found.push(Finding::new("too_many_jobs", Weight::Warn, true, said));
        }
        found
    }
}

/// Which settings go with which ledger.
fn validate_source(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    if settings.source == Source::Exec {
        if settings.path.is_some() {
            report("path", "`path` is an agent's folder and needs `source` (as in `source = \"openclaw\"`)".into());
        }
        if let Some(bad) = settings.jobs.iter().find(|job| !is_name(job)) {
            report("jobs", BadName(bad.clone()).to_string());
        }
        return;
    }
    if settings.path.as_deref().is_some_and(|path| !path.starts_with('/') && !path.starts_with("~/")) {
        report("path", "expected a folder that begins with `/` or `~/`".into());
    }
    if settings.jobs.iter().any(|job| job.trim().is_empty()) {
        report("jobs", "a job's name is empty".into());
    }
    for (key, given) in [("schedule", settings.schedule.is_some()), ("min_interval", settings.min_interval.is_some())] {
        if given {
            report(
                key,
                format!("`{key}` is for jobs under `pulsecheck exec` (an agent's ledger has its own schedules)"),
            );
        }
    }
}

/// The zone that this machine's schedulers go by.
pub(super) fn zone(host: &Host) -> TimeZone {
    let named = host.var("TZ").and_then(|zone| zone.to_str()).and_then(|zone| TimeZone::get(zone).ok());
    named.or_else(|| TimeZone::try_system().ok()).unwrap_or(TimeZone::UTC)
}

/// The folder of an agent's ledger.
fn folder(settings: &Settings, host: &Host) -> std::path::PathBuf {
    let path = settings.path.as_deref();
    match settings.source {
        Source::Exec | Source::Openclaw => homes::openclaw(host, path),
        Source::Hermes => homes::of(host, path, "HERMES_HOME", "~/.hermes"),
        Source::Nanobot => host.expand(path.unwrap_or("~/.nanobot")),
    }
}

/// The bands of executions in a row that failed, the last of them with `last`.
fn failing(settings: &Settings, failed: u64, last: &str) -> Scale {
    let Failures { warn, fail } = settings.failures;
    let times = count(failed, "time", "times in a row");
    Scale {
        warn: Some(from(warn, "failing")),
        fail: Some(from(fail, "failing_repeatedly")),
        says: clean!("failed {times}, last with {last}"),
        ..Scale::plain(Unit::None)
    }
}

/// An edge between two counts, so that the way back of a band doesn't hold a count that is below it.
fn from(first: u32, code: &'static str) -> Edge {
    Edge { at: f64::from(first) - 0.5, code: code.into(), settled: true }
}

/// The bands of how long an execution takes or took, by `max_runtime`.
fn lasting(settings: &Settings, running: bool, runtime: i64) -> Scale {
    let Some(most) = settings.max_runtime else { return Scale::plain(Unit::Seconds) };
    let edge = |at: f64, code: &'static str| Some(Edge { at, code: code.into(), settled: true });
    let takes = if running { "has been running for" } else { "ran for" };
    Scale {
        unit: Unit::Seconds,
        worse: Worse::Above,
        warn: edge(most.as_secs_f64(), "too_long"),
        fail: if running { edge(most.as_secs_f64() * 2.0, "stuck") } else { None },
        says: clean!("{takes} {}, at most {most} is allowed", span(runtime)),
        episode: None,
    }
}

/// How long ago the last start was.
fn before_words(now: Timestamp, last: Option<Timestamp>) -> String {
    last.map_or_else(
        || "it has never started".to_owned(),
        |last| format!("the last start was {} ago", span(now.duration_since(last).as_secs())),
    )
}

fn assess_job(settings: &Settings, facts: &Facts, me: &Subject) -> Vec<Finding> {
    let warn = |code: &'static str, said: Clean| Finding::new(code, Weight::Warn, true, said).on(me);
    let mut found = Vec::new();
    let never = facts.text(me, "last_result").is_some_and(|result| result.as_str() == "never");
    if never && facts.get(me, "next_start").is_none() {
        found.push(warn("never_ran", clean!("has never run, and no schedule says when it should")));
    }
    if let Some(text) = facts.text(me, "unreadable_schedule") {
        found.push(warn("schedule_unreadable", clean!("its recorded schedule {} can't be read", text.quoted())));
    }
    if facts.flag(me, "overlapping") == Some(true) {
        found.push(warn("overlapping", clean!("an execution began while one before it still ran")));
    }
    if let (Some(least), Some(interval)) = (settings.min_interval, facts.number(me, "interval_s"))
        && interval < least.as_secs_f64()
    {
        let said = clean!("the last two starts lie {interval} s apart, at least {least} is expected");
        found.push(warn("too_often", said));
    }
    if let Some(times) = facts.number(me, "interrupted").filter(|times| *times >= INTERRUPTED) {
        found.push(warn("interrupted", clean!("the last {times} executions were interrupted")));
    }
    found
}

#[cfg(test)]
mod tests;
