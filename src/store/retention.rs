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

    /// Writes the log back into the file, as far as no reader stands in the way, and without waiting for one.
    pub fn checkpoint(&mut self) -> Result<(), Error> {
        self.read(|conn| conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())))
    }
}

impl Reader {
    /// History before this was dropped early, for want of room; none if that never happened.
    pub fn dropped_early(&self) -> Result<Option<Timestamp>, Error> {
        self.read(|conn| Ok(meta(conn, "dropped_early_ms")?.map(moment)))
    }

    /// Bytes that the database uses.
    pub fn used_bytes(&self) -> Result<u64, Error> {
        self.read(|conn| Ok(size(conn)?.used))
    }
}
