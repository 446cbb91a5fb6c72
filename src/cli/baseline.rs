//! `pulsecheck baseline`: what checks are compared with, what differs now, and a person's word that it is right.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::explain::{known, meant};
use super::people::{actor, store};
use super::table::{Table, Tone, ago, moment, paint};
use super::view::View;
use super::{Exit, Failure, Session};
use crate::clean;
use crate::facts::{CheckName, Facts, Key, Subject};
use crate::judge::{Covers, Standing};
use crate::kinds::Baseline;
use crate::kinds::baseline::compare::{Difference, Held, between, seen_id, to_keep};
use crate::redact::Clean;
use crate::words::count;

/// `schemas/baseline.schema.json`, as shipped.
pub(super) const SCHEMA: &str = include_str!("../../schemas/baseline.schema.json");
/// A look older than so many of the check's intervals is not accepted: nobody knows what is there now.
const TOO_OLD_INTERVALS: i32 = 2;
/// What it is at least, for checks that are looked at often.
const TOO_OLD_AT_LEAST: SignedDuration = SignedDuration::from_hours(1);

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show what checks are compared with: who accepted it, when and why.
    Show {
        /// One check, with its members; without it all, without members.
        check: Option<String>,
        /// For programs: JSON, after `pulsecheck schema baseline`.
        #[arg(long)]
        json: bool,
    },
    /// Show what the newest look saw that is not as accepted.
    Diff {
        /// The check.
        check: String,
    },
    /// Accept what the newest look saw: exactly what `diff` shows. It is said on every channel, with who did it and why.
    Accept {
        /// The check.
        check: String,
        /// One of its subjects only.
        #[arg(long, value_name = "SUBJECT")]
        subject: Option<String>,
        /// Why it is right, for whoever comes after you.
        #[arg(long, value_name = "TEXT")]
        why: String,
        /// What `diff` ended with: nothing else is accepted, whatever was seen since.
        #[arg(long, value_name = "ID")]
        seen: Option<String>,
    },
}

/// Shows, compares or accepts.
pub fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    match &args.what {
        What::Show { check, json } => show(check.as_deref(), *json, session),
        What::Diff { check } => diff(check, session),
        What::Accept { check, subject, why, seen } => accept(check, subject.as_deref(), why, seen.as_deref(), session),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    at: String,
    baselines: Vec<Row<'a>>,
}

/// What one subject is compared with, for programs.
#[derive(Serialize)]
struct Row<'a> {
    check: &'a str,
    subject: String,
    at: Option<String>,
    observed: Option<String>,
    by: Option<Clean>,
    why: Option<Clean>,
    verified: bool,
    problem: Option<Clean>,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<BTreeSet<Clean>>,
    #[serde(skip)]
    baseline: Option<Baseline>,
}

/// The configured checks that are compared with baselines.
fn compared(view: &View) -> Vec<&CheckName> {
    let checks = view.config.checks.iter().filter(|(_, check)| check.kind.has_baseline());
    checks.map(|(name, _)| name).collect()
}

/// The check of that name, which must be one that is compared.
fn one(name: &str, view: &View) -> Result<CheckName, Failure> {
    let check = known(name, view)?;
    let compared = compared(view);
    if compared.contains(&&check) {
        return Ok(check);
    }
    let names: Vec<&str> = compared.iter().map(|check| check.as_str()).collect();
    let kind = view.kind(&check).unwrap_or("no longer configured");
    Err(Failure(format!("`{check}` ({kind}) is not compared with a baseline ({})", meant("", &names))))
}

fn show(check: Option<&str>, json: bool, session: &mut Session) -> Result<Exit, Failure> {
    let view = View::open(session)?;
    let checks = match check {
        Some(name) => vec![one(name, &view)?],
        None => compared(&view).into_iter().cloned().collect(),
    };
    let mut baselines = Vec::new();
    for check in &checks {
        baselines.extend(rows(check, &view)?);
    }
    if check.is_none() {
        for row in &mut baselines {
            row.members = None;
        }
    }
    if json {
        session.out.line(&serde_json::to_string(&Shown { at: view.rfc(view.now), baselines })?);
        return Ok(Exit::Done);
    }
    if checks.is_empty() {
        session.out.line("no check is compared with a baseline (a check of kind `baseline` is)");
    }
    for check in &checks {
        session.out.line(&paint(check.as_str(), Tone::Head, &session.out));
        let of_check = || baselines.iter().filter(|row| row.check == check.as_str());
        let mut table = Table::default();
        for row in of_check() {
            let tone = if row.verified { Tone::Green } else { Tone::Red };
            table.row(tone, [row.subject.clone(), count(row.count, "member", "members"), taken(row, &view)]);
        }
        table.print(2, &mut session.out);
        if of_check().next().is_none() {
            session.out.line("  never looked at (pulsecheck run)");
        }
        for row in of_check() {
            let Some(members) = row.members.as_ref().filter(|members| !members.is_empty()) else { continue };
            session.out.line(&format!("\n{}", paint(&row.subject, Tone::Head, &session.out)));
            for member in members {
                session.out.line(&format!("  {member}"));
            }
        }
    }
    Ok(Exit::Done)
}

/// Who accepted it, when and why; or why it is not to be relied on.
fn taken(row: &Row<'_>, view: &View) -> String {
    let Some(baseline) = &row.baseline else {
        let problem = row.problem.as_ref().map_or("", Clean::as_str);
        return problem.to_owned();
    };
    let at = ago(baseline.at, view.now, &view.config.zone);
    match &baseline.by {
        Some(by) => format!("accepted {at} by {by}: {}", baseline.why.quoted()),
        None => format!("taken by the first look {at}, accepted by nobody"),
    }
}

fn rows<'a>(check: &'a CheckName, view: &View) -> Result<Vec<Row<'a>>, Failure> {
    let Some(reader) = &view.reader else { return Ok(Vec::new()) };
    let mut known = reader.baselines(check)?;
    let mut subjects: BTreeSet<Subject> = known.keys().cloned().collect();
    let marks = view.snapshot.get(check).into_iter().flat_map(|standing| standing.marks.keys());
    subjects.extend(marks.filter(|subject| !subject.is_none()).cloned());
    let row = |subject: Subject| {
        let (baseline, problem) = match known.remove(&subject) {
            Some(Ok(baseline)) => (Some(baseline), None),
            Some(Err(why)) => (None, Some(clean!("can't be verified: {why}"))),
            None => (None, Some(Clean::new("none yet: it was never read"))),
        };
        let held = baseline.as_ref().and_then(|baseline| Held::of(&baseline.facts, &subject));
        let members = held.as_ref().map(|held| held.members.clone()).unwrap_or_default();
        let left_out = held.map_or(0, |held| held.left_out);
        Row {
            check: check.as_str(),
            at: baseline.as_ref().map(|baseline| view.rfc(baseline.at)),
            observed: baseline.as_ref().map(|baseline| view.rfc(baseline.observed)),
            by: baseline.as_ref().and_then(|baseline| baseline.by.clone()),
            why: baseline.as_ref().map(|baseline| baseline.why.clone()),
            verified: baseline.is_some(),
            problem,
            count: u64::try_from(members.len()).unwrap_or(u64::MAX).saturating_add(left_out),
            members: Some(members),
            subject: subject.to_string(),
            baseline,
        }
    };
    Ok(subjects.into_iter().map(row).collect())
}

fn diff(name: &str, session: &mut Session) -> Result<Exit, Failure> {
    let view = View::open(session)?;
    let check = one(name, &view)?;
    let never = || Failure(format!("`{check}` was never looked at (pulsecheck run)"));
    let reader = view.reader.as_ref().ok_or_else(never)?;
    let standing = view.snapshot.get(&check).ok_or_else(never)?;
    let known = reader.baselines(&check)?;
    let mut differs = false;
    let mut subjects: BTreeSet<Subject> = standing.last.facts.subjects();
    subjects.extend(standing.last.unread.keys().cloned());
    let out = &mut session.out;
    out.line(&format!("as seen {}", ago(standing.read, view.now, &view.config.zone)));
    for subject in &subjects {
        let unread = standing.last.unread.get(subject).map(|unread| unread.said.clone());
        let held = Held::of(&standing.last.facts, subject);
        let (lines, is) = match (known.get(subject), held) {
            (Some(Err(why)), _) => (Vec::new(), format!("what it is compared with can't be verified: {why}")),
            (Some(Ok(baseline)), Some(held)) => {
                let before = Held::of(&baseline.facts, subject).unwrap_or_default();
                let difference = between(&before, &held);
                let at = moment(baseline.at, view.now, &view.config.zone);
                let is = if difference.is_empty() { format!("as {at}") } else { format!("since {at}") };
                (lines(&difference), is)
            }
            (None, Some(_)) => (Vec::new(), "has no baseline yet".to_owned()),
            (_, None) => (Vec::new(), String::new()),
        };
        differs |= !lines.is_empty() || matches!(known.get(subject), Some(Err(_)));
        let unread = unread.map(|said| format!("could not be read: {said}"));
        let said: Vec<String> = [is].into_iter().filter(|is| !is.is_empty()).chain(unread).collect();
        let subject = if subject.is_none() { check.as_str() } else { subject.as_str() };
        out.line(&format!("{}: {}", paint(subject, Tone::Head, out), said.join("; ")));
        for (tone, line) in lines {
            out.line(&format!("  {}", paint(&line, tone, out)));
        }
    }
    if differs {
        let id = seen_id(&standing.last.facts);
        out.line(&format!("to accept exactly this: pulsecheck baseline accept {check} --seen {id} --why TEXT"));
    }
    Ok(Exit::Done)
}

fn lines(difference: &Difference) -> Vec<(Tone, String)> {
    let added = difference.added.iter().map(|member| (Tone::Green, format!("+ {member}")));
    let removed = difference.removed.iter().map(|member| (Tone::Red, format!("- {member}")));
    let changed =
        difference.changed.iter().map(|(name, was, is)| (Tone::Yellow, format!("~ {name}: is {is}, was {was}")));
    let new = difference.newly_read.iter().map(|part| (Tone::Yellow, format!("? {part}: could not be read before")));
    let hidden = difference.hidden.then(|| (Tone::Yellow, "~ something that is not shown (a secret in it)".to_owned()));
    added.chain(removed).chain(changed).chain(new).chain(hidden).collect()
}

fn accept(
    name: &str,
    subject: Option<&str>,
    why: &str,
    seen: Option<&str>,
    session: &mut Session,
) -> Result<Exit, Failure> {
    let view = View::open(session)?;
    let check = one(name, &view)?;
    if why.trim().is_empty() {
        return Err(Failure(
            "say why it is right (--why TEXT): it is told to everybody who is told of this check".into(),
        ));
    }
    if view.reader.is_none() {
        return Err(Failure(format!("`{check}` was never looked at (pulsecheck run)")));
    }
    let subject = subject.map(Subject::new);
    let every = view.policies.get(&check).map_or(TOO_OLD_AT_LEAST, |policy| policy.every.max(policy.cycle));
    let too_old = every.saturating_mul(TOO_OLD_INTERVALS).max(TOO_OLD_AT_LEAST);
    let now = view.now;
    let choose = |standing: &Standing| {
        fit(standing, too_old, now, &view)?;
        if seen.is_some_and(|seen| seen != seen_id(&standing.last.facts)) {
            return Err(clean!(
                "something else was seen since that `diff`: look at `pulsecheck baseline diff {check}` again"
            ));
        }
        chosen(standing, &check, subject.as_ref())
    };
    let covers = match &subject {
        Some(subject) => Covers::Finding(Key::new(&check, subject)),
        None => Covers::Check(check.clone()),
    };
    let actor = actor(session, why);
    let accepted = store(session)?.accept_baseline(&check, &covers, |standing, _| choose(standing), &actor, now)?;
    for (subject, facts) in &accepted {
        let held = Held::of(facts, subject).unwrap_or_default();
        let members = u64::try_from(held.members.len()).unwrap_or(u64::MAX).saturating_add(held.left_out);
        let without = held.unread.iter().map(Clean::as_str).collect::<Vec<_>>().join(", ");
        let without =
            if without.is_empty() { without } else { format!(", without {without}, which could not be read") };
        session.out.line(&format!("accepted: {check} {subject}: {}{without}", count(members, "member", "members")));
    }
    let standing = view.snapshot.get(&check);
    let unread = standing.into_iter().flat_map(|standing| &standing.last.unread);
    for (left, why) in unread.filter(|(left, _)| subject.is_none() && !accepted.contains_key(*left)) {
        session.out.line(&format!("not accepted: {check} {left} could not be read: {}", why.said));
    }
    Ok(Exit::Done)
}

/// Whether the newest look is one that can be accepted.
fn fit(standing: &Standing, too_old: SignedDuration, now: Timestamp, view: &View) -> Result<(), Clean> {
    let check = &standing.last.check;
    if let Some(unread) = standing.last.unread.get(&Subject::none()) {
        return Err(clean!("the newest look at `{check}` could read nothing: {}", unread.said));
    }
    if now.duration_since(standing.read) > too_old {
        let at = ago(standing.read, now, &view.config.zone);
        return Err(clean!("the newest look at `{check}` is of {at}: look again first (pulsecheck run)"));
    }
    Ok(())
}

/// What is to be accepted: what was read, of all subjects or of one.
fn chosen(standing: &Standing, check: &CheckName, only: Option<&Subject>) -> Result<BTreeMap<Subject, Facts>, Clean> {
    let facts = &standing.last.facts;
    let read = facts.subjects().into_iter().filter_map(|subject| Some((subject.clone(), to_keep(facts, &subject)?)));
    let mut read: BTreeMap<Subject, Facts> = read.collect();
    let Some(only) = only else {
        return if read.is_empty() { Err(clean!("the newest look at `{check}` could read nothing")) } else { Ok(read) };
    };
    if let Some(kept) = read.remove(only) {
        return Ok(BTreeMap::from([(only.clone(), kept)]));
    }
    if let Some(unread) = standing.last.unread.get(only) {
        return Err(clean!("`{check}/{only}` could not be read: {}", unread.said));
    }
    let names: Vec<&str> = read.keys().map(Subject::as_str).collect();
    Err(clean!("`{check}` has no subject `{only}` ({})", meant(only.as_str(), &names)))
}
