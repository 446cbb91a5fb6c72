//! Jobs that end well and leave nothing of worth, and the wrapper that records them without being in their way.

#![expect(clippy::format_push_string, reason = "a config is put together as it is read, piece by piece")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use crate::support::{Http, Lab, Ran};

/// Runs a shell's script as a job, under a schedule's conditions: no terminal. `$OUT` names the job's file, and `at TIME`
/// dates it, since the clock of the lab is not that of the disk.
fn job(lab: &Lab, name: &str, script: &str) -> Ran {
    let script = format!("at() {{ touch -d \"$1\" \"$OUT\"; }}; {script}; at \"${{WRITTEN:-$PULSECHECK_TEST_NOW}}\"");
    let mut command = lab.command(&["exec", "--job", name, "--", "sh", "-c", &script]);
    Ran::from(command.env("OUT", lab.path(&format!("out/{name}.json"))).output().unwrap())
}

/// What each event said that the sink was sent since the last look, in order.
fn told(sink: &Http) -> Vec<String> {
    let events = sink.take().into_iter().flat_map(|seen| seen.json()["events"].as_array().unwrap().clone());
    let mut titles: Vec<String> = events.map(|event: Value| event["title"].as_str().unwrap().to_owned()).collect();
    titles.sort();
    titles
}

#[test]
fn jobs_that_exit_with_0_are_found_by_what_they_left() {
    let sink = Http::ok("");
    let mut config = format!("[notify.sink]\nkind = \"webhook\"\nurl = \"{}\"\n", sink.url());
    for (name, asked) in [
        ("empty", ""),
        ("yesterdays", ""),
        ("shape", "schema = { type = \"object\", required = [\"items\"] }"),
        ("same", "changes = true"),
        ("fine", "required = [\"$.items\"]\nchanges = true"),
    ] {
        config += &format!(
            "[check.{name}]\nkind = \"output\"\npath = \"~/out/{name}.json\"\nafter_job = \"{name}\"\nformat = \"json\"\n{asked}\n"
        );
    }
    let mut lab = Lab::with(&config);
    std::fs::create_dir(lab.path("out")).unwrap();

    // One night all is well.
    let names = ["empty", "yesterdays", "shape", "same", "fine"];
    for name in names {
        let ran = job(&lab, name, "echo '{\"items\": [1]}' > \"$OUT\"");
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""), "{name}");
    }
    lab.next().quiet();

    // The next night all exit with 0 again, and four of them left nothing of worth.
    lab.pass(24 * 60 - 15);
    let night = lab.now;
    for (name, script) in [
        ("empty", ": > \"$OUT\""),
        ("yesterdays", &format!("WRITTEN={}", night - jiff::SignedDuration::from_hours(24)) as &str),
        ("shape", "echo '{\"rows\": [2]}' > \"$OUT\""),
        ("same", "echo '{\"items\": [1]}' > \"$OUT\""),
        ("fine", "echo '{\"items\": [2]}' > \"$OUT\""),
    ] {
        let ran = job(&lab, name, script);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(0), "", ""), "{name}");
    }
    lab.next().expect("red", true, &["empty", "shape", "yesterdays"]);
    let said = [
        "red: empty: `~/out/empty.json` is empty: it holds nothing",
        "red: shape: `~/out/shape.json` does not match its schema: \"at the top: 'items' is a required property\"",
        "red: yesterdays: `~/out/yesterdays.json` was not written by the last run of `yesterdays`: it is 1 d older than that run's start",
        "yellow: same: `~/out/same.json` is the same as after the run before",
    ];
    assert_eq!(told(&sink), said);
    lab.next().expect("red", false, &["empty", "shape", "yesterdays"]);
    assert_eq!(told(&sink), [""; 0]);
}

#[test]
fn a_second_job_that_fails_while_the_first_is_red_is_said() {
    let mut lab =
        Lab::with("[check.jobs]\nkind = \"job\"\njobs = [\"first\", \"second\"]\nfailures = { warn = 1, fail = 1 }\n");
    let run = |lab: &Lab, job: &str, status: &str| {
        let ran = lab.run(&["exec", "--job", job, "--", "sh", "-c", &format!("echo no disk; exit {status}")]);
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (status.parse().ok(), "no disk\n", ""));
    };
    run(&lab, "first", "0");
    run(&lab, "second", "0");
    lab.next().quiet();
    run(&lab, "first", "1");
    let report = lab.next().expect("red", true, &["jobs/first"]);
    assert_eq!(report["top_3"][0]["item"], "jobs first: failed 1 time, last with exit status 1");
    lab.next().expect("red", false, &["jobs/first"]);
    run(&lab, "second", "3");
    let report = lab.next().expect("red", true, &["jobs/second", "jobs/first"]);
    assert_eq!(report["top_3"][0]["item"], "jobs second: failed 1 time, last with exit status 3");
    run(&lab, "first", "0");
    lab.next().expect("red", true, &["jobs/second", "jobs/first"]);
}

#[test]
fn the_wrapper_is_not_in_the_jobs_way() {
    let lab = Lab::new();
    // Every byte, both ways.
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let mut child = piped(lab.command(&["exec", "--job", "copy", "--", "cat"])).spawn().unwrap();
    let (mut stdin, sent) = (child.stdin.take().unwrap(), bytes.clone());
    let writing = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
    let copied = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(copied.stdout == bytes, "{} bytes came back", copied.stdout.len());
    assert_eq!((copied.status.code(), copied.stderr.as_slice()), (Some(0), &b""[..]));

    // Its two streams stay two, and its exit status is the wrapper's.
    let ran = lab.run(&["exec", "--job", "mixed", "--", "sh", "-c", "echo out; echo err >&2; exit 41"]);
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(41), "out\n", "err\n"));
    let ran = lab.run(&["exec", "--job", "nobody", "--", "/nowhere/at-all"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(127), ""));
    assert_eq!(ran.stderr, "pulsecheck: failed to run `/nowhere/at-all`: not found\n");

    // A signal that ends it ends the wrapper alike; one that the wrapper gets reaches the job.
    let ended = lab.command(&["exec", "--job", "killed", "--", "sh", "-c", "kill -KILL $$"]).status().unwrap();
    assert_eq!(signal(ended), Some(9));
    let script = "trap 'echo told; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut child = piped(lab.command(&["exec", "--job", "told", "--", "sh", "-c", script])).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let pid = rustix::process::Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!((rest.as_str(), child.wait().unwrap().code()), ("told\n", Some(3)));

    // Where nothing can be recorded the job runs all the same.
    let mut command = lab.command(&["exec", "--job", "anywhere", "--", "sh", "-c", "echo done; exit 5"]);
    let ran = Ran::from(command.env("PULSECHECK_STATE", "/proc/nowhere").output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(5), "done\n", ""));
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(status: ExitStatus) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal()
}
