//! Drift: what may log in, what runs by itself, what listens, what is installed, what lies in files, against what somebody
//! accepted. The first look is taken as it is, which is said; a person's `pulsecheck baseline accept` replaces it.

pub mod compare;
mod ports;
mod sources;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use self::compare::{Difference, Held};
use self::sources::{Look, Seen};
use super::common::{FILE_REASONS, LANE_REASONS, SPAWN_REASONS};
use super::remote::stop_at;
use super::{Boxed, Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Class, Facts, Finding, Subject, Unread, Weight};
use crate::host::spawn::{Command, Exit};
use crate::redact::Clean;
use crate::settings::{PathGlob, Pattern, Size};

/// Entries of `files`, each of which is a subject.
const MAX_GLOBS: usize = 100;
/// Patterns of `only` or `ignore`.
const MAX_PATTERNS: usize = 50;
/// Bytes kept of what a command prints.
const MAX_OUTPUT: usize = 1 << 20;
/// Left of the time for saying what was read before a command or a file was too slow.
const MARGIN: Duration = Duration::from_millis(100);

/// The kind.
pub struct Baseline;

/// Settings of `baseline`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Sets that this machine has: `authorized_keys` (who may log in by key), `sudoers` (with `sudoers.d`), `crontabs` (of
    /// the system and of users, and the scripts of `cron.daily` and its like), `ports` (what is listened on; UDP ports that
    /// clients are given are left out), `packages` (of dpkg and rpm).
    #[serde(default)]
    pub what: BTreeSet<What>,
    /// Files: paths or globs, `~/` allowed. Of each what it is, its mode, owner, group and the hash of what is in it.
    #[serde(default)]
    pub files: Vec<PathGlob>,
    /// A command, given to no shell: each line that it prints is a member.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Whose `authorized_keys` are read: by default everybody's in `/etc/passwd`, which takes root's rights.
    #[serde(default)]
    pub users: Vec<String>,
    /// Further files of authorised keys, where `sshd_config` names some.
    #[serde(default)]
    pub key_files: Vec<PathGlob>,
    /// Whether the programs that listen are part of it. Without root's rights only one's own can be told.
    #[serde(default = "yes")]
    pub programs: bool,
    /// Members that match none of these are left out.
    #[serde(default)]
    pub only: Vec<Pattern>,
    /// Members that match one of these are left out.
    #[serde(default)]
    pub ignore: Vec<Pattern>,
    /// The largest file that is hashed; a larger one can't be told and says so.
    #[serde(default = "max_file_size")]
    pub max_file_size: Size,
    /// How bad a difference is: `warn` or `fail`. By default a fail of keys, sudoers, crontabs and files, a warn of ports,
    /// packages and a command's lines.
    #[serde(default)]
    pub weight: Option<Severity>,
}

/// A set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Who may log in by key.
    AuthorizedKeys,
    /// Who may become whom.
    Sudoers,
    /// What cron runs.
    Crontabs,
    /// What is listened on.
    Ports,
    /// What is installed.
    Packages,
}

impl What {
    const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizedKeys => "authorized_keys",
            Self::Sudoers => "sudoers",
            Self::Crontabs => "crontabs",
            Self::Ports => "ports",
            Self::Packages => "packages",
        }
    }
}

/// How bad a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Yellow.
    Warn,
    /// Red.
    Fail,
}

const fn yes() -> bool {
    true
}
const fn max_file_size() -> Size {
    Size::mib(64)
}

/// The subject of a command's lines.
const OUTPUT: &str = "output";
/// The subjects of which a difference is a warn unless the config says otherwise.
const WARNS: [&str; 3] = ["ports", "packages", OUTPUT];

const ACCEPT: &str = "see who changed it; put it back, or accept it: pulsecheck baseline accept CHECK --why TEXT";

const fn reason(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human: true }
}
const BLIND: ReasonOutcome = ReasonOutcome::Unknown(Blame::Blind);
const TARGET: ReasonOutcome = ReasonOutcome::Unknown(Blame::Target);

const REASONS: &[ReasonDoc] = &[
    reason("drifted", ReasonOutcome::Fail, true, "it is not what was accepted", ACCEPT),
    reason("differs", ReasonOutcome::Warn, true, "it is not what was accepted, of a source that is a warn", ACCEPT),
    reason(
        "baseline_unverified",
        ReasonOutcome::Fail,
        true,
        "what it is compared with was changed or lost by something else than Pulsecheck, so nothing can be said of it",
        "see who changed the store, then accept anew: pulsecheck baseline accept CHECK --why TEXT",
    ),
    reason("too_large", BLIND, true, "a file is larger than is read", "raise `max_file_size` or leave the file out"),
    reason("too_many_files", BLIND, true, "a glob matches more files than are looked at", "make the glob narrower"),
    reason("unknown_account", BLIND, true, "a user of the config is not known here", "correct the name in `users`"),
    reason("no_packages", BLIND, true, "neither dpkg nor rpm keeps a list here", "take `packages` out of `what`"),
    reason("command_failed", TARGET, false, "the command did not end well", "see what it says when run by hand"),
    reason("output_too_long", BLIND, true, "the command prints more than is kept", "let it print less"),
    ReasonDoc {
        code: "store_unreadable",
        outcome: ReasonOutcome::Unknown(Blame::Ours),
        settled: false,
        about: "what was accepted can't be read now",
        action: "see pulsecheck status",
        needs_human: false,
    },
];

const fn fact(name: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class: "info", about }
}

impl Kind for Baseline {
    const DOC: KindDoc = KindDoc {
        name: "baseline",
        about: "Compares keys, sudoers, crontabs, ports, packages, files or a command's lines with what was accepted. A \
                difference is open until it is put back or accepted (`pulsecheck baseline show|diff|accept`). The first look \
                at a source is taken as its baseline, which `baseline show` says until a person accepts one. Part of a \
                source that could not be read is unknown, neither gone nor accepted.",
        subjects: "each source: `authorized_keys`, `sudoers`, `crontabs`, `ports`, `packages`, `output`, and each entry of `files`",
        facts: &[
            fact("members", "what is there, each `name` or `name is value`; foreign"),
            fact("count", "how many members there are"),
            fact("left_out", "members beyond the 5,000 that are kept"),
            fact("sha256", "over all members as they were read; of ports none"),
            fact("unread_parts", "what members begin with that could not be read"),
            fact("added", "members that the baseline has not; foreign"),
            fact("removed", "members that only the baseline has; foreign"),
            fact("changed", "members that were something else; foreign"),
            fact("newly_read", "parts that could not be read when the baseline was taken"),
            fact("hidden", "whether something differs that is not shown"),
            fact("baseline", "who accepted what it is compared with and why, or that the first look took it"),
            fact("baseline_at", "when that was"),
            fact("unverified", "why what it is compared with can't be verified"),
        ],
        reasons: &[REASONS, FILE_REASONS, SPAWN_REASONS, LANE_REASONS],
        example: r#"
[check.drift]
kind = "baseline"
what = ["authorized_keys", "sudoers", "crontabs", "ports"]
files = ["/etc/ssh/sshd_config", "/etc/systemd/system/*.service"]
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;
    const BASELINE: bool = true;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.what.is_empty() && settings.files.is_empty() && settings.argv.is_empty() {
            report("what", "nothing is compared (give `what`, `files` or `argv`)".to_owned());
        }
        let asks = |what| settings.what.contains(&what);
        let keys = [("users", settings.users.is_empty()), ("key_files", settings.key_files.is_empty())];
        for (key, _) in keys.into_iter().filter(|(_, unset)| !unset && !asks(What::AuthorizedKeys)) {
            report(key, format!("`{key}` is about `authorized_keys`, which is not in `what`"));
        }
        if !settings.programs && !asks(What::Ports) {
            report("programs", "`programs` is about `ports`, which is not in `what`".to_owned());
        }
        if settings.files.len() > MAX_GLOBS {
            report("files", format!("at most {MAX_GLOBS} entries (a glob stands for many files)"));
        }
        if settings.files.iter().collect::<BTreeSet<_>>().len() < settings.files.len() {
            report("files", "an entry is there twice".to_owned());
        }
        for (key, patterns) in [("only", &settings.only), ("ignore", &settings.ignore)] {
            if patterns.len() > MAX_PATTERNS {
                report(key, format!("at most {MAX_PATTERNS} patterns (`a|b` is one)"));
            }
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        cx.past.baselines.as_ref().map_err(Clone::clone)?;
        let until = stop_at(cx);
        let left = until.saturating_duration_since(Instant::now());
        let look = Look {
            paths: cx.host.paths.clone(),
            homes: Vec::new(),
            max_file: settings.max_file_size.0,
            // A reader stops by itself before it is given up on with all it read.
            until: until.checked_sub(MARGIN.min(left / 4)).unwrap_or(until),
        };
        let read = join_all(sources(settings, cx, &look, until)).await;
        // Of long lists it takes a while to make members, and all other checks wait for this thread.
        let (settings, past, now) = (settings.clone(), Arc::clone(&cx.past), cx.now.wall);
        let about = format!("what `{}` read", cx.check);
        cx.host.lane(&about, cx.deadline, move || compared(&settings, &past, read, now)).await
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        facts.subjects().iter().filter_map(|subject| judge(settings, facts, subject)).collect()
    }
}

fn judge(settings: &Settings, facts: &Facts, subject: &Subject) -> Option<Finding> {
    if let Some(why) = facts.text(subject, "unverified") {
        let said = clean!("what it is compared with can't be verified: {why}");
        let episode = Some(Clean::new("unverified"));
        return Some(Finding { episode, ..Finding::new("baseline_unverified", Weight::Fail, true, said).on(subject) });
    }
    let difference = Difference::of(facts, subject);
    if difference.is_empty() {
        return None;
    }
    let weight = match settings.weight {
        Some(Severity::Warn) => Weight::Warn,
        None if WARNS.contains(&subject.as_str()) => Weight::Warn,
        Some(Severity::Fail) | None => Weight::Fail,
    };
    let code = if weight == Weight::Fail { "drifted" } else { "differs" };
    let since = facts.get(subject, "baseline_at").and_then(|fact| match fact.value {
        crate::facts::Value::At(at) => Some(at.strftime("%Y-%m-%d").to_string()),
        _ => None,
    });
    let since = since.map(|day| format!(" since the baseline of {day}")).unwrap_or_default();
    let said = clean!("{}{since}", difference.words());
    let episode = Some(difference.episode());
    Some(Finding { episode, ..Finding::new(code, weight, true, said).on(subject) })
}

/// What was read, beside what it is compared with.
fn compared(settings: &Settings, past: &Past, read: Vec<(Subject, Result<Seen, Unread>)>, now: Timestamp) -> Fetched {
    let mut fetched = Fetched::default();
    for (subject, seen) in read {
        let accepted = accepted(past, &subject);
        match &accepted {
            Some(Err(why)) => fetched.facts.info(&subject, "unverified", why.clone()),
            // Also where nothing is read now: it is how the next look knows that there was one.
            Some(Ok((accepted, _))) => fetched.facts.info(&subject, "baseline_at", accepted.at),
            None => {}
        }
        match seen {
            Ok(seen) => {
                fetched.unread.extend(seen.unread_as_one().map(|unread| (subject.clone(), unread)));
                let held = held(settings, seen);
                put(&held, &subject, accepted, now, &mut fetched);
            }
            Err(unread) => drop(fetched.unread.insert(subject, unread)),
        }
    }
    fetched
}

/// What a source is compared with and what that held, or why it can't be verified; none where there never was one.
fn accepted<'a>(past: &'a Past, subject: &Subject) -> Option<Result<(&'a super::Baseline, Held), Clean>> {
    match past.baselines.as_ref().ok().and_then(|known| known.get(subject)) {
        Some(Ok(accepted)) => {
            let before = Held::of(&accepted.facts, subject);
            Some(before.map(|before| (accepted, before)).ok_or_else(|| Clean::new("its record holds no members")))
        }
        Some(Err(why)) => Some(Err(why.clone())),
        // The last look knew one, or missed one already: nothing but a person's word makes this look the first.
        None => {
            let (_, facts) = past.read.as_ref()?;
            let known = ["baseline_at", "unverified"].into_iter().any(|name| facts.get(subject, name).is_some());
            known.then(|| Err(Clean::new("one was taken, and every trace of it is gone")))
        }
    }
}

/// Every source, and what will have been read of it.
fn sources<'a>(
    settings: &'a Settings,
    cx: &'a Cx,
    look: &Look,
    until: Instant,
) -> Vec<Boxed<'a, (Subject, Result<Seen, Unread>)>> {
    let mut reads: Vec<Boxed<'a, _>> = Vec::new();
    for what in &settings.what {
        let look = look.clone();
        reads.push(Box::pin(async move {
            (Subject::new(what.as_str()), of_machine(*what, settings, cx, look, until).await)
        }));
    }
    for glob in &settings.files {
        let (look, pattern) = (look.clone(), cx.host.expand(glob.as_str()));
        reads.push(Box::pin(async move {
            let about = pattern.display().to_string();
            let seen = cx.host.lane(&about, until, move || look.files(&pattern)).await;
            (Subject::new(glob.as_str()), seen.and_then(|seen| seen))
        }));
    }
    if !settings.argv.is_empty() {
        reads.push(Box::pin(async move { (Subject::new(OUTPUT), output(&settings.argv, cx).await) }));
    }
    reads
}

async fn of_machine(what: What, settings: &Settings, cx: &Cx, mut look: Look, until: Instant) -> Result<Seen, Unread> {
    let about = format!("{} of {}", what.as_str(), look.paths.etc().display());
    match what {
        What::AuthorizedKeys => {
            let homes = cx.host.accounts(until).await?.homes().to_vec();
            for user in &settings.users {
                if !homes.iter().any(|(name, _)| name == user) {
                    return Err(Unread::blind("unknown_account", clean!("this machine knows no user `{user}`")));
                }
            }
            let mut seen = BTreeSet::new();
            look.homes = homes;
            // Of several users with one home the first stands for all.
            look.homes.retain(|(name, home)| {
                (settings.users.is_empty() || settings.users.contains(name)) && seen.insert(home.clone())
            });
            let further: Vec<PathBuf> = settings.key_files.iter().map(|glob| cx.host.expand(glob.as_str())).collect();
            cx.host.lane(&about, until, move || look.keys(&further)).await?
        }
        What::Sudoers => cx.host.lane(&about, until, move || look.sudoers()).await,
        What::Crontabs => cx.host.lane(&about, until, move || look.crontabs()).await,
        What::Ports => {
            let programs = settings.programs;
            cx.host.lane(&about, until, move || ports::read(&look.paths.proc, programs, look.until)).await?
        }
        What::Packages => {
            let (dpkg, rpm) = cx.host.lane(&about, until, move || (look.dpkg(), look.has_rpm())).await?;
            packages(dpkg?, rpm, cx).await
        }
    }
}

async fn packages(dpkg: Option<Seen>, rpm: bool, cx: &Cx) -> Result<Seen, Unread> {
    if !rpm {
        let none = || Unread::blind("no_packages", Clean::new("neither dpkg nor rpm keeps a list of packages here"));
        return dpkg.ok_or_else(none);
    }
    let mut seen = dpkg.unwrap_or_else(Seen::whole);
    let format = "%{NAME} %{ARCH} is %{EPOCHNUM}:%{VERSION}-%{RELEASE}\\n";
    let argv = ["rpm", "-qa", "--qf", format].map(str::to_owned);
    match output(&argv, cx).await {
        Ok(listed) => seen.members.extend(listed.members.iter().map(|line| format!("rpm {line}"))),
        Err(unread) => drop(seen.unread.insert("rpm".to_owned(), unread)),
    }
    Ok(seen)
}

/// The lines that a command prints.
async fn output(argv: &[String], cx: &Cx) -> Result<Seen, Unread> {
    let command = Command { argv: argv.to_vec(), max_output_bytes: MAX_OUTPUT, ..Command::default() };
    let ran = cx.host.run(&command, cx.deadline.checked_sub(MARGIN).unwrap_or(cx.deadline)).await?;
    let failed = |happened: &str| {
        let stderr = String::from_utf8_lossy(&ran.stderr).into_owned();
        let first =
            stderr.lines().map(str::trim).find(|line| !line.is_empty()).map(|line| Clean::line(line, 300).quoted());
        let said = first.map_or_else(|| clean!("{happened}"), |first| clean!("{happened}: {first}"));
        Unread::target("command_failed", said)
    };
    match ran.exit {
        Exit::Status(0) if ran.cut => {
            Err(Unread::blind("output_too_long", Clean::new("the command prints more than 1 MiB")))
        }
        Exit::Status(0) => {
            let text = String::from_utf8_lossy(&ran.stdout);
            let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
            Ok(Seen { members: lines.map(str::to_owned).collect(), ..Seen::whole() })
        }
        Exit::Status(status) => Err(failed(&format!("exit status {status}"))),
        Exit::Signal(signal) => Err(failed(&format!("ended by signal {signal}"))),
        Exit::TimedOut => Err(failed("still running when its time was over")),
    }
}

/// What was read, without what the config leaves out.
fn held(settings: &Settings, seen: Seen) -> Held {
    let matches = |patterns: &[Pattern], member: &str| patterns.iter().any(|pattern| pattern.is_match(member));
    let wanted = |member: &String| {
        (settings.only.is_empty() || matches(&settings.only, member)) && !matches(&settings.ignore, member)
    };
    let Seen { mut members, unread, hashed, cut } = seen;
    members.retain(wanted);
    let held = Held::new(members, unread.keys().map(|part| Clean::line(part, 300)).collect(), hashed);
    // Beyond the last file that was looked at nothing is known by name.
    Held { left_out: held.left_out.max(u64::from(cut)), ..held }
}

fn put(
    held: &Held,
    subject: &Subject,
    accepted: Option<Result<(&super::Baseline, Held), Clean>>,
    now: Timestamp,
    fetched: &mut Fetched,
) {
    let facts = &mut fetched.facts;
    held.put(subject, facts);
    match accepted {
        Some(Ok((accepted, before))) => {
            compare::between(&before, held).put(subject, facts);
            let said = match &accepted.by {
                Some(by) => clean!("accepted by {by}: {}", accepted.why.quoted()),
                None => Clean::new("taken by a first look, accepted by nobody"),
            };
            facts.put_foreign(subject, "baseline", said, Class::Info);
        }
        // What can't be verified is not compared with, and not taken anew.
        Some(Err(_)) => {}
        None => {
            facts.put_foreign(subject, "baseline", "taken by this look, accepted by nobody", Class::Info);
            facts.info(subject, "baseline_at", now);
            let kept = compare::to_keep(facts, subject).unwrap_or_default();
            for (subject, name, fact) in kept.iter() {
                fetched.baseline.put(subject, name.clone(), fact.value.clone(), fact.class.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests;
