//! What the tests of several kinds stand on: records and memory that hold what a test gave them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

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

/// The example of a kind's documentation is a table of that kind, and nothing in it contradicts itself.
pub(super) fn example_parses<K: Kind>() {
    let table: toml::Table = toml::from_str(K::DOC.example).unwrap();
    let (_, check) = table["check"].as_table().unwrap().iter().next().unwrap();
    let mut check = check.as_table().unwrap().clone();
    assert_eq!(check.remove("kind"), Some(K::DOC.name.into()));
    let settings: K::Settings = check.try_into().unwrap();
    K::validate(&settings, &mut |key, why| panic!("{key}: {why}"));
}
