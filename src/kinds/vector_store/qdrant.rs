//! Qdrant. Its `/readyz` says 200 whatever happens where no cluster is, so its collections are asked as well.

use serde_json::{Value, json};

use super::settings::{Probe, Settings};
use super::{Chosen, Collection, Health, Seen};
use crate::clean;
use crate::facts::{Class, Facts, Subject, Unread};
use crate::kinds::api::{self, Api};
use crate::redact::Clean;

pub(super) async fn look(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    let ready = api.ask("readyz", &[], None).await?;
    match ready.status {
        503 => {
            let said = api::excerpt(&ready).map(|said| format!(": {said}")).unwrap_or_default();
            return Err(Unread::target("not_ready", clean!("`/readyz` answered 503{said}")));
        }
        // Before 1.5 there was none; the collections tell whether this is Qdrant.
        404 => {}
        _ => api::proper(&ready, "readyz")?,
    }
    let list = api.json("collections", &[]).await?;
    let names = list.pointer("/result/collections").and_then(Value::as_array);
    let names = names.ok_or_else(|| api::misshapen("collections", "result.collections"))?;
    let names = names.iter().filter_map(|entry| api::text(entry, "/name")).map(str::to_owned).collect();
    let chosen = Chosen::of(settings, names);
    let asked = chosen.looked_at.iter().map(|name| collection(api, name)).collect();
    let collections = api::all(asked).await;
    let probe = match chosen.probe(settings) {
        Some(probe) => Some(search(api, probe).await),
        None => None,
    };
    let server = server(api).await;
    Ok(Seen { probe, ..chosen.seen(server, collections) })
}

/// The version, and whether writes are locked. Newer servers have no locks and say 404.
async fn server(api: &Api<'_>) -> Facts {
    let none = Subject::none();
    let mut facts = Facts::new();
    let (root, locks) = futures_util::join!(api.json("", &[]), api.json("locks", &[]));
    if let Some(version) = root.as_ref().ok().and_then(|root| api::text(root, "/version")) {
        facts.put_foreign(&none, "version", Clean::line(version, 60), Class::State);
    }
    let locks = locks.ok();
    if let Some(locked) = locks.as_ref().and_then(|locks| locks.pointer("/result/write")).and_then(Value::as_bool) {
        facts.info(&none, "write_locked", locked);
    }
    if let Some(why) = locks.as_ref().and_then(|locks| api::text(locks, "/result/error_message")) {
        facts.put_foreign(&none, "lock_message", Clean::line(why, 300), Class::Info);
    }
    facts
}

async fn collection(api: &Api<'_>, name: &str) -> Result<Collection, Unread> {
    const PATH: &str = "collections/{}";
    let answer = api.json(PATH, &[name]).await?;
    let info = answer.get("result").ok_or_else(|| api::misshapen(PATH, "result"))?;
    let status = api::text(info, "/status").ok_or_else(|| api::misshapen(PATH, "result.status"))?;
    let health = match status {
        "green" => Health::Well,
        "yellow" | "grey" => Health::Busy,
        "red" => Health::Broken,
        other => {
            let said = clean!("its status is {}, which is not known", Clean::line(other, 100).quoted());
            return Err(Unread::blind("unknown_status", said));
        }
    };
    let number = |name: &str| info.get(name).and_then(Value::as_u64);
    Ok(Collection {
        health,
        status: Some(status.to_owned()),
        error: api::text(info, "/optimizer_status/error").map(str::to_owned),
        points: number("points_count"),
        indexed: number("indexed_vectors_count"),
        segments: number("segments_count"),
        vectors: info.pointer("/config/params/vectors").and_then(vectors),
    })
}

/// `384 Cosine`, or `image 512 Dot, text 384 Cosine` where vectors have names.
fn vectors(params: &Value) -> Option<String> {
    let one = |params: &Value| {
        let size = params.get("size").and_then(Value::as_u64)?;
        Some(format!("{size} {}", api::text(params, "/distance").unwrap_or_default()))
    };
    if let Some(only) = one(params) {
        return Some(only);
    }
    let mut named: Vec<String> =
        params.as_object()?.iter().filter_map(|(name, params)| Some(format!("{name} {}", one(params)?))).collect();
    named.sort();
    (!named.is_empty()).then(|| named.join(", "))
}

/// Searches for one point; without a vector, takes any.
async fn search(api: &Api<'_>, probe: &Probe) -> Result<usize, Unread> {
    let (path, mut body) = match &probe.vector {
        Some(vector) => ("collections/{}/points/query", json!({ "query": vector, "limit": 1 })),
        None => ("collections/{}/points/scroll", json!({ "limit": 1, "with_payload": false })),
    };
    if let (Some(name), Some(body)) = (&probe.vector_name, body.as_object_mut()) {
        body.insert("using".to_owned(), json!(name));
    }
    let answer = api.post(path, &[&probe.collection], &body).await?;
    let points = answer.pointer("/result/points").and_then(Value::as_array);
    points.map(Vec::len).ok_or_else(|| api::misshapen(path, "result.points"))
}
