//! Cron jobs and timers by the pack `cron-jobs`: quiet while they run and end well, and by name when one does not.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use crate::support::Lab;

/// As systemd 252 says it of a timer that waits and of what it starts.
const SHOW: &str = "\
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

/// Something that looks like cron to whoever reads the process table.
struct Cron(Child);

impl Cron {
    fn start() -> Self {
        Self(Command::new("sleep").arg0("/usr/sbin/cron").arg("300").stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Cron {
    fn drop(&mut self) {
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A machine with a crontab, timers and the pack.
fn machine() -> Lab {
    let mut lab = Lab::with("include = [\"pack:cron-jobs\"]\n");
    let here = lab.home().display().to_string();
    let script =
        format!("#!/bin/sh\ncase \"$*\" in *--type=timer*) cat '{here}/timers' ;; *) cat '{here}/show' ;; esac\n");
    let shim = lab.write("bin/systemctl", script);
    std::fs::set_permissions(shim, std::fs::Permissions::from_mode(0o755)).unwrap();
    lab.env.push(("PATH".to_owned(), format!("{here}/bin:/usr/bin:/bin")));
    lab.write("timers", r#"[{"unit":"backup.timer","load":"loaded","active":"active","sub":"waiting"}]"#);
    lab.write("show", SHOW);
    lab
}

/// The job runs, a minute after what was before.
fn job(lab: &mut Lab, status: &str) {
    lab.pass(1);
    let ran = lab.run(&["exec", "--job", "nightly", "--", "sh", "-c", &format!("exit {status}")]);
    assert_eq!(ran.code.map(|code| code.to_string()).as_deref(), Some(status), "{ran:?}");
}

#[test]
fn what_runs_and_ends_well_is_quiet_and_what_does_not_is_named() {
    let mut lab = machine();
    let _cron = Cron::start();
    job(&mut lab, "0");
    lab.cycle().quiet();
    job(&mut lab, "1");
    lab.next().quiet();

    let failed = SHOW.replace("ExecMainStatus=0\nResult=success", "ExecMainStatus=2\nResult=exit-code");
    lab.write("show", failed.replace("ActiveState=inactive\nSubState=dead", "ActiveState=failed\nSubState=failed"));
    let report = lab.next().expect("red", true, &["cron-jobs-timers/backup.timer"]);
    let item = report["top_3"][0]["item"].as_str().unwrap();
    assert_eq!(item, "cron-jobs-timers backup.timer: what it starts, `backup.service`, ended with exit status 2");
    // It runs again, and is well before it has ended.
    lab.write("show", SHOW.replace("ActiveState=inactive\nSubState=dead", "ActiveState=activating\nSubState=start"));
    lab.next().expect("green", true, &["cron-jobs-timers/backup.timer"]);

    job(&mut lab, "1");
    lab.next().expect("yellow", true, &["cron-jobs/nightly"]);
    job(&mut lab, "1");
    lab.next().expect("red", true, &["cron-jobs/nightly"]);
    job(&mut lab, "0");
    lab.next().expect("green", true, &["cron-jobs/nightly"]);
    lab.next().quiet();
}

#[test]
fn a_machine_without_systemd_is_left_alone_in_that_and_says_so() {
    let lab = machine();
    let _cron = Cron::start();
    lab.write(
        "bin/systemctl",
        "#!/bin/sh\necho 'System has not been booted with systemd as init system' >&2\nexit 1\n",
    );
    std::fs::set_permissions(lab.path("bin/systemctl"), std::fs::Permissions::from_mode(0o755)).unwrap();
    lab.cycle().quiet();
    let explained = lab.run(&["explain", "cron-jobs-timers"]).stdout;
    assert!(explained.contains("this machine was not started by systemd"), "{explained}");
}
