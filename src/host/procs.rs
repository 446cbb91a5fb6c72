//! The process table, read once a cycle, from `/proc` or a canned one.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout_at};

use super::{Host, PerCycle, files};
use crate::clean;
use crate::facts::Unread;
use crate::redact::Clean;

/// Bytes of one process's arguments that are kept.
const MAX_ARGV_BYTES: usize = 4_096;
/// Processes that are read; no Linux allows more ids than 4 million, and none that is well has this many.
const MAX_PROCESSES: usize = 65_536;

/// One process.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its parent's id.
    pub parent: Option<u32>,
    /// Its short name.
    pub name: String,
    /// Program and arguments; empty for kernel threads and where it may not be read. Cut after 4 KiB.
    pub argv: Vec<String>,
    /// Who runs it.
    pub uid: Option<u32>,
    /// When it was started; with the pid it tells a process from a later one of the same number. It is computed from the
    /// wall clock's idea of the boot, so two readings of one process may differ by a second or two when that clock is
    /// set or slewed.
    pub started: Timestamp,
    /// Running, sleeping, stopped, zombie …
    pub state: ProcessState,
    /// Resident memory.
    pub rss_bytes: u64,
}

/// The states that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// Running or waiting for something.
    Alive,
    /// Waiting for the disk without being interruptible.
    DiskWait,
    /// Stopped by a signal or a debugger.
    Stopped,
    /// Dead, not yet collected by its parent.
    Zombie,
}

/// The cycle's table.
pub(super) type Cache = PerCycle<Arc<[Process]>>;

impl Host {
    /// All processes of this machine, read at most once a cycle, ordered by id. Codes: those of a lane and of files
    /// (about the folder as a whole; a process that ended meanwhile is left out).
    pub async fn processes(&self, deadline: Instant) -> Result<Arc<[Process]>, Unread> {
        let cell = self.processes.of_this_cycle();
        let read = cell.get_or_try_init(|| async {
            let proc = self.paths.proc.clone();
            self.lane("process table", deadline, move || table(&proc)).await?
        });
        match timeout_at(deadline, read).await {
            Ok(read) => read.cloned(),
            Err(_) => Err(Unread::target("no_answer", Clean::new("the process table could not be read in time"))),
        }
    }
}

fn table(proc: &Path) -> Result<Arc<[Process]>, Unread> {
    let boot = boot(proc)?;
    let failed = |error| files::unread(proc, &error);
    let mut processes = BTreeMap::new();
    for entry in std::fs::read_dir(proc).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
        let Some(process) = pid.and_then(|pid| process(&entry.path(), pid, boot)) else { continue };
        processes.insert(process.pid, process);
        if processes.len() > MAX_PROCESSES {
            return Err(Unread::blind("unreadable", clean!("there are more than {MAX_PROCESSES} processes")));
        }
    }
    Ok(processes.into_values().collect())
}

/// When the machine was started, in whole seconds, by the wall clock (`btime` in `proc_stat(5)`).
fn boot(proc: &Path) -> Result<Timestamp, Unread> {
    let path = proc.join("stat");
    // On large machines the interrupts' line alone is tens of KiB, and `btime` comes after it.
    let (bytes, _) = files::read(&path, 1 << 20)?;
    String::from_utf8_lossy(&bytes)
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
        .and_then(|second| Timestamp::from_second(second).ok())
        .ok_or_else(|| Unread::blind("unreadable", clean!("{} says no `btime`", files::shown(&path))))
}

/// One process, or none when it ended while it was read.
fn process(folder: &Path, pid: u32, boot: Timestamp) -> Option<Process> {
    let (stat, _) = files::read(&folder.join("stat"), 4_096).ok()?;
    let stat = Stat::parse(&String::from_utf8_lossy(&stat))?;
    let (argv, _) = files::read(&folder.join("cmdline"), MAX_ARGV_BYTES).unwrap_or_default();
    let uid = std::fs::metadata(folder).ok().map(|meta| meta.uid());
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4_096);
    let since_boot = Duration::from_millis(stat.started_ticks.saturating_mul(1_000) / ticks);
    let since_boot = SignedDuration::try_from(since_boot).ok()?;
    Some(Process {
        pid,
        parent: (stat.parent != 0).then_some(stat.parent),
        name: stat.name,
        argv: arguments(&argv),
        uid,
        started: boot.checked_add(since_boot).unwrap_or(boot),
        state: stat.state,
        rss_bytes: stat.rss_pages.saturating_mul(page),
    })
}

/// The fields of `proc_pid_stat(5)` that matter.
pub(super) struct Stat {
    name: String,
    pub(super) state: ProcessState,
    parent: u32,
    pub(super) started_ticks: u64,
    rss_pages: u64,
}

impl Stat {
    /// The name is whatever the process calls itself, brackets and line breaks included: it ends at the last bracket.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.rsplit_once(')')?;
        let name = before.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = after.split_whitespace().collect();
        // Field 3 of the manual, the state, is the first after the name.
        let field = |number: usize| fields.get(number - 3).copied();
        let state = match field(3)? {
            "D" => ProcessState::DiskWait,
            "T" | "t" => ProcessState::Stopped,
            "Z" | "X" | "x" => ProcessState::Zombie,
            _ => ProcessState::Alive,
        };
        Some(Self {
            name,
            state,
            parent: field(4)?.parse().ok()?,
            started_ticks: field(22)?.parse().ok()?,
            rss_pages: field(24)?.parse().unwrap_or(0),
        })
    }
}

/// Arguments are ended by a NUL each; a process that writes its title over them may leave some at the end.
fn arguments(cmdline: &[u8]) -> Vec<String> {
    let end = cmdline.iter().rposition(|&b| b != 0).map_or(0, |last| last + 1);
    let used = cmdline.get(..end).unwrap_or_default();
    if used.is_empty() {
        return Vec::new();
    }
    used.split(|&b| b == 0).map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[tokio::test]
    async fn this_process_is_in_the_table_once_a_cycle() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::for_tests(dir.path());
        let table = host.processes(soon(20_000)).await.unwrap();
        let own = table.iter().find(|process| process.pid == std::process::id()).unwrap();
        assert_eq!(own.state, ProcessState::Alive);
        assert_eq!(own.uid, Some(rustix::process::geteuid().as_raw()));
        assert!(own.rss_bytes > 100_000 && !own.argv.is_empty() && own.parent.is_some(), "{own:?}");
        let age = host.now().wall.duration_since(own.started);
        assert!(age > SignedDuration::from_secs(-3) && age < SignedDuration::from_hours(10), "{age}");
        assert!(Arc::ptr_eq(&table, &host.processes(soon(20_000)).await.unwrap()));
        host.new_cycle();
        assert!(!Arc::ptr_eq(&table, &host.processes(soon(20_000)).await.unwrap()));
    }

    #[tokio::test]
    async fn a_canned_table_is_read_and_odd_names_do_not_confuse_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::for_tests(dir.path());
        host.paths.proc = dir.path().join("proc");
        let put = |name: &str, bytes: &[u8]| {
            let path = host.paths.proc.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            files::replace(&path, bytes, 0o600).unwrap();
        };
        let missing = host.processes(soon(20_000)).await.unwrap_err();
        assert_eq!(missing.code.as_str(), "missing");
        put("stat", b"cpu 1 2\nintr 5\nbtime 1700000000\nprocesses 9\n");
        let tail = "4 4 4 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 1000 25 0 0";
        put("7/stat", format!("7 (a) Z (b) T {tail}").as_bytes());
        put("7/cmdline", b"python3\0run.py\0\0\0");
        put("8/stat", format!("8 (kworker) I {}", tail.replacen('4', "0", 1)).as_bytes());
        put("8/cmdline", b"");
        put("9/stat", b"9 (gone");
        put("self/stat", b"");
        let table = host.processes(soon(20_000)).await.unwrap();
        assert_eq!(table.len(), 2);
        let ticks = rustix::param::clock_ticks_per_second();
        let expected = Process {
            pid: 7,
            parent: Some(4),
            name: "a) Z (b".to_owned(),
            argv: vec!["python3".to_owned(), "run.py".to_owned()],
            uid: Some(rustix::process::geteuid().as_raw()),
            started: Timestamp::from_millisecond(1_700_000_000_000 + i64::try_from(12_345_000 / ticks).unwrap())
                .unwrap(),
            state: ProcessState::Stopped,
            rss_bytes: 25 * u64::try_from(rustix::param::page_size()).unwrap(),
        };
        assert_eq!(table[0], expected);
        assert_eq!((table[1].parent, table[1].argv.len(), table[1].state), (None, 0, ProcessState::Alive));
    }
}
