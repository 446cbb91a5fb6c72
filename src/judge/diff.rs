//! Watched facts against what they were when the finding last passed.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::facts::{Class, Fact, FactName, Facts, Subject, Value};
use crate::redact::Clean;

use super::flap::WINDOW;
use super::incident::{Mark, Restless};

/// A fact that changed this often within the window is muted.
const RESTLESS_CHANGES: u32 = 3;
/// A muted fact is watched again once it held this long.
const HOLDS_AGAIN: SignedDuration = SignedDuration::from_hours(24);
/// Members of a set that are named in a sentence.
const MEMBERS_NAMED: usize = 5;

/// A watched fact that differs, in words.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Differs {
    pub name: FactName,
    pub said: Clean,
}

/// Compares the state and set facts of a passing subject with the mark, and brings the mark up to date. A fact seen for
/// the first time is no change; a restless one is said once more and then muted until it holds for a day.
pub(super) fn compare(facts: &Facts, subject: &Subject, mark: &mut Mark, counts: bool, now: Timestamp) -> Vec<Differs> {
    if counts {
        for restless in mark.restless.values_mut() {
            restless.changes = (restless.changes << 1) & ((1 << WINDOW) - 1);
        }
    }
    mark.restless.retain(|_, restless| {
        restless.muted &= now.duration_since(restless.last) < HOLDS_AGAIN;
        restless.muted || restless.changes != 0
    });
    // Both lie in the order of their names: nearly always all is as it was, and one walk over both says so.
    let mut differing = Vec::new();
    let mut passing = mark.passing.iter().peekable();
    for (name, fact) in facts.of(subject).filter(|(_, fact)| matches!(fact.class, Class::State | Class::Set)) {
        while passing.next_if(|(known, _)| *known < name).is_some() {}
        if !passing.next_if(|(known, _)| *known == name).is_some_and(|(_, before)| *before == fact.value) {
            differing.push((name, fact));
        }
    }
    let mut changes = Vec::new();
    for (name, fact) in differing {
        if let Some(before) = mark.passing.get(name) {
            let said = words(name, before, fact);
            let restless =
                mark.restless.entry(name.clone()).or_insert(Restless { changes: 0, last: now, muted: false });
            restless.changes |= 1;
            restless.last = now;
            if !restless.muted {
                restless.muted = restless.changes.count_ones() >= RESTLESS_CHANGES;
                let said = if restless.muted {
                    clean_join(&said, " (it keeps changing: muted until it holds for a day)")
                } else {
                    said
                };
                changes.push(Differs { name: name.clone(), said });
            }
        }
        mark.passing.insert(name.clone(), fact.value.clone());
    }
    changes
}

fn clean_join(said: &Clean, more: &str) -> Clean {
    crate::clean!("{said}{more}")
}

fn words(name: &FactName, before: &Value, now: &Fact) -> Clean {
    match (before, &now.value) {
        (Value::Set(old), Value::Set(new)) => {
            let added = named(new.difference(old).collect(), now.foreign);
            let removed = named(old.difference(new).collect(), now.foreign);
            match (added, removed) {
                (Some(added), Some(removed)) => crate::clean!("{name}: {added} added, {removed} removed"),
                (Some(added), None) => crate::clean!("{name}: {added} added"),
                (None, Some(removed)) => crate::clean!("{name}: {removed} removed"),
                (None, None) => crate::clean!("{name} changed"),
            }
        }
        (old, new) => crate::clean!("{name} changed from {} to {}", shown(old, now.foreign), shown(new, now.foreign)),
    }
}

fn named(members: BTreeSet<&Clean>, foreign: bool) -> Option<String> {
    let more = members.len().saturating_sub(MEMBERS_NAMED);
    let mut list: Vec<String> = members
        .into_iter()
        .take(MEMBERS_NAMED)
        .map(|member| if foreign { member.quoted().to_string() } else { member.to_string() })
        .collect();
    if more > 0 {
        list.push(format!("{more} more"));
    }
    (!list.is_empty()).then(|| list.join(", "))
}

fn shown(value: &Value, foreign: bool) -> String {
    match value {
        Value::Text(text) if foreign => text.quoted().to_string(),
        Value::Text(text) => text.to_string(),
        Value::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Real(x) => x.to_string(),
        Value::At(at) => at.to_string(),
        Value::Set(members) => format!("{} members", members.len()),
    }
}
