//! The kind `spend`: what agents spent, read from what they write down about it; today and by job, against the limit and
//! against what is usual.

mod databases;
mod doc;
mod facts;
mod figures;
mod formats;
mod kept;
mod ledger;
mod litellm;
mod logs;
mod prices;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::job::zone;
use super::rule::vars;
use super::{Cx, Fetched, Kind, KindDoc, Memory, Past, Records, homes};
use crate::clean;
use crate::expr::Expr;
use crate::facts::{Facts, Finding, Subject, Unread, Value, Weight};
use crate::host::{Host, files};
use crate::redact::Clean;
use crate::words::size;
use facts::{Idle, Looked};
use formats::{Codex, Format, Quota};
use kept::Kept;
use ledger::Ledger;
use logs::{Listing, Tally, Task, Until};
use prices::Prices;
pub use settings::{Fields, Quotas, Settings, Source, SourceKind};

/// Bytes of a user's file of prices.
const MAX_PRICES: usize = 1 << 20;
/// The part of a look's time that reading may take.
const READING: f64 = 0.7;
/// Lines that can't be read are said when there are so many, and more than calls.
const MANY_BAD: f64 = 10.0;

/// The kind.
pub struct Spend;

impl Kind for Spend {
    const DOC: KindDoc = doc::DOC;
    type Settings = Settings;
    const AFTER_OTHERS: bool = true;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        settings::validate(settings, report);
    }

    fn checks_read(settings: &Settings) -> Vec<(&'static str, String)> {
        settings.advances.iter().flat_map(Expr::checks_read).map(|name| ("advances", name)).collect()
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let begun = Instant::now();
        let left = cx.deadline.saturating_duration_since(begun);
        let kept = Kept::open(Arc::clone(&cx.memory))?;
        let state: State = kept.json("state")?.unwrap_or_default();
        let mut answers = BTreeMap::new();
        for source in settings.sources.iter().filter(|source| source.kind == SourceKind::Litellm) {
            let last = state.asked.get(source.name()).copied();
            let until = begun + litellm::patience(left);
            answers.insert(source.name().to_owned(), litellm::ask(source, &cx.host, last, cx.now.wall, until).await);
        }
        let look = Look {
            settings: settings.clone(),
            roots: settings.sources.iter().map(|source| roots(source, &cx.host)).collect(),
            prices: settings.prices.as_ref().map(|path| cx.host.expand(path.as_str())),
            zone: zone(&cx.host),
            home: cx.host.paths.home.clone(),
            now: cx.now.wall,
            stop: begun + left.mul_f64(READING),
            memory: Arc::clone(&cx.memory),
            records: Arc::clone(&cx.records),
            answers,
        };
        cx.host.lane(&format!("spend {}", cx.check), cx.deadline, move || look.run(state)).await?
    }

    fn assess(_settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        assess(facts)
    }
}

/// The folders of a source, or its glob: what is configured, else what the tool itself goes by.
fn roots(source: &Source, host: &Host) -> Vec<PathBuf> {
    let path = source.path.as_ref().map(crate::settings::PathGlob::as_str);
    match source.kind {
        SourceKind::ClaudeCode => claude_roots(path, host),
        SourceKind::Codex => vec![homes::of(host, path, "CODEX_HOME", "~/.codex")],
        SourceKind::Openclaw => vec![homes::openclaw(host, path)],
        SourceKind::Hermes => vec![homes::of(host, path, "HERMES_HOME", "~/.hermes")],
        SourceKind::Litellm => Vec::new(),
        SourceKind::Jsonl => path.map(|path| host.expand(path)).into_iter().collect(),
    }
}

/// Claude Code writes to each of the folders that its variable lists, without it to one of two.
fn claude_roots(path: Option<&str>, host: &Host) -> Vec<PathBuf> {
    let listed = host.var("CLAUDE_CONFIG_DIR").and_then(|list| list.to_str()).filter(|list| !list.trim().is_empty());
    match (path, listed) {
        (Some(path), _) => vec![host.expand(path)],
        (None, Some(list)) => {
            let folders = list.split(',').map(str::trim).filter(|folder| !folder.is_empty());
            folders.map(|folder| host.expand(folder)).collect()
        }
        (None, None) => ["~/.config/claude", "~/.claude"].map(|folder| host.expand(folder)).to_vec(),
    }
}

/// What is kept beside sums and marks.
#[derive(Debug, Default, Serialize, Deserialize)]
struct State {
    /// When it last looked.
    #[serde(default)]
    last: Option<Timestamp>,
    /// Whether something waited after that.
    #[serde(default)]
    waits: bool,
    /// The newest word on each quota, by source and name.
    #[serde(default)]
    quotas: BTreeMap<String, BTreeMap<String, Quota>>,
    /// The last row read of each database.
    #[serde(default)]
    rows: BTreeMap<String, i64>,
    /// When each proxy last answered.
    #[serde(default)]
    asked: BTreeMap<String, Timestamp>,
    /// Lines and calls of each source so far.
    #[serde(default)]
    ever: BTreeMap<String, (u64, u64)>,
    /// Compressed events, by day of UTC.
    #[serde(default)]
    compressed: BTreeMap<String, u64>,
    #[serde(default)]
    idle: Option<Idle>,
}

/// A fetch without its futures: all of it blocks.
struct Look {
    settings: Settings,
    roots: Vec<Vec<PathBuf>>,
    prices: Option<PathBuf>,
    zone: TimeZone,
    home: Option<PathBuf>,
    now: Timestamp,
    stop: Instant,
    memory: Arc<dyn Memory>,
    records: Arc<dyn Records>,
    answers: BTreeMap<String, Result<litellm::Answer, Unread>>,
}

impl Look {
    fn run(self, mut state: State) -> Result<Fetched, Unread> {
        let mut fetched = Fetched::default();
        let mut kept = Kept::open(Arc::clone(&self.memory))?;
        let mut ledger = Ledger::open(&mut kept, self.zone.clone(), self.prices()?, self.now)?;
        let mut looked = Looked::default();
        let mut tasks = Vec::new();
        // Whether all files were found, and the sources of which anything could not be read.
        let (mut whole, mut blind) = (true, BTreeSet::new());
        let names: Vec<String> = self.settings.sources.iter().map(|source| source.name().to_owned()).collect();
        for (at, (source, roots)) in self.settings.sources.iter().zip(&self.roots).enumerate() {
            let read = match source.kind {
                SourceKind::Litellm => self.proxy(source, &mut kept, &mut ledger, &mut state, &mut looked),
                SourceKind::Hermes => self.hermes(source, roots, &mut kept, &mut ledger, &mut looked),
                _ => self.files(at, source, roots, &mut tasks, &mut looked),
            };
            if let Err(unread) = read {
                whole = false;
                blind.insert(source.name());
                fetched.unread.insert(Subject::new(source.name()), unread);
            }
            if source.kind == SourceKind::Openclaw
                && !self.openclaw(source, roots, &mut kept, &mut ledger, &mut state, &mut looked, &mut fetched.unread)
            {
                blind.insert(source.name());
            }
        }
        let until = Until { stop: self.stop, now: self.now };
        let tallies = logs::read(&mut kept, &mut ledger, &names, tasks, until, whole)?;
        for (name, tally) in names.iter().zip(tallies) {
            if tally.unread.is_some() {
                blind.insert(name);
            }
            take_tally(name, tally, &mut state, &mut looked, &mut fetched);
        }
        looked.blind = !blind.is_empty();
        looked.repeated = ledger.again;
        let waits = looked.left_bytes > 0 || looked.behind > 0;
        let interval = state.last.is_some() && !state.waits && !waits;
        looked.added = interval.then(|| ledger.added.usd());
        self.idle(&mut state, &mut looked, &mut fetched, if interval { ledger.added.nano } else { 0 });
        ledger.close(&mut kept);
        looked.forgotten = ledger.forgotten;
        // What was read is a lower bound of what was spent, whatever could not be read beside it.
        let (today, _) = ledger.day_and_hour(self.now);
        if looked.read > 0 || blind.len() < names.len() || ledger.day(today).is_some() {
            self.shorten_names(&mut ledger);
            let all = figures::figures(&mut ledger, self.now, &self.zone);
            facts::put(&self.settings, &all, &looked, &mut fetched.facts);
        }
        self.source_facts(&state, &mut fetched);
        (state.last, state.waits) = (Some(self.now), waits);
        kept.put_json("state", &state);
        let (remember, gone) = kept.close("seen/");
        if gone > 0 {
            fetched.facts.info(&Subject::none(), "forgotten_values", gone);
        }
        fetched.remember = remember;
        Ok(fetched)
    }

    fn prices(&self) -> Result<Prices, Unread> {
        let Some(path) = &self.prices else { return Ok(Prices::shipped()) };
        let bad = |said: Clean| Unread::blind("prices_unreadable", said);
        let (bytes, more) = files::read(path, MAX_PRICES).map_err(|unread| bad(unread.said))?;
        if more {
            return Err(bad(clean!("the prices are larger than {}", size(MAX_PRICES as u64))));
        }
        Prices::with(&bytes).map_err(|error| bad(clean!("the prices can't be read: {}", Clean::line(&error, 200))))
    }

    /// Finds the files of a source. What was found is read even where not all could be.
    fn files<'s>(
        &'s self,
        at: usize,
        source: &'s Source,
        roots: &[PathBuf],
        tasks: &mut Vec<Task<'s>>,
        looked: &mut Looked,
    ) -> Result<(), Unread> {
        let mut listing = Listing::default();
        let before = tasks.len();
        match source.kind {
            SourceKind::ClaudeCode => {
                for root in roots {
                    let root = below(root, "projects");
                    let mut of = Listing::default();
                    of.walk(&root, "jsonl");
                    let format =
                        |file: &logs::Found| Format::Claude { project: first_folder(&root, &file.path), shown: false };
                    tasks.extend(of.files.iter().map(|file| Task {
                        source: at,
                        format: format(file),
                        file: file.clone(),
                    }));
                    listing.merge(&of);
                }
            }
            SourceKind::Codex => {
                for root in roots {
                    let (mut active, mut archived) = (Listing::default(), Listing::default());
                    active.walk(&root.join("sessions"), "jsonl");
                    archived.walk(&root.join("archived_sessions"), "jsonl");
                    let names: BTreeSet<_> =
                        active.files.iter().filter_map(|file| file.path.file_name().map(ToOwned::to_owned)).collect();
                    // Of a session that is in both places, the active one counts.
                    archived.files.retain(|file| file.path.file_name().is_none_or(|name| !names.contains(name)));
                    let all = active.files.iter().chain(&archived.files);
                    tasks.extend(all.map(|file| Task {
                        source: at,
                        format: Format::Codex(Codex::default()),
                        file: file.clone(),
                    }));
                    listing.merge(&active);
                    listing.merge(&archived);
                }
            }
            SourceKind::Openclaw => {
                for root in roots {
                    self.openclaw_files(at, root, tasks, &mut listing)?;
                }
            }
            SourceKind::Jsonl => {
                for (root, fields) in roots.iter().zip(&source.fields) {
                    listing.glob(root)?;
                    tasks.extend(listing.files.iter().map(|file| Task {
                        source: at,
                        format: Format::Jsonl { job: formats::stem(&file.path), fields },
                        file: file.clone(),
                    }));
                }
            }
            SourceKind::Hermes | SourceKind::Litellm => {}
        }
        once(tasks, before);
        looked.passed_over += listing.links + listing.odd;
        if !listing.there {
            return Err(missing(source, roots, listing.odd));
        }
        if listing.unreadable > 0 {
            let said = clean!("{} of the folders may not be looked into", listing.unreadable);
            return Err(Unread::blind("permission_denied", said));
        }
        if listing.cut {
            return Err(Unread::blind(
                "too_many_files",
                Clean::new("there are more files or levels than are looked at"),
            ));
        }
        Ok(())
    }

    /// The transcripts of an older OpenClaw.
    fn openclaw_files<'s>(
        &'s self,
        at: usize,
        root: &Path,
        tasks: &mut Vec<Task<'s>>,
        listing: &mut Listing,
    ) -> Result<(), Unread> {
        listing.there |= std::fs::metadata(root.join("agents")).is_ok_and(|meta| meta.is_dir());
        let (folders, more) = files::glob(&root.join("agents/*/sessions"), 200)?;
        listing.cut |= more;
        let mut names = None;
        for folder in folders {
            let mut of = Listing::default();
            of.walk(&folder, "jsonl");
            let agent = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
            let sessions = databases::openclaw_sessions(&folder);
            if !sessions.is_empty() && names.is_none() {
                names = Some(databases::openclaw_jobs(root, self.stop));
            }
            for file in &of.files {
                let key = sessions.get(&formats::stem(&file.path)).map(String::as_str);
                let (agent, job) = formats::openclaw::job(&agent, key);
                let shown =
                    |job: &str| names.as_ref().and_then(|names| names.get(job)).map_or(job, String::as_str).to_owned();
                let job = job.map_or_else(|| agent.to_owned(), |job| format!("{agent}/{}", shown(job)));
                tasks.push(Task { source: at, format: Format::OpenClaw { job }, file: file.clone() });
            }
            listing.merge(&of);
        }
        Ok(())
    }

    /// Takes in the databases of a source's agents; whether all of them could be read. One that can't be says nothing of
    /// the others.
    #[expect(clippy::too_many_arguments, reason = "what a look fills lies in its `run`")]
    fn openclaw(
        &self,
        source: &Source,
        roots: &[PathBuf],
        kept: &mut Kept,
        ledger: &mut Ledger,
        state: &mut State,
        looked: &mut Looked,
        unread: &mut BTreeMap<Subject, Unread>,
    ) -> bool {
        let mut rows = databases::Rows::default();
        let mut whole = true;
        for root in roots {
            let agents = match databases::openclaw_agents(root) {
                Ok(agents) if agents.is_empty() => continue,
                Ok(agents) => agents,
                Err(why) => {
                    whole = false;
                    unread.entry(Subject::new(source.name())).or_insert(why);
                    continue;
                }
            };
            let jobs = databases::openclaw_jobs(root, self.stop);
            for (agent, path) in agents {
                let place = path.to_string_lossy().into_owned();
                let after = state.rows.get(&place).copied();
                let from = databases::Agent { name: &agent, path: &path, jobs: &jobs, after };
                let mut last = after;
                let read =
                    databases::openclaw_agent(kept, ledger, source.name(), &from, self.stop, &mut rows, &mut last);
                if let Some(last) = last {
                    state.rows.insert(place, last);
                }
                if let Err(why) = read {
                    whole = false;
                    unread.insert(Subject::new(&format!("{} agent {agent}", source.name())), why);
                }
            }
        }
        looked.read += rows.databases;
        looked.behind += rows.behind;
        looked.bad_lines += rows.bad;
        looked.calls += rows.calls;
        let today = self.now.strftime("%Y-%m-%d").to_string();
        if rows.compressed > 0 {
            *state.compressed.entry(today.clone()).or_default() += rows.compressed;
        }
        state.compressed.retain(|day, _| *day == today);
        looked.compressed_events = state.compressed.values().sum();
        whole
    }

    fn hermes(
        &self,
        source: &Source,
        roots: &[PathBuf],
        kept: &mut Kept,
        ledger: &mut Ledger,
        looked: &mut Looked,
    ) -> Result<(), Unread> {
        let Some(root) = roots.iter().find(|root| root.join("state.db").exists()) else {
            return Err(missing(source, roots, 0));
        };
        let mut rows = databases::Rows::default();
        databases::hermes(kept, ledger, source.name(), root, self.now, self.stop, &mut rows)?;
        looked.read += rows.databases;
        looked.calls += rows.calls;
        Ok(())
    }

    fn proxy(
        &self,
        source: &Source,
        kept: &mut Kept,
        ledger: &mut Ledger,
        state: &mut State,
        looked: &mut Looked,
    ) -> Result<(), Unread> {
        match self.answers.get(source.name()) {
            Some(Ok(answer)) => {
                let rows = litellm::read(kept, ledger, source.name(), answer)?;
                looked.bytes_read += rows.bytes;
                looked.bad_lines += rows.bad;
                looked.calls += rows.calls;
                looked.cut_rows += u64::from(rows.cut);
                looked.read += 1;
                state.asked.insert(source.name().to_owned(), self.now);
                Ok(())
            }
            Some(Err(unread)) => Err(unread.clone()),
            None => Err(Unread::ours("panicked", Clean::new("the proxy was not asked"))),
        }
    }

    /// Whether work advances, and what was spent since it doesn't.
    fn idle(&self, state: &mut State, looked: &mut Looked, fetched: &mut Fetched, nano: i64) {
        let Some(advances) = &self.settings.advances else { return };
        match advances.holds(&vars(&self.records.checks(), self.now)) {
            Ok(true) => state.idle = None,
            Ok(false) => {
                // What was spent before it was first seen to stand still may have been well spent.
                let idle = state.idle.get_or_insert(Idle { since: self.now, nano: 0 });
                if idle.since < self.now {
                    idle.nano = idle.nano.saturating_add(nano);
                }
            }
            Err(error) => {
                let said = clean!("`advances` could not be evaluated: {error}");
                fetched.unread.insert(Subject::new("advances"), Unread::blind("condition_error", said));
                return;
            }
        }
        looked.advances = Some(state.idle.is_none());
        looked.idle = state.idle;
    }

    /// Folders in the home are shown as people write them.
    fn shorten_names(&self, ledger: &mut Ledger) {
        let Some(home) = self.home.as_ref().and_then(|home| home.to_str()).filter(|home| home.len() > 1) else {
            return;
        };
        ledger.rename(|shown| {
            let below = shown.strip_prefix(home)?;
            (below.is_empty() || below.starts_with('/')).then(|| format!("~{below}"))
        });
    }

    /// What each source said so far, so that one which says nothing at all is noticed.
    fn source_facts(&self, state: &State, fetched: &mut Fetched) {
        for source in &self.settings.sources {
            let of = Subject::new(source.name());
            if let Some((lines, calls)) = state.ever.get(source.name())
                && !fetched.unread.contains_key(&of)
            {
                fetched.facts.info(&of, "lines_so_far", *lines);
                fetched.facts.info(&of, "calls_so_far", *calls);
                fetched.facts.info(&of, "own_lines", source.kind == SourceKind::Jsonl);
            }
            for quota in state.quotas.get(source.name()).into_iter().flat_map(BTreeMap::values) {
                facts::put_quota(&self.settings, source.name(), quota, self.now, &mut fetched.facts);
            }
        }
    }
}

/// Files that several folders lead to are read once.
fn once(tasks: &mut Vec<Task<'_>>, from: usize) {
    let mut seen = BTreeSet::new();
    let mut at = 0;
    tasks.retain(|task| {
        at += 1;
        at <= from || seen.insert(task.file.inode())
    });
}

fn below(root: &Path, folder: &str) -> PathBuf {
    let inner = root.join(folder);
    if inner.is_dir() || root.file_name().is_none_or(|name| name != folder) { inner } else { root.to_owned() }
}

/// The folder that a file lies in, the one right below the root.
fn first_folder(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned()).unwrap_or_default()
}

fn missing(source: &Source, roots: &[PathBuf], odd: u64) -> Unread {
    let paths: Vec<String> = roots.iter().map(|root| Clean::line(&root.to_string_lossy(), 120).to_string()).collect();
    if odd > 0 {
        return Unread::blind("not_a_file", clean!("{} is no file", paths.join(", ")));
    }
    Unread::blind("no_source", clean!("nothing of `{}` is at {}", source.name(), paths.join(" or ")))
}

fn take_tally(name: &str, tally: Tally, state: &mut State, looked: &mut Looked, fetched: &mut Fetched) {
    looked.files += tally.files;
    looked.read += tally.read;
    looked.bytes_read += tally.bytes;
    looked.left_bytes += tally.left;
    looked.calls += tally.calls;
    looked.bad_lines += tally.bad;
    looked.too_long_lines += tally.too_long;
    if tally.lines > 0 || tally.files > 0 {
        let ever = state.ever.entry(name.to_owned()).or_default();
        ever.0 = ever.0.saturating_add(tally.lines);
        ever.1 = ever.1.saturating_add(tally.calls);
    }
    let known = state.quotas.entry(name.to_owned()).or_default();
    for quota in tally.quotas {
        if known.get(&quota.name).is_none_or(|before| before.at <= quota.at) {
            known.insert(quota.name.clone(), quota);
        }
    }
    if known.is_empty() {
        state.quotas.remove(name);
    }
    if let Some((unread, count)) = &tally.unread {
        fetched.unread.entry(Subject::new(name)).or_insert_with(|| logs::unread(unread, *count));
    }
}

fn assess(facts: &Facts) -> Vec<Finding> {
    let me = &Subject::none();
    let number = |name: &'static str| facts.number(me, name).unwrap_or(0.0);
    let mut found = Vec::new();
    let mut warn = |code: &'static str, settled: bool, said: Clean| {
        found.push(Finding::new(code, Weight::Warn, settled, said));
    };
    let (left, behind) = (number("left_bytes"), number("behind"));
    if left > 0.0 || behind > 0.0 {
        let files = if left > 0.0 { format!("{} of logs", crate::words::bytes(left)) } else { "rows".to_owned() };
        warn("behind", false, clean!("{files} wait to be read: today's sums are too small until then"));
    }
    if number("cut_rows") > 0.0 {
        warn("cut", false, Clean::new("the proxy gave only its newest rows: today's sums are too small"));
    }
    if number("compressed_events") > 0.0 {
        let events = number("compressed_events");
        warn("partial", true, clean!("{events} events are compressed: what they cost is not in the sums"));
    }
    if let Some(Value::Set(models)) = facts.get(me, "unpriced_models_today").map(|fact| &fact.value) {
        let named: Vec<String> = models.iter().take(3).map(|model| model.quoted().to_string()).collect();
        let more = if models.len() > 3 { format!(" and {} more", models.len() - 3) } else { String::new() };
        let tokens = crate::words::human(number("unpriced_tokens_today"), crate::facts::Unit::None);
        let said =
            clean!("no price is known of {}{more}: {tokens} tokens of today are not in the sums", named.join(", "));
        warn("unpriced", true, said);
    }
    if number("bad_lines") >= MANY_BAD && number("bad_lines") > number("calls") {
        let (bad, calls) = (number("bad_lines"), number("calls"));
        warn("unreadable_lines", false, clean!("{bad} lines could not be read, {calls} calls were"));
    }
    for source in facts.subjects() {
        let of = |name: &'static str| facts.number(&source, name).unwrap_or(0.0);
        if facts.flag(&source, "own_lines") == Some(true) && of("lines_so_far") > 0.0 && of("calls_so_far") <= 0.0 {
            let lines = of("lines_so_far");
            let said = clean!("{lines} lines were read and none has the fields that `fields` names");
            found.push(Finding::new("no_usage", Weight::Warn, true, said).on(&source));
        }
    }
    found
}
