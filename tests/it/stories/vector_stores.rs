//! Vector stores, each by its pack: what calls itself ready and has lost something, told from what is merely at work.

use serde_json::{Value, json};

use crate::support::{Answer, Http, Lab, pack};

/// A server that knows no path yet.
fn server() -> Http {
    Http::start(Answer::With(404, "text/plain", "404 page not found".to_owned()))
}

fn text(body: &str) -> Answer {
    Answer::With(200, "text/plain", body.to_owned())
}

fn qdrant() -> Http {
    let server = server();
    server.json("/", &json!({"title": "qdrant - vector search engine", "version": "1.15.4"}));
    server.path("/readyz", text("all shards are ready"));
    server.json("/locks", &json!({"result": {"error_message": null, "write": false}, "status": "ok", "time": 1e-6}));
    collections(&server, &["docs", "chat"]);
    for name in ["docs", "chat"] {
        collection(&server, name, "green", &json!("ok"), 10_000);
    }
    server
}

fn collections(server: &Http, names: &[&str]) {
    let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    server.json("/collections", &json!({"result": {"collections": names}, "status": "ok", "time": 1e-6}));
}

fn collection(server: &Http, name: &str, status: &str, optimizer: &Value, points: u64) {
    let vectors = json!({"size": 768, "distance": "Cosine"});
    let info = json!({
        "status": status, "optimizer_status": optimizer, "indexed_vectors_count": points, "points_count": points,
        "segments_count": 6, "config": {"params": {"vectors": vectors}}, "payload_schema": {},
    });
    server.json(&format!("/collections/{name}"), &json!({"result": info, "status": "ok", "time": 2e-5}));
}

fn chroma() -> Http {
    let server = server();
    server.json("/api/v2/heartbeat", &json!({"nanosecond heartbeat": 1_774_042_200_000_000_000_u64}));
    server.json("/api/v2/healthcheck", &json!({"is_executor_ready": true, "is_log_client_ready": true}));
    let collections = "/api/v2/tenants/default_tenant/databases/default_database/collections";
    server.json(
        &format!("{collections}?limit=1000&offset=0"),
        &json!([{"id": "7d1c", "name": "docs", "dimension": 768}]),
    );
    server.json(&format!("{collections}/7d1c/count"), &json!(4_000));
    server
}

fn weaviate() -> Http {
    let server = server();
    server.path("/v1/.well-known/ready", text(""));
    server.json("/v1/schema", &json!({"classes": [{"class": "Memory"}]}));
    let shard =
        json!({"name": "s1", "class": "Memory", "objectCount": 900, "vectorIndexingStatus": "READY", "loaded": true});
    let node = json!({"name": "node1", "status": "HEALTHY", "version": "1.25.0", "shards": [shard]});
    server.json("/v1/nodes?output=verbose", &json!({"nodes": [node]}));
    server
}

fn lab(server: &Http) -> Lab {
    // Off the rhythm of cycles, so that no second decides.
    let config = pack("qdrant", "http://127.0.0.1:6333", &server.url());
    Lab::with(&config.replace("#busy_for = \"2h\"", "busy_for = \"125m\""))
}

#[test]
fn a_healthy_one_is_quiet_and_a_page_with_status_200_is_no_answer() {
    for (name, usual, server) in [
        ("qdrant", "http://127.0.0.1:6333", qdrant()),
        ("chroma", "http://127.0.0.1:8000", chroma()),
        ("weaviate", "http://127.0.0.1:8080", weaviate()),
    ] {
        let mut lab = Lab::with(&pack(name, usual, &server.url()));
        lab.cycle().quiet();
        lab.next().quiet();
        assert!(server.take().iter().all(|seen| seen.method == "GET"), "{name}");
        server.paths_forgotten(Answer::With(200, "text/html", "<!doctype html><title>Sign in</title>".to_owned()));
        lab.next().quiet();
        let ran = lab.next();
        ran.expect("yellow", true, &[name]);
        assert!(ran.report()["top_3"][0]["item"].as_str().unwrap().ends_with("answered 200 with a web page"));
    }
}

#[test]
fn an_optimizer_at_work_is_quiet_and_a_red_collection_is_not() {
    let server = qdrant();
    let mut lab = lab(&server);
    lab.cycle().quiet();
    collection(&server, "docs", "yellow", &json!("ok"), 10_000);
    lab.next().quiet();
    lab.next().quiet();
    collection(&server, "docs", "green", &json!("ok"), 10_400);
    lab.next().quiet();

    // `/readyz` goes on saying that all shards are ready.
    collection(&server, "docs", "red", &json!({"error": "No space left on device"}), 10_400);
    let ran = lab.next();
    let report = ran.expect("red", true, &["qdrant/docs"]);
    assert_eq!(
        report["top_3"][0]["item"],
        "qdrant docs: its status is \"red\"; its optimizer says \"No space left on device\""
    );
    lab.next().expect("red", false, &["qdrant/docs"]);
    collection(&server, "docs", "green", &json!("ok"), 10_400);
    lab.next().expect("green", true, &["qdrant/docs"]);

    // At work for hours, it is trouble after all, and never more than yellow.
    collection(&server, "docs", "grey", &json!("ok"), 10_400);
    for _ in 0..10 {
        lab.next().quiet();
    }
    let report = lab.next().expect("yellow", true, &["qdrant/docs"]);
    let item = report["top_3"][0]["item"].as_str().unwrap();
    assert!(item.starts_with("qdrant docs: its status has been \"grey\" for 2 h "), "{item}");
    for _ in 0..3 {
        lab.next().expect("yellow", false, &["qdrant/docs"]);
    }
}

#[test]
fn points_that_are_gone_are_told_and_an_index_built_anew_is_not() {
    let (lost, anew) = (qdrant(), qdrant());
    let (mut of_lost, mut of_anew) = (lab(&lost), lab(&anew));
    of_lost.cycle().quiet();
    of_anew.cycle().quiet();
    for (left, refilled) in [(1_200, 300), (1_210, 3_000), (1_220, 6_500)] {
        collection(&lost, "chat", "green", &json!("ok"), left);
        collection(&anew, "chat", "green", &json!("ok"), refilled);
        of_anew.next().quiet();
        let ran = of_lost.next();
        match left {
            1_200 => ran.quiet(),
            1_210 => drop(ran.expect("yellow", true, &["qdrant/chat"])),
            _ => {
                let report = ran.expect("red", true, &["qdrant/chat"]);
                assert_eq!(report["top_3"][0]["item"], "qdrant chat: 8780 of its 10000 points are gone");
            }
        }
    }
    collection(&lost, "chat", "green", &json!("ok"), 10_000);
    collection(&anew, "chat", "green", &json!("ok"), 10_000);
    of_lost.next().expect("green", true, &["qdrant/chat"]);
    of_anew.next().quiet();
}

#[test]
fn a_collection_that_is_gone_is_told_and_a_missing_key_makes_blind() {
    let (server, other) = (qdrant(), Http::ok("fine"));
    let mut lab = lab(&server);
    lab.config(&format!("{}\n{}", pack("qdrant", "http://127.0.0.1:6333", &server.url()), other.check("other")));
    lab.cycle().quiet();
    collections(&server, &["docs"]);
    lab.next().quiet();
    let report = lab.next().expect("yellow", true, &["qdrant/chat"]);
    assert_eq!(report["top_3"][0]["item"], "qdrant chat: is not among the server's collections any more");
    collections(&server, &["docs", "chat"]);
    lab.next().expect("green", true, &["qdrant/chat"]);

    server.path("/collections", Answer::With(401, "text/plain", "Must provide an API key".to_owned()));
    let report = lab.next().expect("yellow", true, &["qdrant"]);
    assert_eq!(report["top_3"][0]["item"], "qdrant: `/collections` answered 401: the key does not let us in");
    for _ in 0..4 {
        lab.next().expect("yellow", false, &["qdrant"]);
    }
}
