//! Trouble that stays: it is said once, and again only when something about it is new.

use crate::support::{Http, Lab, Ran};

const NOBODY: Vec<String> = Vec::new();

fn lab(checks: &[String], sink: &Http) -> Lab {
    Lab::with(&config(checks, sink))
}

fn config(checks: &[String], sink: &Http) -> String {
    format!("instance = \"lab\"\n{}{}", checks.concat(), sink.hook())
}

/// A command that is told to somebody, with its one line.
#[track_caller]
fn told(lab: &Lab, args: &[&str]) -> String {
    let ran = lab.run(args);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{args:?}: {ran:?}");
    ran.stdout
}

#[track_caller]
fn first_item(ran: &Ran) -> String {
    ran.report()["top_3"][0]["item"].as_str().unwrap().to_owned()
}

#[test]
fn yellow_that_stays_is_shown_and_not_said_again() {
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    let mut lab = lab(&[format!("{}streak.red = \"never\"\n", target.check("api"))], &sink);
    lab.cycle().quiet();
    target.status(503);
    lab.next().quiet();
    let first = lab.next().expect("yellow", true, &["api"]);
    assert_eq!(sink.heard(), ["open yellow lab/api"]);

    for _ in 0..3 {
        let again = lab.next().expect("yellow", false, &["api"]);
        for same in ["item", "action", "owner", "level", "since"] {
            assert_eq!(again["top_3"][0][same], first["top_3"][0][same], "{same}");
        }
    }
    let ran = lab.pass(15).run(&["run", "--print", "changes"]);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str(), ran.code), ("", "", Some(0)));
    assert_eq!(sink.heard(), NOBODY);

    // Its end is new, and with nothing wrong there is the quiet token again.
    target.status(200);
    let ran = lab.pass(15).run(&["run", "--print", "changes"]);
    ran.expect("green", true, &["api"]);
    assert_eq!(sink.heard(), ["resolve yellow lab/api"]);
    lab.pass(15).run(&["run", "--print", "changes"]).quiet();
}

#[test]
fn a_silence_that_ends_while_it_is_red_is_followed_by_the_red() {
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    let mut lab = lab(&[target.check("api")], &sink);
    lab.cycle().quiet();
    let said = told(&lab, &["silence", "api", "--for", "50m", "--why", "moving it"]);
    assert!(said.starts_with("silence 1: api until "), "{said}");
    target.status(503);
    let deed = first_item(&lab.next());
    assert!(deed.starts_with("api: silenced until ") && deed.contains("moving it"), "{deed}");
    let heard = sink.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("event green lab/api/"), "who silenced it is told: {heard:?}");

    // The truth is shown, nobody is called.
    lab.next().expect("yellow", false, &["api"]);
    let red = lab.next();
    red.expect("red", false, &["api"]);
    assert!(first_item(&red).contains("(silenced until "), "{red:?}");
    assert_eq!(sink.heard(), NOBODY);

    lab.next().expect("red", true, &["api"]);
    assert_eq!(sink.heard(), ["open red lab/api"]);
    target.status(200);
    lab.next().expect("green", true, &["api"]);
    assert_eq!(sink.heard(), ["resolve red lab/api"]);
}

#[test]
fn what_was_said_before_a_silence_is_resolved_during_it() {
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    let mut lab = lab(&[target.check("api")], &sink);
    lab.cycle().quiet();
    target.status(503);
    lab.next().quiet();
    lab.next().expect("yellow", true, &["api"]);
    told(&lab, &["silence", "api", "--for", "4h"]);
    lab.next().expect("red", true, &["api"]);
    let heard = sink.heard();
    assert!(heard.len() == 2 && heard[0] == "open yellow lab/api" && heard[1].starts_with("event "), "{heard:?}");
    target.status(200);
    lab.next().expect("green", true, &["api"]);
    assert_eq!(sink.heard(), ["resolve red lab/api"]);
}

#[test]
fn an_ack_at_yellow_does_not_cover_the_red() {
    let (target, sink) = (Http::ok("fine"), Http::ok("taken"));
    let mut lab = lab(&[format!("{}streak.red = 5\n", target.check("api"))], &sink);
    lab.cycle().quiet();
    target.status(503);
    lab.next().quiet();
    lab.next().expect("yellow", true, &["api"]);
    let acked = told(&lab, &["ack", "api", "--why", "on it"]);
    assert!(acked.starts_with("acked: yellow api: "), "{acked}");
    lab.next().expect("yellow", true, &["api"]);
    let standing = lab.next();
    standing.expect("yellow", false, &["api"]);
    assert!(first_item(&standing).contains("(acked by "), "{standing:?}");
    let heard = sink.heard();
    assert!(heard.len() == 2 && heard[1].starts_with("event green lab/api/"), "who acked it is told: {heard:?}");

    let red = lab.next();
    red.expect("red", true, &["api"]);
    assert!(!first_item(&red).contains("acked"), "{red:?}");
    assert_eq!(sink.heard(), ["raise red lab/api"]);
}

#[test]
fn a_new_yellow_stands_before_three_acked_reds() {
    let (old, new, sink) = (Http::ok("fine"), Http::ok("fine"), Http::ok("taken"));
    let checks = ["a", "b", "c"].map(|name| old.check(name)).concat();
    let mut lab = lab(&[checks, new.check("new")], &sink);
    lab.cycle().quiet();
    old.status(503);
    lab.next().quiet();
    lab.next();
    lab.next().expect("red", true, &["a", "b", "c"]);
    for check in ["a", "b", "c"] {
        told(&lab, &["ack", check]);
    }
    lab.next();
    lab.next().expect("red", false, &["a", "b", "c"]);
    sink.take();

    new.status(503);
    lab.next().expect("red", false, &["a", "b", "c"]);
    let report = lab.next().expect("red", true, &["new", "a", "b"]);
    assert_eq!(report["top_3"][0]["level"], "yellow");
    let notes = report["notes"].as_str().unwrap();
    assert!(notes.contains("acked or silenced: c") && notes.contains("3 acked or silenced"), "{notes}");
    assert_eq!(sink.heard(), ["open yellow lab/new"]);
    // It keeps its place when it is no longer new.
    lab.next().expect("red", true, &["new", "a", "b"]);
    lab.next().expect("red", false, &["new", "a", "b"]);
}

#[test]
fn a_failing_check_that_is_removed_does_not_vanish() {
    let (target, other, sink) = (Http::ok("fine"), Http::ok("fine"), Http::ok("taken"));
    let mut lab = lab(&[target.check("api"), other.check("other")], &sink);
    lab.cycle().quiet();
    target.status(503);
    for _ in 0..3 {
        lab.next();
    }
    assert_eq!(sink.heard(), ["open yellow lab/api", "raise red lab/api"]);

    lab.config(&config(&[other.check("other")], &sink));
    let removed = lab.next();
    let report = removed.expect("yellow", true, &["api"]);
    assert!(first_item(&removed).starts_with("api: removed from the config while it was not well: "), "{report:#}");
    assert_eq!(report["top_3"][0]["action"], "ack it if the removal was meant: pulsecheck ack api");
    assert_eq!(report["requires_human"], true);
    assert_eq!(sink.heard(), ["resolve yellow lab/api"], "no channel is left with an alert that nobody will end");
    lab.next().expect("yellow", false, &["api"]);

    told(&lab, &["ack", "api", "--why", "replaced"]);
    lab.next().expect("green", true, &["api"]);
    lab.next().quiet();
    let heard = sink.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("event green lab/api/"), "the ack is told: {heard:?}");
}

#[test]
fn a_well_check_that_is_removed_is_said_once() {
    let (target, other, sink) = (Http::ok("fine"), Http::ok("fine"), Http::ok("taken"));
    let mut lab = lab(&[target.check("api"), other.check("other")], &sink);
    lab.cycle().quiet();
    lab.config(&config(&[other.check("other")], &sink));
    let removed = lab.next();
    removed.expect("green", true, &["api"]);
    assert_eq!(first_item(&removed), "api: no longer configured");
    lab.next().quiet();
    let heard = sink.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("event green lab/api/"), "{heard:?}");
}
