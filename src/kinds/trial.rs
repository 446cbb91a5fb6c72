//! A kind tried on a host of the test's own: look after look, with what it remembers in between.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::testing::{Remembered, records};
use super::{Cx, Fetched, Kind, Past, ReasonOutcome};
use crate::clock::Now;
use crate::facts::{CheckName, Class, Facts, Finding, Subject, Unread};
use crate::host::Host;

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
    pub fn text(&self, subject: &str, name: &'static str) -> Option<&str> {
        self.facts.text(&Subject::new(subject), name).map(crate::redact::Clean::as_str)
    }
}

impl Trial {
    pub fn new(dir: &Path) -> Self {
        Self { host: Host::for_tests(dir), memory: Remembered::default(), past: Past::default() }
    }
    pub fn host(&mut self) -> &mut Host {
        &mut self.host
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
        let Fetched { facts, unread, remember } = fetched.inspect_err(documented::<K>)?;
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
