//! The kind `output`: whether a job left what it should have left: a file, or what it printed.

mod content;
mod reasons;
mod settings;
mod sound;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use self::content::Content;
pub use self::settings::Settings;
use super::common::{FILE_REASONS, LANE_REASONS};
use super::ledger::Ledger;
use super::words::JobName;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Memory, Past, Records};
use crate::clean;
use crate::expr::Val;
use crate::facts::{Edge, Facts, Finding, MAX_TEXT_BYTES, Scale, Subject, Unit, Unread, Weight, Worse};
use crate::host::files;
use crate::read::tree::modified;
use crate::records::Execution;
use crate::redact::Clean;
use crate::words::{count, size, span};

/// Files of a glob that are compared for the newest.
const MAX_FILES: usize = 10_000;
/// Bytes of a schema file.
const MAX_SCHEMA_BYTES: usize = 1024 * 1024;
/// Executions of a job that are looked back through for a successful one.
const MAX_EXECUTIONS: usize = 200;
/// File systems stamp times as coarsely as 2 s (FAT): a file this little older than its run's start is that run's.
const STAMP_SLACK: SignedDuration = SignedDuration::from_secs(2);
/// A time this far ahead is no skew between clocks any more.
const FUTURE_SLACK: SignedDuration = SignedDuration::from_mins(5);
/// The key under which the last run's content is remembered.
const RUN_KEY: &str = "run";

/// The kind.
pub struct Output;

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}

impl Kind for Output {
    const DOC: KindDoc = KindDoc {
        name: "output",
        about: "Whether a job left what it should have left: the newest file of a path or glob, or what the job printed. \
                A content stays as it is until the next run, so what is wrong with it is settled; it is transient while \
                the file may still be written (less than `settle` ago, or while `after_job` runs).",
        subjects: "",
        facts: &[
            fact("path", "info", "the file that was looked at, foreign where `path` is a glob"),
            fact("files", "info", "how many files the glob matches"),
            fact("exists", "info", "whether there is one"),
            fact("size_bytes", "info", "its size in bytes"),
            fact("modified", "info", "when it was written, or the execution ended"),
            fact("age_s", "gauge", "seconds since then; over `max_age` it is `stale`"),
            fact("being_written", "info", "whether it may still be written"),
            fact("run_started", "info", "the start of the last successful execution of `after_job` or `job`"),
            fact("format", "info", "what it was read as"),
            fact("shape", "state", "of json what the document is: list, map, text, number, flag or null"),
            fact("rows", "info", "how many rows it has"),
            fact("columns", "set", "with `columns`: the csv's header, foreign"),
            fact("sha256", "info", "the digest of its content; of sound only with `changes`"),
            fact("cut", "info", "whether it is larger than what is read"),
            fact(
                "codec",
                "info",
                "of sound: how its samples are stored (`pcm_16`, `float_32`, `mp3`, `flac`, `vorbis`)",
            ),
            fact("channels", "info", "of sound: how many channels"),
            fact("sample_rate_hz", "info", "of sound: samples a second"),
            fact("duration_s", "info", "of sound: the seconds that are there"),
            fact("header_duration_s", "info", "of sound: the seconds that its header promises, where it does"),
            fact("truncated", "info", "of sound: whether its end is missing"),
            fact("heard_s", "info", "of sound: the seconds that were listened to, at most 300, spread over the whole"),
            fact("peak", "info", "of sound: the largest sample, 1 is full scale"),
            fact("rms_dbfs", "info", "of sound: its mean level in dB below full scale, -144 for nothing"),
            fact("silence_percent", "info", "of sound: the time below -60 dBFS"),
            fact("longest_silence_s", "info", "of sound: the longest such time in one piece"),
            fact("clipping_percent", "info", "of sound: samples in runs at full scale; not of 8-bit samples"),
            fact(
                "flatness",
                "info",
                "of sound: the median flatness of its spectrum, pauses left out: speech up to 0.4, pink noise 0.6, white 0.9",
            ),
            fact("noise_percent", "info", "of sound: the time, pauses left out, that is as flat as white noise"),
            fact("empty", "info", "in which way there is nothing in it"),
            fact("malformed", "info", "why it isn't what its format says"),
            fact("missing_columns", "info", "the columns that its header lacks"),
            fact("missing_values", "info", "the required paths that lead to nothing"),
            fact("wrong_shape", "info", "where it departs from the schema, foreign"),
            fact("unchanged", "info", "with `changes`: whether its run brought the content of the run before"),
            fact("expectation", "info", "whether `expect` holds"),
        ],
        reasons: &[reasons::OWN, FILE_REASONS, LANE_REASONS],
        example: "\
[check.nightly-report]
kind = \"output\"
path = \"~/reports/report-*.json\"
after_job = \"nightly-report\"
max_age = \"26h\"
required = [\"$.summary\", \"$.items[*].id\"]
expect = \"size(json.items) >= 10\"
changes = true
",
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        settings.problems(report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let about = match (&settings.path, &settings.job) {
            (Some(path), _) => path.as_str().to_owned(),
            (None, job) => format!("job {}", job.as_ref().map_or("", JobName::as_str)),
        };
        let expand = |path: &crate::settings::PathGlob| cx.host.expand(path.as_str());
        let look = Look {
            path: settings.path.as_ref().map(expand),
            schema_file: settings.schema_file.as_ref().map(expand),
            settings: settings.clone(),
            now: cx.now.wall,
            proc: cx.host.paths.proc.clone(),
            memory: Arc::clone(&cx.memory),
            records: Arc::clone(&cx.records),
        };
        cx.host.lane(&about, cx.deadline, move || look.run()).await?
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, now: Timestamp) -> Vec<Finding> {
        assess(settings, facts, now)
    }
}

/// A fetch without its futures: all of it blocks.
struct Look {
    settings: Settings,
    path: Option<PathBuf>,
    schema_file: Option<PathBuf>,
    now: Timestamp,
    proc: PathBuf,
    memory: Arc<dyn Memory>,
    records: Arc<dyn Records>,
}

/// A key and what to keep under it.
type Kept = (String, Option<Vec<u8>>);

/// What is remembered of the run that was last looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// What tells one run from the next.
    id: String,
    /// Its content.
    sha256: String,
    /// The content of the run before it.
    before: Option<String>,
}

impl Look {
    fn run(&self) -> Result<Fetched, Unread> {
        let mut facts = Facts::new();
        match (&self.path, &self.settings.job) {
            (Some(pattern), _) => self.file(pattern, facts),
            (None, Some(job)) => {
                let fetched = self.captured(job, &mut facts)?;
                Ok(Fetched { facts, ..fetched })
            }
            // Refused when the config is read.
            (None, None) => Ok(Fetched::default()),
        }
    }

    fn file(&self, pattern: &Path, mut facts: Facts) -> Result<Fetched, Unread> {
        let me = &Subject::none();
        let settings = &self.settings;
        let (mut run, mut running) = (None, false);
        if let Some(job) = &settings.after_job {
            let executions = self.records.executions(job.as_str(), MAX_EXECUTIONS)?;
            running = executions.first().is_some_and(|newest| Ledger::read(&self.proc).runs(newest));
            run = executions.into_iter().find(Execution::succeeded);
            if let Some(run) = &run {
                facts.info(me, "run_started", run.started);
            }
        }
        facts.info(me, "being_written", running);
        let found = self.newest(pattern, &mut facts)?;
        let opened = match found.as_deref().map(files::open) {
            Some(Err(gone)) if gone.code.as_str() == "missing" => None,
            Some(opened) => Some(opened?),
            None => None,
        };
        facts.info(me, "exists", opened.is_some());
        let (Some(path), Some(file)) = (found, opened) else { return Ok(facts.into()) };
        let shown = path.to_string_lossy();
        if settings.path.as_ref().is_some_and(crate::settings::PathGlob::is_glob) {
            facts.put_foreign(me, "path", &*shown, crate::facts::Class::Info);
        } else {
            facts.info(me, "path", &*shown);
        }
        let unreadable = |e: std::io::Error| Unread::blind("unreadable", clean!("reading failed: {e}"));
        let meta = file.metadata().map_err(unreadable)?;
        let written =
            modified(&meta).ok_or_else(|| Unread::blind("unreadable", clean!("it has no time of writing")))?;
        self.time(&mut facts, written);

        if settings.max_size.is_some_and(|most| meta.len() > most.bytes()) {
            // What is in it is not worth its reading: it is wrong already.
            facts.info(me, "size_bytes", meta.len());
            return Ok(facts.into());
        }
        let schema = match &self.schema_file {
            Some(path) => Some(Arc::new(read_schema(path)?)),
            None => settings.schema.as_ref().map(|schema| Arc::clone(&schema.0)),
        };
        let format = settings.format_of(&path);
        let content = content::content(settings, format, schema.as_deref(), &file).map_err(unreadable)?;
        let size_bytes = if content.cut { meta.len().max(content.bytes) } else { content.bytes };
        let after = file.metadata().ok();
        let moved = after.is_none_or(|after| modified(&after) != Some(written) || after.len() != size_bytes);
        let young = self.now.duration_since(written).abs() < settings.settle.signed();
        let being_written = running || young || moved;
        facts.info(me, "being_written", being_written);
        facts.info(me, "size_bytes", size_bytes);
        facts.info(me, "format", format.as_str());
        put(&mut facts, &content);

        let mut fetched = Fetched::default();
        if let Some((code, why)) = &content.unheard {
            fetched.unread.insert(me.clone(), Unread::blind(*code, clean!("{why}")));
        } else if let Some(why) = self.beyond(&content) {
            fetched.unread.insert(me.clone(), Unread::blind("too_large_to_read", why));
        }
        if let Some(sha256) = content.sha256.as_deref().filter(|_| settings.changes && !being_written) {
            let id = run.map_or_else(|| format!("{written} {}", path.display()), |run| run.execution);
            fetched.remember.extend(self.compare(&id, sha256, &mut facts)?);
        }
        let size_bytes = i64::try_from(size_bytes).unwrap_or(i64::MAX);
        self.expect(&content, size_bytes, &mut facts, &mut fetched);
        fetched.facts = facts;
        Ok(fetched)
    }

    fn captured(&self, job: &JobName, facts: &mut Facts) -> Result<Fetched, Unread> {
        let me = &Subject::none();
        let executions = self.records.executions(job.as_str(), MAX_EXECUTIONS)?;
        let Some(run) = executions.into_iter().find(Execution::succeeded) else {
            return Err(Unread::blind(
                "no_run",
                clean!("job `{}` has no successful execution on record", job.as_str()),
            ));
        };
        let Some(bytes) = run.stdout_bytes else {
            return Err(Unread::blind("not_captured", clean!("the output of job `{}` was not captured", job.as_str())));
        };
        let text = run.tail.as_ref().map_or("", Clean::as_str);
        // Of a longer output only the end is there: what is blank in it says nothing about the rest.
        let whole = bytes <= 16 * 1024;
        facts.info(me, "exists", true);
        facts.info(me, "being_written", false);
        facts.info(me, "run_started", run.started);
        facts.info(me, "size_bytes", bytes);
        self.time(facts, run.ended.unwrap_or(run.started));
        let content = Content {
            bytes,
            sha256: run.stdout_sha256.clone(),
            empty: match bytes {
                0 => Some("it holds nothing"),
                _ if whole && run.tail.is_some() && text.trim().is_empty() => Some("it holds nothing but white space"),
                _ if whole && content::is_placeholder(&self.settings, text) => Some("it holds a placeholder"),
                _ => None,
            },
            text: text.to_owned(),
            ..Content::default()
        };
        put(facts, &content);
        let mut fetched = Fetched::default();
        if let Some(sha256) = content.sha256.as_deref().filter(|_| self.settings.changes) {
            fetched.remember.extend(self.compare(&run.execution, sha256, facts)?);
        }
        self.expect(&content, i64::try_from(bytes).unwrap_or(i64::MAX), facts, &mut fetched);
        Ok(fetched)
    }

    /// The newest file; of two of the same time the last by name.
    fn newest(&self, pattern: &Path, facts: &mut Facts) -> Result<Option<PathBuf>, Unread> {
        if !self.settings.path.as_ref().is_some_and(crate::settings::PathGlob::is_glob) {
            return Ok(Some(pattern.to_owned()));
        }
        let (paths, more) = files::glob(pattern, MAX_FILES)?;
        if more {
            return Err(Unread::blind(
                "too_large_to_read",
                clean!("the glob matches more than {MAX_FILES} files, the newest can't be told"),
            ));
        }
        let (mut newest, mut number, mut unread) = (None, 0_u64, None);
        for path in paths {
            match files::stat(&path) {
                Ok(Some(stat)) if stat.is_file => {
                    number += 1;
                    newest = newest.max(Some((stat.modified, path)));
                }
                Ok(_) => {}
                Err(e) => unread = Some(e),
            }
        }
        facts.info(&Subject::none(), "files", number);
        match (newest, unread) {
            (None, Some(unread)) => Err(unread),
            (newest, _) => Ok(newest.map(|(_, path)| path)),
        }
    }

    fn time(&self, facts: &mut Facts, written: Timestamp) {
        let me = &Subject::none();
        let age = self.now.duration_since(written).as_secs().max(0);
        let scale = Scale {
            unit: Unit::Seconds,
            worse: Worse::Above,
            warn: None,
            fail: self.settings.max_age.map(|at| Edge { at: at.as_secs_f64(), code: "stale".into(), settled: true }),
            says: match self.settings.max_age {
                Some(most) => clean!("{} old, at most {most} is allowed", span(age)),
                None => Clean::default(),
            },
            episode: None,
        };
        facts.info(me, "modified", written);
        facts.gauge(me, "age_s", age, scale);
    }

    /// Whether what the settings ask lies beyond what was read.
    fn beyond(&self, content: &Content) -> Option<Clean> {
        if let Some(why) = &content.beyond {
            return Some(clean!("{why}"));
        }
        let settings = &self.settings;
        let short = settings.min_rows.is_some_and(|least| content.rows.is_none_or(|rows| rows < least));
        let asked = settings.changes || settings.expect.is_some() || short;
        (content.cut && asked && content.malformed.is_none())
            .then(|| clean!("only the first {} of it are read, what is asked needs all of it", size(content.bytes)))
    }

    /// Holds a content against the run before. A run is taken in once; looking at it again changes no verdict.
    fn compare(&self, id: &str, sha256: &str, facts: &mut Facts) -> Result<Option<Kept>, Unread> {
        let known = self.memory.get(RUN_KEY)?.and_then(|bytes| serde_json::from_slice::<Run>(&bytes).ok());
        let before = match &known {
            Some(known) if known.id == id => known.before.clone(),
            Some(known) => Some(known.sha256.clone()),
            None => None,
        };
        facts.info(&Subject::none(), "unchanged", before.as_deref() == Some(sha256));
        let now = Run { id: id.to_owned(), sha256: sha256.to_owned(), before };
        if known.as_ref() == Some(&now) {
            return Ok(None);
        }
        let bytes =
            serde_json::to_vec(&now).map_err(|e| Unread::ours("panicked", clean!("nothing remembered: {e}")))?;
        Ok(Some((RUN_KEY.to_owned(), Some(bytes))))
    }

    fn expect(&self, content: &Content, size_bytes: i64, facts: &mut Facts, fetched: &mut Fetched) {
        let me = &Subject::none();
        let Some(expect) = &self.settings.expect else { return };
        let wrong_already = content.malformed.is_some()
            || content.empty.is_some() && !self.settings.allow_empty
            || content.audio.as_ref().is_some_and(|audio| audio.ends_early);
        if wrong_already || fetched.unread.contains_key(me) {
            return;
        }
        let age = facts.number(me, "age_s").unwrap_or_default();
        let vars = [
            ("json", content.json.clone().unwrap_or(Val::Null)),
            ("rows", content.rows.map_or(Val::Null, |rows| Val::Int(i64::try_from(rows).unwrap_or(i64::MAX)))),
            ("text", Val::Text(content.text.clone())),
            ("size", Val::Int(size_bytes)),
            ("age_s", Val::Double(age)),
            ("audio", content.audio.as_ref().map_or(Val::Null, sound::val)),
        ];
        match expect.holds(&vars.into_iter().collect()) {
            Ok(holds) => facts.info(me, "expectation", holds),
            Err(e) => {
                let said = clean!("`expect` could not be evaluated: {e}");
                fetched.unread.insert(me.clone(), Unread::blind("expectation_error", said));
            }
        }
    }
}

fn put(facts: &mut Facts, content: &Content) {
    let me = &Subject::none();
    let foreign = |facts: &mut Facts, name: &'static str, text: &str| {
        facts.put_foreign(me, name, Clean::line(text, MAX_TEXT_BYTES), crate::facts::Class::Info);
    };
    if content.cut {
        facts.info(me, "cut", true);
    }
    if let Some(sha256) = &content.sha256 {
        facts.info(me, "sha256", sha256.as_str());
    }
    if let Some(rows) = content.rows {
        facts.info(me, "rows", rows);
    }
    if let Some(shape) = content.shape {
        facts.state(me, "shape", shape);
    }
    if let Some(columns) = &content.columns {
        facts.set(me, "columns", columns.clone(), true);
    }
    if let Some(empty) = content.empty {
        facts.info(me, "empty", empty);
    }
    if let Some(malformed) = &content.malformed {
        facts.info(me, "malformed", malformed.as_str());
    }
    if let Some(audio) = &content.audio {
        sound::put(facts, audio);
    }
    if let Some(wrong) = &content.wrong_shape {
        foreign(facts, "wrong_shape", wrong);
    }
    for (name, list) in [("missing_columns", &content.missing_columns), ("missing_values", &content.missing_values)] {
        if !list.is_empty() {
            facts.info(me, name, Clean::line(&list.join(", "), MAX_TEXT_BYTES));
        }
    }
}

fn read_schema(path: &Path) -> Result<jsonschema::Validator, Unread> {
    let wrong = |why: &dyn std::fmt::Display| Unread::blind("schema_unreadable", clean!("`schema_file`: {why}"));
    let (bytes, more) = files::read(path, MAX_SCHEMA_BYTES).map_err(|e| wrong(&e.said))?;
    if more {
        return Err(wrong(&format!("it is larger than {MAX_SCHEMA_BYTES} bytes")));
    }
    let schema = crate::read::json::parse(&bytes, crate::read::MAX_JSON_DEPTH).map_err(|e| wrong(&e))?;
    settings::compile(&schema).map_err(|e| wrong(&e))
}

fn assess(settings: &Settings, facts: &Facts, now: Timestamp) -> Vec<Finding> {
    let me = &Subject::none();
    let name = called(settings, facts);
    let mut found = Vec::new();
    if facts.flag(me, "exists") == Some(false) {
        if settings.optional {
            return Vec::new();
        }
        let said = match settings.path.as_ref().filter(|path| path.is_glob()) {
            Some(glob) => clean!("no file matches `{}`", glob.as_str()),
            None => clean!("{name} is not there"),
        };
        // While its job runs it may be about to be written.
        let settled = facts.flag(me, "being_written") != Some(true);
        return vec![Finding::new("missing", Weight::Fail, settled, said)];
    }
    let at = |fact: &'static str| match facts.get(me, fact).map(|fact| &fact.value) {
        Some(crate::facts::Value::At(at)) => Some(*at),
        _ => None,
    };
    let written = at("modified");
    if let Some(written) = written.filter(|written| written.duration_since(now) > FUTURE_SLACK) {
        let ahead = span(written.duration_since(now).as_secs());
        found.push(Finding::new(
            "from_the_future",
            Weight::Warn,
            true,
            clean!("{name} was written {ahead} ahead of now"),
        ));
    }
    let started = at("run_started").filter(|_| settings.after_job.is_some());
    let before_run = match (started, written) {
        (Some(started), Some(written)) if started.duration_since(written) > STAMP_SLACK => {
            let job = settings.after_job.as_ref().map_or("", JobName::as_str);
            let by = span(started.duration_since(written).as_secs());
            let said =
                clean!("{name} was not written by the last run of `{job}`: it is {by} older than that run's start");
            found.push(Finding::new("before_run", Weight::Fail, true, said));
            true
        }
        _ => false,
    };
    found.extend(assess_content(settings, facts, &name, before_run));
    found
}

/// What is wrong with the content: the first stage that is wrong speaks, the later ones would only repeat it.
fn assess_content(settings: &Settings, facts: &Facts, name: &Clean, before_run: bool) -> Vec<Finding> {
    let me = &Subject::none();
    let settled = facts.flag(me, "being_written") != Some(true);
    let failed = |code: &'static str, said: Clean| Finding::new(code, Weight::Fail, settled, said);
    let text = |fact: &'static str| facts.text(me, fact);
    let number = |fact: &'static str| match facts.get(me, fact).map(|fact| &fact.value) {
        Some(crate::facts::Value::Int(n)) => u64::try_from(*n).ok(),
        _ => None,
    };
    if let Some(how) = text("empty").filter(|_| !settings.allow_empty) {
        return vec![failed("empty", clean!("{name} is empty: {how}"))];
    }
    let mut found = Vec::new();
    let bytes = number("size_bytes").unwrap_or_default();
    if let Some(least) = settings.min_size.filter(|least| bytes < least.bytes()) {
        found.push(failed("too_small", clean!("{name} has {}, at least {least} is expected", size(bytes))));
    }
    if let Some(most) = settings.max_size.filter(|most| bytes > most.bytes()) {
        return vec![failed("too_big", clean!("{name} has {}, at most {most} is expected", size(bytes)))];
    }
    if let Some(how) = text("malformed") {
        found.push(failed("malformed", clean!("{name} {how}")));
        return found;
    }
    if facts.flag(me, "truncated") == Some(true) {
        found.push(failed("truncated", sound::cut_off(facts, name)));
        return found;
    }
    found.extend(sound::assess(settings, facts, name, settled));
    let rows = number("rows");
    if let Some(least) = settings.min_rows.filter(|least| rows.is_none_or(|rows| rows < *least))
        && text("format").is_some()
        && facts.flag(me, "cut").is_none()
    {
        let has = rows.map_or_else(
            || format!("no rows: it is a {}", text("shape").map_or("document", Clean::as_str)),
            |rows| count(rows, "row", "rows"),
        );
        found.push(failed("too_few_rows", clean!("{name} has {has}, at least {least} expected")));
    }
    if let Some(columns) = text("missing_columns") {
        found.push(failed("missing_column", clean!("{name} lacks the column {columns}")));
    }
    if let Some(wrong) = text("wrong_shape") {
        found.push(failed("wrong_shape", clean!("{name} does not match its schema: {}", wrong.quoted())));
    }
    if let Some(paths) = text("missing_values") {
        found.push(failed("missing_value", clean!("{name} has nothing at {paths}")));
    }
    if facts.flag(me, "expectation") == Some(false) {
        let source = settings.expect.as_ref().map_or("", |expect| expect.source());
        let rows = rows.map_or_else(String::new, |rows| format!(", {}", count(rows, "row", "rows")));
        let said =
            clean!("{name} is not as expected: `{}` does not hold ({}{rows})", Clean::line(source, 160), size(bytes));
        found.push(failed("expectation_failed", said));
    }
    if facts.flag(me, "unchanged") == Some(true) && !before_run {
        let said = clean!("{name} is the same as after the run before");
        found.push(Finding::new("unchanged", Weight::Warn, true, said));
    }
    found
}

/// The thing in a sentence. A file's name that a glob found is foreign; a path of the settings is the user's own word.
fn called(settings: &Settings, facts: &Facts) -> Clean {
    match (&settings.path, &settings.job) {
        (Some(path), _) if !path.is_glob() => clean!("`{}`", path.as_str()),
        (None, Some(job)) => clean!("the output of job `{}`", job.as_str()),
        _ => {
            let path = facts.text(&Subject::none(), "path").map_or("the file", Clean::as_str);
            Clean::line(path.rsplit('/').next().unwrap_or(path), 255).quoted()
        }
    }
}

#[cfg(test)]
mod tests;
