//! Opening `state.db`: a damaged one is set aside, and what people and checks left in it comes back from the daily copy.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Error, Reader, SCHEMA, Store, meta, moment, ms, set_meta};
use crate::host::sqlite::{self, Trouble, beside, trouble, trouble_io};
use crate::redact::Clean;

/// How often the whole file is checked, and how often the small tables are copied.
const DAILY: SignedDuration = SignedDuration::from_hours(24);
/// Damaged files that are kept.
const KEPT_ASIDE: usize = 3;

/// What the caller should say about the store, apart from its being open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreEvent {
    /// The database was damaged: it was set aside and a new one begun. Told at each opening until a cycle is committed,
    /// whoever met the damage.
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
            Ok(store) => {
                let events = store.read(|conn| noted(conn, &path))?.into_iter().collect();
                Ok(Opened { store, events })
            }
            Err(Trouble::Corrupt { .. }) => begin_anew(folder, now, None),
            Err(other) => Err(other.into()),
        }
    }

    /// Sets a database aside in which damage was met while working ([`Trouble::Corrupt`]), and begins a new one.
    pub fn replace(self, folder: &Path, found: &Trouble, now: Timestamp) -> Result<Opened, Error> {
        // The file that was open, not one that another process began in its place.
        let inode = self.inode;
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
        // A full disk or a busy writer is no reason not to read: the check is made again the next time.
        if let Err(corrupt @ Trouble::Corrupt { .. }) = set_meta(&conn, "checked_ms", ms(now)).map_err(said) {
            return Err(corrupt);
        }
    }
    Ok(Store(Reader { inode: inode(path), conn, path: path.to_owned() }))
}

/// Under a lock of its own, so that of two processes that meet the damage the second finds the new file and keeps it.
fn begin_anew(folder: &Path, now: Timestamp, met: Option<(Option<(u64, u64)>, String)>) -> Result<Opened, Error> {
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
    // Without the note only this caller knows, which is no reason not to go on.
    let _only_here = store.write(|tx| Ok(note(tx, &aside, &why, restored, now)?));
    events.insert(0, StoreEvent::StartedAnew { aside, why, restored });
    Ok(Opened { store, events })
}

/// The name in `meta` of the log line that tells of a new beginning until a cycle has told it.
const ANEW: &str = "started_anew_log";

/// Notes a new beginning for the next cycle: a line of the log whose subject is the file that was set aside and whose code
/// is the time of the copy that came back.
fn note(tx: &Connection, aside: &Path, why: &str, restored: Option<Timestamp>, now: Timestamp) -> rusqlite::Result<()> {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    tx.execute(
        "INSERT INTO log (cycle, at_ms, what, subject, code, said) VALUES ('', ?1, 'store', ?2, ?3, ?4)",
        params![ms(now), name, restored.map(|at| ms(at).to_string()), Clean::line(why, 500).as_str()],
    )?;
    set_meta(tx, ANEW, tx.last_insert_rowid())
}

fn noted(conn: &Connection, path: &Path) -> rusqlite::Result<Option<StoreEvent>> {
    let Some(line) = meta(conn, ANEW)? else { return Ok(None) };
    conn.query_row("SELECT subject, code, said FROM log WHERE id = ?1", [line], |row| {
        let (name, code): (String, Option<String>) = (row.get(0)?, row.get(1)?);
        let restored = code.and_then(|code| code.parse().ok()).map(moment);
        Ok(StoreEvent::StartedAnew { aside: path.with_file_name(name), why: row.get(2)?, restored })
    })
    .optional()
}

/// A cycle is being committed that tells of the new beginning.
pub(super) fn told(tx: &Connection) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM meta WHERE name = ?1")?.execute([ANEW]).map(drop)
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
    ("baselines", "true"),
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

/// Device and number: what tells a file from another one of the same name.
pub(super) fn inode(path: &Path) -> Option<(u64, u64)> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

#[expect(clippy::disallowed_methods, reason = "a folder of our own, opened to sync what was renamed in it")]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::super::{Level, outbox::Which, people::Actor};
    use super::*;
    use crate::facts::Facts;
    use crate::judge::{Covers, Judged, Turn, Word};
    use crate::records::Execution;
    use std::io::{Seek as _, SeekFrom, Write as _};

    const DAY: i64 = 24 * 60;

    /// A store with one of everything that comes back, and history that does not.
    fn lived_in(home: &Home) -> Store {
        let mut store = home.open(at(0));
        let held = lease(&mut store, at(0));
        let mut tx = store.begin(&held).unwrap();
        tx.before("c0", at(0), Known::default()).unwrap();
        tx.take_executions(&[Execution {
            job: "nightly".into(),
            execution: "e1".into(),
            started: at(0),
            ended: None,
            ending: None,
            schedule: None,
            wrapper: None,
            boot_id: None,
            stdout_bytes: None,
            stdout_sha256: None,
            tail: Some(Clean::new("tail")),
        }])
        .unwrap();
        let judged = Judged {
            after: snapshot([stood("site", at(0), Word::Fail, Facts::new())]),
            incidents: vec![incident("c0.1", "site", Level::Red, at(0))],
            ..Judged::default()
        };
        let remember = vec![(check("site"), "offset".to_owned(), Some(b"17".to_vec()))];
        let notices = [notice("chat", Some("c0.1"), "site", Turn::Open, Level::Red)];
        tx.commit_cycle(&cycle("c0", at(0)), &judged, &remember, &notices, &[]).unwrap();
        let due = store.claim(Which::All, at(1), at(2), 9).unwrap().due;
        store.delivered(&due[0], Some("message 7"), at(1)).unwrap();
        let who = Actor { by: Clean::new("ana"), why: Clean::new("known") };
        store.ack(&Covers::Check(check("site")), |_| true, &who, at(1)).unwrap();
        store.silence(&Covers::Check(check("disk")), |_| false, at(3 * DAY), &who, at(1)).unwrap();
        store.release(&held).unwrap();
        store
    }

    /// Writes over all pages but the first.
    fn damage(path: &Path) {
        let mut file = OpenOptions::new().write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        file.seek(SeekFrom::Start(4096)).unwrap();
        file.write_all(&vec![0xa5; usize::try_from(len - 4096).unwrap()]).unwrap();
    }

    fn names(home: &Home) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&home.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_damaged_database_is_set_aside_and_what_people_left_in_it_comes_back() {
        let home = Home::new();
        let mut store = lived_in(&home);
        assert!(store.backup_if_due(&home.folder, at(2)).unwrap());
        assert!(!store.backup_if_due(&home.folder, at(3)).unwrap(), "once a day");
        drop(store);
        assert_eq!(std::fs::metadata(backup_path(&home.folder)).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(&home), ["state.backup.db", "state.db"]);
        damage(&home.path());

        let Opened { mut store, events } = Store::open(&home.folder, at(DAY)).unwrap();
        let aside = home.folder.join("state.db.corrupt-20260321T120000Z");
        match &events[..] {
            [StoreEvent::StartedAnew { aside: found, why, restored }] => {
                assert_eq!((found, *restored), (&aside, Some(at(2))));
                assert!(!why.is_empty());
            }
            other => panic!("{other:?}"),
        }
        assert!(aside.exists());
        let held = lease(&mut store, at(DAY));
        let mut tx = store.begin(&held).unwrap();
        let before = tx.before("c1", at(DAY), Known::default()).unwrap();
        assert_eq!(before.incidents[0].ack.as_ref().unwrap().why.as_str(), "known");
        assert_eq!((before.silences.len(), before.deeds.len()), (1, 2));
        assert_eq!(before.snapshot.keys().collect::<Vec<_>>(), [&check("site")]);
        let judged = Judged { after: before.snapshot, incidents: before.incidents, ..Judged::default() };
        let raise = [notice("chat", Some("c0.1"), "site", Turn::Remind, Level::Red)];
        tx.commit_cycle(&cycle("c1", at(DAY)), &judged, &[], &raise, &[]).unwrap();
        assert_eq!(store.told("c0.1").unwrap().len(), 1, "the channel that was told is known");
        let due = store.claim(Which::All, at(DAY + 1), at(DAY + 2), 9).unwrap().due;
        assert_eq!((due.len(), due[0].prior.as_deref()), (1, Some("message 7")));
        assert_eq!(store.memory(&check("site")).unwrap()["offset"], b"17");
        assert_eq!(store.executions("nightly", 9).unwrap()[0].tail, Some(Clean::new("tail")));
        assert_eq!(store.cycle("c0").unwrap(), None, "history stays in the file that was set aside");
        drop(store);
        home.open(at(DAY + 1));
    }

    #[test]
    fn damage_is_found_once_a_day_or_where_it_is_met() {
        let home = Home::new();
        drop(lived_in(&home));
        damage(&home.path());
        // The check of the whole file is not due yet: the damage is met at work.
        let opened = Store::open(&home.folder, at(1));
        let opened = match opened {
            Ok(Opened { mut store, events }) if events.is_empty() => {
                let met = store.take_lease(&me(2), at(5), at(8), |_| true).unwrap_err();
                let Error::Db(found @ Trouble::Corrupt { .. }) = met else { panic!("{met}") };
                store.replace(&home.folder, &found, at(5)).unwrap()
            }
            Ok(opened) => opened,
            Err(other) => panic!("{other}"),
        };
        assert!(matches!(&opened.events[..], [StoreEvent::StartedAnew { restored: None, .. }]), "{:?}", opened.events);
        let mut store = opened.store;
        assert_eq!(store.last_cycle().unwrap(), None);
        // Whoever met the damage: the next cycle tells of it, and when it is committed, none does.
        for minute in [6, 7] {
            assert_eq!(Store::open(&home.folder, at(minute)).unwrap().events, opened.events);
        }
        run(&mut store, "c1", at(8), &Judged::default(), &[]).unwrap();
        home.open(at(9));
    }

    #[test]
    fn a_file_that_is_no_database_is_set_aside_with_its_log() {
        let home = Home::made();
        for suffix in ["", "-wal"] {
            File::create(beside(&home.path(), suffix)).unwrap().write_all(&[b'x'; 5000]).unwrap();
        }
        let opened = Store::open(&home.folder, at(0)).unwrap();
        assert!(matches!(&opened.events[..], [StoreEvent::StartedAnew { restored: None, .. }]), "{:?}", opened.events);
        let found = names(&home);
        assert!(found.contains(&"state.db.corrupt-20260320T120000Z".to_owned()), "{found:?}");
    }

    #[test]
    fn of_two_that_meet_the_damage_the_second_keeps_what_the_first_began() {
        let home = Home::new();
        drop(lived_in(&home));
        let mut second = home.open(at(1));
        let first = home.open(at(1));
        let found = Trouble::Corrupt { path: home.path(), detail: "met at work".into() };
        let first = first.replace(&home.folder, &found, at(2)).unwrap();
        assert!(matches!(&first.events[..], [StoreEvent::StartedAnew { .. }]), "{:?}", first.events);
        let (mut first, begun) = (first.store, first.events);
        let held = lease(&mut first, at(2));
        // The second one still has the file open that was moved away.
        let again = Store::open(&home.folder, at(3)).unwrap();
        assert_eq!((&again.events, again.store.lease().unwrap().is_some()), (&begun, true));
        let refused = second.hold_channel("chat", at(4)).unwrap_err().to_string();
        assert!(refused.ends_with("exchanged while it was open: open it again"), "{refused}");
        first.begin(&held).map(drop).unwrap();
        let asides: Vec<_> =
            names(&home).into_iter().filter(|name| name.contains("corrupt") && !name.ends_with("-wal")).collect();
        assert_eq!(asides, ["state.db.corrupt-20260320T120200Z"]);
    }

    #[test]
    fn a_damaged_copy_is_set_aside_too() {
        let home = Home::new();
        let mut store = lived_in(&home);
        store.backup(&home.folder, at(2)).unwrap();
        drop(store);
        damage(&home.path());
        damage(&backup_path(&home.folder));
        let opened = Store::open(&home.folder, at(DAY)).unwrap();
        assert!(
            matches!(
                &opened.events[..],
                [StoreEvent::StartedAnew { restored: None, .. }, StoreEvent::CopyUnusable { .. }]
            ),
            "{:?}",
            opened.events
        );
        assert_eq!(opened.store.open_incidents().unwrap(), [], "all or nothing comes back");
        assert!(names(&home).contains(&"state.backup.db.corrupt-20260321T120000Z".to_owned()));
    }

    #[test]
    fn three_damaged_files_are_kept() {
        let home = Home::new();
        for day in 0..5 {
            drop(Store::open(&home.folder, at(day * DAY)).unwrap());
            damage(&home.path());
            drop(Store::open(&home.folder, at((day + 1) * DAY)).unwrap());
        }
        let kept: Vec<String> = names(&home).into_iter().filter(|name| name.contains("corrupt")).collect();
        assert_eq!(
            kept,
            [
                "state.db.corrupt-20260323T120000Z",
                "state.db.corrupt-20260324T120000Z",
                "state.db.corrupt-20260325T120000Z"
            ]
        );
    }

    #[test]
    fn a_newer_database_is_refused_and_left_as_it_is() {
        let home = Home::new();
        let store = lived_in(&home);
        store.read(|conn| conn.pragma_update(None, "user_version", 7)).unwrap();
        drop(store);
        for refused in
            [Store::open(&home.folder, at(1)).map(drop).unwrap_err(), Reader::open(&home.folder).map(drop).unwrap_err()]
        {
            assert_eq!(
                refused.to_string(),
                format!(
                    "`{}` was written by a newer pulsecheck (schema 7, this one knows {}): upgrade, or move the file away",
                    home.path().display(),
                    SCHEMA.version()
                )
            );
        }
        assert!(!names(&home).iter().any(|name| name.contains("corrupt")));
    }

    #[test]
    fn a_reader_sees_what_is_committed_and_changes_nothing() {
        let home = Home::new();
        assert!(matches!(Reader::open(&home.folder), Err(Error::Db(Trouble::Missing { .. }))));
        assert!(!home.folder.exists());
        let mut store = lived_in(&home);
        let reader = Reader::open(&home.folder).unwrap();
        assert_eq!(reader.last_cycle().unwrap().unwrap().row.id, "c0");
        run(&mut store, "c1", at(15), &Judged::default(), &[]).unwrap();
        assert_eq!(reader.last_cycle().unwrap().unwrap().row.id, "c1");
        let held = lease(&mut store, at(16));
        let mut tx = store.begin(&held).unwrap();
        tx.before("c2", at(16), Known::default()).unwrap();
        assert_eq!(reader.silences(at(16)).unwrap().len(), 1, "it waits for no writer");
        drop(tx);
        let refused = reader.read(|conn| conn.execute("DELETE FROM cycles", [])).unwrap_err();
        assert!(matches!(refused, Error::Db(Trouble::ReadOnly { .. })), "{refused}");
    }

    #[test]
    fn a_lock_names_its_holder() {
        let home = Home::new();
        let (mut one, mut two) = (home.open(at(0)), home.open(at(0)));
        let held = lease(&mut one, at(0));
        let _tx = one.begin(&held).unwrap();
        two.read(|conn| conn.busy_timeout(std::time::Duration::ZERO)).unwrap();
        assert_eq!(
            two.hold_channel("chat", at(1)).unwrap_err().to_string(),
            format!(
                "`{}` is locked by `pulsecheck run` (process 1 on h1): try again when it is done",
                home.path().display()
            )
        );
    }
}
