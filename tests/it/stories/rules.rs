//! Rules over rules, over reasons and over what is left out: each sees what the others came to in this cycle.

use crate::support::{Http, Lab};

#[test]
fn a_rule_sees_what_another_rule_came_to_in_this_cycle_and_why_a_check_does_not_pass() {
    let (site, sink) = (Http::ok("hello"), Http::ok("taken"));
    // By name the ones that read come before those that are read.
    let mut lab = Lab::with(&format!(
        r#"
instance = "lab"
{site}
[check.a]
kind = "rule"
expr = 'checks["b"].outcome == "fail" && checks["b"].age_s == 0'
says = "b says so"
streak = {{ yellow = 1, red = 2 }}

[check.b]
kind = "rule"
expr = '"unexpected_status" in checks["site"].reasons'
says = "the site answers with the wrong status"
streak = {{ yellow = 1, red = 2 }}

[check.c]
kind = "rule"
when = 'checks["a"].outcome == "fail"'
expr = '"no_answer" in checks["site"].reasons'
says = "the site is silent"
{sink}"#,
        site = site.check("site"),
        sink = sink.hook()
    ));
    lab.cycle().quiet();
    site.status(503);
    lab.next().expect("yellow", true, &["a", "b"]);
    site.status(200);
    lab.next().expect("green", true, &["a", "b"]);
    lab.next().quiet();
}
