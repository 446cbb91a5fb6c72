use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::facts::{Class, Value};
use crate::kinds::testing::{Look, Trial, problems, settings};

const SCHEMA: &str = "PRAGMA user_version = 3;
CREATE TABLE tasks (id TEXT, status TEXT, age REAL, note);
INSERT INTO tasks VALUES ('a', 'failed', 10, NULL), ('b', 'done', 99.5, 'fine'), ('c', 'failed', 5, x'00');";

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Connection::open(dir.path().join("a.db")).unwrap().execute_batch(SCHEMA).unwrap();
        Self(dir)
    }
    fn path(&self) -> &Path {
        self.0.path()
    }
    fn look(&self, toml: &str) -> Result<Look, Unread> {
        let settings = settings::<Sqlite>(&format!("path = '~/a.db'\n{toml}"));
        Trial::new(self.path()).look::<Sqlite>(&settings)
    }
    /// What went wrong: findings, bands that are not ok, what is unread.
    fn codes(&self, toml: &str) -> Vec<String> {
        match self.look(toml) {
            Err(unread) => vec![format!("? {}", unread.code)],
            Ok(look) => {
                let mut codes: Vec<String> =
                    look.facts.iter().filter_map(|(subject, _, fact)| band(subject, fact)).collect();
                codes.extend(look.findings.iter().map(|finding| format!("{}: {}", finding.code, finding.said)));
                codes.extend(look.unread.iter().map(|(subject, unread)| format!("? {subject} {}", unread.code)));
                codes
            }
        }
    }
}

/// The band as the middle picks it at first sight.
fn band(subject: &Subject, fact: &crate::facts::Fact) -> Option<String> {
    let Class::Gauge(scale) = &fact.class else { return None };
    let value = fact.value.number()?;
    let crossed = |edge: &&crate::facts::Edge| match scale.worse {
        crate::facts::Worse::Above => value > edge.at,
        crate::facts::Worse::Below => value < edge.at,
    };
    let edge = scale.fail.iter().chain(&scale.warn).find(crossed)?;
    let subject = if subject.is_none() { String::new() } else { format!("{subject} ") };
    Some(format!("{subject}{}: {}", edge.code, scale.says))
}

#[test]
fn one_number_with_edges() {
    let place = Place::new();
    let count = "query = \"SELECT count(*) AS failed FROM tasks WHERE status = 'failed'\"";
    for (more, expected) in [
        ("", None),
        ("fail_above = 2", None),
        ("fail_above = 1", Some("too_high: `failed` is 2, expected at most 1")),
        ("warn_above = 1\nfail_above = 2", Some("high: `failed` is 2, expected at most 1")),
        (
            "warn_above = 0\nfail_above = 1\nsays = 'failed tasks'",
            Some("too_high: failed tasks: 2, expected at most 0"),
        ),
        ("fail_below = 3", Some("too_low: `failed` is 2, expected at least 3")),
        ("warn_below = 3\nunit = 'seconds'", Some("low: `failed` is 2 s, expected at least 3 s")),
        ("columns.failed.fail_above = 0", Some("too_high: `failed` is 2, expected at most 0")),
        ("fail_above = 0\ncolumns.failed.says = 'gone wrong'", Some("too_high: gone wrong: 2, expected at most 0")),
    ] {
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(place.codes(&format!("{count}\n{more}")), expected, "{more}");
    }
    let look = place.look(count).unwrap();
    assert_eq!((look.number("", "failed"), look.number("", "row_count")), (Some(2.0), Some(1.0)));
}

#[test]
fn a_value_that_is_not_there_is_no_pass() {
    let place = Place::new();
    for (toml, expected) in [
        ("query = \"SELECT max(age) AS age FROM tasks WHERE status = 'none'\"\nfail_above = 5", "?  no_value"),
        ("query = \"SELECT age FROM tasks WHERE status = 'none'\"\nfail_above = 5", "? no_value"),
        ("query = \"SELECT age FROM tasks WHERE status = 'none'\"", "? no_value"),
        ("query = \"SELECT status FROM tasks WHERE id = 'a'\"\nfail_above = 5", "?  unclear_answer"),
        ("query = 'SELECT id, age FROM tasks'\nfail_above = 5", "? unclear_answer"),
        ("query = \"SELECT id, age, note FROM tasks WHERE id = 'a'\"\nfail_above = 5", "? unclear_answer"),
        ("query = 'SELECT id, age FROM tasks'\nsubject = 'name'", "? unclear_answer"),
        ("query = 'SELECT status, age FROM tasks'\nsubject = 'status'", "? unclear_answer"),
        ("query = 'SELECT count(*) FROM tasks'\ncolumns.n.fail_above = 1", "? unclear_answer"),
        ("query = 'SELECT count(*) FROM jobs'", "? schema_unknown"),
        ("query = 'SELECT 1'\nuser_version = [1, 2]", "? schema_unknown"),
        ("query = 'SELECT 1'\nuser_version = '4-9'", "? schema_unknown"),
        ("query = 'WITH a AS (SELECT 1) DELETE FROM tasks RETURNING 1'", "? query_refused"),
    ] {
        assert_eq!(place.codes(toml), [expected], "{toml}");
    }
    assert_eq!(place.codes("query = 'SELECT 1'\nuser_version = ['1-2', 3]"), [""; 0]);
    let newer = place.look("query = 'SELECT 1'\nuser_version = 2").unwrap_err();
    assert!(newer.said.as_str().ends_with("a.db` has the schema version 3, known is 2"), "{}", newer.said);
}

#[test]
fn rows_are_subjects_and_columns_are_facts() {
    let place = Place::new();
    let toml = "query = 'SELECT id, age, status, note FROM tasks'\nsubject = 'id'\n\
                columns.age = { fail_above = 50, unit = 'seconds', says = 'in the queue' }\ncolumns.status.class = 'state'";
    assert_eq!(place.codes(toml), ["b too_high: in the queue: 1 min, expected at most 50 s"]);
    let look = place.look(toml).unwrap();
    assert_eq!((look.number("a", "age"), look.text("c", "status")), (Some(10.0), Some("failed")));
    let note = |subject: &str| look.facts.get(&Subject::new(subject), "note").cloned();
    assert_eq!(note("a"), None, "what is null is not there");
    let note = note("b").unwrap();
    assert_eq!((note.value, note.class, note.foreign), (Value::from("fine"), Class::Info, true));
    let status = look.facts.get(&Subject::new("b"), "status").unwrap();
    assert_eq!((&status.class, status.foreign), (&Class::State, true));
    // No row, no subject: nothing in trouble.
    assert_eq!(place.codes("query = 'SELECT id, age FROM tasks WHERE age > 1000'\nsubject = 'id'"), [""; 0]);
}

#[test]
fn rows_as_such() {
    let place = Place::new();
    let failed = "query = \"SELECT id FROM tasks WHERE status = 'failed'\"";
    for (more, expected) in [
        ("max_rows = 2", vec![]),
        ("max_rows = 0\nsays = 'failed tasks'", vec!["too_many: failed tasks: 2, expected at most 0"]),
        ("min_rows = 3", vec!["too_few: rows: 2, expected at least 3"]),
        ("expect = 'rows.size() == 2 && rows.all(r, r.id != \"b\") && row.id == \"a\"'", vec![]),
        (
            "expect = 'rows.size() > 2'",
            vec!["expectation_failed: what the query gives is not as expected: `rows.size() > 2` does not hold"],
        ),
        ("expect = 'row.age > 2'", vec!["?  expectation_error"]),
    ] {
        assert_eq!(place.codes(&format!("{failed}\n{more}")), expected, "{more}");
    }
    let many =
        "query = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) SELECT i FROM n'";
    assert_eq!(place.codes(&format!("{many}\nmax_rows = 5")), ["too_many: rows: more than 200, expected at most 5"]);
    for more in ["min_rows = 5", "subject = 'i'", "expect = 'true'"] {
        assert_eq!(place.codes(&format!("{many}\n{more}")), ["?  answer_too_long"], "{more}");
    }
}

#[test]
fn now_is_the_cycles() {
    let place = Place::new();
    let settings = settings::<Sqlite>("path = '~/a.db'\nquery = 'SELECT :now AS at'");
    let mut trial = Trial::new(place.path());
    let now = crate::clock::Now { wall: crate::kinds::testing::at(1_234), ..trial.host().now() };
    assert_eq!(trial.look_at::<Sqlite>(&settings, now).unwrap().number("", "at"), Some(1_234.0));
}

#[test]
fn bad_settings_are_refused() {
    let base = "path = '/a.db'\nquery = 'SELECT 1'";
    for (toml, said) in [
        ("query = 'SELECT 1'".to_owned(), "missing field `path`"),
        ("path = '/a/*.db'\nquery = 'SELECT 1'".to_owned(), "path: expected the path of one file, without wildcards"),
        ("path = '/a.db'\nquery = 'DELETE'".to_owned(), "query: expected one query that begins with SELECT or WITH"),
        (
            format!("{base}\nfail_above = 1\nfail_below = 0"),
            "fail_below: edges above and below exclude each other (make it two columns or two checks)",
        ),
        (format!("{base}\nfail_above = 1\nwarn_above = 1"), "fail_above: `fail_above` must be above `warn_above`"),
        (format!("{base}\nfail_below = 1\nwarn_below = 1"), "fail_below: `fail_below` must be below `warn_below`"),
        (format!("{base}\nfail_above = inf"), "fail_above: expected finite numbers"),
        (
            format!("{base}\nfail_above = 1\ncolumns.a.fail_above = 2"),
            "columns: edges stand in `columns` or beside `query`, not in both",
        ),
        (
            format!("{base}\ncolumns.a = {{ fail_above = 2, class = 'state' }}"),
            "columns.a.class: only a gauge has edges",
        ),
        (
            format!("{base}\nsubject = 'a'\ncolumns.a.class = 'info'"),
            "columns.a: the column of `subject` names things and is no fact",
        ),
        (
            format!("{base}\nmin_rows = 1\nmax_rows = 2"),
            "max_rows: `min_rows` and `max_rows` exclude each other (make it two checks)",
        ),
        (format!("{base}\nmax_rows = 200"), "max_rows: expected less than 200 (let the query count them)"),
        (format!("{base}\nexpect = 'row.a == json'"), "unknown name `json`"),
    ] {
        let problems = problems::<Sqlite>(&toml);
        assert!(problems.len() == 1 && problems[0].contains(said), "{toml}: {problems:?}");
    }
}
