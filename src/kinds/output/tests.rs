//! Files and captured outputs as jobs leave them, and what is found about each.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::facts::{Class, Value};
use crate::kinds::ledger::tests::execution;
use crate::kinds::testing::{Remembered, at, records};
use crate::read::hostile;
use crate::records::Ending;

/// When the files of these tests were written.
const WRITTEN: u64 = 1_000_000;
/// When they are looked at: an hour later.
const NOW: i64 = 1_003_600;

struct Place {
    root: tempfile::TempDir,
    executions: Vec<Execution>,
    memory: Remembered,
    now: i64,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap(), executions: Vec::new(), memory: Remembered::default(), now: NOW }
    }

    fn write(&self, name: &str, content: &[u8], second: u64) -> PathBuf {
        let path = self.root.path().join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(content).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        path
    }

    /// Looks once; `path = "NAME"` in the settings is taken as lying in this place.
    fn look(&mut self, toml: &str) -> (Fetched, Settings) {
        let toml = toml.replace("path = '", &format!("path = '{}/", self.root.path().display()));
        let toml = toml.replace("schema_file = '", &format!("schema_file = '{}/", self.root.path().display()));
        let settings: Settings = toml::from_str(&toml).unwrap_or_else(|e| panic!("{toml}: {e}"));
        settings.problems(&mut |key, why| panic!("{key}: {why}"));
        let look = Look {
            path: settings.path.as_ref().map(|path| path.as_str().into()),
            schema_file: settings.schema_file.as_ref().map(|path| path.as_str().into()),
            settings: settings.clone(),
            now: at(self.now),
            proc: "/none".into(),
            memory: Arc::new(self.memory.clone()),
            records: records(self.executions.clone()),
        };
        let mut fetched = look
            .run()
            .unwrap_or_else(|unread| Fetched { unread: [(Subject::none(), unread)].into(), ..Fetched::default() });
        self.memory.take_in(std::mem::take(&mut fetched.remember));
        (fetched, settings)
    }

    /// What is found: `code: sentence`, transient ones with a `~`, what could not be read with a `?`.
    fn found(&mut self, toml: &str) -> Vec<String> {
        let (fetched, settings) = self.look(toml);
        let name = self.root.path().display().to_string();
        let say = |said: &Clean| said.as_str().replace(&name, "");
        let mut found: Vec<String> =
            fetched.unread.values().map(|unread| format!("? {}: {}", unread.code, say(&unread.said))).collect();
        for finding in assess(&settings, &fetched.facts, at(self.now)) {
            let mark = if finding.settled { "" } else { "~ " };
            found.push(format!("{mark}{}: {}", finding.code, say(&finding.said)));
        }
        // The middle's part, as far as these tests need it.
        for (_, _, fact) in fetched.facts.iter() {
            if let Class::Gauge(scale) = &fact.class
                && let Scale { fail: Some(edge), says, .. } = scale.as_ref()
                && fact.value.number().is_some_and(|n| n > edge.at)
            {
                found.push(format!("{}: {}", edge.code, say(says)));
            }
        }
        for code in fetched.unread.values().map(|unread| unread.code.as_str()) {
            assert!(Output::DOC.reason(code).is_some(), "{code} is not documented");
        }
        for code in assess(&settings, &fetched.facts, at(self.now)).iter().map(|finding| finding.code.clone()) {
            assert!(Output::DOC.reason(code.as_str()).is_some(), "{code} is not documented");
        }
        for (_, fact, _) in fetched.facts.iter() {
            assert!(Output::DOC.facts.iter().any(|doc| doc.name == fact.as_str()), "{fact} is not documented");
        }
        found
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_trouble_in_its_own_words() {
    let json = br#"{"summary": "fine", "items": [{"id": 1}, {"id": 2}]}"#;
    let rows = b"{\"id\": 1, \"ok\": true}\n{\"id\": 2, \"ok\": false}\n";
    let table = b"id,name\n1,a\n2,b\n";
    for (name, content, toml, want) in [
        // Nothing in it.
        ("a.json", &b""[..], "", &["empty: `/a.json` is empty: it holds nothing"][..]),
        ("a.json", b" \r\n", "", &["empty: `/a.json` is empty: it holds nothing"]),
        ("a.json", b"{}", "", &["empty: `/a.json` is empty: it holds `{}`"]),
        ("a.json", b"[]", "", &["empty: `/a.json` is empty: it holds `[]`"]),
        ("a.json", b"null", "", &["empty: `/a.json` is empty: it holds `null`"]),
        ("a.json", b"\" \"", "", &["empty: `/a.json` is empty: it holds a blank text"]),
        ("a.json", b"[]", "allow_empty = true", &[]),
        ("a.jsonl", b"\n\n", "", &["empty: `/a.jsonl` is empty: it holds no row"]),
        ("a.csv", b"", "", &["empty: `/a.csv` is empty: it holds nothing"]),
        ("a.csv", b"id,name\n", "", &["empty: `/a.csv` is empty: it holds a header and no row"]),
        (
            "a.csv",
            b"id,name\n",
            "allow_empty = true\nmin_rows = 1",
            &["too_few_rows: `/a.csv` has 0 rows, at least 1 expected"],
        ),
        ("a.txt", b"\n \n", "", &["empty: `/a.txt` is empty: it holds nothing but white space or zero bytes"]),
        ("a.txt", b" todo\n", "placeholders = ['TODO']", &["empty: `/a.txt` is empty: it holds a placeholder"]),
        ("a.bin", &[0; 4_096], "", &["empty: `/a.bin` is empty: it holds nothing but white space or zero bytes"]),
        ("a.bin", b"\x7fELF", "", &[]),
        // Not what its format says.
        (
            "a.json",
            b"{\"a\": ",
            "",
            &["malformed: `/a.json` is not JSON: EOF while parsing a value at line 1 column 6"],
        ),
        ("a.json", b"{\"a\": NaN}", "", &["malformed: `/a.json` is not JSON: expected value at line 1 column 7"]),
        (
            "a.jsonl",
            b"{}\n{\"a\": \n",
            "",
            &[
                "malformed: `/a.jsonl` has 1 of 2 lines that are not JSON, the first is line 2: EOF while parsing a value at column 6",
            ],
        ),
        (
            "a.csv",
            b"a,b\n1\n",
            "",
            &[
                "malformed: `/a.csv` has 1 of 1 rows with another number of fields than the header's 2, the first in line 2 with 1",
            ],
        ),
        ("a.txt", b"ok\n\xff\n", "", &["malformed: `/a.txt` is not UTF-8 text: line 2"]),
        ("a.txt", b"ok\n\0\0\n", "", &["malformed: `/a.txt` has zero bytes in line 2"]),
        // Size and rows.
        ("a.txt", b"abc\n", "min_size = 10", &["too_small: `/a.txt` has 4 B, at least 10B is expected"]),
        ("a.txt", b"abc\n", "max_size = 3", &["too_big: `/a.txt` has 4 B, at most 3B is expected"]),
        ("a.json", b"[1, 2]", "min_rows = 3", &["too_few_rows: `/a.json` has 2 rows, at least 3 expected"]),
        ("a.json", json, "min_rows = 3", &["too_few_rows: `/a.json` has no rows: it is a map, at least 3 expected"]),
        ("a.jsonl", rows, "min_rows = 2", &[]),
        ("a.csv", table, "min_rows = 3", &["too_few_rows: `/a.csv` has 2 rows, at least 3 expected"]),
        ("a", b"x\n\ny\n", "min_rows = 3", &["too_few_rows: `/a` has 2 rows, at least 3 expected"]),
        // Columns, schema, values.
        ("a.csv", table, "columns = ['id', 'name']", &[]),
        (
            "a.csv",
            table,
            "columns = ['id', 'price', 'unit']",
            &["missing_column: `/a.csv` lacks the column price, unit"],
        ),
        ("a.json", json, "schema = { type = 'object', required = ['summary'] }", &[]),
        (
            "a.json",
            json,
            "schema.properties.items.items.properties.id = { type = 'string' }",
            &["wrong_shape: `/a.json` does not match its schema: \"at /items/0/id: value is not of type 'string'\""],
        ),
        (
            "a.jsonl",
            rows,
            "schema.properties.ok = { const = true }",
            &["wrong_shape: `/a.jsonl` does not match its schema: \"line 2: at /ok: true was expected\""],
        ),
        ("a.json", json, "required = ['$.summary', '$.items[*].id']", &[]),
        (
            "a.json",
            json,
            "required = ['$.total', '$.items[*].name']",
            &["missing_value: `/a.json` has nothing at $.total, $.items[*].name"],
        ),
        (
            "a.json",
            json,
            "required = ['$.summary']\nplaceholders = ['Fine']",
            &["missing_value: `/a.json` has nothing at $.summary"],
        ),
        (
            "a.jsonl",
            b"{\"id\": 1}\n{\"id\": \"\"}\n",
            "required = ['$.id']",
            &["missing_value: `/a.jsonl` has nothing at $.id in line 2"],
        ),
        // Expressions.
        ("a.json", json, "expect = 'size(json.items) == 2 && rows == null && size > 20 && age_s == 3600.0'", &[]),
        ("a.jsonl", rows, "expect = 'rows == 2 && json[1].id == 2'", &[]),
        ("a.csv", table, "expect = 'json[1].name == \"b\"'", &[]),
        ("a.txt", b"total: 7\r\n", "expect = 'text == \"total: 7\\n\"'", &[]),
        (
            "a.csv",
            table,
            "expect = 'rows > 10'",
            &["expectation_failed: `/a.csv` is not as expected: `rows > 10` does not hold (16 B, 2 rows)"],
        ),
    ] {
        let mut place = Place::new();
        place.write(name, content, WRITTEN);
        assert_eq!(place.found(&format!("path = '{name}'\n{toml}")), want, "{name} {toml}");
    }
}

#[test]
fn an_expression_that_has_no_answer_is_our_blindness() {
    let mut place = Place::new();
    place.write("a.json", b"{\"a\": 1}", WRITTEN);
    let found = place.found("path = 'a.json'\nexpect = 'json.b > 1'");
    assert!(
        found.len() == 1 && found[0].starts_with("? expectation_error: `expect` could not be evaluated: "),
        "{found:?}"
    );
    // What is broken anyway is said by itself.
    place.write("a.json", b"{\"a\": ", WRITTEN);
    assert_eq!(place.found("path = 'a.json'\nexpect = 'json.b > 1'").len(), 1);
}

#[test]
fn missing_stale_and_from_the_future() {
    let mut place = Place::new();
    assert_eq!(place.found("path = 'a.json'"), ["missing: `/a.json` is not there"]);
    assert_eq!(place.found("path = 'a-*.json'"), ["missing: no file matches `/a-*.json`"]);
    assert_eq!(place.found("path = 'a-*.json'\noptional = true"), [""; 0]);
    place.write("a.json", b"[1]", WRITTEN);
    assert_eq!(place.found("path = 'a.json'\nmax_age = '2h'"), [""; 0]);
    assert_eq!(place.found("path = 'a.json'\noptional = true\nmin_size = '4B'").len(), 1);
    assert_eq!(place.found("path = 'a.json'\nmax_age = '30m'"), ["stale: 1 h old, at most 30m is allowed"]);
    place.now = NOW - 7_200;
    assert_eq!(place.found("path = 'a.json'"), ["from_the_future: `/a.json` was written 1 h ahead of now"]);
    std::fs::create_dir(place.root.path().join("folder")).unwrap();
    assert!(place.found("path = 'folder'")[0].starts_with("? not_a_file"));
}

#[test]
fn the_newest_of_a_glob_is_looked_at_and_named() {
    let mut place = Place::new();
    place.write("r-1.json", b"[1]", WRITTEN);
    place.write("r-2.json", b"", WRITTEN + 10);
    place.write("r-3.json", b"[3]", WRITTEN - 10);
    std::fs::create_dir(place.root.path().join("r-9.json")).unwrap();
    assert_eq!(place.found("path = 'r-*.json'"), ["empty: \"r-2.json\" is empty: it holds nothing"]);
    let (fetched, _) = place.look("path = 'r-*.json'");
    let path = fetched.facts.get(&Subject::none(), "path").unwrap();
    assert!(path.foreign && fetched.facts.number(&Subject::none(), "files") == Some(3.0));
}

#[test]
fn a_file_must_be_of_its_jobs_last_run() {
    let mut place = Place::new();
    place.write("a.json", b"[1]", WRITTEN);
    let toml = "path = 'a.json'\nafter_job = 'nightly'";
    let written = i64::try_from(WRITTEN).unwrap();
    let ok = |started: i64| execution("nightly", started, Some((started + 60, Ending::Exit(0))));
    let failed = execution("nightly", written + 3_000, Some((written + 3_010, Ending::Exit(1))));
    let before =
        "before_run: `/a.json` was not written by the last run of `nightly`: it is 10 min older than that run's start";
    for (name, executions, want) in [
        ("never ran", vec![], vec![]),
        ("wrote it", vec![ok(written - 30)], vec![]),
        ("coarse times", vec![ok(written + 2)], vec![]),
        ("did not write it", vec![ok(written + 600)], vec![before]),
        ("a failed run need not write", vec![failed.clone(), ok(written - 30)], vec![]),
        ("a failed run hides nothing", vec![failed, ok(written + 600)], vec![before]),
    ] {
        place.executions = executions;
        assert_eq!(place.found(toml), want, "{name}");
    }
    // While it runs, what is wrong in the file may pass.
    place.write("a.json", b"", WRITTEN);
    place.executions = vec![execution("nightly", written + 3_000, None), ok(written - 30)];
    assert_eq!(place.found(toml), ["~ empty: `/a.json` is empty: it holds nothing"]);
    std::fs::remove_file(place.root.path().join("a.json")).unwrap();
    assert_eq!(place.found(toml), ["~ missing: `/a.json` is not there"]);
}

#[test]
fn what_is_being_written_is_transient() {
    let mut place = Place::new();
    place.write("a.json", b"{\"a\": ", WRITTEN);
    let found = |place: &mut Place, after: u64, toml: &str| {
        place.now = i64::try_from(WRITTEN + after).unwrap();
        place.found(&format!("path = 'a.json'\n{toml}")).remove(0)
    };
    assert!(found(&mut place, 29, "").starts_with("~ malformed"));
    assert!(found(&mut place, 30, "").starts_with("malformed"));
    assert!(found(&mut place, 30, "settle = '2m'").starts_with("~ malformed"));
}

#[test]
fn the_same_as_last_run_is_told_once_per_run_and_not_per_look() {
    let mut place = Place::new();
    let toml = "path = 'a.txt'\nchanges = true";
    let unchanged = ["unchanged: `/a.txt` is the same as after the run before"];
    let none: [&str; 0] = [];
    place.write("a.txt", b"one", WRITTEN);
    assert_eq!(place.found(toml), none, "the first run has nothing before it");
    assert_eq!(place.found(toml), none, "looking again is no run");
    place.write("a.txt", b"one", WRITTEN + 600);
    assert_eq!(place.found(toml), unchanged, "written again with the same content");
    assert_eq!(place.found(toml), unchanged, "which stays true until the next run");
    // Half of the next content is not taken for a run.
    place.write("a.txt", b"tw", u64::try_from(NOW).unwrap() - 5);
    assert_eq!(place.found(toml), none);
    place.write("a.txt", b"two", WRITTEN + 1_200);
    assert_eq!(place.found(toml), none);
    place.write("a.txt", b"one", WRITTEN + 1_800);
    assert_eq!(place.found(toml), none, "the same as two runs ago is another content");

    // With a job, a run is an execution, however often the file is touched.
    let toml = "path = 'b.txt'\nchanges = true\nafter_job = 'nightly'";
    let started = i64::try_from(WRITTEN).unwrap();
    let mut place = Place::new();
    place.write("b.txt", b"one", WRITTEN + 1);
    place.executions = vec![execution("nightly", started, Some((started + 5, Ending::Exit(0))))];
    assert_eq!(place.found(toml), none);
    place.write("b.txt", b"one", WRITTEN + 2);
    assert_eq!(place.found(toml), none);
    place.executions.insert(0, execution("nightly", started + 600, Some((started + 605, Ending::Exit(0)))));
    place.write("b.txt", b"one", WRITTEN + 603);
    assert_eq!(place.found(toml), ["unchanged: `/b.txt` is the same as after the run before"]);
    // A run that wrote nothing is said as that, not as the same content.
    place.executions.insert(0, execution("nightly", started + 1_200, Some((started + 1_205, Ending::Exit(0)))));
    let found = place.found(toml);
    assert!(found.len() == 1 && found[0].starts_with("before_run"), "{found:?}");
}

#[test]
fn what_a_job_printed() {
    let printed = |started: i64, bytes: Option<u64>, sha256: &str, tail: &str| Execution {
        stdout_bytes: bytes,
        stdout_sha256: bytes.map(|_| sha256.to_owned()),
        tail: bytes.map(|_| Clean::new(tail)),
        ..execution("report", started, Some((started + 10, Ending::Exit(0))))
    };
    let failed = execution("report", 1_003_000, Some((1_003_010, Ending::Exit(1))));
    for (executions, toml, want) in [
        (vec![], "", &["? no_run: job `report` has no successful execution on record"][..]),
        (vec![failed.clone()], "", &["? no_run: job `report` has no successful execution on record"]),
        (vec![printed(1_000_000, None, "", "")], "", &["? not_captured: the output of job `report` was not captured"]),
        (
            vec![printed(1_000_000, Some(0), "e3", "")],
            "",
            &["empty: the output of job `report` is empty: it holds nothing"],
        ),
        (
            vec![printed(1_000_000, Some(2), "01", "\n\n")],
            "",
            &["empty: the output of job `report` is empty: it holds nothing but white space"],
        ),
        (vec![printed(1_000_000, Some(2_000_000), "01", "\n")], "", &[]),
        (
            vec![failed, printed(1_000_000, Some(8), "01", "7 items\n")],
            "expect = 'text.contains(\"items\") && size == 8'",
            &[],
        ),
        (
            vec![printed(1_000_000, Some(8), "01", "0 items\n")],
            "expect = '!text.startsWith(\"0 \")'",
            &[
                "expectation_failed: the output of job `report` is not as expected: `!text.startsWith(\"0 \")` does not hold (8 B)",
            ],
        ),
        (
            vec![printed(1_000_000, Some(8), "01", "7 items\n")],
            "max_age = '30m'",
            &["stale: 59 min old, at most 30m is allowed"],
        ),
    ] {
        let mut place = Place::new();
        place.executions = executions;
        assert_eq!(place.found(&format!("job = 'report'\n{toml}")), want, "{toml}");
    }
    let mut place = Place::new();
    place.executions = vec![printed(1_000_000, Some(8), "01", "7 items\n")];
    assert_eq!(place.found("job = 'report'\nchanges = true"), [""; 0]);
    place.executions.insert(0, printed(1_001_000, Some(8), "01", "7 items\n"));
    assert_eq!(
        place.found("job = 'report'\nchanges = true"),
        ["unchanged: the output of job `report` is the same as after the run before"]
    );
}

#[test]
fn schemas_in_files_are_read_when_looked_at() {
    let mut place = Place::new();
    place.write("a.json", b"{\"a\": 1}", WRITTEN);
    let toml = "path = 'a.json'\nschema_file = 's.schema'";
    assert!(place.found(toml)[0].starts_with("? schema_unreadable: `schema_file`: "));
    place.write("s.schema", b"{\"type\": \"strange\"}", WRITTEN);
    assert!(place.found(toml)[0].starts_with("? schema_unreadable: `schema_file`: not a JSON Schema"));
    place.write("s.schema", b"{\"$ref\": \"http://127.0.0.1:9/s.json\"}", WRITTEN);
    assert!(place.found(toml)[0].starts_with("? schema_unreadable"), "nothing is fetched");
    place.write("s.schema", b"{\"required\": [\"b\"]}", WRITTEN);
    assert_eq!(
        place.found(toml),
        ["wrong_shape: `/a.json` does not match its schema: \"at the top: 'b' is a required property\""]
    );
}

#[test]
fn what_is_too_large_is_said_where_it_matters() {
    let mut place = Place::new();
    let path = place.write("a.bin", b"x", WRITTEN);
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(1 << 30).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(WRITTEN)).unwrap();
    assert_eq!(place.found("path = 'a.bin'"), [""; 0]);
    let (fetched, _) = place.look("path = 'a.bin'");
    let number = |name| fetched.facts.number(&Subject::none(), name);
    assert_eq!((number("size_bytes"), number("cut")), (Some(f64::from(1 << 30)), Some(1.0)));
    let wants_all = "? too_large_to_read: only the first 64.0 MiB of it are read, what is asked needs all of it";
    let zeros = "malformed: `/a.bin` has zero bytes in line 1";
    assert_eq!(place.found("path = 'a.bin'\nformat = 'text'\nmin_rows = 2"), [zeros]);
    assert_eq!(place.found("path = 'a.bin'\nmax_read = '1MiB'\nchanges = true"), [wants_all.replace("64.0", "1.0")]);
    assert_eq!(
        place.found("path = 'a.bin'\nformat = 'json'"),
        ["? too_large_to_read: it is larger than the 8MiB that are read of json"]
    );
    assert_eq!(
        place.found("path = 'a.bin'\nmax_size = '1MiB'"),
        ["too_big: `/a.bin` has 1.0 GiB, at most 1MiB is expected"]
    );
}

#[test]
fn sound_is_listened_to() {
    use crate::read::audio::tests::{speech, wav, white};
    let scaled = |samples: Vec<f64>, by: f64| samples.into_iter().map(|x| x * by).collect::<Vec<f64>>();
    let voice = wav(8_000, 1, &speech(32_000, 8_000));
    let hole = {
        let mut samples = speech(32_000, 8_000);
        samples[8_000..24_000].fill(0.0);
        wav(8_000, 1, &samples)
    };
    let silent = wav(8_000, 1, &vec![0.0; 16_000]);
    let noise = wav(8_000, 1, &scaled(white(16_000), 0.3));
    let overdriven = wav(8_000, 1, &scaled(speech(32_000, 8_000), 20.0));
    for (name, content, toml, want) in [
        ("a.wav", &*voice, "", &[][..]),
        ("a.wav", &voice, "min_duration = '4s'\nmax_duration = '4s'\nmax_silence = '1s'\nchanges = true", &[]),
        ("a", &voice, "format = 'wav'\nexpect = 'audio.duration_s == 4.0 && audio.channels == 1 && rows == null'", &[]),
        ("a.wav", &voice, "expect = 'audio.flatness < 0.5 && audio.codec == \"pcm_16\" && !audio.truncated'", &[]),
        ("a.json", b"[1]", "expect = 'audio == null'", &[]),
        ("a.wav", b"", "", &["empty: `/a.wav` is empty: it holds nothing"]),
        ("a.wav", &voice[..44], "", &["empty: `/a.wav` is empty: it has a header and no sound"]),
        ("a.wav", b"[]", "", &["malformed: `/a.wav` is not a WAV file: it begins like text"]),
        (
            "a.wav",
            &voice[..32_044],
            "min_duration = '3s'\nexpect = 'audio.duration_s > 3.0'",
            &["truncated: `/a.wav` is cut off: of the 4.0 s that its header promises 2.0 s are there"],
        ),
        ("a.wav", &silent, "", &["silent: `/a.wav` is silent: 100.0 % of its 2.0 s lie below -60 dBFS"]),
        ("a.wav", &silent, "allow_silence = true", &[]),
        (
            "a.wav",
            &silent,
            "min_duration = '1m'",
            &[
                "too_short: `/a.wav` lasts 2.0 s, at least 1m is expected",
                "silent: `/a.wav` is silent: 100.0 % of its 2.0 s lie below -60 dBFS",
            ],
        ),
        (
            "a.wav",
            &noise,
            "",
            &["static: `/a.wav` is static: 100 % of what is loud in its 2.0 s is noise (its flatness is 0.94)"],
        ),
        ("a.wav", &noise, "allow_static = true", &[]),
        ("a.wav", &voice, "max_duration = '3s'", &["too_long: `/a.wav` lasts 4.0 s, at most 3s is expected"]),
        ("a.wav", &hole, "", &[]),
        (
            "a.wav",
            &hole,
            "max_silence = '1s'",
            &["long_silence: `/a.wav` is silent for 1.9 s in one piece, at most 1s is expected"],
        ),
        (
            "a.wav",
            &overdriven,
            "",
            &["clipped: `/a.wav` is clipped: 31.9 % of its samples stand at full scale, at most 1 % may"],
        ),
        ("a.wav", &overdriven, "max_clipping = 40", &[]),
        (
            "a.wav",
            &voice,
            "expect = 'audio.duration_s > 10.0'",
            &["expectation_failed: `/a.wav` is not as expected: `audio.duration_s > 10.0` does not hold (62.5 KiB)"],
        ),
        ("a.wav", &voice, "format = 'any'", &[]),
        (
            "a.wav",
            &voice,
            "changes = true\nmax_read = '1KiB'",
            &["? too_large_to_read: only the first 1.0 KiB of it are read, what is asked needs all of it"],
        ),
    ] {
        let mut place = Place::new();
        place.write(name, content, WRITTEN);
        assert_eq!(place.found(&format!("path = '{name}'\n{toml}")), want, "{name} {toml}");
    }
    // Half of a file that is being written is no truncated one yet; who knows what is still to come.
    let mut place = Place::new();
    place.write("a.wav", &voice[..32_044], WRITTEN);
    place.now = i64::try_from(WRITTEN).unwrap() + 5;
    assert!(place.found("path = 'a.wav'")[0].starts_with("~ truncated"));
    place.now += 30;
    assert!(place.found("path = 'a.wav'")[0].starts_with("truncated"));
}

#[test]
fn sound_that_is_not_read_is_said() {
    let mut place = Place::new();
    place.write("a.ogg", include_bytes!("../../../tests/fixtures/audio/opus.ogg"), WRITTEN);
    place.write("a.mp3", include_bytes!("../../../tests/fixtures/audio/static.mp3"), WRITTEN);
    let not_built = "? not_in_this_build: this build has no mp3, flac and ogg (feature `audio`)";
    let (opus, noise) = if cfg!(feature = "audio") {
        ("? unsupported_audio: it holds Opus, whose sound is not read", "static: `/a.mp3` is static")
    } else {
        (not_built, not_built)
    };
    assert_eq!(place.found("path = 'a.ogg'\nformat = 'ogg'"), [opus]);
    assert!(place.found("path = 'a.mp3'\nformat = 'mp3'")[0].starts_with(noise));
    // By its name alone nothing is asked that this build can't do.
    let by_name = place.found("path = 'a.mp3'");
    assert!(by_name.is_empty() || cfg!(feature = "audio"), "{by_name:?}");
}

#[test]
fn hostile_content_is_found_wrong_and_never_more() {
    for (name, raw) in hostile::table() {
        for format in ["json", "jsonl", "csv", "text", "wav", "mp3", "flac", "ogg", "any"] {
            let mut place = Place::new();
            place.write("a", &raw, WRITTEN);
            let found = place.found(&format!("path = 'a'\nformat = '{format}'\nexpect = 'size < 0'\nchanges = true"));
            assert!(!found.is_empty(), "{name} as {format}");
        }
    }
    // Names and keys that somebody else chose stand in sentences only quoted.
    let mut place = Place::new();
    place.write("r-$(rm).json", b"{\"<b>\": 1}", WRITTEN);
    let found = place.found("path = 'r-*.json'\nschema = { additionalProperties = false }");
    assert!(found[0].contains("\"r-$(rm).json\"") && found[0].contains("schema: \"at the top"), "{found:?}");
}

#[test]
fn columns_are_watched_where_they_are_named() {
    let mut place = Place::new();
    place.write("a.csv", b"id,name\n1,a\n", WRITTEN);
    let (fetched, _) = place.look("path = 'a.csv'\ncolumns = ['id']");
    let fact = fetched.facts.get(&Subject::none(), "columns").unwrap();
    let Value::Set(columns) = &fact.value else { panic!("{fact:?}") };
    assert_eq!(columns.iter().map(Clean::as_str).collect::<Vec<_>>(), ["id", "name"]);
    assert!(fact.foreign);
    let (fetched, _) = place.look("path = 'a.csv'");
    assert!(fetched.facts.get(&Subject::none(), "columns").is_none());
}

#[test]
fn a_whole_look_goes_through_the_host() {
    let place = Place::new();
    let path = place.write("a.json", b"[]", WRITTEN);
    let toml = format!("path = '{}'\nmax_age = '3650d'", path.display());
    let mut trial = crate::kinds::testing::Trial::new(place.root.path());
    let look = trial.look::<Output>(&crate::kinds::testing::settings::<Output>(&toml)).unwrap();
    assert_eq!(look.codes(), ["empty"]);
}
