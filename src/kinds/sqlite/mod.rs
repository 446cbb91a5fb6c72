//! The kind `sqlite`: one read-only query on a SQLite file that somebody else owns.

mod facts;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::common::{FILE_REASONS, LANE_REASONS, MISSING, SQLITE_REASONS};
use super::rows::{self, Versions};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, remote};
use crate::clean;
use crate::expr::{Expr, Place};
use crate::facts::{Blame, Facts, Finding, Subject, Unit, Unread, Weight};
use crate::settings::PathGlob;

/// Rows of an answer that are looked at.
const MAX_ROWS: usize = 200;

/// What `expect` may use: `rows` (a list of maps by column, at most 200), `row` (the first of them, an empty map where
/// there is none) and `now`.
#[derive(Debug, Clone, Copy)]
pub struct SqlitePlace;
impl Place for SqlitePlace {
    const NAMES: &'static [&'static str] = &["rows", "row", "now"];
}

/// The kind.
pub struct Sqlite;

/// Settings of `sqlite`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The database file. Nothing is left beside it and its owner is not held up, whether it is in use or at rest.
    pub path: PathGlob,
    /// The values of `PRAGMA user_version` that the query was written for: one, a range (`"17-19"`) or a list. Any other is
    /// unknown, not a pass.
    pub user_version: Option<Versions>,
    /// One SELECT. Numbers become gauges, text becomes info, under the names of the columns (`AS name`). `:now` stands for
    /// the time of the look in seconds since 1970.
    pub query: String,
    /// The column whose text names the subject of each row. Without it the query gives one row.
    pub subject: Option<String>,
    /// Warn when the value is above. The four edges are for the only column beside `subject`; where there are several, each
    /// has its own under `columns`.
    pub warn_above: Option<f64>,
    /// Fail when the value is above.
    pub fail_above: Option<f64>,
    /// Warn when the value is below.
    pub warn_below: Option<f64>,
    /// Fail when the value is below.
    pub fail_below: Option<f64>,
    /// What the value counts.
    pub unit: Option<UnitWord>,
    /// What the value is, in words: `failed tasks` reads `failed tasks: 5, expected at most 3`.
    pub says: Option<String>,
    /// What the columns are, by name.
    #[serde(default)]
    pub columns: BTreeMap<String, Column>,
    /// Fail when the query gives fewer rows.
    pub min_rows: Option<u32>,
    /// Fail when the query gives more rows; 0 where each row is trouble.
    pub max_rows: Option<u32>,
    /// CEL over `rows`, `row` and `now`; false is a fail.
    pub expect: Option<Expr<SqlitePlace>>,
}

/// What one column is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// How its values are compared: by default numbers are gauges and text is info.
    pub class: Option<ClassWord>,
    /// Warn when the number is above.
    pub warn_above: Option<f64>,
    /// Fail when the number is above.
    pub fail_above: Option<f64>,
    /// Warn when the number is below.
    pub warn_below: Option<f64>,
    /// Fail when the number is below.
    pub fail_below: Option<f64>,
    /// What the number counts.
    pub unit: Option<UnitWord>,
    /// What the number is, in words.
    pub says: Option<String>,
}

impl Column {
    fn edges(&self) -> [Option<f64>; 4] {
        [self.warn_above, self.fail_above, self.warn_below, self.fail_below]
    }
    fn has_edges(&self) -> bool {
        self.edges().iter().any(Option::is_some)
    }
    /// What is wrong with its edges, and at which.
    fn problem(&self) -> Option<(&'static str, &'static str)> {
        let both = |one: Option<f64>, other: Option<f64>| one.zip(other);
        let above = self.warn_above.or(self.fail_above).is_some();
        if above && self.warn_below.or(self.fail_below).is_some() {
            let key = if self.warn_below.is_some() { "warn_below" } else { "fail_below" };
            return Some((key, "edges above and below exclude each other (make it two columns or two checks)"));
        }
        if self.edges().iter().flatten().any(|edge| !edge.is_finite()) {
            return Some(("fail_above", "expected finite numbers"));
        }
        if both(self.warn_above, self.fail_above).is_some_and(|(warn, fail)| fail <= warn) {
            return Some(("fail_above", "`fail_above` must be above `warn_above`"));
        }
        if both(self.warn_below, self.fail_below).is_some_and(|(warn, fail)| fail >= warn) {
            return Some(("fail_below", "`fail_below` must be below `warn_below`"));
        }
        None
    }
}

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClassWord {
    /// Every change is a change.
    State,
    /// A number that matters by its edges.
    Gauge,
    /// Shown, never compared.
    Info,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UnitWord {
    /// Things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// Percent.
    Percent,
    /// US dollars.
    Usd,
    /// Degrees Celsius.
    Celsius,
}

impl From<UnitWord> for Unit {
    fn from(word: UnitWord) -> Self {
        match word {
            UnitWord::Count => Self::None,
            UnitWord::Seconds => Self::Seconds,
            UnitWord::Bytes => Self::Bytes,
            UnitWord::Percent => Self::Percent,
            UnitWord::Usd => Self::Usd,
            UnitWord::Celsius => Self::Celsius,
        }
    }
}

impl Settings {
    /// The edges of the only value, as a column's.
    fn only_value(&self) -> Column {
        Column {
            class: None,
            warn_above: self.warn_above,
            fail_above: self.fail_above,
            warn_below: self.warn_below,
            fail_below: self.fail_below,
            unit: self.unit,
            says: self.says.clone(),
        }
    }
}

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}
const fn found(code: &'static str, outcome: ReasonOutcome, about: &'static str) -> ReasonDoc {
    let action = "look at what the query shows";
    ReasonDoc { code, outcome, settled: false, about, action, needs_human: false }
}
const fn blind(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    let outcome = ReasonOutcome::Unknown(Blame::Blind);
    ReasonDoc { code, outcome, settled: true, about, action, needs_human: true }
}

const REASONS: &[ReasonDoc] = &[
    found("high", ReasonOutcome::Warn, "a number is above `warn_above`"),
    found("too_high", ReasonOutcome::Fail, "a number is above `fail_above`"),
    found("low", ReasonOutcome::Warn, "a number is below `warn_below`"),
    found("too_low", ReasonOutcome::Fail, "a number is below `fail_below`"),
    found("too_many", ReasonOutcome::Fail, "there are more rows than `max_rows`"),
    found("too_few", ReasonOutcome::Fail, "there are fewer rows than `min_rows`"),
    found("expectation_failed", ReasonOutcome::Fail, "`expect` does not hold"),
    found(
        "no_value",
        ReasonOutcome::Unknown(Blame::Target),
        "there is no row, or a number that has edges is null (`coalesce(…, 0)` where that is well)",
    ),
    blind(
        "unclear_answer",
        "the answer does not fit `subject` and `columns`: a column is missing or no number, a subject comes twice, or there \
         are several rows or values and nothing says which is which",
        "correct `query`, `subject` or `columns`",
    ),
    blind("answer_too_long", "there are more than 200 rows", "let the query count them, or give it a LIMIT"),
    blind("expectation_error", "`expect` could not be evaluated over this answer", "correct `expect`"),
];

impl Kind for Sqlite {
    const DOC: KindDoc = KindDoc {
        name: "sqlite",
        about: "One read-only query on a SQLite file that somebody else owns. Nothing is written beside the file, no lock \
                holds its owner up, and what is committed in its log counts; what is locked, damaged or of another schema \
                is unknown, with the reason. At most 200 rows are looked at.",
        subjects: "with `subject`: each row by that column",
        facts: &[
            fact("row_count", "gauge", "how many rows there are; bands by `min_rows` or `max_rows`"),
            fact("as_expected", "info", "whether `expect` holds"),
            fact(
                "*",
                "gauge",
                "each column by its name: a number is a gauge, text is info (foreign), or as `columns` says",
            ),
        ],
        reasons: &[REASONS, SQLITE_REASONS, MISSING, FILE_REASONS, LANE_REASONS],
        example: r#"[check.failed-tasks]
kind = "sqlite"
path = "~/agent/tasks.db"
user_version = "3-4"
query = "SELECT count(*) AS failed FROM tasks WHERE status = 'failed' AND ended_at > :now - 86400"
says = "tasks that failed within a day"
fail_above = 5
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.path.is_glob() {
            report("path", "expected the path of one file, without wildcards".to_owned());
        }
        if let Some(said) = rows::query_problem(&settings.query) {
            report("query", said.to_owned());
        }
        let only = settings.only_value();
        if let Some((key, said)) = only.problem() {
            report(key, said.to_owned());
        }
        if only.has_edges() && settings.columns.values().any(Column::has_edges) {
            report("columns", "edges stand in `columns` or beside `query`, not in both".to_owned());
        }
        for (name, column) in &settings.columns {
            if let Some((key, said)) = column.problem() {
                report(&format!("columns.{name}.{key}"), said.to_owned());
            }
            if column.has_edges() && column.class.is_some_and(|class| class != ClassWord::Gauge) {
                report(&format!("columns.{name}.class"), "only a gauge has edges".to_owned());
            }
            if settings.subject.as_ref() == Some(name) {
                report(&format!("columns.{name}"), "the column of `subject` names things and is no fact".to_owned());
            }
        }
        if settings.min_rows.is_some() && settings.max_rows.is_some() {
            report("max_rows", "`min_rows` and `max_rows` exclude each other (make it two checks)".to_owned());
        }
        if settings.max_rows.is_some_and(|most| usize::try_from(most).unwrap_or(usize::MAX) >= MAX_ROWS) {
            report("max_rows", format!("expected less than {MAX_ROWS} (let the query count them)"));
        }
        if settings.min_rows.is_some_and(|least| usize::try_from(least).unwrap_or(usize::MAX) > MAX_ROWS) {
            report("min_rows", format!("expected at most {MAX_ROWS} (let the query count them)"));
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let path = cx.host.expand(settings.path.as_str());
        let (settings, now, deadline) = (settings.clone(), cx.now.wall, remote::stop_at(cx));
        let about = path.to_string_lossy().into_owned();
        let look = move || {
            let (versions, query) = (settings.user_version.as_ref(), &settings.query);
            let answer = rows::ask(&path, versions, query, MAX_ROWS, now, deadline)?;
            facts::fetched(&settings, &answer, now)
        };
        cx.host.lane(&about, cx.deadline, look).await?
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        if facts.flag(&Subject::none(), "as_expected") != Some(false) {
            return Vec::new();
        }
        let expect = settings.expect.as_ref().map(Expr::source).unwrap_or_default();
        let said = clean!("what the query gives is not as expected: `{expect}` does not hold");
        vec![Finding::new("expectation_failed", Weight::Fail, false, said)]
    }
}
