//! Files: opened non-blocking, regular ones only, sizes from reading; replaced atomically. Blocking: call on a lane.

use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::facts::Unread;

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

/// A file's stat, or none when nothing is there. Codes: `permission_denied` (blind), `unreadable` (blind).
pub fn stat(_path: &Path) -> Result<Option<Stat>, Unread> {
    unimplemented!()
}

/// Opens a regular file for reading, never waiting for a FIFO's writer. Codes: `missing` (target), `permission_denied`,
/// `not_a_file`, `unreadable` (blind).
pub fn open(_path: &Path) -> Result<File, Unread> {
    unimplemented!()
}

/// Reads at most `max_bytes`; the flag says whether there was more.
pub fn read(_path: &Path, _max_bytes: usize) -> Result<(Vec<u8>, bool), Unread> {
    unimplemented!()
}

/// The paths that a glob matches, sorted, at most `limit`; the flag says whether there were more. A path without
/// wildcards is itself, whether it exists or not. Folders that may not be read are an unread (blind).
pub fn glob(_pattern: &Path, _limit: usize) -> Result<(Vec<PathBuf>, bool), Unread> {
    unimplemented!()
}

/// Replaces a file atomically: written beside it, fsynced, renamed, the folder fsynced.
pub fn replace(_path: &Path, _bytes: &[u8], _mode: u32) -> std::io::Result<()> {
    unimplemented!()
}
