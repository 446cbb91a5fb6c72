//! Where agents keep their state, and the schemas of it that are known.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::remote::MAX_JSON_DEPTH;
use crate::clean;
use crate::facts::Unread;
use crate::host::{Host, files};
use crate::read::json::parse;

/// `PRAGMA user_version` of OpenClaw's `state/openclaw.sqlite` whose tables are known.
pub(super) const OPENCLAW_STATE: RangeInclusive<i64> = 1..=18;
/// The same of its `agents/ID/agent/openclaw-agent.sqlite`.
pub(super) const OPENCLAW_AGENT: RangeInclusive<i64> = 1..=23;

/// Bytes of a JSON file of an agent's, prompts included.
const MAX_FILE_BYTES: usize = 8 << 20;

/// An agent's folder: what the config says, else the variable of the environment that may name it, else the usual one.
pub(super) fn of(host: &Host, path: Option<&str>, variable: &str, usual: &str) -> PathBuf {
    let set = host.var(variable).and_then(|folder| folder.to_str()).filter(|folder| !folder.is_empty());
    host.expand(path.or(set).unwrap_or(usual))
}

/// OpenClaw's.
pub(super) fn openclaw(host: &Host, path: Option<&str>) -> PathBuf {
    of(host, path, "OPENCLAW_STATE_DIR", "~/.openclaw")
}

/// Claude Code's; its variable may list several, the first of which has the login.
pub(super) fn claude_code(host: &Host, path: Option<&str>) -> PathBuf {
    let listed = of(host, path, "CLAUDE_CONFIG_DIR", "~/.claude");
    match listed.to_str().and_then(|list| list.split_once(',')) {
        Some((first, _)) if path.is_none() => host.expand(first.trim()),
        _ => listed,
    }
}

/// A JSON file of theirs; none when it is not there. Codes: those of files, and `bad_ledger` (blind). Blocking.
pub(super) fn json(path: &Path) -> Result<Option<Value>, Unread> {
    if files::stat(path)?.is_none() {
        return Ok(None);
    }
    let (bytes, cut) = files::read(path, MAX_FILE_BYTES)?;
    if cut {
        return Err(Unread::blind("bad_ledger", clean!("{} is larger than 8 MiB", files::shown(path))));
    }
    let parsed = parse(&bytes, MAX_JSON_DEPTH);
    let why = |error| Unread::blind("bad_ledger", clean!("{} can't be read: {error}", files::shown(path)));
    parsed.map(Some).map_err(why)
}
