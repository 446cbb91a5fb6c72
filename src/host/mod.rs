//! The one room for what must be injectable and bounded: clients, roots, processes, names, spawn, files, lanes.

pub mod accounts;
mod bounded;
pub mod env;
pub mod files;
pub mod http;
pub mod identity;
pub mod lanes;
pub mod mounts;
pub mod net;
pub mod nvml;
pub mod postgres;
pub mod procs;
pub mod redis;
pub mod roots;
mod secrets;
mod secure;
pub mod spawn;
pub mod sqlite;
pub mod statefs;
pub mod theirs;
pub mod tls;
pub mod trust;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use crate::clock::{Clock, Now};
use env::Env;

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

impl Paths {
    /// `/etc`, or the one beside a canned `/proc`.
    #[must_use]
    pub fn etc(&self) -> PathBuf {
        self.proc.with_file_name("etc")
    }
    /// `/var`, or the one beside a canned `/proc`.
    #[must_use]
    pub fn var(&self) -> PathBuf {
        self.proc.with_file_name("var")
    }
    /// `/run`, or the one beside a canned `/proc`.
    #[must_use]
    pub fn run(&self) -> PathBuf {
        self.proc.with_file_name("run")
    }
}

/// The outside, as the rest of the program may reach it.
#[derive(Debug)]
pub struct Host {
    /// Where readings of the time come from.
    pub clock: Clock,
    /// The environment, read once in `main`.
    pub env: Env,
    /// Where things are.
    pub paths: Paths,
    lanes: Arc<lanes::Lanes>,
    commands: Arc<Semaphore>,
    slots: Arc<Semaphore>,
    names: Arc<net::Names>,
    boot_id: OnceLock<Option<String>>,
    accounts: accounts::Cache,
    processes: procs::Cache,
    roots: roots::Cache,
    clients: http::Clients,
}

impl Host {
    /// The outside through these clocks, this environment and these roots. Costs nothing until it is used.
    #[must_use]
    pub fn new(clock: Clock, env: Env, paths: Paths) -> Self {
        let lanes = Arc::<lanes::Lanes>::default();
        Self {
            clock,
            env,
            paths,
            commands: Arc::new(Semaphore::new(spawn::places())),
            slots: Arc::new(Semaphore::new(net::slots())),
            names: Arc::new(net::Names::new(Arc::clone(&lanes))),
            lanes,
            boot_id: OnceLock::new(),
            accounts: accounts::Cache::default(),
            processes: procs::Cache::default(),
            roots: roots::Cache::default(),
            clients: http::Clients::default(),
        }
    }

    /// A host whose home and state are in a test's folder, with an environment of its own: only `PATH` is this
    /// machine's usual one.
    #[doc(hidden)]
    #[must_use]
    pub fn for_tests(dir: &Path) -> Self {
        let env = Env::from([
            (OsString::from("PATH"), OsString::from(spawn::USUAL_PATH)),
            (OsString::from("HOME"), dir.as_os_str().to_owned()),
        ]);
        let paths = Paths { home: Some(dir.to_owned()), state: dir.join("state"), proc: PathBuf::from("/proc") };
        Self::new(Clock::machine(), env, paths)
    }

    /// Forgets what is read once a cycle (names, accounts, processes). For a process that lives through several.
    pub fn new_cycle(&self) {
        self.names.forget();
        self.accounts.forget();
        self.processes.forget();
    }

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
    /// A path as users write it: `~/` stands for the home. Without a home it stays as it is.
    #[must_use]
    pub fn expand(&self, path: &str) -> PathBuf {
        let below = if path == "~" { Some("") } else { path.strip_prefix("~/") };
        match (below, &self.paths.home) {
            (Some(""), Some(home)) => home.clone(),
            (Some(below), Some(home)) => home.join(below),
            _ => PathBuf::from(path),
        }
    }
}

/// What is read at most once a cycle, by whoever needs it first.
#[derive(Debug)]
struct PerCycle<T>(Mutex<Arc<OnceCell<T>>>);

impl<T> Default for PerCycle<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> PerCycle<T> {
    fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::default();
    }
    fn of_this_cycle(&self) -> Arc<OnceCell<T>> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_home_is_expanded() {
        let host = Host::for_tests(Path::new("/h"));
        for (path, expected) in [("~/a", "/h/a"), ("~", "/h"), ("/a/~/b", "/a/~/b"), ("~anna/x", "~anna/x"), ("a", "a")]
        {
            assert_eq!(host.expand(path), Path::new(expected), "{path}");
        }
    }
}
