//! Behaviours of the middle, told cycle by cycle, and properties that hold for any sequence.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::facts::{Class, Edge, Facts, Finding, Scale, Unit, Unread, Weight, Worse};

const CYCLE: SignedDuration = SignedDuration::from_mins(15);

fn name(check: &str) -> CheckName {
    CheckName::try_from(check).unwrap()
}

fn key(check: &str) -> Key {
    Key::new(&name(check), &Subject::none())
}

/// A run of cycles, 15 minutes apart unless told otherwise.
struct Story {
    now: Timestamp,
    cycle: u32,
    policies: BTreeMap<CheckName, Policy>,
    before: Before,
}

impl Story {
    fn of(checks: &[&str]) -> Self {
        let policies = checks.iter().map(|check| (name(check), Policy::plain(CYCLE))).collect();
        Self { now: "2026-03-20T21:30:00Z".parse().unwrap(), cycle: 0, policies, before: Before::default() }
    }

    fn policy(&mut self, check: &str) -> &mut Policy {
        self.policies.get_mut(&name(check)).unwrap()
    }

    fn depends(&mut self, child: &str, parent: &str) {
        self.policy(child).depends_on.push(Dependency { check: name(parent), subject: None });
    }

    fn after(&mut self, pause: SignedDuration, seen: Vec<Observation>) -> Judged {
        self.now += pause;
        self.cycle += 1;
        self.before.cycle = format!("k{}", self.cycle);
        let seen = seen.into_iter().map(|o| Observation { at: self.now, ..o }).collect();
        let judged = judge(self.before.clone(), seen, &self.policies, self.now);
        self.before.snapshot = judged.after.clone();
        self.before.incidents = judged.incidents.clone();
        self.before.deeds.clear();
        self.before.skipped.clear();
        judged
    }

    fn next(&mut self, seen: Vec<Observation>) -> Judged {
        self.after(CYCLE, seen)
    }

    fn incident(&mut self, check: &str) -> &mut Incident {
        self.before.incidents.iter_mut().find(|i| i.key == key(check)).unwrap()
    }

    fn ack(&mut self, check: &str) {
        let at = self.now;
        let incident = self.incident(check);
        incident.ack = Some(Ack { level: incident.level, at, by: Clean::new("ana"), why: Clean::new("known") });
    }
}

fn pass(check: &str) -> Observation {
    Observation::empty(&name(check), Timestamp::UNIX_EPOCH)
}

fn with(check: &str, weight: Weight, settled: bool) -> Observation {
    let mut seen = pass(check);
    seen.findings.push(Finding::new("broken", weight, settled, Clean::new("it is broken")));
    seen
}

fn fail(check: &str) -> Observation {
    with(check, Weight::Fail, false)
}

fn unread(check: &str, unread: Unread) -> Observation {
    let mut seen = pass(check);
    seen.unread.insert(Subject::none(), unread);
    seen
}

fn timeout(check: &str) -> Observation {
    unread(check, Unread::target("no_answer", Clean::new("no answer within 10 s")))
}

fn reading(check: &str, fact: &'static str, value: &str) -> Observation {
    let mut seen = pass(check);
    seen.facts.state(&Subject::none(), fact, value);
    seen
}

fn turns(judged: &Judged) -> Vec<(String, What)> {
    judged.changes.iter().map(|change| (change.key.to_string(), change.what.clone())).collect()
}

fn said_once(judged: &Judged, check: &str, what: &What) {
    assert_eq!(turns(judged), vec![(check.to_owned(), what.clone())]);
}

fn quiet(judged: &Judged) {
    assert_eq!(turns(judged), vec![]);
}

#[test]
fn one_fail_is_noise_two_a_pattern_three_an_alert() {
    let mut story = Story::of(&["api"]);
    quiet(&story.next(vec![pass("api")]));
    let first = story.next(vec![fail("api")]);
    quiet(&first);
    assert_eq!((first.status(), first.logged.len()), (Level::Ok, 1));
    let second = story.next(vec![fail("api")]);
    said_once(&second, "api", &What::Opened);
    assert_eq!(second.status(), Level::Yellow);
    let third = story.next(vec![fail("api")]);
    said_once(&third, "api", &What::Raised);
    assert_eq!(third.status(), Level::Red);
    quiet(&story.next(vec![fail("api")]));
    let back = story.next(vec![pass("api")]);
    said_once(&back, "api", &What::Closed(Closing::Passed));
    assert_eq!(back.status(), Level::Ok);
}

#[test]
fn three_looks_by_hand_in_ten_seconds_page_nobody() {
    let mut story = Story::of(&["api"]);
    story.next(vec![pass("api")]);
    story.next(vec![fail("api")]);
    for _ in 0..3 {
        let judged = story.after(SignedDuration::from_secs(3), vec![fail("api")]);
        quiet(&judged);
        assert_eq!(judged.status(), Level::Ok);
    }
    said_once(&story.next(vec![fail("api")]), "api", &What::Opened);
}

#[test]
fn a_gap_in_which_nothing_could_be_kept_takes_no_red_away() {
    let mut story = Story::of(&["api"]);
    story.next(vec![fail("api")]);
    story.next(vec![fail("api")]);
    story.before.unrecorded = true;
    let kept = story.before.clone();
    for cycles in [1, 4, 400] {
        story.before = kept.clone();
        assert_eq!(story.after(CYCLE * cycles, vec![fail("api")]).status(), Level::Red, "{cycles} cycles later");
    }
}

#[test]
fn a_gap_of_four_intervals_starts_the_counters_anew_and_keeps_the_incident() {
    let mut story = Story::of(&["api"]);
    story.next(vec![fail("api")]);
    let judged = story.after(CYCLE * 4, vec![fail("api")]);
    quiet(&judged);
    let judged = story.next(vec![fail("api")]);
    said_once(&judged, "api", &What::Opened);
    let judged = story.after(CYCLE * 40, vec![fail("api")]);
    quiet(&judged);
    assert_eq!(judged.status(), Level::Yellow);
}

#[test]
fn settled_warns_are_yellow_at_once_settled_fails_red_when_seen_twice() {
    let mut story = Story::of(&["disk", "cert"]);
    let mut expired = with("cert", Weight::Fail, true);
    let warn = story.next(vec![with("disk", Weight::Warn, true), expired.clone()]);
    assert_eq!(warn.incidents.iter().map(|i| i.level).collect::<Vec<_>>(), [Level::Yellow, Level::Yellow]);
    let asked = settled_fails(&expired, None, |_| false);
    assert_eq!(asked.len(), 1, "a settled fail wants a second look");
    expired.confirmed = asked;
    let judged = story.next(vec![with("disk", Weight::Warn, true), expired.clone()]);
    said_once(&judged, "cert", &What::Raised);
    assert!(settled_fails(&expired, judged.after.get(&name("cert")), |_| true).is_empty(), "a red one needs none");
}

#[test]
fn what_is_mended_is_over_when_somebody_looks_again_by_hand() {
    let mut story = Story::of(&["files"]);
    story.next(vec![with("files", Weight::Warn, true)]);
    let judged = story.after(SignedDuration::from_secs(20), vec![pass("files")]);
    said_once(&judged, "files", &What::Closed(Closing::Passed));
}

#[test]
fn red_never_stays_yellow() {
    let mut story = Story::of(&["api"]);
    story.policy("api").red = None;
    for _ in 0..10 {
        assert!(story.next(vec![fail("api")]).status() <= Level::Yellow);
    }
}

#[test]
fn an_unknown_says_whose_it_is() {
    let mut story = Story::of(&["target", "blind", "ours"]);
    let seen = || {
        vec![
            timeout("target"),
            unread("blind", Unread::blind("permission_denied", Clean::new("permission denied"))),
            unread("ours", Unread::ours("lanes_busy", Clean::new("no lane came free"))),
        ]
    };
    said_once(&story.next(seen()), "blind", &What::Opened);
    story.next(seen());
    let judged = story.next(seen());
    assert_eq!(turns(&judged), vec![("target".to_owned(), What::Raised)]);
    for _ in 0..5 {
        let judged = story.next(seen());
        assert_eq!(judged.incidents.len(), 2, "our own trouble is not the target's");
        quiet(&judged);
    }
}

#[test]
fn one_timeout_in_the_yellow_weeks_does_not_make_it_red() {
    let mut story = Story::of(&["cert"]);
    let days = |left: f64| {
        let mut seen = pass("cert");
        let edge = |at, code: &'static str| Some(Edge { at, code: code.into(), settled: true });
        let scale = Scale {
            worse: Worse::Below,
            warn: edge(21.0, "expires_soon"),
            fail: edge(7.0, "expires_very_soon"),
            says: crate::clean!("expires in {left} d"),
            episode: Some(Clean::new("ab:cd")),
            ..Scale::plain(Unit::Seconds)
        };
        seen.facts.gauge(&Subject::none(), "days_left", left, scale);
        seen
    };
    quiet(&story.next(vec![days(40.0)]));
    said_once(&story.next(vec![days(20.0)]), "cert", &What::Opened);
    quiet(&story.next(vec![days(19.9)]));
    quiet(&story.next(vec![timeout("cert")]));
    quiet(&story.next(vec![days(19.8)]));
    let mut red = days(6.0);
    red.confirmed = settled_fails(&red, story.before.snapshot.get(&name("cert")), |_| false);
    said_once(&story.next(vec![red]), "cert", &What::Raised);
    said_once(&story.next(vec![days(89.0)]), "cert", &What::Closed(Closing::Passed));
}

/// What a look at something that has expired says; the second look is taken only of what is not red yet.
fn expired(fingerprint: &str, confirmed: bool) -> Observation {
    let mut seen = with("cert", Weight::Fail, true);
    seen.findings[0].episode = Some(Clean::new(fingerprint));
    if confirmed {
        seen.confirmed = settled_fails(&seen, None, |_| false);
    }
    seen
}

#[test]
fn what_is_settled_and_red_stays_red_over_gaps() {
    let mut story = Story::of(&["cert"]);
    said_once(&story.next(vec![expired("aa", true)]), "cert", &What::Opened);
    for hours in [0, 10, 0, 200, 10] {
        let judged = story.after(CYCLE + SignedDuration::from_hours(hours), vec![expired("aa", false)]);
        quiet(&judged);
        assert_eq!(judged.status(), Level::Red);
    }
    // Nor does a look that saw nothing help it down.
    quiet(&story.next(vec![timeout("cert")]));
    quiet(&story.next(vec![expired("aa", false)]));
}

#[test]
fn what_is_red_and_goes_on_failing_stays_red_over_a_gap() {
    let mut story = Story::of(&["site"]);
    for _ in 0..3 {
        story.next(vec![fail("site")]);
    }
    for hours in [10, 0, 0, 10, 10] {
        let judged = story.after(CYCLE + SignedDuration::from_hours(hours), vec![fail("site")]);
        assert_eq!(judged.status(), Level::Red);
        assert!(!turns(&judged).iter().any(|(_, what)| matches!(what, What::Lowered | What::Raised)), "{judged:?}");
    }
}

#[test]
fn a_new_certificate_that_is_less_bad_is_lowered_at_once() {
    let mut story = Story::of(&["cert"]);
    said_once(&story.next(vec![expired("aa", true)]), "cert", &What::Opened);
    let mut short = with("cert", Weight::Warn, true);
    short.findings[0].episode = Some(Clean::new("bb"));
    said_once(&story.next(vec![short.clone()]), "cert", &What::Lowered);
    quiet(&story.next(vec![short]));
}

#[test]
fn another_certificate_in_the_same_band_is_said_anew() {
    let mut story = Story::of(&["cert"]);
    let about = |fingerprint: &str| {
        let mut seen = with("cert", Weight::Warn, true);
        seen.findings[0].episode = Some(Clean::new(fingerprint));
        seen
    };
    said_once(&story.next(vec![about("aa")]), "cert", &What::Opened);
    quiet(&story.next(vec![about("aa")]));
    said_once(&story.next(vec![about("bb")]), "cert", &What::Renewed);
}

#[test]
fn forty_checks_behind_a_dead_gateway_are_one() {
    let children: Vec<String> = (0..39).map(|i| format!("child-{i}")).collect();
    let mut all: Vec<&str> = children.iter().map(String::as_str).collect();
    all.push("gateway");
    let mut story = Story::of(&all);
    for child in &children {
        story.depends(child, "gateway");
    }
    let seen = |of: fn(&str) -> Observation| all.iter().map(|check| of(check)).collect::<Vec<_>>();
    story.next(seen(pass));
    story.next(seen(fail));
    let judged = story.next(seen(fail));
    said_once(&judged, "gateway", &What::Opened);
    assert_eq!(judged.held[&name("gateway")].len(), 39);
    assert_eq!(judged.status(), Level::Yellow);
    said_once(&story.next(seen(fail)), "gateway", &What::Raised);
    // The gateway is back, its children are still starting.
    let mut starting = seen(fail);
    starting.pop();
    starting.push(pass("gateway"));
    let judged = story.next(starting);
    said_once(&judged, "gateway", &What::Closed(Closing::Passed));
    assert_eq!((judged.status(), judged.incidents.len()), (Level::Ok, 0));
    quiet(&story.next(seen(pass)));
}

#[test]
fn a_child_that_was_announced_before_its_parent_died_is_resolved_once() {
    let mut story = Story::of(&["gateway", "child"]);
    story.depends("child", "gateway");
    story.next(vec![pass("gateway"), fail("child")]);
    said_once(&story.next(vec![pass("gateway"), fail("child")]), "child", &What::Opened);
    let judged = story.next(vec![fail("gateway"), fail("child")]);
    quiet(&judged);
    assert_eq!(judged.status(), Level::Yellow, "its parent is only logged: what was said of the child still stands");
    quiet(&story.next(vec![pass("gateway"), fail("child")]));
    said_once(&story.next(vec![pass("gateway"), pass("child")]), "child", &What::Closed(Closing::Passed));
}

#[test]
fn a_settled_finding_is_not_held() {
    let mut story = Story::of(&["gateway", "cert"]);
    story.depends("cert", "gateway");
    said_once(&story.next(vec![fail("gateway"), with("cert", Weight::Warn, true)]), "cert", &What::Opened);
}

#[test]
fn flapping_is_found_said_once_and_never_hides_a_red() {
    let mut story = Story::of(&["api"]);
    let mut said = Vec::new();
    for i in 0..20 {
        let judged = story.next(vec![if i % 2 == 0 { pass("api") } else { fail("api") }]);
        said.extend(turns(&judged));
    }
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!(story.incident("api").level, Level::Yellow);
    story.next(vec![fail("api")]);
    said_once(&story.next(vec![fail("api")]), "api", &What::Raised);
}

#[test]
fn flapping_ends_with_one_resolve() {
    let mut story = Story::of(&["api"]);
    for i in 0..20 {
        story.next(vec![if i % 2 == 0 { pass("api") } else { fail("api") }]);
    }
    let said: Vec<_> = (0..25).flat_map(|_| turns(&story.next(vec![pass("api")]))).collect();
    assert_eq!(said, vec![("api".to_owned(), What::Closed(Closing::Passed))]);
}

#[test]
fn an_ack_at_yellow_ends_at_red() {
    let mut story = Story::of(&["api"]);
    story.next(vec![fail("api")]);
    story.next(vec![fail("api")]);
    story.ack("api");
    said_once(&story.next(vec![fail("api")]), "api", &What::Raised);
    assert_eq!(story.incident("api").ack, None);
}

#[test]
fn a_silence_holds_notices_back_and_its_end_says_what_is_still_red() {
    let mut story = Story::of(&["api"]);
    let until = story.now + CYCLE * 4;
    story.before.silences = vec![Silence {
        id: 1,
        covers: Covers::Check(name("api")),
        from: story.now,
        until,
        by: Clean::new("ana"),
        why: Clean::new("deploy"),
    }];
    for _ in 0..3 {
        quiet(&story.next(vec![fail("api")]));
    }
    assert_eq!(story.incident("api").level, Level::Red, "it mutes notices, not truth");
    let judged = story.next(vec![fail("api")]);
    said_once(&judged, "api", &What::Surfaced);
    assert_eq!(judged.changes[0].level, Level::Red);
}

#[test]
fn what_was_announced_is_resolved_even_when_it_was_silenced_since() {
    let mut story = Story::of(&["api"]);
    story.next(vec![fail("api")]);
    story.next(vec![fail("api")]);
    story.before.silences = vec![Silence {
        id: 1,
        covers: Covers::Check(name("api")),
        from: story.now,
        until: story.now + CYCLE * 40,
        by: Clean::new("ana"),
        why: Clean::new("known"),
    }];
    quiet(&story.next(vec![fail("api")]));
    said_once(&story.next(vec![pass("api")]), "api", &What::Closed(Closing::Passed));
}

#[test]
fn a_removed_check_that_fails_is_withdrawn_until_acked() {
    let mut story = Story::of(&["api", "other"]);
    story.next(vec![fail("api"), pass("other")]);
    story.next(vec![fail("api"), pass("other")]);
    story.policies.remove(&name("api"));
    let judged = story.next(vec![pass("other")]);
    said_once(&judged, "api", &What::Withdrawn);
    assert_eq!(judged.status(), Level::Yellow);
    quiet(&story.next(vec![pass("other")]));
    story.ack("api");
    said_once(&story.next(vec![pass("other")]), "api", &What::Closed(Closing::Withdrawn));
}

#[test]
fn a_removed_check_that_passed_is_said_once_and_a_renamed_one_goes_on() {
    let mut story = Story::of(&["api", "other"]);
    story.next(vec![fail("api"), pass("other")]);
    story.next(vec![fail("api"), pass("other")]);
    story.next(vec![fail("api"), pass("other")]);
    story.policies.remove(&name("other"));
    said_once(&story.next(vec![fail("api")]), "other", &What::Removed);
    let mut policy = story.policies.remove(&name("api")).unwrap();
    policy.was = Some(name("api"));
    story.policies.insert(name("api-2"), policy);
    let judged = story.next(vec![fail("api-2")]);
    quiet(&judged);
    assert_eq!(judged.incidents[0].key, key("api-2"));
    assert_eq!(judged.incidents[0].level, Level::Red);
}

#[test]
fn a_watched_fact_is_compared_with_the_last_passing_value() {
    let mut story = Story::of(&["api"]);
    quiet(&story.next(vec![reading("api", "version", "1")]));
    let mut failing = fail("api");
    failing.facts.state(&Subject::none(), "version", "0");
    quiet(&story.next(vec![failing]));
    quiet(&story.next(vec![reading("api", "version", "1")]));
    let judged = story.next(vec![reading("api", "version", "2")]);
    assert_eq!(judged.changes[0].said.as_str(), "version changed from 1 to 2");
    quiet(&story.next(vec![reading("api", "version", "2")]));
}

#[test]
fn a_fact_that_keeps_changing_is_said_and_then_muted_until_it_holds_for_a_day() {
    let mut story = Story::of(&["api"]);
    let said: usize = (0..20).map(|i| story.next(vec![reading("api", "leader", &i.to_string())]).changes.len()).sum();
    assert_eq!(said, 3);
    for _ in 0..97 {
        quiet(&story.next(vec![reading("api", "leader", "19")]));
    }
    assert_eq!(story.next(vec![reading("api", "leader", "20")]).changes.len(), 1);
}

#[test]
fn reminders_come_after_four_hours_doubling_to_a_day() {
    let mut story = Story::of(&["api"]);
    let mut hours = Vec::new();
    let begin = story.now;
    for _ in 0..(4 * 60) {
        if !story.next(vec![fail("api")]).reminders.is_empty() {
            hours.push(story.now.duration_since(begin).as_hours());
        }
    }
    let total: Vec<i64> = hours.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(total, vec![8, 16, 24], "reminded at hours {hours:?}");
}

#[test]
fn a_subject_that_is_gone_closes_its_incident_after_two_looks() {
    let mut story = Story::of(&["jobs"]);
    let job = Subject::new("backup");
    let mut failing = pass("jobs");
    failing.findings.push(Finding::new("failing", Weight::Warn, true, Clean::new("failed twice")).on(&job));
    said_once(&story.next(vec![failing]), "jobs/backup", &What::Opened);
    quiet(&story.next(vec![timeout("jobs")]));
    quiet(&story.next(vec![pass("jobs")]));
    said_once(&story.next(vec![pass("jobs")]), "jobs/backup", &What::Closed(Closing::Gone));
}

#[test]
fn three_remote_hosts_that_all_fail_are_our_own_network() {
    let mut story = Story::of(&["a", "b", "c", "pulsecheck"]);
    let away = |check: &str, connected: bool| {
        let mut seen = if connected { pass(check) } else { timeout(check) };
        seen.remotes.insert(crate::clean!("{check}.example"), connected);
        seen
    };
    for _ in 0..3 {
        story.next(vec![away("a", false), away("b", false), away("c", false), pass("pulsecheck")]);
    }
    let open: Vec<String> = story.before.incidents.iter().map(|i| i.key.to_string()).collect();
    assert_eq!(open, ["pulsecheck/network"]);
    let judged = story.next(vec![away("a", true), away("b", false), away("c", false), pass("pulsecheck")]);
    assert_eq!(judged.logged.len(), 2, "one that answers makes it the others' trouble");
}

#[test]
fn a_counter_is_judged_by_its_rate() {
    let mut story = Story::of(&["net"]);
    let at = |errors: i64| {
        let mut seen = pass("net");
        let warn = Some(Edge { at: 100.0, code: "many_errors".into(), settled: false });
        let scale = Scale { warn, says: Clean::new("errors pile up"), ..Scale::plain(Unit::None) };
        seen.facts.put(&Subject::none(), "errors", errors, Class::Counter(Box::new(scale)));
        seen
    };
    story.next(vec![at(1_000_000)]);
    assert_eq!(story.next(vec![at(1_000_020)]).logged, vec![]);
    assert_eq!(story.next(vec![at(1_000_060)]).logged.len(), 1, "40 in a quarter of an hour are 160 an hour");
    assert_eq!(story.next(vec![at(5)]).logged, vec![], "it was started anew");
}

/// One check's observation, drawn.
fn drawn() -> impl Strategy<Value = u8> {
    0_u8..7
}

fn make(check: &str, kind: u8) -> Observation {
    match kind {
        0 | 1 => pass(check),
        2 => fail(check),
        3 => timeout(check),
        4 => with(check, Weight::Warn, true),
        5 => with(check, Weight::Warn, false),
        _ => unread(check, Unread::ours("lanes_busy", Clean::new("busy"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is observed: the same snapshot twice says nothing the second time about facts, each incident that was
    /// said is resolved exactly once, ids are unique, and the status is that of the worst open incident.
    #[test]
    fn every_opening_is_said_and_resolved_once(kinds in prop::collection::vec((drawn(), drawn()), 1..60)) {
        let mut story = Story::of(&["a", "b"]);
        let mut open: BTreeMap<String, i32> = BTreeMap::new();
        for (a, b) in kinds {
            let judged = story.next(vec![make("a", a), make("b", b)]);
            for change in &judged.changes {
                let count = open.entry(change.key.to_string()).or_default();
                match change.what {
                    What::Opened => *count += 1,
                    What::Closed(_) => *count -= 1,
                    _ => {}
                }
                prop_assert!((0..=1).contains(count), "{:?}", judged.changes);
            }
            let ids: BTreeSet<&str> = judged.changes.iter().map(|c| c.id.as_str()).collect();
            prop_assert_eq!(ids.len(), judged.changes.len());
            let worst = judged.incidents.iter().map(|i| i.level).max().unwrap_or(Level::Ok);
            prop_assert_eq!(judged.status(), worst);
            for incident in &judged.incidents {
                prop_assert!(incident.level >= Level::Yellow);
            }
        }
    }

    /// A red is never silent: when a finding has failed three times in a row, it is red, and that was said.
    #[test]
    fn three_fails_in_a_row_are_red_and_said(kinds in prop::collection::vec(drawn(), 0..40)) {
        let mut story = Story::of(&["a"]);
        for kind in kinds {
            story.next(vec![make("a", kind)]);
        }
        for _ in 0..3 {
            story.next(vec![fail("a")]);
        }
        let incident = story.incident("a");
        prop_assert_eq!(incident.level, Level::Red);
        prop_assert_eq!(incident.surfaced.as_ref().map(|said| said.level), Some(Level::Red));
    }

    /// Equal facts never differ; differing ones are said once and are then the ones to compare with.
    #[test]
    fn diff_then_apply_gives_the_new_snapshot(values in prop::collection::vec(0_u8..3, 2..20)) {
        let mut mark = Mark::default();
        let now = Timestamp::UNIX_EPOCH;
        for value in values {
            let mut facts = Facts::new();
            facts.state(&Subject::none(), "v", value.to_string());
            diff::compare(&facts, &Subject::none(), &mut mark, true, now);
            prop_assert_eq!(diff::compare(&facts, &Subject::none(), &mut mark, false, now), vec![]);
        }
    }
}

#[test]
fn what_was_said_is_not_called_well_because_its_parent_blinked() {
    let mut story = Story::of(&["gateway", "child"]);
    story.depends("child", "gateway");
    for _ in 0..3 {
        story.next(vec![pass("gateway"), fail("child")]);
    }
    let blink = story.next(vec![fail("gateway"), fail("child")]);
    assert_eq!((blink.status(), turns(&blink)), (Level::Red, vec![]));
    let down = story.next(vec![fail("gateway"), fail("child")]);
    assert_eq!(down.status(), Level::Yellow, "now the gateway stands for both");
    assert_eq!(down.held[&name("gateway")].len(), 1);
}

#[test]
fn a_silence_begun_before_it_was_red_ends_a_day_after() {
    let mut story = Story::of(&["api"]);
    story.before.silences = vec![Silence {
        id: 1,
        covers: Covers::Check(name("api")),
        from: story.now,
        until: story.now + SignedDuration::from_hours(7 * 24),
        by: Clean::new("ana"),
        why: Clean::new("quiet, please"),
    }];
    let said: Vec<_> = (0..(4 * 30)).map(|_| turns(&story.next(vec![fail("api")]))).collect();
    let first = said.iter().position(|turns| !turns.is_empty()).unwrap();
    assert_eq!(said[first], vec![("api".to_owned(), What::Surfaced)]);
    assert_eq!(first, 2 + 4 * 24, "red at the third look, said a day later");
}

#[test]
fn a_fact_that_changed_during_a_silence_is_said_when_it_ends() {
    let mut story = Story::of(&["key"]);
    story.next(vec![reading("key", "owner", "ana")]);
    story.before.silences = vec![Silence {
        id: 1,
        covers: Covers::Check(name("key")),
        from: story.now,
        until: story.now + CYCLE * 3,
        by: Clean::new("bob"),
        why: Clean::default(),
    }];
    quiet(&story.next(vec![reading("key", "owner", "mallory")]));
    quiet(&story.next(vec![reading("key", "owner", "mallory")]));
    said_once(&story.next(vec![reading("key", "owner", "mallory")]), "key", &What::Fact("owner".into()));
}

#[test]
fn silence_of_the_target_does_not_help_what_is_settled_down() {
    let mut story = Story::of(&["cert"]);
    said_once(&story.next(vec![expired("aa", true)]), "cert", &What::Opened);
    for _ in 0..2 {
        quiet(&story.next(vec![timeout("cert")]));
    }
    assert_eq!(story.incident("cert").level, Level::Red);
}

#[test]
fn what_we_could_not_look_at_ourselves_is_no_pass() {
    let mut story = Story::of(&["api"]);
    let ours = unread("api", Unread::ours("lanes_busy", Clean::new("busy")));
    let judged = story.next(vec![ours]);
    let mark = &judged.after[&name("api")].marks[&Subject::none()];
    assert_eq!((mark.outcome.word, mark.blind), (Word::Unknown(Blame::Ours), true));
}
