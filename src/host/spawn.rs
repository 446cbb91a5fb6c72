//! Commands: argv, a clean environment, a process group of their own that is killed whole, bounded output.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Host;
use crate::facts::Unread;
use crate::redact::Secret;

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

impl Host {
    /// Runs a command until it exits or the deadline is there. At most as many at once as there are cores (at least 2).
    /// Codes: `program_not_found`, `program_not_executable` (blind), `commands_busy` (ours), `spawn_failed` (ours).
    pub async fn run(&self, _command: &Command, _deadline: Instant) -> Result<Ran, Unread> {
        unimplemented!()
    }
}
