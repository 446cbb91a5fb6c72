//! Files: opened non-blocking, regular ones only, sizes from reading; replaced atomically. Blocking: call on a lane.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use globset::{GlobBuilder, GlobMatcher};
use jiff::Timestamp;
use rustix::fs::OFlags;

use crate::clean;
use crate::facts::Unread;
use crate::redact::Clean;

/// Entries of folders that one glob looks at; beyond them it says that there is more.
const GLOB_VISITS: usize = 100_000;
/// How deep `**` goes.
const GLOB_DEPTH: usize = 32;

/// What a file is, without opening it. Follows symbolic links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Bytes.
    pub size_bytes: u64,
    /// When it was last written.
    pub modified: Timestamp,
    /// Permission bits (0o7777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Device and inode: what tells a rotated log from the same one.
    pub inode: (u64, u64),
}

impl From<&Metadata> for Stat {
    /// A time that no timestamp can hold (a file's can be anything) becomes the nearest one that can.
    fn from(meta: &Metadata) -> Self {
        let nanos = i32::try_from(meta.mtime_nsec()).unwrap_or(0);
        let nearest = if meta.mtime() < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Self {
            is_file: meta.is_file(),
            is_dir: meta.is_dir(),
            size_bytes: meta.size(),
            modified: Timestamp::new(meta.mtime(), nanos).unwrap_or(nearest),
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            inode: (meta.dev(), meta.ino()),
        }
    }
}

/// A file's stat, or none when nothing is there. Codes: `permission_denied` (blind), `unreadable` (blind).
pub fn stat(path: &Path) -> Result<Option<Stat>, Unread> {
    match std::fs::metadata(path) {
        Ok(meta) => Ok(Some(Stat::from(&meta))),
        Err(error) if nothing_there(&error) => Ok(None),
        Err(error) => Err(unread(path, &error)),
    }
}

/// Opens a regular file for reading, never waiting for a FIFO's writer. Codes: `missing` (target), `permission_denied`,
/// `not_a_file`, `unreadable` (blind).
pub fn open(path: &Path) -> Result<File, Unread> {
    // Opening some devices does something (a watchdog starts, a tape rewinds), so what it is comes first; the second
    // look, at what was opened, is the one that counts.
    regular(path, &std::fs::metadata(path).map_err(|error| unread(path, &error))?)?;
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
        .map_err(|error| unread(path, &error))?;
    regular(path, &file.metadata().map_err(|error| unread(path, &error))?)?;
    Ok(file)
}

/// Refuses what is no regular file.
pub(super) fn regular(path: &Path, meta: &Metadata) -> Result<(), Unread> {
    if meta.is_file() {
        return Ok(());
    }
    let what = if meta.is_dir() { "a folder" } else { "a FIFO, socket or device" };
    Err(Unread::blind("not_a_file", clean!("{} is {what}, not a file", shown(path))))
}

/// Reads at most `max_bytes`; the flag says whether there was more.
pub fn read(path: &Path, max_bytes: usize) -> Result<(Vec<u8>, bool), Unread> {
    let mut bytes = Vec::new();
    let one_more = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    open(path)?.take(one_more).read_to_end(&mut bytes).map_err(|error| unread(path, &error))?;
    let more = bytes.len() > max_bytes;
    bytes.truncate(max_bytes);
    Ok((bytes, more))
}

/// The paths that a glob matches, sorted, at most `limit`; the flag says whether there were more. A path without
/// wildcards is itself, whether it exists or not. Folders that may not be read are an unread (blind).
///
/// `*`, `?` and `[…]` stay within a name and, as in a shell, match no leading dot; `**` stands for any number of
/// folders, at most 32 deep, hidden and linked ones left out. At most 100,000 entries are looked at; when there are
/// more, the flag says so.
pub fn glob(pattern: &Path, limit: usize) -> Result<(Vec<PathBuf>, bool), Unread> {
    let steps = pattern
        .components()
        .map(step)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Unread::blind("unreadable", clean!("{} is not a pattern: {error}", shown(pattern))))?;
    if steps.iter().all(|step| matches!(step, Step::Name(_))) {
        return Ok((vec![pattern.to_owned()], false));
    }
    let mut walk = Walk { found: Vec::new(), visits_left: GLOB_VISITS, cut: false };
    walk.go(PathBuf::new(), &steps, 0)?;
    let Walk { mut found, mut cut, .. } = walk;
    found.sort();
    found.dedup();
    cut |= found.len() > limit;
    found.truncate(limit);
    Ok((found, cut))
}

/// Whether a path, as written, is a pattern for [`glob`].
#[must_use]
pub fn has_wildcards(path: &Path) -> bool {
    path.as_os_str().as_bytes().iter().any(|b| b"*?[".contains(b))
}

enum Step {
    Name(OsString),
    Wild { matcher: GlobMatcher, dots: bool },
    AnyDepth,
}

fn step(part: Component<'_>) -> Result<Step, globset::Error> {
    let name = part.as_os_str();
    if name == "**" {
        return Ok(Step::AnyDepth);
    }
    if !has_wildcards(Path::new(name)) {
        return Ok(Step::Name(name.to_owned()));
    }
    let matcher = GlobBuilder::new(&braces_plain(name))
        .literal_separator(true)
        .backslash_escape(false)
        .build()?
        .compile_matcher();
    Ok(Step::Wild { matcher, dots: name.as_bytes().starts_with(b".") })
}

/// Braces are no wildcards here, but they are to globset.
fn braces_plain(name: &OsStr) -> String {
    let mut out = String::new();
    let mut in_class = false;
    for c in name.to_string_lossy().chars() {
        match c {
            '{' | '}' if !in_class => {
                out.push('[');
                out.push(c);
                out.push(']');
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        out.push(c);
    }
    out
}

struct Walk {
    found: Vec<PathBuf>,
    visits_left: usize,
    cut: bool,
}

impl Walk {
    fn go(&mut self, at: PathBuf, steps: &[Step], depth: usize) -> Result<(), Unread> {
        let Some((step, rest)) = steps.split_first() else {
            self.found.push(at);
            return Ok(());
        };
        match step {
            Step::Name(name) => {
                let next = at.join(name);
                if rest.is_empty() {
                    return match std::fs::symlink_metadata(&next) {
                        Ok(_) => self.go(next, rest, depth),
                        Err(error) if nothing_there(&error) => Ok(()),
                        Err(error) => Err(unread(&next, &error)),
                    };
                }
                self.go(next, rest, depth)
            }
            Step::Wild { matcher, dots } => {
                for (name, _) in self.entries(&at)? {
                    let hidden = name.as_bytes().starts_with(b".");
                    if hidden == *dots && matcher.is_match(&name) {
                        self.go(at.join(name), rest, depth)?;
                    }
                }
                Ok(())
            }
            Step::AnyDepth => {
                if !rest.is_empty() {
                    self.go(at.clone(), rest, depth)?;
                }
                for (name, is_dir) in self.entries(&at)? {
                    if name.as_bytes().starts_with(b".") {
                        continue;
                    }
                    let below = at.join(name);
                    if rest.is_empty() {
                        self.found.push(below.clone());
                    }
                    if is_dir && depth < GLOB_DEPTH {
                        self.go(below, steps, depth + 1)?;
                    } else if is_dir {
                        self.cut = true;
                    }
                }
                Ok(())
            }
        }
    }

    /// The names in a folder, and whether each is a folder itself (a link to one is not). What is no folder, or gone
    /// since, has none.
    fn entries(&mut self, folder: &Path) -> Result<Vec<(OsString, bool)>, Unread> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let listing = match std::fs::read_dir(folder) {
            Ok(listing) => listing,
            Err(error) if nothing_there(&error) => return Ok(Vec::new()),
            Err(error) => return Err(unread(folder, &error)),
        };
        let mut entries = Vec::new();
        for entry in listing {
            if self.visits_left == 0 {
                self.cut = true;
                break;
            }
            self.visits_left -= 1;
            let entry = entry.map_err(|error| unread(folder, &error))?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            entries.push((entry.file_name(), is_dir));
        }
        Ok(entries)
    }
}

/// Replaces a file atomically: written beside it, fsynced, renamed, the folder fsynced. The new file has exactly `mode`.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the path names no file"))?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut beside = OsString::from_vec(b".".to_vec());
    beside.push(name);
    beside.push(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let beside = folder.join(beside);
    let written = write_new(&beside, bytes, mode).and_then(|()| std::fs::rename(&beside, path));
    if let Err(error) = written {
        // Left over at worst; the error that matters is the first.
        let _removed = std::fs::remove_file(&beside);
        return Err(error);
    }
    sync_folder(folder)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode & 0o600).open(path)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    file.sync_all()
}

/// Makes a rename or a new name in a folder survive a power cut.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(folder)?.sync_all()
}

/// A path as it stands in a sentence: file names are other people's text.
#[must_use]
pub fn shown(path: &Path) -> Clean {
    clean!("`{}`", Clean::line(&path.to_string_lossy(), 200))
}

fn nothing_there(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// An unread for an error of the file system.
#[must_use]
pub fn unread(path: &Path, error: &io::Error) -> Unread {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Unread::target("missing", clean!("{} is not there", shown(path)))
        }
        ErrorKind::PermissionDenied => {
            Unread::blind("permission_denied", clean!("{} may not be read by this user", shown(path)))
        }
        _ => Unread::blind("unreadable", clean!("{} can't be read: {}", shown(path), plain(error))),
    }
}

/// What the system said, without Rust's `(os error 5)`.
#[must_use]
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

/// Makes a folder and what is missing above it, for this user only (0700).
pub fn make_private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Sets a file's time of writing, making the file (0600) where there is none. A file that is there needs no room for it.
pub fn touch(path: &Path, at: Timestamp) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_modified(at.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn code<T: std::fmt::Debug>(answer: Result<T, Unread>) -> String {
        answer.unwrap_err().code.to_string()
    }
    fn put(path: &Path, bytes: &[u8]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        replace(path, bytes, 0o600).unwrap();
    }
    fn as_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn what_is_no_file_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert_eq!(code(open(&fifo)), "not_a_file");
        assert_eq!(code(read(dir.path(), 10)), "not_a_file");
        assert_eq!(code(read(Path::new("/dev/zero"), 10)), "not_a_file");
        assert_eq!(code(read(&dir.path().join("none"), 10)), "missing");
        let file = dir.path().join("file");
        put(&file, b"x");
        assert_eq!(code(read(&file.join("below"), 10)), "missing");
        let looping = dir.path().join("loop");
        symlink(&looping, &looping).unwrap();
        assert_eq!(code(read(&looping, 10)), "unreadable");
        assert_eq!(stat(&dir.path().join("none")), Ok(None));
        assert!(stat(dir.path()).unwrap().unwrap().is_dir);
    }

    #[test]
    fn reads_are_bounded_whatever_the_size_says() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = dir.path().join("sparse");
        put(&sparse, b"abc");
        std::fs::OpenOptions::new().write(true).open(&sparse).unwrap().set_len(1 << 30).unwrap();
        let (bytes, more) = read(&sparse, 1_000).unwrap();
        assert_eq!((bytes.len(), more), (1_000, true));
        assert_eq!(stat(&sparse).unwrap().unwrap().size_bytes, 1 << 30);
        let exact = dir.path().join("exact");
        put(&exact, b"12345");
        assert_eq!(read(&exact, 5).unwrap(), (b"12345".to_vec(), false));
        assert_eq!(read(&exact, 4).unwrap(), (b"1234".to_vec(), true));
        // /proc says 0 bytes and has more.
        assert!(!read(Path::new("/proc/self/status"), 100_000).unwrap().0.is_empty());
    }

    #[test]
    fn a_file_that_may_not_be_read_is_blind() {
        if as_root() {
            // Root may read anything; the mapping itself is what is left to hold.
            let denied = io::Error::from(ErrorKind::PermissionDenied);
            assert_eq!(unread(Path::new("/x"), &denied).blame, crate::facts::Blame::Blind);
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("mine");
        replace(&file, b"x", 0o000).unwrap();
        assert_eq!(code(read(&file, 10)), "permission_denied");
    }

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        replace(&file, b"one", 0o644).unwrap();
        replace(&file, b"two", 0o640).unwrap();
        assert_eq!(read(&file, 10).unwrap().0, b"two");
        assert_eq!(stat(&file).unwrap().unwrap().mode, 0o640);
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        replace(&dir.path().join("folder"), b"x", 0o600).unwrap_err();
        replace(&dir.path().join("none/x"), b"x", 0o600).unwrap_err();
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn globs_match_as_in_a_shell() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["a.json", "b.json", ".c.json", "d.txt", "{x}.json", "in/a.json", "in/deep/a.json", ".git/a.json"] {
            put(&at(name), b"x");
        }
        symlink(dir.path(), at("loop")).unwrap();
        symlink(at("nowhere"), at("in/dangling.json")).unwrap();
        let table: [(&str, &[&str]); 12] = [
            ("*.json", &["a.json", "b.json", "{x}.json"]),
            (".*.json", &[".c.json"]),
            ("[ab].json", &["a.json", "b.json"]),
            ("[!a].json", &["b.json"]),
            ("{?}.json", &["{x}.json"]),
            ("?.txt", &["d.txt"]),
            ("*/a.json", &["in/a.json", "loop/a.json"]),
            ("in/*.json", &["in/a.json", "in/dangling.json"]),
            ("**/a.json", &["a.json", "in/a.json", "in/deep/a.json"]),
            ("in/**", &["in/a.json", "in/dangling.json", "in/deep", "in/deep/a.json"]),
            ("nowhere/*.json", &[]),
            ("a.json/*", &[]),
        ];
        for (pattern, expected) in table {
            let expected: Vec<PathBuf> = expected.iter().map(|name| at(name)).collect();
            assert_eq!(glob(&at(pattern), 100), Ok((expected, false)), "{pattern}");
        }
        assert_eq!(glob(&at("none"), 100), Ok((vec![at("none")], false)));
        assert_eq!(glob(&at("*.json"), 2), Ok((vec![at("a.json"), at("b.json")], true)));
    }

    #[test]
    fn a_deep_tree_is_cut_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut deep = dir.path().to_owned();
        for _ in 0..GLOB_DEPTH + 4 {
            deep.push("d");
        }
        put(&deep.join("a.json"), b"x");
        assert_eq!(glob(&dir.path().join("**/a.json"), 100), Ok((Vec::new(), true)));
    }
}
