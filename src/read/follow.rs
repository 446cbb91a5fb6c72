//! The new lines of a growing file: from where reading stopped, through a rotation, within bounds.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;
/// Bytes at the file's beginning, and before the offset, by which it is known again.
const SAMPLE: u64 = 256;
/// Entries of a folder among which a rotated file is looked for.
const MAX_ENTRIES: usize = 20_000;
/// Rotated files of one log that are opened.
const MAX_ROTATED: usize = 64;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Where reading stopped, to be kept until the next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The device that the file lies on.
    pub dev: u64,
    /// Its inode there.
    pub inode: u64,
    /// Bytes read: the end of the last whole line, or a place within a line that is too long.
    pub offset: u64,
    /// SHA-256 (hex, first 16 digits) of the file's first bytes, at most 256 and at most `offset` of them: tells a file
    /// that was written anew in the same inode.
    pub head: String,
    /// The same of the last bytes before `offset`: tells it where every file begins with the same words.
    pub tail: String,
    /// Whether `offset` lies within a line that is too long: what is left of that line is skipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipping: bool,
}

/// How much is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes in all; at least one line of the longest kind is always read, so that reading goes on.
    pub bytes: u64,
    /// Bytes of a line without its line break; longer ones are skipped and counted.
    pub line: usize,
}

/// What became of the file since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Course {
    /// It is read for the first time.
    First,
    /// It grew, or stands still.
    Same,
    /// Another file took its name, or it was copied away and emptied; the rest of the old one was found beside it and
    /// read first. Nothing is missing.
    Rotated,
    /// Another file took its name and the old one was not found (removed, compressed): lines may be lost. Read from its
    /// beginning.
    Lost,
    /// It is shorter than it was, or holds something else, and no copy of it was found: lines may be lost. Read from its
    /// beginning.
    Truncated,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Where reading stopped.
    pub mark: Mark,
    /// What became of the file.
    pub course: Course,
    /// Bytes read from disk this time, beside a few to know the file again.
    pub bytes: u64,
    /// Whole lines given.
    pub lines: u64,
    /// Lines longer than the bound, skipped; each is counted once.
    pub too_long: u64,
    /// Bytes left for the next time, because the bound was reached.
    pub left: u64,
}

/// Where to begin with a file that is read for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At its first line.
    Start,
    /// At its end: only what comes from now on.
    End,
}

/// Gives `each` every whole new line, without its line break, as bytes that need not be UTF-8. `file` is what was opened
/// under `path` (by `host::files::open`, which says what is missing, may not be read or is no file); the path is needed
/// to look beside it for what was rotated away. What is written after the call began waits for the next time.
///
/// A last line without a line break stays for the next time, unless its file was rotated away: then nobody ends it any
/// more. A file rotated away is followed as long as the new one is empty, since its writer may still hold it. After an
/// error what was given is to be thrown away: the old mark gives it again.
pub fn follow(
    path: &Path,
    file: File,
    from: Option<&Mark>,
    begin: Begin,
    bounds: Bounds,
    mut each: impl FnMut(&[u8]),
) -> io::Result<Followed> {
    let current = Part::new(file)?;
    let (course, parts) = match from {
        None => (Course::First, vec![begin_with(current, begin, bounds.line)?]),
        Some(mark) => go_on_with(path, current, mark)?,
    };
    let budget = bounds.bytes.max(wide(bounds.line).saturating_add(2));
    let mut reading = Reading { max_line: bounds.line, ..Reading::default() };
    let mut left = 0_u64;
    let last = parts.len().saturating_sub(1);
    let mut stopped = None;
    for (at, part) in parts.into_iter().enumerate() {
        let to_come = part.size.saturating_sub(part.offset);
        let allowed = budget.saturating_sub(reading.bytes).min(to_come);
        left = left.saturating_add(to_come - allowed);
        if stopped.as_ref().is_none_or(|(_, cut, _)| !cut) {
            let cut = allowed < to_come;
            let (offset, skipping) = reading.read(&part, allowed, at < last && !cut, &mut each)?;
            stopped = Some((Part { offset, skipping, ..part }, cut, at));
        }
    }
    let (part, _, reached) = stopped.ok_or_else(|| io::Error::other("there was nothing to read"))?;
    let mark = part.mark()?;
    // It was rotated away, and is still being read.
    let course = if course == Course::Rotated && reached == 0 { Course::Same } else { course };
    Ok(Followed { mark, course, bytes: reading.bytes, lines: reading.lines, too_long: reading.too_long, left })
}

/// Whether a path is what a rotation made of a log: it has the log's name and a number, a date or `.old` behind it, packed
/// or not. Who follows the log reads what is in it already.
#[must_use]
pub fn is_rotated(path: &Path, log: &Path) -> bool {
    let Some(rest) = path.as_os_str().as_bytes().strip_prefix(log.as_os_str().as_bytes()) else { return false };
    let packed = [".gz", ".xz", ".zst", ".bz2"].iter().find_map(|ending| rest.strip_suffix(ending.as_bytes()));
    let bare = packed.unwrap_or(rest);
    (packed.is_some() && bare.is_empty()) || bare == b".old" || suffix(bare) != Suffix::Other
}

/// One of the files that are read, from where on, and how much of it was there.
struct Part {
    file: File,
    dev: u64,
    inode: u64,
    size: u64,
    offset: u64,
    skipping: bool,
}

impl Part {
    fn new(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self { dev: meta.dev(), inode: meta.ino(), size: meta.len(), offset: 0, skipping: false, file })
    }
    fn at(self, mark: &Mark) -> Self {
        Self { offset: mark.offset, skipping: mark.skipping, ..self }
    }
    fn same_inode(&self, mark: &Mark) -> bool {
        (self.dev, self.inode) == (mark.dev, mark.inode)
    }
    /// Whether what the mark was made of is still in it.
    fn holds(&self, mark: &Mark) -> io::Result<bool> {
        Ok(self.size >= mark.offset && self.samples(mark.offset)? == (mark.head.clone(), mark.tail.clone()))
    }
    fn samples(&self, offset: u64) -> io::Result<(String, String)> {
        let length = offset.min(SAMPLE);
        Ok((self.sample(0, length)?, self.sample(offset - length, length)?))
    }
    fn sample(&self, from: u64, length: u64) -> io::Result<String> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match read_at(&self.file, rest, from.saturating_add(wide(filled)))? {
                0 => break,
                n => filled += n,
            }
        }
        bytes.truncate(filled);
        let mut digits = super::sha256(&bytes);
        digits.truncate(16);
        Ok(digits)
    }
    fn mark(&self) -> io::Result<Mark> {
        let (head, tail) = self.samples(self.offset)?;
        Ok(Mark { dev: self.dev, inode: self.inode, offset: self.offset, head, tail, skipping: self.skipping })
    }
}

/// The place to begin at. At the end that is behind the last line break; where none is within reach, the line that the
/// file ends in is too long already.
fn begin_with(part: Part, begin: Begin, max_line: usize) -> io::Result<Part> {
    if begin == Begin::Start || part.size == 0 {
        return Ok(part);
    }
    let reach = part.size.min(wide(max_line).saturating_add(1));
    let mut end = part.size;
    let mut chunk = vec![0; CHUNK.min(usize::try_from(reach).unwrap_or(CHUNK))];
    while end > part.size - reach {
        let length = usize::try_from((end - (part.size - reach)).min(wide(chunk.len()))).unwrap_or(chunk.len());
        let from = end - wide(length);
        let piece = chunk.get_mut(..length).unwrap_or_default();
        let got = read_at(&part.file, piece, from)?;
        let piece = piece.get(..got).unwrap_or_default();
        if let Some(at) = memchr::memrchr(b'\n', piece) {
            return Ok(Part { offset: from + wide(at) + 1, ..part });
        }
        end = from;
    }
    let whole = reach == part.size;
    Ok(if whole { part } else { Part { offset: part.size, skipping: true, ..part } })
}

/// What became of the file, and what to read, oldest first.
fn go_on_with(path: &Path, current: Part, mark: &Mark) -> io::Result<(Course, Vec<Part>)> {
    let same = current.same_inode(mark);
    let holds = current.holds(mark)?;
    if same && holds {
        return Ok((Course::Same, vec![current.at(mark)]));
    }
    let beside = Beside::of(path, &current, mark);
    let by_inode = if same { None } else { beside.find(|part| part.inode == mark.inode, mark) };
    // Nothing that was read is gone: the device's number changed with a mount, or the file was replaced by a longer copy.
    if by_inode.is_none() && holds && mark.offset > 0 {
        return Ok((Course::Same, vec![current.at(mark)]));
    }
    let found = match by_inode {
        None if mark.offset > 0 => beside.find(|_| true, mark),
        found => found,
    };
    let Some((suffix, old)) = found else {
        return Ok((if same { Course::Truncated } else { Course::Lost }, vec![current]));
    };
    let mut parts = vec![old.at(mark)];
    parts.extend(beside.after(&suffix));
    let empty = current.size == 0 && parts.len() == 1 && !same;
    if !empty {
        parts.push(current);
    }
    Ok((Course::Rotated, parts))
}

/// What lies beside a log and may have been it.
struct Beside {
    /// What follows the log's name, and the path; by age, the oldest first.
    rotated: Vec<(Suffix, PathBuf)>,
    /// Files of other names with the inode that is looked for.
    others: Vec<PathBuf>,
    current: (u64, u64),
}

/// What a rotation puts behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Suffix {
    /// `.1`: the larger, the older.
    Number(u32),
    /// `-20260314`, `.2026-03-14_07`: the larger, the newer.
    Date(String),
    /// Anything else; its age is not known.
    Other,
}

impl Beside {
    /// What can't be listed holds nothing.
    fn of(path: &Path, current: &Part, mark: &Mark) -> Self {
        // A link to the newest of several files: the others lie where it points.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let mut beside = Self { rotated: Vec::new(), others: Vec::new(), current: (current.dev, current.inode) };
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return beside };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let Ok(entries) = fs::read_dir(folder) else { return beside };
        for entry in entries.take(MAX_ENTRIES).filter_map(Result::ok) {
            let other = entry.file_name();
            let suffix = other.as_bytes().strip_prefix(name.as_bytes()).map_or(Suffix::Other, suffix);
            if suffix != Suffix::Other {
                beside.rotated.push((suffix, entry.path()));
            } else if entry.metadata().is_ok_and(|meta| meta.is_file() && meta.ino() == mark.inode) {
                beside.others.push(entry.path());
            }
        }
        beside.rotated.sort_by(|(a, _), (b, _)| match (a, b) {
            (Suffix::Number(a), Suffix::Number(b)) => b.cmp(a),
            (Suffix::Date(a), Suffix::Date(b)) => a.cmp(b),
            (Suffix::Number(_), _) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        });
        let too_many = beside.rotated.len().saturating_sub(MAX_ROTATED);
        drop(beside.rotated.drain(..too_many));
        beside
    }

    /// The newest file that `fits` and holds what the mark was made of.
    fn find(&self, fits: impl Fn(&Part) -> bool, mark: &Mark) -> Option<(Suffix, Part)> {
        let others = self.others.iter().map(|path| (Suffix::Other, path));
        let rotated = self.rotated.iter().rev().map(|(suffix, path)| (suffix.clone(), path));
        rotated.chain(others).find_map(|(suffix, path)| {
            let part = self.open(path)?;
            (fits(&part) && part.holds(mark).unwrap_or(false)).then_some((suffix, part))
        })
    }

    /// The rotated files between the one with this suffix and the current one: rotated twice or more since the last look.
    fn after(&self, suffix: &Suffix) -> Vec<Part> {
        let newer = |other: &Suffix| match (suffix, other) {
            (Suffix::Number(old), Suffix::Number(other)) => other < old,
            (Suffix::Date(old), Suffix::Date(other)) => other > old,
            _ => false,
        };
        self.rotated.iter().filter(|(other, _)| newer(other)).filter_map(|(_, path)| self.open(path)).collect()
    }

    /// A regular file, not through a link, and not the one that has the name now.
    fn open(&self, path: &Path) -> Option<Part> {
        if !fs::symlink_metadata(path).ok()?.is_file() {
            return None;
        }
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        Part::new(file).ok().filter(|part| (part.dev, part.inode) != self.current)
    }
}

fn suffix(rest: &[u8]) -> Suffix {
    let Some((b'.' | b'-' | b'_', rest)) = rest.split_first() else { return Suffix::Other };
    let plain = rest.iter().all(|byte| byte.is_ascii_digit() || b"-_.T:".contains(byte));
    match std::str::from_utf8(rest) {
        Ok(text) if plain && rest.first().is_some_and(u8::is_ascii_digit) => match text.parse() {
            Ok(number) if text.len() <= 4 => Suffix::Number(number),
            _ => Suffix::Date(text.to_owned()),
        },
        _ => Suffix::Other,
    }
}

/// What was read so far, of all parts.
#[derive(Default)]
struct Reading {
    max_line: usize,
    bytes: u64,
    lines: u64,
    too_long: u64,
}

impl Reading {
    /// Reads this many bytes of a part; `ended` says that nobody writes to it any more. Gives the offset behind the last
    /// line that is done with, and whether it lies within a line that is too long.
    fn read(&mut self, part: &Part, length: u64, ended: bool, each: &mut impl FnMut(&[u8])) -> io::Result<(u64, bool)> {
        let end = part.offset.saturating_add(length);
        let (mut at, mut done, mut skipping) = (part.offset, part.offset, part.skipping);
        let mut chunk = vec![0; CHUNK.min(usize::try_from(length).unwrap_or(CHUNK))];
        let mut begun = Vec::new();
        let mut give = |line: &[u8], first: bool| {
            let line = if first { line.strip_prefix(BOM).unwrap_or(line) } else { line };
            each(line.strip_suffix(b"\r").unwrap_or(line));
        };
        while at < end {
            let room = chunk.len().min(usize::try_from(end - at).unwrap_or(chunk.len()));
            let read = read_at(&part.file, chunk.get_mut(..room).unwrap_or_default(), at)?;
            if read == 0 {
                break;
            }
            let bytes = chunk.get(..read).unwrap_or_default();
            let mut line_from = 0;
            for line_end in memchr::memchr_iter(b'\n', bytes) {
                let line = bytes.get(line_from..line_end).unwrap_or_default();
                if skipping {
                    skipping = false;
                } else if begun.len() + line.len() > self.max_line {
                    self.too_long += 1;
                } else {
                    self.lines += 1;
                    if begun.is_empty() {
                        give(line, done == 0);
                    } else {
                        begun.extend_from_slice(line);
                        give(&begun, done == 0);
                    }
                }
                begun.clear();
                line_from = line_end + 1;
                done = at + wide(line_from);
            }
            let rest = bytes.get(line_from..).unwrap_or_default();
            at += wide(read);
            if !skipping && begun.len() + rest.len() > self.max_line {
                self.too_long += 1;
                skipping = true;
                begun.clear();
            }
            if skipping {
                done = at;
            } else {
                begun.extend_from_slice(rest);
            }
        }
        if ended && !skipping && !begun.is_empty() {
            self.lines += 1;
            give(&begun, done == 0);
            done = at;
        }
        self.bytes += at - part.offset;
        Ok((done, skipping))
    }
}

fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(bytes, at) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn wide(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const WIDE: Bounds = Bounds { bytes: 1 << 20, line: 1_000 };

    /// A log in a folder of its own, and who reads it.
    struct Log {
        dir: tempfile::TempDir,
        mark: Option<Mark>,
        bounds: Bounds,
        got: Vec<String>,
    }

    impl Log {
        fn new(bounds: Bounds) -> Self {
            Self { dir: tempfile::tempdir().unwrap(), mark: None, bounds, got: Vec::new() }
        }
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
        fn append(&self, name: &str, text: &str) {
            let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        fn rename(&self, from: &str, to: &str) {
            fs::rename(self.path(from), self.path(to)).unwrap();
        }
        fn remove(&self, name: &str) {
            fs::remove_file(self.path(name)).unwrap();
        }
        fn copy(&self, from: &str, to: &str) {
            fs::copy(self.path(from), self.path(to)).unwrap();
        }
        fn truncate(&self, name: &str) {
            OpenOptions::new().write(true).open(self.path(name)).unwrap().set_len(0).unwrap();
        }
        /// Moves every rotated file one number up.
        fn make_room(&self) {
            for number in (1..30).rev().filter(|number| self.path(&format!("log.{number}")).exists()) {
                self.rename(&format!("log.{number}"), &format!("log.{}", number + 1));
            }
        }
        fn look_from(&mut self, begin: Begin) -> Followed {
            let path = self.path("log");
            let file = OpenOptions::new().read(true).open(&path).unwrap();
            let mut lines = Vec::new();
            let each = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
            let seen = follow(&path, file, self.mark.as_ref(), begin, self.bounds, each).unwrap();
            assert_eq!(seen.lines, wide(lines.len()));
            self.got.extend(lines);
            // A mark lives through its own writing down.
            let kept = serde_json::to_string(&seen.mark).unwrap();
            self.mark = Some(serde_json::from_str(&kept).unwrap());
            seen
        }
        fn look(&mut self) -> Followed {
            self.look_from(Begin::Start)
        }
        fn take(&mut self) -> Vec<String> {
            std::mem::take(&mut self.got)
        }
    }

    #[test]
    fn lines_come_once_they_are_whole() {
        let mut log = Log::new(WIDE);
        log.append("log", "\u{feff}one\r\n\ntw");
        assert_eq!(log.look().course, Course::First);
        assert_eq!(log.take(), ["one", ""]);
        let seen = log.look();
        assert_eq!((seen.course, seen.lines, seen.bytes), (Course::Same, 0, 2));
        log.append("log", "o\nthree\n");
        let seen = log.look();
        assert_eq!((log.take(), seen.bytes, seen.left), (vec!["two".to_owned(), "three".into()], 10, 0));
        assert_eq!(log.look().bytes, 0, "only new bytes are read");
    }

    #[test]
    fn the_end_is_behind_the_last_whole_line() {
        for (before, first) in [("a\nb\nhal", "half"), ("hal", "half"), ("", "f"), ("a\n", "f")] {
            let mut log = Log::new(WIDE);
            log.append("log", before);
            log.look_from(Begin::End);
            log.append("log", "f\nnext\n");
            log.look();
            assert_eq!(log.take(), [first, "next"], "{before:?}");
        }
        // The line that it ends in is too long already: its rest is no line.
        let mut log = Log::new(Bounds { line: 4, ..WIDE });
        log.append("log", "a\ntoo long");
        assert_eq!(log.look_from(Begin::End).bytes, 0);
        log.append("log", " by far\nnext\n");
        log.look();
        assert_eq!(log.take(), ["next"]);
    }

    #[test]
    fn a_rotation_loses_nothing() {
        for (rotated, again) in [("log.1", "log.2"), ("log-20260314", "log-20260314"), ("old.log", "old.log")] {
            let mut log = Log::new(WIDE);
            log.append("log", "a\nb\n");
            log.look();
            log.append("log", "c\nd");
            log.rename("log", rotated);
            log.append("log", "e\n");
            assert_eq!(log.look().course, Course::Rotated);
            // The half line of the old file is ended by nobody any more.
            assert_eq!(log.take(), ["a", "b", "c", "d", "e"], "{rotated}");
            if again != rotated {
                log.rename(rotated, again);
            }
            log.append("log", "f\n");
            assert_eq!((log.look().course, log.take()), (Course::Same, vec!["f".to_owned()]));
        }
    }

    #[test]
    fn rotated_twice_since_the_last_look() {
        for names in [["log.2", "log.1"], ["log.10", "log.9"], ["log-20260313", "log-20260314"]] {
            let mut log = Log::new(WIDE);
            log.append("log", "a\n");
            log.look();
            log.append("log", "b\n");
            log.rename("log", names[0]);
            log.append(names[1], "c\n");
            log.append("log", "d\n");
            // Not of this log, or not in between.
            log.append("log.11", "no\n");
            log.append("log-20260312", "no\n");
            log.append("log.1.gz", "no\n");
            log.append("log.pos", "no\n");
            log.append("logger", "no\n");
            assert_eq!(log.look().course, Course::Rotated);
            assert_eq!(log.take(), ["a", "b", "c", "d"], "{names:?}");
        }
    }

    #[test]
    fn a_writer_that_still_holds_the_old_file() {
        let mut log = Log::new(WIDE);
        log.append("log", "a\n");
        log.look();
        log.rename("log", "log.1");
        log.append("log", "");
        log.append("log.1", "b\n");
        assert_eq!(log.look().course, Course::Same);
        log.append("log.1", "c\n");
        assert_eq!(log.look().course, Course::Same);
        log.append("log.1", "d\n");
        log.append("log", "e\n");
        assert_eq!(log.look().course, Course::Rotated);
        assert_eq!(log.take(), ["a", "b", "c", "d", "e"]);
    }

    #[test]
    fn copied_and_truncated() {
        let mut log = Log::new(WIDE);
        log.append("log", "a\n");
        log.look();
        log.append("log", "b\n");
        log.copy("log", "log.1");
        log.truncate("log");
        // Longer than before: only what stands in it tells that it is another one.
        log.append("log", "c\nd\ne\n");
        assert_eq!(log.look().course, Course::Rotated);
        assert_eq!(log.take(), ["a", "b", "c", "d", "e"]);
        log.truncate("log");
        log.append("log", "f\n");
        assert_eq!((log.look().course, log.take()), (Course::Truncated, vec!["f".to_owned()]));
        log.truncate("log");
        log.append("log", &"longer than it was\n".repeat(20));
        assert_eq!((log.look().course, log.take().len()), (Course::Truncated, 20));
        // Every file of this log begins with the same words.
        let heading = format!("{}\n", "# fields ".repeat(40));
        let mut log = Log::new(WIDE);
        log.append("log", &format!("{heading}a\n"));
        log.look();
        log.take();
        log.truncate("log");
        log.append("log", &format!("{heading}b\nc\n"));
        assert_eq!((log.look().course, log.take().len()), (Course::Truncated, 3));
    }

    #[test]
    fn what_is_gone_is_said() {
        let mut log = Log::new(WIDE);
        log.append("log", "a\n");
        log.look();
        log.rename("log", "kept");
        log.copy("kept", "log.1.gz");
        // Removed only now, so that its inode is not given to the new file.
        log.append("log", "b\n");
        log.remove("kept");
        assert_eq!((log.look().course, log.take()), (Course::Lost, vec!["a".to_owned(), "b".into()]));
        // A longer copy took its place (an editor, rsync): nothing is gone.
        log.copy("log", "new");
        log.append("new", "c\n");
        log.rename("new", "log");
        assert_eq!((log.look().course, log.take()), (Course::Same, vec!["c".to_owned()]));
        // The inode belongs to another file now.
        let inode = log.mark.clone().unwrap().inode;
        log.mark = log.mark.map(|mark| Mark { offset: 2, head: "other".into(), inode, ..mark });
        assert_eq!(log.look().course, Course::Truncated);
    }

    #[test]
    fn a_rotations_names() {
        for (name, is) in [
            ("log.1", true),
            ("log.12.gz", true),
            ("log-20260314", true),
            ("log-20260314.zst", true),
            ("log.2026-03-14_07", true),
            ("log.old", true),
            ("log.gz", true),
            ("log", false),
            ("log.err", false),
            ("logger", false),
            ("log1", false),
            ("other.1", false),
        ] {
            assert_eq!(is_rotated(Path::new("/a").join(name).as_path(), Path::new("/a/log")), is, "{name}");
        }
    }

    #[test]
    fn a_fifo_and_a_link_beside_it_are_left_alone() {
        let mut log = Log::new(WIDE);
        log.append("log", "a\n");
        log.look();
        log.rename("log", "log.1");
        log.append("log", "b\n");
        rustix::fs::mknodat(rustix::fs::CWD, log.path("log.2"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::rename(log.path("log.1"), outside.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("moved"), log.path("log.1")).unwrap();
        assert_eq!((log.look().course, log.take()), (Course::Lost, vec!["a".to_owned(), "b".into()]));
    }

    #[test]
    fn the_newest_of_several_through_a_link() {
        let mut log = Log::new(WIDE);
        log.append("app-1", "a\n");
        std::os::unix::fs::symlink("app-1", log.path("log")).unwrap();
        log.look();
        log.append("app-1", "b\n");
        log.append("app-2", "c\n");
        log.remove("log");
        std::os::unix::fs::symlink("app-2", log.path("log")).unwrap();
        assert_eq!((log.look().course, log.take().join("")), (Course::Rotated, "abc".into()));
    }

    #[test]
    fn the_bound_on_bytes_leaves_the_rest_for_the_next_time() {
        let mut log = Log::new(Bounds { bytes: 10, line: 8 });
        log.append("log", "12345678\n1234567\n12\n");
        assert_eq!(log.look().left, 10);
        assert_eq!(log.take(), ["12345678"], "a line of the longest kind is always read");
        log.rename("log", "log.1");
        log.append("log", "new\n");
        let seen = log.look();
        assert_eq!((seen.course, seen.left, log.take()), (Course::Same, 5, vec!["1234567".to_owned()]));
        let seen = log.look();
        assert_eq!((seen.course, seen.left), (Course::Rotated, 0));
        assert_eq!(log.take(), ["12", "new"]);
    }

    #[test]
    fn lines_that_are_too_long_are_skipped_and_counted_once() {
        let mut log = Log::new(Bounds { bytes: 10, line: 8 });
        log.append("log", &format!("{}\nshort\n123456789\n", "x".repeat(35)));
        let mut too_long = 0;
        for _ in 0..7 {
            too_long += log.look().too_long;
        }
        assert_eq!((too_long, log.take()), (2, vec!["short".to_owned()]));
        assert_eq!(log.look().bytes, 0);
    }

    #[test]
    fn a_gigabyte_in_one_line_is_passed_by() {
        let mut log = Log::new(Bounds { bytes: 2 << 30, line: 1 << 20 });
        log.append("log", "a\n");
        OpenOptions::new().write(true).open(log.path("log")).unwrap().set_len(64 << 20).unwrap();
        let seen = log.look();
        assert_eq!((seen.too_long, seen.lines, seen.left), (1, 1, 0));
        assert!(seen.mark.skipping);
        OpenOptions::new().write(true).open(log.path("log")).unwrap().set_len(1 << 30).unwrap();
        log.append("log", "\nb\n");
        log.bounds.bytes = 2 << 20;
        assert_eq!(log.look().left, (1 << 30) + 3 - (64 << 20) - (2 << 20), "not all of it at once");
        // Begun at the end, it costs one line's length.
        log.mark = None;
        log.look_from(Begin::End);
        log.append("log", "c\n");
        log.look();
        assert_eq!(log.take(), ["a", "c"]);
    }

    #[test]
    fn hostile_input_ends() {
        for (name, raw) in crate::read::hostile::table() {
            let mut log = Log::new(Bounds { bytes: 10 << 20, line: 1 << 20 });
            log.append("log", "");
            File::options().write(true).open(log.path("log")).unwrap().write_all(&raw).unwrap();
            let seen = log.look();
            assert_eq!(seen.bytes, wide(raw.len()), "{name}");
            assert_eq!(seen.lines, wide(memchr::memchr_iter(b'\n', &raw).count()), "{name}");
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(String),
        Look(u64),
        Rename,
        RenameByDate,
        CopyAndTruncate,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => "[a-d]{0,6}(\n[a-d]{0,6}){0,4}".prop_map(Step::Write),
            4 => (0_u64..80).prop_map(Step::Look),
            1 => Just(Step::Rename),
            1 => Just(Step::CopyAndTruncate),
        ];
        let dated = prop_oneof![
            6 => "[a-d]{0,6}(\r?\n[a-d]{0,6}){0,4}".prop_map(Step::Write),
            4 => (0_u64..80).prop_map(Step::Look),
            1 => Just(Step::RenameByDate),
        ];
        prop_oneof![proptest::collection::vec(step, 1..40), proptest::collection::vec(dated, 1..40)]
    }

    /// Writes what the steps say, each line with a number so that no two are the same, and looks in between.
    fn play(steps: Vec<Step>) -> (Vec<String>, Vec<String>) {
        let mut log = Log::new(Bounds { bytes: 0, line: 30 });
        let (mut written, mut open, mut number, mut date) = (Vec::new(), String::new(), 0, 20_260_101);
        log.append("log", "begun\n");
        written.push("begun".to_owned());
        log.look();
        for step in steps.into_iter().chain([Step::Write("\nend\n".into())]) {
            let rotates = !matches!(step, Step::Write(_) | Step::Look(_));
            // Of a file in which nothing was read yet nothing tells that it was copied away.
            let known = log.mark.as_ref().is_some_and(|mark| mark.offset > 0);
            if rotates && (!log.path("log").exists() || (matches!(step, Step::CopyAndTruncate) && !known)) {
                continue;
            }
            match step {
                Step::Write(text) => {
                    for piece in text.split_inclusive('\n') {
                        if open.is_empty() {
                            number += 1;
                            log.append("log", &format!("{number}:"));
                            open = format!("{number}:");
                        }
                        log.append("log", piece);
                        open.push_str(piece.trim_end_matches(['\r', '\n']));
                        if piece.ends_with('\n') {
                            written.push(std::mem::take(&mut open));
                        }
                    }
                    continue;
                }
                Step::Look(bytes) => {
                    log.bounds.bytes = bytes;
                    if log.path("log").exists() {
                        log.look();
                    }
                    continue;
                }
                Step::Rename => {
                    log.make_room();
                    log.rename("log", "log.1");
                }
                Step::RenameByDate => {
                    date += 1;
                    log.rename("log", &format!("log-{date}"));
                }
                Step::CopyAndTruncate => {
                    log.make_room();
                    log.copy("log", "log.1");
                    log.truncate("log");
                }
            }
            if !open.is_empty() {
                written.push(std::mem::take(&mut open));
            }
        }
        while log.look().left > 0 {}
        (written, log.take())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn however_it_is_written_and_read_each_line_comes_once(steps in steps()) {
            let (written, got) = play(steps);
            // Longer ones than the bound are skipped.
            let written: Vec<String> = written.into_iter().filter(|line| line.len() <= 30).collect();
            prop_assert_eq!(written, got);
        }
    }
}
