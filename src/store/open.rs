//! Opening `state.db`: a damaged one is set aside, and what people and checks left in it comes back from the daily copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, params};

use super::{Error, Reader, SCHEMA, Store, meta, moment, ms, set_meta};
use crate::host::sqlite::{self, Trouble, beside, trouble, trouble_io};

/// How often the whole file is checked, and how often the small tables are copied.
const DAILY: SignedDuration = SignedDuration::from_hours(24);
/// Damaged files that are kept.
const KEPT_ASIDE: usize = 3;

/// What the caller should say about the store, apart from its being open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// The database was damaged: it was set aside and a new one begun.
    StartedAnew {
        /// Where the damaged file lies now.
        aside: PathBuf,
        /// What was found.
        why: String,
        /// From when the copy is that acks, silences, incidents and memory came back from; none: they are lost.
        restored: Option<Timestamp>,
    },
    /// A damaged copy was set aside as well.
    CopyUnusable {
        /// What was wrong with it.
        why: String,
    },
    /// The schema was brought up to date.
    Migrated {
        /// From this version.
        from: i64,
        /// To this one.
        to: i64,
    },
}

/// An open store and what happened on the way.
#[derive(Debug)]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What happened.
    pub events: Vec<StoreEvent>,
}

/// Where the database of a state folder lies.
#[must_use]
pub fn state_path(folder: &Path) -> PathBuf {
    folder.join("state.db")
}

/// Where its daily copy lies.
#[must_use]
pub fn backup_path(folder: &Path) -> PathBuf {
    folder.join("state.backup.db")
}

impl Store {
    /// Opens `state.db` in a state folder, beginning it where there is none. Once a day the whole file is checked.
    pub fn open(folder: &Path, now: Timestamp) -> Result<Opened, Error> {
        let path = state_path(folder);
        match open_checked(&path, now) {
            Ok(store) => Ok(Opened { store, events: Vec::new() }),
            Err(Trouble::Corrupt { .. }) => begin_anew(folder, now, None),
            Err(other) => Err(other.into()),
        }
    }

    /// Sets a database aside in which damage was met while working ([`Trouble::Corrupt`]), and begins a new one.
    pub fn replace(self, folder: &Path, found: &Trouble, now: Timestamp) -> Result<Opened, Error> {
        let inode = inode(&state_path(folder));
        drop(self);
        begin_anew(folder, now, Some((inode, found.to_string())))
    }

    /// Copies the small tables (standings, open incidents, silences, memory …) if that was not done for a day. They come
    /// back from there when `state.db` is damaged; a copy of all would write the whole history anew each day.
    pub fn backup_if_due(&mut self, folder: &Path, now: Timestamp) -> Result<bool, Error> {
        if !self.read(|conn| due(conn, "copied_ms", now))? {
            return Ok(false);
        }
        self.backup(folder, now)?;
        Ok(true)
    }

    /// Copies the small tables now: written beside the last copy, which it then replaces.
    pub fn backup(&mut self, folder: &Path, now: Timestamp) -> Result<(), Error> {
        let target = backup_path(folder);
        let fresh = beside(&target, ".new");
        remove(&fresh).map_err(|error| trouble_io(&fresh, &error))?;
        let copy = sqlite::open(&fresh, &SCHEMA)?;
        let done = copy_small(&self.path, &copy, false).and_then(|()| set_meta(&copy, "copied_ms", ms(now)));
        done.map_err(|error| self.trouble(&error))?;
        copy.close().map_err(|(_, error)| trouble(&fresh, &error))?;
        std::fs::rename(&fresh, &target)
            .and_then(|()| sync_folder(folder))
            .map_err(|error| trouble_io(&target, &error))?;
        self.write(|tx| Ok(set_meta(tx, "copied_ms", ms(now))?))
    }
}

fn due(conn: &Connection, name: &str, now: Timestamp) -> rusqlite::Result<bool> {
    Ok(meta(conn, name)?.is_none_or(|last| {
        let age = now.duration_since(moment(last));
        age >= DAILY || age.is_negative()
    }))
}

fn open_checked(path: &Path, now: Timestamp) -> Result<Store, Trouble> {
    let conn = sqlite::open(path, &SCHEMA)?;
    let said = |error: rusqlite::Error| trouble(path, &error);
    if due(&conn, "checked_ms", now).map_err(said)? {
        sqlite::quick_check(&conn, path)?;
        match set_meta(&conn, "checked_ms", ms(now)).map_err(said) {
            Err(corrupt @ Trouble::Corrupt { .. }) => return Err(corrupt),
            // A full disk or a busy writer is no reason not to read: the check is made again the next time.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(Store(Reader { conn, path: path.to_owned() }))
}

/// Under a lock of its own, so that of two processes that meet the damage the second finds the new file and keeps it.
fn begin_anew(folder: &Path, now: Timestamp, met: Option<(Option<u64>, String)>) -> Result<Opened, Error> {
    let path = state_path(folder);
    let io = |error: io::Error| Error::from(trouble_io(&path, &error));
    let guard = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(beside(&path, ".lock"))
        .map_err(io)?;
    rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive).map_err(|error| io(error.into()))?;
    let why = match met {
        Some((before, why)) if before.is_some() && before == inode(&path) => why,
        _ => match open_checked(&path, now) {
            Err(Trouble::Corrupt { detail, .. }) => detail,
            Ok(store) => return Ok(Opened { store, events: Vec::new() }),
            Err(other) => return Err(other.into()),
        },
    };
    let aside = set_aside(&path, now).map_err(io)?;
    let mut store = open_checked(&path, now)?;
    let mut events = Vec::new();
    let restored = match restore(&mut store, folder) {
        Ok(from) => from,
        Err(bad) => {
            events.push(StoreEvent::CopyUnusable { why: bad.to_string() });
            set_aside(&backup_path(folder), now).map_err(io)?;
            None
        }
    };
    events.insert(0, StoreEvent::StartedAnew { aside, why, restored });
    Ok(Opened { store, events })
}

fn restore(store: &mut Store, folder: &Path) -> Result<Option<Timestamp>, Trouble> {
    let path = backup_path(folder);
    if !path.try_exists().map_err(|error| trouble_io(&path, &error))? {
        return Ok(None);
    }
    // Opened for writing, so that a copy made by an earlier version is brought up to date first.
    let copy = sqlite::open(&path, &SCHEMA)?;
    sqlite::quick_check(&copy, &path)?;
    let said = |error: rusqlite::Error| trouble(&path, &error);
    let from = meta(&copy, "copied_ms").map_err(said)?;
    copy_small(&path, &store.0.conn, true).map_err(said)?;
    Ok(from.map(moment))
}

/// What is worth having when all else is lost, and which rows of it. History is not.
const SMALL: &[(&str, &str)] = &[
    ("standing", "true"),
    ("memory", "true"),
    ("incidents", "closed_ms IS NULL"),
    ("silences", "ended_ms IS NULL"),
    ("deeds", "surfaced IS NULL"),
    // Which channels were told of what is still open decides who is told of its end.
    ("outbox", "incident IN (SELECT id FROM live.incidents WHERE closed_ms IS NULL)"),
    (
        "executions",
        "(SELECT count(*) FROM live.executions AS newer WHERE newer.job = executions.job
          AND newer.started_ms > executions.started_ms) < 25",
    ),
];

/// Copies the rows of [`SMALL`] from the file `from` into `to`, which has the same schema, all or nothing.
fn copy_small(from: &Path, to: &Connection, restoring: bool) -> rusqlite::Result<()> {
    let from = from.to_str().ok_or_else(|| rusqlite::Error::InvalidPath(from.to_owned()))?;
    to.execute("ATTACH ?1 AS live", [from])?;
    let copied = (|| {
        to.execute_batch("BEGIN IMMEDIATE")?;
        for (table, rows) in SMALL {
            to.execute_batch(&format!("INSERT INTO main.{table} SELECT * FROM live.{table} AS {table} WHERE {rows}"))?;
        }
        // The history that these point at stays behind.
        to.execute("UPDATE main.standing SET kept = NULL", params![])?;
        if restoring {
            // What was claimed by a process then is claimed by nobody now.
            to.execute("UPDATE main.outbox SET claimed_until_ms = NULL", params![])?;
        }
        to.execute_batch("COMMIT")
    })();
    if copied.is_err() && !to.is_autocommit() {
        to.execute_batch("ROLLBACK")?;
    }
    to.execute_batch("DETACH live")?;
    copied
}

/// Moves a damaged database and its log out of the way, under a name that opens them together.
fn set_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let aside = (0..100)
        .map(|n| if n == 0 { format!(".corrupt-{stamp}") } else { format!(".corrupt-{stamp}-{n}") })
        .map(|suffix| beside(path, &suffix))
        .find(|aside| !aside.exists())
        .ok_or(io::ErrorKind::AlreadyExists)?;
    std::fs::rename(path, &aside)?;
    match std::fs::rename(beside(path, "-wal"), beside(&aside, "-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    remove_one(&beside(path, "-shm"))?;
    if let Some(folder) = path.parent() {
        prune(folder, path)?;
        sync_folder(folder)?;
    }
    Ok(aside)
}

/// Keeps the newest damaged files; a disk that breaks every day must not be filled by them.
fn prune(folder: &Path, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let prefix = format!("{name}.corrupt-");
    let mut aside: Vec<String> = std::fs::read_dir(folder)?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with(&prefix) && !name.ends_with("-wal"))
        .collect();
    aside.sort();
    let old = aside.len().saturating_sub(KEPT_ASIDE);
    aside.iter().take(old).try_for_each(|name| remove(&folder.join(name)))
}

fn remove(path: &Path) -> io::Result<()> {
    ["", "-wal", "-shm"].iter().try_for_each(|suffix| remove_one(&beside(path, suffix)))
}

fn remove_one(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn inode(path: &Path) -> Option<u64> {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).ok()?).into()
}

#[expect(clippy::disallowed_methods, reason = "a folder of our own, opened to sync what was renamed in it")]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
