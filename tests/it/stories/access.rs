//! Who tries to come in: attempts beyond the usual noise, and a login from where nobody ever came from, across rotations.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Http, Lab, Ran, pack};

const LOG: &str = "var/auth.log";

struct Host {
    lab: Lab,
    sink: Http,
}

impl Host {
    /// A host whose log a day of bots and one known user have filled.
    fn watched() -> Self {
        let sink = Http::ok("taken");
        let lab = Lab::with(&format!(
            "instance = \"lab\"\ninterval = \"1h\"\n[check.logins]\nkind = \"access\"\nfiles = [\"~/{LOG}\"]\npresets = [\"sshd\"]\n{}",
            sink.hook()
        ));
        lab.write(LOG, "");
        let mut host = Self { lab, sink };
        host.login("anna", "192.0.2.7");
        host.lab.cycle().quiet();
        for hour in 0..25 {
            host.attempts(&format!("203.0.113.{hour}"), 30);
            host.login("anna", "192.0.2.7");
            host.next().quiet();
        }
        assert_eq!(host.sink.heard(), Vec::<String>::new());
        host
    }

    /// The cycle an hour later.
    fn next(&mut self) -> Ran {
        self.lab.pass(60).cycle()
    }

    fn line(&mut self, message: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(self.lab.path(LOG)).unwrap();
        writeln!(file, "Mar 20 21:30:00 box sshd[812]: {message}").unwrap();
    }

    fn attempts(&mut self, ip: &str, times: usize) {
        (0..times).for_each(|n| self.line(&format!("Failed password for root from {ip} port {n} ssh2")));
    }

    fn login(&mut self, user: &str, ip: &str) {
        self.line(&format!("Accepted publickey for {user} from {ip} port 50022 ssh2: ED25519 SHA256:x"));
    }

    /// As logrotate does it: another file, or a copy and an empty one.
    fn rotate(&mut self, copying: bool) {
        let (log, old) = (self.lab.path(LOG), self.lab.path("var/auth.log.1"));
        if copying {
            fs::copy(&log, old).unwrap();
            OpenOptions::new().write(true).open(log).unwrap().set_len(0).unwrap();
        } else {
            fs::rename(&log, old).unwrap();
            self.lab.write(LOG, "");
        }
    }
}

fn said(report: &serde_json::Value, at: usize) -> &str {
    report["top_3"][at]["item"].as_str().unwrap()
}

#[test]
fn a_burst_of_failed_logins_across_a_rotation() {
    let mut host = Host::watched();
    for copying in [false, true] {
        // The twin: as many as ever, half of them before the rotation.
        host.attempts("203.0.113.9", 13);
        host.rotate(copying);
        host.attempts("203.0.113.9", 17);
        host.next().quiet();

        host.attempts("198.51.100.66", 200);
        host.rotate(copying);
        host.attempts("198.51.100.66", 200);
        let report = host.next().expect("yellow", true, &["logins/ssh-failure"]);
        assert!(said(&report, 0).contains("\"198.51.100.66 (400)\""), "{report:#}");
        assert!(said(&report, 0).contains("400 in the last hour, usual are "), "{report:#}");
        assert_eq!(host.sink.heard(), ["open yellow lab/logins/ssh-failure"]);
        // It goes on: said once. It is over: said once.
        host.attempts("198.51.100.66", 400);
        host.next().expect("yellow", false, &["logins/ssh-failure"]);
        host.next().expect("green", true, &["logins/ssh-failure"]);
        assert_eq!(host.sink.heard(), ["resolve yellow lab/logins/ssh-failure"]);
    }
}

#[test]
fn a_first_login_from_a_new_address_across_a_rotation() {
    let mut host = Host::watched();
    for (copying, address) in [(false, "198.51.100.77"), (true, "198.51.100.78")] {
        // The twin: somebody who is known.
        host.login("anna", "192.0.2.7");
        host.rotate(copying);
        host.login("anna", "192.0.2.7");
        host.next().quiet();

        host.login("anna", address);
        host.rotate(copying);
        host.line("Server listening on 0.0.0.0 port 22.");
        let report = host.next().expect("yellow", true, &["logins/ssh-login"]);
        assert!(said(&report, 0).contains(&format!("for the first time: \"anna from {address}\"")), "{report:#}");
        assert_eq!(host.sink.heard(), ["open yellow lab/logins/ssh-login"]);
        // Known from now on.
        host.login("anna", address);
        host.next().expect("green", true, &["logins/ssh-login"]);
        host.login("anna", address);
        host.next().quiet();
        assert_eq!(host.sink.heard(), ["resolve yellow lab/logins/ssh-login"]);
    }
}

#[test]
fn a_login_that_succeeds_after_many_attempts_and_one_that_was_mistyped() {
    let mut host = Host::watched();
    host.attempts("192.0.2.7", 3);
    host.login("anna", "192.0.2.7");
    host.next().quiet();

    host.attempts("198.51.100.66", 15);
    host.rotate(false);
    host.attempts("198.51.100.66", 15);
    host.login("root", "198.51.100.66");
    let report = host.next().expect("red", true, &["logins/ssh-login"]);
    assert!(said(&report, 0).contains("\"root from 198.51.100.66 after 30 failures\""), "{report:#}");
    assert_eq!(report["requires_human"].as_bool(), Some(true));
    assert_eq!(host.sink.heard(), ["open red lab/logins/ssh-login"]);
    // A cycle that is killed before it commits reads the same lines again: nothing is lost, nothing said twice.
    host.attempts("198.51.100.66", 5);
    host.lab.pass(60);
    host.lab.killed_at(pulsecheck::steps::Step::Fetched);
    host.lab.cycle().expect("red", false, &["logins/ssh-login"]);
    assert_eq!(host.sink.heard(), Vec::<String>::new());
    host.lab.pass(24 * 60).cycle().expect("green", true, &["logins/ssh-login"]);
}

/// The pack as it is shipped, on the files of a home in place of those of the system.
fn shipped(drift: bool) -> Lab {
    let lab = Lab::new();
    let home = lab.home().display().to_string();
    let text = pack("security", "/var/log/", &format!("{home}/var/")).replace("\"/etc/", &format!("\"{home}/etc/"));
    let text = text.replace("user = \"root\"\n", "");
    // The baseline is that of this machine, all of which only root may read.
    let checks = text.split("\n\n").filter(|part| drift || !part.contains("[check.security-drift]"));
    lab.config(&checks.collect::<Vec<_>>().join("\n\n"));
    lab
}

#[test]
fn the_pack_on_a_container_and_on_a_host() {
    // Neither a log nor a journal, and no secret: said, and no trouble.
    let mut lab = shipped(rustix::process::geteuid().is_root());
    let empty = lab.path("bin");
    fs::create_dir(&empty).unwrap();
    lab.env.push(("PATH".to_owned(), empty.display().to_string()));
    for _ in 0..3 {
        lab.next().quiet();
    }
    let said = lab.run(&["explain", "security-logins"]).stdout;
    assert!(said.contains("sources  0") && said.contains("is not there") && !said.contains("/ssh-login"), "{said}");

    let mut lab = shipped(false);
    for (file, text) in [
        (
            LOG,
            "Mar 20 21:30:00 box sshd[812]: Accepted password for anna from 192.0.2.7 port 1 ssh2\n\
             Mar 20 21:30:00 box sudo: anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls\n",
        ),
        (".ssh/id_ed25519", "x"),
        (".ssh/authorized_keys", "x"),
        ("etc/shadow", "x"),
        ("etc/ssh/ssh_host_rsa_key", "x"),
    ] {
        lab.write(file, text);
    }
    lab.next().quiet();
    let mut log = OpenOptions::new().append(true).open(lab.path(LOG)).unwrap();
    writeln!(log, "Mar 20 21:30:00 box sudo: anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls").unwrap();
    writeln!(log, "Mar 20 21:30:00 box sshd[9]: Failed password for root from 203.0.113.9 port 1 ssh2").unwrap();
    lab.next().quiet();

    fs::set_permissions(lab.path(".ssh/id_ed25519"), fs::Permissions::from_mode(0o644)).unwrap();
    writeln!(log, "Mar 20 21:30:00 box sshd[9]: Accepted password for anna from 198.51.100.9 port 1 ssh2").unwrap();
    let key = format!("security-keys/{}", lab.path(".ssh/id_ed25519").display());
    lab.pass(60).cycle().expect("red", true, &[&key, "security-logins/ssh-login"]);
}
