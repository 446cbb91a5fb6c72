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
    pack("chroma", include_str!("../../checks/chroma.toml"), CHROMA),
    pack("claude-code", include_str!("../../checks/claude-code.toml"), CLAUDE_CODE)
        .root("CLAUDE_CONFIG_DIR", "~/.claude"),
    pack("codex", include_str!("../../checks/codex.toml"), CODEX).root("CODEX_HOME", "~/.codex"),
    pack("cron-jobs", include_str!("../../checks/cron-jobs.toml"), CRON_JOBS),
    pack("gpu-worker", include_str!("../../checks/gpu-worker.toml"), GPU_WORKER)
        .root("GPU_WORKER_HOME", "~/gpu-worker"),
    pack("hermes", include_str!("../../checks/hermes.toml"), HERMES).root("HERMES_HOME", "~/.hermes"),
    pack("host", include_str!("../../checks/host.toml"), None),
    pack("langfuse", include_str!("../../checks/langfuse.toml"), ON_REQUEST),
    pack("litellm", include_str!("../../checks/litellm.toml"), LITELLM),
    pack("llamacpp", include_str!("../../checks/llamacpp.toml"), LLAMACPP),
    pack("n8n", include_str!("../../checks/n8n.toml"), N8N),
    pack("nanobot", include_str!("../../checks/nanobot.toml"), NANOBOT),
    pack("ollama", include_str!("../../checks/ollama.toml"), OLLAMA),
    pack("openclaw", include_str!("../../checks/openclaw.toml"), OPENCLAW).root("OPENCLAW_STATE_DIR", "~/.openclaw"),
    pack("qdrant", include_str!("../../checks/qdrant.toml"), QDRANT),
    pack("redis", include_str!("../../checks/redis.toml"), REDIS),
    pack("security", include_str!("../../checks/security.toml"), ON_REQUEST),
    pack("vllm", include_str!("../../checks/vllm.toml"), VLLM),
    pack("weaviate", include_str!("../../checks/weaviate.toml"), WEAVIATE),
];

type Traces = Option<&'static [Trace]>;

// A unit that is enabled is meant to run; a program that is there need not be. Ports that others use as well (3000, 4000,
// 8000, 8080) are no trace of anybody.
const ON_REQUEST: Traces = Some(&[]);
const CHROMA: Traces = Some(&[Trace::Program("chroma")]);
const CLAUDE_CODE: Traces = Some(&[Trace::Path("~/.claude/projects"), Trace::Program("claude")]);
const CODEX: Traces = Some(&[Trace::Path("~/.codex/sessions"), Trace::Program("codex")]);
const CRON_JOBS: Traces = Some(&[Trace::Program("crontab")]);
const GPU_WORKER: Traces = Some(&[Trace::Path("~/gpu-worker/queue.db"), Trace::Program("nvidia-smi")]);
const HERMES: Traces = Some(&[Trace::Path("~/.hermes/state.db"), Trace::Program("hermes")]);
const LITELLM: Traces = Some(&[Trace::Program("litellm")]);
const LLAMACPP: Traces = Some(&[Trace::Program("llama-server")]);
const N8N: Traces = Some(&[Trace::Path("~/.n8n"), Trace::Port(5678), Trace::Program("n8n")]);
const NANOBOT: Traces = Some(&[Trace::Path("~/.nanobot"), Trace::Program("nanobot")]);
const OLLAMA: Traces = Some(&[
    Trace::Path("/etc/systemd/system/default.target.wants/ollama.service"),
    Trace::Path("~/.ollama/models"),
    Trace::Port(11434),
    Trace::Program("ollama"),
]);
// No port: its checks read the folder, which a gateway in a container keeps elsewhere.
const OPENCLAW: Traces =
    Some(&[Trace::Path("~/.openclaw/openclaw.json"), Trace::Path("~/.openclaw/state"), Trace::Program("openclaw")]);
const QDRANT: Traces = Some(&[
    Trace::Path("/etc/systemd/system/multi-user.target.wants/qdrant.service"),
    Trace::Path("/var/lib/qdrant"),
    Trace::Port(6333),
    Trace::Program("qdrant"),
]);
const REDIS: Traces = Some(&[
    Trace::Path("/etc/systemd/system/multi-user.target.wants/redis-server.service"),
    Trace::Path("/etc/systemd/system/multi-user.target.wants/redis.service"),
    Trace::Path("/etc/systemd/system/multi-user.target.wants/valkey.service"),
    Trace::Port(6379),
    Trace::Program("redis-server"),
    Trace::Program("valkey-server"),
]);
const VLLM: Traces = Some(&[Trace::Program("vllm")]);
const WEAVIATE: Traces = Some(&[Trace::Path("/var/lib/weaviate"), Trace::Program("weaviate")]);

const fn pack(name: &'static str, text: &'static str, traces: Traces) -> Pack {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openclaw_is_found_by_what_its_checks_read() {
        let traces = find("openclaw").and_then(|pack| pack.traces).unwrap();
        assert!(!traces.iter().any(|trace| matches!(trace, Trace::Port(_))), "{traces:?}");
    }
}
