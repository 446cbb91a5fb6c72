//! What judging keeps between cycles: a mark for every finding, an incident for every open trouble.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{Blame, CheckName, Code, FactName, Key, Observation, Subject, Value};
use crate::records::OutcomeWord;
use crate::redact::Clean;

use super::flap::Window;
use super::policy::Level;

/// Every check's newest standing; one that was not due keeps its own.
pub type Snapshot = BTreeMap<CheckName, Standing>;

/// What is known of a check between cycles.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// The newest observation; where it could read nothing, with the facts of the one before.
    pub last: Observation,
    /// When the facts in it were read.
    pub read: Timestamp,
    /// When the check was first observed.
    pub first_seen: Timestamp,
    /// What is kept of each finding. Boxed: of most checks there is one, and a map makes room for eleven.
    pub marks: BTreeMap<Subject, Box<Mark>>,
}

impl Standing {
    /// What is kept of one finding.
    #[must_use]
    pub fn mark(&self, subject: &Subject) -> Option<&Mark> {
        self.marks.get(subject).map(AsRef::as_ref)
    }
}

/// What is kept of one finding between cycles.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// Counted observations in a row that did not pass.
    pub not_ok: u32,
    /// Counted fails in a row.
    pub failing: u32,
    /// Counted passes in a row.
    pub passes: u32,
    /// Counted observations of the check in a row in which the subject was not there.
    #[serde(default)]
    pub absent: u32,
    /// When an observation last counted.
    pub counted: Option<Timestamp>,
    /// When it stopped passing; none while it passes.
    pub since: Option<Timestamp>,
    /// The newest outcome.
    pub outcome: Outcome,
    /// Passes and others of the last counted observations.
    pub window: Window,
    /// Whether it flaps.
    #[serde(default)]
    pub flapping: bool,
    /// Whether the last look at it failed through our own fault.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blind: bool,
    /// Whether it was held in the last cycle.
    #[serde(default)]
    pub held: bool,
    /// The gauges that are not in their ok band.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bands: BTreeMap<FactName, Band>,
    /// State and set facts when it last passed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub passing: BTreeMap<FactName, Value>,
    /// Facts that changed lately.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub restless: BTreeMap<FactName, Restless>,
}

/// A gauge's band.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Band {
    /// Inside.
    #[default]
    Ok,
    /// Beyond the warn edge.
    Warn,
    /// Beyond the fail edge.
    Fail,
}

/// A fact's recent changes: one that changes all the time is said once, then muted until it holds for a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restless {
    /// Which of the last 21 counted observations brought a change; the newest is bit 0.
    pub changes: u32,
    /// When it last changed.
    pub last: Timestamp,
    /// Whether it is muted.
    pub muted: bool,
}

/// What one observation amounts to for one finding.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Pass, warn, fail or unknown.
    pub word: Word,
    /// Whether the leading reason can't pass by itself.
    #[serde(default)]
    pub settled: bool,
    /// The leading reason; none for a pass.
    pub code: Option<Code>,
    /// The leading reason in words.
    #[serde(default)]
    pub said: Clean,
    /// What the trouble is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<Clean>,
}

/// An outcome's kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// All is as it should be.
    #[default]
    Pass,
    /// Yellow at most.
    Warn,
    /// Can reach red.
    Fail,
    /// Could not be read.
    Unknown(Blame),
}

impl Word {
    /// The word for conditions and people.
    #[must_use]
    pub fn plain(self) -> OutcomeWord {
        match self {
            Self::Pass => OutcomeWord::Pass,
            Self::Warn => OutcomeWord::Warn,
            Self::Fail => OutcomeWord::Fail,
            Self::Unknown(_) => OutcomeWord::Unknown,
        }
    }
}

/// One finding's open trouble, from yellow until it passes again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// Unique: `CYCLE.N`, from the cycle that opened it.
    pub id: String,
    /// Whose trouble it is.
    pub key: Key,
    /// The key that it is announced and resolved under (`instance/check/subject` of the time), once it was announced:
    /// neither a rename of the check nor of the host changes it.
    pub dedup: Option<String>,
    /// Yellow or red.
    pub level: Level,
    /// The reason, as last observed.
    pub code: Code,
    /// The reason in words, as last observed.
    pub said: Clean,
    /// Whether the level comes from something that can't pass by itself.
    pub settled: bool,
    /// What the trouble is about.
    pub episode: Option<Clean>,
    /// When it opened.
    pub opened: Timestamp,
    /// When it came to its level.
    pub level_since: Timestamp,
    /// Counted observations in a row at a lower level.
    pub lower: u32,
    /// The ack, if there is one; it holds up to its level.
    pub ack: Option<Ack>,
    /// Whether its check was removed from the config.
    pub withdrawn: bool,
    /// What was last said of it; none while nothing was.
    pub surfaced: Option<Surfaced>,
    /// The level last announced on each channel.
    pub announced: BTreeMap<String, Level>,
    /// The reminders so far.
    pub reminders: u32,
    /// When it was last said or reminded of.
    pub reminded: Option<Timestamp>,
    /// Why it is muted, as of the last cycle.
    pub muted: Option<Mute>,
}

/// An acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The level that it covers; a higher one surfaces and ends it.
    pub level: Level,
    /// When.
    pub at: Timestamp,
    /// Who: user, terminal and parent command.
    pub by: Clean,
    /// Why, in their words.
    pub why: Clean,
}

/// What was last said of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surfaced {
    /// At which level.
    pub level: Level,
    /// Whether it was said to flap.
    pub flapping: bool,
    /// Whether it was said to be withdrawn.
    #[serde(default)]
    pub withdrawn: bool,
    /// What it was about.
    pub episode: Option<Clean>,
    /// When.
    pub at: Timestamp,
}

/// Why nothing is said of an incident at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mute {
    /// A parent is down.
    Held(CheckName),
    /// Somebody silenced it until then.
    Silenced(Timestamp),
    /// Somebody acked it.
    Acked,
    /// It flaps; a red is said all the same.
    Flapping,
    /// A ladder is at work, until then at most.
    Recovering(Timestamp),
}

/// How an incident came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closing {
    /// It passes again.
    Passed,
    /// What it was about is no longer there.
    Gone,
    /// Its check was removed and somebody acked that.
    Withdrawn,
}
