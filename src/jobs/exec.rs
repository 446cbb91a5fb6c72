//! `pulsecheck exec`: runs a job as if the wrapper were not there, and leaves an event at its start and at its end.
//!
//! Status, death by a signal, stdin, stdout and stderr are the job's, byte for byte. It stays in our process group, so
//! that the terminal reaches it; signals that are sent to the wrapper alone are passed on. (systemd signals the whole
//! control group unless the unit says `KillMode=mixed`; without it the job gets SIGTERM twice.)
//!
//! What is not captured is inherited: the job then doesn't notice when the wrapper is killed. What is captured goes through
//! a pipe of ours: a job whose wrapper was killed gets SIGPIPE when it next writes, a process that the job leaves behind
//! can't write to it any more, and the job sees no terminal. Nothing that goes wrong with the record stops the job.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::future::poll_fn;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use jiff::SignedDuration;
use rustix::process::{Pid, Signal};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::spool;
use super::tail::Tail;
use crate::clean;
use crate::clock::Now;
use crate::host::{Host, files, identity};
use crate::records::{Ending, Execution};
use crate::redact::{Clean, Secret};

/// How long a job waits for the record of its start, and the wrapper for the record of the end.
const RECORD_WITHIN: Duration = Duration::from_secs(2);
/// After the job's exit its streams end when nothing came for this long.
const SILENCE: Duration = Duration::from_millis(100);
/// Bytes that are still passed on after the exit: more than the pipes can hold.
const AFTER_EXIT_BYTES: usize = 1_024 * 1_024;
/// Bytes read at once.
const CHUNK_BYTES: usize = 64 * 1_024;

/// What to run, and as what.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The job's name, checked by [`crate::facts::is_name`].
    pub job: String,
    /// The schedule that it runs on, checked: a cron expression or `every 15m`.
    pub schedule: Option<String>,
    /// Whether to capture the output; none captures each of stdout and stderr that is no terminal.
    pub capture: Option<bool>,
    /// Program and arguments.
    pub argv: Vec<OsString>,
}

/// How the wrapper is to end, so that its caller sees what it would see of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitOutcome {
    /// How.
    pub leaving: Leaving,
    /// A line for stderr, where nobody can take it for the job's.
    pub said: Option<Clean>,
}

/// A way to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// With a status; 127 when there is no such program, 126 when it could not be run, as shells have it.
    Status(i32),
    /// By a signal.
    Signal(i32),
}

impl Leaving {
    /// Ends this process in that way, waiting for no thread. By a signal it ends without a core dump of its own: the
    /// core that tells something is the job's.
    pub fn leave(self) -> ! {
        match self {
            Self::Status(status) => std::process::exit(status),
            Self::Signal(number) => {
                let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
                let _kept = rustix::process::setrlimit(rustix::process::Resource::Core, none);
                die_by(number);
                // Where a signal can't end the process (the first one of a container) the shells' convention stands for it.
                std::process::exit(128_i32.saturating_add(number))
            }
        }
    }
}

#[expect(unsafe_code, reason = "the default disposition of a signal is reached by no safe call")]
fn die_by(number: i32) {
    // SAFETY: SIG_DFL is a valid disposition for any signal; a number that is none is refused with an error.
    // `raise` has no preconditions.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number);
    }
}

/// Runs the job. The outcome is the job's, whatever became of the record.
pub async fn exec(request: ExecRequest, host: &Host) -> ExitOutcome {
    // Before anything that takes time: a signal that comes in between is passed on once there is somebody to pass it to.
    let relay = Relay::listen(&host.paths.proc);
    let streams = Streams {
        stdin: io::stdin().as_fd().try_clone_to_owned().ok(),
        stdout: io::stdout().as_fd().try_clone_to_owned().ok(),
        stderr: io::stderr().as_fd().try_clone_to_owned().ok(),
        hand_over: true,
    };
    exec_on(request, host, streams, relay).await
}

/// The three streams that the job would have without us; none: nothing there.
struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// Whether they are this process's own, which then keeps no hold on stdin and stdout: when the job closes them, the
    /// other end is to see it.
    hand_over: bool,
}

async fn exec_on(request: ExecRequest, host: &Host, streams: Streams, mut relay: Relay) -> ExitOutcome {
    let begun = host.now();
    let heard = streams.stderr.as_ref().is_some_and(rustix::termios::isatty);
    let mut event = opening(&request, host, begun);
    let mut recorded = record(host, begun, &event).await;

    let captured = |stream: Option<&OwnedFd>| {
        stream.is_some_and(|stream| request.capture.unwrap_or_else(|| !rustix::termios::isatty(stream)))
    };
    let stdout = Output::of(streams.stdout, captured);
    let stderr = Output::of(streams.stderr, captured);
    let keeps_tail = matches!(stdout, Output::Captured(_)) || matches!(stderr, Output::Captured(_));

    let spawned = spawn(&request, host, &event, streams.stdin.as_ref(), &stdout, &stderr);
    drop(streams.stdin);
    let (leaving, mut said) = match spawned {
        Err(error) => {
            let (status, why) = not_started(&error);
            let program = request.argv.first().map_or(OsStr::new(""), OsString::as_os_str).to_string_lossy();
            let why = clean!("failed to run `{}`: {why}", Clean::line(&program, 200));
            event.ending = Some(Ending::NotStarted(why.clone()));
            (Leaving::Status(status), Some(why))
        }
        Ok(mut child) => {
            if streams.hand_over {
                hand_over();
            }
            let tail = Mutex::new(Tail::default());
            let (over, ended) = watch::channel(false);
            let out = pump(child.stdout.take(), stdout, &tail, ended.clone());
            let err = pump(child.stderr.take(), stderr, &tail, ended);
            let mut pumps = pin!(async { tokio::join!(out, err) });
            let mut pumped = None;
            let status = {
                let mut exit = pin!(relay.until_exit(&mut child));
                loop {
                    tokio::select! {
                        status = &mut exit => break status,
                        done = &mut pumps, if pumped.is_none() => pumped = Some(done),
                    }
                }
            };
            event.ended = Some(end_time(begun, host.now()));
            let _nobody_pumps = over.send(true);
            while pumped.is_none() {
                tokio::select! {
                    done = &mut pumps => pumped = Some(done),
                    // The job would have died of it while it waited for its reader; what it left unread is lost.
                    signal = relay.next() => if !matches!(signal, Signal::USR1 | Signal::USR2) { break },
                }
            }
            if let Some((Some(out), _)) = pumped {
                event.stdout_bytes = Some(out.bytes);
                event.stdout_sha256 = Some(out.sha256);
            }
            if keeps_tail {
                let tail = std::mem::take(&mut *tail.lock().unwrap_or_else(PoisonError::into_inner)).finish();
                event.tail = Some(tail).filter(|tail| !tail.as_str().is_empty());
            }
            let (ending, leaving) = ending(status);
            event.ending = Some(ending);
            (leaving, None)
        }
    };
    let now = host.now();
    event.ended.get_or_insert_with(|| end_time(begun, now));
    let ended = event.ended.unwrap_or(begun.wall);
    recorded = recorded.and(record(host, Now { wall: ended, ..now }, &event).await);
    if let (Err(why), None, true) = (recorded, &said, heard) {
        said = Some(clean!("job `{}` ran, but its record was lost: {why}", request.job));
    }
    ExitOutcome { leaving, said }
}

/// Puts nothing in the place of our own stdin and stdout.
fn hand_over() {
    use rustix::fs::{Mode, OFlags, open};
    if let Ok(null) = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        // Where it fails the other end learns of it when we leave.
        let _kept = rustix::stdio::dup2_stdin(&null).and_then(|()| rustix::stdio::dup2_stdout(&null));
    }
}

/// The wall clock's time, unless somebody set it back in between.
fn end_time(begun: Now, ended: Now) -> jiff::Timestamp {
    if ended.wall >= begun.wall {
        return ended.wall;
    }
    let took = SignedDuration::try_from(ended.boot.saturating_sub(begun.boot)).unwrap_or_default();
    begun.wall.checked_add(took).unwrap_or(begun.wall)
}

/// The event of the start.
fn opening(request: &ExecRequest, host: &Host, begun: Now) -> Execution {
    let proc = &host.paths.proc;
    let pid = std::process::id();
    let boot_id = identity::boot_id(proc);
    let wrapper = identity::start_ticks(proc, "self").map(|ticks| (pid, ticks));
    let mut hash = Sha256::new();
    // Seeded by the kernel, so two wrappers of one instant differ; the rest tells machines and boots apart.
    hash.update(RandomState::new().hash_one(begun.boot).to_be_bytes());
    hash.update(RandomState::new().hash_one(pid).to_be_bytes());
    hash.update(format!("{} {boot_id:?} {wrapper:?}", begun.wall));
    let execution = hex(hash.finalize().get(..16).unwrap_or_default());
    Execution {
        job: request.job.clone(),
        execution,
        started: begun.wall,
        ended: None,
        ending: None,
        schedule: request.schedule.clone(),
        wrapper,
        boot_id,
        stdout_bytes: None,
        stdout_sha256: None,
        tail: None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

/// Leaves an event in the spool, or a mark that this failed. A disk that hangs is not waited for.
async fn record(host: &Host, at: Now, event: &Execution) -> Result<(), Clean> {
    let (state, event) = (host.paths.state.clone(), event.clone());
    let about = state.join("spool").to_string_lossy().into_owned();
    let written = host
        .lane(&about, Instant::now() + RECORD_WITHIN, move || {
            spool::put(&state, at.wall, &event).map_err(|error| {
                spool::lost(&state);
                clean!("{error}")
            })
        })
        .await;
    written.unwrap_or_else(|unread| Err(unread.said))
}

/// Where one stream of the job goes.
enum Output {
    /// There, without us.
    Inherited(OwnedFd),
    /// Through us.
    Captured(OwnedFd),
    /// Nowhere.
    Nothing,
}

impl Output {
    fn of(stream: Option<OwnedFd>, captured: impl Fn(Option<&OwnedFd>) -> bool) -> Self {
        let captured = captured(stream.as_ref());
        match stream {
            Some(stream) if captured => Self::Captured(stream),
            Some(stream) => Self::Inherited(stream),
            None => Self::Nothing,
        }
    }

    fn for_child(&self) -> io::Result<Stdio> {
        match self {
            Self::Inherited(stream) => Ok(Stdio::from(stream.try_clone()?)),
            Self::Captured(_) => Ok(Stdio::piped()),
            Self::Nothing => Ok(Stdio::null()),
        }
    }
}

fn spawn(
    request: &ExecRequest,
    host: &Host,
    event: &Execution,
    stdin: Option<&OwnedFd>,
    stdout: &Output,
    stderr: &Output,
) -> io::Result<Child> {
    // The gate learns what the job may print of its own environment.
    for (name, value) in &host.env {
        if let Some(value) = value.to_str().filter(|value| value.len() >= 8 && names_a_secret(name)) {
            let _known = Secret::new(value);
        }
    }
    let program = request.argv.first().filter(|program| !program.is_empty());
    let program = program.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    let arguments = request.argv.get(1..).unwrap_or_default();
    let start = |program: &OsStr, arguments: &[OsString]| {
        #[expect(clippy::disallowed_methods, reason = "the user's own job has the group and the time that it takes")]
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .envs(&host.env)
            .env("PULSECHECK_JOB", &request.job)
            .env("PULSECHECK_EXECUTION", &event.execution)
            .stdin(stdin.map_or_else(|| Ok(Stdio::null()), |fd| fd.try_clone().map(Stdio::from))?)
            .stdout(stdout.for_child()?)
            .stderr(stderr.for_child()?);
        command.spawn()
    };
    match start(program, arguments) {
        // A script without `#!`: a shell, and with it cron, would run it by `sh`.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            let script = find_program(program, host.var("PATH")).ok_or(error)?;
            let arguments: Vec<OsString> = std::iter::once(script.into()).chain(arguments.iter().cloned()).collect();
            start(OsStr::new("/bin/sh"), &arguments)
        }
        other => other,
    }
}

fn names_a_secret(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "APIKEY", "PRIVATE_KEY", "ACCESS_KEY", "CREDENTIAL"]
        .iter()
        .any(|word| name.contains(word))
}

fn find_program(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if program.to_string_lossy().contains('/') {
        return Some(PathBuf::from(program));
    }
    std::env::split_paths(path?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The status that shells give, and why in words.
fn not_started(error: &io::Error) -> (i32, String) {
    match error.kind() {
        io::ErrorKind::NotFound => (127, "not found".to_owned()),
        io::ErrorKind::PermissionDenied => (126, "not executable, or not by this user".to_owned()),
        _ => (126, error.to_string()),
    }
}

/// How it ended, for the record and for ourselves. When nobody can tell (the status was taken by somebody else) it is not
/// called a success.
fn ending(status: io::Result<ExitStatus>) -> (Ending, Leaving) {
    match status.ok().map(|status| (status.code(), status.signal())) {
        Some((Some(code), _)) => (Ending::Exit(code), Leaving::Status(code)),
        Some((None, Some(signal))) => (Ending::Signal(signal), Leaving::Signal(signal)),
        _ => (Ending::Interrupted, Leaving::Status(1)),
    }
}

/// Signals that are passed on to the job.
struct Relay(Vec<(Signal, Signals)>);

impl Relay {
    /// Listens for those that end a process unless it says otherwise. One that we were started to ignore (`nohup`, a
    /// shell's `&`) stays ignored, and the job inherits that.
    fn listen(proc: &Path) -> Self {
        let status = files::read(&proc.join("self/status"), 4_096).map(|(bytes, _)| bytes).unwrap_or_default();
        let ignored = ignored_signals(&String::from_utf8_lossy(&status)).unwrap_or(0);
        let wanted = [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2];
        let listened = wanted.into_iter().filter_map(|wanted| {
            let number = wanted.as_raw();
            let is_ignored = ignored & (1 << (number - 1)) != 0;
            let signals = if is_ignored { None } else { signal(SignalKind::from_raw(number)).ok() };
            signals.map(|signals| (wanted, signals))
        });
        Self(listened.collect())
    }

    async fn next(&mut self) -> Signal {
        poll_fn(|cx| {
            let mut ready =
                self.0.iter_mut().filter_map(|(signal, came)| came.poll_recv(cx).is_ready().then_some(*signal));
            ready.next().map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Waits for the job's exit, passing on what comes.
    async fn until_exit(&mut self, child: &mut Child) -> io::Result<ExitStatus> {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        loop {
            tokio::select! {
                status = child.wait() => return status,
                signal = self.next() => {
                    // A key on the terminal has reached the job too: it is in the same group.
                    let by_key = matches!(signal, Signal::INT | Signal::QUIT) && in_foreground();
                    if let Some(pid) = pid.filter(|_| !by_key) {
                        // It may just have ended: then there is nothing to pass on to.
                        let _gone = rustix::process::kill_process(pid, signal);
                    }
                }
            }
        }
    }
}

/// The mask `SigIgn` of `/proc/self/status`; bit 0 is signal 1.
fn ignored_signals(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}

/// Whether a key on our terminal, if we have one, signals our process group.
fn in_foreground() -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open("/dev/tty", flags, Mode::empty())
        .and_then(rustix::termios::tcgetpgrp)
        .is_ok_and(|group| group == rustix::process::getpgrp())
}

/// What went through a pump.
struct Pumped {
    bytes: u64,
    sha256: String,
}

/// Passes on what the job writes, unchanged, and keeps its end. None when there is nothing to capture. When the reader
/// behind us is gone, the pipe is closed, and the job is told by its next write, as it would be without us.
async fn pump(
    from: Option<impl AsyncRead + Unpin>,
    to: Output,
    tail: &Mutex<Tail>,
    mut ended: watch::Receiver<bool>,
) -> Option<Pumped> {
    let (Some(mut from), Output::Captured(to)) = (from, to) else { return None };
    let to = Arc::new(File::from(to));
    let mut hash = Sha256::new();
    let mut bytes = 0_u64;
    let mut left = None;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = match left {
            None => tokio::select! {
                read = from.read(&mut chunk) => read.ok(),
                _ = ended.wait_for(|over| *over) => {
                    left = Some(AFTER_EXIT_BYTES);
                    continue;
                }
            },
            Some(0) => None,
            Some(_) => timeout(SILENCE, from.read(&mut chunk)).await.ok().and_then(Result::ok),
        };
        let Some(count @ 1..) = read else { break };
        let new = chunk.get(..count).unwrap_or_default();
        hash.update(new);
        bytes += u64::try_from(count).unwrap_or(0);
        left = left.map(|left: usize| left.saturating_sub(count));
        tail.lock().unwrap_or_else(PoisonError::into_inner).push(new);
        let to = Arc::clone(&to);
        #[expect(clippy::disallowed_methods, reason = "a reader may be slow for ever, and `leave` waits for no thread")]
        let written = tokio::task::spawn_blocking(move || write_all(&to, &chunk, count).map(|()| chunk)).await;
        match written {
            Ok(Ok(back)) => chunk = back,
            _ => break,
        }
    }
    Some(Pumped { bytes, sha256: hex(&hash.finalize()) })
}

/// Writes the first `count` bytes. A stream that somebody made non-blocking is waited for.
fn write_all(mut to: &File, chunk: &[u8], count: usize) -> io::Result<()> {
    let mut rest = chunk.get(..count).unwrap_or_default();
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "real wrappers as processes, and what they and their jobs wrote")]
mod tests {
    use std::io::{PipeReader, Read as _, pipe};
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;
    use crate::clock::Clock;
    use crate::host::Paths;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn request(argv: &[&str], capture: Option<bool>) -> ExecRequest {
        let argv = argv.iter().map(OsString::from).collect();
        ExecRequest { job: "nightly".to_owned(), schedule: Some("every 15m".to_owned()), capture, argv }
    }

    /// Runs a job in this process; what it reads and writes goes through the streams given.
    async fn run(
        host: &Host,
        argv: &[&str],
        capture: bool,
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    ) -> ExitOutcome {
        let streams = Streams { stdin, stdout, stderr, hand_over: false };
        let request = request(argv, Some(capture));
        timeout(PATIENCE, exec_on(request, host, streams, Relay(Vec::new()))).await.unwrap()
    }

    fn events(host: &Host) -> Vec<Execution> {
        let taken = spool::take(&host.paths.state, 100).unwrap();
        assert_eq!(taken.bad, 0);
        taken.events.into_iter().map(|(_, event)| event).collect()
    }

    fn read_all(mut from: PipeReader) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let mut all = Vec::new();
            from.read_to_end(&mut all).unwrap();
            all
        })
    }

    #[tokio::test]
    async fn a_megabyte_of_anything_passes_unchanged() {
        let mut state = 7_u32;
        let sent: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(1_000_003)
        .collect();
        for capture in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let host = Host::for_tests(dir.path());
            let ((stdin, mut feed), (out, stdout), (err, stderr)) = (pipe().unwrap(), pipe().unwrap(), pipe().unwrap());
            let copy = sent.clone();
            let feeder = std::thread::spawn(move || feed.write_all(&copy).unwrap());
            let (out, err) = (read_all(out), read_all(err));
            let job = ["sh", "-c", "cat; printf 'bye\\377' >&2; exit 5"];
            let outcome = run(&host, &job, capture, Some(stdin.into()), Some(stdout.into()), Some(stderr.into())).await;
            feeder.join().unwrap();
            assert_eq!(outcome, ExitOutcome { leaving: Leaving::Status(5), said: None });
            assert!(out.join().unwrap() == sent, "stdout differs, captured: {capture}");
            assert_eq!(err.join().unwrap(), b"bye\xff");

            let [start, end] = events(&host).try_into().unwrap();
            assert_eq!((start.ending, start.ended, &start.job[..]), (None, None, "nightly"));
            assert_eq!(start.wrapper.unwrap().0, std::process::id());
            assert_eq!(start.boot_id.unwrap().len(), 36);
            assert_eq!((&end.execution, end.ending), (&start.execution, Some(Ending::Exit(5))));
            assert!(end.ended.unwrap() >= end.started);
            if capture {
                assert_eq!(end.stdout_bytes, Some(1_000_003));
                assert_eq!(end.stdout_sha256, Some(hex(&Sha256::digest(&sent))));
                assert!(end.tail.unwrap().as_str().len() <= spool::MAX_TAIL_BYTES);
            } else {
                assert_eq!((end.stdout_bytes, end.stdout_sha256, end.tail), (None, None, None));
            }
        }
    }

    #[tokio::test]
    async fn the_jobs_end_is_the_wrappers() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode| {
            let path = dir.path().join(name);
            files::replace(&path, text.as_bytes(), mode).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let plain = file("plain", "no program", 0o644);
        let bare = file("bare", "exit 9", 0o755);
        let lost = file("lost", "#!/no/such/interpreter\n", 0o755);
        let folder = dir.path().to_str().unwrap();
        let table: [(&[&str], Leaving, Option<&str>); 9] = [
            (&["true"], Leaving::Status(0), None),
            (&["sh", "-c", "exit 255"], Leaving::Status(255), None),
            (&["sh", "-c", "kill -9 $$"], Leaving::Signal(9), None),
            (&["no-such-program"], Leaving::Status(127), Some("failed to run `no-such-program`: not found")),
            (&[], Leaving::Status(127), Some("failed to run ``: not found")),
            (&[&lost], Leaving::Status(127), Some(": not found")),
            (&[&plain], Leaving::Status(126), Some(": not executable, or not by this user")),
            (&[folder], Leaving::Status(126), Some(": not executable, or not by this user")),
            (&[&bare], Leaving::Status(9), None),
        ];
        for (n, (argv, leaving, said)) in table.into_iter().enumerate() {
            let host = Host::for_tests(&dir.path().join(n.to_string()));
            let outcome = run(&host, argv, false, None, None, None).await;
            assert_eq!(outcome.leaving, leaving, "{argv:?}");
            let heard = outcome.said.as_ref().map(Clean::as_str);
            assert_eq!(heard.is_some(), said.is_some(), "{argv:?}: {heard:?}");
            assert!(heard.unwrap_or_default().ends_with(said.unwrap_or_default()), "{argv:?}: {heard:?}");
            let ending = match (leaving, outcome.said) {
                (_, Some(why)) => Ending::NotStarted(why),
                (Leaving::Status(status), None) => Ending::Exit(status),
                (Leaving::Signal(signal), None) => Ending::Signal(signal),
            };
            assert_eq!(events(&host).pop().unwrap().ending, Some(ending));
        }
    }

    #[tokio::test]
    async fn the_job_knows_its_name_and_its_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::for_tests(dir.path());
        host.env.insert("GREETING".into(), "hello".into());
        let (out, stdout) = pipe().unwrap();
        let out = read_all(out);
        let job = ["sh", "-c", "echo $GREETING $PULSECHECK_JOB $PULSECHECK_EXECUTION"];
        run(&host, &job, true, None, Some(stdout.into()), None).await;
        let end = events(&host).pop().unwrap();
        let line = format!("hello nightly {}\n", end.execution);
        assert_eq!(String::from_utf8(out.join().unwrap()).unwrap(), line);
        assert_eq!(end.tail.unwrap().as_str(), line);
    }

    #[tokio::test]
    async fn a_record_that_can_not_be_kept_stops_no_job() {
        let dir = tempfile::tempdir().unwrap();
        let blocked = dir.path().join("blocked");
        std::fs::create_dir(&blocked).unwrap();
        files::replace(&blocked.join("spool"), b"a file where the folder should be", 0o600).unwrap();
        for (state, marked) in [(blocked, true), (PathBuf::from("/proc/no/state"), false)] {
            let paths = Paths { home: None, state: state.clone(), proc: PathBuf::from("/proc") };
            let host = Host::new(Clock::machine(), Host::for_tests(dir.path()).env, paths);
            let ((out, stdout), (err, stderr)) = (pipe().unwrap(), pipe().unwrap());
            let (out, err) = (read_all(out), read_all(err));
            let job = ["sh", "-c", "echo done; exit 4"];
            let outcome = run(&host, &job, false, None, Some(stdout.into()), Some(stderr.into())).await;
            assert_eq!(outcome, ExitOutcome { leaving: Leaving::Status(4), said: None });
            assert_eq!((out.join().unwrap().as_slice(), err.join().unwrap().as_slice()), (&b"done\n"[..], &b""[..]));
            assert_eq!(state.join("spool-lost").exists(), marked);
        }
    }

    #[tokio::test]
    async fn a_reader_that_goes_away_ends_the_job_as_it_would_without_us() {
        for capture in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let host = Host::for_tests(dir.path());
            let (mut out, stdout) = pipe().unwrap();
            let reader = std::thread::spawn(move || {
                let mut first = [0; 10];
                out.read_exact(&mut first).unwrap();
                first
            });
            let outcome = run(&host, &["yes"], capture, None, Some(stdout.into()), None).await;
            assert_eq!(&reader.join().unwrap(), b"y\ny\ny\ny\ny\n");
            let sigpipe = Signal::PIPE.as_raw();
            assert_eq!(outcome.leaving, Leaving::Signal(sigpipe), "captured: {capture}");
            assert_eq!(events(&host).pop().unwrap().ending, Some(Ending::Signal(sigpipe)));
        }
    }

    #[tokio::test]
    async fn what_the_job_leaves_running_does_not_hold_the_wrapper() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::for_tests(dir.path());
        let (out, stdout) = pipe().unwrap();
        let out = read_all(out);
        // Twice the pipe's room is still on its way when the shell has ended; the sleeper holds the pipe open.
        let job = ["sh", "-c", "sleep 60 & head -c 131072 /dev/zero; echo $! > \"$HOME/left\""];
        let outcome = run(&host, &job, true, None, Some(stdout.into()), None).await;
        assert_eq!(outcome.leaving, Leaving::Status(0));
        assert_eq!(out.join().unwrap().len(), 131_072);
        let left = std::fs::read_to_string(dir.path().join("left")).unwrap().trim().parse().unwrap();
        rustix::process::kill_process(Pid::from_raw(left).unwrap(), Signal::KILL).unwrap();
    }

    /// Not a test: the process that the tests below start. It runs the script in `JOB_SCRIPT` as `pulsecheck exec` would.
    #[test]
    #[ignore = "the wrapper that other tests start"]
    fn wrapper() {
        let Some(script) = std::env::var_os("JOB_SCRIPT") else { return };
        let home = PathBuf::from(std::env::var_os("HOME").unwrap());
        let host = Host::new(Clock::machine(), crate::host::env::capture(), Host::for_tests(&home).paths);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let capture = std::env::var_os("JOB_CAPTURE").is_some();
        let request = request(&["sh", "-c", script.to_str().unwrap()], Some(capture));
        runtime.block_on(exec(request, &host)).leaving.leave();
    }

    struct Wrapper {
        dir: tempfile::TempDir,
        child: std::process::Child,
    }

    impl Wrapper {
        /// Starts a wrapper around a script, itself started by the shell line `before`, which ends in `exec "$@"`.
        fn start(before: &str, script: &str) -> Self {
            Self::start_with(before, script, |_| {})
        }

        fn start_with(before: &str, script: &str, change: impl FnOnce(&mut Command)) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", before, "sh"])
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", "jobs::exec::tests::wrapper", "--ignored", "--nocapture"])
                .env("HOME", dir.path())
                .env("JOB_SCRIPT", script)
                .current_dir(dir.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // A group that is in no terminal's foreground, wherever the tests run.
                .process_group(0);
            change(&mut command);
            Self { dir, child: command.spawn().unwrap() }
        }

        fn wait_for(&self, file: &str) -> String {
            let path = self.dir.path().join(file);
            let text = poll(|| std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n')));
            assert!(text.is_some(), "`{file}` did not come");
            text.unwrap()
        }

        fn signal(&self, signal: Signal) {
            let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
            rustix::process::kill_process(pid, signal).unwrap();
        }

        fn end(&mut self) -> ExitStatus {
            let status = poll(|| self.child.try_wait().unwrap());
            if status.is_none() {
                self.child.kill().unwrap();
            }
            status.unwrap()
        }

        fn endings(&self) -> Vec<Option<Ending>> {
            events(&Host::for_tests(self.dir.path())).into_iter().map(|event| event.ending).collect()
        }
    }

    fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = look() {
                return Some(found);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }

    const PLAIN: &str = r#"exec "$@""#;

    #[test]
    fn death_by_a_signal_is_seen_as_one() {
        for signal in [Signal::TERM, Signal::KILL, Signal::SEGV, Signal::PIPE, Signal::USR1, Signal::INT] {
            let number = signal.as_raw();
            let mut wrapper = Wrapper::start(PLAIN, &format!("kill -{number} $$"));
            let status = wrapper.end();
            assert_eq!((status.signal(), status.core_dumped()), (Some(number), false), "{status}");
            assert_eq!(wrapper.endings(), [None, Some(Ending::Signal(number))]);
        }
    }

    #[test]
    fn signals_reach_the_job() {
        for (signal, name) in [
            (Signal::TERM, "TERM"),
            (Signal::HUP, "HUP"),
            (Signal::USR1, "USR1"),
            (Signal::USR2, "USR2"),
            (Signal::INT, "INT"),
            (Signal::QUIT, "QUIT"),
        ] {
            let script = format!("trap 'exit 7' {name}; echo > ready; while :; do sleep 0.02; done");
            let mut wrapper = Wrapper::start(PLAIN, &script);
            wrapper.wait_for("ready");
            wrapper.signal(signal);
            assert_eq!(wrapper.end().code(), Some(7), "{name}");
            assert_eq!(wrapper.endings(), [None, Some(Ending::Exit(7))]);
        }
    }

    #[test]
    fn a_killed_wrapper_leaves_the_job_running_and_a_start_without_an_end() {
        let script = "echo > ready; while [ ! -e go ]; do sleep 0.02; done; echo more; echo > done";
        let mut wrapper = Wrapper::start(PLAIN, script);
        wrapper.wait_for("ready");
        wrapper.signal(Signal::KILL);
        assert_eq!(wrapper.end().signal(), Some(9));
        files::replace(&wrapper.dir.path().join("go"), b"", 0o600).unwrap();
        wrapper.wait_for("done");
        assert_eq!(wrapper.endings(), [None]);
    }

    #[test]
    fn a_signal_that_was_ignored_stays_ignored_for_the_job() {
        let script =
            "grep SigIgn /proc/self/status > mask; echo > ready; while [ ! -e go ]; do sleep 0.02; done; exit 3";
        let mut wrapper = Wrapper::start(r#"trap "" HUP; exec "$@""#, script);
        wrapper.wait_for("ready");
        let mask = ignored_signals(&wrapper.wait_for("mask")).unwrap();
        assert_eq!(mask & 1, 1, "{mask:x}");
        wrapper.signal(Signal::HUP);
        files::replace(&wrapper.dir.path().join("go"), b"", 0o600).unwrap();
        assert_eq!(wrapper.end().code(), Some(3));
    }

    #[test]
    fn a_wrapper_whose_reader_is_stuck_can_be_ended() {
        let (held, stdout) = pipe().unwrap();
        // More than one pipe holds and less than two: the job ends, the wrapper is stuck with the rest.
        let script = "trap '' TERM; echo > ready; head -c 100000 /dev/zero; exit 6";
        let mut wrapper = Wrapper::start_with(PLAIN, script, |command| {
            command.env("JOB_CAPTURE", "1").stdout(stdout);
        });
        wrapper.wait_for("ready");
        // The first may still reach the job, which ignores it.
        let status = poll(|| {
            wrapper.signal(Signal::TERM);
            wrapper.child.try_wait().unwrap()
        });
        assert_eq!(status.unwrap_or_else(|| wrapper.end()).code(), Some(6));
        assert_eq!(wrapper.endings(), [None, Some(Ending::Exit(6))]);
        drop(held);
    }

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        assert_eq!(ignored_signals("Name:\tx\nSigIgn:\t0000000000001001\n"), Some(0x1001));
        assert_eq!(ignored_signals("Name:\tx\n"), None);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_negative_duration() {
        let begun = Now { wall: "2026-03-20T14:30:00Z".parse().unwrap(), boot: Duration::from_secs(100) };
        let ended =
            |wall: &str, boot| end_time(begun, Now { wall: wall.parse().unwrap(), boot: Duration::from_secs(boot) });
        assert_eq!(ended("2026-03-20T14:30:07Z", 107).to_string(), "2026-03-20T14:30:07Z");
        assert_eq!(ended("2026-03-20T13:30:07Z", 107).to_string(), "2026-03-20T14:30:07Z");
    }
}
