//! Model servers and their neighbours, each by its pack: a healthy one is quiet, and what calls itself healthy and is not
//! is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::{Answer, Http, Lab, Ran, pack};

const PAGE: &str = "<!doctype html><html><title>Sign in</title></html>";

/// A server that knows no path yet.
fn server() -> Http {
    Http::start(Answer::With(404, "text/plain", "404 page not found".to_owned()))
}

fn text(body: &str) -> Answer {
    Answer::With(200, "text/plain", body.to_owned())
}

fn ollama() -> Http {
    let server = server();
    server.json("/api/version", &json!({"version": "0.33.0"}));
    let digest = "500a1f067a9f782620b40bee6f7b0c89e17ae61f686b92c24933e4ca4b2b8b41";
    let model = json!({"name": "qwen3:8b", "model": "qwen3:8b", "size": 5_225_388_164_u64, "digest": digest,
                       "details": {"format": "gguf", "family": "qwen3", "quantization_level": "Q4_K_M"}});
    server.json("/api/tags", &json!({"models": [model]}));
    idle(&server);
    server
}

fn idle(server: &Http) {
    server.json("/api/ps", &json!({"models": []}));
}

fn loaded(server: &Http, in_gpu: u64) {
    let model = json!({"name": "qwen3:8b", "model": "qwen3:8b", "size": 6_654_289_920_u64, "size_vram": in_gpu,
                       "expires_at": "2026-03-20T21:35:00Z", "context_length": 32_768});
    server.json("/api/ps", &json!({"models": [model]}));
}

fn vllm() -> Http {
    let server = server();
    server.path("/health", text(""));
    server.json("/version", &json!({"version": "0.12.1"}));
    work(&server, 0, 0, 5_000);
    server
}

fn work(server: &Http, running: u32, waiting: u32, tokens: u32) {
    let labels = "{engine=\"0\",model_name=\"qwen3-32b\"}";
    server.path(
        "/metrics",
        text(&format!(
            "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{labels} {running}.0\n\
             vllm:num_requests_waiting{labels} {waiting}.0\nvllm:kv_cache_usage_perc{labels} 0.31\n\
             vllm:generation_tokens_total{labels} {tokens}.0\n"
        )),
    );
}

fn llamacpp() -> Http {
    let server = server();
    server.json("/health", &json!({"status": "ok"}));
    server.json(
        "/props",
        &json!({"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4, "build_info": "b10488-fb307608",
                "model_path": "/models/qwen3-8b.gguf", "is_sleeping": false}),
    );
    server.path(
        "/metrics",
        Answer::With(501, "application/json", r#"{"error":{"type":"not_supported_error"}}"#.to_owned()),
    );
    server
}

fn litellm() -> Http {
    let server = server();
    let ready = json!({"status": "healthy", "db": "connected", "litellm_version": "1.109.1"});
    server.json("/health/readiness", &ready);
    server
}

fn n8n() -> Http {
    let server = server();
    server.json("/healthz", &json!({"status": "ok"}));
    server.json("/healthz/readiness", &json!({"status": "ok"}));
    server
}

fn langfuse() -> Http {
    let server = server();
    let path = "/api/public/health?failIfDatabaseUnavailable=true";
    server.json(path, &json!({"status": "OK", "version": "3.100.0"}));
    server
}

fn item(ran: &Ran) -> String {
    ran.report()["top_3"][0]["item"].as_str().unwrap().to_owned()
}

#[test]
fn a_healthy_one_is_quiet_and_a_page_with_status_200_is_no_answer() {
    for (name, usual, server) in [
        ("ollama", "http://127.0.0.1:11434", ollama()),
        ("vllm", "http://127.0.0.1:8000", vllm()),
        ("llamacpp", "http://127.0.0.1:8080", llamacpp()),
        ("litellm", "http://127.0.0.1:4000", litellm()),
        ("n8n", "http://127.0.0.1:5678", n8n()),
        ("langfuse", "http://127.0.0.1:3000", langfuse()),
    ] {
        let mut lab = Lab::with(&pack(name, usual, &server.url()));
        lab.cycle().quiet();
        lab.next().quiet();
        let asked: Vec<String> = server.take().into_iter().map(|seen| seen.target).collect();
        let costs = ["/health", "/api/generate", "/v1/chat/completions"];
        assert!(name != "litellm" || !asked.iter().any(|path| costs.contains(&path.as_str())), "{name}: {asked:?}");

        server.paths_forgotten(Answer::With(200, "text/html; charset=utf-8", PAGE.to_owned()));
        lab.next().quiet();
        lab.next().expect("yellow", true, &[name]);
        lab.next().expect("red", true, &[name]);
    }
}

#[test]
fn ollama_answers_200_and_has_lost_its_models() {
    let server = ollama();
    let config = pack("ollama", "http://127.0.0.1:11434", &server.url());
    let mut lab =
        Lab::with(&config.replace("#models = [\"qwen3:8b\", \"nomic-embed-text\"]", "models = [\"qwen3:8b\"]"));
    lab.cycle().quiet();
    server.json("/api/tags", &json!({"models": []}));
    let ran = lab.next();
    ran.expect("red", true, &["ollama/qwen3:8b"]);
    assert_eq!(item(&ran), "ollama qwen3:8b: is not there: the server lists no model at all");
    let model = json!({"name": "qwen3:8b", "size": 1, "digest": "aa11bb22cc33dd44"});
    server.json("/api/tags", &json!({"models": [model]}));
    lab.next().expect("green", true, &["ollama/qwen3:8b"]);
    lab.next().quiet();
}

#[test]
fn a_model_falls_back_to_the_cpu_and_idling_hides_nothing() {
    let server = ollama();
    let config = pack("ollama", "http://127.0.0.1:11434", &server.url());
    let config = config.replace("#models = [\"qwen3:8b\", \"nomic-embed-text\"]", "models = [\"qwen3:8b\"]");
    let mut strict = Lab::with(&config.replace("#gpu = \"required\"", "gpu = \"required\""));
    let mut lenient = Lab::with(&config);
    loaded(&server, 6_654_289_920);
    strict.cycle().quiet();
    lenient.cycle().quiet();
    idle(&server);
    strict.next().quiet();

    loaded(&server, 0);
    strict.next().quiet();
    idle(&server);
    let ran = strict.next();
    ran.expect("yellow", true, &["ollama/qwen3:8b"]);
    assert!(
        item(&ran).starts_with("ollama qwen3:8b: ran on the CPU alone when it was last loaded, 1"),
        "{}",
        item(&ran)
    );
    loaded(&server, 0);
    strict.next().expect("red", true, &["ollama/qwen3:8b"]);
    // Where no GPU is asked for, it is a change and no trouble.
    let ran = lenient.next();
    ran.expect("green", true, &["ollama/qwen3:8b"]);
    assert_eq!(item(&ran), "ollama qwen3:8b: placement changed from GPU to CPU");
    lenient.next().quiet();

    loaded(&server, 6_654_289_920);
    strict.next().expect("green", true, &["ollama/qwen3:8b"]);
}

#[test]
fn vllm_is_stuck_while_its_health_is_200() {
    let server = vllm();
    let mut lab = Lab::with(&pack("vllm", "http://127.0.0.1:8000", &server.url()));
    lab.cycle().quiet();
    // Busy, and getting on with it.
    work(&server, 8, 30, 9_000);
    lab.next().quiet();
    work(&server, 8, 30, 14_000);
    lab.next().quiet();
    let ran = lab.next();
    ran.expect("red", true, &["vllm"]);
    assert!(item(&ran).starts_with("vllm: no token for 1"), "{}", item(&ran));
    assert!(item(&ran).ends_with(" min while requests are there (8 running, 30 waiting)"), "{}", item(&ran));
    // It was started anew.
    work(&server, 1, 0, 12);
    lab.next().expect("green", true, &["vllm"]);
}

/// A Redis that answers with what the test says, command by command.
struct Redis {
    port: u16,
    answers: Arc<Mutex<[&'static str; 2]>>,
}

impl Redis {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let redis = Self { port: listener.local_addr().unwrap().port(), answers: Arc::default() };
        let answers = Arc::clone(&redis.answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = *answers.lock().unwrap();
                std::thread::spawn(move || serve_redis(stream, answers));
            }
        });
        redis
    }

    fn says(&self, ping: &'static str, info: &'static str) {
        *self.answers.lock().unwrap() = [ping, info];
    }
}

fn serve_redis(stream: TcpStream, [ping, info]: [&str; 2]) {
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = String::new();
        let answer = match lines.read_line(&mut line) {
            Ok(1..) if line == "PING\r\n" => ping,
            Ok(1..) if line == "INFO persistence\r\n" => info,
            Ok(1..) if line == "QUIT\r\n" => "+OK\r\n",
            _ => return,
        };
        if lines.get_mut().write_all(answer.as_bytes()).is_err() || line == "QUIT\r\n" {
            return;
        }
    }
}

#[test]
fn redis_that_loads_or_could_not_save_is_told_from_one_with_a_password() {
    const SAVED: &str = "$60\r\n# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:ok\r\n\r\n";
    const UNSAVED: &str = "$61\r\n# Persistence\r\nloading:0\r\nrdb_last_bgsave_status:err\r\n\r\n";
    const NO_AUTH: &str = "-NOAUTH Authentication required.\r\n";
    const LOADING: &str = "-LOADING Redis is loading the dataset in memory\r\n";
    let redis = Redis::start();
    let whole = pack("redis", "port = 6379", &format!("port = {}", redis.port));
    // The second check is switched on by hand.
    let (before, after) = whole.split_once("#[check.redis-saved]").unwrap();
    let mut lab = Lab::with(&format!("{before}[check.redis-saved]{}", after.replace("\n#", "\n")));
    redis.says("+PONG\r\n", SAVED);
    lab.cycle().quiet();
    // With a password it is up, and nobody saw a save.
    redis.says(NO_AUTH, NO_AUTH);
    lab.next().quiet();
    lab.next().expect("yellow", true, &["redis-saved"]);
    redis.says("+PONG\r\n", SAVED);
    lab.next().expect("green", true, &["redis-saved"]);
    redis.says("+PONG\r\n", UNSAVED);
    lab.next().quiet();
    lab.next().expect("yellow", true, &["redis-saved"]);
    redis.says("+PONG\r\n", SAVED);
    lab.next().expect("green", true, &["redis-saved"]);
    redis.says(LOADING, LOADING);
    lab.next().quiet();
    let ran = lab.next();
    ran.expect("yellow", true, &["redis"]);
    assert!(
        item(&ran).starts_with("redis: answered \"-LOADING Redis is loading the dataset in memory"),
        "{}",
        item(&ran)
    );
}
