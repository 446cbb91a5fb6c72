//! Why nothing is said of a finding at present: a parent is down, somebody silenced or acked it, it flaps, a ladder is at
//! work. Muting holds back notices, never the truth.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use crate::facts::{CheckName, Key};

use super::incident::{Incident, Mute, Snapshot, Word};
use super::policy::{Dependency, Level, Policy, Silence};

/// The longest that something red is silent.
const OVER_RED: SignedDuration = SignedDuration::from_hours(24);

/// The first parent that is down, by its own last observation.
pub(super) fn parent_down<'a>(policy: &'a Policy, words: &BTreeMap<Key, Word>) -> Option<&'a CheckName> {
    policy.depends_on.iter().find(|parent| is_down(parent, words)).map(|parent| &parent.check)
}

/// A parent is down when the subject that was named fails or is unknown; a check as a whole, when that is so of the check
/// itself, or of each of its subjects.
fn is_down(parent: &Dependency, words: &BTreeMap<Key, Word>) -> bool {
    let down = |word: &Word| matches!(word, Word::Fail | Word::Unknown(_));
    if let Some(subject) = &parent.subject {
        return words.get(&Key::new(&parent.check, subject)).is_some_and(down);
    }
    let from = Key::new(&parent.check, &crate::facts::Subject::none());
    let mut of_parent = words.range(from..).take_while(|(key, _)| key.check == parent.check);
    let Some((_, itself)) = of_parent.next() else { return false };
    let mut subjects = of_parent.map(|(_, word)| word).peekable();
    down(itself) || (subjects.peek().is_some() && subjects.all(down))
}

/// The words of all findings of these checks, as last observed.
pub(super) fn words(snapshot: &Snapshot, checks: &BTreeSet<&CheckName>) -> BTreeMap<Key, Word> {
    checks
        .iter()
        .filter_map(|check| Some((*check, snapshot.get(*check)?)))
        .flat_map(|(check, standing)| {
            standing.marks.iter().map(move |(subject, mark)| (Key::new(check, subject), mark.outcome.word))
        })
        .collect()
}

/// Why an open incident is muted, if it is.
pub(super) fn mute(
    incident: &Incident,
    held_by: Option<&CheckName>,
    flapping: bool,
    policy: Option<&Policy>,
    silences: &[Silence],
    recovering: &BTreeMap<Key, Timestamp>,
    now: Timestamp,
) -> Option<Mute> {
    if let Some(parent) = held_by {
        return Some(Mute::Held(parent.clone()));
    }
    if let Some(until) = recovering.get(&incident.key).filter(|until| **until > now) {
        return Some(Mute::Recovering(*until));
    }
    let silenced_until = silences
        .iter()
        .filter(|silence| silence.covers.has(&incident.key, policy))
        .map(|silence| match incident.level {
            // Also a silence that was begun before it was red ends a day after both have come together.
            Level::Red => silence.until.min(incident.level_since.max(silence.from) + OVER_RED),
            _ => silence.until,
        })
        .max();
    if let Some(until) = silenced_until.filter(|until| *until > now) {
        return Some(Mute::Silenced(until));
    }
    if incident.ack.as_ref().is_some_and(|ack| ack.level >= incident.level) {
        return Some(Mute::Acked);
    }
    let said = incident.surfaced.as_ref();
    let red_is_news = incident.level == Level::Red && said.is_none_or(|said| said.level < Level::Red);
    (flapping && said.is_some_and(|said| said.flapping) && !red_is_news).then_some(Mute::Flapping)
}
