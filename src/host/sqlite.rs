//! SQLite files of our own: made private, held to one application and one schema, every trouble put in words with the
//! way out. Which tables there are is left to the owner of the migrations. Blocking: call on a lane.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

/// How long a write waits for another process's transaction.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// What a write-ahead log is cut down to when it was written back.
const WAL_BYTES: i64 = 16 * 1024 * 1024;

/// What a file must be.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Marks the file as ours: `PRAGMA application_id`.
    pub application_id: i32,
    /// The steps from an empty file; `PRAGMA user_version` counts those that were taken.
    pub migrations: &'static [&'static str],
}

impl Schema {
    /// The version that this build writes.
    #[must_use]
    pub fn version(&self) -> i64 {
        i64::try_from(self.migrations.len()).unwrap_or(i64::MAX)
    }
}

/// Why a database can't be used, told apart by who must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// A later version wrote it.
    #[error(
        "`{}` was written by a newer pulsecheck (schema {found}, this one knows {known}): upgrade, or move the file away",
        path.display()
    )]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest that this build knows.
        known: i64,
    },
    /// An earlier version wrote it, and it was opened only to be read.
    #[error(
        "`{}` was written by an older pulsecheck (schema {found}, this one reads {known}): `pulsecheck run` brings it up to date",
        path.display()
    )]
    OlderSchema {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The one that this build reads.
        known: i64,
    },
    /// It is another application's.
    #[error("`{}` is a database of another application: give pulsecheck a state folder of its own", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// There is no such file yet.
    #[error("`{}` does not exist: `pulsecheck run` begins it", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The folder or the file may not be written.
    #[error(
        "`{}` can't be written: make its folder writable for the user that runs pulsecheck, or name another state folder",
        path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// Other users could exchange the file.
    #[error(
        "the state folder `{}` can be changed by other users (mode {mode:04o}, owner {uid}): make it your own and `chmod 700` it",
        path.display()
    )]
    Exposed {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        uid: u32,
    },
    /// There is no room, or the disk refuses.
    #[error("`{}` can't take more: {detail} (free some space on its disk)", path.display())]
    NoSpace {
        /// The file.
        path: PathBuf,
        /// What was refused.
        detail: String,
    },
    /// Another process writes for longer than we wait.
    #[error("`{}` is locked{}: try again when it is done", path.display(), by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default())]
    Locked {
        /// The file.
        path: PathBuf,
        /// Who holds it, where that is known.
        by: Option<String>,
    },
    /// Locks and shared memory do not work there.
    #[error(
        "`{}` lies on a file system where a database is not safe ({what}), such as a network file system: name a state folder on a local disk",
        path.display()
    )]
    NetworkFs {
        /// The file.
        path: PathBuf,
        /// The file system, or what it answered.
        what: String,
    },
    /// Its content is damaged.
    #[error("`{}` is damaged: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Anything else.
    #[error("`{}`: {detail}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What SQLite or the system said.
        detail: String,
    },
}

/// Opens a database of ours for writing, making the folder (0700) and the file (0600) where they are missing, and takes
/// the missing steps of its schema in one transaction.
pub fn open(path: &Path, schema: &Schema) -> Result<Connection, Trouble> {
    let folder = folder_of(path);
    prepare_folder(folder)?;
    refuse_network(path, folder)?;
    let conn = {
        // Closing a descriptor drops every lock that this process has on the file. So a file that exists is never opened
        // but by SQLite, and a new one is made while no other thread opens it.
        static OPENING: Mutex<()> = Mutex::new(());
        let _one = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        prepare_file(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags).map_err(|error| trouble(path, &error))?
    };
    settle(&conn).map_err(|error| trouble(path, &error))?;
    claim(&conn, path, schema)?;
    let mode: String = conn
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(|error| trouble(path, &error))?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(Trouble::NetworkFs { path: path.to_owned(), what: format!("journal mode `{mode}` and not `wal`") });
    }
    migrate(conn, path, schema)
}

/// Opens a database of ours to read it. Nothing in it is changed; where the folder can't be written or its disk is full, the
/// file is read as it lies.
pub fn open_read_only(path: &Path, schema: &Schema) -> Result<Connection, Trouble> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Trouble::Missing { path: path.to_owned() }),
        Err(error) => return Err(trouble_io(path, &error)),
        // SQLite would wait for a FIFO's writer without end.
        Ok(meta) if !meta.is_file() => {
            return Err(Trouble::Other { path: path.to_owned(), detail: "not a regular file".to_owned() });
        }
        Ok(_) => {}
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let as_usual = Connection::open_with_flags(path, flags).map_err(|error| trouble(path, &error)).and_then(|conn| {
        settle(&conn).and_then(|()| identity(&conn)).map_err(|error| trouble(path, &error)).map(|seen| (conn, seen))
    });
    let (conn, seen) = match as_usual {
        // Without a shared memory file a reader has to make one. Where it may not or has no room to, and no log waits, the
        // file is all.
        Err(first @ (Trouble::ReadOnly { .. } | Trouble::NoSpace { .. } | Trouble::Other { .. })) => {
            if !log_is_empty(path) {
                return Err(first);
            }
            let uri = format!("file:{}?immutable=1", percent(path));
            let conn =
                Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).map_err(|_| first.clone())?;
            let seen = identity(&conn).map_err(|_| first)?;
            (conn, seen)
        }
        other => other?,
    };
    if seen.application_id != schema.application_id {
        return Err(if seen.empty() {
            Trouble::Missing { path: path.to_owned() }
        } else {
            Trouble::NotOurs { path: path.to_owned() }
        });
    }
    let (found, known) = (seen.version, schema.version());
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(conn),
        std::cmp::Ordering::Greater => Err(Trouble::NewerSchema { path: path.to_owned(), found, known }),
        std::cmp::Ordering::Less => Err(Trouble::OlderSchema { path: path.to_owned(), found, known }),
    }
}

/// Whether the pages hang together: `PRAGMA quick_check(1)`. Reads the whole file.
pub fn quick_check(conn: &Connection, path: &Path) -> Result<(), Trouble> {
    let said: String =
        conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| trouble(path, &error))?;
    if said == "ok" { Ok(()) } else { Err(Trouble::Corrupt { path: path.to_owned(), detail: one_line(&said) }) }
}

/// What an error of SQLite's means for this file.
#[must_use]
pub fn trouble(path: &Path, error: &rusqlite::Error) -> Trouble {
    let detail = one_line(&error.to_string());
    let path = path.to_owned();
    let Some(known) = error.sqlite_error() else {
        return Trouble::Other { path, detail };
    };
    match (known.code, known.extended_code) {
        (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed, _) => {
            Trouble::Locked { path, by: None }
        }
        (ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _) => Trouble::Corrupt { path, detail },
        // SQLite says "full" for ENOSPC alone; a quota, a failing disk and a log's shared memory come as the others.
        (ErrorCode::DiskFull, _)
        | (
            _,
            ffi::SQLITE_IOERR_WRITE
            | ffi::SQLITE_IOERR_FSYNC
            | ffi::SQLITE_IOERR_DIR_FSYNC
            | ffi::SQLITE_IOERR_TRUNCATE
            | ffi::SQLITE_IOERR_SHMSIZE,
        ) => Trouble::NoSpace { path, detail },
        (ErrorCode::ReadOnly | ErrorCode::PermissionDenied, _) => Trouble::ReadOnly { path },
        (ErrorCode::CannotOpen, _) if !writable(folder_of(&path)) => Trouble::ReadOnly { path },
        _ => Trouble::Other { path, detail },
    }
}

/// What an error of the system means for this file.
#[must_use]
pub fn trouble_io(path: &Path, error: &std::io::Error) -> Trouble {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Trouble::ReadOnly { path },
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Trouble::NoSpace { path, detail: error.to_string() },
        _ => Trouble::Other { path, detail: error.to_string() },
    }
}

/// SQLite quotes what it found in damaged files: no control characters, no endless lines.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn writable(folder: &Path) -> bool {
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

fn prepare_folder(folder: &Path) -> Result<(), Trouble> {
    let folders = folder.parent().map_or(Ok(()), std::fs::create_dir_all);
    let folders = folders.and_then(|()| match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    let meta = folders.and_then(|()| std::fs::metadata(folder)).map_err(|error| trouble_io(folder, &error))?;
    if !meta.is_dir() {
        return Err(Trouble::Other { path: folder.to_owned(), detail: "not a folder".to_owned() });
    }
    let (mode, uid) = (meta.mode() & 0o7777, meta.uid());
    let ours = uid == rustix::process::geteuid().as_raw() || uid == 0;
    if !ours || mode & 0o022 != 0 {
        return Err(Trouble::Exposed { path: folder.to_owned(), mode, uid });
    }
    Ok(())
}

/// The file itself, private before SQLite writes into it; `-wal` and `-shm` take its mode over.
fn prepare_file(path: &Path) -> Result<(), Trouble> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(trouble_io(path, &error)),
    }
    let meta = std::fs::metadata(path).map_err(|error| trouble_io(path, &error))?;
    if !meta.is_file() {
        return Err(Trouble::Other { path: path.to_owned(), detail: "not a regular file".to_owned() });
    }
    if meta.mode() & 0o077 != 0 {
        for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
            match std::fs::set_permissions(&file, Permissions::from_mode(0o600)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(trouble_io(&file, &error)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// The path of a file beside the database, by what its name adds (`-wal`, `-shm`).
#[must_use]
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Numbers from `linux/magic.h` and the file systems' own sources.
const NETWORK: &[(u32, &str)] = &[
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb2"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x5346_414f, "afs"),
    (0x7375_7245, "coda"),
    (0x564c, "ncp"),
    (0x0bd0_0bd0, "lustre"),
];

fn refuse_network(path: &Path, folder: &Path) -> Result<(), Trouble> {
    // A file system that does not say what it is is left to what the journal mode answers.
    let Ok(stat) = rustix::fs::statfs(folder) else { return Ok(()) };
    match network(stat.f_type) {
        Some(what) => Err(Trouble::NetworkFs { path: path.to_owned(), what: what.to_owned() }),
        None => Ok(()),
    }
}

/// The type is a signed word on some machines and an unsigned one on others; its lower half is the number.
fn network(kind: impl TryInto<i128>) -> Option<&'static str> {
    let kind: i128 = kind.try_into().ok()? & 0xffff_ffff;
    NETWORK.iter().find(|(number, _)| i128::from(*number) == kind).map(|(_, name)| *name)
}

fn settle(conn: &Connection) -> rusqlite::Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "trusted_schema", false)?;
    conn.pragma_update(None, "cell_size_check", true)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES, |_| Ok(()))
}

struct Identity {
    application_id: i32,
    version: i64,
    tables: i64,
}

impl Identity {
    fn empty(&self) -> bool {
        self.application_id == 0 && self.version == 0 && self.tables == 0
    }
}

fn identity(conn: &Connection) -> rusqlite::Result<Identity> {
    Ok(Identity {
        application_id: conn.query_row("PRAGMA application_id", [], |row| row.get(0))?,
        version: conn.query_row("PRAGMA user_version", [], |row| row.get(0))?,
        tables: conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    })
}

/// Marks an empty file as ours; refuses one that is somebody else's, before anything in it is changed.
fn claim(conn: &Connection, path: &Path, schema: &Schema) -> Result<(), Trouble> {
    let said = |error: rusqlite::Error| trouble(path, &error);
    let seen = identity(conn).map_err(said)?;
    if seen.application_id == schema.application_id {
        return Ok(());
    }
    if !seen.empty() {
        return Err(Trouble::NotOurs { path: path.to_owned() });
    }
    // Only an empty file can still be told to give pages back. Another process may begin the same file at this moment:
    // whoever is second writes the same.
    conn.pragma_update(None, "auto_vacuum", "incremental").map_err(said)?;
    conn.pragma_update(None, "application_id", schema.application_id).map_err(said)
}

fn migrate(mut conn: Connection, path: &Path, schema: &Schema) -> Result<Connection, Trouble> {
    let said = |error: rusqlite::Error| trouble(path, &error);
    let known = schema.version();
    let found = identity(&conn).map_err(said)?.version;
    if found > known {
        return Err(Trouble::NewerSchema { path: path.to_owned(), found, known });
    }
    if found < known {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(said)?;
        // Read again: another process may have been first.
        let found = identity(&tx).map_err(said)?.version;
        let taken = usize::try_from(found).unwrap_or(usize::MAX);
        for step in schema.migrations.iter().skip(taken) {
            tx.execute_batch(step).map_err(said)?;
        }
        tx.pragma_update(None, "user_version", known.max(found)).map_err(said)?;
        tx.commit().map_err(said)?;
        if found > known {
            return Err(Trouble::NewerSchema { path: path.to_owned(), found, known });
        }
    }
    Ok(conn)
}

fn log_is_empty(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).map_or(true, |meta| meta.len() == 0)
}

/// A path as the part of a URI that SQLite opens.
pub(super) fn percent(path: &Path) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes().iter().fold(String::new(), |mut uri, &byte| {
        if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
        uri
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Schema = Schema { application_id: 0x7465_7374, migrations: &["CREATE TABLE a (x TEXT) STRICT;"] };
    const TWO: Schema = Schema {
        migrations: &["CREATE TABLE a (x TEXT) STRICT;", "ALTER TABLE a ADD COLUMN y TEXT NOT NULL DEFAULT 'new';"],
        ..ONE
    };

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o7777
    }

    fn pragma(conn: &Connection, name: &str) -> String {
        conn.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, rusqlite::types::Value>(0))
            .map(|value| match value {
                rusqlite::types::Value::Integer(n) => n.to_string(),
                rusqlite::types::Value::Text(text) => text,
                other => format!("{other:?}"),
            })
            .unwrap()
    }

    #[test]
    fn a_new_file_is_private_marked_and_set_up_before_its_first_table() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/state.db");
        let conn = open(&path, &ONE).unwrap();
        conn.execute("INSERT INTO a VALUES ('one')", []).unwrap();
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        for file in [path.clone(), beside(&path, "-wal"), beside(&path, "-shm")] {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        for (name, value) in [
            ("application_id", "1952805748"),
            ("user_version", "1"),
            ("auto_vacuum", "2"),
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("foreign_keys", "1"),
            ("trusted_schema", "0"),
            ("cell_size_check", "1"),
            ("busy_timeout", "5000"),
        ] {
            assert_eq!(pragma(&conn, name), value, "{name}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_made_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        drop(open(&path, &ONE).unwrap());
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        drop(open(&path, &ONE).unwrap());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn the_schema_moves_on_and_never_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let conn = open(&path, &ONE).unwrap();
        conn.execute("INSERT INTO a VALUES ('one')", []).unwrap();
        drop(conn);
        assert_eq!(
            open_read_only(&path, &TWO).unwrap_err(),
            Trouble::OlderSchema { path: path.clone(), found: 1, known: 2 }
        );
        let conn = open(&path, &TWO).unwrap();
        let row: (String, String) =
            conn.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(row, ("one".to_owned(), "new".to_owned()));
        drop(conn);
        for refused in [open(&path, &ONE).unwrap_err(), open_read_only(&path, &ONE).unwrap_err()] {
            assert_eq!(
                refused.to_string(),
                format!(
                    "`{}` was written by a newer pulsecheck (schema 2, this one knows 1): upgrade, or move the file away",
                    path.display()
                )
            );
        }
    }

    #[test]
    fn a_migration_that_fails_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        drop(open(&path, &ONE).unwrap());
        let broken = Schema { migrations: &["", "CREATE TABLE b (x TEXT); CREATE TABLE a (x TEXT);"], ..ONE };
        let refused = open(&path, &broken).unwrap_err();
        assert!(matches!(&refused, Trouble::Other { detail, .. } if detail.contains("already exists")), "{refused}");
        let conn = open(&path, &ONE).unwrap();
        assert_eq!(identity(&conn).unwrap().tables, 1);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let theirs = Connection::open(&path).unwrap();
        theirs.execute_batch("PRAGMA auto_vacuum = full; CREATE TABLE t (x); PRAGMA user_version = 3;").unwrap();
        drop(theirs);
        let refused = open(&path, &ONE).unwrap_err();
        assert_eq!(refused, Trouble::NotOurs { path: path.clone() });
        assert_eq!(open_read_only(&path, &ONE).unwrap_err(), refused);
        let theirs = Connection::open(&path).unwrap();
        assert_eq!(
            [pragma(&theirs, "auto_vacuum"), pragma(&theirs, "journal_mode"), pragma(&theirs, "user_version")],
            ["1", "delete", "3"]
        );
    }

    #[test]
    fn paths_that_hold_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("none.db");
        assert_eq!(open_read_only(&missing, &ONE).unwrap_err(), Trouble::Missing { path: missing });
        let folder = dir.path().join("folder.db");
        std::fs::create_dir(&folder).unwrap();
        let refused = open(&folder, &ONE).unwrap_err().to_string();
        assert!(refused.ends_with("not a regular file"), "{refused}");
        let garbage = dir.path().join("garbage.db");
        std::fs::File::create(&garbage).and_then(|mut f| std::io::Write::write_all(&mut f, &[b'x'; 9000])).unwrap();
        let refused = open(&garbage, &ONE).unwrap_err();
        assert!(matches!(&refused, Trouble::Corrupt { .. }), "{refused}");
        let file_as_folder = garbage.join("state.db");
        assert!(matches!(open(&file_as_folder, &ONE).unwrap_err(), Trouble::Other { .. }));
    }

    #[test]
    fn a_folder_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("open");
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, Permissions::from_mode(0o770)).unwrap();
        let refused = open(&folder.join("state.db"), &ONE).unwrap_err();
        assert!(matches!(refused, Trouble::Exposed { mode: 0o770, .. }), "{refused}");
        assert!(!folder.join("state.db").exists());
    }

    #[test]
    fn a_full_disk_a_lock_and_a_read_only_file_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.db");
        let conn = open(&path, &ONE).unwrap();
        let pages: i64 = conn.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
        let full = conn.execute("INSERT INTO a VALUES (hex(zeroblob(20000)))", []).unwrap_err();
        assert!(matches!(trouble(&path, &full), Trouble::NoSpace { .. }), "{full}");

        let other = open(&path, &ONE).unwrap();
        other.busy_timeout(Duration::ZERO).unwrap();
        conn.execute_batch("BEGIN IMMEDIATE").unwrap();
        let locked = other.execute("INSERT INTO a VALUES ('x')", []).unwrap_err();
        let locked = trouble(&path, &locked);
        assert_eq!(locked, Trouble::Locked { path: path.clone(), by: None });
        assert!(locked.to_string().ends_with("is locked: try again when it is done"));

        let reader = open_read_only(&path, &ONE).unwrap();
        let read_only = reader.execute("INSERT INTO a VALUES ('x')", []).unwrap_err();
        assert_eq!(trouble(&path, &read_only), Trouble::ReadOnly { path: path.clone() });
    }

    #[test]
    fn network_file_systems_are_known_by_their_number() {
        assert_eq!(network(0x6969_i64), Some("nfs"));
        assert_eq!(network(i64::from(0xff53_4d42_u32.cast_signed())), Some("cifs"), "a signed word");
        assert_eq!(network(0xef53_i64), None, "ext4");
    }

    #[test]
    fn an_address_keeps_every_byte_of_a_path() {
        assert_eq!(percent(Path::new("/a b/ä?#%.db")), "/a%20b/%C3%A4%3F%23%25.db");
    }
}
