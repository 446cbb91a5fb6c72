//! Vector stores: whether the server is ready, what each collection's status is, and whether points were lost. Only
//! reading requests are made; what each server is asked is in the file of its name.

mod chroma;
mod history;
mod milvus;
mod pgvector;
mod qdrant;
mod settings;
#[cfg(test)]
mod tests;
mod weaviate;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use self::history::History;
pub use self::settings::Settings;
use self::settings::{Engine, Probe};
use super::api::{API_REASONS, Api};
use super::common::{CONNECT_REASONS, HTTP_REASONS, LANE_REASONS, POSTGRES_REASONS, SECRET_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Class, Facts, Finding, Subject, Unread, Value, Weight};
use crate::redact::Clean;

/// Collections that one check looks at.
const MAX_COLLECTIONS: usize = 150;

/// See [`Kind`].
#[derive(Debug)]
pub struct VectorStore;

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

const REASONS: &[ReasonDoc] = &[
    doc(
        "not_ready",
        ReasonOutcome::Unknown(Blame::Target),
        false,
        "the server runs and says that it is not ready",
        "see the server's log; it may be loading or recovering",
    ),
    doc(
        "broken",
        FAIL,
        true,
        "a collection is broken by its own account: red in Qdrant, read-only in Weaviate",
        "see the server's log and its disk, then restore the collection",
    ),
    doc(
        "optimizer_failed",
        WARN,
        true,
        "the optimizer of a collection gave up",
        "see the server's log, and whether memory or disk ran out",
    ),
    doc(
        "long_busy",
        WARN,
        false,
        "a collection has not been green for longer than `busy_for`",
        "see what its optimizer does; grey ends with the next write to it",
    ),
    ReasonDoc {
        code: "unknown_status",
        outcome: ReasonOutcome::Unknown(Blame::Blind),
        settled: true,
        about: "a collection has a status that this version of Pulsecheck does not know",
        action: "look at the collection by hand and update Pulsecheck",
        needs_human: true,
    },
    doc(
        "points_dropped",
        WARN,
        false,
        "a collection holds fewer points than it did, by more than the first limit of `drop`",
        "see who deleted points; if it was meant, acknowledge it",
    ),
    doc(
        "points_lost",
        FAIL,
        false,
        "a collection holds far fewer points than it did, by more than the second limit of `drop`",
        "stop what writes to it, see who deleted points, restore a snapshot or index anew",
    ),
    doc(
        "collection_missing",
        FAIL,
        false,
        "a collection that is listed or was there is not among the server's",
        "see who deleted it and restore it; if it was meant, acknowledge it or take it out of `collections`",
    ),
    doc(
        "probe_empty",
        FAIL,
        false,
        "the search of `probe` finds nothing, although the server calls itself ready",
        "search by hand, see whether the collection is loaded and indexed",
    ),
    doc("write_locked", WARN, true, "the server takes no writes", "see who locked it, and unlock it"),
    doc("node_unhealthy", FAIL, false, "a node of the cluster is not healthy", "see that node's log"),
    doc(
        "extension_missing",
        FAIL,
        true,
        "the database has no extension `vector`",
        "create the extension `vector` or correct the database's name",
    ),
    doc(
        "too_many_collections",
        WARN,
        true,
        "there are more than 150 collections, and the rest is not looked at",
        "list those that matter in `collections`",
    ),
];

impl Kind for VectorStore {
    const DOC: KindDoc = KindDoc {
        name: "vector_store",
        about: "A vector store: Qdrant, Chroma, Weaviate, Milvus or PostgreSQL with pgvector. Whether it is ready, how \
                each collection is, whether points are gone that were there, and, with `probe`, whether a search finds \
                anything. Counts are compared with the highest of the day before the drop. A collection that is being \
                optimized or filled anew is left in peace for a while. Nothing is written.",
        subjects: "the collections (in PostgreSQL: the tables with a vector column), and the server itself",
        facts: &[
            FactDoc {
                name: "version",
                class: "state",
                about: "the server's version, where it tells the truth about it",
            },
            FactDoc { name: "collections", class: "info", about: "how many collections there are" },
            FactDoc { name: "collections_left_out", class: "info", about: "collections beyond the first 150" },
            FactDoc { name: "write_locked", class: "info", about: "whether writes are locked (Qdrant)" },
            FactDoc { name: "lock_message", class: "info", about: "why they are, in the words of who locked it" },
            FactDoc { name: "nodes", class: "info", about: "how many nodes there are (Weaviate)" },
            FactDoc {
                name: "unhealthy_nodes",
                class: "info",
                about: "the nodes that are not healthy, with their status (Weaviate)",
            },
            FactDoc { name: "extension", class: "info", about: "whether the database has the extension `vector`" },
            FactDoc { name: "listed", class: "info", about: "whether the collection is among the server's" },
            FactDoc { name: "status", class: "info", about: "its status in the server's words" },
            FactDoc { name: "health", class: "info", about: "what that means: `well`, `busy` or `broken`" },
            FactDoc { name: "error", class: "info", about: "what its optimizer says" },
            FactDoc {
                name: "not_green_s",
                class: "gauge",
                about: "seconds for which it was not seen green; warns beyond `busy_for`",
            },
            FactDoc { name: "points", class: "info", about: "points, objects, records or rows in it" },
            FactDoc {
                name: "points_high",
                class: "info",
                about: "the most points it held in the day before they fell",
            },
            FactDoc {
                name: "points_lost",
                class: "gauge",
                about: "how many points it has fewer than that; bands by `drop`, none while it fills up again",
            },
            FactDoc {
                name: "refilling",
                class: "info",
                about: "whether its count rises fast enough to be whole again within `refill_for`",
            },
            FactDoc { name: "indexed", class: "info", about: "vectors in the index; several a point are possible" },
            FactDoc { name: "segments", class: "info", about: "segments or shards it is made of" },
            FactDoc { name: "vectors", class: "state", about: "dimension and distance of its vectors" },
            FactDoc {
                name: "probe_hits",
                class: "info",
                about: "how many results the search of `probe` gave; one is asked",
            },
        ],
        reasons: &[REASONS, API_REASONS, HTTP_REASONS, POSTGRES_REASONS, CONNECT_REASONS, LANE_REASONS, SECRET_REASONS],
        example: r#"[check.memory]
kind = "vector_store"
engine = "qdrant"
url = "http://127.0.0.1:6333"
api_key = "env:QDRANT_API_KEY"
collections = ["agent-memory"]
probe = { collection = "agent-memory" }
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        settings.validate(report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let mut history = History::read(cx)?;
        let seen = match settings.engine {
            Engine::Qdrant => qdrant::look(settings, &api(settings, cx).await?).await?,
            Engine::Chroma => chroma::look(settings, &api(settings, cx).await?).await?,
            Engine::Weaviate => weaviate::look(settings, &api(settings, cx).await?).await?,
            Engine::Milvus => milvus::look(settings, &api(settings, cx).await?).await?,
            Engine::Pgvector => pgvector::look(settings, cx).await?,
        };
        let mut fetched = Fetched::default();
        put(settings, seen, &mut history, cx.now.wall, &mut fetched);
        fetched.remember = history.changes();
        Ok(fetched)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let mut findings = of_server(facts);
        for subject in facts.subjects() {
            findings.extend(of_collection(settings, facts, &subject).into_iter().map(|finding| finding.on(&subject)));
        }
        findings
    }
}

async fn api<'a>(settings: &'a Settings, cx: &'a Cx) -> Result<Api<'a>, Unread> {
    Api::new(cx, &settings.address(), &settings.keys(), settings.ca_file.as_deref()).await
}

/// What a server said.
#[derive(Debug, Default)]
struct Seen {
    /// Facts about the server itself.
    server: Facts,
    /// The collections that were looked at.
    collections: BTreeMap<String, Result<Collection, Unread>>,
    /// Those that are listed in the settings and are not there.
    missing: Vec<String>,
    /// How many there are in all.
    total: usize,
    /// How many of them were not looked at.
    left_out: usize,
    /// How many results the probe gave.
    probe: Option<Result<usize, Unread>>,
}

/// How a collection is, by the server's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Health {
    #[default]
    Well,
    Busy,
    Broken,
}

impl Health {
    fn word(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Busy => "busy",
            Self::Broken => "broken",
        }
    }
}

/// One collection.
#[derive(Debug, Default)]
struct Collection {
    health: Health,
    /// The status in the server's words, if it has one.
    status: Option<String>,
    /// What the optimizer complains of.
    error: Option<String>,
    points: Option<u64>,
    indexed: Option<u64>,
    segments: Option<u64>,
    /// Dimension and distance.
    vectors: Option<String>,
}

/// Which of a server's collections are looked at.
struct Chosen {
    looked_at: Vec<String>,
    missing: Vec<String>,
    total: usize,
    left_out: usize,
}

impl Chosen {
    fn of(settings: &Settings, names: BTreeSet<String>) -> Self {
        let total = names.len();
        if let Some(listed) = &settings.collections {
            let listed: BTreeSet<String> = listed.iter().cloned().collect();
            let (looked_at, missing) = listed.into_iter().partition(|name| names.contains(name));
            return Self { looked_at, missing, total, left_out: 0 };
        }
        let ignored = |name: &String| settings.ignore.as_ref().is_some_and(|pattern| pattern.is_match(name));
        let probed = settings.probe.as_ref().map(|probe| probe.collection.clone());
        let missing = probed.filter(|name| !names.contains(name)).into_iter().collect();
        let mut looked_at: Vec<String> = names.into_iter().filter(|name| !ignored(name)).collect();
        let left_out = looked_at.len().saturating_sub(MAX_COLLECTIONS);
        looked_at.truncate(MAX_COLLECTIONS);
        Self { looked_at, missing, total, left_out }
    }

    /// The probe, if there is what it searches.
    fn probe<'a>(&self, settings: &'a Settings) -> Option<&'a Probe> {
        settings.probe.as_ref().filter(|probe| !self.missing.contains(&probe.collection))
    }

    fn seen(self, server: Facts, collections: Vec<Result<Collection, Unread>>) -> Seen {
        Seen {
            server,
            collections: self.looked_at.into_iter().zip(collections).collect(),
            missing: self.missing,
            total: self.total,
            left_out: self.left_out,
            probe: None,
        }
    }
}

/// Puts the facts of all that was seen, beside what is known from before.
fn put(settings: &Settings, seen: Seen, history: &mut History, now: Timestamp, fetched: &mut Fetched) {
    let none = Subject::none();
    fetched.facts = seen.server;
    fetched.facts.info(&none, "collections", seen.total);
    if seen.left_out > 0 {
        fetched.facts.info(&none, "collections_left_out", seen.left_out);
    }
    let mut there: BTreeSet<Subject> = BTreeSet::new();
    for (name, collection) in seen.collections {
        let subject = Subject::new(&name);
        match collection {
            Ok(collection) => put_collection(settings, &subject, &collection, history, now, &mut fetched.facts),
            Err(unread) => drop(fetched.unread.insert(subject.clone(), unread)),
        }
        there.insert(subject);
    }
    for name in seen.missing {
        let subject = Subject::new(&name);
        fetched.facts.info(&subject, "listed", false);
        there.insert(subject);
    }
    // Of a server with too many nobody knows what is gone and what was left out.
    if seen.left_out == 0 {
        let chosen = |subject: &Subject| match &settings.collections {
            Some(_) => false,
            None => settings.ignore.as_ref().is_none_or(|pattern| !pattern.is_match(subject.as_str())),
        };
        for subject in history.gone(&there, chosen, settings.accepted_after, now) {
            fetched.facts.info(&subject, "listed", false);
        }
    }
    if let (Some(probe), Some(hits)) = (&settings.probe, seen.probe) {
        let subject = Subject::new(&probe.collection);
        match hits {
            Ok(hits) => fetched.facts.info(&subject, "probe_hits", hits),
            Err(unread) => drop(fetched.unread.entry(subject).or_insert(unread)),
        }
    }
}

fn put_collection(
    settings: &Settings,
    subject: &Subject,
    collection: &Collection,
    history: &mut History,
    now: Timestamp,
    facts: &mut Facts,
) {
    facts.info(subject, "listed", true);
    facts.info(subject, "health", collection.health.word());
    if let Some(status) = &collection.status {
        facts.put_foreign(subject, "status", Clean::line(status, 100), Class::Info);
    }
    if let Some(error) = &collection.error {
        facts.put_foreign(subject, "error", Clean::line(error, 500), Class::Info);
    }
    for (name, number) in
        [("points", collection.points), ("indexed", collection.indexed), ("segments", collection.segments)]
    {
        if let Some(number) = number {
            facts.info(subject, name, number);
        }
    }
    if let Some(vectors) = &collection.vectors {
        facts.put_foreign(subject, "vectors", Clean::line(vectors, 300), Class::State);
    }
    history.advance(settings, subject, collection, now, facts);
}

/// What is wrong with the server.
fn of_server(facts: &Facts) -> Vec<Finding> {
    let none = Subject::none();
    let mut findings = Vec::new();
    let mut found =
        |code: &'static str, weight, settled, said| findings.push(Finding::new(code, weight, settled, said));
    if facts.flag(&none, "write_locked") == Some(true) {
        let why = facts.text(&none, "lock_message").map(|why| format!(": {}", why.quoted())).unwrap_or_default();
        found("write_locked", Weight::Warn, true, clean!("writes are locked{why}"));
    }
    if let Some(Value::Set(nodes)) = facts.get(&none, "unhealthy_nodes").map(|fact| &fact.value)
        && let Some(first) = nodes.first()
    {
        let more = match nodes.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        found("node_unhealthy", Weight::Fail, false, clean!("not healthy: node {}{more}", first.quoted()));
    }
    if facts.flag(&none, "extension") == Some(false) {
        found("extension_missing", Weight::Fail, true, clean!("the database has no extension `vector`"));
    }
    if let Some(left_out) = facts.number(&none, "collections_left_out") {
        let said = clean!("{left_out} collections are not looked at, one check looks at {MAX_COLLECTIONS}");
        found("too_many_collections", Weight::Warn, true, said);
    }
    findings
}

/// What is wrong with one collection, beside what the bands say.
fn of_collection(settings: &Settings, facts: &Facts, subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found =
        |code: &'static str, weight, settled, said| findings.push(Finding::new(code, weight, settled, said));
    if facts.flag(subject, "listed") == Some(false) {
        let any_more = if settings.collections.is_some() { "" } else { " any more" };
        found("collection_missing", Weight::Fail, false, clean!("is not among the server's collections{any_more}"));
        return findings;
    }
    let error = facts.text(subject, "error").map(Clean::quoted);
    if facts.text(subject, "health").is_some_and(|health| health.as_str() == Health::Broken.word()) {
        let status = facts.text(subject, "status").map(Clean::quoted).unwrap_or_default();
        let why = error.map(|error| format!("; its optimizer says {error}")).unwrap_or_default();
        found("broken", Weight::Fail, true, clean!("its status is {status}{why}"));
    } else if let Some(error) = error {
        found("optimizer_failed", Weight::Warn, true, clean!("its optimizer says {error}"));
    }
    if facts.number(subject, "probe_hits") == Some(0.0) {
        let holds = facts.number(subject, "points").map(|points| format!(", though it holds {points} points"));
        let said = clean!("a search for one result found none{}", holds.unwrap_or_default());
        found("probe_empty", Weight::Fail, false, said);
    }
    findings
}

/// A duration as the number that bands are made of.
fn secs(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
