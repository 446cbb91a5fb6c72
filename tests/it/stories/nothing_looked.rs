//! Where nothing could be looked at, nothing is known: that is never called all right.

use crate::support::{Http, Lab};

fn own(subject: &str) -> String {
    format!("pulsecheck/{subject}")
}

#[test]
fn no_checks_is_not_all_right() {
    let mut lab = Lab::with("instance = \"lab\"\n");
    let report = lab.cycle().expect("yellow", true, &[&own("checks")]);
    let item = &report["top_3"][0];
    assert_eq!(item["item"], "pulsecheck checks: no check is configured, so nothing is known");
    assert_eq!(item["action"], "configure a check: pulsecheck init");
    lab.next().expect("yellow", false, &[&own("checks")]);
}

#[test]
fn checks_that_can_not_look_are_not_all_right() {
    let target = Http::ok("fine");
    let lab = Lab::with(&format!("{}bearer = \"env:NOT_SET_ANYWHERE\"\n", target.check("api")));
    let report = lab.cycle().expect("yellow", true, &["api", &own("checks")]);
    let said = report["top_3"][0]["item"].as_str().unwrap();
    assert!(said.contains("NOT_SET_ANYWHERE"), "it names what is missing: {said}");
    assert_eq!(report["top_3"][1]["item"], "pulsecheck checks: none of 1 checks could look, so nothing is known");
    assert_eq!(target.take().len(), 0, "without its token it doesn't ask");
}

#[test]
fn checks_that_are_all_left_out_are_not_all_right() {
    let target = Http::ok("fine");
    let never = |name: &str| format!("{}when = \"false\"\n", target.check(name));
    let mut lab = Lab::with(&format!("{}{}", never("api"), never("docs")));
    let report = lab.cycle().expect("yellow", true, &[&own("checks")]);
    assert!(report["notes"].as_str().unwrap().contains("2 left out by `when`: api, docs"), "{report:#}");
    lab.next().expect("yellow", false, &[&own("checks")]);
}

#[test]
fn a_check_that_is_not_due_but_passed_is_enough() {
    let target = Http::ok("fine");
    let mut lab = Lab::with(&format!("{}every = \"1h\"\n", target.check("api")));
    lab.cycle().quiet();
    lab.next().quiet();
    assert_eq!(target.take().len(), 1, "it was not due the second time");
}
