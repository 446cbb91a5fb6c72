//! Where agents keep their logins: OpenClaw's profiles, Claude Code's and Codex' files. Only types and dates leave this
//! module, never a token.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::read::{self, Dates};
use crate::clean;
use crate::facts::{Subject, Unread};
use crate::host::{files, theirs};
use crate::kinds::homes::{self, OPENCLAW_AGENT, OPENCLAW_STATE};
use crate::kinds::moment::moment;
use crate::kinds::remote::MAX_JSON_DEPTH;
use crate::read::json::parse;

/// Agents whose stores are read.
const MAX_AGENTS: usize = 100;
/// Rows of a small table that are looked through.
const MAX_ROWS: u32 = 2_000;
/// Bytes of a store.
const MAX_STORE_BYTES: usize = 1 << 20;
/// The key of OpenClaw's shared profiles.
const SHARED: &str = "authProfiles.store";

/// Whose logins are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// OpenClaw's profiles, shared and of each agent: in its databases, or in the files that it kept before.
    Openclaw,
    /// Claude Code's login in `.credentials.json`.
    ClaudeCode,
    /// Codex' login in `auth.json`.
    Codex,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Logins {
    pub profiles: BTreeMap<Subject, Dates>,
    pub unread: BTreeMap<Subject, Unread>,
    /// Profiles that have no end (API keys), or tell none.
    pub endless: usize,
    /// Agents beyond [`MAX_AGENTS`].
    pub agents_left_out: usize,
    /// Of a single login: `oauth`, `api key` or `none here`.
    pub login: Option<&'static str>,
}

/// Claude Code's login; without the file it is in the system's keychain, or there is none.
pub(super) fn claude_code(document: Option<&Value>) -> Logins {
    let login = document.and_then(|document| document.get("claudeAiOauth")).filter(|login| login.is_object());
    let Some(login) = login else { return Logins { login: Some("none here"), ..Logins::default() } };
    let mut logins = Logins { login: Some("oauth"), ..Logins::default() };
    let has_refresh = Some(is_there(login.get("refreshToken")));
    match date(login, "expiresAt") {
        Ok(expires) => drop(logins.profiles.insert(Subject::none(), Dates { expires, issued: None, has_refresh })),
        Err(unread) => drop(logins.unread.insert(Subject::none(), unread)),
    }
    logins
}

/// Codex' login; without the file it is in the system's keyring, or there is none.
pub(super) fn codex(document: Option<&Value>) -> Logins {
    let tokens = document.and_then(|document| document.get("tokens")).filter(|tokens| tokens.is_object());
    let Some(tokens) = tokens else {
        let by_key = document.is_some_and(|document| is_there(document.get("OPENAI_API_KEY")));
        let login = if by_key { "api key" } else { "none here" };
        return Logins { login: Some(login), endless: usize::from(by_key), ..Logins::default() };
    };
    let mut logins = Logins { login: Some("oauth"), ..Logins::default() };
    let access = tokens.get("access_token").and_then(Value::as_str).unwrap_or_default();
    match read::jwt(access) {
        Ok(dates) => {
            let has_refresh = Some(is_there(tokens.get("refresh_token")));
            logins.profiles.insert(Subject::none(), Dates { has_refresh, ..dates });
        }
        Err(unread) => drop(logins.unread.insert(Subject::none(), unread)),
    }
    logins
}

fn is_there(token: Option<&Value>) -> bool {
    token.and_then(Value::as_str).is_some_and(|token| !token.is_empty())
}

/// A date that may be missing, but not be something else.
fn date(of: &Value, key: &str) -> Result<Option<Timestamp>, Unread> {
    let found = of.get(key).filter(|value| !value.is_null());
    let date = found.and_then(moment);
    let means_nothing = found.and_then(Value::as_f64).is_some_and(|number| number <= 0.0);
    if found.is_some() && date.is_none() && !means_nothing {
        return Err(Unread::blind("bad_token", clean!("what is at `{key}` is not a time")));
    }
    Ok(date)
}

/// OpenClaw's profiles. Blocking.
pub(super) fn openclaw(folder: &Path, deadline: Instant) -> Result<Logins, Unread> {
    let mut logins = Logins::default();
    // Profiles of one id, each with the store that it is from.
    let mut found: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    let mut take_in = |store: &str, document: &Value| {
        for (id, profile) in document.get("profiles").and_then(Value::as_object).into_iter().flatten() {
            found.entry(id.clone()).or_default().push((store.to_owned(), profile.clone()));
        }
    };
    let shared = folder.join("state/openclaw.sqlite");
    let has_shared = files::stat(&shared)?.is_some();
    if has_shared {
        for document in shared_store(&shared, deadline)? {
            take_in("", &document);
        }
    }
    let (agents, _) = files::glob(&folder.join("agents/*/agent"), MAX_AGENTS * 10)?;
    if !has_shared && agents.is_empty() {
        let said = clean!("there is no state of OpenClaw under {}", files::shown(folder));
        return Err(Unread::target("token_file_missing", said));
    }
    logins.agents_left_out = agents.len().saturating_sub(MAX_AGENTS);
    for agent in agents.iter().take(MAX_AGENTS) {
        let name = agent.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        match agent_store(agent, deadline) {
            Ok(documents) => documents.iter().for_each(|document| take_in(&name, document)),
            Err(unread) => drop(logins.unread.insert(Subject::new(&format!("agent {name}")), unread)),
        }
    }
    for (id, copies) in found {
        let ends: BTreeSet<_> =
            copies.iter().map(|(_, profile)| profile.get("expires").map(Value::to_string)).collect();
        let kept = if ends.len() == 1 { 1 } else { copies.len() };
        for (store, profile) in copies.iter().take(kept) {
            let apart = kept > 1 && !store.is_empty();
            let subject = Subject::new(&if apart { format!("{store}/{id}") } else { id.clone() });
            logins.take_in(subject, profile);
        }
    }
    Ok(logins)
}

impl Logins {
    fn take_in(&mut self, subject: Subject, profile: &Value) {
        let is_oauth = profile.get("type").and_then(Value::as_str) == Some("oauth");
        let has_refresh = is_oauth.then(|| is_there(profile.get("refresh")));
        match date(profile, "expires") {
            // An OAuth token always ends; of the others, those that tell no end have none.
            Ok(None) if !is_oauth => self.endless += 1,
            Ok(expires) => drop(self.profiles.insert(subject, Dates { expires, issued: None, has_refresh })),
            Err(unread) => drop(self.unread.insert(subject, unread)),
        }
    }
}

/// The store among the rows of `config_machine_state`: beside its key, whatever the columns are called.
fn shared_store(path: &Path, deadline: Instant) -> Result<Vec<Value>, Unread> {
    let query = format!("SELECT * FROM config_machine_state LIMIT {MAX_ROWS}");
    let rows = rows(path, &OPENCLAW_STATE, "config_machine_state", &query, deadline)?;
    let mut stores = Vec::new();
    for row in rows.iter().filter(|row| row.iter().any(|text| text == SHARED)) {
        let store = row.iter().filter(|text| *text != SHARED).find_map(|text| profiles(text));
        stores.push(store.ok_or_else(|| unreadable(path))?);
    }
    Ok(stores)
}

/// The store of one agent: in its database, or in the file that it kept before.
fn agent_store(folder: &Path, deadline: Instant) -> Result<Vec<Value>, Unread> {
    let database = folder.join("openclaw-agent.sqlite");
    if files::stat(&database)?.is_some() {
        let query = format!("SELECT store_json FROM auth_profile_store LIMIT {MAX_ROWS}");
        let rows = rows(&database, &OPENCLAW_AGENT, "auth_profile_store", &query, deadline)?;
        return rows.iter().flatten().map(|text| profiles(text).ok_or_else(|| unreadable(&database))).collect();
    }
    let legacy: PathBuf = folder.join("auth-profiles.json");
    Ok(homes::json(&legacy)?.into_iter().collect())
}

fn unreadable(path: &Path) -> Unread {
    Unread::blind("bad_token", clean!("{} has a store of profiles that can't be read", files::shown(path)))
}

fn profiles(text: &str) -> Option<Value> {
    let document = parse(text.as_bytes(), MAX_JSON_DEPTH).ok()?;
    document.get("profiles").is_some_and(Value::is_object).then_some(document)
}

/// The texts of each row of a table; no row where there is no such table yet.
fn rows(
    path: &Path,
    known: &std::ops::RangeInclusive<i64>,
    table: &str,
    query: &str,
    deadline: Instant,
) -> Result<Vec<Vec<String>>, Unread> {
    theirs::read(path, Some(known), deadline, |connection| {
        let look = || {
            let there = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = ?1";
            if connection.query_row(there, [table], |row| row.get::<_, i64>(0))? == 0 {
                return Ok(Vec::new());
            }
            let mut statement = connection.prepare(query)?;
            let columns = statement.column_count();
            let texts = |row: &rusqlite::Row<'_>| {
                (0..columns).filter_map(|at| row.get_ref(at).map(short_text).transpose()).collect()
            };
            statement.query_map([], texts)?.collect::<rusqlite::Result<Vec<Vec<String>>>>()
        };
        look().map_err(|error| theirs::unread(path, &error))
    })
}

fn short_text(value: ValueRef<'_>) -> Option<String> {
    let (ValueRef::Text(bytes) | ValueRef::Blob(bytes)) = value else { return None };
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_STORE_BYTES);
    text.map(str::to_owned)
}
