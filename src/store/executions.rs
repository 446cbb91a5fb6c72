//! The job ledger: executions of scheduled commands, taken from the spool by a cycle's transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::memory::unreadable;
use super::{Error, Reader, json, ms, page, parse};
use crate::facts::{CheckName, Unread};
use crate::kinds::Records;
use crate::records::{CheckView, Execution};
use crate::redact::Clean;

/// Executions kept of each job.
pub const KEPT: i64 = 100;
/// Of these, the newest that keep the end of their output.
pub const KEPT_TAILS: i64 = 10;
/// Jobs that are listed.
pub const MAX_JOBS: usize = 1_000;

/// Adds what the spool brought; what is there already is completed, so a record may come twice.
pub(crate) fn take(conn: &Connection, told: &[Execution]) -> rusqlite::Result<()> {
    let mut put = conn.prepare_cached(
        "INSERT OR REPLACE INTO executions (execution, job, started_ms, ended_ms, body, tail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for told in told {
        let known = conn
            .prepare_cached("SELECT body, tail FROM executions WHERE execution = ?1")?
            .query_row([&told.execution], row)
            .optional()?;
        let mut execution = match known {
            Some(known) => known.merge(told.clone()),
            None => told.clone(),
        };
        // Tails are kept for fewer executions than the rest, so they have a column of their own.
        let tail = execution.tail.take();
        put.execute(params![
            execution.execution,
            execution.job,
            ms(execution.started),
            execution.ended.map(ms),
            json(&execution)?,
            tail.as_ref().map(Clean::as_str)
        ])?;
    }
    for job in told.iter().map(|told| told.job.as_str()).collect::<BTreeSet<_>>() {
        let older = "SELECT execution FROM executions WHERE job = ?1 ORDER BY started_ms DESC LIMIT -1 OFFSET ?2";
        conn.prepare_cached(&format!("DELETE FROM executions WHERE execution IN ({older})"))?
            .execute(params![job, KEPT])?;
        conn.prepare_cached(&format!(
            "UPDATE executions SET tail = NULL WHERE tail IS NOT NULL AND execution IN ({older})"
        ))?
        .execute(params![job, KEPT_TAILS])?;
    }
    Ok(())
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Execution> {
    let execution: Execution = parse(&row.get::<_, String>(0)?)?;
    let tail: Option<String> = row.get(1)?;
    // It was clean when it was written, and is cleaned again with the secrets that are known now.
    Ok(Execution { tail: tail.as_deref().map(Clean::new), ..execution })
}

impl Reader {
    /// A job's executions, newest first; at most 1,000.
    pub fn executions(&self, job: &str, limit: usize) -> Result<Vec<Execution>, Error> {
        self.read(|conn| {
            conn.prepare_cached("SELECT body, tail FROM executions WHERE job = ?1 ORDER BY started_ms DESC LIMIT ?2")?
                .query_map(params![job, page(limit)], row)?
                .collect()
        })
    }

    /// The names of all jobs that ever ran, in order; at most 1,000.
    pub fn jobs(&self) -> Result<Vec<String>, Error> {
        self.read(|conn| {
            conn.prepare_cached("SELECT DISTINCT job FROM executions ORDER BY job LIMIT ?1")?
                .query_map([page(MAX_JOBS)], |row| row.get(0))?
                .collect()
        })
    }
}

/// The records that kinds may read: the ledger with what the spool holds beyond it, and what other checks saw.
#[derive(Debug)]
pub struct Ledger {
    source: Arc<Mutex<Reader>>,
    pending: Vec<Execution>,
    checks: Arc<BTreeMap<CheckName, CheckView>>,
}

impl Ledger {
    /// `pending` is what lies in the spool and will be taken by this cycle's transaction.
    #[must_use]
    pub fn new(
        source: Arc<Mutex<Reader>>,
        pending: Vec<Execution>,
        checks: Arc<BTreeMap<CheckName, CheckView>>,
    ) -> Self {
        Self { source, pending, checks }
    }

    fn reader<T>(&self, read: impl FnOnce(&Reader) -> Result<T, Error>) -> Result<T, Unread> {
        read(&self.source.lock().unwrap_or_else(PoisonError::into_inner)).map_err(|error| unreadable(&error))
    }
}

impl Records for Ledger {
    fn executions(&self, job: &str, limit: usize) -> Result<Vec<Execution>, Unread> {
        let known = self.reader(|reader| reader.executions(job, limit))?;
        let mut all: BTreeMap<String, Execution> =
            known.into_iter().map(|execution| (execution.execution.clone(), execution)).collect();
        for told in self.pending.iter().filter(|told| told.job == job) {
            let merged = match all.remove(&told.execution) {
                Some(known) => known.merge(told.clone()),
                None => told.clone(),
            };
            all.insert(merged.execution.clone(), merged);
        }
        let mut list: Vec<Execution> = all.into_values().collect();
        list.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| b.execution.cmp(&a.execution)));
        list.truncate(limit);
        Ok(list)
    }

    fn jobs(&self) -> Result<Vec<String>, Unread> {
        let known = self.reader(Reader::jobs)?;
        let all: BTreeSet<String> = known.into_iter().chain(self.pending.iter().map(|told| told.job.clone())).collect();
        Ok(all.into_iter().collect())
    }

    fn checks(&self) -> Arc<BTreeMap<CheckName, CheckView>> {
        self.checks.clone()
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::testing::*;
    use super::super::{Store, cycles::CycleTx};
    use super::*;
    use crate::judge::Judged;
    use crate::records::Ending;

    fn started(job: &str, n: i64) -> Execution {
        Execution {
            job: job.to_owned(),
            execution: format!("{job}-{n:04}"),
            started: at(n),
            ended: None,
            ending: None,
            schedule: Some("every 1m".into()),
            wrapper: Some((7, 99)),
            boot_id: Some("b00t".into()),
            stdout_bytes: None,
            stdout_sha256: None,
            tail: None,
        }
    }

    /// An end that knows nothing of the start but its time.
    fn ended(job: &str, n: i64) -> Execution {
        Execution {
            ended: Some(at(n) + SignedDuration::from_secs(30)),
            ending: Some(Ending::Exit(0)),
            stdout_bytes: Some(5),
            tail: Some(Clean::new("done\n")),
            schedule: None,
            wrapper: None,
            boot_id: None,
            ..started(job, n)
        }
    }

    fn whole(job: &str, n: i64) -> Execution {
        let Execution { schedule, wrapper, boot_id, .. } = started(job, n);
        Execution { schedule, wrapper, boot_id, ..ended(job, n) }
    }

    fn take(store: &mut Store, told: &[Execution]) {
        let held = lease(store, at(0));
        let id = store.last_cycle().unwrap().map_or(0, |last| last.seq);
        let tx: CycleTx<'_> = store.begin(&held).unwrap();
        tx.take_executions(told).unwrap();
        tx.commit_cycle(&cycle(&format!("c{id}"), at(0)), &Judged::default(), &[], &[], &[]).unwrap();
        store.release(&held).unwrap();
    }

    #[test]
    fn a_start_and_an_end_make_one_execution_in_any_order_and_any_number() {
        for (order, expected) in [
            (vec![started("a", 1)], started("a", 1)),
            (vec![started("a", 1), ended("a", 1)], whole("a", 1)),
            (vec![ended("a", 1), started("a", 1)], whole("a", 1)),
            (vec![started("a", 1), ended("a", 1), started("a", 1)], whole("a", 1)),
            (vec![ended("a", 1), ended("a", 1)], ended("a", 1)),
        ] {
            let home = Home::new();
            let mut store = home.open(at(0));
            for told in &order {
                take(&mut store, std::slice::from_ref(told));
            }
            assert_eq!(store.executions("a", 9).unwrap(), std::slice::from_ref(&expected), "{order:#?}");
            let home = Home::new();
            let mut store = home.open(at(0));
            take(&mut store, &order);
            assert_eq!(store.executions("a", 9).unwrap(), [expected], "in one cycle");
        }
    }

    #[test]
    fn the_last_hundred_are_kept_and_ten_of_their_tails() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let all: Vec<Execution> = (0..120).map(|n| whole("a", n)).chain([whole("b", 0)]).collect();
        take(&mut store, &all);
        let kept = store.executions("a", 1_000).unwrap();
        assert_eq!((kept.len(), kept[0].started, kept[99].started), (100, at(119), at(20)));
        assert_eq!(kept.iter().filter(|execution| execution.tail.is_some()).count(), 10);
        assert_eq!(store.executions("b", 9).unwrap(), [whole("b", 0)]);
        assert_eq!(store.jobs().unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_kind_sees_the_spool_before_it_is_taken() {
        let home = Home::new();
        let mut store = home.open(at(0));
        take(&mut store, &[whole("a", 1), started("a", 2)]);
        let reader = Arc::new(Mutex::new(Reader::open(&home.folder).unwrap()));
        let pending = vec![ended("a", 2), started("a", 3), started("c", 1)];
        let ledger = Ledger::new(reader, pending, Arc::new(BTreeMap::new()));
        assert_eq!(ledger.executions("a", 9).unwrap(), [started("a", 3), whole("a", 2), whole("a", 1)]);
        assert_eq!(ledger.executions("a", 1).unwrap(), [started("a", 3)]);
        assert_eq!(ledger.jobs().unwrap(), ["a", "c"]);
    }
}
