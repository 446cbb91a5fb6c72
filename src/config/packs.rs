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
    pack("chroma", include_str!("../../checks/chroma.toml"), Some(&[Trace::Program("chroma")])),
    pack(
        "cron-jobs",
        include_str!("../../checks/cron-jobs.toml"),
        Some(&[Trace::Path("/etc/crontab"), Trace::Program("crontab")]),
    ),
    pack("host", include_str!("../../checks/host.toml"), None),
    pack("langfuse", include_str!("../../checks/langfuse.toml"), Some(&[])),
    pack("litellm", include_str!("../../checks/litellm.toml"), Some(&[Trace::Program("litellm")])),
    pack("llamacpp", include_str!("../../checks/llamacpp.toml"), Some(&[Trace::Program("llama-server")])),
    pack(
        "n8n",
        include_str!("../../checks/n8n.toml"),
        Some(&[Trace::Path("~/.n8n"), Trace::Port(5678), Trace::Program("n8n")]),
    ),
    pack("ollama", include_str!("../../checks/ollama.toml"), Some(OLLAMA)),
    pack("qdrant", include_str!("../../checks/qdrant.toml"), Some(QDRANT)),
    pack("redis", include_str!("../../checks/redis.toml"), Some(REDIS)),
    pack("vllm", include_str!("../../checks/vllm.toml"), Some(&[Trace::Program("vllm")])),
    pack(
        "weaviate",
        include_str!("../../checks/weaviate.toml"),
        Some(&[Trace::Path("/var/lib/weaviate"), Trace::Program("weaviate")]),
    ),
];

// A unit that is enabled is meant to run; a program that is there need not be. Ports that others use as well (3000, 4000,
// 8000, 8080) are no trace of anybody.
const OLLAMA: &[Trace] = &[
    Trace::Path("/etc/systemd/system/default.target.wants/ollama.service"),
    Trace::Path("~/.ollama/models"),
    Trace::Port(11434),
    Trace::Program("ollama"),
];
const QDRANT: &[Trace] = &[
    Trace::Path("/etc/systemd/system/multi-user.target.wants/qdrant.service"),
    Trace::Path("/var/lib/qdrant"),
    Trace::Port(6333),
    Trace::Program("qdrant"),
];
const REDIS: &[Trace] = &[
    Trace::Path("/etc/systemd/system/multi-user.target.wants/redis-server.service"),
    Trace::Path("/etc/systemd/system/multi-user.target.wants/redis.service"),
    Trace::Path("/etc/systemd/system/multi-user.target.wants/valkey.service"),
    Trace::Port(6379),
    Trace::Program("redis-server"),
    Trace::Program("valkey-server"),
];

const fn pack(name: &'static str, text: &'static str, traces: Option<&'static [Trace]>) -> Pack {
    Pack { name, text, traces, root: None }
}

impl Pack {
    #[expect(dead_code, reason = "until a pack has one")]
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
