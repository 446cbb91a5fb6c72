//! What may lie where a setting says that a file is: whatever it is, a look ends within its deadline and says something.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use pulsecheck::facts::{Finding, Subject, Unread};
use pulsecheck::host::Host;
use pulsecheck::kinds::{self, AnyCheck, Cx, Fetched, KINDS, Memory, Past, Records};
use pulsecheck::records::{CheckView, Execution};
use regex::Regex;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// How long a look may take.
const WITHIN: Duration = Duration::from_secs(2);
/// Beyond that: a busy machine is not the look's fault.
const SLACK: Duration = Duration::from_secs(10);

/// Every setting that can name a file: the kind, the key, and a table in which `{path}` is that file, `{good}` one that
/// is well, and `{port}` a port of loopback that hangs up.
const ROWS: &[(&str, &str, &str)] = &[
    ("access", "files", "files = ['{path}']\npresets = ['sshd']"),
    (
        "access",
        "files",
        "files = ['{path}*']\npatterns = [{ name = 'a', regex = '.' }]\noptional = true\nmax_bytes = '1B'",
    ),
    ("api_auth", "ca_file", "imap = '127.0.0.1:{port}'\nuser = 'me'\npassword = 'file:{good}'\nca_file = '{path}'"),
    ("api_auth", "password", "imap = '127.0.0.1:{port}'\nuser = 'me'\npassword = 'file:{path}'"),
    ("api_auth", "token", "url = 'http://127.0.0.1:{port}/'\ntoken = 'file:{path}'"),
    ("api_auth", "secret_headers", "url = 'http://127.0.0.1:{port}/'\nsecret_headers = { X-Key = 'file:{path}' }"),
    (
        "api_auth",
        "refresh_token",
        "token_url = 'http://127.0.0.1:{port}/'\nrefresh_token = 'file:{path}'\nrefresh_is_safe = true",
    ),
    (
        "api_auth",
        "client_secret",
        "token_url = 'http://127.0.0.1:{port}/'\nrefresh_token = 'file:{good}'\nclient_id = 'a'\nclient_secret = 'file:{path}'\nrefresh_is_safe = true",
    ),
    ("baseline", "files", "files = ['{path}']"),
    ("baseline", "key_files", "what = ['authorized_keys']\nusers = ['root']\nkey_files = ['{path}']"),
    ("baseline", "argv", "argv = ['{path}']"),
    ("command", "argv", "argv = ['{path}']"),
    ("command", "cwd", "argv = ['/bin/true']\ncwd = '{path}'"),
    ("command", "secret_env", "argv = ['/bin/true']\nsecret_env = { TOKEN = 'file:{path}' }"),
    ("files", "paths", "paths = ['{path}']"),
    ("files", "paths", "paths = ['{path}']\ntype = 'file'\nmode = '0600'\nmin_size = '1B'\nsymlinks = false"),
    ("freshness", "path", "path = '{path}'\nmax_age = '1h'"),
    ("gpu", "library", "library = '{path}'\nxids = false"),
    ("http", "ca_file", "url = 'https://127.0.0.1:{port}/'\nca_file = '{path}'"),
    ("http", "bearer", "url = 'http://127.0.0.1:{port}/'\nbearer = 'file:{path}'"),
    ("http", "basic_password", "url = 'http://127.0.0.1:{port}/'\nbasic_user = 'me'\nbasic_password = 'file:{path}'"),
    ("http", "secret_headers", "url = 'http://127.0.0.1:{port}/'\nsecret_headers = { X-Key = 'file:{path}' }"),
    ("job", "path", "source = 'openclaw'\npath = '{path}'"),
    ("job", "path", "source = 'hermes'\npath = '{path}'"),
    ("model_server", "api_key", "engine = 'ollama'\nurl = 'http://127.0.0.1:{port}/'\napi_key = 'file:{path}'"),
    ("model_server", "ca_file", "engine = 'vllm'\nurl = 'https://127.0.0.1:{port}/'\nca_file = '{path}'"),
    ("output", "path", "path = '{path}'"),
    ("output", "path", "path = '{path}'\nformat = 'json'"),
    ("output", "path", "path = '{path}'\nformat = 'jsonl'\nmin_rows = 1"),
    ("output", "path", "path = '{path}'\nformat = 'csv'\ncolumns = ['a']"),
    ("output", "path", "path = '{path}'\nformat = 'text'\nmin_rows = 1"),
    ("output", "path", "path = '{path}'\nformat = 'wav'\nchanges = true"),
    ("output", "path", "path = '{path}'\nformat = 'mp3'\nmin_duration = '1s'"),
    ("output", "path", "path = '{path}'\nformat = 'flac'\nmax_silence = '1s'"),
    ("output", "path", "path = '{path}'\nformat = 'ogg'"),
    ("output", "path", "path = '{path}'\nformat = 'json'\nexpect = 'json.a > 1.0'"),
    ("output", "schema_file", "path = '{good}'\nformat = 'json'\nschema_file = '{path}'"),
    ("process", "pid_file", "pid_file = '{path}'"),
    ("queue", "sqlite", "sqlite = '{path}'\nquery = 'SELECT count(*) FROM sqlite_schema'"),
    ("queue", "folder", "folder = '{path}'"),
    ("queue", "processing_folder", "folder = '/tmp'\nnames = 'none'\nprocessing_folder = '{path}'"),
    ("queue", "json_file", "json_file = '{path}'\nitems = '$.a'"),
    ("queue", "json_file", "json_file = '{path}'\nitems = '$.a[*]'\ntime_path = '$.b'\nid_path = '$.c'"),
    ("queue", "postgres_url", "postgres_url = 'file:{path}'\nquery = 'SELECT 1'"),
    ("queue", "redis_url", "redis_url = 'file:{path}'\nkey = 'q'"),
    ("queue", "password", "redis = 'redis://127.0.0.1:{port}'\nkey = 'q'\npassword = 'file:{path}'"),
    (
        "queue",
        "password",
        "postgres = 'postgres://me@127.0.0.1:{port}/x'\nquery = 'SELECT 1'\npassword = 'file:{path}'",
    ),
    ("sqlite", "path", "path = '{path}'\nquery = 'SELECT count(*) AS n FROM sqlite_schema'"),
    ("sqlite", "path", "path = '{path}'\nquery = 'SELECT a FROM b'\nuser_version = 1"),
    (
        "spend",
        "prices",
        "sources = [{ kind = 'jsonl', path = '{good}', fields = { time = '$.t', cost = '$.c' } }]\nprices = '{path}'",
    ),
    ("spend", "sources", "sources = [{ kind = 'jsonl', path = '{path}', fields = { time = '$.t', cost = '$.c' } }]"),
    ("spend", "sources", "sources = [{ kind = 'claude-code', path = '{path}' }]"),
    ("spend", "sources", "sources = [{ kind = 'codex', path = '{path}' }, { kind = 'openclaw', path = '{path}' }]"),
    ("spend", "sources", "sources = [{ kind = 'hermes', path = '{path}' }]"),
    ("spend", "sources", "sources = [{ kind = 'litellm', url = 'http://127.0.0.1:{port}', key = 'file:{path}' }]"),
    ("system", "disks", "disks = ['{path}']"),
    ("tcp", "send_secret", "host = '127.0.0.1'\nport = {port}\nsend_secret = 'file:{path}'\nexpect = 'x'"),
    ("tls", "files", "files = ['{path}']"),
    ("tls", "ca_file", "hosts = ['127.0.0.1:{port}']\nca_file = '{path}'"),
    ("token", "file", "file = '{path}'\nexpiry_path = '$.a'"),
    ("token", "path", "source = 'openclaw'\npath = '{path}'"),
    ("token", "path", "source = 'codex'\npath = '{path}'"),
    (
        "token",
        "used_path",
        "file = '{good}'\nexpiry_path = '$.a'\nrefresh_path = '$.a'\nrefresh_within = '1h'\nused_path = '{path}'",
    ),
    ("token", "jwt", "jwt = 'file:{path}'"),
    ("token", "token", "introspect = 'https://127.0.0.1:{port}/'\ntoken = 'file:{path}'"),
    ("token", "bearer", "introspect = 'https://127.0.0.1:{port}/'\ntoken = 'file:{good}'\nbearer = 'file:{path}'"),
    (
        "token",
        "client_secret",
        "introspect = 'https://127.0.0.1:{port}/'\ntoken = 'file:{good}'\nclient_id = 'me'\nclient_secret = 'file:{path}'",
    ),
    ("token", "ca_file", "introspect = 'https://127.0.0.1:{port}/'\ntoken = 'file:{good}'\nca_file = '{path}'"),
    ("vector_store", "api_key", "engine = 'qdrant'\nurl = 'http://127.0.0.1:{port}/'\napi_key = 'file:{path}'"),
    ("vector_store", "bearer", "engine = 'weaviate'\nurl = 'http://127.0.0.1:{port}/'\nbearer = 'file:{path}'"),
    ("vector_store", "ca_file", "engine = 'chroma'\nurl = 'https://127.0.0.1:{port}/'\nca_file = '{path}'"),
    (
        "vector_store",
        "password",
        "engine = 'pgvector'\nurl = 'postgres://me@127.0.0.1:{port}/db'\npassword = 'file:{path}'",
    ),
];

/// Puts something at a path.
type Put = fn(&Path);

/// What may lie there.
const CASES: &[(&str, Put)] = &[
    ("missing", |_| {}),
    ("a FIFO that nobody writes", |path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    }),
    ("a loop of links", |path| symlink(path, path).unwrap()),
    ("a folder", |path| fs::create_dir(path).unwrap()),
    ("zero bytes", |path| write(path, &[0; 4_096])),
    ("nothing at all", |path| write(path, b"")),
    ("no UTF-8", |path| write(path, b"\xff\xfe{\"a\": \"\xc3\x28\"}\n\xed\xa0\x80,\x80\n")),
    ("a gigabyte of holes", |path| {
        write(path, b"");
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 30).unwrap();
    }),
    ("deep JSON", |path| write(path, "[".repeat(200_000).as_bytes())),
    ("deep JSON that ends", |path| {
        write(path, format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000)).as_bytes());
    }),
    ("no numbers", |path| write(path, b"{\"a\": NaN, \"b\": [Infinity, -Infinity, 1e999]}")),
    ("great numbers", |path| write(path, b"{\"a\": 1e308, \"b\": 99999999999999999999999999, \"c\": -0.0}")),
    ("one line without an end", |path| write(path, "a".repeat(3 << 20).as_bytes())),
];

fn write(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// No memory, no job, no other check.
pub struct Nothing;

impl Memory for Nothing {
    fn get(&self, _: &str) -> Result<Option<Vec<u8>>, Unread> {
        Ok(None)
    }
    fn scan(&self, _: &str) -> Result<Vec<(String, Vec<u8>)>, Unread> {
        Ok(Vec::new())
    }
}
impl Records for Nothing {
    fn executions(&self, _: &str, _: usize) -> Result<Vec<Execution>, Unread> {
        Ok(Vec::new())
    }
    fn jobs(&self) -> Result<Vec<String>, Unread> {
        Ok(Vec::new())
    }
    fn checks(&self) -> Arc<BTreeMap<pulsecheck::facts::CheckName, CheckView>> {
        Arc::default()
    }
}

/// The place of one try: the file, one that is well, and a server that hangs up.
struct Place {
    dir: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new(port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("good.json"), b"{\"a\": 2.5}");
        Self { dir, port }
    }

    /// Looks, and gives what is wrong with that, if anything.
    fn look(&self, kind: &'static str, template: &str, path: &Path) -> Option<String> {
        let good = self.dir.path().join("good.json");
        let toml = template
            .replace("{path}", path.to_str().unwrap())
            .replace("{good}", good.to_str().unwrap())
            .replace("{port}", &self.port.to_string());
        let check = configured(kind, &toml);
        let host = Arc::new(Host::for_tests(self.dir.path()));
        let (tell, told) = mpsc::channel();
        // A thread of its own: a look that blocks its runtime would block a timeout in it as well.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let now = host.now();
            let fetched = runtime.block_on(async {
                let deadline = tokio::time::Instant::now() + WITHIN;
                let (past, nothing) = (Arc::new(Past::default()), Arc::new(Nothing));
                let name = "tried".try_into().unwrap();
                let cx = Cx::new(name, now, deadline, past, nothing.clone(), nothing, host);
                check.fetch(&cx).await
            });
            runtime.shutdown_background();
            let fetched = fetched.unwrap_or_else(|unread| Fetched {
                unread: BTreeMap::from([(Subject::none(), unread)]),
                ..Fetched::default()
            });
            let findings = check.assess(&fetched.facts, &Past::default(), now.wall);
            let _nobody_waits = tell.send((fetched, findings));
        });
        match told.recv_timeout(WITHIN + SLACK) {
            Ok((fetched, findings)) => silent(kind, &fetched, &findings),
            Err(mpsc::RecvTimeoutError::Timeout) => Some("does not come back".to_owned()),
            Err(mpsc::RecvTimeoutError::Disconnected) => Some("panics".to_owned()),
        }
    }
}

pub fn configured(kind: &str, toml: &str) -> Arc<dyn AnyCheck> {
    let table = DeTable::parse(toml).unwrap().into_inner();
    let value = ValueDeserializer::from(Spanned::new(0..0, DeValue::Table(table)));
    let mut problems = Vec::new();
    let check = kinds::find(kind).unwrap().configure(value, &mut |key, why| problems.push(format!("{key}: {why}")));
    assert!(problems.is_empty(), "{kind}: {toml}: {problems:?}");
    check.unwrap_or_else(|error| panic!("{kind}: {toml}: {error}"))
}

/// A look says what it read, what it could not read, or what it found, in documented words.
fn silent(kind: &str, fetched: &Fetched, findings: &[Finding]) -> Option<String> {
    let codes = fetched.unread.values().map(|unread| unread.code.as_str());
    let codes = codes.chain(findings.iter().map(|finding| finding.code.as_str()));
    let doc = kinds::find(kind).unwrap().doc();
    let undocumented: Vec<&str> = codes.filter(|code| doc.reason(code).is_none()).collect();
    if !undocumented.is_empty() {
        return Some(format!("says what is not documented: {undocumented:?}"));
    }
    let says_nothing = fetched.unread.is_empty() && findings.is_empty() && fetched.facts.iter().next().is_none();
    says_nothing.then(|| "says nothing".to_owned())
}

/// A port of loopback on which whoever connects is hung up on.
fn hangs_up() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    port
}

/// Tries all rows on what was put there.
fn all_rows(case: &str, port: u16, put: impl Fn(&Path)) -> Vec<String> {
    let mut wrong = Vec::new();
    for (kind, key, template) in ROWS {
        let place = Place::new(port);
        let path = place.dir.path().join("it");
        put(&path);
        if let Some(what) = place.look(kind, template, &path) {
            wrong.push(format!("{kind}, {key}, {case}: {what} ({template:?})"));
        }
    }
    wrong
}

#[test]
fn a_look_ends_in_time_and_says_something_whatever_lies_there() {
    let port = hangs_up();
    let wrong: Vec<String> = CASES.iter().flat_map(|(case, put)| all_rows(case, port, put)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_may_not_be_read_is_said() {
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root may read everything");
        return;
    }
    let wrong = all_rows("no permission", hangs_up(), |path| {
        write(path, b"{}");
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_file_that_grows_is_read_to_an_end() {
    const MOST: u64 = 32 << 20;
    let port = hangs_up();
    let mut wrong = Vec::new();
    for (kind, key, template) in ROWS {
        let place = Place::new(port);
        let path = place.dir.path().join("it");
        write(&path, b"{\"a\": 1}\n");
        let done = Arc::new(AtomicBool::new(false));
        let writer = std::thread::spawn({
            let (path, done) = (path.clone(), Arc::clone(&done));
            move || {
                let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
                while !done.load(Ordering::Relaxed) && file.seek(SeekFrom::End(0)).unwrap() < MOST {
                    file.write_all(&b"{\"a\": 1}\n".repeat(1_000)).unwrap();
                }
            }
        });
        let begun = Instant::now();
        if let Some(what) = place.look(kind, template, &path) {
            wrong.push(format!("{kind}, {key}: {what} after {:?} ({template:?})", begun.elapsed()));
        }
        done.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_setting_that_can_name_a_file_is_tried() {
    let tried: BTreeSet<(&str, &str)> = ROWS.iter().map(|(kind, key, _)| (*kind, *key)).collect();
    let by_name = Regex::new("(^|_)(files?|paths?|folders?|dirs?|cwd)$").unwrap();
    let mut untried = Vec::new();
    for kind in KINDS {
        let mut generator = schemars::SchemaGenerator::default();
        let schema = kind.schema(&mut generator).to_value();
        let name = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let definition = name.map_or(&schema, |name| &generator.definitions()[name]);
        for (key, property) in definition["properties"].as_object().unwrap() {
            let of = property.to_string();
            let by_type = of.contains("/PathGlob\"") || of.contains("/SecretRef\"");
            let a_path = by_type || (by_name.is_match(key) && !of.contains("/JsonPath\""));
            let doc = kind.doc().name;
            if a_path && !tried.contains(&(doc, key.as_str())) {
                untried.push(format!("{doc}: {key}"));
            }
        }
    }
    assert!(untried.is_empty(), "these are not among the rows: {untried:?}");
}
