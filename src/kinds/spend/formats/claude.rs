//! Sessions of Claude Code: one JSON document a line, a call several times while it streams, and whole conversations copied
//! when one is resumed or branched off.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;

use super::News;
use crate::kinds::spend::ledger::{Call, CallKey, hash, short_hash};
use crate::kinds::spend::prices::Tokens;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClaudeLine<'a> {
    #[serde(borrow, default)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    cwd: Option<Cow<'a, str>>,
    #[serde(default)]
    is_sidechain: Option<bool>,
    #[serde(rename = "costUSD", default)]
    cost_usd: Option<f64>,
    #[serde(borrow, default)]
    message: Option<ClaudeMessage<'a>>,
}

#[derive(Deserialize)]
struct ClaudeMessage<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    usage: Option<ClaudeUsage<'a>>,
}

#[derive(Deserialize)]
struct ClaudeUsage<'a> {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<ClaudeCache>,
    #[serde(borrow, default)]
    speed: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ClaudeCache {
    #[serde(default)]
    ephemeral_5m_input_tokens: Option<u64>,
    #[serde(default)]
    ephemeral_1h_input_tokens: Option<u64>,
}

pub(super) fn line(line: &[u8], project: &str, shown: &mut bool, tell: &mut dyn FnMut(News<'_>)) {
    // Within text the quotes are escaped, so this stands only where usage is a key.
    if memmem::find(line, b"\"usage\"").is_none() {
        return;
    }
    let Ok(read) = serde_json::from_slice::<ClaudeLine<'_>>(line) else { return tell(News::Bad) };
    // What a tool returned may have a `usage` of its own.
    let Some(ClaudeMessage { id, model: Some(model), usage: Some(usage) }) = read.message else { return };
    if model == "<synthetic>" {
        return;
    }
    let Some(at) = read.timestamp.and_then(|text| text.parse().ok()) else { return tell(News::Bad) };
    let written = usage.cache_creation_input_tokens.unwrap_or(0);
    let (short, long) = usage.cache_creation.map_or((written, 0), |cache| {
        let long = cache.ephemeral_1h_input_tokens.unwrap_or(0);
        (cache.ephemeral_5m_input_tokens.unwrap_or_else(|| written.saturating_sub(long)), long)
    });
    // Where the parts are fewer than the whole, the whole counts.
    let short = short.max(written.saturating_sub(long));
    let key = id.filter(|id| !id.is_empty()).map(|id| CallKey {
        message: hash(&[b"claude", id.as_bytes()]),
        request: read.request_id.as_ref().map_or(0, |request| short_hash(request.as_bytes())),
        aside: read.is_sidechain == Some(true),
    });
    tell(News::Call(Call {
        at,
        job: project,
        model: &model,
        tokens: Tokens {
            input: usage.input_tokens.unwrap_or(0),
            cache_read: usage.cache_read_input_tokens.unwrap_or(0),
            cache_write: short,
            cache_write_1h: long,
            output: usage.output_tokens.unwrap_or(0),
            reasoning: 0,
        },
        usd: read.cost_usd.filter(|usd| *usd > 0.0),
        fast: usage.speed.as_deref() == Some("fast"),
        key,
    }));
    if !*shown && let Some(cwd) = read.cwd.as_ref().filter(|cwd| is_folder_of(cwd, project)) {
        *shown = true;
        tell(News::Shown { job: project, name: cwd });
    }
}

/// Whether a project's folder is named after this path: everything but letters and digits is a dash there.
fn is_folder_of(path: &str, project: &str) -> bool {
    path.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).eq(project.chars())
}
