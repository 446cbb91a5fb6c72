//! Opening: the store and the run lock, or what can be known without them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::Instant;

use super::{CannotRun, Options};
use crate::clean;
use crate::config::Config;
use crate::host::sqlite::Trouble;
use crate::host::{Host, identity};
use crate::judge::Before;
use crate::redact::Clean;
use crate::store::{self, Holder, Known, Lease, Opened, Reader, Store};

/// A lease outlives the run's deadline by this, so that a run that is just late can still commit.
const LEASE_MARGIN: SignedDuration = SignedDuration::from_secs(15);
/// How often a waiting run asks for the lease again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The store as a run found it.
pub(super) enum Kept {
    /// Open, with the lease, and what happened on the way.
    Open { store: Box<Store>, lease: Lease, said: Vec<(&'static str, Clean)> },
    /// It can't commit now; what is known may still be readable.
    Away { reader: Option<Reader>, why: Clean },
    /// It is only to be read.
    Dry { reader: Option<Reader> },
}

/// Who we are, for the lease.
#[must_use]
pub fn holder(host: &Host, what: &str) -> Holder {
    let namespace = identity::namespace(&host.paths.proc).unwrap_or_default();
    Holder {
        pid: std::process::id(),
        start_ticks: identity::start_ticks(&host.paths.proc, "self").unwrap_or(0),
        boot_id: format!("{} {namespace}", host.boot_id().unwrap_or_default()),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        what: Clean::line(what, 64),
    }
}

/// Opens the store and takes the lease.
pub(super) async fn open(config: &Config, host: &Arc<Host>, options: Options) -> Result<Kept, CannotRun> {
    let folder = &host.paths.state;
    if options.dry {
        return match Reader::open(folder) {
            Ok(reader) => Ok(Kept::Dry { reader: Some(reader) }),
            Err(store::Error::Db(Trouble::Missing { .. })) => Ok(Kept::Dry { reader: None }),
            // What is known and can't be read may be red: without it nothing is said.
            Err(error) => Err(CannotRun::Store(error)),
        };
    }
    let now = host.now().wall;
    let Opened { mut store, events } = match Store::open(folder, now) {
        Ok(opened) => opened,
        Err(error) => return away(error, folder),
    };
    let said = events.iter().filter_map(store_said).collect();
    let me = holder(host, "run");
    let patience = Instant::now() + options.wait.unwrap_or_default();
    loop {
        let now = host.now().wall;
        let until = now + config.limits.deadline.signed() + LEASE_MARGIN;
        let alive = |held: &Holder| {
            let here = held.boot_id == me.boot_id && held.host == me.host;
            !here || identity::lives(&host.paths.proc, held.pid, held.start_ticks)
        };
        match store.take_lease(&me, now, until, alive) {
            Ok(lease) => return Ok(Kept::Open { store: Box::new(store), lease, said }),
            Err(store::Error::Held(held)) if Instant::now() >= patience => return Err(CannotRun::Held(held)),
            Err(store::Error::Held(_)) => tokio::time::sleep(ASK_AGAIN).await,
            Err(error) => return away(error, folder),
        }
    }
}

/// A store that must not be used stops the run; one that can't commit now does not.
fn away(error: store::Error, folder: &Path) -> Result<Kept, CannotRun> {
    match &error {
        store::Error::Db(
            Trouble::ReadOnly { .. }
            | Trouble::NoSpace { .. }
            | Trouble::Locked { .. }
            | Trouble::Corrupt { .. }
            | Trouble::Other { .. },
        ) => Ok(Kept::Away { reader: Reader::open(folder).ok(), why: clean!("{error}") }),
        _ => Err(CannotRun::Store(error)),
    }
}

fn store_said(event: &store::StoreEvent) -> Option<(&'static str, Clean)> {
    match event {
        // Short enough for an item of the report, of which the end tells what is lost.
        store::StoreEvent::StartedAnew { aside, restored, .. } => {
            let back = restored.map_or_else(
                || "acks, silences and incidents are lost".to_owned(),
                |at| format!("acks, silences and incidents are back as of {at:.0}"),
            );
            let aside = aside.file_name().unwrap_or_default().to_string_lossy();
            Some(("store_started_anew", clean!("the damaged database was set aside as {aside}; {back}")))
        }
        store::StoreEvent::CopyUnusable { .. } | store::StoreEvent::Migrated { .. } => None,
    }
}

/// What is known before looking: the same that the transaction will read again. The standings come apart.
pub(super) fn known(kept: &Kept, host: &Host) -> (Before, Known) {
    let reader: Option<&Reader> = match kept {
        Kept::Open { store, .. } => Some(store),
        Kept::Away { reader, .. } | Kept::Dry { reader } => reader.as_ref(),
    };
    let Some(reader) = reader else { return Default::default() };
    let before = Before {
        incidents: reader.open_incidents().unwrap_or_default(),
        silences: reader.silences(host.now().wall).unwrap_or_default(),
        ..Before::default()
    };
    (before, reader.known().unwrap_or_default())
}
