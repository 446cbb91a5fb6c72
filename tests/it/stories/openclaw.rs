//! A home with OpenClaw in it, looked at by its pack: quiet while it is well, and each trap told from its harmless twin.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::{Answer, Http, Lab, Ran};

const MIN: i64 = 60_000;
const HOUR: i64 = 60 * MIN;
const DAY: i64 = 24 * HOUR;

/// The home, its gateway, and the gateway's own connection to its database, with the write-ahead log in use.
struct Claw {
    lab: Lab,
    gateway: Http,
    database: Connection,
    /// More of a job and of its state, by name.
    more: Vec<(&'static str, Value, Value)>,
    /// Profiles beside those that are well.
    profiles: Vec<(&'static str, Value)>,
    started_ms: i64,
}

/// The jobs that are well: how often each runs.
const JOBS: &[(&str, i64)] = &[("heartbeat-main", 30 * MIN), ("mail digest", HOUR), ("weekly review", 7 * DAY)];

impl Claw {
    /// All is well, and the first look was quiet.
    fn new() -> Self {
        let mut lab = Lab::new();
        // A whole hour, a minute after the jobs ran.
        lab.now = "2026-03-20T21:01:00Z".parse().unwrap();
        let folder = |name: &str| {
            std::fs::create_dir_all(lab.path(name)).unwrap();
            std::fs::set_permissions(lab.path(name), Permissions::from_mode(0o700)).unwrap();
        };
        for name in [".openclaw", ".openclaw/state", ".openclaw/agents/main/agent", ".openclaw/credentials"] {
            folder(name);
        }
        lab.write(".openclaw/openclaw.json", "{/* JSON5 */}");
        // Readable by all, and harmless.
        let lock = lab.write(".openclaw/state/gateway.1a2b.lock.sqlite", "");
        std::fs::set_permissions(lock, Permissions::from_mode(0o644)).unwrap();
        let path = lab.path(".openclaw/state/openclaw.sqlite");
        let database = Connection::open(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        database
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; PRAGMA user_version = 18;
                 CREATE TABLE schema_meta (role TEXT PRIMARY KEY, schema_version INTEGER, app_version TEXT);
                 CREATE TABLE cron_jobs (store_key TEXT, job_id TEXT, name TEXT, enabled INTEGER, agent_id TEXT,
                    payload_kind TEXT, job_json TEXT, state_json TEXT, updated_at INTEGER, PRIMARY KEY (store_key, job_id));
                 CREATE TABLE task_runs (task_id TEXT PRIMARY KEY, runtime TEXT, task_kind TEXT, source_id TEXT, status TEXT,
                    created_at INTEGER, started_at INTEGER, ended_at INTEGER, error TEXT, terminal_summary TEXT,
                    detail_json TEXT);
                 CREATE TABLE config_machine_state (key TEXT PRIMARY KEY, value_json TEXT, updated_at INTEGER);",
            )
            .unwrap();
        let gateway = Http::start(Answer::With(200, "text/html", "<html>app</html>".to_owned()));
        let pack = std::fs::read_to_string("checks/openclaw.toml").unwrap();
        let pack = pack.replace("127.0.0.1:18789", &gateway.addr().to_string());
        // What does not answer is waited for as long as a check may take: here for a second.
        lab.config(&pack.replace("uptime_ms =", "timeout = \"1s\"\nuptime_ms ="));
        let started_ms = lab.now.as_millisecond() - DAY;
        let claw = Self { lab, gateway, database, more: Vec::new(), profiles: Vec::new(), started_ms };
        claw.is_well();
        claw.writes();
        assert!(claw.lab.path(".openclaw/state/openclaw.sqlite-wal").metadata().unwrap().len() > 0);
        claw.lab.cycle().quiet();
        claw
    }

    /// The gateway answers as it does: `/health` that it lives, `/readyz` whether it is ready, all else with a web page.
    fn is_well(&self) {
        self.gateway.path("/health", Answer::With(200, JSON, r#"{"ok":true,"status":"live"}"#.to_owned()));
        let uptime = self.lab.now.as_millisecond() - self.started_ms;
        let ready = json!({"ready": true, "failing": [], "uptimeMs": uptime, "eventLoop": {"degraded": false, "delayP99Ms": 24.6}});
        self.gateway.path("/readyz", Answer::With(200, JSON, ready.to_string()));
    }

    /// The gateway writes what it knows at this time.
    fn writes(&self) {
        let now = self.lab.now.as_millisecond();
        self.database.execute_batch("DELETE FROM cron_jobs; DELETE FROM config_machine_state").unwrap();
        for (name, every) in JOBS {
            let last = now - now.rem_euclid(*every);
            let kind = if name.starts_with("heartbeat") { "heartbeat" } else { "command" };
            let mut job = json!({
                "id": format!("id-{name}"), "name": name, "enabled": true, "createdAtMs": now - 40 * DAY,
                "schedule": {"kind": "every", "everyMs": every, "anchorMs": 0}, "sessionTarget": "isolated",
                "payload": {"kind": kind}, "delivery": {"mode": "announce"}, "state": {},
            });
            let mut state = json!({
                "nextRunAtMs": last + every, "lastRunAtMs": last, "lastRunStatus": "ok", "lastStatus": "ok",
                "lastDurationMs": 161, "lastDiagnosticSummary": "done", "lastDelivered": true,
                "lastDeliveryStatus": "delivered", "consecutiveErrors": 0, "consecutiveSkipped": 0,
            });
            for (of, of_job, of_state) in self.more.iter().filter(|(of, ..)| of == name) {
                assert_eq!(of, name);
                merge(&mut job, of_job);
                merge(&mut state, of_state);
            }
            let row =
                (&job["id"], name, job["enabled"].as_bool().unwrap(), kind, job.to_string(), state.to_string(), now);
            let row = (row.0.as_str().unwrap(), row.1, row.2, row.3, row.4, row.5, row.6);
            let insert = "INSERT INTO cron_jobs VALUES ('default', ?, ?, ?, 'main', ?, ?, ?, ?)";
            self.database.execute(insert, row).unwrap();
        }
        let mut store = json!({"version": 1, "profiles": {
            "anthropic:main": {"type": "token", "provider": "anthropic", "expires": now + 300 * DAY, "token": "of no worth"},
            "openai:key": {"type": "api_key", "provider": "openai", "key": "of no worth"},
        }});
        for (id, profile) in &self.profiles {
            store["profiles"][*id] = profile.clone();
        }
        let insert = "INSERT INTO config_machine_state VALUES ('authProfiles.store', ?, ?)";
        self.database.execute(insert, (store.to_string(), now)).unwrap();
    }

    /// A look a while later, when the gateway has written.
    fn after(&mut self, minutes: i64) -> Ran {
        self.lab.pass(minutes);
        self.writes();
        self.lab.cycle()
    }

    fn job(&mut self, name: &'static str, job: Value, state: Value) -> &mut Self {
        assert!(JOBS.iter().any(|(known, _)| *known == name));
        self.more = vec![(name, job, state)];
        self
    }

    fn now(&self) -> i64 {
        self.lab.now.as_millisecond()
    }
}

const JSON: &str = "application/json; charset=utf-8";

fn merge(into: &mut Value, more: &Value) {
    for (key, value) in more.as_object().into_iter().flatten() {
        into[key] = value.clone();
    }
}

/// What the first item says.
fn item(report: &Value) -> &str {
    report["top_3"][0]["item"].as_str().unwrap()
}

/// Two looks make it yellow, three red, and it is over when it is over.
fn goes_red(answer: Answer, said: &str) {
    let mut claw = Claw::new();
    claw.gateway.path("/readyz", answer);
    // One look may meet a start.
    claw.after(15).quiet();
    let report = claw.after(15).expect("yellow", true, &["openclaw-gateway"]);
    assert!(item(&report).starts_with("openclaw-gateway: ") && item(&report).contains(said), "{report:#}");
    claw.after(15).expect("red", true, &["openclaw-gateway"]);
    claw.is_well();
    claw.after(15).expect("green", true, &["openclaw-gateway"]);
    claw.after(15).quiet();
}

const STARTING: &str = r#"{"ready":false,"failing":["startup-sidecars"],"uptimeMs":9000}"#;

#[test]
fn a_gateway_that_lives_and_is_not_ready_is_found() {
    goes_red(Answer::With(503, JSON, STARTING.to_owned()), "answered 503, expected 200-299");
    let not_ready = "answered 200, but `json.ready == true` does not hold";
    goes_red(Answer::With(200, JSON, STARTING.to_owned()), not_ready);
}

#[test]
fn a_gateway_that_answers_with_a_web_page_is_found() {
    let page = Answer::With(200, "text/html; charset=utf-8", "<html>app</html>".to_owned());
    goes_red(page, "answered 200 with \"text/html\", expected `application/json`");
}

#[test]
fn a_gateway_that_is_frozen_takes_connections_and_is_found() {
    goes_red(Answer::Silence, "takes connections but gave no answer within");
}

#[test]
fn a_slow_start_is_quiet_and_a_restart_is_said_once() {
    let mut claw = Claw::new();
    claw.gateway.path("/readyz", Answer::With(503, JSON, STARTING.to_owned()));
    claw.after(15).quiet();
    claw.started_ms = claw.now() + 14 * MIN;
    claw.lab.pass(15);
    claw.is_well();
    claw.writes();
    let report = claw.lab.cycle().expect("green", true, &["openclaw-gateway"]);
    assert!(item(&report).contains("started_at"), "{report:#}");
    claw.is_well();
    claw.after(15).quiet();
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of traps and twins")]
fn jobs_are_judged_by_their_own_schedules() {
    let boom = |times: u32, error: &str| json!({"lastRunStatus": "error", "lastStatus": "error", "lastError": error, "consecutiveErrors": times});
    let exit = "command exited with code 3";
    let restarted = "cron: job interrupted by gateway restart";
    let days = |claw: &Claw, days: i64| json!({"nextRunAtMs": claw.now() + days * DAY});
    let still = |claw: &Claw, hours: i64| json!({"lastRunAtMs": claw.now() - hours * HOUR});
    let lost = json!({"lastDelivered": false, "lastDeliveryStatus": "not-delivered"});
    let kept_back = json!({
        "lastDelivered": false, "lastDeliveryStatus": "not-delivered", "deliverySuppressionReason": "silent",
        "lastDiagnosticSummary": "NO_REPLY",
    });
    let switched_off = json!({"enabled": false});
    let auto = json!({"autoDisabled": {"reason": "consecutive-failures"}, "consecutiveErrors": 10, "lastError": exit});
    let claw = Claw::new();
    let none = Value::Null;
    let twins = vec![
        (
            "three failures",
            "mail digest",
            none.clone(),
            boom(3, exit),
            Some(("red", format!("failed 3 times in a row, last with \"{exit}\""))),
        ),
        ("one", "mail digest", none.clone(), boom(1, exit), None),
        (
            "three restarts of the gateway",
            "mail digest",
            none.clone(),
            boom(3, restarted),
            Some(("yellow", "the last 3 executions were interrupted by restarts".to_owned())),
        ),
        ("two", "mail digest", none.clone(), boom(2, restarted), None),
        (
            "switched off by its scheduler",
            "mail digest",
            switched_off.clone(),
            auto,
            Some(("red", format!("its scheduler switched it off (\"consecutive-failures\"), last with \"{exit}\""))),
        ),
        ("switched off by its owner", "mail digest", switched_off, boom(9, exit), None),
        (
            "planned days ahead",
            "mail digest",
            none.clone(),
            days(&claw, 3),
            Some((
                "yellow",
                "its scheduler means to start it only in 2 d 23 h, its schedule has two starts before".to_owned(),
            )),
        ),
        ("as its schedule says", "weekly review", none.clone(), days(&claw, 3), None),
        (
            "planned, and nothing happens",
            "mail digest",
            none.clone(),
            still(&claw, 9),
            Some(("red", "was due 8 h 16 min ago (`every 1 h`), the last start was 9 h 15 min ago".to_owned())),
        ),
        (
            "a heartbeat that stopped",
            "heartbeat-main",
            none.clone(),
            {
                let mut state = still(&claw, 9);
                merge(&mut state, &json!({"nextRunAtMs": claw.now() - 8 * HOUR}));
                state
            },
            Some(("red", "was due 8 h 46 min ago (`every 30 min`), the last start was 9 h 15 min ago".to_owned())),
        ),
        (
            "hangs",
            "mail digest",
            json!({"payload": {"kind": "agentTurn", "timeoutSeconds": 600}}),
            json!({"runningAtMs": claw.now() - HOUR}),
            Some(("red", "has been running for 1 h 15 min, its own limit is 10 min".to_owned())),
        ),
        (
            "words that were lost",
            "mail digest",
            none.clone(),
            lost,
            Some(("yellow", "what its last execution said was not delivered".to_owned())),
        ),
        ("words that were kept back", "mail digest", none, kept_back, None),
    ];
    drop(claw);
    for (name, job, more, state, want) in twins {
        let mut claw = Claw::new();
        let is_off = more == json!({"enabled": false}) && state.get("autoDisabled").is_none();
        claw.job(job, more, state);
        let ran = claw.after(15);
        match want {
            // A job that somebody switched off is well, and is told of once: nobody looks at it any more.
            None if is_off => {
                assert_eq!(
                    item(&ran.expect("green", true, &["openclaw-jobs"])),
                    "openclaw-jobs: switched_on: \"mail digest\" removed"
                );
                claw.after(15).quiet();
            }
            None => ran.quiet(),
            Some((status, said)) => {
                let report = ran.expect(status, true, &[&format!("openclaw-jobs/{job}")]);
                assert_eq!(item(&report), format!("openclaw-jobs {job}: {said}"), "{name}");
            }
        }
    }
}

#[test]
fn a_job_that_ends_well_and_says_nothing_is_found_by_its_runs() {
    let mut claw = Claw::new();
    let nothing = json!({
        "lastDiagnosticSummary": "command ok with no output: \"sh\" \"-lc\" \"true\"", "lastDelivered": false,
        "lastDeliveryStatus": "not-delivered", "deliverySuppressionReason": "empty",
    });
    claw.job("mail digest", Value::Null, nothing);
    // It runs at every hour, and is looked at in between.
    for _ in 0..7 {
        claw.after(15).quiet();
    }
    let report = claw.after(15).expect("yellow", true, &["openclaw-jobs/mail digest"]);
    assert_eq!(item(&report), "openclaw-jobs mail digest: ended well 3 times in a row and printed nothing");
    // A checker that has nothing to say, and says so.
    claw.job("mail digest", Value::Null, json!({"lastDiagnosticSummary": "HEARTBEAT_OK"}));
    claw.after(15).expect("green", true, &["openclaw-jobs/mail digest"]);
    for _ in 0..16 {
        claw.after(15).quiet();
    }
}

#[test]
fn logins_are_looked_at_whether_they_are_used_or_not() {
    let token =
        |expires: i64| json!({"type": "token", "provider": "other", "expires": expires, "token": "of no worth"});
    let oauth = |expires: i64, refresh: &str| json!({"type": "oauth", "provider": "other", "expires": expires, "access": "of no worth", "refresh": refresh});
    let now = Claw::new().now();
    for (name, profile, want) in [
        ("in 12 h", token(now + 12 * HOUR), Some(("yellow", "token expires in 11 h 45 min"))),
        ("in 60 d", token(now + 60 * DAY), None),
        ("over", token(now - DAY), Some(("red", "token expired 1 d ago"))),
        ("over, and renewed when it is needed", oauth(now - DAY, "of no worth"), None),
        ("over for good", oauth(now - DAY, ""), Some(("red", "token expired 1 d ago"))),
    ] {
        let mut claw = Claw::new();
        claw.profiles = vec![("other:unused", profile)];
        let ran = claw.after(15);
        match want {
            None => ran.quiet(),
            Some((status, said)) => {
                let report = ran.expect(status, true, &["openclaw-logins/other:unused"]);
                assert_eq!(item(&report), format!("openclaw-logins other:unused: {said}"), "{name}");
                assert!(!report.to_string().contains("of no worth"));
            }
        }
    }
}

#[test]
fn what_a_newer_version_wrote_is_unknown_and_not_well() {
    let mut claw = Claw::new();
    claw.database.execute_batch("PRAGMA user_version = 19").unwrap();
    let report = claw.after(15).expect("yellow", true, &["openclaw-jobs", "openclaw-logins"]);
    assert!(item(&report).contains("19"), "{report:#}");
    claw.database.execute_batch("PRAGMA user_version = 17").unwrap();
    claw.after(15).expect("green", true, &["openclaw-jobs", "openclaw-logins"]);
    claw.after(15).quiet();
}

#[test]
fn secrets_that_others_may_read_and_crashes_are_said() {
    let mut claw = Claw::new();
    let config = claw.lab.path(".openclaw/openclaw.json");
    std::fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    let subject = format!("openclaw-secrets/{}", config.display());
    claw.after(15).expect("red", true, &[&subject]);
    std::fs::set_permissions(&config, Permissions::from_mode(0o600)).unwrap();
    claw.after(15).expect("green", true, &[&subject]);
    claw.after(15).quiet();

    std::fs::create_dir_all(claw.lab.path(".openclaw/logs/stability")).unwrap();
    claw.after(15).quiet();
    claw.lab.write(".openclaw/logs/stability/crash-1.json", "{}");
    let report = claw.after(15).expect("green", true, &["openclaw-crashes"]);
    assert!(item(&report).contains("crash-1.json"), "{report:#}");
    claw.after(15).quiet();
}

#[test]
fn nothing_of_it_is_touched() {
    let mut claw = Claw::new();
    let names = |claw: &Claw| {
        let listing = std::fs::read_dir(claw.lab.path(".openclaw/state")).unwrap();
        let mut names: Vec<_> = listing.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names(&claw);
    // The gateway goes on writing while it is looked at.
    let writing = claw.database.unchecked_transaction().unwrap();
    writing.execute("UPDATE schema_meta SET schema_version = 18", []).unwrap();
    writing.commit().unwrap();
    for _ in 0..3 {
        claw.after(15).quiet();
    }
    assert_eq!(names(&claw), before);
}
