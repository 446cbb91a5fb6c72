//! SQLite files of others, read without leaving anything behind and without holding their owner up. Blocking: on a lane.

use std::ops::RangeInclusive;
use std::path::Path;

use rusqlite::Connection;
use tokio::time::Instant;

use crate::facts::Unread;

/// Reads from a database that somebody else owns. `known` are the values of `PRAGMA user_version` whose tables the caller
/// knows; any other is `schema_unknown` (blind). What `work` does is interrupted at the deadline; it may run twice where the
/// file changed under it.
pub fn read<T>(
    _path: &Path,
    _known: Option<&RangeInclusive<i64>>,
    _deadline: Instant,
    _work: impl FnMut(&Connection) -> Result<T, Unread>,
) -> Result<T, Unread> {
    unimplemented!()
}

/// What an error of SQLite's means for a caller of [`read`]: a missing table or column is `schema_unknown`.
#[must_use]
pub fn unread(_path: &Path, _error: &rusqlite::Error) -> Unread {
    unimplemented!()
}
