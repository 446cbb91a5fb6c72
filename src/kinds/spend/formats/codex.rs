//! Sessions of Codex: sums that grow from event to event, repeated when only a quota moved, and copied to the beginning of
//! the sessions that one begins.

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{News, Quota};
use crate::kinds::moment::moment;
use crate::kinds::spend::ledger::{Call, CallKey, hash};
use crate::kinds::spend::prices::Tokens;

/// A replay of a parent's calls lies within one second; after so many, nothing more of it comes.
const REPLAY_SECONDS: i64 = 10;

/// What the lines of a Codex session said so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::kinds::spend) struct Codex {
    #[serde(default)]
    job: String,
    #[serde(default)]
    model: String,
    /// The sums after the last call.
    #[serde(default)]
    before: Option<CodexUsage>,
    /// Whether the session was begun by another one, whose calls stand at its beginning once more.
    #[serde(default)]
    spawned: bool,
    #[serde(default)]
    replay: Replay,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
enum Replay {
    /// No call was seen yet.
    #[default]
    Open,
    /// One was: whether it is a replay is told by the next one.
    Waits { at: Timestamp, usage: CodexUsage, model: String },
    /// Calls of this second are replayed.
    Second(i64),
    /// All calls count.
    Over,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names are those of the log")]
struct CodexUsage {
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    cached_input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    reasoning_output_tokens: u64,
}

impl CodexUsage {
    /// What came since; none where a sum fell, so that they are no sums of the same.
    fn since(&self, before: &Self) -> Option<Self> {
        Some(Self {
            input_tokens: self.input_tokens.checked_sub(before.input_tokens)?,
            cached_input_tokens: self.cached_input_tokens.checked_sub(before.cached_input_tokens)?,
            output_tokens: self.output_tokens.checked_sub(before.output_tokens)?,
            reasoning_output_tokens: self.reasoning_output_tokens.checked_sub(before.reasoning_output_tokens)?,
        })
    }
}

#[derive(Deserialize)]
struct CodexLine<'a> {
    #[serde(default)]
    timestamp: Value,
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    payload: Option<CodexPayload<'a>>,
}

#[derive(Deserialize)]
struct CodexPayload<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    cwd: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    originator: Option<Cow<'a, str>>,
    #[serde(default)]
    info: Option<CodexInfo>,
    #[serde(default)]
    rate_limits: Option<CodexLimits>,
}

#[derive(Deserialize)]
struct CodexInfo {
    #[serde(default)]
    total_token_usage: Option<CodexUsage>,
    #[serde(default)]
    last_token_usage: Option<CodexUsage>,
}

#[derive(Deserialize)]
struct CodexLimits {
    #[serde(default)]
    primary: Option<CodexLimit>,
    #[serde(default)]
    secondary: Option<CodexLimit>,
}

#[derive(Deserialize)]
struct CodexLimit {
    #[serde(default)]
    used_percent: Option<f64>,
    #[serde(default)]
    window_minutes: Option<i64>,
    #[serde(default)]
    resets_at: Option<i64>,
    #[serde(default)]
    resets_in_seconds: Option<i64>,
}

impl Codex {
    /// Whether a call waits for the next one.
    pub fn waits(&self) -> bool {
        matches!(self.replay, Replay::Waits { .. })
    }

    pub(super) fn line(&mut self, line: &[u8], tell: &mut dyn FnMut(News<'_>)) {
        let has = |what: &[u8]| memmem::find(line, what).is_some();
        if !(has(b"token_count") || has(b"turn_context") || has(b"session_meta")) {
            return;
        }
        let Ok(CodexLine { timestamp, kind: Some(kind), payload: Some(payload) }) = serde_json::from_slice(line) else {
            return tell(News::Bad);
        };
        match (&*kind, payload.kind.as_deref()) {
            // A session that was begun from another one has that one's line as well: the first is its own.
            ("session_meta", _) if self.job.is_empty() => {
                self.spawned = has(b"thread_spawn");
                let folder = payload.cwd.filter(|cwd| !cwd.is_empty()).or(payload.originator);
                self.job = folder.unwrap_or_default().into_owned();
            }
            ("turn_context", _) => {
                if let Some(model) = payload.model.filter(|model| !model.is_empty()) {
                    self.model = model.into_owned();
                }
                if let Some(cwd) = payload.cwd.filter(|_| self.job.is_empty()) {
                    self.job = cwd.into_owned();
                }
            }
            ("event_msg", Some("token_count")) => {
                let Some(at) = moment(&timestamp) else { return tell(News::Bad) };
                for quota in payload.rate_limits.iter().flat_map(|limits| limits.quotas(at)) {
                    tell(News::Quota(quota));
                }
                if let Some(usage) = payload.info.as_ref().and_then(|info| self.usage(info)) {
                    self.count(at, usage, tell);
                }
            }
            _ => {}
        }
    }

    /// What one event adds. Sums tell it where there are sums before them: an event is repeated when only a quota moved.
    fn usage(&mut self, info: &CodexInfo) -> Option<CodexUsage> {
        let usage = match (&info.total_token_usage, &self.before) {
            (Some(total), Some(before)) => total.since(before).or(info.last_token_usage).unwrap_or(*total),
            (Some(total), None) => info.last_token_usage.unwrap_or(*total),
            (None, _) => info.last_token_usage?,
        };
        if info.total_token_usage.is_some() {
            self.before = info.total_token_usage;
        }
        (usage != CodexUsage::default()).then_some(usage)
    }

    fn count(&mut self, at: Timestamp, usage: CodexUsage, tell: &mut dyn FnMut(News<'_>)) {
        match std::mem::replace(&mut self.replay, Replay::Over) {
            Replay::Open if self.spawned => {
                self.replay = Replay::Waits { at, usage, model: self.model.clone() };
            }
            Replay::Waits { at: first, .. } if first.as_second() == at.as_second() => {
                self.replay = Replay::Second(at.as_second());
            }
            Replay::Waits { at: first, usage: waited, model } => {
                self.tell(first, waited, &model, tell);
                self.tell(at, usage, &self.model, tell);
            }
            Replay::Second(second) if second == at.as_second() => self.replay = Replay::Second(second),
            Replay::Open | Replay::Second(_) | Replay::Over => self.tell(at, usage, &self.model, tell),
        }
    }

    fn tell(&self, at: Timestamp, usage: CodexUsage, model: &str, tell: &mut dyn FnMut(News<'_>)) {
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let numbers = [usage.input_tokens, cached, usage.output_tokens, usage.reasoning_output_tokens];
        let numbers = numbers.map(u64::to_le_bytes).concat();
        let key = CallKey {
            // A branch has its beginning in common with the session it came from, to the millisecond.
            message: hash(&[b"codex", &at.as_millisecond().to_le_bytes(), &numbers]),
            request: 0,
            aside: false,
        };
        tell(News::Call(Call {
            at,
            job: &self.job,
            model,
            tokens: Tokens {
                input: usage.input_tokens - cached,
                cache_read: cached,
                output: usage.output_tokens,
                reasoning: usage.reasoning_output_tokens,
                ..Tokens::default()
            },
            usd: None,
            fast: false,
            key: Some(key),
        }));
    }

    /// A call that waited long enough for another one of its second is no replay.
    pub(super) fn settle(&mut self, now: Timestamp, tell: &mut dyn FnMut(News<'_>)) {
        if let Replay::Waits { at, usage, model } = &self.replay
            && now.as_second() - at.as_second() > REPLAY_SECONDS
        {
            let (at, usage, model) = (*at, *usage, model.clone());
            self.replay = Replay::Over;
            self.tell(at, usage, &model, tell);
        }
    }
}

impl CodexLimits {
    fn quotas(&self, at: Timestamp) -> impl Iterator<Item = Quota> {
        let named = [("primary", &self.primary), ("secondary", &self.secondary)];
        named.into_iter().filter_map(move |(name, limit)| {
            let limit = limit.as_ref()?;
            let from_now = limit.resets_in_seconds.map(|seconds| at.as_second().saturating_add(seconds));
            Some(Quota {
                name: name.to_owned(),
                used_pct: limit.used_percent.filter(|used| used.is_finite())?,
                window_minutes: limit.window_minutes,
                resets_at: limit.resets_at.or(from_now),
                at: at.as_second(),
            })
        })
    }
}
