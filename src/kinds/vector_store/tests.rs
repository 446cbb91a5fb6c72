use serde_json::{Value, json};

use super::VectorStore;
use crate::kinds::testing::{Look, Site, Trial, problems, settings};

const HOUR: i64 = 3_600;

struct Store {
    site: Site,
    trial: Trial,
    toml: String,
    _dir: tempfile::TempDir,
}

impl Store {
    fn new(engine: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::start();
        let toml = format!("engine = '{engine}'\nurl = '{}'\n{more}", site.url());
        Self { site, trial: Trial::new(dir.path()), toml, _dir: dir }
    }

    #[track_caller]
    fn look(&mut self, seconds: i64) -> Look {
        self.trial.look_in::<VectorStore>(&settings::<VectorStore>(&self.toml), seconds).unwrap()
    }

    /// What is wrong after so many seconds.
    #[track_caller]
    fn trouble(&mut self, seconds: i64) -> Vec<String> {
        self.look(seconds).trouble()
    }

    /// Why nothing could be read.
    #[track_caller]
    fn unread(&mut self) -> String {
        let unread = self.trial.look::<VectorStore>(&settings::<VectorStore>(&self.toml)).unwrap_err();
        format!("{}: {}", unread.code, unread.said)
    }
}

/// A Qdrant with these collections.
fn qdrant(more: &str) -> Store {
    let store = Store::new("qdrant", more);
    let site = &store.site;
    site.json("/", &json!({"title": "qdrant - vector search engine", "version": "1.15.4", "commit": "x"}));
    site.answer("/readyz", 200, "text/plain", "all shards are ready");
    site.json("/locks", &json!({"result": {"error_message": null, "write": false}, "status": "ok", "time": 1e-6}));
    listed(&store, &["docs", "chat"]);
    for name in ["docs", "chat"] {
        collection(&store, name, "green", &json!("ok"), 10_000);
    }
    store
}

fn listed(store: &Store, names: &[&str]) {
    let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    store.site.json("/collections", &json!({"result": {"collections": names}, "status": "ok", "time": 1e-6}));
}

fn collection(store: &Store, name: &str, status: &str, optimizer: &Value, points: u64) {
    let info = json!({
        "result": {
            "status": status,
            "optimizer_status": optimizer,
            "indexed_vectors_count": points / 2,
            "points_count": points,
            "segments_count": 4,
            "config": {"params": {"vectors": {"size": 384, "distance": "Cosine"}, "shard_number": 1}},
            "payload_schema": {},
        },
        "status": "ok",
        "time": 1e-5,
    });
    store.site.json(&format!("/collections/{name}"), &info);
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_healthy_qdrant_is_quiet_and_told_in_full() {
    let mut store = qdrant("api_key = 'env:HOME'");
    let look = store.look(0);
    assert_eq!(look.trouble(), NOTHING);
    assert_eq!(
        [look.text("", "version"), look.text("docs", "status"), look.text("docs", "vectors")],
        [Some("1.15.4"), Some("green"), Some("384 Cosine")]
    );
    assert_eq!(
        [look.number("docs", "points"), look.number("docs", "indexed"), look.number("", "collections")],
        [Some(10_000.0), Some(5_000.0), Some(2.0)]
    );
    assert_eq!(look.flag("", "write_locked"), Some(false));
    let requests = store.site.take();
    assert_eq!(requests.len(), 6);
    assert!(requests.iter().all(|request| request.starts_with("GET ") && request.contains("\r\napi-key: ")));
}

#[test]
fn ready_is_not_the_status_alone() {
    let mut store = qdrant("");
    store.site.answer("/readyz", 503, "text/plain", "some shards are not ready");
    assert_eq!(store.unread(), "not_ready: `/readyz` answered 503: \"some shards are not ready\"");
    store.site.answer("/readyz", 200, "text/html", "<!doctype html><title>Sign in</title>");
    assert_eq!(store.unread(), "bad_answer: `/readyz` answered 200 with a web page");
    // Something else that is healthy as well.
    store.site.all(200, "text/plain", "OK");
    assert_eq!(
        store.unread(),
        "bad_answer: `/collections` is no JSON that can be read (expected value at line 1 column 1)"
    );
    store.site.all(200, "application/json", "{\"status\": \"ok\"}");
    assert_eq!(store.unread(), "bad_answer: `/collections` answered JSON without `result.collections`");
    store.site.all(404, "text/plain", "no");
    assert_eq!(store.unread(), "wrong_api: `/collections` answered 404: the server does not know it");

    // A server from before `/readyz`, and one without locks, is no worse for that.
    let mut store = qdrant("");
    store.site.forget("/readyz").forget("/locks");
    assert_eq!(store.trouble(0), NOTHING);
}

#[test]
fn a_key_that_is_missing_makes_blind() {
    let mut store = qdrant("");
    store.site.answer("/collections", 401, "text/plain", "Must provide an API key or an Authorization bearer token");
    assert_eq!(store.unread(), "access_denied: `/collections` answered 401: the key does not let us in");
    let mut store = qdrant("");
    store.site.answer("/collections/docs", 403, "application/json", "{}");
    assert_eq!(store.trouble(0), ["docs access_denied: `/collections/…` answered 403: the key does not let us in"]);
}

#[test]
fn yellow_and_grey_are_trouble_only_when_they_last() {
    for status in ["yellow", "grey"] {
        let mut store = qdrant("");
        collection(&store, "docs", status, &json!("ok"), 10_000);
        assert_eq!(store.trouble(0), NOTHING);
        assert_eq!(store.trouble(2 * HOUR - 60), NOTHING);
        assert_eq!(
            store.trouble(2 * HOUR + 600),
            [format!("docs long_busy: its status has been \"{status}\" for 2 h 10 min")]
        );
        collection(&store, "docs", "green", &json!("ok"), 10_000);
        assert_eq!(store.trouble(3 * HOUR), NOTHING);
        collection(&store, "docs", status, &json!("ok"), 10_000);
        assert_eq!(store.trouble(5 * HOUR + 600), NOTHING, "it was green in between");
    }
}

#[test]
fn red_a_failed_optimizer_and_a_lock_are_told_apart() {
    let mut store = qdrant("");
    let error = json!({"error": "Service internal error: No space left on device"});
    collection(&store, "docs", "red", &error, 10_000);
    collection(&store, "chat", "green", &error, 10_000);
    store.site.json("/locks", &json!({"result": {"error_message": "backup @ops", "write": true}, "status": "ok"}));
    assert_eq!(
        store.trouble(0),
        [
            "write_locked: writes are locked: \"backup (at)ops\"",
            "chat optimizer_failed: its optimizer says \"Service internal error: No space left on device\"",
            "docs broken: its status is \"red\"; its optimizer says \"Service internal error: No space left on device\"",
        ]
    );
    collection(&store, "docs", "mauve", &json!("ok"), 10_000);
    collection(&store, "chat", "green", &json!("ok"), 10_000);
    store.site.forget("/locks");
    assert_eq!(store.trouble(0), ["docs unknown_status: its status is \"mauve\", which is not known"]);
}

#[test]
fn points_that_are_gone_are_missed() {
    let look = |points: u64| {
        let mut store = qdrant("");
        assert_eq!(store.trouble(0), NOTHING);
        collection(&store, "docs", "green", &json!("ok"), points);
        store.trouble(900)
    };
    assert_eq!(look(8_001), NOTHING);
    assert_eq!(look(20_000), NOTHING);
    assert_eq!(look(7_999), ["docs points_dropped: 2001 of its 10000 points are gone"]);
    assert_eq!(look(4_999), ["docs points_lost: 5001 of its 10000 points are gone"]);
    assert_eq!(look(0), ["docs points_lost: it is empty, 10000 points were in it"]);

    // A share of next to nothing is nothing.
    let mut store = qdrant("");
    collection(&store, "docs", "green", &json!("ok"), 90);
    store.trouble(0);
    collection(&store, "docs", "green", &json!("ok"), 0);
    assert_eq!(store.trouble(900), NOTHING);
}

#[test]
fn a_drop_is_held_against_the_count_before_it_until_it_is_mended_or_meant() {
    let mut store = qdrant("");
    let lost = ["docs points_lost: 9000 of its 10000 points are gone"];
    store.trouble(0);
    collection(&store, "docs", "green", &json!("ok"), 1_000);
    // A server that was away for days has not forgotten.
    assert_eq!(store.trouble(72 * HOUR), lost);
    for hours in [80, 120, 72 + 167] {
        assert_eq!(store.trouble(hours * HOUR), lost, "{hours} h");
    }
    assert_eq!(store.trouble((72 + 168) * HOUR), NOTHING, "a week later it was meant");
    collection(&store, "docs", "green", &json!("ok"), 400);
    assert_eq!(store.trouble((72 + 169) * HOUR), ["docs points_lost: 600 of its 1000 points are gone"]);
    collection(&store, "docs", "green", &json!("ok"), 1_000);
    assert_eq!(store.trouble((72 + 170) * HOUR), NOTHING);
}

#[test]
fn an_index_that_is_built_anew_is_left_in_peace_and_one_that_is_not_is_told() {
    let mut store = qdrant("");
    let mut look = |points: u64, minutes: i64| {
        collection(&store, "docs", "green", &json!("ok"), points);
        store.trouble(minutes * 60)
    };
    look(10_000, 0);
    assert_eq!(look(500, 15).len(), 1, "the first look sees a drop and nothing else");
    for (points, minutes) in [(2_500, 30), (4_500, 45), (7_000, 60), (9_900, 75)] {
        assert_eq!(look(points, minutes), NOTHING, "{points}");
    }
    // New points that trickle in are no refill: at this rate it would take days.
    look(10_000, 100);
    look(500, 115);
    assert_eq!(look(520, 130), ["docs points_lost: 9480 of its 10000 points are gone"]);
    assert_eq!(look(300, 145), ["docs points_lost: 9700 of its 10000 points are gone"]);
}

#[test]
fn a_slow_decline_is_measured_against_a_day_and_a_double_count_against_nothing() {
    let mut store = qdrant("");
    for day in 0..10_i64 {
        collection(&store, "docs", "green", &json!("ok"), 10_000 - 500 * day.unsigned_abs());
        assert_eq!(store.trouble(day * 24 * HOUR), NOTHING, "day {day}");
    }
    let mut store = qdrant("");
    store.trouble(0);
    // While it is optimized, points may be counted twice.
    collection(&store, "docs", "yellow", &json!("ok"), 20_000);
    assert_eq!(store.trouble(900), NOTHING);
    collection(&store, "docs", "green", &json!("ok"), 10_000);
    assert_eq!(store.trouble(1_800), NOTHING);
}

#[test]
fn a_collection_that_is_gone_is_missed_unless_it_was_empty_or_ignored() {
    let mut store = qdrant("ignore = '^tmp-'");
    listed(&store, &["docs", "chat", "tmp-1", "empty"]);
    collection(&store, "empty", "green", &json!("ok"), 0);
    assert_eq!(store.trouble(0), NOTHING);
    listed(&store, &["chat"]);
    let gone = ["docs collection_missing: is not among the server's collections any more"];
    assert_eq!(store.trouble(900), gone);
    assert_eq!(store.trouble(167 * HOUR), gone);
    listed(&store, &["chat", "docs"]);
    assert_eq!(store.trouble(168 * HOUR), NOTHING, "it is back");
    listed(&store, &["chat"]);
    assert_eq!(store.trouble(169 * HOUR), gone);
    assert_eq!(store.trouble((169 + 168) * HOUR), NOTHING, "it stayed away: that was meant");

    let mut store = qdrant("collections = ['docs', 'nowhere']");
    let look = store.look(0);
    assert_eq!(look.trouble(), ["nowhere collection_missing: is not among the server's collections"]);
    assert_eq!(look.text("chat", "status"), None, "it is not listed");
}

#[test]
fn a_search_must_find_something() {
    let probe = "probe = { collection = 'docs', vector = [0.1, 1], vector_name = 'text' }";
    let mut store = qdrant(probe);
    let path = "/collections/docs/points/query";
    store.site.json(path, &json!({"result": {"points": [{"id": 1, "version": 0, "score": 0.5}]}, "status": "ok"}));
    assert_eq!(store.trouble(0), NOTHING);
    let request = store.site.take().into_iter().find(|request| request.starts_with("POST")).unwrap();
    let body: Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(body, json!({"query": [0.1, 1.0], "limit": 1, "using": "text"}));
    store.site.json(path, &json!({"result": {"points": []}, "status": "ok"}));
    assert_eq!(
        store.trouble(900),
        ["docs probe_empty: a search for one result found none, though it holds 10000 points"]
    );
    store.site.answer(path, 400, "application/json", r#"{"status":{"error":"Wrong input: Vector dimension error"}}"#);
    assert!(store.trouble(900)[0].starts_with("docs wrong_api: `/collections/…/points/query` answered 400: \"{"));
    listed(&store, &["chat"]);
    assert_eq!(store.trouble(1_800), ["docs collection_missing: is not among the server's collections any more"]);

    let mut store = qdrant("probe = { collection = 'docs' }");
    store.site.json("/collections/docs/points/scroll", &json!({"result": {"points": [{"id": 1}]}}));
    assert_eq!(store.look(0).number("docs", "probe_hits"), Some(1.0));
}

#[test]
fn many_collections_are_bounded_and_names_may_hold_anything() {
    let mut store = qdrant("");
    let names: Vec<String> = (0..153).map(|n| format!("c{n:03}")).collect();
    listed(&store, &names.iter().map(String::as_str).collect::<Vec<_>>());
    for name in &names {
        collection(&store, name, "green", &json!("ok"), 5);
    }
    assert_eq!(store.trouble(0), ["too_many_collections: 3 collections are not looked at, one check looks at 150"]);
    let mut store = qdrant("");
    listed(&store, &["a/b ?#ü"]);
    collection(&store, "a%2Fb%20%3F%23%C3%BC", "green", &json!("ok"), 5);
    assert_eq!(store.look(0).text("a/b ?#ü", "status"), Some("green"));
}

#[test]
fn chroma_speaks_its_second_api() {
    let place = "/api/v2/tenants/default_tenant/databases/default_database/collections";
    let mut store = Store::new("chroma", "api_key = 'env:HOME'\nprobe = { collection = 'docs' }");
    let site = store.site.clone();
    site.json("/api/v2/heartbeat", &json!({"nanosecond heartbeat": 1_790_000_000_000_000_000_u64}));
    site.json("/api/v2/healthcheck", &json!({"is_executor_ready": true, "is_log_client_ready": true}));
    site.json(
        &format!("{place}?limit=1000&offset=0"),
        &json!([{"id": "0b1c", "name": "docs", "metadata": null, "dimension": 384, "tenant": "default_tenant"}]),
    );
    site.answer(&format!("{place}/0b1c/count"), 200, "application/json", "1200");
    site.json(&format!("{place}/0b1c/get"), &json!({"ids": ["a"], "documents": null, "include": []}));
    let look = store.look(0);
    assert_eq!(look.trouble(), NOTHING);
    assert_eq!(look.number("docs", "points"), Some(1_200.0));
    assert_eq!((look.text("docs", "vectors"), look.text("", "version")), (Some("384"), None));
    assert!(site.take().iter().all(|request| request.contains("\r\nx-chroma-token: ")));

    site.answer(&format!("{place}/0b1c/count"), 200, "application/json", "0");
    site.json(&format!("{place}/0b1c/get"), &json!({"ids": []}));
    assert_eq!(
        store.trouble(900),
        [
            "docs probe_empty: a search for one result found none, though it holds 0 points",
            "docs points_lost: it is empty, 1200 points were in it",
        ]
    );
    // A list that goes on behind its first page.
    let page: Vec<Value> = (0..1_000).map(|n| json!({"id": "x", "name": format!("other{n}")})).collect();
    site.json(&format!("{place}?limit=1000&offset=0"), &json!(page));
    site.json(&format!("{place}?limit=1000&offset=1000"), &json!([{"id": "0b1c", "name": "docs"}]));
    store.toml = format!("{}\ncollections = ['docs']", store.toml);
    assert_eq!(store.look(1_800).number("docs", "points"), Some(0.0));
    site.answer(
        "/api/v2/healthcheck",
        503,
        "application/json",
        r#"{"is_executor_ready":true,"is_log_client_ready":false}"#,
    );
    assert_eq!(store.unread(), "not_ready: its log client is not ready");
    site.answer("/api/v2/heartbeat", 410, "application/json", r#"{"error":"Unimplemented"}"#);
    assert_eq!(store.unread(), "wrong_api: `/api/v2/heartbeat` answered 410: the server does not know it");
}

fn weaviate(shard: &Value, status: &str) -> Store {
    let store = Store::new("weaviate", "");
    let site = &store.site;
    site.answer("/v1/.well-known/ready", 200, "text/plain", "");
    site.answer("/v1/.well-known/live", 200, "text/plain", "");
    site.json("/v1/schema", &json!({"classes": [{"class": "Docs"}, {"class": "Empty"}]}));
    let node = json!({"name": "node1", "status": status, "version": "1.25.0", "shards": [shard]});
    site.json("/v1/nodes?output=verbose", &json!({"nodes": [node]}));
    store
}

fn shard(status: &str, objects: u64) -> Value {
    json!({"name": "s", "class": "Docs", "objectCount": objects, "vectorIndexingStatus": status, "loaded": true})
}

#[test]
fn weaviate_is_as_well_as_its_nodes_and_shards() {
    let mut store = weaviate(&shard("READY", 700), "HEALTHY");
    let look = store.look(0);
    assert_eq!(look.trouble(), NOTHING);
    assert_eq!((look.number("Docs", "points"), look.number("Empty", "points")), (Some(700.0), Some(0.0)));
    assert_eq!(look.text("", "version"), Some("1.25.0"));

    assert_eq!(weaviate(&shard("INDEXING", 700), "HEALTHY").trouble(0), NOTHING);
    assert_eq!(weaviate(&shard("READONLY", 700), "HEALTHY").trouble(0), ["Docs broken: its status is \"READONLY\""]);
    assert_eq!(
        weaviate(&shard("READY", 700), "UNAVAILABLE").trouble(0),
        ["node_unhealthy: not healthy: node \"node1 UNAVAILABLE\""]
    );

    // A shard that is not in memory counts nothing, which is no loss.
    let mut asleep = shard("READY", 0);
    asleep["loaded"] = json!(false);
    let node = json!({"name": "node1", "status": "HEALTHY", "version": "1.25.0", "shards": [asleep]});
    store.site.json("/v1/nodes?output=verbose", &json!({"nodes": [node]}));
    assert_eq!(store.trouble(900), NOTHING);

    store.site.answer("/v1/.well-known/ready", 503, "text/plain", "");
    assert_eq!(store.unread(), "not_ready: `/v1/.well-known/ready` answered 503, though it is alive");
}

#[test]
fn milvus_fails_with_status_200() {
    let mut store = Store::new("milvus", "");
    store.toml = format!("{}health_url = '{}'\nprobe = {{ collection = 'docs' }}", store.toml, store.site.url());
    let site = store.site.clone();
    site.answer("/healthz", 200, "text/plain", "OK");
    site.json("/v2/vectordb/collections/list", &json!({"code": 0, "data": ["docs"]}));
    site.json("/v2/vectordb/collections/get_stats", &json!({"code": 0, "data": {"rowCount": 40}}));
    site.json("/v2/vectordb/entities/query", &json!({"code": 0, "data": [{"id": 1}], "cost": 0}));
    let look = store.look(0);
    assert_eq!(look.trouble(), NOTHING);
    assert_eq!(look.number("docs", "points"), Some(40.0));
    site.json("/v2/vectordb/entities/query", &json!({"code": 101, "message": "collection not loaded"}));
    assert_eq!(
        store.trouble(900),
        ["docs server_error: `/v2/vectordb/entities/query` answered code 101: \"collection not loaded\""]
    );
    site.json("/v2/vectordb/collections/list", &json!({"code": 1800, "message": "user hasn't authenticated"}));
    assert!(store.unread().starts_with("access_denied: "));
    site.answer("/healthz", 500, "application/json", r#"{"state":"component rootcoord is not healthy"}"#);
    assert!(store.unread().starts_with("not_ready: `/healthz` answered 500: "));
}

#[test]
fn bad_settings_are_refused() {
    for (toml, want) in [
        (
            "engine = 'pinecone'",
            "unknown variant `pinecone`, expected one of `qdrant`, `chroma`, `weaviate`, `milvus`, `pgvector`",
        ),
        ("engine = 'qdrant'\nurl = 'http://a/?api-key=x'", "url: `url` is the server's address, without a query"),
        ("engine = 'qdrant'\napi_key = 'env:A'\nbearer = 'env:B'", "bearer: `api_key` and `bearer` exclude each other"),
        ("engine = 'qdrant'\ncollections = []", "collections: no collection would be looked at (leave it out for all)"),
        (
            "engine = 'qdrant'\ncollections = ['a']\nignore = 'b'",
            "ignore: `ignore` leaves names out where `collections` is not set",
        ),
        (
            "engine = 'qdrant'\ndrop = { warn = 60 }",
            "drop: expected percentages with `fail` not below `warn`, found 60 and 50",
        ),
        ("engine = 'qdrant'\nbusy_for = '0s'", "busy_for: expected a duration above 0s"),
        ("engine = 'qdrant'\ndatabase = 'a'", "database: `database` belongs to the engines `chroma` and `milvus`"),
        (
            "engine = 'qdrant'\npassword = 'env:A'",
            "password: `password` belongs to the engine `pgvector` (use `api_key` or `bearer`)",
        ),
        ("engine = 'qdrant'\nhealth_url = 'http://a'", "health_url: `health_url` belongs to the engine `milvus`"),
        (
            "engine = 'chroma'\nurl = 'http://a/api/v1'",
            "url: `url` is the server's address without `/api/…` (under `/api/v1` Chroma answers 410)",
        ),
        ("engine = 'qdrant'\ncollections = ['a']\nprobe = { collection = 'b' }", "probe: `b` is not in `collections`"),
        (
            "engine = 'qdrant'\nprobe = { collection = 'b', vector = [] }",
            "probe: expected a vector of 1 to 8192 finite numbers",
        ),
        (
            "engine = 'qdrant'\nprobe = { collection = 'b', vector = [nan] }",
            "probe: expected a vector of 1 to 8192 finite numbers",
        ),
        (
            "engine = 'chroma'\nprobe = { collection = 'b', vector = [1], vector_name = 'x' }",
            "probe: `vector_name` goes with `vector` and the engine `qdrant`",
        ),
        (
            "engine = 'weaviate'\nprobe = { collection = 'Docs { a } }' }",
            "probe: `Docs { a } }` is not a collection's name in Weaviate",
        ),
        ("engine = 'pgvector'", "url: `pgvector` needs `url` (`postgres://USER@HOST:PORT/DATABASE`)"),
        (
            "engine = 'pgvector'\nurl = 'postgres://me:pass@a/b'",
            "url: a password in `url` is a secret (use `password`)",
        ),
        ("engine = 'pgvector'\nurl = 'http://a/b'", "url: `url` must be `postgres://USER@HOST:PORT/DATABASE`"),
        (
            "engine = 'pgvector'\nurl = 'postgres://me@a/b'\napi_key = 'env:A'",
            "api_key: `api_key` belongs to the servers that speak HTTP, not to `pgvector`",
        ),
    ] {
        assert_eq!(problems::<VectorStore>(toml), [want], "{toml}");
    }
}

/// A PostgreSQL that answers each query by the first of these words that is in it: rows of columns.
type Answers = &'static [(&'static str, &'static [&'static [&'static str]])];

fn postgres(answers: Answers) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve_postgres(stream, answers));
        }
    });
    port
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], length.to_be_bytes().as_slice(), body].concat()
}

/// Logs everybody in and answers one cursor after the other.
fn serve_postgres(mut stream: std::net::TcpStream, answers: Answers) -> Option<()> {
    use std::io::{Read as _, Write as _};
    let ready = || message(b'Z', b"I");
    let done = || message(b'C', b"DONE\0");
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let mut startup = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    stream.read_exact(&mut startup).ok()?;
    stream.write_all(&[message(b'R', &[0; 4]), ready()].concat()).ok()?;
    let mut asked = String::new();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(head[1..].try_into().unwrap())).unwrap() - 4];
        stream.read_exact(&mut body).ok()?;
        let answer = match head[0] {
            b'P' => {
                asked = String::from_utf8_lossy(&body).into_owned();
                message(b'1', b"")
            }
            b'D' => [message(b't', &[0, 0]), message(b'n', b"")].concat(),
            b'B' => message(b'2', b""),
            b'E' => done(),
            b'C' => message(b'3', b""),
            b'S' => ready(),
            b'Q' if body.starts_with(b"FETCH") => {
                let (_, rows) =
                    answers.iter().find(|(word, _)| asked.contains(word)).unwrap_or_else(|| panic!("{asked}"));
                [rows_of(rows), done(), ready()].concat()
            }
            b'Q' => [done(), ready()].concat(),
            _ => return None,
        };
        stream.write_all(&answer).ok()?;
    }
}

fn rows_of(rows: &[&[&str]]) -> Vec<u8> {
    let count = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let columns = rows.first().map_or(1, |row| row.len());
    let mut described = count(columns).to_vec();
    for _ in 0..columns {
        described.extend(b"c\0");
        described.extend([0; 6]);
        described.extend(25_u32.to_be_bytes());
        described.extend([0xff; 6]);
        described.extend([0; 2]);
    }
    let mut bytes = message(b'T', &described);
    for row in rows {
        let mut body = count(row.len()).to_vec();
        for column in *row {
            body.extend(u32::try_from(column.len()).unwrap().to_be_bytes());
            body.extend(column.as_bytes());
        }
        bytes.extend(message(b'D', &body));
    }
    bytes
}

#[cfg(feature = "postgres")]
#[test]
fn pgvector_is_its_extension_and_its_tables() {
    const WELL: Answers = &[
        ("pg_extension", &[&["0.8.0"]]),
        ("pg_attribute", &[&["public.docs", "public.docs"], &["public.My Notes", "public.\"My Notes\""]]),
        ("FROM public.docs", &[&["1200"]]),
        ("FROM public.\"My Notes\"", &[&["7"]]),
    ];
    const BARE: Answers = &[("pg_extension", &[]), ("pg_attribute", &[])];
    let look = |answers, more: &str| {
        let mut store = Store::new("pgvector", more);
        let url = format!("postgres://me@127.0.0.1:{}/agents", postgres(answers));
        store.toml = store.toml.replace(&store.site.url(), &url);
        store.look(0)
    };
    let well = look(WELL, "password = 'env:HOME'");
    assert_eq!(well.trouble(), NOTHING);
    assert_eq!(well.text("", "version"), Some("0.8.0"));
    assert_eq!(
        (well.number("public.docs", "points"), well.number("public.My Notes", "points")),
        (Some(1_200.0), Some(7.0))
    );
    assert_eq!(
        look(BARE, "collections = ['public.docs']").trouble(),
        [
            "extension_missing: the database has no extension `vector`",
            "public.docs collection_missing: is not among the server's collections",
        ]
    );
    let mut away = Store::new("pgvector", "");
    away.toml = away.toml.replace(&away.site.url(), "postgres://me@127.0.0.1:1/agents");
    assert!(away.unread().starts_with("connection_refused: "));
}
