use serde_json::{Value, json};

use super::ModelServer;
use crate::kinds::testing::{Look, Site, Trial, problems, settings};

const HOUR: i64 = 3_600;
const NOTHING: [&str; 0] = [];

struct Server {
    site: Site,
    trial: Trial,
    toml: String,
    _dir: tempfile::TempDir,
}

impl Server {
    fn new(engine: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let site = Site::start();
        let toml = format!("engine = '{engine}'\nurl = '{}'\n{more}", site.url());
        Self { site, trial: Trial::new(dir.path()), toml, _dir: dir }
    }

    #[track_caller]
    fn look(&mut self, seconds: i64) -> Look {
        self.trial.look_in::<ModelServer>(&settings::<ModelServer>(&self.toml), seconds).unwrap()
    }

    #[track_caller]
    fn trouble(&mut self, seconds: i64) -> Vec<String> {
        self.look(seconds).trouble()
    }

    #[track_caller]
    fn unread(&mut self) -> String {
        let unread = self.trial.look::<ModelServer>(&settings::<ModelServer>(&self.toml)).unwrap_err();
        format!("{}: {}", unread.code, unread.said)
    }

    /// The paths that were asked for, in order, each once.
    fn asked(&self) -> Vec<String> {
        let mut paths: Vec<String> =
            self.site.take().iter().map(|request| request.split(' ').nth(1).unwrap().to_owned()).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

const DIGEST: &str = "500a1f067a9f782620b40bee6f7b0c89e17ae61f686b92c24933e4ca4b2b8b41";

fn ollama(more: &str) -> Server {
    let server = Server::new("ollama", more);
    server.site.json("/api/version", &json!({"version": "0.33.0"}));
    let model = |name: &str, digest: &str| {
        json!({"name": name, "model": name, "modified_at": "2026-08-01T00:00:00Z", "size": 5_200_000_000_u64,
               "digest": digest, "details": {"family": "qwen3", "quantization_level": "Q4_K_M"}})
    };
    server
        .site
        .json("/api/tags", &json!({"models": [model("qwen3:8b", DIGEST), model("nomic-embed-text:latest", "0a1")]}));
    server.site.json("/api/ps", &json!({"models": []}));
    server
}

/// What is loaded: the model's size, how much of it is in the GPU's memory, and its context.
fn loaded(server: &Server, size: u64, vram: u64, context: u64) {
    let model = json!({"name": "qwen3:8b", "model": "qwen3:8b", "size": size, "size_vram": vram, "digest": DIGEST,
                       "expires_at": "2026-08-01T00:05:00Z", "context_length": context});
    server.site.json("/api/ps", &json!({"models": [model]}));
}

#[test]
fn a_healthy_ollama_is_quiet_loaded_or_not() {
    let mut server = ollama("models = ['qwen3:8b', 'nomic-embed-text']\ngpu = 'required'\nmin_context = 32768");
    let look = server.look(0);
    assert_eq!(look.trouble(), NOTHING, "idle is no trouble");
    assert_eq!(look.flag("qwen3:8b", "loaded"), Some(false));
    assert_eq!((look.text("", "version"), look.text("qwen3:8b", "digest")), (Some("0.33.0"), Some("500a1f067a9f")));
    assert_eq!(server.asked(), ["/api/ps", "/api/tags", "/api/version"], "nothing that loads a model");
    loaded(&server, 6_000, 6_000, 32_768);
    let look = server.look(900);
    assert_eq!(look.trouble(), NOTHING);
    assert_eq!(look.text("qwen3:8b", "placement"), Some("GPU"));
    assert_eq!(look.number("qwen3:8b", "context_length"), Some(32_768.0));
}

#[test]
fn an_empty_list_with_status_200_is_missed() {
    let mut server = ollama("models = ['qwen3:8b', 'llama3.2']");
    assert_eq!(server.trouble(0), ["llama3.2 model_missing: is not among the 2 models that the server lists"]);
    server.site.json("/api/tags", &json!({"models": []}));
    assert_eq!(
        server.trouble(900),
        [
            "llama3.2 model_missing: is not there: the server lists no model at all",
            "qwen3:8b model_missing: is not there: the server lists no model at all",
        ]
    );

    // Without `models`, a server that is new differs from one that lost them.
    let mut server = ollama("");
    let had = server.site.clone();
    had.json("/api/tags", &json!({"models": []}));
    assert_eq!(server.trouble(0), NOTHING);
    had.json("/api/tags", &json!({"models": [{"name": "a:latest", "digest": "1", "size": 1}]}));
    assert_eq!(server.trouble(900), NOTHING);
    had.json("/api/tags", &json!({"models": []}));
    assert_eq!(server.trouble(1_800), ["no_models: lists no model; it listed 1 before"]);
    assert_eq!(server.trouble(160 * HOUR), ["no_models: lists no model; it listed 1 before"]);
    assert_eq!(server.trouble(170 * HOUR), NOTHING, "a week later it was meant");
}

#[test]
fn the_gpu_is_required_or_a_change_is_said() {
    let mut server = ollama("models = ['qwen3:8b']\ngpu = 'required'");
    loaded(&server, 6_000, 0, 4_096);
    assert_eq!(server.trouble(0), ["qwen3:8b on_cpu: runs on the CPU alone"]);
    loaded(&server, 6_000, 4_500, 4_096);
    assert_eq!(server.trouble(900), ["qwen3:8b partly_on_cpu: runs partly on the CPU (25 % of it)"]);
    // Idle, it is where it was last seen, for a day.
    server.site.json("/api/ps", &json!({"models": []}));
    assert_eq!(
        server.trouble(2 * HOUR + 900),
        ["qwen3:8b partly_on_cpu: ran partly on the CPU (25 % of it) when it was last loaded, 2 h ago"]
    );
    loaded(&server, 6_000, 6_000, 4_096);
    assert_eq!(server.trouble(3 * HOUR), NOTHING);
    loaded(&server, 6_000, 0, 4_096);
    server.trouble(4 * HOUR);
    server.site.json("/api/ps", &json!({"models": null}));
    assert_eq!(server.trouble(29 * HOUR), NOTHING);

    // A host without a GPU is no worse for that.
    let mut server = ollama("models = ['qwen3:8b']");
    loaded(&server, 6_000, 0, 4_096);
    let look = server.look(0);
    assert_eq!((look.trouble(), look.text("qwen3:8b", "placement")), (vec![], Some("CPU")));
}

#[test]
fn a_short_context_is_said_and_what_cannot_be_read_of_it_too() {
    let mut server = ollama("models = ['qwen3:8b']\nmin_context = 32768");
    loaded(&server, 6_000, 6_000, 4_096);
    let short = ["qwen3:8b context_short: has a context of 4096 tokens, at least 32768 are needed"];
    assert_eq!(server.trouble(0), short);
    server.site.json("/api/ps", &json!({"models": []}));
    assert_eq!(server.trouble(900), short, "idle, it is what it was");
    server.site.answer("/api/ps", 500, "application/json", r#"{"error":"boom"}"#);
    assert_eq!(server.trouble(1_800), ["qwen3:8b server_error: `/api/ps` answered 500: \"{'error':'boom'}\""]);
    // Nobody asked about places.
    let mut server = ollama("models = ['qwen3:8b']");
    server.site.forget("/api/ps").forget("/api/version");
    assert_eq!(server.trouble(0), NOTHING);
}

#[test]
fn a_page_with_status_200_is_no_answer() {
    for (engine, more, path) in [
        ("ollama", "", "/api/tags"),
        ("vllm", "", "/health"),
        ("llamacpp", "", "/health"),
        ("litellm", "", "/health/readiness"),
        ("openai", "models = ['a']", "/v1/models"),
    ] {
        let mut server = Server::new(engine, more);
        server.site.all(200, "text/html", "<!doctype html><title>Open WebUI</title>");
        assert_eq!(server.unread(), format!("bad_answer: `{path}` answered 200 with a web page"), "{engine}");
        server.site.all(200, "application/json", "<html>");
        assert_eq!(server.unread(), format!("bad_answer: `{path}` answered 200 with a web page"), "{engine}");
        server.site.all(401, "application/json", "{}");
        assert!(server.unread().starts_with("access_denied: "), "{engine}");
        server.site.all(502, "text/html", "<html>Bad Gateway</html>");
        assert!(server.unread().starts_with("server_error: "), "{engine}");
    }
    for engine in ["ollama", "openai", "litellm", "llamacpp"] {
        let mut server = Server::new(engine, "models = ['a']");
        server.site.all(200, "application/json", "{\"ok\": true}");
        assert!(server.unread().starts_with("bad_answer: "), "{engine}");
    }
}

fn vllm(more: &str) -> Server {
    let server = Server::new("vllm", more);
    server.site.answer("/health", 200, "text/plain", "");
    server.site.json("/version", &json!({"version": "0.12.1"}));
    let model = json!({"id": "qwen3-32b", "object": "model", "root": "/m/qwen3", "max_model_len": 40_960});
    server.site.json("/v1/models", &json!({"object": "list", "data": [model]}));
    server
}

/// How it is going: running, waiting, tokens written, tokens read.
fn work(server: &Server, [running, waiting, written, read]: [u32; 4]) {
    let text = format!(
        "# HELP vllm:num_requests_running Number of requests in model execution batches.\n\
         # TYPE vllm:num_requests_running gauge\n\
         vllm:num_requests_running{{engine=\"0\",model_name=\"qwen3-32b\"}} {running}.0\n\
         vllm:num_requests_waiting{{engine=\"0\",model_name=\"qwen3-32b\"}} {waiting}.0\n\
         vllm:kv_cache_usage_perc{{engine=\"0\",model_name=\"qwen3-32b\"}} 0.424\n\
         vllm:prompt_tokens_total{{engine=\"0\",model_name=\"qwen3-32b\"}} {read}.0\n\
         vllm:generation_tokens_total{{engine=\"0\",model_name=\"qwen3-32b\"}} {written}.0\n"
    );
    server.site.answer("/metrics", 200, "text/plain; version=0.0.4", &text);
}

#[test]
fn a_vllm_that_gets_nothing_done_is_stuck_though_its_health_is_200() {
    let mut server = vllm("models = ['qwen3-32b']");
    work(&server, [2, 3, 1_000, 9_000]);
    let look = server.look(0);
    assert_eq!(look.trouble(), NOTHING);
    assert_eq!([look.number("", "cache_percent"), look.number("", "tokens")], [Some(42.4), Some(10_000.0)]);
    assert_eq!(look.number("qwen3-32b", "context_length"), Some(40_960.0));
    assert_eq!(server.trouble(500), NOTHING, "two looks close together prove little");
    assert_eq!(server.trouble(900), ["stuck: no token for 15 min while requests are there (2 running, 3 waiting)"]);
    work(&server, [2, 3, 1_001, 9_000]);
    assert_eq!(server.trouble(1_800), NOTHING, "it moves again");

    // The same numbers at two looks, but idle in between or at the end.
    let mut server = vllm("");
    for (second, load) in [(0, [1, 0, 5, 5]), (900, [0, 0, 5, 5]), (1_800, [1, 1, 5, 5]), (1_900, [0, 0, 5, 5])] {
        work(&server, load);
        assert_eq!(server.trouble(second), NOTHING, "{second}");
    }
    // A model that embeds writes no token ever, and reads.
    let mut server = vllm("");
    work(&server, [0, 4, 0, 100]);
    server.trouble(0);
    work(&server, [0, 4, 0, 900]);
    assert_eq!(server.trouble(900), NOTHING);
}

#[test]
fn a_dead_engine_a_queue_and_another_service_are_told_apart() {
    let mut server = vllm("max_waiting = 10");
    work(&server, [8, 11, 1, 1]);
    assert_eq!(server.trouble(0), ["queue_long: requests pile up: 11 waiting, 8 running"]);
    server.site.answer("/metrics", 200, "text/plain", "node_load1 0.5\n");
    assert_eq!(server.trouble(0), ["bad_answer: `/metrics` has no `vllm:num_requests_running`"]);
    server.site.answer("/health", 503, "text/plain", "");
    assert_eq!(server.unread(), "engine_dead: `/health` answered 503: its engine is dead");
    // The name that the cache had before.
    let mut server = vllm("");
    server.site.answer("/metrics", 200, "text/plain", "vllm:num_requests_running 0\nvllm:gpu_cache_usage_perc 0.9\n");
    assert_eq!(server.look(0).number("", "cache_percent"), Some(90.0));
}

fn llamacpp(more: &str) -> Server {
    let server = Server::new("llamacpp", more);
    server.site.json("/health", &json!({"status": "ok"}));
    props(&server, false);
    let model = json!({"id": "/models/qwen3-8b.gguf", "object": "model", "owned_by": "llamacpp"});
    server.site.json("/v1/models", &json!({"object": "list", "data": [model]}));
    let off = r#"{"error":{"code":501,"message":"This server does not support metrics endpoint.","type":"not_supported_error"}}"#;
    server.site.answer("/metrics", 501, "application/json", off);
    server.site.answer("/slots?fail_on_no_slot=1", 200, "application/json", "[{\"id\":0}]");
    server
}

fn props(server: &Server, asleep: bool) {
    server.site.json(
        "/props",
        &json!({"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4, "build_info": "b10488-abc",
                "model_path": "/models/qwen3-8b.gguf", "is_sleeping": asleep}),
    );
}

#[test]
fn llamacpp_loads_sleeps_and_works() {
    let mut server = llamacpp("models = ['qwen3-8b']\nfree_slot = true");
    let look = server.look(0);
    assert_eq!(look.trouble(), NOTHING);
    assert_eq!(
        [look.text("", "version"), look.text("", "model_path")],
        [Some("b10488-abc"), Some("/models/qwen3-8b.gguf")]
    );
    assert_eq!(look.number("qwen3-8b", "context_length"), Some(8_192.0));
    server.asked();
    // One that sleeps is asked nothing that would wake it.
    props(&server, true);
    assert_eq!(server.trouble(900), NOTHING);
    assert_eq!(server.asked(), ["/health", "/props", "/v1/models"]);
    props(&server, false);
    server.site.answer(
        "/slots?fail_on_no_slot=1",
        503,
        "application/json",
        r#"{"error":{"message":"no slot available"}}"#,
    );
    assert_eq!(server.trouble(900), ["no_free_slot: all slots are busy"]);
    server.site.answer("/props", 401, "application/json", "{}");
    assert_eq!(server.trouble(900), ["access_denied: `/props` answered 401: the key does not let us in"]);
    let busy = r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#;
    server.site.answer("/health", 503, "application/json", busy);
    assert_eq!(server.unread(), "loading: it is loading its model");

    let mut server = llamacpp("max_waiting = 1\nmin_context = 32768");
    assert_eq!(
        server.trouble(0),
        [
            "context_short: has a context of 8192 tokens, at least 32768 are needed",
            "no_metrics: `/metrics` answered 501 without numbers, and `max_waiting` needs them",
        ]
    );
    // One long answer: its tokens are added up when it ends.
    let older = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\nllamacpp:tokens_predicted_total 7\n";
    let text = |steps: u32| format!("{older}llamacpp:n_decode_total {steps}\n");
    let mut server = llamacpp("");
    server.site.answer("/metrics", 200, "text/plain", older);
    server.trouble(0);
    assert_eq!(server.trouble(900), NOTHING);
    let mut server = llamacpp("");
    server.site.answer("/metrics", 200, "text/plain", &text(7));
    server.trouble(0);
    assert_eq!(server.trouble(900), ["stuck: no token for 15 min while requests are there (1 running, 2 waiting)"]);
    server.site.answer("/metrics", 200, "text/plain", &text(8));
    assert_eq!(server.trouble(1_800), NOTHING);
}

fn litellm(more: &str) -> Server {
    let server = Server::new("litellm", more);
    server
        .site
        .json("/health/readiness", &json!({"status": "healthy", "db": "connected", "litellm_version": "1.109.1"}));
    let list: Vec<Value> = ["sonnet", "small"].iter().map(|id| json!({"id": id, "object": "model"})).collect();
    server.site.json("/v1/models", &json!({"data": list, "object": "list"}));
    server
}

#[test]
fn litellm_is_asked_only_what_costs_nothing() {
    let mut server = litellm("models = ['sonnet', 'small', 'gone']\napi_key = 'env:HOME'");
    let info = |name: &str, day: Value| {
        json!({"model_name": name, "litellm_params": {"model": "x"},
               "model_info": {"deprecation_date": day, "max_input_tokens": 200_000}})
    };
    let soon =
        (jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 20_000)).strftime("%Y-%m-%d").to_string();
    server.site.json("/model/info", &json!({"data": [
        info("sonnet", json!("2099-12-31")), info("sonnet", json!(soon)), info("small", Value::Null), info("x", json!("bad"))]}));
    let look = server.look(0);
    assert_eq!(look.text("", "database"), Some("connected"));
    assert_eq!(look.codes(), ["gone: model_missing"]);
    assert!(look.trouble()[1].starts_with("sonnet retired: was retired by its provider "), "{:?}", look.trouble());
    assert_eq!(server.asked(), ["/health/readiness", "/model/info", "/v1/models"]);

    // A key that may not ask for details is no worse for that.
    let mut server = litellm("models = ['sonnet']");
    server.site.answer("/model/info", 403, "application/json", "{}");
    assert_eq!(server.trouble(0), NOTHING);
    server.site.answer("/health/readiness", 503, "application/json", r#"{"status":"shutting_down"}"#);
    assert!(server.unread().starts_with("not_ready: `/health/readiness` answered 503: "));
    // Without a model to find, no key is needed.
    let mut server = litellm("");
    server.site.answer("/v1/models", 401, "application/json", "{}");
    assert_eq!(server.trouble(0), NOTHING);
}

#[test]
fn any_server_like_openais() {
    let mut server = Server::new("openai", "models = ['qwen3']");
    server.toml = server.toml.replacen("'\nmodels", "/v1/'\nmodels", 1);
    server.site.json("/v1/models", &json!({"data": [{"id": "qwen3"}]}));
    assert_eq!(server.trouble(0), NOTHING);
    server.site.json("/v1/models", &json!({"data": []}));
    assert_eq!(server.trouble(0), ["qwen3 model_missing: is not there: the server lists no model at all"]);
}

#[test]
fn bad_settings_are_refused() {
    for (toml, want) in [
        ("engine = 'tgi'", "unknown variant `tgi`, expected one of `ollama`, `vllm`, `llamacpp`, `litellm`, `openai`"),
        ("engine = 'llamacpp'", "url: `llamacpp` needs `url` (as in `http://127.0.0.1:8080`; see its `--port`)"),
        ("engine = 'openai'\nmodels = ['a']", "url: `openai` needs `url` (as in `http://127.0.0.1:1234`)"),
        ("engine = 'openai'\nurl = 'http://a'", "models: `openai` needs `models` (an answer alone proves little)"),
        ("engine = 'ollama'\nurl = 'a:11434'", "url: `url` must begin with `http://` or `https://` and name a host"),
        ("engine = 'ollama'\nmodels = [' ']", "models: a model has no name"),
        ("engine = 'ollama'\ngpu = 'required'", "gpu: `gpu` holds for `models`, and none is listed"),
        ("engine = 'vllm'\nmin_context = 1", "min_context: `min_context` holds for `models`, and none is listed"),
        ("engine = 'vllm'\nmodels = ['a']\ngpu = 'required'", "gpu: `gpu` belongs to `ollama`"),
        ("engine = 'ollama'\nmax_waiting = 1", "max_waiting: `max_waiting` belongs to `vllm` and `llamacpp`"),
        ("engine = 'vllm'\nfree_slot = true", "free_slot: `free_slot` belongs to `llamacpp`"),
        ("engine = 'vllm'\nstuck_after = '0s'", "stuck_after: expected a duration above 0s"),
    ] {
        assert_eq!(problems::<ModelServer>(toml), [want], "{toml}");
    }
}
