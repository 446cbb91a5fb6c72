//! What can be looked at. A kind is one file (or folder) that carries its settings, its `fetch`, its pure `assess`,
//! its documentation and its tests; it stands in [`KINDS`] with one line.

pub mod access;
mod api;
pub mod api_auth;
pub mod baseline;
pub mod command;
pub mod common;
mod expiry;
pub mod files;
pub mod freshness;
pub mod gpu;
mod homes;
pub mod http;
pub mod job;
mod ledger;
pub mod model_server;
mod moment;
pub mod output;
pub mod process;
pub mod pulsecheck;
pub mod queue;
mod remote;
mod rows;
pub mod rule;
pub mod spend;
pub mod sqlite;
pub mod system;
pub mod systemd;
pub mod tcp;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod token;
pub mod trend;
pub mod vector_store;
mod words;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::clock::Now;
use crate::facts::{CheckName, Facts, Finding, Subject, Unread, Weight};
use crate::host::Host;
use crate::records::{CheckView, Execution};
use crate::redact::Clean;

/// Every kind this build knows, by name. One line a kind.
pub static KINDS: &[&dyn AnyKind] = &[
    &Entry::<access::Access>::NEW,
    &Entry::<api_auth::ApiAuth>::NEW,
    &Entry::<baseline::Baseline>::NEW,
    &Entry::<command::Command>::NEW,
    &Entry::<files::Files>::NEW,
    &Entry::<freshness::Freshness>::NEW,
    &Entry::<gpu::Gpu>::NEW,
    &Entry::<http::Http>::NEW,
    &Entry::<job::Job>::NEW,
    &Entry::<model_server::ModelServer>::NEW,
    &Entry::<output::Output>::NEW,
    &Entry::<process::Process>::NEW,
    &Entry::<queue::Queue>::NEW,
    &Entry::<rule::Rule>::NEW,
    &Entry::<spend::Spend>::NEW,
    &Entry::<sqlite::Sqlite>::NEW,
    &Entry::<system::System>::NEW,
    &Entry::<systemd::Systemd>::NEW,
    &Entry::<tcp::Tcp>::NEW,
    &Entry::<tls::Tls>::NEW,
    &Entry::<token::Token>::NEW,
    &Entry::<vector_store::VectorStore>::NEW,
];

/// The kind called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn AnyKind> {
    KINDS.iter().copied().find(|kind| kind.doc().name == name)
}

/// What a kind's file implements.
pub trait Kind: Send + Sync + 'static {
    /// Name, facts, reasons, example: everything that documentation, `init` and `explain` need.
    const DOC: KindDoc;
    /// The keys of its table beside the common ones. Derive `Deserialize`, `JsonSchema`, `Debug`, with
    /// `#[serde(deny_unknown_fields)]` and a doc comment on every field; what can be compiled is compiled here.
    type Settings: DeserializeOwned + JsonSchema + Debug + Send + Sync;

    /// What deserialising can't see: settings that contradict each other. `report(key, message)` points at a key.
    fn validate(_settings: &Self::Settings, _report: &mut dyn FnMut(&str, String)) {}

    /// The checks that its expressions read, each with the key that it stands under: they must exist.
    fn checks_read(_settings: &Self::Settings) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Looks. All I/O goes through `cx.host`. It may be dropped at any `await`, so nothing outside changes before it
    /// returns. `Err` is for the whole check; a subject that could not be read goes into [`Fetched::unread`].
    fn fetch(settings: &Self::Settings, cx: &Cx) -> impl Future<Output = Result<Fetched, Unread>> + Send;

    /// Judges what was read, beside the bands of gauges, which the middle picks. Pure: `replay` runs it too.
    fn assess(settings: &Self::Settings, facts: &Facts, past: &Past, now: Timestamp) -> Vec<Finding>;

    /// Whether it looks at what other checks saw in this cycle, so that it runs after them.
    const AFTER_OTHERS: bool = false;

    /// Whether its subjects are compared with [`Past::baselines`], which people accept.
    const BASELINE: bool = false;
}

/// A kind's documentation.
#[derive(Debug, Clone, Copy)]
pub struct KindDoc {
    /// The word in `kind = "…"`.
    pub name: &'static str,
    /// One or two sentences.
    pub about: &'static str,
    /// What its subjects are; empty when there is only the check itself.
    pub subjects: &'static str,
    /// Every fact it can report.
    pub facts: &'static [FactDoc],
    /// Every reason it can give, in groups: its own, and those of [`common`] that the host functions it calls give.
    pub reasons: &'static [&'static [ReasonDoc]],
    /// A `[check.NAME]` table that parses and shows the common settings.
    pub example: &'static str,
    /// Whether its trouble has thresholds ahead (expiry, spend): then the next threshold is the reminder.
    pub thresholds_remind: bool,
}

impl KindDoc {
    /// Every reason it can give, one after the other.
    pub fn all_reasons(&self) -> impl Iterator<Item = &'static ReasonDoc> + use<> {
        self.reasons.iter().copied().flatten()
    }
    /// What is documented about one code.
    #[must_use]
    pub fn reason(&self, code: &str) -> Option<&'static ReasonDoc> {
        self.all_reasons().find(|reason| reason.code == code)
    }
}

/// One fact's documentation.
#[derive(Debug, Clone, Copy)]
pub struct FactDoc {
    /// Its name; a trailing `*` stands for names that are read (perfdata labels).
    pub name: &'static str,
    /// `state`, `gauge`, `set`, `counter` or `info`.
    pub class: &'static str,
    /// What it is, with its unit.
    pub about: &'static str,
}

/// One reason's documentation, and what to do about it.
#[derive(Debug, Clone, Copy)]
pub struct ReasonDoc {
    /// The code.
    pub code: &'static str,
    /// Which outcome it comes with.
    pub outcome: ReasonOutcome,
    /// Whether it can't pass by itself.
    pub settled: bool,
    /// When it is given.
    pub about: &'static str,
    /// The action the report offers, an imperative without a full stop (`renew the certificate`).
    pub action: &'static str,
    /// Whether only a person can do it.
    pub needs_human: bool,
}

/// The outcome that a reason comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasonOutcome {
    /// A finding of weight warn.
    Warn,
    /// A finding of weight fail.
    Fail,
    /// Unread, and whose fault.
    Unknown(crate::facts::Blame),
}

impl ReasonOutcome {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl From<Weight> for ReasonOutcome {
    fn from(weight: Weight) -> Self {
        match weight {
            Weight::Warn => Self::Warn,
            Weight::Fail => Self::Fail,
        }
    }
}

/// What a fetch is given.
pub struct Cx {
    /// Which check this is.
    pub check: CheckName,
    /// The cycle's time.
    pub now: Now,
    /// When the fetch must be done: its own timeout or the cycle's, whichever is first.
    pub deadline: Instant,
    /// What this check saw before.
    pub past: Arc<Past>,
    /// What this check left for itself, as of the last commit.
    pub memory: Arc<dyn Memory>,
    /// What other parts recorded.
    pub records: Arc<dyn Records>,
    /// The only way to the outside.
    pub host: Arc<Host>,
    remotes: Mutex<BTreeMap<Clean, bool>>,
}

impl Cx {
    /// A context with nothing noted yet.
    pub fn new(
        check: CheckName,
        now: Now,
        deadline: Instant,
        past: Arc<Past>,
        memory: Arc<dyn Memory>,
        records: Arc<dyn Records>,
        host: Arc<Host>,
    ) -> Self {
        Self { check, now, deadline, past, memory, records, host, remotes: Mutex::default() }
    }

    /// Notes that a host was tried, and whether a connection came about. Names and addresses of this machine are left
    /// out: the notes tell our own network's trouble from a target's.
    pub fn note_remote(&self, host: &str, connected: bool) {
        if !crate::host::net::is_local(host) {
            let mut remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = remotes.entry(Clean::line(host, 253)).or_insert(connected);
            *entry |= connected;
        }
    }

    /// What was noted.
    pub fn remotes(&self) -> BTreeMap<Clean, bool> {
        self.remotes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a check saw before this fetch.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// The newest observation's time and facts.
    pub read: Option<(Timestamp, Facts)>,
    /// When the check was first looked at.
    pub first_seen: Option<Timestamp>,
    /// What its subjects are compared with; an error when that can't be read now, which must not look like a first look.
    pub baselines: Result<Baselines, Unread>,
}

impl Default for Past {
    fn default() -> Self {
        Self { read: None, first_seen: None, baselines: Ok(Baselines::new()) }
    }
}

/// The baselines of a check by subject. One that was taken and can't be verified is there with the reason why: it must not
/// be taken anew as if it were the first.
pub type Baselines = BTreeMap<Subject, Result<Baseline, Clean>>;

/// What one subject of a check is compared with until somebody accepts another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Baseline {
    /// When it was taken or accepted.
    pub at: Timestamp,
    /// When what is in it was observed.
    pub observed: Timestamp,
    /// Who accepted it; none: the first look took it, and nobody has looked at it since.
    pub by: Option<Clean>,
    /// Why, in their words.
    pub why: Clean,
    /// What is in it.
    pub facts: Facts,
}

/// A check's own memory, read as of the last commit; what to write is returned in [`Fetched::remember`].
pub trait Memory: Send + Sync {
    /// One value.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Unread>;
    /// All keys that begin with `prefix`, with their values, in order.
    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Unread>;
}

/// What other parts recorded, read-only.
pub trait Records: Send + Sync {
    /// A job's executions, newest first, at most `limit`.
    fn executions(&self, job: &str, limit: usize) -> Result<Vec<Execution>, Unread>;
    /// The names of all jobs that ever ran, in order.
    fn jobs(&self) -> Result<Vec<String>, Unread>;
    /// The newest observation of each other check: of this cycle where it was due, else the last one.
    fn checks(&self) -> Arc<BTreeMap<CheckName, CheckView>>;
}

/// What a fetch brings.
#[derive(Debug, Default)]
pub struct Fetched {
    /// What was read.
    pub facts: Facts,
    /// Subjects that could not be read.
    pub unread: BTreeMap<Subject, Unread>,
    /// What to keep for the next time (`None` forgets): committed with the observation, or not at all.
    pub remember: Vec<(String, Option<Vec<u8>>)>,
    /// The baseline of subjects that have none yet: taken with the observation, or not at all. A subject that has one keeps
    /// it.
    pub baseline: Facts,
}

impl From<Facts> for Fetched {
    fn from(facts: Facts) -> Self {
        Self { facts, ..Self::default() }
    }
}

/// A boxed future, for the traits that stand in slices.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A kind without its types, for the registry.
pub trait AnyKind: Send + Sync {
    /// Its documentation.
    fn doc(&self) -> &'static KindDoc;
    /// Whether it runs after the others.
    fn after_others(&self) -> bool;
    /// Whether it is compared with what people accept.
    fn has_baseline(&self) -> bool;
    /// The JSON Schema of its own settings.
    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema;
    /// Reads its settings from what is left of the table once the common keys are taken out; problems that
    /// deserialising can't see go to `report(key, message)`.
    fn configure(
        &self,
        table: toml::de::ValueDeserializer<'_>,
        report: &mut dyn FnMut(&str, String),
    ) -> Result<Arc<dyn AnyCheck>, toml::de::Error>;
}

/// One configured check without its types.
pub trait AnyCheck: Debug + Send + Sync {
    /// See [`Kind::checks_read`].
    fn checks_read(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
    /// See [`Kind::fetch`].
    fn fetch<'a>(&'a self, cx: &'a Cx) -> Boxed<'a, Result<Fetched, Unread>>;
    /// See [`Kind::assess`].
    fn assess(&self, facts: &Facts, past: &Past, now: Timestamp) -> Vec<Finding>;
}

/// A kind's place in the registry.
pub struct Entry<K>(PhantomData<fn() -> K>);

impl<K: Kind> Entry<K> {
    /// The only value there is.
    pub const NEW: Self = Self(PhantomData);
}

struct Configured<K: Kind>(K::Settings);

impl<K: Kind> Debug for Configured<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: Kind> AnyKind for Entry<K> {
    fn doc(&self) -> &'static KindDoc {
        &K::DOC
    }
    fn after_others(&self) -> bool {
        K::AFTER_OTHERS
    }
    fn has_baseline(&self) -> bool {
        K::BASELINE
    }
    fn schema(&self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<K::Settings>()
    }
    fn configure(
        &self,
        table: toml::de::ValueDeserializer<'_>,
        report: &mut dyn FnMut(&str, String),
    ) -> Result<Arc<dyn AnyCheck>, toml::de::Error> {
        let settings = K::Settings::deserialize(table)?;
        K::validate(&settings, report);
        Ok(Arc::new(Configured::<K>(settings)))
    }
}

impl<K: Kind> AnyCheck for Configured<K> {
    fn checks_read(&self) -> Vec<(&'static str, String)> {
        K::checks_read(&self.0)
    }
    fn fetch<'a>(&'a self, cx: &'a Cx) -> Boxed<'a, Result<Fetched, Unread>> {
        Box::pin(K::fetch(&self.0, cx))
    }
    fn assess(&self, facts: &Facts, past: &Past, now: Timestamp) -> Vec<Finding> {
        K::assess(&self.0, facts, past, now)
    }
}
