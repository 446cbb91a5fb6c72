//! The lines that tools really write, each trap beside its harmless twin.

use serde_json::json;

use super::*;

/// What lines say: `job model in/read/w5/w1/out/thinking usd`, one a call, and the other news by name.
fn said(format: &mut Format<'_>, lines: &[String]) -> Vec<String> {
    let mut said = Vec::new();
    let mut tell = |news: News<'_>| {
        said.push(match news {
            News::Call(call) => {
                let t = call.tokens;
                let usd = call.usd.map_or(String::new(), |usd| format!(" ${usd}"));
                let fast = if call.fast { " fast" } else { "" };
                format!(
                    "{} {} {}/{}/{}/{}/{}/{}{usd}{fast}",
                    call.job, call.model, t.input, t.cache_read, t.cache_write, t.cache_write_1h, t.output, t.reasoning
                )
            }
            News::Shown { name, .. } => format!("shown {name}"),
            News::Quota(quota) => format!("{} {} % until {:?}", quota.name, quota.used_pct, quota.resets_at),
            News::Bad => "bad".to_owned(),
            News::Other => "other".to_owned(),
        });
    };
    for line in lines {
        format.line(line.as_bytes(), &mut tell);
    }
    said
}

fn claude_line(id: &str, usage: &serde_json::Value) -> String {
    json!({
        "timestamp": "2026-03-20T12:00:00.123Z", "sessionId": "s", "requestId": "req_1", "isSidechain": false,
        "cwd": "/home/me/my.proj",
        "message": {"id": id, "model": "claude-opus-4-6", "role": "assistant", "usage": usage,
                    "content": [{"type": "tool_use", "id": "toolu_1", "input": {"timestamp": 1, "usage": {"x": []}}}]},
    })
    .to_string()
}

#[test]
fn claude_code() {
    let usage = json!({"input_tokens": 3, "output_tokens": 50, "cache_creation_input_tokens": 700,
        "cache_read_input_tokens": 9000, "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 600}});
    let old = json!({"input_tokens": 3, "output_tokens": 50, "cache_creation_input_tokens": 700, "speed": "fast"});
    let mut lines = vec![
        claude_line("msg_1", &usage),
        claude_line("msg_2", &old),
        r#"{"type":"user","message":{"content":"the \"usage\": {\"input_tokens\": 5} of it"}}"#.to_owned(),
        r#"{"type":"user","timestamp":"x","toolUseResult":{"usage":{"input_tokens":5}},"message":{"content":"x"}}"#.to_owned(),
        r#"{"timestamp":"2026-03-20T12:00:00Z","message":{"id":"a","model":"<synthetic>","usage":{"input_tokens":0}}}"#.to_owned(),
        r#"{"timestamp":"2026-03-20T12:00:00Z","costUSD":0.25,"message":{"model":"m","usage":{"input_tokens":7,"speed":null}}}"#.to_owned(),
        r#"{"timestamp":"yesterday","message":{"id":"a","model":"m","usage":{"input_tokens":7}}}"#.to_owned(),
        r#"{"timestamp":"2026-03-20T12:00:00Z","message":{"id":"a","model":"m","usage":{"input_tokens":"many"}}}"#.to_owned(),
        "{\"message\":{\"usage\"".to_owned(),
        "[".repeat(100_000) + "\"usage\"",
    ];
    lines.push(String::new());
    let mut format = Format::Claude { project: "-home-me-my-proj".to_owned(), shown: false };
    assert_eq!(
        said(&mut format, &lines),
        [
            "-home-me-my-proj claude-opus-4-6 3/9000/100/600/50/0",
            "shown /home/me/my.proj",
            "-home-me-my-proj claude-opus-4-6 3/0/700/0/50/0 fast",
            "-home-me-my-proj m 7/0/0/0/0/0 $0.25",
            "bad",
            "bad",
            "bad",
            "bad",
        ]
    );
    // Invalid UTF-8 in what is passed over is no trouble; in what is read it is.
    let mut raw = claude_line("msg_3", &usage).into_bytes();
    let at = memchr::memmem::find(&raw, b"toolu_1").unwrap();
    raw[at] = 0xff;
    let mut calls = 0;
    format.line(&raw, &mut |news| calls += i32::from(matches!(news, News::Call(_))));
    assert_eq!(calls, 1);
}

#[test]
fn a_folder_is_shown_as_its_path_only_if_it_is_that() {
    let usage = json!({"input_tokens": 3});
    let mut elsewhere = Format::Claude { project: "-home-me-other".to_owned(), shown: false };
    assert_eq!(said(&mut elsewhere, &[claude_line("m", &usage)]), ["-home-me-other claude-opus-4-6 3/0/0/0/0/0"]);
}

fn token_count(second: u32, total: Option<[u64; 4]>, last: Option<[u64; 4]>) -> String {
    let usage = |n: [u64; 4]| {
        json!({"input_tokens": n[0], "cached_input_tokens": n[1], "output_tokens": n[2], "reasoning_output_tokens": n[3],
               "total_tokens": n[0] + n[2]})
    };
    let info = json!({"total_token_usage": total.map(usage), "last_token_usage": last.map(usage), "model_context_window": 272_000});
    json!({"timestamp": format!("2026-03-20T12:00:{second:02}.500Z"), "type": "event_msg",
           "payload": {"type": "token_count", "info": info}})
    .to_string()
}

fn codex(spawned: bool) -> Vec<String> {
    let source = if spawned { json!({"subagent": {"thread_spawn": {"parent_thread_id": "p"}}}) } else { json!("cli") };
    vec![
        json!({"timestamp": "2026-03-20T12:00:00.000Z", "type": "session_meta",
               "payload": {"id": "s", "cwd": "/home/me/proj", "originator": "codex_exec", "source": source}})
        .to_string(),
        json!({"timestamp": "2026-03-20T12:00:00.000Z", "type": "turn_context",
               "payload": {"cwd": "/home/me/proj", "model": "gpt-5-codex"}})
        .to_string(),
    ]
}

#[test]
fn codex_sums_are_counted_once() {
    let mut lines = codex(false);
    lines.extend([
        token_count(1, Some([1_000, 400, 50, 20]), Some([1_000, 400, 50, 20])),
        // Repeated, since only a quota moved.
        token_count(2, Some([1_000, 400, 50, 20]), Some([1_000, 400, 50, 20])),
        token_count(3, Some([3_000, 1_400, 90, 30]), Some([2_000, 1_000, 40, 10])),
        // The sums fell: the context was made anew.
        token_count(4, Some([500, 0, 10, 0]), Some([500, 0, 10, 0])),
        token_count(5, None, Some([7, 9, 1, 0])),
        token_count(6, Some([800, 100, 30, 0]), None),
        token_count(7, None, None),
        r#"{"timestamp":"2026-03-20T12:00:08Z","type":"response_item","payload":{"content":"a \"token_count\" of it"}}"#.to_owned(),
        r#"{"timestamp":"2026-03-20T12:00:08Z","type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":-1}}}}"#.to_owned(),
    ]);
    assert_eq!(
        said(&mut Format::Codex(Codex::default()), &lines),
        [
            "/home/me/proj gpt-5-codex 600/400/0/0/50/20",
            "/home/me/proj gpt-5-codex 1000/1000/0/0/40/10",
            "/home/me/proj gpt-5-codex 500/0/0/0/10/0",
            "/home/me/proj gpt-5-codex 0/7/0/0/1/0",
            "/home/me/proj gpt-5-codex 200/100/0/0/20/0",
            "bad",
        ]
    );
}

#[test]
fn a_spawned_session_does_not_count_its_parents_calls_again() {
    let replay = [
        token_count(1, Some([1_000, 0, 50, 0]), Some([1_000, 0, 50, 0])),
        token_count(1, Some([3_000, 0, 90, 0]), Some([2_000, 0, 40, 0])),
    ];
    let own = token_count(9, Some([3_500, 0, 95, 0]), Some([500, 0, 5, 0]));
    let lines = |spawned, replay: &[String]| [codex(spawned), replay.to_vec(), vec![own.clone()]].concat();
    assert_eq!(
        said(&mut Format::Codex(Codex::default()), &lines(true, &replay)),
        ["/home/me/proj gpt-5-codex 500/0/0/0/5/0"]
    );
    // Its twin was not spawned: two quick calls are two calls.
    assert_eq!(said(&mut Format::Codex(Codex::default()), &lines(false, &replay)).len(), 3);
    // A spawned one with a single call before its next second has no replay.
    assert_eq!(said(&mut Format::Codex(Codex::default()), &lines(true, &replay[..1])).len(), 2);

    // The same in two reads, with what was kept between them; and a call that waits is told after a while.
    let mut first = Codex::default();
    let kept = {
        let mut format = Format::Codex(first);
        assert_eq!(said(&mut format, &[codex(true), replay[..1].to_vec()].concat()), Vec::<String>::new());
        let Format::Codex(codex) = format else { panic!() };
        serde_json::to_vec(&codex).unwrap()
    };
    first = serde_json::from_slice(&kept).unwrap();
    let mut again = Format::Codex(first.clone());
    assert_eq!(said(&mut again, &[replay[1].clone(), own.clone()]), ["/home/me/proj gpt-5-codex 500/0/0/0/5/0"]);
    for (second, told) in [(5, 0), (30, 1)] {
        let mut waits = Format::Codex(first.clone());
        let mut calls = 0;
        let now = format!("2026-03-20T12:00:{second:02}Z").parse().unwrap();
        waits.end(now, &mut |_| calls += 1);
        assert_eq!(calls, told, "{second}");
    }
}

#[test]
fn codex_quotas() {
    let line = json!({"timestamp": "2026-03-20T12:00:00Z", "type": "event_msg", "payload": {"type": "token_count", "info": null,
        "rate_limits": {"primary": {"used_percent": 81.5, "window_minutes": 300, "resets_at": 1_774_020_000},
                        "secondary": {"used_percent": 12.0, "window_minutes": 10_080, "resets_in_seconds": 60}, "credits": null}}});
    assert_eq!(
        said(&mut Format::Codex(Codex::default()), &[line.to_string()]),
        ["primary 81.5 % until Some(1774020000)", "secondary 12 % until Some(1774008060)"]
    );
}

#[test]
fn openclaw_lines() {
    let line = |role: &str, cost: serde_json::Value| {
        json!({"type": "message", "id": "fccfc6cd", "parentId": "p", "timestamp": "2026-03-20T12:00:00.323Z",
               "message": {"role": role, "api": "openai-completions", "provider": "mock", "model": "m1", "stopReason": "stop",
                           "usage": {"input": 9151, "output": 7, "cacheRead": 100, "cacheWrite": 0, "totalTokens": 9258, "cost": cost}}})
        .to_string()
    };
    let lines = [
        r#"{"type":"session","id":"s","cwd":"/"}"#.to_owned(),
        line("assistant", json!({"input": 0.02, "total": 0.0275})),
        line("assistant", json!({"total": 0})),
        line("assistant", json!(null)),
        line("user", json!({"total": 1})),
        r#"{"type":"message","message":{"role":"assistant","usage":{"input":-5}}}"#.to_owned(),
    ];
    assert_eq!(
        said(&mut Format::OpenClaw { job: "main".to_owned() }, &lines),
        [
            "main mock/m1 9151/100/0/0/7/0 $0.0275",
            "main mock/m1 9151/100/0/0/7/0",
            "main mock/m1 9151/100/0/0/7/0",
            "bad"
        ]
    );
    for (key, job) in [
        (None, ("main", None)),
        (Some("agent:main:main"), ("main", None)),
        (Some("agent:work:telegram:direct:1"), ("work", None)),
        (Some("agent:main:cron:dc24c5a7"), ("main", Some("dc24c5a7"))),
        (Some("agent:main:cron:dc24c5a7:run:77"), ("main", Some("dc24c5a7"))),
        (Some("cron:dc24c5a7"), ("main", Some("dc24c5a7"))),
        (Some("::"), ("main", None)),
    ] {
        assert_eq!(openclaw::job("main", key), job, "{key:?}");
    }
}

#[test]
fn lines_of_ones_own() {
    let fields: Fields = toml::from_str(
        "time = '$.ts'\nmodel = '$.m'\ninput = '$.u.in'\noutput = '$.u.out'\ncost = '$.usd'\njob = '$.job'\nid = '$.id'",
    )
    .unwrap();
    let lines = [
        r#"{"ts": "2026-03-20T12:00:00Z", "m": "gpt-5", "u": {"in": 10, "out": 2}, "job": "nightly"}"#,
        r#"{"ts": 1774008000, "usd": 0.5}"#,
        r#"{"ts": 1774008000123, "u": {"in": 1.0}, "usd": 0, "job": 7}"#,
        r#"{"ts": "2026-03-20T12:00:00Z", "event": "started"}"#,
        r#"{"event": "started"}"#,
        r#"{"ts": "now", "usd": 1}"#,
        "not json",
        "  ",
        "",
    ];
    let lines = lines.map(str::to_owned);
    let mut format = Format::Jsonl { job: "log".to_owned(), fields: &fields };
    assert_eq!(
        said(&mut format, &lines),
        ["nightly gpt-5 10/0/0/0/2/0", "log  0/0/0/0/0/0 $0.5", "7  1/0/0/0/0/0 $0", "other", "other", "other", "bad",]
    );
}
