//! Commands: argv, a clean environment, a process group of their own that is killed whole, bounded output.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::{Host, files};
use crate::clean;
use crate::facts::Unread;
use crate::redact::{Clean, Secret};

/// How long output may still come once the command has exited: a grandchild that inherited the pipe may hold it for ever.
const LINGER: Duration = Duration::from_millis(100);
/// What a group has between SIGTERM and SIGKILL, within the deadline.
const GRACE: Duration = Duration::from_millis(200);
/// Kept at the end of the time for killing and collecting.
const RESERVE: Duration = Duration::from_millis(50);
/// How long a killed command is waited for; one in the disk's hands dies later.
const DYING: Duration = Duration::from_millis(250);
/// Where programs are when the environment says nothing.
pub(super) const USUAL_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// Program and arguments; never given to a shell.
    pub argv: Vec<String>,
    /// The working directory; the state folder's parent if none.
    pub cwd: Option<PathBuf>,
    /// Variables beside `PATH`, `HOME`, `LANG=C.UTF-8`, `TZ`, `USER`, `XDG_RUNTIME_DIR`; nothing else is inherited.
    pub env: Vec<(String, Secret)>,
    /// What it reads on stdin; none means an empty one.
    pub stdin: Option<Vec<u8>>,
    /// Output beyond this many bytes a stream is read and thrown away.
    pub max_output_bytes: usize,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// With a status.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It was still running at the deadline and was killed with its group.
    TimedOut,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub exit: Exit,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
    /// Whether either stream was cut.
    pub cut: bool,
    /// How long it ran.
    pub took: Duration,
}

/// How many commands run at once: one a core, at least two.
pub(super) fn places() -> usize {
    std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2))
}

impl Host {
    /// Where a program is on the `PATH`, as far as it may be run.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let path = self.var("PATH").map_or_else(|| OsString::from(USUAL_PATH), OsString::from);
        std::env::split_paths(&path)
            .filter(|folder| folder.is_absolute())
            .map(|folder| folder.join(name))
            .find(|program| matches!(look(program), Look::Runs))
    }

    /// Runs a command until it exits or the deadline is there. At most as many at once as there are cores (at least 2).
    /// Codes: `program_not_found`, `program_not_executable`, `folder_not_found` (blind), `commands_busy` (ours),
    /// `spawn_failed` (ours).
    ///
    /// The group is asked to end a quarter of a second before the deadline and killed just before it, so that the answer
    /// is there in time. A dropped call kills it at once. What a command that exited left running goes on.
    pub async fn run(&self, command: &Command, deadline: Instant) -> Result<Ran, Unread> {
        let asked = Instant::now();
        let place = timeout_at(deadline, Arc::clone(&self.commands).acquire_owned()).await;
        let waited = asked.elapsed();
        // With less than half of its time left, being slow would be called the command's fault, and is ours.
        let too_late = waited > deadline.saturating_duration_since(asked) / 2;
        let _place = match place {
            Ok(Ok(place)) if !too_late => place,
            _ => {
                let said = clean!("{} commands run already, and none ended in time", places());
                return Err(Unread::ours("commands_busy", said));
            }
        };
        let started = Instant::now();
        let prepared = self.prepare(command);
        let runtime = tokio::runtime::Handle::current();
        let about = clean!("start of {}", command.argv.first().map_or("", String::as_str));
        // Looking for the program and starting it read the disk.
        let group = self.lane(about.as_str(), deadline, move || {
            let _entered = runtime.enter();
            prepared.start()
        });
        let mut group = group.await??;
        let left = deadline.saturating_duration_since(Instant::now());
        let reserve = RESERVE.min(left / 10);
        let ask = deadline - reserve - GRACE.min(left / 5);

        let (mut stdout, mut stderr) = (Output::new(command.max_output_bytes), Output::new(command.max_output_bytes));
        let (out_pipe, err_pipe, in_pipe) =
            (group.child.stdout.take(), group.child.stderr.take(), group.child.stdin.take());
        let exit = {
            let pipes = async {
                tokio::join!(stdout.read(out_pipe), stderr.read(err_pipe), feed(in_pipe, command.stdin.as_deref()));
            };
            let mut pipes = std::pin::pin!(pipes);
            let mut open = true;
            let ended = loop {
                tokio::select! {
                    status = group.child.wait() => break Some(status),
                    () = &mut pipes, if open => open = false,
                    () = sleep_until(ask) => break None,
                }
            };
            let exit = if let Some(status) = ended {
                group.collected = true;
                status.map(exit_of).map_err(|error| {
                    Unread::ours("spawn_failed", clean!("its end could not be seen: {}", files::plain(&error)))
                })?
            } else {
                let stopping = group.stop(deadline - reserve);
                tokio::pin!(stopping);
                loop {
                    tokio::select! {
                        () = &mut stopping => break Exit::TimedOut,
                        () = &mut pipes, if open => open = false,
                    }
                }
            };
            if open {
                let _still_held =
                    timeout(LINGER.min(deadline.saturating_duration_since(Instant::now())), &mut pipes).await;
            }
            exit
        };
        let cut = stdout.cut || stderr.cut;
        Ok(Ran { exit, stdout: stdout.kept, stderr: stderr.kept, cut, took: started.elapsed() })
    }

    fn prepare(&self, command: &Command) -> Prepared {
        let mut env: Vec<(OsString, OsString)> = ["HOME", "TZ", "USER", "XDG_RUNTIME_DIR"]
            .into_iter()
            .filter_map(|name| Some((OsString::from(name), self.var(name)?.to_owned())))
            .collect();
        let path = self.var("PATH").map_or_else(|| OsString::from(USUAL_PATH), OsString::from);
        env.push((OsString::from("PATH"), path));
        env.push((OsString::from("LANG"), OsString::from("C.UTF-8")));
        env.extend(command.env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value.expose()))));
        let parent = self.paths.state.parent().filter(|parent| parent.is_absolute()).map(Path::to_owned);
        Prepared {
            argv: command.argv.clone(),
            cwd: command.cwd.clone(),
            or_cwd: parent.unwrap_or_else(|| PathBuf::from("/")),
            env,
            feeds: command.stdin.is_some(),
        }
    }
}

/// A command with all that its start needs, to be handed to a lane.
struct Prepared {
    argv: Vec<String>,
    cwd: Option<PathBuf>,
    /// The folder when none is asked for; `/` when that isn't there yet.
    or_cwd: PathBuf,
    env: Vec<(OsString, OsString)>,
    feeds: bool,
}

impl Prepared {
    /// Starts it in a group of its own. Blocking.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
    fn start(&self) -> Result<Group, Unread> {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(Unread::blind("program_not_found", Clean::new("the command is empty")));
        };
        let cwd = match &self.cwd {
            Some(cwd) if cwd.is_dir() => cwd.as_path(),
            Some(cwd) => {
                return Err(Unread::blind("folder_not_found", clean!("the folder {} is not there", files::shown(cwd))));
            }
            None if self.or_cwd.is_dir() => self.or_cwd.as_path(),
            None => Path::new("/"),
        };
        let found = self.find(program, cwd)?;
        let mut start = std::process::Command::new(&found);
        {
            use std::os::unix::process::CommandExt as _;
            start.arg0(program).process_group(0);
        }
        start
            .args(arguments)
            .current_dir(cwd)
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(if self.feeds { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut start = tokio::process::Command::from(start);
        let mut tries = 0;
        loop {
            match start.spawn() {
                Ok(child) => return Ok(Group { id: child.id().and_then(pid), child, collected: false }),
                // Another thread forked while the program was still being written: gone in a moment.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && tries < 10 => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(start_failed(&found, cwd, &error)),
            }
        }
    }

    /// A name without a slash is looked for on the command's own `PATH`, one with a slash from its folder on.
    fn find(&self, program: &str, cwd: &Path) -> Result<PathBuf, Unread> {
        let quoted = Clean::line(program, 200);
        if program.contains('/') {
            let path = cwd.join(program);
            return match look(&path) {
                Look::Runs => Ok(path),
                Look::Absent => Err(Unread::blind("program_not_found", clean!("there is no program `{quoted}`"))),
                Look::MayNot => {
                    Err(Unread::blind("program_not_executable", clean!("`{quoted}` may not be run (chmod +x it)")))
                }
            };
        }
        let path = self.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_bytes());
        let mut refused = false;
        for folder in path.unwrap_or_default().split(|&b| b == b':').filter(|_| !program.is_empty()) {
            // An empty or relative entry means the current folder, which is never meant.
            let folder = Path::new(std::ffi::OsStr::from_bytes(folder));
            if folder.is_absolute() {
                let path = folder.join(program);
                match look(&path) {
                    Look::Runs => return Ok(path),
                    Look::MayNot => refused = true,
                    Look::Absent => {}
                }
            }
        }
        Err(if refused {
            Unread::blind("program_not_executable", clean!("`{quoted}` on $PATH may not be run (chmod +x it)"))
        } else {
            Unread::blind("program_not_found", clean!("there is no program `{quoted}` on $PATH"))
        })
    }
}

enum Look {
    Runs,
    MayNot,
    Absent,
}

fn look(path: &Path) -> Look {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => match rustix::fs::access(path, rustix::fs::Access::EXEC_OK) {
            Ok(()) => Look::Runs,
            Err(_) => Look::MayNot,
        },
        Ok(_) => Look::MayNot,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Look::MayNot,
        Err(_) => Look::Absent,
    }
}

fn start_failed(program: &Path, cwd: &Path, error: &io::Error) -> Unread {
    let shown = files::shown(program);
    match error.kind() {
        ErrorKind::NotFound => {
            Unread::blind("program_not_found", clean!("{shown} names an interpreter that is not there"))
        }
        ErrorKind::PermissionDenied => {
            Unread::blind("program_not_executable", clean!("{shown} may not be run in {}", files::shown(cwd)))
        }
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            Unread::blind("program_not_executable", clean!("{shown} is no program (a script begins with `#!`)"))
        }
        _ => Unread::ours("spawn_failed", clean!("{shown} could not be started: {}", files::plain(error))),
    }
}

fn pid(raw: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(raw).ok()?)
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Status(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Status(-1),
    }
}

/// A running command's group. Until its leader is collected the leader's id can't be given to another process, so only
/// until then is it killed by that id.
struct Group {
    id: Option<Pid>,
    child: Child,
    collected: bool,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let (false, Some(id)) = (self.collected, self.id) {
            // A group that is gone already is what was wanted.
            let _gone = rustix::process::kill_process_group(id, signal);
        }
    }

    /// Asks the group to end, kills it at `kill`, and collects the leader.
    async fn stop(&mut self, kill: Instant) {
        self.signal(Signal::TERM);
        // The leader stays uncollected meanwhile, or its id might be another's by the time of the kill.
        while Instant::now() < kill && !self.leader_ended() {
            sleep(Duration::from_millis(10).min(kill.saturating_duration_since(Instant::now()))).await;
        }
        sleep_until(kill.min(Instant::now() + Duration::from_millis(20))).await;
        self.signal(Signal::KILL);
        // What does not die now is in the disk's hands; the runtime collects it when it does.
        self.collected = timeout(DYING, self.child.wait()).await.is_ok();
    }

    fn leader_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.id.is_none_or(|id| !matches!(rustix::process::waitid(WaitId::Pid(id), options), Ok(None)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// One stream: read to its end, kept to a limit.
struct Output {
    kept: Vec<u8>,
    limit: usize,
    cut: bool,
}

impl Output {
    fn new(limit: usize) -> Self {
        Self { kept: Vec::new(), limit, cut: false }
    }

    async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut buffer = vec![0; 16 * 1024];
        // An error on a pipe is its end.
        while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
            let came = buffer.get(..count).unwrap_or_default();
            let fits = came.get(..self.limit - self.kept.len()).unwrap_or(came);
            self.kept.extend_from_slice(fits);
            self.cut |= fits.len() < came.len();
        }
    }
}

/// Gives a command its stdin; one that doesn't want it all may close it.
async fn feed(pipe: Option<ChildStdin>, bytes: Option<&[u8]>) {
    if let (Some(mut pipe), Some(bytes)) = (pipe, bytes) {
        let _closed = pipe.write_all(bytes).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }
    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::for_tests(dir.path());
        (dir, host)
    }
    fn shell(script: &str) -> Command {
        Command {
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            max_output_bytes: 1_000,
            ..Command::default()
        }
    }
    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }
    fn pids(bytes: &[u8]) -> Vec<u32> {
        text(bytes).split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    }
    /// Gone, or dead and only waiting for somebody else to collect it.
    fn dead(pid: u32) -> bool {
        std::fs::metadata(format!("/proc/{pid}")).is_err()
            || files::read(Path::new(&format!("/proc/{pid}/stat")), 4_096)
                .is_ok_and(|(stat, _)| String::from_utf8_lossy(&stat).contains(") Z "))
    }
    async fn until(what: impl Fn() -> bool) {
        let give_up = soon(10_000);
        while !what() {
            assert!(Instant::now() < give_up, "it never came to be");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn status_streams_signal_and_folder_come_back() {
        let (dir, host) = host();
        let ran = host.run(&shell("pwd; echo err >&2; exit 3"), soon(20_000)).await.unwrap();
        assert_eq!(ran.exit, Exit::Status(3));
        assert_eq!(Path::new(text(&ran.stdout).trim()), dir.path().canonicalize().unwrap());
        assert_eq!((text(&ran.stderr), ran.cut), ("err\n", false));
        let killed = host.run(&shell("kill -9 $$"), soon(20_000)).await.unwrap();
        assert_eq!(killed.exit, Exit::Signal(9));
    }

    #[tokio::test]
    async fn the_environment_is_clean() {
        let (dir, mut host) = host();
        host.env.insert(OsString::from("AWS_SECRET"), OsString::from("leaks"));
        host.env.insert(OsString::from("TZ"), OsString::from("UTC"));
        let command = Command {
            argv: vec!["env".to_owned()],
            env: vec![("TOKEN".to_owned(), Secret::public("given"))],
            max_output_bytes: 10_000,
            ..Command::default()
        };
        let ran = host.run(&command, soon(20_000)).await.unwrap();
        let mut lines: Vec<&str> = text(&ran.stdout).lines().collect();
        lines.sort_unstable();
        let (home, path) = (format!("HOME={}", dir.path().display()), format!("PATH={USUAL_PATH}"));
        assert_eq!(lines, [home.as_str(), "LANG=C.UTF-8", path.as_str(), "TOKEN=given", "TZ=UTC"]);
    }

    #[tokio::test]
    async fn more_output_and_input_than_a_pipe_holds_neither_blocks_nor_grows() {
        let (_dir, host) = host();
        let command = Command { stdin: Some(vec![b'x'; 1 << 20]), ..shell("cat; cat /dev/zero | head -c 3000000 >&2") };
        let ran = host.run(&command, soon(30_000)).await.unwrap();
        assert_eq!((ran.exit, ran.stdout.len(), ran.stderr.len(), ran.cut), (Exit::Status(0), 1_000, 1_000, true));
        let unread = Command { stdin: Some(vec![b'x'; 1 << 20]), ..shell("exec <&-; echo done") };
        assert_eq!(host.run(&unread, soon(30_000)).await.unwrap().stdout, b"done\n");
        let empty = host.run(&shell("cat; echo end"), soon(30_000)).await.unwrap();
        assert_eq!(empty.stdout, b"end\n");
    }

    #[tokio::test]
    async fn a_grandchild_that_holds_stdout_keeps_nobody_waiting() {
        let (_dir, host) = host();
        let ran = host.run(&shell("sleep 300 & echo $!"), soon(60_000)).await.unwrap();
        assert_eq!(ran.exit, Exit::Status(0));
        assert!(ran.took < Duration::from_secs(30), "{:?}", ran.took);
        let left = pids(&ran.stdout);
        assert!(!dead(left[0]), "what a command leaves running goes on");
        rustix::process::kill_process(pid(left[0]).unwrap(), Signal::KILL).unwrap();
    }

    #[tokio::test]
    async fn at_the_deadline_the_whole_group_is_gone_and_the_answer_is_in_time() {
        let (_dir, host) = host();
        let script = "trap '' TERM; sleep 300 & echo $$ $!; while :; do sleep 1; done";
        let deadline = soon(1_000);
        let ran = host.run(&shell(script), deadline).await.unwrap();
        assert_eq!(ran.exit, Exit::TimedOut);
        assert!(ran.took >= Duration::from_millis(600), "{:?}", ran.took);
        let group = pids(&ran.stdout);
        assert_eq!(group.len(), 2, "what it wrote before is kept");
        until(|| group.iter().all(|&pid| dead(pid))).await;
        assert!(std::fs::metadata(format!("/proc/{}", group[0])).is_err(), "the leader was collected");
    }

    #[tokio::test]
    async fn a_group_that_ends_when_asked_is_not_killed() {
        let (dir, host) = host();
        let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done";
        let ran = host.run(&shell(script), soon(2_000)).await.unwrap();
        assert_eq!((ran.exit, text(&ran.stdout)), (Exit::TimedOut, "up\nbye\n"));
        drop(dir);
    }

    #[tokio::test]
    async fn a_dropped_run_kills_its_group_and_gives_its_place_back() {
        let (dir, host) = host();
        let file = dir.path().join("pids");
        let script = format!("sleep 300 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let command = shell(&script);
        {
            let run = host.run(&command, soon(60_000));
            tokio::pin!(run);
            let written = until(|| file.exists());
            tokio::select! {
                _ = &mut run => panic!("it does not end by itself"),
                () = written => {}
            }
        }
        let group = pids(&files::read(&file, 100).unwrap().0);
        until(|| group.iter().all(|&pid| dead(pid))).await;
        until(|| std::fs::metadata(format!("/proc/{}", group[0])).is_err()).await;
        assert_eq!(host.commands.available_permits(), places());
    }

    #[tokio::test]
    async fn commands_beyond_the_places_wait_or_say_so() {
        let (_dir, host) = host();
        let _taken = Arc::clone(&host.commands).acquire_many_owned(u32::try_from(places()).unwrap()).await.unwrap();
        let busy = host.run(&shell("true"), soon(30)).await.unwrap_err();
        assert_eq!((busy.blame, busy.code.as_str()), (crate::facts::Blame::Ours, "commands_busy"));
    }

    #[tokio::test]
    async fn what_can_not_be_run_says_why() {
        let (dir, host) = host();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        files::replace(Path::new(&at("plain")), b"echo hi", 0o644).unwrap();
        files::replace(Path::new(&at("nothing")), b"\x01\x02", 0o755).unwrap();
        files::replace(Path::new(&at("lost")), b"#!/no/such/interpreter\n", 0o755).unwrap();
        files::replace(Path::new(&at("script")), b"#!/bin/sh\necho $0 $1\n", 0o755).unwrap();
        let run = async |program: &str, cwd: Option<&str>| {
            let argv = if program.is_empty() { Vec::new() } else { vec![program.to_owned(), "a b".to_owned()] };
            let cwd = cwd.map(PathBuf::from);
            host.run(&Command { argv, cwd, max_output_bytes: 100, ..Command::default() }, soon(20_000)).await
        };
        for (program, cwd, code) in [
            ("", None, "program_not_found"),
            ("no-such-program", None, "program_not_found"),
            ("/no/such/program", None, "program_not_found"),
            (&at("plain"), None, "program_not_executable"),
            (&at("nothing"), None, "program_not_executable"),
            (&at("lost"), None, "program_not_found"),
            (&at(""), None, "program_not_executable"),
            ("true", Some("/no/such/folder"), "folder_not_found"),
        ] {
            let unread = run(program, cwd).await.unwrap_err();
            assert_eq!(
                (unread.blame, unread.code.as_str()),
                (crate::facts::Blame::Blind, code),
                "{program}: {}",
                unread.said
            );
        }
        let beside = run("./script", Some(&at(""))).await.unwrap();
        assert!(text(&beside.stdout).ends_with("script a b\n"), "{}", text(&beside.stdout));
    }
}
