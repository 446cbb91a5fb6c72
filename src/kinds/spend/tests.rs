//! Looks at real files, databases and a proxy on loopback; what is counted, what is said.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::json;

use super::ledger::{Call, CallKey, Sum};
use super::prices::Tokens;
use super::*;
use crate::clock::Now;
use crate::facts::{Class, Scale};
use crate::kinds::testing::{Look as Seen, Remembered, Trial, problems, settings, web};

/// A little after two in the morning.
const NOW: &str = "2026-03-20T02:15:00Z";

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

struct Desk {
    dir: tempfile::TempDir,
    trial: Trial,
    settings: Settings,
    now: Timestamp,
}

impl Desk {
    fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut trial = Trial::new(dir.path());
        trial.host().env.insert(OsString::from("TZ"), OsString::from("UTC"));
        let toml = toml.replace("{home}", dir.path().to_str().unwrap());
        Self { trial, settings: settings::<Spend>(&toml), now: at(NOW), dir }
    }
    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
    fn add(&self, name: &str, text: &str) -> u64 {
        let path = self.path(name);
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
        text.len() as u64
    }
    fn try_look(&mut self) -> Result<Seen, Unread> {
        self.trial.look_at::<Spend>(&self.settings, Now { wall: self.now, boot: Duration::from_secs(1) })
    }
    #[track_caller]
    fn look(&mut self) -> Seen {
        self.try_look().unwrap()
    }
    /// A quarter of an hour later.
    #[track_caller]
    fn next(&mut self) -> Seen {
        self.now += jiff::SignedDuration::from_mins(15);
        self.look()
    }
}

fn wide(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

#[track_caller]
fn near(got: Option<f64>, want: f64) {
    let got = got.unwrap();
    assert!((got - want).abs() < 1e-3, "{got} instead of {want}");
}

fn scale<'a>(seen: &'a Seen, subject: &str, name: &'static str) -> Option<&'a Scale> {
    match &seen.facts.get(&Subject::new(subject), name)?.class {
        Class::Gauge(scale) => Some(scale),
        other => panic!("{other:?}"),
    }
}

/// The codes whose edge a gauge is beyond, and their words.
fn crossed(seen: &Seen) -> Vec<String> {
    let over = |fact: &crate::facts::Fact, scale: &Scale| {
        let value = fact.value.number().unwrap();
        [&scale.fail, &scale.warn].into_iter().flatten().find(|edge| value > edge.at).map(|edge| edge.code.to_string())
    };
    seen.facts
        .iter()
        .filter_map(|(subject, _, fact)| match &fact.class {
            Class::Gauge(scale) => Some(format!("{subject}: {}: {}", over(fact, scale)?, scale.says)),
            _ => None,
        })
        .collect()
}

fn claude(id: Option<&str>, request: &str, aside: bool, at: &str, output: u64) -> String {
    let line = json!({"timestamp": at, "requestId": request, "isSidechain": aside, "cwd": "/home/me/proj", "type": "assistant",
        "message": {"id": id, "model": "claude-opus-4-6", "usage": {"input_tokens": 0, "output_tokens": output}}});
    format!("{line}\n")
}

const CLAUDE: &str = "sources = [{ kind = 'claude-code', path = '{home}/.claude' }]";
const LOG: &str = ".claude/projects/-home-me-proj/s1.jsonl";

#[test]
fn only_new_bytes_are_read_and_each_call_counts_once() {
    let mut desk = Desk::new(CLAUDE);
    let half = claude(Some("m3"), "r3", false, "2026-03-20T02:12:00Z", 40_000);
    let (first, rest) = half.split_at(40);
    let mut bytes = desk.add(LOG, &claude(Some("m1"), "r1", false, "2026-03-20T01:00:00Z", 10_000));
    // A stream writes its call several times; the last one tells all.
    bytes += desk.add(LOG, &claude(Some("m2"), "r2", false, "2026-03-20T02:10:00Z", 100));
    bytes += desk.add(LOG, &claude(Some("m2"), "r2", false, "2026-03-20T02:10:01Z", 20_000));
    bytes += desk.add(LOG, "{\"type\": \"user\", \"usage\": \"\u{fffd}\"}\nnot json, \"usage\"\n");
    desk.add(LOG, first);
    let seen = desk.look();
    assert_eq!(seen.codes(), Vec::<String>::new());
    near(seen.number("", "today_usd"), 0.75);
    near(seen.number("", "hour_usd"), 0.5);
    near(seen.number("claude-code:/home/me/proj", "today_usd"), 0.75);
    assert_eq!((seen.number("", "bad_lines"), seen.number("", "repeated_calls")), (Some(1.0), Some(1.0)));
    assert!(seen.number("", "bytes_read").unwrap() >= wide(bytes));
    assert_eq!(seen.number("", "since_last_usd"), None, "nothing came before the first look");

    let seen = desk.next();
    assert_eq!((seen.number("", "bytes_read"), seen.number("", "calls")), (Some(0.0), Some(0.0)));
    near(seen.number("", "today_usd"), 0.75);

    let added = desk.add(LOG, rest) + desk.add(LOG, &claude(Some("m2"), "r2", false, "2026-03-20T02:10:02Z", 30_000));
    let seen = desk.next();
    assert_eq!(seen.number("", "bytes_read"), Some(wide(added + first.len() as u64)));
    near(seen.number("", "today_usd"), 0.25 + 0.75 + 1.0);
    near(seen.number("", "since_last_usd"), 1.25);
}

#[test]
fn copies_and_side_lines_are_the_same_calls() {
    let mut desk = Desk::new(CLAUDE);
    let early = "2026-03-20T01:00:00Z";
    desk.add(LOG, &claude(Some("m1"), "r1", false, early, 10_000));
    near(desk.look().number("", "today_usd"), 0.25);
    // Resumed in another file, seen on a side line under another request, and once more within another project.
    desk.add(".claude/projects/-home-me-proj/s2.jsonl", &claude(Some("m1"), "r1", false, early, 10_000));
    desk.add(".claude/projects/-home-me-proj/s2/subagents/a.jsonl", &claude(Some("m1"), "r9", true, early, 50_000));
    desk.add(".claude/projects/-home-me-other/s3.jsonl", &claude(Some("m1"), "r1", false, early, 10_000));
    let seen = desk.next();
    near(seen.number("", "today_usd"), 0.25);
    assert_eq!(seen.number("", "repeated_calls"), Some(3.0));
    // Their twins: another message, the same message of another request, and messages without a name.
    desk.add(LOG, &claude(Some("m2"), "r1", false, early, 10_000));
    desk.add(LOG, &claude(Some("m1"), "r2", false, early, 10_000));
    desk.add(LOG, &claude(None, "r1", false, early, 10_000).repeat(2));
    near(desk.next().number("", "today_usd"), 0.25 * 5.0);
}

#[test]
fn the_tools_own_folders_are_found_by_their_variables() {
    let mut desk = Desk::new("sources = [{ kind = 'claude-code' }, { kind = 'codex' }]");
    assert_eq!(desk.look().codes(), ["claude-code: no_source", "codex: no_source"]);
    let home = desk.dir.path().to_str().unwrap().to_owned();
    let line = |id: &str| claude(Some(id), "r", false, "2026-03-20T01:00:00Z", 10_000);
    desk.add(".claude/projects/-p/s.jsonl", &line("m1"));
    desk.add(".config/claude/projects/-p/s.jsonl", &line("m2"));
    desk.add("a/projects/-p/s.jsonl", &line("m3"));
    desk.add("b/projects/-p/s.jsonl", &line("m4"));
    near(desk.next().number("", "today_usd"), 0.5);
    desk.trial.host().env.insert("CLAUDE_CONFIG_DIR".into(), format!("{home}/a, ~/b").into());
    near(desk.next().number("", "today_usd"), 1.0);
}

fn codex(cwd: &str, second: u32, used: f64) -> String {
    let usage =
        json!({"input_tokens": 1_000_000, "cached_input_tokens": 0, "output_tokens": 0, "total_tokens": 1_000_000});
    let limit = json!({"primary": {"used_percent": used, "window_minutes": 300, "resets_at": at("2026-03-20T03:00:00Z").as_second()}});
    let lines = [
        json!({"timestamp": NOW, "type": "session_meta", "payload": {"cwd": cwd}}),
        json!({"timestamp": NOW, "type": "turn_context", "payload": {"model": "gpt-5-codex"}}),
        json!({"timestamp": format!("2026-03-20T02:10:{second:02}Z"), "type": "event_msg", "payload": {"type": "token_count",
               "info": {"total_token_usage": usage, "last_token_usage": usage}, "rate_limits": limit}}),
    ];
    lines.map(|line| line.to_string() + "\n").concat()
}

#[test]
fn codex_sessions_archives_and_quotas() {
    let mut desk = Desk::new("sources = [{ kind = 'codex', path = '{home}/.codex' }]");
    desk.add(".codex/sessions/2026/03/20/a.jsonl", &codex("/p", 1, 40.0));
    desk.add(".codex/archived_sessions/a.jsonl", &codex("/p", 1, 40.0));
    desk.add(".codex/archived_sessions/b.jsonl", &codex("/q", 2, 82.0));
    let seen = desk.look();
    near(seen.number("", "today_usd"), 2.5);
    assert_eq!((seen.number("", "files"), seen.number("", "calls")), (Some(2.0), Some(2.0)));
    near(seen.number("codex:/p", "today_usd"), 1.25);
    near(seen.number("codex primary quota", "used_pct"), 82.0);
    assert_eq!(
        crossed(&seen),
        ["codex primary quota: quota_low: 82 % of the quota of 5 h is used, it begins anew in 45 min"]
    );
    // A file that is moved is not read again; a quota that began anew is not known.
    fs::rename(desk.path(".codex/sessions/2026/03/20/a.jsonl"), desk.path(".codex/archived_sessions/a.jsonl")).unwrap();
    desk.now = at("2026-03-20T03:00:00Z");
    let seen = desk.look();
    near(seen.number("", "today_usd"), 2.5);
    assert_eq!((seen.number("", "bytes_read"), seen.number("codex primary quota", "used_pct")), (Some(0.0), None));
}

fn agent(path: &Path, version: i64) -> Connection {
    let db = Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA user_version = {version};
         CREATE TABLE session_windows (session_id TEXT NOT NULL PRIMARY KEY, session_key TEXT NOT NULL) STRICT;
         CREATE TABLE transcript_events (session_id TEXT NOT NULL, seq INTEGER NOT NULL, event_json TEXT,
             created_at INTEGER NOT NULL, event_zstd BLOB, PRIMARY KEY (session_id, seq)) STRICT;
         INSERT INTO session_windows VALUES ('s1', 'agent:main:main'), ('s2', 'agent:main:cron:dc24:run:1');"
    ))
    .unwrap();
    db
}

fn event(db: &Connection, session: &str, seq: i64, id: &str, usage: &serde_json::Value) {
    let event = json!({"type": "message", "id": id, "timestamp": "2026-03-20T02:00:00.323Z",
        "message": {"role": "assistant", "provider": "mock", "model": "m1", "content": [{"type": "text", "text": "HEARTBEAT_OK"}],
                    "usage": usage}});
    let created = at("2026-03-20T02:00:00Z").as_millisecond();
    db.execute(
        "INSERT INTO transcript_events VALUES (?1, ?2, ?3, ?4, NULL)",
        rusqlite::params![session, seq, event.to_string(), created],
    )
    .unwrap();
}

#[test]
fn openclaws_databases_row_by_row() {
    let mut desk = Desk::new("sources = [{ kind = 'openclaw', path = '{home}/.openclaw' }]");
    let path = desk.path(".openclaw/agents/main/agent/openclaw-agent.sqlite");
    let db = agent(&path, 23);
    let state = Connection::open(desk.path(".openclaw/state/openclaw.sqlite")).unwrap();
    state
        .execute_batch(
            "PRAGMA user_version = 18; CREATE TABLE cron_jobs (job_id TEXT, name TEXT); INSERT INTO cron_jobs VALUES ('dc24', 'nightly-index');",
        )
        .unwrap();
    let paid = |usd: f64| json!({"input": 9151, "output": 7, "cacheRead": 100, "cacheWrite": 0, "totalTokens": 9258, "cost": {"total": usd}});
    event(&db, "s1", 1, "e1", &paid(0.5));
    event(&db, "s2", 1, "e2", &paid(2.0));
    db.execute_batch("INSERT INTO transcript_events VALUES ('s1', 8, '{broken \"usage\"', 1773972000000, NULL)")
        .unwrap();
    let seen = desk.look();
    assert_eq!(seen.codes(), Vec::<String>::new());
    near(seen.number("", "today_usd"), 2.5);
    near(seen.number("openclaw:main", "today_usd"), 0.5);
    near(seen.number("openclaw:main/nightly-index", "today_usd"), 2.0);

    // New rows only; an event that was copied keeps its id; a row that is compressed is said.
    event(&db, "s1", 2, "e1", &paid(0.5));
    event(&db, "s1", 3, "e3", &paid(1.0));
    db.execute_batch("INSERT INTO transcript_events VALUES ('s1', 4, NULL, 1773972000000, x'28b52ffd')").unwrap();
    let seen = desk.next();
    near(seen.number("", "today_usd"), 3.5);
    assert_eq!(seen.codes(), ["partial"]);
    assert_eq!(seen.said(), "1 events are compressed: what they cost is not in the sums");
    near(desk.next().number("", "today_usd"), 3.5);

    // What it knows no price of is not free.
    event(&db, "s1", 5, "e5", &json!({"input": 500, "output": 500, "cost": {"total": 0}}));
    let seen = desk.next();
    assert_eq!(seen.codes(), ["partial", "unpriced"]);
    assert_eq!(
        seen.findings[1].said.as_str(),
        "no price is known of \"mock/m1\": 1000 tokens of today are not in the sums"
    );

    db.pragma_update(None, "user_version", 24).unwrap();
    let seen = desk.next();
    assert_eq!(seen.codes(), ["partial", "unpriced", "openclaw agent main: schema_unknown"]);
    near(seen.number("", "today_usd"), 3.5);
    let mut never = Desk::new("sources = [{ kind = 'openclaw', path = '{home}/.openclaw' }]");
    agent(&never.path(".openclaw/agents/main/agent/openclaw-agent.sqlite"), 24);
    let seen = never.look();
    assert_eq!(seen.codes(), ["openclaw agent main: schema_unknown"]);
    assert_eq!(seen.number("", "today_usd"), None, "with nothing read there is no sum");
}

#[test]
fn an_agent_that_cannot_be_read_leaves_the_others() {
    let mut desk = Desk::new("sources = [{ kind = 'openclaw', path = '{home}/.openclaw' }]");
    agent(&desk.path(".openclaw/agents/main/agent/openclaw-agent.sqlite"), 24);
    let (first, last) = ("agents/a/agent/openclaw-agent.sqlite", "agents/z/agent/openclaw-agent.sqlite");
    for (at, path) in [first, last].into_iter().enumerate() {
        let db = agent(&desk.path(&format!(".openclaw/{path}")), 23);
        event(&db, "s2", 1, &format!("e{at}"), &json!({"input": 10, "cost": {"total": 2.0}}));
        db.execute_batch("INSERT INTO transcript_events VALUES ('s1', 4, NULL, 1773972000000, x'28b52ffd')").unwrap();
    }
    for _ in 0..2 {
        let seen = desk.next();
        assert_eq!(seen.codes(), ["partial", "openclaw agent main: schema_unknown"]);
        assert_eq!((seen.number("", "today_usd"), seen.number("", "compressed_events")), (Some(4.0), Some(2.0)));
    }
}

#[test]
fn a_large_database_is_read_piece_by_piece() {
    let mut desk = Desk::new("sources = [{ kind = 'openclaw', path = '{home}/.openclaw' }]");
    let path = desk.path(".openclaw/agents/main/agent/openclaw-agent.sqlite");
    let db = Connection::open(&path).unwrap();
    // A time that is none stands far behind the first piece.
    db.execute_batch(
        r#"PRAGMA user_version = 23; CREATE TABLE transcript_events (session_id TEXT, seq INTEGER, event_json TEXT, created_at);
           WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
           INSERT INTO transcript_events SELECT 's', n, '{"message": {"usage": {"cost": {"total": 0.01}}}}',
               CASE n WHEN 4500 THEN 'soon' ELSE 1773972000000 END FROM n;"#,
    )
    .unwrap();
    let seen = desk.look();
    assert_eq!(seen.codes(), ["openclaw agent main: schema_unknown"]);
    near(seen.number("", "today_usd"), 40.0);
    db.execute_batch("UPDATE transcript_events SET created_at = 1773972000000 WHERE seq = 4500").unwrap();
    let seen = desk.next();
    assert_eq!((seen.codes(), seen.number("", "calls")), (vec![], Some(1000.0)));
    near(seen.number("", "today_usd"), 50.0);

    // Where no time is left the rest waits, and that is no error.
    let mut kept = Kept::open(Arc::new(Remembered::default())).unwrap();
    let mut ledger = Ledger::open(&mut kept, TimeZone::UTC, Prices::shipped(), desk.now).unwrap();
    let (mut rows, mut last) = (databases::Rows::default(), None);
    let main = databases::Agent { name: "main", path: &path, jobs: &BTreeMap::new(), after: None };
    databases::openclaw_agent(&mut kept, &mut ledger, "o", &main, Instant::now(), &mut rows, &mut last).unwrap();
    assert_eq!((rows.behind, rows.calls, last), (1, 0, None));
}

#[test]
fn an_older_openclaws_files() {
    let mut desk = Desk::new("sources = [{ kind = 'openclaw', path = '{home}/.openclaw' }]");
    let line = |id: &str| {
        let line = json!({"type": "message", "id": id, "timestamp": "2026-03-20T02:00:00Z", "message": {"role": "assistant",
            "model": "claude-opus-4-6", "provider": "anthropic", "usage": {"input": 0, "output": 10_000, "cost": {"total": 0.25}}}});
        format!("{line}\n")
    };
    desk.add(".openclaw/agents/main/sessions/aa.jsonl", &line("1"));
    desk.add(".openclaw/agents/main/sessions/bb.jsonl", &line("2"));
    desk.add(".openclaw/agents/main/sessions/sessions.json", r#"{"agent:main:cron:dc24": {"sessionId": "bb"}}"#);
    desk.add(".openclaw/cron/jobs.json", r#"{"jobs": [{"id": "dc24", "name": "nightly"}]}"#);
    let seen = desk.look();
    near(seen.number("openclaw:main", "today_usd"), 0.25);
    near(seen.number("openclaw:main/nightly", "today_usd"), 0.25);
}

#[test]
fn hermes_sums_grow() {
    let mut desk = Desk::new("sources = [{ kind = 'hermes', path = '{home}/.hermes' }]");
    let db = Connection::open(desk.path(".hermes/state.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE sessions (id TEXT PRIMARY KEY, source TEXT NOT NULL, model TEXT, started_at REAL NOT NULL, ended_at REAL,
             input_tokens INTEGER DEFAULT 0, output_tokens INTEGER DEFAULT 0, cache_read_tokens INTEGER DEFAULT 0,
             cache_write_tokens INTEGER DEFAULT 0, reasoning_tokens INTEGER DEFAULT 0, billing_provider TEXT,
             estimated_cost_usd REAL, actual_cost_usd REAL);",
    )
    .unwrap();
    let put = |id: &str, source: &str, started: &str, output: i64, usd: Option<f64>| {
        db.execute(
            "INSERT OR REPLACE INTO sessions (id, source, model, started_at, output_tokens, estimated_cost_usd)
             VALUES (?1, ?2, 'claude-opus-4-6', ?3, ?4, ?5)",
            rusqlite::params![id, source, crate::words::seconds(at(started).as_second()), output, usd],
        )
        .unwrap();
    };
    put("cron_ab12_20260320_010000", "cron", "2026-03-20T01:00:00Z", 10_000, None);
    put("s2", "telegram", "2026-03-19T01:00:00Z", 10_000, Some(3.0));
    put("s3", "cli", "2026-02-01T01:00:00Z", 10_000, Some(50.0));
    desk.add(".hermes/cron/jobs.json", r#"{"jobs": [{"id": "ab12", "name": "digest"}]}"#);
    let seen = desk.look();
    near(seen.number("", "today_usd"), 0.25);
    near(seen.number("hermes:cron/digest", "today_usd"), 0.25);
    near(desk.next().number("", "today_usd"), 0.25);
    // What a session grew by was spent now, however old it is; one that was rewound gives nothing back.
    put("s3", "cli", "2026-02-01T01:00:00Z", 20_000, Some(51.5));
    put("s2", "telegram", "2026-03-19T01:00:00Z", 0, Some(1.0));
    let seen = desk.next();
    near(seen.number("", "today_usd"), 1.75);
    near(seen.number("hermes:cli", "today_usd"), 1.5);
    db.execute_batch("ALTER TABLE sessions DROP COLUMN input_tokens").unwrap();
    assert_eq!(desk.next().codes(), ["hermes: schema_unknown"]);
}

fn proxied(status: &str, body: &str) -> (Seen, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (port, asked) = runtime.block_on(web(status, "application/json", body));
    let toml = format!("sources = [{{ kind = 'litellm', url = 'http://127.0.0.1:{port}/', key = 'env:PROXY_KEY' }}]");
    let mut desk = Desk::new(&toml);
    desk.trial.host().env.insert("PROXY_KEY".into(), "plain-words-of-a-test".into());
    let seen = desk.look();
    let asked = asked.lock().unwrap().clone();
    (seen, asked)
}

#[test]
fn a_litellm_proxy() {
    let row = |id: &str, spend: f64, hit: &str, alias: &str| {
        json!({"request_id": id, "spend": spend, "prompt_tokens": 900, "completion_tokens": 100, "total_tokens": 1000, "model": "m9",
               "startTime": "2026-03-20T02:00:00.000Z", "status": "success", "cache_hit": hit, "custom_llm_provider": "mock",
               "request_tags": ["User-Agent: x"], "metadata": {"user_api_key_alias": alias}, "messages": {}})
    };
    let rows = json!([row("a", 1.5, "None", "nightly"), row("a", 1.5, "None", "nightly"), row("b", 0.5, "", "chat"),
                      row("c", 0.0, "True", "chat"), {"request_id": 7}]);
    let (seen, asked) = proxied("200 OK", &rows.to_string());
    near(seen.number("", "today_usd"), 2.0);
    near(seen.number("litellm:nightly", "today_usd"), 1.5);
    assert_eq!((seen.number("", "bad_lines"), seen.codes()), (Some(1.0), vec![]));
    let line = asked[0].lines().next().unwrap();
    assert_eq!(line, "GET /spend/logs?start_date=2026-03-19&end_date=2026-03-21&summarize=false HTTP/1.1");
    assert!(asked[0].contains("authorization: Bearer plain-words-of-a-test"));

    let (seen, _) = proxied("200 OK", &json!([row("d", 0.0, "None", "chat")]).to_string());
    assert_eq!(seen.codes(), ["unpriced"], "nothing is what stands there for a model without a price");
    for (status, body, code) in [
        ("200 OK", "[]", None),
        ("200 OK", "{\"cacheStatus\": {\"status\": \"refreshing\"}, \"spend\": 0}", Some("litellm: not_usage")),
        ("200 OK", "<html>", Some("litellm: not_usage")),
        ("401 Unauthorized", "{}", Some("litellm: key_refused")),
        ("500 No", "{}", Some("litellm: bad_status")),
    ] {
        let (seen, _) = proxied(status, body);
        assert_eq!(seen.codes(), Vec::from_iter(code.map(str::to_owned)), "{status} {body}");
    }
}

const OWN: &str = "sources = [{ kind = 'jsonl', name = 'own', path = '{home}/logs/*.jsonl', \
                   fields = { time = '$.ts', cost = '$.usd', job = '$.job', id = '$.id' } }]";

fn paid(time: &str, job: &str, usd: f64) -> String {
    format!("{}\n", json!({"ts": time, "job": job, "usd": usd}))
}

/// Fourteen days: each hour of the day costs a dollar for `chat`, and `nightly` costs three dollars at two.
fn history(desk: &Desk) {
    let mut text = String::new();
    for day in 6..20 {
        for hour in 8..20 {
            text += &paid(&format!("2026-03-{day:02}T{hour:02}:30:00Z"), "chat", 1.0);
        }
        text += &paid(&format!("2026-03-{day:02}T02:05:00Z"), "nightly", 3.0);
    }
    desk.add("logs/a.jsonl", &text);
}

#[test]
fn a_job_gone_wild_is_named_and_its_busy_twin_is_not() {
    let more = "\ndaily_limit = '$100'";
    let mut usual = Desk::new(&format!("{OWN}{more}"));
    history(&usual);
    usual.add("logs/a.jsonl", &paid("2026-03-20T02:05:00Z", "nightly", 3.0));
    let seen = usual.look();
    assert_eq!((crossed(&seen), seen.codes()), (vec![], vec![]));
    near(seen.number("own:nightly", "usual_share_pct"), 20.0);
    near(seen.number("own:nightly", "share_pct"), 100.0);
    near(seen.number("", "projected_usd"), 3.0 + 3.0 / 5.25 * 21.75);

    let mut wild = Desk::new(&format!("{OWN}{more}"));
    history(&wild);
    wild.add("logs/a.jsonl", &paid("2026-03-20T00:30:00Z", "chat", 6.8));
    wild.add("logs/a.jsonl", &paid("2026-03-20T02:05:00Z", "nightly", 31.2));
    let seen = wild.look();
    assert_eq!(
        crossed(&seen),
        [
            ": projected_over_limit: $38.00 spent today, 82 % of it by \"nightly\"; at the rate of the last hours the day comes to $195.43, $100.00 is the limit",
            "own:nightly: disproportionate: $31.20 of today's $38.00 (82 %) since 02:00, its usual share is 20 %; at this rate the day comes to $195.43",
            "own:nightly: rate: $24.96 an hour, a usual busy hour costs $3.00; $31.20 today since 02:00; at this rate the day comes to $195.43",
        ]
    );
    // Beyond the limit there is nothing left to foresee.
    wild.add("logs/a.jsonl", &paid("2026-03-20T02:20:00Z", "nightly", 70.0));
    let seen = wild.next();
    assert!(
        crossed(&seen)[0]
            .starts_with(": over_limit: $108.00 spent today, 94 % of it by \"nightly\"; $100.00 is the limit")
    );
    assert_eq!(scale(&seen, "", "projected_usd").unwrap().warn, None);
    // The next day begins without it.
    wild.now = at("2026-03-21T00:05:00Z");
    assert_eq!(crossed(&wild.look()), Vec::<String>::new());
}

#[test]
fn what_is_usual_needs_a_history_of_ones_own() {
    // The only project has all of the day, on every day; a busy day of it is none of others' business.
    let mut single = Desk::new(OWN);
    for day in 6..20 {
        single.add("logs/a.jsonl", &paid(&format!("2026-03-{day:02}T10:30:00Z"), "chat", f64::from(day)));
    }
    single.add("logs/a.jsonl", &paid("2026-03-20T01:30:00Z", "chat", 45.0));
    assert_eq!(crossed(&single.look()), Vec::<String>::new());
    // A job of which nothing is known, and a history of too few days.
    let mut new = Desk::new(OWN);
    history(&new);
    new.add("logs/a.jsonl", &paid("2026-03-20T00:10:00Z", "new", 4.0));
    assert_eq!(crossed(&new.look()), Vec::<String>::new());
    let mut short = Desk::new(OWN);
    for day in 17..20 {
        short.add("logs/a.jsonl", &paid(&format!("2026-03-{day:02}T02:05:00Z"), "nightly", 1.0));
    }
    short.add("logs/a.jsonl", &paid("2026-03-20T02:05:00Z", "nightly", 31.0));
    let seen = short.look();
    assert_eq!((crossed(&seen), seen.number("own:nightly", "usual_share_pct")), (vec![], None));
    // Below the floors nothing is judged.
    let mut cheap = Desk::new(OWN);
    for day in 6..20 {
        cheap.add("logs/a.jsonl", &paid(&format!("2026-03-{day:02}T10:30:00Z"), "chat", 0.1));
        cheap.add("logs/a.jsonl", &paid(&format!("2026-03-{day:02}T10:30:00Z"), "nightly", 0.01));
    }
    cheap.add("logs/a.jsonl", &paid("2026-03-20T02:05:00Z", "nightly", 4.0));
    assert_eq!(crossed(&cheap.look()), Vec::<String>::new());
}

#[test]
fn a_new_job_that_burns_shows_in_the_rate_of_all() {
    let mut desk = Desk::new(OWN);
    history(&desk);
    desk.add("logs/a.jsonl", &paid("2026-03-20T02:10:00Z", "new", 25.0));
    assert_eq!(
        crossed(&desk.look()),
        [
            ": rate: $20.00 an hour, a usual busy hour costs $1.00; $25.00 today since 02:00, 100 % of it by \"new\"; at this rate the day comes to $128.57"
        ]
    );
}

#[test]
fn a_day_is_projected_once_two_hours_and_a_quarter_of_the_limit_are_over() {
    let first = "2026-03-20T00:30:00Z";
    for (now, usd, judged, projected) in [
        ("2026-03-20T01:59:00Z", 20.0, false, false),
        ("2026-03-20T02:00:00Z", 20.0, true, true),
        ("2026-03-20T02:00:00Z", 5.0, false, true),
        ("2026-03-20T23:59:00Z", 20.0, true, true),
    ] {
        let mut desk = Desk::new(&format!("{OWN}\ndaily_limit = 25"));
        desk.add("logs/a.jsonl", &paid(first, "chat", usd));
        desk.now = at(now);
        let seen = desk.look();
        let has = scale(&seen, "", "projected_usd").is_some_and(|scale| scale.warn.is_some());
        assert_eq!((has, seen.number("", "projected_usd").is_some()), (judged, projected), "{now} {usd}");
    }
    // The day is one of the zone.
    let mut east = Desk::new(&format!("{OWN}\ndaily_limit = 25"));
    east.trial.host().env.insert("TZ".into(), "Asia/Kolkata".into());
    east.add("logs/a.jsonl", &paid("2026-03-19T18:29:00Z", "chat", 7.0));
    east.add("logs/a.jsonl", &paid("2026-03-19T18:30:00Z", "chat", 2.0));
    near(east.look().number("", "today_usd"), 2.0);
}

#[test]
fn models_without_a_price_are_said_until_they_have_one() {
    let source = "sources = [{ kind = 'jsonl', path = '{home}/logs/*.jsonl', fields = { time = '$.ts', model = '$.m', input = '$.in' } }]";
    let line = |model: &str| format!("{}\n", json!({"ts": "2026-03-20T01:00:00Z", "m": model, "in": 100_000}));
    let mut desk = Desk::new(source);
    for model in ["gpt-5", "ollama/qwen3:32b", "gpt-5-secret"] {
        desk.add("logs/a.jsonl", &line(model));
    }
    let seen = desk.look();
    near(seen.number("", "today_usd"), 0.125);
    assert_eq!(seen.codes(), ["unpriced"]);
    assert_eq!(
        seen.said(),
        "no price is known of \"gpt-5-secret\", \"ollama/qwen3:32b\": 200000 tokens of today are not in the sums"
    );
    // Once it has a price it is no longer said, nor is a day that is over.
    let mine = r#"{"models": {"ollama/*": {"input": 0, "output": 0}, "gpt-5-secret": {"input": 10, "output": 1}}}"#;
    desk.add("prices.json", mine);
    let home = desk.dir.path().to_str().unwrap().to_owned();
    let without = std::mem::replace(
        &mut desk.settings,
        settings::<Spend>(&format!("{source}\nprices = '{{home}}/prices.json'").replace("{home}", &home)),
    );
    let seen = desk.next();
    assert_eq!((seen.codes(), seen.number("", "unpriced_tokens")), (vec![], None));
    desk.settings = without;
    assert_eq!(desk.next().codes(), ["unpriced"]);
    desk.now += jiff::SignedDuration::from_hours(24);
    let seen = desk.look();
    assert_eq!((seen.codes(), seen.number("", "unpriced_tokens")), (vec![], Some(200_000.0)));
    let mut priced = Desk::new(&format!("{source}\nprices = '{{home}}/prices.json'"));
    assert_eq!(priced.try_look().unwrap_err().code.as_str(), "prices_unreadable");
    priced.add(
        "prices.json",
        r#"{"models": {"ollama/*": {"input": 0, "output": 0}, "gpt-5-secret": {"input": 10, "output": 1}}}"#,
    );
    priced.add("logs/a.jsonl", &(line("gpt-5-secret") + &line("ollama/qwen3:32b")));
    let seen = priced.look();
    near(seen.number("", "today_usd"), 1.0);
    assert_eq!(seen.codes(), Vec::<String>::new());
}

#[test]
fn what_is_spent_while_nothing_advances() {
    // `now` alone stands in for another check: work advances until half past two.
    let edge = at("2026-03-20T02:29:00Z").as_second();
    let mut desk = Desk::new(&format!("{OWN}\nadvances = 'int(now) < {edge}'\nidle_limit = 2"));
    desk.add("logs/a.jsonl", &paid("2026-03-20T02:00:00Z", "chat", 9.0));
    assert_eq!(desk.look().facts.flag(&Subject::none(), "advances"), Some(true));
    desk.add("logs/a.jsonl", &paid("2026-03-20T02:20:00Z", "chat", 9.0));
    let seen = desk.next();
    assert_eq!(seen.facts.flag(&Subject::none(), "advances"), Some(false));
    near(seen.number("", "idle_usd"), 0.0);
    desk.add("logs/a.jsonl", &paid("2026-03-20T02:40:00Z", "chat", 3.0));
    let seen = desk.next();
    assert_eq!(
        crossed(&seen),
        [": nothing_advances: $3.00 spent since 2026-03-20 02:30 UTC while nothing advances, $2.00 is allowed"]
    );
    let mut broken = Desk::new(&format!("{OWN}\nadvances = 'now'"));
    broken.add("logs/a.jsonl", &paid(NOW, "chat", 1.0));
    assert_eq!(broken.look().codes(), ["advances: condition_error"]);
}

#[test]
fn what_lies_in_place_of_a_log() {
    let mut desk = Desk::new(OWN);
    assert_eq!(desk.look().codes(), ["own: no_source"]);
    let fifo = desk.path("logs/fifo.jsonl");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(desk.next().codes(), ["own: not_a_file"]);
    // A link out of the folder is not followed, and a log beside it is read.
    let outside = tempfile::tempdir().unwrap();
    files::replace(&outside.path().join("x.jsonl"), paid(NOW, "chat", 7.0).as_bytes(), 0o600).unwrap();
    std::os::unix::fs::symlink(outside.path().join("x.jsonl"), desk.path("logs/link.jsonl")).unwrap();
    desk.add("logs/a.jsonl", &paid(NOW, "chat", 1.0));
    let seen = desk.next();
    assert_eq!((seen.codes(), seen.number("", "passed_over")), (vec![], Some(2.0)));
    near(seen.number("", "today_usd"), 1.0);
    // The same with the folders of a tool.
    let mut tool = Desk::new(CLAUDE);
    tool.add(LOG, &claude(Some("m1"), "r1", false, NOW, 10_000));
    std::os::unix::fs::symlink(outside.path(), tool.path(".claude/projects/-home-me-link")).unwrap();
    let seen = tool.look();
    assert_eq!((seen.number("", "files"), seen.number("", "passed_over")), (Some(1.0), Some(1.0)));

    let mut other = Desk::new(OWN);
    other.add("logs/a.jsonl", "{\"event\": \"started\"}\n{\"ts\": \"2026-03-20T02:00:00Z\"}\n");
    let seen = other.look();
    assert_eq!(
        (seen.codes(), seen.said()),
        (vec!["own: no_usage".to_owned()], "2 lines were read and none has the fields that `fields` names")
    );
    let mut garbage = Desk::new(OWN);
    garbage.add("logs/a.jsonl", &("nonsense\n".repeat(12) + &paid(NOW, "chat", 1.0)));
    assert_eq!(garbage.look().codes(), ["unreadable_lines"]);
}

#[test]
fn what_cannot_be_read_does_not_hide_what_was_spent() {
    let mut desk = Desk::new(&format!("{OWN}\ndaily_limit = 25"));
    history(&desk);
    desk.add("logs/a.jsonl", &paid("2026-03-20T02:05:00Z", "nightly", 300.0));
    desk.look();
    // A file that went unreadable: here a name that leads nowhere readable, since root may read all.
    let other = desk.path("logs/b.jsonl");
    files::replace(&other, paid(NOW, "chat", 1.0).as_bytes(), 0o600).unwrap();
    let mut kept = Kept::open(Arc::new(Remembered::default())).unwrap();
    let mut ledger = Ledger::open(&mut kept, TimeZone::UTC, Prices::shipped(), desk.now).unwrap();
    let mut listing = Listing::default();
    listing.glob(&desk.dir.path().join("logs/*.jsonl")).unwrap();
    let fields = desk.settings.sources[0].fields.clone().unwrap();
    let task = |file: &logs::Found| Task {
        source: 0,
        file: file.clone(),
        format: Format::Jsonl { job: "a".into(), fields: &fields },
    };
    let tasks: Vec<Task<'_>> = listing.files.iter().map(task).collect();
    fs::remove_file(&other).unwrap();
    let until = Until { stop: Instant::now() + Duration::from_mins(1), now: desk.now };
    let tally = logs::read(&mut kept, &mut ledger, &["own".to_owned()], tasks, until, true).unwrap().remove(0);
    assert_eq!((tally.files, tally.read, tally.unread.is_some()), (2, 1, true));

    // One source cannot be read at all, and of the other a folder: the limit is judged, shares and rates are not.
    let two = "sources = [{ kind = 'jsonl', name = 'own', path = '{home}/logs/*.jsonl', \
               fields = { time = '$.ts', cost = '$.usd', job = '$.job' } }, \
               { kind = 'claude-code', path = '{home}/.claude' }]\ndaily_limit = 25";
    let mut desk = Desk::new(two);
    history(&desk);
    desk.add("logs/a.jsonl", &paid("2026-03-20T02:05:00Z", "nightly", 300.0));
    let seen = desk.look();
    assert_eq!(seen.codes(), ["claude-code: no_source"]);
    let crossed = crossed(&seen);
    assert!(crossed.len() == 1 && crossed[0].starts_with(": over_limit: $300.00 spent today"), "{crossed:?}");
    let mut deep = Desk::new(&format!("{CLAUDE}\ndaily_limit = 25"));
    deep.add(LOG, &claude(Some("m1"), "r1", false, "2026-03-20T01:00:00Z", 12_000_000));
    deep.path(".claude/projects/1/2/3/4/5/6/7/8/9/10/x.jsonl");
    let seen = deep.look();
    assert_eq!(seen.codes(), ["claude-code: too_many_files"]);
    near(seen.number("", "today_usd"), 300.0);
}

#[test]
fn files_from_before_the_days_that_are_kept_are_left_alone() {
    let mut desk = Desk::new(OWN);
    desk.add("logs/old.jsonl", &paid(NOW, "chat", 7.0));
    let old = std::time::SystemTime::from(at("2026-03-01T00:00:00Z"));
    fs::File::options().append(true).open(desk.path("logs/old.jsonl")).unwrap().set_modified(old).unwrap();
    desk.add("logs/new.jsonl", &(paid("2026-03-05T23:59:59Z", "chat", 5.0) + &paid(NOW, "chat", 1.0)));
    let seen = desk.look();
    assert_eq!(seen.number("", "files"), Some(1.0));
    near(seen.number("", "today_usd"), 1.0);
}

#[test]
fn where_time_runs_out_the_rest_is_said_and_read_later() {
    let mut desk = Desk::new(OWN);
    history(&desk);
    desk.add("logs/a.jsonl", &paid("2026-03-20T02:05:00Z", "nightly", 31.2));
    let size = fs::metadata(desk.path("logs/a.jsonl")).unwrap().len();
    let memory = Remembered::default();
    let mut kept = Kept::open(Arc::new(memory.clone())).unwrap();
    let mut ledger = Ledger::open(&mut kept, TimeZone::UTC, Prices::shipped(), desk.now).unwrap();
    let mut listing = Listing::default();
    listing.glob(&desk.dir.path().join("logs/*.jsonl")).unwrap();
    let fields = desk.settings.sources[0].fields.clone().unwrap();
    let tasks: Vec<Task<'_>> = listing
        .files
        .iter()
        .map(|file| Task { source: 0, file: file.clone(), format: Format::Jsonl { job: "a".into(), fields: &fields } })
        .collect();
    let until = Until { stop: Instant::now(), now: desk.now };
    let tallies = logs::read(&mut kept, &mut ledger, &["own".to_owned()], tasks, until, true).unwrap();
    assert_eq!((tallies[0].left, tallies[0].bytes, ledger.added), (size, 0, Sum::default()));

    // What waits is said, and shares are not judged meanwhile.
    let all = figures::figures(&mut ledger, desk.now, &TimeZone::UTC);
    let mut facts = Facts::new();
    facts::put(&desk.settings, &all, &Looked { left_bytes: size, ..Looked::default() }, &mut facts);
    assert_eq!(assess(&facts)[0].code.as_str(), "behind");
    let whole = desk.look();
    assert_eq!(whole.codes(), Vec::<String>::new());
    assert_eq!(crossed(&whole).len(), 2);
}

#[test]
fn bad_settings_are_refused() {
    for (toml, said) in [
        ("sources = []", "sources: expected a source, like `{ kind = \"claude-code\" }`"),
        (
            "sources = [{ kind = 'claude' }]",
            "unknown variant `claude`, expected one of `claude-code`, `codex`, `openclaw`, `hermes`, `litellm`, `jsonl`",
        ),
        (
            "sources = [{ kind = 'codex' }, { kind = 'codex' }]",
            "sources: two sources are called `codex` (give each a `name` of its own)",
        ),
        ("sources = [{ kind = 'codex', url = 'http://a' }]", "sources: `url` says nothing to a source of kind `codex`"),
        (
            "sources = [{ kind = 'litellm' }]",
            "sources: a source of kind `litellm` needs a `url` like `http://127.0.0.1:4000`",
        ),
        ("sources = [{ kind = 'jsonl', path = '/a' }]", "sources: a source of kind `jsonl` needs `path` and `fields`"),
        (
            "sources = [{ kind = 'jsonl', path = '/a', fields = { time = '$.t', input = '$.i' } }]",
            "sources: `fields` needs `cost`, or `model` and tokens (`input`, `output` …)",
        ),
        (
            "sources = [{ kind = 'hermes', path = '/a/*' }]",
            "sources: a source of kind `hermes` needs the `path` of one folder, found wildcards",
        ),
        (
            "sources = [{ kind = 'codex', name = 'a b' }]",
            "sources: expected a `name` of letters, digits, `.`, `_` and `-`, at most 64",
        ),
        ("sources = [{ kind = 'codex' }]\ndaily_limit = 0", "daily_limit: expected more than $0"),
        (
            "sources = [{ kind = 'codex' }]\nrate_warn = 1",
            "rate_warn: expected a number above 1, how many times the usual rate is too much",
        ),
        ("sources = [{ kind = 'codex' }]\nshare_warn = 0", "share_warn: expected points above 0 and up to 100"),
        (
            "sources = [{ kind = 'codex' }]\nquota = { warn = 99 }",
            "quota: expected percentages above 0 and up to 100, `warn` not above `fail`",
        ),
        (
            "sources = [{ kind = 'codex' }]\nprices = '/p/*.json'",
            "prices: expected the path of one file, found wildcards",
        ),
    ] {
        assert_eq!(problems::<Spend>(toml), [said], "{toml}");
    }
    let both = "sources = [{ kind = 'codex' }, { kind = 'codex', name = 'work', path = '~/work/.codex' }]\nquota = { fail = 90 }";
    assert_eq!(problems::<Spend>(both), Vec::<String>::new());
}

/// One line of a log, as the property makes them.
#[derive(Debug, Clone)]
struct Line {
    message: Option<u64>,
    request: u32,
    aside: bool,
    minute: i64,
    output: u64,
    model: bool,
    job: u8,
}

fn line() -> impl Strategy<Value = Line> {
    let keys = (proptest::option::weighted(0.8, 0..6_u64), 0..3_u32, any::<bool>());
    (keys, (0..50_i64, 0..4_u64, any::<bool>(), 0..3_u8)).prop_map(
        |((message, request, aside), (minute, output, model, job))| Line {
            // Copies of a message stand within an hour of one another, here around midnight.
            minute: message.map_or(minute * 60, |message| message.cast_signed() + minute),
            message,
            request,
            aside,
            output: output * 1_000,
            model,
            job,
        },
    )
}

/// What lines come to that are taken in `reads`, each a look of its own: by day, job and hour.
fn sums(lines: &[Line], reads: usize) -> Vec<(i64, String, i8, Sum)> {
    let mut memory = Remembered::default();
    let now = at("2026-03-22T00:00:00Z");
    let begin = at("2026-03-19T23:30:00Z");
    let each = lines.len().div_ceil(reads).max(1);
    let mut last = Vec::new();
    for part in lines.chunks(each) {
        let mut kept = Kept::open(Arc::new(memory.clone())).unwrap();
        let mut ledger = Ledger::open(&mut kept, TimeZone::UTC, Prices::shipped(), now).unwrap();
        for line in part {
            let call = Call {
                at: begin + jiff::SignedDuration::from_mins(line.minute),
                job: ["a", "b", "c"][usize::from(line.job)],
                model: if line.model { "claude-opus-4-6" } else { "nobody-knows" },
                tokens: Tokens { output: line.output, ..Tokens::default() },
                usd: None,
                fast: false,
                key: line.message.map(|message| CallKey { message, request: line.request, aside: line.aside }),
            };
            ledger.take(&mut kept, "s", &call).unwrap();
        }
        ledger.close(&mut kept);
        last.clear();
        for day in ledger.day_and_hour(begin).0..=ledger.day_and_hour(now).0 {
            let Some(sums) = ledger.day(day) else { continue };
            for job in sums.jobs() {
                let name = ledger.job(job).unwrap().id.clone();
                last.extend(sums.hours(job).map(|(hour, sum)| (day, name.clone(), hour, sum)));
            }
        }
        memory.take_in(kept.close("seen/").0);
    }
    last.sort_by(|a, b| (a.0, &a.1, a.2).cmp(&(b.0, &b.1, b.2)));
    last
}

proptest! {
    #[test]
    fn sums_do_not_depend_on_the_order_nor_on_how_often_a_line_is_read(
        lines in proptest::collection::vec(line(), 1..30),
        seed in any::<u64>(),
        reads in 1..5_usize,
    ) {
        let want = sums(&lines, 1);
        // Shuffled, those with a key read once more, and in several looks.
        let again = lines.iter().filter(|line| line.message.is_some()).cloned();
        let mut other: Vec<Line> = lines.iter().cloned().chain(again).collect();
        let len = other.len();
        let mut state = seed;
        for at in 0..len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            other.swap(at, usize::try_from(state >> 33).unwrap() % len);
        }
        prop_assert_eq!(sums(&other, reads), want);
    }
}

#[test]
fn what_is_kept_stays_within_its_bounds() {
    let mut kept = Kept::open(Arc::new(Remembered::default())).unwrap();
    for day in 0..20 {
        kept.put(&format!("seen/{day:02}/0"), vec![0; 1 << 20]);
    }
    kept.put("large", vec![0; (1 << 20) + 1]);
    kept.put_json("state", &1);
    let (remember, gone) = kept.close("seen/");
    let bytes: usize = remember.iter().filter_map(|(_, value)| value.as_ref().map(Vec::len)).sum();
    assert!(bytes < 16 << 20 && gone == 7, "{bytes} {gone}");
    let value = |name: &str| remember.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.clone());
    assert_eq!((value("seen/05/0"), value("large"), value("state")), (None, None, Some(b"1".to_vec())));
    assert!(value("seen/19/0").is_some());

    // Keys are dropped before they are too many, those of the oldest days first.
    let mut memory = Remembered::default();
    let mut kept = Kept::open(Arc::new(memory.clone())).unwrap();
    let mut ledger = Ledger::open(&mut kept, TimeZone::UTC, Prices::shipped(), at(NOW)).unwrap();
    for n in 0..300_000_u64 {
        let time = at(if n < 100_000 { "2026-03-19T02:00:00Z" } else { NOW });
        let key = CallKey { message: super::ledger::hash(&[&n.to_le_bytes()]), request: 0, aside: false };
        let tokens = Tokens { output: 1, ..Tokens::default() };
        let call = Call { at: time, job: "a", model: "gpt-5", tokens, usd: None, fast: false, key: Some(key) };
        ledger.take(&mut kept, "s", &call).unwrap();
    }
    ledger.close(&mut kept);
    assert!(ledger.forgotten >= 20_000 && ledger.forgotten < 40_000, "{}", ledger.forgotten);
    let (remember, gone) = kept.close("seen/");
    assert_eq!(gone, 0);
    assert!(remember.iter().all(|(_, value)| value.as_ref().is_none_or(|value| value.len() <= 1 << 20)));
    memory.take_in(remember);
    assert!(memory.0.values().map(Vec::len).sum::<usize>() < 15 << 20);
}
