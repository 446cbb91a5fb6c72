//! The config that `init` writes, and that is used in memory while there is none: one text for both, so that the first
//! command shows what the file would do. Which packs are in it is told by the traces that systems leave on a host.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::files::{Role, Source};
use super::packs::{PACKS, Pack, Trace};
use crate::host::{Host, files};
use crate::notify::NOTIFIERS;

/// How long a port of loopback has to take a connection.
const PORT_WITHIN: Duration = Duration::from_millis(300);

const HEAD: &str = r#"# What Pulsecheck looks at and whom it tells. Written by `pulsecheck init`; the file is yours.
# After a change: `pulsecheck validate`. Every key of a kind: `pulsecheck kinds NAME`.
# Lines with `#` directly before a key show defaults.

#interval = "15m"              # how often a cycle runs; the scheduler outside must be set to the same
#zone = "Europe/Berlin"        # for times that people read; by default the system's
#quiet_hours = "22:00-07:00"   # when what is below red waits for the morning
#quiet_token = "HEARTBEAT_OK"  # printed when all is well and nothing is new
"#;

/// What the traces say of a pack's system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// The pack is for every host.
    Always,
    /// It left its files here, or answers: the trace, for people.
    Here(String),
    /// Its program is installed, which does not say that anybody uses it.
    Installed(String),
    /// No trace of it.
    Absent,
    /// Nothing tells: the pack is taken only by whoever names it.
    OnRequest,
}

/// What the traces on this host say of every pack, in the order of their list. `answering` are the ports of loopback that
/// take connections, where somebody asked.
#[must_use]
pub fn presences(host: &Host, answering: &BTreeSet<u16>) -> Vec<(&'static Pack, Presence)> {
    PACKS.iter().map(|pack| (pack, presence(pack, host, answering))).collect()
}

fn presence(pack: &Pack, host: &Host, answering: &BTreeSet<u16>) -> Presence {
    let Some(traces) = pack.traces else { return Presence::Always };
    if traces.is_empty() {
        return Presence::OnRequest;
    }
    let there = |path: &str| files::stat(&host.expand(path)).is_ok_and(|stat| stat.is_some());
    let here = traces.iter().find_map(|trace| match trace {
        Trace::Path(path) => {
            let path = root_of(pack, host).map_or_else(|| (*path).to_owned(), |(from, to)| path.replacen(from, &to, 1));
            there(&path).then(|| format!("`{path}` is there"))
        }
        Trace::Port(port) => answering.contains(port).then(|| format!("port {port} answers")),
        Trace::Program(_) => None,
    });
    if let Some(said) = here {
        return Presence::Here(said);
    }
    let installed = traces.iter().find_map(|trace| match trace {
        Trace::Program(name) => host.program(name).map(|_| format!("`{name}` is installed")),
        Trace::Path(_) | Trace::Port(_) => None,
    });
    installed.map_or(Presence::Absent, Presence::Installed)
}

/// The folder that a pack's paths begin with, and the one that the environment names in its stead.
fn root_of(pack: &Pack, host: &Host) -> Option<(&'static str, String)> {
    let (variable, folder) = pack.root?;
    let named = host.var(variable)?.to_str()?.trim_end_matches('/');
    // It goes into a config as text: nothing that TOML or a glob would read as something else.
    let plain = |c: char| c.is_alphanumeric() || "/._-@+~ ".contains(c);
    (named.starts_with('/') && named.chars().all(plain)).then(|| (folder, named.to_owned()))
}

/// The ports of loopback, of those that packs name, that take a connection.
pub async fn answering(host: &Host) -> BTreeSet<u16> {
    let ports: BTreeSet<u16> = PACKS
        .iter()
        .flat_map(|pack| pack.traces.unwrap_or_default())
        .filter_map(|trace| match trace {
            Trace::Port(port) => Some(*port),
            Trace::Path(_) | Trace::Program(_) => None,
        })
        .collect();
    let deadline = Instant::now() + PORT_WITHIN;
    let asked = ports.into_iter().map(|port| async move { (port, host.connect("127.0.0.1", port, deadline).await) });
    join_all(asked).await.into_iter().filter_map(|(port, connected)| connected.ok().map(|_| port)).collect()
}

/// The config as text: commented, ready to be changed. The packs that are for every host and those whose systems are here
/// stand in it; of the others it says what was found and how to take them.
#[must_use]
pub fn render_init(found: &[(&'static Pack, Presence)], host: &Host) -> String {
    let mut text = HEAD.to_owned();
    for (pack, presence) in found {
        let because = match presence {
            Presence::Always => String::new(),
            Presence::Here(because) => format!(": {because}"),
            Presence::Installed(_) | Presence::Absent | Presence::OnRequest => continue,
        };
        let _ = write!(text, "\n# From the pack `{}`{because}.\n", pack.name);
        text.push_str(&body(pack, host));
    }
    for (pack, presence) in found {
        if let Presence::Installed(because) = presence {
            let _ = write!(text, "\n# {because}: `include = [\"pack:{}\"]` looks at it.\n", pack.name);
        }
    }
    text.push_str("\n# Whom to tell. Without a channel, what a cycle has to say is printed only.\n");
    for notifier in NOTIFIERS {
        let example = notifier.doc().example.trim();
        text.extend(example.lines().flat_map(|line| ["#", line, "\n"]));
        text.push('\n');
    }
    text
}

/// A pack without the comment that it opens with, its paths those of this host.
fn body(pack: &Pack, host: &Host) -> String {
    let body = pack.text.lines().skip_while(|line| line.starts_with('#'));
    let body: String = body.flat_map(|line| [line, "\n"]).collect();
    let body = body.trim_start_matches('\n');
    root_of(pack, host).map_or_else(|| body.to_owned(), |(from, to)| body.replace(from, &to))
}

/// The same as the file it would be. No port is asked here: a server that is down must not take its checks away.
pub(super) fn source(host: &Host) -> Source {
    let text = render_init(&presences(host, &BTreeSet::new()), host);
    Source { name: PathBuf::new(), text: Arc::from(text), role: Role::Main }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;
    use crate::host::Paths;

    const TEXT: &str =
        "# One line.\n# What it reads.\n\n[check.claw-host]\nkind = \"system\"\ndisks = [\"~/.claw/data\"]\n";

    fn pack(traces: Option<&'static [Trace]>) -> Pack {
        Pack { name: "claw", text: TEXT, traces, root: Some(("CLAW_HOME", "~/.claw")) }
    }

    fn host(dir: &Path, claw_home: Option<&str>) -> Host {
        let mut env = vec![("PATH".to_owned(), dir.join("bin").display().to_string())];
        env.extend(claw_home.map(|home| ("CLAW_HOME".to_owned(), home.to_owned())));
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let paths = Paths { home: Some(dir.join("home")), state: dir.join("state"), proc: dir.join("proc") };
        Host::new(crate::clock::Clock::machine(), env, paths)
    }

    #[test]
    fn what_a_system_leaves_behind_tells_whether_it_is_here() {
        const TRACES: &[Trace] = &[Trace::Program("claw"), Trace::Port(7), Trace::Path("~/.claw/state")];
        let dir = tempfile::tempdir().unwrap();
        let look =
            |traces, ports: &[u16]| presence(&pack(traces), &host(dir.path(), None), &ports.iter().copied().collect());
        assert_eq!(look(None, &[]), Presence::Always);
        assert_eq!(look(Some(&[]), &[]), Presence::OnRequest);
        assert_eq!(look(Some(TRACES), &[8]), Presence::Absent);

        let program = dir.path().join("bin/claw");
        std::fs::create_dir_all(dir.path().join("bin")).unwrap();
        files::replace(&program, b"#!/bin/sh\n", 0o600).unwrap();
        assert_eq!(look(Some(TRACES), &[]), Presence::Absent, "it may not be run");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(look(Some(TRACES), &[]), Presence::Installed("`claw` is installed".to_owned()));
        assert_eq!(look(Some(TRACES), &[7]), Presence::Here("port 7 answers".to_owned()));
        std::fs::create_dir_all(dir.path().join("home/.claw/state")).unwrap();
        assert_eq!(look(Some(TRACES), &[]), Presence::Here("`~/.claw/state` is there".to_owned()));
    }

    #[test]
    fn a_folder_that_the_environment_names_is_written_down() {
        const TRACES: &[Trace] = &[Trace::Path("~/.claw/state")];
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("else where");
        std::fs::create_dir_all(elsewhere.join("state")).unwrap();
        let named = elsewhere.to_str().unwrap();
        for (variable, here) in [(None, false), (Some(named), true), (Some("relative"), false), (Some("/a\"b"), false)]
        {
            let host = host(dir.path(), variable);
            let found = presence(&pack(Some(TRACES)), &host, &BTreeSet::new());
            assert_eq!(matches!(found, Presence::Here(_)), here, "{variable:?}");
            let text = body(&pack(Some(TRACES)), &host);
            let folder = if here { named } else { "~/.claw" };
            assert_eq!(text, format!("[check.claw-host]\nkind = \"system\"\ndisks = [\"{folder}/data\"]\n"));
        }
    }
}
