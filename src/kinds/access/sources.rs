//! Where entries come from: growing files and the journal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::history::{Known, Refused};
use super::rules::{Entry, Event, Means, Rule, Trusted};
use crate::clean;
use crate::facts::Unread;
use crate::host::spawn::{Command, Exit, Ran};
use crate::host::{Host, files};
use crate::read::follow::{Begin, Bounds, Course, Mark, follow, is_rotated};
use crate::redact::Clean;
use crate::settings::PathGlob;

/// Files of one check.
pub(super) const MAX_FILES: usize = 50;
/// Bytes of a line; longer ones are skipped and counted.
const MAX_LINE: usize = 64 * 1024;
/// Bytes of the journal in one look.
const MAX_JOURNAL_BYTES: u64 = 16 << 20;
/// How far back the journal is read for those who logged in before the first look.
const JOURNAL_PAST: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A file that nobody wrote to for so long is what is left of a logger that is gone.
const ABANDONED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Keys that are counted in one look.
const MAX_COUNTED: usize = 10_000;
/// New keys that are told in one look.
const MAX_NEW: usize = 200;

/// What one rule saw in this look.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub events: u64,
    /// How often each key came.
    pub keys: BTreeMap<String, u64>,
    /// Keys that were never seen, with the user where it is told.
    pub new: BTreeMap<String, Option<String>>,
}

/// All rules over all entries of one look.
pub(super) struct Tally {
    rules: Vec<Rule>,
    trusted: Vec<Trusted>,
    pub counted: BTreeMap<String, Counted>,
    pub known: BTreeMap<String, Known>,
    pub refused: Refused,
    /// Rules that never looked at a log before this look: they learn.
    pub beginning: BTreeSet<String>,
    /// So many failures before a login make a breach.
    many: u64,
    now: Timestamp,
    pub lines: u64,
}

impl Tally {
    pub fn new(
        rules: Vec<Rule>,
        trusted: Vec<Trusted>,
        known: BTreeMap<String, Known>,
        refused: Refused,
        many: u64,
        now: Timestamp,
    ) -> Self {
        let logins = || rules.iter().filter(|rule| rule.means == Means::Login);
        let beginning = logins().filter(|rule| !known.contains_key(&rule.name));
        let beginning = beginning.map(|rule| rule.name.clone()).collect();
        let counted = rules.iter().map(|rule| (rule.name.clone(), Counted::default())).collect();
        Self { rules, trusted, counted, known, refused, beginning, many, now, lines: 0 }
    }

    /// Takes an entry in. What is only learned from tells who was there before, and is no event.
    fn take(&mut self, entry: &Entry<'_>, learn: bool) {
        self.lines += u64::from(!learn);
        let Self { rules, trusted, counted, known, refused, beginning, many, now, .. } = self;
        for rule in rules.iter().filter(|rule| !learn || rule.means == Means::Login) {
            let Some(Event { key, who, times }) = rule.apply(entry) else { continue };
            let Some(counted) = counted.get_mut(&rule.name) else { continue };
            if !learn {
                counted.events = counted.events.saturating_add(times);
            }
            let Some(key) = key else { continue };
            if rule.means == Means::Login {
                let is_new = known.entry(rule.name.clone()).or_default().meet(&key, *now);
                let told = is_new && !learn && !beginning.contains(&rule.name) && counted.new.len() < MAX_NEW;
                if told && !trusted.iter().any(|trusted| trusted.is(&key)) {
                    counted.new.insert(key.clone(), who.clone());
                }
            }
            if learn {
                continue;
            }
            match rule.means {
                Means::Login => refused.let_in(&rule.name, &key, who.as_deref(), *many, *now),
                Means::Failure => refused.failed(&key, times, *now),
                Means::Event => {}
            }
            if counted.keys.len() < MAX_COUNTED || counted.keys.contains_key(&key) {
                *counted.keys.entry(key).or_default() += times;
            }
        }
    }
}

/// What is kept of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub path: String,
    pub mark: Mark,
    /// When it was last looked at.
    pub at: Timestamp,
}

/// What came of one file.
#[derive(Debug)]
pub(super) struct FileSeen {
    pub path: PathBuf,
    pub course: Course,
    pub lines: u64,
    pub left: u64,
    pub too_long: u64,
    pub mark: Mark,
    /// Whether it was only learned from.
    pub learned: bool,
}

/// The files of one look.
pub(super) struct Files {
    pub paths: Vec<(PathGlob, PathBuf)>,
    pub kept: BTreeMap<String, Kept>,
    /// When the check last looked; none at its first look.
    pub last: Option<Timestamp>,
    pub now: Timestamp,
    pub max_bytes: u64,
    /// Whether what nobody writes to any more is left to the journal.
    pub leave_abandoned: bool,
}

/// What came of all files.
#[derive(Default)]
pub(super) struct FilesSeen {
    pub seen: Vec<FileSeen>,
    pub unread: BTreeMap<PathBuf, Unread>,
    /// Whether more match than are read.
    pub too_many: bool,
}

impl Files {
    /// Reads what is new. Blocking.
    pub fn read(&self, tally: &mut Tally) -> FilesSeen {
        let mut all = FilesSeen::default();
        let mut paths: Vec<PathBuf> = Vec::new();
        for (written, path) in &self.paths {
            if !written.is_glob() {
                paths.push(path.clone());
                continue;
            }
            match files::glob(path, 10 * MAX_FILES) {
                Ok((found, cut)) => {
                    all.too_many |= cut;
                    paths.extend(found);
                }
                Err(unread) => drop(all.unread.insert(path.clone(), unread)),
            }
        }
        paths.sort();
        paths.dedup();
        let logs = paths.clone();
        paths.retain(|path| !logs.iter().any(|log| is_rotated(path, log)));
        all.too_many |= paths.len() > MAX_FILES;
        paths.truncate(MAX_FILES);
        let mut budget = self.max_bytes;
        for path in paths {
            match self.one(&path, &mut budget, tally) {
                Ok(Some(seen)) => all.seen.push(seen),
                Ok(None) => {}
                Err(unread) => drop(all.unread.insert(path, unread)),
            }
        }
        all
    }

    fn one(&self, path: &Path, budget: &mut u64, tally: &mut Tally) -> Result<Option<FileSeen>, Unread> {
        let stat = files::stat(path)?;
        let since = |stat: &files::Stat| self.now.duration_since(stat.modified);
        if self.leave_abandoned && stat.as_ref().is_some_and(|stat| since(stat) > ABANDONED) {
            return Ok(None);
        }
        let file = files::open(path)?;
        let meta = file.metadata().map_err(|error| files::unread(path, &error))?;
        let kept = self.kept.get(&*path.to_string_lossy());
        // A file that came about since the last look holds nothing but new lines. What an older one holds is past: it
        // tells who was there before.
        let born = meta.created().ok().and_then(|at| Timestamp::try_from(at).ok());
        let is_new = self.last.is_some_and(|last| born.is_some_and(|born| born > last));
        let learn = kept.is_none() && !is_new;
        let begin = if learn && meta.len() > *budget { Begin::End } else { Begin::Start };
        let bounds = Bounds { bytes: *budget, line: MAX_LINE };
        let mark = kept.map(|kept| &kept.mark);
        let seen = follow(path, file, mark, begin, bounds, |line| tally.take(&Entry::of_line(line), learn));
        let seen = seen.map_err(|error| files::unread(path, &error))?;
        *budget = budget.saturating_sub(seen.bytes);
        Ok(Some(FileSeen {
            path: path.to_owned(),
            course: seen.course,
            lines: if learn { 0 } else { seen.lines },
            left: seen.left,
            too_long: seen.too_long,
            mark: seen.mark,
            learned: learn,
        }))
    }
}

/// What came of the journal.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct JournalSeen {
    /// Where to go on.
    pub cursor: String,
    /// Entries that are events.
    pub entries: u64,
    /// Whether more was there than is read at once: newer entries, or older ones where it is learned from.
    pub cut: bool,
    /// Whether the place to go on from was gone.
    pub lost: bool,
}

/// Between the parts of this file only: reading begins anew then.
const BAD_CURSOR: &str = "bad_cursor";

/// Why there is no journal to read.
pub(super) enum NoJournal {
    /// There is none on this machine.
    Absent(Unread),
    /// It can't be read.
    Unread(Unread),
}

/// Reads what is new in the journal: after the cursor, or where that is not known any more, since the last look. The tally goes through it, since reading blocks; where it does not come back, the
/// look as a whole is unread.
pub(super) async fn journal(
    host: &Host,
    matches: &[String],
    from: Option<(String, Timestamp)>,
    tally: Tally,
    deadline: Instant,
) -> Result<(Tally, Result<JournalSeen, NoJournal>), Unread> {
    let Some((from, last_look)) = from else {
        let end = match end_of_journal(host, deadline).await {
            Ok(end) => end,
            Err(why) => return Ok((tally, Err(why))),
        };
        let since = tally.now.checked_sub(JOURNAL_PAST).unwrap_or(tally.now).as_second();
        // The newest first: where there are too many, those of long ago are left out.
        return match ask(host, &["--reverse", &format!("--since=@{since}")], matches, deadline).await {
            Ok(ran) => {
                let cut = is_cut(&ran);
                let (tally, _) = take_all(host, tally, ran, true, deadline).await?;
                Ok((tally, Ok(JournalSeen { cursor: end, cut, ..JournalSeen::default() })))
            }
            Err(why) => Ok((tally, Err(why))),
        };
    };
    match ask(host, &[&format!("--after-cursor={from}")], matches, deadline).await {
        Ok(ran) => {
            let cut = is_cut(&ran);
            let (tally, (last, entries)) = take_all(host, tally, ran, false, deadline).await?;
            Ok((tally, Ok(JournalSeen { cursor: last.unwrap_or(from), entries, cut, lost: false })))
        }
        // The cursor belongs to another machine's journal, or to none: what was written since the last look is new.
        Err(NoJournal::Unread(unread)) if unread.code.as_str() == BAD_CURSOR => {
            let end = match end_of_journal(host, deadline).await {
                Ok(end) => end,
                Err(why) => return Ok((tally, Err(why))),
            };
            match ask(host, &[&format!("--since=@{}", last_look.as_second())], matches, deadline).await {
                Ok(ran) => {
                    let cut = is_cut(&ran);
                    let (tally, (last, entries)) = take_all(host, tally, ran, false, deadline).await?;
                    Ok((tally, Ok(JournalSeen { cursor: last.unwrap_or(end), entries, cut, lost: true })))
                }
                Err(why) => Ok((tally, Err(why))),
            }
        }
        Err(why) => Ok((tally, Err(why))),
    }
}

/// The cursor of the newest entry, whoever's it is.
async fn end_of_journal(host: &Host, deadline: Instant) -> Result<String, NoJournal> {
    let ran = ask(host, &["--lines=1"], &[], deadline).await?;
    let last =
        ran.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Raw>(line).ok()).next_back();
    let empty = || Unread::target("missing", Clean::new("the journal is empty"));
    last.map(|entry| entry.cursor).ok_or_else(|| NoJournal::Absent(empty()))
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "__CURSOR")]
    cursor: String,
    #[serde(rename = "MESSAGE", default)]
    message: serde_json::Value,
    #[serde(rename = "SYSLOG_IDENTIFIER", default)]
    identifier: serde_json::Value,
}

/// Whether there was more than it printed.
fn is_cut(ran: &Ran) -> bool {
    ran.cut || ran.exit == Exit::TimedOut
}

async fn ask(host: &Host, place: &[&str], matches: &[String], deadline: Instant) -> Result<Ran, NoJournal> {
    let fixed = ["journalctl", "--no-pager", "--output=json", "--output-fields=MESSAGE,SYSLOG_IDENTIFIER"];
    let argv = fixed.iter().chain(place).map(|&word| word.to_owned()).chain(matches.iter().cloned());
    let max_output_bytes = usize::try_from(MAX_JOURNAL_BYTES).unwrap_or(usize::MAX);
    let command = Command { argv: argv.collect(), max_output_bytes, ..Command::default() };
    let ran = host.run(&command, deadline).await.map_err(|unread| match unread.code.as_str() {
        "program_not_found" => NoJournal::Absent(unread),
        _ => NoJournal::Unread(unread),
    })?;
    let stderr = String::from_utf8_lossy(&ran.stderr);
    let blind = |code: &'static str, said: Clean| Err(NoJournal::Unread(Unread::blind(code, said)));
    // It ends well when it shows this user a part, and says so only there.
    if stderr.contains("insufficient permissions") || stderr.contains("not seeing messages from other users") {
        return blind("permission_denied", Clean::new("the system's journal may not be read by this user"));
    }
    if stderr.contains("No journal files were found") {
        return Err(NoJournal::Absent(Unread::target("missing", Clean::new("there is no journal"))));
    }
    match ran.exit {
        Exit::Status(0) => Ok(ran),
        // What came until then is whole entries. After a cursor the oldest come first: the rest comes the next time.
        Exit::TimedOut if !ran.stdout.is_empty() => Ok(ran),
        Exit::TimedOut => {
            Err(NoJournal::Unread(Unread::target("no_answer", Clean::new("journalctl did not end in time"))))
        }
        _ if stderr.contains("cursor") => {
            blind(BAD_CURSOR, Clean::new("the journal does not know where reading stopped"))
        }
        _ => {
            let said = clean!("journalctl failed: {}", Clean::line(stderr.trim(), 200).quoted());
            blind("journal_failed", said)
        }
    }
}

/// The last whole entry's cursor, and how many there were.
type Taken = (Option<String>, u64);

async fn take_all(
    host: &Host,
    mut tally: Tally,
    ran: Ran,
    learn: bool,
    deadline: Instant,
) -> Result<(Tally, Taken), Unread> {
    let work = move || {
        let (mut last, mut entries) = (None, 0);
        let whole = ran.stdout.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = ran.stdout.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        for raw in lines.filter_map(|line| serde_json::from_slice::<Raw>(line).ok()) {
            if let (Some(identifier), Some(message)) = (text(&raw.identifier), text(&raw.message)) {
                tally.take(&Entry::of_journal(&identifier, &message), learn);
            }
            entries += u64::from(!learn);
            last = Some(raw.cursor);
        }
        (tally, (last, entries))
    };
    host.lane("journal", deadline, work).await
}

/// A field: text, or the bytes of what is none. What is too long is null.
fn text(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Array(bytes) => {
            let byte = |value: &serde_json::Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            Some(String::from_utf8_lossy(&bytes.iter().filter_map(byte).collect::<Vec<u8>>()).into_owned())
        }
        _ => None,
    }
}
