//! One cycle's transaction: read what judging rests on, then write all that it decided, or nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::baselines;
use super::incidents::{self, Filter};
use super::lease::{self, Lease};
use super::memory::{self, Remember};
use super::outbox::{self, Folded, OutboxRow};
use super::standing::{self, Known, Stored};
use super::{Error, Halt, Reader, Store, executions, json, level_of, level_word, moment, ms, page, parse, people};
use crate::clean;
use crate::clock::Now;
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
        self.in_place()?;
        let Reader { conn, path, .. } = &mut self.0;
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

    /// Moves the history, the memory and the baselines of a check that was renamed to its new name. Standings and incidents are
    /// `judge`'s to move; a silence of the old name covers nothing any more.
    pub fn rename(&self, was: &CheckName, is: &CheckName) -> Result<(), Error> {
        self.edge((|| {
            for table in ["observations", "changes", "log", "outbox"] {
                self.tx
                    .prepare_cached(&format!("UPDATE {table} SET check_name = ?2 WHERE check_name = ?1"))?
                    .execute([was.as_str(), is.as_str()])?;
            }
            for table in ["memory", "baselines"] {
                self.tx
                    .prepare_cached(&format!("UPDATE OR IGNORE {table} SET check_name = ?2 WHERE check_name = ?1"))?
                    .execute([was.as_str(), is.as_str()])?;
            }
            Ok(())
        })())
    }

    /// The clocks of the last committed cycle, if it was in this boot, and a note of these for the next one.
    pub fn clock_mark(&self, boot_id: &str, now: Now) -> Result<Option<Now>, Error> {
        let boot =
            i64::from_ne_bytes(Sha256::digest(boot_id.as_bytes()).first_chunk::<8>().copied().unwrap_or_default());
        self.edge((|| {
            let same = super::meta(&self.tx, "clock_boot")? == Some(boot);
            let last = super::meta(&self.tx, "clock_wall_ms")?.zip(super::meta(&self.tx, "clock_since_boot_ms")?);
            super::set_meta(&self.tx, "clock_boot", boot)?;
            super::set_meta(&self.tx, "clock_wall_ms", ms(now.wall))?;
            let since_boot = i64::try_from(now.boot.as_millis()).unwrap_or(i64::MAX);
            super::set_meta(&self.tx, "clock_since_boot_ms", since_boot)?;
            Ok(last.filter(|_| same).map(|(wall, boot)| Now {
                wall: moment(wall),
                boot: Duration::from_millis(u64::try_from(boot).unwrap_or(0)),
            }))
        })())
    }

    /// All that judging rests on; `known` is what was read of it before the transaction. What a ladder works on and what
    /// `when` left out is the caller's to add.
    pub fn before(&mut self, cycle: &str, now: Timestamp, known: Known) -> Result<Before, Error> {
        let read = (|| {
            let (snapshot, standings, unread) = standing::load(&self.tx, known)?;
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
        super::open::told(tx)?;
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
            baselines::forget(tx, check)?;
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

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::outbox::Which;
    use super::super::testing::*;
    use super::*;
    use crate::facts::{Code, Facts, Subject};
    use crate::judge::{Change, Closing, Impact, Outcome, What, Word};

    /// A check that fails, its incident, its change, its notice.
    fn red() -> (Judged, Vec<OutboxRow>) {
        let judged = Judged {
            after: snapshot([stood("site", at(0), Word::Fail, Facts::new())]),
            incidents: vec![incident("c0.1", "site", Level::Red, at(0))],
            changes: vec![Change {
                id: "c1".into(),
                key: key("site"),
                what: What::Opened,
                level: Level::Red,
                impact: Impact::High,
                said: Clean::new("connection refused"),
                code: Some(Code::from("refused")),
                since: at(0),
            }],
            logged: vec![(key("disk"), Outcome { said: Clean::new("slow"), word: Word::Warn, ..Outcome::default() })],
            ..Judged::default()
        };
        (judged, vec![notice("chat", Some("c0.1"), "site", Turn::Open, Level::Red)])
    }

    #[test]
    fn what_was_committed_is_what_the_next_cycle_judges_from() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let lease = lease(&mut store, at(0));
        let (judged, notices) = red();
        let mut tx = store.begin(&lease).unwrap();
        let before = tx.before("c0", at(0), Known::default()).unwrap();
        assert_eq!((before.cycle.as_str(), before.snapshot.len(), before.incidents.len()), ("c0", 0, 0));
        let row = CycleRow {
            status: Level::Red,
            surfaced: true,
            counts: Counts { checks: 2, fail: 1, ..Counts::default() },
            report_json: Some("{}".into()),
            ..cycle("c0", at(0))
        };
        let remember = vec![(check("site"), "offset".to_owned(), Some(b"17".to_vec()))];
        let log = [LogRow { what: "spool", key: None, said: Clean::new("one file was unreadable") }];
        assert_eq!(tx.commit_cycle(&row, &judged, &remember, &notices, &log).unwrap(), Committed::default());
        drop(store);

        let mut store = home.open(at(15));
        let lease = store.take_lease(&me(2), at(15), at(18), |_| false).unwrap();
        let mut tx = store.begin(&lease).unwrap();
        let before = tx.before("c1", at(15), Known::default()).unwrap();
        assert_eq!(before.snapshot, judged.after);
        let mut told = judged.incidents[0].clone();
        told.announced.insert("chat".into(), Level::Red);
        assert_eq!(before.incidents, [told], "the channel's level is on record with the notice");
        drop(tx);
        let last = store.last_cycle().unwrap().unwrap();
        assert_eq!((last.seq, &last.row), (1, &row));
        assert_eq!(store.memory(&check("site")).unwrap()["offset"], b"17");
        let all = Filter { limit: 10, ..Filter::default() };
        assert_eq!(store.changes(&all).unwrap()[0].change, judged.changes[0]);
        let log = store.log(&all).unwrap();
        assert_eq!(
            log.iter().map(|line| (line.what.as_str(), line.said.as_str())).collect::<Vec<_>>(),
            [("spool", "one file was unreadable"), ("finding", "slow")]
        );
        assert_eq!((log[1].key.clone(), log[1].outcome.as_deref()), (Some(key("disk")), Some("warn")));
        for (name, cycles) in [("site", 1), ("disk", 1), ("other", 0)] {
            let filter = Filter { check: Some(check(name)), ..all.clone() };
            assert_eq!(store.cycles(&filter).unwrap().len(), cycles, "{name}");
        }
        let later = Filter { since: Some(at(1)), ..all };
        assert_eq!((store.cycles(&later).unwrap().len(), store.changes(&later).unwrap().len()), (0, 0));
    }

    #[test]
    fn a_cycle_that_is_not_committed_never_was() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let lease = lease(&mut store, at(0));
        let (judged, notices) = red();
        let mut tx = store.begin(&lease).unwrap();
        tx.before("c0", at(0), Known::default()).unwrap();
        // As far as a kill just before the commit gets.
        tx.write(&cycle("c0", at(0)), &judged, &[], &notices, &[], vec![]).unwrap();
        drop(tx);
        drop(store);
        let mut store = home.open(at(1));
        assert_eq!(store.last_cycle().unwrap(), None);
        assert_eq!(store.open_incidents().unwrap(), []);
        assert_eq!(store.claim(Which::All, at(1), at(2), 9).unwrap().due, []);
        assert_eq!(
            store.lease().unwrap().unwrap().holder,
            me(1),
            "the lease stays until it ends or its holder is gone"
        );
    }

    #[test]
    fn numbers_come_back_to_the_last_bit() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let mut facts = Facts::new();
        // Shortest decimals that a hasty parser gets wrong in the last place.
        let mut bits = 0x3ff0_0000_0000_0001_u64;
        for i in 0..200_u64 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i | 1);
            facts.state(&Subject::none(), format!("n{i}"), f64::from_bits(bits));
        }
        assert!(facts.len() > 150);
        let after = snapshot([stood("site", at(0), Word::Pass, facts)]);
        run(&mut store, "c0", at(0), &Judged { after: after.clone(), ..Judged::default() }, &[]).unwrap();
        assert_eq!(store.snapshot().unwrap(), after);
        assert_eq!(store.standing(&check("site")).unwrap(), after.get(&check("site")).cloned());
    }

    #[test]
    fn a_full_disk_is_said_and_leaves_the_last_cycle_whole() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let (judged, notices) = red();
        run(&mut store, "c0", at(0), &judged, &notices).unwrap();
        let lease = lease(&mut store, at(15));
        let pages: i64 = store.read(|conn| conn.query_row("PRAGMA page_count", [], |row| row.get(0))).unwrap();
        store.read(|conn| conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))).unwrap();
        let mut tx = store.begin(&lease).unwrap();
        tx.before("c1", at(15), Known::default()).unwrap();
        let remember = vec![(check("site"), "much".to_owned(), Some(vec![1; 500_000]))];
        let refused = tx.commit_cycle(&cycle("c1", at(15)), &Judged::default(), &remember, &[], &[]).unwrap_err();
        assert!(matches!(&refused, Error::Db(sqlite::Trouble::NoSpace { .. })), "{refused}");
        assert_eq!(store.last_cycle().unwrap().unwrap().row.id, "c0");
        assert_eq!(store.open_incidents().unwrap().len(), 1);
        assert_eq!(store.claim(Which::All, at(15), at(16), 9).unwrap().due.len(), 1, "what waits can still be sent");
    }

    #[test]
    fn an_incident_that_ends_goes_into_the_history() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let (judged, notices) = red();
        run(&mut store, "c0", at(0), &judged, &notices).unwrap();
        let after = snapshot([stood("site", at(15), Word::Pass, Facts::new())]);
        let closed = vec![(judged.incidents[0].clone(), Closing::Passed)];
        run(&mut store, "c1", at(15), &Judged { after, closed, ..Judged::default() }, &[]).unwrap();
        assert_eq!(store.open_incidents().unwrap(), []);
        let history = store.incidents(&Filter { limit: 10, ..Filter::default() }).unwrap();
        let ended = at(15) + SignedDuration::from_secs(1);
        assert_eq!(history.iter().map(|view| view.closed).collect::<Vec<_>>(), [Some((ended, Some(Closing::Passed)))]);
    }

    #[test]
    fn rows_that_can_not_be_read_are_said_and_stop_nothing() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let (mut judged, notices) = red();
        judged.after.extend(snapshot([stood("disk", at(0), Word::Pass, Facts::new())]));
        run(&mut store, "c0", at(0), &judged, &notices).unwrap();
        store
            .read(|conn| {
                conn.execute("UPDATE standing SET last = '{' WHERE check_name = 'disk'", [])?;
                conn.execute("UPDATE incidents SET body = '{}'", [])
            })
            .unwrap();
        let lease = lease(&mut store, at(15));
        let mut tx = store.begin(&lease).unwrap();
        let before = tx.before("c1", at(15), Known::default()).unwrap();
        assert_eq!((before.snapshot.len(), before.incidents.len()), (1, 0));
        let after = snapshot([stood("disk", at(15), Word::Pass, Facts::new())]);
        let judged = Judged { after, ..Judged::default() };
        let committed = tx.commit_cycle(&cycle("c1", at(15)), &judged, &[], &[], &[]).unwrap();
        assert_eq!(
            committed.said.iter().map(Clean::as_str).collect::<Vec<_>>(),
            [
                "the standing of `disk` can't be read: it starts anew",
                "the incident `c0.1` can't be read: it is left as it is"
            ]
        );
        assert_eq!(store.snapshot().unwrap(), judged.after);
    }

    #[test]
    fn a_renamed_check_keeps_its_history_and_its_memory_and_a_removed_one_does_not() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let held = lease(&mut store, at(0));
        let mut tx = store.begin(&held).unwrap();
        tx.before("c0", at(0), Known::default()).unwrap();
        let remember: Vec<_> =
            ["site", "gone"].iter().map(|name| (check(name), "k".to_owned(), Some(vec![1]))).collect();
        let names = ["site", "gone"].map(|name| stood(name, at(0), Word::Pass, Facts::new()));
        let judged = Judged { after: snapshot(names), ..Judged::default() };
        tx.commit_cycle(&cycle("c0", at(0)), &judged, &remember, &[], &[]).unwrap();

        let mut tx = store.begin(&held).unwrap();
        tx.rename(&check("site"), &check("web")).unwrap();
        tx.before("c1", at(15), Known::default()).unwrap();
        let judged = Judged { after: snapshot([stood("web", at(15), Word::Fail, Facts::new())]), ..Judged::default() };
        tx.commit_cycle(&cycle("c1", at(15)), &judged, &[], &[], &[]).unwrap();
        assert_eq!(store.snapshot().unwrap().into_keys().collect::<Vec<_>>(), [check("web")]);
        assert_eq!(store.observations(&check("web"), None, 9).unwrap().len(), 2);
        assert_eq!(store.memory(&check("web")).unwrap()["k"], [1]);
        assert_eq!(store.memory(&check("site")).unwrap().len() + store.memory(&check("gone")).unwrap().len(), 0);
    }
}
