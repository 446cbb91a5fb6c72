//! Which executions of the job ledger still run: a wrapper that was killed, or a machine that went down, leaves one behind
//! that never ended.

use std::path::{Path, PathBuf};

use crate::host::identity;
use crate::records::{Ending, Execution};

/// This machine, as far as executions are concerned.
#[derive(Debug)]
pub(super) struct Ledger {
    proc: PathBuf,
    boot_id: Option<String>,
}

impl Ledger {
    /// Reads which boot this is. Blocking.
    pub(super) fn read(proc: &Path) -> Self {
        Self { proc: proc.to_owned(), boot_id: identity::boot_id(proc) }
    }

    /// How an execution ended; none while it runs. One without an end whose machine was started anew or whose wrapper is
    /// gone was interrupted. Where nothing tells (no wrapper on record), it runs. Blocking.
    pub(super) fn ending(&self, execution: &Execution) -> Option<Ending> {
        if execution.ending.is_some() {
            return execution.ending.clone();
        }
        let other_boot = execution.boot_id.is_some() && self.boot_id.is_some() && execution.boot_id != self.boot_id;
        let gone = execution.wrapper.is_some_and(|(pid, ticks)| !identity::lives(&self.proc, pid, ticks));
        (execution.ended.is_some() || other_boot || gone).then_some(Ending::Interrupted)
    }

    /// Whether an execution still runs. Blocking.
    pub(super) fn runs(&self, execution: &Execution) -> bool {
        self.ending(execution).is_none()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::host::files;

    /// An execution that began at this second and ended, if it did, at that one.
    pub(in crate::kinds) fn execution(job: &str, started: i64, ended: Option<(i64, Ending)>) -> Execution {
        let at = |second| jiff::Timestamp::from_second(second).unwrap();
        Execution {
            job: job.to_owned(),
            execution: format!("{started:032x}"),
            started: at(started),
            ended: ended.as_ref().map(|(second, _)| at(*second)),
            ending: ended.map(|(_, ending)| ending),
            schedule: None,
            wrapper: None,
            boot_id: None,
            stdout_bytes: None,
            stdout_sha256: None,
            tail: None,
        }
    }

    #[test]
    fn what_never_ended_runs_or_was_interrupted() {
        let proc = tempfile::tempdir().unwrap();
        let random = proc.path().join("sys/kernel/random");
        std::fs::create_dir_all(&random).unwrap();
        std::fs::create_dir_all(proc.path().join("4194303")).unwrap();
        let write = |path: PathBuf, text: &str| files::replace(&path, text.as_bytes(), 0o600).unwrap();
        write(random.join("boot_id"), "this-boot\n");
        write(
            proc.path().join("4194303/stat"),
            "4194303 (pulsecheck) S 1 7 7 0 -1 4 1 0 0 0 1 2 0 0 20 0 1 0 8812 1 5",
        );
        let ledger = Ledger::read(proc.path());
        let open = || execution("j", 100, None);
        for (name, execution, ending) in [
            ("ended", execution("j", 100, Some((110, Ending::Exit(3)))), Some(Ending::Exit(3))),
            ("nothing known", open(), None),
            ("this boot", Execution { boot_id: Some("this-boot".into()), ..open() }, None),
            ("another boot", Execution { boot_id: Some("other".into()), ..open() }, Some(Ending::Interrupted)),
            ("lives", Execution { wrapper: Some((4_194_303, 8_812)), ..open() }, None),
            ("pid used anew", Execution { wrapper: Some((4_194_303, 9_000)), ..open() }, Some(Ending::Interrupted)),
            ("gone", Execution { wrapper: Some((4_194_302, 8_812)), ..open() }, Some(Ending::Interrupted)),
        ] {
            assert_eq!(ledger.ending(&execution), ending, "{name}");
        }
    }
}
