//! What an earlier version wrote must be read by this one: a fixture a schema, rows as that version left them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use rusqlite::Connection;

use super::incidents::Filter;
use super::outbox::{Failure, Which};
use super::people::Actor;
use super::testing::*;
use super::*;
use crate::clean;
use crate::facts::{Blame, Code, Edge, Facts, Finding, Scale, Subject, Unit, Unread, Value, Weight, Worse};
use crate::judge::incident::{Band, Restless};
use crate::judge::{Change, Closing, Covers, Impact, Judged, Mute, Outcome, Surfaced, What, Word};
use crate::records::{Ending, Execution};

/// The rows of each released schema, from 1 on.
const FIXTURES: &[&str] =
    &[include_str!("../../tests/fixtures/state-1.sql"), include_str!("../../tests/fixtures/state-2.sql")];

/// A standing with every kind of fact, band and mark in it.
fn rich() -> crate::judge::Standing {
    let job = Subject::new("nightly");
    let mut facts = Facts::new();
    facts.state(&Subject::none(), "version", "1.2.3");
    facts.state(&Subject::none(), "on", true);
    facts.state(&Subject::none(), "ratio", 0.1 + 0.2);
    facts.state(&job, "expires", at(60));
    facts.set(&job, "members", BTreeSet::from([Clean::new("a"), Clean::new("b")]), true);
    facts.info(&job, "latency_ms", 12_u32);
    let edge = |at, code, settled| Some(Edge { at, code: Code::from(code), settled });
    let scale = Scale {
        unit: Unit::Bytes,
        worse: Worse::Above,
        warn: edge(1.5, "large", false),
        fail: edge(9.0, "full", true),
        says: clean!("2 bytes are used"),
        episode: Some(Clean::new("f1")),
    };
    facts.gauge(&job, "used_bytes", 2_i64, scale);
    let mut standing = stood("site", at(0), Word::Unknown(Blame::Blind), facts);
    standing.last.unread.insert(Subject::new("other"), Unread::blind("permission_denied", clean!("may not be read")));
    standing.last.findings.push(Finding::new("refused", Weight::Fail, true, clean!("connection refused")).on(&job));
    standing.last.confirmed.insert((job.clone(), Code::from("refused")));
    standing.last.remotes.insert(Clean::new("example.org"), false);
    let mut mark = standing.marks[&Subject::none()].clone();
    mark.bands.insert("used_bytes".into(), Band::Warn);
    mark.passing.insert("version".into(), Value::from("1.2.2"));
    mark.restless.insert("version".into(), Restless { changes: 5, last: at(0), muted: true });
    (mark.not_ok, mark.since, mark.flapping, mark.window) =
        (2, Some(at(-15)), true, mark.window.with(true).with(false));
    standing.marks.insert(job, mark);
    standing
}

fn execution() -> Execution {
    Execution {
        job: "nightly".into(),
        execution: "0123456789abcdef0123456789abcdef".into(),
        started: at(0),
        ended: Some(at(1)),
        ending: Some(Ending::Signal(9)),
        schedule: Some("0 3 * * *".into()),
        wrapper: Some((7, 99)),
        boot_id: Some("b00t".into()),
        stdout_bytes: Some(5),
        stdout_sha256: Some("ab".into()),
        tail: Some(Clean::new("killed\n")),
    }
}

fn baseline() -> Facts {
    let mut facts = Facts::new();
    facts.set(&Subject::new("keys"), "members", BTreeSet::from([Clean::new("ana"), Clean::new("bob")]), true);
    facts
}

fn told(id: &str) -> crate::judge::Incident {
    let mut told = incident(id, "site", Level::Red, at(0));
    told.episode = Some(Clean::new("f1"));
    told.surfaced =
        Some(Surfaced { level: Level::Yellow, flapping: false, withdrawn: false, episode: None, at: at(0) });
    told.muted = Some(Mute::Silenced(at(90)));
    told.reminded = Some(at(0));
    told
}

/// Fills an empty store with one of everything.
fn fill(store: &mut Store) {
    let held = lease(store, at(0));
    let change = Change {
        id: "c1".into(),
        key: key("site"),
        what: What::Opened,
        level: Level::Red,
        impact: Impact::High,
        said: clean!("connection refused"),
        code: Some(Code::from("refused")),
        since: at(0),
    };
    let judged = Judged {
        after: snapshot([rich(), stood("disk", at(0), Word::Pass, Facts::new())]),
        incidents: vec![told("c0.1")],
        closed: vec![(incident("b9.1", "disk", Level::Yellow, at(-60)), Closing::Gone)],
        changes: vec![change],
        logged: vec![(key("disk"), Outcome { word: Word::Warn, said: clean!("slow"), ..Outcome::default() })],
        ..Judged::default()
    };
    let notices =
        ["chat", "pager", "mail"].map(|channel| notice(channel, Some("c0.1"), "site", Turn::Open, Level::Red));
    let remember = vec![(check("site"), "offset".to_owned(), Some(vec![0, 255]))];
    let mut tx = store.begin(&held).unwrap();
    tx.before("c0", at(0), Known::default()).unwrap();
    tx.take_executions(&[execution()]).unwrap();
    tx.take_baselines(&[(check("site"), baseline())], at(0)).unwrap();
    let row = CycleRow { report_json: Some("{\"status\":\"red\"}".into()), status: Level::Red, ..cycle("c0", at(0)) };
    tx.commit_cycle(&row, &judged, &remember, &notices, &[]).unwrap();
    let due = store.claim(Which::All, at(1), at(2), 9).unwrap().due;
    store.delivered(&due[0], Some("message 7"), at(1)).unwrap();
    store.failed(&due[1], &Failure { again_at: at(5), why: clean!("HTTP 503"), maybe_arrived: false }, at(1)).unwrap();
    store.dead(&due[2], &clean!("HTTP 404"), at(1)).unwrap();
    let who = Actor { by: clean!("ana on pts/1"), why: clean!("known") };
    store.ack(&Covers::Finding(key("site")), |_| true, &who, at(1)).unwrap();
    store.silence(&Covers::Tag(clean!("web")), |_| false, at(90), &who, at(1)).unwrap();
}

#[test]
fn what_every_released_schema_wrote_is_read() {
    for (version, rows) in (1..).zip(FIXTURES) {
        let home = Home::new();
        let schema = Schema { migrations: SCHEMA.migrations.get(..version).unwrap(), ..SCHEMA };
        let conn = sqlite::open(&home.path(), &schema).unwrap();
        conn.execute_batch(rows).unwrap();
        drop(conn);

        let mut store = home.open(at(2));
        let baselines = store.baselines(&check("site")).unwrap();
        let taken: Vec<_> = baselines.values().map(|one| one.as_ref().map(|one| (one.at, one.facts.clone()))).collect();
        assert_eq!(taken, if version < 2 { vec![] } else { vec![Ok((at(0), baseline()))] });
        let held = store.take_lease(&me(2), at(2), at(5), |_| false).unwrap();
        let mut tx = store.begin(&held).unwrap();
        let before = tx.before("c1", at(2), Known::default()).unwrap();
        assert_eq!(before.snapshot, snapshot([rich(), stood("disk", at(0), Word::Pass, Facts::new())]), "{version}");
        let mut open = told("c0.1");
        open.announced = ["chat", "pager", "mail"].map(|channel| (channel.to_owned(), Level::Red)).into();
        open.ack = before.incidents[0].ack.clone();
        assert_eq!((open.ack.as_ref().map(|ack| ack.level), &before.incidents), (Some(Level::Red), &vec![open]));
        assert_eq!((before.silences.len(), before.deeds.len()), (1, 2));
        let committed = tx.commit_cycle(&cycle("c1", at(15)), &Judged::default(), &[], &[], &[]).unwrap();
        assert_eq!(committed, Committed::default());

        let all = Filter { limit: 9, ..Filter::default() };
        assert_eq!(store.cycle("c0").unwrap().unwrap().row.report_json.as_deref(), Some("{\"status\":\"red\"}"));
        assert_eq!(store.changes(&all).unwrap().len(), 1);
        assert_eq!(store.log(&all).unwrap().len(), 1);
        assert_eq!(store.incidents(&all).unwrap().len(), 2);
        assert_eq!(store.observations(&check("site"), None, 9).unwrap()[0].observation, rich().last);
        assert_eq!(store.executions("nightly", 9).unwrap(), [execution()]);
        assert_eq!(store.told("c0.1").unwrap().into_iter().collect::<Vec<_>>(), ["chat", "pager"]);
        let states: BTreeMap<String, String> =
            store.notices(&all).unwrap().into_iter().map(|row| (row.channel, row.state)).collect();
        assert_eq!(states.into_values().collect::<Vec<_>>(), ["delivered", "dead", "due"]);
        assert_eq!(store.claim(Which::All, at(15), at(16), 9).unwrap().due.len(), 1);
    }
}

#[test]
fn there_is_a_fixture_for_every_schema() {
    assert_eq!(FIXTURES.len(), SCHEMA.migrations.len());
}

#[test]
#[ignore = "writes tests/fixtures/state-N.sql: run it once for each new schema, before that is released"]
fn write_the_fixture_of_this_schema() {
    let home = Home::new();
    let mut store = home.open(at(0));
    fill(&mut store);
    let path: PathBuf =
        [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", &format!("state-{}.sql", SCHEMA.version())].iter().collect();
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, store.read(dump).unwrap().as_bytes()).unwrap();
}

/// All rows as SQL.
fn dump(conn: &Connection) -> rusqlite::Result<String> {
    let texts =
        |sql: &str| -> rusqlite::Result<Vec<String>> { conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
    let mut sql = String::new();
    for table in texts("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name")?
    {
        let columns = texts(&format!("SELECT name FROM pragma_table_info('{table}')"))?;
        let values: Vec<String> = columns.iter().map(|column| format!("quote({column})")).collect();
        for row in texts(&format!("SELECT {} FROM {table}", values.join(" || ', ' || ")))? {
            let _ = writeln!(sql, "INSERT INTO {table} ({}) VALUES ({row});", columns.join(", "));
        }
    }
    Ok(sql)
}
