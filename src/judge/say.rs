//! What is said of what was judged: deeds, mutes, and everything open that differs from what was said last.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::facts::{CheckName, Code, Key, Subject};
use crate::redact::Clean;

use super::incident::{Closing, Mark, Mute, Word};
use super::policy::{Covers, Done, Impact, Level};
use super::{Bench, Change, Judged, What, mute, rank, turn};

impl Bench<'_> {
    /// What people did: it ends withdrawn trouble and surfaces once.
    pub(super) fn deeds(&mut self) {
        for deed in std::mem::take(&mut self.before.deeds) {
            let (key, of) = match &deed.covers {
                Covers::Check(check) => (Key::new(check, &Subject::none()), String::new()),
                Covers::Finding(key) => (key.clone(), String::new()),
                Covers::Tag(tag) => {
                    (Key::new(&CheckName::own(), &Subject::none()), format!(" all checks tagged {tag}"))
                }
            };
            let done = match deed.done {
                Done::Acked => format!("acked{of}"),
                Done::Unacked => format!("ack taken back{of}"),
                Done::Silenced(until) => format!("silenced{of} until {until:.0}"),
                Done::Unsilenced => format!("silence ended{of}"),
                Done::BaselineAccepted => format!("baseline accepted{of}"),
            };
            let said = crate::clean!("{done} by {}: {}", deed.by, deed.why.quoted());
            self.say(&key, What::Deed(deed.id), Level::Ok, said, None, deed.at);
        }
        let acked: Vec<Key> = self
            .open
            .values()
            .filter(|incident| incident.withdrawn && incident.ack.is_some())
            .map(|incident| incident.key.clone())
            .collect();
        for key in acked {
            self.close(&key, Closing::Withdrawn);
        }
    }

    /// Mutes, and says what is not muted and differs from what was said last.
    pub(super) fn mute_and_say(&mut self, words: &BTreeMap<Key, Word>) {
        let keys: Vec<Key> = self.open.keys().cloned().collect();
        for key in keys {
            let Some(mut incident) = self.open.remove(&key) else { continue };
            let policy = self.policies.get(&key.check);
            let mark = self.judged.after.get(&key.check).and_then(|standing| standing.mark(&key.subject));
            let flapping = mark.is_some_and(|mark| mark.flapping);
            if incident.ack.as_ref().is_some_and(|ack| ack.level < incident.level) {
                incident.ack = None;
            }
            let parent = policy.and_then(|policy| mute::parent_down(policy, words));
            let was_held_by = match &incident.muted {
                Some(Mute::Held(parent)) => Some(parent.clone()),
                _ => None,
            };
            // Until a held child is looked at again, what is known of it is from the time its parent was down.
            let held =
                !incident.withdrawn && (mark.is_some_and(|mark| mark.held) || (parent.is_some() && !incident.settled));
            let held_by = if held { parent.cloned().or(was_held_by) } else { None };
            let was_muted = incident.muted.take();
            incident.muted = mute::mute(
                &incident,
                held_by.as_ref(),
                flapping,
                policy,
                &self.before.silences,
                &self.before.recovering,
                self.now,
            );
            if let Some(Mute::Held(parent)) = &incident.muted {
                self.judged.held.entry(parent.clone()).or_default().push(key.clone());
            }
            let what = if incident.withdrawn && incident.muted.is_none() {
                incident.surfaced.as_ref().is_none_or(|said| !said.withdrawn).then_some(What::Withdrawn)
            } else {
                turn::surfaces(&incident, flapping, was_muted.as_ref())
            };
            if let Some(what) = what {
                let said = match &what {
                    What::Withdrawn => {
                        crate::clean!("{}: {}", rank::WITHDRAWN, incident.said)
                    }
                    What::Flapping => crate::clean!("flapping, {}", flaps(mark, &incident.said)),
                    _ if flapping => crate::clean!("flapping, {}", flaps(mark, &incident.said)),
                    _ => incident.said.clone(),
                };
                self.say(&key, what, incident.level, said, Some(incident.code.clone()), incident.opened);
                turn::said(&mut incident, flapping, self.now);
            } else if turn::is_reminder_due(&incident, policy, self.now) {
                incident.reminders = incident.reminders.saturating_add(1);
                incident.reminded = Some(self.now);
                self.judged.reminders.push(key.clone());
            }
            self.open.insert(key, incident);
        }
        // Logged findings of a child whose parent is down are held too.
        for (check, standing) in &self.judged.after {
            if !standing.marks.values().any(|mark| mark.held) {
                continue;
            }
            let Some(parent) = self.policies.get(check).and_then(|policy| mute::parent_down(policy, words)) else {
                continue;
            };
            for (subject, mark) in &standing.marks {
                let key = Key::new(check, subject);
                if mark.held && !self.open.contains_key(&key) {
                    self.judged.held.entry(parent.clone()).or_default().push(key);
                }
            }
        }
    }

    pub(super) fn close(&mut self, key: &Key, closing: Closing) {
        let Some(incident) = self.open.remove(key) else { return };
        // Everything that was said is resolved, silenced or not; what was never said ends without a word.
        if incident.surfaced.is_some() {
            let said = match closing {
                Closing::Passed => crate::clean!("passes again (was: {})", incident.said),
                Closing::Gone => crate::clean!("no longer there (was: {})", incident.said),
                Closing::Withdrawn => Clean::new("withdrawn, and acked"),
            };
            self.say(key, What::Closed(closing), incident.level, said, Some(incident.code.clone()), incident.opened);
        }
        self.judged.closed.push((incident, closing));
    }

    pub(super) fn say(
        &mut self,
        key: &Key,
        what: What,
        level: Level,
        said: Clean,
        code: Option<Code>,
        since: Timestamp,
    ) {
        let floor = match (&what, level) {
            (What::Closed(_), _) => Impact::Low,
            (_, Level::Red) => Impact::High,
            (_, Level::Yellow) => Impact::Med,
            _ => Impact::Low,
        };
        let raised = self.policies.get(&key.check).and_then(|policy| policy.impact);
        let impact =
            if matches!(what, What::Closed(_)) { floor } else { raised.map_or(floor, |raised| raised.max(floor)) };
        self.judged.changes.push(Change {
            id: String::new(),
            key: key.clone(),
            what,
            level,
            impact,
            said,
            code,
            since,
        });
    }

    pub(super) fn finish(mut self) -> Judged {
        self.judged.incidents = self.open.into_values().collect();
        self.judged.changes.sort_by(|a, b| {
            let rank = |change: &Change| {
                let over = matches!(change.what, What::Closed(_));
                (std::cmp::Reverse(if over { Level::Ok } else { change.level }), std::cmp::Reverse(change.impact))
            };
            rank(a).cmp(&rank(b)).then_with(|| a.key.cmp(&b.key))
        });
        for (i, change) in self.judged.changes.iter_mut().enumerate() {
            change.id = format!("c{}", i + 1);
        }
        self.judged
    }
}

fn flaps(mark: Option<&Mark>, said: &Clean) -> Clean {
    let (turns, of) = mark.map_or((0, 0), |mark| (mark.window.transitions(), mark.window.len()));
    crate::clean!("{turns} turns in {of} observations: {said}")
}
