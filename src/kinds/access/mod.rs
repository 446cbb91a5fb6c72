//! Who comes in and who is turned away, read from logs and the journal: how much of it there is beside what is usual, and
//! who is new.

mod history;
mod rules;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use self::history::{Breach, ENOUGH_HOURS, Known, Rate, Refused};
use self::rules::{Means, Trusted};
pub use self::settings::Settings;
use self::settings::{Journal, validate};
use self::sources::{Counted, Files, FilesSeen, JournalSeen, Kept, MAX_FILES, NoJournal, Tally};
use super::common::{FILE_REASONS, LANE_REASONS, MISSING, SPAWN_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Memory, Past, ReasonDoc, ReasonOutcome, remote};
use crate::clean;
use crate::facts::{Blame, Class, Edge, Facts, Finding, Scale, Subject, Unit, Unread, Value, Weight, Worse};
use crate::read::follow::Course;
use crate::redact::Clean;
use crate::settings::{Dur, PathGlob};
use crate::words::{count, human, seconds, span};

/// The keys that are shown.
const TOP: usize = 3;
/// A file that was not there for so long is forgotten.
const FORGET_FILE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// See [`Kind`].
#[derive(Debug)]
pub struct Access;

const fn doc(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
    needs_human: bool,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human }
}
const WARN: ReasonOutcome = ReasonOutcome::Warn;
const FAIL: ReasonOutcome = ReasonOutcome::Fail;
const BLIND: ReasonOutcome = ReasonOutcome::Unknown(Blame::Blind);
const fn info(name: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class: "info", about }
}

const REASONS: &[ReasonDoc] = &[
    doc(
        "login_after_failures",
        FAIL,
        true,
        "a login succeeded from where many had just failed; it stands for a day",
        "see what was done in that session, end it, and change that user's password and keys",
        true,
    ),
    doc(
        "new_source",
        WARN,
        true,
        "a login from an address, or by a user, that was not seen for 90 days; said once",
        "see whether that login is known to whoever it belongs to",
        true,
    ),
    doc(
        "burst",
        WARN,
        true,
        "far more in the last hour than is usual at this time",
        "see who causes it, and block the address or repair the client",
        false,
    ),
    doc(
        "too_many",
        FAIL,
        true,
        "more than `max_per_hour` in the last hour",
        "see who causes it, and block the address or repair the client",
        false,
    ),
    doc(
        "silent",
        FAIL,
        true,
        "no line came for longer than `max_quiet`",
        "see whether the logger still runs and where it writes to",
        false,
    ),
    doc(
        "lines_lost",
        WARN,
        true,
        "the log was replaced or emptied and the old one was not found: lines may be missing; said once",
        "see who did it; where it was the rotation, keep one rotated log unpacked (`delaycompress`)",
        false,
    ),
    doc(
        "behind",
        WARN,
        false,
        "more came than one look reads: what is left comes the next time",
        "raise `max_bytes`, or see what fills the log",
        false,
    ),
    doc("too_many_files", BLIND, true, "the globs match more than 50 files", "give narrower globs", true),
    doc(
        "journal_failed",
        BLIND,
        true,
        "journalctl ended with an error",
        "run journalctl by hand and see what it says",
        true,
    ),
];

impl Kind for Access {
    const DOC: KindDoc = KindDoc {
        name: "access",
        about: "Who comes in and who is turned away, by rules over the new lines of log files and the systemd journal. \
                The first look counts nothing: it learns from what is there who was in before (of files up to \
                `max_bytes`, of the journal the last 7 days, the newest 16 MiB of it). From then on whoever was not \
                in before is told, also where nobody was. A rule that is new in the config learns for one look \
                more. How much is usual is known after a day; until then only `max_per_hour` limits. \
                IPv6 addresses count as their network of 64 bits. Rotated and truncated logs are read to their end.",
        subjects: "every rule by its name, every file by its path, and `journal`",
        facts: &[
            info("events", "of a rule: events since the last look"),
            FactDoc {
                name: "per_hour",
                class: "gauge",
                about: "of a rule: events in the last hour, at the time they were read; bands by `burst_factor` and `max_per_hour`",
            },
            info(
                "usual_per_hour",
                "of a rule: the mean of all hours of two weeks, or the median of this hour of earlier days if that is more",
            ),
            info("hours_known", "of a rule: hours that `usual_per_hour` is made of; 24 are needed"),
            info("top", "of a rule: who caused most of it since the last look, foreign"),
            info("known", "of a rule: how many sources of logins are known, at most 5,000"),
            info("new_sources", "of a rule: sources of logins that are new, foreign"),
            info("after_failures", "of a rule: logins of the last day that came after many failures, foreign"),
            info("lines", "of the check: new lines in all; of a file or the journal: its new lines"),
            info("sources", "of the check: how many logs are read"),
            info("absent", "of the check: which logs are not there, where `optional` allows it"),
            info("learned", "of a file or the journal: that this look only learned from it"),
            info(
                "learned_in_part",
                "of the journal: that this look learned from its newest entries alone, there were too many",
            ),
            info("course", "of a file or the journal: `first`, `same`, `rotated`, `lost`, `truncated`"),
            info("lost_since", "of a file or the journal of which lines may be missing: the last look before"),
            info("left_bytes", "of a file: bytes that wait for the next look"),
            info("behind", "of a file or the journal: whether something waits for the next look"),
            info("too_long", "of a file: lines longer than 64 KiB, skipped"),
            FactDoc {
                name: "quiet_s",
                class: "gauge",
                about: "with `max_quiet`: seconds since a line came, or since the first look",
            },
        ],
        reasons: &[REASONS, MISSING, FILE_REASONS, SPAWN_REASONS, LANE_REASONS],
        example: r#"[check.logins]
kind = "access"
files = ["/var/log/auth.log"]
journal = "if_no_file"
presets = ["sshd", "sudo"]
trusted = ["192.168.0.0/16"]
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        validate(settings, report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let deadline = remote::stop_at(cx);
        let now = cx.now.wall;
        let state = State::load(settings, &*cx.memory)?;
        let mode = settings.journal_mode();
        let files = Files {
            paths: settings.files.iter().map(|path| (path.clone(), cx.host.expand(path.as_str()))).collect(),
            kept: state.files.clone(),
            last: state.kept.last,
            now,
            max_bytes: settings.max_bytes.0,
            leave_abandoned: mode == Journal::IfNoFile,
        };
        let mut tally = state.tally(settings, now);
        let about = settings.files.first().map_or("logs", PathGlob::as_str);
        let read = move || {
            let seen = files.read(&mut tally);
            (tally, seen)
        };
        let (mut tally, seen) = cx.host.lane(about, deadline, read).await?;
        let mut journal = None;
        if mode == Journal::Yes || (mode == Journal::IfNoFile && seen.seen.is_empty()) {
            let matches = settings.matches();
            let from = state.cursor.clone().map(|cursor| (cursor, state.kept.last.unwrap_or(now)));
            let (back, read) = sources::journal(&cx.host, &matches, from, tally, deadline).await?;
            tally = back;
            journal = Some(read);
        }
        state.fetched(settings, tally, &seen, journal, now)
    }

    fn assess(_settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        facts.subjects().iter().flat_map(|subject| findings(facts, subject)).collect()
    }
}

/// The subject that the journal is.
const JOURNAL: &str = "journal";

/// What is kept as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Whole {
    /// When it was first looked at.
    first: Option<Timestamp>,
    /// When it was last looked at.
    last: Option<Timestamp>,
    /// When a line last came.
    line: Option<Timestamp>,
    /// The events of each rule, by time.
    rates: BTreeMap<String, Rate>,
}

/// All that is remembered, as it was before this look.
struct State {
    kept: Whole,
    files: BTreeMap<String, Kept>,
    /// Of rules that have looked at a log before: whom they know, be it nobody.
    known: BTreeMap<String, Known>,
    refused: Refused,
    cursor: Option<String>,
}

fn kept<T: DeserializeOwned>(memory: &dyn Memory, key: &str) -> Result<Option<T>, Unread> {
    // What can't be read any more was written by another release: it is learned anew.
    Ok(memory.get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn load<T: DeserializeOwned + Default>(memory: &dyn Memory, key: &str) -> Result<T, Unread> {
    Ok(kept(memory, key)?.unwrap_or_default())
}

fn file_key(path: &str) -> String {
    let digest = crate::read::sha256(path.as_bytes());
    format!("file:{}", digest.get(..32).unwrap_or(&digest))
}

impl State {
    fn load(settings: &Settings, memory: &dyn Memory) -> Result<Self, Unread> {
        let files =
            memory.scan("file:")?.into_iter().filter_map(|(_, bytes)| serde_json::from_slice::<Kept>(&bytes).ok());
        let mut known = BTreeMap::new();
        for name in names(settings) {
            if let Some(those) = kept(memory, &format!("known:{name}"))? {
                known.insert(name, those);
            }
        }
        Ok(Self {
            kept: load(memory, "whole")?,
            files: files.map(|kept| (kept.path.clone(), kept)).collect(),
            known,
            refused: load(memory, "refused")?,
            cursor: load(memory, "cursor")?,
        })
    }

    fn tally(&self, settings: &Settings, now: Timestamp) -> Tally {
        Tally::new(
            rules::compile(&settings.presets, &settings.patterns),
            settings.trusted.iter().filter_map(|text| Trusted::parse(text)).collect(),
            self.known.clone(),
            self.refused.clone(),
            u64::from(settings.failures_before_login),
            now,
        )
    }

    /// Puts the look together: facts, what could not be read, what to remember.
    fn fetched(
        self,
        settings: &Settings,
        mut tally: Tally,
        seen: &FilesSeen,
        journal: Option<Result<JournalSeen, NoJournal>>,
        now: Timestamp,
    ) -> Result<Fetched, Unread> {
        let mut fetched = Fetched::default();
        let absent = self.sources(settings, seen, journal, now, &mut fetched)?;
        let none = &Subject::none();
        // Where nothing was read, nothing is known of any rule: what comes later counts from the last look that read.
        let looked = fetched.facts.number(none, "sources").is_some_and(|sources| sources > 0.0);
        let mut whole = Whole {
            first: self.kept.first.or(Some(now)),
            last: if looked { Some(now) } else { self.kept.last },
            line: if tally.lines > 0 { Some(now) } else { self.kept.line.filter(|line| *line <= now) },
            rates: if looked { BTreeMap::new() } else { self.kept.rates.clone() },
        };
        fetched.facts.info(none, "lines", tally.lines);
        if !absent.is_empty() {
            fetched.facts.put_foreign(none, "absent", absent.join("; "), Class::Info);
        }
        if let (Some(max), Some(since)) = (settings.max_quiet, whole.line.or(whole.first)) {
            put_quiet(&mut fetched.facts, max, now.duration_since(since).as_secs().max(0));
        }
        tally.refused.age(now);
        for (name, means) in rules_of(settings).into_iter().filter(|_| looked) {
            let mut rate = self.kept.rates.get(&name).cloned().unwrap_or_default();
            let counted = tally.counted.remove(&name).unwrap_or_default();
            // As it was before this look: the events of a burst are no measure of it, whatever hour they fall into.
            let usual = rate.usual(now);
            if let Some(last) = self.kept.last {
                rate.add(last, now, counted.events, usual.map(|usual| burst_at(settings, usual)));
            }
            let known = (means == Means::Login).then(|| {
                // Also who knows nobody has looked now: the next one is new.
                let known = tally.known.entry(name.clone()).or_default();
                known.age(now);
                known.len()
            });
            let breaches = tally.refused.breaches.iter().filter(|breach| breach.rule == name);
            put_rule(&mut fetched.facts, settings, &name, means, (&rate, usual), &counted, known, breaches, now);
            whole.rates.insert(name, rate);
        }
        self.remember(&whole, &tally, &mut fetched);
        Ok(fetched)
    }

    /// The facts of each source, and what could not be read; gives what is not there and may be so.
    fn sources(
        &self,
        settings: &Settings,
        seen: &FilesSeen,
        journal: Option<Result<JournalSeen, NoJournal>>,
        now: Timestamp,
        fetched: &mut Fetched,
    ) -> Result<Vec<String>, Unread> {
        let mut absent = Vec::new();
        let facts = &mut fetched.facts;
        for file in &seen.seen {
            let path = file.path.to_string_lossy();
            let me = &Subject::new(&path);
            put_source(facts, me, file.course, file.lines, file.learned, file.left > 0);
            let before = self.files.get(&*path).map(|kept| kept.at);
            if let Some(before) = before.filter(|_| matches!(file.course, Course::Lost | Course::Truncated)) {
                facts.info(me, "lost_since", before);
            }
            if file.left > 0 {
                facts.info(me, "left_bytes", file.left);
            }
            if file.too_long > 0 {
                facts.info(me, "too_long", file.too_long);
            }
            let kept = Kept { path: path.clone().into_owned(), mark: file.mark.clone(), at: now };
            fetched.remember.push((file_key(&path), serde_json::to_vec(&kept).ok()));
        }
        for kept in self.files.values().filter(|kept| now.duration_since(kept.at) > FORGET_FILE) {
            if !seen.seen.iter().any(|file| file.path.to_string_lossy() == kept.path.as_str()) {
                fetched.remember.push((file_key(&kept.path), None));
            }
        }
        let either = settings.journal_mode() == Journal::IfNoFile;
        let instead = either && matches!(journal, Some(Ok(_)));
        for (path, unread) in &seen.unread {
            let text = path.to_string_lossy();
            let missing = unread.code.as_str() == "missing";
            // A log that was there and is gone is trouble, wherever else one may look; one that never was is not.
            let may_miss = !self.files.contains_key(&*text) && ((settings.optional && missing) || instead);
            if may_miss {
                absent.push(unread.said.to_string());
            } else {
                fetched.unread.insert(Subject::new(&text), unread.clone());
            }
        }
        if seen.too_many {
            let said = clean!("the globs match more than {MAX_FILES} files, and only these are read");
            fetched.unread.insert(Subject::none(), Unread::blind("too_many_files", said));
        }
        let mut read = seen.seen.len();
        let me = &Subject::new(JOURNAL);
        match journal {
            Some(Ok(journal)) => {
                read += 1;
                let course = match (&self.cursor, journal.lost) {
                    (None, _) => Course::First,
                    (Some(_), false) => Course::Same,
                    (Some(_), true) => Course::Lost,
                };
                let learned = self.cursor.is_none();
                put_source(facts, me, course, journal.entries, learned, journal.cut && !learned);
                if journal.cut && learned {
                    facts.info(me, "learned_in_part", true);
                }
                if let Some(before) = self.kept.last.filter(|_| journal.lost) {
                    facts.info(me, "lost_since", before);
                }
                fetched.remember.push(("cursor".to_owned(), serde_json::to_vec(&journal.cursor).ok()));
            }
            Some(Err(NoJournal::Absent(why))) if settings.optional && self.cursor.is_none() => {
                absent.push(why.said.to_string());
            }
            // In place of files that can't be read: one trouble, told of the files.
            Some(Err(_)) if either && !fetched.unread.is_empty() && self.cursor.is_none() => {}
            Some(Err(NoJournal::Absent(why) | NoJournal::Unread(why))) => {
                fetched.unread.insert(me.clone(), why);
            }
            None => {}
        }
        fetched.facts.info(&Subject::none(), "sources", read);
        if read == 0 && absent.is_empty() && fetched.unread.is_empty() {
            // Globs that match nothing.
            if !settings.optional {
                return Err(Unread::target("missing", Clean::new("no log is there")));
            }
            absent.push("no file matches".to_owned());
        }
        Ok(absent)
    }

    fn remember(&self, whole: &Whole, tally: &Tally, fetched: &mut Fetched) {
        let mut keep = |key: String, value: Option<Vec<u8>>| fetched.remember.push((key, value));
        keep("whole".to_owned(), serde_json::to_vec(whole).ok());
        if tally.refused != self.refused {
            keep("refused".to_owned(), serde_json::to_vec(&tally.refused).ok());
        }
        for (name, known) in tally.known.iter().filter(|(name, known)| self.known.get(*name) != Some(*known)) {
            keep(format!("known:{name}"), serde_json::to_vec(known).ok());
        }
    }
}

fn rules_of(settings: &Settings) -> Vec<(String, Means)> {
    let preset = rules::names(&settings.presets).map(|(name, means)| (name.to_owned(), means));
    preset.chain(settings.patterns.iter().map(|own| (own.name.clone(), own.means))).collect()
}

fn names(settings: &Settings) -> impl Iterator<Item = String> {
    rules_of(settings).into_iter().map(|(name, _)| name)
}

/// From how many an hour on it is a burst.
fn burst_at(settings: &Settings, usual: f64) -> f64 {
    (usual * settings.burst_factor).max(f64::from(settings.burst_floor))
}

fn put_source(facts: &mut Facts, me: &Subject, course: Course, lines: u64, learned: bool, behind: bool) {
    let course = match course {
        Course::First => "first",
        Course::Same => "same",
        Course::Rotated => "rotated",
        Course::Lost => "lost",
        Course::Truncated => "truncated",
    };
    facts.info(me, "course", course);
    facts.info(me, "lines", lines);
    if learned {
        facts.info(me, "learned", true);
    }
    if behind {
        facts.info(me, "behind", true);
    }
}

fn put_quiet(facts: &mut Facts, max: Dur, quiet: i64) {
    let scale = Scale {
        unit: Unit::Seconds,
        worse: Worse::Above,
        warn: None,
        fail: Some(Edge { at: max.as_secs_f64(), code: "silent".into(), settled: true }),
        says: clean!("no line came for {}, at most {max} is allowed", span(quiet)),
        episode: None,
    };
    facts.gauge(&Subject::none(), "quiet_s", seconds(quiet), scale);
}

#[expect(clippy::too_many_arguments, reason = "all that is known of a rule, from four places")]
fn put_rule<'a>(
    facts: &mut Facts,
    settings: &Settings,
    name: &str,
    means: Means,
    (rate, usual): (&Rate, Option<f64>),
    counted: &Counted,
    known: Option<usize>,
    breaches: impl Iterator<Item = &'a Breach>,
    now: Timestamp,
) {
    let me = &Subject::new(name);
    facts.info(me, "events", counted.events);
    let per_hour = rate.last_hour(now);
    if let Some(usual) = usual {
        facts.info(me, "usual_per_hour", usual);
    }
    facts.info(me, "hours_known", rate.hours(now));
    let top = top(counted);
    let edge = |at: f64, code: &'static str| Edge { at, code: code.into(), settled: true };
    // People log in as often as they like.
    let counts = means != Means::Login;
    let shown_usual = match usual {
        Some(usual) => format!("usual are {}", human(usual.round(), Unit::None)),
        None => format!("what is usual is known after {ENOUGH_HOURS} hours"),
    };
    let from = if top.is_empty() { Clean::default() } else { clean!(", lately from {}", top.quoted()) };
    let scale = Scale {
        unit: Unit::None,
        worse: Worse::Above,
        warn: usual.filter(|_| counts).map(|usual| edge(burst_at(settings, usual), "burst")),
        fail: settings.max_per_hour.filter(|_| counts).map(|max| edge(f64::from(max), "too_many")),
        says: clean!("{} in the last hour, {shown_usual}{from}", human(per_hour.round(), Unit::None)),
        episode: None,
    };
    facts.gauge(me, "per_hour", per_hour, scale);
    if !top.is_empty() {
        facts.put_foreign(me, "top", top, Class::Info);
    }
    if let Some(known) = known {
        facts.info(me, "known", known);
    }
    let set = |members: BTreeSet<Clean>| (!members.is_empty()).then_some(Value::Set(members));
    if let Some(new) = set(counted.new.iter().map(|(key, who)| who_from(key, who.as_deref())).collect()) {
        facts.put_foreign(me, "new_sources", new, Class::Info);
    }
    let breaches = breaches.map(|breach| {
        let failures = count(breach.failures, "failure", "failures");
        clean!("{} after {failures}", who_from(&breach.key, breach.who.as_deref()))
    });
    if let Some(breaches) = set(breaches.collect()) {
        facts.put_foreign(me, "after_failures", breaches, Class::Info);
    }
}

fn who_from(key: &str, who: Option<&str>) -> Clean {
    match who {
        Some(who) => clean!("{} from {}", Clean::line(who, 60), Clean::line(key, 100)),
        None => Clean::line(key, 100),
    }
}

/// `192.0.2.7 (40), 192.0.2.8 (2)`.
fn top(counted: &Counted) -> Clean {
    let mut keys: Vec<(&String, u64)> = counted.keys.iter().map(|(key, times)| (key, *times)).collect();
    keys.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let words: Vec<String> =
        keys.iter().take(TOP).map(|(key, times)| format!("{} ({times})", Clean::line(key, 60))).collect();
    Clean::line(&words.join(", "), 300)
}

/// Members as they stand in a sentence: the first few, quoted.
fn listed(fact: &Value) -> Option<(Clean, Clean)> {
    let Value::Set(members) = fact else { return None };
    let all: Vec<&str> = members.iter().map(Clean::as_str).collect();
    let first: Vec<String> = members.iter().take(TOP).map(|member| member.quoted().to_string()).collect();
    let more = members.len().saturating_sub(TOP);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some((clean!("{}{more}", first.join(", ")), Clean::new(&crate::read::sha256(all.join("\n").as_bytes()))))
}

fn findings(facts: &Facts, me: &Subject) -> Vec<Finding> {
    let mut found = Vec::new();
    let members = |name| facts.get(me, name).and_then(|fact| listed(&fact.value));
    if let Some((who, episode)) = members("after_failures") {
        let said = clean!("let in where many attempts had failed: {who}");
        let finding = Finding::new("login_after_failures", Weight::Fail, true, said).on(me);
        found.push(Finding { episode: Some(episode), ..finding });
    }
    if let Some((who, episode)) = members("new_sources") {
        let finding = Finding::new("new_source", Weight::Warn, true, clean!("for the first time: {who}")).on(me);
        found.push(Finding { episode: Some(episode), ..finding });
    }
    let lost = match facts.text(me, "course").map(Clean::as_str) {
        Some("lost") => Some("it was replaced, and the old one is not there: lines may be missing"),
        Some("truncated") => Some("it was emptied: what was written since the last look may be missing"),
        _ => None,
    };
    if let Some(said) = lost {
        // What was lost is seen in one look alone: each time is a trouble of its own.
        let episode = facts.get(me, "lost_since").and_then(|fact| match &fact.value {
            Value::At(at) => Some(clean!("{at}")),
            _ => None,
        });
        let finding = Finding::new("lines_lost", Weight::Warn, true, Clean::new(said)).on(me);
        found.push(Finding { episode, ..finding });
    }
    if facts.flag(me, "behind") == Some(true) {
        let left = facts.number(me, "left_bytes").map(crate::words::bytes);
        let said = clean!("{} wait for the next look", left.unwrap_or_else(|| "further entries".to_owned()));
        found.push(Finding::new("behind", Weight::Warn, false, said).on(me));
    }
    found
}
