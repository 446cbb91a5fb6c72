//! Who is told what: from the changes of a cycle to one notice a channel and incident. Level-triggered: what a channel is
//! told depends on what it was told last, not on having been there at the turn.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::clean;
use crate::config::Channel;
use crate::facts::{CheckName, Code, Key};
use crate::judge::rank::{advice, owner};
use crate::judge::{Change, Impact, Incident, Judged, Level, Notice, Policy, Turn, What};
use crate::redact::Clean;

/// One notice for one channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Addressed {
    /// The channel's name.
    pub channel: String,
    /// What it is told.
    pub notice: Notice,
}

/// What routing rests on.
pub struct Route<'a> {
    /// The channels.
    pub channels: &'a BTreeMap<String, Channel>,
    /// The checks' policies.
    pub policies: &'a BTreeMap<CheckName, Policy>,
    /// Who speaks: the first part of every dedup key.
    pub instance: &'a Clean,
    /// This cycle's id, for the dedup keys of events.
    pub cycle: &'a str,
    /// Now.
    pub now: Timestamp,
    /// When the quiet hours that it is in end; what is below red waits until then.
    pub quiet_until: Option<Timestamp>,
    /// Channels that take what they are sent. One that is new, or took something again after it refused, is told of what
    /// still stands and it never heard of.
    pub reachable: &'a BTreeSet<String>,
}

impl Route<'_> {
    /// Addresses what surfaced, and notes in the incidents what each channel was told.
    #[must_use]
    pub fn address(&self, judged: &mut Judged) -> Vec<Addressed> {
        let mut out = Vec::new();
        for change in &judged.changes {
            match &change.what {
                What::Closed(_) => {
                    let closed = judged.closed.iter().find(|(incident, _)| incident.key == change.key);
                    if let Some((incident, _)) = closed {
                        self.resolve(change, incident, &mut out);
                    }
                }
                What::Withdrawn => {
                    if let Some(incident) = judged.incidents.iter_mut().find(|i| i.key == change.key) {
                        self.resolve(change, incident, &mut out);
                        // Channels that were never told of the trouble hear of the removal once, as an event.
                        let told = std::mem::take(&mut incident.announced);
                        self.event(change, |channel| !told.contains_key(channel), &mut out);
                    }
                }
                What::Fact(_) => self.event(change, |_| true, &mut out),
                // What somebody did to the watching itself is said on every channel.
                What::Removed | What::Deed(_) => {
                    for channel in self.channels.keys() {
                        out.push(self.addressed(channel, change, Turn::Event, None));
                    }
                }
                _ => {
                    if let Some(incident) = judged.incidents.iter_mut().find(|i| i.key == change.key) {
                        self.trouble(change, incident, &mut out);
                    }
                }
            }
        }
        for key in &judged.reminders {
            if let Some(incident) = judged.incidents.iter().find(|incident| incident.key == *key) {
                self.remind(incident, &mut out);
            }
        }
        for incident in &mut judged.incidents {
            let standing = incident.muted.is_none() && incident.surfaced.is_some() && !incident.withdrawn;
            if standing {
                self.catch_up(incident, &mut out);
            }
        }
        out
    }

    fn trouble(&self, change: &Change, incident: &mut Incident, out: &mut Vec<Addressed>) {
        let (whose, needs_human) = self.responsible(incident);
        for (name, channel) in self.channels {
            let told = incident.announced.get(name).copied();
            let turn = match told {
                None if !channel.policy.wants(
                    &change.key,
                    incident.level,
                    self.tags(&change.key),
                    &whose,
                    needs_human,
                ) =>
                {
                    continue;
                }
                None => Turn::Open,
                Some(level) if level < incident.level => Turn::Raise,
                Some(level) if level > incident.level => Turn::Lower,
                Some(_) => Turn::Remind,
            };
            self.announce(name, incident);
            out.push(self.addressed(name, change, turn, Some(incident)));
        }
    }

    /// Notes what a channel is told, and under which key, which stays the same from now on.
    fn announce(&self, channel: &str, incident: &mut Incident) {
        incident.announced.insert(channel.to_owned(), incident.level);
        let root = || format!("{}/{}", self.instance, incident.key);
        incident.dedup.get_or_insert_with(root);
    }

    fn catch_up(&self, incident: &mut Incident, out: &mut Vec<Addressed>) {
        let (whose, needs_human) = self.responsible(incident);
        let change = standing(incident);
        for (name, channel) in self.channels {
            let unheard = !incident.announced.contains_key(name) && self.reachable.contains(name);
            let tags = self.tags(&incident.key);
            if unheard && channel.policy.wants(&incident.key, incident.level, tags, &whose, needs_human) {
                self.announce(name, incident);
                out.push(self.addressed(name, &change, Turn::Open, Some(incident)));
            }
        }
    }

    fn resolve(&self, change: &Change, incident: &Incident, out: &mut Vec<Addressed>) {
        for name in incident.announced.keys().filter(|name| self.channels.contains_key(*name)) {
            out.push(self.addressed(name, change, Turn::Resolve, Some(incident)));
        }
    }

    fn event(&self, change: &Change, also: impl Fn(&str) -> bool, out: &mut Vec<Addressed>) {
        let whose = owner(self.policies.get(&change.key.check), Level::Yellow);
        for (name, channel) in self.channels {
            let wanted = channel.policy.wants(&change.key, Level::Ok, self.tags(&change.key), &whose, false);
            if wanted && also(name) {
                out.push(self.addressed(name, change, Turn::Event, None));
            }
        }
    }

    fn remind(&self, incident: &Incident, out: &mut Vec<Addressed>) {
        let change = standing(incident);
        for name in incident.announced.keys().filter(|name| self.channels.contains_key(*name)) {
            out.push(self.addressed(name, &change, Turn::Remind, Some(incident)));
        }
    }

    fn addressed(&self, channel: &str, change: &Change, turn: Turn, incident: Option<&Incident>) -> Addressed {
        let root = format!("{}/{}", self.instance, change.key);
        let dedup = match turn {
            Turn::Event | Turn::FollowUp => format!("{root}/{}-{}", self.cycle, change.id),
            _ => incident.and_then(|incident| incident.dedup.clone()).unwrap_or(root),
        };
        let code = incident.map(|incident| &incident.code);
        let waits = turn != Turn::FollowUp && change.level < Level::Red;
        Addressed {
            channel: channel.to_owned(),
            notice: Notice {
                dedup,
                turn,
                level: if turn == Turn::Event { Level::Ok } else { change.level },
                impact: change.impact,
                key: change.key.clone(),
                title: title(turn, change),
                lines: self.lines(turn, change, code),
                owner: owner(self.policies.get(&change.key.check), change.level),
                requires_human: turn != Turn::Resolve && incident.is_some_and(|incident| self.responsible(incident).1),
                since: change.since,
                not_before: self.quiet_until.filter(|_| waits).unwrap_or(self.now),
            },
        }
    }

    fn lines(&self, turn: Turn, change: &Change, code: Option<&Code>) -> Vec<Clean> {
        let mut lines = Vec::new();
        if !matches!(turn, Turn::Resolve | Turn::Event) {
            lines.push(advice(self.policies.get(&change.key.check), code, &change.key).0);
        }
        lines.push(clean!("pulsecheck explain {}", change.key.check));
        lines
    }

    /// Whose the incident is, and whether a person must act.
    fn responsible(&self, incident: &Incident) -> (Clean, bool) {
        let policy = self.policies.get(&incident.key.check);
        let whose = owner(policy, incident.level);
        let (_, needs_human) = advice(policy, Some(&incident.code), &incident.key);
        let human = needs_human || (incident.level == Level::Red && whose.as_str() == crate::judge::rank::HUMAN);
        (whose, human)
    }

    fn tags(&self, key: &Key) -> &BTreeSet<Clean> {
        static NONE: BTreeSet<Clean> = BTreeSet::new();
        self.policies.get(&key.check).map_or(&NONE, |policy| &policy.tags)
    }
}

/// An open incident as a change, for what is said of it without one.
fn standing(incident: &Incident) -> Change {
    Change {
        id: String::new(),
        key: incident.key.clone(),
        what: What::Surfaced,
        level: incident.level,
        impact: if incident.level == Level::Red { Impact::High } else { Impact::Med },
        said: incident.said.clone(),
        code: Some(incident.code.clone()),
        since: incident.opened,
    }
}

fn title(turn: Turn, change: &Change) -> Clean {
    let (level, whose) = (change.level.status(), change.key.shown());
    match turn {
        Turn::Open | Turn::Raise | Turn::FollowUp => clean!("{level}: {whose}: {}", change.said),
        Turn::Lower => clean!("now {level}: {whose}: {}", change.said),
        Turn::Remind => clean!("still {level}: {whose}: {}", change.said),
        Turn::Resolve => clean!("resolved: {whose}: {}", change.said),
        Turn::Event => clean!("{whose}: {}", change.said),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::config::ChannelPolicy;
    use crate::facts::{Finding, Observation, Subject, Weight};
    use crate::host::Host;
    use crate::judge::{Before, judge};
    use crate::notify::{AnyChannel, Boxed, Message, NotifierDoc, Outgoing, Per, Receipt, Undelivered};

    const CYCLE: SignedDuration = SignedDuration::from_mins(15);
    const DOC: NotifierDoc = NotifierDoc { name: "none", about: "", per: Per::Incident, example: "" };

    #[derive(Debug)]
    struct Nowhere;

    impl AnyChannel for Nowhere {
        fn doc(&self) -> &'static NotifierDoc {
            &DOC
        }
        fn render(&self, _message: &Message<'_>) -> Outgoing {
            Outgoing::default()
        }
        fn deliver<'a>(
            &'a self,
            _outgoing: &'a Outgoing,
            _host: &'a Host,
            _deadline: Instant,
        ) -> Boxed<'a, Result<Receipt, Undelivered>> {
            Box::pin(async { Ok(Receipt::default()) })
        }
    }

    fn channel(name: &str, from: Level) -> (String, Channel) {
        let policy = ChannelPolicy {
            from,
            checks: BTreeSet::new(),
            tags: BTreeSet::new(),
            owners: BTreeSet::new(),
            requires_human: false,
            per: Per::Incident,
            max_per_hour: 12,
        };
        (name.to_owned(), Channel { name: name.to_owned(), channel: Arc::new(Nowhere), policy })
    }

    struct Story {
        before: Before,
        policies: BTreeMap<CheckName, Policy>,
        channels: BTreeMap<String, Channel>,
        instance: Clean,
        now: Timestamp,
        quiet_until: Option<Timestamp>,
        reachable: BTreeSet<String>,
    }

    impl Story {
        fn new() -> Self {
            let check = CheckName::try_from("api").unwrap();
            Self {
                before: Before { cycle: "k".to_owned(), ..Before::default() },
                policies: BTreeMap::from([(check, Policy::plain(CYCLE))]),
                channels: BTreeMap::from([channel("all", Level::Yellow), channel("reds", Level::Red)]),
                instance: Clean::new("box"),
                now: "2026-03-20T21:30:00Z".parse().unwrap(),
                quiet_until: None,
                reachable: BTreeSet::new(),
            }
        }

        fn next(&mut self, fails: bool) -> Vec<Addressed> {
            self.now += CYCLE;
            let check = CheckName::try_from("api").unwrap();
            let mut seen = Observation::empty(&check, self.now);
            if fails {
                seen.findings.push(Finding::new("down", Weight::Fail, false, Clean::new("it is down")));
            }
            let seen = if self.policies.is_empty() { vec![] } else { vec![seen] };
            let mut judged = judge(self.before.clone(), seen, &self.policies, self.now);
            let route = Route {
                channels: &self.channels,
                policies: &self.policies,
                instance: &self.instance,
                cycle: "k",
                now: self.now,
                quiet_until: self.quiet_until,
                reachable: &self.reachable,
            };
            let notices = route.address(&mut judged);
            self.before.snapshot = judged.after;
            self.before.incidents = judged.incidents;
            notices
        }

        fn turns(&mut self, fails: bool) -> Vec<(String, Turn, Level)> {
            self.next(fails).into_iter().map(|a| (a.channel, a.notice.turn, a.notice.level)).collect()
        }
    }

    #[test]
    fn a_channel_hears_of_what_it_wants_and_of_its_end() {
        let mut story = Story::new();
        assert_eq!(story.turns(true), vec![]);
        assert_eq!(story.turns(true), vec![("all".to_owned(), Turn::Open, Level::Yellow)]);
        assert_eq!(
            story.turns(true),
            vec![("all".to_owned(), Turn::Raise, Level::Red), ("reds".to_owned(), Turn::Open, Level::Red)]
        );
        assert_eq!(
            story.turns(false),
            vec![("all".to_owned(), Turn::Resolve, Level::Red), ("reds".to_owned(), Turn::Resolve, Level::Red)]
        );
    }

    #[test]
    fn a_removed_check_resolves_its_channels_and_is_an_event_to_the_others() {
        let mut story = Story::new();
        story.turns(true);
        story.turns(true);
        story.policies.clear();
        assert_eq!(
            story.turns(true),
            vec![("all".to_owned(), Turn::Resolve, Level::Yellow)],
            "the channel for reds never heard of it and wants no yellow"
        );
        assert!(story.before.incidents[0].announced.is_empty(), "an ack later resolves nothing twice");
    }

    #[test]
    fn quiet_hours_hold_back_what_is_below_red() {
        let mut story = Story::new();
        let morning = story.now + SignedDuration::from_hours(8);
        story.quiet_until = Some(morning);
        story.next(true);
        let yellow = story.next(true);
        assert_eq!(yellow[0].notice.not_before, morning);
        let red = story.next(true);
        assert!(red.iter().all(|addressed| addressed.notice.not_before == story.now), "{red:?}");
    }

    #[test]
    fn the_key_of_an_incident_is_the_same_for_each_of_its_notices() {
        let mut story = Story::new();
        let keys: BTreeSet<String> = [true, true, true, false]
            .into_iter()
            .flat_map(|fails| story.next(fails))
            .map(|addressed| addressed.notice.dedup)
            .collect();
        assert_eq!(keys, BTreeSet::from(["box/api".to_owned()]));
        let key = Key::new(&CheckName::try_from("api").unwrap(), &Subject::new("a/b"));
        assert_eq!(key.to_string(), "api/a/b");
    }

    #[test]
    fn a_channel_that_comes_later_is_told_of_what_still_stands() {
        let mut story = Story::new();
        let later = story.channels.remove("all").unwrap();
        for _ in 0..3 {
            story.next(true);
        }
        story.channels.insert("all".to_owned(), later);
        assert_eq!(story.turns(true), vec![], "one that refuses is not pestered");
        story.reachable.insert("all".to_owned());
        assert_eq!(story.turns(true), vec![("all".to_owned(), Turn::Open, Level::Red)]);
        assert_eq!(story.turns(true), vec![]);
        assert_eq!(story.turns(false).len(), 2, "both hear of the end");
    }

    #[test]
    fn a_new_name_of_the_host_changes_no_key_that_was_announced() {
        let mut story = Story::new();
        story.next(true);
        story.next(true);
        story.instance = Clean::new("den");
        let keys: Vec<String> = story.next(false).into_iter().map(|addressed| addressed.notice.dedup).collect();
        assert_eq!(keys, ["box/api"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// On each channel: an opening first, never a second one before its resolve, and a resolve only of what was opened.
        #[test]
        fn openings_and_resolves_alternate(fails in prop::collection::vec(any::<bool>(), 1..60)) {
            let mut story = Story::new();
            let mut open: BTreeMap<String, bool> = BTreeMap::new();
            for fails in fails {
                for (channel, turn, _) in story.turns(fails) {
                    let is_open = open.entry(channel).or_default();
                    match turn {
                        Turn::Open => { prop_assert!(!*is_open); *is_open = true; }
                        Turn::Resolve => { prop_assert!(*is_open); *is_open = false; }
                        Turn::Event => {}
                        _ => prop_assert!(*is_open),
                    }
                }
            }
        }
    }
}
