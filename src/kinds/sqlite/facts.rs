//! From the rows of an answer to facts. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value as Json;

use super::{ClassWord, Column, MAX_ROWS, Settings};
use crate::clean;
use crate::expr::Val;
use crate::facts::{Class, Edge, Facts, Scale, Subject, Unit, Unread, Value, Worse};
use crate::kinds::Fetched;
use crate::kinds::rows::Answer;
use crate::redact::Clean;
use crate::words::human;

/// A text that is a fact or names a subject.
const MAX_TEXT_BYTES: usize = 1_024;

/// The facts of an answer, and what of it could not be read.
pub(super) fn fetched(settings: &Settings, answer: &Answer, now: Timestamp) -> Result<Fetched, Unread> {
    let me = &Subject::none();
    let mut fetched = Fetched::default();
    if settings.subject.is_some() || answer.rows.len() == 1 {
        let plan = Plan::new(settings, answer)?;
        for row in &answer.rows {
            plan.put(row, &mut fetched)?;
        }
    } else if answer.rows.is_empty() && !bounded(settings) {
        return Err(Unread::target("no_value", clean!("the query gives no row")));
    } else if !bounded(settings) {
        return Err(unclear(clean!("the query gives {} rows, and `subject` is not set", answer.rows.len())));
    }
    let rows = answer.rows.len();
    fetched.facts.gauge(me, "row_count", rows, row_scale(settings, rows, answer.more));
    if answer.more && settings.max_rows.is_none() {
        let said = clean!("the query gives more than {MAX_ROWS} rows");
        fetched.unread.insert(me.clone(), Unread::blind("answer_too_long", said));
    } else if let Some(expect) = &settings.expect {
        match expect.holds(&vars(answer, now)) {
            Ok(holds) => fetched.facts.info(me, "as_expected", holds),
            Err(why) => {
                let said = clean!("`expect` could not be evaluated: {why}");
                fetched.unread.insert(me.clone(), Unread::blind("expectation_error", said));
            }
        }
    }
    Ok(fetched)
}

/// Whether something is said about rows as such, so that it need not be one row.
fn bounded(settings: &Settings) -> bool {
    settings.expect.is_some() || settings.min_rows.is_some() || settings.max_rows.is_some()
}

fn unclear(said: Clean) -> Unread {
    Unread::blind("unclear_answer", said)
}

fn vars(answer: &Answer, now: Timestamp) -> BTreeMap<&'static str, Val> {
    let map = |row: &Vec<Json>| Val::Map(answer.columns.iter().cloned().zip(row.iter().map(Val::from)).collect());
    let row = answer.rows.first().map_or_else(|| Val::Map(BTreeMap::new()), map);
    BTreeMap::from([("rows", Val::List(answer.rows.iter().map(map).collect())), ("row", row), ("now", Val::Time(now))])
}

/// What the columns of one answer are.
struct Plan<'a> {
    subject: Option<usize>,
    columns: Vec<(usize, &'a str, Column)>,
}

impl<'a> Plan<'a> {
    fn new(settings: &Settings, answer: &'a Answer) -> Result<Self, Unread> {
        let missing = |name: &str| unclear(clean!("the query gives no column `{}`", Clean::line(name, 64)));
        if let Some(name) = settings.columns.keys().find(|name| answer.column(name).is_none()) {
            return Err(missing(name));
        }
        let subject = match &settings.subject {
            Some(name) => Some(answer.column(name).ok_or_else(|| missing(name))?),
            None => None,
        };
        let values: Vec<(usize, &str)> =
            answer.columns.iter().map(String::as_str).enumerate().filter(|(at, _)| Some(*at) != subject).collect();
        let only = settings.only_value();
        if only.has_edges() && values.len() != 1 {
            return Err(unclear(clean!(
                "the query gives {} values, and `columns` doesn't say whose edges",
                values.len()
            )));
        }
        let columns = values.iter().map(|(at, name)| {
            let column = settings.columns.get(*name).cloned().unwrap_or_default();
            let column = if values.len() == 1 && !column.has_edges() { merged(column, &only) } else { column };
            (*at, *name, column)
        });
        Ok(Self { subject, columns: columns.collect() })
    }

    fn put(&self, row: &[Json], fetched: &mut Fetched) -> Result<(), Unread> {
        let subject = match self.subject.and_then(|at| row.get(at)) {
            None => Subject::none(),
            Some(name) => {
                let subject = Subject::new(&text(name));
                if subject.is_none()
                    || fetched.facts.of(&subject).next().is_some()
                    || fetched.unread.contains_key(&subject)
                {
                    let said = clean!("the subject {} is empty or comes twice", Clean::line(&text(name), 80).quoted());
                    return Err(unclear(said));
                }
                subject
            }
        };
        for (at, name, column) in &self.columns {
            if let Err(unread) = put(&mut fetched.facts, &subject, name, row.get(*at).unwrap_or(&Json::Null), column) {
                fetched.unread.insert(subject.clone(), unread);
            }
        }
        Ok(())
    }
}

/// A column that says something of its own, and the rest from beside the query.
fn merged(column: Column, only: &Column) -> Column {
    Column {
        class: column.class,
        unit: column.unit.or(only.unit),
        says: column.says.or_else(|| only.says.clone()),
        ..only.clone()
    }
}

fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Null => String::new(),
        other => other.to_string(),
    }
}

fn put(facts: &mut Facts, subject: &Subject, name: &str, value: &Json, column: &Column) -> Result<(), Unread> {
    let label = Clean::line(name, 64);
    if value.is_null() {
        return if column.has_edges() { Err(Unread::target("no_value", clean!("`{label}` is null"))) } else { Ok(()) };
    }
    let wants_number = column.has_edges() || column.class == Some(ClassWord::Gauge);
    let number = match value {
        Json::Number(number) => number.as_i64().map(Value::Int).or_else(|| number.as_f64().map(Value::Real)),
        Json::String(digits) if wants_number => {
            digits.trim().parse().ok().filter(|n: &f64| n.is_finite()).map(Value::Real)
        }
        _ => None,
    };
    let name = name.to_owned();
    match (number, column.class) {
        (Some(number), None | Some(ClassWord::Gauge)) => {
            let scale = scale(&label, &number, column);
            facts.gauge(subject, name, number, scale);
        }
        (None, _) if wants_number => return Err(unclear(clean!("`{label}` is no number"))),
        (Some(number), Some(ClassWord::State)) => facts.state(subject, name, number),
        (Some(number), Some(ClassWord::Info)) => facts.info(subject, name, number),
        (None, class) => {
            let class = if class == Some(ClassWord::State) { Class::State } else { Class::Info };
            facts.put_foreign(subject, name, Clean::text(&text(value), MAX_TEXT_BYTES), class);
        }
    }
    Ok(())
}

fn scale(name: &Clean, value: &Value, column: &Column) -> Scale {
    let unit = column.unit.map_or(Unit::None, Unit::from);
    if !column.has_edges() {
        return Scale::plain(unit);
    }
    let edge = |at: Option<f64>, code: &'static str| at.map(|at| Edge { at, code: code.into(), settled: false });
    let above = column.warn_above.or(column.fail_above);
    let (worse, warn, fail) = match above {
        Some(_) => (Worse::Above, edge(column.warn_above, "high"), edge(column.fail_above, "too_high")),
        None => (Worse::Below, edge(column.warn_below, "low"), edge(column.fail_below, "too_low")),
    };
    let nearest = above.or(column.warn_below).or(column.fail_below).unwrap_or_default();
    let most = if above.is_some() { "at most" } else { "at least" };
    let label = match &column.says {
        Some(says) => clean!("{}:", Clean::line(says, 120)),
        None => clean!("`{name}` is"),
    };
    let value = human(value.number().unwrap_or_default(), unit);
    let says = clean!("{label} {value}, expected {most} {}", human(nearest, unit));
    Scale { unit, worse, warn, fail, says, episode: None }
}

fn row_scale(settings: &Settings, rows: usize, more: bool) -> Scale {
    let edge = |at: u32, code: &'static str| Some(Edge { at: f64::from(at), code: code.into(), settled: false });
    let (worse, fail, bound) = match (settings.min_rows, settings.max_rows) {
        (Some(least), _) => (Worse::Below, edge(least, "too_few"), format!("at least {least}")),
        (None, Some(most)) => (Worse::Above, edge(most, "too_many"), format!("at most {most}")),
        (None, None) => return Scale::plain(Unit::None),
    };
    let label = settings.says.as_ref().filter(|_| !settings.only_value().has_edges());
    let label = label.map_or_else(|| clean!("rows"), |says| Clean::line(says, 120));
    let more = if more { "more than " } else { "" };
    Scale { fail, says: clean!("{label}: {more}{rows}, expected {bound}"), worse, ..Scale::plain(Unit::None) }
}
