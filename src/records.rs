//! Plain rows that one part writes and another reads: job executions, and what other checks saw.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::facts::{CheckName, Facts, Subject};
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
