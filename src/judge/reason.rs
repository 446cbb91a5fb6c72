//! From one observation to the reasons why a finding does not pass: what `assess` found, what the bands say, what could
//! not be read.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::facts::{Blame, Class, Code, Fact, FactName, Facts, Observation, Scale, Subject, Weight, Worse};
use crate::redact::Clean;

use super::incident::{Band, Mark, Standing, Word};

/// A better band is entered only this share of the edge beyond it, so that a value on the edge does not flutter.
const WAY_BACK: f64 = 0.05;

/// One reason why a finding does not pass.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Reason {
    pub word: Word,
    pub settled: bool,
    pub confirmed: bool,
    pub code: Code,
    pub said: Clean,
    pub episode: Option<Clean>,
}

impl Reason {
    /// How grave a reason is by itself, for choosing the one that leads: the settled ones act at once.
    fn gravity(&self) -> u8 {
        match (self.word, self.settled, self.confirmed) {
            (Word::Fail, true, true) => 5,
            (Word::Fail, true, false) => 4,
            (Word::Warn | Word::Unknown(Blame::Blind), true, _) => 3,
            (Word::Fail | Word::Unknown(Blame::Target), ..) => 2,
            (Word::Warn | Word::Unknown(_), ..) => 1,
            (Word::Pass, ..) => 0,
        }
    }
}

/// What one observation says of one subject.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    /// Reasons, the gravest first; empty for a pass.
    pub reasons: Vec<Reason>,
    /// The gauges that are not in their ok band.
    pub bands: BTreeMap<FactName, Band>,
}

impl Seen {
    /// Pass, warn, fail or unknown: a fail outweighs an unknown of the target, which outweighs a warn.
    pub fn word(&self) -> Word {
        let rank = |word: Word| match word {
            Word::Pass => 0,
            Word::Unknown(Blame::Ours) => 1,
            Word::Warn => 2,
            Word::Unknown(Blame::Blind) => 3,
            Word::Unknown(Blame::Target) => 4,
            Word::Fail => 5,
        };
        self.reasons.iter().map(|reason| reason.word).max_by_key(|word| rank(*word)).unwrap_or(Word::Pass)
    }
}

/// The subjects that an observation speaks of, in order; the check itself is always one of them.
pub(super) fn subjects(observation: &Observation) -> Vec<&Subject> {
    static ITSELF: Subject = Subject::NONE;
    let read = observation.facts.subjects_in_order();
    let mut subjects = Vec::with_capacity(read.len() + 1);
    subjects.push(&ITSELF);
    subjects.extend(read);
    subjects.extend(observation.unread.keys());
    subjects.extend(observation.findings.iter().map(|finding| &finding.subject));
    subjects.sort_unstable();
    subjects.dedup();
    subjects
}

/// The reasons of one subject, given its mark and, for counters, what was read before.
pub(super) fn look(
    observation: &Observation,
    subject: &Subject,
    mark: Option<&Mark>,
    earlier: Option<(Timestamp, &Facts)>,
) -> Seen {
    let mut reasons = Vec::new();
    let mut bands = BTreeMap::new();
    if let Some(unread) = observation.unread.get(subject) {
        reasons.push(Reason {
            word: Word::Unknown(unread.blame),
            settled: unread.blame == Blame::Blind,
            confirmed: false,
            code: unread.code.clone(),
            said: unread.said.clone(),
            episode: None,
        });
    }
    for finding in observation.findings.iter().filter(|finding| finding.subject == *subject) {
        reasons.push(Reason {
            word: if finding.weight == Weight::Fail { Word::Fail } else { Word::Warn },
            settled: finding.settled,
            confirmed: false,
            code: finding.code.clone(),
            said: finding.said.clone(),
            episode: finding.episode.clone(),
        });
    }
    for (name, fact) in observation.facts.of(subject) {
        let Some((value, scale)) = measured(subject, name, fact, observation.at, earlier) else { continue };
        let before = mark.and_then(|mark| mark.bands.get(name)).copied().unwrap_or_default();
        let now = band(value, scale, before);
        if now == Band::Ok {
            continue;
        }
        bands.insert(name.clone(), now);
        let (word, edge) = match now {
            Band::Fail => (Word::Fail, scale.fail.as_ref()),
            Band::Warn | Band::Ok => (Word::Warn, scale.warn.as_ref()),
        };
        if let Some(edge) = edge {
            reasons.push(Reason {
                word,
                settled: edge.settled,
                confirmed: false,
                code: edge.code.clone(),
                said: scale.says.clone(),
                episode: scale.episode.clone(),
            });
        }
    }
    for reason in &mut reasons {
        reason.confirmed = reason.settled
            && reason.word == Word::Fail
            && observation.confirmed.contains(&(subject.clone(), reason.code.clone()));
    }
    // Stable: among equals the order of facts and findings stands, which is canonical.
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.gravity()));
    Seen { reasons, bands }
}

/// The number that a fact's scale applies to: a gauge's value, or a counter's rate per hour.
fn measured<'a>(
    subject: &Subject,
    name: &FactName,
    fact: &'a Fact,
    at: Timestamp,
    earlier: Option<(Timestamp, &Facts)>,
) -> Option<(f64, &'a Scale)> {
    let value = fact.value.number()?;
    match &fact.class {
        Class::Gauge(scale) => Some((value, scale)),
        Class::Counter(scale) if scale.warn.is_some() || scale.fail.is_some() => {
            let (then, facts) = earlier?;
            let (_, before) = facts.of(subject).find(|(earlier_name, _)| *earlier_name == name)?;
            let hours = at.duration_since(then).as_secs_f64() / 3600.0;
            let grown = value - before.value.number()?;
            // A counter that fell was started anew: its whole value has come since.
            (hours > 0.0).then(|| (if grown < 0.0 { value } else { grown } / hours, scale.as_ref()))
        }
        _ => None,
    }
}

/// Picks a band: a worse one at once, a better one only 5 % past the edge.
fn band(value: f64, scale: &Scale, before: Band) -> Band {
    let beyond = |at: f64, slack: f64| match scale.worse {
        Worse::Above => value > at - slack,
        Worse::Below => value < at + slack,
    };
    let holds = |edge: Option<&crate::facts::Edge>, band: Band| {
        edge.is_some_and(|edge| {
            let slack = if before >= band { edge.at.abs() * WAY_BACK } else { 0.0 };
            beyond(edge.at, slack)
        })
    };
    if holds(scale.fail.as_ref(), Band::Fail) {
        Band::Fail
    } else if holds(scale.warn.as_ref(), Band::Warn) {
        Band::Warn
    } else {
        Band::Ok
    }
}

/// The settled fails of an observation that a second look within the cycle has to confirm before they are red: those of
/// findings that are not red already.
#[must_use]
pub fn settled_fails(
    observation: &Observation,
    standing: Option<&Standing>,
    is_red: impl Fn(&Subject) -> bool,
) -> BTreeSet<(Subject, Code)> {
    subjects(observation)
        .into_iter()
        .filter(|subject| !is_red(subject))
        .flat_map(|subject| {
            let seen = look(
                observation,
                subject,
                standing.and_then(|standing| standing.mark(subject)),
                standing.map(|standing| (standing.read, &standing.last.facts)),
            );
            seen.reasons
                .into_iter()
                .filter(|reason| reason.word == Word::Fail && reason.settled)
                .map(move |reason| (subject.clone(), reason.code))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Edge, Unit};

    fn scale(worse: Worse, warn: f64, fail: f64) -> Scale {
        let edge = |at, code: &'static str| Some(Edge { at, code: code.into(), settled: false });
        Scale { warn: edge(warn, "high"), fail: edge(fail, "too_high"), worse, ..Scale::plain(Unit::Percent) }
    }

    #[test]
    fn a_worse_band_at_once_a_better_one_past_the_edge() {
        let up = scale(Worse::Above, 80.0, 90.0);
        let down = scale(Worse::Below, 20.0, 10.0);
        for (scale, value, before, now) in [
            (&up, 80.0, Band::Ok, Band::Ok),
            (&up, 80.1, Band::Ok, Band::Warn),
            (&up, 90.1, Band::Ok, Band::Fail),
            (&up, 79.0, Band::Warn, Band::Warn),
            (&up, 76.0, Band::Warn, Band::Ok),
            (&up, 86.0, Band::Fail, Band::Fail),
            (&up, 85.0, Band::Fail, Band::Warn),
            (&up, 70.0, Band::Fail, Band::Ok),
            (&down, 20.0, Band::Ok, Band::Ok),
            (&down, 19.9, Band::Ok, Band::Warn),
            (&down, 9.9, Band::Warn, Band::Fail),
            (&down, 10.4, Band::Fail, Band::Fail),
            (&down, 10.5, Band::Fail, Band::Warn),
            (&down, 20.9, Band::Warn, Band::Warn),
            (&down, 21.1, Band::Warn, Band::Ok),
        ] {
            assert_eq!(band(value, scale, before), now, "{value} from {before:?} in {:?}", scale.worse);
        }
    }
}
