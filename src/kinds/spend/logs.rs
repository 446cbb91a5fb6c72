//! Logs that are files: which there are, and what is new in them. Newest first, so that where time runs out today is known
//! and the past waits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::formats::{Codex, Format, News, Quota};
use super::kept::Kept;
use super::ledger::{Ledger, hash};
use crate::clean;
use crate::facts::Unread;
use crate::host::files;
use crate::read::follow::{Begin, Bounds, Mark, follow};
use crate::redact::Clean;

/// Entries of folders that are looked at for one source.
const MAX_ENTRIES: usize = 100_000;
/// Levels of folders.
const MAX_DEPTH: usize = 8;
/// Files whose reading is kept in mind; of more, the newest.
const MAX_FILES: usize = 20_000;
/// Bytes between two looks at the clock.
const CHUNK: u64 = 8 << 20;
/// Bytes of a line.
const MAX_LINE: usize = 4 << 20;
/// The marks lie in so many values.
const SHARDS: u64 = 16;

/// A file that may hold usage.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub path: PathBuf,
    size: u64,
    modified: i64,
    inode: (u64, u64),
}

impl Found {
    /// Device and inode.
    pub fn inode(&self) -> (u64, u64) {
        self.inode
    }
    fn new(path: PathBuf, meta: &fs::Metadata) -> Self {
        let modified = meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec());
        Self { path, size: meta.size(), modified, inode: (meta.dev(), meta.ino()) }
    }
}

/// What lies under a source's folders.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub files: Vec<Found>,
    /// Links in folders, which are not followed.
    pub links: u64,
    /// FIFOs, sockets and devices where a log was expected.
    pub odd: u64,
    /// Folders that may not be looked into.
    pub unreadable: u64,
    /// Whether there is more than is looked at.
    pub cut: bool,
    /// Whether any of the folders is there.
    pub there: bool,
}

impl Listing {
    /// Files with this ending under a folder. The folder itself may be a link.
    pub fn walk(&mut self, root: &Path, ending: &str) {
        let mut folders = vec![(root.to_owned(), 0)];
        self.there |= fs::metadata(root).is_ok_and(|meta| meta.is_dir());
        let mut left = MAX_ENTRIES;
        while let Some((folder, depth)) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(_) => {
                    self.unreadable += 1;
                    continue;
                }
            };
            for entry in entries.filter_map(Result::ok) {
                let Some(rest) = left.checked_sub(1) else {
                    self.cut = true;
                    return;
                };
                left = rest;
                let (path, Ok(meta)) = (entry.path(), entry.metadata()) else { continue };
                let named = path.extension().is_some_and(|found| found == ending);
                if meta.is_dir() {
                    if depth < MAX_DEPTH {
                        folders.push((path, depth + 1));
                    } else {
                        self.cut = true;
                    }
                } else if meta.is_file() && named {
                    self.files.push(Found::new(path, &meta));
                } else if meta.is_symlink() {
                    self.links += 1;
                } else if named {
                    self.odd += 1;
                }
            }
        }
    }

    /// Files that a glob matches; a path without wildcards may be a link.
    pub fn glob(&mut self, pattern: &Path) -> Result<(), Unread> {
        let (paths, more) = files::glob(pattern, MAX_FILES)?;
        self.cut |= more;
        let literal = !files::has_wildcards(pattern);
        for path in paths {
            let meta = if literal { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
            match meta {
                Ok(meta) if meta.is_file() => {
                    self.there = true;
                    self.files.push(Found::new(path, &meta));
                }
                Ok(meta) if meta.is_symlink() => self.links += 1,
                Ok(_) => self.odd += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(files::unread(&path, &error)),
            }
        }
        Ok(())
    }

    /// Adds what another one says beside its files.
    pub fn merge(&mut self, other: &Self) {
        self.links += other.links;
        self.odd += other.odd;
        self.unreadable += other.unreadable;
        self.cut |= other.cut;
        self.there |= other.there;
    }
}

/// One file to be read, and how.
pub(super) struct Task<'s> {
    pub source: usize,
    pub file: Found,
    pub format: Format<'s>,
}

/// What is kept of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Filed {
    #[serde(rename = "m")]
    mark: Mark,
    #[serde(rename = "t")]
    modified: i64,
    #[serde(rename = "s")]
    size: u64,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    codex: Option<Codex>,
    /// Whether the job's name was found.
    #[serde(rename = "n", default, skip_serializing_if = "std::ops::Not::not")]
    shown: bool,
}

/// What became of a source's files in one look.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub files: u64,
    /// Those of them of which all or a part is known, now or since an earlier look.
    pub read: u64,
    pub bytes: u64,
    /// Bytes that wait for the next look.
    pub left: u64,
    pub lines: u64,
    pub calls: u64,
    pub bad: u64,
    pub other: u64,
    pub too_long: u64,
    /// The first file that could not be read, and how many there are.
    pub unread: Option<(Unread, u64)>,
    pub quotas: Vec<Quota>,
}

impl Tally {
    fn fail(&mut self, unread: Unread) {
        match &mut self.unread {
            Some((_, count)) => *count += 1,
            None => self.unread = Some((unread, 1)),
        }
    }
}

/// The marks of all files.
struct Marks {
    by_path: BTreeMap<String, Filed>,
    changed: BTreeSet<u64>,
}

fn shard(path: &str) -> u64 {
    hash(&[path.as_bytes()]) % SHARDS
}
fn shard_name(shard: u64) -> String {
    format!("file/{shard:02}")
}

impl Marks {
    fn open(kept: &Kept) -> Result<Self, Unread> {
        let mut by_path = BTreeMap::new();
        for shard in 0..SHARDS {
            by_path.extend(kept.json::<BTreeMap<String, Filed>>(&shard_name(shard))?.unwrap_or_default());
        }
        Ok(Self { by_path, changed: BTreeSet::new() })
    }

    /// A file that was renamed keeps its mark.
    fn follow_renames(&mut self, tasks: &[Task<'_>]) {
        let now: BTreeMap<String, (u64, u64)> = tasks.iter().map(|task| (name(&task.file), task.file.inode)).collect();
        let was: BTreeMap<(u64, u64), String> = self
            .by_path
            .iter()
            .filter(|(path, filed)| now.get(*path) != Some(&(filed.mark.dev, filed.mark.inode)))
            .map(|(path, filed)| ((filed.mark.dev, filed.mark.inode), path.clone()))
            .collect();
        let renamed = now.iter().filter(|(path, _)| !self.by_path.contains_key(*path));
        let moves: Vec<(String, String)> =
            renamed.filter_map(|(path, inode)| Some((was.get(inode)?.clone(), path.clone()))).collect();
        for (from, to) in moves {
            if let Some(filed) = self.by_path.remove(&from) {
                self.changed.extend([shard(&from), shard(&to)]);
                self.by_path.insert(to, filed);
            }
        }
    }

    fn put(&mut self, path: &str, filed: Filed) {
        self.changed.insert(shard(path));
        self.by_path.insert(path.to_owned(), filed);
    }

    /// Forgets files that are no longer looked at.
    fn keep(&mut self, paths: &BTreeSet<String>) {
        let changed = &mut self.changed;
        self.by_path.retain(|path, _| {
            let stays = paths.contains(path);
            if !stays {
                changed.insert(shard(path));
            }
            stays
        });
    }

    fn close(self, kept: &mut Kept) {
        for at in self.changed {
            let of: BTreeMap<&String, &Filed> = self.by_path.iter().filter(|(path, _)| shard(path) == at).collect();
            if of.is_empty() { kept.forget(&shard_name(at)) } else { kept.put_json(&shard_name(at), &of) }
        }
    }
}

fn name(file: &Found) -> String {
    file.path.to_string_lossy().into_owned()
}

/// When reading has to stop, and what time it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Until {
    pub stop: Instant,
    pub now: Timestamp,
}

/// Reads what is new, newest files first, until the time is over. Gives each source's tally, in their order.
pub(super) fn read(
    kept: &mut Kept,
    ledger: &mut Ledger,
    names: &[String],
    mut tasks: Vec<Task<'_>>,
    until: Until,
    whole: bool,
) -> Result<Vec<Tally>, Unread> {
    let mut tallies: Vec<Tally> = names.iter().map(|_| Tally::default()).collect();
    let since = ledger.since().saturating_mul(1_000_000_000);
    tasks.retain(|task| task.file.modified >= since);
    tasks.sort_by(|a, b| b.file.modified.cmp(&a.file.modified).then_with(|| a.file.path.cmp(&b.file.path)));
    for task in tasks.split_off(MAX_FILES.min(tasks.len())) {
        if let Some(tally) = tallies.get_mut(task.source) {
            tally.left = tally.left.saturating_add(task.file.size);
        }
    }
    let mut marks = Marks::open(kept)?;
    marks.follow_renames(&tasks);
    let there: BTreeSet<String> = tasks.iter().map(|task| name(&task.file)).collect();
    for mut task in tasks {
        let (Some(tally), Some(source)) = (tallies.get_mut(task.source), names.get(task.source)) else { continue };
        tally.files += 1;
        one(kept, ledger, source, &mut task, &mut marks, tally, until)?;
    }
    // Where not all was seen, what was not seen may still be there.
    if whole || marks.by_path.len() > MAX_FILES {
        marks.keep(&there);
    }
    marks.close(kept);
    Ok(tallies)
}

/// Reads what is new in one file.
fn one(
    kept: &mut Kept,
    ledger: &mut Ledger,
    source: &str,
    task: &mut Task<'_>,
    marks: &mut Marks,
    tally: &mut Tally,
    until: Until,
) -> Result<(), Unread> {
    let path = name(&task.file);
    let Found { size, modified, inode, .. } = task.file;
    let mut filed = marks.by_path.get(&path).cloned();
    tally.read += u64::from(filed.is_some());
    if let Some(filed) = &filed {
        let same = (filed.mark.dev, filed.mark.inode) == inode;
        let waits = matches!(&filed.codex, Some(codex) if codex.waits());
        if same && filed.modified == modified && filed.size == size && !waits {
            return Ok(());
        }
        match &mut task.format {
            Format::Codex(codex) => *codex = filed.codex.clone().unwrap_or_default(),
            Format::Claude { shown, .. } => *shown = filed.shown,
            Format::OpenClaw { .. } | Format::Jsonl { .. } => {}
        }
    }
    loop {
        let offset = filed.as_ref().map_or(0, |filed| filed.mark.offset);
        if Instant::now() >= until.stop {
            tally.left = tally.left.saturating_add(size.saturating_sub(offset));
            return Ok(());
        }
        let file = match files::open(&task.file.path) {
            Ok(file) => file,
            Err(unread) => {
                tally.fail(unread);
                return Ok(());
            }
        };
        let bounds = Bounds { bytes: CHUNK, line: MAX_LINE };
        let mut took = Taking { kept, ledger, source, tally, failed: None, unkeyed: 0 };
        let mark = filed.as_ref().map(|filed| &filed.mark);
        let followed = follow(&task.file.path, file, mark, Begin::Start, bounds, |line| {
            task.format.line(line, &mut |news| took.news(news));
        });
        let unkeyed = took.unkeyed;
        if let Some(unread) = took.failed {
            return Err(unread);
        }
        let followed = match followed {
            Ok(followed) => followed,
            // What was counted without a key would be counted again: then nothing of this look is kept.
            Err(error) if unkeyed > 0 => return Err(files::unread(&task.file.path, &error)),
            Err(error) => {
                tally.fail(files::unread(&task.file.path, &error));
                return Ok(());
            }
        };
        tally.bytes = tally.bytes.saturating_add(followed.bytes);
        tally.lines = tally.lines.saturating_add(followed.lines);
        tally.too_long = tally.too_long.saturating_add(followed.too_long);
        let mut took = Taking { kept, ledger, source, tally, failed: None, unkeyed: 0 };
        if followed.left == 0 {
            task.format.end(until.now, &mut |news| took.news(news));
        }
        if let Some(unread) = took.failed {
            return Err(unread);
        }
        tally.read += u64::from(filed.is_none());
        let done = followed.left == 0;
        let codex = if let Format::Codex(codex) = &task.format { Some(codex.clone()) } else { None };
        let shown = matches!(&task.format, Format::Claude { shown: true, .. });
        // Until it is read to its end, it counts as changed.
        let (modified, size) = if done { (modified, size) } else { (0, 0) };
        let next = Filed { mark: followed.mark, modified, size, codex, shown };
        marks.put(&path, next.clone());
        filed = Some(next);
        if done {
            return Ok(());
        }
    }
}

/// Takes in what lines say.
struct Taking<'a> {
    kept: &'a mut Kept,
    ledger: &'a mut Ledger,
    source: &'a str,
    tally: &'a mut Tally,
    failed: Option<Unread>,
    unkeyed: u64,
}

impl Taking<'_> {
    fn news(&mut self, news: News<'_>) {
        match news {
            News::Call(call) => {
                self.tally.calls += 1;
                self.unkeyed += u64::from(call.key.is_none());
                if let Err(unread) = self.ledger.take(self.kept, self.source, &call) {
                    self.failed.get_or_insert(unread);
                }
            }
            News::Shown { job, name } => self.ledger.show(self.source, job, name),
            News::Quota(quota) => self.tally.quotas.push(quota),
            News::Bad => self.tally.bad += 1,
            News::Other => self.tally.other += 1,
        }
    }
}

/// What could not be read of a source's files, in one sentence.
pub(super) fn unread(first: &Unread, count: u64) -> Unread {
    let said = if count == 1 { first.said.clone() } else { clean!("{} ({count} files in all)", first.said) };
    Unread { blame: first.blame, code: first.code.clone(), said: Clean::line(said.as_str(), 400) }
}
