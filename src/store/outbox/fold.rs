//! Which notices that nobody has seen yet need no longer be sent. Pure.

use std::collections::BTreeSet;

use crate::judge::Turn;

/// A notice that waits, as far as folding is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub id: i64,
    pub incident: Option<String>,
    pub turn: Turn,
    /// Whether an earlier attempt may have reached the channel.
    pub maybe: bool,
    /// Whether somebody is sending it at this moment.
    pub claimed: bool,
}

/// What becomes of a waiting notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is not sent.
    Fold { id: i64, why: &'static str },
    /// It is sent as another turn: the channel has not heard of what came before.
    Become { id: i64, turn: Turn },
}

pub(crate) const NEVER_SAID: &str = "it was over before it was said";
pub(crate) const SUPERSEDED: &str = "a newer notice says it";
pub(crate) const NOTHING_TO_RESOLVE: &str = "the channel was never told of it";

/// Folds the waiting notices of one key and channel, oldest first. `heard` are the incidents that the channel was told
/// of, or may have been.
///
/// - A resolve takes the notices of its incident with it; it goes itself as well if the channel cannot have heard of any.
/// - Of several turns of one incident the newest is sent, as what is news to the channel.
/// - What is being sent is left alone, and so are resolves and notices of other incidents: they keep their order.
pub(crate) fn fold(waiting: &[Waiting], heard: &BTreeSet<String>) -> Vec<Step> {
    let mut heard = heard.clone();
    let mut steps = Vec::new();
    // What waits of the incident at hand: its newest turn with what it is to the channel, and its follow-ups.
    let mut turn: Option<(&Waiting, Turn)> = None;
    let mut follow_ups: Vec<i64> = Vec::new();
    for (at, row) in waiting.iter().enumerate() {
        let Some(incident) = &row.incident else { continue };
        if at > 0 && waiting.get(at - 1).is_some_and(|last| last.incident.as_ref() != Some(incident)) {
            turn = None;
            follow_ups.clear();
        }
        if row.claimed || row.maybe {
            heard.insert(incident.clone());
        }
        if row.claimed {
            turn = None;
            follow_ups.clear();
            continue;
        }
        match row.turn {
            Turn::Event => {}
            Turn::FollowUp => follow_ups.push(row.id),
            Turn::Resolve => {
                let last = turn.take();
                if let Some((last, _)) = last {
                    steps.push(Step::Fold { id: last.id, why: NEVER_SAID });
                }
                if !heard.contains(incident) {
                    let all = follow_ups.drain(..).chain([row.id]);
                    let why = if last.is_none() { NOTHING_TO_RESOLVE } else { NEVER_SAID };
                    steps.extend(all.map(|id| Step::Fold { id, why }));
                }
                follow_ups.clear();
            }
            Turn::Open | Turn::Raise | Turn::Lower | Turn::Remind => {
                let mut says = row.turn;
                if let Some((last, said)) = turn {
                    steps.push(Step::Fold { id: last.id, why: SUPERSEDED });
                    says = match (said, row.turn) {
                        _ if last.maybe => row.turn,
                        (Turn::Open, _) => Turn::Open,
                        (said, Turn::Remind) => said,
                        (_, newer) => newer,
                    };
                }
                if says != row.turn {
                    steps.push(Step::Become { id: row.id, turn: says });
                }
                turn = Some((row, says));
            }
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `o` open, `r` raise, `l` lower, `m` remind, `x` resolve, `f` follow-up, `e` event; `?` may have been sent, `!` is
    /// being sent; `2` after it: of a second incident.
    fn waiting(text: &str) -> Vec<Waiting> {
        (1..)
            .zip(text.split_whitespace())
            .map(|(id, word)| Waiting {
                id,
                incident: Some(if word.contains('2') { "i2" } else { "i1" }.to_owned()),
                turn: match word.chars().next().unwrap() {
                    'o' => Turn::Open,
                    'r' => Turn::Raise,
                    'l' => Turn::Lower,
                    'm' => Turn::Remind,
                    'x' => Turn::Resolve,
                    'f' => Turn::FollowUp,
                    _ => Turn::Event,
                },
                maybe: word.contains('?'),
                claimed: word.contains('!'),
            })
            .collect()
    }

    /// What is left, in the same letters.
    fn left(rows: &[Waiting], steps: &[Step]) -> String {
        let mut words = Vec::new();
        for row in rows {
            let mut turn = row.turn;
            let mut folded = false;
            for step in steps {
                match step {
                    Step::Fold { id, .. } if *id == row.id => folded = true,
                    Step::Become { id, turn: other } if *id == row.id => turn = *other,
                    _ => {}
                }
            }
            if !folded {
                let letter = match turn {
                    Turn::Open => "o",
                    Turn::Raise => "r",
                    Turn::Lower => "l",
                    Turn::Remind => "m",
                    Turn::Resolve => "x",
                    Turn::FollowUp => "f",
                    Turn::Event => "e",
                };
                words.push(format!("{letter}{}", if row.incident.as_deref() == Some("i2") { "2" } else { "" }));
            }
        }
        words.join(" ")
    }

    #[test]
    fn what_is_left_to_be_sent() {
        for (rows, heard, expected, why) in [
            ("", false, "", "nothing"),
            ("o", false, "o", "a trigger waits for its turn"),
            ("o x", false, "", "over before it was said"),
            ("o r x", false, "", "all of it"),
            ("o f x", false, "", "with its analysis"),
            ("x", true, "x", "a resolve of what was said"),
            ("x", false, "", "a resolve of what was never said"),
            ("r x", true, "x", "the channel knows of the incident: it is resolved"),
            ("o? x", false, "x", "the trigger may have arrived: it is resolved, not sent again"),
            ("o! x", false, "o x", "the trigger is being sent: the resolve follows it"),
            ("o r", false, "o", "one trigger at the new level"),
            ("o m", false, "o", "a reminder of what was never said is the trigger"),
            ("o r l", false, "o", "through several turns"),
            ("r m", true, "r", "a reminder of a raise that was never said is the raise"),
            ("r l", true, "l", "the newest level"),
            ("o? r", false, "r", "the trigger may have arrived: the newer one is a raise"),
            ("o? r l", false, "l", "and so on"),
            ("o! r", false, "o r", "what is being sent stays"),
            ("o! r x", false, "o x", "and what waits behind it folds"),
            ("x o2", true, "x o2", "a resolve is not folded by the next incident"),
            ("o x o2", false, "o2", "the first was never said"),
            ("o x o2 x2", false, "", "nor was the second"),
            ("x o2 x2", true, "x", "the second alone was never said"),
            ("x? ", false, "x", "a resolve that may have arrived is tried again"),
            ("e", false, "e", "events stay"),
            ("f", true, "f", "a follow-up to what was said stays"),
            ("f x", true, "f x", "in its order"),
        ] {
            let rows = waiting(rows);
            let heard = if heard { BTreeSet::from(["i1".to_owned()]) } else { BTreeSet::new() };
            assert_eq!(left(&rows, &fold(&rows, &heard)), expected, "{why}");
        }
    }

    #[test]
    fn folding_again_changes_nothing_more() {
        let letters = ["o", "o?", "r", "l", "m", "x", "x?", "f", "o2", "x2", "r2?"];
        for a in letters {
            for b in letters {
                for c in letters {
                    let mut rows = waiting(&format!("{a} {b} {c}"));
                    if !rows.is_sorted_by_key(|row| row.incident.clone()) {
                        // A key has one incident after the other.
                        continue;
                    }
                    let heard = BTreeSet::new();
                    let once = fold(&rows, &heard);
                    // A trigger that may have arrived and is folded stays known to the channel.
                    let known: BTreeSet<String> =
                        rows.iter().filter(|row| row.maybe).filter_map(|row| row.incident.clone()).collect();
                    for step in &once {
                        match step {
                            Step::Fold { id, .. } => rows.retain(|row| row.id != *id),
                            Step::Become { id, turn } => {
                                rows.iter_mut().filter(|row| row.id == *id).for_each(|row| row.turn = *turn);
                            }
                        }
                    }
                    assert_eq!(fold(&rows, &known), [], "{a} {b} {c}: {rows:?}");
                }
            }
        }
    }
}
