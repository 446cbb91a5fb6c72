//! Running processes: found by pid file, name, command line or user; how many, since when, how large, in which state.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{FILE_REASONS, LANE_REASONS, MISSING};
use super::words::as_number;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Blame, Edge, Facts, Finding, Scale, Subject, Unit, Unread, Weight, Worse};
use crate::host::procs::{Process as Row, ProcessState};
use crate::host::{files, mounts};
use crate::settings::{Dur, Pattern, Size};
use crate::words::{count, size, span};

/// Bytes of a short name that the kernel keeps (`TASK_COMM_LEN` less its end).
const SHORT_NAME_BYTES: usize = 15;
/// A pid file is written by the process itself or by who started it, a moment later; start times are whole seconds.
const PID_FILE_SLACK: SignedDuration = SignedDuration::from_secs(5);
/// Two readings of one start time differ by this at most.
const START_SLACK: SignedDuration = SignedDuration::from_secs(3);
/// Restarts are counted over this long.
const RESTARTS_OVER: SignedDuration = SignedDuration::from_hours(24);
/// Restarts that are remembered.
const MAX_RESTARTS: usize = 1_000;

/// The kind.
pub struct Process;

/// Settings of `process`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file with the process's id. Give `name` or `cmdline` too where the clock may be wrong while the machine
    /// starts: without them, a process that started after the file was written is taken for another one.
    #[serde(default)]
    pub pid_file: Option<String>,
    /// Its exact name: the short one that the kernel keeps (15 bytes), or the file name of the program it was started as.
    #[serde(default)]
    pub name: Option<String>,
    /// What program and arguments, joined by blanks, have to match. Processes of Pulsecheck itself, which may have the
    /// words of others in their arguments, are found by `name` only.
    #[serde(default)]
    pub cmdline: Option<Pattern>,
    /// Who has to run it: a name in `/etc/passwd` or a number.
    #[serde(default)]
    pub user: Option<String>,
    /// How many there have to be: by default at least one.
    #[serde(default)]
    pub count: Count,
    /// The greatest age of the oldest one; beyond it is a warn.
    #[serde(default)]
    pub max_age: Option<Dur>,
    /// The least age of the youngest one; below it is a warn.
    #[serde(default)]
    pub min_age: Option<Dur>,
    /// The most resident memory of all together; beyond it is a warn.
    #[serde(default)]
    pub max_memory: Option<Size>,
    /// Whether each restart of the oldest one is said, once.
    #[serde(default)]
    pub watch_restarts: bool,
    /// The most restarts of the oldest one in 24 hours; more are a warn. Those between two looks count as one.
    #[serde(default)]
    pub max_restarts: Option<u32>,
}

/// How many processes there have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// At least so many: by default 1; 0 is for what may be absent.
    #[serde(default = "one")]
    pub min: u32,
    /// At most so many; by default there is no limit.
    #[serde(default)]
    pub max: Option<u32>,
}

const fn one() -> u32 {
    1
}

impl Default for Count {
    fn default() -> Self {
        Self { min: 1, max: None }
    }
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
const START: &str = "start it, and see in its log why it ended";

const REASONS: &[ReasonDoc] = &[
    doc("not_running", FAIL, false, "no such process is running", START),
    doc("too_few", FAIL, false, "fewer are running than there have to be", "see which ones ended, and start them"),
    doc("too_many", FAIL, false, "more are running than there may be", "see which ones are left over, and end them"),
    doc("zombie", FAIL, false, "it is dead, and its parent did not collect it", "restart its parent"),
    doc("stopped", FAIL, false, "it is stopped by a signal or a debugger", "let it go on (kill -CONT) or restart it"),
    doc("disk_wait", WARN, false, "all of them wait for a disk or a share", "check the disk or the share that it uses"),
    doc("no_pid_file", FAIL, false, "its pid file is not there", START),
    doc("bad_pid_file", FAIL, false, "its pid file holds no process id", "restart it, see what writes the file"),
    doc("stale_pid_file", FAIL, false, "the process of its pid file is gone", START),
    doc("pid_reused", FAIL, false, "the id in its pid file belongs to another process", START),
    doc("too_old", WARN, true, "it runs for longer than it may", "see whether it hangs, and restart it"),
    doc("too_young", WARN, false, "it runs for less time than it has to", "see in its log why it was restarted"),
    doc("memory_high", WARN, false, "it holds more memory than it may", "see what it holds, or restart it"),
    doc("restarting", WARN, false, "it was restarted more often than it may be", "see in its log why it ends"),
    doc("unknown_account", BLIND, true, "the user is not known here", "correct the name or give its number"),
    doc(
        "processes_hidden",
        BLIND,
        true,
        "other users' processes are hidden from this user (`hidepid`)",
        "let the user that runs Pulsecheck see them (the `gid` option of /proc)",
    ),
];

impl Kind for Process {
    const DOC: KindDoc = KindDoc {
        name: "process",
        about: "Looks for running processes by pid file, name, command line or user.",
        subjects: "",
        facts: &[
            FactDoc { name: "running", class: "info", about: "how many are running" },
            FactDoc { name: "stopped", class: "info", about: "how many are stopped" },
            FactDoc { name: "zombies", class: "info", about: "how many are dead and not collected" },
            FactDoc { name: "disk_waits", class: "info", about: "how many wait for a disk" },
            FactDoc { name: "pid", class: "info", about: "the id of the oldest one" },
            FactDoc { name: "pid_file", class: "info", about: "`fits`, `missing`, `bad`, `stale` or `reused`" },
            FactDoc { name: "pid_in_file", class: "info", about: "the id in the pid file" },
            FactDoc { name: "oldest_s", class: "gauge", about: "the age of the oldest one, in seconds" },
            FactDoc { name: "youngest_s", class: "gauge", about: "the age of the youngest one, in seconds" },
            FactDoc { name: "started_at", class: "state", about: "when the oldest one started; info unless watched" },
            FactDoc { name: "restarts_24h", class: "gauge", about: "restarts of the oldest one that were seen" },
            FactDoc { name: "rss_bytes", class: "gauge", about: "resident memory of all together" },
        ],
        reasons: &[REASONS, FILE_REASONS, MISSING, LANE_REASONS],
        example: r#"
[check.gateway]
kind = "process"
cmdline = "openclaw.*gateway"
count = { min = 1, max = 1 }
max_restarts = 5
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.pid_file.is_none() && settings.name.is_none() && settings.cmdline.is_none() {
            let said = "nothing says which process is meant (give `pid_file`, `name` or `cmdline`)";
            report(if settings.user.is_some() { "user" } else { "name" }, said.to_owned());
        }
        if let Some(file) = &settings.pid_file
            && !(file.starts_with('/') || file.starts_with("~/"))
        {
            report("pid_file", format!("`{file}` is no whole path (one begins with `/` or `~/`)"));
        }
        if settings.name.as_ref().is_some_and(|name| name.is_empty() || name.contains('/')) {
            report("name", "a name has no `/` and is not empty (a path is a matter for `cmdline`)".to_owned());
        }
        if settings.count.max.is_some_and(|max| max < settings.count.min) {
            report("count", format!("`max` is less than `min`, which is {}", settings.count.min));
        }
        if settings.pid_file.is_some() && settings.count.min > 1 {
            report("count", "a pid file names one process".to_owned());
        }
        if let (Some(min), Some(max)) = (settings.min_age, settings.max_age)
            && max <= min
        {
            report("max_age", "`max_age` is not above `min_age`".to_owned());
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let pid_file = match &settings.pid_file {
            Some(file) => {
                let path = cx.host.expand(file);
                Some(cx.host.lane(&path.display().to_string(), cx.deadline, move || read_pid_file(&path)).await??)
            }
            None => None,
        };
        let rows = cx.host.processes(cx.deadline).await?;
        let uid =
            match &settings.user {
                Some(user) => {
                    Some(cx.host.accounts(cx.deadline).await?.uid(user).ok_or_else(|| {
                        Unread::blind("unknown_account", clean!("this machine knows no user `{user}`"))
                    })?)
                }
                None => None,
            };
        let known = cx.memory.get("oldest")?.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let ours = Ours::among(&rows, std::process::id());
        let found = find(settings, uid, &rows, &ours, pid_file.as_ref(), known.as_ref());
        let too_few = found.rows.len() < usize::try_from(settings.count.min).unwrap_or(usize::MAX);
        if too_few && matches!(found.pid_file, None | Some(("stale", _))) && others_are_hidden(cx).await? {
            let said = clean!("too few such processes are seen, and those of other users are hidden");
            return Err(Unread::blind("processes_hidden", said));
        }
        let mut fetched = Fetched::default();
        let kept = put(settings, &found, known.as_ref(), &Times::of(cx, cx.host.boot_id()), &mut fetched.facts);
        if let Some(kept) = kept.filter(|kept| known.as_ref() != Some(kept)) {
            fetched.remember.push(("oldest".to_owned(), serde_json::to_vec(&kept).ok()));
        }
        Ok(fetched)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let none = Subject::none();
        let number = |name| facts.number(&none, name).unwrap_or_default();
        let [running, stopped, zombies] = ["running", "stopped", "zombies"].map(number);
        let min = f64::from(settings.count.min);
        let mut findings = Vec::new();
        let mut find = |code, weight, said| findings.push(Finding::new(code, weight, false, said));
        let pid = number("pid_in_file");
        let file = settings.pid_file.as_deref().unwrap_or_default();
        if running < min {
            let pid_file = facts.text(&none, "pid_file").map_or("", crate::redact::Clean::as_str);
            match pid_file {
                "missing" => find("no_pid_file", Weight::Fail, clean!("there is no {file}")),
                "bad" => find("bad_pid_file", Weight::Fail, clean!("{file} holds no process id")),
                "stale" => find("stale_pid_file", Weight::Fail, clean!("process {pid} of {file} is gone")),
                "reused" => {
                    find("pid_reused", Weight::Fail, clean!("process {pid} of {file} is another one by now"));
                }
                _ if stopped > 0.0 => find("stopped", Weight::Fail, clean!("{stopped} stopped, {running} running")),
                _ if zombies > 0.0 => {
                    find("zombie", Weight::Fail, clean!("{zombies} dead and not collected, {running} running"));
                }
                _ if running < 1.0 => find("not_running", Weight::Fail, clean!("is not running")),
                _ => find("too_few", Weight::Fail, clean!("{running} running, at least {min} have to")),
            }
        }
        // A stopped one is there too: it holds its port and its lock.
        if let Some(max) = settings.count.max
            && running + stopped > f64::from(max)
        {
            find("too_many", Weight::Fail, clean!("{} running, at most {max} may", running + stopped));
        }
        if running >= 1.0 && running >= min && (number("disk_waits") - running).abs() < 0.5 {
            find("disk_wait", Weight::Warn, clean!("all {running} wait for a disk or a share"));
        }
        findings
    }
}

/// What a pid file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PidFile {
    Missing,
    Bad,
    Pid { pid: u32, written: Timestamp },
}

fn read_pid_file(path: &Path) -> Result<PidFile, Unread> {
    let Some(stat) = files::stat(path)? else { return Ok(PidFile::Missing) };
    let (bytes, _) = match files::read(path, 64) {
        Err(unread) if unread.code.as_str() == "missing" => return Ok(PidFile::Missing),
        read => read?,
    };
    // Some write more after the id (PostgreSQL a whole page); the first line is the id.
    let text = String::from_utf8_lossy(&bytes);
    let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).filter(|pid| *pid > 0);
    Ok(pid.map_or(PidFile::Bad, |pid| PidFile::Pid { pid, written: stat.modified }))
}

/// Whether processes of other users are hidden from this one.
async fn others_are_hidden(cx: &Cx) -> Result<bool, Unread> {
    if rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    let proc = cx.host.paths.proc.clone();
    cx.host.lane(&proc.display().to_string(), cx.deadline, move || hides(&proc)).await
}

/// Whether `/proc` hides the processes of other users.
fn hides(proc: &Path) -> bool {
    let mounted = mounts::read(proc).unwrap_or_default();
    mounted.iter().rev().find(|mount| mount.fs == "proc").is_some_and(|mount| {
        mount
            .options
            .iter()
            .filter_map(|option| option.strip_prefix("hidepid="))
            .any(|how| !["0", "off"].contains(&how))
    })
}

/// Processes that are not what is looked for: this one, and those that wrap it (a shell, `timeout`, `sudo`), whose
/// command lines hold whatever this one was started with. An ancestor that does not name this program is a process like
/// any other: an agent or cron that starts a cycle may be what is looked for.
#[derive(Debug, PartialEq)]
struct Ours<'a> {
    pids: BTreeSet<u32>,
    /// This program's name. `pulsecheck exec -- train.py` is no `train.py`: others of this name are found only by it.
    program: &'a str,
}

impl<'a> Ours<'a> {
    fn among(rows: &'a [Row], own: u32) -> Self {
        let by_pid = |pid: u32| rows.iter().find(|row| row.pid == pid);
        let mut ours = Self { pids: BTreeSet::from([own]), program: "" };
        let Some(me) = by_pid(own) else { return ours };
        ours.program = program(me);
        let mut passed = BTreeSet::from([own]);
        let mut next = me.parent;
        // A table that is read while processes come and go may hold a circle.
        while let Some(row) = next.and_then(by_pid).filter(|row| passed.insert(row.pid)) {
            if !ours.program.is_empty() && row.argv.iter().any(|word| word.contains(ours.program)) {
                ours.pids.insert(row.pid);
            }
            next = row.parent;
        }
        ours
    }
    fn has(&self, row: &Row, by_name: bool) -> bool {
        self.pids.contains(&row.pid) || (!by_name && program(row) == self.program)
    }
}

/// The file name of the program that a process was started as, or its short name.
fn program(row: &Row) -> &str {
    row.argv.first().map_or(row.name.as_str(), |first| first.rsplit('/').next().unwrap_or(first))
}

/// What was found.
#[derive(Debug, PartialEq)]
struct Found<'a> {
    rows: Vec<&'a Row>,
    pid_file: Option<(&'static str, Option<u32>)>,
}

fn find<'a>(
    settings: &Settings,
    uid: Option<u32>,
    rows: &'a [Row],
    ours: &Ours<'_>,
    pid_file: Option<&PidFile>,
    known: Option<&Kept>,
) -> Found<'a> {
    // A dead one has no command line left; the one that was seen last is known by its id and start.
    let was_it = |row: &Row| {
        row.state == ProcessState::Zombie
            && known.is_some_and(|known| {
                known.pid == row.pid && known.started.duration_since(row.started).abs() <= START_SLACK
            })
    };
    let matches = |row: &&Row| {
        !ours.has(row, settings.name.is_some())
            && settings.name.as_ref().is_none_or(|name| is_named(row, name))
            && settings.cmdline.as_ref().is_none_or(|pattern| pattern.regex().is_match(&row.argv.join(" ")))
            && uid.is_none_or(|uid| row.uid == Some(uid))
    };
    let Some(file) = pid_file else {
        return Found { rows: rows.iter().filter(|row| matches(row) || was_it(row)).collect(), pid_file: None };
    };
    let (said, pid, row) = match *file {
        PidFile::Missing => ("missing", None, None),
        PidFile::Bad => ("bad", None, None),
        PidFile::Pid { pid, written } => match rows.iter().find(|row| row.pid == pid) {
            None => ("stale", Some(pid), None),
            Some(row) => {
                // A name tells the process by itself; without one, only its start does.
                let is_named = settings.name.is_some() || settings.cmdline.is_some();
                let too_late = !is_named && row.started.duration_since(written) > PID_FILE_SLACK;
                // A zombie has no command line left.
                let is_it = row.state == ProcessState::Zombie || matches(&row);
                if is_it && !too_late { ("fits", Some(pid), Some(row)) } else { ("reused", Some(pid), None) }
            }
        },
    };
    Found { rows: row.into_iter().collect(), pid_file: Some((said, pid)) }
}

fn is_named(row: &Row, name: &str) -> bool {
    let is_short = name.len() <= SHORT_NAME_BYTES && row.name == name;
    is_short || (!row.argv.is_empty() && program(row) == name)
}

/// The moments that ages and restarts are computed from.
struct Times<'a> {
    now: Timestamp,
    /// When the machine was started, by the wall clock of this look: it moves with that clock, as start times do.
    booted: Timestamp,
    boot_id: Option<&'a str>,
    last_look: Option<Timestamp>,
}

impl<'a> Times<'a> {
    fn of(cx: &Cx, boot_id: Option<&'a str>) -> Self {
        let up = SignedDuration::try_from(cx.now.boot).unwrap_or(SignedDuration::ZERO);
        let booted = cx.now.wall.checked_sub(up).unwrap_or(cx.now.wall);
        Self { now: cx.now.wall, booted, boot_id, last_look: cx.past.read.as_ref().map(|(at, _)| *at) }
    }
}

/// The oldest process as it was seen last, told apart by what does not move with the wall clock.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    pid: u32,
    boot_id: Option<String>,
    /// From the machine's start to the process's.
    since_boot_s: i64,
    /// When it started, as it was said first.
    started: Timestamp,
    /// Restarts that were seen, oldest first.
    restarts: Vec<Timestamp>,
}

/// Puts the facts, and says what to remember.
fn put(settings: &Settings, found: &Found<'_>, known: Option<&Kept>, times: &Times, facts: &mut Facts) -> Option<Kept> {
    let none = Subject::none();
    let in_state = |wanted: &[ProcessState]| found.rows.iter().filter(|row| wanted.contains(&row.state)).count();
    facts.info(&none, "running", in_state(&[ProcessState::Alive, ProcessState::DiskWait]));
    facts.info(&none, "disk_waits", in_state(&[ProcessState::DiskWait]));
    facts.info(&none, "stopped", in_state(&[ProcessState::Stopped]));
    facts.info(&none, "zombies", in_state(&[ProcessState::Zombie]));
    if let Some((said, pid)) = found.pid_file {
        facts.info(&none, "pid_file", said);
        if let Some(pid) = pid {
            facts.info(&none, "pid_in_file", pid);
        }
    }
    let living: Vec<&Row> = found.rows.iter().copied().filter(|row| row.state != ProcessState::Zombie).collect();
    let oldest = living.iter().min_by_key(|row| (row.started, row.pid));
    let youngest = living.iter().max_by_key(|row| (row.started, row.pid));
    if let (Some(oldest), Some(youngest)) = (oldest, youngest) {
        put_ages(settings, times.now, oldest, youngest, facts);
        facts.info(&none, "pid", oldest.pid);
        let rss = living.iter().map(|row| row.rss_bytes).fold(0, u64::saturating_add);
        let scale = above(Unit::Bytes, settings.max_memory.map(as_number), "memory_high", false, || {
            format!("holds {} of memory", size(rss))
        });
        facts.gauge(&none, "rss_bytes", rss, scale);
    }
    let kept = leader(oldest.copied(), known, times);
    if let Some(kept) = &kept {
        if oldest.is_some() {
            if settings.watch_restarts {
                facts.state(&none, "started_at", kept.started);
            } else {
                facts.info(&none, "started_at", kept.started);
            }
        }
        let restarts = kept.restarts.len();
        let scale = above(Unit::None, settings.max_restarts.map(f64::from), "restarting", false, || {
            format!(
                "was seen restarted {} in 24 h",
                count(u64::try_from(restarts).unwrap_or(u64::MAX), "time", "times")
            )
        });
        facts.gauge(&none, "restarts_24h", restarts, scale);
    }
    kept
}

fn above(unit: Unit, at: Option<f64>, code: &'static str, settled: bool, says: impl FnOnce() -> String) -> Scale {
    let warn = at.map(|at| Edge { at, code: code.into(), settled });
    Scale { unit, worse: Worse::Above, warn, fail: None, says: clean!("{}", says()), episode: None }
}

fn put_ages(settings: &Settings, now: Timestamp, oldest: &Row, youngest: &Row, facts: &mut Facts) {
    let none = Subject::none();
    let age = |row: &Row| now.duration_since(row.started).as_secs().max(0);
    let seconds = |limit: Option<Dur>| limit.map(|limit| limit.0.as_secs_f64());
    let (oldest, youngest) = (age(oldest), age(youngest));
    let scale = above(Unit::Seconds, seconds(settings.max_age), "too_old", true, || {
        format!("runs for {} already", span(oldest))
    });
    facts.gauge(&none, "oldest_s", oldest, scale);
    let scale = above(Unit::Seconds, seconds(settings.min_age), "too_young", false, || {
        format!("runs for {} only", span(youngest))
    });
    facts.gauge(&none, "youngest_s", youngest, Scale { worse: Worse::Below, ..scale });
}

/// The oldest process against the one that was remembered. A restart is seen when one that started since the last look
/// has taken its place; when the next oldest of several moves up, that is none.
fn leader(oldest: Option<&Row>, known: Option<&Kept>, times: &Times) -> Option<Kept> {
    let since_boot = |at: Timestamp| at.duration_since(times.booted).as_secs();
    let mut restarts = known.map(|known| known.restarts.clone()).unwrap_or_default();
    restarts.retain(|at| *at <= times.now && times.now.duration_since(*at) <= RESTARTS_OVER);
    let Some(row) = oldest else {
        // It is away: whatever comes next is a restart.
        return known.map(|known| Kept { restarts, ..known.clone() });
    };
    let started_s = since_boot(row.started);
    let same = known.filter(|known| {
        known.pid == row.pid
            && known.boot_id.as_deref() == times.boot_id
            && (known.since_boot_s - started_s).abs() <= START_SLACK.as_secs()
    });
    let since_last = known.is_some_and(|known| {
        known.boot_id.as_deref() != times.boot_id
            || times.last_look.is_none_or(|last| row.started.duration_since(last) >= -START_SLACK)
    });
    if same.is_none() && since_last && restarts.len() < MAX_RESTARTS {
        restarts.push(row.started.min(times.now));
    }
    Some(Kept {
        pid: row.pid,
        boot_id: times.boot_id.map(str::to_owned),
        since_boot_s: same.map_or(started_s, |same| same.since_boot_s),
        started: same.map_or(row.started, |same| same.started),
        restarts,
    })
}

#[cfg(test)]
mod tests;
