//! Transcripts of OpenClaw: an event a line, or a row of its database.

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;

use super::News;
use crate::kinds::moment::moment;
use crate::kinds::spend::ledger::{Call, CallKey, hash};
use crate::kinds::spend::prices::Tokens;

/// A call in a transcript of OpenClaw, as text and numbers of whichever place it was kept in.
#[derive(Debug, Default, Deserialize)]
pub(in crate::kinds::spend) struct Usage {
    #[serde(default)]
    input: u64,
    #[serde(default)]
    output: u64,
    #[serde(rename = "cacheRead", default)]
    cache_read: u64,
    #[serde(rename = "cacheWrite", default)]
    cache_write: u64,
    #[serde(default)]
    cost: Option<Cost>,
}

#[derive(Debug, Default, Deserialize)]
struct Cost {
    #[serde(default)]
    total: Option<f64>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    timestamp: Value,
    #[serde(borrow, default)]
    message: Option<Message<'a>>,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    provider: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    usage: Option<Usage>,
}

pub(super) fn line(line: &[u8], job: &str, tell: &mut dyn FnMut(News<'_>)) {
    if memmem::find(line, b"\"usage\"").is_none() {
        return;
    }
    let Ok(read) = serde_json::from_slice::<Line<'_>>(line) else { return tell(News::Bad) };
    let Some(message) = read.message.filter(|_| read.kind.as_deref() == Some("message")) else { return };
    let (Some("assistant"), Some(usage)) = (message.role.as_deref(), message.usage) else { return };
    let Some(at) = moment(&read.timestamp) else { return tell(News::Bad) };
    call(
        at,
        job,
        read.id.as_deref(),
        message.provider.as_deref(),
        message.model.as_deref().unwrap_or_default(),
        &usage,
        tell,
    );
}

/// Tells a call of OpenClaw's.
pub(in crate::kinds::spend) fn call(
    at: Timestamp,
    job: &str,
    id: Option<&str>,
    provider: Option<&str>,
    model: &str,
    usage: &Usage,
    tell: &mut dyn FnMut(News<'_>),
) {
    let named = match provider.filter(|provider| !provider.is_empty()) {
        Some(provider) if !model.starts_with(&format!("{provider}/")) => format!("{provider}/{model}"),
        _ => model.to_owned(),
    };
    tell(News::Call(Call {
        at,
        job,
        model: &named,
        tokens: Tokens {
            input: usage.input,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            output: usage.output,
            ..Tokens::default()
        },
        // Nothing is what it writes of a model that it knows no price of.
        usd: usage.cost.as_ref().and_then(|cost| cost.total).filter(|usd| *usd > 0.0),
        fast: false,
        // An event that was copied into another session keeps its id and time; short ids alone are not unique.
        key: id.filter(|id| !id.is_empty()).map(|id| CallKey {
            message: hash(&[b"openclaw", id.as_bytes(), &at.as_millisecond().to_le_bytes()]),
            request: 0,
            aside: false,
        }),
    }));
}

/// The name of OpenClaw's job by the key of its session: `agent:AGENT:cron:JOB…` is a job, all else is the agent's own.
pub(in crate::kinds::spend) fn job<'k>(agent: &'k str, session_key: Option<&'k str>) -> (&'k str, Option<&'k str>) {
    let mut parts = session_key.unwrap_or_default().split(':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("agent"), Some(agent), Some("cron"), Some(job)) if !job.is_empty() => (agent, Some(job)),
        (Some("agent"), Some(named), ..) if !named.is_empty() => (named, None),
        (Some("cron"), Some(job), ..) if !job.is_empty() => (agent, Some(job)),
        _ => (agent, None),
    }
}
