//! What the store's tests build on: a folder, a time, observations and what judging would make of them.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

pub(crate) use super::Known;
use super::*;
use crate::clean;
use crate::facts::{CheckName, Code, Facts, Key, Observation, Subject};
use crate::judge::{Impact, Incident, Judged, Mark, Notice, Outcome, Snapshot, Standing, Word};

pub(crate) fn at(minutes: i64) -> Timestamp {
    "2026-03-20T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

pub(crate) fn check(name: &str) -> CheckName {
    CheckName::try_from(name).unwrap()
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(&check(name), &Subject::none())
}

/// A state folder of its own.
pub(crate) struct Home {
    _dir: tempfile::TempDir,
    pub folder: PathBuf,
}

impl Home {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("state");
        Self { _dir: dir, folder }
    }
    pub fn made() -> Self {
        let home = Self::new();
        std::fs::DirBuilder::new().mode(0o700).create(&home.folder).unwrap();
        home
    }
    pub fn open(&self, now: Timestamp) -> Store {
        let opened = Store::open(&self.folder, now).unwrap();
        assert_eq!(opened.events, []);
        opened.store
    }
    pub fn path(&self) -> PathBuf {
        state_path(&self.folder)
    }
}

pub(crate) fn me(pid: u32) -> Holder {
    Holder {
        pid,
        start_ticks: 1_000 + u64::from(pid),
        boot_id: "b00t".into(),
        host: "h1".into(),
        what: Clean::new("run"),
    }
}

pub(crate) fn lease(store: &mut Store, now: Timestamp) -> Lease {
    store.take_lease(&me(1), now, now + SignedDuration::from_mins(3), |_| true).unwrap()
}

/// A standing after an observation with these facts.
pub(crate) fn stood(name: &str, seen: Timestamp, word: Word, facts: Facts) -> Standing {
    let code = (word != Word::Pass).then(|| Code::from("refused"));
    let outcome = Outcome { word, code, said: clean!("seen at {seen}"), ..Outcome::default() };
    let mark = Mark { counted: Some(seen), outcome, ..Mark::default() };
    Standing {
        last: Observation { facts, took_ms: 7, ..Observation::empty(&check(name), seen) },
        read: seen,
        first_seen: at(0),
        marks: BTreeMap::from([(Subject::none(), Box::new(mark))]),
    }
}

pub(crate) fn snapshot(standings: impl IntoIterator<Item = Standing>) -> Snapshot {
    standings.into_iter().map(|standing| (standing.last.check.clone(), standing)).collect()
}

pub(crate) fn incident(id: &str, name: &str, level: Level, opened: Timestamp) -> Incident {
    Incident {
        id: id.to_owned(),
        key: key(name),
        dedup: None,
        level,
        code: Code::from("refused"),
        said: Clean::new("connection refused"),
        settled: false,
        episode: None,
        opened,
        level_since: opened,
        lower: 0,
        ack: None,
        withdrawn: false,
        surfaced: None,
        announced: BTreeMap::new(),
        reminders: 0,
        reminded: None,
        muted: None,
    }
}

pub(crate) fn notice(channel: &str, incident: Option<&str>, name: &str, turn: Turn, level: Level) -> OutboxRow {
    OutboxRow {
        incident: incident.map(str::to_owned),
        channel: channel.to_owned(),
        notice: Notice {
            dedup: format!("h1/{name}/"),
            turn,
            level,
            impact: Impact::High,
            key: key(name),
            title: clean!("{} {name}", level.status()),
            lines: vec![],
            owner: Clean::new("human"),
            requires_human: false,
            since: at(0),
            not_before: Timestamp::UNIX_EPOCH,
        },
    }
}

pub(crate) fn cycle(id: &str, started: Timestamp) -> CycleRow {
    CycleRow {
        id: id.to_owned(),
        started,
        ended: started + SignedDuration::from_secs(1),
        status: Level::Ok,
        surfaced: false,
        counts: Counts::default(),
        report_json: None,
    }
}

/// One whole cycle: takes the lease, commits, gives it back.
pub(crate) fn run(
    store: &mut Store,
    id: &str,
    now: Timestamp,
    judged: &Judged,
    notices: &[OutboxRow],
) -> Result<Committed, Error> {
    let lease = lease(store, now);
    let done = (|| {
        let mut tx = store.begin(&lease)?;
        tx.before(id, now, Known::default())?;
        tx.commit_cycle(&cycle(id, now), judged, &[], notices, &[])
    })();
    store.release(&lease).unwrap();
    done
}
