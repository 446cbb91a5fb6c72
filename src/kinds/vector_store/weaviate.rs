//! Weaviate. All collections are told by one answer about the nodes; one that ran out of disk makes its shards read-only
//! and goes on answering.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::settings::{Probe, Settings};
use super::{Chosen, Collection, Health, Seen};
use crate::clean;
use crate::facts::{Class, Facts, Subject, Unread, Value as Fact};
use crate::kinds::api::{self, Api};
use crate::redact::Clean;

const NODES: &str = "v1/nodes?output=verbose";

pub(super) async fn look(settings: &Settings, api: &Api<'_>) -> Result<Seen, Unread> {
    let ready = api.ask("v1/.well-known/ready", &[], None).await?;
    if ready.status == 503 {
        let live = api.ask("v1/.well-known/live", &[], None).await.is_ok_and(|live| live.status == 200);
        let but = if live { ", though it is alive" } else { "" };
        return Err(Unread::target("not_ready", clean!("`/v1/.well-known/ready` answered 503{but}")));
    }
    api::proper(&ready, "v1/.well-known/ready")?;
    let (answer, schema) = futures_util::join!(api.json(NODES, &[]), api.json("v1/schema", &[]));
    let (answer, schema) = (answer?, schema?);
    let nodes = answer.get("nodes").and_then(Value::as_array).ok_or_else(|| api::misshapen(NODES, "nodes"))?;
    let classes = schema.get("classes").and_then(Value::as_array);
    let classes = classes.ok_or_else(|| api::misshapen("v1/schema", "classes"))?;
    let names: BTreeSet<String> =
        classes.iter().filter_map(|class| api::text(class, "/class")).map(str::to_owned).collect();
    let mut found = shards(nodes);
    let chosen = Chosen::of(settings, names);
    // A collection without a shard holds nothing yet (one with tenants, before the first).
    let collections = chosen.looked_at.iter().map(|name| collection(&found.remove(name).unwrap_or_default())).collect();
    let probe = match chosen.probe(settings) {
        Some(probe) => Some(search(api, probe).await),
        None => None,
    };
    Ok(Seen { probe, ..chosen.seen(server(nodes), collections) })
}

fn server(nodes: &[Value]) -> Facts {
    let none = Subject::none();
    let mut facts = Facts::new();
    facts.info(&none, "nodes", nodes.len());
    let unhealthy: BTreeSet<Clean> = nodes
        .iter()
        .filter_map(|node| {
            let status = api::text(node, "/status").unwrap_or("without a status");
            let name = api::text(node, "/name").unwrap_or_default();
            (status != "HEALTHY").then(|| clean!("{} {}", Clean::line(name, 60), Clean::line(status, 40)))
        })
        .collect();
    facts.put_foreign(&none, "unhealthy_nodes", Fact::Set(unhealthy), Class::Info);
    let versions: BTreeSet<&str> = nodes.iter().filter_map(|node| api::text(node, "/version")).collect();
    if let [version] = versions.into_iter().collect::<Vec<_>>().as_slice() {
        facts.put_foreign(&none, "version", Clean::line(version, 60), Class::State);
    }
    facts
}

/// The shards of all nodes by their collection.
fn shards(nodes: &[Value]) -> BTreeMap<String, Vec<&Value>> {
    let mut shards: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for shard in nodes.iter().filter_map(|node| node.get("shards")).filter_map(Value::as_array).flatten() {
        if let Some(class) = api::text(shard, "/class") {
            shards.entry(class.to_owned()).or_default().push(shard);
        }
    }
    shards
}

/// One collection of its shards: as bad as the worst of them.
fn collection(shards: &[&Value]) -> Result<Collection, Unread> {
    let mut collection = Collection { points: Some(0), ..Collection::default() };
    for shard in shards {
        let status = api::text(shard, "/vectorIndexingStatus").unwrap_or("READY");
        let health = match status {
            "READY" | "LAZY_LOADING" => Health::Well,
            "INDEXING" | "LOADING" => Health::Busy,
            "READONLY" => Health::Broken,
            other => {
                let said = clean!("its status is {}, which is not known", Clean::line(other, 100).quoted());
                return Err(Unread::blind("unknown_status", said));
            }
        };
        if collection.status.is_none() || rank(health) > rank(collection.health) {
            collection.health = health;
            collection.status = Some(status.to_owned());
        }
        let objects = shard.get("objectCount").and_then(Value::as_u64);
        collection.points = collection.points.zip(objects).map(|(sum, objects)| sum.saturating_add(objects));
    }
    // A shard that is not in memory counts nothing.
    let asleep = |shard: &&&Value| shard.get("loaded").and_then(Value::as_bool) == Some(false);
    if shards.iter().any(|shard| asleep(&shard)) {
        collection.points = None;
    }
    collection.segments = u64::try_from(shards.len()).ok();
    Ok(collection)
}

fn rank(health: Health) -> u8 {
    match health {
        Health::Well => 0,
        Health::Busy => 1,
        Health::Broken => 2,
    }
}

async fn search(api: &Api<'_>, probe: &Probe) -> Result<usize, Unread> {
    const PATH: &str = "v1/graphql";
    let near = match &probe.vector {
        Some(vector) => format!(", nearVector: {{vector: {}}}", json!(vector)),
        None => String::new(),
    };
    let class = &probe.collection;
    let query = format!("{{ Get {{ {class}(limit: 1{near}) {{ _additional {{ id }} }} }} }}");
    let answer = api.post(PATH, &[], &json!({ "query": query })).await?;
    if let Some(why) = api::text(&answer, "/errors/0/message") {
        let said = clean!("the search failed: {}", Clean::line(why, 200).quoted());
        return Err(Unread::target("server_error", said));
    }
    let found = answer.pointer(&format!("/data/Get/{class}")).and_then(Value::as_array);
    found.map(Vec::len).ok_or_else(|| api::misshapen(PATH, "data.Get"))
}
