//! What the store and the config know together: each finding, how it stands, and what people did about it. For the
//! commands that only show.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{Failure, Session};
use crate::config::Config;
use crate::facts::{Blame, CheckName, Key, Subject};
use crate::host::sqlite::Trouble;
use crate::judge::{Covers, Incident, Level, Mark, Mute, Policy, Silence, Snapshot, Word};
use crate::kinds::pulsecheck;
use crate::report::rfc3339;
use crate::store::{CycleView, Error, Reader};
use crate::words;

/// What is shown is taken from here.
pub(super) struct View {
    pub config: Config,
    pub policies: BTreeMap<CheckName, Policy>,
    pub now: Timestamp,
    pub last: Option<CycleView>,
    pub snapshot: Snapshot,
    pub incidents: Vec<Incident>,
    pub silences: Vec<Silence>,
    /// None where there is no store yet.
    pub reader: Option<Reader>,
}

/// How one finding stands.
pub(super) struct Stand<'a> {
    pub key: Key,
    pub kind: Option<&'static str>,
    pub level: Level,
    /// None where nothing was ever observed.
    pub mark: Option<&'a Mark>,
    /// When it was last looked at.
    pub looked: Option<Timestamp>,
    pub incident: Option<&'a Incident>,
    pub silence: Option<&'a Silence>,
    pub policy: Option<&'a Policy>,
}

/// When a cycle was, and when the next one is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    pub next: Timestamp,
    /// By more than half an interval: schedulers are not exact.
    pub late: bool,
}

pub(super) fn pace(last: Timestamp, interval: std::time::Duration, now: Timestamp) -> Pace {
    let interval = SignedDuration::try_from(interval).unwrap_or(SignedDuration::MAX);
    let after = |span| last.checked_add(span).unwrap_or(Timestamp::MAX);
    Pace { next: after(interval), late: now > after(interval.saturating_add(interval / 2)) }
}

/// What is said where there is no store.
pub(super) fn none_yet() -> Failure {
    Failure("no cycle has run yet (pulsecheck run)".to_owned())
}

impl View {
    /// Reads both. A store that is not there yet is no trouble of its own.
    pub(super) fn open(session: &mut Session) -> Result<Self, Failure> {
        let config = session.config()?;
        let policies = config.policies();
        let now = session.host.now().wall;
        let mut view = Self {
            config,
            policies,
            now,
            last: None,
            snapshot: Snapshot::new(),
            incidents: Vec::new(),
            silences: Vec::new(),
            reader: None,
        };
        let reader = match Reader::open(&session.host.paths.state) {
            Err(Error::Db(Trouble::Missing { .. })) => return Ok(view),
            other => other?,
        };
        view.last = reader.last_cycle()?;
        view.snapshot = reader.snapshot()?;
        view.incidents = reader.open_incidents()?;
        view.silences = reader.silences(now)?;
        view.reader = Some(reader);
        Ok(view)
    }

    /// The kind of a check; none for one that is no longer configured.
    pub(super) fn kind(&self, check: &CheckName) -> Option<&'static str> {
        if check.as_str() == CheckName::OWN {
            return Some(pulsecheck::DOC.name);
        }
        self.config.checks.get(check).map(|check| check.kind.doc().name)
    }

    /// Every check by name: configured ones, and those that the store still knows.
    pub(super) fn names(&self) -> BTreeSet<&CheckName> {
        let open = self.incidents.iter().map(|incident| &incident.key.check);
        self.policies.keys().chain(self.snapshot.keys()).chain(open).collect()
    }

    /// How each finding of a check stands: the check itself first, then its subjects. Never empty.
    pub(super) fn stands(&self, check: &CheckName) -> Vec<Stand<'_>> {
        let standing = self.snapshot.get(check);
        let mut subjects: BTreeSet<&Subject> = standing.map(|it| it.marks.keys().collect()).unwrap_or_default();
        subjects.extend(self.incidents.iter().filter(|it| it.key.check == *check).map(|it| &it.key.subject));
        let itself = Subject::none();
        subjects.insert(&itself);
        let policy = self.policies.get(check);
        let stand = |subject: &Subject| {
            let key = Key::new(check, subject);
            let mark = standing.and_then(|standing| standing.mark(subject));
            let incident = self.incidents.iter().find(|incident| incident.key == key);
            let silence = self.silences.iter().filter(|silence| silence.covers.has(&key, policy));
            Stand {
                kind: self.kind(check),
                level: incident.map_or_else(|| below(mark), |incident| incident.level),
                mark,
                looked: standing.map(|standing| standing.last.at),
                incident,
                silence: silence.max_by_key(|silence| silence.until),
                policy,
                key,
            }
        };
        subjects.into_iter().map(stand).collect()
    }

    /// A moment for programs.
    pub(super) fn rfc(&self, at: Timestamp) -> String {
        rfc3339(at, &self.config.zone)
    }
}

fn below(mark: Option<&Mark>) -> Level {
    match mark {
        Some(mark) if mark.outcome.word != Word::Pass => Level::Logged,
        _ => Level::Ok,
    }
}

impl Stand<'_> {
    /// pass, warn, fail, unknown or never.
    pub(super) fn outcome(&self) -> &'static str {
        self.mark.map_or("never", |mark| mark.outcome.word.plain().as_str())
    }

    /// Why it does not pass, in words; empty for a pass.
    pub(super) fn said(&self) -> &str {
        match (self.mark, self.incident) {
            (Some(mark), _) if !mark.outcome.said.is_empty() => mark.outcome.said.as_str(),
            (_, Some(incident)) => incident.said.as_str(),
            _ => "",
        }
    }

    /// Since when it is in trouble.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.mark.and_then(|mark| mark.since).or(self.incident.map(|incident| incident.opened))
    }

    /// The arithmetic of its streak: `2 fails in a row, red at 3`. Empty for a plain pass.
    pub(super) fn streak(&self) -> String {
        match (self.mark, self.policy) {
            (Some(mark), Some(policy)) => streak(mark, policy, self.incident),
            _ => String::new(),
        }
    }

    /// Whether a parent holds it.
    pub(super) fn is_held(&self) -> bool {
        let muted = self.incident.is_some_and(|incident| matches!(incident.muted, Some(Mute::Held(_))));
        muted || self.mark.is_some_and(|mark| mark.held)
    }

    /// The parent that holds it, where that is known: it is written down with incidents alone.
    fn parent(&self) -> Option<&CheckName> {
        match (self.incident.and_then(|incident| incident.muted.as_ref()), self.policy) {
            (Some(Mute::Held(parent)), _) => Some(parent),
            (_, Some(policy)) => match policy.depends_on.as_slice() {
                [only] => Some(&only.check),
                _ => None,
            },
            _ => None,
        }
    }

    /// What holds its notices back, one fragment each.
    pub(super) fn asides(&self, moment: impl Fn(Timestamp) -> String) -> Vec<String> {
        let mut said = Vec::new();
        if self.is_held() {
            let parent = self.parent().map_or("what it needs", CheckName::as_str);
            said.push(format!("held while {parent} is down"));
        }
        if let Some(ack) = self.incident.and_then(|incident| incident.ack.as_ref()) {
            let why = if ack.why.is_empty() { String::new() } else { format!(": {}", ack.why.quoted()) };
            said.push(format!("acked at {} by {}{why}", ack.level.status(), ack.by));
        }
        if let Some(silence) = self.silence {
            said.push(format!("silenced until {} (silence {})", moment(silence.until), silence.id));
        }
        if self.mark.is_some_and(|mark| mark.flapping) {
            said.push("flapping".to_owned());
        }
        if self.incident.is_some_and(|incident| incident.withdrawn) {
            said.push("no longer configured: ack it to let it go".to_owned());
        }
        said
    }
}

/// Counters and thresholds in words.
fn streak(mark: &Mark, policy: &Policy, incident: Option<&Incident>) -> String {
    let word = mark.outcome.word;
    if word == Word::Pass {
        return match incident {
            Some(_) if mark.passes < policy.recover_after => {
                format!("{} of {} passes to close", mark.passes, policy.recover_after)
            }
            _ => String::new(),
        };
    }
    if mark.held {
        return "nothing counts".to_owned();
    }
    let fails = matches!(word, Word::Fail | Word::Unknown(Blame::Target));
    let (count, one, many) =
        if fails { (mark.failing, "fail", "fails in a row") } else { (mark.not_ok, "time", "times in a row") };
    let so_far = words::count(u64::from(count), one, many);
    let next = match policy.red {
        _ if mark.outcome.settled && incident.is_some() => Some("needs no streak".to_owned()),
        _ if mark.not_ok < policy.yellow => Some(format!("yellow at {}", policy.yellow)),
        Some(red) if fails && mark.failing < red => Some(format!("red at {red}")),
        Some(_) if fails => None,
        _ => Some("yellow at most".to_owned()),
    };
    next.map_or_else(|| so_far.clone(), |next| format!("{so_far}, {next}"))
}

/// What an ack, a silence or a deed covers, as it is written on the command line.
pub(super) fn covered(covers: &Covers) -> String {
    match covers {
        Covers::Check(check) => check.to_string(),
        Covers::Finding(key) => key.to_string(),
        Covers::Tag(tag) => format!("tag:{tag}"),
    }
}

/// A silence, for programs.
#[derive(Debug, Serialize)]
pub(super) struct SilenceRow<'a> {
    id: i64,
    covers: String,
    from: String,
    until: String,
    by: &'a str,
    why: &'a str,
}

impl<'a> SilenceRow<'a> {
    pub(super) fn new(silence: &'a Silence, view: &View) -> Self {
        Self {
            id: silence.id,
            covers: covered(&silence.covers),
            from: view.rfc(silence.from),
            until: view.rfc(silence.until),
            by: silence.by.as_str(),
            why: silence.why.as_str(),
        }
    }
}

/// An ack, for programs.
#[derive(Debug, Serialize)]
pub(super) struct AckRow<'a> {
    level: &'static str,
    at: String,
    by: &'a str,
    why: &'a str,
}

/// A finding, for programs.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts of one row of the contract")]
pub(super) struct FindingRow<'a> {
    check: &'a str,
    subject: &'a str,
    kind: Option<&'static str>,
    level: &'static str,
    outcome: &'static str,
    code: Option<&'a str>,
    said: &'a str,
    since: Option<String>,
    looked: Option<String>,
    fails_in_a_row: u32,
    not_passing_in_a_row: u32,
    yellow_at: Option<u32>,
    red_at: Option<u32>,
    settled: bool,
    flapping: bool,
    held: bool,
    incident: Option<&'a str>,
    ack: Option<AckRow<'a>>,
    silenced_until: Option<String>,
    withdrawn: bool,
}

impl<'a> FindingRow<'a> {
    pub(super) fn new(stand: &'a Stand<'a>, view: &View) -> Self {
        let (mark, incident) = (stand.mark, stand.incident);
        let code = mark.and_then(|mark| mark.outcome.code.as_ref()).or(incident.map(|incident| &incident.code));
        Self {
            check: stand.key.check.as_str(),
            subject: stand.key.subject.as_str(),
            kind: stand.kind,
            level: super::table::level_word(stand.level),
            outcome: stand.outcome(),
            code: code.map(crate::facts::Code::as_str),
            said: stand.said(),
            since: stand.since().map(|at| view.rfc(at)),
            looked: stand.looked.map(|at| view.rfc(at)),
            fails_in_a_row: mark.map_or(0, |mark| mark.failing),
            not_passing_in_a_row: mark.map_or(0, |mark| mark.not_ok),
            yellow_at: stand.policy.map(|policy| policy.yellow),
            red_at: stand.policy.and_then(|policy| policy.red),
            settled: mark.is_some_and(|mark| mark.outcome.settled),
            flapping: mark.is_some_and(|mark| mark.flapping),
            held: stand.is_held(),
            incident: incident.map(|incident| incident.id.as_str()),
            ack: incident.and_then(|incident| incident.ack.as_ref()).map(|ack| AckRow {
                level: ack.level.status(),
                at: view.rfc(ack.at),
                by: ack.by.as_str(),
                why: ack.why.as_str(),
            }),
            silenced_until: stand.silence.map(|silence| view.rfc(silence.until)),
            withdrawn: incident.is_some_and(|incident| incident.withdrawn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Outcome;

    fn mark(word: Word, not_ok: u32, failing: u32, settled: bool) -> Mark {
        Mark { not_ok, failing, outcome: Outcome { word, settled, ..Outcome::default() }, ..Mark::default() }
    }

    #[test]
    fn streaks_in_words() {
        let policy = Policy::plain(SignedDuration::from_mins(15));
        let capped = Policy { red: None, ..policy.clone() };
        let fail = Word::Fail;
        for (mark, policy, words) in [
            (mark(Word::Pass, 0, 0, false), &policy, ""),
            (mark(fail, 1, 1, false), &policy, "1 fail, yellow at 2"),
            (mark(fail, 2, 2, false), &policy, "2 fails in a row, red at 3"),
            (mark(fail, 5, 5, false), &policy, "5 fails in a row"),
            (mark(fail, 5, 5, false), &capped, "5 fails in a row, yellow at most"),
            (mark(Word::Warn, 2, 0, false), &policy, "2 times in a row, yellow at most"),
            (mark(Word::Unknown(Blame::Target), 2, 2, false), &policy, "2 fails in a row, red at 3"),
        ] {
            assert_eq!(streak(&mark, policy, None), words);
        }
        let held = Mark { held: true, ..mark(fail, 0, 0, false) };
        assert_eq!(streak(&held, &policy, None), "nothing counts");
    }

    #[test]
    fn a_cycle_is_late_by_half_an_interval() {
        let last: Timestamp = "2026-03-20T21:30:00Z".parse().unwrap();
        let quarter = std::time::Duration::from_mins(15);
        for (minutes, late) in [(0, false), (15, false), (22, false), (23, true), (900, true)] {
            let pace = pace(last, quarter, last + SignedDuration::from_mins(minutes));
            assert_eq!((pace.next, pace.late), (last + SignedDuration::from_mins(15), late), "{minutes}");
        }
        let ever = pace(Timestamp::MAX, std::time::Duration::MAX, last);
        assert!(!ever.late);
    }
}
