//! The lines of the logs that agents leave: what each says of a call, a job, a quota. Pure; a line that is none of ours is
//! passed over, one that should be and can't be read is counted.

mod claude;
mod codex;
pub(super) mod openclaw;
mod own;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ledger::Call;
use super::settings::Fields;
pub(super) use codex::Codex;

/// What one line says.
#[derive(Debug)]
pub(super) enum News<'a> {
    /// A call.
    Call(Call<'a>),
    /// How a job is to be shown.
    Shown { job: &'a str, name: &'a str },
    /// How much of a quota is used.
    Quota(Quota),
    /// Something that should be one of these, and can't be read.
    Bad,
    /// A line that says nothing of a call, where only lines that do are expected.
    Other,
}

/// How much of a quota of the provider's is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Quota {
    /// `primary` or `secondary`.
    pub name: String,
    pub used_pct: f64,
    pub window_minutes: Option<i64>,
    /// Second since 1970 at which it begins anew.
    pub resets_at: Option<i64>,
    /// When that was said.
    pub at: i64,
}

/// How the lines of a file are read, and what the lines before it said.
#[derive(Debug)]
pub(super) enum Format<'s> {
    /// A session of Claude Code, in the folder of a project.
    Claude { project: String, shown: bool },
    /// A session of Codex.
    Codex(Codex),
    /// A session of an older OpenClaw, of an agent's job.
    OpenClaw { job: String },
    /// Lines of somebody's own.
    Jsonl { job: String, fields: &'s Fields },
}

impl Format<'_> {
    /// Reads a line.
    pub fn line(&mut self, line: &[u8], tell: &mut dyn FnMut(News<'_>)) {
        match self {
            Self::Claude { project, shown } => claude::line(line, project, shown, tell),
            Self::Codex(codex) => codex.line(line, tell),
            Self::OpenClaw { job } => openclaw::line(line, job, tell),
            Self::Jsonl { job, fields } => own::line(line, job, fields, tell),
        }
    }

    /// Tells what waited for a line that did not come.
    pub fn end(&mut self, now: Timestamp, tell: &mut dyn FnMut(News<'_>)) {
        if let Self::Codex(codex) = self {
            codex.settle(now, tell);
        }
    }
}

/// A moment that stands as seconds with a fraction.
#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, and the range is checked after it")]
pub(super) fn from_seconds(seconds: f64) -> Option<Timestamp> {
    seconds.is_finite().then_some(())?;
    Timestamp::from_millisecond((seconds * 1e3) as i64).ok()
}

/// The name of a file without its ending.
pub(super) fn stem(path: &std::path::Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
