//! Telling a process from a later one of the same number, and this boot from another.

use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::procs::{ProcessState, Stat};
use super::{Host, files};

impl Host {
    /// The boot that we are in, read once.
    #[must_use]
    pub fn boot_id(&self) -> Option<&str> {
        self.boot_id.get_or_init(|| boot_id(&self.paths.proc)).as_deref()
    }
}

/// The process namespace that we are in (`pid:[4026531836]`): numbers of another one mean nothing here.
#[must_use]
pub fn namespace(proc: &Path) -> Option<String> {
    let link = std::fs::read_link(proc.join("self/ns/pid")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// The boot that we are in (`/proc/sys/kernel/random/boot_id`).
#[must_use]
pub fn boot_id(proc: &Path) -> Option<String> {
    let (bytes, _) = files::read(&proc.join("sys/kernel/random/boot_id"), 64).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned()).filter(|id| !id.is_empty())
}

/// When a process was started, in clock ticks since boot (proc(5), `stat`, field 22); none when there is none, or only a
/// zombie of it.
#[must_use]
pub fn start_ticks(proc: &Path, pid: &str) -> Option<u64> {
    started(&files::read(&proc.join(pid).join("stat"), 4_096).ok()?.0)
}

fn started(stat: &[u8]) -> Option<u64> {
    let stat = Stat::parse(&String::from_utf8_lossy(stat))?;
    (stat.state != ProcessState::Zombie).then_some(stat.started_ticks)
}

/// Whether the process that was started then is still there.
#[must_use]
pub fn lives(proc: &Path, pid: u32, ticks: u64) -> bool {
    match files::read(&proc.join(pid.to_string()).join("stat"), 4_096) {
        Ok((stat, _)) => started(&stat) == Some(ticks),
        // Where `/proc` hides other users' processes, the kernel still tells that there is one.
        Err(_) => i32::try_from(pid)
            .ok()
            .and_then(Pid::from_raw)
            .is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let proc = Path::new("/proc");
        let pid = std::process::id();
        let ticks = start_ticks(proc, "self").unwrap();
        assert_eq!(start_ticks(proc, &pid.to_string()), Some(ticks));
        assert!(lives(proc, pid, ticks));
        assert!(!lives(proc, pid, ticks + 1), "a later process of the same number");
        assert!(!lives(proc, u32::MAX, ticks));
        assert_eq!(boot_id(proc).map(|id| id.len()), Some(36));
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("7")).unwrap();
        let fields: Vec<String> = (4..=21).map(|n| n.to_string()).collect();
        let stat = |state: &str| format!("7 (a) b) c) {state} {} 4711 23 24\n", fields.join(" "));
        files::replace(&dir.path().join("7/stat"), stat("S").as_bytes(), 0o600).unwrap();
        assert_eq!(start_ticks(dir.path(), "7"), Some(4711));
        files::replace(&dir.path().join("7/stat"), stat("Z").as_bytes(), 0o600).unwrap();
        assert_eq!(start_ticks(dir.path(), "7"), None, "a zombie is gone");
    }
}
