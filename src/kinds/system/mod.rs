//! This machine: room on its disks, memory, load, and whether it was started anew. Read from the kernel's own tables
//! under `paths.proc`, so that a canned machine can be looked at.

mod disks;

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{FILE_REASONS, LANE_REASONS, MISSING};
use super::trend::{Forecast, Trend};
use super::words::as_number;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::clean;
use crate::facts::{Edge, Facts, Finding, Scale, Subject, Unit, Unread, Weight, Worse};
use crate::host::mounts::{self, Mount};
use crate::host::{Paths, files, identity};
use crate::redact::Clean;
use crate::settings::{Dur, Size};
use crate::words::{size, span};

/// Bytes read of one of the kernel's tables: `/proc/stat` of a thousand cores is 100 KiB and more.
const MAX_BYTES: usize = 1 << 20;
/// The kind.
pub struct System;

/// Settings of `system`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Mount points to look at, instead of every local disk; an empty list looks at none. One that is listed and not
    /// mounted is trouble. File systems of other machines are looked at only when they are listed.
    #[serde(default)]
    pub disks: Option<Vec<String>>,
    /// Free space on a disk below which it is a warn. What is smaller counts: by default 10 % or 20 GiB.
    #[serde(default = "disk_warn")]
    pub disk_warn: Least,
    /// Free space on a disk below which it is a fail. What is smaller counts: by default 5 % or 5 GiB.
    #[serde(default = "disk_fail")]
    pub disk_fail: Least,
    /// What will run out within this time (a disk's room or inodes, memory), as its past goes on, is a warn. It is said
    /// only of what goes one way steadily, and not of what is cleaned up now and then. Not judged by default.
    #[serde(default)]
    pub full_within: Option<Dur>,
    /// Free inodes of a disk, in percent: by default a warn below 10, a fail below 5.
    #[serde(default = "inodes")]
    pub inodes: Percents,
    /// Available memory below which it is a warn. What is smaller counts: by default 10 % or 2 GiB.
    #[serde(default = "memory_warn")]
    pub memory_warn: Least,
    /// Available memory below which it is a fail. What is smaller counts: by default 5 % or 512 MiB.
    #[serde(default = "memory_fail")]
    pub memory_fail: Least,
    /// Free swap, in percent. Not judged by default.
    #[serde(default)]
    pub swap: Percents,
    /// Load of the last five minutes for each core: by default a warn above 4.
    #[serde(default = "load")]
    pub load: Loads,
    /// Whether a restart of the machine is said, once.
    #[serde(default = "yes")]
    pub restarts: bool,
}

const fn yes() -> bool {
    true
}

/// The least that may be left. Of two limits the smaller counts; none, or an empty table, is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Least {
    /// In percent of the whole.
    #[serde(default)]
    pub percent: Option<f64>,
    /// In bytes.
    #[serde(default)]
    pub size: Option<Size>,
}

impl Least {
    pub(super) const fn new(percent: f64, size: u64) -> Self {
        Self { percent: Some(percent), size: Some(Size(size)) }
    }
    /// The limit in bytes for a whole of so many.
    pub(super) fn of(self, whole: u64) -> Option<f64> {
        let part = self.percent.map(|percent| as_number(Size(whole)) * percent / 100.0);
        let size = self.size.map(as_number);
        match (part, size) {
            (Some(part), Some(size)) => Some(part.min(size)),
            (part, size) => part.or(size),
        }
    }
}

/// The least that may be left, in percent. One that is not given is not judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Percents {
    /// Below this it is a warn.
    #[serde(default)]
    pub warn: Option<f64>,
    /// Below this it is a fail.
    #[serde(default)]
    pub fail: Option<f64>,
}

/// The most that the load for each core may be. One that is not given is not judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Loads {
    /// Above this it is a warn.
    #[serde(default)]
    pub warn: Option<f64>,
    /// Above this it is a fail.
    #[serde(default)]
    pub fail: Option<f64>,
}

const GIB: u64 = 1 << 30;

// A percentage alone cries over 400 GiB left on a large disk, a size alone over every small one.
const fn disk_warn() -> Least {
    Least::new(10.0, 20 * GIB)
}
const fn disk_fail() -> Least {
    Least::new(5.0, 5 * GIB)
}
const fn memory_warn() -> Least {
    Least::new(10.0, 2 * GIB)
}
const fn memory_fail() -> Least {
    Least::new(5.0, GIB / 2)
}
const fn inodes() -> Percents {
    Percents { warn: Some(10.0), fail: Some(5.0) }
}
const fn load() -> Loads {
    Loads { warn: Some(4.0), fail: None }
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

const REASONS: &[ReasonDoc] = &[
    doc("disk_low", WARN, true, "little room is left on a disk", "make room on the disk"),
    doc("disk_full", FAIL, true, "next to no room is left on a disk", "make room on the disk now"),
    doc("disk_filling", WARN, false, "a disk will soon be full, as its past goes on", "see what fills the disk"),
    doc(
        "inodes_filling",
        WARN,
        false,
        "a disk will soon be out of inodes, as its past goes on",
        "see what makes so many files",
    ),
    doc("inodes_low", WARN, true, "few inodes are left on a disk", "remove small files that nobody needs"),
    doc("inodes_out", FAIL, true, "next to no inodes are left on a disk", "remove small files that nobody needs now"),
    doc("not_mounted", FAIL, false, "a listed disk is not mounted", "mount the disk"),
    doc(
        "read_only",
        FAIL,
        true,
        "a disk that could be written to can't any more",
        "see the kernel's log, check the disk",
    ),
    doc("memory_low", WARN, false, "little memory is available", "see which process grew"),
    doc("memory_out", FAIL, false, "next to no memory is available", "stop or restart the process that grew"),
    doc("memory_filling", WARN, false, "memory will soon be used up, as its past goes on", "see which process grows"),
    doc("swap_low", WARN, false, "little swap is left", "see which process grew"),
    doc("swap_out", FAIL, false, "next to no swap is left", "stop or restart the process that grew"),
    doc("load_high", WARN, false, "more work waits than the cores can do", "see which processes are busy"),
    doc("load_very_high", FAIL, false, "far more work waits than the cores can do", "stop what keeps the machine busy"),
];

impl Kind for System {
    const DOC: KindDoc = KindDoc {
        name: "system",
        about: "Looks at this machine: disks, inodes, memory, swap, load, restarts.",
        subjects: "the mount points, and `memory`, `swap`, `load` and `host`",
        facts: &[
            FactDoc { name: "free_bytes", class: "gauge", about: "a disk's space that is left to users" },
            FactDoc { name: "total_bytes", class: "info", about: "the disk, memory or swap in all" },
            FactDoc { name: "used_percent", class: "info", about: "used space as `df` shows it" },
            FactDoc {
                name: "inodes_free_percent",
                class: "gauge",
                about: "inodes left, where the file system counts them",
            },
            FactDoc { name: "read_only", class: "state", about: "whether the disk is mounted for reading only" },
            FactDoc { name: "was_writable", class: "info", about: "whether it was once seen mounted for writing" },
            FactDoc { name: "file_system", class: "info", about: "the type of file system" },
            FactDoc { name: "mounted", class: "info", about: "whether a listed disk is mounted" },
            FactDoc {
                name: "full_in_s",
                class: "gauge",
                about: "seconds until a disk is full, as its past goes on; there only where that can be said",
            },
            FactDoc { name: "inodes_out_in_s", class: "gauge", about: "seconds until a disk has no inodes, likewise" },
            FactDoc { name: "out_in_s", class: "gauge", about: "seconds until no memory is available, likewise" },
            FactDoc { name: "disks_left_out", class: "info", about: "local disks beyond the first 100" },
            FactDoc { name: "available_bytes", class: "gauge", about: "memory that programs can still get" },
            FactDoc { name: "free_percent", class: "gauge", about: "swap left" },
            FactDoc { name: "load5_per_core", class: "gauge", about: "load of the last 5 minutes by core" },
            FactDoc { name: "load1", class: "info", about: "load of the last minute" },
            FactDoc { name: "load5", class: "info", about: "load of the last 5 minutes" },
            FactDoc { name: "load15", class: "info", about: "load of the last 15 minutes" },
            FactDoc { name: "cores", class: "info", about: "processors" },
            FactDoc { name: "booted_at", class: "state", about: "when the machine was started" },
            FactDoc { name: "uptime_s", class: "info", about: "seconds since then" },
            FactDoc { name: "clock_synchronised", class: "info", about: "what systemd-timesyncd says, where it runs" },
        ],
        reasons: &[REASONS, FILE_REASONS, MISSING, LANE_REASONS],
        example: r#"
[check.machine]
kind = "system"
disks = ["/", "/data"]
disk_warn = { percent = 10, size = "20GiB" }
full_within = "1d"
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        for disk in settings.disks.iter().flatten() {
            if !disk.starts_with('/') {
                report("disks", format!("`{disk}` is no mount point (one begins with `/`)"));
            }
        }
        let percents = [
            ("disk_warn", settings.disk_warn.percent),
            ("disk_fail", settings.disk_fail.percent),
            ("memory_warn", settings.memory_warn.percent),
            ("memory_fail", settings.memory_fail.percent),
            ("inodes", settings.inodes.warn),
            ("inodes", settings.inodes.fail),
            ("swap", settings.swap.warn),
            ("swap", settings.swap.fail),
        ];
        for (key, percent) in percents {
            if let Some(percent) = percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
                report(key, format!("{percent} is no percentage (it goes from 0 to 100)"));
            }
        }
        for (key, Percents { warn, fail }) in [("inodes", settings.inodes), ("swap", settings.swap)] {
            if let (Some(warn), Some(fail)) = (warn, fail)
                && fail > warn
            {
                report(key, format!("it is a fail below {fail} % before it is a warn below {warn} %"));
            }
        }
        for limit in [settings.load.warn, settings.load.fail].into_iter().flatten() {
            if !(limit.is_finite() && limit > 0.0) {
                report("load", format!("{limit} is no limit (it is a number above 0)"));
            }
        }
        if let Loads { warn: Some(warn), fail: Some(fail) } = settings.load
            && fail < warn
        {
            report("load", format!("it is a fail above {fail} before it is a warn above {warn}"));
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let mut fetched = Fetched::default();
        let paths = cx.host.paths.clone();
        let about = paths.proc.display().to_string();
        let tables = cx.host.lane(&about, cx.deadline, move || Tables::read(&paths)).await?;
        if let Some(available) = memory(settings, tables.meminfo, &mut fetched) {
            leak(settings, available, cx, &mut fetched)?;
        }
        load_of(settings, tables.loadavg, tables.stat.as_deref(), &mut fetched);
        host(settings, tables.boot_id.as_deref(), tables.clock_synchronised, cx, &mut fetched)?;
        if settings.disks.as_ref().is_none_or(|disks| !disks.is_empty()) {
            disks::look(settings, &tables.mounts?, cx, &mut fetched).await?;
        }
        Ok(fetched)
    }

    fn assess(_settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        for subject in facts.subjects() {
            if facts.flag(&subject, "mounted") == Some(false) {
                findings.push(Finding::new("not_mounted", Weight::Fail, false, clean!("is not mounted")).on(&subject));
            }
            if facts.flag(&subject, "read_only") == Some(true) && facts.flag(&subject, "was_writable") == Some(true) {
                let said = clean!("was mounted for writing and can only be read now");
                findings.push(Finding::new("read_only", Weight::Fail, true, said).on(&subject));
            }
        }
        findings
    }
}

/// What the kernel's tables said, unparsed.
struct Tables {
    mounts: Result<Vec<Mount>, Unread>,
    meminfo: Result<String, Unread>,
    loadavg: Result<String, Unread>,
    stat: Option<String>,
    boot_id: Option<String>,
    clock_synchronised: Option<bool>,
}

impl Tables {
    fn read(paths: &Paths) -> Self {
        let text = |name: &str| {
            files::read(&paths.proc.join(name), MAX_BYTES)
                .map(|(bytes, _)| String::from_utf8_lossy(&bytes).into_owned())
        };
        let timesync = paths.run().join("systemd/timesync");
        let there = |path: &Path| matches!(files::stat(path), Ok(Some(_)));
        Self {
            mounts: mounts::read(&paths.proc),
            meminfo: text("meminfo"),
            loadavg: text("loadavg"),
            stat: text("stat").ok(),
            boot_id: identity::boot_id(&paths.proc),
            clock_synchronised: there(&timesync).then(|| there(&timesync.join("synchronized"))),
        }
    }
}

/// A part of a whole that is not nothing.
#[expect(clippy::cast_precision_loss, reason = "shares are judged and shown in three digits")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64 * 100.0
}

fn edge(at: Option<f64>, code: &'static str, settled: bool) -> Option<Edge> {
    at.map(|at| Edge { at, code: code.into(), settled })
}

fn below(unit: Unit, warn: Option<Edge>, fail: Option<Edge>, says: Clean) -> Scale {
    Scale { unit, worse: Worse::Below, warn, fail, says, episode: None }
}

/// Puts memory and swap; how much memory is available.
fn memory(settings: &Settings, meminfo: Result<String, Unread>, fetched: &mut Fetched) -> Option<u64> {
    let (memory, swap) = (Subject::new("memory"), Subject::new("swap"));
    let text = match meminfo {
        Ok(text) => text,
        Err(unread) => {
            fetched.unread.insert(memory, unread);
            return None;
        }
    };
    let meminfo = parse_meminfo(&text);
    let facts = &mut fetched.facts;
    let of = |name: &str| meminfo.get(name).copied();
    // Kernels before 3.14 don't say what is available.
    let available = of("MemAvailable")
        .or_else(|| Some(of("MemFree")?.saturating_add(of("Buffers")?).saturating_add(of("Cached")?)));
    if let (Some(total), Some(available)) = (of("MemTotal").filter(|total| *total > 0), available) {
        let says = clean!("{} of {} memory are available", size(available), size(total));
        let scale = below(
            Unit::Bytes,
            edge(settings.memory_warn.of(total), "memory_low", false),
            edge(settings.memory_fail.of(total), "memory_out", false),
            says,
        );
        facts.gauge(&memory, "available_bytes", available, scale);
        facts.info(&memory, "total_bytes", total);
    } else {
        let said = clean!("the kernel's table names no memory");
        fetched.unread.insert(memory, Unread::blind("unreadable", said));
    }
    let facts = &mut fetched.facts;
    if let (Some(total), Some(free)) = (of("SwapTotal").filter(|total| *total > 0), of("SwapFree")) {
        let scale = below(
            Unit::Percent,
            edge(settings.swap.warn, "swap_low", false),
            edge(settings.swap.fail, "swap_out", false),
            clean!("{} of {} swap are left", size(free), size(total)),
        );
        facts.gauge(&swap, "free_percent", percent(free, total), scale);
        facts.info(&swap, "total_bytes", total);
    }
    available
}

/// Puts when memory is used up, where it goes one way.
fn leak(settings: &Settings, available: u64, cx: &Cx, fetched: &mut Fetched) -> Result<(), Unread> {
    let known = cx.memory.get("memory")?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut trend: Trend = known.unwrap_or_default();
    let available = as_number(Size(available));
    if trend.note(cx.now.wall, available) {
        fetched.remember.push(("memory".to_owned(), serde_json::to_vec(&trend).ok()));
    }
    let out = trend.until(cx.now.wall, available, 0.0);
    let says = ("out_in_s", "memory_filling", "out of memory");
    put_forecast(settings, &mut fetched.facts, &Subject::new("memory"), says, out);
    Ok(())
}

/// Puts when something runs out: the fact's name, the reason, and the words for it.
fn put_forecast(
    settings: &Settings,
    facts: &mut Facts,
    subject: &Subject,
    (name, code, what): (&'static str, &'static str, &str),
    forecast: Option<Forecast>,
) {
    let Some(Forecast { in_s, span_s }) = forecast else { return };
    let scale = below(
        Unit::Seconds,
        edge(settings.full_within.map(Dur::as_secs_f64), code, false),
        None,
        clean!("{what} in {}, as the last {} went", span(in_s), span(span_s)),
    );
    facts.gauge(subject, name, in_s, scale);
}

/// The amounts of `meminfo` in bytes; the kernel writes KiB and calls them kB.
fn parse_meminfo(text: &str) -> BTreeMap<&str, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(':')?;
            let mut words = rest.split_ascii_whitespace();
            let n: u64 = words.next()?.parse().ok()?;
            Some((name, if words.next() == Some("kB") { n.saturating_mul(1_024) } else { n }))
        })
        .collect()
}

fn load_of(settings: &Settings, loadavg: Result<String, Unread>, stat: Option<&str>, fetched: &mut Fetched) {
    let subject = Subject::new("load");
    let text = match loadavg {
        Ok(text) => text,
        Err(unread) => {
            fetched.unread.insert(subject, unread);
            return;
        }
    };
    let loads: Vec<f64> = text.split_ascii_whitespace().take(3).filter_map(|load| load.parse().ok()).collect();
    let &[one, five, fifteen] = loads.as_slice() else {
        let said = clean!("the kernel's table names no load");
        fetched.unread.insert(subject, Unread::blind("unreadable", said));
        return;
    };
    let facts = &mut fetched.facts;
    for (name, load) in [("load1", one), ("load5", five), ("load15", fifteen)] {
        facts.info(&subject, name, load);
    }
    let Some(cores) = stat.map(count_cores).filter(|cores| *cores > 0) else { return };
    facts.info(&subject, "cores", cores);
    let scale = Scale {
        unit: Unit::None,
        worse: Worse::Above,
        warn: edge(settings.load.warn, "load_high", false),
        fail: edge(settings.load.fail, "load_very_high", false),
        says: clean!("the load of the last 5 minutes is {five:.1} on {cores} cores"),
        episode: None,
    };
    facts.gauge(&subject, "load5_per_core", five / f64::from(cores), scale);
}

/// The processors that are running: one line each in the kernel's statistics.
fn count_cores(stat: &str) -> u32 {
    let lines = stat.lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    u32::try_from(lines.count()).unwrap_or(u32::MAX)
}

/// The boot that was seen last, so that its time does not move with the wall clock.
#[derive(Serialize, Deserialize)]
struct Boot {
    id: String,
    at: Timestamp,
}

fn host(
    settings: &Settings,
    boot_id: Option<&str>,
    clock: Option<bool>,
    cx: &Cx,
    fetched: &mut Fetched,
) -> Result<(), Unread> {
    let subject = Subject::new("host");
    fetched.facts.info(&subject, "uptime_s", cx.now.boot.as_secs());
    if let Some(clock) = clock {
        fetched.facts.info(&subject, "clock_synchronised", clock);
    }
    let Some(id) = boot_id.filter(|_| settings.restarts) else { return Ok(()) };
    let known: Option<Boot> = cx.memory.get("boot")?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let at = if let Some(known) = known.filter(|known| known.id == id) {
        known.at
    } else {
        let up = SignedDuration::try_from(cx.now.boot).unwrap_or(SignedDuration::ZERO);
        let at = cx.now.wall.checked_sub(up).unwrap_or(cx.now.wall);
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        let boot = Boot { id: id.to_owned(), at };
        fetched.remember.push(("boot".to_owned(), serde_json::to_vec(&boot).ok()));
        at
    };
    fetched.facts.state(&subject, "booted_at", at);
    Ok(())
}

#[cfg(test)]
mod tests;
