//! One cycle, from the lock to the last word:
//!
//! ```text
//! lease ─► read what is known ─► fetch (all at once, one deadline) ─► own state ─┐
//!   one BEGIN IMMEDIATE: read again, take the spool, judge, rank, write ◄────────┘
//!   commit ─► deliver the outbox ─► hand back what is to be printed ─► trim, copy
//! ```
//!
//! Commit, then speak. When the store can't commit, what is red is still said, headed by that fact.

mod deliver;
mod end;
mod fetch;
mod open;
mod route;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::clean;
use crate::clock::Now;
use crate::config::{Check, Config};
use crate::facts::{Key, Unread};
use crate::host::Host;
use crate::jobs::spool;
use crate::judge::{Before, Change, Level, Outcome, Snapshot};
use crate::kinds::{Baselines, Memory, Records};
use crate::records::Execution;
use crate::redact::Clean;
use crate::report::Report;
use crate::steps::{Step, reached};
use crate::store::memory::STORE_UNREADABLE;
use crate::store::{self, CheckMemory, CycleTx, Ledger, Limits, Reader, Store};

use end::End;
use open::Kept;

pub use deliver::{Deliver, Said};
pub use fetch::{Look, Looked, Remember, Views, look};
pub use open::holder;
pub use route::{Addressed, Route};

/// The file whose time says when something was last said without a record.
const UNRECORDED: &str = "unrecorded";
/// Events that one cycle takes from the spool.
const MAX_SPOOLED: usize = 5_000;
/// What is kept free at the end of a run for trimming history.
const TRIM_TIME: Duration = Duration::from_millis(500);
/// How a run is to go about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Commit nothing, move no offset, say nothing outside.
    pub dry: bool,
    /// Wait this long for another run to end; none: leave at once.
    pub wait: Option<Duration>,
}

/// What a cycle came to.
#[derive(Debug)]
pub struct Ran {
    /// The report.
    pub report: Report,
    /// The report as it is stored, printed and sent: one line of JSON.
    pub json: String,
    /// The status.
    pub status: Level,
    /// Whether all is well and nothing surfaced.
    pub quiet: bool,
    /// Whether something is said: a change or a reminder.
    pub news: bool,
    /// Findings below yellow, for a person at the terminal.
    pub logged: Vec<(Key, Outcome)>,
    /// What surfaced.
    pub changes: Vec<Change>,
    /// Why nothing could be committed, if nothing could.
    pub away: Option<Clean>,
    /// What could not be delivered.
    pub undelivered: Vec<Clean>,
    /// The store, still open, for [`tidy`]; none when nothing could be committed or nothing was to be.
    pub store: Option<Box<Store>>,
}

/// Why a cycle could not run at all.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CannotRun {
    /// Another run is at work.
    #[error("{0}")]
    Held(Box<store::Held>),
    /// The store must not be used, or the run lost its lease.
    #[error("{0}")]
    Store(store::Error),
    /// The state folder is not fit.
    #[error("{0}")]
    Folder(String),
}

/// Runs one cycle. The caller prints, then calls [`tidy`].
pub async fn run(
    config: &Config,
    host: &Arc<Host>,
    options: Options,
    progress: &dyn Fn(usize, usize),
) -> Result<Ran, CannotRun> {
    reached(host, Step::Begun);
    let kept = open::open(config, host, options).await?;
    reached(host, Step::Leased);
    // From here on it is this run's time: what was spent waiting for another one is not taken from the checks.
    let begun = Instant::now();
    let deadline = begun + config.limits.deadline.get();
    let now = host.now();
    let id = cycle_id(now.wall);
    let (before, known) = open::known(&kept, host);
    host.learn(&config.secrets).await;
    let (taken, spool_unread) = spool_of(host, options.dry, deadline).await;
    let must_remember = matches!(kept, Kept::Open { .. });
    let from = (&before, &known.snapshot);
    let looked = look_at_all(config, host, from, &taken, (now, begun), must_remember, progress).await;
    reached(host, Step::Fetched);
    let end = End { config, host, now, id, policies: config.policies(), deadline, looked, taken, spool_unread };
    match kept {
        Kept::Open { store, lease, said } => end.committed(store, &lease, said, known).await,
        Kept::Away { why, .. } => Ok(end.away(Before { snapshot: known.snapshot, ..before }, why).await),
        Kept::Dry { .. } => Ok(end.dry(Before { snapshot: known.snapshot, ..before })),
    }
}

/// Trims history and copies the small tables, after everything was said. What of that fails is tried again after the next
/// cycle; a store that is really in trouble is found by that cycle's own commit.
pub fn tidy(config: &Config, host: &Host, mut store: Store) {
    let now = host.now().wall;
    let limits = Limits { keep: config.store.retention.signed(), max_bytes: config.store.max_size.0 };
    let end = Instant::now() + TRIM_TIME;
    while Instant::now() < end {
        match store.trim(now, &limits) {
            Ok(trimmed) if trimmed.more => {}
            _ => break,
        }
    }
    let _next_time = store.backup_if_due(&host.paths.state, now);
}

/// What waits in the spool, or why that can't be read. A dry run moves nothing.
async fn spool_of(host: &Host, dry: bool, deadline: Instant) -> (spool::Taken, Option<Clean>) {
    let state = host.paths.state.clone();
    let look = move || if dry { spool::peek(&state, MAX_SPOOLED) } else { spool::take(&state, MAX_SPOOLED) };
    match host.lane("spool", deadline, look).await.and_then(|taken| taken) {
        Ok(taken) => (taken, None),
        Err(unread) => (spool::Taken::default(), Some(unread.said)),
    }
}

async fn look_at_all(
    config: &Config,
    host: &Arc<Host>,
    (before, snapshot): (&Before, &Snapshot),
    taken: &spool::Taken,
    (now, begun): (Now, Instant),
    must_remember: bool,
    progress: &dyn Fn(usize, usize),
) -> Looked {
    let pending: Vec<Execution> = taken.events.iter().map(|(_, event)| event.clone()).collect();
    // Fetches read through a connection of their own: the writer's stays with the run.
    let reader = Reader::open(&host.paths.state).ok().map(|reader| Arc::new(Mutex::new(reader)));
    // A check that is told it remembers nothing starts anew, and that is committed: so where something may be kept, not
    // being able to read it is said instead.
    let lost = (must_remember && reader.is_none()).then(|| Clean::new("what was kept can't be read"));
    let memory = |check: &Check| -> Arc<dyn Memory> {
        match &reader {
            Some(reader) => {
                Arc::new(CheckMemory::new(Arc::clone(reader), check.name.clone(), check.policy.was.clone()))
            }
            None => Arc::new(Nothing { lost: lost.clone(), ..Nothing::default() }),
        }
    };
    let records = |views: Views| -> Arc<dyn Records> {
        match &reader {
            Some(reader) => Arc::new(Ledger::new(Arc::clone(reader), pending.clone(), views)),
            None => Arc::new(Nothing { lost: lost.clone(), views }),
        }
    };
    let baselines = |check: &Check| match &reader {
        _ if !check.kind.has_baseline() => Ok(Baselines::new()),
        Some(reader) => baselines_of(check, reader),
        None => lost.clone().map_or_else(|| Ok(Baselines::new()), |why| Err(Unread::ours(STORE_UNREADABLE, why))),
    };
    let from = Look {
        checks: &config.checks,
        snapshot,
        incidents: &before.incidents,
        host,
        memory: &memory,
        records: &records,
        baselines: &baselines,
        now,
        deadline: begun + config.limits.fetch.get().min(config.limits.deadline.get()),
        progress,
    };
    look(&from).await
}

/// What a check is compared with; one that was renamed and has none yet is compared with what it left under its former name.
fn baselines_of(check: &Check, reader: &Mutex<Reader>) -> Result<Baselines, Unread> {
    let reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
    let read = match (reader.baselines(&check.name), &check.policy.was) {
        (Ok(own), Some(was)) if own.is_empty() => reader.baselines(was),
        (own, _) => own,
    };
    read.map_err(|error| Unread::ours(STORE_UNREADABLE, clean!("{error}")))
}

/// The memory and the records of a host whose store can't be read: there is nothing, or nothing can be known.
#[derive(Default)]
struct Nothing {
    lost: Option<Clean>,
    views: Views,
}

impl Nothing {
    fn or<T: Default>(&self) -> Result<T, Unread> {
        self.lost.clone().map_or_else(|| Ok(T::default()), |why| Err(Unread::ours(STORE_UNREADABLE, why)))
    }
}

impl Memory for Nothing {
    fn get(&self, _key: &str) -> Result<Option<Vec<u8>>, Unread> {
        self.or()
    }
    fn scan(&self, _prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Unread> {
        self.or()
    }
}

impl Records for Nothing {
    fn executions(&self, _job: &str, _limit: usize) -> Result<Vec<Execution>, Unread> {
        self.or()
    }
    fn jobs(&self) -> Result<Vec<String>, Unread> {
        self.or()
    }
    fn checks(&self) -> Views {
        Arc::clone(&self.views)
    }
}

/// A cycle's id: when it began, and enough of chance to tell two of one second apart.
fn cycle_id(at: Timestamp) -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    // A fresh `RandomState` is seeded by the system: chance without a dependency of its own.
    let chance = std::hash::RandomState::new().build_hasher().finish();
    format!("{}-{:04x}", at.strftime("%Y%m%dT%H%M%SZ"), chance & 0xffff)
}

/// How far the wall clock moved against the time since boot since the last cycle, and a note of both for the next one.
fn clock_moved(tx: &CycleTx<'_>, host: &Host, now: Now) -> Result<SignedDuration, store::Error> {
    let Some(boot_id) = host.boot_id() else { return Ok(SignedDuration::ZERO) };
    let last = tx.clock_mark(boot_id, now)?;
    let Some(last) = last else { return Ok(SignedDuration::ZERO) };
    let boot = |now: Now| SignedDuration::try_from(now.boot).unwrap_or_default();
    Ok(now.wall.duration_since(last.wall) - (boot(now) - boot(last)))
}

/// Whether the last notice without a record is an hour old; if so, this one is noted. None when that can't be noted.
fn touch_unrecorded(host: &Host, now: Timestamp, hour: SignedDuration) -> Option<bool> {
    let path = host.paths.state.join(UNRECORDED);
    let last = crate::host::files::stat(&path).ok()?.map(|stat| stat.modified);
    let fresh = last.is_some_and(|last| {
        let age = now.duration_since(last);
        age < hour && !age.is_negative()
    });
    if fresh {
        return Some(false);
    }
    crate::host::files::touch(&path, now).ok().map(|()| true)
}
