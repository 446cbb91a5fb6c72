//! Who tries to come in: attempts beyond the usual noise, and a login from where nobody ever came from, across rotations.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use crate::support::{Http, Lab, Ran};

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
