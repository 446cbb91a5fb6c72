//! An explanation in words.

use super::super::Out;
use super::super::table::{Table, Tone, ago, level_word, moment, paint};
use super::super::view::View;
use super::{Explained, Part};
use crate::facts::Blame;
use crate::judge::flap::{START_PERCENT, STOP_PERCENT};
use crate::judge::{Mark, Policy, Word};
use crate::words::{count, span};

/// Prints it.
pub(super) fn show(it: &Explained<'_>, view: &View, out: &mut Out) {
    let kind = it.kind.unwrap_or("no longer configured");
    out.line(&format!("{} ({kind}){}{}", paint(it.check, Tone::Head, out), colon(it.about), it.about));
    if !it.subjects.is_empty() {
        out.line(&format!("subjects: {}", it.subjects));
    }
    looked(it, view, out);
    if !it.depends_on.is_empty() {
        out.line(&format!("depends on {}: held while that is down", it.depends_on.join(", ")));
    }
    if !it.needed_by.is_empty() {
        out.line(&format!("needed by {}: held while this is down", it.needed_by.join(", ")));
    }
    if let Some(when) = it.when {
        out.line(&format!("left out unless {when}"));
    }
    if !it.reads.is_empty() {
        let reads: Vec<String> = it.reads.iter().map(|read| format!("{} ({})", read.check, read.key)).collect();
        out.line(&format!("reads {}", reads.join(", ")));
    }
    for part in &it.findings {
        finding(part, view, out);
    }
    if !it.observations.is_empty() {
        out.line("");
        out.line(&paint("observations", Tone::Head, out));
        let mut table = Table::default();
        for seen in &it.observations {
            let (from, until) = seen.span;
            let [from, until] = [from, until].map(|at| moment(at, view.now, &view.config.zone));
            let time = if from == until { from } else { format!("{from} to {until}") };
            let said: Vec<&str> = seen.said.iter().map(crate::redact::Clean::as_str).collect();
            table.row(Tone::Head, [time, seen.outcome.to_owned(), said.join("; ")]);
        }
        table.print(2, out);
    }
    if !it.notices.is_empty() {
        out.line("");
        out.line(&paint("notices", Tone::Head, out));
        let mut table = Table::default();
        for sent in &it.notices {
            let at = moment(sent.created, view.now, &view.config.zone);
            table.row(Tone::Head, [at, sent.channel.clone(), sent.progress.clone(), sent.title.to_string()]);
        }
        table.print(2, out);
    }
}

fn colon(text: &str) -> &'static str {
    if text.is_empty() { "" } else { ": " }
}

fn looked(it: &Explained<'_>, view: &View, out: &mut Out) {
    let (now, zone) = (view.now, &view.config.zone);
    let check = crate::facts::CheckName::try_from(it.check).ok();
    let standing = check.as_ref().and_then(|check| view.snapshot.get(check));
    let every = it.every_s.map_or_else(String::new, |every| format!(", every {}", span(every)));
    let Some(standing) = standing else {
        out.line(&format!("never looked at{every}"));
        return;
    };
    let took = it.took_ms.unwrap_or_default();
    let first = moment(standing.first_seen, now, zone);
    out.line(&format!("looked at {}, took {took} ms{every}; first seen {first}", ago(standing.last.at, now, zone)));
    if it.read.is_none() {
        out.line("never read so far");
    } else if standing.read != standing.last.at {
        out.line(&format!("could not be read since: its facts are from {}", ago(standing.read, now, zone)));
    }
}

fn finding(part: &Part<'_>, view: &View, out: &mut Out) {
    let (stand, now, zone) = (part.stand, view.now, &view.config.zone);
    if stand.mark.is_none() && stand.incident.is_none() {
        return;
    }
    out.line("");
    let since = stand.since().map_or_else(String::new, |at| format!(" since {}", ago(at, now, zone)));
    let level = paint(level_word(stand.level), stand.level.into(), out);
    out.line(&format!("{level} {}: {}{since}", stand.key, stand.outcome()));
    for reason in &part.reasons {
        let settled = if reason.settled { ", can't pass by itself" } else { "" };
        out.line(&format!("  {} ({}{settled}): {}", reason.code, reason.outcome, reason.said));
        if !reason.about.is_empty() {
            out.line(&format!("    given when: {}", reason.about));
        }
        if let Some(action) = &reason.action {
            let who = if reason.needs_human { " (needs a person)" } else { "" };
            out.line(&format!("    what to do: {action}{who}"));
        }
    }
    if let (Some(mark), Some(policy)) = (stand.mark, stand.policy) {
        let from = mark.counted.and_then(|at| at.checked_add(policy.cycle / 2).ok());
        let from = from.map_or_else(String::new, |at| format!("; a look counts from {} on", moment(at, now, zone)));
        out.line(&format!("  {}{from}", arithmetic(mark, policy)));
        let percent = mark.window.percent();
        if percent > 0.0 {
            let looks = count(u64::from(mark.window.len()), "look", "looks");
            let flaps = if mark.flapping { "flaps" } else { "does not flap" };
            out.line(&format!(
                "  {flaps}: {percent:.1} % turns in the last {looks} (flaps from {START_PERCENT:.0} %, ends at {STOP_PERCENT:.0} %)"
            ));
        }
    }
    for aside in stand.asides(|at| moment(at, now, zone)) {
        out.line(&format!("  {aside}"));
    }
    let mut table = Table::default();
    for fact in &part.facts {
        let about = if fact.bands.is_empty() { fact.about } else { &fact.bands };
        table.row(Tone::Head, [fact.name.clone(), fact.shown.clone(), fact.class.to_owned(), about.to_owned()]);
    }
    table.print(2, out);
}

/// `failed 2 times in a row; yellow at 2, red at 3`.
fn arithmetic(mark: &Mark, policy: &Policy) -> String {
    let times = |n: u32| if n == 1 { "once".to_owned() } else { format!("{n} times in a row") };
    if mark.held {
        return "nothing counts while it is held".to_owned();
    }
    let did = match mark.outcome.word {
        Word::Pass => format!("passed {}", times(mark.passes)),
        Word::Fail | Word::Unknown(Blame::Target) => format!("failed {}", times(mark.failing)),
        _ => format!("did not pass {}", times(mark.not_ok)),
    };
    let red = policy.red.map_or_else(|| "never red".to_owned(), |red| format!("red at {red}"));
    let settled = if mark.outcome.settled { " (what can't pass by itself needs no streak)" } else { "" };
    let recover = match policy.recover_after {
        0 | 1 => String::new(),
        many => format!(", over after {many} passes"),
    };
    format!("{did}; yellow at {}, {red}{recover}{settled}", policy.yellow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Outcome;

    #[test]
    fn the_arithmetic_in_words() {
        let policy = Policy::plain(jiff::SignedDuration::from_mins(15));
        let slow = Policy { red: None, recover_after: 2, ..policy.clone() };
        let mark = |word, n, settled| Mark {
            not_ok: n,
            failing: n,
            passes: n,
            outcome: Outcome { word, settled, ..Outcome::default() },
            ..Mark::default()
        };
        for (mark, policy, words) in [
            (mark(Word::Fail, 2, false), &policy, "failed 2 times in a row; yellow at 2, red at 3"),
            (mark(Word::Pass, 1, false), &policy, "passed once; yellow at 2, red at 3"),
            (
                mark(Word::Warn, 3, true),
                &slow,
                "did not pass 3 times in a row; yellow at 2, never red, over after 2 passes (what can't pass by itself \
                 needs no streak)",
            ),
        ] {
            assert_eq!(arithmetic(&mark, policy), words);
        }
    }
}
