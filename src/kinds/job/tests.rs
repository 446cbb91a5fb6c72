mod theirs;

use super::exec::Look;
use super::*;
use crate::facts::{Class, MAX_TEXT_BYTES};
use crate::kinds::ledger::tests::execution;
use crate::kinds::testing::{at, records};
use crate::records::{Ending, Execution};

const MIN: i64 = 60;
const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

fn look(toml: &str, executions: Vec<Execution>, now: i64, first_seen: i64) -> Look {
    let settings: Settings = toml::from_str(toml).unwrap();
    Job::validate(&settings, &mut |key, why| panic!("{key}: {why}"));
    let records = records(executions);
    Look { settings, now: at(now), first_seen: at(first_seen), zone: TimeZone::UTC, proc: "/none".into(), records }
}

/// `subject code: sentence` of all findings and of the bands as the middle would pick them at first sight.
fn found(look: &Look) -> Vec<String> {
    lines(&look.settings, &look.run().unwrap().facts, look.now)
}

fn lines(settings: &Settings, facts: &Facts, now: Timestamp) -> Vec<String> {
    let mut found: Vec<String> = Job::assess(settings, facts, &Past::default(), now)
        .into_iter()
        .map(|finding| format!("{} {}: {}", finding.subject, finding.code, finding.said))
        .collect();
    for (subject, name, fact) in facts.iter() {
        assert!(Job::DOC.facts.iter().any(|doc| doc.name == name.as_str()), "{name} is not documented");
        let (Class::Gauge(scale), Some(value)) = (&fact.class, fact.value.number()) else { continue };
        if let Some(edge) = [&scale.fail, &scale.warn].into_iter().flatten().find(|edge| value > edge.at) {
            found.push(format!("{subject} {}: {}", edge.code, scale.says));
        }
    }
    for line in &found {
        let before = line.split(": ").next().unwrap();
        let code = before.rsplit(' ').next().unwrap();
        assert!(Job::DOC.reason(code).is_some(), "{code} is not documented");
    }
    found
}

fn run(started: i64, ending: Ending) -> Execution {
    execution("j", started, Some((started + MIN, ending)))
}

#[test]
fn executions_are_judged_and_not_looks() {
    let (ok, bad, cut) = (Ending::Exit(0), Ending::Exit(3), Ending::Interrupted);
    let two = "j failing: failed 2 times in a row, last with exit status 3";
    let three = "j failing_repeatedly: failed 3 times in a row, last with exit status 3";
    for (name, endings, want) in [
        ("fine", vec![ok.clone()], vec![]),
        ("failed once", vec![bad.clone(), ok.clone()], vec![]),
        ("twice", vec![bad.clone(), bad.clone(), ok.clone()], vec![two]),
        ("three times", vec![bad.clone(), bad.clone(), bad.clone()], vec![three]),
        ("was well again", vec![ok.clone(), bad.clone(), bad.clone(), bad.clone()], vec![]),
        ("an interruption feeds no streak", vec![bad.clone(), cut.clone(), ok.clone()], vec![]),
        ("and ends none", vec![cut.clone(), bad.clone(), cut.clone(), bad.clone(), ok.clone()], vec![two]),
        ("two interruptions", vec![cut.clone(), cut.clone(), ok.clone()], vec![]),
        (
            "three",
            vec![cut.clone(), cut.clone(), cut, ok],
            vec!["j interrupted: the last 3 executions were interrupted"],
        ),
        (
            "a signal",
            vec![Ending::Signal(9), bad.clone()],
            vec!["j failing: failed 2 times in a row, last with signal 9"],
        ),
        (
            "no such program",
            vec![Ending::NotStarted(Clean::new("no such file")), bad],
            vec!["j failing: failed 2 times in a row, last with not started"],
        ),
    ] {
        let executions =
            endings.into_iter().zip(0..).map(|(ending, n)| run(10 * DAY - n * HOUR, ending)).collect::<Vec<_>>();
        // Looked at again and again, it stays what it is.
        for later in [MIN, HOUR, DAY] {
            assert_eq!(found(&look("", executions.clone(), 10 * DAY + later, 0)), want, "{name}");
        }
    }
    let strict = "failures = { warn = 1, fail = 2 }";
    let once = vec![run(HOUR, Ending::Exit(1)), run(0, Ending::Exit(0))];
    assert_eq!(found(&look(strict, once, DAY, 0)), ["j failing: failed 1 time, last with exit status 1"]);
}

#[test]
fn lateness_comes_from_the_schedule_and_the_last_start() {
    // Daily at 03:00 UTC: the period is a day, so the grace is 1 h and `overdue` comes 1 h later.
    let daily = "jobs = ['j']\nschedule = '0 3 * * *'";
    let day = |days: i64, hour: i64| days * DAY + hour * HOUR;
    let ok = |started: i64| run(started, Ending::Exit(0));
    let late = |code: &str, ago: &str, last: &str| vec![format!("j {code}: was due {ago} ago (`0 3 * * *`), {last}")];
    let long = execution("j", day(10, 3), Some((day(11, 3) + MIN, Ending::Exit(0))));
    for (name, executions, now, want) in [
        ("ran", vec![ok(day(10, 3) + 2)], day(11, 2), vec![]),
        ("within the grace", vec![ok(day(10, 3) + 2)], day(11, 4), vec![]),
        ("late", vec![ok(day(10, 3))], day(11, 4) + MIN, late("late", "1 h 1 min", "the last start was 1 d 1 h ago")),
        ("overdue", vec![ok(day(10, 3))], day(11, 6), late("overdue", "3 h", "the last start was 1 d 3 h ago")),
        ("a little early is that slot's", vec![ok(day(11, 3) - 2)], day(11, 6), vec![]),
        (
            "one by hand moves nothing",
            vec![ok(day(10, 14))],
            day(11, 6),
            late("overdue", "3 h", "the last start was 16 h ago"),
        ),
        ("while it runs it isn't late", vec![execution("j", day(10, 3), None)], day(11, 6), vec![]),
        ("it ran on beyond its slot", vec![long], day(11, 6), vec![]),
        ("an interrupted one did start", vec![run(day(11, 3), Ending::Interrupted)], day(11, 6), vec![]),
        ("never ran, the check is new", vec![], day(10, 12), vec![]),
        ("never ran", vec![], day(11, 5) + 1, late("overdue", "2 h", "it has never started")),
    ] {
        assert_eq!(found(&look(daily, executions, now, day(10, 10))), want, "{name}");
    }
    // A short period: 5 min of grace, and fail one period later.
    let quarter = "jobs = ['j']\nschedule = 'every 15m'";
    for (now, code) in [(20 * MIN, ""), (20 * MIN + 1, "late"), (35 * MIN + 1, "overdue")] {
        let found = found(&look(quarter, vec![ok(0)], now, 0));
        assert_eq!(found.first().map_or("", |found| found.split([' ', ':']).nth(1).unwrap()), code, "{now}");
    }
    assert_eq!(found(&look(&format!("{quarter}\ngrace = '1h'"), vec![ok(0)], HOUR, 0)), [""; 0]);
}

#[test]
fn the_schedule_comes_with_the_execution_or_nobody_can_tell() {
    let with =
        |schedule: Option<&str>| vec![Execution { schedule: schedule.map(str::to_owned), ..run(0, Ending::Exit(0)) }];
    let overdue = "j overdue: was due 9 h 45 min ago (`every 15m`), the last start was 10 h ago";
    assert_eq!(found(&look("", with(Some("every 15m")), 10 * HOUR, 0)), [overdue]);
    assert_eq!(found(&look("", with(None), 10 * HOUR, 0)), [""; 0]);
    let bad = "j schedule_unreadable: its recorded schedule \"now and then\" can't be read";
    assert_eq!(found(&look("", with(Some("now and then")), 10 * HOUR, 0)), [bad]);
    let never = "j never_ran: has never run, and no schedule says when it should";
    assert_eq!(found(&look("jobs = ['j']", vec![], 10 * HOUR, 0)), [never]);
    assert_eq!(found(&look("", vec![], 10 * HOUR, 0)), [""; 0]);
}

#[test]
fn overlapping_too_long_too_often() {
    let ended = |started: i64, ended: i64| execution("j", started, Some((ended, Ending::Exit(0))));
    let overlapping = "j overlapping: an execution began while one before it still ran";
    for (name, toml, executions, now, want) in [
        ("one after the other", "", vec![ended(100, 200), ended(0, 100)], 300, vec![]),
        ("overlapped", "", vec![ended(100, 200), ended(0, 150)], 300, vec![overlapping]),
        ("two at once", "", vec![execution("j", 100, None), execution("j", 0, None)], 300, vec![overlapping]),
        ("long, no limit", "", vec![execution("j", 0, None)], DAY, vec![]),
        ("within", "max_runtime = '1h'", vec![execution("j", 0, None)], HOUR, vec![]),
        (
            "too long",
            "max_runtime = '1h'",
            vec![execution("j", 0, None)],
            90 * MIN,
            vec!["j too_long: has been running for 1 h 30 min, at most 1h is allowed"],
        ),
        (
            "stuck, though a later one ended",
            "max_runtime = '1h'",
            vec![ended(9_000, 9_100), execution("j", 0, None)],
            3 * HOUR,
            vec!["j stuck: has been running for 3 h, at most 1h is allowed"],
        ),
        (
            "ended in the end",
            "max_runtime = '1h'",
            vec![ended(0, 4 * HOUR)],
            DAY,
            vec!["j too_long: ran for 4 h, at most 1h is allowed"],
        ),
        ("seldom enough", "min_interval = '1m'", vec![ended(60, 61), ended(0, 1)], 300, vec![]),
        (
            "too often",
            "min_interval = '1m'",
            vec![ended(59, 60), ended(0, 1)],
            300,
            vec!["j too_often: the last two starts lie 59 s apart, at least 1m is expected"],
        ),
    ] {
        assert_eq!(found(&look(toml, executions, now, 0)), want, "{name}");
    }
}

#[test]
fn each_job_is_a_subject_and_too_many_are_said() {
    let both = vec![execution("a", 0, Some((1, Ending::Exit(1)))), execution("b", 0, Some((1, Ending::Exit(0))))];
    let facts = look("", both, HOUR, 0).run().unwrap().facts;
    let word = |job: &str| facts.text(&Subject::new(job), "last_result").unwrap().as_str().to_owned();
    assert_eq!((word("a"), word("b")), ("exit status 1".to_owned(), "exit status 0".to_owned()));
    let many = (0..203).map(|n| execution(&format!("j{n}"), 0, Some((1, Ending::Exit(0))))).collect();
    assert_eq!(found(&look("", many, HOUR, 0)), [" too_many_jobs: 3 jobs are not looked at, one check looks at 200"]);
}

#[test]
fn the_tail_of_a_failed_one_is_kept_at_its_end_and_foreign() {
    let tail = format!("{}the end", "ä".repeat(2_000));
    let with = |ending| vec![Execution { tail: Some(Clean::new(&tail)), ..run(0, ending) }];
    let facts = look("", with(Ending::Exit(1)), HOUR, 0).run().unwrap().facts;
    let fact = facts.get(&Subject::new("j"), "tail").unwrap();
    let crate::facts::Value::Text(text) = &fact.value else { panic!() };
    assert!(fact.foreign && text.as_str().ends_with("the end") && text.as_str().len() <= MAX_TEXT_BYTES);
    let facts = look("", with(Ending::Exit(0)), HOUR, 0).run().unwrap().facts;
    assert!(facts.get(&Subject::new("j"), "tail").is_none());
}

#[test]
fn bad_settings_are_refused() {
    let problems = |toml: &str| match toml::from_str::<Settings>(toml) {
        Err(e) => vec![e.message().to_owned()],
        Ok(settings) => {
            let mut said = Vec::new();
            Job::validate(&settings, &mut |key, why| said.push(format!("{key}: {why}")));
            said
        }
    };
    for (toml, said) in [
        ("failures = { fail = 1 }", "failures: expected `warn` from 1 and `fail` not below it, found 2 and 1"),
        ("failures = { warn = 0 }", "failures: expected `warn` from 1 and `fail` not below it, found 0 and 3"),
        ("failures = { fail = 99 }", "failures: at most 50 executions are looked back through, found `fail` 99"),
        ("schedule = '0 3 * * *'", "schedule: `schedule` needs `jobs` (not all that ever ran start at the same time)"),
        ("max_runtime = '0s'", "max_runtime: expected a duration above 0s"),
        ("jobs = 'a'", "invalid type: string \"a\", expected a sequence"),
        (
            "jobs = ['A']",
            "jobs: `A` is not a name (a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or a digit)",
        ),
    ] {
        assert_eq!(problems(toml), [said], "{toml}");
    }
}

#[test]
fn a_whole_look_goes_through_the_host() {
    let root = tempfile::tempdir().unwrap();
    let settings = crate::kinds::testing::settings::<Job>("jobs = ['j']");
    let look = crate::kinds::testing::Trial::new(root.path()).look::<Job>(&settings).unwrap();
    assert_eq!(look.codes(), ["j: never_ran"]);
}

#[test]
fn the_schedule_is_in_the_machines_zone() {
    // 03:00 in Berlin's summer is 01:00 UTC; at 04:30 UTC that is three and a half hours ago.
    let july = 20_640 * DAY;
    let mut berlin = look(
        "jobs = ['j']\nschedule = '0 3 * * *'",
        vec![run(july - DAY + HOUR, Ending::Exit(0))],
        july + 4 * HOUR + 30 * MIN,
        0,
    );
    berlin.zone = TimeZone::get("Europe/Berlin").unwrap();
    assert!(found(&berlin)[0].starts_with("j overdue: was due 3 h 30 min ago"), "{:?}", found(&berlin));
}
