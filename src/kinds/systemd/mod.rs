//! Units of systemd, and timers with what they start, as `systemctl show` tells them.

mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::show::{PROPERTIES, Unit, is_unit};
use super::common::{LANE_REASONS, SPAWN_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Edge, Facts, Finding, Scale, Subject, Unit as Measure, Unread, Value, Weight, Worse};
use crate::host::spawn::{Command, Exit};
use crate::redact::{Clean, Secret};
use crate::settings::{Dur, Pattern};
use crate::words::{count, span};

/// Units of one check.
const MAX_UNITS: usize = 150;
/// Bytes that `systemctl` may print.
const MAX_OUTPUT: usize = 1 << 20;
/// Left of the time for saying what happened.
const MARGIN: Duration = Duration::from_millis(100);
/// Restarts are counted over this long.
const RESTARTS_OVER: SignedDuration = SignedDuration::from_hours(24);
/// How late beyond its own accuracy a timer may be.
const SLACK: SignedDuration = SignedDuration::from_mins(1);
/// The accuracy of timers that say none (`systemd.timer(5)`).
const ACCURACY: SignedDuration = SignedDuration::from_mins(1);

/// The kind.
pub struct Systemd;

/// Settings of `systemd`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Settings {
    /// The units, each by its whole name (`gateway.service`, `backup.timer`); a name without an ending is a service.
    #[serde(default)]
    pub units: Vec<String>,
    /// Whether every unit that has failed is looked at too.
    #[serde(default)]
    pub failed: bool,
    /// Whether every timer that is active is looked at too, with what it starts.
    #[serde(default)]
    pub timers: bool,
    /// Whether it is this user's own systemd (`systemctl --user`), not the system's.
    #[serde(default)]
    pub user: bool,
    /// Whether a machine that does not run systemd is left alone, and that said as a fact.
    #[serde(default)]
    pub optional: bool,
    /// Units that match one of these are not taken in by `failed` and `timers`.
    #[serde(default)]
    pub ignore: Vec<Pattern>,
    /// How long ago a timer may have been triggered last; beyond is a fail.
    #[serde(default)]
    pub max_age: Option<Dur>,
    /// The most restarts of a service by systemd in 24 hours; more are a warn.
    #[serde(default = "five")]
    pub max_restarts: u32,
}

const fn five() -> u32 {
    5
}

const fn doc(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human: false }
}
const WARN: ReasonOutcome = ReasonOutcome::Warn;
const FAIL: ReasonOutcome = ReasonOutcome::Fail;
const BLIND: ReasonOutcome = ReasonOutcome::Unknown(Blame::Blind);
const TARGET: ReasonOutcome = ReasonOutcome::Unknown(Blame::Target);
const LOG: &str = "see why: journalctl -u UNIT";

const REASONS: &[ReasonDoc] = &[
    doc("failed", FAIL, true, "the unit has failed, and systemd does not start it again", LOG),
    doc("restarting", FAIL, false, "it ended, and systemd waits to start it again: a loop, if it stays so", LOG),
    doc("not_active", FAIL, false, "it is not active: somebody stopped it, or nothing started it", "start the unit"),
    doc("service_failed", FAIL, true, "what the timer starts failed the last time", LOG),
    doc("restarts", WARN, false, "systemd restarted it more often in 24 hours than it may", LOG),
    doc("missed", WARN, true, "the timer did not run at its time", "see whether the machine was off, run it by hand"),
    doc(
        "not_triggered",
        FAIL,
        true,
        "the timer was triggered last longer ago than `max_age`",
        "see why: systemctl status UNIT",
    ),
    doc("not_found", FAIL, true, "there is no such unit", "correct the name, or install the unit"),
    doc(
        "masked",
        WARN,
        true,
        "the unit is masked, so nothing can start it",
        "unmask the unit, or take it out of the check",
    ),
    doc("bad_unit", FAIL, true, "systemd can't read the unit's file", "see systemctl status UNIT, correct the file"),
    doc(
        "too_many_units",
        WARN,
        true,
        "there are more units than one check looks at",
        "name the units in checks of their own",
    ),
    doc("no_systemd", BLIND, true, "this machine was not started by systemd", "take the check out, or set `optional`"),
    doc(
        "no_user_systemd",
        BLIND,
        true,
        "with `user`: this user has no systemd of its own while nobody is logged in",
        "let it linger (loginctl enable-linger USER), or set `optional`",
    ),
    doc("not_allowed", BLIND, true, "systemd does not tell this user", "run Pulsecheck as a user that may ask systemd"),
    doc(
        "systemctl_failed",
        TARGET,
        false,
        "`systemctl` gave no answer to go by",
        "see what `systemctl show` says by hand",
    ),
    doc(
        "not_shown",
        TARGET,
        false,
        "`systemctl` said nothing of the unit",
        "see what `systemctl show UNIT` says by hand",
    ),
];

const fn info(name: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class: "info", about }
}

impl Kind for Systemd {
    const DOC: KindDoc = KindDoc {
        name: "systemd",
        about: "Looks at units of systemd: active, failed, restarted in a loop; and at timers: triggered at their time, and \
                how what they start ended. A service that ends by itself (`Type=oneshot`) or is started by a timer, socket or \
                path is well while it is inactive, if it ended well.",
        subjects: "the units; with `failed` and `timers` those that `systemctl` lists",
        facts: &[
            info("load_state", "`loaded`, `not-found`, `masked` or what else is wrong with its file"),
            info("active_state", "`active`, `inactive`, `failed`, `activating` …"),
            info("sub_state", "the same in detail: `running`, `dead`, `auto-restart`, `waiting` …"),
            info("result", "how it last ended: `success`, `exit-code`, `signal`, `timeout`, `oom-kill` …"),
            info("type", "a service's type: `simple`, `oneshot`, `notify` …"),
            info("exit_status", "the exit status or signal that its main process ended with"),
            info("since", "when it came to its state"),
            info("triggered", "whether a timer, socket or path starts it"),
            info("listed", "whether it is there because it failed or is a timer, not by its name in the config"),
            FactDoc { name: "unit_file_state", class: "state", about: "`enabled`, `disabled`, `static` …" },
            FactDoc { name: "restarts_24h", class: "gauge", about: "restarts by systemd that were seen in 24 hours" },
            info("last_trigger", "of a timer: when it was triggered last"),
            info("next_elapse", "of a timer: when it will be next, by the wall clock"),
            info("missed", "of a timer: when it should have been triggered and was not"),
            FactDoc { name: "last_trigger_s", class: "gauge", about: "of a timer: seconds since it was triggered" },
            info("service", "of a timer: what it starts"),
            info("service_result", "of a timer: how that last ended"),
            info("service_exit_status", "of a timer: the exit status or signal of that"),
            info("units_left_out", "of the check itself: units that are not looked at"),
            info("skipped", "of the check itself: why nothing was looked at"),
        ],
        reasons: &[REASONS, SPAWN_REASONS, LANE_REASONS],
        example: r#"
[check.services]
kind = "systemd"
units = ["openclaw-gateway.service", "backup.timer"]
user = true
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.units.is_empty() && !settings.failed && !settings.timers {
            report("units", "nothing is looked at (give `units`, `failed = true` or `timers = true`)".to_owned());
        }
        for unit in &settings.units {
            if !is_unit(&whole(unit)) {
                report(
                    "units",
                    format!("`{unit}` is no name of a unit (each by its own; all that failed: `failed = true`)"),
                );
            }
        }
        if settings.units.len() > MAX_UNITS {
            report("units", format!("one check looks at most at {MAX_UNITS} units, found {}", settings.units.len()));
        }
        if settings.max_age.is_some() && !settings.timers && !settings.units.iter().any(|unit| is_timer(unit)) {
            report("max_age", "`max_age` is about timers, and none is looked at".to_owned());
        }
        if !settings.ignore.is_empty() && !settings.failed && !settings.timers {
            report("ignore", "`ignore` is about `failed` and `timers`, and neither is set".to_owned());
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let looked = look(settings, cx).await;
        let Looked { asked, left_out, units } = match looked {
            Err(unread)
                if settings.optional
                    && ["no_systemd", "no_user_systemd", "program_not_found"].contains(&unread.code.as_str()) =>
            {
                let mut facts = Facts::new();
                facts.info(&Subject::none(), "skipped", unread.said);
                return Ok(facts.into());
            }
            looked => looked?,
        };
        let mut fetched = Fetched::default();
        if left_out > 0 {
            fetched.facts.info(&Subject::none(), "units_left_out", left_out);
        }
        let known: BTreeMap<String, Restarts> =
            cx.memory.get("restarts")?.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let mut kept = BTreeMap::new();
        for name in &asked {
            let subject = Subject::new(name);
            let Some(unit) = units.iter().find(|unit| unit.is_named(name)) else {
                let said = clean!("`systemctl` said nothing of it");
                fetched.unread.insert(subject, Unread::target("not_shown", said));
                continue;
            };
            put(unit, &subject, &mut fetched.facts);
            fetched.facts.info(&subject, "listed", !settings.units.iter().any(|named| whole(named) == *name));
            if let Some(n) = unit.number("NRestarts") {
                let restarts = Restarts::after(known.get(name), n, cx.now.wall);
                fetched.facts.gauge(&subject, "restarts_24h", restarts.sum(), restarts_scale(settings, restarts.sum()));
                kept.insert(name.clone(), restarts);
            }
            if is_timer(name) {
                let service = unit.get("Unit").and_then(|service| units.iter().find(|unit| unit.is_named(service)));
                put_timer(settings, unit, service, &subject, cx, &mut fetched.facts);
            }
        }
        if kept != known {
            fetched.remember.push(("restarts".to_owned(), serde_json::to_vec(&kept).ok()));
        }
        Ok(fetched)
    }

    fn assess(_settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            facts.subjects().iter().flat_map(|subject| assess_unit(facts, subject)).collect();
        if let Some(left_out) = facts.number(&Subject::none(), "units_left_out") {
            let said = clean!("{left_out} units are not looked at, one check looks at {MAX_UNITS}");
            findings.push(Finding::new("too_many_units", Weight::Warn, true, said));
        }
        findings
    }
}

/// A name without an ending is a service.
fn whole(unit: &str) -> String {
    if is_unit(unit) { unit.to_owned() } else { format!("{unit}.service") }
}

fn is_timer(unit: &str) -> bool {
    unit.rsplit_once('.').is_some_and(|(_, kind)| kind == "timer")
}

/// What `systemctl` said.
struct Looked {
    asked: Vec<String>,
    left_out: usize,
    units: Vec<Unit>,
}

async fn look(settings: &Settings, cx: &Cx) -> Result<Looked, Unread> {
    // Where there are too many, those that are named come before those that failed, and timers last.
    let mut order: Vec<String> = settings.units.iter().map(|unit| whole(unit)).collect();
    let wanted = |name: &String| !settings.ignore.iter().any(|pattern| pattern.is_match(name));
    if settings.failed {
        order.extend(listed(settings, &["--state=failed"], cx).await?.into_iter().filter(wanted));
        // What failed at the last look is seen once more, so that its end can be told.
        let before = cx.past.read.iter().flat_map(|(_, facts)| facts.iter());
        let failed =
            before.filter(|(_, name, fact)| name.as_str() == "active_state" && fact.value == Value::from("failed"));
        order.extend(failed.map(|(subject, _, _)| subject.as_str().to_owned()).filter(|name| is_unit(name)));
    }
    if settings.timers {
        order.extend(listed(settings, &["--type=timer", "--state=active"], cx).await?.into_iter().filter(wanted));
    }
    let mut there = BTreeSet::new();
    order.retain(|unit| there.insert(unit.clone()));
    let left_out = order.len().saturating_sub(MAX_UNITS);
    order.truncate(MAX_UNITS);
    order.sort_unstable();
    let asked = order;
    if asked.is_empty() {
        return Ok(Looked { asked, left_out, units: Vec::new() });
    }
    // A timer starts the service of its own name, unless it says another.
    let mut all: BTreeSet<String> = asked.iter().cloned().collect();
    all.extend(asked.iter().filter_map(|name| Some(format!("{}.service", name.strip_suffix(".timer")?))));
    let mut units = shown(settings, &all, cx).await?;
    let others: BTreeSet<String> = asked
        .iter()
        .filter(|name| is_timer(name))
        .filter_map(|name| units.iter().find(|unit| unit.is_named(name))?.get("Unit").map(str::to_owned))
        .filter(|service| is_unit(service) && !units.iter().any(|unit| unit.is_named(service)))
        .collect();
    if !others.is_empty() {
        units.extend(shown(settings, &others, cx).await?);
    }
    Ok(Looked { asked, left_out, units })
}

async fn shown(settings: &Settings, names: &BTreeSet<String>, cx: &Cx) -> Result<Vec<Unit>, Unread> {
    let properties = format!("--property={PROPERTIES}");
    let mut arguments = vec!["show", &properties, "--"];
    arguments.extend(names.iter().map(String::as_str));
    Ok(show::units(&systemctl(settings, &arguments, cx).await?))
}

async fn listed(settings: &Settings, which: &[&str], cx: &Cx) -> Result<Vec<String>, Unread> {
    let mut arguments = vec!["list-units", "--all", "--full", "--plain", "--no-legend", "--output=json"];
    arguments.extend(which);
    let text = systemctl(settings, &arguments, cx).await?;
    let unclear = || Unread::target("systemctl_failed", clean!("`systemctl list-units` printed no list of units"));
    let names = show::names(&text).ok_or_else(unclear)?;
    Ok(names.into_iter().filter(|name| is_unit(name)).collect())
}

/// What `systemctl` prints, with moments in UTC: it names zones in ways that nobody can read back.
async fn systemctl(settings: &Settings, arguments: &[&str], cx: &Cx) -> Result<String, Unread> {
    let mut argv = vec!["systemctl", "--no-pager", "--no-ask-password"];
    if settings.user {
        argv.push("--user");
    }
    argv.extend(arguments);
    let mut env = vec![("TZ".to_owned(), Secret::public("UTC"))];
    if settings.user && cx.host.var("XDG_RUNTIME_DIR").is_none() {
        // Cron sets none, and without it the user's systemd is not found.
        let folder = cx.host.paths.run().join("user").join(rustix::process::getuid().as_raw().to_string());
        env.push(("XDG_RUNTIME_DIR".to_owned(), Secret::public(&folder.display().to_string())));
    }
    let argv = argv.into_iter().map(str::to_owned).collect();
    let command = Command { argv, env, max_output_bytes: MAX_OUTPUT, ..Command::default() };
    let ran = cx.host.run(&command, cx.deadline.checked_sub(MARGIN).unwrap_or(cx.deadline)).await?;
    let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
    let first = stderr.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing on stderr");
    let says = Clean::line(first, 300).quoted();
    match ran.exit {
        Exit::Status(0) if !ran.cut => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
        Exit::Status(0) => Err(Unread::target("systemctl_failed", clean!("`systemctl` prints more than 1 MiB"))),
        Exit::Status(_) if stderr.contains("not been booted with systemd") => {
            Err(Unread::blind("no_systemd", clean!("this machine was not started by systemd")))
        }
        Exit::Status(_) if settings.user && stderr.contains("Failed to connect to") => Err(Unread::blind(
            "no_user_systemd",
            clean!("no systemd of this user runs: `systemctl --user` says {says}"),
        )),
        Exit::Status(_) if stderr.contains("Access denied") || stderr.contains("Permission denied") => {
            Err(Unread::blind("not_allowed", clean!("`systemctl` says {says}")))
        }
        Exit::Status(status) => {
            Err(Unread::target("systemctl_failed", clean!("`systemctl` ended with status {status}: {says}")))
        }
        Exit::Signal(signal) => {
            Err(Unread::target("systemctl_failed", clean!("`systemctl` was ended by signal {signal}")))
        }
        Exit::TimedOut => {
            Err(Unread::target("systemctl_failed", clean!("`systemctl` was still waiting when its time was over")))
        }
    }
}

/// The states of a unit. They come and go with every run of a service, so only the state of its file is compared.
fn put(unit: &Unit, subject: &Subject, facts: &mut Facts) {
    for (fact, property) in [
        ("load_state", "LoadState"),
        ("active_state", "ActiveState"),
        ("sub_state", "SubState"),
        ("result", "Result"),
        ("type", "Type"),
    ] {
        if let Some(value) = unit.get(property) {
            facts.info(subject, fact, Clean::line(value, 64));
        }
    }
    if let Some(state) = unit.get("UnitFileState") {
        facts.state(subject, "unit_file_state", Clean::line(state, 64));
    }
    if let Some(status) = unit.number("ExecMainStatus") {
        facts.info(subject, "exit_status", status);
    }
    if let Some(at) = unit.moment("StateChangeTimestamp") {
        facts.info(subject, "since", at);
    }
    facts.info(subject, "triggered", unit.get("TriggeredBy").is_some());
}

fn put_timer(settings: &Settings, timer: &Unit, service: Option<&Unit>, subject: &Subject, cx: &Cx, facts: &mut Facts) {
    let now = cx.now.wall;
    let last = timer.moment("LastTriggerUSec");
    if let Some(last) = last {
        facts.info(subject, "last_trigger", last);
    }
    // Before a first trigger its age is that of the timer.
    let since = last.or_else(|| timer.moment("StateChangeTimestamp")).filter(|_| settings.max_age.is_some());
    if let Some(since) = since {
        let age = now.duration_since(since).as_secs().max(0);
        let edge = |at: Dur| Edge { at: at.0.as_secs_f64(), code: "not_triggered".into(), settled: true };
        let scale = Scale {
            unit: Measure::Seconds,
            worse: Worse::Above,
            warn: None,
            fail: settings.max_age.map(edge),
            says: clean!("was triggered last {} ago", span(age)),
            episode: None,
        };
        facts.gauge(subject, "last_trigger_s", age, scale);
    }
    // While what it starts still runs, what comes due is left out by systemd, and it says no time to come.
    if timer.get("SubState") != Some("running") {
        if let Some(next) = timer.moment("NextElapseUSecRealtime") {
            facts.info(subject, "next_elapse", next);
        }
        let grace = timer.span("AccuracyUSec").unwrap_or(ACCURACY) + SLACK;
        if let Some(missed) = missed(last, grace, subject, cx) {
            facts.info(subject, "missed", missed);
        }
    }
    if let Some(service) = service {
        let name = service.get("Id").unwrap_or_default();
        facts.info(subject, "service", Clean::line(name, 255));
        facts.info(subject, "service_result", Clean::line(service.get("Result").unwrap_or_default(), 64));
        if let Some(status) = service.number("ExecMainStatus") {
            facts.info(subject, "service_exit_status", status);
        }
    }
}

/// A time that an earlier look was told to expect, that is over, and since when nothing was triggered. Systemd itself always
/// names the time after that.
fn missed(last: Option<Timestamp>, grace: SignedDuration, subject: &Subject, cx: &Cx) -> Option<Timestamp> {
    let (_, before) = cx.past.read.as_ref()?;
    let at = |name| {
        before.get(subject, name).and_then(|fact| match fact.value {
            Value::At(at) => Some(at),
            _ => None,
        })
    };
    let second = SignedDuration::from_secs(1);
    let is_missed = |due: &Timestamp| {
        cx.now.wall.duration_since(*due) > grace && last.is_none_or(|last| due.duration_since(last) > second)
    };
    [at("missed"), at("next_elapse")].into_iter().flatten().find(is_missed)
}

/// Restarts of one service, as they were seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Restarts {
    /// What systemd counted up to the last look.
    n: u64,
    /// When how many were new.
    seen: Vec<(Timestamp, u64)>,
}

impl Restarts {
    /// Systemd counts from the last start by hand. What was counted before the first look is of nobody knows when.
    fn after(known: Option<&Self>, n: u64, now: Timestamp) -> Self {
        let mut seen = known.map(|known| known.seen.clone()).unwrap_or_default();
        seen.retain(|(at, _)| *at <= now && now.duration_since(*at) < RESTARTS_OVER);
        let new = known.map_or(0, |known| if n < known.n { n } else { n - known.n });
        if new > 0 {
            seen.push((now, new));
        }
        Self { n, seen }
    }
    fn sum(&self) -> u64 {
        self.seen.iter().map(|(_, new)| new).sum()
    }
}

fn restarts_scale(settings: &Settings, restarts: u64) -> Scale {
    Scale {
        unit: Measure::None,
        worse: Worse::Above,
        warn: Some(Edge { at: f64::from(settings.max_restarts), code: "restarts".into(), settled: false }),
        fail: None,
        says: clean!("was restarted {} in 24 h by systemd", count(restarts, "time", "times")),
        episode: None,
    }
}

fn assess_unit(facts: &Facts, subject: &Subject) -> Vec<Finding> {
    let text = |name| facts.text(subject, name).map_or("", Clean::as_str);
    let find = |code, weight, settled, said| Finding::new(code, weight, settled, said).on(subject);
    // What was listed for having failed and was stopped or removed since is over.
    let is_named = facts.flag(subject, "listed") == Some(false);
    match text("load_state") {
        "" | "loaded" | "merged" => {}
        _ if !is_named => return Vec::new(),
        "not-found" => return vec![find("not_found", Weight::Fail, true, clean!("there is no such unit"))],
        "masked" => return vec![find("masked", Weight::Warn, true, clean!("is masked, so nothing can start it"))],
        state => {
            return vec![find("bad_unit", Weight::Fail, true, clean!("systemd can't read its file ({state})"))];
        }
    }
    let mut findings = Vec::new();
    let result = text("result");
    let ended = how(result, facts.number(subject, "exit_status"));
    let ends_by_itself = text("type") == "oneshot" || facts.flag(subject, "triggered") == Some(true);
    match (text("active_state"), text("sub_state")) {
        ("failed", _) => {
            let since = at(facts, subject, "since").map(|at| format!(" at {at:.0}")).unwrap_or_default();
            findings.push(find("failed", Weight::Fail, true, clean!("failed{since}: {ended}")));
        }
        ("activating", "auto-restart" | "auto-restart-queued") => {
            findings.push(find("restarting", Weight::Fail, false, clean!("{ended}, and waits to be started again")));
        }
        ("inactive", _) if !is_named => {}
        ("inactive", _) if ends_by_itself && matches!(result, "" | "success") => {}
        ("inactive", _) if !matches!(result, "" | "success") => {
            findings.push(find("not_active", Weight::Fail, false, clean!("is not active: {ended}")));
        }
        ("inactive", _) => findings.push(find("not_active", Weight::Fail, false, clean!("is not active"))),
        _ => {}
    }
    let service_result = text("service_result");
    if !matches!(service_result, "" | "success") {
        let ended = how(service_result, facts.number(subject, "service_exit_status"));
        let ended = ended.strip_prefix("it ").unwrap_or(&ended);
        let said = clean!("what it starts, `{}`, {ended}", text("service"));
        findings.push(find("service_failed", Weight::Fail, true, said));
    }
    if let Some(missed) = at(facts, subject, "missed") {
        let last = at(facts, subject, "last_trigger")
            .map_or_else(|| "it was never triggered".to_owned(), |last| format!("it was triggered last at {last:.0}"));
        let said = clean!("was not triggered at its time, {missed:.0}: {last}");
        findings.push(find("missed", Weight::Warn, true, said));
    }
    findings
}

fn at(facts: &Facts, subject: &Subject, name: &'static str) -> Option<Timestamp> {
    match facts.get(subject, name)?.value {
        Value::At(at) => Some(at),
        _ => None,
    }
}

/// How something ended, from systemd's word for it (`systemd.service(5)`, `$SERVICE_RESULT`).
fn how(result: &str, status: Option<f64>) -> String {
    let number = status.map(|status| format!(" {status}")).unwrap_or_default();
    match result {
        "exit-code" => format!("it ended with exit status{number}"),
        "signal" => format!("it was ended by signal{number}"),
        "core-dump" => format!("it crashed (signal{number})"),
        "timeout" => "it took too long to start, run or stop".to_owned(),
        "watchdog" => "it gave no sign of life to systemd's watchdog".to_owned(),
        "oom-kill" => "it was killed for want of memory".to_owned(),
        "start-limit-hit" => "it was started too often, and is not started any more".to_owned(),
        "success" | "" => "it ended well".to_owned(),
        other => format!("it ended with `{other}`"),
    }
}

#[cfg(test)]
mod tests;
