//! A home of its own for each test, the real binary at any time of day, and small servers on loopback.

mod http;
pub mod nvml;
pub mod servers;
pub mod tls;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use jiff::{SignedDuration, Timestamp};
use pulsecheck::steps::{KILL_AT, Step};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

pub use http::{Answer, Http, Seen};

/// The binary under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_pulsecheck");

/// A pack's text, with the usual address of its system, which has to stand in it, replaced by a test's.
pub fn pack(name: &str, usual: &str, here: &str) -> String {
    let text = std::fs::read_to_string(format!("checks/{name}.toml")).unwrap();
    assert!(text.contains(usual), "{name} has no {usual}");
    text.replace(usual, here)
}

/// A user's home, a config, a state folder, and a clock that the test moves.
pub struct Lab {
    dir: TempDir,
    /// What the next run takes for the present.
    pub now: Timestamp,
    /// Further variables for the runs.
    pub env: Vec<(String, String)>,
}

impl Lab {
    /// An empty home at a fixed time.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("pulsecheck-").tempdir().unwrap();
        Self { dir, now: "2026-03-20T21:30:00Z".parse().unwrap(), env: Vec::new() }
    }

    /// A home with this config. The checks of the host itself are not among them.
    pub fn with(config: &str) -> Self {
        let lab = Self::new();
        lab.config(config);
        lab
    }

    /// The home.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the home.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where the state is kept.
    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file in the home, for its user only.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes the config.
    pub fn config(&self, text: &str) {
        self.write("pulsecheck.toml", text);
    }

    /// Rows of the database, a line each, the columns joined by a blank.
    pub fn rows(&self, query: &str) -> Vec<String> {
        let database = Connection::open_with_flags(self.state().join("state.db"), OpenFlags::SQLITE_OPEN_READ_ONLY);
        let database = database.unwrap();
        let mut query = database.prepare(query).unwrap();
        let columns = query.column_count();
        let line = |row: &rusqlite::Row<'_>| {
            let columns = (0..columns).map(|at| row.get::<_, rusqlite::types::Value>(at).map(shown));
            Ok(columns.collect::<Result<Vec<_>, _>>()?.join(" "))
        };
        query.query_map([], line).unwrap().collect::<Result<_, _>>().unwrap()
    }

    /// Lets time pass.
    pub fn pass(&mut self, minutes: i64) -> &mut Self {
        self.now += SignedDuration::from_mins(minutes);
        self
    }

    /// A command on this home, ready to be changed or started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(args)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.home())
            .env("PULSECHECK_STATE", self.state())
            .env("PULSECHECK_TEST_NOW", self.now.to_string())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.home())
            .stdin(Stdio::null());
        if self.path("pulsecheck.toml").exists() {
            command.env("PULSECHECK_CONFIG", self.path("pulsecheck.toml"));
        }
        command
    }

    /// Runs the binary to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    /// One cycle now, which must have run.
    pub fn cycle(&self) -> Ran {
        let ran = self.run(&["run"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        ran
    }

    /// One cycle now that is killed at a step.
    pub fn killed_at(&self, step: Step) -> Ran {
        let ran = Ran::from(self.command(&["run"]).env(KILL_AT, step.name()).output().unwrap());
        assert_eq!(ran.code, None, "it was to be killed when {}: {ran:?}", step.name());
        ran
    }

    /// One cycle a quarter of an hour later.
    pub fn next(&mut self) -> Ran {
        self.pass(15).cycle()
    }
}

fn shown(value: rusqlite::types::Value) -> String {
    use rusqlite::types::Value;
    match value {
        Value::Null => "-".to_owned(),
        Value::Integer(n) => n.to_string(),
        Value::Real(n) => n.to_string(),
        Value::Text(text) => text,
        Value::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

/// What a run printed and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    /// None when a signal ended it.
    pub code: Option<i32>,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

impl Ran {
    /// Nothing to say: the quiet token alone.
    #[track_caller]
    pub fn quiet(&self) {
        assert_eq!(self.stdout, "HEARTBEAT_OK\n");
    }

    /// The report: one line, held to the public schema.
    #[track_caller]
    pub fn report(&self) -> Value {
        assert_eq!(self.stdout.matches('\n').count(), 1, "one line: {}", self.stdout);
        let report: Value = serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout));
        assert_eq!(pulsecheck::report::problems(&report), Vec::<String>::new(), "{report:#}");
        report
    }

    /// The report's status, whether something changed, and the checks of its items.
    #[track_caller]
    pub fn says(&self) -> (String, bool, Vec<String>) {
        let report = self.report();
        let name = |item: &Value| match item["subject"].as_str().unwrap() {
            "" => item["check"].as_str().unwrap().to_owned(),
            subject => format!("{}/{subject}", item["check"].as_str().unwrap()),
        };
        let items = report["top_3"].as_array().unwrap().iter().map(name).collect();
        (report["status"].as_str().unwrap().to_owned(), report["changes_detected"].as_bool().unwrap(), items)
    }

    /// The status is this, something surfaced or not, and these are the items.
    #[track_caller]
    pub fn expect(&self, status: &str, changes: bool, items: &[&str]) -> Value {
        let (is, surfaced, listed) = self.says();
        let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
        assert_eq!((is.as_str(), surfaced, listed.as_slice()), (status, changes, items), "{:#}", self.report());
        self.report()
    }
}
