//! The check that Pulsecheck runs on itself: always on, it can't be removed. It fetches nothing: the cycle hands it what
//! went wrong on our own side, so that this never reads as forty failing checks.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::clean;
use crate::facts::{Blame, CheckName, Finding, Observation, Subject, Weight};
use crate::redact::Clean;

use super::{FactDoc, KindDoc, ReasonDoc, ReasonOutcome};

/// The wall clock and the time since boot may drift apart this much between two cycles.
const CLOCK_SLACK: SignedDuration = SignedDuration::from_mins(2);

const fn warn(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: ReasonOutcome::Warn, settled: true, about, action, needs_human: false }
}

/// Its documentation.
pub const DOC: KindDoc = KindDoc {
    name: CheckName::OWN,
    about: "Pulsecheck itself: store, clock, network, outbox, spool, and whether anything could be looked at.",
    subjects: "what is in trouble: `checks`, `store`, `clock`, `network`, `notify NAME`, `spool`, `schedule`, `check NAME`, or the \
               reason why checks could not be looked at",
    facts: &[
        FactDoc { name: "checks", class: "info", about: "checks that are configured" },
        FactDoc { name: "observed", class: "info", about: "checks that were looked at in this cycle" },
        FactDoc { name: "fetch_ms", class: "info", about: "how long looking took, in milliseconds" },
    ],
    reasons: &[&[
        warn("no_checks", "no check is configured", "configure a check: pulsecheck init"),
        warn("none_could_look", "no check could look in this cycle", "see why: pulsecheck status"),
        warn(
            "store_started_anew",
            "the database was damaged and set aside, a new one was begun",
            "look at the file that was set aside",
        ),
        warn(
            "history_dropped",
            "history was dropped before its time to stay under `store.max_size`",
            "raise store.max_size or lower store.retention",
        ),
        warn(
            "clock_jumped",
            "the clock was set by more than two minutes between two cycles",
            "check the clock and its synchronisation",
        ),
        warn(
            "check_panicked",
            "a check's own code failed; the other checks ran",
            "report this with `pulsecheck explain`'s output",
        ),
        warn(
            "could_not_look",
            "checks could not be looked at for a reason on our side",
            "see the reason: pulsecheck status",
        ),
        warn(
            "undeliverable",
            "a channel refuses its notices, or could not be reached for a day",
            "test the channel: pulsecheck notify test",
        ),
        warn(
            "notices_dropped",
            "notices were dropped because they were a day old or too many",
            "see pulsecheck history",
        ),
        warn(
            "spool_damaged",
            "records of job runs could not be read and were moved to spool/bad",
            "look at the files in spool/bad",
        ),
        warn(
            "runs_too_rare",
            "runs come four intervals apart or more, so that no failure is ever the second in a row",
            "set `interval` to what the scheduler does",
        ),
        warn("spool_unreadable", "the records of job runs can't be read", "see the folder spool in the state folder"),
        warn(
            "run_not_recorded",
            "the record of a job's run could not be written",
            "make room in the state folder, or writable",
        ),
        warn(
            "store_away",
            "nothing can be committed now (a full disk, a read-only folder)",
            "make room in the state folder, or writable",
        ),
        ReasonDoc {
            code: "delivery_failing",
            outcome: ReasonOutcome::Fail,
            settled: false,
            about: "a channel does not take its notices at present; they are kept and tried again",
            action: "test the channel: pulsecheck notify test",
            needs_human: false,
        },
        ReasonDoc {
            code: "network_down",
            outcome: ReasonOutcome::Fail,
            settled: false,
            about: "none of three or more remote hosts could be reached: this machine's network is down",
            action: "check this machine's network",
            needs_human: false,
        },
    ]],
    example: "[check.pulsecheck]\nowner = \"human\"\n",
    thresholds_remind: false,
};

/// What the cycle knows of its own side.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Checks that are configured.
    pub checks: usize,
    /// How long looking took.
    pub fetch_ms: u64,
    /// Whether at least one check could look, now or at its last turn.
    pub any_could_look: bool,
    /// What the store went through when it was opened or trimmed: the reason and its words.
    pub store: Vec<(&'static str, Clean)>,
    /// How far the wall clock moved against the time since boot, since the last cycle of this boot.
    pub clock_moved: SignedDuration,
    /// How far apart runs are, when that is too far for streaks to grow.
    pub rare: Option<SignedDuration>,
    /// Checks whose code panicked.
    pub panicked: BTreeMap<CheckName, Clean>,
    /// Channels that refuse, or have refused, their notices for good.
    pub dead: BTreeMap<String, Clean>,
    /// Channels that don't take their notices at present.
    pub failing: BTreeMap<String, Clean>,
    /// Notices that were dropped since the last cycle.
    pub dropped: usize,
    /// Spool files that could not be read.
    pub spool_bad: usize,
    /// Why the spool could not be read, if it could not.
    pub spool_unread: Option<Clean>,
    /// When a job's run could last not be recorded, since that was last said.
    pub spool_lost: Option<Timestamp>,
}

/// What Pulsecheck saw of itself, given what it saw of the others.
#[must_use]
pub fn observe(own: &Own, seen: &[Observation], at: Timestamp) -> Observation {
    let mut of = Observation::empty(&CheckName::own(), at);
    of.took_ms = own.fetch_ms;
    let itself = Subject::none();
    of.facts.info(&itself, "checks", own.checks);
    of.facts.info(&itself, "observed", seen.len());
    of.facts.info(&itself, "fetch_ms", own.fetch_ms);
    let mut say = |subject: &str, code: &'static str, said: Clean| {
        let subject = Subject::new(subject);
        of.findings.push(Finding::new(code, Weight::Warn, true, said).on(&subject));
    };
    if own.checks == 0 {
        say("checks", "no_checks", Clean::new("no check is configured, so nothing is known"));
    } else if !own.any_could_look {
        say("checks", "none_could_look", clean!("none of {} checks could look, so nothing is known", own.checks));
    }
    for (code, said) in &own.store {
        say("store", code, said.clone());
    }
    if own.clock_moved.abs() > CLOCK_SLACK {
        let direction = if own.clock_moved.is_negative() { "back" } else { "forward" };
        let seconds = own.clock_moved.abs().as_secs();
        say("clock", "clock_jumped", clean!("the clock was set {direction} by {seconds} s since the last cycle"));
    }
    if let Some(apart) = own.rare {
        let apart = crate::words::span(apart.as_secs());
        say("schedule", "runs_too_rare", clean!("runs come {apart} apart, too far for failures to add up"));
    }
    for (check, why) in &own.panicked {
        say(&format!("check {check}"), "check_panicked", clean!("the code of this check failed: {why}"));
    }
    for (channel, why) in &own.dead {
        say(&format!("notify {channel}"), "undeliverable", clean!("notices can't be delivered: {why}"));
    }
    if own.dropped > 0 {
        say("outbox", "notices_dropped", clean!("{} notices were dropped undelivered", own.dropped));
    }
    if own.spool_bad > 0 {
        say("spool", "spool_damaged", clean!("{} records of job runs could not be read", own.spool_bad));
    }
    if let Some(why) = &own.spool_unread {
        say("spool", "spool_unreadable", clean!("records of job runs can't be read: {why}"));
    }
    if let Some(at) = own.spool_lost {
        say("spool", "run_not_recorded", clean!("a job's run could not be recorded, last at {at:.0}"));
    }
    for (code, (count, example)) in ours(seen, own) {
        say(&code, "could_not_look", clean!("{count} could not be looked at: {example}"));
    }
    for (channel, why) in own.failing.iter().filter(|(channel, _)| !own.dead.contains_key(*channel)) {
        let said = clean!("notices wait to be delivered: {why}");
        let finding = Finding::new("delivery_failing", Weight::Fail, false, said);
        of.findings.push(finding.on(&Subject::new(&format!("notify {channel}"))));
    }
    of
}

/// The reasons on our side why something could not be looked at: how often, and one example in words.
fn ours(seen: &[Observation], own: &Own) -> BTreeMap<String, (usize, Clean)> {
    let mut reasons: BTreeMap<String, (usize, Clean)> = BTreeMap::new();
    for observation in seen.iter().filter(|observation| !own.panicked.contains_key(&observation.check)) {
        for unread in observation.unread.values().filter(|unread| unread.blame == Blame::Ours) {
            let said = clean!("{}: {}", observation.check, unread.said);
            reasons.entry(unread.code.to_string()).or_insert((0, said)).0 += 1;
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Unread;

    fn well() -> Own {
        Own { checks: 3, any_could_look: true, ..Own::default() }
    }

    fn codes(own: &Own, seen: &[Observation]) -> Vec<(String, String)> {
        let of = observe(own, seen, Timestamp::UNIX_EPOCH);
        let documented: Vec<&str> =
            DOC.reasons.iter().flat_map(|group| group.iter()).map(|reason| reason.code).collect();
        for finding in &of.findings {
            assert!(documented.contains(&finding.code.as_str()), "{} is not documented", finding.code);
        }
        of.findings.iter().map(|f| (f.subject.to_string(), f.code.to_string())).collect()
    }

    #[test]
    fn what_is_well_has_no_finding() {
        assert_eq!(codes(&well(), &[]), vec![]);
    }

    #[test]
    fn each_trouble_of_our_own_is_one_finding() {
        let check = CheckName::try_from("api").unwrap();
        let mut busy = Observation::empty(&check, Timestamp::UNIX_EPOCH);
        busy.unread.insert(Subject::none(), Unread::ours("lanes_busy", Clean::new("no lane came free")));
        let pair = |subject: &str, code: &str| vec![(subject.to_owned(), code.to_owned())];
        for (own, seen, expected) in [
            (Own { checks: 0, any_could_look: false, ..well() }, vec![], pair("checks", "no_checks")),
            (Own { any_could_look: false, ..well() }, vec![], pair("checks", "none_could_look")),
            (Own { clock_moved: SignedDuration::from_mins(-5), ..well() }, vec![], pair("clock", "clock_jumped")),
            (Own { clock_moved: SignedDuration::from_secs(90), ..well() }, vec![], vec![]),
            (well(), vec![busy.clone(), busy.clone()], pair("lanes_busy", "could_not_look")),
            (
                Own { panicked: BTreeMap::from([(check, Clean::new("index out of bounds"))]), ..well() },
                vec![busy],
                pair("check api", "check_panicked"),
            ),
            (Own { dropped: 2, ..well() }, vec![], pair("outbox", "notices_dropped")),
            (Own { spool_bad: 1, ..well() }, vec![], pair("spool", "spool_damaged")),
            (
                Own { failing: BTreeMap::from([("chat".to_owned(), Clean::new("503"))]), ..well() },
                vec![],
                pair("notify chat", "delivery_failing"),
            ),
        ] {
            assert_eq!(codes(&own, &seen), expected);
        }
    }
}
