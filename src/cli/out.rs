//! The one writer to stdout and stderr. A closed pipe is the end, not an error; every byte passes the redaction gate.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal as _, Write as _};

use crate::redact;

/// Columns when nobody says how wide the terminal is.
const WIDTH: usize = 100;

/// Where output goes.
#[derive(Debug)]
pub struct Out {
    color: bool,
    stdout_terminal: bool,
    width: usize,
    /// Whether stdout was closed by who reads it.
    closed: bool,
    /// Whether stdout did not take what was to be said, for another reason.
    failed: bool,
    progress: Progress,
}

/// The line on stderr that says how far long work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// No person reads stderr.
    Never,
    /// None stands there now.
    Away,
    /// One stands there.
    Shown,
}

impl Out {
    /// Looks at what stdout and stderr are. `NO_COLOR` and `TERM=dumb` switch colours off.
    #[must_use]
    pub fn new(env: &BTreeMap<OsString, OsString>) -> Self {
        let var = |name: &str| env.get(OsStr::new(name));
        let dumb = var("TERM").is_some_and(|term| term == "dumb");
        let no_color = var("NO_COLOR").is_some_and(|value| !value.is_empty()) || dumb;
        let stdout_terminal = std::io::stdout().is_terminal();
        let width = if stdout_terminal {
            rustix::termios::tcgetwinsize(std::io::stdout()).map_or(WIDTH, |size| usize::from(size.ws_col))
        } else {
            WIDTH
        };
        Self {
            color: stdout_terminal && !no_color,
            stdout_terminal,
            width: if width < 40 { WIDTH } else { width },
            closed: false,
            failed: false,
            progress: if std::io::stderr().is_terminal() && !dumb { Progress::Away } else { Progress::Never },
        }
    }

    /// Whether stdout takes colours.
    #[must_use]
    pub fn color(&self) -> bool {
        self.color
    }

    /// Whether a person reads stdout.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.stdout_terminal
    }

    /// Whether a person reads stderr.
    #[must_use]
    pub fn err_is_terminal(&self) -> bool {
        self.progress != Progress::Never
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Text as it is, to stdout, redacted.
    pub fn text(&mut self, text: &str) {
        let clean = redact::scrub(text);
        self.bytes(clean.as_bytes());
    }

    /// A line to stdout, redacted.
    pub fn line(&mut self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// Bytes of our own making, to stdout.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.clear_progress();
        if self.closed {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            // Whoever read it has heard enough: a closed pipe is the end of output, and of nothing else.
            self.closed = true;
            self.failed = error.kind() != std::io::ErrorKind::BrokenPipe;
        }
    }

    /// Whether something could not be printed although somebody may be waiting for it.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// An error: `pulsecheck: …` to stderr.
    pub fn error(&mut self, said: &str) {
        self.error_raw(&format!("pulsecheck: {said}\n"));
    }

    /// Text for stderr as it is, redacted.
    pub fn error_raw(&mut self, said: &str) {
        self.clear_progress();
        let _ = std::io::stderr().lock().write_all(redact::scrub(said).as_bytes());
    }

    /// A remark for a person: to stderr, on a terminal only.
    pub fn remark(&mut self, said: &str) {
        if self.err_is_terminal() {
            self.error_raw(&format!("{said}\n"));
        }
    }

    /// How far long work is; on a terminal only, in place.
    pub fn progress(&mut self, said: &str) {
        if self.err_is_terminal() {
            self.progress = Progress::Shown;
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{said}");
        }
    }

    /// Takes the progress line away.
    pub fn clear_progress(&mut self) {
        if self.progress == Progress::Shown {
            self.progress = Progress::Away;
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}
