//! What people ask and say back: init, validate, status, history, explain, ack, silence, notify test.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::{Answer, Http, Lab, Ran};

/// A home with one HTTP check against this server and one channel into the other.
fn lab(api: &Http, sink: &Http) -> Lab {
    let mut lab = Lab::with(&format!(
        r#"
        instance = "box"
        zone = "America/Los_Angeles"

        [check.api]
        kind = "http"
        url = "{}/health"
        tags = ["web"]

        [check.worker]
        kind = "http"
        url = "{}/worker"
        depends_on = ["api"]

        [notify.ops]
        kind = "webhook"
        url = "{}/hook"
        "#,
        api.url(),
        api.url(),
        sink.url()
    ));
    // In Pacific time 14:30.
    lab.now = "2030-03-20T21:30:00Z".parse().unwrap();
    lab
}

fn broken() -> Answer {
    Answer::With(500, "text/plain", "out of order".to_owned())
}

/// The text of a command that must succeed.
#[track_caller]
fn said(ran: Ran) -> String {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    ran.stdout
}

/// What a command that must fail says.
#[track_caller]
fn refused(ran: Ran) -> String {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    ran.stderr
}

/// The words of a line, whatever is between them.
fn line(text: &str, begins: &str) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(words).find(|line| line.starts_with(begins)).unwrap_or_else(|| panic!("no `{begins}` in\n{text}"))
}

/// What a command prints as JSON, held to the schema of that name.
#[track_caller]
fn json(lab: &Lab, schema: &str, args: &[&str]) -> Value {
    let schema: Value = serde_json::from_str(&said(lab.run(&["schema", schema]))).unwrap();
    let text = said(lab.run(args));
    assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> =
        validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert_eq!(wrong, Vec::<String>::new(), "{value:#}");
    value
}

fn finding<'a>(status: &'a Value, check: &str) -> &'a Value {
    let findings = status["findings"].as_array().unwrap();
    findings.iter().find(|it| it["check"] == check && it["subject"] == "").unwrap_or_else(|| panic!("{status:#}"))
}

#[test]
fn before_the_first_cycle_that_is_what_is_said() {
    let api = Http::ok("fine");
    let lab = lab(&api, &api);
    for command in ["status", "history"] {
        for args in [&[command][..], &[command, "--json"]] {
            assert_eq!(refused(lab.run(args)), "pulsecheck: no cycle has run yet (pulsecheck run)\n");
        }
    }
    let text = said(lab.run(&["explain", "worker"]));
    line(&text, "worker (http): ");
    line(&text, "never looked at, every 15 min");
    line(&text, "depends on api");
    json(&lab, "explain", &["explain", "worker", "--json"]);
    assert!(!lab.state().join("state.db").exists(), "what only shows begins no store");
}

#[test]
fn status_history_and_explain_tell_the_truth_about_trouble() {
    let (api, sink) = (Http::ok("fine"), Http::ok("thanks"));
    let mut lab = lab(&api, &sink);
    lab.cycle().quiet();
    let text = said(lab.run(&["status"]));
    let head = line(&text, "GREEN box: last cycle 14:30 (");
    assert!(head.ends_with(" ago), next expected 14:45; nothing outside this machine watches it"), "{head}");
    assert_eq!(line(&text, "ok api"), "ok api pass");
    line(&text, "channel ops 0 waiting");
    assert!(!text.contains('\u{1b}'), "no colours where nobody sees them");

    api.answer(broken());
    lab.next().quiet();
    let text = said(lab.run(&["status"]));
    line(&text, "GREEN box: last cycle 14:45");
    let row = line(&text, "logged api");
    assert!(row.starts_with("logged api fail since 14:45 1 fail, yellow at 2"), "{row}");
    assert!(row.contains("500"), "{row}");
    assert!(line(&text, "logged worker").ends_with("held while api is down"), "{text}");
    line(&said(lab.run(&["history", "api"])), "14:45 logged api fail: ");

    for _ in 0..2 {
        lab.next();
    }
    let text = said(lab.run(&["status"]));
    line(&text, "RED box: last cycle 15:15");
    line(&text, "red api fail since 14:45 3 fails in a row");
    let status = json(&lab, "status", &["status", "--json"]);
    assert_eq!((&status["status"], &status["host"]), (&"red".into(), &"box".into()), "{status:#}");
    assert!(status["cycle"]["at"].as_str().unwrap().starts_with("2030-03-20T15:15:"), "{status:#}");
    assert_eq!(status["cycle"]["late"], false);
    let it = finding(&status, "api");
    assert_eq!((&it["level"], &it["fails_in_a_row"], &it["red_at"]), (&"red".into(), &3.into(), &3.into()), "{it:#}");
    assert!(it["since"].as_str().unwrap().starts_with("2030-03-20T14:45:"), "{it:#}");
    assert_eq!(it["kind"], "http");
    assert_eq!(finding(&status, "worker")["held"], true);

    let text = said(lab.run(&["explain", "api"]));
    line(&text, "red api: fail since 14:45 (");
    line(&text, "failed 3 times in a row; yellow at 2, red at 3; a look counts from 15:22 on");
    line(&text, "needed by worker");
    line(&text, "what to do: ");
    line(&text, "status 500 ");
    line(&text, "15:15 ops delivered ");
    let it = json(&lab, "explain", &["explain", "api", "--json"]);
    let (reason, code) = (&it["findings"][0]["reasons"][0], &it["findings"][0]["code"]);
    assert_eq!(&reason["code"], code, "{it:#}");
    assert!(reason["about"].as_str().is_some_and(|about| !about.is_empty()), "{it:#}");
    assert_eq!(it["needed_by"], serde_json::json!(["worker"]));
    let seen = it["observations"].as_array().unwrap();
    assert_eq!((&seen[0]["outcome"], &seen[seen.len() - 1]["outcome"]), (&"fail".into(), &"pass".into()), "{it:#}");

    api.answer(Answer::With(200, "text/plain", "fine".to_owned()));
    lab.next();
    let text = said(lab.run(&["history"]));
    let row = line(&text, "15:30 closed");
    assert!(row.contains("api passes again after "), "{row}");
    line(&text, "15:15 raised red api");
    line(&text, "15:00 opened yellow api");
    let history = json(&lab, "history", &["history", "api", "--json"]);
    let entries = history["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["check"] == "api"), "{history:#}");
    let whats: Vec<&str> =
        entries.iter().map(|entry| entry["what"].as_str().unwrap()).filter(|what| *what != "notice").collect();
    assert_eq!(whats, ["closed", "raised", "opened", "logged"], "{history:#}");
    let lasted = entries.iter().find(|entry| entry["what"] == "closed").unwrap()["lasted_s"].as_i64().unwrap();
    assert!((1_790..1_860).contains(&lasted), "{lasted}");
    let one = json(&lab, "history", &["history", "--json", "--limit", "1"]);
    assert_eq!((one["entries"].as_array().unwrap().len(), &one["more"]), (1, &true.into()));
    lab.pass(60 * 24 * 8 + 1);
    assert_eq!(said(lab.run(&["history"])), "nothing but quiet cycles since 2030-03-21 15:31\n");
    line(&said(lab.run(&["status"])), "GREEN box: last cycle 2030-03-20 15:30 (8 d ago), late: ");
    assert_eq!(json(&lab, "status", &["status", "--json"])["cycle"]["late"], true);
}

#[test]
fn a_name_that_is_not_there_is_answered_with_the_one_that_was_meant() {
    let api = Http::ok("fine");
    let lab = lab(&api, &api);
    lab.cycle().quiet();
    for (args, words) in [
        (&["explain", "apii"][..], "there is no check `apii` (did you mean `api`?)"),
        (&["explain", "zebra-crossing"], "there is no check `zebra-crossing` (there is: api, pulsecheck, worker)"),
        (&["explain", "api/x"], "`api` has no subject `x` (there is none)"),
        (&["history", "wroker"], "there is no check `wroker` (did you mean `worker`?)"),
        (&["silence", "apii", "--for", "1h"], "there is no check `apii` (did you mean `api`?)"),
        (&["silence", "tag:wbe", "--for", "1h"], "no check is covered by `tag:wbe` (tags stand in the config)"),
        (&["ack", "api"], "`api` has no open incident (`pulsecheck status` lists them)"),
        (&["notify", "test", "opps"], "there is no channel `opps` (ops)"),
    ] {
        assert_eq!(refused(lab.run(args)), format!("pulsecheck: {words}\n"), "{args:?}");
    }
}

#[test]
fn acks_and_silences_are_said_shown_and_bounded() {
    let (api, sink) = (Http::start(broken()), Http::ok("thanks"));
    let mut lab = lab(&api, &sink);
    lab.cycle().quiet();
    for _ in 0..2 {
        lab.next();
    }
    lab.pass(1);
    assert!(said(lab.run(&["ack", "api", "--why", "on it"])).starts_with("acked: red api: "));
    for (length, words) in [
        ("25h", "`api` is red, and a red is silenced for 24 hours at most"),
        ("8d", "a silence lasts 7 days at most: what is not wanted longer is better taken out of the config"),
    ] {
        assert_eq!(refused(lab.run(&["silence", "tag:web", "--for", length])), format!("pulsecheck: {words}\n"));
    }
    let text = said(lab.run(&["silence", "tag:web", "--for", "1h", "--why", "moving house"]));
    assert!(text.starts_with("silence 1: tag:web until 2030-03-20T16:01:"), "{text}");

    let text = said(lab.run(&["status"]));
    let row = line(&text, "red api");
    assert!(row.contains("acked at red by ") && row.contains(": \"on it\""), "{row}");
    assert!(row.ends_with("silenced until 16:01 (silence 1)"), "{row}");
    assert!(line(&text, "silence 1 tag:web until 16:01 by ").ends_with(": \"moving house\""), "{text}");
    let status = json(&lab, "status", &["status", "--json"]);
    assert_eq!(finding(&status, "api")["ack"]["why"], "on it");
    assert_eq!(finding(&status, "api")["silenced_until"], status["silences"][0]["until"]);
    assert_eq!(status["silences"][0]["covers"], "tag:web");
    line(&said(lab.run(&["explain", "api"])), "silenced until 16:01 (silence 1)");

    assert!(said(lab.run(&["silence", "1", "--end"])).starts_with("ended silence 1, "));
    assert!(refused(lab.run(&["silence", "1", "--end"])).contains("there is no silence 1"));
    assert!(said(lab.run(&["ack", "api", "--undo"])).starts_with("no longer acked: red api: "));
    let status = json(&lab, "status", &["status", "--json"]);
    assert_eq!((&finding(&status, "api")["ack"], &status["silences"]), (&Value::Null, &serde_json::json!([])));

    let history = json(&lab, "history", &["history", "api", "--json"]);
    let mut deeds: Vec<&str> =
        history["entries"].as_array().unwrap().iter().take(4).map(|it| it["what"].as_str().unwrap()).collect();
    deeds.sort_unstable();
    assert_eq!(deeds, ["acked", "silenced", "unacked", "unsilenced"], "{history:#}");
}

#[test]
fn init_writes_a_private_file_once_and_it_is_valid() {
    let lab = Lab::new();
    let path = lab.path(".config/pulsecheck/pulsecheck.toml");
    let text = said(lab.run(&["init"]));
    assert_eq!(text.lines().next(), Some(format!("wrote {}", path.display()).as_str()));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(said(lab.run(&["init", "--print"])), written);

    std::fs::write(&path, "# mine\n").unwrap();
    assert_eq!(
        refused(lab.run(&["init"])),
        format!("pulsecheck: `{}` is there already (--force replaces it, --print only shows it)\n", path.display())
    );
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "# mine\n");
    said(lab.run(&["init", "--force"]));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), written);
    let text = said(lab.run(&["validate"]));
    assert!(text.starts_with(&format!("{}: good (", path.display())), "{text}");
}

#[test]
fn validate_counts_what_there_is_and_names_what_is_wrong() {
    let api = Http::ok("fine");
    let lab = lab(&api, &api);
    assert!(said(lab.run(&["validate"])).ends_with("pulsecheck.toml: good (2 checks, 1 channel)\n"));
    lab.config("[check.api]\nkind = \"htpp\"\n");
    let text = refused(lab.run(&["validate"]));
    assert!(text.contains("check.api") && text.contains("`http`"), "{text}");
}

#[test]
fn notify_test_sends_one_message_and_tells_what_became_of_it() {
    let (api, sink) = (Http::ok("fine"), Http::ok("thanks"));
    let lab = lab(&api, &sink);
    assert!(said(lab.run(&["notify", "test", "ops"])).starts_with("ops took it"));
    let seen = sink.take();
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("POST", "/hook"));
    assert!(seen[0].body.contains("test") && seen[0].body.contains("box"), "{}", seen[0].body);

    sink.answer(Answer::With(403, "text/plain", "go away".to_owned()));
    let text = refused(lab.run(&["notify", "test", "ops"]));
    assert!(text.starts_with("pulsecheck: ops did not take it: ") && text.contains("403"), "{text}");
    assert!(!lab.state().join("state.db").exists(), "a test leaves nothing behind");
}
