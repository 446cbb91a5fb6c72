//! Plugins of Nagios as checks, and Pulsecheck as a plugin of something in the manner of Nagios.

use std::path::Path;

use crate::support::{Answer, Http, Lab, Ran};

/// Where Debian keeps them.
const PLUGINS: &str = "/usr/lib/nagios/plugins";

/// Whether the plugins of this story are here; what is missing is said.
#[expect(clippy::print_stdout, reason = "what is not tested is said")]
fn have_plugins() -> bool {
    let wanted = ["check_http", "check_tcp", "check_procs", "check_file_age", "check_disk"];
    let missing: Vec<&str> = wanted.into_iter().filter(|name| !Path::new(PLUGINS).join(name).exists()).collect();
    if !missing.is_empty() {
        println!("not tested: no {} in {PLUGINS} (Debian's monitoring-plugins-basic)", missing.join(", "));
    }
    missing.is_empty()
}

/// One `command` check with this argv, its first word a plugin.
fn plugin(name: &str, argv: &str) -> String {
    let words: Vec<String> = argv.split(' ').map(|word| format!("\"{word}\"")).collect();
    let words = words.join(", ").replacen('"', &format!("\"{PLUGINS}/"), 1);
    format!("[check.{name}]\nkind = \"command\"\nargv = [{words}]\n")
}

#[test]
fn plugins_are_checks() {
    if !have_plugins() {
        return;
    }
    let site = Http::ok("hello");
    let port = site.addr().port();
    let rule = |name: &str, expr: &str| {
        format!(
            "[check.{name}]\nkind = \"rule\"\nexpr = '{expr}'\nsays = \"{name}\"\nweight = \"warn\"\nsettled = true\n"
        )
    };
    // What the plugins measure are facts like any others: of the first rule nothing is to be heard, of the second all.
    let measured = [
        "checks.web.facts.time < 60.0 && checks.web.facts.size > 5.0",
        "checks.port.facts.time < 60.0",
        "checks.procs.facts.procs >= 1.0",
        "checks.age.facts.age < 3000000000.0 && checks.age.facts.size == 1.0",
        "checks.disk.facts[\"/\"] > 0.0",
    ]
    .join(" && ");
    let config = [
        plugin("web", &format!("check_http -H 127.0.0.1 -p {port} -s hello")),
        plugin("port", &format!("check_tcp -H 127.0.0.1 -p {port}")),
        plugin("procs", "check_procs -w 1: -c 1:"),
        plugin("age", "check_file_age -w 3000000000 -c 3000000000 -f STAMP"),
        plugin("disk", "check_disk -w 0% -c 0% -p /"),
        rule("unmeasured", &format!("!({measured})")),
    ]
    .concat();
    let mut lab = Lab::new();
    let stamp = lab.write("stamp", "x");
    let config = config.replace("STAMP", stamp.to_str().unwrap());
    lab.config(&config);
    lab.cycle().quiet();
    lab.config(&(config.clone() + &rule("measured", &measured)));
    lab.next().expect("yellow", true, &["measured"]);

    // What they find is told in their words: a failure, warnings, and that one can't tell.
    let config = [
        plugin("web", &format!("check_http -H 127.0.0.1 -p {port} -s hello")),
        plugin("age", "check_file_age -w 1 -c 3000000000 -f STAMP"),
        plugin("disk", "check_disk -w 101% -c 0% -p /"),
        plugin("procs", "check_procs --no-such-option"),
    ];
    let mut lab = Lab::new();
    let stamp = lab.write("stamp", "x");
    let an_hour_ago = std::fs::metadata(&stamp).unwrap().modified().unwrap() - std::time::Duration::from_hours(1);
    std::fs::File::options().write(true).open(&stamp).unwrap().set_modified(an_hour_ago).unwrap();
    lab.config(&config.concat().replace("STAMP", stamp.to_str().unwrap()));
    site.answer(Answer::With(500, "text/plain", "broken".to_owned()));
    lab.cycle().quiet();
    let report = lab.next().expect("yellow", true, &["age", "disk", "procs"]);
    let items: Vec<&str> =
        report["top_3"].as_array().unwrap().iter().map(|item| item["item"].as_str().unwrap()).collect();
    for (item, said) in items.iter().zip([
        "age: exit status 1: \"FILE_AGE WARNING: ",
        "disk: exit status 1: \"DISK WARNING - free space: / ",
        "procs: exit status 3: \"",
    ]) {
        assert!(item.starts_with(said), "{items:?}");
    }
    let report = lab.next().expect("red", true, &["procs", "web", "age"]);
    let said = report["top_3"][1]["item"].as_str().unwrap();
    assert!(said.starts_with("web: exit status 2: \"HTTP CRITICAL: HTTP/1.1 500"), "{said}");
    let status: serde_json::Value = serde_json::from_str(&lab.run(&["status", "--json"]).stdout).unwrap();
    let word = |finding: &serde_json::Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = status["findings"].as_array().unwrap().iter().filter(|finding| finding["kind"] == "command");
    let seen: Vec<String> = findings.map(|f| ["check", "level", "code"].map(|name| word(f, name)).join(" ")).collect();
    assert_eq!(seen, ["procs red exit_unknown", "web red exit_fail", "age yellow exit_warn", "disk yellow exit_warn"]);
}

/// What a caller in the manner of Nagios makes of an exit status and the first line: it reads nothing else.
const CALLER: &str = r#"
line=$("$@" 2>&1 | head -n 1; exit ${PIPESTATUS[0]})
case $? in
  0) state=OK ;; 1) state=WARNING ;; 2) state=CRITICAL ;; 3) state=UNKNOWN ;; *) state=BROKEN ;;
esac
echo "$state: $line"
"#;

/// What the caller says of `run --exit-status` now.
fn called(lab: &Lab) -> String {
    let mut command = lab.command(&["run", "--exit-status"]);
    let pulsecheck = command.get_program().to_owned();
    let mut caller = std::process::Command::new("bash");
    caller.args(["-c", CALLER, "caller"]).arg(pulsecheck).args(command.get_args());
    caller.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    caller.current_dir(command.get_current_dir().unwrap());
    command.stdin(std::process::Stdio::null());
    let ran = Ran::from(caller.output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    ran.stdout
}

#[test]
fn a_caller_in_the_manner_of_nagios_reads_the_exit_status() {
    let site = Http::ok("hello");
    let config = format!("[check.site]\nkind = \"http\"\nurl = \"{}\"\n", site.url());
    let mut lab = Lab::with(&config);
    assert_eq!(called(&lab), "OK: HEARTBEAT_OK\n");
    site.answer(Answer::With(500, "text/plain", "broken".to_owned()));
    let (mut said, level) = (Vec::new(), |line: &str| line.split(['{', ' ']).next().unwrap().to_owned());
    for _ in 0..3 {
        lab.pass(15);
        let line = called(&lab);
        said.push(level(&line));
    }
    assert_eq!(said, ["OK:", "WARNING:", "CRITICAL:"]);
    // A standing red is as red as a new one.
    lab.pass(15);
    assert_eq!(level(&called(&lab)), "CRITICAL:");
    site.answer(Answer::With(200, "text/plain", "hello".to_owned()));
    lab.pass(15);
    assert_eq!(level(&called(&lab)), "OK:");

    lab.config("interval = ");
    let line = called(&lab);
    assert!(line.starts_with("UNKNOWN: pulsecheck: "), "{line}");
}
