use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::clock::Now;
use crate::facts::{Class, Edge, Subject, Value, Worse};
use crate::kinds::testing::{Look, Trial, at, problems, settings};

const HOUR: i64 = 3_600;
/// The first look: late enough that there are times before it.
const NOW: i64 = 1_774_000_000;

/// A queue in a folder of its own, looked at by a clock that the test moves.
struct Place {
    dir: tempfile::TempDir,
    trial: Trial,
    now: i64,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let trial = Trial::new(dir.path());
        Self { dir, trial, now: NOW }
    }
    fn path(&self) -> &Path {
        self.dir.path()
    }
    fn write(&self, name: &str, text: &str) {
        crate::host::files::replace(&self.path().join(name), text.as_bytes(), 0o600).unwrap();
    }
    fn sql(&self, statements: &str) {
        Connection::open(self.path().join("q.db")).unwrap().execute_batch(statements).unwrap();
    }
    fn look(&mut self, toml: &str) -> Result<Look, Unread> {
        let now = Now { wall: at(self.now), ..self.trial.host().now() };
        self.trial.look_at::<Queue>(&settings::<Queue>(toml), now)
    }
    /// A look: the bands that are not ok, and what is unread.
    fn says(&mut self, toml: &str) -> Vec<String> {
        let look = match self.look(toml) {
            Ok(look) => look,
            Err(unread) => return vec![format!("? {}: {}", unread.code, unread.said)],
        };
        let unread = look.unread.values().map(|unread| format!("? {}: {}", unread.code, unread.said));
        look.facts.iter().filter_map(|(_, _, fact)| band(fact)).chain(unread).collect()
    }
    /// The same some hours later.
    fn after(&mut self, hours: i64) -> &mut Self {
        self.now += hours * HOUR;
        self
    }
}

/// The band as the middle picks it at first sight.
fn band(fact: &crate::facts::Fact) -> Option<String> {
    let Class::Gauge(scale) = &fact.class else { return None };
    assert_eq!(scale.worse, Worse::Above);
    let value = fact.value.number()?;
    let crossed = |edge: &&Edge| value > edge.at;
    let edge = scale.fail.iter().chain(&scale.warn).find(crossed)?;
    Some(format!("{}: {}", edge.code, scale.says))
}

fn numbers(look: &Look, names: &[&'static str]) -> Vec<Option<f64>> {
    names.iter().map(|name| look.number("", name)).collect()
}

const SQLITE: &str = "sqlite = '~/q.db'\nquery = 'SELECT id, status, since FROM tasks'\n";

#[test]
fn what_is_in_processing_for_too_long_is_stuck() {
    let mut place = Place::new();
    place.sql("CREATE TABLE tasks (id TEXT, status TEXT, since)");
    assert_eq!(place.says(SQLITE), [""; 0], "an empty queue is well");
    let old = |hours: f64| crate::words::seconds(NOW) - hours * 3_600.0;
    for (hours, status, expected) in [
        (1.9, "running", None),
        (2.1, "Running", Some("takes_long: task \"a\" is in processing for 2 h 6 min, at most 4 h is allowed")),
        (5.0, "processing", Some("stuck: task \"a\" is in processing for 5 h, at most 4 h is allowed")),
        (5.0, "queued", None),
        (500.0, "failed", None),
        (5.0, "dreaming", Some("stuck: task \"a\" is in the queue for 5 h, at most 4 h is allowed")),
    ] {
        place.sql(&format!(
            "DELETE FROM tasks; INSERT INTO tasks VALUES ('a', '{status}', {}), ('b', 'queued', {NOW})",
            old(hours)
        ));
        let mut anew = Place { dir: place.dir, trial: Trial::new(Path::new("/")), now: NOW };
        anew.trial = Trial::new(anew.path());
        assert_eq!(anew.says(SQLITE), expected.into_iter().collect::<Vec<_>>(), "{hours} {status}");
        place = anew;
    }
    place.sql(&format!("DELETE FROM tasks; INSERT INTO tasks VALUES ('a`<b>', 'queued', {NOW} - 7200)"));
    let waits = format!("{SQLITE}max_wait = '1h'");
    assert_eq!(place.says(&waits), ["waits_long: the oldest waiting task waits for 2 h, at most 1 h is allowed"]);
}

#[test]
fn the_facts_of_a_query_in_either_form() {
    let mut place = Place::new();
    place.sql(&format!(
        "CREATE TABLE tasks (id TEXT, status TEXT, since);
         INSERT INTO tasks VALUES ('a', 'queued', {NOW} - 60), ('b', 'running', '2026-03-20T09:00:00Z'),
           ('c', 'running', {NOW}000 - 600000), ('d', 'done', 5), ('e', 'odd', NULL), ('f', 'queued', '')"
    ));
    let grouped = "sqlite = '~/q.db'\nquery = \"SELECT status, count(*) AS tasks, min(since) AS since, id FROM tasks WHERE status != 'running' GROUP BY status UNION ALL SELECT status, 1, since, id FROM tasks WHERE status = 'running'\"";
    let names = ["depth", "waiting", "processing", "other", "done", "oldest_s", "oldest_waiting_s", "unmoved_s"];
    let expected: Vec<Option<f64>> = [5.0, 2.0, 2.0, 1.0, 1.0, 2_800.0, 60.0, 0.0].into_iter().map(Some).collect();
    for toml in [SQLITE, grouped] {
        let look = place.look(toml).unwrap();
        let mut seen = numbers(&look, &names);
        if toml == grouped {
            // A group's earliest time is the text that sorts first.
            seen[6] = Some(60.0);
        }
        assert_eq!(seen, expected, "{toml}");
        assert_eq!(look.text("", "oldest_id"), Some("b"));
        assert!(look.facts.get(&Subject::none(), "oldest_id").unwrap().foreign);
    }
    for (query, depth) in [
        ("SELECT count(*) FROM tasks", 6.0),
        ("SELECT id FROM tasks", 6.0),
        ("SELECT count(*) FROM tasks WHERE 0", 0.0),
    ] {
        let look = place.look(&format!("sqlite = '~/q.db'\nquery = '{query}'")).unwrap();
        assert_eq!((look.number("", "depth"), look.number("", "waiting")), (Some(depth), None), "{query}");
    }
    for (query, expected) in [
        (
            "SELECT id AS name FROM tasks",
            "? unclear_tasks: the query gives none of the columns `status`, `since`, `tasks`, `id`",
        ),
        ("SELECT status AS since FROM tasks", "? unclear_tasks: what is at `since` is no time"),
        ("SELECT id, -1 AS tasks FROM tasks", "? unclear_tasks: the column `tasks` is no number of tasks"),
    ] {
        assert_eq!(place.says(&format!("sqlite = '~/q.db'\nquery = \"{query}\"")), [expected]);
    }
    assert!(place.says("sqlite = '~/q.db'\nquery = 'SELECT id FROM jobs'")[0].starts_with("? schema_unknown"));
    let many = "sqlite = '~/q.db'\nquery = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) SELECT i AS id FROM n'\n";
    assert_eq!(place.says(many), ["? queue_too_long: there are more than 10000 tasks"]);
    let full = "full: 10000 tasks in the queue, expected at most 500";
    assert_eq!(place.says(&format!("{many}fail_depth = 500")), [full]);
    assert_eq!(
        place.says("sqlite = '~/q.db'\nquery = 'SELECT 7 AS tasks'\nwarn_depth = 5\nfail_depth = 9"),
        ["filling: 7 tasks in the queue, expected at most 5"]
    );
}

/// Tasks as `id status since` in hours before the first look.
fn fill(place: &Place, tasks: &[(&str, &str, i64)]) {
    place.sql("CREATE TABLE IF NOT EXISTS tasks (id TEXT, status TEXT, since); DELETE FROM tasks");
    for (id, status, hours) in tasks {
        place.sql(&format!("INSERT INTO tasks VALUES ('{id}', '{status}', {})", NOW - hours * HOUR));
    }
}

type Tasks<'a> = &'a [(&'a str, &'a str, i64)];

#[test]
fn movement_is_what_is_taken_up_or_done() {
    let before: Tasks = &[("a", "running", 1), ("b", "queued", 1), ("c", "queued", 1)];
    let query = "sqlite = '~/q.db'\nquery = 'SELECT id, status FROM tasks'\n";
    let grouped = "sqlite = '~/q.db'\nquery = 'SELECT status, count(*) AS tasks, min(since) AS since FROM tasks GROUP BY status'\n";
    for (what, after, by_id, by_group) in [
        ("nothing happened", before, false, false),
        ("one was done", &[("b", "queued", 1), ("c", "queued", 1)], true, true),
        ("one was taken up", &[("a", "running", 1), ("b", "running", 0), ("c", "queued", 1)], true, true),
        ("one was done and is still there", &[("a", "done", 0), ("b", "queued", 1), ("c", "queued", 1)], true, true),
        (
            "one was added",
            &[("a", "running", 1), ("b", "queued", 1), ("c", "queued", 1), ("d", "queued", -1)],
            false,
            false,
        ),
        ("one went back", &[("a", "queued", 1), ("b", "queued", 1), ("c", "queued", 1)], false, true),
        ("all was done", &[], true, true),
    ] as [(&str, Tasks, bool, bool); 7]
    {
        for (toml, expected) in [(query, by_id), (grouped, by_group)] {
            let mut place = Place::new();
            fill(&place, before);
            let first = place.look(toml).unwrap();
            assert_eq!(first.facts.flag(&Subject::none(), "advanced"), Some(false), "there was nothing before");
            fill(&place, after);
            let look = place.after(1).look(toml).unwrap();
            assert_eq!(look.facts.flag(&Subject::none(), "advanced"), Some(expected), "{what}");
            let unmoved = if expected { 0.0 } else { 3_600.0 };
            assert_eq!(look.number("", "unmoved_s"), Some(unmoved), "{what}");
        }
    }
}

#[test]
fn a_queue_that_does_not_move_is_said_and_one_that_is_empty_is_not() {
    let mut place = Place::new();
    fill(&place, &[("a", "queued", 0), ("b", "queued", 0)]);
    let toml = format!("{SQLITE}unmoved_after = '2h'");
    assert_eq!(place.says(&toml), [""; 0]);
    assert_eq!(place.after(2).says(&toml), [""; 0]);
    // More and more of them: still nobody takes one.
    fill(&place, &[("a", "queued", 0), ("b", "queued", 0), ("c", "queued", -2)]);
    assert_eq!(place.after(1).says(&toml), ["unmoved: none of 3 tasks was taken up or done for 3 h"]);
    fill(&place, &[("a", "queued", 0)]);
    assert_eq!(place.after(1).says(&toml), [""; 0]);
    assert_eq!(place.after(3).says(&toml), ["unmoved: not one task was taken up or done for 3 h"]);
    fill(&place, &[]);
    assert_eq!(place.after(100).says(&toml), [""; 0]);
    assert_eq!(place.after(100).says(&toml), [""; 0]);
    fill(&place, &[("a", "queued", 0)]);
    assert_eq!(place.after(1).look(&toml).unwrap().number("", "unmoved_s"), Some(3_600.0), "since it was seen empty");
    // By default it may rest for as long as a task may take.
    assert_eq!(place.after(3).says(SQLITE), [""; 0]);
    assert_eq!(place.after(1).says(SQLITE), ["unmoved: not one task was taken up or done for 5 h"]);
}

#[test]
fn a_task_without_a_time_counts_from_when_it_was_seen() {
    let mut place = Place::new();
    let toml = "json_file = '~/q.json'\nitems = '$.tasks[*]'\nid_path = '$.name'\nstatus_path = '$.state'";
    place.write("q.json", r#"{"tasks": [{"name": "a", "state": "pending"}, {"name": "b", "state": "running"}]}"#);
    assert_eq!(place.look(toml).unwrap().number("", "oldest_s"), Some(0.0));
    place.write("q.json", r#"{"tasks": [{"name": "a", "state": "running"}, {"name": "b", "state": "running"}]}"#);
    let look = place.after(3).look(toml).unwrap();
    assert_eq!((look.number("", "oldest_s"), look.text("", "oldest_id")), (Some(3.0 * 3_600.0), Some("b")));
    place.write("q.json", r#"{"tasks": [{"name": "a", "state": "running"}]}"#);
    let look = place.after(1).look(toml).unwrap();
    assert_eq!((look.number("", "oldest_s"), look.text("", "oldest_id")), (Some(3_600.0), Some("a")));
}

#[test]
fn a_json_file_and_what_is_none() {
    let mut place = Place::new();
    let toml = "json_file = '~/q.json'\nitems = '$.tasks[*]'\ntime_path = '$.at'\nid_path = '$.n'\nstatus_path = '$.s'";
    place.write(
        "q.json",
        r#"{"tasks": [{"n": 1, "s": "running", "at": "2026-03-20T04:00:00Z"}, {"n": 2, "s": "done", "at": "2026-03-20T01:00:00Z"}]}"#,
    );
    assert_eq!(place.says(toml), ["stuck: task \"1\" is in processing for 5 h 46 min, at most 4 h is allowed"]);
    for (text, expected) in [
        (r#"{"tasks": []}"#, ""),
        (r#"{"jobs": []}"#, "? unclear_tasks: there is nothing at `$.tasks[*]`"),
        (r#"{"tasks": [{"at": "soon"}]}"#, "? unclear_tasks: what is at `$.at` is no time"),
        (r#"{"tasks": ["#, "? bad_json: "),
        ("", "? bad_json: "),
    ] {
        place.write("q.json", text);
        let says = place.says(toml);
        assert!(says.len() == usize::from(!expected.is_empty()), "{text}: {says:?}");
        assert!(says.iter().all(|said| said.starts_with(expected)), "{text}: {says:?}");
    }
    std::fs::remove_file(place.path().join("q.json")).unwrap();
    assert!(place.says(toml)[0].starts_with("? missing: "));
}

#[test]
fn a_folder_of_files() {
    let mut place = Place::new();
    let toml = "folder = '~/in'\nprocessing_folder = '~/work'\nnames = '*.json'";
    assert!(place.says(toml)[0].starts_with("? missing: "));
    for folder in ["in", "work"] {
        std::fs::create_dir(place.path().join(folder)).unwrap();
    }
    assert_eq!(place.says(toml), [""; 0]);
    for (name, hours) in
        [("in/a.json", 9), ("work/b.json", 5), ("work/c.json", 1), ("work/old.tmp", 90), ("work/.d.json", 90)]
    {
        place.write(name, "{}");
        let file = std::fs::File::options().write(true).open(place.path().join(name)).unwrap();
        let at = Duration::from_secs(u64::try_from(NOW - hours * HOUR).unwrap());
        file.set_modified(std::time::UNIX_EPOCH + at).unwrap();
    }
    std::fs::create_dir(place.path().join("work/folder.json")).unwrap();
    assert_eq!(place.says(toml), ["stuck: task \"b.json\" is in processing for 5 h, at most 4 h is allowed"]);
    let look = place.look(toml).unwrap();
    assert_eq!(numbers(&look, &["depth", "waiting", "processing"]), [Some(3.0), Some(1.0), Some(2.0)]);
    let look = place.look("folder = '~/work'\nstuck_after = '6h'").unwrap();
    assert_eq!(numbers(&look, &["depth", "waiting", "oldest_s"]), [Some(3.0), None, Some(90.0 * 3_600.0)]);
    place.write("file", "");
    assert!(place.says("folder = '~/file'")[0].starts_with("? not_a_folder: "));
}

#[test]
fn what_an_earlier_version_left_and_a_clock_set_back_do_no_harm() {
    let seen = Seen { tasks: vec![Task { id: Some("a".to_owned()), ..Task::one(State::Waiting) }], ..Seen::default() };
    let settings = settings::<Queue>(SQLITE);
    for before in [&b""[..], b"{}", b"[1]", b"\xff"] {
        let fetched = facts::fetched(&settings, &seen, Some(before), at(NOW));
        assert_eq!(fetched.facts.number(&Subject::none(), "unmoved_s"), Some(0.0));
    }
    let first = facts::fetched(&settings, &seen, None, at(NOW));
    let kept: BTreeMap<String, Option<Vec<u8>>> = first.remember.into_iter().collect();
    let back = facts::fetched(&settings, &seen, kept[facts::MEMORY].as_deref(), at(NOW - 50));
    assert_eq!(back.facts.number(&Subject::none(), "unmoved_s"), Some(0.0));
    // A name may be anybody's: it is not kept as it is.
    assert!(!String::from_utf8_lossy(kept[facts::MEMORY].as_ref().unwrap()).contains("\"a\""));
    // What is kept stays far below what a value may be.
    let many: Vec<Task> =
        (0..10_000).map(|n| Task { id: Some(format!("task {n}")), ..Task::one(State::Waiting) }).collect();
    let fetched = facts::fetched(&settings, &Seen { tasks: many, ..Seen::default() }, None, at(NOW));
    assert!(fetched.remember[0].1.as_ref().unwrap().len() < 512 * 1024);
    assert!(matches!(fetched.facts.get(&Subject::none(), "depth").unwrap().value, Value::Int(10_000)));
}

#[test]
fn bad_settings_are_refused() {
    let base = "sqlite = '/a.db'\nquery = 'SELECT 1'";
    for (toml, said) in [
        (
            "stuck_after = '1h'".to_owned(),
            "query: nothing says where the queue is (one of `sqlite`, `postgres`, `redis`, `folder`, `json_file`)",
        ),
        (format!("{base}\nfolder = '/a'"), "folder: `sqlite` and `folder` exclude each other (make it two checks)"),
        ("sqlite = '/a.db'".to_owned(), "query: `query` is missing: a query that gives the tasks"),
        ("sqlite = '/a.db'\nquery = 'UPDATE'".to_owned(), "query: expected one query that begins with SELECT or WITH"),
        ("sqlite = '/*.db'\nquery = 'SELECT 1'".to_owned(), "sqlite: expected one path, without wildcards"),
        (format!("{base}\nkey = 'q'"), "key: `key` belongs to `redis`, which is not there"),
        (
            format!("{base}\ntime_path = '$.a'"),
            "time_path: `time_path` belongs to `json_file` or `redis`, which is not there",
        ),
        ("redis = 'redis://h'".to_owned(), "key: `key` is missing: the key of the queue"),
        (
            "redis = 'http://h'\nkey = 'q'".to_owned(),
            "redis: expected a URL that begins with `redis://`, `rediss://`, `redis+unix://`",
        ),
        (
            "redis = 'redis://:x@h'\nkey = 'q'".to_owned(),
            "redis: a password has no place in the config (set `password`, or give the whole URL as a secret in `redis_url`)",
        ),
        (
            "postgres = 'postgres://h/d?password=x'\nquery = 'SELECT 1'".to_owned(),
            "postgres: a password has no place in the config (set `password`, or give the whole URL as a secret in `postgres_url`)",
        ),
        (
            "postgres_url = 'env:A'\nquery = 'SELECT 1'\npassword = 'env:B'".to_owned(),
            "password: `password` belongs to `postgres` or `redis`, which is not there",
        ),
        ("json_file = '/a'".to_owned(), "items: `items` is missing: where the tasks are (`$.tasks[*]`)"),
        ("folder = '/a'\nnames = 'a/b'".to_owned(), "names: expected a pattern of file names like `*.json`"),
        (format!("{base}\nstuck_after = '0s'"), "stuck_after: expected a duration above 0s"),
        (format!("{base}\nwarn_after = '4h'"), "warn_after: `warn_after` must be shorter than `stuck_after`"),
        (format!("{base}\nwarn_depth = 5\nfail_depth = 5"), "fail_depth: `fail_depth` must be above `warn_depth`"),
        (
            format!("{base}\nwaiting = ['Running']"),
            "processing: `Running` can't mean two things (leave it out of one list)",
        ),
        (format!("{base}\ndepth = 5"), "unknown field `depth`"),
    ] {
        let problems = problems::<Queue>(&toml);
        assert!(problems.len() == 1 && problems[0].starts_with(said), "{toml}: {problems:?}");
    }
}
