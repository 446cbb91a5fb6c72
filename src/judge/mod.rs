//! The pure middle: observations in, levels, incidents, changes and status out. No clock, no I/O; the whole of it runs
//! inside the transaction that commits what it decides.

pub mod flap;
pub mod incident;
pub mod notice;
pub mod policy;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{CheckName, Code, FactName, Key, Observation};
use crate::redact::Clean;

pub use incident::{Ack, Closing, Incident, Mark, Mute, Outcome, Snapshot, Standing, Surfaced, Word};
pub use notice::{Notice, Turn};
pub use policy::{Advice, Covers, Deed, Dependency, Done, Impact, Level, Policy, Silence};

/// All that judging rests on, read in the transaction that it runs in.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// This cycle's id: it goes into the ids of what is opened.
    pub cycle: String,
    /// Every check's standing.
    pub snapshot: Snapshot,
    /// The open incidents.
    pub incidents: Vec<Incident>,
    /// Silences that have not ended.
    pub silences: Vec<Silence>,
    /// What people did since the last cycle.
    pub deeds: Vec<Deed>,
    /// Findings that a ladder works on, and until when at most.
    pub recovering: BTreeMap<Key, Timestamp>,
    /// Checks that `when` left out in this cycle.
    pub skipped: BTreeMap<CheckName, Clean>,
}

/// One thing that surfaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// `c1`, `c2` … within the cycle, in the order of importance.
    pub id: String,
    /// Whose.
    pub key: Key,
    /// What happened.
    pub what: What,
    /// The finding's level now; what it was, for one that closed.
    pub level: Level,
    /// How much it matters.
    pub impact: Impact,
    /// In words, a fragment without the check's name.
    pub said: Clean,
    /// The reason, where there is one.
    pub code: Option<Code>,
    /// When the incident opened, or when the change was seen.
    pub since: Timestamp,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// An incident opened.
    Opened,
    /// Its level rose.
    Raised,
    /// Its level fell, it stays open.
    Lowered,
    /// It is about something else now (another certificate).
    Renewed,
    /// It began to flap.
    Flapping,
    /// A mute ended while it was open, or it was never said before: it is said now.
    Surfaced,
    /// It ended.
    Closed(Closing),
    /// Its check is no longer configured.
    Withdrawn,
    /// A watched fact of a passing finding differs.
    Fact(FactName),
    /// A check that passed is no longer configured.
    Removed,
    /// A person did something.
    Deed(i64),
}

/// What judging decides.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Every check's standing, after.
    pub after: Snapshot,
    /// The incidents that are open now.
    pub incidents: Vec<Incident>,
    /// The incidents that ended now.
    pub closed: Vec<(Incident, Closing)>,
    /// What surfaced, most important first.
    pub changes: Vec<Change>,
    /// The open incidents that are due to be reminded of.
    pub reminders: Vec<Key>,
    /// Findings that do not pass and are below yellow.
    pub logged: Vec<(Key, Outcome)>,
    /// Findings that are held, by the parent that holds them.
    pub held: BTreeMap<CheckName, Vec<Key>>,
    /// Findings seen for the first time.
    pub arrivals: Vec<Key>,
    /// Passing findings that are no longer there.
    pub departures: Vec<Key>,
    /// Whether the findings seen now are all that there ever were: nothing to compare with.
    pub first: bool,
}

impl Judged {
    /// The highest level among open incidents that are not held.
    #[must_use]
    pub fn status(&self) -> Level {
        self.incidents
            .iter()
            .filter(|incident| !matches!(incident.muted, Some(Mute::Held(_))))
            .map(|incident| incident.level)
            .max()
            .unwrap_or(Level::Ok)
    }
}

/// Judges one cycle.
#[must_use]
pub fn judge(
    _before: Before,
    _seen: Vec<Observation>,
    _policies: &BTreeMap<CheckName, Policy>,
    _now: Timestamp,
) -> Judged {
    unimplemented!()
}
