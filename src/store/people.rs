//! What people do between cycles: acks, silences, and the record of it that surfaces once.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, Transaction, params};

use super::{Error, Halt, Reader, Store, incidents, json, moment, ms, page, parse};
use crate::clean;
use crate::facts::Key;
use crate::judge::{Ack, Covers, Deed, Done, Incident, Level, Silence};
use crate::redact::Clean;

/// The longest silence.
pub const MAX_SILENCE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The longest silence over something red.
pub const MAX_SILENCE_OVER_RED: SignedDuration = SignedDuration::from_hours(24);
/// Silences at one time.
pub const MAX_SILENCES: usize = 200;
/// Bytes of who and of why.
const MAX_SAID_BYTES: usize = 500;

/// Who does something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// User, terminal and parent command.
    pub by: Clean,
    /// Why, in their words.
    pub why: Clean,
}

/// Silences that have not ended.
pub(crate) fn active(conn: &Connection, now: Timestamp) -> rusqlite::Result<Vec<Silence>> {
    conn.prepare_cached(
        "SELECT id, covers, from_ms, until_ms, by, why FROM silences WHERE ended_ms IS NULL AND until_ms > ?1 ORDER BY id",
    )?
    .query_map([ms(now)], |row| {
        Ok(Silence {
            id: row.get(0)?,
            covers: parse(&row.get::<_, String>(1)?)?,
            from: moment(row.get(2)?),
            until: moment(row.get(3)?),
            by: Clean::new(&row.get::<_, String>(4)?),
            why: Clean::new(&row.get::<_, String>(5)?),
        })
    })?
    .collect()
}

/// What was done and has not surfaced yet, oldest first.
pub(crate) fn waiting(conn: &Connection) -> rusqlite::Result<Vec<Deed>> {
    deeds(conn, "surfaced IS NULL ORDER BY id LIMIT ?1", i64::MAX)
}

fn deeds(conn: &Connection, rest: &str, limit: i64) -> rusqlite::Result<Vec<Deed>> {
    conn.prepare_cached(&format!("SELECT id, at_ms, covers, done, by, why FROM deeds WHERE {rest}"))?
        .query_map([limit], |row| {
            Ok(Deed {
                id: row.get(0)?,
                at: moment(row.get(1)?),
                covers: parse(&row.get::<_, String>(2)?)?,
                done: parse(&row.get::<_, String>(3)?)?,
                by: Clean::new(&row.get::<_, String>(4)?),
                why: Clean::new(&row.get::<_, String>(5)?),
            })
        })?
        .collect()
}

pub(super) fn record(
    tx: &Transaction<'_>,
    covers: &Covers,
    done: &Done,
    who: &Actor,
    now: Timestamp,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT INTO deeds (at_ms, covers, done, by, why) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![ms(now), json(covers)?, json(done)?, who.by.as_str(), who.why.as_str()])
        .map(drop)
}

pub(super) fn cut(who: &Actor) -> Actor {
    Actor { by: Clean::line(who.by.as_str(), MAX_SAID_BYTES), why: Clean::line(who.why.as_str(), MAX_SAID_BYTES) }
}

fn named(covers: &Covers) -> String {
    match covers {
        Covers::Check(check) => format!("`{check}`"),
        Covers::Finding(key) => format!("`{key}`"),
        Covers::Tag(tag) => format!("the tag `{tag}`"),
    }
}

impl Store {
    /// Acknowledges the open incidents that `covers` means, each at its level; `has` says which those are (tags are known
    /// to the config alone). Answers with the incidents as they are now.
    pub fn ack(
        &mut self,
        covers: &Covers,
        has: impl Fn(&Key) -> bool,
        who: &Actor,
        now: Timestamp,
    ) -> Result<Vec<Incident>, Error> {
        let who = cut(who);
        let ack = |incident: &Incident| {
            Some(Ack { level: incident.level, at: now, by: who.by.clone(), why: who.why.clone() })
        };
        self.change_acks(covers, has, ack, &Done::Acked, &who, now)
    }

    /// Takes acks back.
    pub fn unack(
        &mut self,
        covers: &Covers,
        has: impl Fn(&Key) -> bool,
        who: &Actor,
        now: Timestamp,
    ) -> Result<Vec<Incident>, Error> {
        let who = cut(who);
        self.change_acks(covers, |key| has(key), |_| None, &Done::Unacked, &who, now)
    }

    fn change_acks(
        &mut self,
        covers: &Covers,
        has: impl Fn(&Key) -> bool,
        ack: impl Fn(&Incident) -> Option<Ack>,
        done: &Done,
        who: &Actor,
        now: Timestamp,
    ) -> Result<Vec<Incident>, Error> {
        self.write(|tx| {
            let (open, bodies, _) = incidents::open(tx)?;
            let mut meant: Vec<Incident> = open.into_iter().filter(|incident| has(&incident.key)).collect();
            if *done == Done::Unacked {
                meant.retain(|incident| incident.ack.is_some());
            }
            if meant.is_empty() {
                let what = if *done == Done::Unacked { "acked" } else { "open" };
                return Halt::refused(clean!(
                    "{} has no {what} incident (`pulsecheck status` lists them)",
                    named(covers)
                ));
            }
            for incident in &mut meant {
                incident.ack = ack(incident);
                incidents::put(tx, incident, None, &bodies)?;
            }
            record(tx, covers, done, who, now)?;
            Ok(meant)
        })
    }

    /// Holds notices back until then: 7 days at most, 24 hours while something it covers is red.
    pub fn silence(
        &mut self,
        covers: &Covers,
        has: impl Fn(&Key) -> bool,
        until: Timestamp,
        who: &Actor,
        now: Timestamp,
    ) -> Result<Silence, Error> {
        let who = cut(who);
        let length = until.duration_since(now);
        self.write(|tx| {
            if !length.is_positive() {
                return Halt::refused(clean!("a silence ends in the future, and {until:.0} is not"));
            }
            if length > MAX_SILENCE {
                return Halt::refused(clean!(
                    "a silence lasts 7 days at most: what is not wanted longer is better taken out of the config"
                ));
            }
            let (open, _, _) = incidents::open(tx)?;
            let red = open.iter().find(|incident| incident.level == Level::Red && has(&incident.key));
            if let (Some(red), true) = (red, length > MAX_SILENCE_OVER_RED) {
                return Halt::refused(clean!("`{}` is red, and a red is silenced for 24 hours at most", red.key));
            }
            if active(tx, now)?.len() >= MAX_SILENCES {
                return Halt::refused(clean!("there are {MAX_SILENCES} silences already: end some of them first"));
            }
            tx.prepare_cached("INSERT INTO silences (covers, from_ms, until_ms, by, why) VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![json(covers)?, ms(now), ms(until), who.by.as_str(), who.why.as_str()])?;
            let id = tx.last_insert_rowid();
            record(tx, covers, &Done::Silenced(until), &who, now)?;
            let Actor { by, why } = who;
            Ok(Silence { id, covers: covers.clone(), from: moment(ms(now)), until: moment(ms(until)), by, why })
        })
    }

    /// Ends a silence early.
    pub fn unsilence(&mut self, id: i64, who: &Actor, now: Timestamp) -> Result<Silence, Error> {
        let who = cut(who);
        self.write(|tx| {
            let Some(silence) = active(tx, now)?.into_iter().find(|silence| silence.id == id) else {
                return Halt::refused(clean!("there is no silence {id} (`pulsecheck status` lists them)"));
            };
            tx.prepare_cached("UPDATE silences SET ended_ms = ?2 WHERE id = ?1")?.execute([id, ms(now)])?;
            record(tx, &silence.covers, &Done::Unsilenced, &who, now)?;
            Ok(silence)
        })
    }
}

impl Reader {
    /// Silences that have not ended.
    pub fn silences(&self, now: Timestamp) -> Result<Vec<Silence>, Error> {
        self.read(|conn| active(conn, now))
    }

    /// What people did, newest first; at most 1,000.
    pub fn deeds(&self, limit: usize) -> Result<Vec<Deed>, Error> {
        self.read(|conn| deeds(conn, "true ORDER BY id DESC LIMIT ?1", page(limit)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::judge::Judged;

    fn who() -> Actor {
        Actor { by: Clean::new("ana on pts/1, from bash"), why: Clean::new("known, fixed tomorrow") }
    }

    fn with_incidents(home: &Home) -> Store {
        let mut store = home.open(at(0));
        let incidents =
            vec![incident("c0.1", "site", Level::Red, at(0)), incident("c0.2", "disk", Level::Yellow, at(0))];
        run(&mut store, "c0", at(0), &Judged { incidents, ..Judged::default() }, &[]).unwrap();
        store
    }

    fn deeds_of(store: &Store) -> Vec<Done> {
        store.read(waiting).unwrap().into_iter().map(|deed| deed.done).collect()
    }

    fn said<T: std::fmt::Debug>(refused: Result<T, Error>) -> String {
        match refused {
            Err(Error::Refused(why)) => why.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ack_is_kept_with_its_incident_and_surfaces_once() {
        let home = Home::new();
        let mut store = with_incidents(&home);
        let covers = Covers::Check(check("site"));
        let acked = store.ack(&covers, |key| covers.has(key, None), &who(), at(1)).unwrap();
        let ack = Ack { level: Level::Red, at: at(1), by: who().by, why: who().why };
        assert_eq!(acked.iter().map(|incident| &incident.ack).collect::<Vec<_>>(), [&Some(ack.clone())]);
        let held = lease(&mut store, at(15));
        let mut tx = store.begin(&held).unwrap();
        let before = tx.before("c1", at(15), Known::default()).unwrap();
        assert_eq!(before.incidents.iter().map(|one| one.ack.as_ref()).collect::<Vec<_>>(), [Some(&ack), None]);
        let deed = Deed { id: 1, at: at(1), covers: covers.clone(), done: Done::Acked, by: who().by, why: who().why };
        assert_eq!(before.deeds, std::slice::from_ref(&deed));
        drop(tx);
        let mut tx = store.begin(&held).unwrap();
        let before = tx.before("c1", at(15), Known::default()).unwrap();
        assert_eq!(before.deeds.len(), 1, "a cycle that was not committed has said nothing");
        let judged = Judged { incidents: before.incidents, ..Judged::default() };
        tx.commit_cycle(&cycle("c1", at(15)), &judged, &[], &[], &[]).unwrap();
        let mut tx = store.begin(&held).unwrap();
        assert_eq!(tx.before("c2", at(30), Known::default()).unwrap().deeds, []);
        drop(tx);
        assert_eq!(store.deeds(9).unwrap(), [deed]);

        let taken_back = store.unack(&covers, |key| covers.has(key, None), &who(), at(31)).unwrap();
        assert_eq!(taken_back.iter().map(|one| one.ack.is_some()).collect::<Vec<_>>(), [false]);
        assert_eq!(deeds_of(&store), [Done::Unacked]);
    }

    #[test]
    fn there_is_nothing_to_ack_where_nothing_is_open() {
        let home = Home::new();
        let mut store = with_incidents(&home);
        let covers = Covers::Tag(Clean::new("web"));
        assert_eq!(
            said(store.ack(&covers, |_| false, &who(), at(1))),
            "the tag `web` has no open incident (`pulsecheck status` lists them)"
        );
        let covers = Covers::Finding(key("site"));
        assert_eq!(
            said(store.unack(&covers, |_| true, &who(), at(1))),
            "`site` has no acked incident (`pulsecheck status` lists them)"
        );
        assert_eq!(deeds_of(&store), [], "and nothing was done");
    }

    #[test]
    fn silences_end() {
        let home = Home::new();
        let mut store = with_incidents(&home);
        let hour = 60;
        for (name, until, refused) in [
            ("site", at(1), Some("a silence ends in the future, and 2026-03-20T12:01:00Z is not")),
            ("site", at(1 + 25 * hour), Some("`site` is red, and a red is silenced for 24 hours at most")),
            ("site", at(1 + 24 * hour), None),
            (
                "disk",
                at(2 + 7 * 24 * hour),
                Some("a silence lasts 7 days at most: what is not wanted longer is better taken out of the config"),
            ),
            ("disk", at(1 + 7 * 24 * hour), None),
            ("none", at(2), None),
        ] {
            let covers = Covers::Check(check(name));
            let done = store.silence(&covers, |key| covers.has(key, None), until, &who(), at(1));
            match refused {
                Some(why) => assert_eq!(said(done), why),
                None => assert_eq!(done.unwrap().until, until),
            }
        }
        let ids = |store: &Store, now| store.silences(now).unwrap().iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids(&store, at(1)), [1, 2, 3]);
        assert_eq!(ids(&store, at(2)), [1, 2], "one ended by itself");
        assert_eq!(store.unsilence(2, &who(), at(2)).unwrap().covers, Covers::Check(check("disk")));
        assert_eq!(ids(&store, at(2)), [1]);
        assert_eq!(said(store.unsilence(2, &who(), at(2))), "there is no silence 2 (`pulsecheck status` lists them)");
        let held = lease(&mut store, at(2));
        let mut tx = store.begin(&held).unwrap();
        assert_eq!(tx.before("c1", at(2), Known::default()).unwrap().silences.len(), 1);
        drop(tx);
        assert_eq!(
            deeds_of(&store),
            [
                Done::Silenced(at(1 + 24 * hour)),
                Done::Silenced(at(1 + 7 * 24 * hour)),
                Done::Silenced(at(2)),
                Done::Unsilenced
            ]
        );
    }

    #[test]
    fn there_is_an_end_to_silences() {
        let home = Home::new();
        let mut store = home.open(at(0));
        let covers = Covers::Check(check("site"));
        for _ in 0..MAX_SILENCES {
            store.silence(&covers, |_| false, at(60), &who(), at(0)).unwrap();
        }
        let refused = said(store.silence(&covers, |_| false, at(60), &who(), at(0)));
        assert_eq!(refused, "there are 200 silences already: end some of them first");
    }
}
