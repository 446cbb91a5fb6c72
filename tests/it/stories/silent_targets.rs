//! Ten targets that accept and never answer: the cycle ends all the same, and what others say is not lost in it.

use std::time::{Duration, Instant};

use crate::support::{Answer, Http, Lab};

/// What the run may take altogether; what looking may take is much less.
const DEADLINE: Duration = Duration::from_secs(30);

fn config(silent: &Http, others: &[&str]) -> String {
    let limits = "[limits]\ncheck = \"1500ms\"\nfetch = \"1500ms\"\ndelivery = \"10s\"\ndeadline = \"30s\"\n";
    let silent: String = (0..10).map(|n| silent.check(&format!("silent{n}"))).collect();
    format!("instance = \"lab\"\n{silent}{}{limits}", others.concat())
}

#[test]
fn the_cycle_ends_and_each_streak_is_right() {
    let (silent, broken, well, sink) =
        (Http::start(Answer::Silence), Http::ok("fine"), Http::ok("fine"), Http::ok("taken"));
    let config = config(&silent, &[&broken.check("broken"), &well.check("well"), &sink.hook()]);
    let mut lab = Lab::with(&config);

    // `broken` is one failure behind the ten, so that its streak is its own.
    let begun = Instant::now();
    lab.cycle().quiet();
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());

    broken.status(500);
    let report = lab.next().expect("yellow", true, &["silent0", "silent1", "silent2"]);
    let said = report["top_3"][0]["item"].as_str().unwrap();
    assert!(said.starts_with("silent0: ") && said.contains(" takes connections but gave no answer within "), "{said}");
    let notes = report["notes"].as_str().unwrap();
    assert!(notes.starts_with("also new: silent3, "), "{notes}");
    assert!(notes.contains("logged, not yet a pattern: broken"), "{notes}");
    assert!(notes.contains("2 of 13 checks pass"), "the one that is well, and pulsecheck itself: {notes}");
    let opened = |turn: &str| (0..10).map(|n| format!("{turn} lab/silent{n}")).collect::<Vec<_>>();
    assert_eq!(sink.heard(), opened("open yellow"));

    let report = lab.next().expect("red", true, &["silent0", "silent1", "silent2"]);
    assert_eq!(report["requires_human"], true);
    let mut heard = opened("raise red");
    heard.push("open yellow lab/broken".to_owned());
    assert_eq!(sink.heard(), heard);

    silent.status(200);
    lab.next().expect("red", true, &["broken", "silent0", "silent1"]);
    let mut heard = opened("resolve red");
    heard.insert(0, "raise red lab/broken".to_owned());
    assert_eq!(sink.heard(), heard);
}
