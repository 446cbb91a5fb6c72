//! `pulsecheck history`: what happened, newest first: cycles that were not quiet, what surfaced, what did not, notices,
//! and what people did.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::run::duration;
use super::table::{Table, Tone, moment};
use super::view::{View, covered, none_yet};
use super::{Exit, Failure, Session};
use crate::facts::{CheckName, Key};
use crate::judge::{Change, Closing, Covers, Deed, Done, Incident, Level, What};
use crate::settings::Dur;
use crate::store::incidents::{Filter, IncidentView, LogView};
use crate::store::outbox::NoticeView;
use crate::store::{CycleView, Reader};
use crate::words::count;

/// `schemas/history.schema.json`, as shipped.
pub(super) const SCHEMA: &str = include_str!("../../schemas/history.schema.json");
/// Rows that are read of each table.
const READ: usize = 1_000;

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One check's only.
    check: Option<String>,
    /// How far back.
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    since: Dur,
    /// At most so many entries: 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// For programs: JSON, after `pulsecheck schema history`.
    #[arg(long)]
    json: bool,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Entry {
    #[serde(skip)]
    at: Timestamp,
    /// Entries of one moment: the cycle stands above what it brought.
    #[serde(skip)]
    rank: u8,
    #[serde(rename = "at")]
    when: String,
    what: &'static str,
    check: Option<String>,
    subject: Option<String>,
    level: Option<&'static str>,
    code: Option<String>,
    said: String,
    cycle: Option<String>,
    incident: Option<String>,
    lasted_s: Option<i64>,
    channel: Option<String>,
    delivery: Option<String>,
    by: Option<String>,
}

#[derive(Serialize)]
struct History<'a> {
    at: String,
    since: String,
    entries: &'a [Entry],
    more: bool,
}

/// Shows it.
pub fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let view = View::open(session)?;
    let reader = view.reader.as_ref().ok_or_else(none_yet)?;
    let check = args.check.as_deref().map(|name| super::explain::known(name, &view)).transpose()?;
    let since = view.now.checked_sub(args.since.signed()).unwrap_or(Timestamp::MIN);
    let mut entries = entries(reader, &view, check.as_ref(), since)?;
    let limit = usize::from(args.limit);
    let more = entries.len() > limit;
    entries.truncate(limit);
    if args.json {
        let history = History { at: view.rfc(view.now), since: view.rfc(since), entries: &entries, more };
        session.out.line(&serde_json::to_string(&history)?);
    } else {
        show(&entries, more, &view, since, args.check.as_deref(), session);
    }
    Ok(Exit::Done)
}

fn show(entries: &[Entry], more: bool, view: &View, since: Timestamp, check: Option<&str>, session: &mut Session) {
    let (now, zone) = (view.now, &view.config.zone);
    if entries.is_empty() {
        let what = check.map_or_else(|| "nothing but quiet cycles".to_owned(), |check| format!("nothing of {check}"));
        session.out.line(&format!("{what} since {}", moment(since, now, zone)));
        return;
    }
    let mut table = Table::default();
    for entry in entries {
        let name = match (&entry.check, entry.subject.as_deref()) {
            (Some(check), None | Some("")) => check.clone(),
            (Some(check), Some(subject)) => format!("{check}/{subject}"),
            (None, _) => String::new(),
        };
        let what = [entry.what, entry.level.unwrap_or_default()].join(" ");
        table.row(tone(entry), [moment(entry.at, now, zone), what.trim_end().to_owned(), name, entry.said.clone()]);
    }
    table.print(0, &mut session.out);
    if more {
        session.out.line("there is more (--limit, --since)");
    }
}

fn tone(entry: &Entry) -> Tone {
    match (entry.what, entry.level) {
        ("logged" | "notice" | "note", _) => Tone::Dim,
        ("closed", _) => Tone::Green,
        (_, Some("red")) => Tone::Red,
        (_, Some("yellow")) => Tone::Yellow,
        _ => Tone::Head,
    }
}

/// All entries that are known, newest first; for one check only its own.
pub(super) fn entries(
    reader: &Reader,
    view: &View,
    check: Option<&CheckName>,
    since: Timestamp,
) -> Result<Vec<Entry>, crate::store::Error> {
    let filter = Filter { check: check.cloned(), since: Some(since), before: None, limit: READ };
    let make = Make { view };
    let mut entries = Vec::new();
    if check.is_none() {
        entries.extend(make.cycles(&reader.cycles(&filter)?));
    }
    let changes = reader.changes(&filter)?;
    // What people did has an entry of its own, also before it surfaces.
    let changes = changes.iter().filter(|it| !matches!(it.change.what, What::Deed(_)));
    entries.extend(changes.map(|it| make.change(it.at, &it.cycle, &it.change)));
    // What never surfaced left no change behind.
    let unsaid = |it: &&IncidentView| it.incident.surfaced.is_none() && it.incident.opened >= since;
    entries.extend(reader.incidents(&filter)?.iter().filter(unsaid).flat_map(|it| make.incident(it)));
    entries.extend(reader.log(&filter)?.iter().map(|it| make.log(it)));
    entries.extend(reader.notices(&filter)?.iter().map(|it| make.notice(it)));
    let concerns = |deed: &&Deed| deed.at >= since && check.is_none_or(|check| view.concerns(&deed.covers, check));
    entries.extend(reader.deeds(READ)?.iter().filter(concerns).map(|it| make.deed(it)));
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.rank)));
    Ok(entries)
}

impl View {
    /// Whether something said of `covers` is said of a part of this check.
    fn concerns(&self, covers: &Covers, check: &CheckName) -> bool {
        match covers {
            Covers::Check(one) => one == check,
            Covers::Finding(key) => key.check == *check,
            Covers::Tag(tag) => self.policies.get(check).is_some_and(|policy| policy.tags.contains(tag)),
        }
    }
}

/// The same entry, of a finding.
fn of(entry: Entry, key: &Key) -> Entry {
    Entry { check: Some(key.check.to_string()), subject: Some(key.subject.to_string()), ..entry }
}

/// Makes entries of rows.
struct Make<'a> {
    view: &'a View,
}

impl Make<'_> {
    fn entry(&self, at: Timestamp, rank: u8, what: &'static str, said: String) -> Entry {
        Entry {
            at,
            rank,
            when: self.view.rfc(at),
            what,
            check: None,
            subject: None,
            level: None,
            code: None,
            said,
            cycle: None,
            incident: None,
            lasted_s: None,
            channel: None,
            delivery: None,
            by: None,
        }
    }

    /// Cycles that were not quiet; those in a row that brought nothing new are one entry.
    fn cycles(&self, cycles: &[CycleView]) -> Vec<Entry> {
        let mut entries = Vec::new();
        let mut rest = cycles.iter().map(|cycle| &cycle.row).peekable();
        while let Some(row) = rest.next() {
            if row.report_json.is_none() {
                continue;
            }
            let same = |next: &&crate::store::CycleRow| {
                !row.surfaced && !next.surfaced && next.status == row.status && next.report_json.is_some()
            };
            let (mut first, mut many) = (row, 1_u64);
            while let Some(next) = rest.next_if(same) {
                (first, many) = (next, many + 1);
            }
            let counts = &row.counts;
            let said = if row.surfaced {
                format!("{} pass, {} warn, {} fail, {} unknown", counts.pass, counts.warn, counts.fail, counts.unknown)
            } else if many == 1 {
                "nothing new".to_owned()
            } else {
                let zone = &self.view.config.zone;
                format!("nothing new in {many} cycles since {}", moment(first.started, row.started, zone))
            };
            let entry = self.entry(row.ended, 3, "cycle", said);
            entries.push(Entry { level: Some(row.status.status()), cycle: Some(row.id.clone()), ..entry });
        }
        entries
    }

    fn change(&self, at: Timestamp, cycle: &str, change: &Change) -> Entry {
        let lasted = at.duration_since(change.since);
        let what = match &change.what {
            What::Opened => "opened",
            What::Raised => "raised",
            What::Lowered => "lowered",
            What::Renewed => "renewed",
            What::Flapping => "flapping",
            What::Closed(_) => "closed",
            What::Withdrawn => "withdrawn",
            What::Fact(_) => "changed",
            What::Removed => "removed",
            What::Surfaced | What::Deed(_) => "surfaced",
        };
        let said = match &change.what {
            What::Closed(how) => format!("{}; was: {}", closed(*how, lasted), change.said),
            _ => change.said.to_string(),
        };
        let lasted_s = matches!(change.what, What::Closed(_)).then_some(lasted.as_secs());
        let level = Some(change.level).filter(|level| *level >= Level::Yellow).map(Level::status);
        let entry = of(self.entry(at, 2, what, said), &change.key);
        let code = change.code.as_ref().map(ToString::to_string);
        Entry { level, code, lasted_s, cycle: Some(cycle.to_owned()), ..entry }
    }

    /// The beginning and the end of an incident that was never said.
    fn incident(&self, it: &IncidentView) -> Vec<Entry> {
        let incident = &it.incident;
        let make = |at, what, said, lasted_s| Entry {
            level: Some(incident.level.status()),
            code: Some(incident.code.to_string()),
            incident: Some(incident.id.clone()),
            lasted_s,
            ..of(self.entry(at, 2, what, said), &incident.key)
        };
        let opened = make(incident.opened, "opened", unsaid(incident), None);
        let ended = it.closed.map(|(at, how)| {
            let lasted = at.duration_since(incident.opened);
            let how = how.map_or_else(|| after(lasted), |how| closed(how, lasted));
            make(at, "closed", format!("{how}; was: {}", incident.said), Some(lasted.as_secs()))
        });
        std::iter::once(opened).chain(ended).collect()
    }

    fn log(&self, log: &LogView) -> Entry {
        let (what, said) = match (log.what.as_str(), &log.outcome) {
            ("finding", Some(outcome)) => ("logged", format!("{outcome}: {}", log.said)),
            _ => ("note", format!("{}: {}", log.what, log.said)),
        };
        let entry =
            Entry { code: log.code.clone(), cycle: Some(log.cycle.clone()), ..self.entry(log.at, 1, what, said) };
        match &log.key {
            Some(key) => of(entry, key),
            None => entry,
        }
    }

    pub(super) fn notice(&self, it: &NoticeView) -> Entry {
        let said = format!("{}: {}: {}", it.channel, delivery(it, self.view), it.notice.title);
        let level = Some(it.notice.level).filter(|level| *level >= Level::Yellow).map(Level::status);
        let entry = of(self.entry(it.created, 0, "notice", said), &it.notice.key);
        Entry { level, channel: Some(it.channel.clone()), delivery: Some(it.state.clone()), ..entry }
    }

    fn deed(&self, deed: &Deed) -> Entry {
        let (what, until) = match &deed.done {
            Done::Acked => ("acked", String::new()),
            Done::Unacked => ("unacked", String::new()),
            Done::Silenced(until) => {
                ("silenced", format!(" until {}", moment(*until, deed.at, &self.view.config.zone)))
            }
            Done::Unsilenced => ("unsilenced", String::new()),
            Done::BaselineAccepted => ("accepted", String::new()),
        };
        let why = if deed.why.is_empty() { String::new() } else { format!(": {}", deed.why.quoted()) };
        let said = format!("{}{until} by {}{why}", covered(&deed.covers), deed.by);
        let entry = Entry { by: Some(deed.by.to_string()), ..self.entry(deed.at, 2, what, said) };
        match &deed.covers {
            Covers::Check(check) => Entry { check: Some(check.to_string()), ..entry },
            Covers::Finding(key) => of(entry, key),
            Covers::Tag(_) => entry,
        }
    }
}

fn unsaid(incident: &Incident) -> String {
    format!("{} (not said so far)", incident.said)
}

fn after(lasted: SignedDuration) -> String {
    format!("after {}", crate::words::span(lasted.as_secs()))
}

fn closed(how: Closing, lasted: SignedDuration) -> String {
    let how = match how {
        Closing::Passed => "passes again",
        Closing::Gone => "no longer there",
        Closing::Withdrawn => "withdrawn",
    };
    format!("{how} {}", after(lasted))
}

/// How far a notice got: `delivered 14:31`, `waits after 2 attempts: HTTP 500`.
pub(super) fn delivery(it: &NoticeView, view: &View) -> String {
    let (now, zone) = (view.now, &view.config.zone);
    let at = |at: Option<Timestamp>| at.map_or_else(String::new, |at| format!(" {}", moment(at, now, zone)));
    let attempts = u64::try_from(it.attempts).unwrap_or(0);
    let tried =
        if attempts == 0 { String::new() } else { format!(" after {}", count(attempts, "attempt", "attempts")) };
    let why = it.why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    match it.state.as_str() {
        "due" => format!("waits{tried}{why}"),
        "delivered" => format!("delivered{}", at(it.ended)),
        "dead" => format!("given up{}{tried}{why}", at(it.ended)),
        "folded" | "dropped" => format!("{}{}{why}", it.state, at(it.ended)),
        other => format!("{other}{why}"),
    }
}
