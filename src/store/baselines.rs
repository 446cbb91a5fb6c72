//! What checks are compared with: taken by a first look, or accepted by a person. A row is believed only when its own digest
//! and the one in the check's memory agree with it; what is not believed is told from what never was.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use sha2::{Digest as _, Sha256};

use super::people::{self, Actor};
use super::{CycleTx, Error, Halt, Reader, Store, json, moment, ms, parse, standing};
use crate::clean;
use crate::facts::{CheckName, Facts, Subject};
use crate::judge::{Covers, Done, Standing};
use crate::kinds::{Baseline, Baselines};
use crate::redact::Clean;

/// The form of the rows that this build writes.
const FORMAT: i64 = 1;
/// What the keys begin with under which a check remembers that a baseline of it was taken.
const MARK: &str = "baseline/";

/// A row as it is written, before it is believed.
struct Written {
    subject: String,
    format: i64,
    taken_ms: i64,
    observed_ms: i64,
    by: Option<String>,
    why: String,
    body: String,
}

impl Written {
    fn new(subject: &Subject, baseline: &Baseline) -> rusqlite::Result<Self> {
        Ok(Self {
            subject: subject.as_str().to_owned(),
            format: FORMAT,
            taken_ms: ms(baseline.at),
            observed_ms: ms(baseline.observed),
            by: baseline.by.as_ref().map(|by| by.as_str().to_owned()),
            why: baseline.why.as_str().to_owned(),
            body: json(&baseline.facts)?,
        })
    }

    fn digest(&self) -> rusqlite::Result<String> {
        let Self { subject, format, taken_ms, observed_ms, by, why, body } = self;
        let all = json(&(subject, format, taken_ms, observed_ms, by, why, body))?;
        Ok(Sha256::digest(all).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}")))
    }

    fn mark(subject: &str) -> String {
        format!("{MARK}{subject}")
    }

    /// The baseline, or why it can't be verified.
    fn believed(&self, digest: &str, mark: Option<&[u8]>) -> Result<Baseline, Clean> {
        if self.format > FORMAT {
            return Err(Clean::new("it was written by a newer pulsecheck"));
        }
        let damaged = || Clean::new("its record was changed by something else than pulsecheck");
        if self.digest().ok().as_deref() != Some(digest) || mark != Some(digest.as_bytes()) {
            return Err(damaged());
        }
        Ok(Baseline {
            at: moment(self.taken_ms),
            observed: moment(self.observed_ms),
            by: self.by.as_deref().map(Clean::new),
            why: Clean::new(&self.why),
            facts: parse::<Facts>(&self.body).map_err(|_| damaged())?,
        })
    }
}

fn written(row: &Row<'_>) -> rusqlite::Result<(Written, String)> {
    let written = Written {
        subject: row.get(0)?,
        format: row.get(1)?,
        taken_ms: row.get(2)?,
        observed_ms: row.get(3)?,
        by: row.get(4)?,
        why: row.get(5)?,
        body: row.get(6)?,
    };
    Ok((written, row.get(7)?))
}

fn of(conn: &Connection, check: &CheckName) -> rusqlite::Result<Baselines> {
    let mut marks: BTreeMap<String, Vec<u8>> = conn
        .prepare_cached("SELECT name, value FROM memory WHERE check_name = ?1 AND name GLOB ?2 || '*'")?
        .query_map([check.as_str(), MARK], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut all = Baselines::new();
    let mut query = conn.prepare_cached(
        "SELECT subject, format, taken_ms, observed_ms, by, why, body, digest FROM baselines WHERE check_name = ?1",
    )?;
    let mut rows = query.query([check.as_str()])?;
    while let Some(row) = rows.next()? {
        let (written, digest) = written(row)?;
        let mark = marks.remove(&Written::mark(&written.subject));
        all.insert(Subject::new(&written.subject), written.believed(&digest, mark.as_deref()));
    }
    for mark in marks.keys() {
        let subject = mark.strip_prefix(MARK).unwrap_or_default();
        all.insert(Subject::new(subject), Err(Clean::new("one was taken, and its record is gone")));
    }
    Ok(all)
}

fn put(conn: &Connection, check: &CheckName, subject: &Subject, baseline: &Baseline) -> rusqlite::Result<()> {
    let written = Written::new(subject, baseline)?;
    let digest = written.digest()?;
    let Written { subject, format, taken_ms, observed_ms, by, why, body } = &written;
    conn.prepare_cached(
        "INSERT OR REPLACE INTO baselines
         (check_name, subject, format, taken_ms, observed_ms, by, why, body, digest)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![check.as_str(), subject, format, taken_ms, observed_ms, by, why, body, digest])?;
    conn.prepare_cached(
        "INSERT INTO memory (check_name, name, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (check_name, name) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![check.as_str(), Written::mark(subject), digest.as_bytes()])
    .map(drop)
}

fn facts_of(facts: &Facts, subject: &Subject) -> Facts {
    let mut own = facts.clone();
    own.retain(|of, _, _| of == subject);
    own
}

/// Forgets the baselines of a check.
pub(super) fn forget(conn: &Connection, check: &CheckName) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM baselines WHERE check_name = ?1")?.execute([check.as_str()]).map(drop)
}

impl Reader {
    /// What the subjects of a check are compared with.
    pub fn baselines(&self, check: &CheckName) -> Result<Baselines, Error> {
        self.read(|conn| of(conn, check))
    }
}

impl CycleTx<'_> {
    /// Takes first baselines, where there is none and never was one.
    pub fn take_baselines(&self, first: &[(CheckName, Facts)], now: Timestamp) -> Result<(), Error> {
        let take = || {
            for (check, facts) in first {
                let known = of(self.conn(), check)?;
                for subject in facts.subjects().iter().filter(|subject| !known.contains_key(*subject)) {
                    let facts = facts_of(facts, subject);
                    let why = Clean::new("taken by the first look");
                    put(self.conn(), check, subject, &Baseline { at: now, observed: now, by: None, why, facts })?;
                }
            }
            Ok(())
        };
        self.edge(take())
    }
}

impl Store {
    /// Accepts what was observed last as the baseline: `choose` says what of it, or why nothing may be accepted.
    pub fn accept_baseline(
        &mut self,
        check: &CheckName,
        covers: &Covers,
        choose: impl FnOnce(&Standing, &Baselines) -> Result<BTreeMap<Subject, Facts>, Clean>,
        who: &Actor,
        now: Timestamp,
    ) -> Result<BTreeMap<Subject, Facts>, Error> {
        let who = people::cut(who);
        self.write(|tx| {
            let row: Option<(String, String)> = tx
                .prepare_cached("SELECT last, marks FROM standing WHERE check_name = ?1")?
                .query_row([check.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((last, marks)) = row else {
                return Halt::refused(clean!("`{check}` was never looked at (pulsecheck run)"));
            };
            let standing = standing::standing(&last, &marks)?;
            let chosen = match choose(&standing, &of(tx, check)?) {
                Ok(chosen) => chosen,
                Err(why) => return Halt::refused(why),
            };
            for (subject, facts) in &chosen {
                let Actor { by, why } = who.clone();
                let observed = standing.last.at;
                put(tx, check, subject, &Baseline { at: now, observed, by: Some(by), why, facts: facts.clone() })?;
            }
            people::record(tx, covers, &Done::BaselineAccepted, &who, now)?;
            Ok(chosen)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::judge::{Judged, Word};

    fn keys(members: &[&str]) -> Facts {
        let mut facts = Facts::new();
        let members = members.iter().map(|member| Clean::new(member)).collect();
        facts.set(&Subject::new("keys"), "members", members, true);
        facts
    }

    fn who() -> Actor {
        Actor { by: Clean::new("ana on pts/1, from bash"), why: Clean::new("new laptop") }
    }

    /// A cycle that saw these keys and brings them as a first baseline.
    fn look(store: &mut Store, id: &str, minute: i64, facts: &Facts) {
        let held = lease(store, at(minute));
        let mut tx = store.begin(&held).unwrap();
        tx.before(id, at(minute), Known::default()).unwrap();
        tx.take_baselines(&[(check("drift"), facts.clone())], at(minute)).unwrap();
        let after = snapshot([stood("drift", at(minute), Word::Pass, facts.clone())]);
        tx.commit_cycle(&cycle(id, at(minute)), &Judged { after, ..Judged::default() }, &[], &[], &[]).unwrap();
        store.release(&held).unwrap();
    }

    fn only(store: &Store) -> Result<Baseline, Clean> {
        let mut all = store.baselines(&check("drift")).unwrap();
        assert_eq!(all.len(), 1, "{all:?}");
        all.pop_first().unwrap().1
    }

    fn accept(store: &mut Store) -> Result<BTreeMap<Subject, Facts>, Error> {
        let covers = Covers::Check(check("drift"));
        let all = |standing: &Standing, _: &Baselines| {
            Ok(BTreeMap::from([(Subject::new("keys"), standing.last.facts.clone())]))
        };
        store.accept_baseline(&check("drift"), &covers, all, &who(), at(40))
    }

    #[test]
    fn the_first_look_is_taken_once_and_a_person_replaces_it() {
        let home = Home::new();
        let mut store = home.open(at(0));
        look(&mut store, "c0", 0, &keys(&["a"]));
        look(&mut store, "c1", 15, &keys(&["a", "b"]));
        let first = only(&store).unwrap();
        assert_eq!((first.at, first.by, first.facts), (at(0), None, keys(&["a"])));

        accept(&mut store).unwrap();
        let accepted = only(&store).unwrap();
        assert_eq!((accepted.at, accepted.observed, accepted.facts), (at(40), at(15), keys(&["a", "b"])));
        assert_eq!((accepted.by, accepted.why), (Some(who().by), who().why));
        let deeds = store.deeds(9).unwrap();
        assert_eq!(deeds.iter().map(|deed| &deed.done).collect::<Vec<_>>(), [&Done::BaselineAccepted]);
    }

    #[test]
    fn what_can_not_be_verified_is_not_taken_anew() {
        for (sql, why) in [
            ("UPDATE baselines SET body = replace(body, '\"a\"', '\"b\"')", "changed by something else"),
            ("UPDATE baselines SET by = 'ana'", "changed by something else"),
            ("UPDATE baselines SET taken_ms = taken_ms + 1", "changed by something else"),
            ("UPDATE baselines SET digest = 'x'", "changed by something else"),
            ("UPDATE baselines SET format = 2", "newer pulsecheck"),
            ("DELETE FROM baselines", "its record is gone"),
            ("DELETE FROM memory", "changed by something else"),
            ("UPDATE memory SET value = x'00'", "changed by something else"),
        ] {
            let home = Home::new();
            let mut store = home.open(at(0));
            look(&mut store, "c0", 0, &keys(&["a"]));
            assert_eq!(only(&store).unwrap().facts, keys(&["a"]));
            store.read(|conn| conn.execute_batch(sql)).unwrap();
            for cycle in ["c1", "c2"] {
                let said = only(&store).unwrap_err();
                assert!(said.as_str().contains(why), "{sql}: {said}");
                look(&mut store, cycle, 15, &keys(&["b"]));
            }
            accept(&mut store).unwrap();
            assert_eq!(only(&store).unwrap().facts, keys(&["b"]), "{sql}");
        }
    }

    #[test]
    fn it_moves_with_a_rename_and_goes_with_its_check() {
        let home = Home::new();
        let mut store = home.open(at(0));
        look(&mut store, "c0", 0, &keys(&["a"]));
        let held = lease(&mut store, at(15));
        let mut tx = store.begin(&held).unwrap();
        tx.rename(&check("drift"), &check("keys")).unwrap();
        let before = tx.before("c1", at(15), Known::default()).unwrap();
        let mut after = before.snapshot;
        let standing = after.remove(&check("drift")).unwrap();
        after.insert(check("keys"), standing);
        tx.commit_cycle(&cycle("c1", at(15)), &Judged { after, ..Judged::default() }, &[], &[], &[]).unwrap();
        store.release(&held).unwrap();
        assert_eq!(store.baselines(&check("drift")).unwrap(), Baselines::new());
        assert_eq!(
            store.baselines(&check("keys")).unwrap()[&Subject::new("keys")].as_ref().unwrap().facts,
            keys(&["a"])
        );

        run(&mut store, "c2", at(30), &Judged::default(), &[]).unwrap();
        assert_eq!(store.baselines(&check("keys")).unwrap(), Baselines::new(), "the check was removed");
    }

    #[test]
    fn a_refusal_leaves_everything_as_it_was() {
        let home = Home::new();
        let mut store = home.open(at(0));
        assert_eq!(accept(&mut store).unwrap_err().to_string(), "`drift` was never looked at (pulsecheck run)");
        look(&mut store, "c0", 0, &keys(&["a"]));
        let covers = Covers::Check(check("drift"));
        let no = |_: &Standing, _: &Baselines| Err(Clean::new("too old"));
        let refused = store.accept_baseline(&check("drift"), &covers, no, &who(), at(1)).unwrap_err();
        assert_eq!(refused.to_string(), "too old");
        assert_eq!((only(&store).unwrap().by, store.deeds(9).unwrap().len()), (None, 0));
    }
}
