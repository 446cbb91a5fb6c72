//! Chroma, by its second API. What it says of its own version is always the same, so that is not asked.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::settings::{Probe, Settings};
use super::{Chosen, Collection, Seen};
use crate::clean;
use crate::facts::{Facts, Unread};
use crate::kinds::api::{self, Api};

const COLLECTIONS: &str = "api/v2/tenants/{}/databases/{}/collections";
/// Collections in one answer, and answers that are asked for.
const PAGE: usize = 1_000;
const MAX_PAGES: usize = 10;

pub(super) async fn look(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    ready(api).await?;
    let database = settings.database.as_deref().unwrap_or("default_database");
    let place = [settings.tenant.as_str(), database];
    let known = list(api, place).await?;
    let chosen = Chosen::of(settings, known.keys().cloned().collect());
    let asked = chosen.looked_at.iter().filter_map(|name| known.get(name)).map(|entry| collection(api, place, entry));
    let collections = api::all(asked.collect()).await;
    let probe = match chosen.probe(settings).and_then(|probe| Some((probe, known.get(&probe.collection)?))) {
        Some((probe, entry)) => Some(search(api, place, probe, entry).await),
        None => None,
    };
    Ok(Seen { probe, ..chosen.seen(Facts::new(), collections) })
}

/// The heartbeat proves the process; the health check, what is behind it.
async fn ready(api: &Api<'_>) -> Result<(), Unread> {
    let beat = api.json("api/v2/heartbeat", &[]).await?;
    if beat.get("nanosecond heartbeat").and_then(Value::as_u64).is_none() {
        return Err(api::misshapen("api/v2/heartbeat", "nanosecond heartbeat"));
    }
    let response = api.ask("api/v2/healthcheck", &[], None).await?;
    // Servers before 1.0 have none; one that is not ready says so with 503.
    if response.status == 404 {
        return Ok(());
    }
    if response.status != 503 {
        api::proper(&response, "api/v2/healthcheck")?;
    }
    let parts = crate::kinds::remote::json(&response.body).unwrap_or_default();
    let parts = parts.as_object();
    let waiting: Vec<&str> = [("is_executor_ready", "executor"), ("is_log_client_ready", "log client")]
        .into_iter()
        .filter(|(key, _)| parts.and_then(|parts| parts.get(*key)).and_then(Value::as_bool) == Some(false))
        .map(|(_, word)| word)
        .collect();
    match (waiting.as_slice(), response.status) {
        ([], 503) => Err(Unread::target("not_ready", clean!("`/api/v2/healthcheck` answered 503"))),
        ([], _) => Ok(()),
        (waiting, _) => Err(Unread::target("not_ready", clean!("its {} is not ready", waiting.join(" and its ")))),
    }
}

/// The collections by their names.
async fn list(api: &Api<'_>, place: [&str; 2]) -> Result<BTreeMap<String, Value>, Unread> {
    let mut known = BTreeMap::new();
    for page in 0..MAX_PAGES {
        let path = format!("{COLLECTIONS}?limit={PAGE}&offset={}", page * PAGE);
        let Value::Array(entries) = api.json(&path, &place).await? else {
            return Err(api::misshapen(&path, "a list"));
        };
        let is_last = entries.len() < PAGE;
        known.extend(entries.into_iter().filter_map(|entry| Some((api::text(&entry, "/name")?.to_owned(), entry))));
        if is_last {
            break;
        }
    }
    Ok(known)
}

fn id(entry: &Value) -> Result<&str, Unread> {
    api::text(entry, "/id").ok_or_else(|| api::misshapen(COLLECTIONS, "id"))
}

async fn collection(api: &Api<'_>, place: [&str; 2], entry: &Value) -> Result<Collection, Unread> {
    let path = format!("{COLLECTIONS}/{{}}/count");
    let [tenant, database] = place;
    let count = api.json(&path, &[tenant, database, id(entry)?]).await?;
    let points = count.as_u64().ok_or_else(|| api::misshapen(&path, "a number"))?;
    let dimension = entry.get("dimension").and_then(Value::as_u64);
    Ok(Collection {
        points: Some(points),
        vectors: dimension.map(|dimension| dimension.to_string()),
        ..Collection::default()
    })
}

async fn search(api: &Api<'_>, place: [&str; 2], probe: &Probe, entry: &Value) -> Result<usize, Unread> {
    let [tenant, database] = place;
    let parts = [tenant, database, id(entry)?];
    let (path, body, found) = match &probe.vector {
        Some(vector) => (
            format!("{COLLECTIONS}/{{}}/query"),
            json!({ "query_embeddings": [vector], "n_results": 1, "include": [] }),
            "/ids/0",
        ),
        None => (format!("{COLLECTIONS}/{{}}/get"), json!({ "limit": 1, "include": [] }), "/ids"),
    };
    let answer = api.post(&path, &parts, &body).await?;
    let found = answer.pointer(found).and_then(Value::as_array);
    found.map(Vec::len).ok_or_else(|| api::misshapen(&path, "ids"))
}
