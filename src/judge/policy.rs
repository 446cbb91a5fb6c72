//! What judging needs to know of a check's configuration. `judge` owns this, so that config, store and notifiers need not
//! know each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::facts::{CheckName, Code, Key, Subject};
use crate::redact::Clean;

/// How bad a finding is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It passes.
    Ok,
    /// It does not pass, but that may be noise: it is recorded and surfaces nowhere.
    Logged,
    /// A pattern, or something settled that is not yet grave.
    Yellow,
    /// An alert.
    Red,
}

impl Level {
    /// The word for people; `Ok` and `Logged` are both `green` to them.
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::Ok | Self::Logged => "green",
            Self::Yellow => "yellow",
            Self::Red => "red",
        }
    }
}

/// How much a change matters, as the report says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Impact {
    /// Good to know.
    Low,
    /// Should be looked at.
    Med,
    /// Must be looked at.
    High,
}

impl Impact {
    /// The word in the report.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Med => "med",
            Self::High => "high",
        }
    }
}

/// A check that another one needs: while it is down, the other's transient findings are held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    /// The parent.
    pub check: CheckName,
    /// One subject of the parent; none means the check as a whole.
    pub subject: Option<Subject>,
}

/// What to do about a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// An imperative without a full stop.
    pub action: Clean,
    /// Whether only a person can do it.
    pub needs_human: bool,
}

/// One check's policy: how its observations become levels, and what the report says of them.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long a cycle is; what counts is measured against it.
    pub cycle: SignedDuration,
    /// How often the check is due; never less than a cycle.
    pub every: SignedDuration,
    /// Observations in a row that did not pass before it is yellow (2 unless configured).
    pub yellow: u32,
    /// Fails in a row before it is red (3 unless configured); none: never red.
    pub red: Option<u32>,
    /// Passes in a row that close an incident (1 unless configured).
    pub recover_after: u32,
    /// The least impact that its changes have.
    pub impact: Option<Impact>,
    /// Who owns its trouble; by default `agent` at yellow and `human` at red.
    pub owner: Option<Clean>,
    /// The action that the report offers, whatever the reason.
    pub action: Option<Clean>,
    /// The kind's action for each reason; one for all checks of a kind.
    pub advice: Arc<BTreeMap<Code, Advice>>,
    /// What it needs.
    pub depends_on: Vec<Dependency>,
    /// Words to route by.
    pub tags: BTreeSet<Clean>,
    /// The name that it had before.
    pub was: Option<CheckName>,
    /// Whether standing incidents are reminded of; kinds with thresholds ahead are not.
    pub reminds: bool,
}

impl Policy {
    /// The defaults for a check of a kind that documents nothing.
    #[must_use]
    pub fn plain(cycle: SignedDuration) -> Self {
        Self {
            cycle,
            every: cycle,
            yellow: 2,
            red: Some(3),
            recover_after: 1,
            impact: None,
            owner: None,
            action: None,
            advice: Arc::default(),
            depends_on: Vec::new(),
            tags: BTreeSet::new(),
            was: None,
            reminds: true,
        }
    }
}

/// Notices about some findings are held back until a time, at most 7 days ahead (24 hours over a red).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its number in the store.
    pub id: i64,
    /// What it covers.
    pub covers: Covers,
    /// When it was begun.
    pub from: jiff::Timestamp,
    /// When it ends.
    pub until: jiff::Timestamp,
    /// Who: user, terminal and parent command.
    pub by: Clean,
    /// Why, in their words.
    pub why: Clean,
}

/// What an ack, a silence or a route covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// All subjects of a check.
    Check(CheckName),
    /// One finding.
    Finding(Key),
    /// All checks with a tag.
    Tag(Clean),
}

impl Covers {
    /// Whether a finding is covered.
    #[must_use]
    pub fn has(&self, key: &Key, policy: Option<&Policy>) -> bool {
        match self {
            Self::Check(check) => key.check == *check,
            Self::Finding(finding) => key == finding,
            Self::Tag(tag) => policy.is_some_and(|policy| policy.tags.contains(tag)),
        }
    }
}

/// Something a person (or an agent under their name) did that changes what is said: it surfaces once, on every channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// Its number in the store.
    pub id: i64,
    /// When.
    pub at: jiff::Timestamp,
    /// What it was about.
    pub covers: Covers,
    /// What was done.
    pub done: Done,
    /// Who: user, terminal and parent command.
    pub by: Clean,
    /// Why, in their words.
    pub why: Clean,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Open incidents were acknowledged at their level.
    Acked,
    /// An ack was taken back.
    Unacked,
    /// Notices were silenced until then.
    Silenced(jiff::Timestamp),
    /// A silence was ended early.
    Unsilenced,
    /// A baseline was accepted.
    BaselineAccepted,
}
