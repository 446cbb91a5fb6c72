//! `pulsecheck status`: how every check stands, as of the last cycle. Looks at nothing itself.

use std::collections::BTreeMap;

use serde::Serialize;

use super::table::{Table, Tone, ago, level_word, moment, paint};
use super::view::{FindingRow, SilenceRow, Stand, View, covered, none_yet, pace};
use super::{Exit, Failure, Session};
use crate::judge::Level;
use crate::store::outbox::ChannelView;
use crate::words::count;

/// `schemas/status.schema.json`, as shipped.
pub(super) const SCHEMA: &str = include_str!("../../schemas/status.schema.json");

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For programs: JSON, after `pulsecheck schema status`.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the contract's names")]
struct Status<'a> {
    at: String,
    host: &'a str,
    status: &'static str,
    cycle: Option<CycleRow<'a>>,
    findings: Vec<FindingRow<'a>>,
    silences: Vec<SilenceRow<'a>>,
    channels: Vec<ChannelRow<'a>>,
}

#[derive(Serialize)]
struct CycleRow<'a> {
    id: &'a str,
    at: String,
    next: String,
    late: bool,
}

#[derive(Serialize)]
struct ChannelRow<'a> {
    name: &'a str,
    configured: bool,
    waiting: i64,
    dead: i64,
    accepted: Option<String>,
    refused: Option<String>,
    refused_in_a_row: i64,
    why: Option<&'a str>,
}

/// Shows it.
pub fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let view = View::open(session)?;
    let reader = view.reader.as_ref().ok_or_else(none_yet)?;
    let mut channels = reader.channels(view.now)?;
    for name in view.config.channels.keys() {
        channels.entry(name.clone()).or_default();
    }
    let mut stands: Vec<Stand<'_>> = view.names().into_iter().flat_map(|check| view.stands(check)).collect();
    // The gravest first; among equals the order of names stands.
    stands.sort_by_key(|stand| std::cmp::Reverse((stand.level, stand.mark.is_none())));
    if args.json {
        let text = serde_json::to_string(&status(&view, &stands, &channels))?;
        session.out.line(&text);
    } else {
        show(&view, &stands, &channels, session);
    }
    Ok(Exit::Done)
}

/// Green, yellow and red as of the last cycle; unknown before the first.
fn status_word(view: &View) -> &'static str {
    view.last.as_ref().map_or("unknown", |last| last.row.status.status())
}

fn status<'a>(view: &'a View, stands: &'a [Stand<'a>], channels: &'a BTreeMap<String, ChannelView>) -> Status<'a> {
    Status {
        at: view.rfc(view.now),
        host: view.config.instance.as_str(),
        status: status_word(view),
        cycle: view.last.as_ref().map(|last| {
            let pace = pace(last.row.started, view.config.interval, view.now);
            CycleRow { id: &last.row.id, at: view.rfc(last.row.started), next: view.rfc(pace.next), late: pace.late }
        }),
        findings: stands.iter().map(|stand| FindingRow::new(stand, view)).collect(),
        silences: view.silences.iter().map(|silence| SilenceRow::new(silence, view)).collect(),
        channels: channels
            .iter()
            .map(|(name, channel)| ChannelRow {
                name,
                configured: view.config.channels.contains_key(name),
                waiting: channel.waiting,
                dead: channel.dead,
                accepted: channel.accepted.map(|at| view.rfc(at)),
                refused: channel.refused.map(|at| view.rfc(at)),
                refused_in_a_row: channel.refused_in_a_row,
                why: channel.why.as_ref().map(crate::redact::Clean::as_str),
            })
            .collect(),
    }
}

fn show(view: &View, stands: &[Stand<'_>], channels: &BTreeMap<String, ChannelView>, session: &mut Session) {
    let (now, zone) = (view.now, &view.config.zone);
    let out = &mut session.out;
    out.line(&header(view, out));
    let mut table = Table::default();
    for stand in shown(stands) {
        table.row(tone(stand.stand), cells(&stand, view));
    }
    table.print(0, out);
    if !view.silences.is_empty() {
        out.line("");
        let mut table = Table::default();
        for silence in &view.silences {
            let why = if silence.why.is_empty() { String::new() } else { format!(": {}", silence.why.quoted()) };
            table.row(
                Tone::Head,
                [
                    format!("silence {}", silence.id),
                    covered(&silence.covers),
                    format!("until {}", moment(silence.until, now, zone)),
                    format!("by {}{why}", silence.by),
                ],
            );
        }
        table.print(0, out);
    }
    if !channels.is_empty() {
        out.line("");
        let mut table = Table::default();
        for (name, channel) in channels {
            let there = view.config.channels.contains_key(name);
            table.row(channel_tone(channel), [format!("channel {name}"), channel_said(channel, there, view)]);
        }
        table.print(0, out);
    }
}

/// `RED box: last cycle 14:30 (12 min ago), next expected 14:45; nothing outside this machine watches it`.
fn header(view: &View, out: &super::Out) -> String {
    let host = &view.config.instance;
    let Some(last) = &view.last else {
        return format!("{host}: no cycle has run yet (pulsecheck run)");
    };
    let (now, zone, level) = (view.now, &view.config.zone, last.row.status);
    let tone = if level == Level::Logged { Tone::Green } else { level.into() };
    let status = paint(&level.status().to_uppercase(), tone, out);
    let pace = pace(last.row.started, view.config.interval, now);
    let next = if pace.late {
        format!("{}: the next one was expected {}", paint("late", Tone::Red, out), moment(pace.next, now, zone))
    } else {
        format!("next expected {}", moment(pace.next, now, zone))
    };
    let looked = ago(last.row.started, now, zone);
    format!("{status} {host}: last cycle {looked}, {next}; nothing outside this machine watches it")
}

/// A row: one finding, or a check of which all subjects pass.
struct Shown<'a> {
    stand: &'a Stand<'a>,
    passing: usize,
}

/// Every finding that is in trouble or set aside; a subject that simply passes is counted at its check.
fn shown<'a>(stands: &'a [Stand<'a>]) -> Vec<Shown<'a>> {
    let plain = |stand: &Stand<'_>| {
        stand.level == Level::Ok && stand.mark.is_some() && stand.asides(|_| String::new()).is_empty()
    };
    stands
        .iter()
        .filter(|stand| stand.key.subject.is_none() || !plain(stand))
        .map(|stand| {
            let passing = stands
                .iter()
                .filter(|other| stand.key.subject.is_none() && other.key.check == stand.key.check)
                .filter(|other| !other.key.subject.is_none() && plain(other))
                .count();
            Shown { stand, passing }
        })
        .collect()
}

fn tone(stand: &Stand<'_>) -> Tone {
    if stand.mark.is_none() && stand.incident.is_none() { Tone::Dim } else { stand.level.into() }
}

fn cells(shown: &Shown<'_>, view: &View) -> [String; 6] {
    let (stand, now, zone) = (shown.stand, view.now, &view.config.zone);
    if stand.mark.is_none() && stand.incident.is_none() {
        let blank = String::new;
        return ["-".to_owned(), stand.key.to_string(), "never looked at".to_owned(), blank(), blank(), blank()];
    }
    let mut said: Vec<String> =
        Some(stand.said()).filter(|said| !said.is_empty()).map(str::to_owned).into_iter().collect();
    said.extend(stand.asides(|at| moment(at, now, zone)));
    if shown.passing > 0 {
        said.push(count(shown.passing as u64, "subject passes", "subjects pass"));
    }
    [
        level_word(stand.level).to_owned(),
        stand.key.to_string(),
        stand.outcome().to_owned(),
        stand.since().map(|at| format!("since {}", moment(at, now, zone))).unwrap_or_default(),
        stand.streak(),
        said.join("; "),
    ]
}

fn channel_tone(channel: &ChannelView) -> Tone {
    match (channel.dead, channel.refused_in_a_row) {
        (0, 0) => Tone::Head,
        (0, _) => Tone::Yellow,
        _ => Tone::Red,
    }
}

fn channel_said(channel: &ChannelView, configured: bool, view: &View) -> String {
    let (now, zone) = (view.now, &view.config.zone);
    let mut said = vec![format!("{} waiting", channel.waiting)];
    if let Some(oldest) = channel.oldest {
        said.push(format!("the oldest since {}", moment(oldest, now, zone)));
    }
    if channel.dead > 0 {
        said.push(format!("{} given up in the last day", channel.dead));
    }
    match channel.accepted {
        Some(at) => said.push(format!("took the last one {}", ago(at, now, zone))),
        None => said.push("took none so far".to_owned()),
    }
    if channel.refused_in_a_row > 0 {
        let refusals = u64::try_from(channel.refused_in_a_row).unwrap_or(0);
        let why = channel.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        said.push(format!("{}{why}", count(refusals, "refusal", "refusals in a row")));
    }
    if let Some(until) = channel.wait_until {
        said.push(format!("nothing is sent before {}", moment(until, now, zone)));
    }
    if !configured {
        said.push("no longer configured".to_owned());
    }
    said.join(", ")
}
