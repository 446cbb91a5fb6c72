//! What is known of each check between cycles, and the history of its observations: one row for as long as it saw the same.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{Error, Reader, json, moment, ms, page, parse};
use crate::facts::{CheckName, Class, Observation, Subject, Value};
use crate::judge::{Mark, Snapshot, Standing};
use crate::records::OutcomeWord;

/// A gauge has to move by this factor before its observation is kept as another one; its band always counts.
const STEP: f64 = 1.05;

/// A stretch of time in which a check saw the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// Its number, rising with time.
    pub id: i64,
    /// What was seen at the beginning.
    pub observation: Observation,
    /// When it was last seen to hold.
    pub until: Timestamp,
    /// The worst outcome of its subjects.
    pub outcome: OutcomeWord,
}

/// All of a standing but the observation.
#[derive(Serialize, Deserialize)]
struct Rest<'a> {
    first_seen: Timestamp,
    read: Timestamp,
    marks: std::borrow::Cow<'a, BTreeMap<Subject, Box<Mark>>>,
}

/// A row as it was read: what is written is compared with it.
#[derive(Debug)]
pub(crate) struct Stored {
    at_ms: i64,
    digest: i64,
    kept: Option<i64>,
    last: String,
    marks: String,
}

/// Standings as they were read outside a transaction: what is still the same in it need not be parsed again.
#[derive(Debug, Default)]
pub struct Known {
    /// The standings.
    pub snapshot: Snapshot,
    rows: BTreeMap<CheckName, Stored>,
}

impl Known {
    fn take(&mut self, check: &CheckName, row: &Stored) -> Option<Standing> {
        let known = self.rows.get(check)?;
        if (&known.last, &known.marks) == (&row.last, &row.marks) { self.snapshot.remove(check) } else { None }
    }
}

/// The newest standings, beside the rows they come from; a row that can't be read is named and left alone.
pub(crate) fn load(
    conn: &Connection,
    mut known: Known,
) -> rusqlite::Result<(Snapshot, BTreeMap<CheckName, Stored>, Vec<String>)> {
    let (mut snapshot, mut rows, mut bad) = (Snapshot::new(), BTreeMap::new(), Vec::new());
    let mut query = conn.prepare_cached("SELECT check_name, at_ms, digest, kept, last, marks FROM standing")?;
    let mut found = query.query([])?;
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        let stored = Stored {
            at_ms: row.get(1)?,
            digest: row.get(2)?,
            kept: row.get(3)?,
            last: row.get(4)?,
            marks: row.get(5)?,
        };
        let read = CheckName::try_from(name.as_str()).ok().and_then(|check| {
            let standing = known.take(&check, &stored).or_else(|| standing(&stored.last, &stored.marks).ok())?;
            Some((check, standing))
        });
        match read {
            Some((check, standing)) => {
                snapshot.insert(check.clone(), standing);
                rows.insert(check, stored);
            }
            None => bad.push(name),
        }
    }
    Ok((snapshot, rows, bad))
}

pub(super) fn standing(last: &str, marks: &str) -> rusqlite::Result<Standing> {
    let marks: Rest<'static> = parse(marks)?;
    Ok(Standing { last: parse(last)?, read: marks.read, first_seen: marks.first_seen, marks: marks.marks.into_owned() })
}

/// Writes what differs from the rows that were read, and removes what is no longer there.
pub(crate) fn store(conn: &Connection, after: &Snapshot, before: &BTreeMap<CheckName, Stored>) -> rusqlite::Result<()> {
    let mut upsert = conn.prepare_cached(
        "INSERT INTO standing (check_name, at_ms, held_ms, digest, kept, outcome, last, marks)
         VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (check_name) DO UPDATE SET at_ms = excluded.at_ms, digest = excluded.digest, kept = excluded.kept,
         held_ms = CASE WHEN digest = excluded.digest THEN held_ms ELSE excluded.held_ms END,
         outcome = excluded.outcome, last = excluded.last, marks = excluded.marks",
    )?;
    let mut keep =
        conn.prepare_cached("INSERT INTO observations (check_name, at_ms, outcome, body) VALUES (?1, ?2, ?3, ?4)")?;
    let mut end = conn.prepare_cached("UPDATE observations SET until_ms = ?2 WHERE id = ?1")?;
    for (check, standing) in after {
        let old = before.get(check);
        let at_ms = ms(standing.last.at);
        let marks = json(&Rest {
            first_seen: standing.first_seen,
            read: standing.read,
            marks: std::borrow::Cow::Borrowed(&standing.marks),
        })?;
        // A check that was not due keeps its observation: it need not be written out to be compared.
        let last = match old {
            Some(old) if old.at_ms == at_ms && old.marks == marks => continue,
            _ => json(&standing.last)?,
        };
        let digest = digest(standing);
        let outcome = worst(standing).as_str();
        let kept = match old.and_then(|old| old.kept.map(|kept| (old, kept))) {
            Some((old, kept)) if old.digest == digest => kept,
            other => {
                if let Some((old, kept)) = other {
                    end.execute(params![kept, old.at_ms])?;
                }
                keep.execute(params![check.as_str(), at_ms, outcome, last])?;
                conn.last_insert_rowid()
            }
        };
        upsert.execute(params![check.as_str(), at_ms, digest, kept, outcome, last, marks])?;
    }
    let mut forget = conn.prepare_cached("DELETE FROM standing WHERE check_name = ?1")?;
    for (check, old) in before.iter().filter(|(check, _)| !after.contains_key(*check)) {
        if let Some(kept) = old.kept {
            end.execute(params![kept, old.at_ms])?;
        }
        forget.execute([check.as_str()])?;
    }
    Ok(())
}

fn worst(standing: &Standing) -> OutcomeWord {
    standing.marks.values().map(|mark| mark.outcome.word.plain()).max().unwrap_or(OutcomeWord::Unknown)
}

/// What makes two observations the same: outcomes and reasons, state and set facts, bands, and gauges within a step.
/// Info facts, wordings and times don't count.
fn digest(standing: &Standing) -> i64 {
    let mut hash = Sha256::new();
    let mut put = |part: &str| {
        hash.update(part.as_bytes());
        hash.update([0]);
    };
    for (subject, mark) in &standing.marks {
        let outcome = &mark.outcome;
        put(subject.as_str());
        put(outcome.word.plain().as_str());
        put(outcome.code.as_ref().map_or("", |code| code.as_str()));
        put(outcome.episode.as_ref().map_or("", |episode| episode.as_str()));
        for (fact, band) in &mark.bands {
            put(fact.as_str());
            put(&format!("{band:?}"));
        }
    }
    for (subject, name, fact) in standing.last.facts.iter() {
        let value = match &fact.class {
            Class::Info => continue,
            Class::Gauge(_) | Class::Counter(_) => fact.value.number().map_or_else(String::new, step),
            Class::State | Class::Set => match &fact.value {
                Value::Text(text) => text.as_str().to_owned(),
                Value::Set(members) => members.iter().fold(String::new(), |all, one| all + one.as_str() + "\u{1}"),
                other => format!("{other:?}"),
            },
        };
        put(subject.as_str());
        put(name.as_str());
        put(&value);
    }
    for finding in &standing.last.findings {
        put(finding.subject.as_str());
        put(finding.code.as_str());
    }
    for (subject, unread) in &standing.last.unread {
        put(subject.as_str());
        put(unread.code.as_str());
    }
    let hash = hash.finalize();
    hash.iter().take(8).fold(0_i64, |number, &byte| (number << 8) | i64::from(byte))
}

/// The step of a geometric ladder that a number stands on, so that a disk that fills slowly is kept now and then.
fn step(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else {
        format!("{}{:.0}", value.signum(), (value.abs().ln() / STEP.ln()).floor())
    }
}

/// The number of the history row that a check's newest observation belongs to, and how long it has held.
type Holding = Option<(i64, i64)>;

fn holding(conn: &Connection, check: &CheckName) -> rusqlite::Result<Holding> {
    conn.prepare_cached("SELECT kept, at_ms FROM standing WHERE check_name = ?1 AND kept IS NOT NULL")?
        .query_row([check.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

impl Reader {
    /// One check's standing.
    pub fn standing(&self, check: &CheckName) -> Result<Option<Standing>, Error> {
        self.read(|conn| {
            let row = conn
                .prepare_cached("SELECT last, marks FROM standing WHERE check_name = ?1")?
                .query_row([check.as_str()], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
                .optional()?;
            row.map(|(last, marks)| standing(&last, &marks)).transpose()
        })
    }

    /// Every check's standing.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        self.known().map(|known| known.snapshot)
    }

    /// Every check's standing, so that a cycle's transaction need not read again what is still the same in it.
    pub fn known(&self) -> Result<Known, Error> {
        let (snapshot, rows, _unread) = self.read(|conn| load(conn, Known::default()))?;
        Ok(Known { snapshot, rows })
    }

    /// A check's history, newest first, from before row `before` where given; at most 1,000.
    pub fn observations(&self, check: &CheckName, before: Option<i64>, limit: usize) -> Result<Vec<Kept>, Error> {
        self.read(|conn| {
            let holding = holding(conn, check)?;
            let mut query = conn.prepare_cached(
                "SELECT id, until_ms, at_ms, body, outcome FROM observations WHERE check_name = ?1 AND id < ?2
                 ORDER BY id DESC LIMIT ?3",
            )?;
            let mut rows = query.query(params![check.as_str(), before.unwrap_or(i64::MAX), page(limit)])?;
            let mut list = Vec::new();
            while let Some(row) = rows.next()? {
                let (id, until_ms, at_ms): (i64, Option<i64>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let still = holding.filter(|(kept, _)| *kept == id).map(|(_, at_ms)| at_ms);
                list.push(Kept {
                    id,
                    observation: parse(&row.get::<_, String>(3)?)?,
                    until: moment(still.or(until_ms).unwrap_or(at_ms)),
                    outcome: outcome_of(&row.get::<_, String>(4)?),
                });
            }
            Ok(list)
        })
    }
}

fn outcome_of(word: &str) -> OutcomeWord {
    match word {
        "pass" => OutcomeWord::Pass,
        "warn" => OutcomeWord::Warn,
        "fail" => OutcomeWord::Fail,
        _ => OutcomeWord::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::super::testing::*;
    use super::*;
    use crate::facts::{Facts, Scale, Unit};
    use crate::judge::{Judged, Word};

    fn facts(version: &str, gauge: f64, latency: i64) -> Facts {
        let mut facts = Facts::new();
        facts.state(&Subject::none(), "version", version);
        facts.gauge(&Subject::none(), "used_percent", gauge, Scale::plain(Unit::Percent));
        facts.info(&Subject::none(), "latency_ms", latency);
        facts
    }

    #[test]
    fn what_holds_is_kept_once_with_the_time_until_which_it_held() {
        let home = Home::new();
        let mut store = home.open(at(0));
        for (i, (word, facts, kept, why)) in [
            (Word::Pass, facts("1", 50.0, 3), 1, "the first"),
            (Word::Pass, facts("1", 50.0, 9), 1, "an info fact is not compared"),
            (Word::Pass, facts("1", 50.4, 9), 1, "a gauge within a step"),
            (Word::Pass, facts("1", 56.0, 9), 2, "a gauge beyond a step"),
            (Word::Pass, facts("2", 56.0, 9), 3, "a state fact"),
            (Word::Fail, facts("2", 56.0, 9), 4, "an outcome"),
            (Word::Fail, facts("2", 56.0, 9), 4, "the same, at another time and in other words"),
        ]
        .into_iter()
        .enumerate()
        {
            let seen = at(15 * i64::try_from(i).unwrap());
            let after = snapshot([stood("site", seen, word, facts)]);
            run(&mut store, &format!("c{i}"), seen, &Judged { after: after.clone(), ..Judged::default() }, &[])
                .unwrap();
            assert_eq!(store.observations(&check("site"), None, 9).unwrap().len(), kept, "{why}");
            assert_eq!(store.snapshot().unwrap(), after, "{why}");
        }
        let history = store.observations(&check("site"), None, 9).unwrap();
        assert_eq!(
            history.iter().map(|kept| (kept.observation.at, kept.until, kept.outcome)).collect::<Vec<_>>(),
            [
                (at(75), at(90), OutcomeWord::Fail),
                (at(60), at(60), OutcomeWord::Pass),
                (at(45), at(45), OutcomeWord::Pass),
                (at(0), at(30), OutcomeWord::Pass),
            ]
        );
        let page = store.observations(&check("site"), Some(history[1].id), 1).unwrap();
        assert_eq!(page, [history[2].clone()], "a page goes on from a row");
    }

    #[test]
    fn unchanged_checks_leave_no_history_behind() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let checks = 300;
        let judged = |seen: Timestamp| Judged {
            after: snapshot((0..checks).map(|n| stood(&format!("c{n}"), seen, Word::Pass, facts("1", 50.0, 3)))),
            ..Judged::default()
        };
        run(&mut store, "c0", at(0), &judged(at(0)), &[]).unwrap();
        let first = store.used_bytes().unwrap();
        for i in 1..20 {
            run(&mut store, &format!("c{i}"), at(15 * i), &judged(at(15 * i)), &[]).unwrap();
        }
        assert!(store.used_bytes().unwrap() < first + 64 * 1024, "{first} grew to {}", store.used_bytes().unwrap());
    }

    #[test]
    fn a_check_that_was_not_due_is_not_written() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let after = snapshot([stood("site", at(0), Word::Pass, facts("1", 50.0, 3))]);
        run(&mut store, "c0", at(0), &Judged { after: after.clone(), ..Judged::default() }, &[]).unwrap();
        store
            .read(|conn| {
                conn.execute_batch(
                    "CREATE TRIGGER no BEFORE UPDATE ON standing BEGIN SELECT raise(FAIL, 'written'); END;
                     CREATE TRIGGER nor BEFORE INSERT ON standing BEGIN SELECT raise(FAIL, 'written'); END;",
                )
            })
            .unwrap();
        run(&mut store, "c1", at(15), &Judged { after: after.clone(), ..Judged::default() }, &[]).unwrap();
        let later = snapshot([stood("site", at(30), Word::Pass, facts("1", 50.0, 3))]);
        assert!(run(&mut store, "c2", at(30), &Judged { after: later, ..Judged::default() }, &[]).is_err());
    }

    #[test]
    fn a_check_that_is_removed_leaves_its_history() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let after = snapshot([stood("site", at(0), Word::Pass, facts("1", 50.0, 3))]);
        run(&mut store, "c0", at(0), &Judged { after, ..Judged::default() }, &[]).unwrap();
        run(&mut store, "c1", at(15), &Judged::default(), &[]).unwrap();
        assert_eq!(store.snapshot().unwrap().len(), 0);
        let history = store.observations(&check("site"), None, 9).unwrap();
        assert_eq!(history.iter().map(|kept| kept.until).collect::<Vec<_>>(), [at(0)]);
        let trimmed =
            store.trim(at(0) + SignedDuration::from_hours(24 * 31), &super::super::Limits::default()).unwrap();
        assert!(trimmed.rows > 0);
        assert_eq!(store.observations(&check("site"), None, 9).unwrap(), [], "and that ages");
    }

    #[test]
    fn steps_are_about_five_percent() {
        for (a, b, same) in
            [(0.0, 0.0, true), (0.0, 0.1, false), (-3.0, 3.0, false), (100.0, 101.0, true), (100.0, 106.0, false)]
        {
            assert_eq!(step(a) == step(b), same, "{a} {b}");
        }
    }
}
