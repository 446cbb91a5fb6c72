//! What the kinds that look over the network share: noting which hosts could be reached, stopping in time to tell what
//! was seen so far, and reading JSON that others wrote.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Cx, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Edge, Facts, Scale, Subject, Unit, Unread, Worse};
use crate::read;
use crate::settings::Dur;

/// Nesting beyond this is refused.
pub(super) const MAX_JSON_DEPTH: usize = 64;

/// What is kept of the time for saying what came before it ran out.
const MARGIN: Duration = Duration::from_millis(150);

/// The moment to stop waiting for a peer: shortly before the fetch itself is dropped with all it read.
pub(super) fn stop_at(cx: &Cx) -> Instant {
    let left = cx.deadline.saturating_duration_since(Instant::now());
    cx.deadline.checked_sub(MARGIN.min(left / 4)).unwrap_or(cx.deadline)
}

/// Notes whether a connection to `host` came about; trouble of our own says nothing about the host.
pub(super) fn note<T>(cx: &Cx, host: &str, outcome: &Result<T, Unread>) {
    match outcome {
        Ok(_) => cx.note_remote(host, true),
        Err(unread) if unread.blame == Blame::Target => cx.note_remote(host, !never_connected(unread.code.as_str())),
        Err(_) => {}
    }
}

/// The host of a URL, an address without its brackets.
pub(super) fn host_of(url: &str) -> Option<String> {
    reqwest::Url::parse(url).ok()?.host_str().map(|host| host.trim_matches(['[', ']']).to_owned())
}

fn never_connected(code: &str) -> bool {
    matches!(code, "dns_failed" | "dns_timeout" | "connect_timeout" | "connection_refused" | "unreachable")
}

/// Milliseconds, as a fact.
pub(super) fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// The reason of the warn band of `elapsed_ms`.
pub(super) const SLOW: ReasonDoc = ReasonDoc {
    code: "slow",
    outcome: ReasonOutcome::Warn,
    settled: false,
    about: "it took longer than `warn_after`",
    action: "see what slows it down",
    needs_human: false,
};
/// The reason of the fail band of `elapsed_ms`.
pub(super) const TOO_SLOW: ReasonDoc = ReasonDoc {
    code: "too_slow",
    outcome: ReasonOutcome::Fail,
    settled: false,
    about: "it took longer than `fail_after`",
    action: "see what slows it down",
    needs_human: false,
};

/// The gauge `elapsed_ms` with its bands.
pub(super) fn put_elapsed(facts: &mut Facts, took: Duration, warn: Option<Dur>, fail: Option<Dur>) {
    let edge = |after: Option<Dur>, code: &'static str| {
        after.map(|after| Edge { at: after.0.as_secs_f64() * 1_000.0, code: code.into(), settled: false })
    };
    let scale = Scale {
        unit: Unit::None,
        worse: Worse::Above,
        warn: edge(warn, SLOW.code),
        fail: edge(fail, TOO_SLOW.code),
        says: clean!("answered in {} ms", millis(took)),
        episode: None,
    };
    facts.gauge(&Subject::none(), "elapsed_ms", millis(took), scale);
}

/// Reports latency bands that contradict each other.
pub(super) fn validate_latency(warn: Option<Dur>, fail: Option<Dur>, report: &mut dyn FnMut(&str, String)) {
    if let (Some(warn), Some(fail)) = (warn, fail)
        && fail <= warn
    {
        report("fail_after", "`fail_after` must be longer than `warn_after`".to_owned());
    }
}

/// Reads JSON, at most [`MAX_JSON_DEPTH`] deep; the error is a fragment without any of the text.
pub(super) fn json(bytes: &[u8]) -> Result<Value, String> {
    read::json::parse(bytes, MAX_JSON_DEPTH).map_err(|error| format!("no JSON that can be read ({error})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_a_depth_limit_and_its_errors_show_no_text() {
        let nested = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        assert!(json(&nested(MAX_JSON_DEPTH)).is_ok());
        for bad in [nested(MAX_JSON_DEPTH + 1), br#"{"key": "sk-secret"#.to_vec(), b"sk-secret".to_vec()] {
            let error = json(&bad).unwrap_err();
            assert!(error.starts_with("no JSON that can be read (") && !error.contains("secret"), "{error}");
        }
    }
}
