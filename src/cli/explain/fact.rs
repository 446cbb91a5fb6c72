//! A fact as it is explained: its value in its unit, how it is compared, its bands and the one it is in.

use serde::Serialize;
use serde_json::Value as Json;

use super::super::table::moment;
use super::super::view::View;
use crate::facts::{Class, Edge, Fact, FactName, Scale, Unit, Value, Worse};
use crate::judge::incident::Band;
use crate::kinds::KindDoc;
use crate::redact::Clean;
use crate::words::human;

/// Members of a set that are shown.
const MEMBERS: usize = 8;

/// One fact.
#[derive(Debug, Serialize)]
pub(super) struct FactRow {
    pub name: String,
    value: Json,
    pub shown: String,
    pub class: &'static str,
    foreign: bool,
    pub about: &'static str,
    band: Option<&'static str>,
    worse: Option<&'static str>,
    warn_at: Option<f64>,
    fail_at: Option<f64>,
    #[serde(skip)]
    pub bands: String,
}

impl FactRow {
    pub(super) fn new(name: &FactName, fact: &Fact, band: Band, doc: Option<&'static KindDoc>, view: &View) -> Self {
        let scale = match &fact.class {
            Class::Gauge(scale) | Class::Counter(scale) => Some(scale),
            Class::State | Class::Set | Class::Info => None,
        };
        let scale = scale.filter(|scale| scale.warn.is_some() || scale.fail.is_some());
        let rate = matches!(fact.class, Class::Counter(_));
        Self {
            name: name.to_string(),
            value: json(&fact.value, view),
            shown: shown(name, fact, view),
            class: class(&fact.class),
            foreign: fact.foreign,
            about: doc.map_or("", |doc| about(doc, name)),
            band: scale.map(|_| word(band)),
            worse: scale.map(|scale| if scale.worse == Worse::Above { "above" } else { "below" }),
            warn_at: scale.and_then(|scale| scale.warn.as_ref()).map(|edge| edge.at),
            fail_at: scale.and_then(|scale| scale.fail.as_ref()).map(|edge| edge.at),
            bands: scale.map_or_else(String::new, |scale| bands(scale, band, rate)),
        }
    }
}

fn class(class: &Class) -> &'static str {
    match class {
        Class::State => "state",
        Class::Gauge(_) => "gauge",
        Class::Set => "set",
        Class::Counter(_) => "counter",
        Class::Info => "info",
    }
}

fn word(band: Band) -> &'static str {
    match band {
        Band::Ok => "ok",
        Band::Warn => "warn",
        Band::Fail => "fail",
    }
}

fn about(doc: &'static KindDoc, name: &FactName) -> &'static str {
    let is = |documented: &str| match documented.strip_suffix('*') {
        Some(prefix) => name.as_str().starts_with(prefix),
        None => documented == name.as_str(),
    };
    doc.facts.iter().find(|fact| is(fact.name)).map_or("", |fact| fact.about)
}

/// `warn above 80.0 %, fail above 90.0 %; now warn`.
fn bands(scale: &Scale, band: Band, rate: bool) -> String {
    let direction = if scale.worse == Worse::Above { "above" } else { "below" };
    let hourly = if rate { " an hour" } else { "" };
    let edge = |name: &str, edge: &Option<Edge>| {
        edge.as_ref().map(|edge| format!("{name} {direction} {}{hourly}", human(edge.at, scale.unit)))
    };
    let edges: Vec<String> = [edge("warn", &scale.warn), edge("fail", &scale.fail)].into_iter().flatten().collect();
    format!("{}; now {}", edges.join(", "), word(band))
}

fn json(value: &Value, view: &View) -> Json {
    match value {
        Value::Text(text) => Json::from(text.as_str()),
        Value::Flag(flag) => Json::from(*flag),
        Value::Int(n) => Json::from(*n),
        Value::Real(x) => Json::from(*x),
        Value::At(at) => Json::from(view.rfc(*at)),
        Value::Set(members) => members.iter().map(Clean::as_str).collect(),
    }
}

fn shown(name: &FactName, fact: &Fact, view: &View) -> String {
    let text = |text: &Clean| if fact.foreign { text.quoted() } else { Clean::line(text.as_str(), 200) }.to_string();
    match &fact.value {
        Value::Text(said) => text(said),
        Value::Flag(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::At(at) => moment(*at, view.now, &view.config.zone),
        Value::Set(members) if members.is_empty() => "none".to_owned(),
        Value::Set(members) => {
            let first: Vec<String> = members.iter().take(MEMBERS).map(text).collect();
            let more = members.len().saturating_sub(MEMBERS);
            let more = if more > 0 { format!(", +{more} more") } else { String::new() };
            format!("{}: {}{more}", members.len(), first.join(", "))
        }
        number @ (Value::Int(_) | Value::Real(_)) => {
            let (unit, factor) = unit(name, &fact.class);
            human(number.number().unwrap_or_default() * factor, unit)
        }
    }
}

/// The scale's unit; without one, the unit that the name ends in.
fn unit(name: &FactName, class: &Class) -> (Unit, f64) {
    if let Class::Gauge(scale) | Class::Counter(scale) = class
        && scale.unit != Unit::None
    {
        return (scale.unit, 1.0);
    }
    match name.as_str().rsplit('_').next() {
        Some("bytes") => (Unit::Bytes, 1.0),
        Some("s" | "secs" | "seconds") => (Unit::Seconds, 1.0),
        Some("ms") => (Unit::Seconds, 0.001),
        Some("pct" | "percent") => (Unit::Percent, 1.0),
        Some("usd") => (Unit::Usd, 1.0),
        _ => (Unit::None, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_come_from_the_scale_or_the_name() {
        for (name, class, unit_of) in [
            ("size_bytes", Class::Info, Unit::Bytes),
            ("age_s", Class::Info, Unit::Seconds),
            ("latency_ms", Class::State, Unit::Seconds),
            ("used_pct", Class::Info, Unit::Percent),
            ("left", Class::Gauge(Box::new(Scale::plain(Unit::Usd))), Unit::Usd),
            ("status", Class::State, Unit::None),
        ] {
            assert_eq!(unit(&FactName::from(name), &class).0, unit_of, "{name}");
        }
    }

    #[test]
    fn bands_in_words() {
        let edge = |at: f64| Some(Edge { at, code: "full".into(), settled: false });
        let scale = Scale { warn: edge(80.0), fail: edge(90.0), ..Scale::plain(Unit::Percent) };
        assert_eq!(bands(&scale, Band::Warn, false), "warn above 80.0 %, fail above 90.0 %; now warn");
        let scale = Scale { worse: Worse::Below, warn: edge(86_400.0), ..Scale::plain(Unit::Seconds) };
        assert_eq!(bands(&scale, Band::Ok, true), "warn below 1 d an hour; now ok");
    }
}
