//! The settings of the kind `access`, and what contradicts itself in them.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use super::JOURNAL;
use super::rules::{self, Means, Own, Preset, Trusted};
use crate::redact::Clean;
use crate::settings::{Dur, PathGlob, Size};

/// Rules of one check.
const MAX_RULES: usize = 30;
/// Bytes that may be read in one look.
const MOST_BYTES: u64 = 1 << 30;

/// Which logs to read, what to look for in them, and what is too much.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Log files, or globs of them. What a rotation made of one of them is found by itself.
    #[serde(default)]
    pub(super) files: Vec<PathGlob>,
    /// Whether the systemd journal is read: `yes`, `no`, or `if_no_file` when none of `files` can be read and was written to
    /// within a week. By default `yes` without `files`, else `no`: many hosts write the same lines into both.
    pub(super) journal: Option<Journal>,
    /// What of the journal is read, as in `journalctl FIELD=VALUE`: `_SYSTEMD_UNIT=myapp.service`. The presets add what
    /// they need.
    #[serde(default)]
    pub(super) journal_matches: Vec<String>,
    /// Sets of rules that come with Pulsecheck: `sshd`, `sudo`, `pam`, `web` (nginx, Apache).
    #[serde(default)]
    pub(super) presets: Vec<Preset>,
    /// Rules of your own.
    #[serde(default)]
    pub(super) patterns: Vec<Own>,
    /// Who is never new: addresses, networks (`10.0.0.0/8`), users.
    #[serde(default)]
    pub(super) trusted: Vec<String>,
    /// So many times more than usual in an hour is a burst.
    #[serde(default = "five")]
    pub(super) burst_factor: f64,
    /// No fewer than this in an hour are a burst, whatever is usual.
    #[serde(default = "twenty")]
    pub(super) burst_floor: u32,
    /// More failures or events of one rule in an hour are a fail, whatever is usual.
    pub(super) max_per_hour: Option<u32>,
    /// A login from where so many failures came shortly before is a fail: fewer are somebody who mistyped.
    #[serde(default = "ten")]
    pub(super) failures_before_login: u32,
    /// Fail when no line came for so long. By default a log may stand still.
    pub(super) max_quiet: Option<Dur>,
    /// Bytes that one look reads of files, at most 1GiB; what is left waits for the next look.
    #[serde(default = "much")]
    pub(super) max_bytes: Size,
    /// Whether it is fine that none of the logs is there, as in a container: said, and no trouble.
    #[serde(default)]
    pub(super) optional: bool,
}

const fn five() -> f64 {
    5.0
}
const fn ten() -> u32 {
    10
}
const fn twenty() -> u32 {
    20
}
const fn much() -> Size {
    Size(64 << 20)
}

/// Whether the journal is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Journal {
    /// Always.
    Yes,
    /// Never.
    No,
    /// When none of the files can be read, or nobody wrote to one for a week.
    IfNoFile,
}

impl Settings {
    pub(super) fn journal_mode(&self) -> Journal {
        self.journal.unwrap_or(if self.files.is_empty() { Journal::Yes } else { Journal::No })
    }
    /// What journalctl is asked for: fields of the same name are alternatives, and `+` parts what stands beside each other.
    pub(super) fn matches(&self) -> Vec<String> {
        let mut matches: Vec<String> =
            rules::identifiers(&self.presets).map(|identifier| format!("SYSLOG_IDENTIFIER={identifier}")).collect();
        if !matches.is_empty() && !self.journal_matches.is_empty() {
            matches.push("+".to_owned());
        }
        matches.extend(self.journal_matches.iter().cloned());
        matches
    }
    /// Whether something is looked for at all: else that is the problem to tell.
    fn problem_free(&self) -> bool {
        !(self.presets.is_empty() && self.patterns.is_empty())
    }
}

/// Settings that contradict each other.
pub(super) fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    let mode = settings.journal_mode();
    if settings.presets.is_empty() && settings.patterns.is_empty() {
        report("presets", "nothing to look for (give `presets` or `patterns`)".to_owned());
    }
    if mode == Journal::No && settings.files.is_empty() {
        report("files", "nothing to read (give `files`, or leave `journal` out)".to_owned());
    }
    if mode == Journal::IfNoFile && settings.files.is_empty() {
        report("journal", "`if_no_file` needs `files` (say `yes` to read the journal alone)".to_owned());
    }
    if mode != Journal::No && settings.matches().is_empty() && settings.problem_free() {
        let said = "the whole journal would be read (give `journal_matches`, as in `_SYSTEMD_UNIT=myapp.service`)";
        report("journal_matches", said.to_owned());
    }
    if mode == Journal::No && !settings.journal_matches.is_empty() {
        report("journal_matches", "the journal is not read (set `journal` to `yes` or `if_no_file`)".to_owned());
    }
    for pair in &settings.journal_matches {
        let name = pair.split_once('=').map_or("", |(name, _)| name);
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        if pair != "+" && (name.is_empty() || !name.chars().all(plain) || pair.chars().any(char::is_control)) {
            report("journal_matches", format!("expected `FIELD=VALUE` or `+`, found `{}`", Clean::line(pair, 60)));
        }
    }
    validate_rules(settings, report);
    for text in settings.trusted.iter().filter(|text| Trusted::parse(text).is_none()) {
        report("trusted", format!("`{}` is no address, network or user", Clean::line(text, 60)));
    }
    if !(settings.burst_factor.is_finite() && settings.burst_factor > 1.0) {
        report("burst_factor", "expected a number above 1".to_owned());
    }
    for (key, zero) in [
        ("burst_floor", settings.burst_floor == 0),
        ("failures_before_login", settings.failures_before_login == 0),
        ("max_per_hour", settings.max_per_hour == Some(0)),
    ] {
        if zero {
            report(key, "expected at least 1".to_owned());
        }
    }
    if settings.max_quiet.is_some_and(Dur::is_zero) {
        report("max_quiet", "expected a duration above 0s".to_owned());
    }
    if !(1..=MOST_BYTES).contains(&settings.max_bytes.0) {
        report("max_bytes", "expected a size up to 1GiB".to_owned());
    }
}

fn validate_rules(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    let mut names = BTreeSet::new();
    let twice = rules::names(&settings.presets).filter(|(name, _)| !names.insert((*name).to_owned())).count();
    if twice > 0 {
        report("presets", "a preset stands twice".to_owned());
    }
    for own in &settings.patterns {
        let shown = Clean::line(&own.name, 60);
        if !crate::facts::is_name(&own.name) {
            report("patterns", format!("`{shown}` is no name (small letters, digits, `-`, `_`, `.`)"));
        }
        if own.name == JOURNAL || !names.insert(own.name.clone()) {
            report("patterns", format!("the name `{shown}` is taken already"));
        }
        let groups = || own.regex.regex().capture_names().flatten();
        if let Some(key) = own.key.as_deref().filter(|key| groups().all(|group| group != *key)) {
            let said = format!("`{shown}`: the expression has no group `(?P<{}>…)`", Clean::line(key, 60));
            report("patterns", said);
        }
        if own.means == Means::Login && own.key.is_none() {
            report("patterns", format!("`{shown}`: a login needs `key`, the group that holds who it was"));
        }
    }
    if names.len() > MAX_RULES {
        report("patterns", format!("at most {MAX_RULES} rules fit into one check (make it two)"));
    }
}
