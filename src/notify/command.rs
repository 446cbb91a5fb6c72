//! A command of the user's: argv, never a shell; the body on stdin, the essentials as variables. The way to everything
//! that has no notifier of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use super::body::{self, Format};
use super::{Message, Notifier, NotifierDoc, Outgoing, Per, Receipt, Undelivered};
use crate::clean;
use crate::host::Host;
use crate::host::spawn::{Command as Spawn, Exit, Ran};
use crate::judge::notice::Turn;
use crate::redact::{Clean, Secret};
use crate::settings::{Dur, SecretRef};

/// The notifier `command`.
pub struct Command;

/// Settings of a `command` channel.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The program and its arguments; no shell looks at them. It reads the message on stdin and has accepted it when it
    /// exits with 0; with any other status, or after the timeout, it is run again later with the same message.
    pub argv: Vec<String>,
    /// What it reads on stdin: `json` (the default) or `text`.
    #[serde(default)]
    pub format: Format,
    /// Further variables. `PATH`, `HOME`, `USER`, `LANG` and `TZ` are there; nothing else is inherited.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Further variables whose values are kept elsewhere.
    #[serde(default)]
    pub secret_env: BTreeMap<String, SecretRef>,
    /// How long it may run (default `15s`); then it and all that it started is killed.
    #[serde(default = "default_timeout")]
    pub timeout: Dur,
}

fn default_timeout() -> Dur {
    Dur(Duration::from_secs(15))
}

/// Arguments of one command.
const MAX_ARGS: usize = 256;
/// Bytes of output that are looked at.
const MAX_OUTPUT_BYTES: usize = 4_096;
/// `EX_TEMPFAIL` of sysexits.h: the command says itself that it should be run again.
const EX_TEMPFAIL: i32 = 75;

impl Notifier for Command {
    const DOC: NotifierDoc = NotifierDoc {
        name: "command",
        about: "Runs a command with the report and its events as JSON on stdin and PULSECHECK_TURN, PULSECHECK_LEVEL, \
                PULSECHECK_COUNT, PULSECHECK_DEDUP_KEY, PULSECHECK_CHECK, PULSECHECK_SUBJECT, PULSECHECK_INSTANCE, \
                PULSECHECK_CYCLE and PULSECHECK_MESSAGE_ID as variables. Exit status 0 is accepted.",
        per: Per::Incident,
        example: r#"
[notify.pager]
kind = "command"
argv = ["/usr/local/bin/page-me", "--from", "pulsecheck"]
"#,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        match settings.argv.first().map(String::as_str) {
            None | Some("") => {
                report("argv", "expected a program and its arguments, like `[\"/usr/bin/logger\"]`".to_owned());
            }
            Some(_) if settings.argv.len() > MAX_ARGS => report("argv", format!("has more than {MAX_ARGS} elements")),
            Some(_) if settings.argv.iter().any(|arg| arg.contains('\0')) => {
                report("argv", "holds a NUL character, which no argument can".to_owned());
            }
            Some(program) if settings.argv.len() == 1 && program.contains(' ') => report(
                "argv",
                "is one string with spaces (each argument is an element of its own; no shell looks at it)".to_owned(),
            ),
            Some(_) => {}
        }
        for (key, name) in settings
            .env
            .keys()
            .map(|name| ("env", name))
            .chain(settings.secret_env.keys().map(|name| ("secret_env", name)))
        {
            let mut bytes = name.bytes();
            let plain = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !plain {
                report(key, format!("`{}` is not a variable's name", name.escape_default()));
            } else if name.starts_with("PULSECHECK_") {
                report(key, format!("`{name}` can't be set (PULSECHECK_… is what the message says)"));
            } else if key == "secret_env" && settings.env.contains_key(name) {
                report(key, format!("`{name}` is in `env` too"));
            }
        }
        if settings.env.values().any(|value| value.contains('\0')) {
            report("env", "holds a NUL character, which no variable can".to_owned());
        }
        if settings.timeout.0.is_zero() {
            report("timeout", "must be more than 0".to_owned());
        }
    }

    /// With one notice the variables tell of it; with several the level is the worst and what belongs to one is empty.
    fn render(settings: &Settings, message: &Message<'_>) -> Outgoing {
        let only = match message.notices {
            [notice] => Some(notice),
            _ => None,
        };
        let level = message.worst().map_or("green", |notice| notice.level.status());
        let turn = if message.test { "test" } else { only.map_or("", |notice| turn_word(notice.turn)) };
        let beside = vec![
            ("PULSECHECK_TURN", turn.to_owned()),
            ("PULSECHECK_LEVEL", level.to_owned()),
            ("PULSECHECK_COUNT", message.notices.len().to_string()),
            ("PULSECHECK_DEDUP_KEY", only.map(|notice| notice.dedup.clone()).unwrap_or_default()),
            ("PULSECHECK_CHECK", only.map(|notice| notice.key.check.to_string()).unwrap_or_default()),
            ("PULSECHECK_SUBJECT", only.map(|notice| notice.key.subject.to_string()).unwrap_or_default()),
            ("PULSECHECK_INSTANCE", message.instance.to_owned()),
            ("PULSECHECK_CYCLE", message.cycle.unwrap_or_default().to_owned()),
            ("PULSECHECK_MESSAGE_ID", message.id.to_owned()),
        ];
        Outgoing { beside, ..body::render(settings.format, message) }
    }

    async fn deliver(
        settings: &Settings,
        outgoing: &Outgoing,
        host: &Host,
        deadline: Instant,
    ) -> Result<Receipt, Undelivered> {
        let deadline = Instant::now().checked_add(settings.timeout.0).map_or(deadline, |own| own.min(deadline));
        let mut env: Vec<(String, Secret)> =
            settings.env.iter().map(|(name, value)| (name.clone(), Secret::public(value))).collect();
        for (name, at) in &settings.secret_env {
            let value = host.secret(at).await.map_err(|unread| Undelivered::not_sent(unread.said))?;
            env.push((name.clone(), value));
        }
        // A subject is somebody else's text; a NUL can't be in it, the gate took it out, but an argument list that the
        // kernel refuses would lose the notice.
        let word = |value: &str| Secret::public(&value.replace('\0', ""));
        env.extend(outgoing.beside.iter().map(|(name, value)| ((*name).to_owned(), word(value))));
        let mut argv = settings.argv.clone();
        if let Some(program) = argv.first_mut().filter(|program| program.starts_with("~/")) {
            *program = host.expand(program).to_string_lossy().into_owned();
        }
        let spawn = Spawn {
            argv,
            env,
            stdin: Some(outgoing.body.clone()),
            max_output_bytes: MAX_OUTPUT_BYTES,
            ..Spawn::default()
        };
        let ran = host.run(&spawn, deadline).await.map_err(|unread| match unread.code.as_str() {
            "program_not_found" | "program_not_executable" => Undelivered::Never { said: unread.said },
            _ => Undelivered::unread(&unread.code, unread.said),
        })?;
        verdict(&ran)
    }
}

fn turn_word(turn: Turn) -> &'static str {
    match turn {
        Turn::Open => "open",
        Turn::Raise => "raise",
        Turn::Lower => "lower",
        Turn::Remind => "remind",
        Turn::Resolve => "resolve",
        Turn::Event => "event",
        Turn::FollowUp => "follow_up",
    }
}

/// What an ending means. A script that fails may be passing on trouble that passes, so only 0 is the end of it.
fn verdict(ran: &Ran) -> Result<Receipt, Undelivered> {
    let said = match ran.exit {
        Exit::Status(0) => return Ok(Receipt { reference: None, said: clean!("exited with 0") }),
        Exit::Status(EX_TEMPFAIL) => clean!("asked to be run again (status {EX_TEMPFAIL})"),
        Exit::Status(status) => clean!("exited with {status}"),
        Exit::Signal(signal) => clean!("was ended by signal {signal}"),
        Exit::TimedOut => clean!("was still running after {} s and was killed", ran.took.as_secs()),
    };
    let errors = Clean::bytes(&ran.stderr, MAX_OUTPUT_BYTES);
    let last = errors.as_str().lines().map(str::trim).rfind(|line| !line.is_empty());
    Err(Undelivered::later(match last {
        Some(line) => clean!("{said}: {}", Clean::line(line, 400).quoted()),
        None => said,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::channel;
    use super::*;

    #[test]
    fn settings_that_can_not_work_are_refused() {
        for (table, expected) in [
            ("argv = []", "argv: expected a program and its arguments, like `[\"/usr/bin/logger\"]`"),
            ("argv = ['']", "argv: expected a program and its arguments, like `[\"/usr/bin/logger\"]`"),
            (
                "argv = ['logger -t x']",
                "argv: is one string with spaces (each argument is an element of its own; no shell looks at it)",
            ),
            ("argv = [\"a\", \"b\\u0000\"]", "argv: holds a NUL character, which no argument can"),
            ("argv = ['a']\nenv = { 'A-B' = 'x' }", "env: `A-B` is not a variable's name"),
            (
                "argv = ['a']\nsecret_env = { PULSECHECK_LEVEL = 'env:X' }",
                "secret_env: `PULSECHECK_LEVEL` can't be set (PULSECHECK_… is what the message says)",
            ),
            ("argv = ['a']\nenv = { A = 'x' }\nsecret_env = { A = 'env:X' }", "secret_env: `A` is in `env` too"),
            ("argv = ['a']\ntimeout = '0s'", "timeout: must be more than 0"),
            ("argv = ['~/bin/tell me', '--loud']\nenv = { A_1 = 'x' }\nformat = 'text'", ""),
        ] {
            let (_, problems) = channel("command", table).unwrap();
            assert_eq!(problems.join("; "), expected, "{table}");
        }
        assert_eq!(channel("command", "").unwrap_err(), "missing field `argv`");
    }

    #[test]
    fn only_zero_is_the_end_of_it() {
        let ran = |exit, stderr: &str| Ran {
            exit,
            stdout: Vec::new(),
            stderr: stderr.as_bytes().to_vec(),
            cut: false,
            took: Duration::from_millis(15_020),
        };
        assert!(verdict(&ran(Exit::Status(0), "chatter")).is_ok());
        for (exit, stderr, expected) in [
            (Exit::Status(75), "", "asked to be run again (status 75)"),
            (Exit::Status(1), "trying\nno route to pager\n\n", "exited with 1: \"no route to pager\""),
            (Exit::Signal(9), "", "was ended by signal 9"),
            (Exit::TimedOut, "", "was still running after 15 s and was killed"),
        ] {
            let undelivered = verdict(&ran(exit, stderr)).unwrap_err();
            assert_eq!(undelivered, Undelivered::later(Clean::new(expected)));
        }
    }

    fn script(dir: &std::path::Path, text: &str) -> String {
        let path = dir.join("tell");
        crate::host::files::replace(&path, format!("#!/bin/sh\n{text}\n").as_bytes(), 0o700).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn settings(table: &str) -> Settings {
        toml::from_str(table).unwrap()
    }

    fn in_secs(secs: u64) -> Instant {
        Instant::now() + Duration::from_secs(secs)
    }

    #[tokio::test]
    async fn the_command_is_given_the_message_and_the_essentials() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::for_tests(dir.path());
        host.env.insert("PAGER_KEY".into(), "pager-key-5512".into());
        let program = script(dir.path(), "cat > \"$HOME/body\"; env > \"$HOME/env\"; echo \"$1\" > \"$HOME/arg\"");
        let settings = settings(&format!(
            "argv = [{program:?}, 'a $(b) c']\nenv = {{ LOUD = 'no' }}\nsecret_env = {{ KEY = 'env:PAGER_KEY' }}"
        ));
        let mut told = Vec::new();
        super::super::tests::messages(&mut |_, message| told.push(Command::render(&settings, message)));
        for outgoing in told {
            let receipt = Command::deliver(&settings, &outgoing, &host, in_secs(20)).await.unwrap();
            assert_eq!(receipt, Receipt { reference: None, said: Clean::new("exited with 0") });
            let read = |name: &str| crate::host::files::read(&dir.path().join(name), 100_000).unwrap().0;
            assert_eq!(read("body"), outgoing.body);
            assert_eq!(read("arg"), b"a $(b) c\n");
            let env = String::from_utf8(read("env")).unwrap();
            let fixed = ["LOUD=no".to_owned(), "KEY=pager-key-5512".to_owned()];
            for variable in outgoing.beside.iter().map(|(name, value)| format!("{name}={value}")).chain(fixed) {
                assert!(env.lines().any(|line| line == variable), "no {variable} in {env}");
            }
            assert!(!env.contains("PAGER_KEY="), "nothing else is inherited: {env}");
        }
    }

    #[tokio::test]
    async fn what_can_pass_is_tried_again_and_what_can_not_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::for_tests(dir.path());
        let program = script(dir.path(), "echo down >&2; [ \"$1\" = slow ] && sleep 60; exit \"$1\"");
        for (argv, more, expected) in [
            (format!("[{program:?}, '75']"), "", "later: asked to be run again (status 75): \"down\""),
            (format!("[{program:?}, '3']"), "", "later: exited with 3: \"down\""),
            (format!("[{program:?}, 'slow']"), "timeout = '1s'", "later: was still running after "),
            ("['/no/such/program']".to_owned(), "", "never: "),
            ("['~/tell']".to_owned(), "secret_env = { A = 'env:NOT_THERE' }", "later: the secret `env:NOT_THERE` "),
        ] {
            let settings = settings(&format!("argv = {argv}\n{more}"));
            let said = match Command::deliver(&settings, &Outgoing::default(), &host, in_secs(20)).await.unwrap_err() {
                Undelivered::Later { after, maybe_arrived, said } => {
                    assert_eq!((after, maybe_arrived), (None, argv != "['~/tell']"), "{said}");
                    format!("later: {said}")
                }
                Undelivered::Never { said } => format!("never: {said}"),
            };
            assert!(said.starts_with(expected), "{argv}: {said}");
        }
    }
}
