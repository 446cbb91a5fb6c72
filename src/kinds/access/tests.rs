use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use jiff::SignedDuration;

use super::*;
use crate::clock::Now;
use crate::facts::Fact;
use crate::host::files;
use crate::kinds::testing::{self, Look, Trial};

/// A log of sshd, and who looks at it.
struct Lab {
    dir: tempfile::TempDir,
    trial: Trial,
    settings: Settings,
    now: Now,
}

impl Lab {
    fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut trial = Trial::new(dir.path());
        let path = format!("{}:/usr/bin:/bin", dir.path().join("bin").display());
        trial.host().env.insert("PATH".into(), path.into());
        let settings = more.replace("{dir}", dir.path().to_str().unwrap());
        // From 35 past an hour on, the looks of a burst lie on both sides of a full hour; files are never younger than that.
        let now = trial.host().now();
        let ahead = 3_600 - (now.wall.as_second() - 35 * 60).rem_euclid(3_600);
        let now = Now { wall: now.wall + SignedDuration::from_secs(ahead), ..now };
        Self { settings: testing::settings::<Access>(&settings), trial, dir, now }
    }
    fn sshd(more: &str) -> Self {
        Self::new(&format!("files = ['{{dir}}/auth.log']\npresets = ['sshd']\n{more}"))
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn write(&self, name: &str, text: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
    fn log(&self, message: &str) {
        self.write("auth.log", &format!("Mar 20 21:30:00 box sshd[812]: {message}\n"));
    }
    fn login(&self, user: &str, ip: &str) {
        self.log(&format!("Accepted publickey for {user} from {ip} port 50022 ssh2: ED25519 SHA256:x"));
    }
    fn failures(&self, ip: &str, times: usize) {
        (0..times).for_each(|_| self.log(&format!("Failed password for root from {ip} port 4 ssh2")));
    }
    fn pass(&mut self, minutes: i64) {
        self.now.wall += SignedDuration::from_mins(minutes);
    }
    fn try_look(&mut self) -> Result<Look, Unread> {
        self.trial.look_at::<Access>(&self.settings, self.now)
    }
    /// A look a quarter of an hour later.
    fn look(&mut self) -> Look {
        self.pass(15);
        self.try_look().unwrap()
    }
    /// Quarters of an hour with so many failures each.
    fn noise(&mut self, quarters: i64, each: usize) {
        for quarter in 0..quarters {
            self.failures(&format!("203.0.113.{}", quarter % 200), each);
            let look = self.look();
            assert_eq!(look.codes(), Vec::<String>::new(), "quarter {quarter}");
        }
    }
    /// A journalctl that says this.
    fn journalctl(&self, script: &str) {
        let path = self.path("bin/journalctl");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let script = format!("#!/bin/sh\necho \"$@\" >> '{}'\n{script}", self.path("asked").display());
        files::replace(&path, script.as_bytes(), 0o755).unwrap();
    }
}

/// The scale of a rule's rate.
fn edges(look: &Look, rule: &str) -> (Option<f64>, Option<f64>, String) {
    match look.facts.get(&Subject::new(rule), "per_hour") {
        Some(Fact { class: Class::Gauge(scale), .. }) => {
            let at = |edge: &Option<Edge>| edge.as_ref().map(|edge| edge.at);
            (at(&scale.warn), at(&scale.fail), scale.says.to_string())
        }
        other => panic!("{other:?}"),
    }
}

const QUIET: [String; 0] = [];

#[test]
fn the_first_look_learns_and_counts_nothing() {
    let mut lab = Lab::sshd("");
    lab.login("anna", "192.0.2.7");
    lab.failures("203.0.113.9", 500);
    let first = lab.look();
    assert_eq!(first.codes(), QUIET);
    assert_eq!((first.number("ssh-failure", "events"), first.number("ssh-login", "known")), (Some(0.0), Some(1.0)));
    let path = lab.path("auth.log").display().to_string();
    assert_eq!((first.text(&path, "course"), first.number("", "lines")), (Some("first"), Some(0.0)));
    // Known from what was there before.
    lab.login("anna", "192.0.2.7");
    let look = lab.look();
    assert_eq!((look.codes(), look.number("ssh-login", "events")), (QUIET.to_vec(), Some(1.0)));
    assert_eq!(lab.look().number("ssh-login", "events"), Some(0.0), "counted once");
}

#[test]
fn whoever_is_new_is_said_once() {
    let mut lab = Lab::sshd("trusted = ['10.0.0.0/8']");
    lab.login("anna", "192.0.2.7");
    lab.look();
    lab.login("anna", "198.51.100.4");
    lab.login("anna", "10.1.2.3");
    let look = lab.look();
    assert_eq!(look.codes(), ["ssh-login: new_source"]);
    assert_eq!(look.said(), "for the first time: \"anna from 198.51.100.4\"");
    lab.login("anna", "198.51.100.4");
    assert_eq!(lab.look().codes(), QUIET);
    // Its episode is the source: another one is another trouble.
    lab.login("bob", "198.51.100.5");
    lab.login("bob", "2001:db8:1:2::5");
    let look = lab.look();
    assert!(look.findings[0].episode.is_some());
    assert!(look.said().contains("\"bob from 2001:db8:1:2::/64\""), "{}", look.said());
    // Ninety days later nobody knows them any more.
    lab.pass(91 * 24 * 60);
    lab.login("carol", "192.0.2.200");
    lab.look();
    lab.pass(91 * 24 * 60);
    lab.login("anna", "192.0.2.7");
    lab.login("carol", "192.0.2.200");
    assert_eq!(lab.look().codes(), ["ssh-login: new_source"]);
}

#[test]
fn learning_is_over_after_the_first_look_that_had_a_log() {
    // Nobody logged in for as long as the log goes back: the first who does is new.
    let mut lab = Lab::sshd("");
    lab.write("auth.log", "");
    assert_eq!(lab.look().number("ssh-login", "known"), Some(0.0));
    lab.login("anna", "192.0.2.7");
    assert_eq!(lab.look().codes(), ["ssh-login: new_source"]);
    lab.login("anna", "192.0.2.7");
    assert_eq!(lab.look().codes(), QUIET);
    // A look without a log taught nothing.
    let mut lab = Lab::sshd("optional = true");
    lab.look();
    lab.login("anna", "192.0.2.7");
    assert_eq!(lab.look().codes(), QUIET);
    lab.login("anna", "192.0.2.8");
    assert_eq!(lab.look().codes(), ["ssh-login: new_source"]);
    // Neither did one of another rule.
    let mut lab = Lab::sshd("");
    lab.login("anna", "192.0.2.7");
    lab.look();
    let own = "patterns = [{ name = 'in', regex = 'in (?P<who>[a-z]+)$', key = 'who', means = 'login' }]";
    let log = lab.path("auth.log").display().to_string();
    lab.settings = testing::settings::<Access>(&format!("files = ['{log}']\npresets = ['sshd']\n{own}"));
    lab.log("in anna");
    assert_eq!(lab.look().codes(), QUIET);
    lab.log("in bob");
    assert_eq!(lab.look().codes(), ["in: new_source"]);
}

#[test]
fn of_a_journal_that_is_too_long_the_newest_entries_are_learned() {
    let mut lab = Lab::new("presets = ['sshd']");
    let accepted = entry("c0", "sshd", "Accepted password for anna from 192.0.2.7 port 1 ssh2");
    let other = entry("c0", "cron", "x");
    lab.journalctl(&format!(
        "case \"$*\" in\n*--lines=1*) echo '{other}';;\n*--reverse*--since=@*) echo '{accepted}'; yes '{other}' | head -c 17000000;;\n\
         *) yes '{other}' | head -c 17000000; echo '{accepted}';;\nesac",
    ));
    let look = lab.look();
    assert_eq!((look.codes(), look.number("ssh-login", "known")), (QUIET.to_vec(), Some(1.0)));
    assert_eq!((look.flag("journal", "learned_in_part"), look.flag("journal", "behind")), (Some(true), None));
}

#[test]
fn a_burst_beside_the_usual_noise_of_bots() {
    let mut lab = Lab::sshd("");
    lab.write("auth.log", "");
    lab.look();
    lab.noise(8, 10);
    assert_eq!(edges(&lab.look(), "ssh-failure").0, None, "nobody knows yet what is usual");
    lab.noise(96, 10);
    let usual = lab.look();
    let (warn, fail, _) = edges(&usual, "ssh-failure");
    assert!(warn.is_some_and(|warn| (150.0..210.0).contains(&warn)) && fail.is_none(), "{warn:?}");
    lab.failures("198.51.100.9", 300);
    let look = lab.look();
    let (_, _, says) = edges(&look, "ssh-failure");
    assert!(look.number("ssh-failure", "per_hour") > warn);
    assert!(says.starts_with("320 in the last hour, usual are 3"), "{says}");
    assert!(says.ends_with("lately from \"198.51.100.9 (300)\""), "{says}");
    assert_eq!(look.text("ssh-failure", "top"), Some("198.51.100.9 (300)"));
    // An hour later it is over, and did not make itself usual.
    (0..4).for_each(|_| drop(lab.look()));
    let after = lab.look();
    assert_eq!(after.number("ssh-failure", "per_hour"), Some(0.0));
    assert!(edges(&after, "ssh-failure").0.is_some_and(|edge| edge < 250.0));
    // Logins may be as many as they like.
    assert_eq!(edges(&after, "ssh-login").0, None);
}

#[test]
fn a_floor_and_a_limit() {
    let mut lab = Lab::sshd("burst_floor = 30\nmax_per_hour = 50");
    lab.write("auth.log", "");
    lab.look();
    assert_eq!((edges(&lab.look(), "ssh-failure").0, edges(&lab.look(), "ssh-failure").1), (None, Some(50.0)));
    (0..100).for_each(|_| drop(lab.look()));
    assert_eq!(edges(&lab.look(), "ssh-failure").0, Some(30.0), "a quiet host has a floor");
    // What came while nobody looked is spread over that time.
    lab.failures("203.0.113.9", 240);
    lab.pass(24 * 60 - 15);
    let look = lab.look();
    assert!(look.number("ssh-failure", "per_hour").is_some_and(|rate| (9.9..10.1).contains(&rate)), "{look:?}");
}

#[test]
fn a_login_after_many_failures_and_its_harmless_twin() {
    let mut lab = Lab::sshd("");
    lab.login("anna", "192.0.2.7");
    lab.login("root", "198.51.100.9");
    lab.look();
    // Somebody who mistyped.
    lab.failures("192.0.2.7", 3);
    lab.login("anna", "192.0.2.7");
    assert_eq!(lab.look().codes(), QUIET);
    lab.failures("198.51.100.9", 12);
    lab.login("anna", "192.0.2.7");
    assert_eq!(lab.look().codes(), QUIET, "from another address");
    // In another look than the failures.
    lab.login("root", "198.51.100.9");
    let look = lab.look();
    assert_eq!(look.codes(), ["ssh-login: login_after_failures"]);
    assert_eq!(look.said(), "let in where many attempts had failed: \"root from 198.51.100.9 after 12 failures\"");
    assert_eq!(lab.look().codes(), ["ssh-login: login_after_failures"], "it stands");
    lab.pass(24 * 60);
    assert_eq!(lab.look().codes(), QUIET);
}

#[test]
fn through_rotations() {
    for copied in [false, true] {
        let mut lab = Lab::sshd("");
        lab.login("anna", "192.0.2.7");
        lab.look();
        lab.failures("198.51.100.9", 6);
        if copied {
            std::fs::copy(lab.path("auth.log"), lab.path("auth.log.1")).unwrap();
            OpenOptions::new().write(true).open(lab.path("auth.log")).unwrap().set_len(0).unwrap();
        } else {
            std::fs::rename(lab.path("auth.log"), lab.path("auth.log.1")).unwrap();
        }
        lab.failures("198.51.100.9", 6);
        lab.login("root", "198.51.100.9");
        let look = lab.look();
        assert_eq!(look.codes(), ["ssh-login: login_after_failures", "ssh-login: new_source"], "copied: {copied}");
        let path = lab.path("auth.log").display().to_string();
        assert_eq!((look.text(&path, "course"), look.number("ssh-failure", "events")), (Some("rotated"), Some(12.0)));
    }
}

#[test]
fn what_is_lost_or_left_is_said() {
    let mut lab = Lab::sshd("max_bytes = '1KiB'");
    lab.failures("203.0.113.9", 3);
    lab.look();
    let path = lab.path("auth.log").display().to_string();
    std::fs::rename(lab.path("auth.log"), lab.path("gone")).unwrap();
    lab.failures("203.0.113.9", 1);
    std::fs::remove_file(lab.path("gone")).unwrap();
    let first = lab.look();
    assert_eq!(first.codes(), [format!("{path}: lines_lost")]);
    assert_eq!(lab.look().codes(), QUIET);
    // It is seen once, so it has to be told at once, and each time anew.
    OpenOptions::new().write(true).open(lab.path("auth.log")).unwrap().set_len(0).unwrap();
    let second = lab.look();
    assert_eq!(second.codes(), [format!("{path}: lines_lost")]);
    let (first, second) = (&first.findings[0], &second.findings[0]);
    assert!(first.settled && second.settled && first.episode.is_some(), "{first:?}");
    assert_ne!(first.episode, second.episode);
    lab.failures("203.0.113.9", 2_000);
    let look = lab.look();
    assert_eq!(look.codes(), [format!("{path}: behind")]);
    assert!(look.said().ends_with("KiB wait for the next look"), "{}", look.said());
    let so_far = look.number("ssh-failure", "events").unwrap();
    assert!(so_far > 100.0 && so_far < 2_000.0, "{so_far}");
}

#[test]
fn what_can_not_be_read_and_what_is_not_there() {
    let mut lab = Lab::sshd("");
    assert_eq!(lab.look().codes(), [format!("{}: missing", lab.path("auth.log").display())]);
    let mut lab = Lab::sshd("optional = true");
    let look = lab.look();
    assert_eq!((look.codes(), look.number("", "sources")), (QUIET.to_vec(), Some(0.0)));
    assert_eq!(look.number("ssh-login", "events"), None, "of what nobody read nothing is known");
    assert!(look.text("", "absent").unwrap().contains("auth.log` is not there"), "{look:?}");
    // What was there and is gone is trouble all the same.
    lab.write("auth.log", "x\n");
    lab.look();
    std::fs::remove_file(lab.path("auth.log")).unwrap();
    assert_eq!(lab.look().codes(), [format!("{}: missing", lab.path("auth.log").display())]);
    let mut lab = Lab::sshd("optional = true");
    std::fs::create_dir(lab.path("auth.log")).unwrap();
    assert_eq!(lab.look().codes(), [format!("{}: not_a_file", lab.path("auth.log").display())]);
    let mut lab = Lab::new("files = ['{dir}/*.log']\npresets = ['sshd']");
    assert_eq!(lab.try_look().unwrap_err().code.as_str(), "missing");
}

#[test]
fn a_glob_takes_what_is_new_and_leaves_what_was_rotated() {
    let mut lab = Lab::new("files = ['{dir}/*.log*']\npresets = ['sshd']");
    lab.login("anna", "192.0.2.7");
    lab.write("auth.log.1", "Mar 20 21:30:00 box sshd[812]: Failed password for root from 192.0.2.1 port 4 ssh2\n");
    lab.write("auth.log.2.gz", "packed\n");
    let look = lab.look();
    assert_eq!(look.number("", "sources"), Some(1.0), "{look:?}");
    // A file older than the last look, new to the globs: its past is no news.
    let line = "Mar 20 21:30:00 box sshd[812]: Failed password for root from 192.0.2.1 port 4 ssh2\n";
    lab.write("older.log", line);
    let look = lab.look();
    assert_eq!((look.number("", "sources"), look.number("ssh-failure", "events")), (Some(2.0), Some(0.0)));
    // One that came about since: all of it is new. The clock is the machine's here.
    lab.now.wall = lab.trial.host().now().wall - SignedDuration::from_mins(15);
    lab.try_look().unwrap();
    lab.write("newer.log", line);
    let look = lab.look();
    assert_eq!((look.number("", "sources"), look.number("ssh-failure", "events")), (Some(3.0), Some(1.0)));
}

#[test]
fn a_log_that_stands_still_is_told_where_asked_for() {
    let mut lab = Lab::sshd("max_quiet = '1h'");
    lab.write("auth.log", "x\n");
    lab.look();
    lab.write("auth.log", "y\n");
    assert_eq!(lab.look().number("", "quiet_s"), Some(0.0));
    (0..5).for_each(|_| drop(lab.look()));
    let look = lab.look();
    assert_eq!(look.number("", "quiet_s"), Some(5_400.0));
    let Some(Fact { class: Class::Gauge(scale), .. }) = look.facts.get(&Subject::none(), "quiet_s") else { panic!() };
    assert_eq!(scale.says.as_str(), "no line came for 1 h 30 min, at most 1h is allowed");
    let mut lab = Lab::sshd("");
    lab.write("auth.log", "x\n");
    lab.look();
    assert_eq!(lab.look().number("", "quiet_s"), None);
}

/// An entry as journalctl prints it.
fn entry(cursor: &str, identifier: &str, message: &str) -> String {
    serde_json::json!({
        "MESSAGE": message, "__CURSOR": cursor, "SYSLOG_IDENTIFIER": identifier,
        "__REALTIME_TIMESTAMP": "1795318338485017", "_BOOT_ID": "0bcb",
    })
    .to_string()
}

#[test]
fn the_journal_from_its_end_on() {
    let mut lab = Lab::new("presets = ['sshd']\njournal_matches = ['_SYSTEMD_UNIT=app.service']");
    let login =
        |cursor: &str, ip: &str| entry(cursor, "sshd", &format!("Accepted password for anna from {ip} port 1 ssh2"));
    lab.journalctl(&format!(
        "case \"$*\" in\n*--lines=1*) echo '{}';;\n*--since=@*) echo '{}';;\n*--after-cursor=c1*) echo '{}'\necho '{}'\necho '{}';;\n*) echo nothing new >&2;;\nesac",
        entry("c1", "cron", "x"),
        login("c0", "192.0.2.7"),
        login("c2", "192.0.2.7"),
        r#"{"MESSAGE":[70,97,105,108,255],"__CURSOR":"c3","SYSLOG_IDENTIFIER":"sshd"}"#,
        login("c4", "192.0.2.8"),
    ));
    let first = lab.look();
    assert_eq!((first.codes(), first.number("ssh-login", "known")), (QUIET.to_vec(), Some(1.0)));
    let look = lab.look();
    assert_eq!(look.codes(), ["ssh-login: new_source"]);
    assert_eq!((look.number("ssh-login", "events"), look.number("journal", "lines")), (Some(2.0), Some(3.0)));
    assert_eq!(lab.look().number("journal", "lines"), Some(0.0));
    let (asked, _) = files::read(&lab.path("asked"), 1 << 20).unwrap();
    let asked = String::from_utf8(asked).unwrap();
    assert_eq!(
        asked.lines().last().unwrap(),
        "--no-pager --output=json --output-fields=MESSAGE,SYSLOG_IDENTIFIER --after-cursor=c4 \
         SYSLOG_IDENTIFIER=sshd SYSLOG_IDENTIFIER=sshd-auth SYSLOG_IDENTIFIER=sshd-session + _SYSTEMD_UNIT=app.service"
    );
    let last_look = lab.now.wall.as_second();
    lab.journalctl(&format!(
        "case \"$*\" in *--lines=1*) exec echo '{}';; *--since=@{last_look}\\ *) exec echo '{}';; esac\n\
         echo 'Failed to seek to cursor: Invalid argument' >&2\nexit 1",
        entry("d9", "cron", "x"),
        login("d8", "192.0.2.9"),
    ));
    let look = lab.look();
    assert_eq!(look.codes(), ["journal: lines_lost", "ssh-login: new_source"], "what was written since is read");
    assert_eq!(look.number("journal", "lines"), Some(1.0));
    let lost = look.findings.iter().find(|finding| finding.code.as_str() == "lines_lost").unwrap();
    assert!(lost.settled && lost.episode.is_some(), "{lost:?}");
    // The journal of another machine.
    lab.journalctl("case \"$*\" in *--after-cursor=d8*) exit 0;; esac\nexit 1");
    assert_eq!(lab.look().codes(), QUIET);
}

#[test]
fn a_journal_that_gives_nothing() {
    for (script, code) in [
        ("echo 'No journal files were opened due to insufficient permissions.' >&2\nexit 1", "permission_denied"),
        (
            "echo '{\"__CURSOR\":\"c1\"}'\necho 'Hint: You are currently not seeing messages from other users and the system.' >&2",
            "permission_denied",
        ),
        ("echo 'No journal files were found.' >&2", "missing"),
        ("", "missing"),
        ("echo 'Failed to open' >&2; exit 1", "journal_failed"),
    ] {
        let mut lab = Lab::new("presets = ['sshd']");
        lab.journalctl(script);
        assert_eq!(lab.look().codes(), [format!("journal: {code}")], "{script}");
        let mut lab = Lab::new("presets = ['sshd']\noptional = true");
        lab.journalctl(script);
        let look = lab.look();
        let absent = look.text("", "absent").is_some();
        assert_eq!((look.codes().is_empty(), absent), (code == "missing", code == "missing"), "{script}");
    }
    let mut lab = Lab::new("presets = ['sshd']\noptional = true");
    lab.trial.host().env.insert("PATH".into(), lab.dir.path().join("bin").into());
    let look = lab.look();
    assert_eq!(
        (look.codes(), look.text("", "absent")),
        (QUIET.to_vec(), Some("there is no program `journalctl` on $PATH"))
    );
}

#[test]
fn the_journal_in_place_of_files() {
    let working = format!("case \"$*\" in *--lines=1*) echo '{}';; esac", entry("c1", "cron", "x"));
    let mut lab = Lab::sshd("journal = 'if_no_file'");
    lab.journalctl(&working);
    let look = lab.look();
    assert_eq!((look.codes(), look.text("journal", "course")), (QUIET.to_vec(), Some("first")));
    // Where the file is there, the journal holds the same again.
    let mut lab = Lab::sshd("journal = 'if_no_file'");
    lab.write("auth.log", "x\n");
    lab.journalctl(&working);
    assert_eq!(lab.look().text("journal", "course"), None);
    assert!(!lab.path("asked").exists());
    // One that nobody writes to any more is left of a logger that is gone.
    let week_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    OpenOptions::new().write(true).open(lab.path("auth.log")).unwrap().set_modified(week_ago).unwrap();
    assert_eq!(lab.look().text("journal", "course"), Some("first"));
    // Neither: one trouble.
    let mut lab = Lab::sshd("journal = 'if_no_file'");
    lab.journalctl("");
    assert_eq!(lab.look().codes(), [format!("{}: missing", lab.path("auth.log").display())]);
    let mut lab = Lab::sshd("journal = 'if_no_file'\noptional = true");
    lab.journalctl("");
    let look = lab.look();
    assert_eq!((look.codes(), look.text("", "absent").is_some()), (QUIET.to_vec(), true));
}

#[test]
fn bad_settings_are_refused() {
    let base = "files = ['/var/log/a']\n";
    for (toml, said) in [
        (base.to_owned(), "presets: nothing to look for (give `presets` or `patterns`)"),
        (
            "journal = 'no'\npresets = ['sshd']".to_owned(),
            "files: nothing to read (give `files`, or leave `journal` out)",
        ),
        (
            "journal = 'if_no_file'\npresets = ['sshd']".to_owned(),
            "journal: `if_no_file` needs `files` (say `yes` to read the journal alone)",
        ),
        (
            "presets = ['web']".to_owned(),
            "journal_matches: the whole journal would be read (give `journal_matches`, as in `_SYSTEMD_UNIT=myapp.service`)",
        ),
        (
            format!("{base}presets = ['sshd']\njournal_matches = ['A=b']"),
            "journal_matches: the journal is not read (set `journal` to `yes` or `if_no_file`)",
        ),
        (
            "presets = ['sshd']\njournal_matches = ['--vacuum-size=1']".to_owned(),
            "journal_matches: expected `FIELD=VALUE` or `+`, found `--vacuum-size=1`",
        ),
        (format!("{base}presets = ['sshd', 'sshd']"), "presets: a preset stands twice"),
        (
            format!("{base}patterns = [{{ name = 'A b', regex = 'x' }}]"),
            "patterns: `A b` is no name (small letters, digits, `-`, `_`, `.`)",
        ),
        (
            format!("{base}presets = ['sshd']\npatterns = [{{ name = 'ssh-login', regex = 'x' }}]"),
            "patterns: the name `ssh-login` is taken already",
        ),
        (
            format!("{base}patterns = [{{ name = 'a', regex = 'x', key = 'ip' }}]"),
            "patterns: `a`: the expression has no group `(?P<ip>…)`",
        ),
        (
            format!("{base}patterns = [{{ name = 'a', regex = 'x', means = 'login' }}]"),
            "patterns: `a`: a login needs `key`, the group that holds who it was",
        ),
        (
            format!("{base}presets = ['sshd']\ntrusted = ['10.0.0.0/99']"),
            "trusted: `10.0.0.0/99` is no address, network or user",
        ),
        (format!("{base}presets = ['sshd']\nburst_factor = 1.0"), "burst_factor: expected a number above 1"),
        (format!("{base}presets = ['sshd']\nmax_per_hour = 0"), "max_per_hour: expected at least 1"),
        (format!("{base}presets = ['sshd']\nmax_quiet = '0s'"), "max_quiet: expected a duration above 0s"),
        (format!("{base}presets = ['sshd']\nmax_bytes = '2GiB'"), "max_bytes: expected a size up to 1GiB"),
    ] {
        assert_eq!(testing::problems::<Access>(&toml), [said], "{toml}");
    }
}
