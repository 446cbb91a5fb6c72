use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::host::Host;
use crate::kinds::testing;

fn parse(toml: &str) -> Settings {
    toml::from_str(toml).unwrap()
}

fn problems(settings: &Settings) -> Vec<(String, String)> {
    let mut problems = Vec::new();
    Http::validate(settings, &mut |key, message| problems.push((key.to_owned(), message)));
    problems
}

#[test]
fn bad_settings_are_refused() {
    let url = "url = 'http://a/'\n";
    for (toml, key, said) in [
        ("url = 'ftp://a/'".to_owned(), "url", "`url` must begin with `http://` or `https://` and name a host"),
        ("url = 'a/health'".to_owned(), "url", "`url` is not a URL: relative URL without a base"),
        (
            "url = 'http://me:pass@a/'".to_owned(),
            "url",
            "a password in `url` is a secret (use `basic_user` and `basic_password`)",
        ),
        (format!("{url}method = 'get'"), "method", "`get` is not a method (as in `GET`)"),
        (format!("{url}expect_status = []"), "expect_status", "no status would be fine (leave it out for 200 to 299)"),
        (format!("{url}max_body = '17MiB'"), "max_body", "`max_body` is 16MiB at most"),
        (format!("{url}redirects = 11"), "redirects", "at most 10 redirects are followed"),
        (
            format!("{url}headers = {{ Authorization = 'x' }}"),
            "headers",
            "`Authorization` is a secret (use `secret_headers`, `bearer` or `basic_password`)",
        ),
        (format!("{url}headers = {{ 'a b' = 'x' }}"), "headers", "`a b` is not a header's name"),
        (format!("{url}headers = {{ a = \"x\\ny\" }}"), "headers", "the value of `a` has control characters"),
        (
            format!("{url}headers = {{ a = 'x' }}\nsecret_headers = {{ A = 'env:X' }}"),
            "secret_headers",
            "`a` stands in `headers` too",
        ),
        (format!("{url}basic_user = 'me'"), "basic_user", "`basic_user` and `basic_password` go together"),
        (
            format!("{url}basic_user = 'me'\nbasic_password = 'env:X'\nbearer = 'env:Y'"),
            "bearer",
            "`bearer` and `basic_user` exclude each other",
        ),
        (
            format!("{url}warn_after = '1s'\nfail_after = '1s'"),
            "fail_after",
            "`fail_after` must be longer than `warn_after`",
        ),
    ] {
        assert_eq!(problems(&parse(&toml)), [(key.to_owned(), said.to_owned())], "{toml}");
    }
    for (toml, words) in [
        (format!("{url}expect_status = [700]"), "`700` is not a status code, a range like \"200-204\" or a class"),
        (format!("{url}expect_status = ['204-200']"), "`204-200` is not a status code"),
        (format!("{url}expect_status = ['9xx']"), "`9xx` is not a status code"),
        (format!("{url}expect_status = [true]"), "expected a status code, a range"),
        (format!("{url}expect = 'jsn.ok'"), "jsn"),
        (format!("{url}body_matches = '('"), "unclosed group"),
        (format!("{url}bearer = 'sk-123'"), "env:NAME"),
        (format!("{url}expect_body = 'x'"), "unknown field `expect_body`"),
    ] {
        let error = toml::from_str::<Settings>(&toml).unwrap_err().to_string();
        assert!(error.contains(words), "{toml}: {error}");
    }
}

#[test]
fn statuses_are_numbers_ranges_and_classes() {
    for (text, expected) in [
        ("200", Some((200, 200))),
        ("200-204", Some((200, 204))),
        ("4xx", Some((400, 499))),
        ("0xx", None),
        ("99", None),
        ("600", None),
        ("204-200", None),
        ("", None),
    ] {
        assert_eq!(Statuses::parse(text).map(|range| (range.first, range.last)), expected, "{text}");
    }
}

fn answer(status: u16, content_type: &str, body: &str) -> Response {
    Response {
        status,
        headers: vec![
            ("content-type".to_owned(), content_type.to_owned()),
            ("x-version".to_owned(), "1.2.3".to_owned()),
            ("set-cookie".to_owned(), "a=1".to_owned()),
            ("set-cookie".to_owned(), "b=2".to_owned()),
        ],
        body: body.as_bytes().to_vec(),
        cut: false,
        url: "http://[::1]:8080/ready".to_owned(),
        took: Duration::from_millis(1_500),
        first_byte: Duration::from_millis(400),
    }
}

/// What a fetch does with an answer, but for the lane.
fn look(settings: &Settings, response: &Response) -> Vec<(String, String)> {
    let mut facts = facts_of(settings, response);
    if wrong_with(settings, &facts).is_none()
        && let Some(expect) = &settings.expect
    {
        match holds(expect, response) {
            Ok(holds) => facts.info(&Subject::none(), "expect_holds", holds),
            Err(Trouble::NotJson(_)) => facts.info(&Subject::none(), "expect_holds", false),
            Err(Trouble::Expression(why)) => return vec![("expectation_error".to_owned(), why.to_string())],
        }
    }
    for (_, name, _) in facts.iter() {
        assert!(Http::DOC.facts.iter().any(|doc| doc.name == name.as_str()), "{name}");
    }
    let findings = Http::assess(settings, &facts, &Past::default(), Timestamp::UNIX_EPOCH);
    for finding in &findings {
        let doc = Http::DOC.reason(finding.code.as_str()).unwrap();
        assert_eq!((doc.outcome, doc.settled), (finding.weight.into(), finding.settled));
    }
    findings.into_iter().map(|finding| (finding.code.as_str().to_owned(), finding.said.to_string())).collect()
}

#[test]
fn an_answer_is_held_to_what_was_expected() {
    let json = "application/json; charset=utf-8";
    for (expected, response, code, words) in [
        ("", answer(204, "text/plain", ""), "", ""),
        ("", answer(503, "text/plain", ""), "unexpected_status", "answered 503, expected 200-299"),
        ("expect_status = [404, '5xx']", answer(200, "text/plain", ""), "unexpected_status", "expected 404 or 500-599"),
        ("expect_status = ['2xx', 503]", answer(503, "text/plain", ""), "", ""),
        ("content_type = 'Application/JSON'", answer(200, json, "{}"), "", ""),
        (
            "content_type = 'application/json'",
            answer(200, "text/html", "<html>"),
            "wrong_content_type",
            "answered 200 with \"text/html\", expected `application/json`",
        ),
        ("body_contains = 'ok'", answer(200, json, "all ok"), "", ""),
        (
            "body_contains = 'ok'",
            answer(200, json, "no"),
            "body_mismatch",
            "does not contain what `body_contains` says",
        ),
        (
            "body_matches = '^\\{'",
            answer(200, json, "<html>"),
            "body_mismatch",
            "does not match what `body_matches` says",
        ),
        ("expect = 'json.ok && status == 200'", answer(200, json, r#"{"ok": true}"#), "", ""),
        (
            "expect = 'json.ok'",
            answer(200, json, r#"{"ok": false}"#),
            "expectation_failed",
            "answered 200, but `json.ok` does not hold",
        ),
        ("expect = 'json.ok'", answer(200, "text/html", "<html>"), "expectation_failed", "does not hold"),
        ("expect = 'json.ok'", answer(200, json, r#"{"fine": true}"#), "expectation_error", ""),
        ("expect = 'json.ok'", answer(503, json, r#"{"ok": true}"#), "unexpected_status", ""),
        ("expect = 'headers[\"set-cookie\"] == \"a=1, b=2\" && elapsed_ms == 1500'", answer(200, json, ""), "", ""),
        ("expect = 'body == \"hi\" && json == null'", answer(200, "text/plain", "hi"), "", ""),
    ] {
        let settings = parse(&format!("url = 'http://[::1]:8080/ready'\n{expected}"));
        let found = look(&settings, &response);
        let seen = found.first().map_or(("", ""), |(code, said)| (code.as_str(), said.as_str()));
        assert_eq!(seen.0, code, "{expected}: {}", seen.1);
        assert!(seen.1.contains(words), "{expected}: {}", seen.1);
    }
}

#[test]
fn what_may_stand_beyond_the_cut_is_no_mismatch() {
    let settings = parse("url = 'http://a/'\nbody_contains = 'end'");
    let facts = facts_of(&settings, &Response { cut: true, ..answer(200, "text/plain", "begin") });
    assert!(wrong_with(&settings, &facts).is_none());
    assert!(body_misses(&facts));
}

#[test]
fn only_what_lasts_is_compared() {
    let settings = parse("url = 'http://a/'\nversion_header = 'X-Version'");
    let facts = facts_of(&settings, &answer(200, "Text/HTML; charset=utf-8", "hello"));
    let state: Vec<_> = facts
        .iter()
        .filter(|(_, _, fact)| fact.class == Class::State)
        .map(|(_, name, fact)| (name.as_str(), fact.foreign, fact.value.clone()))
        .collect();
    let text = |text: &str| crate::facts::Value::from(text);
    assert_eq!(
        state,
        [("content_type", true, text("text/html")), ("host", true, text("::1")), ("version", true, text("1.2.3"))]
    );
    assert_eq!(facts.get(&Subject::none(), "body_start"), None);
}

async fn fetch(toml: &str) -> Result<Fetched, Unread> {
    let dir = tempfile::tempdir().unwrap();
    let mut host = Host::for_tests(dir.path());
    host.env.insert("API_KEY".into(), "key-4711-abcdef".into());
    let settings = parse(toml);
    assert_eq!(problems(&settings), []);
    let now = host.now();
    Http::fetch(&settings, &testing::cx(Arc::new(host), now, Duration::from_secs(5))).await
}

fn found(toml: &str, fetched: &Fetched) -> Vec<String> {
    let findings = Http::assess(&parse(toml), &fetched.facts, &Past::default(), Timestamp::UNIX_EPOCH);
    findings.into_iter().map(|finding| finding.code.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_real_server_is_asked_with_secrets_and_held_to_what_it_says() {
    let (port, got) = testing::web("200 OK", "application/json", r#"{"ready": true, "depth": [1, 2]}"#).await;
    let url = format!("url = 'http://127.0.0.1:{port}/ready'");
    let asked =
        "bearer = 'env:API_KEY'\nheaders = { Accept = 'application/json' }\nsecret_headers = { x-key = 'env:API_KEY' }";
    let toml = format!("{url}\n{asked}\nexpect = 'json.ready && size(json.depth) == 2 && status == 200'");
    let fetched = fetch(&toml).await.unwrap();
    assert_eq!(fetched.facts.flag(&Subject::none(), "expect_holds"), Some(true), "{:?}", fetched.unread);
    assert_eq!(found(&toml, &fetched), [""; 0]);
    let request = got.lock().unwrap()[0].to_lowercase();
    for line in
        ["get /ready ", "authorization: bearer key-4711-abcdef", "x-key: key-4711-abcdef", "accept: application/json"]
    {
        assert!(request.contains(line), "{request}");
    }
    assert!(!format!("{fetched:?}").contains("key-4711"));

    let posted = fetch(&format!("{url}\nbody = 'ping'")).await.unwrap();
    assert_eq!(found(&url, &posted), [""; 0]);
    let request = got.lock().unwrap()[1].clone();
    assert!(request.starts_with("POST /ready ") && request.ends_with("ping"), "{request}");

    let toml = format!("{url}\nexpect = 'json.gone'");
    let unread = &fetch(&toml).await.unwrap().unread[&Subject::none()];
    assert_eq!((unread.code.as_str(), unread.blame), ("expectation_error", Blame::Blind));

    let toml = format!("{url}\nexpect = 'json.ready'\nmax_body = 10");
    let unread = &fetch(&toml).await.unwrap().unread[&Subject::none()];
    assert_eq!((unread.code.as_str(), unread.blame), ("body_cut", Blame::Blind));

    let toml = format!("{url}\nbody_contains = 'depth'\nmax_body = 10");
    let cut = fetch(&toml).await.unwrap();
    assert_eq!((cut.unread[&Subject::none()].code.as_str(), found(&toml, &cut)), ("body_cut", vec![]));

    let toml = format!("{url}\nfail_after = '1ms'\nbasic_user = 'me'\nbasic_password = 'env:GONE'");
    assert_eq!(fetch(&toml).await.unwrap_err().code.as_str(), "secret_unreadable");
}

#[tokio::test]
async fn an_application_that_answers_every_path_is_seen_through() {
    let (port, _) = testing::web("200 OK", "text/html; charset=utf-8", "<!doctype html><title>App</title>").await;
    let url = format!("url = 'http://127.0.0.1:{port}/metrics'");
    for (more, expected) in [
        ("", None),
        ("content_type = 'application/json'", Some("wrong_content_type")),
        ("expect = 'json.ready == true'", Some("expectation_failed")),
        ("body_contains = 'up 1'", Some("body_mismatch")),
    ] {
        let toml = format!("{url}\n{more}");
        let fetched = fetch(&toml).await.unwrap();
        assert_eq!(found(&toml, &fetched).first().map(String::as_str), expected, "{more}");
        let shown = fetched.facts.get(&Subject::none(), "body_start");
        assert_eq!(shown.is_some_and(|fact| fact.foreign), expected.is_some(), "{more}");
        assert!(fetched.unread.is_empty(), "{more}: {:?}", fetched.unread);
    }
}

#[tokio::test]
async fn what_the_host_could_not_reach_is_documented() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let unread = fetch(&format!("url = 'http://127.0.0.1:{port}/'")).await.unwrap_err();
    assert_eq!((unread.code.as_str(), unread.blame), ("connection_refused", Blame::Target));
    assert!(Http::DOC.reason("connection_refused").is_some());
}

#[test]
fn facts_are_named_and_read_out_of_the_answer() {
    let url = "url = 'http://a/'\n";
    for (toml, said) in [
        ("facts = { 'a b' = '$.a' }", "`a b` is no name of a fact (small letters, digits and `_`)"),
        ("facts = { status = '$.a' }", "`status` is a fact of every `http` check (take another name)"),
    ] {
        assert_eq!(problems(&parse(&format!("{url}{toml}"))), [("facts".to_owned(), said.to_owned())]);
    }
    let dir = tempfile::tempdir().unwrap();
    let mut trial = testing::Trial::new(dir.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut started = Vec::new();
    for uptime in [60_000, 90_000, 5_000, 6_000] {
        let body = format!(
            r#"{{"uptimeMs": {uptime}, "queue": {{"depth": 7}}, "mode": "calm", "ok": true, "part": 0.5, "list": [1]}}"#
        );
        let (port, _) = runtime.block_on(testing::web("200 OK", "application/json", &body));
        let toml = format!(
            "url = 'http://127.0.0.1:{port}/'\nuptime_ms = '$.uptimeMs'\nfacts = {{ depth = '$.queue.depth', mode = '$.mode', \
             fine = '$.ok', part = '$.part', list = '$.list', none = '$.none' }}"
        );
        let look = trial.look::<Http>(&testing::settings::<Http>(&toml)).unwrap();
        assert_eq!((look.number("", "depth"), look.text("", "mode")), (Some(7.0), Some("calm")));
        assert_eq!((look.number("", "fine"), look.number("", "part")), (Some(1.0), Some(0.5)));
        assert!(look.facts.get(&Subject::none(), "mode").unwrap().foreign);
        assert_eq!((look.number("", "list"), look.number("", "none")), (None, None));
        started.push(look.facts.get(&Subject::none(), "started_at").unwrap().value.clone());
    }
    assert_eq!((started[0] == started[1], started[1] == started[2], started[2] == started[3]), (true, false, true));
}
