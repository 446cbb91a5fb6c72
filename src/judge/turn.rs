//! Incidents: how they open, rise, fall and end, and what of that surfaces.

use jiff::{SignedDuration, Timestamp};

use crate::facts::Key;

use super::What;
use super::incident::{Closing, Incident, Mark, Mute, Outcome, Surfaced, Word};
use super::policy::{Level, Policy};

/// Observations in a row at a lower level before an incident is lowered.
const LOWER_AFTER: u32 = 2;
/// Counted observations in a row without the subject before it is gone.
pub(super) const GONE_AFTER: u32 = 2;

const FIRST_RED_REMINDER: SignedDuration = SignedDuration::from_hours(4);
const LAST_RED_REMINDER: SignedDuration = SignedDuration::from_hours(24);
const YELLOW_REMINDER: SignedDuration = SignedDuration::from_hours(7 * 24);

/// A new incident.
pub(super) fn open(id: String, key: &Key, level: Level, outcome: &Outcome, now: Timestamp) -> Incident {
    Incident {
        id,
        key: key.clone(),
        dedup: None,
        level,
        code: outcome.code.clone().unwrap_or_else(|| "flapping".into()),
        said: outcome.said.clone(),
        settled: outcome.settled,
        episode: outcome.episode.clone(),
        opened: now,
        level_since: now,
        lower: 0,
        ack: None,
        withdrawn: false,
        surfaced: None,
        announced: std::collections::BTreeMap::new(),
        reminders: 0,
        reminded: None,
        muted: None,
    }
}

/// Takes one more observation into an open incident. `Some` when it ends.
pub(super) fn take(
    incident: &mut Incident,
    level: Level,
    mark: &Mark,
    policy: &Policy,
    counted: bool,
    now: Timestamp,
) -> Option<Closing> {
    let outcome = &mark.outcome;
    // A look that saw nothing is no sign that something settled was mended: it neither lowers it nor takes its words.
    if incident.settled && level < incident.level && matches!(outcome.word, Word::Unknown(_)) {
        return None;
    }
    if outcome.word == Word::Pass && mark.passes >= policy.recover_after && counted && !mark.flapping {
        return Some(Closing::Passed);
    }
    if level >= incident.level {
        if level > incident.level {
            incident.level = level;
            incident.level_since = now;
            incident.reminders = 0;
        }
        incident.lower = 0;
    } else if counted {
        incident.lower = incident.lower.saturating_add(1);
        // Another certificate, another token: what was red about the one before is over.
        let another = outcome.episode.is_some() && incident.episode.is_some() && outcome.episode != incident.episode;
        if (incident.lower >= LOWER_AFTER || another) && incident.level == Level::Red {
            incident.level = Level::Yellow;
            incident.level_since = now;
            incident.reminders = 0;
            incident.lower = 0;
        }
    }
    if let Some(code) = &outcome.code {
        incident.code = code.clone();
        incident.said = outcome.said.clone();
        incident.settled = outcome.settled;
        if outcome.episode.is_some() {
            incident.episode.clone_from(&outcome.episode);
        }
    }
    None
}

/// What is to be said of an open incident now, if anything: its level differs from the one last said, it began to flap, it
/// is about something else, or a silence ended over it.
pub(super) fn surfaces(incident: &Incident, flapping: bool, was_muted: Option<&Mute>) -> Option<What> {
    if incident.muted.is_some() {
        return None;
    }
    let Some(said) = &incident.surfaced else {
        return Some(if was_muted.is_some() { What::Surfaced } else { What::Opened });
    };
    if flapping && !said.flapping {
        return Some(What::Flapping);
    }
    if incident.level > said.level {
        return Some(What::Raised);
    }
    // While it flaps, it is lowered without a word: the next red must not be news each time.
    if incident.level < said.level && !flapping {
        return Some(What::Lowered);
    }
    if incident.episode.is_some() && said.episode.is_some() && incident.episode != said.episode {
        return Some(What::Renewed);
    }
    matches!(was_muted, Some(Mute::Silenced(_))).then_some(What::Surfaced)
}

/// Notes that an incident was said as it is now.
pub(super) fn said(incident: &mut Incident, flapping: bool, now: Timestamp) {
    let Incident { level, withdrawn, episode, .. } = &*incident;
    let said = Surfaced { level: *level, flapping, withdrawn: *withdrawn, episode: episode.clone(), at: now };
    incident.surfaced = Some(said);
    incident.reminded = Some(now);
}

/// Whether an incident that nothing is said of is due to be reminded of: red after 4 h, doubling to a day; yellow weekly.
pub(super) fn is_reminder_due(incident: &Incident, policy: Option<&Policy>, now: Timestamp) -> bool {
    if incident.muted.is_some() || policy.is_none_or(|policy| !policy.reminds) {
        return false;
    }
    let wait = match incident.level {
        Level::Red => {
            (0..incident.reminders).fold(FIRST_RED_REMINDER, |wait, _| wait.saturating_mul(2).min(LAST_RED_REMINDER))
        }
        _ => YELLOW_REMINDER,
    };
    incident.reminded.is_some_and(|last| {
        let since = now.duration_since(last);
        // A clock that was set back is no reason to keep still.
        since >= wait || since.is_negative()
    })
}
