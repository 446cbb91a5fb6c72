//! A command's verdict: any Nagios plugin or script. The exit status decides, never the text; what it prints is foreign.

pub mod nagios;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use self::nagios::{Metric, Output, Uom};
use super::common::{LANE_REASONS, SECRET_REASONS, SPAWN_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Class, Facts, Finding, MAX_TEXT_BYTES, Scale, Subject, Unit, Unread, Weight};
use crate::host::spawn::{self, Exit};
use crate::redact::{Clean, Secret};
use crate::settings::{Pattern, SecretRef};

/// Bytes kept of each stream.
const MAX_OUTPUT: usize = 64 << 10;
/// Bytes that a command may be given on stdin.
const MAX_STDIN: usize = 64 << 10;
/// Left before the fetch's own deadline, so that a command that is too slow is killed and said here.
const MARGIN: Duration = Duration::from_millis(250);

/// The kind.
pub struct Command;

/// Settings of `command`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The program and its arguments, given to no shell. A leading `~/` of the program stands for the home.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Instead of `argv`: a line for `/bin/sh -c`. Whatever is pasted into it is run.
    #[serde(default)]
    pub shell: Option<String>,
    /// The folder to run it in.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Variables of its environment, beside the few that every command gets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Variables whose values are secrets: `env:NAME`, `file:PATH` or `cred:NAME`.
    #[serde(default)]
    pub secret_env: BTreeMap<String, SecretRef>,
    /// What it reads on stdin; empty by default.
    #[serde(default)]
    pub stdin: Option<String>,
    /// What the exit statuses mean, where they are not those of a Nagios plugin.
    #[serde(default)]
    pub exit_codes: ExitCodes,
    /// Whether what follows a `|` in its output is read as performance data.
    #[serde(default = "yes")]
    pub perfdata: bool,
    /// What its stdout, without the line break at its end, has to match, when the exit status says that all is well.
    #[serde(default)]
    pub expect_output: Option<Pattern>,
    /// Whether what it finds can't pass by itself, so that one observation is enough.
    #[serde(default)]
    pub settled: bool,
}

const fn yes() -> bool {
    true
}

/// What exit statuses mean; any other is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExitCodes {
    /// All is well: by default 0.
    #[serde(default = "zero")]
    pub ok: BTreeSet<u8>,
    /// A warn: by default 1.
    #[serde(default = "one")]
    pub warn: BTreeSet<u8>,
    /// A fail: by default 2.
    #[serde(default = "two")]
    pub fail: BTreeSet<u8>,
}

fn zero() -> BTreeSet<u8> {
    BTreeSet::from([0])
}
fn one() -> BTreeSet<u8> {
    BTreeSet::from([1])
}
fn two() -> BTreeSet<u8> {
    BTreeSet::from([2])
}

impl Default for ExitCodes {
    fn default() -> Self {
        Self { ok: zero(), warn: one(), fail: two() }
    }
}

/// What one exit status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Ok,
    Found(Weight),
    Unknown,
}

impl ExitCodes {
    fn meaning(&self, status: i32) -> Meaning {
        match u8::try_from(status) {
            Ok(status) if self.fail.contains(&status) => Meaning::Found(Weight::Fail),
            Ok(status) if self.warn.contains(&status) => Meaning::Found(Weight::Warn),
            Ok(status) if self.ok.contains(&status) => Meaning::Ok,
            _ => Meaning::Unknown,
        }
    }
}

const fn doc(code: &'static str, outcome: ReasonOutcome, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome, settled: false, about, action, needs_human: false }
}
const TARGET: ReasonOutcome = ReasonOutcome::Unknown(Blame::Target);
const ACTION: &str = "see what the command says, run it by hand";

const REASONS: &[ReasonDoc] = &[
    doc("exit_warn", ReasonOutcome::Warn, "its exit status is a warning; settled where the check says so", ACTION),
    doc("exit_fail", ReasonOutcome::Fail, "its exit status is a failure; settled where the check says so", ACTION),
    doc(
        "output_unexpected",
        ReasonOutcome::Fail,
        "its exit status is well, its output is not what it has to be",
        ACTION,
    ),
    doc("exit_unknown", TARGET, "its exit status means unknown, or nothing that is known", ACTION),
    doc("killed", TARGET, "a signal ended it", "see what killed it: the kernel's log, its own"),
    doc(
        "timed_out",
        TARGET,
        "it was still running at the deadline",
        "see why it is slow, or give it a longer `timeout`",
    ),
];

/// Facts of its own; performance data of the same name stands beside them with `perf_` before its name.
const FACTS: &[FactDoc] = &[
    FactDoc { name: "exit_status", class: "info", about: "its exit status" },
    FactDoc { name: "signal", class: "info", about: "the signal that ended it" },
    FactDoc { name: "timed_out", class: "info", about: "whether it was killed at the deadline" },
    FactDoc { name: "took_ms", class: "info", about: "how long it ran" },
    FactDoc { name: "output", class: "info", about: "the first line it printed: of stdout, else of stderr" },
    FactDoc { name: "output_matches", class: "info", about: "whether stdout matches `expect_output`" },
    FactDoc {
        name: "output_cut",
        class: "info",
        about: "whether it printed more than is kept (64 KiB a stream; performance data: 8 KiB, 200 values)",
    },
    FactDoc { name: "beyond", class: "info", about: "performance data beyond the command's own ranges" },
    FactDoc { name: "perfdata_malformed", class: "info", about: "pieces of performance data not to be understood" },
    FactDoc { name: "*", class: "gauge", about: "performance data by its label; of the unit `c`: a counter" },
];

impl Kind for Command {
    const DOC: KindDoc = KindDoc {
        name: "command",
        about: "Runs a Nagios plugin or any script, and takes its exit status as the verdict: 0 well, 1 warn, 2 fail, \
                all else unknown.",
        subjects: "",
        facts: FACTS,
        reasons: &[REASONS, SPAWN_REASONS, SECRET_REASONS, LANE_REASONS],
        example: r#"
[check.backup-age]
kind = "command"
argv = ["/usr/lib/nagios/plugins/check_file_age", "-w", "90000", "-c", "180000", "/var/backups/latest.tar"]
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        match (settings.argv.first(), &settings.shell) {
            (Some(_), Some(_)) => report("shell", "`argv` and `shell` exclude each other".to_owned()),
            (None, None) => {
                report("argv", "there is nothing to run (give `argv`, or a line for the `shell`)".to_owned());
            }
            (Some(program), None) if program.is_empty() => report("argv", "the program's name is empty".to_owned()),
            (None, Some(line)) if line.trim().is_empty() => report("shell", "the line is empty".to_owned()),
            _ => {}
        }
        let words = settings.argv.iter().chain(&settings.shell).chain(settings.env.values());
        if words.chain(settings.env.keys()).chain(settings.secret_env.keys()).any(|word| word.contains('\0')) {
            report("argv", "a NUL can't be handed to a command".to_owned());
        }
        for (key, names) in [
            ("env", settings.env.keys().collect::<Vec<_>>()),
            ("secret_env", settings.secret_env.keys().collect::<Vec<_>>()),
        ] {
            for name in names {
                if name.is_empty() || name.contains('=') {
                    report(key, format!("`{name}` is no name of a variable"));
                }
            }
        }
        for name in settings.secret_env.keys().filter(|name| settings.env.contains_key(*name)) {
            report("secret_env", format!("`{name}` stands in `env` too"));
        }
        if settings.stdin.as_ref().is_some_and(|stdin| stdin.len() > MAX_STDIN) {
            report("stdin", format!("it is longer than {MAX_STDIN} bytes"));
        }
        let ExitCodes { ok, warn, fail } = &settings.exit_codes;
        for status in ok.intersection(warn).chain(ok.intersection(fail)).chain(warn.intersection(fail)) {
            report("exit_codes", format!("{status} stands in two lists (a list that is not given keeps its default)"));
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let command = command(settings, cx).await?;
        let deadline = cx.deadline.checked_sub(MARGIN).unwrap_or(cx.deadline);
        let ran = cx.host.run(&command, deadline).await?;

        let mut fetched = Fetched::default();
        let none = Subject::none();
        let stdout = String::from_utf8_lossy(&ran.stdout);
        let output = if settings.perfdata {
            nagios::parse(&stdout)
        } else {
            Output { first: stdout.lines().next().unwrap_or_default().trim().to_owned(), ..Output::default() }
        };
        put_metrics(&output, &mut fetched.facts);
        let facts = &mut fetched.facts;
        facts.info(&none, "took_ms", u64::try_from(ran.took.as_millis()).unwrap_or(u64::MAX));
        let said = first_line(&output, &stdout, &ran.stderr);
        if let Some(said) = &said {
            facts.put_foreign(&none, "output", Clean::line(said, MAX_TEXT_BYTES), Class::Info);
        }
        if ran.cut || output.cut {
            facts.info(&none, "output_cut", true);
        }
        if output.malformed > 0 {
            facts.info(&none, "perfdata_malformed", output.malformed);
        }
        if let Some(pattern) = &settings.expect_output {
            facts.info(&none, "output_matches", pattern.is_match(stdout.trim_end()));
        }
        match ran.exit {
            Exit::Status(status) => facts.info(&none, "exit_status", i64::from(status)),
            Exit::Signal(signal) => facts.info(&none, "signal", i64::from(signal)),
            Exit::TimedOut => facts.info(&none, "timed_out", true),
        }
        if let Some(unread) = unknown(settings, ran.exit, facts, ran.took) {
            fetched.unread.insert(none, unread);
        }
        Ok(fetched)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let Some(status) = status(facts) else { return Vec::new() };
        match settings.exit_codes.meaning(status) {
            Meaning::Found(weight) => {
                let code = if weight == Weight::Warn { "exit_warn" } else { "exit_fail" };
                vec![Finding::new(code, weight, settings.settled, worded(&format!("exit status {status}"), facts))]
            }
            Meaning::Ok if facts.flag(&Subject::none(), "output_matches") == Some(false) => {
                let said = worded("its output is not what it has to be", facts);
                vec![Finding::new("output_unexpected", Weight::Fail, settings.settled, said)]
            }
            Meaning::Ok | Meaning::Unknown => Vec::new(),
        }
    }
}

async fn command(settings: &Settings, cx: &Cx) -> Result<spawn::Command, Unread> {
    let mut argv = settings.argv.clone();
    if let Some(line) = &settings.shell {
        argv = vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()];
    } else if let Some(program) = argv.first_mut().filter(|program| program.starts_with("~/")) {
        *program = cx.host.expand(program).to_string_lossy().into_owned();
    }
    let mut env = Vec::new();
    for (name, value) in &settings.env {
        env.push((name.clone(), Secret::public(value)));
    }
    for (name, at) in &settings.secret_env {
        env.push((name.clone(), cx.host.secret(at).await?));
    }
    Ok(spawn::Command {
        argv,
        cwd: settings.cwd.as_ref().map(|cwd| cx.host.expand(cwd)),
        env,
        stdin: settings.stdin.as_ref().map(|stdin| stdin.clone().into_bytes()),
        max_output_bytes: MAX_OUTPUT,
    })
}

/// The first line that says something: of stdout, else of stderr.
fn first_line(output: &Output, stdout: &str, stderr: &[u8]) -> Option<String> {
    let line = |text: &str| text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned);
    if !output.first.is_empty() {
        return Some(output.first.clone());
    }
    // A plugin may print performance data alone, or begin with an empty line.
    output.more.first().cloned().or_else(|| line(stdout)).or_else(|| line(&String::from_utf8_lossy(stderr)))
}

fn status(facts: &Facts) -> Option<i32> {
    match facts.get(&Subject::none(), "exit_status")?.value {
        crate::facts::Value::Int(status) => i32::try_from(status).ok(),
        _ => None,
    }
}

/// What happened, and the command's own words in quotes.
fn worded(happened: &str, facts: &Facts) -> Clean {
    let none = Subject::none();
    let says = facts.text(&none, "output").map_or_else(|| "no output".to_owned(), |said| said.quoted().to_string());
    match facts.text(&none, "beyond") {
        Some(beyond) => clean!("{happened}: {says}; beyond its range: {}", beyond.quoted()),
        None => clean!("{happened}: {says}"),
    }
}

/// Why an ending is no verdict; none where it is one.
fn unknown(settings: &Settings, exit: Exit, facts: &Facts, took: Duration) -> Option<Unread> {
    let (code, happened) = match exit {
        Exit::Status(status) if settings.exit_codes.meaning(status) != Meaning::Unknown => return None,
        // What shells, `env`, `timeout` and their like say of a program that they could not start.
        Exit::Status(127) => {
            return Some(Unread::blind("program_not_found", worded("exit status 127, no such program", facts)));
        }
        Exit::Status(126) => {
            let said = worded("exit status 126, the program may not be run", facts);
            return Some(Unread::blind("program_not_executable", said));
        }
        Exit::Status(status) => ("exit_unknown", format!("exit status {status}")),
        Exit::Signal(signal) => ("killed", format!("ended by signal {signal}")),
        Exit::TimedOut => ("timed_out", format!("killed after {:.1} s, still running", took.as_secs_f64())),
    };
    Some(Unread::target(code, worded(&happened, facts)))
}

/// Puts the measurements, in base units. Their ranges are the plugin's business, which its exit status has judged: they
/// are named where a value is beyond one, and not judged again.
fn put_metrics(output: &Output, facts: &mut Facts) {
    let none = Subject::none();
    let mut beyond = Vec::new();
    for metric in &output.metrics {
        let Some(value) = metric.value else { continue };
        let (factor, class) = match metric.unit() {
            Uom::Count => (1.0, Class::Gauge(Box::new(Scale::plain(Unit::None)))),
            Uom::Seconds(factor) => (factor, Class::Gauge(Box::new(Scale::plain(Unit::Seconds)))),
            Uom::Bytes(factor) => (factor, Class::Gauge(Box::new(Scale::plain(Unit::Bytes)))),
            Uom::Percent => (1.0, Class::Gauge(Box::new(Scale::plain(Unit::Percent)))),
            Uom::Counter => (1.0, Class::Counter(Box::new(Scale::plain(Unit::None)))),
        };
        facts.put_foreign(&none, fact_name(&metric.label), value * factor, class);
        if let Some(range) = exceeded(metric, value) {
            beyond.push(format!("{} ({range})", metric.label));
        }
    }
    if !beyond.is_empty() {
        facts.put_foreign(&none, "beyond", beyond.join(", "), Class::Info);
    }
}

fn fact_name(label: &str) -> String {
    if FACTS.iter().any(|fact| fact.name == label) { format!("perf_{label}") } else { label.to_owned() }
}

fn exceeded(metric: &Metric, value: f64) -> Option<&'static str> {
    if metric.crit.is_some_and(|range| range.alerts(value)) {
        Some("critical")
    } else if metric.warn.is_some_and(|range| range.alerts(value)) {
        Some("warning")
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
