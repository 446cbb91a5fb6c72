//! Judging what an agent's ledger says of its jobs, beside what the bands say.

use jiff::Timestamp;

use super::INTERRUPTED;
use crate::clean;
use crate::facts::{Facts, Finding, Subject, Value, Weight};
use crate::redact::Clean;
use crate::words::span;

/// All findings.
pub(super) fn assess(facts: &Facts, now: Timestamp) -> Vec<Finding> {
    let mut found: Vec<Finding> = facts.subjects().iter().flat_map(|subject| job(facts, subject, now)).collect();
    if let Some(gone) = facts.text(&Subject::none(), "jobs_missing") {
        let said = clean!("its ledger has no {gone}, or it is switched off there");
        found.push(Finding::new("no_such_job", Weight::Warn, true, said));
    }
    found
}

fn job(facts: &Facts, me: &Subject, now: Timestamp) -> Vec<Finding> {
    let warn = |code: &'static str, said: Clean| Finding::new(code, Weight::Warn, true, said).on(me);
    let mut found = Vec::new();
    if let Some(why) = facts.text(me, "auto_disabled") {
        let error = facts.text(me, "last_error").map(|error| clean!(", last with {}", error.quoted()));
        let said = clean!("its scheduler switched it off ({}){}", why.quoted(), error.unwrap_or_default());
        found.push(Finding::new("auto_disabled", Weight::Fail, true, said).on(me));
    }
    if let Some(text) = facts.text(me, "unreadable_schedule") {
        found.push(warn("schedule_unreadable", clean!("its recorded schedule {} can't be read", text.quoted())));
    }
    if let Some(errors) = facts.number(me, "schedule_errors") {
        found.push(warn(
            "schedule_errors",
            clean!("its scheduler failed to compute its next start ({errors} in a row)"),
        ));
    }
    if let Some(times) = facts.number(me, "interrupted").filter(|times| *times >= INTERRUPTED) {
        found.push(warn("interrupted", clean!("the last {times} executions were interrupted by restarts")));
    }
    if facts.flag(me, "undelivered") == Some(true) {
        let why = facts.text(me, "delivery_error").map(|why| clean!(": {}", why.quoted())).unwrap_or_default();
        found.push(warn("not_delivered", clean!("what its last execution said was not delivered{why}")));
    }
    found.extend(recorded_start(facts, me, now).map(|(code, said)| warn(code, said)));
    found
}

/// Whether the scheduler's own idea of the next start fits the schedule. Where the start is late anyway, that is said.
fn recorded_start(facts: &Facts, me: &Subject, now: Timestamp) -> Option<(&'static str, Clean)> {
    let moment = |name: &'static str| match facts.get(me, name)?.value {
        Value::At(at) => Some(at),
        _ => None,
    };
    let recorded = moment("recorded_start")?;
    let grace = facts.number(me, "start_grace_s")?;
    let ahead = recorded.duration_since(now).as_secs();
    if let Some(second) = moment("second_start")
        && recorded.duration_since(second).as_secs_f64() > grace
    {
        let said =
            clean!("its scheduler means to start it only in {}, its schedule has two starts before", span(ahead));
        return Some(("next_start_jumped", said));
    }
    let is_late = moment("next_start").is_some_and(|due| now.duration_since(due).as_secs_f64() > grace);
    let runs = facts.number(me, "running").is_some_and(|running| running > 0.0);
    if recorded.duration_since(now).as_secs_f64() < -grace && !is_late && !runs {
        let said = clean!("its scheduler had its next start planned {} ago, and it did not start", span(ahead));
        return Some(("next_start_passed", said));
    }
    None
}
