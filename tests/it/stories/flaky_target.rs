//! A target that fails now and then: one failure is logged, two are a pattern, three an alert.

use jiff::SignedDuration;
use pulsecheck::steps::Step;

use crate::support::{Http, Lab};

fn watched() -> (Lab, Http, Http) {
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    let lab = Lab::with(&format!("instance = \"lab\"\n{}{}", target.check("api"), sink.hook()));
    lab.cycle().quiet();
    (lab, target, sink)
}

#[test]
fn once_is_logged_twice_is_yellow_three_times_is_red() {
    let (mut lab, target, sink) = watched();

    target.status(503);
    lab.next().quiet();
    assert_eq!(sink.heard(), Vec::<String>::new());
    let logged = lab.rows("SELECT what, check_name, outcome, code FROM log");
    assert_eq!(logged, ["finding api fail unexpected_status"], "nobody was told, it is there to be found");

    let report = lab.next().expect("yellow", true, &["api"]);
    assert!(report["top_3"][0]["item"].as_str().unwrap().contains("503"), "{report:#}");
    assert_eq!(
        (report["top_3"][0]["owner"].as_str(), report["requires_human"].as_bool()),
        (Some("agent"), Some(false))
    );
    assert_eq!(sink.heard(), ["open yellow lab/api"]);

    let report = lab.next().expect("red", true, &["api"]);
    assert_eq!((report["top_3"][0]["owner"].as_str(), report["requires_human"].as_bool()), (Some("human"), Some(true)));
    assert_eq!(sink.heard(), ["raise red lab/api"]);

    lab.next().expect("red", false, &["api"]);
    assert_eq!(sink.heard(), Vec::<String>::new(), "what was said is not said again");

    target.status(200);
    lab.next().expect("green", true, &["api"]);
    assert_eq!(sink.heard(), ["resolve red lab/api"]);
    lab.next().quiet();
    assert_eq!(sink.heard(), Vec::<String>::new());
}

#[test]
fn a_single_failure_that_passes_again_is_told_to_nobody() {
    let (mut lab, target, sink) = watched();
    for status in [503, 200, 200, 503, 200] {
        target.status(status);
        lab.next().quiet();
    }
    assert_eq!(sink.heard(), Vec::<String>::new());
}

#[test]
fn a_run_killed_between_the_second_failure_and_the_third_changes_nothing() {
    let (mut lab, target, sink) = watched();
    target.status(503);
    lab.next().quiet();
    lab.next().expect("yellow", true, &["api"]);
    assert_eq!(sink.heard(), ["open yellow lab/api"]);

    lab.pass(15);
    for step in [Step::Begun, Step::Leased, Step::Fetched, Step::Judged] {
        assert_eq!(lab.killed_at(step).stdout, "");
    }
    assert_eq!(sink.heard(), Vec::<String>::new(), "what was not committed is not said");
    lab.cycle().expect("red", true, &["api"]);
    assert_eq!(sink.heard(), ["raise red lab/api"]);
}

#[test]
fn three_runs_by_hand_in_ten_seconds_page_nobody() {
    let (mut lab, target, sink) = watched();
    target.status(503);
    lab.next().quiet();
    for _ in 0..3 {
        lab.now += SignedDuration::from_secs(3);
        lab.cycle().quiet();
    }
    assert_eq!(sink.heard(), Vec::<String>::new());
    lab.next().expect("yellow", true, &["api"]);
    assert_eq!(sink.heard(), ["open yellow lab/api"]);
}
