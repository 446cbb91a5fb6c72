//! What each server is asked: only what neither loads a model nor spends anything.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::settings::{Gpu, Settings};
use super::{Model, Place, Seen, Work, as_number, metrics};
use crate::clean;
use crate::facts::{Class, Facts, Subject, Unread};
use crate::kinds::api::{self, Api};
use crate::kinds::remote;
use crate::redact::Clean;

/// A fact about the server in the server's words.
fn state(facts: &mut Facts, name: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        facts.put_foreign(&Subject::none(), name, Clean::line(text, 300), Class::State);
    }
}

/// Ollama. `/api/tags` answers 200 with an empty list where its models are gone; `/api/ps` tells what is loaded, and asking
/// it loads nothing.
pub(super) async fn ollama(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    let (tags, loaded, version) =
        futures_util::join!(api.json("api/tags", &[]), api.json("api/ps", &[]), api.json("api/version", &[]));
    let tags = tags?;
    let list = tags.get("models").and_then(Value::as_array).ok_or_else(|| api::misshapen("api/tags", "models"))?;
    let loaded = loaded.and_then(|loaded| match loaded.get("models") {
        Some(Value::Array(list)) => Ok(list.clone()),
        // Nothing loaded is `[]`, of older servers `null`.
        Some(Value::Null) => Ok(Vec::new()),
        _ => Err(api::misshapen("api/ps", "models")),
    });
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    for entry in list {
        let Some(name) = api::text(entry, "/name").or_else(|| api::text(entry, "/model")) else { continue };
        let model = Model {
            digest: api::text(entry, "/digest").map(str::to_owned),
            size: entry.get("size").and_then(Value::as_u64),
            // One that runs elsewhere is never loaded here.
            loaded: (loaded.is_ok() && api::text(entry, "/remote_host").is_none()).then_some(false),
            ..Model::default()
        };
        models.insert(name.to_owned(), model);
    }
    for entry in loaded.iter().flatten() {
        let name = api::text(entry, "/name").or_else(|| api::text(entry, "/model"));
        if let Some(model) = name.and_then(|name| models.get_mut(name)) {
            model.loaded = Some(true);
            model.place = place(entry);
        }
    }
    let mut server = Facts::new();
    state(&mut server, "version", version.ok().as_ref().and_then(|version| api::text(version, "/version")));
    let places_matter = settings.gpu == Gpu::Required || settings.min_context.is_some();
    Ok(Seen { server, models: Some(models), places: loaded.err().filter(|_| places_matter), ..Seen::default() })
}

fn place(entry: &Value) -> Option<Place> {
    let number = |name: &str| entry.get(name).and_then(Value::as_u64);
    let size = number("size").filter(|size| *size > 0)?;
    let vram = number("size_vram").unwrap_or(0).min(size);
    let cpu_percent = as_number(size - vram) / as_number(size) * 100.0;
    Some(Place { cpu_percent, context: number("context_length").filter(|length| *length > 0) })
}

/// vLLM. Its `/health` is 200 with an engine that hangs, so what it gets done is asked as well.
pub(super) async fn vllm(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    let health = api.ask("health", &[], None).await?;
    if health.status == 503 {
        return Err(Unread::target("engine_dead", clean!("`/health` answered 503: its engine is dead")));
    }
    api::proper(&health, "health")?;
    let (metrics, version) = futures_util::join!(api.get("metrics", &[]), api.json("version", &[]));
    let mut server = Facts::new();
    state(&mut server, "version", version.ok().as_ref().and_then(|version| api::text(version, "/version")));
    let mut seen = Seen { server, ..Seen::default() };
    match metrics.and_then(|metrics| vllm_work(&String::from_utf8_lossy(&metrics.body))) {
        Ok(work) => seen.work = Some(work),
        Err(unread) => seen.unread = Some(unread),
    }
    if !settings.models.is_empty() {
        seen.models = Some(listed(api, "max_model_len").await?);
    }
    Ok(seen)
}

fn vllm_work(text: &str) -> Result<Work, Unread> {
    let of = |name: &str| metrics::sum(text, &format!("vllm:{name}"));
    let lacks = || Unread::target("bad_answer", clean!("`/metrics` has no `vllm:num_requests_running`"));
    let running = of("num_requests_running").ok_or_else(lacks)?;
    // Its older name first: where both are there, they are the same.
    let cache = ["vllm:gpu_cache_usage_perc", "vllm:kv_cache_usage_perc"];
    let cache = cache.into_iter().find_map(|name| metrics::most(text, name));
    Ok(Work {
        running,
        waiting: of("num_requests_waiting").unwrap_or(0.0),
        // A model that only embeds never writes a token: what it reads is progress as well.
        tokens: plus(of("generation_tokens_total"), of("prompt_tokens_total")),
        cache_percent: cache.map(|share| share * 100.0),
    })
}

fn plus(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one + other),
        (one, other) => one.or(other),
    }
}

/// llama.cpp. A server that put its model away is asked only what leaves it asleep.
pub(super) async fn llamacpp(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    health(api).await?;
    let mut seen = Seen::default();
    let none = Subject::none();
    let (mut asleep, mut context) = (false, None);
    let answer = api.ask("props", &[], None).await?;
    match (answer.status, api::proper(&answer, "props")) {
        // Not every server has it.
        (404 | 405 | 501, _) => {}
        (_, Err(unread)) => {
            asleep = true;
            seen.unread = Some(unread);
        }
        (_, Ok(())) => {
            let props = remote::json(&answer.body);
            let props = props.map_err(|why| Unread::target("bad_answer", clean!("`/props` is {why}")))?;
            asleep = props.get("is_sleeping").and_then(Value::as_bool) == Some(true);
            context = props.pointer("/default_generation_settings/n_ctx").and_then(Value::as_u64);
            state(&mut seen.server, "version", api::text(&props, "/build_info"));
            state(&mut seen.server, "model_path", api::text(&props, "/model_path"));
            if let Some(slots) = props.get("total_slots").and_then(Value::as_u64) {
                seen.server.info(&none, "slots", slots);
            }
            seen.server.info(&none, "sleeping", asleep);
        }
    }
    if settings.models.is_empty() {
        if let Some(context) = context {
            seen.server.info(&none, "context_length", context);
        }
    } else {
        let mut models = listed(api, "").await?;
        for model in models.values_mut() {
            model.context = context;
        }
        seen.models = Some(models);
    }
    if !asleep {
        awake(settings, api, &mut seen).await?;
    }
    Ok(seen)
}

async fn health(api: &Api<'_>) -> Result<(), Unread> {
    let health = api.ask("health", &[], None).await?;
    if health.status == 503 {
        let loading = String::from_utf8_lossy(&health.body).to_ascii_lowercase().contains("loading model");
        return Err(if loading {
            Unread::target("loading", clean!("it is loading its model"))
        } else {
            Unread::target("not_ready", clean!("`/health` answered 503"))
        });
    }
    api::proper(&health, "health")?;
    let body = remote::json(&health.body);
    let status = body.as_ref().ok().and_then(|body| api::text(body, "/status"));
    if status == Some("ok") {
        return Ok(());
    }
    Err(api::misshapen("health", "\"status\": \"ok\""))
}

/// What a server that is awake is at.
async fn awake(settings: &Settings, api: &Api<'_>, seen: &mut Seen) -> Result<(), Unread> {
    let answer = api.ask("metrics", &[], None).await?;
    let text = String::from_utf8_lossy(&answer.body);
    let of = |name: &str| metrics::sum(&text, &format!("llamacpp:{name}"));
    match (answer.status, of("requests_processing")) {
        (200, Some(running)) => {
            // Tokens are added up when a request ends. While one goes on only this counter moves; without it nobody can
            // tell a long answer from none.
            let tokens = of("n_decode_total")
                .and_then(|steps| plus(Some(steps), plus(of("tokens_predicted_total"), of("prompt_tokens_total"))));
            seen.work = Some(Work {
                running,
                waiting: of("requests_deferred").unwrap_or(0.0),
                tokens,
                cache_percent: metrics::most(&text, "llamacpp:kv_cache_usage_ratio").map(|share| share * 100.0),
            });
        }
        _ if settings.max_waiting.is_some() => {
            let status = answer.status;
            let said = clean!("`/metrics` answered {status} without numbers, and `max_waiting` needs them");
            seen.unread = Some(Unread::blind("no_metrics", said));
        }
        _ => {}
    }
    if settings.free_slot {
        let slots = api.ask("slots?fail_on_no_slot=1", &[], None).await?;
        match (slots.status, api::proper(&slots, "slots")) {
            (503, _) => seen.server.info(&Subject::none(), "free_slot", false),
            (_, Ok(())) => seen.server.info(&Subject::none(), "free_slot", true),
            (_, Err(unread)) => seen.unread = Some(unread),
        }
    }
    Ok(())
}

/// LiteLLM. Its `/health` asks every model, which costs money; its readiness costs nothing.
pub(super) async fn litellm(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    const READY: &str = "health/readiness";
    let answer = api.ask(READY, &[], None).await?;
    if answer.status == 503 {
        let said = api::excerpt(&answer).map(|said| format!(": {said}")).unwrap_or_default();
        return Err(Unread::target("not_ready", clean!("`/{READY}` answered 503{said}")));
    }
    api::proper(&answer, READY)?;
    let ready =
        remote::json(&answer.body).map_err(|why| Unread::target("bad_answer", clean!("`/{READY}` is {why}")))?;
    match api::text(&ready, "/status") {
        Some("healthy" | "connected") => {}
        Some(status) => {
            let said = clean!("it says that it is {}", Clean::line(status, 60).quoted());
            return Err(Unread::target("not_ready", said));
        }
        None => return Err(api::misshapen(READY, "status")),
    }
    let mut seen = Seen::default();
    state(&mut seen.server, "version", api::text(&ready, "/litellm_version"));
    state(&mut seen.server, "database", api::text(&ready, "/db"));
    if !settings.models.is_empty() {
        let mut models = listed(api, "").await?;
        // Not every key may ask this; then nobody knows the day, and nothing else is lost.
        if let Ok(info) = api.json("model/info", &[]).await {
            add_info(&info, &mut models);
        }
        seen.models = Some(models);
    }
    Ok(seen)
}

/// What the proxy knows of the models behind each name: the first day of retirement, the shortest context.
fn add_info(info: &Value, models: &mut BTreeMap<String, Model>) {
    for entry in info.get("data").and_then(Value::as_array).into_iter().flatten() {
        let Some(model) = api::text(entry, "/model_name").and_then(|name| models.get_mut(name)) else { continue };
        let day = api::text(entry, "/model_info/deprecation_date").and_then(day);
        model.retires = day.into_iter().chain(model.retires).min();
        let context = entry.pointer("/model_info/max_input_tokens").and_then(Value::as_u64);
        model.context = context.into_iter().chain(model.context).min();
    }
}

/// The beginning of a day like `2026-12-31`, in UTC: where it ends first is not told.
fn day(text: &str) -> Option<Timestamp> {
    let date: Date = text.get(..10)?.parse().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Any server that lists its models as OpenAI does.
pub(super) async fn openai(api: &Api<'_>) -> Result<Seen, Unread> {
    Ok(Seen { models: Some(listed(api, "").await?), ..Seen::default() })
}

/// The models under `/v1/models`, with their context where the server tells it under this name.
async fn listed(api: &Api<'_>, context: &str) -> Result<BTreeMap<String, Model>, Unread> {
    const PATH: &str = "v1/models";
    let answer = api.json(PATH, &[]).await?;
    let list = answer.get("data").and_then(Value::as_array).ok_or_else(|| api::misshapen(PATH, "data"))?;
    let one = |entry: &Value| {
        let context = entry.get(context).and_then(Value::as_u64);
        Some((api::text(entry, "/id")?.to_owned(), Model { context, ..Model::default() }))
    };
    Ok(list.iter().filter_map(one).collect())
}
