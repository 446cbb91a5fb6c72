//! The pure middle: observations in, levels, incidents, changes and status out. No clock, no I/O; the whole of it runs
//! inside the transaction that commits what it decides.

mod count;
mod diff;
pub mod flap;
pub mod incident;
mod mute;
mod network;
pub mod notice;
pub mod policy;
pub mod rank;
mod reason;
mod say;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{Blame, CheckName, Code, FactName, Key, Observation, Subject};
use crate::records::CheckView;
use crate::redact::Clean;

pub use count::{GAP_INTERVALS, is_due};
pub use incident::{Ack, Closing, Incident, Mark, Mute, Outcome, Snapshot, Standing, Surfaced, Word};
pub use network::network_down;
pub use notice::{Notice, Turn};
pub use policy::{Advice, Covers, Deed, Dependency, Done, Impact, Level, Policy, Silence};
pub use reason::settled_fails;

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
    /// Whether the store takes nothing at present, so that what is known may end where its trouble began.
    pub unrecorded: bool,
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
    /// The highest level among open incidents that are not held. Held ones are their parent's trouble, as long as that is
    /// open itself: while the parent is only logged, what was said of a child still stands, and nothing is called well.
    #[must_use]
    pub fn status(&self) -> Level {
        self.standing().map(|incident| incident.level).max().unwrap_or(Level::Ok)
    }

    /// The open incidents that stand for themselves.
    pub fn standing(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter().filter(|incident| match &incident.muted {
            Some(Mute::Held(parent)) => {
                incident.surfaced.is_some() && !self.incidents.iter().any(|other| other.key.check == *parent)
            }
            _ => true,
        })
    }
}

/// Judges one cycle.
#[must_use]
pub fn judge(before: Before, seen: Vec<Observation>, policies: &BTreeMap<CheckName, Policy>, now: Timestamp) -> Judged {
    let mut bench = Bench::new(before, policies, now);
    bench.rename();
    let seen = network::own_network(seen, now);
    // Whether a parent is down is known before any child is judged: by what it says now, or said last.
    let words = bench.parents(&seen);
    let mut after = std::mem::take(&mut bench.judged.after);
    for observation in seen {
        bench.weigh(observation, &mut after, &words);
    }
    bench.judged.after = after;
    bench.skip();
    bench.withdraw();
    bench.deeds();
    bench.mute_and_say(&words);
    bench.finish()
}

/// What judging works on.
struct Bench<'a> {
    before: Before,
    policies: &'a BTreeMap<CheckName, Policy>,
    now: Timestamp,
    open: BTreeMap<Key, Incident>,
    opened: usize,
    judged: Judged,
}

impl<'a> Bench<'a> {
    fn new(mut before: Before, policies: &'a BTreeMap<CheckName, Policy>, now: Timestamp) -> Self {
        let snapshot = std::mem::take(&mut before.snapshot);
        let open = std::mem::take(&mut before.incidents).into_iter().map(|i| (i.key.clone(), i)).collect();
        let judged = Judged { first: snapshot.is_empty(), after: snapshot, ..Judged::default() };
        Self { before, policies, now, open, opened: 0, judged }
    }

    /// A check that says what it was called before takes over what is known under that name.
    fn rename(&mut self) {
        for (name, policy) in self.policies {
            let Some(old) = &policy.was else { continue };
            if self.policies.contains_key(old) || self.judged.after.contains_key(name) {
                continue;
            }
            if let Some(mut standing) = self.judged.after.remove(old) {
                standing.last.check = name.clone();
                self.judged.after.insert(name.clone(), standing);
            }
            let moved: Vec<Key> = self.open.keys().filter(|key| key.check == *old).cloned().collect();
            for key in moved {
                if let Some(mut incident) = self.open.remove(&key) {
                    incident.key = Key::new(name, &key.subject);
                    self.open.insert(incident.key.clone(), incident);
                }
            }
        }
    }

    /// What is known of the checks that others depend on, and what is seen of them now.
    fn parents(&self, seen: &[Observation]) -> BTreeMap<Key, Word> {
        let depended_on = self.policies.values().flat_map(|policy| &policy.depends_on);
        let parents: BTreeSet<&CheckName> = depended_on.map(|parent| &parent.check).collect();
        let mut words = mute::words(&self.judged.after, &parents);
        for observation in seen.iter().filter(|observation| parents.contains(&observation.check)) {
            let standing = self.judged.after.get(&observation.check);
            let earlier = standing.map(|standing| (standing.read, &standing.last.facts));
            for subject in reason::subjects(observation) {
                let mark = standing.and_then(|standing| standing.mark(subject));
                let word = reason::look(observation, subject, mark, earlier).word();
                words.insert(Key::new(&observation.check, subject), word);
            }
        }
        words
    }

    /// Counters, levels, incidents and watched facts of one check. All of it is done while its facts are at hand: most of
    /// what judging costs is bringing them from memory.
    fn weigh(&mut self, mut observation: Observation, after: &mut Snapshot, words: &BTreeMap<Key, Word>) {
        let Some(policy) = self.policies.get(&observation.check) else { return };
        let parent = mute::parent_down(policy, words);
        let (is_new_check, standing) = match after.entry(observation.check.clone()) {
            Entry::Occupied(known) => (false, known.into_mut()),
            Entry::Vacant(room) => {
                let nothing = Observation::empty(&observation.check, observation.at);
                let (read, first_seen) = (observation.at, observation.at);
                (true, room.insert(Standing { last: nothing, read, first_seen, marks: BTreeMap::new() }))
            }
        };
        if is_new_check && !self.judged.first {
            self.judged.arrivals.push(Key::new(&observation.check, &Subject::none()));
        }
        let earlier = (!is_new_check).then_some((standing.read, &standing.last.facts));
        let subjects = reason::subjects(&observation);
        for subject in &subjects {
            let key = Key::new(&observation.check, subject);
            let mark = match standing.marks.entry((*subject).clone()) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(room) => {
                    if !is_new_check && !subject.is_none() {
                        self.judged.arrivals.push(key.clone());
                    }
                    room.insert(Box::default())
                }
            };
            let seen = reason::look(&observation, subject, Some(mark), earlier);
            self.weigh_one(&key, mark, &seen, parent.is_some(), policy, &observation);
        }
        let whole_unread = observation.unread.contains_key(&Subject::none());
        if !whole_unread {
            self.missing(standing, &subjects, policy, &observation);
        }
        // What could not be read says nothing about the facts: the ones read last stay, to compare the next with.
        if whole_unread && observation.facts.is_empty() {
            observation.facts = std::mem::take(&mut standing.last.facts);
        } else {
            standing.read = observation.at;
        }
        standing.last = observation;
    }

    fn weigh_one(
        &mut self,
        key: &Key,
        mark: &mut Mark,
        seen: &reason::Seen,
        parent_is_down: bool,
        policy: &Policy,
        observation: &Observation,
    ) {
        let word = seen.word();
        if word == Word::Unknown(Blame::Ours) {
            // Own trouble is the finding of `pulsecheck`; here nothing moves. Of what was never seen, nothing is known.
            mark.blind = true;
            if mark.counted.is_none() {
                mark.outcome = count::outcome(word, seen.reasons.first());
            }
            return;
        }
        mark.blind = false;
        let passes = word == Word::Pass;
        let transient = seen.reasons.iter().all(|reason| !reason.settled);
        let held = parent_is_down && !passes && transient;
        if held {
            // What a child says while its parent is down tells nothing about the child: nothing moves.
            mark.held = true;
            mark.outcome = count::outcome(word, seen.reasons.first());
            mark.since = mark.since.or(Some(observation.at));
            return;
        }
        if mark.held {
            // The parent is back: the child gets its grace.
            mark.held = false;
            count::start_anew(mark);
        }
        // What was settled and is mended is over at once, also when somebody looks again by hand.
        let mended = passes && self.open.get(key).is_some_and(|incident| incident.settled);
        let counted = count::counts(mark, policy, observation.at) || mended;
        if counted {
            count::advance(mark, policy, word, observation.at, self.before.unrecorded);
        }
        mark.bands.clone_from(&seen.bands);
        let was_red = self.open.get(key).is_some_and(|incident| incident.level == Level::Red);
        let (mut level, lead) = count::level(seen, mark, policy, was_red);
        mark.outcome = count::outcome(word, lead);
        mark.since = if passes { None } else { mark.since.or(Some(observation.at)) };
        if mark.flapping {
            level = level.max(Level::Yellow);
        }
        let ended = match self.open.get_mut(key) {
            Some(incident) => turn::take(incident, level, mark, policy, counted, self.now),
            None if level >= Level::Yellow => {
                self.opened += 1;
                let id = format!("{}.{}", self.before.cycle, self.opened);
                let mut incident = turn::open(id, key, level, &mark.outcome, self.now);
                if passes {
                    incident.said = Clean::new("it passes and fails in turn");
                }
                self.open.insert(key.clone(), incident);
                None
            }
            None => {
                if level == Level::Logged {
                    self.judged.logged.push((key.clone(), mark.outcome.clone()));
                }
                None
            }
        };
        if let Some(closing) = ended {
            self.close(key, closing);
        }
        // A silence holds back what changed, it does not forget it: the comparison waits until the silence ends.
        if passes && !self.is_silenced(key) {
            for differs in diff::compare(&observation.facts, &key.subject, mark, counted, self.now) {
                self.say(key, What::Fact(differs.name), Level::Ok, differs.said, None, observation.at);
            }
        }
    }

    fn is_silenced(&self, key: &Key) -> bool {
        if self.before.silences.is_empty() {
            return false;
        }
        let policy = self.policies.get(&key.check);
        self.before.silences.iter().any(|silence| silence.until > self.now && silence.covers.has(key, policy))
    }

    /// Subjects that the check saw before and does not see now.
    fn missing(&mut self, standing: &mut Standing, subjects: &[&Subject], policy: &Policy, observation: &Observation) {
        let mut gone = Vec::new();
        for (subject, mark) in &mut standing.marks {
            let is_there = subjects.binary_search(&subject).is_ok();
            if is_there || !count::counts(mark, policy, observation.at) {
                continue;
            }
            mark.counted = Some(observation.at);
            mark.absent = mark.absent.saturating_add(1);
            if mark.absent >= turn::GONE_AFTER {
                gone.push(subject.clone());
            }
        }
        for subject in gone {
            standing.marks.remove(&subject);
            let key = Key::new(&observation.check, &subject);
            if self.open.contains_key(&key) {
                self.close(&key, Closing::Gone);
            } else {
                self.judged.departures.push(key);
            }
        }
    }

    /// Checks that `when` left out: what was open about them ends as if its subject were gone.
    fn skip(&mut self) {
        let skipped = std::mem::take(&mut self.before.skipped);
        for check in skipped.keys() {
            let (Some(policy), Some(standing)) = (self.policies.get(check), self.judged.after.get_mut(check)) else {
                continue;
            };
            let mut over = Vec::new();
            for (subject, mark) in &mut standing.marks {
                if count::counts(mark, policy, self.now) {
                    mark.counted = Some(self.now);
                    mark.absent = mark.absent.saturating_add(1);
                    if mark.absent >= turn::GONE_AFTER {
                        count::start_anew(mark);
                        mark.since = None;
                        mark.outcome = Outcome::default();
                        over.push(Key::new(check, subject));
                    }
                }
            }
            for key in over {
                self.close(&key, Closing::Gone);
            }
        }
        self.before.skipped = skipped;
    }

    /// Checks that are no longer configured: open trouble stays, withdrawn, until somebody acks it.
    fn withdraw(&mut self) {
        // Both lie in the order of their names.
        let mut configured = self.policies.keys().peekable();
        let mut is_configured = |check: &CheckName| {
            while configured.next_if(|known| *known < check).is_some() {}
            configured.peek().is_some_and(|known| *known == check)
        };
        let removed: Vec<CheckName> = self.judged.after.keys().filter(|check| !is_configured(check)).cloned().collect();
        for check in removed {
            self.judged.after.remove(&check);
            if !self.open.keys().any(|key| key.check == check) {
                let key = Key::new(&check, &Subject::none());
                self.say(&key, What::Removed, Level::Ok, Clean::new("no longer configured"), None, self.now);
            }
        }
        for incident in self.open.values_mut() {
            if self.policies.contains_key(&incident.key.check) {
                if incident.withdrawn {
                    incident.withdrawn = false;
                    incident.surfaced = None;
                }
            } else if !incident.withdrawn {
                incident.withdrawn = true;
                incident.level = Level::Yellow;
                incident.level_since = self.now;
                incident.ack = None;
                incident.settled = true;
            }
        }
    }
}

/// A check's standing as conditions and rules see it.
#[must_use]
pub fn view(standing: &Standing) -> CheckView {
    let reasons = standing.marks.iter().filter_map(|(subject, mark)| {
        let leading = mark.outcome.code.clone()?;
        // What counters said then needs the look before that one; where they led, they are the mark's.
        let mut codes = codes(reason::look(&standing.last, subject, Some(mark), None));
        if !codes.contains(&leading) {
            codes.insert(0, leading);
        }
        Some((subject.clone(), codes))
    });
    CheckView {
        check: standing.last.check.clone(),
        at: standing.last.at,
        outcomes: standing.marks.iter().map(|(subject, mark)| (subject.clone(), mark.outcome.word.plain())).collect(),
        reasons: reasons.collect(),
        facts: standing.last.facts.clone(),
    }
}

/// An observation as conditions and rules see it, before it is judged.
#[must_use]
pub fn view_of(observation: &Observation, standing: Option<&Standing>) -> CheckView {
    let earlier = standing.map(|standing| (standing.read, &standing.last.facts));
    let (mut outcomes, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    for subject in reason::subjects(observation) {
        let mark = standing.and_then(|standing| standing.mark(subject));
        let seen = reason::look(observation, subject, mark, earlier);
        outcomes.insert(subject.clone(), seen.word().plain());
        let codes = codes(seen);
        if !codes.is_empty() {
            reasons.insert(subject.clone(), codes);
        }
    }
    let facts = observation.facts.clone();
    CheckView { check: observation.check.clone(), at: observation.at, outcomes, reasons, facts }
}

/// The codes of the reasons, each once, the gravest first.
fn codes(seen: reason::Seen) -> Vec<Code> {
    let mut codes: Vec<Code> = Vec::new();
    for reason in seen.reasons {
        if !codes.contains(&reason.code) {
            codes.push(reason.code);
        }
    }
    codes
}
