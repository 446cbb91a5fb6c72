//! The report: what users' scripts read. Types, the words around them, and the schema that every report is held to before
//! it is printed. Pure: what it says was decided by `judge`.

mod schema;
mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};

use crate::facts::{CheckName, Key};
use crate::judge::rank::{Ranked, rank, requires_human};
use crate::judge::{Impact, Judged, Level, Mute, Policy};
use crate::redact::Clean;

pub use schema::{SCHEMA, problems};
pub use text::{lines, since};

/// Characters of an item.
pub const ITEM_CHARS: usize = 160;
/// Characters of an action.
pub const ACTION_CHARS: usize = 160;
/// Characters of the notes.
pub const NOTES_CHARS: usize = 800;
/// Items in a report.
pub const TOP: usize = 3;

/// `schemas/report.schema.json` as a type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// `YYYY-MM-DD HH:MM PT`.
    pub timestamp_pt: String,
    /// `green`, `yellow` or `red`.
    pub status: String,
    /// Whether something surfaced in this cycle.
    pub changes_detected: bool,
    /// At most three items.
    pub top_3: Vec<Item>,
    /// Whether a person has to act.
    pub requires_human: bool,
    /// The frontier model that is asked, if one is.
    pub escalate_to: Option<Clean>,
    /// What did not fit, and what else there is to know.
    pub notes: Clean,
    /// RFC 3339 in the configured zone, to the second.
    pub timestamp: String,
    /// The cycle's id.
    pub cycle: String,
    /// The configured instance.
    pub host: Clean,
    /// `rules` or the model's name.
    pub triaged_by: Clean,
    /// A frontier model's advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub analysis: Option<Analysis>,
}

/// One of the top three.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// What is the matter, at most 160 characters.
    pub item: Clean,
    /// How much it matters.
    pub impact: Impact,
    /// What to do, at most 160 characters.
    pub action: Clean,
    /// Whose it is.
    pub owner: Clean,
    /// The check.
    pub check: CheckName,
    /// The subject; empty for the check itself.
    pub subject: String,
    /// `green`, `yellow` or `red`.
    pub level: String,
    /// The ids of this cycle's changes that it stands for.
    pub changes: Vec<String>,
    /// RFC 3339 in the configured zone, to the second.
    pub since: String,
}

/// A frontier model's advice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Analysis {
    /// What is going on.
    pub summary: Clean,
    /// Why, probably.
    pub likely_cause: Clean,
    /// What to do, in order.
    pub next_steps: Vec<Clean>,
    /// `low`, `medium` or `high`.
    pub confidence: String,
    /// Whose words these are.
    pub model: Clean,
}

/// What is printed when not even the least report could be made valid.
pub const LAST_RESORT: &str = r#"{"timestamp_pt":"1970-01-01 00:00 PT","status":"red","changes_detected":true,"top_3":[],"requires_human":true,"escalate_to":null,"notes":"no valid report could be made of this cycle: pulsecheck status","timestamp":"1970-01-01T00:00:00Z","cycle":"unknown","host":"unknown","triaged_by":"rules"}"#;

impl Report {
    /// The same with every text through the gate once more, for secrets that were learnt after it was written, and back
    /// within its lengths.
    #[must_use]
    pub fn clean_again(mut self) -> Self {
        let again = |text: &Clean, limit: usize| chars(&Clean::new(text.as_str()), limit);
        for item in &mut self.top_3 {
            item.item = again(&item.item, ITEM_CHARS);
            item.action = again(&item.action, ACTION_CHARS);
            item.subject = Clean::line(&item.subject, 200).to_string();
        }
        self.notes = again(&self.notes, NOTES_CHARS);
        self.host = again(&self.host, 253);
        self
    }
}

/// What a report needs to know beside the judgement.
#[derive(Debug, Clone)]
pub struct Frame<'a> {
    /// When the cycle began.
    pub at: Timestamp,
    /// The zone for people.
    pub zone: &'a TimeZone,
    /// The cycle's id.
    pub cycle: &'a str,
    /// The configured instance.
    pub host: &'a Clean,
    /// The frontier model that is asked, or why none is.
    pub escalation: Result<Clean, Clean>,
    /// What must be said first (the store can't commit).
    pub head: Option<Clean>,
    /// Further remarks: checks that were skipped or put off, slots that were missed.
    pub remarks: Vec<Clean>,
}

/// The rules' report.
#[must_use]
pub fn write(judged: &Judged, policies: &BTreeMap<CheckName, Policy>, frame: &Frame<'_>) -> Report {
    let items = rank(judged, policies, frame.at);
    let status = judged.status();
    let news = !judged.changes.is_empty();
    let may_escalate = news && status >= Level::Yellow;
    Report {
        timestamp_pt: pacific(frame.at),
        status: status.status().to_owned(),
        changes_detected: news,
        top_3: items.iter().take(TOP).map(|item| shown(item, frame.zone)).collect(),
        requires_human: requires_human(&items, &judged.incidents),
        escalate_to: frame.escalation.clone().ok().filter(|_| may_escalate),
        notes: notes(judged, &items, frame, may_escalate),
        timestamp: rfc3339(frame.at, frame.zone),
        cycle: frame.cycle.to_owned(),
        host: frame.host.clone(),
        triaged_by: Clean::new("rules"),
        analysis: None,
    }
}

/// The least valid report, for when a full one fails its schema: it names the reds.
#[must_use]
pub fn minimal(judged: &Judged, frame: &Frame<'_>, why: &str) -> Report {
    let reds: Vec<&Key> =
        judged.incidents.iter().filter(|i| i.level == Level::Red).map(|incident| &incident.key).collect();
    let named = listed(reds.iter().map(|key| key.shown()), 12);
    let notes = crate::clean!("this report was cut down because the full one failed its schema ({why}); red: {named}");
    Report {
        timestamp_pt: pacific(frame.at),
        status: judged.status().status().to_owned(),
        changes_detected: !judged.changes.is_empty(),
        top_3: Vec::new(),
        requires_human: !reds.is_empty(),
        escalate_to: None,
        notes: chars(&notes, NOTES_CHARS),
        timestamp: rfc3339(frame.at, frame.zone),
        cycle: frame.cycle.chars().filter(char::is_ascii_graphic).take(64).collect(),
        host: Clean::line(frame.host.as_str(), 253),
        triaged_by: Clean::new("rules"),
        analysis: None,
    }
}

fn shown(item: &Ranked, zone: &TimeZone) -> Item {
    Item {
        item: chars(&item.item, ITEM_CHARS),
        impact: item.impact,
        action: chars(&item.action, ACTION_CHARS),
        owner: item.owner.clone(),
        check: item.key.check.clone(),
        subject: item.key.subject.to_string(),
        level: item.level.status().to_owned(),
        changes: item.changes.clone(),
        since: rfc3339(item.since, zone),
    }
}

fn notes(judged: &Judged, items: &[Ranked], frame: &Frame<'_>, may_escalate: bool) -> Clean {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(frame.head.iter().map(ToString::to_string));
    let beyond = || items.iter().skip(TOP);
    let new = listed(beyond().filter(|item| !item.changes.is_empty()).map(|item| item.key.shown()), 8);
    if !new.is_empty() {
        parts.push(format!("also new: {new}"));
    }
    let standing =
        listed(beyond().filter(|item| item.changes.is_empty() && !item.set_aside).map(|item| item.key.shown()), 8);
    if !standing.is_empty() {
        parts.push(format!("still standing: {standing}"));
    }
    let aside = listed(beyond().filter(|item| item.set_aside).map(|item| item.key.shown()), 4);
    if !aside.is_empty() {
        parts.push(format!("acked or silenced: {aside}"));
    }
    for (parent, keys) in &judged.held {
        parts.push(format!("{} held while {parent} is down", keys.len()));
    }
    let logged = listed(judged.logged.iter().map(|(key, _)| key.shown()), 4);
    if !logged.is_empty() {
        parts.push(format!("logged, not yet a pattern: {logged}"));
    }
    let arrivals = listed(judged.arrivals.iter().map(Key::shown), 4);
    if !arrivals.is_empty() {
        parts.push(format!("first seen: {arrivals}"));
    }
    let departures = listed(judged.departures.iter().map(Key::shown), 4);
    if !departures.is_empty() {
        parts.push(format!("no longer seen: {departures}"));
    }
    parts.extend(frame.remarks.iter().map(ToString::to_string));
    if let (true, Err(why)) = (may_escalate, &frame.escalation) {
        parts.push(format!("no second opinion: {why}"));
    }
    parts.push(tally(judged));
    chars(&Clean::line(&parts.join("; "), 4 * NOTES_CHARS), NOTES_CHARS)
}

/// How many checks there are and how many of them are all right.
fn tally(judged: &Judged) -> String {
    let total = judged.after.len();
    let well = judged
        .after
        .values()
        .filter(|standing| standing.marks.values().all(|mark| mark.outcome.word == crate::judge::Word::Pass))
        .count();
    let muted = judged.incidents.iter().filter(|i| matches!(i.muted, Some(Mute::Acked | Mute::Silenced(_)))).count();
    let aside = if muted > 0 { format!(", {muted} acked or silenced") } else { String::new() };
    format!("{well} of {total} checks pass{aside}")
}

/// At most `limit` names, and how many more there are.
fn listed(names: impl Iterator<Item = String>, limit: usize) -> String {
    let all: Vec<String> = names.collect();
    let more = all.len().saturating_sub(limit);
    let text = all.into_iter().take(limit).collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{text}, +{more} more") } else { text }
}

/// Cut to a number of characters, the cut marked with `…`.
fn chars(text: &Clean, limit: usize) -> Clean {
    if text.as_str().chars().count() <= limit {
        return text.clone();
    }
    let kept: String = text.as_str().chars().take(limit - 1).collect();
    Clean::new(&format!("{}…", kept.trim_end()))
}

/// Pacific time, as the report's contract has it.
#[must_use]
pub fn pacific(at: Timestamp) -> String {
    // From the database in the binary: the system's is a thousand files, which are listed to find one.
    let zone = TimeZoneDatabase::bundled().get("America/Los_Angeles").unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M PT").to_string()
}

/// RFC 3339 to the second in a zone.
#[must_use]
pub fn rfc3339(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests;
