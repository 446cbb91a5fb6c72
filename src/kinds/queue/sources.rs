//! Reading the tasks from where they are kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::settings::{OldestAt, Settings, split_user};
use super::{Seen, State, Task};
use crate::clean;
use crate::facts::Unread;
use crate::host::files;
use crate::host::redis::Redis;
use crate::kinds::moment::moment;
use crate::kinds::rows::{self, Answer};
use crate::kinds::{Cx, remote};
use crate::redact::{Clean, Secret};
use crate::settings::SecretRef;

/// Rows of a query, items of a JSON file.
const MAX_TASKS: usize = 10_000;
/// Entries of a stream that are counted where the server does not know how many wait; more count as so many.
const MAX_BEHIND: &str = "1000";
/// Files of a folder.
const MAX_FILES: usize = 100_000;
/// Bytes of a JSON file.
const MAX_JSON_BYTES: usize = 16 * 1024 * 1024;
/// Columns that mean something.
const COLUMNS: [&str; 4] = ["status", "since", "tasks", "id"];
/// Some programs write their file in place; what can't be read is read once more.
const SECOND_LOOK: Duration = Duration::from_millis(100);
/// A score above this is taken for a time: the year 2001.
const TIME_FROM: f64 = 1e9;

/// Looks at the queue.
pub(super) async fn look(settings: &Settings, cx: &Cx) -> Result<Seen, Unread> {
    let deadline = remote::stop_at(cx);
    let query = settings.query.clone().unwrap_or_default();
    if let Some(path) = &settings.sqlite {
        let (path, versions, now) = (cx.host.expand(path.as_str()), settings.user_version.clone(), cx.now.wall);
        let about = path.to_string_lossy().into_owned();
        let ask = move || rows::ask(&path, versions.as_ref(), &query, MAX_TASKS, now, deadline);
        let answer = cx.host.lane(&about, cx.deadline, ask).await??;
        return from_answer(settings, &answer);
    }
    if settings.postgres.is_some() || settings.postgres_url.is_some() {
        let url = url(cx, settings.postgres.as_deref(), settings.postgres_url.as_ref(), settings).await?;
        return postgres(settings, cx, &url, &query, deadline).await;
    }
    if settings.redis.is_some() || settings.redis_url.is_some() {
        let url = url(cx, settings.redis.as_deref(), settings.redis_url.as_ref(), settings).await?;
        let connected = cx.host.redis(&url, deadline).await;
        note(cx, &url, &connected);
        return Asked { redis: connected?, settings, now: cx.now.wall }.look().await;
    }
    if let Some(folder) = &settings.folder {
        let folder = cx.host.expand(folder.as_str());
        let processing = settings.processing_folder.as_ref().map(|folder| cx.host.expand(folder.as_str()));
        let (names, about) = (settings.names.clone(), folder.to_string_lossy().into_owned());
        let list = move || folders(&folder, processing.as_deref(), names.as_deref().unwrap_or("*"));
        return cx.host.lane(&about, cx.deadline, list).await?;
    }
    let path = settings.json_file.as_ref().map(|path| cx.host.expand(path.as_str())).unwrap_or_default();
    let document = document(cx, &path, deadline).await?;
    from_document(settings, &document)
}

/// Notes whether a server could be reached; the folder of a socket is no host.
fn note<T>(cx: &Cx, url: &Secret, outcome: &Result<T, Unread>) {
    if let Some(host) = remote::host_of(url.expose()).filter(|host| !host.is_empty() && !host.contains('%')) {
        remote::note(cx, &host, outcome);
    }
}

/// A URL with the password that is kept elsewhere.
async fn url(cx: &Cx, plain: Option<&str>, whole: Option<&SecretRef>, settings: &Settings) -> Result<Secret, Unread> {
    let Some(plain) = plain else {
        return match whole {
            Some(at) => cx.host.secret(at).await,
            None => Ok(Secret::public("")),
        };
    };
    let Some(at) = &settings.password else { return Ok(Secret::public(plain)) };
    let password = cx.host.secret(at).await?;
    let (scheme, user, rest) = split_user(plain);
    Ok(Secret::new(&format!("{scheme}://{user}:{}@{rest}", percent(password.expose()))))
}

fn percent(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut out, byte| {
        let _ = write!(out, "%{byte:02X}");
        out
    })
}

fn unclear(said: Clean) -> Unread {
    Unread::blind("unclear_tasks", said)
}

/// A time as somebody wrote it; null is none.
fn time(value: &Json, what: &str) -> Result<Option<Timestamp>, Unread> {
    let nothing = value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty());
    if nothing || value.as_f64() == Some(0.0) {
        return Ok(None);
    }
    moment(value).map(Some).ok_or_else(|| unclear(clean!("what is at `{what}` is no time")))
}

fn plain_text(value: &Json) -> Option<String> {
    match value {
        Json::Null => None,
        Json::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn from_answer(settings: &Settings, answer: &Answer) -> Result<Seen, Unread> {
    // A number of that name alone is how many there are.
    let counted = match answer.columns.as_slice() {
        [name] => ["count", "depth"].iter().any(|word| name.to_lowercase().starts_with(word)).then_some(0),
        _ => None,
    };
    let place = |name: &str| answer.column(name).or(counted.filter(|_| name == "tasks"));
    let [status, since, tasks, id] = COLUMNS.map(place);
    if [status, since, tasks, id].iter().all(Option::is_none) {
        let said = clean!("the query gives none of the columns `{}`", COLUMNS.join("`, `"));
        return Err(unclear(said));
    }
    let mut seen = Seen { cut: answer.more, ..Seen::default() };
    for row in &answer.rows {
        let at = |column: Option<usize>| column.and_then(|at| row.get(at)).unwrap_or(&Json::Null);
        let state = match status {
            Some(_) => settings.state(&plain_text(at(status)).unwrap_or_default()),
            None => State::Queued,
        };
        let count = match (tasks, at(tasks)) {
            (None, _) => 1,
            (Some(_), Json::Number(number)) if number.is_u64() => number.as_u64().unwrap_or_default(),
            (Some(_), _) => return Err(unclear(clean!("the column `tasks` is no number of tasks"))),
        };
        if count > 0 {
            seen.tasks.push(Task {
                tasks: count,
                since: time(at(since), "since")?,
                id: plain_text(at(id)),
                ..Task::one(state)
            });
        }
    }
    Ok(seen)
}

async fn postgres(settings: &Settings, cx: &Cx, url: &Secret, query: &str, deadline: Instant) -> Result<Seen, Unread> {
    // As JSON the columns have their names and times their form. A comment at the query's end ends with its line.
    let query = query.trim().trim_end_matches(';');
    let as_json = format!("SELECT to_jsonb(tasks) FROM (\n{query}\n) AS tasks");
    let asked = cx.host.postgres(url, &as_json, MAX_TASKS + 1, deadline).await;
    note(cx, url, &asked);
    let mut answer = Answer::default();
    for row in asked? {
        let document = row.into_iter().next().flatten().unwrap_or_default();
        let Ok(Json::Object(columns)) = remote::json(document.as_bytes()) else {
            return Err(unclear(clean!("a row of the query can't be read")));
        };
        if answer.rows.is_empty() {
            answer.columns = columns.keys().cloned().collect();
        }
        answer.rows.push(answer.columns.iter().map(|name| columns.get(name).cloned().unwrap_or_default()).collect());
    }
    // Without a row the columns are not known, and it does not matter.
    if answer.rows.is_empty() {
        return Ok(Seen::default());
    }
    answer.more = answer.rows.len() > MAX_TASKS;
    answer.rows.truncate(MAX_TASKS);
    from_answer(settings, &answer)
}

/// The files of the queue's folder, and of the one for tasks in processing. Blocking.
fn folders(folder: &Path, processing: Option<&Path>, names: &str) -> Result<Seen, Unread> {
    let state = if processing.is_some() { State::Waiting } else { State::Queued };
    let mut seen = Seen::default();
    files_in(folder, names, state, &mut seen)?;
    if let Some(processing) = processing {
        files_in(processing, names, State::Processing, &mut seen)?;
    }
    Ok(seen)
}

fn files_in(folder: &Path, names: &str, state: State, seen: &mut Seen) -> Result<(), Unread> {
    match files::stat(folder)? {
        None => return Err(Unread::target("missing", clean!("{} is not there", files::shown(folder)))),
        Some(stat) if !stat.is_dir => {
            return Err(Unread::blind("not_a_folder", clean!("{} is no folder", files::shown(folder))));
        }
        Some(_) => {}
    }
    let (paths, more) = files::glob(&folder.join(names), MAX_FILES)?;
    seen.cut |= more;
    for path in paths {
        // One that was taken meanwhile is no task any more.
        if let Some(stat) = files::stat(&path)?.filter(|stat| stat.is_file) {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            seen.tasks.push(Task { since: Some(stat.modified), id: name, ..Task::one(state) });
        }
    }
    Ok(())
}

/// Reads a JSON file, a second time when the first found it half written.
async fn document(cx: &Cx, path: &Path, deadline: Instant) -> Result<Json, Unread> {
    let once = || {
        let path: PathBuf = path.to_owned();
        let about = path.to_string_lossy().into_owned();
        let read = move || {
            let (bytes, cut) = files::read(&path, MAX_JSON_BYTES)?;
            let bad = |why: &str| Unread::blind("bad_json", clean!("{} is {why}", files::shown(&path)));
            if cut { Err(bad("larger than 16 MiB")) } else { remote::json(&bytes).map_err(|why| bad(&why)) }
        };
        async move { cx.host.lane(&about, deadline, read).await? }
    };
    match once().await {
        Err(unread) if unread.code.as_str() == "bad_json" => {
            tokio::time::sleep(SECOND_LOOK).await;
            once().await
        }
        other => other,
    }
}

fn from_document(settings: &Settings, document: &Json) -> Result<Seen, Unread> {
    let Some(path) = &settings.items else { return Ok(Seen::default()) };
    let items = path.all(document);
    if items.is_empty() && !leads_somewhere(path.as_str(), document) {
        return Err(unclear(clean!("there is nothing at `{path}`")));
    }
    let mut seen = Seen { cut: items.len() > MAX_TASKS, ..Seen::default() };
    for item in items.into_iter().take(MAX_TASKS) {
        let mut task = described(settings, item)?;
        if let Some(path) = &settings.status_path {
            let word = path.one(item).and_then(plain_text).unwrap_or_default();
            task.state = settings.state(&word);
        }
        if task.id.is_none() {
            task.identity = Some(item.to_string());
        }
        seen.tasks.push(task);
    }
    Ok(seen)
}

/// An empty list is an empty queue, and one that is not there is not: `$.tasks[*]` finds nothing in both.
fn leads_somewhere(path: &str, document: &Json) -> bool {
    let above = path.strip_suffix("[*]").or_else(|| path.strip_suffix(".*"));
    let above = above.or_else(|| path.rfind("[?").and_then(|at| path.get(..at)));
    match above.map(crate::settings::JsonPath::parse) {
        Some(Ok(above)) => above.one(document).is_some_and(|found| found.is_array() || found.is_object()),
        // What finds by itself what fits (`$..tasks`) may well find nothing.
        _ => true,
    }
}

/// A task as its JSON describes it.
fn described(settings: &Settings, item: &Json) -> Result<Task, Unread> {
    let mut task = Task::one(State::Queued);
    if let Some(path) = &settings.time_path {
        task.since = time(path.one(item).unwrap_or(&Json::Null), path.as_str())?;
    }
    if let Some(path) = &settings.id_path {
        task.id = path.one(item).and_then(plain_text);
    }
    Ok(task)
}

/// A Redis and what it is asked for.
struct Asked<'a> {
    redis: Redis,
    settings: &'a Settings,
    now: Timestamp,
}

impl Asked<'_> {
    async fn look(&mut self) -> Result<Seen, Unread> {
        let settings = self.settings;
        let key = settings.key.as_deref().unwrap_or_default();
        let mut seen = Seen::default();
        // Whoever takes a task out of a key removes it there: what lies in it waits.
        self.take_in(key, State::Waiting, &mut seen).await?;
        if let Some(key) = &settings.processing_key {
            self.take_in(key, State::Processing, &mut seen).await?;
        }
        if let Some(key) = &settings.done_key {
            let count = self.redis.ask(&["GET", key]).await?;
            let count = plain_text(&count).map_or(Ok(0), |text| text.trim().parse());
            seen.done = Some(count.map_err(|_| unclear(clean!("`done_key` holds no number")))?);
        }
        Ok(seen)
    }

    /// The tasks of one key.
    async fn take_in(&mut self, key: &str, state: State, seen: &mut Seen) -> Result<(), Unread> {
        let kind = self.redis.ask(&["TYPE", key]).await?;
        match kind.as_str().unwrap_or_default() {
            "none" => Ok(()),
            "list" => self.list(key, state, seen).await,
            "zset" => self.sorted_set(key, state, seen).await,
            "stream" => self.stream(key, state, seen).await,
            other => {
                let said = clean!("the Redis key {} is a {other}", Clean::line(key, 80).quoted());
                Err(Unread::blind("wrong_type", said))
            }
        }
    }

    async fn number(&mut self, words: &[&str]) -> Result<u64, Unread> {
        Ok(self.redis.ask(words).await?.as_u64().unwrap_or_default())
    }

    async fn list(&mut self, key: &str, state: State, seen: &mut Seen) -> Result<(), Unread> {
        let tasks = self.number(&["LLEN", key]).await?;
        let end = match self.settings.oldest_at {
            OldestAt::Head => "0",
            OldestAt::Tail => "-1",
        };
        let oldest = self.redis.ask(&["LINDEX", key, end]).await?;
        // Emptied between the two questions.
        if let (1.., Some(text)) = (tasks, oldest.as_str()) {
            seen.tasks.push(Task { state, tasks, ..self.element(text)? });
        }
        Ok(())
    }

    async fn sorted_set(&mut self, key: &str, state: State, seen: &mut Seen) -> Result<(), Unread> {
        let tasks = self.number(&["ZCARD", key]).await?;
        let first = self.redis.ask(&["ZRANGE", key, "0", "0", "WITHSCORES"]).await?;
        let first: Vec<String> = first.as_array().into_iter().flatten().filter_map(plain_text).collect();
        if let (1.., [text, score]) = (tasks, first.as_slice()) {
            let task = self.element(text)?;
            let score: f64 = score.parse().unwrap_or_default();
            let by_score = if score > TIME_FROM { moment(&score.into()) } else { None };
            seen.tasks.push(Task { state, tasks, since: task.since.or(by_score), ..task });
        }
        Ok(())
    }

    /// One element of a list or set.
    fn element(&self, text: &str) -> Result<Task, Unread> {
        let wants_json = self.settings.time_path.is_some() || self.settings.id_path.is_some();
        let mut task = Task::one(State::Queued);
        if wants_json {
            let item = remote::json(text.as_bytes()).map_err(|why| unclear(clean!("the oldest task is {why}")))?;
            task = described(self.settings, &item)?;
        }
        task.identity = Some(text.to_owned());
        Ok(task)
    }

    async fn stream(&mut self, key: &str, state: State, seen: &mut Seen) -> Result<(), Unread> {
        let Some(group) = &self.settings.group else {
            let tasks = self.number(&["XLEN", key]).await?;
            let first = self.redis.ask(&["XRANGE", key, "-", "+", "COUNT", "1"]).await?;
            let id = first.get(0).and_then(|entry| entry.get(0)).and_then(plain_text);
            if tasks > 0 {
                let since = id.as_deref().and_then(entry_time);
                seen.tasks.push(Task { tasks, since, id, ..Task::one(state) });
            }
            return Ok(());
        };
        let groups = self.redis.ask(&["XINFO", "GROUPS", key]).await?;
        let info =
            groups.as_array().into_iter().flatten().find(|info| field(info, "name") == Some(&group.as_str().into()));
        let Some(info) = info else {
            return Err(unclear(clean!("the stream has no group {}", Clean::line(group, 80).quoted())));
        };
        let number = |name: &str| field(info, name).and_then(Json::as_u64);
        let waiting = if let Some(lag) = number("lag") {
            lag
        } else {
            // Before Redis 7, and after entries were deleted, the server doesn't know: what lies behind is counted.
            let last = field(info, "last-delivered-id").and_then(plain_text).unwrap_or_else(|| "0-0".to_owned());
            let behind = self.redis.ask(&["XRANGE", key, &format!("({last}"), "+", "COUNT", MAX_BEHIND]).await?;
            u64::try_from(behind.as_array().map_or(0, Vec::len)).unwrap_or(u64::MAX)
        };
        seen.done = number("entries-read").zip(number("pending")).map(|(read, pending)| read.saturating_sub(pending));
        if let pending @ 1.. = number("pending").unwrap_or_default() {
            let first = self.redis.ask(&["XPENDING", key, group, "-", "+", "1"]).await?;
            let first = first.get(0);
            let idle_ms = first.and_then(|entry| entry.get(2)).and_then(Json::as_i64).unwrap_or_default();
            let since = self.now.checked_sub(SignedDuration::from_millis(idle_ms)).ok();
            let id = first.and_then(|entry| entry.get(0)).and_then(plain_text);
            seen.tasks.push(Task { tasks: pending, since, id, ..Task::one(State::Processing) });
        }
        if waiting > 0 {
            seen.tasks.push(Task { tasks: waiting, ..Task::one(State::Waiting) });
        }
        Ok(())
    }
}

/// A value of a flat list of names and values.
fn field<'a>(pairs: &'a Json, name: &str) -> Option<&'a Json> {
    pairs.as_array()?.chunks_exact(2).find_map(|pair| match pair {
        [key, value] if key.as_str() == Some(name) => Some(value),
        _ => None,
    })
}

/// When a stream's entry was added, by its id.
fn entry_time(id: &str) -> Option<Timestamp> {
    Timestamp::from_millisecond(id.split('-').next()?.parse().ok()?).ok()
}
