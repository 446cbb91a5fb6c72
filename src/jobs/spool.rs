//! Events of executions on their way to the store: one file each, written by `exec`, which opens no database, and taken in
//! by the next cycle's transaction. Blocking: call on a lane.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::clean;
use crate::facts::{Unread, is_name};
use crate::host::files;
use crate::records::Execution;
use crate::redact::Clean;

/// Bytes of output that an execution keeps.
pub const MAX_TAIL_BYTES: usize = 16 * 1_024;
/// Files that may wait. Beyond them nothing takes them in, so new ones are not written, which is marked as a loss.
pub const MAX_WAITING: usize = 10_000;
/// Bytes of one file: a tail grows sixfold at most when JSON escapes it.
const MAX_EVENT_BYTES: usize = 8 * MAX_TAIL_BYTES;
/// Unusable files that are kept for a look; further ones are deleted.
const MAX_BAD: usize = 100;
/// Entries of the folder that are looked at in one go.
const MAX_ENTRIES: usize = 2 * MAX_WAITING;

/// What waits in the spool.
#[derive(Debug, Default)]
pub struct Taken {
    /// The events in the order of time, each with its file. To be merged with what the store has
    /// ([`Execution::merge`]), committed, then given to [`done`].
    pub events: Vec<(PathBuf, Execution)>,
    /// Files that were no events; they are in `spool/bad` now.
    pub bad: usize,
    /// Whether there is more than was asked for.
    pub more: bool,
    /// When an event could last not be written, with the mark that says so: also to be given to [`done`] once it is said.
    pub lost: Option<(PathBuf, Timestamp)>,
}

fn folder(state: &Path) -> PathBuf {
    state.join("spool")
}

fn mark(state: &Path) -> PathBuf {
    state.join("spool-lost")
}

/// Writes one event, durably. `at` orders it among others.
pub fn put(state: &Path, at: Timestamp, event: &Execution) -> io::Result<()> {
    let folder = folder(state);
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    if std::fs::read_dir(&folder)?.take(MAX_WAITING).count() >= MAX_WAITING {
        return Err(io::Error::other(format!("{MAX_WAITING} events wait already and no cycle takes them in")));
    }
    let bytes = serde_json::to_vec(event)?;
    files::replace(&folder.join(name(at, event)), &bytes, 0o600)
}

/// Leaves a mark that an event was lost, where that is still possible.
pub fn lost(state: &Path) {
    // Truncating sets the time even of an empty file, and needs no space on a full disk once the file is there. Where
    // even that fails nothing more can be done, and the job's next reader finds it overdue.
    let _marked = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(mark(state));
}

/// Reads at most `limit` events, oldest first. Nothing is removed but what is no event.
pub fn take(state: &Path, limit: usize) -> Result<Taken, Unread> {
    look(state, limit, set_aside)
}

/// The same, moving nothing.
pub fn peek(state: &Path, limit: usize) -> Result<Taken, Unread> {
    look(state, limit, |_, _| {})
}

fn look(state: &Path, limit: usize, bad: impl Fn(&Path, &Path)) -> Result<Taken, Unread> {
    let folder = folder(state);
    let lost = files::stat(&mark(state)).ok().flatten().map(|stat| (mark(state), stat.modified));
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Taken { lost, ..Taken::default() }),
        Err(error) => return Err(unreadable(&folder, &error)),
    };
    let mut paths = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        let path = entry.map_err(|error| unreadable(&folder, &error))?.path();
        // A name with a dot is being written; `bad` is ours.
        let passing = path.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with('.') || n == "bad");
        if !passing {
            paths.push(path);
        }
    }
    paths.sort();
    let mut taken = Taken { more: paths.len() > limit, lost, ..Taken::default() };
    for path in paths.into_iter().take(limit) {
        match read(&path) {
            Some(event) => taken.events.push((path, event)),
            None if path.exists() => {
                taken.bad += 1;
                bad(&folder, &path);
            }
            // Somebody else took it between the two looks.
            None => {}
        }
    }
    Ok(taken)
}

/// Deletes what was taken in, after the commit. Killed before it is through, the rest is taken again, and merging it
/// changes nothing.
pub fn done(paths: &[PathBuf]) -> io::Result<()> {
    let mut result = Ok(());
    for path in paths {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => result = Err(error),
            _ => {}
        }
    }
    result
}

/// `NANOSECONDS-EXECUTION-start.json` or `…-end.json`: sorts by time.
fn name(at: Timestamp, event: &Execution) -> String {
    let turn = if event.ending.is_some() { "end" } else { "start" };
    format!("{:020}-{}-{turn}.json", at.as_nanosecond().max(0), event.execution)
}

fn read(path: &Path) -> Option<Execution> {
    let (bytes, cut) = files::read(path, MAX_EVENT_BYTES).ok()?;
    if cut {
        return None;
    }
    let mut event: Execution = serde_json::from_slice(&bytes).ok()?;
    let hex = event.execution.len() == 32 && event.execution.bytes().all(|b| b"0123456789abcdef".contains(&b));
    let whole = event.ended.is_some() == event.ending.is_some();
    if !hex || !whole || !is_name(&event.job) {
        return None;
    }
    // The wrapper knows no config, hence no secrets of it; here they are known.
    event.tail = event.tail.map(|tail| Clean::text(tail.as_str(), MAX_TAIL_BYTES));
    event.schedule = event.schedule.map(|schedule| Clean::line(&schedule, 256).as_str().to_owned());
    Some(event)
}

fn set_aside(folder: &Path, path: &Path) {
    let bad = folder.join("bad");
    let room = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&bad).is_ok()
        && std::fs::read_dir(&bad).is_ok_and(|entries| entries.take(MAX_BAD).count() < MAX_BAD);
    // What can be neither moved nor deleted is met and counted again.
    let _moved = match path.file_name() {
        Some(name) if room => std::fs::rename(path, bad.join(name)),
        _ => std::fs::remove_file(path),
    };
}

fn unreadable(folder: &Path, error: &io::Error) -> Unread {
    Unread::ours("spool_unreadable", clean!("the spool `{}` can't be read: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::records::Ending;

    fn event(n: u8, ending: Option<Ending>) -> Execution {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        Execution {
            job: "nightly".to_owned(),
            execution: format!("{n:032x}"),
            started: at,
            ended: ending.as_ref().map(|_| at),
            ending,
            schedule: Some("every 15m".to_owned()),
            wrapper: Some((1, 2)),
            boot_id: None,
            stdout_bytes: None,
            stdout_sha256: None,
            tail: None,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn events_come_in_the_order_of_time_and_stay_until_done() {
        let state = tempfile::tempdir().unwrap();
        assert!(take(state.path(), 10).unwrap().events.is_empty(), "no folder yet");
        let [a, b] = [event(1, None), event(2, None)];
        let a_end = event(1, Some(Ending::Exit(3)));
        for (second, event) in [(2, &b), (5, &a_end), (1, &a)] {
            put(state.path(), at(second), event).unwrap();
        }
        for _ in 0..2 {
            let taken = take(state.path(), 10).unwrap();
            let events: Vec<&Execution> = taken.events.iter().map(|(_, event)| event).collect();
            assert_eq!(events, [&a, &b, &a_end]);
            assert_eq!((taken.bad, taken.more, taken.lost), (0, false, None));
        }
        let taken = take(state.path(), 2).unwrap();
        assert!(taken.more);
        let paths: Vec<PathBuf> = taken.events.into_iter().map(|(path, _)| path).collect();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&paths[0]), mode(&state.path().join("spool"))), (0o600, 0o700));
        done(&paths).unwrap();
        done(&paths).unwrap();
        let left = take(state.path(), 10).unwrap();
        assert_eq!(left.events.into_iter().map(|(_, event)| event).collect::<Vec<_>>(), [a_end]);
    }

    #[test]
    fn what_is_no_event_is_set_aside_and_counted() {
        let state = tempfile::tempdir().unwrap();
        put(state.path(), at(1), &event(1, None)).unwrap();
        let spool = state.path().join("spool");
        let good = serde_json::to_value(event(2, Some(Ending::Exit(0)))).unwrap();
        let with = |key: &str, value: serde_json::Value| {
            let mut changed = good.clone();
            changed[key] = value;
            changed.to_string()
        };
        let bad = [
            ("half.json", good.to_string()[..40].to_owned()),
            ("empty.json", String::new()),
            ("job.json", with("job", "../x".into())),
            ("id.json", with("execution", "ABC".into())),
            ("ended.json", with("ended", serde_json::Value::Null)),
            ("large.json", with("schedule", "x".repeat(MAX_EVENT_BYTES).into())),
        ];
        for (name, text) in &bad {
            files::replace(&spool.join(name), text.as_bytes(), 0o600).unwrap();
        }
        std::os::unix::fs::symlink("/dev/zero", spool.join("zero.json")).unwrap();
        std::fs::create_dir(spool.join("folder.json")).unwrap();
        files::replace(&spool.join(".being-written.tmp"), b"{", 0o600).unwrap();
        let taken = take(state.path(), 100).unwrap();
        assert_eq!((taken.events.len(), taken.bad), (1, bad.len() + 2));
        assert_eq!(take(state.path(), 100).unwrap().bad, 0, "they are met once");
        assert_eq!(std::fs::read_dir(spool.join("bad")).unwrap().count(), bad.len() + 2);
    }

    #[test]
    fn only_so_many_bad_ones_are_kept() {
        let state = tempfile::tempdir().unwrap();
        put(state.path(), at(1), &event(1, None)).unwrap();
        for n in 0..MAX_BAD + 5 {
            files::replace(&state.path().join(format!("spool/{n}.json")), b"?", 0o600).unwrap();
        }
        assert_eq!(take(state.path(), 1_000).unwrap().bad, MAX_BAD + 5);
        assert_eq!(std::fs::read_dir(state.path().join("spool/bad")).unwrap().count(), MAX_BAD);
        assert_eq!(take(state.path(), 1_000).unwrap().bad, 0);
    }

    #[test]
    fn a_full_spool_takes_no_more_and_a_loss_leaves_a_mark() {
        let state = tempfile::tempdir().unwrap();
        put(state.path(), at(1), &event(1, None)).unwrap();
        for n in 1..MAX_WAITING {
            std::os::unix::fs::symlink("x", state.path().join(format!("spool/{n}.json"))).unwrap();
        }
        let error = put(state.path(), at(2), &event(2, None)).unwrap_err();
        assert_eq!(error.to_string(), "10000 events wait already and no cycle takes them in");
        assert_eq!(take(state.path(), 0).unwrap().lost, None);
        lost(state.path());
        let (mark, _) = take(state.path(), 0).unwrap().lost.unwrap();
        done(&[mark]).unwrap();
        assert_eq!(take(state.path(), 0).unwrap().lost, None);
    }

    #[test]
    fn a_tail_passes_the_gate_again() {
        let state = tempfile::tempdir().unwrap();
        let said = "login with a-secret-that-only-the-config-names-7731";
        let ended = Execution { tail: Some(Clean::new(said)), ..event(1, Some(Ending::Signal(9))) };
        put(state.path(), at(1), &ended).unwrap();
        let _known = crate::redact::Secret::new("a-secret-that-only-the-config-names-7731");
        let tail = take(state.path(), 1).unwrap().events.remove(0).1.tail.unwrap();
        assert!(tail.as_str().starts_with("login with ") && !tail.as_str().contains("7731"), "{tail}");
    }
}
