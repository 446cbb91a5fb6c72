//! Model servers: whether they answer, have the models that agents ask for, hold them on the GPU, and get anything done.
//! Nothing here loads a model or asks one; what each server is asked is in `engines.rs`.

mod engines;
mod metrics;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::settings::Settings;
use self::settings::{Engine, Gpu};
use super::api::{API_REASONS, Api};
use super::common::{CONNECT_REASONS, HTTP_REASONS, LANE_REASONS, SECRET_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Class, Edge, Facts, Finding, Scale, Subject, Unit, Unread, Weight, Worse};
use crate::redact::Clean;
use crate::words::span;

/// Models that one check looks at.
const MAX_MODELS: usize = 150;
/// How long what was seen of a loaded model is told of one that is not loaded now.
const PLACE_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// How long a server that had models and has none is missed them.
const MODELS_MISSED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// More of a model than this, in percent, in the machine's memory is all of it.
const ALL_PERCENT: f64 = 99.9;

/// See [`Kind`].
#[derive(Debug)]
pub struct ModelServer;

const fn doc(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human: false }
}
const WARN: ReasonOutcome = ReasonOutcome::Warn;
const FAIL: ReasonOutcome = ReasonOutcome::Fail;
const TARGET: ReasonOutcome = ReasonOutcome::Unknown(Blame::Target);

const REASONS: &[ReasonDoc] = &[
    doc("not_ready", TARGET, false, "the server runs and says that it is not ready", "see the server's log"),
    doc("loading", TARGET, false, "llama.cpp is still loading its model", "wait; if it lasts, see the server's log"),
    doc("engine_dead", TARGET, false, "vLLM answers and its engine is dead", "restart the server and see its log"),
    doc(
        "model_missing",
        FAIL,
        true,
        "a model of `models` is not among the server's",
        "pull or load the model, or correct its name",
    ),
    doc(
        "no_models",
        WARN,
        true,
        "the server lists no model, and it had some",
        "see where the server keeps its models, and who removed them",
    ),
    doc(
        "partly_on_cpu",
        WARN,
        false,
        "part of a model lies in the machine's memory although `gpu = \"required\"`",
        "free memory of the GPU or take a smaller model or context",
    ),
    doc(
        "on_cpu",
        FAIL,
        false,
        "a model runs without the GPU although `gpu = \"required\"`",
        "see whether the GPU and its driver are there, then restart the server",
    ),
    doc(
        "context_short",
        WARN,
        true,
        "a model is loaded with less context than `min_context`",
        "raise the context in the server's or the model's settings",
    ),
    doc("queue_long", WARN, false, "more requests wait than `max_waiting`", "see what floods the server"),
    doc(
        "stuck",
        FAIL,
        true,
        "requests are there, and for longer than `stuck_after` not one token came, though the server calls itself healthy",
        "restart the server",
    ),
    doc("no_free_slot", WARN, false, "all slots are busy", "see which requests hold them, or give the server more"),
    ReasonDoc {
        code: "no_metrics",
        outcome: ReasonOutcome::Unknown(Blame::Blind),
        settled: true,
        about: "`max_waiting` is set and the server shows no metrics",
        action: "start llama.cpp with `--metrics` or leave `max_waiting` out",
        needs_human: true,
    },
    doc(
        "retires_soon",
        WARN,
        true,
        "the provider retires a model in less than `retire_warn`",
        "move to another model before that day",
    ),
    doc("retired", FAIL, true, "the provider's day for retiring a model is over", "move to another model"),
];

impl Kind for ModelServer {
    const DOC: KindDoc = KindDoc {
        name: "model_server",
        about: "A model server: Ollama, vLLM, llama.cpp, LiteLLM or one like OpenAI's. Whether it is ready, lists the \
                models that it must have, holds them on the GPU, and works off its requests. A status of 200 proves \
                none of that. No model is asked anything, loaded or woken, and nothing is spent.",
        subjects: "the models of `models`, and the server itself",
        facts: &[
            FactDoc { name: "version", class: "state", about: "the server's version" },
            FactDoc { name: "database", class: "state", about: "whether LiteLLM has its database" },
            FactDoc { name: "model_path", class: "state", about: "the file that llama.cpp serves" },
            FactDoc { name: "slots", class: "info", about: "requests that llama.cpp can work on at once" },
            FactDoc {
                name: "sleeping",
                class: "info",
                about: "whether llama.cpp has put its model away until it is asked",
            },
            FactDoc { name: "free_slot", class: "info", about: "whether a slot is free, where that is asked for" },
            FactDoc { name: "models", class: "info", about: "how many models the server lists" },
            FactDoc { name: "models_before", class: "info", about: "how many it listed last, where it lists none now" },
            FactDoc { name: "running", class: "info", about: "requests that are being worked on" },
            FactDoc { name: "waiting", class: "gauge", about: "requests that wait; warns beyond `max_waiting`" },
            FactDoc { name: "tokens", class: "info", about: "tokens read and written since the server began" },
            FactDoc {
                name: "stalled_s",
                class: "gauge",
                about: "seconds for which requests were there at each look and no token came; fails beyond `stuck_after`",
            },
            FactDoc { name: "cache_percent", class: "gauge", about: "how full the cache of contexts is" },
            FactDoc { name: "listed", class: "info", about: "whether the model is among the server's" },
            FactDoc { name: "digest", class: "state", about: "the beginning of the digest of the model's file" },
            FactDoc { name: "size_bytes", class: "info", about: "the model's size on disk" },
            FactDoc { name: "loaded", class: "info", about: "whether it is in memory now; one that is idle is not" },
            FactDoc { name: "loaded_at", class: "info", about: "when it was last seen in memory" },
            FactDoc {
                name: "placement",
                class: "state",
                about: "where it was when last seen in memory: `GPU`, `GPU and CPU` or `CPU`; kept for a day",
            },
            FactDoc {
                name: "cpu_percent",
                class: "gauge",
                about: "how much of it lay in the machine's memory instead of the GPU's; bands with `gpu = \"required\"`",
            },
            FactDoc {
                name: "context_length",
                class: "info",
                about: "the context that it is or was loaded with, in tokens",
            },
            FactDoc {
                name: "retires_in_s",
                class: "gauge",
                about: "seconds until its provider retires it; bands by `retire_warn`",
            },
        ],
        reasons: &[REASONS, API_REASONS, HTTP_REASONS, CONNECT_REASONS, LANE_REASONS, SECRET_REASONS],
        example: r#"[check.local-models]
kind = "model_server"
engine = "ollama"
models = ["qwen3:8b", "nomic-embed-text"]
gpu = "required"
min_context = 32768
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        settings.validate(report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let api = Api::new(cx, &settings.address(), &settings.keys(), settings.ca_file.as_deref()).await?;
        let seen = match settings.engine {
            Engine::Ollama => engines::ollama(settings, &api).await?,
            Engine::Vllm => engines::vllm(settings, &api).await?,
            Engine::Llamacpp => engines::llamacpp(settings, &api).await?,
            Engine::Litellm => engines::litellm(settings, &api).await?,
            Engine::Openai => engines::openai(&api).await?,
        };
        put(settings, seen, cx)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let none = Subject::none();
        let mut findings = Vec::new();
        let mut found = |subject: &Subject, code: &'static str, weight, settled, said| {
            findings.push(Finding::new(code, weight, settled, said).on(subject));
        };
        if let Some(before) = facts.number(&none, "models_before") {
            found(&none, "no_models", Weight::Warn, true, clean!("lists no model; it listed {before} before"));
        }
        if facts.flag(&none, "free_slot") == Some(false) {
            found(&none, "no_free_slot", Weight::Warn, false, clean!("all slots are busy"));
        }
        for subject in facts.subjects() {
            if facts.flag(&subject, "listed") == Some(false) {
                let said = match facts.number(&none, "models") {
                    Some(0.0) => clean!("is not there: the server lists no model at all"),
                    Some(others) => clean!("is not among the {others} models that the server lists"),
                    None => clean!("is not among the server's models"),
                };
                found(&subject, "model_missing", Weight::Fail, true, said);
            }
            if let (Some(least), Some(length)) = (settings.min_context, facts.number(&subject, "context_length"))
                && length < as_number(least)
            {
                let said = clean!("has a context of {length} tokens, at least {least} are needed");
                found(&subject, "context_short", Weight::Warn, true, said);
            }
        }
        findings
    }
}

#[expect(clippy::cast_precision_loss, reason = "tokens and bytes are compared in three digits")]
fn as_number(n: u64) -> f64 {
    n as f64
}

/// What a server said.
#[derive(Debug, Default)]
struct Seen {
    /// Facts about the server itself.
    server: Facts,
    /// Its models by name, if they were asked for.
    models: Option<BTreeMap<String, Model>>,
    /// What it is at.
    work: Option<Work>,
    /// What could not be read of the server, though it answers.
    unread: Option<Unread>,
    /// Why nothing is known of where models are loaded.
    places: Option<Unread>,
}

/// One model.
#[derive(Debug, Clone, Default)]
struct Model {
    digest: Option<String>,
    size: Option<u64>,
    /// Whether it is in memory, where the server tells.
    loaded: Option<bool>,
    place: Option<Place>,
    /// The context where it needs no loading to be known.
    context: Option<u64>,
    retires: Option<Timestamp>,
}

/// Where a loaded model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Place {
    cpu_percent: f64,
    context: Option<u64>,
}

/// A place, and when it was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Placed {
    at: Timestamp,
    place: Place,
}

/// What a server is at.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Work {
    running: f64,
    waiting: f64,
    tokens: Option<f64>,
    cache_percent: Option<f64>,
}

/// Requests without progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stalled {
    since: Timestamp,
    tokens: f64,
}

/// How many models a server had.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Had {
    models: usize,
    at: Timestamp,
}

const WORK: &str = "work";
const HAD: &str = "had";

fn put(settings: &Settings, seen: Seen, cx: &Cx) -> Result<Fetched, Unread> {
    let none = Subject::none();
    let mut fetched = Fetched { facts: seen.server, ..Fetched::default() };
    if let Some(unread) = seen.unread {
        fetched.unread.insert(none.clone(), unread);
    }
    if let Some(models) = &seen.models {
        fetched.facts.info(&none, "models", models.len());
        if settings.models.is_empty() {
            put_count(models.len(), cx, &mut fetched)?;
        }
        for name in &settings.models {
            let subject = Subject::new(name);
            let model = named(settings.engine, models, name);
            fetched.facts.info(&subject, "listed", model.is_some());
            if let Some(model) = model {
                put_model(settings, &subject, model, cx, &mut fetched)?;
                if let Some(unread) = &seen.places {
                    fetched.unread.insert(subject, unread.clone());
                }
            }
        }
    }
    if let Some(work) = seen.work {
        put_work(settings, work, cx, &mut fetched)?;
    }
    Ok(fetched)
}

/// The model that a request by this name would get.
fn named<'a>(engine: Engine, models: &'a BTreeMap<String, Model>, name: &str) -> Option<&'a Model> {
    let exact = models.get(name);
    match engine {
        Engine::Ollama if !name.rsplit('/').next().unwrap_or_default().contains(':') => {
            exact.or_else(|| models.get(&format!("{name}:latest")))
        }
        // It answers by its only model, which it calls by its file.
        Engine::Llamacpp => exact.or_else(|| {
            let file = |id: &str| id.rsplit('/').next().unwrap_or_default().trim_end_matches(".gguf").to_owned();
            models.iter().find(|(id, _)| file(id) == file(name)).map(|(_, model)| model)
        }),
        _ => exact,
    }
}

fn recall<T: DeserializeOwned>(cx: &Cx, key: &str) -> Result<Option<T>, Unread> {
    Ok(cx.memory.get(key)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// Writes what is to be known next time, when it differs.
fn keep<T: Serialize + PartialEq>(fetched: &mut Fetched, key: &str, before: Option<&T>, now: Option<&T>) {
    if before != now {
        fetched.remember.push((key.to_owned(), now.and_then(|now| serde_json::to_vec(now).ok())));
    }
}

/// A server without models may be new; one that had some has lost them.
fn put_count(models: usize, cx: &Cx, fetched: &mut Fetched) -> Result<(), Unread> {
    let before: Option<Had> = recall(cx, HAD)?;
    let now = if models > 0 {
        // Its time is brought up to date once an hour, so that not every look writes.
        let known = before.clone().filter(|had| had.models == models && cx.now.wall.duration_since(had.at) < HOUR);
        known.or(Some(Had { models, at: cx.now.wall }))
    } else {
        before.clone().filter(|had| cx.now.wall.duration_since(had.at) < MODELS_MISSED)
    };
    if models == 0
        && let Some(had) = &now
    {
        fetched.facts.info(&Subject::none(), "models_before", had.models);
    }
    keep(fetched, HAD, before.as_ref(), now.as_ref());
    Ok(())
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn put_model(
    settings: &Settings,
    subject: &Subject,
    model: &Model,
    cx: &Cx,
    fetched: &mut Fetched,
) -> Result<(), Unread> {
    let facts = &mut fetched.facts;
    if let Some(digest) = &model.digest {
        let digest: String = digest.trim_start_matches("sha256:").chars().take(12).collect();
        facts.put_foreign(subject, "digest", digest, Class::State);
    }
    if let Some(size) = model.size {
        facts.info(subject, "size_bytes", size);
    }
    if let Some(loaded) = model.loaded {
        facts.info(subject, "loaded", loaded);
    }
    if let Some(at) = model.retires {
        facts.gauge(subject, "retires_in_s", at.duration_since(cx.now.wall).as_secs(), retirement(settings, at, cx));
    }
    let mut context = model.context;
    if model.loaded.is_some() {
        let key = format!("model:{subject}");
        let before: Option<Placed> = recall(cx, &key)?;
        let placed = match &model.place {
            // The time alone is not worth a write each cycle.
            Some(place) => {
                let known = before.clone().filter(|placed| {
                    placed.place == *place
                        && (SignedDuration::ZERO..HOUR).contains(&cx.now.wall.duration_since(placed.at))
                });
                known.or_else(|| Some(Placed { at: cx.now.wall, place: place.clone() }))
            }
            // One that is idle is where it was, as far as anybody knows.
            None => before.clone().filter(|placed| cx.now.wall.duration_since(placed.at) < PLACE_KEPT),
        };
        keep(fetched, &key, before.as_ref(), placed.as_ref());
        if let Some(placed) = &placed {
            context = placed.place.context.or(context);
            put_place(settings, subject, placed, model.loaded == Some(true), cx, &mut fetched.facts);
        }
    }
    if let Some(context) = context {
        fetched.facts.info(subject, "context_length", context);
    }
    Ok(())
}

fn put_place(settings: &Settings, subject: &Subject, placed: &Placed, loaded: bool, cx: &Cx, facts: &mut Facts) {
    let cpu = placed.place.cpu_percent;
    let placement = match cpu {
        cpu if cpu <= 0.0 => "GPU",
        cpu if cpu > ALL_PERCENT => "CPU",
        _ => "GPU and CPU",
    };
    facts.info(subject, "loaded_at", placed.at);
    facts.state(subject, "placement", placement);
    let edge = |at, code: &'static str| {
        (settings.gpu == Gpu::Required).then(|| Edge { at, code: code.into(), settled: false })
    };
    let (verb, when) = if loaded {
        ("runs", String::new())
    } else {
        ("ran", format!(" when it was last loaded, {} ago", span(cx.now.wall.duration_since(placed.at).as_secs())))
    };
    let says = if cpu > ALL_PERCENT {
        clean!("{verb} on the CPU alone{when}")
    } else {
        clean!("{verb} partly on the CPU ({cpu:.0} % of it){when}")
    };
    let scale = Scale {
        unit: Unit::Percent,
        worse: Worse::Above,
        warn: edge(0.0, "partly_on_cpu"),
        fail: edge(ALL_PERCENT, "on_cpu"),
        says,
        episode: None,
    };
    facts.gauge(subject, "cpu_percent", (cpu * 10.0).round() / 10.0, scale);
}

fn retirement(settings: &Settings, at: Timestamp, cx: &Cx) -> Scale {
    let left_s = at.duration_since(cx.now.wall).as_secs();
    let edge = |at, code: &'static str| Some(Edge { at, code: code.into(), settled: true });
    let says = if left_s < 0 {
        clean!("was retired by its provider {} ago", span(left_s))
    } else {
        clean!("is retired by its provider in {}", span(left_s))
    };
    Scale {
        unit: Unit::Seconds,
        worse: Worse::Below,
        warn: edge(settings.retire_warn.as_secs_f64(), "retires_soon"),
        fail: edge(0.0, "retired"),
        says,
        episode: Some(Clean::new(&at.to_string())),
    }
}

/// What the server is at, and since when nothing comes of it.
fn put_work(settings: &Settings, work: Work, cx: &Cx, fetched: &mut Fetched) -> Result<(), Unread> {
    let none = Subject::none();
    let facts = &mut fetched.facts;
    let (running, waiting) = (work.running, work.waiting);
    facts.info(&none, "running", running);
    let scale = Scale {
        says: clean!("requests pile up: {waiting} waiting, {running} running"),
        warn: settings.max_waiting.map(|most| Edge { at: most.into(), code: "queue_long".into(), settled: false }),
        ..Scale::plain(Unit::None)
    };
    facts.gauge(&none, "waiting", waiting, scale);
    if let Some(percent) = work.cache_percent {
        facts.gauge(&none, "cache_percent", (percent * 10.0).round() / 10.0, Scale::plain(Unit::Percent));
    }
    let Some(tokens) = work.tokens else { return Ok(()) };
    facts.info(&none, "tokens", tokens);
    let before: Option<Stalled> = recall(cx, WORK)?;
    let now = (running + waiting > 0.0).then(|| {
        let same = |stalled: &Stalled| stalled.tokens.to_bits() == tokens.to_bits() && stalled.since <= cx.now.wall;
        before.clone().filter(same).unwrap_or(Stalled { since: cx.now.wall, tokens })
    });
    let stalled_s = now.as_ref().map_or(0, |stalled| cx.now.wall.duration_since(stalled.since).as_secs());
    let at = settings.stuck_after.as_secs_f64();
    let scale = Scale {
        unit: Unit::Seconds,
        fail: Some(Edge { at, code: "stuck".into(), settled: true }),
        says: clean!(
            "no token for {} while requests are there ({running} running, {waiting} waiting)",
            span(stalled_s)
        ),
        ..Scale::plain(Unit::Seconds)
    };
    fetched.facts.gauge(&none, "stalled_s", stalled_s, scale);
    keep(fetched, WORK, before.as_ref(), now.as_ref());
    Ok(())
}
