//! The new lines of a growing file: from where reading stopped, through a rotation, within bounds.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Where reading stopped, to be kept until the next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The device that the file lies on.
    pub dev: u64,
    /// Its inode there.
    pub inode: u64,
    /// Bytes read: the end of the last whole line.
    pub offset: u64,
    /// SHA-256 (hex, first 16 digits) of the file's first bytes, at most 256 and at most `offset` of them: tells a file that was
    /// written anew in the same inode.
    pub head: String,
}

/// How much is read at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes of a line; longer ones are skipped and counted.
    pub line: usize,
}

/// What became of the file since the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It is read for the first time.
    First,
    /// It grew, or stands still.
    Same,
    /// Another file took its name; the rest of the old one was read first where it was found beside it.
    Rotated,
    /// Another file took its name and the old one was not found: lines may be lost.
    Lost,
    /// It is shorter than it was, or begins otherwise: read from its beginning.
    Truncated,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// Where reading stopped.
    pub mark: Mark,
    /// What became of the file.
    pub course: Course,
    /// Bytes read from disk this time.
    pub bytes: u64,
    /// Whole lines given.
    pub lines: u64,
    /// Lines longer than the bound, skipped.
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

/// Gives `each` every whole new line, without its line break, as bytes that need not be UTF-8. A last line without a line break
/// stays for the next time.
pub fn follow(
    _path: &Path,
    _from: Option<&Mark>,
    _begin: Begin,
    _bounds: Bounds,
    _each: impl FnMut(&[u8]),
) -> io::Result<Followed> {
    unimplemented!()
}
