//! A plain notice: what is to be said about one incident or event, before any channel or service is chosen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::Key;
use crate::redact::Clean;

use super::policy::{Impact, Level};

/// What a notice tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turn {
    /// New on this channel.
    Open,
    /// The level rose.
    Raise,
    /// The level fell, the trouble goes on.
    Lower,
    /// It still stands.
    Remind,
    /// It is over.
    Resolve,
    /// Something changed or was done that opens no incident: said once, never resolved.
    Event,
    /// More about what was said: a frontier model's analysis.
    FollowUp,
}

/// One thing to be said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The same for every notice about one incident: `instance/check/subject`; an event has its change's id at the end.
    pub dedup: String,
    /// What it tells.
    pub turn: Turn,
    /// At which level the incident is; what it was for a resolve; ok for an event.
    pub level: Level,
    /// How much it matters.
    pub impact: Impact,
    /// The finding.
    pub key: Key,
    /// One line: level, item, since when.
    pub title: Clean,
    /// Further lines: the action, the command that explains it.
    pub lines: Vec<Clean>,
    /// Whose it is.
    pub owner: Clean,
    /// Whether a person must act.
    pub requires_human: bool,
    /// When the incident opened or the event happened.
    pub since: Timestamp,
    /// Not to be delivered before (quiet hours).
    pub not_before: Timestamp,
}
