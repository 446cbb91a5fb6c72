//! The packs inside the binary: ready checks for one system each, and the traces by which `init` finds that system.

/// One pack.
#[derive(Debug, Clone, Copy)]
pub struct Pack {
    /// Its name: `include = ["pack:NAME"]`.
    pub name: &'static str,
    /// A config file with checks only. Its opening comment says what it reads, costs and leaves alone.
    pub text: &'static str,
    /// What shows that the system is there; any of them is enough. None: it is proposed on every host, or (with an empty
    /// list) only on request.
    pub traces: Option<&'static [Trace]>,
    /// The folder that its paths begin with, and the variable of the environment that may name another one.
    pub root: Option<(&'static str, &'static str)>,
}

/// Something that lasts while the system is installed, whether it runs or not: a server that is down must not take its
/// checks away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// A file or folder, `~/` is the home. Other programs look for it too.
    Path(&'static str),
    /// A program on the `PATH`.
    Program(&'static str),
    /// A port of loopback that answers: only `init` asks, since what it finds is then written down.
    Port(u16),
}

/// Every pack, by name. One line a pack.
pub static PACKS: &[Pack] = &[
    pack("claude-code", include_str!("../../checks/claude-code.toml"), CLAUDE_CODE)
        .root("CLAUDE_CONFIG_DIR", "~/.claude"),
    pack("codex", include_str!("../../checks/codex.toml"), CODEX).root("CODEX_HOME", "~/.codex"),
    pack("hermes", include_str!("../../checks/hermes.toml"), HERMES).root("HERMES_HOME", "~/.hermes"),
    pack("host", include_str!("../../checks/host.toml"), None),
    pack("nanobot", include_str!("../../checks/nanobot.toml"), NANOBOT),
    pack("openclaw", include_str!("../../checks/openclaw.toml"), OPENCLAW).root("OPENCLAW_STATE_DIR", "~/.openclaw"),
];

const CLAUDE_CODE: Option<&[Trace]> = Some(&[Trace::Path("~/.claude/projects"), Trace::Program("claude")]);
const CODEX: Option<&[Trace]> = Some(&[Trace::Path("~/.codex/sessions"), Trace::Program("codex")]);
const HERMES: Option<&[Trace]> = Some(&[Trace::Path("~/.hermes/state.db"), Trace::Program("hermes")]);
const NANOBOT: Option<&[Trace]> = Some(&[Trace::Path("~/.nanobot"), Trace::Program("nanobot")]);
const OPENCLAW: Option<&[Trace]> = Some(&[
    Trace::Path("~/.openclaw/openclaw.json"),
    Trace::Path("~/.openclaw/state"),
    Trace::Port(18789),
    Trace::Program("openclaw"),
]);

const fn pack(name: &'static str, text: &'static str, traces: Option<&'static [Trace]>) -> Pack {
    Pack { name, text, traces, root: None }
}

impl Pack {
    const fn root(mut self, variable: &'static str, folder: &'static str) -> Self {
        self.root = Some((variable, folder));
        self
    }
}

/// The pack called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Pack> {
    PACKS.iter().find(|pack| pack.name == name)
}
