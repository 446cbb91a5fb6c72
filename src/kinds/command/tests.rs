use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::host::files;
use crate::kinds::testing::{Look, Trial, problems, settings};

fn script(dir: &Path, body: &str) -> String {
    let path = dir.join("check.sh");
    files::replace(&path, format!("#!/bin/sh\n{body}\n").as_bytes(), 0o755).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn run(dir: &Path, toml: &str) -> Look {
    Trial::new(dir).look::<Command>(&settings::<Command>(toml)).unwrap()
}

/// The verdict, and what is said of it.
fn verdict(look: &Look) -> (String, String) {
    let unread = look.unread.values().next().map(|unread| unread.said.to_string());
    (look.codes().join(" "), unread.unwrap_or_else(|| look.said().to_owned()))
}

#[test]
fn the_exit_status_decides() {
    let dir = tempfile::tempdir().unwrap();
    for (shell, more, code, said) in [
        ("echo OK - fine", "", "", ""),
        ("echo CRITICAL - all is lost", "", "", ""),
        ("echo OK - fine; exit 1", "", "exit_warn", "exit status 1: \"OK - fine\""),
        ("echo; echo second line; exit 2", "", "exit_fail", "exit status 2: \"second line\""),
        ("echo on stderr >&2; exit 2", "", "exit_fail", "exit status 2: \"on stderr\""),
        ("echo out; echo err >&2; exit 2", "", "exit_fail", "exit status 2: \"out\""),
        ("exit 2", "", "exit_fail", "exit status 2: no output"),
        ("exit 3", "", "exit_unknown", "exit status 3: no output"),
        ("exit 77", "", "exit_unknown", "exit status 77: no output"),
        ("exit 77", "exit_codes = { fail = [77] }", "exit_fail", "exit status 77: no output"),
        ("exit 2", "exit_codes = { fail = [77] }", "exit_unknown", "exit status 2: no output"),
        ("exit 1", "exit_codes = { ok = [0, 1], warn = [] }", "", ""),
        ("kill -9 $$", "", "killed", "ended by signal 9: no output"),
        ("exit 126", "", "program_not_executable", "exit status 126, the program may not be run: no output"),
        ("exit 127", "exit_codes = { warn = [127] }", "exit_warn", ""),
        ("echo value is 4", "expect_output = 'is \\d$'", "", ""),
        (
            "echo value is x",
            "expect_output = 'is \\d$'",
            "output_unexpected",
            "its output is not what it has to be: \"value is x\"",
        ),
        (
            "echo value is x; exit 1",
            "expect_output = 'is \\d$'\nexit_codes = { warn = [], ok = [0, 1] }",
            "output_unexpected",
            "",
        ),
        ("echo value is x; exit 2", "expect_output = 'is \\d$'", "exit_fail", ""),
    ] {
        let look = run(dir.path(), &format!("shell = '{shell}'\n{more}"));
        let (seen, words) = verdict(&look);
        assert_eq!(seen, code, "{shell} with {more}: {words}");
        assert!(said.is_empty() || words == said, "{shell} with {more}: {words}");
        assert!(look.findings.iter().all(|finding| !finding.settled));
    }
}

#[test]
fn what_a_shell_does_not_find_is_blind() {
    let dir = tempfile::tempdir().unwrap();
    let look = run(dir.path(), "shell = 'no-such-program-here'");
    let unread = look.unread.values().next().unwrap();
    assert_eq!((unread.blame, unread.code.as_str()), (Blame::Blind, "program_not_found"));
    let settings = settings::<Command>("argv = ['/no/such/program']");
    let unread = Trial::new(dir.path()).look::<Command>(&settings).unwrap_err();
    assert_eq!((unread.blame, unread.code.as_str()), (Blame::Blind, "program_not_found"));
}

#[test]
fn what_it_finds_can_be_settled() {
    let dir = tempfile::tempdir().unwrap();
    for shell in ["exit 1", "exit 2"] {
        let look = run(dir.path(), &format!("shell = '{shell}'\nsettled = true"));
        assert!(look.findings[0].settled, "{shell}");
    }
}

#[test]
fn what_is_too_slow_is_killed_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings::<Command>("shell = 'echo starting; sleep 600'");
    let mut trial = Trial::new(dir.path());
    let now = trial.host().now();
    let look = trial.look_within::<Command>(&settings, now, Duration::from_millis(700)).unwrap();
    let (code, said) = verdict(&look);
    assert_eq!(code, "timed_out");
    assert!(said.starts_with("killed after 0.") && said.ends_with("s, still running: \"starting\""), "{said}");
    assert_eq!(look.facts.flag(&Subject::none(), "timed_out"), Some(true));
}

#[test]
fn performance_data_become_facts_in_base_units() {
    let dir = tempfile::tempdir().unwrap();
    let body = r#"
echo "LOAD WARNING | load1=6.5;5;9;0; 'disk /'=2MB t=250ms;;;0 seen=12c share=93% what=U bad exit_status=9"
echo "more text"
exit 1"#;
    let look = run(dir.path(), &format!("argv = ['{}']", script(dir.path(), body)));
    let none = Subject::none();
    let facts: Vec<_> = look.facts.of(&none).collect();
    let shown = |name: &str| {
        let (_, fact) = facts.iter().find(|(seen, _)| seen.as_str() == name).unwrap_or_else(|| panic!("no {name}"));
        let class = match &fact.class {
            Class::Gauge(scale) => format!("gauge {:?}", scale.unit),
            Class::Counter(_) => "counter".to_owned(),
            class => format!("{class:?}"),
        };
        (fact.value.number().unwrap(), class, fact.foreign)
    };
    for (name, value, class) in [
        ("load1", 6.5, "gauge None"),
        ("disk /", 2_097_152.0, "gauge Bytes"),
        ("t", 0.25, "gauge Seconds"),
        ("seen", 12.0, "counter"),
        ("share", 93.0, "gauge Percent"),
        ("perf_exit_status", 9.0, "gauge None"),
    ] {
        assert_eq!(shown(name), (value, class.to_owned(), true), "{name}");
    }
    assert_eq!(look.number("", "exit_status"), Some(1.0));
    assert!(look.facts.get(&Subject::none(), "what").is_none());
    assert_eq!(look.number("", "perfdata_malformed"), Some(1.0));
    assert_eq!(look.text("", "beyond"), Some("load1 (warning)"));
    assert_eq!(look.text("", "output"), Some("LOAD WARNING"));
    assert_eq!(look.said(), "exit status 1: \"LOAD WARNING\"; beyond its range: \"load1 (warning)\"");

    let look = run(dir.path(), &format!("argv = ['{}']\nperfdata = false", script(dir.path(), "echo 'a | b=1'")));
    assert_eq!(look.text("", "output"), Some("a | b=1"));
    assert!(look.facts.get(&Subject::none(), "b").is_none());
}

#[test]
fn it_gets_its_folder_variables_secrets_and_stdin_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    let program =
        script(dir.path(), r#"read line; pwd; test "$line/$PLAIN/$KEY/$OTHER" = "hello/word/s3cret-value-of-test/""#);
    let name = Path::new(&program).file_name().unwrap().to_str().unwrap();
    let settings = settings::<Command>(&format!(
        "argv = ['~/{name}']\ncwd = '~/sub'\nstdin = \"hello\\n\"\nenv = {{ PLAIN = 'word' }}\nsecret_env = {{ KEY = 'env:SOURCE' }}"
    ));
    let mut trial = Trial::new(dir.path());
    trial.host().env.insert("SOURCE".into(), "s3cret-value-of-test".into());
    trial.host().env.insert("OTHER".into(), "inherited".into());
    let look = trial.look::<Command>(&settings).unwrap();
    assert_eq!(look.codes(), [""; 0], "{look:?}");
    assert!(look.text("", "output").unwrap().ends_with("/sub"));
    assert!(!format!("{settings:?}{look:?}").contains("s3cret-value-of-test"));

    trial.host().env.remove(std::ffi::OsStr::new("SOURCE"));
    let unread = trial.look::<Command>(&settings).unwrap_err();
    assert_eq!((unread.blame, unread.code.as_str()), (Blame::Blind, "secret_unreadable"));
}

#[test]
fn output_is_bounded_and_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let body =
        "i=0; while [ $i -lt 3000 ]; do echo 'line of output that is forty bytes long ...'; i=$((i+1)); done; exit 2";
    let look = run(dir.path(), &format!("argv = ['{}']", script(dir.path(), body)));
    assert_eq!(look.facts.flag(&Subject::none(), "output_cut"), Some(true));
    let fact = look.facts.get(&Subject::none(), "output").unwrap();
    assert!(fact.foreign);
}

#[test]
fn bad_settings_are_refused() {
    for (toml, said) in [
        ("", "argv: there is nothing to run (give `argv`, or a line for the `shell`)"),
        ("argv = ['a']\nshell = 'b'", "shell: `argv` and `shell` exclude each other"),
        ("argv = ['']", "argv: the program's name is empty"),
        ("shell = ' '", "shell: the line is empty"),
        ("argv = [\"a\\u0000\"]", "argv: a NUL can't be handed to a command"),
        ("argv = ['a']\nenv = { 'A=B' = '' }", "env: `A=B` is no name of a variable"),
        ("argv = ['a']\nenv = { A = '' }\nsecret_env = { A = 'env:A' }", "secret_env: `A` stands in `env` too"),
        (
            "argv = ['a']\nexit_codes = { ok = [0, 1] }",
            "exit_codes: 1 stands in two lists (a list that is not given keeps its default)",
        ),
        ("argv = ['a']\nexit_codes = { ok = [256] }", "invalid value: integer `256`, expected u8"),
        ("argv = 'a b'", "invalid type: string \"a b\", expected a sequence"),
    ] {
        assert_eq!(problems::<Command>(toml), [said], "{toml}");
    }
}
