//! What the tests of several kinds stand on: records and memory that hold what a test gave them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Cx, Kind, Memory, Past, Records};
use crate::clock::Now;
use crate::facts::{CheckName, Unread};
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
    let deadline = tokio::time::Instant::now() + within;
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

/// Whether a request's head and body are there.
fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    length.is_none_or(|length| body.len() >= length.trim().parse().unwrap())
}

/// The example of a kind's documentation is a table of that kind, and nothing in it contradicts itself.
pub(super) fn example_parses<K: Kind>() {
    let table: toml::Table = toml::from_str(K::DOC.example).unwrap();
    let (_, check) = table["check"].as_table().unwrap().iter().next().unwrap();
    let mut check = check.as_table().unwrap().clone();
    assert_eq!(check.remove("kind"), Some(K::DOC.name.into()));
    let settings: K::Settings = check.try_into().unwrap();
    let mut problems = Vec::new();
    K::validate(&settings, &mut |key, why| problems.push(format!("{key}: {why}")));
    assert!(problems.is_empty(), "{problems:?}");
}
