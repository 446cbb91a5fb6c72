//! What a check saw, as plain typed values: keys, facts, findings, observations.
//! Nothing here reads a clock or touches the outside; judging is left to `judge`.

mod names;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::redact::Clean;

pub use names::{BadName, CheckName, Code, FactName, Key, MAX_SUBJECT_BYTES, Subject, is_name};

/// Facts a finding may carry; what is beyond is cut, and the cut is said.
pub const MAX_FACTS: usize = 256;
/// Members a set fact may carry.
pub const MAX_SET_MEMBERS: usize = 5_000;
/// Bytes of text in one fact.
pub const MAX_TEXT_BYTES: usize = 1_024;

/// A fact's value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Text, redacted.
    Text(Clean),
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Int(i64),
    /// A finite number; `Facts` turns NaN and the infinities away.
    Real(f64),
    /// A moment.
    At(Timestamp),
    /// Members without order.
    Set(BTreeSet<Clean>),
}

impl Value {
    /// The value as a number, where it is one (a moment counts as seconds since 1970).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "bands and rates need no more than 53 bits")]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(n) => Some(*n as f64),
            Self::Real(x) => Some(*x),
            Self::At(t) => Some(t.as_second() as f64),
            Self::Flag(b) => Some(f64::from(u8::from(*b))),
            Self::Text(_) | Self::Set(_) => None,
        }
    }
}
impl From<Clean> for Value {
    fn from(text: Clean) -> Self {
        Self::Text(text)
    }
}
impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Clean::text(text, MAX_TEXT_BYTES))
    }
}
impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}
impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}
impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}
impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Int(i64::from(n))
    }
}
impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Int(i64::try_from(n).unwrap_or(i64::MAX))
    }
}
impl From<f64> for Value {
    fn from(x: f64) -> Self {
        Self::Real(x)
    }
}
impl From<Timestamp> for Value {
    fn from(t: Timestamp) -> Self {
        Self::At(t)
    }
}

/// What a number counts, so that people read `5 d 3 h` and not 442800.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Plain count.
    #[default]
    None,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Percent, 0 to 100.
    Percent,
    /// US dollars.
    Usd,
    /// Degrees Celsius.
    Celsius,
}

/// Which direction is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Worse {
    /// Larger values are worse; an edge is crossed at `value > edge`.
    Above,
    /// Smaller values are worse; an edge is crossed at `value < edge`.
    Below,
}

/// One edge of a band and what crossing it means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edge {
    /// The threshold, in the fact's unit.
    pub at: f64,
    /// The reason that the finding carries.
    pub code: Code,
    /// Whether it can't pass by itself (expired, full): it needs no streak.
    pub settled: bool,
}

/// The bands of a gauge, declared by the kind; the middle picks the band.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// What the number counts.
    pub unit: Unit,
    /// Which direction is worse.
    pub worse: Worse,
    /// Beyond this it is a warn.
    pub warn: Option<Edge>,
    /// Beyond this it is a fail.
    pub fail: Option<Edge>,
    /// The words for a band that isn't ok, true in each band (`certificate expires in 5 d 3 h`).
    pub says: Clean,
    /// What this trouble is about (a certificate's fingerprint): trouble about another one is said anew.
    pub episode: Option<Clean>,
}

impl Scale {
    /// A gauge that is shown and stored but has no edges.
    #[must_use]
    pub fn plain(unit: Unit) -> Self {
        Self { unit, worse: Worse::Above, warn: None, fail: None, says: Clean::default(), episode: None }
    }
}

/// How a fact is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Every change is a change.
    State,
    /// Matters by band.
    Gauge(Box<Scale>),
    /// Members added and removed.
    Set,
    /// Ever growing; its rate per hour is what matters, by the scale's bands.
    Counter(Box<Scale>),
    /// Shown, never compared.
    Info,
}

/// One named, typed value that a check read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// What was read.
    pub value: Value,
    /// How it is compared.
    pub class: Class,
    /// Whether an attacker can write it (log keys, file names, bodies): it is quoted, never obeyed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// A check's facts in canonical order: by subject, then by name. Most checks have few of both, so a subject is kept once and
/// its facts lie side by side.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<(Subject, FactName, Fact)>", into = "Vec<(Subject, FactName, Fact)>")]
pub struct Facts(BTreeMap<Subject, Vec<(FactName, Fact)>>);

impl Facts {
    /// No facts yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a fact. A number that is not finite is left out; text and sets are cut to their limits.
    pub fn put(&mut self, subject: &Subject, name: impl Into<FactName>, value: impl Into<Value>, class: Class) {
        self.insert(subject, name.into(), Fact { value: value.into(), class, foreign: false });
    }

    /// Adds a fact whose text somebody else wrote.
    pub fn put_foreign(&mut self, subject: &Subject, name: impl Into<FactName>, value: impl Into<Value>, class: Class) {
        self.insert(subject, name.into(), Fact { value: value.into(), class, foreign: true });
    }

    /// A fact whose every change is a change.
    pub fn state(&mut self, subject: &Subject, name: impl Into<FactName>, value: impl Into<Value>) {
        self.put(subject, name, value, Class::State);
    }

    /// A number that matters by band.
    pub fn gauge(&mut self, subject: &Subject, name: impl Into<FactName>, value: impl Into<Value>, scale: Scale) {
        self.put(subject, name, value, Class::Gauge(Box::new(scale)));
    }

    /// A fact that is shown and never compared.
    pub fn info(&mut self, subject: &Subject, name: impl Into<FactName>, value: impl Into<Value>) {
        self.put(subject, name, value, Class::Info);
    }

    /// Members whose coming and going is a change; foreign when `foreign` says so.
    pub fn set(&mut self, subject: &Subject, name: impl Into<FactName>, members: BTreeSet<Clean>, foreign: bool) {
        self.insert(subject, name.into(), Fact { value: Value::Set(members), class: Class::Set, foreign });
    }

    fn insert(&mut self, subject: &Subject, name: FactName, mut fact: Fact) {
        match &mut fact.value {
            Value::Real(x) if !x.is_finite() => return,
            Value::Text(text) if text.as_str().len() > MAX_TEXT_BYTES => {
                *text = Clean::text(text.as_str(), MAX_TEXT_BYTES);
            }
            Value::Set(members) if members.len() > MAX_SET_MEMBERS => {
                if let Some(first_out) = members.iter().nth(MAX_SET_MEMBERS).cloned() {
                    let _beyond = members.split_off(&first_out);
                }
            }
            _ => {}
        }
        let Some(of_subject) = self.0.get_mut(subject) else {
            self.0.insert(subject.clone(), vec![(name, fact)]);
            return;
        };
        place(of_subject, name, fact);
    }

    /// One fact.
    #[must_use]
    pub fn get(&self, subject: &Subject, name: &'static str) -> Option<&Fact> {
        let of_subject = self.0.get(subject)?;
        let at = of_subject.binary_search_by(|(known, _)| known.as_str().cmp(name)).ok()?;
        of_subject.get(at).map(|(_, fact)| fact)
    }

    /// One fact's number.
    #[must_use]
    pub fn number(&self, subject: &Subject, name: &'static str) -> Option<f64> {
        self.get(subject, name).and_then(|fact| fact.value.number())
    }

    /// One fact's text.
    #[must_use]
    pub fn text(&self, subject: &Subject, name: &'static str) -> Option<&Clean> {
        match &self.get(subject, name)?.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// One fact's flag.
    #[must_use]
    pub fn flag(&self, subject: &Subject, name: &'static str) -> Option<bool> {
        match self.get(subject, name)?.value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    /// All facts in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (&Subject, &FactName, &Fact)> {
        self.0.iter().flat_map(|(subject, facts)| facts.iter().map(move |(name, fact)| (subject, name, fact)))
    }

    /// The facts of one subject, by name.
    pub fn of<'a>(&'a self, subject: &Subject) -> impl Iterator<Item = (&'a FactName, &'a Fact)> + use<'a> {
        self.0.get(subject).into_iter().flatten().map(|(name, fact)| (name, fact))
    }

    /// The subjects that have facts, each once, in order.
    #[must_use]
    pub fn subjects(&self) -> BTreeSet<Subject> {
        self.0.keys().cloned().collect()
    }

    /// The same by reference.
    #[must_use]
    pub fn subjects_in_order(&self) -> impl ExactSizeIterator<Item = &Subject> {
        self.0.keys()
    }

    /// Keeps the facts for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Subject, &FactName, &Fact) -> bool) {
        self.0.retain(|subject, facts| {
            facts.retain(|(name, fact)| keep(subject, name, fact));
            !facts.is_empty()
        });
    }

    /// How many facts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Puts a fact in its place by name; a later one of the same name takes it over.
fn place(facts: &mut Vec<(FactName, Fact)>, name: FactName, fact: Fact) {
    match facts.binary_search_by(|(known, _)| known.cmp(&name)) {
        Ok(at) => {
            if let Some((_, known)) = facts.get_mut(at) {
                *known = fact;
            }
        }
        Err(at) => facts.insert(at, (name, fact)),
    }
}

impl From<Vec<(Subject, FactName, Fact)>> for Facts {
    fn from(list: Vec<(Subject, FactName, Fact)>) -> Self {
        let mut facts = Self::default();
        let mut rest = list.into_iter().peekable();
        while let Some((subject, name, fact)) = rest.next() {
            let of_subject = facts.0.entry(subject.clone()).or_default();
            place(of_subject, name, fact);
            while let Some((_, name, fact)) = rest.next_if(|(next, _, _)| *next == subject) {
                place(of_subject, name, fact);
            }
            of_subject.shrink_to_fit();
        }
        facts
    }
}
impl From<Facts> for Vec<(Subject, FactName, Fact)> {
    fn from(facts: Facts) -> Self {
        let subjects = facts.0.into_iter();
        subjects
            .flat_map(|(subject, facts)| facts.into_iter().map(move |(name, fact)| (subject.clone(), name, fact)))
            .collect()
    }
}

/// Whose fault it is that something could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The target did not answer in time or at all: counts as a transient fail.
    Target,
    /// We may not or can't look (permission, missing program, newer schema): a settled warn.
    Blind,
    /// Our own trouble: the counters stay, the finding is `pulsecheck`'s.
    Ours,
}

/// Why something could not be read, and whose fault that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unread {
    /// Whose fault it is.
    pub blame: Blame,
    /// The reason, one of those that the kind documents.
    pub code: Code,
    /// The reason in words: a fragment without the check's name (`no answer within 10 s`).
    pub said: Clean,
}

impl Unread {
    /// The target did not answer.
    #[must_use]
    pub fn target(code: impl Into<Code>, said: Clean) -> Self {
        Self { blame: Blame::Target, code: code.into(), said }
    }
    /// We can't look.
    #[must_use]
    pub fn blind(code: impl Into<Code>, said: Clean) -> Self {
        Self { blame: Blame::Blind, code: code.into(), said }
    }
    /// Our own trouble.
    #[must_use]
    pub fn ours(code: impl Into<Code>, said: Clean) -> Self {
        Self { blame: Blame::Ours, code: code.into(), said }
    }
}

/// How bad a finding can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// Yellow at most.
    Warn,
    /// Can reach red.
    Fail,
}

/// One thing that is not as it should be, found by a kind's `assess`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// Which thing; empty for the check itself.
    pub subject: Subject,
    /// The reason, one of those that the kind documents.
    pub code: Code,
    /// How bad it can get.
    pub weight: Weight,
    /// Whether it can't pass by itself: it needs no streak.
    pub settled: bool,
    /// A fragment for people, without the check's name. Foreign text in it is quoted (`Clean::quoted`).
    pub said: Clean,
    /// What this trouble is about; trouble about another one is said anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub episode: Option<Clean>,
}

impl Finding {
    /// A finding about the check itself.
    #[must_use]
    pub fn new(code: impl Into<Code>, weight: Weight, settled: bool, said: Clean) -> Self {
        Self { subject: Subject::none(), code: code.into(), weight, settled, said, episode: None }
    }
    /// The same about a subject.
    #[must_use]
    pub fn on(mut self, subject: &Subject) -> Self {
        self.subject = subject.clone();
        self
    }
}

/// What a check saw in one cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// Which check.
    pub check: CheckName,
    /// When the fetch began.
    pub at: Timestamp,
    /// How long the fetch took, in milliseconds.
    pub took_ms: u64,
    /// What was read.
    pub facts: Facts,
    /// What could not be read, by subject; under the empty subject: the whole check.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unread: BTreeMap<Subject, Unread>,
    /// What is not as it should be, beside what the bands say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Settled fails that a second look within the cycle saw again.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub confirmed: BTreeSet<(Subject, Code)>,
    /// The hosts beyond this machine that were tried, and whether a connection came about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remotes: BTreeMap<Clean, bool>,
}

impl Observation {
    /// An observation with nothing in it yet.
    #[must_use]
    pub fn empty(check: &CheckName, at: Timestamp) -> Self {
        Self {
            check: check.clone(),
            at,
            took_ms: 0,
            facts: Facts::new(),
            unread: BTreeMap::new(),
            findings: Vec::new(),
            confirmed: BTreeSet::new(),
            remotes: BTreeMap::new(),
        }
    }
}
