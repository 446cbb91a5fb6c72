//! The ledgers of agents, in the shapes that they have on a host.

use std::path::Path;

use jiff::tz::TimeZone;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{DAY, HOUR, MIN, lines};
use crate::facts::{Facts, Subject};
use crate::host::files;
use crate::kinds::Fetched;
use crate::kinds::job::{Settings, theirs};
use crate::kinds::testing::at;

/// A day on which all of this happens, at noon UTC: in seconds.
const NOON: i64 = 20_700 * DAY + 12 * HOUR;

/// A state folder, and what was remembered of the looks before.
struct Home {
    dir: tempfile::TempDir,
    kept: Option<Vec<u8>>,
    now: i64,
    settings: String,
}

impl Home {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), kept: None, now: NOON, settings: String::new() }
    }
    fn path(&self, name: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
    fn write(&self, name: &str, document: &Value) {
        files::replace(&self.path(name), document.to_string().as_bytes(), 0o600).unwrap();
    }
    fn database(&self, version: i64, jobs: &[(Value, Value)], runs: &[(&str, &str, &str)]) {
        database(&self.path("state/openclaw.sqlite"), version, jobs, runs);
    }
    fn fetch(&mut self, source: &str) -> Result<Fetched, crate::facts::Unread> {
        let settings: Settings = toml::from_str(&format!("source = '{source}'\n{}", self.settings)).unwrap();
        let look = theirs::Look {
            settings,
            now: at(self.now),
            first_seen: at(NOON - HOUR),
            zone: TimeZone::UTC,
            folder: self.dir.path().to_owned(),
            kept: self.kept.clone(),
            deadline: Instant::now() + std::time::Duration::from_secs(5),
        };
        let fetched = look.run()?;
        self.kept.clone_from(&fetched.remember[0].1);
        Ok(fetched)
    }
    /// What one look finds.
    fn look(&mut self, source: &str) -> Vec<String> {
        let fetched = self.fetch(source).unwrap();
        assert!(fetched.unread.is_empty(), "{:?}", fetched.unread);
        self.said(source, &fetched.facts)
    }
    fn said(&self, source: &str, facts: &Facts) -> Vec<String> {
        let settings: Settings = toml::from_str(&format!("source = '{source}'\n{}", self.settings)).unwrap();
        lines(&settings, facts, at(self.now))
    }
}

/// A database as OpenClaw keeps one, and the rows that matter.
fn database(path: &Path, version: i64, jobs: &[(Value, Value)], runs: &[(&str, &str, &str)]) {
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA user_version = {version};
             CREATE TABLE IF NOT EXISTS cron_jobs (store_key TEXT, job_id TEXT PRIMARY KEY, name TEXT, enabled INTEGER,
                agent_id TEXT, payload_kind TEXT, job_json TEXT, state_json TEXT, updated_at INTEGER);
             CREATE TABLE IF NOT EXISTS task_runs (run_id INTEGER PRIMARY KEY, runtime TEXT, task_kind TEXT, source_id TEXT,
                status TEXT, created_at INTEGER, started_at INTEGER, ended_at INTEGER, error TEXT, terminal_summary TEXT,
                detail_json TEXT);
             DELETE FROM cron_jobs; DELETE FROM task_runs;"
        ))
        .unwrap();
    for (job, state) in jobs {
        let enabled = job["enabled"].as_bool().unwrap();
        let row = (job["id"].as_str(), job["name"].as_str(), enabled, job.to_string(), state.to_string());
        let insert = "INSERT INTO cron_jobs (store_key, job_id, name, enabled, job_json, state_json) VALUES ('d', ?, ?, ?, ?, ?)";
        database.execute(insert, row).unwrap();
    }
    for (age, (job, status, error)) in runs.iter().enumerate() {
        let insert = "INSERT INTO task_runs (runtime, task_kind, source_id, status, created_at, error) \
                      VALUES ('cron', 'automation_run', ?, ?, ?, ?)";
        database.execute(insert, (job, status, -i64::try_from(age).unwrap(), error)).unwrap();
    }
}

/// A job that runs every hour from midnight on, with more of its own.
fn job(name: &str, more: Value) -> Value {
    let mut job = json!({
        "id": format!("id-of-{name}"), "name": name, "enabled": true, "createdAtMs": (NOON - 10 * DAY) * 1_000,
        "schedule": {"kind": "every", "everyMs": HOUR * 1_000, "anchorMs": (NOON - 10 * DAY) * 1_000},
        "sessionTarget": "isolated", "wakeMode": "now",
        "payload": {"kind": "command", "argv": ["true"]},
        "delivery": {"mode": "announce"}, "state": {},
    });
    take_in(&mut job, more);
    job
}

/// The state of one that ran half an hour before noon and is planned for half past.
fn state(more: Value) -> Value {
    let mut state = json!({
        "nextRunAtMs": NOON * 1_000 + 1, "lastRunAtMs": (NOON - 30 * MIN) * 1_000,
        "lastRunStatus": "ok", "lastStatus": "ok", "lastDurationMs": 60, "lastDiagnosticSummary": "done",
        "lastDelivered": true, "lastDeliveryStatus": "delivered", "consecutiveErrors": 0, "consecutiveSkipped": 0,
    });
    take_in(&mut state, more);
    state
}

fn take_in(into: &mut Value, more: Value) {
    let Value::Object(more) = more else { return };
    for (key, value) in more {
        into[key] = value;
    }
}

fn failed(times: u32, error: &str) -> Value {
    state(json!({
        "lastRunStatus": "error", "lastStatus": "error", "lastError": error, "lastDiagnosticSummary": "boom",
        "consecutiveErrors": times,
    }))
}

const EXIT: &str = "command exited with code 3";
const RESTART: &str = "cron: job interrupted by gateway restart";

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_trap_is_told_from_its_harmless_twin() {
    let none = || json!({});
    let never = |more: Value| {
        let mut state = json!({"nextRunAtMs": NOON * 1_000 + 1});
        take_in(&mut state, more);
        state
    };
    let days = |days: i64| json!({"nextRunAtMs": (NOON + days * DAY) * 1_000});
    let running = |secs: i64| json!({"runningAtMs": (NOON - secs) * 1_000});
    let empty = json!({
        "lastDiagnosticSummary": "command ok with no output: \"true\"", "lastDelivered": false,
        "lastDeliveryStatus": "not-delivered", "deliverySuppressionReason": "empty",
    });
    let lost = json!({"lastDelivered": false, "lastDeliveryStatus": "not-delivered"});
    let with = |mut one: Value, two: Value| {
        take_in(&mut one, two);
        one
    };
    let heartbeat = || json!({"payload": {"kind": "heartbeat"}});
    let weekly = || json!({"schedule": {"kind": "cron", "expr": "0 12 * * mon", "tz": "UTC"}});
    let once = |secs: i64| json!({"schedule": {"kind": "at", "at": at(NOON + secs).to_string()}});
    let past_the_hour = |mins: i64| json!({"schedule": {"kind": "every", "everyMs": HOUR * 1_000, "anchorMs": (NOON + mins * MIN) * 1_000}});
    let disabled = || json!({"enabled": false});
    let failing = |times: u32| format!("j failing: failed {times} times in a row, last with \"{EXIT}\"");
    let repeatedly = || format!("j failing_repeatedly: failed 3 times in a row, last with \"{EXIT}\"");
    for (name, of_job, of_state, want) in [
        ("ran well", none(), state(none()), None),
        ("failed once", none(), failed(1, EXIT), None),
        ("twice", none(), failed(2, EXIT), Some(failing(2))),
        ("three times", none(), failed(3, EXIT), Some(repeatedly())),
        ("switched off after that", disabled(), failed(3, EXIT), None),
        (
            "switched off by its scheduler",
            disabled(),
            with(failed(1, EXIT), json!({"autoDisabled": {"reason": "schedule-errors"}})),
            Some(format!("j auto_disabled: its scheduler switched it off (\"schedule-errors\"), last with \"{EXIT}\"")),
        ),
        ("switched on again by hand", none(), state(json!({"autoDisabled": {"reason": "schedule-errors"}})), None),
        ("restarted twice", none(), failed(2, RESTART), None),
        (
            "again and again",
            none(),
            failed(5, RESTART),
            Some("j interrupted: the last 5 executions were interrupted by restarts".to_owned()),
        ),
        ("ended well without a word, once", none(), state(empty.clone()), None),
        ("kept back", none(), state(with(lost.clone(), json!({"deliverySuppressionReason": "silent"}))), None),
        (
            "kept back before it was said so",
            none(),
            state(with(lost.clone(), json!({"lastDiagnosticSummary": "NO_REPLY"}))),
            None,
        ),
        ("delivered nowhere", json!({"delivery": {"mode": "none"}}), state(lost.clone()), None),
        (
            "lost",
            none(),
            state(lost.clone()),
            Some("j not_delivered: what its last execution said was not delivered".to_owned()),
        ),
        (
            "lost, and why",
            none(),
            state(json!({"lastDeliveryError": "no route @here"})),
            Some("j not_delivered: what its last execution said was not delivered: \"no route (at)here\"".to_owned()),
        ),
        ("planned in a week, as it should be", weekly(), state(days(7)), None),
        (
            "planned days ahead",
            none(),
            state(days(3)),
            Some(
                "j next_start_jumped: its scheduler means to start it only in 3 d, its schedule has two starts before"
                    .to_owned(),
            ),
        ),
        (
            "a failed one may wait for an hour more",
            json!({"schedule": {"kind": "every", "everyMs": 60_000}}),
            with(failed(1, EXIT), json!({"lastRunAtMs": (NOON - 30) * 1_000, "nextRunAtMs": (NOON + 5 * MIN) * 1_000})),
            None,
        ),
        (
            "planned for a time that is over",
            none(),
            state(json!({"nextRunAtMs": (NOON - HOUR) * 1_000})),
            Some(
                "j next_start_passed: its scheduler had its next start planned 1 h ago, and it did not start"
                    .to_owned(),
            ),
        ),
        ("over, and it runs", none(), state(with(running(60), json!({"nextRunAtMs": (NOON - HOUR) * 1_000}))), None),
        (
            "overdue, whatever is planned",
            none(),
            state(json!({"lastRunAtMs": (NOON - 9 * HOUR) * 1_000})),
            Some("j overdue: was due 8 h ago (`every 1 h`), the last start was 9 h ago".to_owned()),
        ),
        ("late within its grace", past_the_hour(55), state(json!({"lastRunAtMs": (NOON - 64 * MIN) * 1_000})), None),
        (
            "late",
            past_the_hour(50),
            state(json!({"lastRunAtMs": (NOON - 69 * MIN) * 1_000})),
            Some("j late: was due 10 min ago (`every 1 h`), the last start was 1 h 9 min ago".to_owned()),
        ),
        (
            "never ran",
            none(),
            never(none()),
            Some("j overdue: was due 9 d 23 h ago (`every 1 h`), it has never started".to_owned()),
        ),
        ("never ran, made just now", json!({"createdAtMs": NOON * 1_000}), never(none()), None),
        ("planned anew just now", none(), never(json!({"scheduleActivatedAtMs": NOON * 1_000})), None),
        (
            "a heartbeat outside its hours",
            heartbeat(),
            state(json!({"lastRunAtMs": (NOON - 10 * HOUR) * 1_000, "nextRunAtMs": (NOON + 8 * HOUR) * 1_000})),
            None,
        ),
        (
            "a heartbeat that is planned for no hour",
            heartbeat(),
            state(json!({"lastRunAtMs": (NOON - 10 * HOUR) * 1_000, "nextRunAtMs": (NOON - 9 * HOUR) * 1_000})),
            Some("j overdue: was due 9 h ago (`every 1 h`), the last start was 10 h ago".to_owned()),
        ),
        ("once, to come", once(HOUR), never(none()), None),
        (
            "once, done",
            once(-HOUR),
            state(json!({"lastRunAtMs": (NOON - HOUR) * 1_000 + 900, "nextRunAtMs": null})),
            None,
        ),
        (
            "once, missed",
            once(-3 * HOUR),
            never(json!({"nextRunAtMs": null})),
            Some(format!("j overdue: was due 3 h ago (`once at {}`), it has never started", at(NOON - 3 * HOUR))),
        ),
        ("runs", none(), state(running(90 * MIN)), None),
        (
            "runs for long",
            none(),
            state(running(3 * HOUR)),
            Some("j too_long: has been running for 3 h, and nothing limits it".to_owned()),
        ),
        (
            "hangs",
            none(),
            state(running(7 * HOUR)),
            Some("j stuck: has been running for 7 h, and nothing limits it".to_owned()),
        ),
        (
            "hangs beyond its own limit",
            json!({"payload": {"kind": "agentTurn", "timeoutSeconds": 600}}),
            state(running(20 * MIN)),
            Some("j stuck: has been running for 20 min, its own limit is 10 min".to_owned()),
        ),
        (
            "a schedule that can't be computed",
            none(),
            state(json!({"scheduleErrorCount": 2})),
            Some("j schedule_errors: its scheduler failed to compute its next start (2 in a row)".to_owned()),
        ),
        ("skipped twice", none(), state(json!({"consecutiveSkipped": 2, "lastRunStatus": "skipped"})), None),
        (
            "skipped",
            none(),
            state(json!({"consecutiveSkipped": 3, "lastRunStatus": "skipped"})),
            Some("j skipped: was skipped by its scheduler 3 times in a row".to_owned()),
        ),
        (
            "a heartbeat without a task",
            heartbeat(),
            state(json!({"consecutiveSkipped": 9, "lastRunStatus": "skipped"})),
            None,
        ),
        ("on an event", json!({"schedule": {"kind": "on-exit"}}), never(json!({"nextRunAtMs": null})), None),
        (
            "no schedule at all",
            json!({"schedule": {"kind": "cron", "expr": "now and then"}}),
            state(none()),
            Some("j schedule_unreadable: its recorded schedule \"now and then\" can't be read".to_owned()),
        ),
        ("with seconds", json!({"schedule": {"kind": "cron", "expr": "0 0 * * * *"}}), state(none()), None),
    ] {
        let want: Vec<String> = want.into_iter().collect();
        let both = || [(job("j", of_job.clone()), of_state.clone())];
        let mut home = Home::new();
        home.database(18, &both(), &[]);
        assert_eq!(home.look("openclaw"), want, "{name}");
        // Looked at again, it stays what it is.
        assert_eq!(home.look("openclaw"), want, "{name}, again");

        let mut home = Home::new();
        let mut whole = both()[0].0.clone();
        whole["state"] = of_state.clone();
        home.write("cron/jobs.json", &json!({"version": 1, "jobs": [whole]}));
        assert_eq!(home.look("openclaw"), want, "{name}, in a file");

        let mut home = Home::new();
        home.write("cron/jobs.json", &json!({"version": 1, "jobs": [both()[0].0]}));
        home.write("cron/jobs-state.json", &json!({"version": 1, "jobs": {"id-of-j": {"state": of_state}}}));
        assert_eq!(home.look("openclaw"), want, "{name}, its state apart");
    }
}

#[test]
fn empty_output_is_said_after_so_many_runs_and_not_so_many_looks() {
    let ran = |at: i64, said: &str| {
        let state = state(
            json!({"lastRunAtMs": at * 1_000, "nextRunAtMs": (at + HOUR) * 1_000, "lastDiagnosticSummary": said}),
        );
        [(job("j", json!({})), state)]
    };
    let nothing = "command ok with no output: \"true\"";
    let mut home = Home::new();
    let mut look = |said: &str| {
        home.now += HOUR;
        home.database(18, &ran(home.now - MIN, said), &[]);
        (home.look("openclaw"), home.look("openclaw"))
    };
    let three = vec!["j empty_output: ended well 3 times in a row and printed nothing".to_owned()];
    assert_eq!(look(nothing), (vec![], vec![]));
    assert_eq!(look(nothing), (vec![], vec![]));
    assert_eq!(look(nothing), (three.clone(), three));
    assert_eq!(look("HEARTBEAT_OK"), (vec![], vec![]));
    assert_eq!(look(nothing), (vec![], vec![]));
    assert_eq!(look("NO_REPLY"), (vec![], vec![]));

    home.settings = "empty_runs = 0".to_owned();
    for _ in 0..5 {
        home.now += HOUR;
        home.database(18, &ran(home.now - MIN, nothing), &[]);
        assert_eq!(home.look("openclaw"), [""; 0]);
    }
}

#[test]
fn restarts_among_failures_are_told_apart() {
    // Of five errors on record, a history says which were restarts.
    let runs = [("id-of-j", "failed", EXIT), ("id-of-j", "lost", ""), ("id-of-j", "failed", RESTART)];
    let more = [("id-of-j", "failed", RESTART), ("id-of-j", "timed_out", "no end"), ("id-of-j", "succeeded", "")];
    let runs: Vec<_> = runs.into_iter().chain(more).collect();
    let mut home = Home::new();
    home.database(18, &[(job("j", json!({})), failed(5, EXIT))], &runs);
    let two = format!("j failing: failed 2 times in a row, last with \"{EXIT}\"");
    assert_eq!(home.look("openclaw"), ["j interrupted: the last 3 executions were interrupted by restarts", &two]);

    // Without one, each look tells what came since the last.
    let mut home = Home::new();
    let mut look = |times: u32, error: &str| {
        home.database(18, &[(job("j", json!({})), failed(times, error))], &[]);
        home.look("openclaw")
    };
    assert_eq!(look(1, EXIT), [""; 0]);
    assert_eq!(look(2, RESTART), [""; 0]);
    assert_eq!(look(3, EXIT), std::slice::from_ref(&two));
    assert_eq!(look(4, RESTART), ["j failing: failed 2 times in a row, last with an error"]);
    assert_eq!(look(5, EXIT), [format!("j failing_repeatedly: failed 3 times in a row, last with \"{EXIT}\"")]);
    // It was well in between.
    assert_eq!(look(2, EXIT), [two]);
}

#[test]
fn a_job_that_is_switched_on_again_is_not_late() {
    let long_ago = || state(json!({"lastRunAtMs": (NOON - 30 * DAY) * 1_000}));
    let mut home = Home::new();
    home.database(18, &[(job("j", json!({"enabled": false})), long_ago())], &[]);
    assert_eq!(home.look("openclaw"), [""; 0]);
    home.database(18, &[(job("j", json!({})), long_ago())], &[]);
    assert_eq!(home.look("openclaw"), [""; 0]);
    // Nor is one with another schedule; after its time it is.
    let hourly = json!({"schedule": {"kind": "cron", "expr": "0 * * * *"}});
    home.database(18, &[(job("j", hourly.clone()), long_ago())], &[]);
    assert_eq!(home.look("openclaw"), [""; 0]);
    home.now += 3 * HOUR;
    home.database(18, &[(job("j", hourly), long_ago())], &[]);
    let found = home.look("openclaw");
    assert!(found.iter().any(|line| line.starts_with("j overdue: was due 2 h ago (`0 * * * *`)")), "{found:?}");
}

#[test]
fn jobs_are_subjects_by_name_or_where_names_repeat_by_id() {
    let mut home = Home::new();
    let twin = |id: &str| (job("twin", json!({"id": id})), state(json!({})));
    let jobs = [twin("one"), twin("two"), (job("Night Watch", json!({})), state(json!({})))];
    home.database(18, &jobs, &[]);
    home.settings = "jobs = ['Night Watch', 'two', 'gone']".to_owned();
    let fetched = home.fetch("openclaw").unwrap();
    let subjects = |fetched: &Fetched| fetched.facts.subjects().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(subjects(&fetched), ["", "Night Watch", "twin"]);
    assert_eq!(
        home.said("openclaw", &fetched.facts),
        [" no_such_job: its ledger has no `gone`, or it is switched off there"]
    );
    home.settings = String::new();
    let fetched = home.fetch("openclaw").unwrap();
    assert_eq!(subjects(&fetched), ["", "Night Watch", "one", "two"]);
    assert_eq!(fetched.facts.number(&Subject::none(), "jobs"), Some(3.0));
}

#[test]
fn what_is_not_known_is_unknown() {
    let unread = |home: &mut Home| home.fetch("openclaw").unwrap_err().code.as_str().to_owned();
    let mut home = Home::new();
    assert_eq!(unread(&mut home), "ledger_missing");
    assert_eq!(home.fetch("hermes").unwrap().facts.text(&Subject::none(), "layout").unwrap().as_str(), "none");
    let jobs = [(job("j", json!({})), state(json!({})))];
    home.database(19, &jobs, &[]);
    assert_eq!(unread(&mut home), "schema_unknown");
    home.database(18, &jobs, &[]);
    let database = || Connection::open(home.dir.path().join("state/openclaw.sqlite")).unwrap();
    database().execute_batch("ALTER TABLE task_runs RENAME TO runs_of_tasks").unwrap();
    home.fetch("openclaw").unwrap();
    let database = || Connection::open(home.dir.path().join("state/openclaw.sqlite")).unwrap();
    database().execute_batch("UPDATE cron_jobs SET state_json = '{\"half'").unwrap();
    let fetched = home.fetch("openclaw").unwrap();
    assert_eq!(fetched.unread[&Subject::new("j")].code.as_str(), "bad_ledger");
    // Whoever asks for another job hears nothing of it.
    home.settings = "jobs = ['other']".to_owned();
    assert!(home.fetch("openclaw").unwrap().unread.is_empty());
    let database = || Connection::open(home.dir.path().join("state/openclaw.sqlite")).unwrap();
    database().execute_batch("ALTER TABLE cron_jobs RENAME COLUMN job_json TO description").unwrap();
    assert_eq!(unread(&mut home), "schema_unknown");

    let mut home = Home::new();
    for (file, document) in [
        ("cron/jobs.json", json!({"jobs": "none"})),
        ("cron/jobs.json", json!({"version": 2})),
        ("cron/jobs-state.json", json!([1])),
    ] {
        home.write(file, &document);
        assert_eq!(unread(&mut home), "bad_ledger", "{file} {document}");
    }
    files::replace(&home.path("cron/jobs.json"), b"{\"jobs\": [", 0o600).unwrap();
    assert_eq!(unread(&mut home), "bad_ledger");
}

#[test]
fn the_database_wins_and_the_older_files_are_said() {
    let mut home = Home::new();
    home.write("cron/jobs.json", &json!({"jobs": [job("old", json!({}))]}));
    home.database(18, &[(job("new", json!({})), state(json!({})))], &[]);
    let fetched = home.fetch("openclaw").unwrap();
    assert!(fetched.facts.get(&Subject::none(), "legacy_ledger").is_some());
    assert_eq!(fetched.facts.text(&Subject::none(), "layout").unwrap().as_str(), "database");
    assert!(fetched.facts.subjects().contains(&Subject::new("new")));
    assert!(!fetched.facts.subjects().contains(&Subject::new("old")));
}

#[test]
fn hermes_counts_nothing_so_runs_are_counted_here() {
    let mut home = Home::new();
    let job = |ran: i64, more: Value| {
        let time = |second: i64| at(second).to_string();
        let mut job = json!({
            "id": "a1", "name": "digest", "enabled": true, "state": "scheduled", "created_at": time(NOON - 9 * DAY),
            "schedule": {"kind": "interval", "minutes": 60, "display": "every 60m"},
            "last_run_at": time(ran), "next_run_at": time(ran + HOUR), "last_status": "ok", "last_error": null,
            "last_delivery_error": null,
        });
        take_in(&mut job, more);
        json!({"jobs": [job], "updated_at": time(ran)})
    };
    let error = || json!({"last_status": "error", "last_error": "no model"});
    let mut look = |ran: i64, more: Value| {
        home.now = ran + MIN;
        home.write("cron/jobs.json", &job(ran, more));
        (home.look("hermes"), home.look("hermes"))
    };
    let (two, three) = (
        vec!["digest failing: failed 2 times in a row, last with \"no model\"".to_owned()],
        vec!["digest failing_repeatedly: failed 3 times in a row, last with \"no model\"".to_owned()],
    );
    assert_eq!(look(NOON, json!({})), (vec![], vec![]));
    assert_eq!(look(NOON + HOUR, error()), (vec![], vec![]));
    assert_eq!(look(NOON + 2 * HOUR, error()), (two.clone(), two));
    assert_eq!(look(NOON + 3 * HOUR, error()), (three.clone(), three));
    assert_eq!(look(NOON + 4 * HOUR, json!({})), (vec![], vec![]));
    let lost = "digest not_delivered: what its last execution said was not delivered: \"chat gone\"";
    assert_eq!(look(NOON + 5 * HOUR, json!({"last_delivery_error": "chat gone"})).0, [lost]);
    home.now += 3 * HOUR;
    assert!(home.look("hermes").iter().any(|line| line.starts_with("digest overdue: was due 2 h")));
    home.write("cron/jobs.json", &job(NOON, json!({"state": "paused"})));
    assert_eq!(home.look("hermes"), [""; 0]);
}

#[test]
fn a_job_of_hermes_that_runs_is_not_late() {
    let hourly = json!({"kind": "interval", "minutes": 60});
    let daily = json!({"kind": "cron", "expr": "0 12 * * *"});
    let half_daily = json!({"kind": "cron", "expr": "0 0,12 * * *"});
    let long = |of: &str| vec![format!("digest too_long: has been running for {of}, and nothing limits it")];
    for (name, schedule, settings, ended, next, now, want) in [
        ("runs for an hour and a half", &hourly, "", -HOUR, HOUR, 90 * MIN, vec![]),
        ("and beyond its next start", &hourly, "grace = '1m'", -HOUR, HOUR, 110 * MIN, vec![]),
        ("for too long", &hourly, "", -HOUR, HOUR, 3 * HOUR, long("3 h")),
        (
            "for longer than it may",
            &hourly,
            "max_runtime = '10m'",
            -HOUR,
            HOUR,
            15 * MIN,
            vec!["digest too_long: has been running for 15 min, at most 10m is allowed".to_owned()],
        ),
        (
            "hangs",
            &daily,
            "",
            20 * MIN - DAY,
            DAY,
            7 * HOUR,
            vec!["digest stuck: has been running for 7 h, and nothing limits it".to_owned()],
        ),
        ("is at work since noon", &daily, "", 20 * MIN - DAY, DAY, 100 * MIN, vec![]),
        ("ended an hour after its start", &daily, "", HOUR, DAY, 2 * HOUR, vec![]),
        ("ended just before a start", &half_daily, "", -30, 12 * HOUR, HOUR, vec![]),
        (
            "was not begun",
            &daily,
            "",
            20 * MIN - DAY,
            0,
            90 * MIN,
            vec!["digest late: was due 1 h 30 min ago (`0 12 * * *`), the last execution ended 1 d 1 h ago".to_owned()],
        ),
    ] {
        let mut home = Home::new();
        let time = |second: i64| at(NOON + second).to_string();
        let job = json!({
            "id": "a1", "name": "digest", "enabled": true, "state": "scheduled", "created_at": time(-9 * DAY),
            "schedule": schedule, "last_run_at": time(ended), "next_run_at": time(next), "last_status": "ok",
        });
        home.write("cron/jobs.json", &json!({"jobs": [job]}));
        (home.now, home.settings) = (NOON + now, settings.to_owned());
        let found: Vec<String> =
            home.look("hermes").into_iter().filter(|line| !line.contains("next_start_passed")).collect();
        assert_eq!(found, want, "{name}");
    }
}

#[test]
fn nanobot_keeps_a_history() {
    let mut home = Home::new();
    let run = |ago: i64, status: &str| json!({"runAtMs": (NOON - ago) * 1_000, "status": status, "durationMs": 5, "error": "no"});
    let mut jobs = job("watch", json!({}));
    jobs["state"] = json!({
        "nextRunAtMs": NOON * 1_000 + 1, "lastRunAtMs": (NOON - 30 * MIN) * 1_000, "lastStatus": "error", "lastError": "no",
        "runHistory": [run(9_000, "ok"), run(5_400, "error"), run(1_800, "error")],
    });
    home.write("workspace/cron/jobs.json", &json!({"version": 1, "jobs": [jobs]}));
    assert_eq!(home.look("nanobot"), ["watch failing: failed 2 times in a row, last with \"no\""]);
}
