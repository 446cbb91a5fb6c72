//! Real servers of other people's making, each in a folder of its own and gone with the test.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long a server may take to be there.
const PATIENCE: Duration = Duration::from_secs(20);
/// Who runs what root may not.
const NOBODY: u32 = 65_534;

/// A port that nothing listens on at this moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until something holds.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "{what} is not there after {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A process that is stopped with the test.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.0);
        let _gone = kill_process(pid, Signal::QUIT);
        let _waited = self.0.wait();
    }
}

/// A PostgreSQL with the user `agent`, its password [`Postgres::PASSWORD`] and the database `postgres`.
pub struct Postgres {
    dir: TempDir,
    bin: PathBuf,
    pub port: u16,
    server: Option<Stopped>,
}

impl Postgres {
    pub const PASSWORD: &str = "fake 'pass/word%";

    /// Starts one; none where there is no PostgreSQL, which is said.
    pub fn start() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let bins = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
        let Some(bin) = bins.max() else {
            eprintln!("not tested: there is no PostgreSQL (apt-get install postgresql)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("pg-").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join("password"), Self::PASSWORD).unwrap();
        if rustix::process::geteuid().is_root() {
            for name in ["", "data", "password"] {
                chown(dir.path().join(name), Some(NOBODY), Some(NOBODY)).unwrap();
            }
        }
        let mut postgres = Self { dir, bin, port: 0, server: None };
        let made = postgres
            .program("initdb")
            .args(["--no-sync", "-U", "agent", "-E", "UTF8", "--locale=C", "-A", "scram-sha-256", "--pwfile"])
            .arg(postgres.path("password"))
            .arg("-D")
            .arg(postgres.path("data"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        postgres.resume();
        Some(postgres)
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file that it may read.
    pub fn give(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").current_dir(self.dir.path());
        command.stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Starts it again, on the port that it had.
    pub fn resume(&mut self) {
        for _ in 0..5 {
            if self.port == 0 {
                self.port = free_port();
            }
            let log = std::fs::File::create(self.path("log")).unwrap();
            let mut server = self.program("postgres");
            server.arg("-D").arg(self.path("data")).arg("-k").arg(self.dir.path());
            server.args(["-h", "127.0.0.1", "-F", "-p", &self.port.to_string()]);
            let mut server = Stopped(server.stdout(Stdio::null()).stderr(log).spawn().unwrap());
            let begun = Instant::now();
            while server.0.try_wait().unwrap().is_none() {
                let ready = std::fs::read_to_string(self.path("data/postmaster.pid")).unwrap_or_default();
                if ready.lines().nth(7).is_some_and(|status| status.trim() == "ready") {
                    self.server = Some(server);
                    return;
                }
                assert!(begun.elapsed() < PATIENCE, "{}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
            // Somebody else was quicker to take the port.
            assert!(self.log().contains("Address already in use"), "{}", self.log());
            self.port = 0;
        }
        panic!("no port for PostgreSQL");
    }

    /// Stops it; its data stay.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// What it logged since it was started last.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A URL with the password in it.
    pub fn url(&self) -> String {
        format!("postgres://agent:fake%20%27pass%2Fword%25@127.0.0.1:{}/postgres", self.port)
    }

    /// The same by the socket.
    pub fn socket_url(&self) -> String {
        let folder = self.dir.path().to_str().unwrap().replace('/', "%2F");
        format!("postgres://agent:fake%20%27pass%2Fword%25@{folder}:{}/postgres", self.port)
    }

    /// Does something as its owner.
    pub fn sql(&self, statements: &str) -> String {
        let done = Command::new("psql")
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "agent", "-d", "postgres"])
            .args(["-p", &self.port.to_string(), "-c", statements])
            .env("PGPASSWORD", Self::PASSWORD)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }
}

/// A Redis.
pub struct Redis {
    dir: TempDir,
    pub port: u16,
    _server: Stopped,
}

impl Redis {
    /// Starts one with these further arguments; none where there is no Redis, which is said.
    pub fn start(args: &[&str]) -> Option<Self> {
        for _ in 0..5 {
            let dir = tempfile::Builder::new().prefix("redis-").tempdir().unwrap();
            let port = free_port();
            let log = dir.path().join("log");
            let mut server = Command::new("redis-server");
            server.args(["--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--logfile"]).arg(&log);
            server.arg("--dir").arg(dir.path()).args(args).stdin(Stdio::null()).stdout(Stdio::null());
            let Ok(server) = server.stderr(Stdio::null()).spawn() else {
                eprintln!("not tested: there is no Redis (apt-get install redis-server)");
                return None;
            };
            let mut server = Stopped(server);
            let said = |words: &str| std::fs::read_to_string(&log).is_ok_and(|log| log.contains(words));
            until("Redis", || said("Ready to accept connections") || server.0.try_wait().unwrap().is_some());
            if server.0.try_wait().unwrap().is_none() {
                return Some(Self { dir, port, _server: server });
            }
            assert!(said("Address already in use") || said("bind"), "{}", std::fs::read_to_string(&log).unwrap());
        }
        panic!("no port for Redis");
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Does something as its owner.
    pub fn cli(&self, args: &[&str]) -> String {
        let done = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }
}
