//! What the tests of several kinds stand on: records and memory that hold what a test gave them, a web server, and a
//! kind tried on a host of the test's own, look after look.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::{Baseline, Cx, Fetched, Kind, Memory, Past, ReasonOutcome, Records};
use crate::clock::Now;
use crate::facts::{CheckName, Class, Edge, Facts, Finding, Subject, Unread, Worse};
use crate::host::Host;
use crate::records::{CheckView, Execution};

/// A second since 1970.
pub(super) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Records with these executions, newest first, and nothing else.
pub(super) fn records(executions: Vec<Execution>) -> Arc<dyn Records> {
    Arc::new(Given { executions, checks: Arc::default() })
}

/// Records with these views of other checks.
pub(super) fn views(views: Vec<CheckView>) -> Arc<dyn Records> {
    let checks = views.into_iter().map(|view| (view.check.clone(), view)).collect();
    Arc::new(Given { executions: Vec::new(), checks: Arc::new(checks) })
}

struct Given {
    executions: Vec<Execution>,
    checks: Arc<BTreeMap<CheckName, CheckView>>,
}

impl Records for Given {
    fn executions(&self, job: &str, limit: usize) -> Result<Vec<Execution>, Unread> {
        Ok(self.executions.iter().filter(|execution| execution.job == job).take(limit).cloned().collect())
    }
    fn jobs(&self) -> Result<Vec<String>, Unread> {
        let mut jobs: Vec<String> = self.executions.iter().map(|execution| execution.job.clone()).collect();
        jobs.sort();
        jobs.dedup();
        Ok(jobs)
    }
    fn checks(&self) -> Arc<BTreeMap<CheckName, CheckView>> {
        Arc::clone(&self.checks)
    }
}

/// A memory with these keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Remembered(pub BTreeMap<String, Vec<u8>>);

impl Remembered {
    /// Takes in what a fetch wants kept.
    pub(super) fn take_in(&mut self, remember: Vec<(String, Option<Vec<u8>>)>) {
        for (key, value) in remember {
            match value {
                Some(value) => drop(self.0.insert(key, value)),
                None => drop(self.0.remove(&key)),
            }
        }
    }
}

impl Memory for Remembered {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Unread> {
        Ok(self.0.get(key).cloned())
    }
    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Unread> {
        Ok(self.0.iter().filter(|(key, _)| key.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

/// What a check called `tried` is given for its first fetch, with this long to do it.
pub(super) fn cx(host: Arc<Host>, now: Now, within: Duration) -> Cx {
    let deadline = Instant::now() + within;
    let memory = Arc::new(Remembered::default());
    Cx::new("tried".try_into().unwrap(), now, deadline, Arc::new(Past::default()), memory, records(Vec::new()), host)
}

/// A web server on loopback that gives every request the same answer; the requests it got are in the list, whole.
pub(super) async fn web(status: &str, content_type: &str, body: &str) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let got = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&got);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !is_whole(&request) {
                let mut piece = [0; 4096];
                match stream.read(&mut piece).await {
                    Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
                    _ => break,
                }
            }
            list.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
            let _gone = stream.write_all(answer.as_bytes()).await;
            let _gone = stream.shutdown().await;
        }
    });
    (port, got)
}

/// What a path answers: status, content type, body.
type Route = (u16, &'static str, String);

/// A web server on loopback with an answer for each path, which a test may change while it runs. It has a thread of its
/// own, so that it outlives the runtime of a look.
#[derive(Clone)]
pub(super) struct Site {
    port: u16,
    routes: Arc<Mutex<BTreeMap<String, Route>>>,
    got: Arc<Mutex<Vec<String>>>,
}

impl Site {
    /// One that knows no path yet: it answers 404.
    pub fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let site = Self { port: listener.local_addr().unwrap().port(), routes: Arc::default(), got: Arc::default() };
        let serving = site.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        site
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on a path (with its query) answers 200 with this JSON.
    pub fn json(&self, path: &str, json: &serde_json::Value) -> &Self {
        self.answer(path, 200, "application/json", &json.to_string())
    }

    pub fn answer(&self, path: &str, status: u16, kind: &'static str, body: &str) -> &Self {
        self.routes.lock().unwrap().insert(path.to_owned(), (status, kind, body.to_owned()));
        self
    }

    /// From now on every path answers like this, unless it gets an answer of its own later.
    pub fn all(&self, status: u16, kind: &'static str, body: &str) -> &Self {
        self.routes.lock().unwrap().clear();
        self.answer("*", status, kind, body)
    }

    /// From now on a path answers 404.
    pub fn forget(&self, path: &str) -> &Self {
        self.routes.lock().unwrap().remove(path);
        self
    }

    /// Takes out the requests that came, whole.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.got.lock().unwrap())
    }

    fn serve(&self, mut stream: std::net::TcpStream) {
        use std::io::{Read as _, Write as _};
        let mut request = Vec::new();
        while !is_whole(&request) {
            let mut piece = [0; 4096];
            match stream.read(&mut piece) {
                Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
                _ => return,
            }
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        self.got.lock().unwrap().push(text);
        let routes = self.routes.lock().unwrap();
        let answer = routes.get(&path).or_else(|| routes.get("*")).cloned();
        drop(routes);
        let (status, kind, body) = answer.unwrap_or((404, "text/plain", "no such path".to_owned()));
        let _gone = write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
    }
}

/// Whether a request's head and body are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.is_none_or(|length| body.len() >= length.trim().parse().unwrap())
}

/// The host, and what is left of the looks before.
pub(super) struct Trial {
    host: Host,
    memory: Remembered,
    past: Past,
}

/// What one look came to.
#[derive(Debug)]
pub(super) struct Look {
    pub facts: Facts,
    pub unread: BTreeMap<Subject, Unread>,
    pub findings: Vec<Finding>,
}

impl Look {
    /// The findings and what could not be read, as `subject: code`, and whether they are settled.
    pub fn codes(&self) -> Vec<String> {
        let line = |subject: &Subject, code: &str| {
            if subject.is_none() { code.to_owned() } else { format!("{subject}: {code}") }
        };
        let found = self.findings.iter().map(|finding| line(&finding.subject, finding.code.as_str()));
        found.chain(self.unread.iter().map(|(subject, unread)| line(subject, unread.code.as_str()))).collect()
    }
    /// What the first finding says.
    pub fn said(&self) -> &str {
        self.findings.first().map_or("", |finding| finding.said.as_str())
    }
    pub fn number(&self, subject: &str, name: &'static str) -> Option<f64> {
        self.facts.number(&Subject::new(subject), name)
    }
    pub fn flag(&self, subject: &str, name: &'static str) -> Option<bool> {
        self.facts.flag(&Subject::new(subject), name)
    }
    /// The gauges that are beyond an edge, as `subject code: what it says`, the graver edge alone.
    pub fn bands(&self) -> Vec<String> {
        let mut bands = Vec::new();
        for (subject, _, fact) in self.facts.iter() {
            let (Class::Gauge(scale), Some(value)) = (&fact.class, fact.value.number()) else { continue };
            let beyond = |edge: &&Edge| match scale.worse {
                Worse::Above => value > edge.at,
                Worse::Below => value < edge.at,
            };
            if let Some(edge) = scale.fail.iter().chain(&scale.warn).find(beyond) {
                bands.push(format!("{subject} {}: {}", edge.code, scale.says).trim_start().to_owned());
            }
        }
        bands
    }
    /// Everything that is not as it should be: findings, what could not be read, and bands.
    pub fn trouble(&self) -> Vec<String> {
        let line = |subject: &Subject, code: &str, said: &crate::redact::Clean| {
            format!("{subject} {code}: {said}").trim_start().to_owned()
        };
        let found = self.findings.iter().map(|found| line(&found.subject, found.code.as_str(), &found.said));
        let unread = self.unread.iter().map(|(subject, unread)| line(subject, unread.code.as_str(), &unread.said));
        found.chain(unread).chain(self.bands()).collect()
    }
    pub fn text(&self, subject: &str, name: &'static str) -> Option<&str> {
        self.facts.text(&Subject::new(subject), name).map(crate::redact::Clean::as_str)
    }
}

impl Trial {
    pub fn new(dir: &Path) -> Self {
        Self { host: Host::for_tests(dir), memory: Remembered::default(), past: Past::default() }
    }
    pub fn past(&mut self) -> &mut Past {
        &mut self.past
    }
    pub fn host(&mut self) -> &mut Host {
        &mut self.host
    }

    /// One look so many seconds after the machine's present.
    pub fn look_in<K: Kind>(&mut self, settings: &K::Settings, seconds: i64) -> Result<Look, Unread> {
        let mut now = self.host.now();
        now.wall += jiff::SignedDuration::from_secs(seconds);
        self.look_at::<K>(settings, now)
    }

    /// One look with the machine's clocks.
    pub fn look<K: Kind>(&mut self, settings: &K::Settings) -> Result<Look, Unread> {
        let now = self.host.now();
        self.look_at::<K>(settings, now)
    }

    /// One look at a time. Whatever it finds has to be documented by the kind.
    pub fn look_at<K: Kind>(&mut self, settings: &K::Settings, now: Now) -> Result<Look, Unread> {
        self.look_within::<K>(settings, now, Duration::from_secs(20))
    }

    pub fn look_within<K: Kind>(&mut self, settings: &K::Settings, now: Now, within: Duration) -> Result<Look, Unread> {
        let Host { clock, env, paths, .. } = &self.host;
        let host = Arc::new(Host::new(*clock, env.clone(), paths.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let fetched = runtime.block_on(async {
            let cx = Cx::new(
                CheckName::try_from("tried").unwrap(),
                now,
                Instant::now() + within,
                Arc::new(self.past.clone()),
                Arc::new(self.memory.clone()),
                records(Vec::new()),
                host,
            );
            K::fetch(settings, &cx).await
        });
        runtime.shutdown_background();
        let Fetched { facts, unread, remember, baseline } = fetched.inspect_err(documented::<K>)?;
        unread.values().for_each(documented::<K>);
        let findings = K::assess(settings, &facts, &self.past, now.wall);
        for finding in &findings {
            let doc = K::DOC.reason(finding.code.as_str()).unwrap_or_else(|| panic!("{finding:?} is not documented"));
            assert_eq!(doc.outcome, ReasonOutcome::from(finding.weight), "{finding:?}");
        }
        for (subject, name, fact) in facts.iter() {
            let doc = K::DOC.facts.iter().find(|doc| doc.name == name.as_str() || doc.name == "*");
            assert!(doc.is_some(), "the fact {name} of {subject} is not documented");
            if let Class::Gauge(scale) = &fact.class {
                for edge in scale.warn.iter().chain(&scale.fail) {
                    let doc = K::DOC.reason(edge.code.as_str()).unwrap_or_else(|| panic!("{edge:?} is not documented"));
                    assert_eq!(doc.settled, edge.settled, "{edge:?}");
                }
            }
        }
        self.memory.take_in(remember);
        if let Ok(known) = &mut self.past.baselines {
            for subject in baseline.subjects() {
                let mut facts = baseline.clone();
                facts.retain(|of, _, _| *of == subject);
                let why = crate::redact::Clean::default();
                let taken = Baseline { at: now.wall, observed: now.wall, by: None, why, facts };
                known.entry(subject).or_insert(Ok(taken));
            }
        }
        self.past.read = Some((now.wall, facts.clone()));
        Ok(Look { facts, unread, findings })
    }
}

fn documented<K: Kind>(unread: &Unread) {
    let doc = K::DOC.reason(unread.code.as_str()).unwrap_or_else(|| panic!("{unread:?} is not documented"));
    assert_eq!(doc.outcome, ReasonOutcome::Unknown(unread.blame), "{unread:?}");
}

/// The settings of a table.
pub(super) fn settings<K: Kind>(toml: &str) -> K::Settings {
    let settings = toml::from_str(toml).unwrap();
    K::validate(&settings, &mut |key, why| panic!("{key}: {why}"));
    settings
}

/// What is wrong with a table: `key: why`, or what serde says.
pub(super) fn problems<K: Kind>(toml: &str) -> Vec<String> {
    match toml::from_str(toml) {
        Ok(settings) => {
            let mut problems = Vec::new();
            K::validate(&settings, &mut |key, why| problems.push(format!("{key}: {why}")));
            problems
        }
        Err(error) => vec![error.message().to_owned()],
    }
}
