//! One cycle's transaction: read what judging rests on, then write all that it decided, or nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::incidents::{self, Filter};
use super::lease::{self, Lease};
use super::memory::{self, Remember};
use super::outbox::{self, Folded, OutboxRow};
use super::standing::{self, Stored};
use super::{Error, Halt, Reader, Store, executions, json, level_of, level_word, moment, ms, page, parse, people};
use crate::clean;
use crate::facts::{CheckName, Key};
use crate::host::sqlite;
use crate::judge::{Before, Incident, Judged, Level, Turn};
use crate::records::Execution;
use crate::redact::Clean;

/// What a cycle saw, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Checks that are configured.
    pub checks: u32,
    /// Checks that were looked at.
    pub looked: u32,
    /// Findings that pass.
    pub pass: u32,
    /// Findings that warn.
    pub warn: u32,
    /// Findings that fail.
    pub fail: u32,
    /// Findings that could not be read.
    pub unknown: u32,
    /// Findings that are held.
    pub held: u32,
}

/// A cycle as it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleRow {
    /// Its id, unique.
    pub id: String,
    /// When it began.
    pub started: Timestamp,
    /// When it was judged.
    pub ended: Timestamp,
    /// The highest level.
    pub status: Level,
    /// Whether something surfaced.
    pub surfaced: bool,
    /// What it saw.
    pub counts: Counts,
    /// The report as it was made, if there was one.
    pub report_json: Option<String>,
}

/// A line for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    /// The part of the program that it is about (`outbox`, `spool`, `clock`).
    pub what: &'static str,
    /// Whose, where it is about a finding.
    pub key: Option<Key>,
    /// In words.
    pub said: Clean,
}

/// What a commit did beside what it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Committed {
    /// Notices that were folded away before anybody saw them.
    pub folded: Vec<Folded>,
    /// What could not be kept or read, a sentence each: the store's own findings.
    pub said: Vec<Clean>,
}

/// A committed cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CycleView {
    /// Its number, rising with time.
    pub seq: i64,
    /// The cycle.
    pub row: CycleRow,
}

/// A cycle's transaction. Dropped without [`CycleTx::commit_cycle`], it never was.
pub struct CycleTx<'s> {
    tx: Transaction<'s>,
    path: &'s std::path::Path,
    standings: BTreeMap<CheckName, Stored>,
    incidents: BTreeMap<String, String>,
    deeds: Vec<i64>,
    said: Vec<Clean>,
}

impl Store {
    /// Begins the cycle's transaction: nobody else writes until it ends. Refused when the lease was lost.
    pub fn begin(&mut self, lease: &Lease) -> Result<CycleTx<'_>, Error> {
        let Reader { conn, path } = &mut self.0;
        let said = |halt: Halt| match halt {
            Halt::Sql(error) => sqlite::trouble(path, &error).into(),
            Halt::Said(error) => error,
        };
        let tx =
            conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(|error| said(Halt::Sql(error)))?;
        lease::check(&tx, lease).map_err(said)?;
        Ok(CycleTx {
            tx,
            path,
            standings: BTreeMap::new(),
            incidents: BTreeMap::new(),
            deeds: Vec::new(),
            said: Vec::new(),
        })
    }
}

impl CycleTx<'_> {
    pub(super) fn conn(&self) -> &Connection {
        &self.tx
    }

    pub(super) fn edge<T>(&self, done: rusqlite::Result<T>) -> Result<T, Error> {
        done.map_err(|error| sqlite::trouble(self.path, &error).into())
    }

    /// Adds what the spool brought. Told twice is told once.
    pub fn take_executions(&self, told: &[Execution]) -> Result<(), Error> {
        self.edge(executions::take(&self.tx, told))
    }

    /// Moves the history and the memory of a check that was renamed to its new name. Standings, incidents and silences are
    /// `judge`'s to move.
    pub fn rename(&self, was: &CheckName, is: &CheckName) -> Result<(), Error> {
        self.edge((|| {
            for table in ["observations", "changes", "log", "outbox"] {
                self.tx
                    .prepare_cached(&format!("UPDATE {table} SET check_name = ?2 WHERE check_name = ?1"))?
                    .execute([was.as_str(), is.as_str()])?;
            }
            self.tx
                .prepare_cached("UPDATE OR IGNORE memory SET check_name = ?2 WHERE check_name = ?1")?
                .execute([was.as_str(), is.as_str()])
                .map(drop)
        })())
    }

    /// All that judging rests on. What a ladder works on and what `when` left out is the caller's to add.
    pub fn before(&mut self, cycle: &str, now: Timestamp) -> Result<Before, Error> {
        let read = (|| {
            let (snapshot, standings, unread) = standing::load(&self.tx)?;
            let (open, bodies, lost) = incidents::open(&self.tx)?;
            Ok((
                snapshot,
                standings,
                unread,
                open,
                bodies,
                lost,
                people::active(&self.tx, now)?,
                people::waiting(&self.tx)?,
            ))
        })();
        let (snapshot, standings, unread, open, bodies, lost, silences, deeds) = self.edge(read)?;
        let unread = unread.iter().map(|check| clean!("the standing of `{check}` can't be read: it starts anew"));
        self.said.extend(unread);
        self.said.extend(lost.iter().map(|id| clean!("the incident `{id}` can't be read: it is left as it is")));
        self.standings = standings;
        self.incidents = bodies;
        self.deeds = deeds.iter().map(|deed| deed.id).collect();
        Ok(Before { cycle: cycle.to_owned(), snapshot, incidents: open, silences, deeds, ..Before::default() })
    }

    /// Writes everything and commits. After `Ok` it is on the disk; after `Err` nothing is.
    pub fn commit_cycle(
        mut self,
        cycle: &CycleRow,
        judged: &Judged,
        remember: &[Remember],
        notices: &[OutboxRow],
        log: &[LogRow],
    ) -> Result<Committed, Error> {
        let said = std::mem::take(&mut self.said);
        let written = self.write(cycle, judged, remember, notices, log, said);
        let committed = self.edge(written)?;
        let path = self.path;
        self.tx.commit().map_err(|error| sqlite::trouble(path, &error))?;
        Ok(committed)
    }

    fn write(
        &self,
        cycle: &CycleRow,
        judged: &Judged,
        remember: &[Remember],
        notices: &[OutboxRow],
        log: &[LogRow],
        mut said: Vec<Clean>,
    ) -> rusqlite::Result<Committed> {
        let (tx, at) = (&self.tx, cycle.ended);
        tx.prepare_cached(
            "INSERT INTO cycles (id, started_ms, ended_ms, status, surfaced, counts, report)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            cycle.id,
            ms(cycle.started),
            ms(cycle.ended),
            level_word(cycle.status),
            cycle.surfaced,
            json(&cycle.counts)?,
            cycle.report_json
        ])?;
        standing::store(tx, &judged.after, &self.standings)?;
        for check in self.standings.keys().filter(|check| !judged.after.contains_key(*check)) {
            tx.prepare_cached("DELETE FROM memory WHERE check_name = ?1")?.execute([check.as_str()])?;
        }
        for incident in &judged.incidents {
            incidents::put(tx, &announced(incident, notices), None, &self.incidents)?;
        }
        for (incident, how) in &judged.closed {
            incidents::put(tx, &announced(incident, notices), Some((at, *how)), &self.incidents)?;
        }
        incidents::tell(tx, &cycle.id, at, judged)?;
        for deed in &self.deeds {
            tx.prepare_cached("UPDATE deeds SET surfaced = ?2 WHERE id = ?1")?.execute(params![deed, cycle.id])?;
        }
        said.extend(memory::store(tx, remember)?);
        let (folded, dropped) = outbox::add(tx, &cycle.id, at, notices)?;
        said.extend(dropped);
        for row in log {
            incidents::log(tx, &cycle.id, at, row.what, row.key.as_ref(), None, None, &row.said)?;
        }
        for line in &said {
            incidents::log(tx, &cycle.id, at, "store", None, None, None, line)?;
        }
        Ok(Committed { folded, said })
    }
}

/// The incident with the levels that these notices announce, channel by channel.
fn announced(incident: &Incident, notices: &[OutboxRow]) -> Incident {
    let mut incident = incident.clone();
    for row in notices.iter().filter(|row| row.incident.as_ref() == Some(&incident.id)) {
        if matches!(row.notice.turn, Turn::Open | Turn::Raise | Turn::Lower | Turn::Remind) {
            incident.announced.insert(row.channel.clone(), row.notice.level);
        }
    }
    incident
}

const COLUMNS: &str = "seq, id, started_ms, ended_ms, status, surfaced, counts, report";

fn view(row: &Row<'_>) -> rusqlite::Result<CycleView> {
    Ok(CycleView {
        seq: row.get(0)?,
        row: CycleRow {
            id: row.get(1)?,
            started: moment(row.get(2)?),
            ended: moment(row.get(3)?),
            status: level_of(&row.get::<_, String>(4)?),
            surfaced: row.get(5)?,
            counts: parse(&row.get::<_, String>(6)?)?,
            report_json: row.get(7)?,
        },
    })
}

impl Reader {
    fn one_cycle(&self, rest: &str, params: impl rusqlite::Params) -> Result<Option<CycleView>, Error> {
        self.read(|conn| {
            conn.prepare_cached(&format!("SELECT {COLUMNS} FROM cycles {rest}"))?.query_row(params, view).optional()
        })
    }

    /// The newest cycle.
    pub fn last_cycle(&self) -> Result<Option<CycleView>, Error> {
        self.one_cycle("ORDER BY seq DESC LIMIT 1", [])
    }

    /// The oldest cycle that is kept.
    pub fn first_cycle(&self) -> Result<Option<CycleView>, Error> {
        self.one_cycle("ORDER BY seq LIMIT 1", [])
    }

    /// The newest cycle that made a report.
    pub fn last_report(&self) -> Result<Option<CycleView>, Error> {
        self.one_cycle("WHERE report IS NOT NULL ORDER BY seq DESC LIMIT 1", [])
    }

    /// One cycle by its id.
    pub fn cycle(&self, id: &str) -> Result<Option<CycleView>, Error> {
        self.one_cycle("WHERE id = ?1", [id])
    }

    /// Cycles, newest first. With a check: those in which something of it surfaced or was logged.
    pub fn cycles(&self, filter: &Filter) -> Result<Vec<CycleView>, Error> {
        self.read(|conn| {
            let mut query = conn.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM cycles WHERE started_ms >= ?2 AND seq < ?3
                 AND (?1 IS NULL OR id IN (SELECT cycle FROM changes WHERE check_name = ?1
                      UNION SELECT cycle FROM log WHERE check_name = ?1))
                 ORDER BY seq DESC LIMIT ?4"
            ))?;
            let since = filter.since.map_or(i64::MIN, ms);
            let check = filter.check.as_ref().map(CheckName::as_str);
            query
                .query_map(params![check, since, filter.before.unwrap_or(i64::MAX), page(filter.limit)], view)?
                .collect()
        })
    }
}
