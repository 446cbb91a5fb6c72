//! Milvus: its health on the port for metrics, its collections by the second REST API, whose errors come with status 200.

use serde_json::{Value, json};

use super::settings::{Probe, Settings};
use super::{Chosen, Collection, Seen};
use crate::clean;
use crate::facts::{Facts, Unread};
use crate::kinds::api::{self, Api};
use crate::redact::Clean;

/// Where health is told, unless the settings say otherwise.
const HEALTH_PORT: u16 = 9_091;

pub(super) async fn look(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    healthy(settings, api).await?;
    let database = settings.database.as_deref();
    let list = call(api, "v2/vectordb/collections/list", database, json!({})).await?;
    let names = list.as_array().ok_or_else(|| api::misshapen("v2/vectordb/collections/list", "data"))?;
    let names = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let chosen = Chosen::of(settings, names);
    let asked = chosen.looked_at.iter().map(|name| collection(api, database, name)).collect();
    let collections = api::all(asked).await;
    let probe = match chosen.probe(settings) {
        Some(probe) => Some(search(api, database, probe).await),
        None => None,
    };
    Ok(Seen { probe, ..chosen.seen(Facts::new(), collections) })
}

async fn healthy(settings: &Settings, api: &Api<'_>) -> Result<(), Unread> {
    let base = match settings.health_url.as_deref() {
        Some("") => return Ok(()),
        Some(url) => reqwest::Url::parse(url).ok(),
        None => {
            let mut base = api.base().clone();
            base.set_path("");
            base.set_port(Some(HEALTH_PORT)).ok().map(|()| base)
        }
    };
    let Some(base) = base else { return Ok(()) };
    let response = api.elsewhere(base).ask("healthz", &[], None).await?;
    match response.status {
        500 | 503 => {
            let said = api::excerpt(&response).map(|said| format!(": {said}")).unwrap_or_default();
            Err(Unread::target("not_ready", clean!("`/healthz` answered {}{said}", response.status)))
        }
        _ => api::proper(&response, "healthz"),
    }
}

/// The `data` of an answer, if its `code` says that all went well: 0, or 200 of older servers.
async fn call(api: &Api<'_>, path: &str, database: Option<&str>, mut body: Value) -> Result<Value, Unread> {
    if let (Some(database), Some(body)) = (database, body.as_object_mut()) {
        body.insert("dbName".to_owned(), json!(database));
    }
    let mut answer = api.post(path, &[], &body).await?;
    match answer.get("code").and_then(Value::as_i64) {
        Some(0 | 200) => Ok(answer.get_mut("data").map(Value::take).unwrap_or_default()),
        // What it says of a missing or wrong token.
        Some(code @ (1800 | 80_001)) => {
            Err(Unread::blind("access_denied", clean!("`/{path}` answered code {code}: the key does not let us in")))
        }
        Some(code) => {
            let why = Clean::line(api::text(&answer, "/message").unwrap_or_default(), 200).quoted();
            Err(Unread::target("server_error", clean!("`/{path}` answered code {code}: {why}")))
        }
        None => Err(api::misshapen(path, "code")),
    }
}

async fn collection(api: &Api<'_>, database: Option<&str>, name: &str) -> Result<Collection, Unread> {
    const PATH: &str = "v2/vectordb/collections/get_stats";
    let data = call(api, PATH, database, json!({ "collectionName": name })).await?;
    let rows = data.get("rowCount");
    let points = rows.and_then(|rows| rows.as_u64().or_else(|| rows.as_str()?.parse().ok()));
    let points = points.ok_or_else(|| api::misshapen(PATH, "data.rowCount"))?;
    Ok(Collection { points: Some(points), ..Collection::default() })
}

async fn search(api: &Api<'_>, database: Option<&str>, probe: &Probe) -> Result<usize, Unread> {
    let name = &probe.collection;
    let (path, body) = match &probe.vector {
        Some(vector) => {
            ("v2/vectordb/entities/search", json!({ "collectionName": name, "data": [vector], "limit": 1 }))
        }
        None => ("v2/vectordb/entities/query", json!({ "collectionName": name, "filter": "", "limit": 1 })),
    };
    let data = call(api, path, database, body).await?;
    data.as_array().map(Vec::len).ok_or_else(|| api::misshapen(path, "data"))
}
