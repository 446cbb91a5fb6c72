//! Queues that move, are stuck or stand still; databases of others that are locked, damaged, newer or away.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rusqlite::Connection;

use crate::support::Lab;
#[cfg(feature = "postgres")]
use crate::support::servers::Postgres;

/// A folder and its files: bytes, and when they were written. Opening one would take its owner's locks away, who is this
/// process.
fn listing(folder: &Path) -> BTreeMap<String, (u64, i64, i64)> {
    let entry = |path: &Path| {
        let meta = std::fs::metadata(path).unwrap();
        (meta.len(), meta.mtime(), meta.mtime_nsec())
    };
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let named = files.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), entry(&path)));
    named.chain([(".".to_owned(), entry(folder))]).collect()
}

/// A worker's database with these tasks: id, status, hours before now.
fn tasks(lab: &Lab, name: &str, tasks: &[(&str, &str, i64)]) -> Connection {
    let path = lab.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let database = Connection::open(path).unwrap();
    database.pragma_update(None, "journal_mode", "wal").unwrap();
    database
        .execute_batch("PRAGMA user_version = 3; CREATE TABLE tasks (id TEXT PRIMARY KEY, status TEXT, since INTEGER)")
        .unwrap();
    for (id, status, hours) in tasks {
        let since = lab.now.as_second() - hours * 3_600;
        database.execute("INSERT INTO tasks VALUES (?1, ?2, ?3)", (id, status, since)).unwrap();
    }
    database
}

fn check(name: &str, path: &str, more: &str) -> String {
    format!(
        "[check.{name}]\nkind = \"queue\"\nsqlite = \"~/{path}\"\nuser_version = 3\nquery = \"SELECT id, status, since FROM tasks\"\n{more}\n"
    )
}

#[test]
fn one_moves_one_is_stuck_and_one_stands_still() {
    let mut lab = Lab::new();
    lab.config(
        &[
            check("busy", "busy/q.db", ""),
            check("speech", "speech/q.db", ""),
            check("still", "still/q.db", "unmoved_after = \"30m\""),
        ]
        .join("\n"),
    );
    // All three workers have their database open.
    let busy = tasks(&lab, "busy/q.db", &[("one", "running", 1), ("two", "queued", 3)]);
    let speech = tasks(&lab, "speech/q.db", &[("chapter-17", "running", 5), ("chapter-18", "queued", 5)]);
    let still = tasks(&lab, "still/q.db", &[("a", "queued", 0), ("b", "queued", 0)]);
    let before = listing(&lab.path("speech"));

    let report = lab.cycle().expect("red", true, &["speech"]);
    assert_eq!(
        report["top_3"][0]["item"],
        "speech: task \"chapter-17\" is in processing for 5 h, at most 4 h is allowed"
    );
    assert_eq!(report["top_3"][0]["action"], "see whether its worker still lives, and requeue the task");

    // The worker takes the next task; the other one is only given more.
    busy.execute_batch("DELETE FROM tasks WHERE id = 'one'; UPDATE tasks SET status = 'running', since = since + 9000")
        .unwrap();
    still.execute("INSERT INTO tasks VALUES ('c', 'queued', ?1)", [lab.now.as_second()]).unwrap();
    lab.next().expect("red", false, &["speech"]);
    lab.next().expect("red", false, &["speech"]);
    let report = lab.next().expect("red", true, &["still", "speech"]);
    let item = report["top_3"][0]["item"].as_str().unwrap();
    assert!(item.starts_with("still: none of 3 tasks was taken up or done for 4"), "{item}");
    assert_eq!(listing(&lab.path("speech")), before, "looked at four times, and nothing shows it");

    // Requeued and done: both are well again.
    speech.execute("DELETE FROM tasks", []).unwrap();
    still.execute("DELETE FROM tasks WHERE id = 'a'", []).unwrap();
    lab.next().expect("green", true, &["speech", "still"]);
    lab.next().quiet();
}

#[test]
fn what_cannot_be_read_is_unknown_and_the_rest_goes_on() {
    let mut lab = Lab::new();
    let well = tasks(&lab, "well/q.db", &[("one", "queued", 0)]);
    // An owner in the middle of a write that keeps everybody out, in both ways of keeping a journal.
    let locked = tasks(&lab, "locked/q.db", &[("one", "queued", 0)]);
    locked.execute_batch("PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE; DELETE FROM tasks").unwrap();
    let writing = tasks(&lab, "writing/q.db", &[("one", "queued", 0)]);
    writing.execute_batch("PRAGMA journal_mode = delete; PRAGMA cache_size = 1; BEGIN EXCLUSIVE").unwrap();
    for id in 0..3_000 {
        writing.execute("INSERT INTO tasks VALUES (?1, 'running', 1)", [format!("{id:0100}")]).unwrap();
    }
    drop(tasks(&lab, "damaged/q.db", &[("one", "queued", 0)]));
    let mut bytes = std::fs::read(lab.path("damaged/q.db")).unwrap();
    bytes[4_096..].fill(0x5a);
    lab.write("damaged/q.db", bytes);
    drop(tasks(&lab, "newer/q.db", &[("one", "queued", 0)]));
    Connection::open(lab.path("newer/q.db")).unwrap().execute_batch("PRAGMA user_version = 4").unwrap();
    let names = ["well", "locked", "writing", "damaged", "newer"];
    let checks: Vec<String> = names.iter().map(|name| check(name, &format!("{name}/q.db"), "")).collect();
    lab.config(&checks.join("\n"));
    let before: Vec<_> = names.iter().map(|name| listing(&lab.path(name))).collect();

    // What we may not understand is said at once; what may pass by itself when it lasts.
    let report = lab.cycle().expect("yellow", true, &["newer"]);
    let path = |name: &str| lab.path(name).display().to_string();
    assert_eq!(
        report["top_3"][0]["item"],
        format!("newer: `{}` has the schema version 4, known is 3", path("newer/q.db"))
    );
    let report = lab.next().expect("yellow", true, &["damaged", "locked", "newer"]);
    let items: Vec<&str> =
        report["top_3"].as_array().unwrap().iter().map(|item| item["item"].as_str().unwrap()).collect();
    let path = |name: &str| lab.path(name).display().to_string();
    assert!(items[0].starts_with(&format!("damaged: `{}` is damaged", path("damaged/q.db"))), "{items:?}");
    assert_eq!(items[1], format!("locked: `{}` is locked by its owner", path("locked/q.db")));
    lab.next().expect("red", true, &["damaged", "locked", "newer"]);
    // The owner that writes is not waited for: what counts is what was committed before.
    let after: Vec<_> = names.iter().map(|name| listing(&lab.path(name))).collect();
    assert_eq!(after, before, "nothing was left beside a database or changed in it");
    let seen = lab.rows("SELECT check_name FROM standing WHERE check_name IN ('well', 'writing')");
    assert_eq!(seen, ["well", "writing"]);

    // Nobody was held up by us either.
    locked.execute_batch("COMMIT").unwrap();
    writing.execute_batch("ROLLBACK").unwrap();
    well.execute("DELETE FROM tasks", []).unwrap();
    drop(locked);
    lab.next().expect("red", true, &["damaged", "newer", "locked"]);
}

#[test]
#[cfg(feature = "postgres")]
fn a_postgresql_that_is_away_is_unknown_and_comes_back() {
    let Some(mut postgres) = Postgres::start() else { return };
    let mut lab = Lab::new();
    postgres.sql(&format!(
        "CREATE TABLE jobs (id int, state text, started timestamptz); INSERT INTO jobs VALUES (7, 'active', to_timestamp({}) - interval '1 hour'), (8, 'created', NULL)",
        lab.now.as_second()
    ));
    lab.env.push(("QUEUE_PASSWORD".to_owned(), Postgres::PASSWORD.to_owned()));
    lab.config(&format!(
        r#"
[check.jobs]
kind = "queue"
postgres = "postgres://agent@127.0.0.1:{}/postgres"
password = "env:QUEUE_PASSWORD"
query = "SELECT id, state AS status, started AS since FROM jobs -- all of them"

[check.disk]
kind = "files"
paths = ["~/pulsecheck.toml"]
"#,
        postgres.port
    ));
    lab.cycle().quiet();
    postgres.stop();
    lab.next().quiet();
    let report = lab.next().expect("yellow", true, &["jobs"]);
    let said = format!("jobs: 127.0.0.1:{} refuses connections", postgres.port);
    assert_eq!(report["top_3"][0]["item"], said);
    postgres.resume();
    postgres.sql(&format!(
        "UPDATE jobs SET started = to_timestamp({}) - interval '5 hours' WHERE id = 7",
        lab.now.as_second()
    ));
    let report = lab.next().expect("red", true, &["jobs"]);
    assert_eq!(report["top_3"][0]["item"], "jobs: task \"7\" is in processing for 5 h 15 min, at most 4 h is allowed");
    let log = postgres.log();
    assert!(!log.contains("unexpected EOF"), "{log}");
}
