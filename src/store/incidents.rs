//! Open and ended incidents, what surfaced, and the log of what did not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::Serialize;

use super::{Error, Reader, json, level_word, moment, ms, page, parse};
use crate::facts::{CheckName, Code, Key, Subject};
use crate::judge::{Change, Closing, Incident, Judged};
use crate::redact::Clean;

/// Which part of the history is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// One check's only.
    pub check: Option<CheckName>,
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// From before this row: the number of the last row of the page before.
    pub before: Option<i64>,
    /// Rows of a page; at most 1,000.
    pub limit: usize,
}

/// Something that surfaced, with its place in the history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeView {
    /// Its number, rising with time.
    pub id: i64,
    /// The cycle that surfaced it.
    pub cycle: String,
    /// When.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogView {
    /// Its number, rising with time.
    pub id: i64,
    /// The cycle that wrote it.
    pub cycle: String,
    /// When.
    pub at: Timestamp,
    /// What it is about: `finding`, or a part of the program.
    pub what: String,
    /// Whose, where it is a finding's.
    pub key: Option<Key>,
    /// pass, warn, fail or unknown, where it is a finding's.
    pub outcome: Option<String>,
    /// The reason, where there is one.
    pub code: Option<String>,
    /// In words.
    pub said: Clean,
}

/// An incident as the history shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentView {
    /// The incident as it was last.
    pub incident: Incident,
    /// When and how it ended; none while it is open.
    pub closed: Option<(Timestamp, Option<Closing>)>,
}

/// The open incidents, the bodies they were read from by id, and the ids of those that can't be read and are left alone.
pub(crate) type Open = (Vec<Incident>, BTreeMap<String, String>, Vec<String>);

pub(crate) fn open(conn: &Connection) -> rusqlite::Result<Open> {
    let (mut list, mut bodies, mut bad) = (Vec::new(), BTreeMap::new(), Vec::new());
    let mut query =
        conn.prepare_cached("SELECT id, body FROM incidents WHERE closed_ms IS NULL ORDER BY opened_ms, id")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (id, body): (String, String) = (row.get(0)?, row.get(1)?);
        match parse::<Incident>(&body) {
            Ok(incident) => {
                list.push(incident);
                bodies.insert(id, body);
            }
            Err(_) => bad.push(id),
        }
    }
    Ok((list, bodies, bad))
}

pub(crate) fn put(
    conn: &Connection,
    incident: &Incident,
    closed: Option<(Timestamp, Closing)>,
    before: &BTreeMap<String, String>,
) -> rusqlite::Result<()> {
    let body = json(incident)?;
    if closed.is_none() && before.get(&incident.id) == Some(&body) {
        return Ok(());
    }
    conn.prepare_cached(
        "INSERT OR REPLACE INTO incidents (id, check_name, subject, level, opened_ms, closed_ms, closing, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        incident.id,
        incident.key.check.as_str(),
        incident.key.subject.as_str(),
        level_word(incident.level),
        ms(incident.opened),
        closed.map(|(at, _)| ms(at)),
        closed.map(|(_, how)| json(&how)).transpose()?,
        body
    ])
    .map(drop)
}

/// Writes what surfaced and what did not pass without surfacing.
pub(crate) fn tell(conn: &Connection, cycle: &str, at: Timestamp, judged: &Judged) -> rusqlite::Result<()> {
    let mut change = conn
        .prepare_cached("INSERT INTO changes (cycle, at_ms, check_name, subject, body) VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for one in &judged.changes {
        let Key { check, subject } = &one.key;
        change.execute(params![cycle, ms(at), check.as_str(), subject.as_str(), json(one)?])?;
    }
    for (key, outcome) in &judged.logged {
        log(
            conn,
            cycle,
            at,
            "finding",
            Some(key),
            Some(outcome.word.plain().as_str()),
            outcome.code.as_ref(),
            &outcome.said,
        )?;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the columns of one row")]
pub(crate) fn log(
    conn: &Connection,
    cycle: &str,
    at: Timestamp,
    what: &str,
    key: Option<&Key>,
    outcome: Option<&str>,
    code: Option<&Code>,
    said: &Clean,
) -> rusqlite::Result<()> {
    conn.prepare_cached(
        "INSERT INTO log (cycle, at_ms, what, check_name, subject, outcome, code, said)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        cycle,
        ms(at),
        what,
        key.map(|key| key.check.as_str()),
        key.map(|key| key.subject.as_str()),
        outcome,
        code.map(Code::as_str),
        said.as_str()
    ])
    .map(drop)
}

/// The condition of a filter over `check_name`, `at_ms` and `id`, as ?1 to ?4.
const FILTERED: &str = "(?1 IS NULL OR check_name = ?1) AND at_ms >= ?2 AND id < ?3 ORDER BY id DESC LIMIT ?4";

fn filtered(filter: &Filter) -> (Option<&str>, i64, i64, i64) {
    (
        filter.check.as_ref().map(CheckName::as_str),
        filter.since.map_or(i64::MIN, ms),
        filter.before.unwrap_or(i64::MAX),
        page(filter.limit),
    )
}

fn key(check: Option<String>, subject: Option<String>) -> Option<Key> {
    Some(Key { check: CheckName::try_from(check?).ok()?, subject: Subject::new(&subject?) })
}

impl Reader {
    /// The open incidents, oldest first.
    pub fn open_incidents(&self) -> Result<Vec<Incident>, Error> {
        self.read(|conn| Ok(open(conn)?.0))
    }

    /// Incidents, open and ended, newest first. `before` of the filter is not heeded: narrow it by `since`.
    pub fn incidents(&self, filter: &Filter) -> Result<Vec<IncidentView>, Error> {
        self.read(|conn| {
            let mut query = conn.prepare_cached(
                "SELECT body, closed_ms, closing FROM incidents
                 WHERE (?1 IS NULL OR check_name = ?1) AND (closed_ms IS NULL OR closed_ms >= ?2)
                 ORDER BY opened_ms DESC, id DESC LIMIT ?3",
            )?;
            let (check, since, _, limit) = filtered(filter);
            let rows = query.query_map(params![check, since, limit], |row| {
                let closing: Option<String> = row.get(2)?;
                let how = closing.as_deref().map(parse).transpose()?;
                Ok(IncidentView {
                    incident: parse(&row.get::<_, String>(0)?)?,
                    closed: row.get::<_, Option<i64>>(1)?.map(|at| (moment(at), how)),
                })
            })?;
            rows.collect()
        })
    }

    /// What surfaced, newest first.
    pub fn changes(&self, filter: &Filter) -> Result<Vec<ChangeView>, Error> {
        self.read(|conn| {
            let mut query =
                conn.prepare_cached(&format!("SELECT id, cycle, at_ms, body FROM changes WHERE {FILTERED}"))?;
            let (check, since, before, limit) = filtered(filter);
            let rows = query.query_map(params![check, since, before, limit], |row| {
                Ok(ChangeView {
                    id: row.get(0)?,
                    cycle: row.get(1)?,
                    at: moment(row.get(2)?),
                    change: parse(&row.get::<_, String>(3)?)?,
                })
            })?;
            rows.collect()
        })
    }

    /// The log, newest first.
    pub fn log(&self, filter: &Filter) -> Result<Vec<LogView>, Error> {
        self.read(|conn| {
            let mut query = conn.prepare_cached(&format!(
                "SELECT id, cycle, at_ms, what, check_name, subject, outcome, code, said FROM log WHERE {FILTERED}"
            ))?;
            let (check, since, before, limit) = filtered(filter);
            let rows = query.query_map(params![check, since, before, limit], |row| {
                Ok(LogView {
                    id: row.get(0)?,
                    cycle: row.get(1)?,
                    at: moment(row.get(2)?),
                    what: row.get(3)?,
                    key: key(row.get(4)?, row.get(5)?),
                    outcome: row.get(6)?,
                    code: row.get(7)?,
                    said: Clean::new(&row.get::<_, String>(8)?),
                })
            })?;
            rows.collect()
        })
    }
}
