//! `state.db`: everything that is kept between cycles. Synchronous; the caller decides the thread. One file a group of
//! tables; what a cycle decides is committed in one transaction ([`cycles::CycleTx`]), everything else is short
//! transactions of its own. It decides nothing itself: levels are `judge`'s, delivering is the deliverer's.

mod baselines;
pub mod cycles;
pub mod executions;
#[cfg(test)]
mod fixture;
pub mod incidents;
pub mod lease;
pub mod memory;
mod open;
pub mod outbox;
pub mod people;
pub mod retention;
pub mod standing;
#[cfg(test)]
pub(crate) mod testing;

use std::ops::Deref;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::host::sqlite::{self, Schema, Trouble};
use crate::judge::{Level, Turn};
use crate::redact::Clean;

pub use cycles::{Committed, Counts, CycleRow, CycleTx, CycleView, LogRow};
pub use executions::Ledger;
pub use lease::{Held, Holder, Lease};
pub use memory::CheckMemory;
pub use open::{Opened, StoreEvent, backup_path, state_path};
pub use outbox::{Due, OutboxRow};
pub use retention::{Limits, Trimmed};
pub use standing::Known;

/// What `state.db` must be. `pcSt` in ASCII.
pub const SCHEMA: Schema = Schema {
    application_id: 0x7063_5374,
    migrations: &[include_str!("migrations/0001.sql"), include_str!("migrations/0002.sql")],
};

/// Why the store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database's own trouble.
    #[error(transparent)]
    Db(#[from] Trouble),
    /// Somebody else runs.
    #[error(transparent)]
    Held(#[from] Box<Held>),
    /// The lease was taken over, so nothing was committed.
    #[error("this run took longer than its lease and another one took over: nothing of it was committed")]
    LostLease,
    /// What was asked is not allowed, in words.
    #[error("{0}")]
    Refused(Clean),
}

/// What work inside a transaction ends with when it does not succeed: SQLite's errors are put in words at the edge.
pub(crate) enum Halt {
    Sql(rusqlite::Error),
    Said(Error),
}
impl From<rusqlite::Error> for Halt {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}
impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Self::Said(error)
    }
}
impl Halt {
    fn refused<T>(why: Clean) -> Result<T, Self> {
        Err(Self::Said(Error::Refused(why)))
    }
}

/// The store, to be read.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
    path: PathBuf,
    /// Which file it is, whatever is done to its name.
    inode: Option<(u64, u64)>,
}

/// The store, to be read and written.
#[derive(Debug)]
pub struct Store(Reader);

impl Deref for Store {
    type Target = Reader;
    fn deref(&self) -> &Reader {
        &self.0
    }
}

impl Reader {
    /// Opens `state.db` in a state folder to read it.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let path = state_path(folder);
        Ok(Self { conn: sqlite::open_read_only(&path, &SCHEMA)?, inode: open::inode(&path), path })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn trouble(&self, error: &rusqlite::Error) -> Error {
        let mut trouble = sqlite::trouble(&self.path, error);
        if let Trouble::Locked { by, .. } = &mut trouble {
            // Reading waits for no writer, so the holder of the run lock can be named.
            *by = lease::holder(&self.conn).ok().flatten().map(|held| held.who());
        }
        trouble.into()
    }

    /// What is written into a file that was moved away is lost to everybody who opens it by its name.
    fn in_place(&self) -> Result<(), Error> {
        if open::inode(&self.path) == self.inode {
            return Ok(());
        }
        let detail = "was moved away or exchanged while it was open: open it again".to_owned();
        Err(Trouble::Other { path: self.path.clone(), detail }.into())
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        work(&self.conn).map_err(|error| self.trouble(&error))
    }
}

impl Store {
    /// One short write of its own.
    fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Halt>) -> Result<T, Error> {
        self.in_place()?;
        let done = (|| {
            // Not deferred: a transaction that reads first and writes then is refused at once when somebody else wrote.
            let tx = self.0.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        })();
        done.map_err(|halt| match halt {
            Halt::Sql(error) => self.trouble(&error),
            Halt::Said(error) => error,
        })
    }
}

impl Store {
    /// A write that a power cut may take back, so it waits for no disk: who holds the lease means nothing in another boot.
    fn write_lightly<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Halt>) -> Result<T, Error> {
        self.read(|conn| conn.pragma_update(None, "synchronous", "normal"))?;
        let done = self.write(work);
        self.read(|conn| conn.pragma_update(None, "synchronous", "full"))?;
        done
    }
}

/// A value of the `meta` table: a moment or a count.
pub(crate) fn meta(conn: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
    conn.prepare_cached("SELECT value FROM meta WHERE name = ?1")?.query_row([name], |row| row.get(0)).optional()
}

pub(crate) fn set_meta(conn: &Connection, name: &str, value: i64) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2")?
        .execute(params![name, value])
        .map(drop)
}

pub(crate) fn ms(at: Timestamp) -> i64 {
    at.as_millisecond()
}

pub(crate) fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

pub(crate) fn json<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(crate) fn parse<T: DeserializeOwned>(body: &str) -> rusqlite::Result<T> {
    serde_json::from_str(body)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

/// How many rows one page of a listing holds at most.
pub(crate) const PAGE: usize = 1_000;

pub(crate) fn page(limit: usize) -> i64 {
    i64::try_from(limit.min(PAGE)).unwrap_or(0)
}

pub(crate) fn level_word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Logged => "logged",
        Level::Yellow => "yellow",
        Level::Red => "red",
    }
}

/// A word that this build does not know counts as the highest: nothing is played down.
pub(crate) fn level_of(word: &str) -> Level {
    match word {
        "ok" => Level::Ok,
        "logged" => Level::Logged,
        "yellow" => Level::Yellow,
        _ => Level::Red,
    }
}

pub(crate) fn turn_word(turn: Turn) -> &'static str {
    match turn {
        Turn::Open => "open",
        Turn::Raise => "raise",
        Turn::Lower => "lower",
        Turn::Remind => "remind",
        Turn::Resolve => "resolve",
        Turn::Event => "event",
        Turn::FollowUp => "follow_up",
    }
}

pub(crate) fn turn_of(word: &str) -> Turn {
    match word {
        "open" => Turn::Open,
        "raise" => Turn::Raise,
        "lower" => Turn::Lower,
        "remind" => Turn::Remind,
        "resolve" => Turn::Resolve,
        "follow_up" => Turn::FollowUp,
        _ => Turn::Event,
    }
}
