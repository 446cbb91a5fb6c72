use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::common::{CHANNEL_KEYS, CHECK_KEYS, ChannelKeys, CheckKeys, OwnKeys, Top};
use super::dispatch::Registry;
use super::files::{Role, Source};
use super::*;
use crate::clock::Clock;
use crate::facts::{Facts, Finding, Unread};
use crate::host::Paths;
use crate::judge::{Impact, Level};
use crate::kinds::{Cx, Entry, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome};
use crate::settings::{Dur, SecretRef};

/// A kind with a key of each sort.
struct Probe;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only reading is tried")]
struct ProbeSettings {
    target: String,
    port: u16,
    #[serde(default)]
    token: Option<SecretRef>,
    #[serde(default)]
    mode: Option<Mode>,
    #[serde(default)]
    limits: Option<Bounds>,
    #[serde(default)]
    steps: Vec<Bounds>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Fast,
    Slow,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only reading is tried")]
struct Bounds {
    within: Dur,
    #[serde(default)]
    at_most: Option<u32>,
}

impl Kind for Probe {
    const DOC: KindDoc = KindDoc {
        name: "probe",
        about: "looks at nothing",
        subjects: "",
        facts: &[],
        reasons: &[&[ReasonDoc {
            code: "gone",
            outcome: ReasonOutcome::Fail,
            settled: true,
            about: "it is gone",
            action: "bring it back",
            needs_human: true,
        }]],
        example: "",
        thresholds_remind: true,
    };
    type Settings = ProbeSettings;
    fn validate(settings: &ProbeSettings, report: &mut dyn FnMut(&str, String)) {
        if settings.port == 0 {
            report("port", "expected 1 to 65535, found 0".to_owned());
        }
    }
    async fn fetch(_: &ProbeSettings, _: &Cx) -> Result<Fetched, Unread> {
        Ok(Fetched::default())
    }
    fn assess(_: &ProbeSettings, _: &Facts, _: &Past, _: jiff::Timestamp) -> Vec<Finding> {
        Vec::new()
    }
}

const REGISTRY: Registry = Registry { kinds: &[&Entry::<Probe>::NEW], notifiers: NOTIFIERS };

fn host() -> Host {
    let nowhere = PathBuf::from("/nonexistent");
    let paths = Paths { home: None, state: nowhere.clone(), proc: nowhere };
    Host::new(Clock::machine(), BTreeMap::new(), paths)
}

/// Puts together a main file and included ones.
fn read(main: &str, included: &[(&str, &str)]) -> Result<Config, Problems> {
    let source = |name: &str, text: &str, role| Source { name: PathBuf::from(name), text: Arc::from(text), role };
    let sources: Vec<_> = std::iter::once(source("main.toml", main, Role::Main))
        .chain(included.iter().map(|(name, text)| source(name, text, Role::Included)))
        .collect();
    let mut out = Problems::default();
    let config = assemble(&sources, true, REGISTRY, &host(), &mut out);
    config.filter(|_| out.is_empty()).ok_or(out)
}

/// Sources and what is said of them, line by line.
#[track_caller]
fn said(main: &str, included: &[(&str, &str)], want: &[&str]) {
    let said = read(main, included).unwrap_err().render(false, 0);
    assert_eq!(said.lines().collect::<Vec<_>>(), want, "\n{said}");
}

#[test]
fn a_whole_config_is_read() {
    let config = read(
        r#"
        instance = "den"
        zone = "America/Los_Angeles"
        interval = "5m"
        quiet_hours = "22:00-07:00"
        owners = ["ops"]
        [limits]
        fetch = "20s"
        [check.gw]
        kind = "probe"
        target = "gw"
        port = 1
        [check.api]
        kind = "probe"
        target = "api"
        port = 80
        every = "1h"
        timeout = "15s"
        streak = { yellow = 1, red = "never" }
        recover_after = 2
        impact = "high"
        owner = "ops"
        action = "call them"
        depends_on = ["gw", "gw/eth0"]
        tags = ["web"]
        was = "old-api"
        headers.accept = "x"
        [check.off]
        kind = "probe"
        target = "off"
        port = 80
        enabled = false
        [check.pulsecheck]
        impact = "med"
        [notify.pager]
        kind = "command"
        argv = ["/bin/true"]
        from = "red"
        tags = ["web"]
        "#,
        &[("more.toml", "[check.more]\nkind = 'probe'\ntarget = 'more'\nport = 2\ndepends_on = ['off']\n")],
    )
    .unwrap();
    assert_eq!(config.instance.as_str(), "den");
    assert_eq!(config.zone.iana_name(), Some("America/Los_Angeles"));
    assert_eq!(config.interval, Duration::from_mins(5));
    let night = "2026-03-20T23:00:00-07:00".parse().unwrap();
    assert!(config.quiet_hours.as_ref().unwrap().contains(night), "in the config's zone");
    assert!(config.active_hours.is_none());
    assert_eq!(config.quiet_token, "HEARTBEAT_OK");
    assert_eq!(config.files, [PathBuf::from("main.toml"), PathBuf::from("more.toml")]);
    assert_eq!(config.owners.iter().map(Clean::as_str).collect::<Vec<_>>(), ["agent", "human", "ops"]);
    let names: Vec<_> = config.checks.keys().map(CheckName::as_str).collect();
    assert_eq!(names, ["api", "gw", "more"], "what is switched off is left out");

    let api = &config.checks[&CheckName::try_from("api").unwrap()];
    assert_eq!(api.timeout, Duration::from_secs(15));
    assert_eq!(api.policy.every, jiff::SignedDuration::from_hours(1));
    assert_eq!((api.policy.yellow, api.policy.red, api.policy.recover_after), (1, None, 2));
    assert_eq!(api.policy.impact, Some(Impact::High));
    assert_eq!(api.policy.owner.as_ref().unwrap().as_str(), "ops");
    assert_eq!(api.policy.was.as_ref().unwrap().as_str(), "old-api");
    let parents: Vec<_> = api.policy.depends_on.iter().map(|d| (d.check.as_str(), d.subject.clone())).collect();
    assert_eq!(parents, [("gw", None), ("gw", Some(crate::facts::Subject::new("eth0")))]);
    assert!(!api.policy.reminds, "a kind with thresholds ahead is not reminded of");
    assert!(api.policy.advice[&"gone".into()].needs_human);

    let gw = &config.checks[&CheckName::try_from("gw").unwrap()];
    assert_eq!(gw.timeout, Duration::from_secs(10));
    assert_eq!((gw.policy.every, gw.policy.yellow, gw.policy.red), (gw.policy.cycle, 2, Some(3)));
    let more = &config.checks[&CheckName::try_from("more").unwrap()];
    assert!(more.policy.depends_on.is_empty(), "a parent that is switched off holds nothing");

    let policies = config.policies();
    assert_eq!(policies[&CheckName::own()].impact, Some(Impact::Med));
    assert_eq!(policies.len(), 4);

    let pager = &config.channels["pager"].policy;
    assert_eq!((pager.from, pager.max_per_hour), (Level::Red, 12));
}

#[test]
fn an_empty_file_is_a_config() {
    let config = read("", &[]).unwrap();
    assert!(config.checks.is_empty());
    assert_eq!(config.interval, Duration::from_mins(15));
    assert_eq!(config.policies().len(), 1);
    assert!(!config.instance.as_str().is_empty());
}

#[test]
fn all_that_is_wrong_with_a_table_is_said_at_once() {
    said(
        r#"[check.api]
kind = "probe"
port = "eighty"
timeot = "5s"
every = 15
mode = "fats"
token = "hunter2"
limits = { within = "x", atmost = 3 }
steps = [{ within = "1s" }, { at_most = 2 }]
streak = { yellow = 0, red = "no" }
impact = "huge"
tags = ["Web", "fine", "No"]
"#,
        &[],
        &[
            "main.toml:1:8: check.api: `target` is missing",
            "main.toml:3:8: check.api.port: expected a whole number from 0 to 65535, found string \"eighty\"",
            "main.toml:4:1: check.api.timeot: unknown key",
            "  (did you mean `timeout`?)",
            "main.toml:5:9: check.api.every: expected a duration like `15m`, found the bare number 15 (which unit? `\"15s\"`, \
             `\"15m\"`)",
            "main.toml:6:8: check.api.mode: expected `fast` or `slow`, found `fats`",
            "  (did you mean `fast`?)",
            "main.toml:7:9: check.api.token: expected where a secret is kept: `env:NAME`, `file:PATH` or `cred:NAME` (a \
             secret itself never stands in the config)",
            "main.toml:8:21: check.api.limits.within: expected a duration like `15m` or `1h30m` (units: ms, s, m, h, d), \
             found `x`",
            "main.toml:8:26: check.api.limits.atmost: unknown key",
            "  (did you mean `at_most`?)",
            "main.toml:9:29: check.api.steps: `within` is missing",
            "main.toml:10:21: check.api.streak.yellow: expected a whole number from 1 to 1000, found 0",
            "main.toml:10:30: check.api.streak.red: expected a whole number from 1 to 1000 or \"never\", found `no`",
            "main.toml:11:10: check.api.impact: expected one of `low`, `med`, `high`, found `huge`",
            "main.toml:12:9: check.api.tags: `Web` is not a name (a name is 1 to 64 of a-z 0-9 . _ - and begins with a \
             letter or a digit)",
            "main.toml:12:24: check.api.tags: `No` is not a name (a name is 1 to 64 of a-z 0-9 . _ - and begins with a \
             letter or a digit)",
        ],
    );
}

#[test]
fn one_problem_a_line() {
    for (text, want) in [
        ("intervall = '5m'\n", "main.toml:1:1: intervall: unknown key\n  (did you mean `interval`?)\n"),
        ("interval = '0s'\n", "main.toml:1:12: interval: expected 1s to 7d, found 0s\n"),
        (
            "zone = 'Mars/Olympus'\n",
            "main.toml:1:8: zone: expected a time zone like `Europe/Berlin` or `UTC`, found `Mars/Olympus`\n",
        ),
        (
            "[limits]\nfetch = '5m'\n",
            "main.toml:2:9: limits.fetch: `limits.fetch` of 5m is beyond `limits.deadline` of 2m\n",
        ),
        ("[store]\nmax_size = '1'\n", "main.toml:2:12: store.max_size: expected at least 1MiB, found 1B\n"),
        ("check = 3\n", "main.toml:1:9: check: expected tables like `[check.NAME]`, found an integer\n"),
        ("[check]\na = 3\n", "main.toml:2:5: check.a: expected a table `[check.NAME]`, found an integer\n"),
        ("[check.a]\n", "main.toml:1:8: check.a: `kind` is missing\n  (there are: `probe`)\n"),
        ("[check.a]\nkind = 'prob'\n", "main.toml:2:8: check.a.kind: unknown kind `prob`\n  (did you mean `probe`?)\n"),
        ("[check.a]\nkind = 'zzz'\n", "main.toml:2:8: check.a.kind: unknown kind `zzz`\n  (there are: `probe`)\n"),
        (
            "[check.A]\nkind = 'probe'\n",
            "main.toml:1:8: check.A: `A` is not a name (a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or a digit)\n",
        ),
        (
            "[check.a]\nkind = 'probe'\ntarget = ''\nport = 0\n",
            "main.toml:4:8: check.a.port: expected 1 to 65535, found 0\n",
        ),
        ("[model.a]\n", "main.toml:1:2: model: this version has no models yet (take the table out)\n"),
        (
            "[check.pulsecheck]\nkind = 'probe'\n",
            "main.toml:2:8: check.pulsecheck.kind: the check of Pulsecheck itself has no `kind`\n  (give a check of your own another name)\n",
        ),
        (
            "[check.pulsecheck]\nenabled = false\n",
            "main.toml:2:1: check.pulsecheck.enabled: unknown key\n  (known here: `impact`, `owner`, `action`, `tags`)\n",
        ),
        (
            "[notify.a]\nkind = 'comand'\n",
            "main.toml:2:8: notify.a.kind: unknown kind `comand`\n  (did you mean `command`?)\n",
        ),
        (
            "[notify.a]\nkind = 'command'\nargv = ['/bin/true']\ntags = ['x']\n",
            "main.toml:4:9: notify.a.tags[0]: there is no tag `x`\n",
        ),
    ] {
        assert_eq!(read(text, &[]).unwrap_err().render(false, 0), want, "{text}");
    }
}

#[test]
fn checks_are_held_against_each_other() {
    let check = |name: &str, more: &str| format!("[check.{name}]\nkind='probe'\ntarget=''\nport=1\n{more}\n");
    let text = [
        check("a", "depends_on=['b']\nowner='bob'"),
        check("b", "depends_on=['c']\ntimeout='40s'"),
        check("c", "depends_on=['a', 'aa', 'c']\nwas='a'"),
        check("d", "was='x'\nstreak={yellow=4}"),
        check("e", "was='x'\nenabled=false"),
        check("f", "when='checks[\"e\"].outcome==\"pass\" || checks[\"f\"].age_s > 1 || checks[\"zz\"].age_s > 1'"),
    ]
    .concat();
    said(
        &text,
        &[],
        &[
            "main.toml:6:7: check.a.owner: no owner is called `bob` (expected one of `agent`, `human`)",
            "  (new ones go into `owners` of the main file)",
            "main.toml:12:9: check.b.timeout: 40s is beyond `limits.fetch` of 30s, when looking ends for all checks",
            "  (shorten it, or raise `limits.fetch`)",
            "main.toml:17:13: check.c.depends_on[0]: goes round in a circle: a → b → c → a",
            "main.toml:17:18: check.c.depends_on[1]: no check is called `aa`",
            "  (did you mean `a`?)",
            "main.toml:17:24: check.c.depends_on[2]: goes round in a circle: c → c",
            "main.toml:18:5: check.c.was: there is a check called `a`, so this one can't have been it",
            "main.toml:24:8: check.d.streak: red after 3 would come before yellow after 4",
            "main.toml:29:5: check.e.was: `d` was called `x` as well",
            "main.toml:35:6: check.f.when: it reads the check `e`, which is switched off",
            "main.toml:35:6: check.f.when: a check can't wait for itself",
            "main.toml:35:6: check.f.when: it reads the check `zz`, which doesn't exist",
        ],
    );
}

#[test]
fn files_are_held_against_each_other() {
    said(
        "[check.a]\nkind='probe'\ntarget=''\nport=1\n",
        &[
            ("one.toml", "interval = '5m'\n[check.a]\nkind='probe'\ntarget=''\nport=1\n"),
            ("two.toml", "include = []\n[check.b]\nkind='probe'\n"),
        ],
        &[
            "one.toml:1:1: interval: an included file has only `[check.NAME]` and `[notify.NAME]`",
            "  (put it into the main file)",
            "one.toml:2:8: check.a: there is another one at main.toml:1:8",
            "  (rename or remove one of them)",
            "two.toml:1:1: include: an included file has only `[check.NAME]` and `[notify.NAME]`",
            "  (put it into the main file)",
            "two.toml:2:8: check.b: `target` is missing",
            "two.toml:2:8: check.b: `port` is missing",
        ],
    );
}

#[test]
fn syntax_errors_come_several_at_once_and_nothing_follows_from_them() {
    let problems =
        read("interval = \n[check.a\nkind = 'probe'\nport = = 1\n[check.b]\ndepends_on=['none']\n", &[]).unwrap_err();
    let said = problems.render(false, 0);
    assert!(problems.list().len() >= 2, "{said}");
    assert!(said.starts_with("main.toml:1:"), "{said}");
    assert!(!said.contains("none"), "{said}");

    let said = read("[check.a]\nkind='probe'\n[check.a]\nkind='probe'\n", &[]).unwrap_err().render(false, 0);
    assert_eq!(
        said,
        "main.toml:3:8: this is there already, further up\n  (TOML has each table and each key of a table once)\n"
    );
}

#[test]
fn a_terminal_sees_the_lines_of_the_file() {
    let said = read("interval = '5m'\nzone = 'Mars'\n", &[]).unwrap_err().render(true, 80);
    for part in ["main.toml:2:8", "zone = 'Mars'", "× zone: expected a time zone"] {
        assert!(strip_ansi(&said).contains(part), "{part}\n{said}");
    }
}

#[test]
fn what_may_be_a_secret_is_not_shown() {
    let text = "[check.a]\nkind='probe'\ntarget=''\nport=1\ntoken='hunter2'\n";
    for color in [true, false] {
        let said = read(text, &[]).unwrap_err().render(color, 80);
        assert!(said.contains("check.a.token"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

fn strip_ansi(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn many_problems_are_counted() {
    let text = (0..80).map(|i| format!("[check.c{i}]\nkind='x'\n")).collect::<Vec<_>>().concat();
    let said = read(&text, &[]).unwrap_err().render(false, 0);
    assert!(said.ends_with("… and 30 more\n"), "{said}");
}

#[test]
fn more_checks_than_allowed_are_refused() {
    let check = |i| format!("[check.c{i}]\nkind='probe'\ntarget=''\nport=1\n");
    let text = (0..=MAX_CHECKS).map(check).collect::<Vec<_>>().concat();
    let said = read(&text, &[]).unwrap_err().render(false, 0);
    assert_eq!(said, "main.toml:1:1: check: expected at most 10000 checks, found 10001\n");
}

/// The keys of a type, from its schema.
fn keys_of<T: JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T).to_value();
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_lists_of_common_keys_are_those_of_the_types() {
    let set = |keys: &[&str]| keys.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(keys_of::<CheckKeys>(), set(CHECK_KEYS));
    assert_eq!(keys_of::<ChannelKeys>(), set(CHANNEL_KEYS));
}

/// The annotated default with its examples switched on.
fn switched_on(text: &str) -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| on(line) + "\n").collect()
}

fn load(text: &str) -> Result<Config, Problems> {
    let sources = [Source { name: PathBuf::from("x.toml"), text: Arc::from(text), role: Role::Main }];
    let mut out = Problems::default();
    let config = assemble(&sources, true, Registry { kinds: KINDS, notifiers: NOTIFIERS }, &host(), &mut out);
    config.filter(|_| out.is_empty()).ok_or(out)
}

#[test]
fn the_annotated_default_is_true() {
    let plain = load(DEFAULT).unwrap();
    assert!(plain.checks.is_empty());
    let text = switched_on(DEFAULT);
    let config = load(&text).unwrap();

    // What is shown as a default is the default.
    assert_eq!(config.interval, plain.interval);
    assert_eq!(config.quiet_token, plain.quiet_token);
    assert_eq!(config.limits, plain.limits);
    assert_eq!(config.store, plain.store);
    let (shown, default) =
        (&config.checks.values().next().unwrap().policy, Policy::plain(jiff::SignedDuration::from_mins(15)));
    assert_eq!((shown.every, shown.yellow, shown.red), (default.every, default.yellow, default.red));
    assert_eq!(shown.recover_after, default.recover_after);

    // Every key there is stands in it.
    let root: toml::Table = text.parse().unwrap();
    let has = |table: &toml::Value, keys: BTreeSet<String>| {
        for key in keys {
            assert!(table.get(&key).is_some(), "`{key}` is missing in config/pulsecheck.toml");
        }
    };
    let whole = toml::Value::Table(root);
    has(&whole, keys_of::<Top>());
    has(&whole["limits"], keys_of::<Limits>());
    has(&whole["store"], keys_of::<Kept>());
    has(&whole["check"]["disks"], keys_of::<CheckKeys>());
    has(&whole["check"]["pulsecheck"], keys_of::<OwnKeys>());
    has(&whole["notify"]["pager"], keys_of::<ChannelKeys>());
}

#[test]
fn packs_are_read_with_and_without_their_examples() {
    for Pack { name, text: pack, .. } in PACKS {
        for text in [(*pack).to_owned(), switched_on(pack)] {
            let config = load(&text).map_err(|problems| format!("pack {name}: {problems}")).unwrap();
            assert!(!config.checks.is_empty(), "{name}");
        }
    }
}

/// What `init` writes where no port was asked.
fn written(host: &Host) -> String {
    render_init(&presences(host, &BTreeSet::new()), host)
}

#[test]
fn without_a_config_this_host_is_looked_at_and_init_writes_the_same() {
    let config = Config::load(&Found::Nowhere, &host()).unwrap();
    assert!(!config.checks.is_empty());
    assert!(config.channels.is_empty());
    assert!(config.files.is_empty());
    let written = written(&host());
    let same = load(&written).unwrap();
    assert_eq!(config.checks.keys().collect::<Vec<_>>(), same.checks.keys().collect::<Vec<_>>());
    load(&switched_on(&written)).unwrap();
}

#[test]
fn every_kinds_example_is_read_and_no_key_is_taken_twice() {
    assert!(KINDS.iter().map(|kind| kind.doc().name).collect::<BTreeSet<_>>().len() == KINDS.len(), "a name twice");
    let reads = regex::Regex::new(r#"checks\["([^"]+)"\]"#).unwrap();
    for kind in KINDS.iter().filter(|kind| kind.doc().name != CheckName::OWN) {
        let doc = kind.doc();
        // The checks that an example reads stand somewhere else in a config.
        let read: BTreeSet<_> = reads.captures_iter(doc.example).map(|found| found[1].to_owned()).collect();
        let others = read.iter().map(|name| format!("[check.{name}]\nkind = 'system'\n")).collect::<Vec<_>>().concat();
        let text = format!("{}\n{others}", doc.example);
        let config = load(&text).map_err(|problems| format!("{}: {problems}", doc.name)).unwrap();
        assert!(config.checks.values().any(|check| check.kind.doc().name == doc.name), "{}", doc.name);
    }
    for notifier in NOTIFIERS {
        let doc = notifier.doc();
        let config = load(doc.example).map_err(|problems| format!("{}: {problems}", doc.name)).unwrap();
        assert_eq!(config.channels.len(), 1, "{}", doc.name);
    }
    let own = |schema: schemars::Schema, defs: &serde_json::Map<String, Value>| {
        let schema = schema.to_value();
        let name = schema["$ref"].as_str().map(|r| r.trim_start_matches("#/$defs/").to_owned());
        let schema = name.map_or(schema.clone(), |name| defs[&name].clone());
        schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default()
            .into_iter()
            .map(|(key, _)| key)
            .collect::<Vec<_>>()
    };
    for kind in KINDS {
        let mut generator = schemars::SchemaGenerator::default();
        let schema = kind.schema(&mut generator);
        for key in own(schema, generator.definitions()) {
            assert!(
                key != "kind" && !CHECK_KEYS.contains(&key.as_str()),
                "{}: `{key}` is a common key",
                kind.doc().name
            );
        }
    }
    for notifier in NOTIFIERS {
        let mut generator = schemars::SchemaGenerator::default();
        let schema = notifier.schema(&mut generator);
        for key in own(schema, generator.definitions()) {
            assert!(
                key != "kind" && !CHANNEL_KEYS.contains(&key.as_str()),
                "{}: `{key}` is common",
                notifier.doc().name
            );
        }
    }
}

/// Tables with known keys refuse others, and every key is described: at each level of the schema.
fn closed_and_described(path: &str, schema: &Value, wrong: &mut Vec<String>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        if schema.get("additionalProperties").is_none() {
            wrong.push(format!("{path} takes unknown keys"));
        }
        for (key, property) in properties {
            if key != "kind" && property.get("description").is_none() {
                wrong.push(format!("{path}.{key} has no description"));
            }
        }
    }
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                let title = value.get("title").and_then(Value::as_str).unwrap_or(key);
                closed_and_described(&format!("{path}/{title}"), value, wrong);
            }
        }
        Value::Array(list) => {
            for value in list {
                let title = value.get("title").and_then(Value::as_str).unwrap_or("-");
                closed_and_described(&format!("{path}/{title}"), value, wrong);
            }
        }
        _ => {}
    }
}

#[test]
fn the_schema_is_closed_described_and_agrees_with_the_reader() {
    let schema = schema();
    let mut wrong = Vec::new();
    closed_and_described("", &schema, &mut wrong);
    assert!(wrong.is_empty(), "{wrong:#?}");

    let validator = jsonschema::validator_for(&schema).unwrap();
    let json = |text: &str| serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    let good = [switched_on(DEFAULT), written(&host()), switched_on(&written(&host()))];
    let examples = KINDS.iter().map(|kind| kind.doc().example).chain(NOTIFIERS.iter().map(|n| n.doc().example));
    for text in good.into_iter().chain(examples.map(str::to_owned)) {
        let errors: Vec<_> =
            validator.iter_errors(&json(&text)).map(|e| format!("{} {e}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{text}\n{errors:#?}");
    }
    for text in [
        "intervall = '5m'",
        "interval = 5",
        "[check.a]\nkind = 'none'",
        "[check.A]\nkind = 'system'",
        "[check.a]\nkind = 'system'\ntimeot = '5s'",
        "[check.pulsecheck]\nkind = 'system'",
    ] {
        assert!(!validator.is_valid(&json(text)), "{text}");
    }
}

#[test]
fn the_schema_in_the_tree_is_that_of_the_types() {
    let is = format!("{:#}\n", schema());
    let there = include_str!("../../schemas/config.schema.json");
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/config.schema.json");
    if is != there {
        crate::host::files::replace(&made, is.as_bytes(), 0o644).unwrap();
    }
    assert!(is == there, "run `pulsecheck schema config > schemas/config.schema.json` (made: {})", made.display());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(96))]
    /// However a config is broken, it is read to the end and what is said of it can be shown.
    #[test]
    fn no_config_breaks_the_reader(cuts in proptest::collection::vec((0..4_000_usize, 0..12_usize, "[\\PC\n\t\"'\\[\\]={}.]{0,4}"), 1..6)) {
        let mut text: Vec<char> = switched_on(DEFAULT).lines().filter(|line| !line.starts_with('#'))
            .flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, gone, new) in cuts {
            let at = at % text.len();
            let end = (at + gone).min(text.len());
            text.splice(at..end, new.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = load(&text) {
            proptest::prop_assert!(!problems.list().is_empty());
            proptest::prop_assert!(!problems.render(true, 80).is_empty());
            proptest::prop_assert!(problems.render(false, 80).starts_with("x.toml"));
        }
    }
}
