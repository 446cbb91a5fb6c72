use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::facts::{Class, Value};
use crate::kinds::testing::at;
use crate::kinds::testing::{Look, Trial, problems, settings};

/// A process that sleeps under a name of its own, and is ended with the test.
struct Sleeper(Child);

impl Sleeper {
    #[expect(clippy::disallowed_methods, reason = "a process to be found, ended by the guard")]
    fn new(seconds: &str) -> Self {
        let mut command = std::process::Command::new("sleep");
        Self(command.arg(seconds).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
    fn pid(&self) -> u32 {
        self.0.id()
    }
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap(), signal).unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _collected = self.0.wait();
    }
}

/// A number of seconds that no other process of this machine was started with.
fn unique(n: u32) -> String {
    format!("86400.{}{n}", std::process::id())
}

/// Looks until what is seen is as wanted: a signal takes a moment.
fn until(trial: &mut Trial, settings: &Settings, wanted: &[&str]) -> Look {
    let started = Instant::now();
    loop {
        let look = trial.look::<Process>(settings).unwrap();
        if look.codes() == wanted {
            return look;
        }
        assert!(started.elapsed() < Duration::from_secs(8), "{:?} instead of {wanted:?}", look.codes());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_real_process_runs_stops_dies_and_is_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let seconds = unique(1);
    let settings = settings::<Process>(&format!(
        "cmdline = '^(\\S*/)?sleep {}$'\ncount = {{ max = 1 }}\nwatch_restarts = true\nmax_restarts = 0",
        seconds.replace('.', "\\.")
    ));
    let mut trial = Trial::new(dir.path());
    assert_eq!(trial.look::<Process>(&settings).unwrap().codes(), ["not_running"]);

    let mut sleeper = Sleeper::new(&seconds);
    let look = until(&mut trial, &settings, &[]);
    assert_eq!(look.number("", "pid"), Some(f64::from(sleeper.pid())));
    assert_eq!(look.number("", "restarts_24h"), Some(0.0));
    assert!(look.number("", "rss_bytes").unwrap() > 0.0);
    assert!(look.number("", "oldest_s").unwrap() < 60.0);
    assert_eq!(look.facts.get(&Subject::none(), "started_at").unwrap().class, Class::State);

    let second = Sleeper::new(&seconds);
    assert_eq!(until(&mut trial, &settings, &["too_many"]).said(), "2 running, at most 1 may");
    drop(second);
    sleeper.signal(Signal::STOP);
    assert_eq!(until(&mut trial, &settings, &["stopped"]).said(), "1 stopped, 0 running");
    sleeper.signal(Signal::CONT);
    until(&mut trial, &settings, &[]);

    // Killed and not collected: its command line is gone, it is known by what was remembered.
    sleeper.signal(Signal::KILL);
    until(&mut trial, &settings, &["zombie"]);
    sleeper.0.wait().unwrap();
    assert_eq!(until(&mut trial, &settings, &["not_running"]).said(), "is not running");

    let again = Sleeper::new(&seconds);
    let look = until(&mut trial, &settings, &[]);
    assert_eq!(look.number("", "pid"), Some(f64::from(again.pid())));
    assert_eq!(look.number("", "restarts_24h"), Some(1.0));
    assert_eq!(trial.look::<Process>(&settings).unwrap().number("", "restarts_24h"), Some(1.0));
}

#[test]
fn a_pid_file_is_believed_only_while_it_fits() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.pid");
    let write = |text: &str| files::replace(&path, text.as_bytes(), 0o644).unwrap();
    let age = |secs: u64| {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - Duration::from_secs(secs)).unwrap();
    };
    let by_file = settings::<Process>("pid_file = '~/x.pid'");
    let mut trial = Trial::new(dir.path());
    let sleeper = Sleeper::new(&unique(2));
    let pid = sleeper.pid();
    let mut seen = |settings: &Settings| {
        let look = trial.look::<Process>(settings).unwrap();
        (look.codes().join(" "), look.said().to_owned())
    };
    assert_eq!(seen(&by_file), ("no_pid_file".to_owned(), "there is no ~/x.pid".to_owned()));
    for text in ["", "none", "-5", "0", "99999999999"] {
        write(text);
        assert_eq!(seen(&by_file), ("bad_pid_file".to_owned(), "~/x.pid holds no process id".to_owned()), "{text}");
    }
    write("4194304\n");
    assert_eq!(seen(&by_file), ("stale_pid_file".to_owned(), "process 4194304 of ~/x.pid is gone".to_owned()));
    write(&format!(" {pid} \n/var/lib/x\n"));
    assert_eq!(seen(&by_file).0, "");
    // Written long before the process of that id was started.
    age(3_600);
    assert_eq!(seen(&by_file), ("pid_reused".to_owned(), format!("process {pid} of ~/x.pid is another one by now")));
    // A name tells better than a clock, and tells a stranger too.
    assert_eq!(seen(&settings::<Process>("pid_file = '~/x.pid'\nname = 'sleep'")).0, "");
    assert_eq!(seen(&settings::<Process>("pid_file = '~/x.pid'\nname = 'cat'")).0, "pid_reused");
    assert_eq!(seen(&settings::<Process>("pid_file = '~/x.pid'\nname = 'sleep'\nuser = '4242'")).0, "pid_reused");
    assert_eq!(seen(&settings::<Process>("pid_file = '~/y.pid'\ncount = { min = 0 }")).0, "");
    // The file's own process is never ours.
    write(&std::process::id().to_string());
    assert_eq!(seen(&by_file).0, "pid_reused");
}

#[test]
fn an_account_that_is_not_known_is_blind() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings::<Process>("name = 'sleep'\nuser = 'nobody-of-this-name'");
    let unread = Trial::new(dir.path()).look::<Process>(&settings).unwrap_err();
    assert_eq!((unread.code.as_str(), unread.blame), ("unknown_account", Blame::Blind));
    assert_eq!(unread.said.as_str(), "this machine knows no user `nobody-of-this-name`");
}

fn row(pid: u32, parent: u32, argv: &[&str], started: i64) -> Row {
    let argv: Vec<String> = argv.iter().map(|&word| word.to_owned()).collect();
    let name = argv.first().map_or("kernel", |first| first.rsplit('/').next().unwrap());
    Row {
        pid,
        parent: (parent != 0).then_some(parent),
        name: name[..name.len().min(SHORT_NAME_BYTES)].to_owned(),
        uid: Some(1000),
        started: at(started),
        state: ProcessState::Alive,
        rss_bytes: 1 << 20,
        argv,
    }
}

#[test]
fn this_program_and_its_wrappers_are_not_what_is_looked_for() {
    let rows = [
        row(1, 0, &["/sbin/init"], 0),
        row(50, 1, &["/usr/sbin/cron", "-f"], 1),
        row(60, 50, &["/bin/sh", "-c", "pulsecheck run --config openclaw.toml"], 2),
        row(61, 60, &["timeout", "60", "/usr/bin/pulsecheck", "run", "--config", "openclaw.toml"], 2),
        row(62, 61, &["/usr/bin/pulsecheck", "run", "--config", "openclaw.toml"], 2),
        row(70, 1, &["pulsecheck", "exec", "--job", "x", "--", "openclaw", "sync"], 3),
        row(71, 70, &["openclaw", "sync"], 3),
        row(80, 1, &["an-openclaw-gateway-of-ours", "--port", "1"], 4),
    ];
    let ours = Ours::among(&rows, 62);
    assert_eq!((&ours.pids, ours.program), (&BTreeSet::from([60, 61, 62]), "pulsecheck"));
    for (toml, pids) in [
        ("cmdline = 'openclaw'", vec![71, 80]),
        ("name = 'cron'", vec![50]),
        ("name = 'pulsecheck'", vec![70]),
        ("name = 'an-openclaw-gateway-of-ours'", vec![80]),
        ("name = 'an-openclaw-gat'", vec![80]),
        ("name = 'an-openclaw'", vec![]),
        ("cmdline = '^openclaw sync$'", vec![71]),
    ] {
        let found = find(&settings::<Process>(toml), None, &rows, &ours, None, None);
        assert_eq!(found.rows.iter().map(|row| row.pid).collect::<Vec<_>>(), pids, "{toml}");
    }
    let found = find(&settings::<Process>("name = 'cron'"), Some(0), &rows, &ours, None, None);
    assert!(found.rows.is_empty());
    // A table with a circle, or without ourselves.
    let circle = [row(5, 6, &["a"], 0), row(6, 5, &["a"], 0)];
    assert_eq!(Ours::among(&circle, 5).pids, BTreeSet::from([5, 6]));
    assert_eq!(Ours::among(&circle, 7).pids, BTreeSet::from([7]));
}

fn times(now: i64, booted: i64, boot_id: &str, last_look: Option<i64>) -> Times<'_> {
    Times { now: at(now), booted: at(booted), boot_id: Some(boot_id), last_look: last_look.map(at) }
}

#[test]
fn a_restart_is_another_start_and_not_another_clock() {
    let first = leader(Some(&row(7, 1, &["x"], 1_000)), None, &times(1_100, 0, "a", None)).unwrap();
    assert_eq!((first.started, first.restarts.len()), (at(1_000), 0));
    for (name, row_started, pid, times, started, restarts) in [
        ("the same", 1_000, 7, times(2_000, 0, "a", Some(1_100)), 1_000, 0),
        ("rounded otherwise", 1_002, 7, times(2_000, 1, "a", Some(1_100)), 1_000, 0),
        ("the clock was set by an hour", 4_600, 7, times(5_600, 3_600, "a", Some(1_100)), 1_000, 0),
        ("another process", 1_500, 8, times(2_000, 0, "a", Some(1_100)), 1_500, 1),
        ("the same id again", 1_500, 7, times(2_000, 0, "a", Some(1_100)), 1_500, 1),
        ("another boot, the same id and time", 10_100, 7, times(10_200, 9_100, "b", Some(1_100)), 10_100, 1),
        ("the next oldest moved up", 1_050, 8, times(2_000, 0, "a", Some(1_100)), 1_050, 0),
    ] {
        let kept = leader(Some(&row(pid, 1, &["x"], row_started)), Some(&first), &times).unwrap();
        assert_eq!((kept.started, kept.restarts.len()), (at(started), restarts), "{name}");
    }
    // Away, then back; a day later it is forgotten.
    let away = leader(None, Some(&first), &times(2_000, 0, "a", Some(1_100))).unwrap();
    assert_eq!(away, first);
    let back = leader(Some(&row(9, 1, &["x"], 2_500)), Some(&away), &times(3_000, 0, "a", Some(2_000))).unwrap();
    assert_eq!(back.restarts, [at(2_500)]);
    let later = leader(Some(&row(9, 1, &["x"], 2_500)), Some(&back), &times(89_000, 0, "a", Some(88_000))).unwrap();
    assert_eq!(later.restarts, []);
    assert_eq!(leader(None, None, &times(0, 0, "a", None)), None);
}

fn facts(numbers: &[(&'static str, i64)], pid_file: &str) -> Facts {
    let mut facts = Facts::new();
    for &(name, number) in numbers {
        facts.info(&Subject::none(), name, number);
    }
    if !pid_file.is_empty() {
        facts.info(&Subject::none(), "pid_file", pid_file);
    }
    facts
}

#[test]
fn counts_and_states_are_judged() {
    let one = [("running", 1), ("stopped", 0), ("zombies", 0), ("disk_waits", 0)];
    for (toml, seen, pid_file, codes) in [
        ("name = 'x'", one.to_vec(), "", vec![]),
        ("name = 'x'\ncount = { min = 2 }", one.to_vec(), "", vec!["too_few"]),
        ("name = 'x'\ncount = { max = 0, min = 0 }", one.to_vec(), "", vec!["too_many"]),
        ("name = 'x'\ncount = { min = 0 }", vec![("running", 0)], "", vec![]),
        ("name = 'x'", vec![("running", 0)], "", vec!["not_running"]),
        ("name = 'x'", vec![("running", 0), ("zombies", 2)], "", vec!["zombie"]),
        ("name = 'x'", vec![("running", 0), ("zombies", 2), ("stopped", 1)], "", vec!["stopped"]),
        ("name = 'x'", vec![("running", 1), ("zombies", 2), ("stopped", 1)], "", vec![]),
        ("name = 'x'\ncount = { max = 1 }", vec![("running", 1), ("stopped", 1)], "", vec!["too_many"]),
        ("name = 'x'", vec![("running", 2), ("disk_waits", 2)], "", vec!["disk_wait"]),
        ("name = 'x'", vec![("running", 2), ("disk_waits", 1)], "", vec![]),
        ("pid_file = '/x'", vec![("running", 0), ("zombies", 1)], "fits", vec!["zombie"]),
        ("pid_file = '/x'", vec![("running", 0)], "reused", vec!["pid_reused"]),
    ] {
        let found = Process::assess(&settings::<Process>(toml), &facts(&seen, pid_file), &Past::default(), at(0));
        assert_eq!(found.iter().map(|finding| finding.code.as_str()).collect::<Vec<_>>(), codes, "{toml} {seen:?}");
    }
}

#[test]
fn ages_and_memory_are_gauges() {
    let (young, old) = (row(8, 1, &["x"], 90_000), row(7, 1, &["x"], 10));
    let dead = Row { state: ProcessState::Zombie, ..row(6, 1, &[], 5) };
    let settings = settings::<Process>("name = 'x'\nmax_age = '1d'\nmin_age = '10m'\nmax_memory = '1MiB'");
    let found = Found { rows: vec![&dead, &young, &old], pid_file: None };
    let mut facts = Facts::new();
    put(&settings, &found, None, &times(90_060, 0, "a", None), &mut facts);
    for (name, value, says, edge, worse) in [
        ("oldest_s", 90_050.0, "runs for 1 d 1 h already", 86_400.0, Worse::Above),
        ("youngest_s", 60.0, "runs for 1 min only", 600.0, Worse::Below),
        ("rss_bytes", 2_097_152.0, "holds 2.0 MiB of memory", 1_048_576.0, Worse::Above),
    ] {
        let fact = facts.get(&Subject::none(), name).unwrap();
        let Class::Gauge(scale) = &fact.class else { panic!("{fact:?}") };
        assert_eq!(fact.value.number(), Some(value), "{name}");
        assert_eq!((scale.says.as_str(), scale.warn.as_ref().unwrap().at, scale.worse), (says, edge, worse), "{name}");
    }
    assert_eq!(facts.get(&Subject::none(), "zombies").unwrap().value, Value::Int(1));
    assert_eq!(facts.number(&Subject::none(), "pid"), Some(7.0));
}

#[test]
fn a_proc_that_hides_processes_is_known() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("self")).unwrap();
    for (options, hidden) in [
        ("rw", false),
        ("rw,hidepid=0", false),
        ("rw,hidepid=off", false),
        ("rw,hidepid=2", true),
        ("hidepid=invisible", true),
    ] {
        let table = format!("/dev/sda1 / ext4 rw 0 0\nproc /proc proc {options} 0 0\n");
        files::replace(&dir.path().join("self/mounts"), table.as_bytes(), 0o644).unwrap();
        assert_eq!(hides(dir.path()), hidden, "{options}");
    }
    assert!(!hides(Path::new("/nothing/here")));
}

#[test]
fn bad_settings_are_refused() {
    for (toml, said) in [
        ("", "name: nothing says which process is meant (give `pid_file`, `name` or `cmdline`)"),
        ("user = 'ann'", "user: nothing says which process is meant (give `pid_file`, `name` or `cmdline`)"),
        ("pid_file = 'x.pid'", "pid_file: `x.pid` is no whole path (one begins with `/` or `~/`)"),
        ("name = '/usr/bin/x'", "name: a name has no `/` and is not empty (a path is a matter for `cmdline`)"),
        ("name = 'x'\ncount = { min = 3, max = 2 }", "count: `max` is less than `min`, which is 3"),
        ("pid_file = '/x'\ncount = { min = 2 }", "count: a pid file names one process"),
        ("name = 'x'\nmin_age = '2h'\nmax_age = '1h'", "max_age: `max_age` is not above `min_age`"),
        ("cmdline = '('", "`(` is not a regular expression: unclosed group"),
        ("name = 'x'\ncount = 2", "invalid type: integer `2`, expected struct Count"),
    ] {
        assert_eq!(problems::<Process>(toml), [said], "{toml}");
    }
}
