//! Holds the history to its age and its size, in steps short enough that no cycle waits for them.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::{Error, Reader, Store, meta, moment, ms, set_meta};

/// Rows of a table that one step deletes at most: a few milliseconds.
const STEP_ROWS: i64 = 500;
/// Pages that one step gives back to the disk at most.
const STEP_PAGES: i64 = 500;
/// What is younger is never dropped for its size.
const YOUNGEST: SignedDuration = SignedDuration::from_hours(1);

/// How much history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How old it may get.
    pub keep: SignedDuration,
    /// How large the file may get, in bytes.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { keep: SignedDuration::from_hours(30 * 24), max_bytes: 200 * 1024 * 1024 }
    }
}

/// What one step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trimmed {
    /// Rows that were deleted.
    pub rows: usize,
    /// Whether another step is wanted.
    pub more: bool,
    /// History up to then was dropped before its age, for want of room: to be said.
    pub early: Option<Timestamp>,
    /// Bytes in use beyond the limit that no history can be dropped for.
    pub beyond: Option<u64>,
}

/// Tables of history: what tells a row's age, and which rows may go.
const HISTORY: &[(&str, &str, &str)] = &[
    ("observations", "until_ms", "until_ms IS NOT NULL"),
    ("cycles", "started_ms", "seq < (SELECT max(seq) FROM cycles)"),
    ("changes", "at_ms", "true"),
    ("log", "at_ms", "true"),
    ("incidents", "closed_ms", "closed_ms IS NOT NULL"),
    // Who was told of an open incident decides who is told of its end.
    (
        "outbox",
        "ended_ms",
        "ended_ms IS NOT NULL AND coalesce(incident NOT IN (SELECT id FROM incidents WHERE closed_ms IS NULL), true)
         AND coalesce(incident NOT IN (SELECT incident FROM outbox WHERE state = 'due' AND incident IS NOT NULL), true)",
    ),
    // A job that runs once a quarter must not look as if it never ran.
    (
        "executions",
        "ended_ms",
        "ended_ms IS NOT NULL AND EXISTS (SELECT 1 FROM executions AS newer WHERE newer.job = executions.job
         AND newer.started_ms > executions.started_ms)",
    ),
    ("silences", "coalesce(ended_ms, until_ms)", "true"),
    ("deeds", "at_ms", "surfaced IS NOT NULL"),
];

struct Size {
    used: u64,
    free_pages: i64,
}

fn size(conn: &Connection) -> rusqlite::Result<Size> {
    let pragma = |name: &str| conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (page, pages, free_pages) = (pragma("page_size")?, pragma("page_count")?, pragma("freelist_count")?);
    Ok(Size { used: u64::try_from((pages - free_pages) * page).unwrap_or(0), free_pages })
}

fn oldest(conn: &Connection) -> rusqlite::Result<Option<i64>> {
    HISTORY.iter().try_fold(None, |oldest: Option<i64>, (table, age, may_go)| {
        let this: Option<i64> = conn
            .prepare_cached(&format!("SELECT min({age}) FROM {table} WHERE {may_go}"))?
            .query_row([], |row| row.get(0))?;
        Ok(oldest.into_iter().chain(this).min())
    })
}

/// Deletes at most a step of each table's rows from before `cutoff`; the flag says whether a table had as many.
fn drop_before(conn: &Connection, cutoff: i64) -> rusqlite::Result<(usize, bool)> {
    HISTORY.iter().try_fold((0, false), |(rows, more), (table, age, may_go)| {
        let dropped = conn
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE rowid IN
                 (SELECT rowid FROM {table} WHERE {may_go} AND {age} < ?1 ORDER BY {age} LIMIT ?2)"
            ))?
            .execute(params![cutoff, STEP_ROWS])?;
        Ok((rows + dropped, more || i64::try_from(dropped).is_ok_and(|dropped| dropped == STEP_ROWS)))
    })
}

impl Store {
    /// One step of trimming: by age first, then by size, oldest first; then pages are given back. The caller repeats it
    /// while there is more and time for it.
    pub fn trim(&mut self, now: Timestamp, limits: &Limits) -> Result<Trimmed, Error> {
        let keep_from = ms(now.checked_sub(limits.keep).unwrap_or(Timestamp::MIN));
        let mut trimmed = self.write(|tx| {
            let (rows, more) = drop_before(tx, keep_from)?;
            let mut trimmed = Trimmed { rows, more, early: None, beyond: None };
            let used = size(tx)?.used;
            if more || used <= limits.max_bytes {
                return Ok(trimmed);
            }
            let youngest = ms(now.checked_sub(YOUNGEST).unwrap_or(now));
            // The oldest twentieth of what there is, again and again, takes every table back to the same time.
            let cutoff = oldest(tx)?.map(|oldest| (oldest + (youngest - oldest) / 20 + 1).min(youngest));
            let (rows, more) = cutoff.map_or(Ok((0, false)), |cutoff| drop_before(tx, cutoff))?;
            if rows == 0 {
                trimmed.beyond = Some(used - limits.max_bytes);
                return Ok(trimmed);
            }
            trimmed.rows += rows;
            trimmed.more = more || size(tx)?.used > limits.max_bytes;
            if let Some(cutoff) = cutoff {
                trimmed.early = Some(moment(cutoff));
                set_meta(tx, "dropped_early_ms", cutoff.max(meta(tx, "dropped_early_ms")?.unwrap_or(i64::MIN)))?;
            }
            Ok(trimmed)
        })?;
        let free = self.read(|conn| {
            let free = size(conn)?.free_pages;
            if free > 0 {
                // It gives pages back one row at a time, so it has to be read to its end.
                let mut give_back = conn.prepare(&format!("PRAGMA incremental_vacuum({STEP_PAGES})"))?;
                let mut rows = give_back.query([])?;
                while rows.next()?.is_some() {}
            }
            Ok(free)
        })?;
        trimmed.more |= free > STEP_PAGES;
        Ok(trimmed)
    }
}

impl super::CycleTx<'_> {
    /// History before this was dropped early since a committed cycle last asked: to be told by this one.
    pub fn dropped_early(&self) -> Result<Option<Timestamp>, Error> {
        let tx = self.conn();
        self.edge((|| {
            let dropped = meta(tx, "dropped_early_ms")?;
            let new =
                dropped.filter(|dropped| meta(tx, "dropped_early_told_ms").is_ok_and(|told| told != Some(*dropped)));
            if let Some(dropped) = new {
                set_meta(tx, "dropped_early_told_ms", dropped)?;
            }
            Ok(new.map(moment))
        })())
    }
}

impl Reader {
    /// Bytes that the database uses.
    pub fn used_bytes(&self) -> Result<u64, Error> {
        self.read(|conn| Ok(size(conn)?.used))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Level, incidents::Filter};
    use super::*;
    use crate::facts::Facts;
    use crate::judge::{Judged, Word};
    use crate::redact::Clean;

    const HOUR: i64 = 60;
    const DAY: i64 = 24 * HOUR;

    fn oldest_cycle(store: &Store) -> Timestamp {
        store.cycles(&Filter { limit: 1_000, ..Filter::default() }).unwrap().last().unwrap().row.started
    }

    /// Cycles an hour apart, each with a report and an observation that differs.
    fn fill(store: &mut Store, cycles: i64) {
        let held = lease(store, at(0));
        for n in 0..cycles {
            let seen = at(n * HOUR);
            let mut facts = Facts::new();
            facts.state(&crate::facts::Subject::none(), "body", format!("{n} {}", "x".repeat(900)));
            let judged = Judged { after: snapshot([stood("site", seen, Word::Pass, facts)]), ..Judged::default() };
            let mut tx = store.begin(&held).unwrap();
            tx.before("", seen, Known::default()).unwrap();
            let row = super::super::CycleRow { report_json: Some("r".repeat(4_000)), ..cycle(&format!("c{n}"), seen) };
            tx.commit_cycle(&row, &judged, &[], &[], &[]).unwrap();
        }
        store.release(&held).unwrap();
    }

    fn trim_all(store: &mut Store, now: Timestamp, limits: &Limits) -> Vec<Trimmed> {
        let mut steps = Vec::new();
        loop {
            let step = store.trim(now, limits).unwrap();
            let more = step.more;
            steps.push(step);
            assert!(steps.len() < 500, "it ends");
            if !more {
                return steps;
            }
        }
    }

    fn cycles(store: &Store) -> usize {
        store.cycles(&Filter { limit: 1_000, ..Filter::default() }).unwrap().len()
    }

    #[test]
    fn what_is_older_than_it_may_get_goes() {
        let home = Home::new();
        let mut store = home.open(at(0));
        fill(&mut store, 72);
        let limits = Limits { keep: SignedDuration::from_hours(24), ..Limits::default() };
        let steps = trim_all(&mut store, at(72 * HOUR), &limits);
        assert_eq!(steps.len(), 1);
        assert_eq!((steps[0].early, steps[0].beyond), (None, None));
        assert_eq!(cycles(&store), 24);
        assert_eq!(oldest_cycle(&store), at(48 * HOUR));
        let kept = store.observations(&check("site"), None, 1_000).unwrap();
        assert_eq!((kept.len(), kept[23].until), (24, at(48 * HOUR)));
        let far = at(72 * HOUR + 400 * DAY);
        trim_all(&mut store, far, &limits);
        assert_eq!(cycles(&store), 1, "the last cycle stays");
        assert_eq!(store.observations(&check("site"), None, 9).unwrap().len(), 1, "and what still holds");
        assert_eq!(store.snapshot().unwrap().len(), 1);
        let held = lease(&mut store, far);
        assert_eq!(store.begin(&held).unwrap().dropped_early().unwrap(), None);
    }

    #[test]
    fn what_does_not_fit_goes_oldest_first_and_is_said() {
        let home = Home::new();
        let mut store = home.open(at(0));
        fill(&mut store, 300);
        let now = at(300 * HOUR);
        let full = store.used_bytes().unwrap();
        let limits = Limits { max_bytes: full / 2, ..Limits::default() };
        let steps = trim_all(&mut store, now, &limits);
        let last = steps.iter().rev().find_map(|step| step.early).unwrap();
        assert!(store.used_bytes().unwrap() <= limits.max_bytes);
        assert!(oldest_cycle(&store) >= last);
        assert!(cycles(&store) > 80, "no more than needed: {} are left", cycles(&store));
        // What was given back is in the log until that is written into the file.
        store.read(|conn| conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))).unwrap();
        let file = std::fs::metadata(home.path()).unwrap().len();
        assert!(file <= limits.max_bytes + 64 * 1024, "the pages were given back: {file}");
        assert_eq!(steps.last().unwrap().beyond, None);
        let held = lease(&mut store, now);
        // It is told once, by a cycle that is committed.
        assert_eq!(store.begin(&held).unwrap().dropped_early().unwrap(), Some(last));
        let tx = store.begin(&held).unwrap();
        assert_eq!(tx.dropped_early().unwrap(), Some(last));
        tx.commit_cycle(&cycle("told", now), &Judged::default(), &[], &[], &[]).unwrap();
        assert_eq!(store.begin(&held).unwrap().dropped_early().unwrap(), None);
    }

    #[test]
    fn what_is_no_history_is_not_dropped_for_its_size() {
        let home = Home::new();
        let mut store = home.open(at(0));
        fill(&mut store, 3);
        let steps = trim_all(&mut store, at(3 * HOUR), &Limits { max_bytes: 1, ..Limits::default() });
        assert!(steps.last().unwrap().beyond.is_some_and(|bytes| bytes > 10_000), "{steps:?}");
        assert_eq!(store.snapshot().unwrap().len(), 1);
        assert_eq!(cycles(&store), 1);
    }

    #[test]
    fn an_open_incident_and_a_deed_that_waits_stay() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let incidents = vec![incident("i1", "site", Level::Red, at(0))];
        run(&mut store, "c0", at(0), &Judged { incidents, ..Judged::default() }, &[]).unwrap();
        let who = super::super::people::Actor { by: Clean::new("ana"), why: Clean::new("later") };
        store.ack(&crate::judge::Covers::Finding(key("site")), |_| true, &who, at(0)).unwrap();
        trim_all(&mut store, at(400 * DAY), &Limits { max_bytes: 1, ..Limits::default() });
        assert_eq!((store.open_incidents().unwrap().len(), store.deeds(9).unwrap().len()), (1, 1));
    }

    #[test]
    fn a_job_that_runs_once_a_quarter_keeps_its_last_execution() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let execution = |n: i64| crate::records::Execution {
            job: "quarterly".into(),
            execution: format!("e{n}"),
            started: at(n),
            ended: Some(at(n)),
            ending: Some(crate::records::Ending::Exit(0)),
            schedule: None,
            wrapper: None,
            boot_id: None,
            stdout_bytes: None,
            stdout_sha256: None,
            tail: None,
        };
        let held = lease(&mut store, at(0));
        let tx = store.begin(&held).unwrap();
        tx.take_executions(&[execution(0), execution(1)]).unwrap();
        tx.commit_cycle(&cycle("c0", at(0)), &Judged::default(), &[], &[], &[]).unwrap();
        trim_all(&mut store, at(90 * DAY), &Limits::default());
        assert_eq!(store.executions("quarterly", 9).unwrap(), [execution(1)]);
    }
}
