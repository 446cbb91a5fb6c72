//! The newest file under a path, within limits.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Entries that are looked at under one check's paths.
pub const MAX_ENTRIES: usize = 100_000;
/// Levels of folders that are entered.
pub const MAX_DEPTH: usize = 16;

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newest {
    /// The newest regular file and when it was written; of two of the same time the last by name.
    pub file: Option<(Timestamp, PathBuf)>,
    /// Regular files seen.
    pub files: usize,
    /// Folders that may not be read, or could not be.
    pub unreadable: usize,
    /// Whether a limit came before the end: something newer may be where nobody looked.
    pub cut: bool,
}

/// Looks at `roots`: files themselves, and what lies in folders. A root may be a symbolic link; links within folders are
/// not followed. What vanishes meanwhile is passed over.
#[must_use]
pub fn newest(roots: &[PathBuf], max_entries: usize, max_depth: usize) -> Newest {
    let mut seen = Newest::default();
    let mut left = max_entries;
    for root in roots {
        match fs::metadata(root) {
            Ok(meta) => {
                let mut folders = Vec::new();
                seen.take_in(root, &meta, 0, &mut folders);
                while let Some((folder, depth)) = folders.pop() {
                    seen.enter(&folder, depth, max_depth, &mut left, &mut folders);
                }
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(_) => seen.unreadable += 1,
        }
    }
    seen
}

impl Newest {
    fn enter(
        &mut self,
        folder: &Path,
        depth: usize,
        max_depth: usize,
        left: &mut usize,
        folders: &mut Vec<(PathBuf, usize)>,
    ) {
        if depth >= max_depth {
            self.cut = true;
            return;
        }
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            Err(_) => {
                self.unreadable += 1;
                return;
            }
        };
        for entry in entries {
            let Some(rest) = left.checked_sub(1) else {
                self.cut = true;
                folders.clear();
                return;
            };
            *left = rest;
            match entry.and_then(|entry| Ok((entry.path(), entry.metadata()?))) {
                Ok((path, meta)) => self.take_in(&path, &meta, depth + 1, folders),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(_) => self.unreadable += 1,
            }
        }
    }

    fn take_in(&mut self, path: &Path, meta: &fs::Metadata, depth: usize, folders: &mut Vec<(PathBuf, usize)>) {
        if meta.is_dir() {
            folders.push((path.to_owned(), depth));
        } else if meta.is_file() {
            self.files += 1;
            if let Some(at) = modified(meta)
                && self.file.as_ref().is_none_or(|(newest, of)| (at, path) > (*newest, of.as_path()))
            {
                self.file = Some((at, path.to_owned()));
            }
        }
    }
}

/// When it was last written; none where the system doesn't tell or the year is beyond all bounds.
#[must_use]
pub fn modified(meta: &fs::Metadata) -> Option<Timestamp> {
    meta.modified().ok().and_then(|at| Timestamp::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn file(path: &Path, at: u64) {
        let file = File::create(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(at)).unwrap();
    }

    #[test]
    fn the_newest_wins_wherever_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        file(&root.path().join("old"), 1_000);
        file(&deep.join("new"), 3_000);
        file(&deep.join("same"), 3_000);
        // A link to something newer is somebody else's file; a loop is not entered.
        let outside = tempfile::tempdir().unwrap();
        file(&outside.path().join("newer"), 9_000);
        symlink(outside.path(), root.path().join("out")).unwrap();
        symlink(root.path(), deep.join("loop")).unwrap();

        let seen = newest(&[root.path().to_owned()], 100, 16);
        let (at, path) = seen.file.unwrap();
        assert_eq!((at.as_second(), path), (3_000, deep.join("same")));
        assert_eq!((seen.files, seen.cut, seen.unreadable), (3, false, 0));
        // The root itself may be a link, or a file.
        assert_eq!(newest(&[root.path().join("out")], 100, 16).file.unwrap().0.as_second(), 9_000);
        assert_eq!(newest(&[root.path().join("old")], 100, 16).file.unwrap().0.as_second(), 1_000);
        assert_eq!(newest(&[root.path().join("none")], 100, 16), Newest::default());
    }

    #[test]
    fn limits_are_said() {
        let root = tempfile::tempdir().unwrap();
        for n in 0..5 {
            file(&root.path().join(n.to_string()), 1_000 + n);
        }
        fs::create_dir_all(root.path().join("x/y")).unwrap();
        file(&root.path().join("x/y/deep"), 9_000);
        assert!(newest(&[root.path().to_owned()], 3, 16).cut);
        let shallow = newest(&[root.path().to_owned()], 100, 2);
        assert_eq!((shallow.cut, shallow.file.unwrap().0.as_second()), (true, 1_004));
        assert!(!newest(&[root.path().to_owned()], 100, 3).cut);
    }
}
