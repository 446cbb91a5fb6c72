//! Which server is looked at, how one gets in, and what its models are held to.

use schemars::JsonSchema;
use serde::Deserialize;

use super::MAX_MODELS;
use crate::kinds::api::{self, Keys};
use crate::settings::{Dur, SecretRef};

/// The server and what to hold it to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which server it is: `ollama`, `vllm`, `llamacpp`, `litellm`, or `openai` for any other that lists its models under
    /// `/v1/models`.
    pub(super) engine: Engine,
    /// Its address. By default its usual port on this machine (Ollama 11434, vLLM 8000, LiteLLM 4000); llama.cpp has none
    /// that can be relied on. A `/v1` at its end may stand or not.
    pub(super) url: Option<String>,
    /// The key, sent as `Authorization: Bearer …`.
    pub(super) api_key: Option<SecretRef>,
    /// A PEM file with certificates to trust beside the system's.
    pub(super) ca_file: Option<String>,
    /// The models that must be there, by the names that requests use.
    #[serde(default)]
    pub(super) models: Vec<String>,
    /// For `ollama`: `required` makes a model that was loaded into the machine's memory, whole or in part, trouble. With
    /// `any` (the default) a model that moves between GPU and CPU is a change, said once.
    #[serde(default)]
    pub(super) gpu: Gpu,
    /// The least context, in tokens, that each of `models` must be loaded with: what is beyond a shorter one is cut
    /// without a word.
    pub(super) min_context: Option<u64>,
    /// For `vllm` and `llamacpp`: requests that may wait before it is a warn. Not judged by default.
    pub(super) max_waiting: Option<u32>,
    /// For `vllm` and `llamacpp`: fail when requests are there and not one token came of them for this long, over two
    /// looks or more. A slow machine may read a long prompt for longer.
    #[serde(default = "ten_minutes")]
    pub(super) stuck_after: Dur,
    /// For `llamacpp`: warn when no slot is free.
    #[serde(default)]
    pub(super) free_slot: bool,
    /// For `litellm`: warn this long before a model is retired, where the proxy knows the day.
    #[serde(default = "thirty_days")]
    pub(super) retire_warn: Dur,
}

const fn ten_minutes() -> Dur {
    Dur::mins(10)
}
const fn thirty_days() -> Dur {
    Dur::days(30)
}

/// The servers that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    Ollama,
    Vllm,
    Llamacpp,
    Litellm,
    Openai,
}

/// Whether models have to be on the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Gpu {
    #[default]
    Any,
    Required,
}

impl Settings {
    /// The server's address, without `/v1` at its end.
    pub(super) fn address(&self) -> String {
        let usual = match self.engine {
            Engine::Ollama => "http://127.0.0.1:11434",
            Engine::Vllm => "http://127.0.0.1:8000",
            Engine::Litellm => "http://127.0.0.1:4000",
            Engine::Llamacpp | Engine::Openai => "",
        };
        let url = self.url.as_deref().unwrap_or(usual).trim_end_matches('/');
        url.strip_suffix("/v1").unwrap_or(url).to_owned()
    }

    pub(super) fn keys(&self) -> Keys<'_> {
        Keys { header: "authorization", api_key: self.api_key.as_ref(), bearer: None }
    }

    pub(super) fn validate(&self, report: &mut dyn FnMut(&str, String)) {
        match (&self.url, self.engine) {
            (Some(url), _) => api::validate_url("url", url, report),
            (None, Engine::Llamacpp) => {
                report("url", "`llamacpp` needs `url` (as in `http://127.0.0.1:8080`; see its `--port`)".to_owned());
            }
            (None, Engine::Openai) => report("url", "`openai` needs `url` (as in `http://127.0.0.1:1234`)".to_owned()),
            (None, _) => {}
        }
        if self.models.len() > MAX_MODELS {
            report("models", format!("one check looks at {MAX_MODELS} models (make it two checks)"));
        }
        if self.models.iter().any(|model| model.trim().is_empty()) {
            report("models", "a model has no name".to_owned());
        }
        if self.models.is_empty() {
            if self.engine == Engine::Openai {
                report("models", "`openai` needs `models` (an answer alone proves little)".to_owned());
            }
            for (key, given) in [("gpu", self.gpu == Gpu::Required), ("min_context", self.min_context.is_some())] {
                // Of the only model of a llama.cpp server, the context is known without its name.
                if given && self.engine != Engine::Llamacpp {
                    report(key, format!("`{key}` holds for `models`, and none is listed"));
                }
            }
        }
        let has_queue = matches!(self.engine, Engine::Vllm | Engine::Llamacpp);
        for (key, given, fits, to) in [
            ("gpu", self.gpu == Gpu::Required, self.engine == Engine::Ollama, "`ollama`"),
            ("max_waiting", self.max_waiting.is_some(), has_queue, "`vllm` and `llamacpp`"),
            ("free_slot", self.free_slot, self.engine == Engine::Llamacpp, "`llamacpp`"),
        ] {
            if given && !fits {
                report(key, format!("`{key}` belongs to {to}"));
            }
        }
        if self.stuck_after.is_zero() {
            report("stuck_after", "expected a duration above 0s".to_owned());
        }
    }
}
