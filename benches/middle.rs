//! What the pure middle costs: judging, the redaction gate, a report. Budgets stand beside the names; they are read by
//! people and by `benches/compare`, and asserted nowhere.

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pulsecheck::facts::{CheckName, Class, Facts, Finding, Observation, Subject, Weight};
use pulsecheck::judge::{Before, Judged, Policy, judge};
use pulsecheck::redact::{Clean, Secret, scrub};
use pulsecheck::report::{self, Frame};

const CYCLE: SignedDuration = SignedDuration::from_mins(15);

type Seen = (Vec<Observation>, BTreeMap<CheckName, Policy>);

/// Observations of `checks` checks with `subjects` subjects each, of which each has `facts` facts.
fn seen(checks: usize, subjects: usize, facts: usize, at: Timestamp) -> Result<Seen, Box<dyn Error>> {
    let mut seen = Vec::with_capacity(checks);
    let mut policies = BTreeMap::new();
    for check in 0..checks {
        let name = CheckName::try_from(format!("check-{check}").as_str())?;
        let mut observation = Observation::empty(&name, at);
        for subject in 0..subjects {
            let subject = Subject::new(&format!("/var/lib/thing/{subject}"));
            for fact in 0..facts {
                let value = Clean::new(&format!("value {fact}"));
                observation.facts.put(&subject, format!("fact_{fact}"), value, Class::State);
            }
        }
        seen.push(observation);
        policies.insert(name, Policy::plain(CYCLE));
    }
    Ok((seen, policies))
}

/// What the next cycle judges from when this one saw that.
fn next(judged: Judged) -> Before {
    Before { cycle: "c2".to_owned(), snapshot: judged.after, incidents: judged.incidents, ..Before::default() }
}

fn judging(c: &mut Criterion, at: Timestamp) -> Result<(), Box<dyn Error>> {
    let mut group = c.benchmark_group("judge");
    group.sample_size(20);
    let later = at + CYCLE;
    // Budget: 20 ms.
    for (name, checks, subjects, facts) in [("100000_facts_wide", 100, 10, 100), ("100000_facts_narrow", 10_000, 1, 10)]
    {
        let (first, policies) = seen(checks, subjects, facts, at)?;
        let before = next(judge(Before::default(), first, &policies, at));
        let (again, _) = seen(checks, subjects, facts, later)?;
        group.bench_function(name, |b| {
            b.iter_batched(
                || (before.clone(), again.clone()),
                |(before, again)| judge(before, again, &policies, later),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
    Ok(())
}

fn gate(c: &mut Criterion) {
    const LEN: usize = 64 << 10;
    let _known: Vec<Secret> = (0..20).map(|n| Secret::new(&format!("a-secret-of-the-bench-{n}-x7Qm2"))).collect();
    let prose: String = "2026-03-20T12:00:01Z INFO worker 17: took the next item, 12 waiting, 0 failed\n".repeat(900);
    let json: String =
        r#"{"at":"2026-03-20T12:00:01Z","url":"https://api.example.com/v1/x?id=17","ok":true},"#.repeat(900);
    let planted: String = "password: hunter2hunter2, next line is plain and says nothing of any interest\n".repeat(900);
    let mut group = c.benchmark_group("gate");
    group.throughput(Throughput::Bytes(u64::try_from(LEN).unwrap_or(u64::MAX)));
    // Budget: 1 ms for 64 KiB.
    for (name, text) in [("64k_log", &prose), ("64k_json", &json), ("64k_of_secrets", &planted)] {
        let text = text.get(..LEN).unwrap_or(text);
        group.bench_function(name, |b| b.iter(|| black_box(scrub(black_box(text)))));
    }
    group.finish();
    let short: Vec<String> = (0..10_000).map(|n| format!("/srv/share/{n} has 17 files")).collect();
    c.bench_function("gate/10000_short", |b| {
        b.iter(|| short.iter().map(|text| Clean::new(text).as_str().len()).sum::<usize>());
    });
}

fn reports(c: &mut Criterion, at: Timestamp) -> Result<(), Box<dyn Error>> {
    let (mut red, policies) = seen(100, 2, 5, at)?;
    for observation in red.iter_mut().step_by(3) {
        let said = Clean::new("the certificate ended 3 days ago");
        observation.findings.push(Finding::new("expired", Weight::Fail, true, said));
    }
    let judged = judge(Before { cycle: "c1".to_owned(), ..Before::default() }, red, &policies, at);
    let host = Clean::new("den");
    let frame = Frame {
        at,
        zone: &TimeZone::UTC,
        cycle: "c1",
        host: &host,
        escalation: Err(Clean::new("no frontier model is configured")),
        head: None,
        remarks: Vec::new(),
    };
    c.bench_function("report/write", |b| b.iter(|| report::write(black_box(&judged), &policies, &frame)));
    let value = serde_json::to_value(report::write(&judged, &policies, &frame))?;
    // The schema is compiled at the first use, which is not measured here: `benches/one_shot` sees it.
    c.bench_function("report/validate", |b| b.iter(|| report::problems(black_box(&value))));
    Ok(())
}

fn facts(c: &mut Criterion) {
    let subject = Subject::none();
    c.bench_function("facts/256_put", |b| {
        b.iter(|| {
            let mut facts = Facts::new();
            for n in 0..256_i64 {
                facts.put(&subject, format!("fact_{n}"), n, Class::Info);
            }
            facts
        });
    });
}

fn main() -> Result<(), Box<dyn Error>> {
    let at: Timestamp = "2026-03-20T12:00:00Z".parse()?;
    let mut c = Criterion::default().configure_from_args();
    judging(&mut c, at)?;
    gate(&mut c);
    reports(&mut c, at)?;
    facts(&mut c);
    c.final_summary();
    Ok(())
}
