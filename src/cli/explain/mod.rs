//! `pulsecheck explain`: everything that is known of one check, and what to do.

mod fact;
mod text;

use jiff::Timestamp;
use serde::Serialize;

use super::history::delivery;
use super::view::{FindingRow, Stand, View};
use super::{Exit, Failure, Session};
use crate::config::nearest;
use crate::facts::{Blame, CheckName, Class, Code, Key, Subject, Weight};
use crate::judge::incident::Band;
use crate::judge::{Standing, Word};
use crate::kinds::{KindDoc, pulsecheck};
use crate::redact::Clean;
use crate::store::incidents::Filter;
use crate::store::outbox::NoticeView;
use crate::store::standing::Kept;
use fact::FactRow;

/// `schemas/explain.schema.json`, as shipped.
pub(super) const SCHEMA: &str = include_str!("../../../schemas/explain.schema.json");
/// Observations and notices that are shown.
const SHOWN: usize = 10;
/// Rows of notices that are read to find those of one subject.
const READ: usize = 200;

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A check, or a finding as `CHECK/SUBJECT`.
    what: String,
    /// For programs: JSON, after `pulsecheck schema explain`.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Explained<'a> {
    at: String,
    check: &'a str,
    kind: Option<&'static str>,
    about: &'static str,
    subjects: &'static str,
    every_s: Option<i64>,
    first_seen: Option<String>,
    looked: Option<String>,
    read: Option<String>,
    took_ms: Option<u64>,
    when: Option<&'a str>,
    reads: Vec<Read>,
    depends_on: Vec<String>,
    needed_by: Vec<&'a str>,
    findings: Vec<Part<'a>>,
    observations: Vec<SeenRow>,
    notices: Vec<NoticeRow>,
}

/// A check that this one's condition or expression reads, and the key that it stands under.
#[derive(Serialize)]
struct Read {
    key: &'static str,
    check: String,
}

#[derive(Serialize)]
struct Part<'a> {
    #[serde(flatten)]
    finding: FindingRow<'a>,
    passes_in_a_row: u32,
    counts_from: Option<String>,
    flapping_percent: f64,
    reasons: Vec<ReasonRow>,
    facts: Vec<FactRow>,
    #[serde(skip)]
    stand: &'a Stand<'a>,
}

#[derive(Serialize)]
struct ReasonRow {
    code: String,
    outcome: &'static str,
    settled: bool,
    said: Clean,
    about: &'static str,
    action: Option<Clean>,
    needs_human: bool,
}

#[derive(Serialize)]
struct SeenRow {
    from: String,
    until: String,
    outcome: &'static str,
    said: Vec<Clean>,
    #[serde(skip)]
    span: (Timestamp, Timestamp),
}

#[derive(Serialize)]
struct NoticeRow {
    at: String,
    subject: String,
    channel: String,
    delivery: String,
    title: Clean,
    #[serde(skip)]
    created: Timestamp,
    #[serde(skip)]
    progress: String,
}

/// Shows it.
pub fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let view = View::open(session)?;
    let (name, subject) =
        args.what.split_once('/').map_or((args.what.as_str(), None), |(name, subject)| (name, Some(subject)));
    let check = known(name, &view)?;
    let mut stands = view.stands(&check);
    if let Some(subject) = subject {
        stands = one_subject(stands, &check, subject)?;
    }
    let explained = explain(&view, &check, &stands, subject.is_some())?;
    if args.json {
        session.out.line(&serde_json::to_string(&explained)?);
    } else {
        text::show(&explained, &view, &mut session.out);
    }
    Ok(Exit::Done)
}

/// The check of that name; where there is none, the name that was probably meant.
pub(super) fn known(name: &str, view: &View) -> Result<CheckName, Failure> {
    let names = view.names();
    if let Some(check) = names.iter().find(|check| check.as_str() == name) {
        return Ok((*check).clone());
    }
    let all: Vec<&str> = names.iter().map(|check| check.as_str()).collect();
    Err(Failure(format!("there is no check `{}` ({})", Clean::line(name, 80), meant(name, &all))))
}

fn one_subject<'a>(stands: Vec<Stand<'a>>, check: &CheckName, subject: &str) -> Result<Vec<Stand<'a>>, Failure> {
    let wanted = Subject::new(subject);
    let names: Vec<String> = stands.iter().map(|stand| stand.key.subject.to_string()).collect();
    let found: Vec<_> = stands.into_iter().filter(|stand| stand.key.subject == wanted).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    Err(Failure(format!("`{check}` has no subject `{wanted}` ({})", meant(subject, &names))))
}

/// What was probably meant, or else what there is.
pub(super) fn meant(word: &str, names: &[&str]) -> String {
    const LISTED: usize = 12;
    if let Some(near) = nearest(word, names.iter().copied()) {
        return format!("did you mean `{near}`?");
    }
    if names.is_empty() {
        return "there is none".to_owned();
    }
    let more = names.len().saturating_sub(LISTED);
    let more = if more > 0 { format!(", +{more} more") } else { String::new() };
    format!("there is: {}{more}", names.iter().take(LISTED).copied().collect::<Vec<_>>().join(", "))
}

fn explain<'a>(
    view: &'a View,
    check: &'a CheckName,
    stands: &'a [Stand<'a>],
    only: bool,
) -> Result<Explained<'a>, Failure> {
    let configured = view.config.checks.get(check);
    let doc = doc(view, check);
    let standing = view.snapshot.get(check);
    let policy = view.policies.get(check);
    let mut reads = Vec::new();
    if let Some(configured) = configured {
        reads.extend(configured.check.checks_read().into_iter().map(|(key, check)| Read { key, check }));
        let when = configured.when.iter().flat_map(crate::expr::Expr::checks_read);
        reads.extend(when.map(|check| Read { key: "when", check }));
    }
    let needs = |other: &crate::judge::Policy| other.depends_on.iter().any(|parent| parent.check == *check);
    let depends_on = policy.into_iter().flat_map(|policy| &policy.depends_on);
    let subject = only.then(|| stands.first().map(|stand| &stand.key)).flatten();
    Ok(Explained {
        at: view.rfc(view.now),
        check: check.as_str(),
        kind: view.kind(check),
        about: doc.map_or("", |doc| doc.about),
        subjects: doc.map_or("", |doc| doc.subjects),
        every_s: policy.map(|policy| policy.every.max(policy.cycle).as_secs()),
        first_seen: standing.map(|it| view.rfc(it.first_seen)),
        looked: standing.map(|it| view.rfc(it.last.at)),
        // The first look is taken for a reading before it is known whether it was one.
        read: standing.filter(|it| it.read == it.last.at || !it.last.facts.is_empty()).map(|it| view.rfc(it.read)),
        took_ms: standing.map(|it| it.last.took_ms),
        when: configured.and_then(|check| check.when.as_ref()).map(crate::expr::Expr::source),
        reads,
        depends_on: depends_on
            .map(|parent| match &parent.subject {
                Some(subject) => Key::new(&parent.check, subject).to_string(),
                None => parent.check.to_string(),
            })
            .collect(),
        needed_by: view.policies.iter().filter(|(_, other)| needs(other)).map(|(name, _)| name.as_str()).collect(),
        findings: stands.iter().map(|stand| part(stand, standing, doc, view)).collect(),
        observations: observations(view, check)?,
        notices: notices(view, check, subject)?,
    })
}

fn doc(view: &View, check: &CheckName) -> Option<&'static KindDoc> {
    if check.as_str() == CheckName::OWN {
        return Some(&pulsecheck::DOC);
    }
    view.config.checks.get(check).map(|check| check.kind.doc())
}

fn part<'a>(
    stand: &'a Stand<'a>,
    standing: Option<&Standing>,
    doc: Option<&'static KindDoc>,
    view: &'a View,
) -> Part<'a> {
    let mark = stand.mark;
    let counts_from = mark.and_then(|mark| mark.counted).zip(stand.policy).map(|(at, policy)| {
        // Half a cycle after the last one that did.
        at.checked_add(policy.cycle / 2).unwrap_or(Timestamp::MAX)
    });
    let facts = standing.into_iter().flat_map(|it| it.last.facts.of(&stand.key.subject));
    Part {
        finding: FindingRow::new(stand, view),
        passes_in_a_row: mark.map_or(0, |mark| mark.passes),
        counts_from: counts_from.map(|at| view.rfc(at)),
        flapping_percent: mark.map_or(0.0, |mark| mark.window.percent()),
        reasons: standing.map(|it| reasons(it, stand, doc)).unwrap_or_default(),
        facts: facts
            .map(|(name, fact)| {
                let band = mark.and_then(|mark| mark.bands.get(name)).copied().unwrap_or_default();
                FactRow::new(name, fact, band, doc, view)
            })
            .collect(),
        stand,
    }
}

/// Every reason why it does not pass: what could not be read, what was found, what the bands say.
fn reasons(standing: &Standing, stand: &Stand<'_>, doc: Option<&'static KindDoc>) -> Vec<ReasonRow> {
    let (last, subject) = (&standing.last, &stand.key.subject);
    let row = |word: Word, settled: bool, code: &Code, said: &Clean| {
        let documented = doc.and_then(|doc| doc.reason(code.as_str()));
        let advice = stand.policy.and_then(|policy| policy.advice.get(code));
        let own = stand.policy.and_then(|policy| policy.action.clone());
        ReasonRow {
            code: code.to_string(),
            outcome: word.plain().as_str(),
            settled,
            said: said.clone(),
            about: documented.map_or("", |reason| reason.about),
            action: own
                .or_else(|| advice.map(|advice| advice.action.clone()))
                .or_else(|| documented.map(|reason| Clean::new(reason.action))),
            needs_human: advice
                .map_or_else(|| documented.is_some_and(|reason| reason.needs_human), |advice| advice.needs_human),
        }
    };
    let unread = last
        .unread
        .get(subject)
        .map(|unread| row(Word::Unknown(unread.blame), unread.blame == Blame::Blind, &unread.code, &unread.said));
    let found = last.findings.iter().filter(|finding| finding.subject == *subject).map(|finding| {
        let word = if finding.weight == Weight::Fail { Word::Fail } else { Word::Warn };
        row(word, finding.settled, &finding.code, &finding.said)
    });
    // What was not read in the last look says nothing about now.
    let read = standing.read == last.at;
    let bands = stand.mark.into_iter().filter(|_| read).flat_map(|mark| &mark.bands).filter_map(|(name, band)| {
        let (_, fact) = last.facts.of(subject).find(|(other, _)| *other == name)?;
        let (Class::Gauge(scale) | Class::Counter(scale)) = &fact.class else { return None };
        let (word, edge) = match band {
            Band::Ok => return None,
            Band::Warn => (Word::Warn, scale.warn.as_ref()?),
            Band::Fail => (Word::Fail, scale.fail.as_ref()?),
        };
        Some(row(word, edge.settled, &edge.code, &scale.says))
    });
    unread.into_iter().chain(found).chain(bands).collect()
}

fn observations(view: &View, check: &CheckName) -> Result<Vec<SeenRow>, crate::store::Error> {
    let Some(reader) = &view.reader else { return Ok(Vec::new()) };
    let kept = reader.observations(check, None, SHOWN)?;
    Ok(kept
        .iter()
        .map(|kept: &Kept| {
            let unread = kept.observation.unread.values().map(|unread| unread.said.clone());
            let found = kept.observation.findings.iter().map(|finding| finding.said.clone());
            SeenRow {
                from: view.rfc(kept.observation.at),
                until: view.rfc(kept.until),
                outcome: kept.outcome.as_str(),
                said: unread.chain(found).take(3).collect(),
                span: (kept.observation.at, kept.until),
            }
        })
        .collect())
}

fn notices(view: &View, check: &CheckName, only: Option<&Key>) -> Result<Vec<NoticeRow>, crate::store::Error> {
    let Some(reader) = &view.reader else { return Ok(Vec::new()) };
    let filter = Filter { check: Some(check.clone()), limit: READ, ..Filter::default() };
    let sent = reader.notices(&filter)?;
    let meant = sent.iter().filter(|sent| only.is_none_or(|key| sent.notice.key == *key));
    let row = |sent: &NoticeView| NoticeRow {
        at: view.rfc(sent.created),
        subject: sent.notice.key.subject.to_string(),
        channel: sent.channel.clone(),
        delivery: sent.state.clone(),
        title: sent.notice.title.clone(),
        created: sent.created,
        progress: delivery(sent, view),
    };
    Ok(meant.take(SHOWN).map(row).collect())
}
