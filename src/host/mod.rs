//! The one room for what must be injectable and bounded: clients, roots, processes, names, spawn, files, lanes.

pub mod files;
pub mod http;
pub mod lanes;
pub mod net;
pub mod procs;
pub mod spawn;
pub mod sqlite;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use crate::clock::{Clock, Now};
use crate::facts::Unread;
use crate::redact::Secret;
use crate::settings::SecretRef;

/// Where things are on this machine; every root can be another one in tests.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The user's home, if there is one: what `~/` stands for.
    pub home: Option<PathBuf>,
    /// `state.db`, `spool/` and the rest live here.
    pub state: PathBuf,
    /// `/proc`, or a canned one.
    pub proc: PathBuf,
}

/// The outside, as the rest of the program may reach it.
#[derive(Debug)]
pub struct Host {
    /// Where readings of the time come from.
    pub clock: Clock,
    /// The environment, read once in `main`.
    pub env: BTreeMap<OsString, OsString>,
    /// Where things are.
    pub paths: Paths,
}

impl Host {
    /// Reads the clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        self.clock.now()
    }
    /// One variable of the environment.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&OsStr> {
        self.env.get(OsStr::new(name)).map(OsString::as_os_str)
    }
    /// Reads a secret from where it is kept. A missing or unreadable one is `blind` with the code `secret_unreadable`,
    /// naming the reference, never the value.
    pub async fn secret(&self, _at: &SecretRef) -> Result<Secret, Unread> {
        unimplemented!()
    }
    /// A path as users write it: `~/` stands for the home.
    #[must_use]
    pub fn expand(&self, _path: &str) -> PathBuf {
        unimplemented!()
    }
}
