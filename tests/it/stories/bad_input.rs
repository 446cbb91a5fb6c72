//! What is wrong with the config, the secrets and the state is said in a sentence, and nothing is lost by it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Answer, Http, Lab, Ran};

/// Refuses to run, with these words.
#[track_caller]
fn refused(lab: &Lab, said: &str) {
    for (args, status) in [(&["run"][..], 1), (&["run", "--exit-status"], 3)] {
        let ran = lab.run(args);
        assert_eq!((ran.stderr.as_str(), ran.stdout.as_str(), ran.code), (said, "", Some(status)), "{args:?}");
    }
}

#[test]
fn a_config_with_problems_is_refused_with_all_of_them() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs");
    let mut tried = 0;
    for entry in std::fs::read_dir(configs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "toml") {
            continue;
        }
        tried += 1;
        let mut lab = Lab::new();
        let there = lab.write(path.file_name().unwrap().to_str().unwrap(), std::fs::read(&path).unwrap());
        lab.env.push(("PULSECHECK_CONFIG".to_owned(), there.to_str().unwrap().to_owned()));
        let words = std::fs::read_to_string(path.with_extension("err")).unwrap();
        let ran = lab.run(&["run"]);
        assert_eq!((ran.stdout.as_str(), ran.code), ("", Some(1)));
        let said = ran.stderr.replace(&format!("{}/", lab.home().display()), "");
        assert_eq!(said, format!("pulsecheck: {words}"));
        assert!(!lab.state().exists(), "nothing is begun");
    }
    assert!(tried >= 10, "the fixtures are there");
}

#[test]
fn a_config_that_others_can_write_is_refused() {
    let lab = Lab::with("[check.host]\nkind = \"system\"\n");
    let path = lab.path("pulsecheck.toml");
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let path = path.display();
    let said = format!(
        "pulsecheck: {path}: others could change what runs: `{path}` can be written by every user (chmod o-w it)\n"
    );
    refused(&lab, &said);
}

#[test]
fn a_secret_that_cannot_be_read_breaks_only_what_needs_it() {
    let (site, good, bad) = (Http::ok("hello"), Http::ok(""), Http::ok(""));
    let mut lab = Lab::with(&format!(
        r#"
# What is refused is tried again within a run for so long.
[limits]
delivery = "1s"

[check.open]
kind = "http"
url = "{site}"

[check.locked]
kind = "http"
url = "{site}"
bearer = "env:NOWHERE_SET"

[notify.good]
kind = "webhook"
url = "{good}"

[notify.bad]
kind = "webhook"
url = "{bad}"
bearer = "file:~/no-such-token"
"#,
        site = site.url(),
        good = good.url(),
        bad = bad.url()
    ));
    let report = lab.cycle().expect("yellow", true, &["locked"]);
    let item = &report["top_3"][0];
    assert_eq!(item["item"], "locked: the secret `env:NOWHERE_SET` is not set in the environment");
    assert_eq!(
        (&item["action"], &report["requires_human"]),
        (&"set the secret or its file's mode".into(), &true.into())
    );

    // The other check is looked at, the other channel is told, and the channel without its secret is trouble in itself.
    site.answer(Answer::With(503, "text/plain", "later".to_owned()));
    lab.next().expect("yellow", false, &["locked"]);
    lab.next().expect("yellow", true, &["open", "locked"]);
    lab.next().expect("red", true, &["open", "locked"]);
    let report = lab.next().expect("red", true, &["open", "pulsecheck/notify bad", "locked"]);
    let said = format!(
        "pulsecheck notify bad: notices wait to be delivered: the secret `file:~/no-such-token` can't be read: `{}` is not there",
        lab.path("no-such-token").display()
    );
    assert_eq!(report["top_3"][1]["item"], said);
    assert_eq!(told(&good), ["open yellow locked", "open yellow open", "raise red open", "open yellow pulsecheck"]);
    assert_eq!(bad.take().len(), 0);

    // With the secrets there, what waited is delivered; what came to its end before anybody heard of it is not.
    lab.write("no-such-token", "a-token");
    lab.env.push(("NOWHERE_SET".to_owned(), "another-token".to_owned()));
    site.answer(Answer::With(200, "text/plain", "hello".to_owned()));
    lab.next();
    assert_eq!(told(&bad), ["open red pulsecheck"]);
}

/// Turn, level and check of each event that the sink was sent since the last look.
fn told(sink: &Http) -> Vec<String> {
    let word = |event: &Value, name: &str| event[name].as_str().unwrap().to_owned();
    let events = sink.take().into_iter().flat_map(|seen| seen.json()["events"].as_array().unwrap().clone());
    events.map(|event| ["turn", "level", "check"].map(|name| word(&event, name)).join(" ")).collect()
}

/// Runs it where the state folder is on a mount that can't be written.
fn read_only(lab: &Lab, args: &[&str]) -> Option<Ran> {
    let ours = lab.command(args);
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    let script = "mount --bind \"$S\" \"$S\" && mount -o remount,ro,bind \"$S\" && echo mounted >&2 && exec \"$@\"";
    command.arg(script).arg("sh").arg(ours.get_program()).args(ours.get_args());
    command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("S", lab.state()).current_dir(lab.home());
    let ran = Ran::from(command.output().ok()?);
    let stderr = ran.stderr.strip_prefix("mounted\n")?.to_owned();
    Some(Ran { stderr, ..ran })
}

#[test]
#[expect(clippy::print_stdout, reason = "what is not tested is said")]
fn a_state_folder_that_cannot_be_written_is_said_and_red_is_said_all_the_same() {
    let (site, sink) = (Http::ok("hello"), Http::ok(""));
    let mut lab = Lab::with(&format!(
        "[check.site]\nkind = \"http\"\nurl = \"{}\"\nstreak = {{ yellow = 1, red = 1 }}\n[notify.sink]\nkind = \"webhook\"\nurl = \"{}\"\n",
        site.url(),
        sink.url()
    ));
    lab.cycle().quiet();
    let before = files(&lab.state());
    site.answer(Answer::With(503, "text/plain", "later".to_owned()));
    // Where not even the time of the last notice can be noted, the first cycle of each hour gives them.
    lab.pass(30);
    let Some(ran) = read_only(&lab, &["run"]) else {
        println!("not tested: nothing can be mounted read-only here");
        return;
    };
    let (store, told) = (format!("`{}`", lab.state().join("state.db").display()), sink.take());
    let said = format!(
        "{store} can't be written: make its folder writable for the user that runs pulsecheck, or name another state folder"
    );
    assert_eq!((ran.code, ran.stderr.clone()), (Some(1), format!("pulsecheck: nothing could be committed: {said}\n")));
    ran.expect("red", true, &["site", "pulsecheck/store"]);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].json()["head"], format!("nothing could be committed: {said}"));
    assert_eq!(told[0].json()["events"][0]["title"], "red: site: answered 503, expected 200-299");
    assert_eq!(files(&lab.state()), before);
    // Once it can be written again, all goes on from where it was.
    lab.next().expect("red", true, &["site"]);
    assert_eq!(sink.take()[0].json()["head"], Value::Null);
}

/// Every file of a folder and what is in it.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_damaged_database_is_set_aside_and_said_and_what_was_open_is_still_open() {
    let site = Http::start(Answer::With(503, "text/plain", "later".to_owned()));
    let mut lab = Lab::with(&format!("[check.site]\nkind = \"http\"\nurl = \"{}\"\n", site.url()));
    for _ in 0..3 {
        lab.next();
    }
    lab.next().expect("red", false, &["site"]);
    // The next day's first cycle copies what is worth having.
    lab.pass(24 * 60);
    let copied = lab.next();
    copied.expect("red", false, &["site"]);
    let database = lab.state().join("state.db");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[4096..].fill(0xa5);
    std::fs::write(&database, &bytes).unwrap();

    let report = lab.next().expect("red", true, &["site", "pulsecheck/store"]);
    let aside = format!("state.db.corrupt-{}", lab.now.strftime("%Y%m%dT%H%M%SZ"));
    let said = format!(
        "pulsecheck store: the damaged database was set aside as {aside}; acks, silences and incidents are back as of 2026-03-21T22:45:00Z"
    );
    assert_eq!(report["top_3"][1]["item"], said);
    assert_eq!(report["top_3"][0]["since"], copied.report()["top_3"][0]["since"]);
    assert_eq!(std::fs::read(lab.state().join(&aside)).unwrap(), bytes, "nothing is lost");
    lab.next().expect("red", false, &["site", "pulsecheck/store"]);
}

#[test]
fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let mut lab = Lab::with("[check.host]\nkind = \"system\"\ndisks = []\n");
    lab.next();
    let database = lab.state().join("state.db");
    let conn = rusqlite::Connection::open(&database).unwrap();
    conn.pragma_update(None, "user_version", 4_000).unwrap();
    conn.close().unwrap();
    let before = files(&lab.state());
    lab.pass(15);
    let said = format!(
        "pulsecheck: `{}` was written by a newer pulsecheck (schema 4000, this one knows 2): upgrade, or move the file away\n",
        database.display()
    );
    refused(&lab, &said);
    for args in [&["run", "--dry-run"][..], &["ack", "host", "--why", "known"]] {
        let ran = lab.run(args);
        assert_eq!((ran.stderr.as_str(), ran.stdout.as_str(), ran.code), (said.as_str(), "", Some(1)), "{args:?}");
    }
    assert_eq!(files(&lab.state()), before);
}
