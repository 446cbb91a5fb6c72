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
use crate::host::{Host, files};
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
    let captures = matches!(stdout, Output::Captured(_)) || matches!(stderr, Output::Captured(_));

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
            if captures {
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
    let boot_id = text_of(&proc.join("sys/kernel/random/boot_id")).map(|id| id.trim().to_owned());
    let wrapper = text_of(&proc.join("self/stat")).as_deref().and_then(start_ticks).map(|ticks| (pid, ticks));
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

fn text_of(path: &Path) -> Option<String> {
    files::read(path, 4_096).ok().and_then(|(bytes, _)| String::from_utf8(bytes).ok())
}

/// Field 22 of `/proc/PID/stat`; the second field is the program's name in brackets and may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
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
        let ignored = text_of(&proc.join("self/status")).as_deref().and_then(ignored_signals).unwrap_or(0);
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
