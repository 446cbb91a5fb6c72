//! Killed −9 at each named step of the cycle: no change and no notice is lost, and none comes twice but under its own key.
//!
//! `PULSECHECK_TEST_KILLS` is how often at each step (2 unless set; `.ci/long` sets 50).

use std::collections::BTreeMap;

use pulsecheck::steps::{STEPS, Step};

use crate::support::{Http, Lab, Ran, Seen};

/// What the channel is to hear, in this order, whatever happens.
const EXPECTED: [&str; 3] = ["open yellow lab/api", "raise red lab/api", "resolve red lab/api"];
/// What the database is to know of, in this order.
const CHANGES: [&str; 3] = [r#"api "opened""#, r#"api "raised""#, r#"api {"closed":"passed"}"#];

/// How often to kill at each step.
fn kills() -> usize {
    std::env::var("PULSECHECK_TEST_KILLS").map_or(2, |often| often.parse().unwrap())
}

/// One life of a check, from well to red and back; in each cycle with something to say, one run is killed at `step` as often
/// as `kills` has it, and one then goes through.
fn life(step: Step, kills: [usize; 3]) {
    let name = step.name();
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    let mut lab = Lab::with(&format!("instance = \"lab\"\n{}{}", target.check("api"), sink.hook()));
    lab.cycle().quiet();
    target.status(503);
    lab.next().quiet();

    let mut heard: Vec<Seen> = Vec::new();
    for (status, level, kills) in [(503, "yellow", kills[0]), (503, "red", kills[1]), (200, "green", kills[2])] {
        target.status(status);
        lab.pass(15);
        let mut printed = Vec::new();
        for _ in 0..kills {
            let killed = lab.killed_at(step);
            assert!(killed.stdout.is_empty() || step == Step::Printed, "{name}: {killed:?}");
            printed.push(killed);
            lab.pass(1);
        }
        printed.push(lab.cycle());
        let news: Vec<&Ran> = printed.iter().filter(|ran| ran.stdout.starts_with('{') && ran.says().1).collect();
        assert!(news.len() <= 1, "{name}: printed as new once at most: {news:?}");
        let last = printed.last().unwrap();
        if level == "green" {
            assert!(last.stdout == "HEARTBEAT_OK\n" || last.says().0 == "green", "{name}: {last:?}");
        } else {
            assert_eq!(last.says().0, level, "{name}");
        }
        heard.extend(sink.take());
    }
    lab.next().quiet();
    heard.extend(sink.take());
    held_to(step, &lab, &heard);
}

fn held_to(step: Step, lab: &Lab, heard: &[Seen]) {
    let name = step.name();
    let mut once: Vec<String> = Vec::new();
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for message in heard {
        let [event] = message.events().try_into().unwrap();
        let id = message.header("webhook-id").unwrap();
        let first = ids.entry(event.clone()).or_insert_with(|| id.to_owned());
        assert_eq!(first, id, "{name}: {event} came twice, and not as the same message");
        if once.last() != Some(&event) {
            once.push(event);
        }
    }
    assert_eq!(once, EXPECTED, "{name}");
    if step != Step::Delivering {
        assert_eq!(heard.len(), EXPECTED.len(), "{name}: nothing was handed over twice");
    }
    recorded(step, lab);
    assert_eq!(lab.rows("SELECT count(*) FROM outbox WHERE state <> 'delivered'"), ["0"], "{name}");
}

/// Each change stands in the database once, and nothing is open or waits.
fn recorded(step: Step, lab: &Lab) {
    let name = step.name();
    assert_eq!(lab.rows("SELECT check_name, body -> '$.what' FROM changes ORDER BY id"), CHANGES, "{name}");
    assert_eq!(lab.rows("SELECT count(*) FROM outbox WHERE state = 'due'"), ["0"], "{name}");
    assert_eq!(lab.rows("SELECT count(*) FROM incidents WHERE closed_ms IS NULL"), ["0"], "{name}");
}

#[test]
fn no_change_and_no_notice_is_lost_at_any_step() {
    let kills = kills();
    std::thread::scope(|scope| {
        for &step in STEPS {
            scope.spawn(move || {
                let mut left = kills;
                while left > 0 {
                    // At most one kill in each of the three cycles of a life.
                    let now = left.min(3);
                    life(step, [1, 2, 3].map(|nth| usize::from(nth <= now)));
                    left -= now;
                }
            });
        }
    });
}

#[test]
fn killed_again_and_again_in_one_cycle_changes_nothing() {
    for step in [Step::Fetched, Step::Judged, Step::Committed, Step::Delivering] {
        life(step, [0, 3, 2]);
    }
}

#[test]
fn killed_in_each_cycle_after_its_commit_the_last_word_is_still_the_end() {
    for step in [Step::Committed, Step::Delivering, Step::Delivered, Step::Printed] {
        let name = step.name();
        let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
        let mut lab = Lab::with(&format!("instance = \"lab\"\n{}{}", target.check("api"), sink.hook()));
        lab.cycle().quiet();
        target.status(503);
        lab.next().quiet();
        for status in [503, 503, 200] {
            target.status(status);
            lab.pass(15).killed_at(step);
        }
        lab.next().quiet();
        let heard = sink.heard();
        match step {
            // Nobody was told of the beginning, so nobody is told of the end.
            Step::Committed => assert_eq!(heard, Vec::<String>::new(), "{name}"),
            // It was handed over each time, and that was never written down: the end is sure to come, and comes last.
            Step::Delivering => {
                assert_eq!(heard.first().map(String::as_str), Some(EXPECTED[0]), "{name}: {heard:?}");
                assert_eq!(heard.last().map(String::as_str), Some(EXPECTED[2]), "{name}: {heard:?}");
                assert!(heard.iter().all(|event| event.ends_with(" lab/api")), "{name}: {heard:?}");
            }
            _ => assert_eq!(heard, EXPECTED, "{name}"),
        }
        recorded(step, &lab);
    }
}
