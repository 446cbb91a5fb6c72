//! The kind `job`: the ledger of jobs that ran under `pulsecheck exec`: failing, late, overlapping, too long, too often.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::common::LANE_REASONS;
use super::ledger::Ledger;
use super::words::JobName;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, Records};
use crate::clean;
use crate::facts::{Class, Edge, Facts, Finding, MAX_TEXT_BYTES, Scale, Subject, Unit, Unread, Weight, Worse};
use crate::host::Host;
use crate::records::{Ending, Execution};
use crate::redact::Clean;
use crate::schedule::Schedule;
use crate::settings::Dur;
use crate::words::{count, span};

/// Jobs that one check looks at.
const MAX_JOBS: usize = 200;
/// Executions of a job that are looked back through.
const MAX_EXECUTIONS: usize = 50;
/// The grace where none is set is a tenth of the schedule's period, within these bounds.
const GRACE: (SignedDuration, SignedDuration) = (SignedDuration::from_mins(5), SignedDuration::from_hours(1));
/// A late start turns from warn to fail after one more period, at most this much.
const LATE_AT_MOST: SignedDuration = SignedDuration::from_hours(1);
/// A start this little before its slot is that slot's (clocks differ), as far as the period allows.
const EARLY: SignedDuration = SignedDuration::from_secs(60);
/// Executions that touch for no longer than this follow each other.
const TOUCH: SignedDuration = SignedDuration::from_secs(1);
/// Interrupted executions in a row from which on they are a finding.
const INTERRUPTED: f64 = 3.0;

/// The kind.
pub struct Job;

/// The settings of the kind `job`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The jobs; without it all that ever ran.
    #[serde(default)]
    pub jobs: Vec<JobName>,
    /// When they start, in this machine's zone unless it says `TZ=…`. Without it: what `pulsecheck exec --schedule` recorded; with neither, nobody can tell that a start
    /// is late.
    pub schedule: Option<Schedule>,
    /// How late a start may be (default: a tenth of the schedule's period, at least 5m, at most 1h).
    pub grace: Option<Dur>,
    /// How long an execution may take.
    pub max_runtime: Option<Dur>,
    /// How much time must lie between two starts.
    pub min_interval: Option<Dur>,
    /// How many executions in a row may fail.
    #[serde(default)]
    pub failures: Failures,
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
        "an execution takes or took longer than `max_runtime`",
        "see what the job waits for",
    ),
    reason(
        "stuck",
        ReasonOutcome::Fail,
        "an execution runs for more than twice `max_runtime`",
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
        "the schedule recorded with the execution is none",
        "correct `--schedule` of `pulsecheck exec`, or set `schedule` here",
    ),
    reason(
        "too_many_jobs",
        ReasonOutcome::Warn,
        "there are more jobs than one check looks at",
        "name the jobs in checks of their own",
    ),
];

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}

impl Kind for Job {
    const DOC: KindDoc = KindDoc {
        name: "job",
        about: "Jobs that run under `pulsecheck exec --job NAME`. Executions are judged, not looks: a job that failed once \
                passes, however often it is looked at until it runs again; so every reason is settled. When a start is due \
                is computed from the schedule and the last start (or the last end, where a run took longer than a period), \
                for a job that never ran from when this check was first looked at. An execution whose wrapper or machine \
                went away was interrupted: neither failed nor successful.",
        subjects: "each job, by name",
        facts: &[
            fact("jobs", "info", "of the check itself: how many jobs were looked at"),
            fact("jobs_left_out", "info", "of the check itself: how many were not"),
            fact("consecutive_failures", "gauge", "executions in a row that failed; by `failures`"),
            fact(
                "overdue_s",
                "gauge",
                "seconds since its start was due, below 0 before that; over the grace it is `late`",
            ),
            fact(
                "runtime_s",
                "gauge",
                "how long the oldest running, else the last execution takes or took; by `max_runtime`",
            ),
            fact("last_result", "info", "never, running, interrupted, not started, or the exit status or signal"),
            fact("last_start", "info", "when it last started"),
            fact("last_success", "info", "when it last ended successfully"),
            fact("running", "info", "how many executions run"),
            fact("overlapping", "info", "whether an execution began while one before it still ran"),
            fact("interval_s", "info", "seconds between the last two starts"),
            fact("interrupted", "info", "interrupted executions in a row"),
            fact("schedule", "info", "the schedule, or that there is none and lateness can't be told"),
            fact("unreadable_schedule", "info", "what was recorded as its schedule and is none, foreign"),
            fact("next_start", "info", "when it is due, or was"),
            fact("tail", "info", "the end of what the last execution printed if it failed, foreign"),
        ],
        reasons: &[REASONS, LANE_REASONS],
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
        for (key, length) in [("max_runtime", settings.max_runtime), ("min_interval", settings.min_interval)] {
            if length.is_some_and(Dur::is_zero) {
                report(key, "expected a duration above 0s".into());
            }
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let look = Look {
            settings: settings.clone(),
            now: cx.now.wall,
            first_seen: cx.past.first_seen.unwrap_or(cx.now.wall),
            zone: zone(&cx.host),
            proc: cx.host.paths.proc.clone(),
            records: Arc::clone(&cx.records),
        };
        cx.host.lane(&format!("jobs of {}", cx.check), cx.deadline, move || look.run()).await?
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let mut found: Vec<Finding> =
            facts.subjects().iter().flat_map(|subject| assess_job(settings, facts, subject)).collect();
        if let Some(left_out) = facts.number(&Subject::none(), "jobs_left_out") {
            let said = clean!("{left_out} jobs are not looked at, one check looks at {MAX_JOBS}");
            found.push(Finding::new("too_many_jobs", Weight::Warn, true, said));
        }
        found
    }
}

/// A fetch without its futures: all of it blocks.
struct Look {
    settings: Settings,
    now: Timestamp,
    first_seen: Timestamp,
    zone: TimeZone,
    proc: PathBuf,
    records: Arc<dyn Records>,
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
    fn run(&self) -> Result<Fetched, Unread> {
        let mut names: Vec<String> = self.settings.jobs.iter().map(|job| job.as_str().to_owned()).collect();
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
        facts.gauge(me, "runtime_s", runtime, self.runtime_scale(timed.ending.is_none(), runtime));
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
        let Failures { warn, fail } = self.settings.failures;
        // Between two counts, so that the way back of a band doesn't hold a count that is below the edge.
        let edge = |from: u32, code: &'static str| Edge { at: f64::from(from) - 0.5, code: code.into(), settled: true };
        let times = count(u64::try_from(failed).unwrap_or(u64::MAX), "time", "times in a row");
        let scale = Scale {
            warn: Some(edge(warn, "failing")),
            fail: Some(edge(fail, "failing_repeatedly")),
            says: clean!("failed {times}, last with {}", word(last)),
            ..Scale::plain(Unit::None)
        };
        facts.gauge(me, "consecutive_failures", failed, scale);
    }

    fn runtime_scale(&self, running: bool, runtime: i64) -> Scale {
        let Some(most) = self.settings.max_runtime else { return Scale::plain(Unit::Seconds) };
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
        let schedule = schedule.in_zone(&self.zone);
        facts.info(me, "schedule", schedule.to_string());
        let last = seen.first();
        let Some((due, period)) = due(&schedule, last, self.first_seen) else { return };
        facts.info(me, "next_start", due);
        let late = self.now.duration_since(due).as_secs();
        let mut scale = Scale::plain(Unit::Seconds);
        if last.is_none_or(|last| last.ending.is_some()) {
            let grace = self.settings.grace.map_or_else(|| (period / 10).clamp(GRACE.0, GRACE.1), Dur::signed);
            let edge = |at: SignedDuration, code: &'static str| Edge {
                at: at.as_secs_f64(),
                code: code.into(),
                settled: true,
            };
            let before = last.map_or_else(
                || "it has never started".to_owned(),
                |last| {
                    format!(
                        "the last start was {} ago",
                        span(self.now.duration_since(last.execution.started).as_secs())
                    )
                },
            );
            scale.warn = Some(edge(grace, "late"));
            scale.fail = Some(edge(grace.saturating_add(period.min(LATE_AT_MOST)), "overdue"));
            scale.says = clean!("was due {} ago (`{schedule}`), {before}", span(late));
        }
        facts.gauge(me, "overdue_s", late, scale);
    }
}

/// The zone that this machine's cron goes by.
pub(super) fn zone(host: &Host) -> TimeZone {
    let named = host.var("TZ").and_then(|zone| zone.to_str()).and_then(|zone| TimeZone::get(zone).ok());
    named.or_else(|| TimeZone::try_system().ok()).unwrap_or(TimeZone::UTC)
}

/// When the next start is due, and the time from there to the one after it.
fn due(schedule: &Schedule, last: Option<&Seen>, first_seen: Timestamp) -> Option<(Timestamp, SignedDuration)> {
    let from = last.map_or(first_seen, |last| last.execution.started);
    let slot = |after: Timestamp| {
        let slot = schedule.next_after(after)?;
        Some((slot, schedule.next_after(slot)?.duration_since(slot)))
    };
    let (mut due, mut period) = slot(from)?;
    if last.is_some() && due.duration_since(from) < EARLY.min(period / 4) {
        (due, period) = slot(due)?;
    }
    // What ran on beyond its next slot could not start in it.
    match last.and_then(|last| last.execution.ended).filter(|ended| *ended > due) {
        Some(ended) => slot(ended),
        None => Some((due, period)),
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
mod tests {
    use super::*;
    use crate::kinds::ledger::tests::execution;
    use crate::kinds::testing::{at, records};

    const MIN: i64 = 60;
    const HOUR: i64 = 3_600;
    const DAY: i64 = 86_400;

    fn look(toml: &str, executions: Vec<Execution>, now: i64, first_seen: i64) -> Look {
        let settings: Settings = toml::from_str(toml).unwrap();
        Job::validate(&settings, &mut |key, why| panic!("{key}: {why}"));
        let records = records(executions);
        Look { settings, now: at(now), first_seen: at(first_seen), zone: TimeZone::UTC, proc: "/none".into(), records }
    }

    /// `subject code: sentence` of all findings and of the bands as the middle would pick them at first sight.
    fn found(look: &Look) -> Vec<String> {
        let facts = look.run().unwrap().facts;
        let mut found: Vec<String> = Job::assess(&look.settings, &facts, &Past::default(), look.now)
            .into_iter()
            .map(|finding| format!("{} {}: {}", finding.subject, finding.code, finding.said))
            .collect();
        for (subject, name, fact) in facts.iter() {
            assert!(Job::DOC.facts.iter().any(|doc| doc.name == name.as_str()), "{name} is not documented");
            let (Class::Gauge(scale), Some(value)) = (&fact.class, fact.value.number()) else { continue };
            if let Some(edge) = [&scale.fail, &scale.warn].into_iter().flatten().find(|edge| value > edge.at) {
                found.push(format!("{subject} {}: {}", edge.code, scale.says));
            }
        }
        for line in &found {
            let code = line.split([' ', ':']).nth(1).unwrap();
            assert!(Job::DOC.reason(code).is_some(), "{code} is not documented");
        }
        found
    }

    fn run(started: i64, ending: Ending) -> Execution {
        execution("j", started, Some((started + MIN, ending)))
    }

    #[test]
    fn executions_are_judged_and_not_looks() {
        let (ok, bad, cut) = (Ending::Exit(0), Ending::Exit(3), Ending::Interrupted);
        let two = "j failing: failed 2 times in a row, last with exit status 3";
        let three = "j failing_repeatedly: failed 3 times in a row, last with exit status 3";
        for (name, endings, want) in [
            ("fine", vec![ok.clone()], vec![]),
            ("failed once", vec![bad.clone(), ok.clone()], vec![]),
            ("twice", vec![bad.clone(), bad.clone(), ok.clone()], vec![two]),
            ("three times", vec![bad.clone(), bad.clone(), bad.clone()], vec![three]),
            ("was well again", vec![ok.clone(), bad.clone(), bad.clone(), bad.clone()], vec![]),
            ("an interruption feeds no streak", vec![bad.clone(), cut.clone(), ok.clone()], vec![]),
            ("and ends none", vec![cut.clone(), bad.clone(), cut.clone(), bad.clone(), ok.clone()], vec![two]),
            ("two interruptions", vec![cut.clone(), cut.clone(), ok.clone()], vec![]),
            (
                "three",
                vec![cut.clone(), cut.clone(), cut, ok],
                vec!["j interrupted: the last 3 executions were interrupted"],
            ),
            (
                "a signal",
                vec![Ending::Signal(9), bad.clone()],
                vec!["j failing: failed 2 times in a row, last with signal 9"],
            ),
            (
                "no such program",
                vec![Ending::NotStarted(Clean::new("no such file")), bad],
                vec!["j failing: failed 2 times in a row, last with not started"],
            ),
        ] {
            let executions =
                endings.into_iter().zip(0..).map(|(ending, n)| run(10 * DAY - n * HOUR, ending)).collect::<Vec<_>>();
            // Looked at again and again, it stays what it is.
            for later in [MIN, HOUR, DAY] {
                assert_eq!(found(&look("", executions.clone(), 10 * DAY + later, 0)), want, "{name}");
            }
        }
        let strict = "failures = { warn = 1, fail = 2 }";
        let once = vec![run(HOUR, Ending::Exit(1)), run(0, Ending::Exit(0))];
        assert_eq!(found(&look(strict, once, DAY, 0)), ["j failing: failed 1 time, last with exit status 1"]);
    }

    #[test]
    fn lateness_comes_from_the_schedule_and_the_last_start() {
        // Daily at 03:00 UTC: the period is a day, so the grace is 1 h and `overdue` comes 1 h later.
        let daily = "jobs = ['j']\nschedule = '0 3 * * *'";
        let day = |days: i64, hour: i64| days * DAY + hour * HOUR;
        let ok = |started: i64| run(started, Ending::Exit(0));
        let late =
            |code: &str, ago: &str, last: &str| vec![format!("j {code}: was due {ago} ago (`0 3 * * *`), {last}")];
        let long = execution("j", day(10, 3), Some((day(11, 3) + MIN, Ending::Exit(0))));
        for (name, executions, now, want) in [
            ("ran", vec![ok(day(10, 3) + 2)], day(11, 2), vec![]),
            ("within the grace", vec![ok(day(10, 3) + 2)], day(11, 4), vec![]),
            (
                "late",
                vec![ok(day(10, 3))],
                day(11, 4) + MIN,
                late("late", "1 h 1 min", "the last start was 1 d 1 h ago"),
            ),
            ("overdue", vec![ok(day(10, 3))], day(11, 6), late("overdue", "3 h", "the last start was 1 d 3 h ago")),
            ("a little early is that slot's", vec![ok(day(11, 3) - 2)], day(11, 6), vec![]),
            (
                "one by hand moves nothing",
                vec![ok(day(10, 14))],
                day(11, 6),
                late("overdue", "3 h", "the last start was 16 h ago"),
            ),
            ("while it runs it isn't late", vec![execution("j", day(10, 3), None)], day(11, 6), vec![]),
            ("it ran on beyond its slot", vec![long], day(11, 6), vec![]),
            ("an interrupted one did start", vec![run(day(11, 3), Ending::Interrupted)], day(11, 6), vec![]),
            ("never ran, the check is new", vec![], day(10, 12), vec![]),
            ("never ran", vec![], day(11, 5) + 1, late("overdue", "2 h", "it has never started")),
        ] {
            assert_eq!(found(&look(daily, executions, now, day(10, 10))), want, "{name}");
        }
        // A short period: 5 min of grace, and fail one period later.
        let quarter = "jobs = ['j']\nschedule = 'every 15m'";
        for (now, code) in [(20 * MIN, ""), (20 * MIN + 1, "late"), (35 * MIN + 1, "overdue")] {
            let found = found(&look(quarter, vec![ok(0)], now, 0));
            assert_eq!(found.first().map_or("", |found| found.split([' ', ':']).nth(1).unwrap()), code, "{now}");
        }
        assert_eq!(found(&look(&format!("{quarter}\ngrace = '1h'"), vec![ok(0)], HOUR, 0)), [""; 0]);
    }

    #[test]
    fn the_schedule_comes_with_the_execution_or_nobody_can_tell() {
        let with = |schedule: Option<&str>| {
            vec![Execution { schedule: schedule.map(str::to_owned), ..run(0, Ending::Exit(0)) }]
        };
        let overdue = "j overdue: was due 9 h 45 min ago (`every 15m`), the last start was 10 h ago";
        assert_eq!(found(&look("", with(Some("every 15m")), 10 * HOUR, 0)), [overdue]);
        assert_eq!(found(&look("", with(None), 10 * HOUR, 0)), [""; 0]);
        let bad = "j schedule_unreadable: its recorded schedule \"now and then\" can't be read";
        assert_eq!(found(&look("", with(Some("now and then")), 10 * HOUR, 0)), [bad]);
        let never = "j never_ran: has never run, and no schedule says when it should";
        assert_eq!(found(&look("jobs = ['j']", vec![], 10 * HOUR, 0)), [never]);
        assert_eq!(found(&look("", vec![], 10 * HOUR, 0)), [""; 0]);
    }

    #[test]
    fn overlapping_too_long_too_often() {
        let ended = |started: i64, ended: i64| execution("j", started, Some((ended, Ending::Exit(0))));
        let overlapping = "j overlapping: an execution began while one before it still ran";
        for (name, toml, executions, now, want) in [
            ("one after the other", "", vec![ended(100, 200), ended(0, 100)], 300, vec![]),
            ("overlapped", "", vec![ended(100, 200), ended(0, 150)], 300, vec![overlapping]),
            ("two at once", "", vec![execution("j", 100, None), execution("j", 0, None)], 300, vec![overlapping]),
            ("long, no limit", "", vec![execution("j", 0, None)], DAY, vec![]),
            ("within", "max_runtime = '1h'", vec![execution("j", 0, None)], HOUR, vec![]),
            (
                "too long",
                "max_runtime = '1h'",
                vec![execution("j", 0, None)],
                90 * MIN,
                vec!["j too_long: has been running for 1 h 30 min, at most 1h is allowed"],
            ),
            (
                "stuck, though a later one ended",
                "max_runtime = '1h'",
                vec![ended(9_000, 9_100), execution("j", 0, None)],
                3 * HOUR,
                vec!["j stuck: has been running for 3 h, at most 1h is allowed"],
            ),
            (
                "ended in the end",
                "max_runtime = '1h'",
                vec![ended(0, 4 * HOUR)],
                DAY,
                vec!["j too_long: ran for 4 h, at most 1h is allowed"],
            ),
            ("seldom enough", "min_interval = '1m'", vec![ended(60, 61), ended(0, 1)], 300, vec![]),
            (
                "too often",
                "min_interval = '1m'",
                vec![ended(59, 60), ended(0, 1)],
                300,
                vec!["j too_often: the last two starts lie 59 s apart, at least 1m is expected"],
            ),
        ] {
            assert_eq!(found(&look(toml, executions, now, 0)), want, "{name}");
        }
    }

    #[test]
    fn each_job_is_a_subject_and_too_many_are_said() {
        let both = vec![execution("a", 0, Some((1, Ending::Exit(1)))), execution("b", 0, Some((1, Ending::Exit(0))))];
        let facts = look("", both, HOUR, 0).run().unwrap().facts;
        let word = |job: &str| facts.text(&Subject::new(job), "last_result").unwrap().as_str().to_owned();
        assert_eq!((word("a"), word("b")), ("exit status 1".to_owned(), "exit status 0".to_owned()));
        let many = (0..203).map(|n| execution(&format!("j{n}"), 0, Some((1, Ending::Exit(0))))).collect();
        assert_eq!(
            found(&look("", many, HOUR, 0)),
            [" too_many_jobs: 3 jobs are not looked at, one check looks at 200"]
        );
    }

    #[test]
    fn the_tail_of_a_failed_one_is_kept_at_its_end_and_foreign() {
        let tail = format!("{}the end", "ä".repeat(2_000));
        let with = |ending| vec![Execution { tail: Some(Clean::new(&tail)), ..run(0, ending) }];
        let facts = look("", with(Ending::Exit(1)), HOUR, 0).run().unwrap().facts;
        let fact = facts.get(&Subject::new("j"), "tail").unwrap();
        let crate::facts::Value::Text(text) = &fact.value else { panic!() };
        assert!(fact.foreign && text.as_str().ends_with("the end") && text.as_str().len() <= MAX_TEXT_BYTES);
        let facts = look("", with(Ending::Exit(0)), HOUR, 0).run().unwrap().facts;
        assert!(facts.get(&Subject::new("j"), "tail").is_none());
    }

    #[test]
    fn bad_settings_are_refused() {
        let problems = |toml: &str| match toml::from_str::<Settings>(toml) {
            Err(e) => vec![e.message().to_owned()],
            Ok(settings) => {
                let mut said = Vec::new();
                Job::validate(&settings, &mut |key, why| said.push(format!("{key}: {why}")));
                said
            }
        };
        for (toml, said) in [
            ("failures = { fail = 1 }", "failures: expected `warn` from 1 and `fail` not below it, found 2 and 1"),
            ("failures = { warn = 0 }", "failures: expected `warn` from 1 and `fail` not below it, found 0 and 3"),
            ("failures = { fail = 99 }", "failures: at most 50 executions are looked back through, found `fail` 99"),
            (
                "schedule = '0 3 * * *'",
                "schedule: `schedule` needs `jobs` (not all that ever ran start at the same time)",
            ),
            ("max_runtime = '0s'", "max_runtime: expected a duration above 0s"),
            ("jobs = 'a'", "invalid type: string \"a\", expected a sequence"),
            (
                "jobs = ['A']",
                "`A` is not a name (a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or a digit)",
            ),
        ] {
            assert_eq!(problems(toml), [said], "{toml}");
        }
    }

    #[test]
    fn a_whole_look_goes_through_the_host() {
        let root = tempfile::tempdir().unwrap();
        let settings = crate::kinds::testing::settings::<Job>("jobs = ['j']");
        let look = crate::kinds::testing::Trial::new(root.path()).look::<Job>(&settings).unwrap();
        assert_eq!(look.codes(), ["j: never_ran"]);
    }

    #[test]
    fn the_schedule_is_in_the_machines_zone() {
        // 03:00 in Berlin's summer is 01:00 UTC; at 04:30 UTC that is three and a half hours ago.
        let july = 20_640 * DAY;
        let mut berlin = look(
            "jobs = ['j']\nschedule = '0 3 * * *'",
            vec![run(july - DAY + HOUR, Ending::Exit(0))],
            july + 4 * HOUR + 30 * MIN,
            0,
        );
        berlin.zone = TimeZone::get("Europe/Berlin").unwrap();
        assert!(found(&berlin)[0].starts_with("j overdue: was due 3 h 30 min ago"), "{:?}", found(&berlin));
    }
}
