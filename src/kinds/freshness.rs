//! The kind `freshness`: whether something is still being written under a path, while a condition holds.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{FILE_REASONS, LANE_REASONS};
use super::ledger::Ledger;
use super::rule::{RulePlace, vars};
use super::words::JobName;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, Records};
use crate::clean;
use crate::expr::Expr;
use crate::facts::{Blame, Class, Edge, Facts, Finding, Scale, Subject, Unit, Unread, Value, Weight, Worse};
use crate::host::files;
use crate::read::tree::{MAX_DEPTH, MAX_ENTRIES, Newest, newest};
use crate::settings::{Dur, PathGlob};
use crate::words::span;

/// Paths of a glob that are looked under.
const MAX_ROOTS: usize = 10_000;
/// A time this far ahead is no skew between clocks any more.
const FUTURE_SLACK: SignedDuration = SignedDuration::from_mins(5);

/// The kind.
pub struct Freshness;

/// The settings of the kind `freshness`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A file, a folder (all that lies in it counts), or a glob of them.
    pub path: PathGlob,
    /// How old the newest file may get.
    pub max_age: Dur,
    /// CEL over `checks` and `now`: only while it holds does age matter.
    #[serde(rename = "while")]
    pub while_: Option<Expr<RulePlace>>,
    /// Only while this job runs does age matter.
    pub while_job: Option<JobName>,
}

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}

impl Kind for Freshness {
    const DOC: KindDoc = KindDoc {
        name: "freshness",
        about: "Whether something is still being written: the age of the newest file under a path, which matters only \
                while a condition holds. A job that has just begun has the whole of `max_age` to write. Files count, folders' own times don't; links in folders are not \
                followed; 100,000 entries and 16 levels are looked at.",
        subjects: "",
        facts: &[
            fact(
                "age_s",
                "gauge",
                "seconds since the newest file was written, or since `while_job` began if that was later; over `max_age` it is `stale`",
            ),
            fact("newest", "info", "the newest file, foreign"),
            fact("modified", "info", "when it was written"),
            fact("files", "info", "how many files were seen"),
            fact("condition", "info", "whether `while` and `while_job` hold; without them it always does"),
            fact("cut", "info", "whether there is more than is looked at"),
            fact("unreadable_folders", "info", "folders that could not be looked into"),
        ],
        reasons: &[
            &[
                ReasonDoc {
                    code: "stale",
                    outcome: ReasonOutcome::Fail,
                    settled: true,
                    about: "nothing was written for longer than `max_age` while the condition held",
                    action: "see whether what writes there still works",
                    needs_human: false,
                },
                ReasonDoc {
                    code: "missing",
                    outcome: ReasonOutcome::Fail,
                    settled: true,
                    about: "there is no file under the path while the condition held",
                    action: "correct the path or see why nothing was written",
                    needs_human: false,
                },
                ReasonDoc {
                    code: "from_the_future",
                    outcome: ReasonOutcome::Warn,
                    settled: true,
                    about: "the newest file's time is more than 5 minutes ahead, which would hide a stop",
                    action: "set the clock of the machine that wrote it",
                    needs_human: false,
                },
                ReasonDoc {
                    code: "too_many_files",
                    outcome: ReasonOutcome::Unknown(Blame::Blind),
                    settled: true,
                    about: "nothing fresh was seen, and there is more than is looked at",
                    action: "give a narrower path",
                    needs_human: true,
                },
                ReasonDoc {
                    code: "condition_error",
                    outcome: ReasonOutcome::Unknown(Blame::Blind),
                    settled: true,
                    about: "`while` could not be evaluated",
                    action: "correct `while`, or see why the checks it reads have no facts",
                    needs_human: true,
                },
            ],
            FILE_REASONS,
            LANE_REASONS,
        ],
        example: "\
[check.catalog-grows]
kind = \"freshness\"
path = \"~/catalog\"
max_age = \"30m\"
while_job = \"crawl\"
",
        thresholds_remind: false,
    };
    type Settings = Settings;
    const AFTER_OTHERS: bool = true;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.max_age.is_zero() {
            report("max_age", "expected a duration above 0s".into());
        }
    }

    fn checks_read(settings: &Settings) -> Vec<(&'static str, String)> {
        let names = settings.while_.iter().flat_map(Expr::checks_read);
        names.map(|name| ("while", name)).collect()
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let look = Look {
            settings: settings.clone(),
            path: cx.host.expand(settings.path.as_str()),
            now: cx.now.wall,
            proc: cx.host.paths.proc.clone(),
            records: Arc::clone(&cx.records),
        };
        cx.host.lane(settings.path.as_str(), cx.deadline, move || look.run()).await?
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, now: Timestamp) -> Vec<Finding> {
        assess(settings, facts, now)
    }
}

/// A fetch without its futures: all of it blocks.
struct Look {
    settings: Settings,
    path: PathBuf,
    now: Timestamp,
    proc: PathBuf,
    records: Arc<dyn Records>,
}

/// Whether the condition holds, and since when where that is known.
struct Condition {
    holds: bool,
    since: Option<Timestamp>,
}

impl Look {
    fn run(&self) -> Result<Fetched, Unread> {
        let condition = self.condition()?;
        let roots = if self.settings.path.is_glob() {
            let (roots, more) = files::glob(&self.path, MAX_ROOTS)?;
            if more && condition.holds {
                let said = clean!("the glob matches more than {MAX_ROOTS} paths");
                return Err(Unread::blind("too_many_files", said));
            }
            roots
        } else {
            vec![self.path.clone()]
        };
        let seen = newest(&roots, MAX_ENTRIES, MAX_DEPTH);
        self.facts(&condition, &seen).map(Fetched::from)
    }

    fn condition(&self) -> Result<Condition, Unread> {
        let mut condition = Condition { holds: true, since: None };
        if let Some(job) = &self.settings.while_job {
            let executions = self.records.executions(job.as_str(), 1)?;
            let running = executions.first().filter(|newest| Ledger::read(&self.proc).runs(newest));
            condition = Condition { holds: running.is_some(), since: running.map(|running| running.started) };
        }
        if let Some(expr) = self.settings.while_.as_ref().filter(|_| condition.holds) {
            let checks = self.records.checks();
            condition.holds = expr
                .holds(&vars(&checks, self.now))
                .map_err(|e| Unread::blind("condition_error", clean!("`while` could not be evaluated: {e}")))?;
        }
        Ok(condition)
    }

    fn facts(&self, condition: &Condition, seen: &Newest) -> Result<Facts, Unread> {
        let me = &Subject::none();
        let max_age = self.settings.max_age;
        let mut facts = Facts::new();
        facts.info(me, "condition", condition.holds);
        facts.info(me, "files", seen.files);
        if seen.cut {
            facts.info(me, "cut", true);
        }
        if seen.unreadable > 0 {
            facts.info(me, "unreadable_folders", seen.unreadable);
        }
        let written = seen.file.as_ref().map(|(at, _)| *at);
        // What was not looked at may be newer: then nobody can say that nothing was written.
        let fresh = written.is_some_and(|at| self.now.duration_since(at) <= max_age.signed());
        if condition.holds && !fresh && seen.unreadable > 0 {
            let said = clean!("{} of the folders could not be looked into, and nothing else is fresh", seen.unreadable);
            return Err(Unread::blind("permission_denied", said));
        }
        if condition.holds && !fresh && seen.cut {
            let said =
                clean!("only {MAX_ENTRIES} entries and {MAX_DEPTH} levels were looked at, and nothing there is fresh");
            return Err(Unread::blind("too_many_files", said));
        }
        if let Some((at, path)) = &seen.file {
            facts.put_foreign(me, "newest", &*path.to_string_lossy(), Class::Info);
            facts.info(me, "modified", *at);
        }
        // Where nothing is there yet, age counts from the job's begin.
        if let Some(from) = written.into_iter().chain(condition.since).max() {
            let age = self.now.duration_since(from).as_secs().max(0);
            facts.gauge(me, "age_s", age, self.scale(condition, age));
        }
        Ok(facts)
    }

    fn scale(&self, condition: &Condition, age: i64) -> Scale {
        if !condition.holds {
            return Scale::plain(Unit::Seconds);
        }
        let Settings { path, max_age, while_job, .. } = &self.settings;
        let during = while_job.as_ref().map_or_else(String::new, |job| format!(" while `{}` runs", job.as_str()));
        Scale {
            unit: Unit::Seconds,
            worse: Worse::Above,
            warn: None,
            fail: Some(Edge { at: max_age.as_secs_f64(), code: "stale".into(), settled: true }),
            says: clean!(
                "nothing written under `{}` for {}{during}, at most {max_age} is allowed",
                path.as_str(),
                span(age)
            ),
            episode: None,
        }
    }
}

fn assess(settings: &Settings, facts: &Facts, now: Timestamp) -> Vec<Finding> {
    let me = &Subject::none();
    if facts.flag(me, "condition") != Some(true) {
        return Vec::new();
    }
    let path = settings.path.as_str();
    match facts.get(me, "modified").map(|fact| &fact.value) {
        Some(Value::At(at)) if at.duration_since(now) > FUTURE_SLACK => {
            let ahead = span(at.duration_since(now).as_secs());
            let said = clean!("the newest file under `{path}` is {ahead} ahead of now");
            vec![Finding::new("from_the_future", Weight::Warn, true, said)]
        }
        Some(_) => Vec::new(),
        // With a job that has just begun there is an age without a file: its band speaks when the time is over.
        None if facts.get(me, "age_s").is_some() => Vec::new(),
        None => vec![Finding::new("missing", Weight::Fail, true, clean!("no file under `{path}`"))],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::ledger::tests::execution;
    use crate::kinds::testing::{at, records};
    use crate::records::Ending;

    fn settings(toml: &str) -> Settings {
        toml::from_str(toml).unwrap()
    }

    fn look(path: PathBuf, more: &str, now: i64, records: Arc<dyn Records>) -> Look {
        let settings = settings(&format!("path = '{}'\nmax_age = '10m'\n{more}", path.display()));
        Look { settings, path, now: at(now), proc: "/none".into(), records }
    }

    fn file(path: &std::path::Path, second: u64) {
        let file = std::fs::File::create(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(second)).unwrap();
    }

    /// Whether an age has an edge, and the findings' codes.
    fn verdict(look: &Look) -> (Option<(i64, bool)>, Vec<String>) {
        let facts = look.run().unwrap().facts;
        let age = facts.get(&Subject::none(), "age_s").map(|fact| match (&fact.value, &fact.class) {
            (Value::Int(age), Class::Gauge(scale)) => (*age, scale.fail.is_some()),
            other => panic!("{other:?}"),
        });
        let found = assess(&look.settings, &facts, look.now);
        (age, found.into_iter().map(|finding| finding.code.to_string()).collect())
    }

    #[test]
    fn age_matters_while_the_job_runs() {
        let root = tempfile::tempdir().unwrap();
        file(&root.path().join("a"), 1_000);
        let none: Vec<String> = Vec::new();
        for (name, executions, now, want) in [
            ("never ran", vec![], 9_000, (Some((8_000, false)), none.clone())),
            (
                "ended",
                vec![execution("crawl", 900, Some((950, Ending::Exit(0))))],
                9_000,
                (Some((8_000, false)), none.clone()),
            ),
            ("runs", vec![execution("crawl", 900, None)], 9_000, (Some((8_000, true)), none.clone())),
            ("has just begun", vec![execution("crawl", 8_900, None)], 9_000, (Some((100, true)), none.clone())),
        ] {
            let look = look(root.path().to_owned(), "while_job = 'crawl'", now, records(executions));
            assert_eq!(verdict(&look), want, "{name}");
        }
    }

    #[test]
    fn nothing_there_is_missing_unless_a_job_has_just_begun() {
        let root = tempfile::tempdir().unwrap();
        let empty = root.path().to_owned();
        assert_eq!(verdict(&look(empty.clone(), "", 5_000, records(vec![]))), (None, vec!["missing".to_owned()]));
        assert_eq!(verdict(&look(empty.join("gone"), "", 5_000, records(vec![]))), (None, vec!["missing".to_owned()]));
        let begun = records(vec![execution("crawl", 4_900, None)]);
        assert_eq!(verdict(&look(empty.clone(), "while_job = 'crawl'", 5_000, begun)), (Some((100, true)), vec![]));
        let idle = records(vec![execution("crawl", 4_900, Some((4_950, Ending::Exit(0))))]);
        assert_eq!(verdict(&look(empty, "while_job = 'crawl'", 5_000, idle)), (None, vec![]));
    }

    #[test]
    fn a_file_from_the_future_hides_no_stop() {
        let root = tempfile::tempdir().unwrap();
        file(&root.path().join("a"), 9_000);
        let seen = verdict(&look(root.path().to_owned(), "", 5_000, records(vec![])));
        assert_eq!(seen, (Some((0, true)), vec!["from_the_future".to_owned()]));
    }

    #[test]
    fn the_sentence_and_what_nobody_looked_at() {
        let look = look("/srv/catalog".into(), "while_job = 'crawl'", 10_000, records(vec![]));
        let holds = Condition { holds: true, since: Some(at(1_000)) };
        let facts = look
            .facts(&holds, &Newest { file: Some((at(4_000), "/srv/catalog/a".into())), files: 1, ..Newest::default() })
            .unwrap();
        let Class::Gauge(scale) = &facts.get(&Subject::none(), "age_s").unwrap().class else { panic!() };
        assert_eq!(
            scale.says.as_str(),
            "nothing written under `/srv/catalog` for 1 h 40 min while `crawl` runs, at most 10m is allowed"
        );
        let code = |seen: Newest| look.facts(&holds, &seen).err().map(|unread| unread.code.to_string());
        let old = Some((at(4_000), PathBuf::from("/a")));
        let fresh = Some((at(9_900), PathBuf::from("/a")));
        assert_eq!(
            code(Newest { file: old.clone(), cut: true, ..Newest::default() }).as_deref(),
            Some("too_many_files")
        );
        assert_eq!(
            code(Newest { file: old, unreadable: 1, ..Newest::default() }).as_deref(),
            Some("permission_denied")
        );
        assert_eq!(code(Newest { file: fresh, cut: true, unreadable: 1, ..Newest::default() }), None);
    }

    #[test]
    fn bad_settings_are_refused() {
        for (toml, said) in [
            ("max_age = '1m'", "missing field `path`"),
            ("path = '/a'", "missing field `max_age`"),
            ("path = 'a'\nmax_age = '1m'", "expected a path that begins with `/` or `~/`, found `a`"),
            (
                "path = '/a'\nmax_age = '1m'\nwhile_ = 'x'",
                "unknown field `while_`, expected one of `path`, `max_age`, `while`, `while_job`",
            ),
        ] {
            assert_eq!(toml::from_str::<Settings>(toml).unwrap_err().message(), said);
        }
        let mut said = Vec::new();
        Freshness::validate(&settings("path = '/a'\nmax_age = '0s'"), &mut |key, why| {
            said.push(format!("{key}: {why}"));
        });
        assert_eq!(said, ["max_age: expected a duration above 0s"]);
    }

    #[test]
    fn a_whole_look_goes_through_the_host() {
        let root = tempfile::tempdir().unwrap();
        let toml = format!("path = '{}'\nmax_age = '10m'", root.path().join("none").display());
        let look = crate::kinds::testing::Trial::new(root.path()).look::<Freshness>(&settings(&toml)).unwrap();
        assert_eq!(look.codes(), ["missing"]);
    }
}
