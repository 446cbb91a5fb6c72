//! The rules' order: what stands in the top three, and what it says there. This is what reports are written from when no
//! model is asked, and the floor that a model is held to.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::facts::{CheckName, Code, Key};
use crate::redact::Clean;

use super::incident::{Incident, Mute};
use super::policy::{Impact, Level, Policy};
use super::{Change, Judged, What};

/// Who owns yellow trouble unless the check says otherwise.
pub const AGENT: &str = "agent";
/// Who owns red trouble unless the check says otherwise.
pub const HUMAN: &str = "human";

/// What is said of open trouble whose check is no longer configured.
pub(super) const WITHDRAWN: &str = "removed from the config while it was not well";

/// One item of the ranking, before it is cut to what the report holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked {
    /// The finding.
    pub key: Key,
    /// Its level now; ok for what is over or opened no incident.
    pub level: Level,
    /// Its impact, fixed by code.
    pub impact: Impact,
    /// In words: the check, the subject and what is the matter.
    pub item: Clean,
    /// What to do.
    pub action: Clean,
    /// Whose it is.
    pub owner: Clean,
    /// Whether the action needs a person.
    pub needs_human: bool,
    /// The changes that it stands for; none for one that merely stands.
    pub changes: Vec<String>,
    /// Whether somebody acked or silenced it.
    pub set_aside: bool,
    /// When the incident opened or the change was seen.
    pub since: Timestamp,
    /// The rules' score; larger is more important within the same level.
    pub score: u32,
}

/// All items, most important first: by level, new before standing, by score; what was acked or silenced last. Held
/// findings are not among them.
#[must_use]
pub fn rank(judged: &Judged, policies: &BTreeMap<CheckName, Policy>, now: Timestamp) -> Vec<Ranked> {
    let mut children: BTreeMap<&CheckName, u32> = BTreeMap::new();
    for parent in policies.values().flat_map(|policy| &policy.depends_on) {
        *children.entry(&parent.check).or_default() += 1;
    }
    let mut items: BTreeMap<Key, Ranked> = BTreeMap::new();
    for incident in judged.standing() {
        let policy = policies.get(&incident.key.check);
        let streak = judged
            .after
            .get(&incident.key.check)
            .and_then(|standing| standing.mark(&incident.key.subject))
            .map_or(0, |mark| mark.not_ok);
        let reach = children.get(&incident.key.check).copied().unwrap_or(0);
        items.insert(incident.key.clone(), standing(incident, policy, streak, reach, now));
    }
    for change in &judged.changes {
        match items.get_mut(&change.key) {
            Some(item) => {
                item.changes.push(change.id.clone());
                item.impact = item.impact.max(change.impact);
                // The change has the newer words, unless it is a side remark to an open incident.
                if !matches!(change.what, What::Fact(_) | What::Deed(_)) {
                    item.item = words(&change.key, &change.said);
                }
            }
            None => {
                items.insert(change.key.clone(), passing(change, policies.get(&change.key.check)));
            }
        }
    }
    let mut items: Vec<Ranked> = items.into_values().collect();
    items.sort_by_cached_key(|item| {
        (
            item.set_aside && item.changes.is_empty(),
            Reverse(item.level),
            item.changes.is_empty(),
            Reverse(item.impact),
            Reverse(item.score),
            item.key.clone(),
        )
    });
    items
}

/// Whether somebody has to act: a red item that is a person's, or an action that needs one. What a person acked is theirs
/// already.
#[must_use]
pub fn requires_human(items: &[Ranked], incidents: &[Incident]) -> bool {
    let acked =
        |key: &Key| incidents.iter().any(|incident| incident.key == *key && incident.muted == Some(Mute::Acked));
    items
        .iter()
        .filter(|item| item.level >= Level::Yellow && !acked(&item.key))
        .any(|item| item.needs_human || (item.level == Level::Red && item.owner.as_str() == HUMAN))
}

fn words(key: &Key, said: &Clean) -> Clean {
    crate::clean!("{}: {said}", key.shown())
}

fn standing(incident: &Incident, policy: Option<&Policy>, streak: u32, reach: u32, now: Timestamp) -> Ranked {
    let floor = if incident.level == Level::Red { Impact::High } else { Impact::Med };
    let aside = match &incident.muted {
        Some(Mute::Acked) => {
            let by = incident.ack.as_ref().map_or_else(Clean::default, |ack| ack.by.clone());
            format!(" (acked by {by})")
        }
        Some(Mute::Silenced(until)) => format!(" (silenced until {until:.0})"),
        _ => String::new(),
    };
    let said = if incident.withdrawn { crate::clean!("{WITHDRAWN}: {}", incident.said) } else { incident.said.clone() };
    let (action, needs_human) = if incident.withdrawn {
        (crate::clean!("ack it if the removal was meant: pulsecheck ack {}", incident.key), true)
    } else {
        advice(policy, Some(&incident.code), &incident.key)
    };
    let hours = u32::try_from(now.duration_since(incident.opened).as_hours().clamp(0, 99)).unwrap_or(0);
    Ranked {
        key: incident.key.clone(),
        level: incident.level,
        impact: policy.and_then(|policy| policy.impact).map_or(floor, |raised| raised.max(floor)),
        item: crate::clean!("{}{aside}", words(&incident.key, &said)),
        action,
        owner: owner(policy, incident.level),
        needs_human,
        changes: Vec::new(),
        set_aside: matches!(incident.muted, Some(Mute::Acked | Mute::Silenced(_))),
        since: incident.opened,
        score: u32::from(incident.settled) * 1_000 + reach.min(99) * 100 + streak.min(99) + hours,
    }
}

fn passing(change: &Change, policy: Option<&Policy>) -> Ranked {
    let (action, over) = match &change.what {
        What::Closed(_) => (Clean::new("nothing to do"), true),
        What::Deed(_) | What::Removed => (Clean::new("check that this was meant"), false),
        What::Fact(_) => {
            (crate::clean!("check that this change was meant: pulsecheck explain {}", change.key.check), false)
        }
        _ => (crate::clean!("look at it: pulsecheck explain {}", change.key.check), false),
    };
    Ranked {
        key: change.key.clone(),
        level: Level::Ok,
        impact: change.impact,
        item: words(&change.key, &change.said),
        action,
        owner: if over { Clean::new(AGENT) } else { owner(policy, Level::Yellow) },
        needs_human: false,
        changes: vec![change.id.clone()],
        set_aside: false,
        since: change.since,
        score: u32::from(over) * 10,
    }
}

/// What to do about a reason: what the check says, else what its kind offers.
#[must_use]
pub fn advice(policy: Option<&Policy>, code: Option<&Code>, key: &Key) -> (Clean, bool) {
    let kind = policy.and_then(|policy| policy.advice.get(code?));
    let needs_human = kind.is_some_and(|advice| advice.needs_human);
    let action = policy
        .and_then(|policy| policy.action.clone())
        .or_else(|| kind.map(|advice| advice.action.clone()))
        .unwrap_or_else(|| crate::clean!("look at it: pulsecheck explain {}", key.check));
    (action, needs_human)
}

/// Whose a finding is at a level.
#[must_use]
pub fn owner(policy: Option<&Policy>, level: Level) -> Clean {
    let default = if level == Level::Red { HUMAN } else { AGENT };
    policy.and_then(|policy| policy.owner.clone()).unwrap_or_else(|| Clean::new(default))
}
