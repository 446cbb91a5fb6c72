//! The ledgers of agents' own schedulers, read into one shape: OpenClaw's database and the files before it, Hermes' and
//! nanobot's files. What is unknown stays out; what can't be read is said, job by job.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::Value;
use tokio::time::Instant;

use super::Source;
use super::cadence::Plan;
use crate::clean;
use crate::facts::Unread;
use crate::host::{files, theirs};
use crate::kinds::homes::{self, OPENCLAW_STATE};
use crate::kinds::moment::moment;
use crate::kinds::remote::MAX_JSON_DEPTH;
use crate::read::json::parse;
use crate::schedule::Schedule;

/// Jobs that are read of a ledger.
const MAX_ROWS: usize = 1_000;
/// Bytes of what is read of one job.
const MAX_JOB_BYTES: usize = 1 << 20;
/// Executions that are looked back through, of all jobs together: as many as OpenClaw keeps.
const MAX_HISTORY: u32 = 2_000;
/// What OpenClaw writes as the error of a run that its own restart ended.
const RESTARTED: &str = "interrupted by gateway restart";
/// Answers that are kept back on purpose.
const SILENT: &[&str] = &["no_reply", "heartbeat_ok", "[silent]"];
/// What OpenClaw writes of a command that printed nothing.
const NO_OUTPUT: &str = "command ok with no output";

/// What a ledger holds.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub jobs: Vec<Entry>,
    /// Jobs of which something can't be read, by name.
    pub unread: Vec<(String, Unread)>,
    /// `database`, `files`, or `none` where there is no job yet.
    pub layout: &'static str,
    /// When the older ledger beside it was written.
    pub legacy: Option<Timestamp>,
    /// Jobs beyond [`MAX_ROWS`].
    pub left_out: usize,
}

/// One job.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_excessive_bools, reason = "as its ledger has them")]
pub(super) struct Entry {
    pub id: String,
    pub name: String,
    pub enabled: bool,
    pub is_heartbeat: bool,
    pub plan: When,
    pub created: Option<Timestamp>,
    /// Its own limit.
    pub limit: Option<SignedDuration>,
    pub last_start: Option<Timestamp>,
    /// When the last execution ended, where the ledger tells that and not its start.
    pub last_end: Option<Timestamp>,
    /// Whether a run is written down only when it has ended. Then `recorded_start` is moved on before it begins.
    pub told_at_end: bool,
    pub lasted: Option<SignedDuration>,
    pub outcome: Outcome,
    /// Errors in a row, where the ledger counts them.
    pub errors: Option<u32>,
    /// How many of those were interruptions, where a history tells.
    pub interrupted: Option<u32>,
    pub skipped: u32,
    pub schedule_errors: u32,
    pub error: Option<String>,
    pub recorded_start: Option<Timestamp>,
    pub running_since: Option<Timestamp>,
    pub auto_disabled: Option<String>,
    /// Whether what the last execution said was lost.
    pub undelivered: bool,
    pub delivery_error: Option<String>,
}

/// When a job starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum When {
    /// When something happens, or in a way that is not known.
    #[default]
    Untold,
    Planned(Plan),
    /// As was written, and can't be read.
    Unreadable(String),
}

/// How the last execution went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Outcome {
    #[default]
    Never,
    Ok,
    /// It ended well and printed nothing.
    Empty,
    Error,
    Interrupted,
    Skipped,
    /// A word that is not known.
    Other,
}

impl Outcome {
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Ok | Self::Empty => "ok",
            Self::Error => "error",
            Self::Interrupted => "interrupted",
            Self::Skipped => "skipped",
            Self::Other => "unknown",
        }
    }
}

/// Reads an agent's ledger. Blocking. Codes: `ledger_missing`, `bad_ledger`, `schema_unknown`, those of files and of
/// [`theirs`].
pub(super) fn read(source: Source, folder: &Path, zone: &TimeZone, deadline: Instant) -> Result<Ledger, Unread> {
    let in_workspace = || folder.join("workspace/cron/jobs.json");
    match source {
        Source::Exec | Source::Openclaw => openclaw(folder, zone, deadline),
        Source::Hermes => or_none(folder, from_files(&[folder.join("cron/jobs.json")], |job| hermes(job, zone))?),
        Source::Nanobot => {
            or_none(folder, from_files(&[in_workspace(), folder.join("cron/jobs.json")], |job| nanobot(job, zone))?)
        }
    }
}

/// These two make their file with the first job: without one there is none.
fn or_none(folder: &Path, ledger: Option<Ledger>) -> Result<Ledger, Unread> {
    match ledger {
        Some(ledger) => Ok(ledger),
        None if files::stat(folder)?.is_some_and(|stat| stat.is_dir) => {
            Ok(Ledger { layout: "none", ..Ledger::default() })
        }
        None => Err(missing(folder)),
    }
}

fn missing(folder: &Path) -> Unread {
    Unread::target("ledger_missing", clean!("there is no ledger of jobs under {}", files::shown(folder)))
}

fn bad(path: &Path, why: &str) -> Unread {
    Unread::blind("bad_ledger", clean!("{} {why}", files::shown(path)))
}

/// The database where there is one, else the files that were there before.
fn openclaw(folder: &Path, zone: &TimeZone, deadline: Instant) -> Result<Ledger, Unread> {
    let database = folder.join("state/openclaw.sqlite");
    let legacy = folder.join("cron/jobs.json");
    if files::stat(&database)?.is_none() {
        return openclaw_files(&legacy, folder, zone);
    }
    let rows = theirs::read(&database, Some(&OPENCLAW_STATE), deadline, |connection| {
        rows(connection).map_err(|error| theirs::unread(&database, &error))
    })?;
    let mut ledger = Ledger { layout: "database", left_out: rows.left_out, ..Ledger::default() };
    for row in rows.jobs {
        match row.entry(&rows.history, zone) {
            Ok(entry) => ledger.jobs.push(entry),
            Err(why) => ledger.unread.push((row.name, bad(&database, &format!("has a job that {why}")))),
        }
    }
    // Whether an old file beside it can be looked at matters to nobody.
    ledger.legacy = files::stat(&legacy).ok().flatten().map(|stat| stat.modified);
    Ok(ledger)
}

/// A row of `cron_jobs`; what is too long is none.
struct Row {
    id: String,
    name: String,
    enabled: bool,
    job: Option<String>,
    state: Option<String>,
}

struct Rows {
    jobs: Vec<Row>,
    left_out: usize,
    /// The newest runs of each job first: whether each ended well, and whether it was interrupted.
    history: BTreeMap<String, Vec<(bool, bool)>>,
}

fn rows(connection: &Connection) -> rusqlite::Result<Rows> {
    let mut rows = Rows { jobs: Vec::new(), left_out: 0, history: BTreeMap::new() };
    let query = "SELECT job_id, name, enabled, job_json, state_json FROM cron_jobs ORDER BY name, job_id";
    let mut jobs = connection.prepare(query)?;
    let mut found = jobs.query([])?;
    while let Some(row) = found.next()? {
        if rows.jobs.len() == MAX_ROWS {
            rows.left_out += 1;
            continue;
        }
        let text = |at: usize| -> rusqlite::Result<Option<String>> {
            let text = row.get_ref(at)?.as_str_or_null()?;
            Ok(text.filter(|text| text.len() <= MAX_JOB_BYTES).map(str::to_owned))
        };
        let id = text(0)?.unwrap_or_default();
        let name = text(1)?.filter(|name| !name.trim().is_empty()).unwrap_or_else(|| id.clone());
        rows.jobs.push(Row { id, name, enabled: row.get(2)?, job: text(3)?, state: text(4)? });
    }
    rows.history = history(connection)?;
    Ok(rows)
}

/// The finished runs that are on record. A schema that keeps none, or keeps them elsewhere, has no history.
fn history(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Vec<(bool, bool)>>> {
    let query = "SELECT source_id, status, error FROM task_runs WHERE runtime = 'cron' AND task_kind = 'automation_run' \
                 AND status IN ('succeeded', 'failed', 'timed_out', 'lost') ORDER BY created_at DESC LIMIT ?1";
    let mut history: BTreeMap<String, Vec<(bool, bool)>> = BTreeMap::new();
    let mut runs = match connection.prepare(query) {
        Ok(runs) => runs,
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.code == rusqlite::ErrorCode::Unknown => {
            return Ok(history);
        }
        Err(rusqlite::Error::SqlInputError { .. }) => return Ok(history),
        Err(error) => return Err(error),
    };
    let mut found = runs.query([MAX_HISTORY])?;
    while let Some(row) = found.next()? {
        let text = |at: usize| -> rusqlite::Result<&str> { Ok(row.get_ref(at)?.as_str_or_null()?.unwrap_or_default()) };
        let (job, status, error) = (text(0)?, text(1)?, text(2)?);
        let interrupted = status == "lost" || is_restart(error);
        history.entry(job.to_owned()).or_default().push((status == "succeeded", interrupted));
    }
    Ok(history)
}

fn is_restart(error: &str) -> bool {
    error.to_lowercase().contains(RESTARTED)
}

impl Row {
    fn entry(&self, history: &BTreeMap<String, Vec<(bool, bool)>>, zone: &TimeZone) -> Result<Entry, String> {
        let json = |text: &Option<String>, what: &str| {
            let text = text.as_deref().ok_or_else(|| format!("has no {what} of at most 1 MiB"))?;
            parse(text.as_bytes(), MAX_JSON_DEPTH).map_err(|error| format!("has a {what} that can't be read: {error}"))
        };
        let job = json(&self.job, "description")?;
        let state = if self.state.is_some() { json(&self.state, "state")? } else { Value::Null };
        let mut entry = entry(&job, &state, zone);
        (entry.id, entry.name, entry.enabled) = (self.id.clone(), self.name.clone(), self.enabled);
        if let (Some(errors), Some(runs)) = (entry.errors, history.get(&self.id)) {
            let streak = runs.iter().take_while(|(well, _)| !well).take(usize::try_from(errors).unwrap_or(usize::MAX));
            let interrupted = streak.filter(|(_, interrupted)| *interrupted).count();
            entry.interrupted = u32::try_from(interrupted).ok();
        }
        Ok(entry)
    }
}

/// The files of before the database: the jobs, and in later versions their state apart.
fn openclaw_files(path: &Path, folder: &Path, zone: &TimeZone) -> Result<Ledger, Unread> {
    let states_path = path.with_file_name("jobs-state.json");
    let apart = homes::json(&states_path)?;
    let states = match &apart {
        None => None,
        Some(document) => {
            let jobs = document.get("jobs").and_then(Value::as_object);
            Some(jobs.ok_or_else(|| bad(&states_path, "has no `jobs` by id"))?)
        }
    };
    let ledger = from_files(&[path.to_owned()], |job| {
        let of = states.and_then(|states| states.get(job.get("id").and_then(Value::as_str).unwrap_or_default()));
        let state = of.map(|of| of.get("state").unwrap_or(of)).or_else(|| job.get("state"));
        entry(job, state.unwrap_or(&Value::Null), zone)
    })?;
    ledger.ok_or_else(|| missing(folder))
}

/// The first of these files that is there, if one is: `jobs`, or the list alone.
fn from_files(paths: &[PathBuf], read: impl Fn(&Value) -> Entry) -> Result<Option<Ledger>, Unread> {
    for path in paths {
        let Some(document) = homes::json(path)? else { continue };
        let jobs = document.get("jobs").unwrap_or(&document).as_array();
        let jobs = jobs.ok_or_else(|| bad(path, "has no list of `jobs`"))?;
        let left_out = jobs.len().saturating_sub(MAX_ROWS);
        let mut ledger = Ledger { layout: "files", left_out, ..Ledger::default() };
        for job in jobs.iter().take(MAX_ROWS) {
            let text = |key: &str| job.get(key).and_then(Value::as_str).map(str::trim).unwrap_or_default();
            let name = if text("name").is_empty() { text("id") } else { text("name") };
            if name.is_empty() {
                ledger.unread.push((String::new(), bad(path, "has a job with neither name nor id")));
                continue;
            }
            ledger.jobs.push(Entry { id: text("id").to_owned(), name: name.to_owned(), ..read(job) });
        }
        return Ok(Some(ledger));
    }
    Ok(None)
}

/// A moment in milliseconds since 1970; 0 means none.
fn ms(of: &Value, key: &str) -> Option<Timestamp> {
    let ms = of.get(key).and_then(Value::as_f64).filter(|ms| *ms > 0.0)?;
    let since = SignedDuration::try_from_secs_f64(ms / 1_000.0).ok()?;
    Timestamp::from_duration(since).ok()
}

fn number(of: &Value, key: &str) -> Option<u32> {
    of.get(key).and_then(Value::as_u64).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

fn text<'a>(of: &'a Value, key: &str) -> Option<&'a str> {
    of.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
}

/// A job of OpenClaw's with its state: the same fields in the database and in the files.
fn entry(job: &Value, state: &Value, zone: &TimeZone) -> Entry {
    let payload = job.get("payload").unwrap_or(&Value::Null);
    let created = ms(job, "createdAtMs");
    let limit = payload.get("timeoutSeconds").and_then(Value::as_f64).filter(|secs| *secs > 0.0);
    let error = text(state, "lastError").map(str::to_owned);
    let said = text(state, "lastDiagnosticSummary").unwrap_or_default().to_lowercase();
    let outcome = match text(state, "lastRunStatus").or_else(|| text(state, "lastStatus")) {
        None => Outcome::Never,
        Some("ok") if said.starts_with(NO_OUTPUT) => Outcome::Empty,
        Some("ok") => Outcome::Ok,
        Some("error") if error.as_deref().is_some_and(is_restart) => Outcome::Interrupted,
        Some("error") => Outcome::Error,
        Some("skipped") => Outcome::Skipped,
        Some(_) => Outcome::Other,
    };
    let quiet = outcome == Outcome::Empty || SILENT.contains(&said.as_str());
    let auto_disabled = state.get("autoDisabled").filter(|disabled| disabled.is_object());
    Entry {
        enabled: job.get("enabled").and_then(Value::as_bool).unwrap_or(true),
        is_heartbeat: text(payload, "kind") == Some("heartbeat"),
        plan: plan(job.get("schedule").unwrap_or(&Value::Null), created, zone),
        created: created.max(ms(state, "scheduleActivatedAtMs")),
        limit: limit.and_then(|secs| SignedDuration::try_from_secs_f64(secs).ok()),
        last_start: ms(state, "lastRunAtMs"),
        lasted: number(state, "lastDurationMs").map(|ms| SignedDuration::from_millis(i64::from(ms))),
        errors: Some(number(state, "consecutiveErrors").unwrap_or(0)),
        skipped: number(state, "consecutiveSkipped").unwrap_or(0),
        schedule_errors: number(state, "scheduleErrorCount").unwrap_or(0),
        recorded_start: ms(state, "nextRunAtMs"),
        running_since: ms(state, "runningAtMs"),
        auto_disabled: auto_disabled.map(|why| text(why, "reason").unwrap_or("unknown").to_owned()),
        undelivered: is_undelivered(job, state, quiet),
        delivery_error: text(state, "lastDeliveryError").map(str::to_owned),
        outcome,
        error,
        ..Entry::default()
    }
}

/// Whether the last words were lost: not when delivery is switched off, when they were kept back on purpose, or when
/// there were none.
fn is_undelivered(job: &Value, state: &Value, quiet: bool) -> bool {
    let mode = job.get("delivery").and_then(|delivery| text(delivery, "mode"));
    let kept_back = quiet || mode == Some("none") || text(state, "deliverySuppressionReason").is_some();
    let failed = text(state, "lastDeliveryStatus") == Some("not-delivered");
    (failed || text(state, "lastDeliveryError").is_some()) && !kept_back
}

/// A schedule as OpenClaw and nanobot write it.
fn plan(schedule: &Value, created: Option<Timestamp>, zone: &TimeZone) -> When {
    let unreadable = |what: &str| When::Unreadable(what.chars().take(200).collect());
    match text(schedule, "kind") {
        Some("cron") => {
            let expr = text(schedule, "expr").unwrap_or_default();
            slots(expr, text(schedule, "tz"), zone).map_or_else(|| unreadable(expr), When::Planned)
        }
        Some("every") => {
            let every = schedule.get("everyMs").and_then(Value::as_i64).filter(|every| *every > 0);
            // Anchors may be counted from 1970 on: 0 is one.
            let anchor = schedule.get("anchorMs").and_then(Value::as_i64);
            let anchor = anchor.and_then(|ms| Timestamp::from_millisecond(ms).ok());
            let anchor = anchor.or(created).unwrap_or(Timestamp::UNIX_EPOCH);
            let plan = every.map(|every| Plan::Every { every: SignedDuration::from_millis(every), anchor });
            plan.map_or_else(|| unreadable("every"), When::Planned)
        }
        Some("at") => {
            let at = ["at", "atMs"].into_iter().find_map(|key| schedule.get(key).and_then(moment));
            at.map_or_else(|| unreadable("at"), |at| When::Planned(Plan::Once(at)))
        }
        _ => When::Untold,
    }
}

/// A cron expression in its zone. Of six fields the first is seconds, which no lateness is told by.
fn slots(expr: &str, tz: Option<&str>, zone: &TimeZone) -> Option<Plan> {
    let fields: Vec<&str> = expr.split_whitespace().collect();
    let fields = if let [_, rest @ ..] = fields.as_slice()
        && rest.len() == 5
    {
        rest
    } else {
        &fields
    };
    let expr = fields.join(" ");
    let source = tz.map_or_else(|| expr.clone(), |tz| format!("TZ={tz} {expr}"));
    Schedule::parse(&source).ok().map(|schedule| Plan::Slots(schedule.in_zone(zone)))
}

/// A job of nanobot's. It keeps a history instead of counting.
fn nanobot(job: &Value, zone: &TimeZone) -> Entry {
    let state = job.get("state").unwrap_or(&Value::Null);
    let mut entry = entry(job, state, zone);
    let runs = state.get("runHistory").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut runs: Vec<(Option<Timestamp>, bool)> =
        runs.iter().map(|run| (ms(run, "runAtMs"), text(run, "status") == Some("error"))).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.0));
    let errors = runs.iter().take_while(|(_, failed)| *failed).count();
    entry.errors = u32::try_from(errors).ok().filter(|_| !runs.is_empty());
    entry.is_heartbeat = text(job, "name") == Some("heartbeat");
    entry
}

/// A job of Hermes'. It counts nothing: streaks are counted here. Of a run it writes `last_run_at` when it is over, and
/// the next start before it begins.
fn hermes(job: &Value, zone: &TimeZone) -> Entry {
    let at = |key: &str| job.get(key).and_then(moment);
    let created = at("created_at");
    let schedule = job.get("schedule").unwrap_or(&Value::Null);
    let minutes = schedule.get("minutes").and_then(Value::as_i64).filter(|minutes| *minutes > 0);
    let last_end = at("last_run_at");
    let plan = match (text(schedule, "kind"), minutes, schedule.get("run_at").and_then(moment)) {
        (Some("cron"), ..) => plan(schedule, created, zone),
        (Some("interval"), Some(minutes), _) => {
            // It counts from the end of the last run, not from an anchor.
            let anchor = last_end.or(created).unwrap_or(Timestamp::UNIX_EPOCH);
            When::Planned(Plan::Every { every: SignedDuration::from_mins(minutes), anchor })
        }
        (Some("once"), _, Some(at)) => When::Planned(Plan::Once(at)),
        _ => When::Untold,
    };
    let paused = matches!(text(job, "state"), Some("paused" | "completed" | "disabled"));
    let delivery_error = text(job, "last_delivery_error").map(str::to_owned);
    let error = text(job, "last_error").map(str::to_owned);
    Entry {
        enabled: job.get("enabled").and_then(Value::as_bool).unwrap_or(true) && !paused,
        plan,
        created,
        last_end,
        told_at_end: true,
        outcome: match text(job, "last_status") {
            None => Outcome::Never,
            Some("ok") => Outcome::Ok,
            Some("error") if error.as_deref().is_some_and(is_restart) => Outcome::Interrupted,
            Some("error") => Outcome::Error,
            Some(_) => Outcome::Other,
        },
        error,
        recorded_start: at("next_run_at"),
        undelivered: delivery_error.is_some(),
        delivery_error,
        ..Entry::default()
    }
}
