//! From figures to facts: what is shown, which numbers have edges, and the words of those that are crossed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::figures::{All, Figures, JobFigures};
use super::formats::Quota;
use super::prices::Prices;
use super::settings::Settings;
use crate::clean;
use crate::facts::{Class, Edge, Facts, Scale, Subject, Unit, Value, Worse};
use crate::redact::Clean;
use crate::settings::Money;
use crate::words::{human, span};

/// Jobs that are shown, the dearest.
const MAX_JOBS: usize = 60;
/// Models without a price that are listed.
const MAX_UNPRICED: usize = 100;

/// What the look itself came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Looked {
    pub files: u64,
    /// Files, databases and proxies of which the sums hold all or a part.
    pub read: u64,
    /// Whether anything could not be read, so that the sums are lower bounds.
    pub blind: bool,
    pub bytes_read: u64,
    pub left_bytes: u64,
    /// Databases and proxies of which rows wait.
    pub behind: u64,
    /// Proxies that gave only their newest rows.
    pub cut_rows: u64,
    /// Calls that were read.
    pub calls: u64,
    pub bad_lines: u64,
    pub too_long_lines: u64,
    /// Links, FIFOs and the like, which are not followed or read.
    pub passed_over: u64,
    pub compressed_events: u64,
    pub forgotten: u64,
    pub repeated: u64,
    /// What was counted in this look; none where it was a backlog.
    pub added: Option<f64>,
    /// Whether work advances; none without `advances`.
    pub advances: Option<bool>,
    pub idle: Option<Idle>,
}

/// What was spent since work ceased to advance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Idle {
    pub since: Timestamp,
    pub nano: i64,
}

fn usd(value: f64) -> String {
    human(value, Unit::Usd)
}
fn pct(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

fn gauge(
    unit: Unit,
    says: Clean,
    warn: Option<(f64, &'static str, bool)>,
    fail: Option<(f64, &'static str, bool)>,
) -> Scale {
    let edge = |edge: Option<(f64, &'static str, bool)>| {
        edge.map(|(at, code, settled)| Edge { at, code: code.into(), settled })
    };
    Scale { unit, worse: Worse::Above, warn: edge(warn), fail: edge(fail), says, episode: None }
}

/// The name under which a job is a subject.
fn subject(job: &JobFigures) -> Subject {
    Subject::new(&format!("{}:{}", job.source, job.shown))
}

/// Puts all facts.
pub(super) fn put(settings: &Settings, all: &All, looked: &Looked, facts: &mut Facts) {
    let whole = looked.left_bytes == 0 && looked.behind == 0 && !looked.blind;
    let explained =
        all.jobs.iter().take(MAX_JOBS).filter(|job| job_facts(settings, all, job, whole, facts)).count() > 0;
    total(settings, all, looked, whole && !explained, facts);
    let me = &Subject::none();
    for (name, count) in [
        ("files", looked.files),
        ("bytes_read", looked.bytes_read),
        ("left_bytes", looked.left_bytes),
        ("calls", looked.calls),
        ("repeated_calls", looked.repeated),
    ] {
        facts.info(me, name, count);
    }
    for (name, count) in [
        ("behind", looked.behind),
        ("cut_rows", looked.cut_rows),
        ("bad_lines", looked.bad_lines),
        ("too_long_lines", looked.too_long_lines),
        ("passed_over", looked.passed_over),
        ("compressed_events", looked.compressed_events),
        ("forgotten_calls", looked.forgotten),
    ] {
        if count > 0 {
            facts.info(me, name, count);
        }
    }
    facts.info(me, "prices_date", Prices::date());
    for (models, tokens, of) in [
        ("unpriced_models", "unpriced_tokens", &all.unpriced),
        ("unpriced_models_today", "unpriced_tokens_today", &all.unpriced_today),
    ] {
        if !of.is_empty() {
            let named: BTreeSet<Clean> = of.keys().take(MAX_UNPRICED).map(|model| Clean::line(model, 200)).collect();
            facts.put_foreign(me, models, Value::Set(named), Class::Info);
            facts.info(me, tokens, of.values().sum::<u64>());
        }
    }
    for (name, figures) in &all.sources {
        let of = &Subject::new(name);
        facts.info(of, "today_usd", cents(figures.today.usd()));
        facts.info(of, "tokens_today", figures.today.tokens);
        facts.info(of, "share_pct", tenth(figures.share));
        if let Some(usual) = figures.usual_share {
            facts.info(of, "usual_share_pct", tenth(usual));
        }
    }
    if let Some(advances) = looked.advances {
        facts.info(me, "advances", advances);
        let idle = looked.idle.unwrap_or_default();
        let spent = super::ledger::Sum { nano: idle.nano, ..Default::default() }.usd();
        let limit = settings.idle_limit;
        let says = clean!(
            "{} spent since {} while nothing advances, {} is allowed",
            usd(spent),
            idle.since.strftime("%Y-%m-%d %H:%M UTC"),
            usd(limit.usd())
        );
        facts.gauge(
            me,
            "idle_usd",
            cents(spent),
            gauge(Unit::Usd, says, Some((limit.usd(), "nothing_advances", true)), None),
        );
    }
}

/// Puts a job's facts; whether one of its numbers is beyond what it may be.
fn job_facts(settings: &Settings, all: &All, job: &JobFigures, whole: bool, facts: &mut Facts) -> bool {
    let (of, figures) = (&subject(job), &job.figures);
    facts.info(of, "source", job.source.as_str());
    facts.put_foreign(of, "job", job.shown.as_str(), Class::Info);
    facts.info(of, "today_usd", cents(figures.today.usd()));
    facts.info(of, "tokens_today", figures.today.tokens);
    if let Some(usual) = figures.usual_share {
        facts.info(of, "usual_share_pct", tenth(usual));
    }
    if let Some((middle, _)) = figures.usual_day {
        facts.info(of, "usual_day_usd", cents(middle));
    }
    let share = share_edge(settings, figures).filter(|_| whole);
    let says = share_words(all, figures);
    facts.gauge(
        of,
        "share_pct",
        tenth(figures.share),
        gauge(Unit::Percent, says, share.map(|at| (at, "disproportionate", true)), None),
    );
    let rate = rate_facts(settings, figures, whole, rate_words(all, figures, ""), of, facts);
    share.is_some_and(|edge| figures.share * 100.0 > edge) || rate
}

/// The share beyond which a job is disproportionate: above its usual one by so many points, where it spent more than the
/// floor, more than twice its usual day, and more than on all its days but one.
fn share_edge(settings: &Settings, figures: &Figures) -> Option<f64> {
    let (usual, (middle, second)) = (figures.usual_share?, figures.usual_day?);
    let today = figures.today.usd();
    let much = today >= settings.share_floor.usd() && today > 2.0 * middle && today > second;
    much.then_some(usual * 100.0 + settings.share_warn)
}

fn since(figures: &Figures) -> String {
    figures.since_hour.map_or_else(String::new, |hour| format!(" since {hour:02}:00"))
}
fn projection(all: &All) -> String {
    all.projected.map_or_else(String::new, |sum| format!("; at this rate the day comes to {}", usd(sum)))
}

fn share_words(all: &All, figures: &Figures) -> Clean {
    let usual = figures.usual_share.map_or_else(String::new, |usual| format!(", its usual share is {}", pct(usual)));
    let (own, day) = (usd(figures.today.usd()), usd(all.total.today.usd()));
    clean!("{own} of today's {day} ({}){}{usual}{}", pct(figures.share), since(figures), projection(all))
}

fn rate_words(all: &All, figures: &Figures, mostly: &str) -> Clean {
    let usual =
        figures.usual_rate.map_or_else(String::new, |usual| format!(", a usual busy hour costs {}", usd(usual)));
    let (rate, own) = (usd(figures.rate), usd(figures.today.usd()));
    clean!("{rate} an hour{usual}; {own} today{}{mostly}{}", since(figures), projection(all))
}

/// Puts a rate; whether it is beyond what it may be.
fn rate_facts(
    settings: &Settings,
    figures: &Figures,
    judged: bool,
    says: Clean,
    of: &Subject,
    facts: &mut Facts,
) -> bool {
    facts.info(of, "rate_usd_per_h", cents(figures.rate));
    let Some(usual) = figures.usual_rate.filter(|usual| *usual > 0.0) else { return false };
    facts.info(of, "usual_rate_usd_per_h", cents(usual));
    let ratio = figures.rate / usual;
    let much = judged && figures.rate >= settings.rate_floor.usd();
    let warn = much.then_some((settings.rate_warn, "rate", true));
    facts.gauge(of, "times_usual", (ratio * 100.0).round() / 100.0, gauge(Unit::None, says, warn, None));
    much && ratio > settings.rate_warn
}

fn total(settings: &Settings, all: &All, looked: &Looked, rate_judged: bool, facts: &mut Facts) {
    let (me, figures) = (&Subject::none(), &all.total);
    let today = figures.today.usd();
    let mostly =
        all.jobs.first().filter(|job| all.jobs.len() > 1 && job.figures.share >= 0.5).map_or_else(String::new, |job| {
            format!(", {} of it by {}", pct(job.figures.share), Clean::line(&job.shown, 60).quoted())
        });
    let limit = settings.daily_limit.map(Money::usd);
    let says = clean!("{} spent today{mostly}; {} is the limit", usd(today), usd(limit.unwrap_or(0.0)));
    let mut scale = gauge(Unit::Usd, says, None, limit.map(|limit| (limit, "over_limit", true)));
    // Another day is another finding.
    scale.episode = Some(Clean::new(&all.date));
    facts.gauge(me, "today_usd", cents(today), scale);
    if let Some(projected) = all.projected {
        // Below a quarter of the limit a day has hardly begun, and above the limit there is nothing left to foresee.
        let judged = limit.filter(|limit| today >= limit / 4.0 && today <= *limit);
        let says = clean!(
            "{} spent today{mostly}; at the rate of the last hours the day comes to {}, {} is the limit",
            usd(today),
            usd(projected),
            usd(limit.unwrap_or(0.0))
        );
        let mut scale = gauge(Unit::Usd, says, judged.map(|limit| (limit, "projected_over_limit", true)), None);
        scale.episode = Some(Clean::new(&all.date));
        facts.gauge(me, "projected_usd", cents(projected), scale);
    }
    if let Some(limit) = limit {
        facts.info(me, "limit_usd", cents(limit));
    }
    facts.info(me, "hour_usd", cents(figures.hour.usd()));
    facts.info(me, "tokens_today", figures.today.tokens);
    facts.info(me, "history_days", all.history_days);
    if let Some(added) = looked.added {
        facts.info(me, "since_last_usd", cents(added));
    }
    let says = rate_words(all, figures, &mostly);
    rate_facts(settings, figures, rate_judged, says, me, facts);
}

/// Puts the quotas that were not begun anew since they were read.
pub(super) fn put_quota(settings: &Settings, source: &str, quota: &Quota, now: Timestamp, facts: &mut Facts) {
    let reset = quota.resets_at.or_else(|| Some(quota.at.saturating_add(quota.window_minutes?.saturating_mul(60))));
    if reset.is_some_and(|reset| reset <= now.as_second()) {
        return;
    }
    let of = &Subject::new(&format!("{source} {} quota", quota.name));
    let window =
        quota.window_minutes.map_or_else(String::new, |minutes| format!(" of {}", span(minutes.saturating_mul(60))));
    let until =
        reset.map_or_else(String::new, |reset| format!(", it begins anew in {}", span(reset - now.as_second())));
    let says = clean!("{} of the quota{window} is used{until}", pct(quota.used_pct / 100.0));
    let (warn, fail) = (settings.quota.warn, settings.quota.fail);
    let scale = gauge(Unit::Percent, says, Some((warn, "quota_low", false)), Some((fail, "quota_nearly_gone", false)));
    facts.gauge(of, "used_pct", quota.used_pct.clamp(0.0, 1_000.0), scale);
    if let Some(reset) = reset.and_then(|reset| Timestamp::from_second(reset).ok()) {
        facts.info(of, "resets_at", reset);
    }
    if let Ok(at) = Timestamp::from_second(quota.at) {
        facts.info(of, "read_at", at);
    }
}

/// Dollars as they are kept: to a hundredth of a cent.
fn cents(usd: f64) -> f64 {
    (usd * 10_000.0).round() / 10_000.0
}
/// A part as a percentage, to a tenth.
fn tenth(part: f64) -> f64 {
    (part * 1_000.0).round() / 10.0
}
