//! Something of the machine is not what somebody accepted: it is said once and stays open until it is put back or accepted,
//! with who did that and why; what can't be verified is never taken for well.

use std::net::TcpListener;

use rusqlite::Connection;
use serde_json::Value;

use crate::support::{Http, Lab, Ran};

/// A machine of its own: an `/etc` and a `/var` beside the real `/proc`.
fn machine(what: &str, more: &str) -> (Lab, Http) {
    let sink = Http::ok("thanks");
    let mut lab = Lab::with(&format!(
        "instance = \"box\"\nzone = \"UTC\"\n[check.drift]\nkind = \"baseline\"\nwhat = [{what}]\n{more}\n{}",
        sink.hook()
    ));
    let root = lab.path("root");
    std::fs::create_dir_all(&root).unwrap();
    std::os::unix::fs::symlink("/proc", root.join("proc")).unwrap();
    lab.env.push(("PULSECHECK_TEST_ROOT".to_owned(), root.display().to_string()));
    lab.env.push(("USER".to_owned(), "ana".to_owned()));
    let home = lab.path("home/ana");
    lab.write("root/etc/passwd", format!("ana:x:1000:1000::{}:/bin/sh\n", home.display()));
    lab.write("root/etc/sudoers", "root ALL=(ALL:ALL) ALL\n");
    lab.write("home/ana/.ssh/authorized_keys", format!("{} ana@laptop\n", key('a')));
    (lab, sink)
}

/// No key, and no secret either.
fn key(letter: char) -> String {
    format!("ssh-ed25519 {}", letter.to_string().repeat(40))
}

#[track_caller]
fn said(ran: Ran) -> String {
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    ran.stdout
}

#[track_caller]
fn refused(ran: Ran) -> String {
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
    ran.stderr
}

/// What `baseline show --json` says, held to its schema.
#[track_caller]
fn shown(lab: &Lab) -> Vec<Value> {
    let schema: Value = serde_json::from_str(&said(lab.run(&["schema", "baseline"]))).unwrap();
    let value: Value = serde_json::from_str(&said(lab.run(&["baseline", "show", "drift", "--json"]))).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
    assert_eq!(wrong, Vec::<String>::new(), "{value:#}");
    value["baselines"].as_array().unwrap().clone()
}

#[test]
fn a_key_that_is_added_is_said_once_until_somebody_accepts_it() {
    let (mut lab, sink) = machine("\"authorized_keys\"", "");
    lab.cycle().quiet();
    lab.next().quiet();
    let text = said(lab.run(&["baseline", "show"]));
    assert!(text.contains("taken by the first look 21:30 (") && text.contains(" ago), accepted by nobody"), "{text}");

    let keys = format!("{} ana@laptop\n{} eve\n", key('a'), key('b'));
    lab.write("home/ana/.ssh/authorized_keys", &keys);
    let report = lab.next().expect("red", true, &["drift/authorized_keys"]);
    let item = report["top_3"][0]["item"].as_str().unwrap();
    assert!(item.starts_with("drift authorized_keys: added \"ana SHA256:") && item.contains("eve"), "{item}");
    assert!(report["top_3"][0]["action"].as_str().unwrap().contains("pulsecheck baseline accept"), "{report:#}");
    assert_eq!(
        (&report["requires_human"], sink.heard()),
        (&true.into(), vec!["open red box/drift/authorized_keys".into()])
    );
    lab.next().expect("red", false, &["drift/authorized_keys"]);
    assert_eq!(sink.heard(), [""; 0], "it is said once");

    let diff = said(lab.run(&["baseline", "diff", "drift"]));
    assert!(diff.contains("\nauthorized_keys: since 21:30\n  + ana SHA256:"), "{diff}");
    let id = diff.split("--seen ").nth(1).unwrap().split(' ').next().unwrap();
    let why = ["--why", "eve has a new laptop"];
    let accept = |lab: &Lab, more: &[&str]| lab.run(&[&["baseline", "accept", "drift"], more, &why[..]].concat());
    assert!(refused(accept(&lab, &["--seen", "000000000000"])).contains("something else was seen"));
    let done = said(accept(&lab, &["--seen", id]));
    assert_eq!(done, "accepted: drift authorized_keys: 2 members\n");

    let report = lab.next().expect("green", true, &["drift/authorized_keys", "drift"]);
    let deed = report["top_3"][1]["item"].as_str().unwrap();
    assert!(deed.starts_with("drift: baseline accepted by ana (no terminal, from "), "{deed}");
    assert!(deed.ends_with("\"eve has a new laptop\""), "{deed}");
    let heard = sink.heard();
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard.contains(&"resolve red box/drift/authorized_keys".to_owned()), "{heard:?}");
    lab.next().quiet();
    assert_eq!(sink.heard(), [""; 0], "and neither is said again");

    let row = &shown(&lab)[0];
    assert!(row["by"].as_str().unwrap().starts_with("ana (no terminal, from "), "{row:#}");
    assert_eq!((&row["why"], &row["verified"]), (&"eve has a new laptop".into(), &true.into()));
    assert_eq!(row["members"].as_array().unwrap().len(), 2);
    let history = said(lab.run(&["history", "drift"]));
    assert!(history.contains("accepted") && history.contains("eve has a new laptop"), "{history}");
    lab.write("home/ana/.ssh/authorized_keys", format!("{} ana@laptop\n", key('a')));
    lab.next().expect("red", true, &["drift/authorized_keys"]);
}

#[test]
fn a_sudoers_file_that_is_put_back_resolves_it_and_more_of_it_is_said_anew() {
    let (mut lab, sink) = machine("\"sudoers\"", "");
    lab.cycle().quiet();
    lab.write("root/etc/sudoers.d/agent", "agent ALL=(ALL) NOPASSWD: ALL\n");
    let report = lab.next().expect("red", true, &["drift/sudoers"]);
    let item = report["top_3"][0]["item"].as_str().unwrap();
    assert!(item.contains("agent ALL=(ALL) NOPASSWD: ALL\""), "{item}");
    lab.write("root/etc/sudoers.d/eve", "eve ALL=(ALL) ALL\n");
    lab.next().expect("red", true, &["drift/sudoers"]);
    lab.next().expect("red", false, &["drift/sudoers"]);
    std::fs::remove_dir_all(lab.path("root/etc/sudoers.d")).unwrap();
    lab.next().expect("green", true, &["drift/sudoers"]);
    lab.next().quiet();
    let heard = sink.heard();
    assert_eq!(
        (heard.first().unwrap().as_str(), heard.last().unwrap().as_str()),
        ("open red box/drift/sudoers", "resolve red box/drift/sudoers"),
        "{heard:?}"
    );
    assert_eq!(heard.len(), 3, "{heard:?}");
}

#[test]
fn a_new_port_is_yellow_and_one_subject_can_be_accepted_alone() {
    let (mut lab, _sink) = machine("\"ports\", \"sudoers\"", "only = [\"127\\\\.81\\\\.\", \"sudoers\"]");
    lab.cycle().quiet();
    let port = TcpListener::bind("127.81.7.1:0").unwrap();
    let report = lab.next().expect("yellow", true, &["drift/ports"]);
    let item = report["top_3"][0]["item"].as_str().unwrap();
    assert!(item.starts_with(&format!("drift ports: added \"tcp {} is it-", port.local_addr().unwrap())), "{item}");
    lab.write("root/etc/sudoers", "eve ALL=(ALL:ALL) ALL\n");
    lab.next().expect("red", true, &["drift/sudoers", "drift/ports"]);
    let done = said(lab.run(&["baseline", "accept", "drift", "--subject", "ports", "--why", "the new service"]));
    assert_eq!(done, "accepted: drift ports: 1 member\n");
    lab.next().expect("red", true, &["drift/sudoers", "drift/ports"]);
    drop(port);
    lab.next().expect("red", true, &["drift/sudoers", "drift/ports"]);
}

#[test]
fn what_was_tampered_with_fails_closed_and_says_the_way_out() {
    for tamper in [
        "UPDATE baselines SET body = replace(body, 'root ALL', 'mary ALL')",
        "DELETE FROM baselines",
        "UPDATE baselines SET by = 'ana (pts/1)'",
    ] {
        let (mut lab, sink) = machine("\"sudoers\"", "");
        lab.cycle().quiet();
        Connection::open(lab.state().join("state.db")).unwrap().execute_batch(tamper).unwrap();
        let report = lab.next().expect("red", true, &["drift/sudoers"]);
        let item = &report["top_3"][0];
        assert!(item["item"].as_str().unwrap().contains("can't be verified"), "{item:#}");
        assert!(item["action"].as_str().unwrap().contains("pulsecheck baseline accept"), "{item:#}");
        lab.next().expect("red", false, &["drift/sudoers"]);
        assert_eq!((&shown(&lab)[0]["verified"], sink.heard().len()), (&false.into(), 1), "{tamper}");
        assert!(said(lab.run(&["baseline", "diff", "drift"])).contains("can't be verified"));
        said(lab.run(&["baseline", "accept", "drift", "--why", "looked at it"]));
        assert_eq!(lab.next().report()["status"], "green", "{tamper}");
        assert_eq!(shown(&lab)[0]["verified"], true);
    }
}

#[test]
fn what_can_not_be_accepted_is_refused_with_the_way_out() {
    let (mut lab, _sink) = machine("\"sudoers\"", "[check.other]\nkind = \"files\"\npaths = [\"/\"]\n");
    let accept = |lab: &Lab, more: &[&str]| lab.run(&[&["baseline", "accept"], more].concat());
    let why = ["drift", "--why", "right"];
    assert_eq!(refused(accept(&lab, &why)), "pulsecheck: `drift` was never looked at (pulsecheck run)\n");
    assert!(!lab.state().join("state.db").exists());
    lab.cycle().quiet();
    for (args, words) in [
        (&["other", "--why", "x"][..], "`other` (files) is not compared with a baseline (there is: drift)"),
        (&["drifts", "--why", "x"], "there is no check `drifts` (did you mean `drift`?)"),
        (&["drift", "--why", " "], "say why it is right"),
        (&["drift", "--subject", "sudo", "--why", "x"], "`drift` has no subject `sudo`"),
    ] {
        let text = refused(accept(&lab, args));
        assert!(text.contains(words), "{args:?}: {text}");
    }
    assert_eq!(accept(&lab, &["drift"]).code, Some(2), "a why is asked for");
    lab.pass(61);
    assert!(refused(accept(&lab, &why)).contains("look again first (pulsecheck run)"));
    assert_eq!(lab.rows("SELECT count(*) FROM baselines WHERE by IS NOT NULL"), ["0"]);
    std::fs::remove_file(lab.path("root/etc/sudoers")).unwrap();
    std::fs::create_dir(lab.path("root/etc/sudoers")).unwrap();
    lab.cycle().expect("yellow", true, &["drift/sudoers"]);
    let done = said(accept(&lab, &why));
    assert!(done.contains(", without ") && !done.contains("not accepted"), "{done}");
}
