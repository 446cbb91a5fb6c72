//! A month of usage, and one job that goes wild in the night.

use std::fs::OpenOptions;
use std::io::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::support::{Http, Lab};

/// Half an hour before midnight; the days before it have their usage.
const EVENING: &str = "2026-03-20T23:30:00Z";

const CONFIG: &str = "
instance = \"lab\"

[check.spend]
kind = \"spend\"
sources = [
  { kind = \"claude-code\" },
  { kind = \"jsonl\", name = \"jobs\", path = \"~/logs/*.jsonl\", fields = { time = \"$.ts\", cost = \"$.usd\", job = \"$.job\", id = \"$.id\" } },
]
daily_limit = \"$80\"
";

fn add(lab: &Lab, name: &str, lines: &[Value]) -> u64 {
    let path = lab.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let text = lines.iter().map(|line| line.to_string() + "\n").collect::<Vec<_>>().concat();
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    text.len() as u64
}

/// A session of somebody who works with an agent: a call is written twice while it streams.
fn work(lab: &Lab, at: Timestamp, calls: u64) {
    let call = |n: u64, output: u64| {
        json!({"timestamp": (at + SignedDuration::from_secs(n.cast_signed() * 60)).to_string(), "requestId": format!("r{n}-{at}"), "type": "assistant",
               "cwd": lab.path("src/shop"), "isSidechain": false, "sessionId": "s",
               "message": {"id": format!("m{n}-{at}"), "model": "claude-opus-4-6", "role": "assistant",
                           "content": [{"type": "text", "text": "well \\\"usage\\\": {} ".repeat(20)}],
                           "usage": {"input_tokens": 4, "output_tokens": output, "cache_read_input_tokens": 100_000}}})
    };
    let lines: Vec<Value> = (0..calls).flat_map(|n| [call(n, 5), call(n, 2_000)]).collect();
    let project: String = lab
        .path("src/shop")
        .to_str()
        .unwrap()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    add(lab, &format!(".claude/projects/{project}/{}.jsonl", at.as_second()), &lines);
}

/// A job's calls, one every eight seconds.
fn job(lab: &Lab, name: &str, at: Timestamp, calls: i64, usd: f64) -> u64 {
    let lines: Vec<Value> = (0..calls)
        .map(|n| {
            let at = at + SignedDuration::from_secs(n * 8);
            json!({"ts": at.to_string(), "job": name, "usd": usd, "id": format!("{name}-{at}")})
        })
        .collect();
    add(lab, "logs/jobs.jsonl", &lines)
}

/// A month in which the work of the days costs some thirty dollars a day and the job of the nights three.
fn month() -> Lab {
    let mut lab = Lab::with(CONFIG);
    lab.env.push(("TZ".to_owned(), "UTC".to_owned()));
    lab.now = EVENING.parse().unwrap();
    for day in 0..30 {
        let midnight = lab.now - SignedDuration::from_mins(23 * 60 + 30) - SignedDuration::from_hours(24 * day);
        for hour in [9, 10, 14, 15] {
            work(&lab, midnight + SignedDuration::from_hours(hour), 70 + (day.unsigned_abs() * 7) % 20);
        }
        job(&lab, "nightly-index", midnight + SignedDuration::from_mins(121), 10, 0.30);
    }
    lab
}

/// A fact of the check itself, as it was last seen.
fn fact(lab: &Lab, name: &str) -> Value {
    let ran = lab.run(&["explain", "spend", "--json"]);
    let it: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    let facts = it["findings"][0]["facts"].as_array().unwrap().clone();
    facts.iter().find(|fact| fact["name"] == name).unwrap_or_else(|| panic!("no {name} in {facts:#?}"))["value"].clone()
}

/// The cycles of the night up to two o'clock, in which nothing is spent.
fn until_two(lab: &mut Lab) {
    lab.cycle().quiet();
    assert!(fact(lab, "bytes_read").as_f64().unwrap() > 1_000_000.0, "the first look reads all that is new to it");
    assert_eq!(fact(lab, "left_bytes"), json!(0));
    for _ in 0..10 {
        lab.next().quiet();
        assert_eq!(fact(lab, "bytes_read"), json!(0));
    }
}

#[test]
fn a_job_gone_wild_at_two_is_found_in_the_cycle_after() {
    let mut lab = month();
    until_two(&mut lab);
    let sink = Http::ok("taken");
    lab.config(&format!("{CONFIG}{}", sink.hook()));
    let shop = lab.now + SignedDuration::from_secs(60);
    work(&lab, shop - SignedDuration::from_mins(90), 60);
    let wild = job(&lab, "nightly-index", shop, 104, 0.30);

    let report = lab.next().expect("yellow", true, &["spend", "spend/jobs:nightly-index"]);
    let items = report["top_3"].as_array().unwrap();
    assert_eq!(
        items[1]["item"],
        "spend jobs:nightly-index: $31.20 of today's $37.20 (84 %) since 02:00, its usual share is 9 %; at this rate the day comes to $191.32"
    );
    assert_eq!(items[1]["action"], "see what the job is doing, and stop it if it loops");
    let all = items[0]["item"].as_str().unwrap();
    assert!(
        all.contains("$37.20 spent today, 84 % of it by \"nightly-index\"; at the rate of the last hours"),
        "{all}"
    );
    assert_eq!(sink.heard(), ["open yellow lab/spend", "open yellow lab/spend/jobs:nightly-index"]);
    // The work's own file is new; of the job's only what was added is read.
    assert!(fact(&lab, "bytes_read").as_u64().unwrap() >= wild);

    // It goes on: over the limit it is red, and what is read is what was added.
    let more = job(&lab, "nightly-index", lab.now, 110, 0.45);
    let report = lab.next().expect("red", true, &["spend", "spend/jobs:nightly-index"]);
    assert_eq!(
        report["top_3"][0]["item"],
        "spend: $86.70 spent today, 93 % of it by \"nightly-index\"; $80.00 is the limit"
    );
    assert_eq!(fact(&lab, "bytes_read").as_u64().unwrap(), more);
    lab.next().expect("red", false, &["spend", "spend/jobs:nightly-index"]);

    // The next day begins without it.
    lab.now = "2026-03-22T00:05:00Z".parse().unwrap();
    lab.cycle();
    lab.next().quiet();
}

#[test]
fn the_same_night_with_the_usual_work_is_quiet() {
    let mut lab = month();
    until_two(&mut lab);
    let shop = lab.now + SignedDuration::from_secs(60);
    work(&lab, shop - SignedDuration::from_mins(90), 60);
    job(&lab, "nightly-index", shop, 10, 0.30);
    lab.next().quiet();
    lab.next().quiet();
    // A day of much work is a day of much work.
    for hour in [9, 10, 14, 15] {
        work(&lab, "2026-03-21T00:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_hours(hour), 90);
    }
    lab.now = "2026-03-21T16:30:00Z".parse().unwrap();
    lab.cycle().quiet();
}
