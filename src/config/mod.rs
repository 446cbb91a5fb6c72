//! The config: found, read, put together and held against itself. Each part owns its own settings; here they meet, and
//! all that is wrong is said at once, at its place.

mod common;
mod discovery;
mod dispatch;
mod files;
mod nearest;
mod packs;
mod policy;
mod problems;
mod schema;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;

pub use common::{ChannelPolicy, Kept, Limits, When};
pub use discovery::{Presence, answering, presences, render_init};
pub use files::{Found, MAX_BYTES, find, user_file};
pub(crate) use nearest::nearest;
pub use packs::{PACKS, Pack, Trace};
pub use policy::MAX_CHECKS;
pub use problems::Problems;
pub use schema::schema;

use crate::expr::Expr;
use crate::facts::CheckName;
use crate::host::Host;
use crate::judge::Policy;
use crate::kinds::{AnyCheck, AnyKind, KINDS};
use crate::notify::{AnyChannel, NOTIFIERS};
use crate::redact::Clean;
use crate::schedule::Window;
use crate::settings::{SecretRef, named_in};

use common::OwnKeys;
use dispatch::Registry;
use files::{Role, Source};
use table::At;

/// The annotated default config: every key there is, with what it means and its default. It is the documentation.
pub const DEFAULT: &str = include_str!("../../config/pulsecheck.toml");

/// What Pulsecheck works by.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where it was found.
    pub source: Found,
    /// The files that it came from, the main one first; packs as `pack:NAME`. Without a config file: none.
    pub files: Vec<PathBuf>,
    /// The name that this installation speaks under.
    pub instance: Clean,
    /// The zone of active and quiet hours and of times that people read.
    pub zone: TimeZone,
    /// How often a cycle runs.
    pub interval: Duration,
    /// When cycles run at all, in the zone; none means round the clock.
    pub active_hours: Option<Window>,
    /// When notices below red wait until it is over, in the zone; none means never.
    pub quiet_hours: Option<Window>,
    /// What `run` prints when all is well and nothing is new.
    pub quiet_token: String,
    /// Everybody who can own a check; `agent` and `human` are always among them.
    pub owners: BTreeSet<Clean>,
    /// How long things may take.
    pub limits: Limits,
    /// What the store keeps.
    pub store: Kept,
    /// The checks that are switched on, beside the one that Pulsecheck runs on itself.
    pub checks: BTreeMap<CheckName, Check>,
    /// The channels that are switched on.
    pub channels: BTreeMap<String, Channel>,
    /// Where all secrets are kept that it names, those of what is switched off too.
    pub secrets: BTreeSet<SecretRef>,
    own: Policy,
}

/// One configured check.
#[derive(Clone)]
pub struct Check {
    /// Its name.
    pub name: CheckName,
    /// Its kind.
    pub kind: &'static dyn AnyKind,
    /// How to look and assess.
    pub check: Arc<dyn AnyCheck>,
    /// How long one look may take.
    pub timeout: Duration,
    /// While this is false the check is left out.
    pub when: Option<Expr<When>>,
    /// How its observations become levels.
    pub policy: Policy,
}

impl std::fmt::Debug for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Check")
            .field("name", &self.name)
            .field("kind", &self.kind.doc().name)
            .field("check", &self.check)
            .field("timeout", &self.timeout)
            .field("when", &self.when.as_ref().map(Expr::source))
            .field("policy", &self.policy)
            .finish()
    }
}

/// One configured channel.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// How to render and deliver.
    pub channel: Arc<dyn AnyChannel>,
    /// Who gets what on it.
    pub policy: ChannelPolicy,
}

impl Config {
    /// Reads the config that was found, or makes one up from what this host has. Blocking: reads files. All that is
    /// wrong comes at once.
    pub fn load(found: &Found, host: &Host) -> Result<Self, Problems> {
        let mut out = Problems::default();
        let main = match found {
            Found::File(path) => files::read(path, Role::Main, None, &mut out),
            Found::Nowhere => Some(discovery::source(host)),
        };
        let config = main.and_then(|main| {
            let including = dispatch::parse(&main, &mut Problems::default());
            let included = including.map(|file| files::included(&main, &file.root, host, &mut out));
            let complete = out.is_empty();
            let sources: Vec<_> = std::iter::once(main).chain(included.into_iter().flatten()).collect();
            let registry = Registry { kinds: KINDS, notifiers: NOTIFIERS };
            let (config, secrets) = named_in(|| assemble(&sources, complete, registry, host, &mut out));
            config.map(|config| Self { secrets, ..config })
        });
        match config {
            Some(config) if out.is_empty() => Ok(Self { source: found.clone(), ..config }),
            _ => Err(out),
        }
    }

    /// Each check's policy, that of the check that Pulsecheck runs on itself among them.
    #[must_use]
    pub fn policies(&self) -> BTreeMap<CheckName, Policy> {
        let own = (CheckName::own(), self.own.clone());
        self.checks.iter().map(|(name, check)| (name.clone(), check.policy.clone())).chain([own]).collect()
    }
}

/// Puts the files together; `complete` says whether all that were named are there. `None` when a part is missing; with
/// anything in `out` the result is not to be used.
fn assemble(sources: &[Source], complete: bool, registry: Registry, host: &Host, out: &mut Problems) -> Option<Config> {
    let names: Vec<_> = sources.iter().map(|source| source.name.clone()).collect();
    let config = put_together(sources, complete, registry, host, out);
    out.sort(&names);
    config
}

fn put_together(
    sources: &[Source],
    complete: bool,
    registry: Registry,
    host: &Host,
    out: &mut Problems,
) -> Option<Config> {
    let parsed: Vec<_> = sources.iter().map(|source| dispatch::parse(source, out)).collect();
    let complete = complete && parsed.iter().all(Option::is_some);
    let parsed: Vec<_> = parsed.into_iter().flatten().collect();
    let written = dispatch::read(&parsed, registry, out);
    // With a file missing, whatever names something in it would look wrong.
    let main = parsed.iter().find(|file| file.source.role == Role::Main).filter(|_| complete)?;
    let at = At { file: &main.source.name, key: String::new(), span: 0..0 };
    policy::cross_check(&written, &at, &main.root, out);

    let top = written.top?.value;
    let own = written.own.map_or_else(OwnKeys::default, |(keys, ..)| keys);
    let (mut checks, mut advised) = (BTreeMap::new(), policy::Advised::new());
    for written_check in written.checks.into_iter().filter(|check| check.keys.enabled) {
        let (name, keys, (kind, check)) = (written_check.name, written_check.keys, written_check.check?);
        let policy = policy::policy(&keys, kind, top.interval, &written.names, &mut advised);
        let timeout = policy::timeout(&keys, &top.limits);
        checks.insert(name.clone(), Check { name, kind, check, timeout, when: keys.when, policy });
    }
    let mut channels = BTreeMap::new();
    for written_channel in written.channels.into_iter().filter(|channel| channel.keys.enabled) {
        let (name, channel) = (written_channel.name, written_channel.channel?);
        let policy = policy::channel_policy(&written_channel.keys, channel.doc());
        channels.insert(name.clone(), Channel { name, channel, policy });
    }
    let zone = top.zone.as_ref().map_or_else(|| system_zone(host), |zone| zone.0.clone());
    let in_zone = |window: Option<Window>| window.map(|window| window.in_zone(&zone));
    Some(Config {
        source: Found::Nowhere,
        files: sources.iter().map(|source| source.name.clone()).filter(|name| name != Path::new("")).collect(),
        instance: top.instance.as_ref().map_or_else(host_name, |instance| Clean::new(&instance.0)),
        active_hours: in_zone(top.active_hours),
        quiet_hours: in_zone(top.quiet_hours),
        zone,
        interval: top.interval.get(),
        quiet_token: top.quiet_token.0.clone(),
        owners: top.owners.iter().map(common::Name::clean).chain(["agent", "human"].map(Clean::new)).collect(),
        limits: top.limits,
        store: top.store,
        checks,
        channels,
        secrets: BTreeSet::new(),
        own: policy::own_policy(&own, top.interval),
    })
}

/// The host's own name.
fn host_name() -> Clean {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    if name.is_empty() { Clean::new("localhost") } else { Clean::line(&name, 64) }
}

/// `$TZ` where it names a zone, else the system's, else UTC.
fn system_zone(host: &Host) -> TimeZone {
    let named = host.var("TZ").and_then(|zone| zone.to_str()).map(|zone| zone.trim_start_matches(':'));
    named
        .filter(|zone| !zone.is_empty())
        .and_then(|zone| TimeZone::get(zone).ok())
        .or_else(local_zone)
        .or_else(|| TimeZone::try_system().ok())
        .unwrap_or(TimeZone::UTC)
}

/// The zone that `/etc/localtime` points to, read from there: a search by its name would list the whole database.
fn local_zone() -> Option<TimeZone> {
    let path = Path::new("/etc/localtime");
    let target = std::fs::read_link(path).ok()?;
    let (_, name) = target.to_str()?.split_once("/zoneinfo/")?;
    let (rules, _) = crate::host::files::read(path, 64 << 10).ok()?;
    TimeZone::tzif(name, &rules).ok()
}

#[cfg(test)]
mod tests;
