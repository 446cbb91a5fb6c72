use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::clock::Now;
use crate::host::files;
use crate::kinds::testing::{Look, Trial, problems, settings};

const RUNNING: &str = "\
Type=notify
NRestarts=0
ExecMainStatus=0
Result=success
Id=gateway.service
Names=gateway.service openclaw.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
StateChangeTimestamp=Fri 2026-03-20 11:00:00 UTC
TriggeredBy=
";
/// As version 219 says it, which knows neither restarts nor what triggers a unit.
const OLD: &str = "\
Type=simple
ExecMainStatus=0
Result=success
Id=gateway.service
Names=gateway.service
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
";
const TIMER: &str = "\
Unit=backup.service
NextElapseUSecRealtime=Sat 2026-03-21 02:00:00 UTC
LastTriggerUSec=Fri 2026-03-20 02:00:13 UTC
Result=success
AccuracyUSec=1min
Id=backup.timer
Names=backup.timer
LoadState=loaded
ActiveState=active
SubState=waiting
UnitFileState=enabled
StateChangeTimestamp=Mon 2026-03-16 08:00:00 UTC
";
const BACKUP: &str = "\
Type=oneshot
NRestarts=0
ExecMainStatus=0
Result=success
Id=backup.service
Names=backup.service
LoadState=loaded
ActiveState=inactive
SubState=dead
UnitFileState=static
StateChangeTimestamp=Fri 2026-03-20 02:10:00 UTC
TriggeredBy=backup.timer
";

/// A machine on which `systemctl` prints what lies in files.
struct Machine {
    dir: tempfile::TempDir,
    trial: Trial,
    now: Now,
}

impl Machine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut trial = Trial::new(dir.path());
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        trial.host().env.insert("PATH".into(), path.into());
        trial.host().paths.proc = dir.path().join("proc");
        let machine =
            Self { dir, trial, now: Now { wall: moment("2026-03-20T12:00:00Z"), boot: Duration::from_hours(900) } };
        machine.shim(
            "echo \"TZ=$TZ XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR $*\" >> \"$here/asked\"\n\
             case \"$*\" in\n\
             *--state=failed*) cat \"$here/failed\" ;;\n\
             *--type=timer*) cat \"$here/timers\" ;;\n\
             *backup-job.service) cat \"$here/second\" ;;\n\
             *) cat \"$here/show\" ;;\n\
             esac",
        );
        machine
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    fn put(&self, name: &str, text: &str) {
        files::replace(&self.path(name), text.as_bytes(), 0o600).unwrap();
    }
    fn shim(&self, body: &str) {
        let script = format!("#!/bin/sh\nhere='{}'\n{body}\n", self.dir.path().display());
        let path = self.path("systemctl");
        files::replace(&path, script.as_bytes(), 0o755).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    fn asked(&self) -> Vec<String> {
        let (bytes, _) = files::read(&self.path("asked"), 1 << 20).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.lines().map(str::to_owned).collect()
    }
    fn try_look(&mut self, toml: &str) -> Result<Look, Unread> {
        self.trial.look_at::<Systemd>(&settings::<Systemd>(toml), self.now)
    }
    fn look(&mut self, toml: &str) -> Look {
        self.try_look(toml).unwrap()
    }
    /// A look when `show` prints this.
    fn shows(&mut self, text: &str, toml: &str) -> Look {
        self.put("show", text);
        self.look(toml)
    }
    fn at(&mut self, wall: &str) {
        self.now.wall = moment(wall);
    }
}

fn moment(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The properties with others in their place.
fn with(text: &str, changes: &[(&str, &str)]) -> String {
    let line = |line: &str| {
        let name = line.split('=').next().unwrap();
        changes
            .iter()
            .find(|(other, _)| *other == name)
            .map_or_else(|| line.to_owned(), |(name, is)| format!("{name}={is}"))
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n") + "\n"
}

const GATEWAY: &str = "units = ['gateway']";

#[test]
fn a_service_is_judged_by_its_state_and_how_it_ended() {
    let mut machine = Machine::new();
    let exit = ("Result", "exit-code");
    for (changes, code, said) in [
        (&[][..], "", ""),
        (&[("SubState", "start"), ("ActiveState", "activating")], "", ""),
        (&[("SubState", "reload"), ("ActiveState", "reloading")], "", ""),
        (
            &[("ActiveState", "failed"), ("SubState", "failed"), exit, ("ExecMainStatus", "203")],
            "failed",
            "failed at 2026-03-20T11:00:00Z: it ended with exit status 203",
        ),
        (
            &[("ActiveState", "failed"), ("SubState", "failed"), ("Result", "oom-kill"), ("ExecMainStatus", "9")],
            "failed",
            "failed at 2026-03-20T11:00:00Z: it was killed for want of memory",
        ),
        (
            &[("ActiveState", "failed"), ("Result", "start-limit-hit"), ("StateChangeTimestamp", "n/a")],
            "failed",
            "failed: it was started too often, and is not started any more",
        ),
        (
            &[("ActiveState", "activating"), ("SubState", "auto-restart"), exit, ("ExecMainStatus", "1")],
            "restarting",
            "it ended with exit status 1, and waits to be started again",
        ),
        (&[("ActiveState", "inactive"), ("SubState", "dead")], "not_active", "is not active"),
        (&[("ActiveState", "inactive"), ("SubState", "dead"), ("Type", "oneshot")], "", ""),
        (&[("ActiveState", "inactive"), ("SubState", "dead"), ("TriggeredBy", "gateway.socket")], "", ""),
        (
            &[("ActiveState", "inactive"), ("Type", "oneshot"), ("Result", "signal"), ("ExecMainStatus", "15")],
            "not_active",
            "is not active: it was ended by signal 15",
        ),
        (&[("LoadState", "not-found"), ("ActiveState", "inactive")], "not_found", "there is no such unit"),
        (&[("LoadState", "masked"), ("ActiveState", "inactive")], "masked", "is masked, so nothing can start it"),
        (&[("LoadState", "bad-setting")], "bad_unit", "systemd can't read its file (bad-setting)"),
    ] {
        let look = machine.shows(&with(RUNNING, changes), GATEWAY);
        let wanted: Vec<String> =
            [code].into_iter().filter(|code| !code.is_empty()).map(|code| format!("gateway.service: {code}")).collect();
        assert_eq!((look.codes(), look.said()), (wanted, said), "{changes:?}");
        let settled = ["failed", "not_found", "masked", "bad_unit"];
        assert!(look.findings.iter().all(|finding| finding.settled == settled.contains(&finding.code.as_str())));
    }
    let look = machine.shows(OLD, GATEWAY);
    assert_eq!((look.codes(), look.number("gateway.service", "restarts_24h")), (vec![], None));
}

#[test]
fn one_question_is_asked_for_all_units_and_in_utc() {
    let mut machine = Machine::new();
    let both = format!("{RUNNING}\n{TIMER}\n{BACKUP}");
    let look = machine.shows(&both, "units = ['openclaw.service', 'backup.timer']");
    assert_eq!(look.codes(), [""; 0]);
    assert_eq!(look.text("openclaw.service", "sub_state"), Some("running"), "an alias is its unit");
    assert_eq!(look.text("backup.timer", "service_result"), Some("success"));
    let properties = format!("--property={PROPERTIES}");
    assert_eq!(
        machine.asked(),
        [format!(
            "TZ=UTC XDG_RUNTIME_DIR= --no-pager --no-ask-password show {properties} -- backup.service backup.timer openclaw.service"
        )]
    );
    machine.shows(RUNNING, "units = ['gateway']\nuser = true");
    let asked = machine.asked();
    let folder = machine.path("run/user").join(rustix::process::getuid().as_raw().to_string());
    let begins = format!("TZ=UTC XDG_RUNTIME_DIR={} --no-pager --no-ask-password --user show ", folder.display());
    assert!(asked[1].starts_with(&begins), "{asked:?}");
    let look = machine.look("units = ['gateway', 'other']");
    assert_eq!(look.codes(), ["other.service: not_shown"]);
}

#[test]
fn restarts_are_counted_between_looks_and_forgotten_after_a_day() {
    let mut machine = Machine::new();
    let n = |n: &str| with(RUNNING, &[("NRestarts", n)]);
    for (at, restarts, counted) in [
        ("2026-03-20T12:00:00Z", "40", Some(0.0)),
        ("2026-03-20T12:15:00Z", "42", Some(2.0)),
        ("2026-03-20T12:30:00Z", "42", Some(2.0)),
        // Started by hand: it counts from nothing.
        ("2026-03-20T12:45:00Z", "1", Some(3.0)),
        ("2026-03-20T13:00:00Z", "[not set]", None),
        ("2026-03-20T13:15:00Z", "1", Some(0.0)),
        ("2026-03-20T13:30:00Z", "9", Some(8.0)),
        ("2026-03-21T13:15:00Z", "9", Some(8.0)),
        ("2026-03-21T13:30:00Z", "9", Some(0.0)),
    ] {
        machine.at(at);
        let look = machine.shows(&n(restarts), "units = ['gateway']\nmax_restarts = 7");
        assert_eq!(look.number("gateway.service", "restarts_24h"), counted, "{at}");
    }
    machine.at("2026-03-21T14:00:00Z");
    let look = machine.shows(&n("18"), "units = ['gateway']\nmax_restarts = 7");
    match &look.facts.get(&Subject::new("gateway.service"), "restarts_24h").unwrap().class {
        crate::facts::Class::Gauge(scale) => {
            assert_eq!(scale.says.as_str(), "was restarted 9 times in 24 h by systemd");
            assert_eq!(scale.warn.as_ref().unwrap().at.to_string(), "7");
        }
        class => panic!("{class:?}"),
    }
}

const TIMERS: &str = "units = ['backup.timer']";

#[test]
fn a_timer_is_judged_by_what_it_starts() {
    let mut machine = Machine::new();
    let with_service = |changes: &[(&str, &str)]| format!("{}\n{TIMER}", with(BACKUP, changes));
    for (changes, code, said) in [
        (&[][..], "", ""),
        (&[("ActiveState", "activating"), ("SubState", "start")], "", ""),
        (
            &[("ActiveState", "failed"), ("Result", "exit-code"), ("ExecMainStatus", "2")],
            "backup.timer: service_failed",
            "what it starts, `backup.service`, ended with exit status 2",
        ),
    ] {
        let look = machine.shows(&with_service(changes), TIMERS);
        let wanted: Vec<&str> = [code].into_iter().filter(|code| !code.is_empty()).collect();
        assert_eq!(look.codes(), wanted, "{changes:?}");
        assert_eq!(look.said(), said, "{changes:?}");
    }
    machine.put(
        "second",
        &with(BACKUP, &[("Id", "backup-job.service"), ("Names", "backup-job.service"), ("Result", "timeout")]),
    );
    let look = machine.shows(&with(TIMER, &[("Unit", "backup-job.service")]), TIMERS);
    assert_eq!(look.codes(), ["backup.timer: service_failed"], "a service of another name is asked for too");
    let look = machine
        .shows(&format!("{}\n{BACKUP}", with(TIMER, &[("ActiveState", "inactive"), ("SubState", "dead")])), TIMERS);
    assert_eq!(look.codes(), ["backup.timer: not_active"]);
}

#[test]
fn a_time_that_passes_without_a_trigger_is_missed_until_the_next_one() {
    let mut machine = Machine::new();
    let timer = |next: &str, last: &str, sub: &str| {
        let timer = with(TIMER, &[("NextElapseUSecRealtime", next), ("LastTriggerUSec", last), ("SubState", sub)]);
        format!("{timer}\n{BACKUP}")
    };
    let (sat, sun, mon) = ("Sat 2026-03-21 02:00:00 UTC", "Sun 2026-03-22 02:00:00 UTC", "Mon 2026-03-23 02:00:00 UTC");
    let fri = "Fri 2026-03-20 02:00:13 UTC";
    for (at, text, missed) in [
        ("2026-03-20T12:00:00Z", timer(sat, fri, "waiting"), false),
        // Within its accuracy and a minute.
        ("2026-03-21T02:01:30Z", timer(sat, fri, "waiting"), false),
        ("2026-03-21T02:15:00Z", timer(sun, "Sat 2026-03-21 02:00:40 UTC", "waiting"), false),
        // Off until Sunday noon: the run of that night never was.
        ("2026-03-22T12:00:00Z", timer(mon, "Sat 2026-03-21 02:00:40 UTC", "waiting"), true),
        ("2026-03-22T12:15:00Z", timer(mon, "Sat 2026-03-21 02:00:40 UTC", "waiting"), true),
        ("2026-03-22T12:30:00Z", timer(mon, "Sun 2026-03-22 12:20:00 UTC", "waiting"), false),
        // What it starts still runs: systemd names no time to come.
        ("2026-03-23T02:15:00Z", timer("n/a", "Mon 2026-03-23 02:00:05 UTC", "running"), false),
        ("2026-03-24T02:15:00Z", timer("", "Mon 2026-03-23 02:00:05 UTC", "running"), false),
    ] {
        machine.at(at);
        let look = machine.shows(&text, TIMERS);
        assert_eq!(!look.codes().is_empty(), missed, "{at}: {:?}", look.codes());
        if missed {
            assert_eq!(look.codes(), ["backup.timer: missed"]);
            assert_eq!(
                look.said(),
                "was not triggered at its time, 2026-03-22T02:00:00Z: it was triggered last at 2026-03-21T02:00:40Z"
            );
        }
    }
}

#[test]
fn the_age_of_the_last_trigger_is_a_gauge() {
    let mut machine = Machine::new();
    let toml = "units = ['backup.timer']\nmax_age = '1d'";
    let look = machine.shows(&format!("{TIMER}\n{BACKUP}"), toml);
    assert_eq!(look.number("backup.timer", "last_trigger_s"), Some(35_987.0));
    let never = with(TIMER, &[("LastTriggerUSec", "")]);
    let look = machine.shows(&format!("{never}\n{BACKUP}"), toml);
    assert_eq!(
        look.number("backup.timer", "last_trigger_s"),
        Some(4.0 * 86_400.0 + 4.0 * 3_600.0),
        "since it was started"
    );
    assert_eq!(machine.look(TIMERS).number("backup.timer", "last_trigger_s"), None);
}

#[test]
fn what_failed_is_listed_and_seen_once_more_when_it_is_over() {
    let mut machine = Machine::new();
    let toml = "failed = true\nignore = ['^noise']";
    machine.put(
        "failed",
        r#"[{"unit":"gateway.service","active":"failed"},{"unit":"noise@1.service","active":"failed"}]"#,
    );
    let failed = with(RUNNING, &[("ActiveState", "failed"), ("Result", "exit-code"), ("ExecMainStatus", "1")]);
    assert_eq!(machine.shows(&failed, toml).codes(), ["gateway.service: failed"]);
    machine.put("failed", "[]");
    // Reset, stopped or removed by hand: it is over, whatever it is now.
    for over in [
        RUNNING.to_owned(),
        with(RUNNING, &[("ActiveState", "inactive"), ("SubState", "dead")]),
        with(RUNNING, &[("ActiveState", "inactive"), ("LoadState", "not-found")]),
    ] {
        machine.put("failed", "  gateway.service loaded failed failed The gateway\n");
        assert_eq!(machine.shows(&failed, toml).codes(), ["gateway.service: failed"]);
        machine.put("failed", "");
        let look = machine.shows(&over, toml);
        assert_eq!((look.codes(), look.facts.subjects().len()), (vec![], 1), "its end can be told");
        assert!(machine.look(toml).facts.is_empty(), "and then it is forgotten");
    }
    machine.put("failed", "what is this");
    assert_eq!(machine.try_look(toml).unwrap_err().code.as_str(), "systemctl_failed");
}

#[test]
fn all_timers_are_listed() {
    let mut machine = Machine::new();
    machine.put("timers", r#"[{"unit":"backup.timer"}]"#);
    let text = format!("{}\n{TIMER}", with(BACKUP, &[("Result", "exit-code"), ("ExecMainStatus", "1")]));
    assert_eq!(machine.shows(&text, "timers = true").codes(), ["backup.timer: service_failed"]);
    let many: Vec<String> = (0..170).map(|n| format!("{{\"unit\":\"t{n:03}.timer\"}}")).collect();
    machine.put("timers", &format!("[{}]", many.join(",")));
    let look = machine.look("timers = true");
    assert_eq!(look.codes()[0], "too_many_units");
    assert_eq!(look.number("", "units_left_out"), Some(20.0));
    // What somebody named, and what failed, is not left out for what stands before it in the alphabet.
    machine.put("failed", "  z.service loaded failed failed Z\n");
    let look = machine.look("timers = true\nfailed = true\nunits = ['zz.service']");
    assert_eq!(look.number("", "units_left_out"), Some(22.0));
    let asked = machine.asked().into_iter().rev().find(|asked| asked.contains(" show ")).unwrap();
    assert!(asked.contains(" z.service") && asked.contains(" zz.service"), "{asked}");
}

#[test]
fn where_systemd_is_not_there_nothing_is_called_well() {
    let mut machine = Machine::new();
    let not_booted = "System has not been booted with systemd as init system (PID 1). Can'\\''t operate.";
    for (body, code, blame) in [
        (
            format!("echo '{not_booted}' >&2; echo 'Failed to connect to bus: Host is down' >&2; exit 1"),
            "no_systemd",
            Blame::Blind,
        ),
        ("echo 'Failed to get properties: Access denied' >&2; exit 1".to_owned(), "not_allowed", Blame::Blind),
        ("echo 'Failed to connect to bus: No medium found' >&2; exit 1".to_owned(), "systemctl_failed", Blame::Target),
        ("kill -9 $$".to_owned(), "systemctl_failed", Blame::Target),
        ("head -c 2000000 /dev/zero".to_owned(), "systemctl_failed", Blame::Target),
        ("exit 0".to_owned(), "", Blame::Target),
    ] {
        machine.shim(&body);
        let looked = machine.try_look(GATEWAY);
        match looked {
            Err(unread) => assert_eq!((unread.code.as_str(), unread.blame), (code, blame), "{body}"),
            Ok(look) => assert_eq!((look.codes(), code), (vec!["gateway.service: not_shown".to_owned()], ""), "{body}"),
        }
        let optional = machine.try_look("units = ['gateway']\noptional = true");
        assert_eq!(optional.is_ok_and(|look| look.text("", "skipped").is_some()), code == "no_systemd", "{body}");
    }
    // Of a user the same words say that nobody is logged in.
    machine.shim("echo 'Failed to connect to bus: No such file or directory' >&2; exit 1");
    let nobody = machine.try_look("units = ['gateway']\nuser = true").unwrap_err();
    assert_eq!((nobody.code.as_str(), nobody.blame), ("no_user_systemd", Blame::Blind));
    let optional = machine.try_look("units = ['gateway']\nuser = true\noptional = true").unwrap();
    assert!(optional.text("", "skipped").is_some());
    std::fs::remove_file(machine.path("systemctl")).unwrap();
    machine.trial.host().env.insert("PATH".into(), "/nonexistent".into());
    assert_eq!(machine.try_look(GATEWAY).unwrap_err().code.as_str(), "program_not_found");
    let look = machine.look("timers = true\noptional = true");
    assert_eq!((look.codes(), look.text("", "skipped")), (vec![], Some("there is no program `systemctl` on $PATH")));
}

#[test]
fn settings_that_can_not_be_meant_are_refused() {
    for (toml, said) in [
        ("", "units: nothing is looked at (give `units`, `failed = true` or `timers = true`)"),
        ("units = ['a*']", "units: `a*` is no name of a unit (each by its own; all that failed: `failed = true`)"),
        ("units = ['--all']", "units: `--all` is no name of a unit"),
        ("units = ['a']\nmax_age = '1h'", "max_age: `max_age` is about timers, and none is looked at"),
        ("units = ['a']\nignore = ['a']", "ignore: `ignore` is about `failed` and `timers`, and neither is set"),
        ("units = ['a']\nunit = 1", "unknown field `unit`"),
    ] {
        let problems = problems::<Systemd>(toml);
        assert!(problems.iter().any(|problem| problem.starts_with(said)), "{toml}: {problems:?}");
    }
    assert_eq!(problems::<Systemd>("units = ['a', 'b@1.service', 'c.timer']\nmax_age = '1h'"), [""; 0]);
}
