//! SQLite files of others, read without leaving anything behind and without holding their owner up. Blocking: on a lane.
//!
//! How a file is read depends on what lies beside it. With a live log and its shared memory, SQLite's own readers' locks
//! hold nobody up. A file at rest is read as it lies, without a lock, and what stands in it counts when nothing was
//! written meanwhile. What only a writer could put in order (a log without its shared memory, a journal of a write that is
//! under way or broke off) is copied, and put in order in the copy.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, Metadata};
use std::io::{Read as _, Write as _};
use std::ops::RangeInclusive;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::time::Instant;

use super::files::{self, shown};
use super::sqlite::{beside, percent};
use crate::clean;
use crate::facts::Unread;
use crate::redact::Clean;

/// How long a lock of the owner's is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// The database and what lies beside it, when they have to be copied.
const MAX_COPY_BYTES: u64 = 64 * 1024 * 1024;
/// The longest text or blob that is read, and the longest row.
const MAX_VALUE_BYTES: i32 = 16 * 1024 * 1024;
/// Steps of SQLite's machine between two looks at the clock.
const STEPS: i32 = 2_000;
/// A write in the middle of a look is followed by one more look.
const LOOKS: usize = 2;
/// Bytes of a database's header that are looked at, and where the count of its changes stands.
const HEADER_BYTES: usize = 28;
const CHANGES_AT: usize = 24;
/// Where copies are made: in memory, or where that is not to be had.
const COPY_FOLDERS: [&str; 2] = ["/dev/shm", "/tmp"];
const COPY_PREFIX: &str = "pulsecheck-copy-";
/// A copy this old belongs to a process that was killed.
const LEFT_OVER: Duration = Duration::from_hours(1);

/// Reads from a database that somebody else owns. `known` are the values of `PRAGMA user_version` whose tables the caller
/// knows; any other is `schema_unknown` (blind). What `work` does is interrupted at the deadline, sees one state of the
/// database, and may do nothing but read; it may run twice where the file changed under it.
pub fn read<T>(
    path: &Path,
    known: Option<&RangeInclusive<i64>>,
    deadline: Instant,
    mut work: impl FnMut(&Connection) -> Result<T, Unread>,
) -> Result<T, Unread> {
    // SQLite looks for the files beside the one that a link leads to.
    let path = std::fs::canonicalize(path).map_err(|error| files::unread(path, &error))?;
    let meta = regular(&path)?;
    // Closing a descriptor drops every lock that this process has on the file, so one look at a time.
    let _turn = Turn::take((meta.dev(), meta.ino()), deadline).ok_or_else(|| late(&path))?;
    let look = Look { path: &path, known, deadline };
    for _ in 0..LOOKS {
        if let Some(answer) = look.once(&mut work)? {
            return answer;
        }
    }
    let said = clean!("{} was written while it was read, twice", shown(&path));
    Err(Unread::target("changed_while_read", said))
}

/// What an error of SQLite's means for a caller of [`read`]: a missing table or column is `schema_unknown`.
#[must_use]
pub fn unread(path: &Path, error: &rusqlite::Error) -> Unread {
    let at = shown(path);
    let (code, detail) = match error {
        rusqlite::Error::SqliteFailure(known, said) => (known.code, said.clone().unwrap_or_else(|| known.to_string())),
        rusqlite::Error::SqlInputError { error, msg, .. } => (error.code, msg.clone()),
        rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnName(_)
        | rusqlite::Error::InvalidColumnIndex(_) => {
            let detail = Clean::line(&error.to_string(), 200);
            return Unread::blind("schema_unknown", clean!("{at} has other columns than are known: {detail}"));
        }
        other => (ErrorCode::Unknown, other.to_string()),
    };
    let detail = Clean::line(&detail, 200);
    match code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed => {
            Unread::target("locked", clean!("{at} is locked by its owner"))
        }
        ErrorCode::OperationInterrupted => late(path),
        ErrorCode::DatabaseCorrupt => Unread::target("damaged", clean!("{at} is damaged: {detail}")),
        ErrorCode::NotADatabase => Unread::blind("not_a_database", clean!("{at} is no SQLite database")),
        ErrorCode::AuthorizationForStatementDenied | ErrorCode::ReadOnly => {
            Unread::blind("query_refused", clean!("the query of {at} does more than read: {detail}"))
        }
        ErrorCode::PermissionDenied => files::unread(path, &std::io::ErrorKind::PermissionDenied.into()),
        // What SQLite says names the file that it opened, which may be a copy.
        ErrorCode::CannotOpen => Unread::blind("unreadable", clean!("{at} can't be opened")),
        ErrorCode::SystemIoFailure => Unread::blind("unreadable", clean!("{at} can't be read: {detail}")),
        _ if ["no such table", "no such column"].iter().any(|what| detail.as_str().contains(what)) => {
            Unread::blind("schema_unknown", clean!("{at} has other tables than are known: {detail}"))
        }
        _ => Unread::blind("query_failed", clean!("the query of {at} failed: {detail}")),
    }
}

fn late(path: &Path) -> Unread {
    Unread::target("no_answer", clean!("reading {} was not done in time", shown(path)))
}

/// The metadata of a regular file that may be read. Looks without opening it.
fn regular(path: &Path) -> Result<Metadata, Unread> {
    let meta = std::fs::metadata(path).map_err(|error| files::unread(path, &error))?;
    files::regular(path, &meta)?;
    rustix::fs::access(path, rustix::fs::Access::READ_OK).map_err(|error| files::unread(path, &error.into()))?;
    Ok(meta)
}

/// The right to look at one file, which one look in this process has at a time.
struct Turn((u64, u64));

static TURNS: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());
static TURN_OVER: Condvar = Condvar::new();

impl Turn {
    /// Waits for it until the deadline.
    fn take(inode: (u64, u64), deadline: Instant) -> Option<Self> {
        let mut taken = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        while !taken.insert(inode) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            taken = TURN_OVER.wait_timeout(taken, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Some(Self(inode))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TURNS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
        TURN_OVER.notify_all();
    }
}

/// How the files lie at one moment; equal ones have nothing written in between.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lie {
    written: Written,
    changes: Vec<u8>,
    wal: Option<Written>,
    journal: Option<Written>,
}

/// What tells one state of a file from the next.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    inode: u64,
    bytes: u64,
    at: (i64, i64),
}

impl From<&Metadata> for Written {
    fn from(meta: &Metadata) -> Self {
        Self { inode: meta.ino(), bytes: meta.size(), at: (meta.mtime(), meta.mtime_nsec()) }
    }
}

/// One file beside the database, unless it is missing or empty.
fn with_content(path: &Path) -> Option<Written> {
    std::fs::metadata(path).ok().filter(|meta| meta.is_file() && meta.len() > 0).map(|meta| Written::from(&meta))
}

impl Lie {
    /// Opens the file itself, so never while a connection of ours has it open.
    fn of(path: &Path) -> Result<Self, Unread> {
        // The file's own time first: a write that follows changes it, one that came before left a journal or is whole.
        let written = Written::from(&regular(path)?);
        let (header, _) = files::read(path, HEADER_BYTES)?;
        let journal = beside(path, "-journal");
        // A journal that was done with may stay, its begin zeroed.
        let begun = |_: &Written| files::read(&journal, 1).is_ok_and(|(begin, _)| begin.iter().any(|byte| *byte != 0));
        Ok(Self {
            written,
            changes: header.get(CHANGES_AT..).unwrap_or_default().to_vec(),
            wal: with_content(&beside(path, "-wal")),
            journal: with_content(&journal).filter(begun),
        })
    }

    fn bytes(&self) -> u64 {
        [Some(&self.written), self.wal.as_ref(), self.journal.as_ref()]
            .into_iter()
            .flatten()
            .map(|file| file.bytes)
            .sum()
    }
}

struct Look<'a> {
    path: &'a Path,
    known: Option<&'a RangeInclusive<i64>>,
    deadline: Instant,
}

impl Look<'_> {
    /// One look; none when the file was written meanwhile, so that what was seen means nothing.
    fn once<T>(
        &self,
        work: &mut impl FnMut(&Connection) -> Result<T, Unread>,
    ) -> Result<Option<Result<T, Unread>>, Unread> {
        let path = self.path;
        if let Some(conn) = self.beside_its_owner()? {
            return Ok(Some(work(&conn)));
        }
        let before = Lie::of(path)?;
        if before.wal.is_none() && before.journal.is_none() {
            let conn = self.open(path, "ro", "&immutable=1");
            let answer = conn
                .map_err(|error| unread(path, &error))
                .and_then(|conn| self.known(conn))
                .and_then(|conn| work(&conn));
            return Ok((Lie::of(path)? == before).then_some(answer));
        }
        // Whether the copy is of one piece shows before anything is read from it.
        let copy = Copy::of(path, &before)?;
        if Lie::of(path)? != before {
            return Ok(None);
        }
        let conn = self.open(&copy.database(), "rw", "").map_err(|error| unread(path, &error))?;
        self.known(conn).map(|conn| Some(work(&conn)))
    }

    /// A connection under the readers' locks of a live log; none when there is no live log, or it can't be used with the
    /// rights that this user has. Shared memory that nobody made is not made by us.
    fn beside_its_owner(&self) -> Result<Option<Connection>, Unread> {
        // With the first way no mark is written into the shared memory; it fails where the log has none yet that fits.
        for options in ["&readonly_shm=1", ""] {
            if !beside(self.path, "-shm").exists() || !beside(self.path, "-wal").exists() {
                break;
            }
            match self.open(self.path, "ro", options) {
                Ok(conn) => return self.known(conn).map(Some),
                Err(error) if lacks_rights(&error) => {}
                Err(error) => return Err(unread(self.path, &error)),
            }
        }
        Ok(None)
    }

    /// A connection that sees one state of the database, is bounded in time and size, and can do nothing but read.
    fn open(&self, path: &Path, mode: &str, options: &str) -> rusqlite::Result<Connection> {
        let uri = format!("file:{}?mode={mode}{options}", percent(path));
        let access = if mode == "ro" { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let mut conn = Connection::open_with_flags(uri, flags)?;
        let deadline = self.deadline;
        conn.busy_timeout(PATIENCE.min(deadline.saturating_duration_since(Instant::now())))?;
        conn.progress_handler(STEPS, Some(move || Instant::now() >= deadline))?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        for (limit, most) in [
            (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES),
            (Limit::SQLITE_LIMIT_EXPR_DEPTH, 200),
            (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 50),
            (Limit::SQLITE_LIMIT_ATTACHED, 0),
            (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 10_000),
            (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 1),
            (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
        ] {
            conn.set_limit(limit, most)?;
        }
        conn.execute_batch("PRAGMA temp_store = memory; PRAGMA cell_size_check = on; PRAGMA query_only = on; BEGIN")?;
        // The first read: locks, log and header are looked at here, and nothing seen later is newer.
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        conn.authorizer(Some(only_reading))?;
        Ok(conn)
    }

    /// Holds the schema to what is known.
    fn known(&self, conn: Connection) -> Result<Connection, Unread> {
        let Some(known) = self.known else { return Ok(conn) };
        let found = user_version(&conn).map_err(|error| unread(self.path, &error))?;
        if !known.contains(&found) {
            return Err(schema_unknown(self.path, found, &in_words(known)));
        }
        Ok(conn)
    }
}

/// The version that a database's owner gave its tables.
pub fn user_version(conn: &Connection) -> rusqlite::Result<i64> {
    conn.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn in_words(known: &RangeInclusive<i64>) -> String {
    let (first, last) = (known.start(), known.end());
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

/// The unread for a schema whose tables nobody here knows; `known` in words (`1 to 3`).
#[must_use]
pub fn schema_unknown(path: &Path, found: i64, known: &str) -> Unread {
    Unread::blind("schema_unknown", clean!("{} has the schema version {found}, known is {known}", shown(path)))
}

/// Whether SQLite could not make or use the shared memory for want of rights.
fn lacks_rights(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::SystemIoFailure)
    )
}

fn only_reading(cx: AuthContext<'_>) -> Authorization {
    let allowed = match cx.action {
        AuthAction::Select | AuthAction::Read { .. } | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => !function_name.eq_ignore_ascii_case("load_extension"),
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            match pragma_value {
                None => matches!(name.as_str(), "user_version" | "application_id" | "schema_version"),
                Some(_) => matches!(name.as_str(), "table_info" | "table_xinfo"),
            }
        }
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

/// A private copy, gone when it is dropped.
struct Copy {
    folder: PathBuf,
}

impl Copy {
    fn database(&self) -> PathBuf {
        self.folder.join("copy.db")
    }

    fn of(path: &Path, lie: &Lie) -> Result<Self, Unread> {
        if lie.bytes() > MAX_COPY_BYTES {
            return Err(Unread::blind(
                "too_large_to_copy",
                clean!(
                    "{} can't be read as it lies (its last changes are still in the file beside it), and {} MiB are too much to copy",
                    shown(path),
                    lie.bytes() / (1024 * 1024)
                ),
            ));
        }
        let copy = Self { folder: Self::folder().map_err(|error| not_copied(path, &error))? };
        put(path, &copy.database(), MAX_COPY_BYTES)?;
        for (suffix, there) in [("-wal", &lie.wal), ("-journal", &lie.journal)] {
            if there.is_some() {
                put(&beside(path, suffix), &beside(&copy.database(), suffix), MAX_COPY_BYTES)?;
            }
        }
        Ok(copy)
    }

    /// A new folder that nobody else can enter. What killed processes left of theirs goes away.
    fn folder() -> std::io::Result<PathBuf> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut failed = None;
        for base in COPY_FOLDERS {
            let name = format!("{COPY_PREFIX}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let folder = Path::new(base).join(name);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {
                    sweep(Path::new(base), &folder);
                    return Ok(folder);
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or_else(|| std::io::ErrorKind::NotFound.into()))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What can't be removed now is swept by a later copy.
        let _left = std::fs::remove_dir_all(&self.folder);
    }
}

/// Removes copies of this user's that are older than any look can be. `ours` was made just now.
fn sweep(base: &Path, ours: &Path) {
    let Ok(now) = std::fs::symlink_metadata(ours) else { return };
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(COPY_PREFIX) {
            continue;
        }
        let Ok(meta) = entry.metadata() else { continue };
        let age = now.mtime().saturating_sub(meta.mtime());
        if meta.is_dir() && meta.uid() == now.uid() && age > LEFT_OVER.as_secs().cast_signed() {
            let _left = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn not_copied(path: &Path, error: &std::io::Error) -> Unread {
    Unread::ours("copy_failed", clean!("{} can't be copied: {}", shown(path), files::plain(error)))
}

/// Copies at most `most` bytes; a file that grew beyond them meanwhile was written, and the copy is not used.
fn put(from: &Path, to: &Path, most: u64) -> Result<(), Unread> {
    let mut source = files::open(from)?.take(most);
    let mut target = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(|error| not_copied(from, &error))?;
    std::io::copy(&mut source, &mut target).and_then(|_| target.flush()).map_err(|error| not_copied(from, &error))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::facts::Blame;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn count(path: &Path) -> Result<i64, Unread> {
        ask(path, "SELECT count(*) FROM t")
    }

    fn ask(path: &Path, query: &str) -> Result<i64, Unread> {
        read(path, None, soon(), |conn| {
            conn.query_row(query, [], |row| row.get(0)).map_err(|error| unread(path, &error))
        })
    }

    fn code<T: std::fmt::Debug>(answer: Result<T, Unread>) -> String {
        answer.unwrap_err().code.to_string()
    }

    /// A database with three rows, its owner still there.
    fn owned(path: &Path, journal_mode: &str) -> Connection {
        let conn = Connection::open(path).unwrap();
        conn.pragma_update(None, "journal_mode", journal_mode).unwrap();
        conn.execute_batch(
            "CREATE TABLE t (x TEXT); INSERT INTO t VALUES ('a'), ('b'), ('c'); PRAGMA user_version = 7;",
        )
        .unwrap();
        conn
    }

    /// A folder's files and the folder itself: bytes, when they were written.
    fn listing(folder: &Path) -> BTreeMap<String, (u64, i64, i64)> {
        let entry = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec());
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
        files
            .map(|file| (file.file_name().to_string_lossy().into_owned(), entry(&file.metadata().unwrap())))
            .chain([(".".to_owned(), entry(&std::fs::metadata(folder).unwrap()))])
            .collect()
    }

    /// Copies that are there now go away: other tests make theirs at the same time.
    fn no_copy_stays() {
        let (there, patience) = (copies(), soon());
        while there.iter().any(|copy| copy.exists()) {
            assert!(Instant::now() < patience, "{there:?}");
            std::thread::yield_now();
        }
    }

    /// Copies that this process has lying about.
    fn copies() -> Vec<PathBuf> {
        let mine = format!("{COPY_PREFIX}{}-", std::process::id());
        COPY_FOLDERS
            .iter()
            .flat_map(|base| std::fs::read_dir(base).into_iter().flatten().flatten())
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&mine))
            .map(|entry| entry.path())
            .collect()
    }

    #[test]
    fn a_live_log_is_read_beside_its_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let mut owner = owned(&path, "wal");
        let before = listing(dir.path());
        assert_eq!(count(&path), Ok(3), "what stands in the log alone counts");
        let open = owner.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        open.execute("INSERT INTO t VALUES ('d')", []).unwrap();
        assert_eq!(count(&path), Ok(3), "what is not committed does not");
        open.commit().unwrap();
        assert_eq!(count(&path), Ok(4));
        let after = listing(dir.path());
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        assert_eq!((&before["."], &before["a.db"]), (&after["."], &after["a.db"]));
        // While a look is under way the owner writes and takes its log in.
        read(&path, None, soon(), |theirs| {
            owner.execute("INSERT INTO t VALUES ('e')", []).unwrap();
            owner.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())).unwrap();
            let seen: i64 = theirs.query_row("SELECT count(*) FROM t", [], |row| row.get(0)).unwrap();
            assert_eq!(seen, 4, "one look sees one state");
            Ok(())
        })
        .unwrap();
        assert_eq!(count(&path), Ok(5));
        drop(owner);
        assert_eq!(listing(dir.path()).keys().collect::<Vec<_>>(), [".", "a.db"], "its owner could tidy up as ever");
    }

    #[test]
    fn a_file_at_rest_is_left_as_it_lies() {
        for mode in ["wal", "delete", "truncate", "persist"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a b#?%.db");
            drop(owned(&path, mode));
            let before = listing(dir.path());
            assert_eq!(count(&path), Ok(3), "{mode}");
            let linked = tempfile::tempdir().unwrap();
            symlink(&path, linked.path().join("link.db")).unwrap();
            assert_eq!(count(&linked.path().join("link.db")), Ok(3), "{mode}");
            assert_eq!(listing(dir.path()), before, "{mode}");
            assert_eq!(listing(linked.path()).len(), 2, "{mode}");
        }
    }

    #[test]
    fn a_write_under_way_or_broken_off_counts_as_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let owner = owned(&path, "delete");
        let fill = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
                    INSERT INTO t SELECT 'old' || hex(randomblob(100)) FROM n";
        owner.execute_batch(fill).unwrap();
        // A small cache, so that the change goes to the file before it is committed.
        owner.execute_batch("PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE").unwrap();
        owner.execute_batch("UPDATE t SET x = 'new' || substr(x, 4) WHERE x LIKE 'old%'").unwrap();
        let bytes = files::read(&path, 1 << 22).unwrap().0;
        assert!(bytes.windows(4).any(|window| window == b"newA"), "it is in the file already");
        let count = |path: &Path| ask(path, "SELECT count(*) FROM t WHERE x NOT LIKE 'new%'");
        let before = listing(dir.path());
        assert_eq!(count(&path), Ok(5_003));
        assert_eq!(listing(dir.path()), before);
        // As after a crash: the two files without anybody who holds them.
        let crashed = tempfile::tempdir().unwrap();
        for name in ["a.db", "a.db-journal"] {
            std::fs::copy(dir.path().join(name), crashed.path().join(name)).unwrap();
        }
        owner.execute_batch("COMMIT").unwrap();
        assert_eq!(count(&path), Ok(3));
        let before = listing(crashed.path());
        assert_eq!(count(&crashed.path().join("a.db")), Ok(5_003));
        assert_eq!(listing(crashed.path()), before, "putting it in order is left to its owner");
        no_copy_stays();
    }

    #[test]
    fn a_log_without_its_shared_memory_is_copied_or_too_large() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let owner = owned(&path, "wal");
        let crashed = tempfile::tempdir().unwrap();
        let left = crashed.path().join("a.db");
        for suffix in ["", "-wal"] {
            std::fs::copy(beside(&path, suffix), beside(&left, suffix)).unwrap();
        }
        let before = listing(crashed.path());
        assert_eq!(count(&left), Ok(3), "the rows stand in the log alone");
        assert_eq!(listing(crashed.path()), before);
        no_copy_stays();
        std::fs::OpenOptions::new().write(true).open(beside(&left, "-wal")).unwrap().set_len(MAX_COPY_BYTES).unwrap();
        let refused = count(&left).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.blame), ("too_large_to_copy", Blame::Blind));
        // Shared memory that a crash left is as good as none, and is not written.
        std::fs::copy(beside(&path, "-wal"), beside(&left, "-wal")).unwrap();
        std::fs::copy(beside(&path, "-shm"), beside(&left, "-shm")).unwrap();
        drop(owner);
        let before = listing(crashed.path());
        assert_eq!(count(&left), Ok(3));
        assert_eq!(listing(crashed.path()), before);
    }

    #[test]
    fn an_owner_who_shares_with_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let owner = Connection::open(&path).unwrap();
        owner.execute_batch("PRAGMA locking_mode = exclusive; PRAGMA journal_mode = wal; CREATE TABLE t (x)").unwrap();
        assert!(!beside(&path, "-shm").exists());
        let before = listing(dir.path());
        assert_eq!(count(&path), Ok(0));
        assert_eq!(listing(dir.path()), before);
        owner.execute("INSERT INTO t VALUES (1)", []).unwrap();
        assert_eq!(count(&path), Ok(1));
    }

    /// Runs it as somebody who may read and nothing else, where this is root.
    fn as_another<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    #[expect(unsafe_code, reason = "what files this thread may touch; a test's own thread")]
                    // SAFETY: it changes this thread's rights to files and nothing else.
                    unsafe {
                        libc::setfsgid(65_534);
                        libc::setfsuid(65_534);
                    }
                    work()
                })
                .join()
                .unwrap()
        })
    }

    fn modes(folder: &Path, of_folder: u32, files: &[(&str, u32)]) {
        for (suffix, mode) in files {
            let file = beside(&folder.join("a.db"), suffix);
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(*mode)).unwrap();
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(of_folder)).unwrap();
    }

    #[test]
    fn somebody_who_may_only_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let owner = owned(&path, "wal");
        let look = || as_another(|| count(&path));
        for (of_files, expected) in [
            ([("", 0o444), ("-wal", 0o444), ("-shm", 0o444)], Ok(3)),
            // Without the shared memory it is the copy that is read.
            ([("", 0o444), ("-wal", 0o444), ("-shm", 0o000)], Ok(3)),
            ([("", 0o444), ("-wal", 0o000), ("-shm", 0o444)], Err("permission_denied")),
        ] {
            modes(dir.path(), 0o555, &of_files);
            let before = listing(dir.path());
            let answer = look().map_err(|unread| unread.code.to_string());
            assert_eq!(answer, expected.map_err(str::to_owned), "{of_files:?}");
            assert_eq!(listing(dir.path()), before, "{of_files:?}");
        }
        modes(dir.path(), 0o755, &[("", 0o644), ("-wal", 0o644), ("-shm", 0o644)]);
        drop(owner);
        modes(dir.path(), 0o555, &[("", 0o444)]);
        assert_eq!(look(), Ok(3), "at rest");
        modes(dir.path(), 0o555, &[("", 0o000)]);
        assert_eq!(code(look()), "permission_denied");
        modes(dir.path(), 0o700, &[("", 0o644)]);
    }

    #[test]
    fn what_is_written_in_the_middle_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(owned(&path, "delete"));
        let mut writes = 1;
        let look = |writes: &mut i32| {
            read(&path, None, soon(), |conn| {
                if *writes > 0 {
                    *writes -= 1;
                    Connection::open(&path).unwrap().execute("INSERT INTO t VALUES ('x')", []).unwrap();
                }
                conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
                    .map_err(|error| unread(&path, &error))
            })
        };
        assert_eq!(look(&mut writes), Ok(4));
        let changing = look(&mut 2).unwrap_err();
        assert_eq!((changing.code.as_str(), changing.blame), ("changed_while_read", Blame::Target));
    }

    #[test]
    fn what_is_no_database_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink(at("loop"), at("loop")).unwrap();
        symlink(at("gone"), at("dangling")).unwrap();
        files::replace(&at("text"), &b"not a database, though long enough. ".repeat(100), 0o600).unwrap();
        files::replace(&at("short"), b"abc", 0o600).unwrap();
        files::replace(&at("empty"), b"", 0o600).unwrap();
        for (name, expected) in [
            ("fifo", "not_a_file"),
            ("", "not_a_file"),
            ("loop", "unreadable"),
            ("dangling", "missing"),
            ("none", "missing"),
            ("text/x", "missing"),
            ("text", "not_a_database"),
            ("short", "not_a_database"),
            // Nothing in it yet: a database without tables.
            ("empty", "schema_unknown"),
        ] {
            assert_eq!(code(count(&at(name))), expected, "{name}");
        }
        assert_eq!(code(count(Path::new("/dev/zero"))), "not_a_file");
        let names = listing(dir.path());
        assert_eq!(names.len(), 7, "{names:?}");
    }

    #[test]
    fn damage_is_told_from_what_is_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let owner = owned(&path, "delete");
        owner.execute_batch("INSERT INTO t SELECT hex(zeroblob(3000)) FROM t, t, t").unwrap();
        drop(owner);
        let mut bytes = files::read(&path, 1 << 20).unwrap().0;
        bytes[4_096..].fill(0x5a);
        files::replace(&path, &bytes, 0o600).unwrap();
        let damaged = ask(&path, "SELECT sum(length(x)) FROM t").unwrap_err();
        assert_eq!((damaged.code.as_str(), damaged.blame), ("damaged", Blame::Target), "{damaged:?}");
        // Cut in the middle of a page.
        bytes.truncate(6_000);
        files::replace(&path, &bytes, 0o600).unwrap();
        assert_eq!(code(ask(&path, "SELECT sum(length(x)) FROM t")), "damaged");
    }

    #[test]
    fn only_the_known_schema_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let _owner = owned(&path, "wal");
        let look = |known| read(&path, Some(&known), soon(), |_| Ok(()));
        assert_eq!(look(5..=7), Ok(()));
        for (known, words) in [(1..=6, "1 to 6"), (8..=8, "8")] {
            let refused = look(known).unwrap_err();
            assert_eq!((refused.code.as_str(), refused.blame), ("schema_unknown", Blame::Blind));
            let said = refused.said.as_str();
            assert!(said.ends_with(&format!("has the schema version 7, known is {words}")), "{said}");
        }
        assert_eq!(code(ask(&path, "SELECT y FROM t")), "schema_unknown");
        assert_eq!(code(ask(&path, "SELECT x FROM other")), "schema_unknown");
        assert_eq!(code(ask(&path, "SELECT x FROM t")), "schema_unknown", "a text where a number is known");
        assert_eq!(code(ask(&path, "SELEC 1")), "query_failed");
        assert_eq!(ask(&path, "SELECT count(*) FROM pragma_table_info('t')"), Ok(1));
    }

    #[test]
    fn a_query_can_only_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(owned(&path, "delete"));
        let before = listing(dir.path());
        let other = dir.path().join("other.db");
        for query in [
            "DELETE FROM t RETURNING 1".to_owned(),
            "CREATE TABLE u (x)".to_owned(),
            "PRAGMA user_version = 9".to_owned(),
            "PRAGMA query_only = off".to_owned(),
            "PRAGMA journal_mode = wal".to_owned(),
            "VACUUM".to_owned(),
            "COMMIT".to_owned(),
            format!("ATTACH '{}' AS o", other.display()),
            format!("VACUUM INTO '{}'", other.display()),
            "SELECT load_extension('x')".to_owned(),
        ] {
            let refused = ask(&path, &query).unwrap_err();
            assert!(["query_refused", "query_failed"].contains(&refused.code.as_str()), "{query}: {refused:?}");
        }
        assert_eq!(code(ask(&path, "SELECT length(zeroblob(20000000))")), "query_failed");
        assert_eq!(listing(dir.path()), before);
    }

    #[test]
    fn nothing_goes_on_beyond_the_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        drop(owned(&path, "delete"));
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
        let within = Instant::now() + Duration::from_millis(50);
        let late = read(&path, None, within, |conn| {
            conn.query_row(endless, [], |row| row.get::<_, i64>(0)).map_err(|error| unread(&path, &error))
        });
        assert_eq!(code(late), "no_answer");
        // One look at a time, and the second one does not wait for ever.
        read(&path, None, soon(), |_| {
            let within = Instant::now() + Duration::from_millis(50);
            assert_eq!(code(read(&path, None, within, |_| Ok(()))), "no_answer");
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_lock_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let owner = owned(&path, "wal");
        // The owner takes its database over for itself while the shared memory is still there.
        owner.execute_batch("PRAGMA locking_mode = exclusive; BEGIN EXCLUSIVE; INSERT INTO t VALUES ('d')").unwrap();
        let within = Instant::now() + Duration::from_millis(300);
        let answer = read(&path, None, within, |conn| {
            conn.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0))
                .map_err(|error| unread(&path, &error))
        });
        let locked = answer.unwrap_err();
        assert_eq!((locked.code.as_str(), locked.blame), ("locked", Blame::Target));
    }

    #[test]
    fn copies_of_the_killed_are_swept() {
        let base = tempfile::tempdir().unwrap();
        let old = base.path().join(format!("{COPY_PREFIX}1-0"));
        let fresh = base.path().join(format!("{COPY_PREFIX}1-1"));
        let ours = base.path().join(format!("{COPY_PREFIX}2-0"));
        let other = base.path().join("somebody-elses");
        for folder in [&old, &fresh, &ours, &other] {
            std::fs::create_dir(folder).unwrap();
        }
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for folder in [&old, &other] {
            std::fs::OpenOptions::new().read(true).open(folder).unwrap().set_modified(long_ago).unwrap();
        }
        sweep(base.path(), &ours);
        assert_eq!([&old, &fresh, &ours, &other].map(|folder| folder.exists()), [false, true, true, true]);
    }
}
