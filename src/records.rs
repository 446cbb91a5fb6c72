//! Plain rows that one part writes and another reads: job executions, and what other checks saw.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{CheckName, Code, Facts, Subject};
use crate::redact::Clean;

/// One execution of a scheduled command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// The job's name.
    pub job: String,
    /// Unique to this execution: 32 hex digits.
    pub execution: String,
    /// When the command was started.
    pub started: Timestamp,
    /// When it ended; none while it runs.
    pub ended: Option<Timestamp>,
    /// How it ended; none while it runs.
    pub ending: Option<Ending>,
    /// The schedule it was run on, if the wrapper was told: a cron expression or `every 15m`.
    pub schedule: Option<String>,
    /// The process id of the wrapper and its start time in clock ticks since boot: tells running from lost.
    pub wrapper: Option<(u32, u64)>,
    /// The boot that it ran in.
    pub boot_id: Option<String>,
    /// Bytes the command wrote on stdout, where that was captured.
    pub stdout_bytes: Option<u64>,
    /// SHA-256 of all of stdout, hex, where that was captured.
    pub stdout_sha256: Option<String>,
    /// The end of what it printed, redacted, at most 16 KiB, where that was captured.
    pub tail: Option<Clean>,
}

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It exited with this status.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// It could not be started; in words why.
    NotStarted(Clean),
    /// The machine or the wrapper went away while it ran: neither a failure nor a success.
    Interrupted,
}

impl Execution {
    /// Whether it ended and did so with status 0.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.ending == Some(Ending::Exit(0))
    }

    /// What is known of an execution when another event of it comes in, in whatever order and however often: an end is
    /// never lost to a start, and how it really ended is never lost to a guess that it was interrupted.
    #[must_use]
    pub fn merge(self, event: Self) -> Self {
        let weight = |execution: &Self| match execution.ending {
            None => 0,
            Some(Ending::Interrupted) => 1,
            Some(_) => 2,
        };
        let started = self.started.min(event.started);
        let (kept, other) = if weight(&event) > weight(&self) { (event, self) } else { (self, event) };
        Self {
            started,
            schedule: kept.schedule.or(other.schedule),
            wrapper: kept.wrapper.or(other.wrapper),
            boot_id: kept.boot_id.or(other.boot_id),
            stdout_bytes: kept.stdout_bytes.or(other.stdout_bytes),
            stdout_sha256: kept.stdout_sha256.or(other.stdout_sha256),
            tail: kept.tail.or(other.tail),
            ..kept
        }
    }

    /// Whether it ended badly by itself; an interrupted one did not.
    #[must_use]
    pub fn failed(&self) -> bool {
        !matches!(self.ending, None | Some(Ending::Exit(0) | Ending::Interrupted))
    }
}

/// What a check's outcome was, for rules and conditions over other checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeWord {
    /// All is as it should be.
    Pass,
    /// Yellow at most.
    Warn,
    /// Can reach red.
    Fail,
    /// Could not be read.
    Unknown,
}

impl OutcomeWord {
    /// The word as users write it in expressions.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unknown => "unknown",
        }
    }
}

/// One check's newest observation as conditions and rules see it.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckView {
    /// Which check.
    pub check: CheckName,
    /// When it was observed.
    pub at: Timestamp,
    /// The outcome of each subject; the empty subject is the check itself.
    pub outcomes: BTreeMap<Subject, OutcomeWord>,
    /// Why a subject does not pass, the gravest first; what passes is not among them.
    pub reasons: BTreeMap<Subject, Vec<Code>>,
    /// What it read.
    pub facts: Facts,
}

impl CheckView {
    /// The worst outcome of all its subjects.
    #[must_use]
    pub fn worst(&self) -> OutcomeWord {
        self.outcomes.values().copied().max().unwrap_or(OutcomeWord::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(ending: Option<Ending>) -> Execution {
        Execution {
            job: "nightly".to_owned(),
            execution: "0123456789abcdef0123456789abcdef".to_owned(),
            started: "2026-03-20T14:30:00Z".parse().unwrap(),
            ended: ending.as_ref().map(|_| "2026-03-20T14:31:00Z".parse().unwrap()),
            ending,
            schedule: None,
            wrapper: Some((7, 9)),
            boot_id: None,
            stdout_bytes: None,
            stdout_sha256: None,
            tail: None,
        }
    }

    #[test]
    fn events_merge_to_the_same_in_any_order() {
        let start = Execution { schedule: Some("every 15m".to_owned()), ..execution(None) };
        let guess = Execution {
            ended: Some("2026-03-20T15:00:00Z".parse().unwrap()),
            wrapper: None,
            ..execution(Some(Ending::Interrupted))
        };
        let end =
            Execution { tail: Some(Clean::new("bye")), stdout_bytes: Some(3), ..execution(Some(Ending::Exit(4))) };
        let whole = Execution { schedule: start.schedule.clone(), ..end.clone() };
        let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let events = [start.clone(), guess.clone(), end.clone()];
        for order in orders {
            let [a, b, c] = order.map(|at| events[at].clone());
            assert_eq!(a.merge(b).merge(c), whole, "{order:?}");
        }
        for event in events {
            assert_eq!(event.clone().merge(event.clone()), event);
        }
        assert_eq!(start.merge(guess).ending, Some(Ending::Interrupted));
    }
}
