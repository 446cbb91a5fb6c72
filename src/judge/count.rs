//! The two counters, and the level that they and the settled reasons amount to.

use jiff::{SignedDuration, Timestamp};

use crate::facts::Blame;

use super::incident::{Mark, Outcome, Word};
use super::policy::{Level, Policy};
use super::reason::{Reason, Seen};

/// After this many intervals without an observation the counters start anew.
pub const GAP_INTERVALS: i32 = 4;

/// Whether an observation counts: half a cycle has passed since the last that did. A clock that was set back is no reason
/// to stop counting.
pub(super) fn counts(mark: &Mark, policy: &Policy, at: Timestamp) -> bool {
    mark.counted.is_none_or(|last| {
        let since = at.duration_since(last);
        since.is_negative() || since.saturating_mul(2) >= policy.cycle
    })
}

/// Moves the counters by one observation that counts. `unrecorded`: what was observed lately could not be kept, so a gap is
/// no sign that nobody looked.
pub(super) fn advance(mark: &mut Mark, policy: &Policy, word: Word, at: Timestamp, unrecorded: bool) {
    let gap = policy.every.max(policy.cycle).saturating_mul(GAP_INTERVALS);
    if !unrecorded && mark.counted.is_some_and(|last| at.duration_since(last) >= gap) {
        start_anew(mark);
    }
    mark.counted = Some(at);
    mark.absent = 0;
    match word {
        Word::Unknown(Blame::Ours) => return,
        Word::Pass => {
            mark.not_ok = 0;
            mark.failing = 0;
            mark.passes = mark.passes.saturating_add(1);
        }
        Word::Fail | Word::Unknown(Blame::Target) => {
            mark.not_ok = mark.not_ok.saturating_add(1);
            mark.failing = mark.failing.saturating_add(1);
            mark.passes = 0;
        }
        Word::Warn | Word::Unknown(Blame::Blind) => {
            mark.not_ok = mark.not_ok.saturating_add(1);
            mark.failing = 0;
            mark.passes = 0;
        }
    }
    mark.window = mark.window.with(word == Word::Pass);
    mark.flapping = mark.window.flaps(mark.flapping);
}

/// Forgets the counters; what was observed and said stays.
pub(super) fn start_anew(mark: &mut Mark) {
    mark.not_ok = 0;
    mark.failing = 0;
    mark.passes = 0;
}

/// The level, and the reason that leads to it. What is red already (`was_red`) and goes on failing stays red: a gap sets the
/// counters back, not the trouble, and a settled fail is asked no second time to be confirmed.
pub(super) fn level<'a>(seen: &'a Seen, mark: &Mark, policy: &Policy, was_red: bool) -> (Level, Option<&'a Reason>) {
    let Some(gravest) = seen.reasons.first() else { return (Level::Ok, None) };
    let fails = |word| matches!(word, Word::Fail | Word::Unknown(Blame::Target));
    let goes_on = |red| was_red && fails(seen.word()) && mark.window.not_ok() >= red;
    let by_count = if policy.red.is_some_and(|red| mark.failing >= red || goes_on(red)) {
        Level::Red
    } else if mark.not_ok >= policy.yellow {
        Level::Yellow
    } else {
        Level::Logged
    };
    let stays = was_red && gravest.settled && gravest.word == Word::Fail;
    let by_itself = if (gravest.confirmed || stays) && policy.red.is_some() {
        Level::Red
    } else if gravest.settled {
        Level::Yellow
    } else {
        Level::Logged
    };
    if by_itself >= by_count {
        (by_itself, Some(gravest))
    } else {
        // The streak brought it here: the reason of that streak leads, not a settled lesser one beside it.
        let streak = seen.reasons.iter().find(|reason| fails(reason.word));
        (by_count, streak.or(Some(gravest)))
    }
}

/// What a mark keeps of the newest observation.
pub(super) fn outcome(word: Word, lead: Option<&Reason>) -> Outcome {
    lead.map_or_else(Outcome::default, |lead| Outcome {
        word,
        settled: lead.settled,
        code: Some(lead.code.clone()),
        said: lead.said.clone(),
        episode: lead.episode.clone(),
    })
}

/// Whether a check is due: not sooner than its `every`, less half a cycle so that jitter skips none; a finding that does
/// not pass is looked at each cycle until it is red.
#[must_use]
pub fn is_due(last: Option<Timestamp>, restless: bool, policy: &Policy, now: Timestamp) -> bool {
    let Some(last) = last else { return true };
    let every = if restless { policy.cycle } else { policy.every.max(policy.cycle) };
    let half: SignedDuration = policy.cycle / 2;
    let since = now.duration_since(last);
    // A check of every cycle is always due: it is the counters that turn away what comes too soon.
    every <= policy.cycle || since.is_negative() || since >= every.saturating_sub(half)
}
