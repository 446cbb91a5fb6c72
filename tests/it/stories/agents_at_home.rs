//! Claude Code, Codex, Hermes and nanobot in a home, each looked at by its pack as it is shipped.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use base64::Engine as _;
use jiff::SignedDuration;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::support::Lab;

const CLAUDE_LOG: &str = ".claude/projects/one/session.jsonl";
const CODEX_LOG: &str = ".codex/sessions/2026/03/20/rollout.jsonl";

fn home(pack: &str) -> Lab {
    let lab = Lab::with(&format!("include = [\"pack:{pack}\"]\n"));
    // What is kept for its user only lies in a folder that is, too.
    std::fs::set_permissions(lab.home(), Permissions::from_mode(0o700)).unwrap();
    lab
}

fn item(report: &Value) -> &str {
    report["top_3"][0]["item"].as_str().unwrap()
}

/// A session that is written to at the present of the lab.
fn used(lab: &Lab, log: &str) {
    let file = File::create(lab.write(log, "{}\n")).unwrap();
    file.set_modified(lab.now.into()).unwrap();
}

fn claude(lab: &Lab, hours: i64, refresh: &str) {
    let ends = (lab.now + SignedDuration::from_hours(hours)).as_millisecond();
    let login = json!({"claudeAiOauth": {"accessToken": "of no worth", "refreshToken": refresh, "expiresAt": ends}});
    lab.write(".claude/.credentials.json", login.to_string());
}

fn codex(lab: &Lab, hours: i64, refresh: &str) {
    let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let ends = (lab.now + SignedDuration::from_hours(hours)).as_second();
    let token = format!("{}.{}.{}", part("{}"), part(&format!("{{\"exp\": {ends}}}")), part("no signature"));
    let login = json!({"OPENAI_API_KEY": null, "tokens": {"access_token": token, "refresh_token": refresh}});
    lab.write(".codex/auth.json", login.to_string());
}

/// Quiet while the users of a login renew it, or are away; red when renewing it fails.
fn is_renewed(pack: &str, login: fn(&Lab, i64, &str), log: &str) {
    let check = format!("{pack}-login");
    // Without a file the login is in a keychain.
    let lab = home(pack);
    used(&lab, log);
    lab.cycle().quiet();
    let mut lab = home(pack);
    login(&lab, 1, "of no worth");
    used(&lab, log);
    lab.cycle().quiet();
    // It is over, and nobody works.
    lab.pass(24 * 60).cycle().quiet();
    // Somebody works on and on, and it isn't renewed.
    for _ in 0..8 {
        used(&lab, log);
        lab.next().quiet();
    }
    let mut said = Vec::new();
    for _ in 0..4 {
        used(&lab, log);
        let ran = lab.next();
        if ran.stdout != "HEARTBEAT_OK\n" {
            said.push(ran.says());
        }
    }
    let red = said.last().unwrap();
    assert_eq!((red.0.as_str(), red.2.as_slice()), ("red", std::slice::from_ref(&check)), "{said:?}");
    login(&lab, 8, "of no worth");
    lab.next().expect("green", true, &[&check]);

    // One that nothing renews is said as soon as it is over, and warned of before.
    let mut lab = home(pack);
    used(&lab, log);
    login(&lab, 2, "");
    let report = lab.cycle().expect("yellow", true, &[&check]);
    assert_eq!(item(&report), format!("{check}: token expires in 2 h"));
    lab.pass(180).cycle().expect("red", true, &[&check]);
}

#[test]
fn a_login_of_claude_code_is_quiet_until_renewing_fails() {
    is_renewed("claude-code", claude, CLAUDE_LOG);
}

#[test]
fn a_login_of_codex_is_quiet_until_renewing_fails() {
    is_renewed("codex", codex, CODEX_LOG);
}

#[test]
fn a_login_that_others_can_read_is_red() {
    for (pack, file, login, log) in [
        ("claude-code", ".claude/.credentials.json", claude as fn(&Lab, i64, &str), CLAUDE_LOG),
        ("codex", ".codex/auth.json", codex, CODEX_LOG),
    ] {
        let lab = home(pack);
        used(&lab, log);
        login(&lab, 8, "of no worth");
        std::fs::set_permissions(lab.path(file), Permissions::from_mode(0o644)).unwrap();
        let report = lab.cycle().expect("red", true, &[&format!("{pack}-secrets/{}", lab.path(file).display())]);
        assert!(!report.to_string().contains("of no worth"));
    }
}

#[test]
fn jobs_of_hermes_and_nanobot_are_judged_run_by_run() {
    let hermes = |lab: &Lab, status: &str| {
        let ran = lab.now - SignedDuration::from_mins(1);
        let job = json!({
            "id": "a1", "name": "digest", "enabled": true, "state": "scheduled", "created_at": "2026-03-01T00:00:00+00:00",
            "schedule": {"kind": "interval", "minutes": 15}, "last_run_at": ran.to_string(), "last_status": status,
            "next_run_at": (ran + SignedDuration::from_mins(15)).to_string(), "last_error": "no model answers",
        });
        lab.write(".hermes/cron/jobs.json", json!({"jobs": [job]}).to_string());
    };
    let mut lab = home("hermes");
    // It has no job yet.
    std::fs::create_dir(lab.path(".hermes")).unwrap();
    let sessions = "CREATE TABLE sessions (id TEXT PRIMARY KEY, source TEXT, model TEXT, started_at REAL, ended_at REAL, input_tokens INTEGER,
        output_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER, reasoning_tokens INTEGER,
        estimated_cost_usd REAL, actual_cost_usd REAL, billing_provider TEXT, api_call_count INTEGER, end_reason TEXT)";
    Connection::open(lab.path(".hermes/state.db")).unwrap().execute_batch(sessions).unwrap();
    for _ in 0..4 {
        lab.next().quiet();
    }
    hermes(&lab, "ok");
    lab.next();
    for _ in 0..2 {
        hermes(&lab, "error");
        lab.next();
    }
    hermes(&lab, "error");
    let last = lab.next();
    let report = last.expect("red", true, &["hermes-jobs/digest"]);
    assert_eq!(item(&report), "hermes-jobs digest: failed 3 times in a row, last with \"no model answers\"");
    lab.pass(15);
    hermes(&lab, "ok");
    lab.cycle().expect("green", true, &["hermes-jobs/digest"]);

    let lab = Lab::with("[check.nanobot-jobs]\nkind = \"job\"\nsource = \"nanobot\"\n");
    let now = lab.now.as_millisecond();
    let run = |ago: i64, status: &str| json!({"runAtMs": now - ago * 60_000, "status": status, "durationMs": 5});
    let job = |name: &str, newest: &str| {
        json!({
            "id": name, "name": name, "enabled": true, "schedule": {"kind": "every", "everyMs": 900_000},
            "createdAtMs": now - 86_400_000,
            "state": {
                "nextRunAtMs": now + 600_000, "lastRunAtMs": now - 300_000, "lastStatus": newest, "lastError": "no route",
                "runHistory": [run(50, "ok"), run(35, "error"), run(20, "error"), run(5, newest)],
            },
        })
    };
    let jobs = json!({"version": 1, "jobs": [job("heartbeat", "ok"), job("mail", "error")]});
    lab.write(".nanobot/workspace/cron/jobs.json", jobs.to_string());
    let report = lab.cycle().expect("red", true, &["nanobot-jobs/mail"]);
    assert_eq!(item(&report), "nanobot-jobs mail: failed 3 times in a row, last with \"no route\"");
}
