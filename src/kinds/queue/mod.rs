//! The kind `queue`: how deep a queue is, how old what is in processing, and whether it moves.
//!
//! Whatever a queue is kept in, a look brings tasks (`Task`): one each, or one for many alike. What they add up to, and
//! whether they moved since the last look, is the same for all sources (`facts`).

mod facts;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

use super::common::{
    CONNECT_REASONS, FILE_REASONS, LANE_REASONS, MISSING, POSTGRES_REASONS, REDIS_REASONS, SECRET_REASONS,
    SQLITE_REASONS,
};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::facts::{Blame, Facts, Finding, Unread};

pub use settings::{OldestAt, Settings};

/// The kind.
pub struct Queue;

/// What a task is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// The source has no words for it: it is in the queue.
    Queued,
    /// Its status is none of those that are known.
    Other,
    Waiting,
    Processing,
    Done,
}

/// One task, or many of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    state: State,
    /// How many it stands for.
    tasks: u64,
    /// Since when the oldest of them is at it.
    since: Option<Timestamp>,
    /// The name of the oldest.
    id: Option<String>,
    /// What tells it from others, where that is not its name.
    identity: Option<String>,
}

impl Task {
    fn one(state: State) -> Self {
        Self { state, tasks: 1, since: None, id: None, identity: None }
    }
}

/// What one look brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    tasks: Vec<Task>,
    /// How many were ever done, where something counts them.
    done: Option<u64>,
    /// Whether there is more than was looked at.
    cut: bool,
}

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}
const fn found(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human: false }
}
const fn blind(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    let outcome = ReasonOutcome::Unknown(Blame::Blind);
    ReasonDoc { code, outcome, settled: true, about, action, needs_human: true }
}

const REASONS: &[ReasonDoc] = &[
    found(
        "stuck",
        ReasonOutcome::Fail,
        true,
        "the oldest task in processing is at it for longer than `stuck_after`",
        "see whether its worker still lives, and requeue the task",
    ),
    found(
        "takes_long",
        ReasonOutcome::Warn,
        true,
        "the oldest task in processing is at it for longer than `warn_after`",
        "see what the task's worker does",
    ),
    found(
        "waits_long",
        ReasonOutcome::Fail,
        true,
        "the oldest waiting task waits for longer than `max_wait`",
        "see whether workers run, and whether they are enough",
    ),
    found(
        "unmoved",
        ReasonOutcome::Fail,
        true,
        "there are tasks, and none was taken up or done for longer than `unmoved_after`",
        "see whether the workers still live",
    ),
    found(
        "filling",
        ReasonOutcome::Warn,
        false,
        "there are more tasks than `warn_depth`",
        "see whether workers run, and whether they are enough",
    ),
    found(
        "full",
        ReasonOutcome::Fail,
        false,
        "there are more tasks than `fail_depth`",
        "see whether workers run, and whether they are enough",
    ),
    blind(
        "unclear_tasks",
        "the query's columns, the items or their times are not as the settings say",
        "correct `query`, `items` or the paths of an item",
    ),
    blind("bad_json", "the JSON file is too large, nested too deep, or no JSON", "correct `json_file`"),
    blind("not_a_folder", "`folder` is a file", "correct `folder`"),
    blind("wrong_type", "the Redis key holds no list, stream or sorted set", "correct `key`"),
    blind(
        "queue_too_long",
        "there are more tasks than are looked at, so nobody knows which is the oldest",
        "let the query count them (`GROUP BY status`)",
    ),
];

impl Kind for Queue {
    const DOC: KindDoc = KindDoc {
        name: "queue",
        about: "How deep a queue is, how long the oldest task is in processing, and whether it moves: taken up or done, not \
                only added to. A queue is a SQL query (SQLite, PostgreSQL), a Redis list, stream or sorted set, a folder of \
                files, or a JSON file. An empty queue is well. A query gives a row a task, or a row for many: columns \
                `status`, `since` (a time; with `GROUP BY status` the earliest), `tasks` (how many; else 1) and `id`, each \
                of them optional. Without a status every task counts for the oldest.",
        subjects: "",
        facts: &[
            fact("depth", "gauge", "tasks that are not done; bands by `warn_depth` and `fail_depth`"),
            fact("waiting", "gauge", "tasks that wait, where the source says so"),
            fact("processing", "gauge", "tasks in processing, where the source says so"),
            fact("other", "info", "tasks whose status is none of `waiting`, `processing` and `done`"),
            fact("done", "info", "tasks that were done, where something counts them"),
            fact(
                "oldest_s",
                "gauge",
                "seconds that the oldest task is in processing, or in the queue where no status is known; bands by \
                 `warn_after` and `stuck_after`; a task without a time counts from when it was first seen",
            ),
            fact("oldest_id", "info", "that task's id, foreign"),
            fact("oldest_waiting_s", "gauge", "seconds that the oldest waiting task waits; band by `max_wait`"),
            fact(
                "unmoved_s",
                "gauge",
                "seconds since a task was last seen taken up, done or gone; band by `unmoved_after`",
            ),
            fact("advanced", "info", "whether one was, since the last look"),
            fact("cut", "info", "whether there is more than is looked at"),
        ],
        reasons: &[
            REASONS,
            SQLITE_REASONS,
            POSTGRES_REASONS,
            REDIS_REASONS,
            CONNECT_REASONS,
            SECRET_REASONS,
            MISSING,
            FILE_REASONS,
            LANE_REASONS,
        ],
        example: r#"[check.speech-queue]
kind = "queue"
sqlite = "~/worker/queue.db"
query = "SELECT id, status, started_at AS since FROM tasks WHERE status IN ('queued', 'running')"
stuck_after = "4h"
unmoved_after = "1h"
warn_depth = 500
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        settings.validate(report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let before = cx.memory.get(facts::MEMORY)?;
        let seen = sources::look(settings, cx).await?;
        Ok(facts::fetched(settings, &seen, before.as_deref(), cx.now.wall))
    }

    fn assess(_settings: &Settings, _facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        // Every verdict is a band's.
        Vec::new()
    }
}
