//! The logins of agents, in the shapes that they have on a host.

use std::fs::File;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::{Token, band, now, parse, problems};
use crate::clock::Now;
use crate::facts::{Subject, Unread};
use crate::host::files;
use crate::kinds::testing::{Look, Trial, settings};

const HOUR: i64 = 3_600;

/// Stands for every token: nothing that is kept or shown may have it.
const SECRET: &str = "value-of-a-token";

struct Home {
    dir: tempfile::TempDir,
    trial: Trial,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { trial: Trial::new(dir.path()), dir }
    }
    fn path(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }
    fn write(&self, name: &str, document: &Value) {
        files::replace(&self.path(name), document.to_string().as_bytes(), 0o600).unwrap();
    }
    fn look_in(&mut self, hours: i64, toml: &str) -> Result<Look, Unread> {
        let wall = now() + jiff::SignedDuration::from_hours(hours);
        let look = self.trial.look_at::<Token>(&settings::<Token>(toml), Now { wall, boot: std::time::Duration::ZERO });
        assert!(!format!("{look:?}").contains(SECRET), "{look:?}");
        look
    }
    fn look(&mut self, toml: &str) -> Look {
        self.look_in(0, toml).unwrap()
    }
}

fn in_ms(secs: i64) -> i64 {
    now().as_millisecond() + secs * 1_000
}

/// Profiles as OpenClaw keeps them: the type, the seconds until its end, a refresh token.
fn store(profiles: &[(&str, &str, Option<i64>, bool)]) -> Value {
    let mut store = json!({"version": 1, "profiles": {}});
    for (id, kind, left, refresh) in profiles {
        let mut profile = json!({"type": kind, "provider": id.split(':').next().unwrap(), "token": SECRET});
        if let Some(left) = left {
            profile["expires"] = in_ms(*left).into();
        }
        if *refresh {
            profile["refresh"] = SECRET.into();
        }
        store["profiles"][*id] = profile;
    }
    store
}

fn state_database(path: &Path, version: i64, store: &Value) {
    let database = Connection::open(path).unwrap();
    database
        .execute_batch(&format!(
            "PRAGMA user_version = {version};
             CREATE TABLE IF NOT EXISTS config_machine_state (key TEXT PRIMARY KEY, value TEXT, updated_at INTEGER);
             DELETE FROM config_machine_state; INSERT INTO config_machine_state VALUES ('other', '{{\"profiles\": 1}}', 5);"
        ))
        .unwrap();
    let row = ("authProfiles.store", store.to_string());
    database.execute("INSERT INTO config_machine_state VALUES (?, ?, 7)", row).unwrap();
}

fn agent_database(path: &Path, version: i64, store: &Value) {
    let database = Connection::open(path).unwrap();
    let tables = "CREATE TABLE auth_profile_store (store_key TEXT, store_json TEXT, updated_at INTEGER)";
    database.execute_batch(&format!("PRAGMA user_version = {version}; {tables}")).unwrap();
    database.execute("INSERT INTO auth_profile_store VALUES ('main', ?, 7)", [store.to_string()]).unwrap();
}

/// The band of each subject that has one.
fn bands(look: &Look) -> Vec<String> {
    let of = |subject: &Subject| Some(format!("{subject}: {}", band(&look.facts, subject)?));
    look.facts.subjects().iter().filter_map(of).collect()
}

const OPENCLAW: &str = "source = 'openclaw'";

#[test]
fn each_profile_of_openclaw_is_a_subject_in_use_or_not() {
    let profiles = [
        ("anthropic:unused", "token", Some(12 * HOUR), false),
        ("anthropic:long", "token", Some(300 * 24 * HOUR), false),
        ("github:over", "token", Some(-HOUR), false),
        ("openai-codex:me", "oauth", Some(-9 * HOUR), true),
        ("qwen:broken", "oauth", Some(-9 * HOUR), false),
        ("openai:key", "api_key", None, false),
        ("static:token", "token", None, false),
    ];
    let want = ["anthropic:unused: expires_soon", "github:over: expired", "qwen:broken: expired"];

    let mut home = Home::new();
    state_database(&home.path(".openclaw/state/openclaw.sqlite"), 18, &store(&profiles));
    let look = home.look(OPENCLAW);
    assert_eq!(bands(&look), want);
    assert_eq!((look.number("", "profiles"), look.number("", "endless")), (Some(5.0), Some(2.0)));
    assert_eq!(look.codes(), [""; 0]);

    let mut home = Home::new();
    agent_database(&home.path(".openclaw/agents/main/agent/openclaw-agent.sqlite"), 23, &store(&profiles));
    assert_eq!(bands(&home.look(OPENCLAW)), want);

    let mut home = Home::new();
    home.write(".openclaw/agents/main/agent/auth-profiles.json", &store(&profiles));
    assert_eq!(bands(&home.look(OPENCLAW)), want);
    let elsewhere = format!("{OPENCLAW}\npath = '{}'", home.dir.path().join(".openclaw").display());
    assert_eq!(bands(&home.look(&elsewhere)), want);
}

#[test]
fn agents_with_different_profiles_of_one_id_are_told_apart() {
    let mut home = Home::new();
    let one = |left: i64| store(&[("anthropic:me", "token", Some(left), false)]);
    state_database(&home.path(".openclaw/state/openclaw.sqlite"), 18, &one(HOUR));
    agent_database(&home.path(".openclaw/agents/main/agent/openclaw-agent.sqlite"), 23, &one(HOUR));
    assert_eq!(bands(&home.look(OPENCLAW)), ["anthropic:me: expires_soon"]);
    home.write(".openclaw/agents/other/agent/auth-profiles.json", &one(-HOUR));
    let bands = bands(&home.look(OPENCLAW));
    assert_eq!(bands, ["anthropic:me: expires_soon", "main/anthropic:me: expires_soon", "other/anthropic:me: expired"]);
}

#[test]
fn a_store_that_is_not_known_is_unknown() {
    let mut home = Home::new();
    assert_eq!(home.look_in(0, OPENCLAW).unwrap_err().code.as_str(), "token_file_missing");
    let good = store(&[("anthropic:me", "token", Some(HOUR), false)]);
    let state = home.path(".openclaw/state/openclaw.sqlite");
    state_database(&state, 19, &good);
    assert_eq!(home.look_in(0, OPENCLAW).unwrap_err().code.as_str(), "schema_unknown");
    state_database(&state, 18, &json!({"version": 2, "sealed": SECRET}));
    assert_eq!(home.look_in(0, OPENCLAW).unwrap_err().code.as_str(), "bad_token");
    state_database(&state, 18, &good);
    // One agent that is newer leaves the others as they are.
    agent_database(&home.path(".openclaw/agents/new/agent/openclaw-agent.sqlite"), 24, &good);
    home.write(".openclaw/agents/odd/agent/auth-profiles.json", &json!({"profiles": {"x:y": {"expires": SECRET}}}));
    let look = home.look(OPENCLAW);
    assert_eq!(look.codes(), ["agent new: schema_unknown", "x:y: bad_token"]);
    assert_eq!(bands(&look), ["anthropic:me: expires_soon"]);
    // A database of before profiles were kept in it has none.
    Connection::open(&state).unwrap().execute_batch("DROP TABLE config_machine_state").unwrap();
    assert_eq!(home.look(OPENCLAW).number("", "profiles"), Some(0.0));
}

fn jwt(left: i64) -> String {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part("{}"), part(&format!("{{\"exp\": {}}}", now().as_second() + left)), SECRET)
}

#[test]
fn claude_code_and_codex_keep_one_login_or_none_in_a_file() {
    let claude = |left: i64, refresh: &str| json!({"claudeAiOauth": {"accessToken": SECRET, "refreshToken": refresh, "expiresAt": in_ms(left), "scopes": []}});
    let codex = |left: i64, refresh: &str| {
        json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": null, "last_refresh": "2026-04-01T00:00:00Z",
               "tokens": {"id_token": "x", "access_token": jwt(left), "refresh_token": refresh, "account_id": "x"}})
    };
    for (source, file, document, login, want) in [
        ("claude-code", ".claude/.credentials.json", claude(-HOUR, SECRET), "oauth", None),
        ("claude-code", ".claude/.credentials.json", claude(-HOUR, ""), "oauth", Some("expired")),
        ("claude-code", ".claude/.credentials.json", claude(HOUR, ""), "oauth", Some("expires_soon")),
        ("claude-code", ".claude/.credentials.json", json!({"mcpOAuth": {}}), "none here", None),
        ("codex", ".codex/auth.json", codex(-HOUR, SECRET), "oauth", None),
        ("codex", ".codex/auth.json", codex(-HOUR, ""), "oauth", Some("expired")),
        ("codex", ".codex/auth.json", json!({"OPENAI_API_KEY": SECRET, "tokens": null}), "api key", None),
        ("codex", ".codex/auth.json", json!({"OPENAI_API_KEY": null}), "none here", None),
    ] {
        let mut home = Home::new();
        let toml = format!("source = '{source}'");
        // Where there is no file, a keychain has it.
        let without = home.look(&toml);
        assert_eq!((without.text("", "login"), without.codes().len()), (Some("none here"), 0));
        home.write(file, &document);
        let look = home.look(&toml);
        assert_eq!(look.text("", "login"), Some(login), "{source}");
        assert_eq!(band(&look.facts, &Subject::none()).as_deref(), want, "{source} {login}");
        assert_eq!(look.codes(), [""; 0]);

        files::replace(&home.path(file), b"{\"tokens\": {", 0o600).unwrap();
        assert_eq!(home.look_in(0, &toml).unwrap_err().code.as_str(), "bad_token");
    }
    let mut home = Home::new();
    home.write(".codex/auth.json", &json!({"tokens": {"access_token": SECRET}}));
    assert_eq!(home.look("source = 'codex'").codes(), ["bad_token"]);
}

#[test]
fn somebody_away_is_left_alone_and_a_wedged_refresh_is_said() {
    let mut home = Home::new();
    let toml = "source = 'claude-code'\nrefresh_within = '2h'\nused_path = '~/.claude/projects/*'";
    let login = |ends: i64| json!({"claudeAiOauth": {"accessToken": SECRET, "refreshToken": SECRET, "expiresAt": in_ms(ends * HOUR)}});
    home.write(".claude/.credentials.json", &login(1));
    let used_at = |home: &Home, hours: i64| {
        let file = File::create(home.path(".claude/projects/one/a.jsonl")).unwrap();
        file.set_modified((now() + jiff::SignedDuration::from_hours(hours)).into()).unwrap();
    };
    let look = |home: &mut Home, hours: i64| {
        let look = home.look_in(hours, toml).unwrap();
        let fact = look.facts.get(&Subject::none(), "used_s").unwrap().clone();
        let crate::facts::Class::Gauge(scale) = &fact.class else { panic!() };
        let used = fact.value.number().unwrap();
        let edge = scale.fail.as_ref().filter(|edge| used > edge.at);
        assert_eq!(band(&look.facts, &Subject::none()), None);
        edge.map(|edge| format!("{}: {}", edge.code, scale.says))
    };
    // In use before its end, then idle for a day.
    used_at(&home, 0);
    assert_eq!(look(&mut home, 0), None);
    assert_eq!(look(&mut home, 25), None);
    // Back after that: the refresh has its time.
    used_at(&home, 25);
    assert_eq!(look(&mut home, 25), None);
    assert_eq!(look(&mut home, 40), None);
    used_at(&home, 26);
    assert_eq!(look(&mut home, 26), None);
    used_at(&home, 28);
    let said = "not_refreshed: token expired and was not refreshed, though it has been in use for 3 h since";
    assert_eq!(look(&mut home, 28).as_deref(), Some(said));
    // It was refreshed; its next end counts anew.
    home.write(".claude/.credentials.json", &login(29));
    assert_eq!(look(&mut home, 28), None);
    used_at(&home, 30);
    assert_eq!(look(&mut home, 30), None);
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    for (toml, key, said) in [
        (
            "source = 'codex'\nfile = '/a'\nexpiry_path = '$.e'",
            "file",
            "`source` and `file` exclude each other (make it two checks)",
        ),
        ("jwt = 'env:T'\npath = '/a'", "path", "`path` belongs to `source`, which is not there"),
        (
            "source = 'codex'\nused_path = '/a'",
            "used_path",
            "`used_path` belongs to `refresh_within`, which is not there",
        ),
        ("source = 'codex'\npath = 'a'", "path", "expected a folder that begins with `/` or `~/`"),
    ] {
        assert_eq!(problems(&parse(toml)), [(key.to_owned(), said.to_owned())], "{toml}");
    }
}
