//! What an answer's JSON says beside what is expected of it: facts for rules, and for how long the server has been up.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Http, Settings};
use crate::facts::{Class, FactName, MAX_TEXT_BYTES, Subject, Unread, is_name};
use crate::kinds::{Cx, Fetched, Kind as _, remote};
use crate::redact::Clean;

/// The key under which is kept when the server started.
const KEPT: &str = "started";

/// When the server started, as it was said first, and how long it was up when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    started: Timestamp,
    uptime_ms: i64,
}

/// Reports names that are none, or taken.
pub(super) fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    for name in settings.facts.keys() {
        if !is_name(name) || name.contains(['-', '.']) {
            report("facts", format!("`{name}` is no name of a fact (small letters, digits and `_`)"));
        } else if Http::DOC.facts.iter().any(|fact| fact.name == name) {
            report("facts", format!("`{name}` is a fact of every `http` check (take another name)"));
        }
    }
}

/// Whether the settings want anything of the answer's JSON.
pub(super) fn is_wanted(settings: &Settings) -> bool {
    !settings.facts.is_empty() || settings.uptime_ms.is_some()
}

/// What is read of the JSON; nothing of what is none.
#[derive(Debug, Default)]
pub(super) struct Told {
    facts: Vec<(String, Json)>,
    uptime_ms: Option<i64>,
}

/// Reads an answer's body. CPU-bound: on a lane.
pub(super) fn read(body: &[u8], settings: &Wanted) -> Told {
    let Ok(json) = remote::json(body) else { return Told::default() };
    let facts = settings.facts.iter().filter_map(|(name, path)| Some((name.clone(), path.one(&json)?.clone())));
    let uptime = settings.uptime_ms.as_ref().and_then(|path| path.one(&json)?.as_f64());
    let uptime = uptime.and_then(|ms| SignedDuration::try_from_secs_f64(ms / 1_000.0).ok());
    let uptime_ms = uptime.and_then(|uptime| i64::try_from(uptime.as_millis()).ok()).filter(|ms| *ms >= 0);
    Told { facts: facts.collect(), uptime_ms }
}

/// The paths, to be taken to a lane.
#[derive(Debug)]
pub(super) struct Wanted {
    facts: Vec<(String, crate::settings::JsonPath)>,
    uptime_ms: Option<crate::settings::JsonPath>,
}

impl From<&Settings> for Wanted {
    fn from(settings: &Settings) -> Self {
        let facts = settings.facts.iter().map(|(name, path)| (name.clone(), path.clone())).collect();
        Self { facts, uptime_ms: settings.uptime_ms.clone() }
    }
}

impl Told {
    /// Adds the facts, and what to remember.
    pub(super) fn put(self, cx: &Cx, fetched: &mut Fetched) -> Result<(), Unread> {
        let facts = &mut fetched.facts;
        let none = Subject::none();
        for (name, value) in self.facts {
            let name = FactName::from(name);
            match value {
                Json::Bool(flag) => facts.info(&none, name, flag),
                Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                    (Some(whole), _) => facts.info(&none, name, whole),
                    (None, Some(real)) => facts.info(&none, name, real),
                    (None, None) => {}
                },
                Json::String(text) => {
                    facts.put_foreign(&none, name, Clean::text(&text, MAX_TEXT_BYTES), Class::Info);
                }
                Json::Null | Json::Array(_) | Json::Object(_) => {}
            }
        }
        let Some(uptime_ms) = self.uptime_ms else { return Ok(()) };
        let before = cx.memory.get(KEPT)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let kept = started(before, uptime_ms, cx.now.wall);
        facts.info(&none, "uptime_s", uptime_ms / 1_000);
        facts.state(&none, "started_at", kept.started);
        fetched.remember.push((KEPT.to_owned(), serde_json::to_vec(&kept).ok()));
        Ok(())
    }
}

/// A server whose uptime goes back was restarted. What it started at is said as it was first computed: a clock that is
/// set, or a machine that slept, is no restart.
fn started(before: Option<Kept>, uptime_ms: i64, now: Timestamp) -> Kept {
    let same = before.filter(|before| before.uptime_ms <= uptime_ms);
    let computed = now.checked_sub(SignedDuration::from_millis(uptime_ms)).unwrap_or(now);
    Kept { started: same.map_or(computed, |same| same.started), uptime_ms }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::at;

    #[test]
    fn an_uptime_that_goes_back_is_a_restart() {
        let first = started(None, 60_000, at(1_000));
        assert_eq!(first, Kept { started: at(940), uptime_ms: 60_000 });
        // The clock was set by an hour meanwhile.
        let later = started(Some(first), 90_000, at(4_630));
        assert_eq!(later, Kept { started: at(940), uptime_ms: 90_000 });
        assert_eq!(started(Some(later), 5_000, at(5_000)).started, at(4_995));
    }
}
