//! Usage that is kept in databases of others: OpenClaw's events, row by row, and Hermes' sessions, whose sums grow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::formats::{News, from_seconds, openclaw};
use super::kept::Kept;
use super::ledger::{Call, Ledger};
use super::prices::Tokens;
use crate::facts::Unread;
use crate::host::{files, theirs};
use crate::kinds::homes::{OPENCLAW_AGENT, OPENCLAW_STATE};
use crate::read::MAX_JSON_DEPTH;
use crate::read::json::parse;

/// Rows that are looked at in one piece: each is taken in before the next is read, so that nothing is read in vain.
const WINDOW: usize = 2_000;
/// Rows before the last one that are read again: a number that was freed is given anew, and what was counted is known.
const AGAIN: i64 = 500;
/// Sessions of Hermes that are looked at, the newest.
const MAX_SESSIONS: usize = 5_000;
/// Bytes of a JSON file with names.
const MAX_JSON: usize = 4 << 20;

/// What became of a source's databases in one look.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub databases: u64,
    pub seen: u64,
    pub calls: u64,
    pub bad: u64,
    /// Rows that are compressed, so that nobody can see what they cost.
    pub compressed: u64,
    /// Databases of which more rows wait for the next look.
    pub behind: u64,
}

/// One row of an agent's database.
struct Event {
    rowid: i64,
    session_key: Option<String>,
    created_at: i64,
    compressed: bool,
    id: Option<String>,
    timestamp: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    usage: Option<String>,
}

/// One of OpenClaw's agents.
pub(super) struct Agent<'a> {
    pub name: &'a str,
    pub path: &'a Path,
    /// The names of jobs by their ids.
    pub jobs: &'a BTreeMap<String, String>,
    /// The last row that was read.
    pub after: Option<i64>,
}

/// Reads the events of one agent that came since, window by window; `last` is the last row that was taken in, even where
/// reading ends early.
pub(super) fn openclaw_agent(
    kept: &mut Kept,
    ledger: &mut Ledger,
    source: &str,
    agent: &Agent<'_>,
    deadline: Instant,
    rows: &mut Rows,
    last: &mut Option<i64>,
) -> Result<(), Unread> {
    let Agent { path, after, .. } = *agent;
    let since = ledger.since().saturating_mul(1_000);
    let mut from = after.map_or(i64::MIN, |last| last.saturating_sub(AGAIN));
    let mut begun = false;
    loop {
        if Instant::now() >= deadline {
            rows.behind += 1;
            return Ok(());
        }
        let read = theirs::read(path, Some(&OPENCLAW_AGENT), deadline, |db| {
            let read = || -> rusqlite::Result<_> {
                let newest: Option<i64> =
                    db.query_row("SELECT max(rowid) FROM transcript_events", [], |row| row.get(0))?;
                // Numbers begin anew where a database was made anew.
                let anew = !begun && after.is_some_and(|after| newest.is_none_or(|newest| newest < after));
                let from = if anew { i64::MIN } else { from };
                let to: Option<i64> = db.query_row(
                    &format!(
                        "SELECT max(rowid) FROM (SELECT rowid FROM transcript_events WHERE rowid > ?1
                                                 ORDER BY rowid LIMIT {WINDOW})"
                    ),
                    [from],
                    |row| row.get(0),
                )?;
                let Some(to) = to else { return Ok((newest, None, Vec::new())) };
                Ok((newest, Some(to), events(db, from, to, since)?))
            };
            read().map_err(|error| theirs::unread(path, &error))
        });
        let (newest, to, events) = match read {
            // What was taken in before stays; the rest waits.
            Err(_) if begun && Instant::now() >= deadline => {
                rows.behind += 1;
                return Ok(());
            }
            read => read?,
        };
        rows.databases += u64::from(!begun);
        begun = true;
        take(kept, ledger, source, agent, events, rows)?;
        let Some(to) = to else {
            last.get_or_insert(0);
            return Ok(());
        };
        *last = Some(to);
        if newest.is_none_or(|newest| newest <= to) {
            return Ok(());
        }
        from = to;
    }
}

/// Takes in what the events of one window say.
fn take(
    kept: &mut Kept,
    ledger: &mut Ledger,
    source: &str,
    agent: &Agent<'_>,
    events: Vec<Event>,
    rows: &mut Rows,
) -> Result<(), Unread> {
    let Agent { jobs, after, .. } = *agent;
    for event in events {
        // Those that are read again were counted as compressed, too.
        let fresh = after.is_none_or(|after| event.rowid > after);
        rows.seen += u64::from(fresh);
        if event.compressed {
            rows.compressed += u64::from(fresh);
            continue;
        }
        let Some(usage) = &event.usage else { continue };
        let Ok(usage) = serde_json::from_str::<openclaw::Usage>(usage) else {
            rows.bad += u64::from(fresh);
            continue;
        };
        let said = event.timestamp.as_deref().and_then(|text| text.parse().ok());
        let Some(at) = said.or_else(|| Timestamp::from_millisecond(event.created_at).ok()) else { continue };
        let (named, job) = openclaw::job(agent.name, event.session_key.as_deref());
        let job = job.map(|job| jobs.get(job).map_or(job, String::as_str));
        let job = job.map_or_else(|| named.to_owned(), |job| format!("{named}/{job}"));
        let (provider, model) = (event.provider.as_deref(), event.model.as_deref().unwrap_or_default());
        let mut failed = None;
        openclaw::call(at, &job, event.id.as_deref(), provider, model, &usage, &mut |news| {
            if let News::Call(call) = news {
                rows.calls += u64::from(fresh);
                // Without an id nobody can tell whether it was counted.
                if fresh || call.key.is_some() {
                    failed = ledger.take(kept, source, &call).err();
                }
            }
        });
        if let Some(unread) = failed {
            return Err(unread);
        }
    }
    Ok(())
}

fn events(db: &Connection, from: i64, to: i64, since: i64) -> rusqlite::Result<Vec<Event>> {
    let has_windows =
        db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'session_windows'")?.exists([])?;
    let key = if has_windows {
        "(SELECT w.session_key FROM session_windows w WHERE w.session_id = e.session_id)"
    } else {
        "NULL"
    };
    // An event that is no JSON would end the whole query: it counts as one without usage.
    let mut query = db.prepare(&format!(
        "SELECT rowid, key, created_at, event_json IS NULL, json_extract(event_json, '$.id'),
                json_extract(event_json, '$.timestamp'), json_extract(event_json, '$.message.provider'),
                json_extract(event_json, '$.message.model'), json_extract(event_json, '$.message.usage')
         FROM (SELECT e.rowid AS rowid, {key} AS key, e.created_at AS created_at,
                      CASE WHEN e.event_json IS NULL THEN NULL WHEN json_valid(e.event_json) THEN e.event_json
                           ELSE '{{}}' END AS event_json
               FROM transcript_events e
               WHERE e.rowid > ?1 AND e.rowid <= ?2 AND e.created_at >= ?3
                 AND (e.event_json IS NULL OR instr(e.event_json, '\"usage\"') > 0)
               ORDER BY e.rowid)"
    ))?;
    let text = |row: &rusqlite::Row<'_>, at: usize| -> rusqlite::Result<Option<String>> {
        Ok(match row.get_ref(at)? {
            rusqlite::types::ValueRef::Text(text) => Some(String::from_utf8_lossy(text).into_owned()),
            _ => None,
        })
    };
    let rows = query.query_map(params![from, to, since], |row| {
        Ok(Event {
            rowid: row.get(0)?,
            session_key: text(row, 1)?,
            created_at: row.get(2)?,
            compressed: row.get(3)?,
            id: text(row, 4)?,
            timestamp: text(row, 5)?,
            provider: text(row, 6)?,
            model: text(row, 7)?,
            usage: text(row, 8)?,
        })
    })?;
    rows.collect()
}

/// The names of OpenClaw's jobs by their ids, from its database or its older file. Names are for people: where they can't
/// be had, ids stand for them.
pub(super) fn openclaw_jobs(root: &Path, deadline: Instant) -> BTreeMap<String, String> {
    let path = root.join("state/openclaw.sqlite");
    let read = theirs::read(&path, Some(&OPENCLAW_STATE), deadline, |db| {
        let names = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut query = db.prepare("SELECT job_id, name FROM cron_jobs LIMIT 10000")?;
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        names().map_err(|error| theirs::unread(&path, &error))
    });
    match read {
        Ok(names) => names.into_iter().collect(),
        Err(_) => named_jobs(&root.join("cron/jobs.json")),
    }
}

/// The names in a file like `{"jobs": [{"id": …, "name": …}]}`.
fn named_jobs(path: &Path) -> BTreeMap<String, String> {
    let Some(value) = document(path) else { return BTreeMap::new() };
    let list = value.get("jobs").unwrap_or(&value).as_array().cloned().unwrap_or_default();
    list.iter()
        .filter_map(|job| {
            let id = job.get("id").or_else(|| job.get("jobId"))?.as_str()?;
            Some((id.to_owned(), job.get("name")?.as_str()?.to_owned()))
        })
        .collect()
}

fn document(path: &Path) -> Option<serde_json::Value> {
    let (bytes, more) = files::read(path, MAX_JSON).ok()?;
    if more { None } else { parse(&bytes, MAX_JSON_DEPTH).ok() }
}

/// The keys of an older OpenClaw's sessions by their ids, from the index beside them.
pub(super) fn openclaw_sessions(folder: &Path) -> BTreeMap<String, String> {
    let Some(serde_json::Value::Object(index)) = document(&folder.join("sessions.json")) else {
        return BTreeMap::new();
    };
    let id = |entry: &serde_json::Value| entry.get("sessionId")?.as_str().map(str::to_owned);
    index.iter().filter_map(|(key, entry)| Some((id(entry)?, key.clone()))).collect()
}

/// The databases of OpenClaw's agents, with the agents' names.
pub(super) fn openclaw_agents(root: &Path) -> Result<Vec<(String, PathBuf)>, Unread> {
    let (paths, _) = files::glob(&root.join("agents/*/agent/openclaw-agent.sqlite"), 200)?;
    let agent = |path: &PathBuf| {
        let name = path.parent()?.parent()?.file_name()?;
        Some((name.to_string_lossy().into_owned(), path.clone()))
    };
    Ok(paths.iter().filter_map(agent).collect())
}

/// What a session of Hermes came to when it was last seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    i: u64,
    o: u64,
    r: u64,
    w: u64,
    t: u64,
    /// What it cost; none where Hermes doesn't know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    usd: Option<f64>,
}

struct SessionRow {
    id: String,
    source: String,
    model: String,
    provider: Option<String>,
    started: f64,
    ended: Option<f64>,
    now: Session,
}

/// Counts what Hermes' sessions grew by since the last look.
pub(super) fn hermes(
    kept: &mut Kept,
    ledger: &mut Ledger,
    source: &str,
    root: &Path,
    now: Timestamp,
    deadline: Instant,
    rows: &mut Rows,
) -> Result<(), Unread> {
    let path = root.join("state.db");
    let sessions =
        theirs::read(&path, None, deadline, |db| sessions(db).map_err(|error| theirs::unread(&path, &error)))?;
    rows.databases += 1;
    rows.behind += u64::from(sessions.len() >= MAX_SESSIONS);
    let place = format!("hermes/{source}");
    let before: Option<BTreeMap<String, Session>> = kept.json(&place)?;
    let jobs = named_jobs(&root.join("cron/jobs.json"));
    let mut after = BTreeMap::new();
    for row in sessions {
        rows.seen += 1;
        let started = from_seconds(row.started).unwrap_or(now);
        let known = before.as_ref().and_then(|before| before.get(&row.id)).copied();
        after.insert(row.id.clone(), row.now);
        // What was spent before the first look is taken to be of the session's beginning; later, of its end or of now.
        let at = match (known.is_some() || before.is_some(), row.ended.and_then(from_seconds)) {
            (true, Some(ended)) if ended <= now => ended.max(started),
            (true, _) => now,
            (false, _) => started,
        };
        let then = known.unwrap_or_default();
        let grown = |now: u64, then: u64| now.saturating_sub(then);
        let tokens = Tokens {
            input: grown(row.now.i, then.i),
            output: grown(row.now.o, then.o),
            cache_read: grown(row.now.r, then.r),
            cache_write: grown(row.now.w, then.w),
            cache_write_1h: 0,
            reasoning: grown(row.now.t, then.t),
        };
        let usd = row.now.usd.map(|usd| (usd - then.usd.unwrap_or(0.0)).max(0.0)).filter(|usd| *usd > 0.0);
        if tokens.total() == 0 && usd.is_none() {
            continue;
        }
        let id = row.id.strip_prefix("cron_").and_then(|rest| rest.rsplitn(3, '_').nth(2));
        let job = match id {
            Some(id) => format!("cron/{}", jobs.get(id).map_or(id, String::as_str)),
            None => row.source.clone(),
        };
        let model = match row.provider.filter(|provider| !provider.is_empty() && !row.model.contains('/')) {
            Some(provider) => format!("{provider}/{}", row.model),
            None => row.model,
        };
        let call = Call { at, job: &job, model: &model, tokens, usd, fast: false, key: None };
        rows.calls += 1;
        ledger.take(kept, source, &call)?;
    }
    kept.put_json(&place, &after);
    Ok(())
}

fn sessions(db: &Connection) -> rusqlite::Result<Vec<SessionRow>> {
    let mut query = db.prepare(&format!(
        "SELECT id, source, coalesce(model, ''), billing_provider, started_at, ended_at,
                coalesce(input_tokens, 0), coalesce(output_tokens, 0), coalesce(cache_read_tokens, 0),
                coalesce(cache_write_tokens, 0), coalesce(reasoning_tokens, 0),
                coalesce(actual_cost_usd, estimated_cost_usd)
         FROM sessions ORDER BY started_at DESC LIMIT {MAX_SESSIONS}"
    ))?;
    let rows = query.query_map([], |row| {
        let count = |at: usize| row.get::<_, i64>(at).map(|n| n.max(0).unsigned_abs());
        let now = Session {
            i: count(6)?,
            o: count(7)?,
            r: count(8)?,
            w: count(9)?,
            t: count(10)?,
            usd: row.get::<_, Option<f64>>(11)?.filter(|usd| *usd > 0.0),
        };
        Ok(SessionRow {
            id: row.get(0)?,
            source: row.get(1)?,
            model: row.get(2)?,
            provider: row.get(3)?,
            started: row.get(4)?,
            ended: row.get(5)?,
            now,
        })
    })?;
    rows.collect()
}
