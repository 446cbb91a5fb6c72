//! The settings of the kind `queue`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::State;
use crate::kinds::rows::{self, Versions};
use crate::settings::{Dur, JsonPath, PathGlob, SecretRef};

/// Settings of `queue`: exactly one of `sqlite`, `postgres`, `postgres_url`, `redis`, `redis_url`, `folder` and
/// `json_file`, and what belongs to it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A SQLite file, asked by `query`. Nothing is left beside it and its owner is not held up.
    pub sqlite: Option<PathGlob>,
    /// With `sqlite`: the values of `PRAGMA user_version` that the query was written for: one, a range (`"17-19"`) or a list.
    pub user_version: Option<Versions>,
    /// A PostgreSQL, asked by `query`: `postgres://user@host:port/database`, without a password. TLS is verified; there is
    /// none to this machine, to a socket (`postgres://user@%2Frun%2Fpostgresql/database`) or with `?sslmode=disable`.
    pub postgres: Option<String>,
    /// The same as a secret, which may hold the password (`env:DATABASE_URL`).
    pub postgres_url: Option<SecretRef>,
    /// One SELECT that gives the tasks which are not done, or all: columns `status`, `since`, `tasks`, `id`, each optional. A
    /// row is a task, or with `tasks` so many: `SELECT status, count(*) AS tasks, min(started_at) AS since, id FROM tasks
    /// GROUP BY status`. `SELECT count(*) …` alone is how many there are. Times are seconds or milliseconds since 1970, or
    /// ISO 8601 (UTC where they don't say). In SQLite `:now` stands for the time of the look in seconds.
    pub query: Option<String>,
    /// A Redis or Valkey, asked for `key`: `redis://user@host:port/database`, without a password; `rediss://` is verified
    /// TLS, `redis+unix:///path` a socket.
    pub redis: Option<String>,
    /// The same as a secret, which may hold the password (`env:REDIS_URL`).
    pub redis_url: Option<SecretRef>,
    /// With `redis`: the list, stream or sorted set that is the queue. One that is not there is an empty queue.
    pub key: Option<String>,
    /// With `redis`: the list or sorted set of tasks in processing, where workers move them there.
    pub processing_key: Option<String>,
    /// With `redis`: a key that counts the tasks that were done.
    pub done_key: Option<String>,
    /// With `redis` and a stream: the consumer group that works on it.
    pub group: Option<String>,
    /// With `redis` and a list: the end at which the oldest task is, so where workers take from.
    #[serde(default)]
    pub oldest_at: OldestAt,
    /// With `postgres` or `redis`: the password.
    pub password: Option<SecretRef>,
    /// A folder whose files are the tasks; a file's time of writing is the task's. Hidden files are none.
    pub folder: Option<PathGlob>,
    /// With `folder`: the folder of tasks in processing, where workers move them there. A file that is moved keeps its time.
    pub processing_folder: Option<PathGlob>,
    /// With `folder`: which files are tasks (`*.json`). By default all.
    pub names: Option<String>,
    /// A JSON file that holds the tasks.
    pub json_file: Option<PathGlob>,
    /// With `json_file`: the tasks in it (`$.tasks[*]`).
    pub items: Option<JsonPath>,
    /// With `json_file`: the status of a task, from the task on (`$.status`).
    pub status_path: Option<JsonPath>,
    /// With `json_file`, or where a Redis task is JSON: since when the task is at it (`$.started_at`).
    pub time_path: Option<JsonPath>,
    /// With `json_file`, or where a Redis task is JSON: the task's id (`$.id`).
    pub id_path: Option<JsonPath>,
    /// The words of a status that mean: it waits. In any case of letters.
    #[serde(default = "waiting")]
    pub waiting: Vec<String>,
    /// The words that mean: it is in processing.
    #[serde(default = "processing")]
    pub processing: Vec<String>,
    /// The words that mean: it is over, well or not; such tasks are not in the queue.
    #[serde(default = "done")]
    pub done: Vec<String>,
    /// Fail when the oldest task is in processing for longer.
    #[serde(default = "four_hours")]
    pub stuck_after: Dur,
    /// Warn when the oldest task is in processing for longer. By default half of `stuck_after`.
    pub warn_after: Option<Dur>,
    /// Fail when the oldest waiting task waits for longer.
    pub max_wait: Option<Dur>,
    /// Fail when there are tasks and none was taken up or done for longer. By default `stuck_after`; longer for a queue that
    /// may rest with tasks in it.
    pub unmoved_after: Option<Dur>,
    /// Warn when there are more tasks.
    pub warn_depth: Option<u32>,
    /// Fail when there are more tasks.
    pub fail_depth: Option<u32>,
}

/// The end of a list at which the oldest task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OldestAt {
    /// The first: tasks are added by RPUSH and taken by LPOP.
    Head,
    /// The last: tasks are added by LPUSH and taken by RPOP or BRPOP.
    #[default]
    Tail,
}

fn four_hours() -> Dur {
    Dur::hours(4)
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_owned()).collect()
}
fn waiting() -> Vec<String> {
    words(&["waiting", "queued", "pending", "new", "ready", "created", "enqueued", "scheduled", "todo", "retry"])
}
fn processing() -> Vec<String> {
    words(&["processing", "running", "active", "started", "in_progress", "in-progress", "working", "claimed", "leased"])
}
fn done() -> Vec<String> {
    words(&[
        "done",
        "completed",
        "complete",
        "finished",
        "succeeded",
        "success",
        "ok",
        "failed",
        "error",
        "cancelled",
        "canceled",
        "aborted",
        "dead",
        "timed_out",
        "lost",
        "skipped",
    ])
}

impl Settings {
    /// What a word of a status means.
    pub(super) fn state(&self, word: &str) -> State {
        let among = |list: &[String]| list.iter().any(|one| one.to_lowercase() == word.trim().to_lowercase());
        if among(&self.processing) {
            State::Processing
        } else if among(&self.waiting) {
            State::Waiting
        } else if among(&self.done) {
            State::Done
        } else {
            State::Other
        }
    }

    pub(super) fn warn_after(&self) -> Dur {
        self.warn_after.unwrap_or_else(|| Dur(self.stuck_after.get() / 2))
    }

    pub(super) fn unmoved_after(&self) -> Dur {
        self.unmoved_after.unwrap_or(self.stuck_after)
    }

    pub(super) fn validate(&self, report: &mut dyn FnMut(&str, String)) {
        let sources = [
            ("sqlite", self.sqlite.is_some()),
            ("postgres", self.postgres.is_some()),
            ("postgres_url", self.postgres_url.is_some()),
            ("redis", self.redis.is_some()),
            ("redis_url", self.redis_url.is_some()),
            ("folder", self.folder.is_some()),
            ("json_file", self.json_file.is_some()),
        ];
        let given: Vec<&str> = sources.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
        match given.as_slice() {
            [] => report(
                "query",
                "nothing says where the queue is (one of `sqlite`, `postgres`, `redis`, `folder`, `json_file`)"
                    .to_owned(),
            ),
            [_] => self.validate_belongings(report),
            [first, others @ ..] => {
                for key in others {
                    report(key, format!("`{first}` and `{key}` exclude each other (make it two checks)"));
                }
            }
        }
        self.validate_texts(report);
        if self.stuck_after.is_zero() {
            report("stuck_after", "expected a duration above 0s".to_owned());
        } else if self.warn_after() >= self.stuck_after {
            report("warn_after", "`warn_after` must be shorter than `stuck_after`".to_owned());
        }
        if self.warn_depth.zip(self.fail_depth).is_some_and(|(warn, fail)| fail <= warn) {
            report("fail_depth", "`fail_depth` must be above `warn_depth`".to_owned());
        }
        for word in self.waiting.iter().chain(&self.done) {
            if self.processing.iter().any(|other| other.eq_ignore_ascii_case(word)) {
                report("processing", format!("`{word}` can't mean two things (leave it out of one list)"));
            }
        }
    }

    /// What belongs to a source that is not there, and what a source lacks.
    fn validate_belongings(&self, report: &mut dyn FnMut(&str, String)) {
        let (sql, postgres) = (self.sqlite.is_some(), self.postgres.is_some() || self.postgres_url.is_some());
        let redis = self.redis.is_some() || self.redis_url.is_some();
        let (folder, json) = (self.folder.is_some(), self.json_file.is_some());
        let belongs = [
            ("user_version", self.user_version.is_some(), sql, "sqlite"),
            ("query", self.query.is_some(), sql || postgres, "sqlite` or `postgres"),
            (
                "password",
                self.password.is_some(),
                self.postgres.is_some() || self.redis.is_some(),
                "postgres` or `redis",
            ),
            ("key", self.key.is_some(), redis, "redis"),
            ("processing_key", self.processing_key.is_some(), redis, "redis"),
            ("done_key", self.done_key.is_some(), redis, "redis"),
            ("group", self.group.is_some(), redis, "redis"),
            ("processing_folder", self.processing_folder.is_some(), folder, "folder"),
            ("names", self.names.is_some(), folder, "folder"),
            ("items", self.items.is_some(), json, "json_file"),
            ("status_path", self.status_path.is_some(), json, "json_file"),
            ("time_path", self.time_path.is_some(), json || redis, "json_file` or `redis"),
            ("id_path", self.id_path.is_some(), json || redis, "json_file` or `redis"),
        ];
        for (key, given, fits, to) in belongs {
            if given && !fits {
                report(key, format!("`{key}` belongs to `{to}`, which is not there"));
            }
        }
        let lacks = [
            ("query", self.query.is_none(), sql || postgres, "a query that gives the tasks"),
            ("key", self.key.is_none(), redis, "the key of the queue"),
            ("items", self.items.is_none(), json, "where the tasks are (`$.tasks[*]`)"),
        ];
        for (key, lacks, wanted, what) in lacks {
            if lacks && wanted {
                report(key, format!("`{key}` is missing: {what}"));
            }
        }
    }

    fn validate_texts(&self, report: &mut dyn FnMut(&str, String)) {
        if let Some(said) = self.query.as_deref().and_then(rows::query_problem) {
            report("query", said.to_owned());
        }
        let paths = [
            ("sqlite", &self.sqlite),
            ("folder", &self.folder),
            ("processing_folder", &self.processing_folder),
            ("json_file", &self.json_file),
        ];
        for (key, path) in paths {
            if path.as_ref().is_some_and(PathGlob::is_glob) {
                report(key, "expected one path, without wildcards".to_owned());
            }
        }
        if self.names.as_ref().is_some_and(|names| names.is_empty() || names.contains('/')) {
            report("names", "expected a pattern of file names like `*.json`".to_owned());
        }
        let urls = [
            ("postgres", &self.postgres, &["postgres://", "postgresql://"][..]),
            ("redis", &self.redis, &["redis://", "rediss://", "redis+unix://"][..]),
        ];
        for (key, url, schemes) in urls {
            let Some(url) = url else { continue };
            if !schemes.iter().any(|scheme| url.starts_with(scheme)) {
                report(key, format!("expected a URL that begins with `{}`", schemes.join("`, `")));
            } else if has_password(url) {
                let said =
                    "a password has no place in the config (set `password`, or give the whole URL as a secret in";
                report(key, format!("{said} `{key}_url`)"));
            }
        }
    }
}

/// Who logs in, as a URL has it, and the rest of it.
pub(super) fn split_user(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((user, _)) => (scheme, user, rest.get(user.len() + 1..).unwrap_or_default()),
        None => (scheme, "", rest),
    }
}

fn has_password(url: &str) -> bool {
    let in_query = url.split_once('?').is_some_and(|(_, query)| {
        query.split('&').any(|pair| pair.starts_with("password=") || pair.starts_with("pass="))
    });
    in_query || split_user(url).1.contains(':')
}
