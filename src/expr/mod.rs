//! CEL behind one type: names declared by the place an expression stands in, compiled when the config is read, bounded
//! when evaluated.
//!
//! The crate `cel` bounds nothing by itself, so a compiled expression is rewritten (`compile`): each turn of a loop (`all`,
//! `exists`, `map` …) and each `+` passes through a function of ours that counts (`evaluate`), and `matches` finds its
//! pattern compiled.

mod compile;
mod evaluate;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

use cel::Env;

use crate::facts::{CheckName, Code, Fact, FactName, Subject, Value};
use crate::records::CheckView;
use crate::redact::Clean;
use compile::Compiled;

/// How deep a value handed in or returned may nest.
const MAX_VALUE_DEPTH: usize = 64;
/// The stack on which expressions that nest deep are parsed and evaluated: enough for every source of 4 KiB.
const LARGE_STACK_BYTES: usize = 64 << 20;

/// Functions of ours, which stand in rewritten expressions only: `@` begins no name that a user can write.
const STEP: &str = "@step";
const RANGE: &str = "@range";
const MATCHES: &str = "@matches";

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib().with_optional_support(false)));

/// A place where an expression may stand, and the names it may use there.
pub trait Place: Send + Sync + 'static {
    /// The variables.
    const NAMES: &'static [&'static str];
}

/// A compiled expression: source at most 4 KiB, unknown names refused when the config is read.
pub struct Expr<P: Place>(Arc<Compiled>, PhantomData<fn() -> P>);

/// A value handed to or returned by an expression. Whole numbers are ints, never uints.
#[derive(Debug, Clone, PartialEq)]
pub enum Val {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Double(f64),
    /// Text.
    Text(String),
    /// A list. Loops go through at most 1,000 elements; longer ones can still be measured and searched with `in`.
    List(Vec<Val>),
    /// A map with text keys; loops go through its keys in order, at most 1,000.
    Map(BTreeMap<String, Val>),
    /// A moment; expressions see whole seconds since 1970.
    Time(jiff::Timestamp),
}

impl From<&serde_json::Value> for Val {
    /// A whole number beyond 64 bits becomes a double; what lies deeper than 64 levels becomes the text `…`.
    fn from(json: &serde_json::Value) -> Self {
        from_json(json, MAX_VALUE_DEPTH)
    }
}

fn from_json(json: &serde_json::Value, depth_left: usize) -> Val {
    use serde_json::Value as Json;
    match (json, depth_left.checked_sub(1)) {
        (Json::Null, _) => Val::Null,
        (Json::Bool(b), _) => Val::Bool(*b),
        (Json::Number(n), _) => n.as_i64().map_or_else(|| Val::Double(n.as_f64().unwrap_or(f64::NAN)), Val::Int),
        (Json::String(text), _) => Val::Text(text.clone()),
        (Json::Array(_) | Json::Object(_), None) => Val::Text("…".to_owned()),
        (Json::Array(list), Some(left)) => Val::List(list.iter().map(|json| from_json(json, left)).collect()),
        (Json::Object(map), Some(left)) => {
            Val::Map(map.iter().map(|(key, json)| (key.clone(), from_json(json, left))).collect())
        }
    }
}

/// Why an expression is none, or why an evaluation gave no answer, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub Clean);

fn error(said: impl AsRef<str>) -> EvalError {
    EvalError(Clean::line(said.as_ref(), 400))
}

impl<P: Place> Expr<P> {
    /// Compiles. Refused are: a source over 4 KiB, unknown names and functions, nesting deeper than 64, and a pattern of
    /// `matches` that is no text in quotes or no regular expression.
    pub fn compile(source: &str) -> Result<Self, EvalError> {
        Ok(Self(Arc::new(Compiled::new(source, P::NAMES)?), PhantomData))
    }

    /// Its source.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// Evaluates to a value. CPU-bound: call on a lane. Every name in `P::NAMES` must be in `vars`.
    pub fn eval(&self, vars: &BTreeMap<&'static str, Val>) -> Result<Val, EvalError> {
        self.0.eval(vars)
    }

    /// Evaluates to yes or no; any other type is an error.
    pub fn holds(&self, vars: &BTreeMap<&'static str, Val>) -> Result<bool, EvalError> {
        match self.eval(vars)? {
            Val::Bool(yes) => Ok(yes),
            other => Err(error(format!("expected the expression to be true or false, it is {}", other.type_name()))),
        }
    }

    /// The names of checks that the expression reads by `checks["name"]` or `checks.name`, so that unknown ones are
    /// config errors. Asking whether one exists (`"name" in checks`, `has(checks.name)`) is no reading.
    #[must_use]
    pub fn checks_read(&self) -> Vec<String> {
        self.0.checks_read()
    }
}

impl<P: Place> Clone for Expr<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), PhantomData)
    }
}
impl<P: Place> fmt::Debug for Expr<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.source())
    }
}
impl<P: Place> fmt::Display for Expr<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.source())
    }
}
impl<P: Place> PartialEq for Expr<P> {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}
impl<P: Place> Eq for Expr<P> {}
impl<P: Place> serde::Serialize for Expr<P> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.source())
    }
}
impl<'de, P: Place> serde::Deserialize<'de> for Expr<P> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Source<P>(PhantomData<fn() -> P>);
        impl<P: Place> serde::de::Visitor<'_> for Source<P> {
            type Value = Expr<P>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CEL expression in quotes")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Expr<P>, E> {
                Expr::compile(text).map_err(E::custom)
            }
        }
        from.deserialize_str(Source(PhantomData))
    }
}
impl<P: Place> schemars::JsonSchema for Expr<P> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Expr".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": format!("A CEL expression; names: {}.", P::NAMES.join(", ")),
            "maxLength": compile::MAX_SOURCE_BYTES,
        })
    }
}

/// Runs where a deep recursion has room, which no handler could give it afterwards.
fn on_large_stack<T: Send>(work: impl FnOnce() -> Result<T, EvalError> + Send) -> Result<T, EvalError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(LARGE_STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|why| error(format!("no thread could be started for the expression: {why}")))?
            .join()
            .unwrap_or_else(|_| Err(error("the expression broke off")))
    })
}

impl Val {
    fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Double(_) => "a double",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Time(_) => "a time",
        }
    }
}

impl From<&Value> for Val {
    fn from(value: &Value) -> Self {
        match value {
            Value::Text(text) => Self::Text(text.as_str().to_owned()),
            Value::Flag(flag) => Self::Bool(*flag),
            Value::Int(n) => Self::Int(*n),
            Value::Real(x) => Self::Double(*x),
            Value::At(t) => Self::Time(*t),
            Value::Set(members) => Self::List(members.iter().map(|m| Self::Text(m.as_str().to_owned())).collect()),
        }
    }
}

/// What `checks` is in conditions and rules: `checks["NAME"]` has `outcome` (`pass`, `warn`, `fail`, `unknown`), `age_s`,
/// `reasons` (the codes why it does not pass), `facts` (of the check itself) and `subjects`, a map of subject to `outcome`,
/// `reasons` and `facts`. The check's `outcome` is the worst of its subjects', its `reasons` are those of all of them.
#[must_use]
pub fn checks_val(checks: &BTreeMap<CheckName, CheckView>, now: jiff::Timestamp) -> Val {
    let map = |entries: Vec<(&str, Val)>| Val::Map(entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect());
    let facts = |of: &mut dyn Iterator<Item = (&FactName, &Fact)>| {
        Val::Map(of.map(|(name, fact)| (name.as_str().to_owned(), Val::from(&fact.value))).collect())
    };
    let reasons = |of: &mut dyn Iterator<Item = &Vec<Code>>| {
        let codes: BTreeSet<&str> = of.flatten().map(Code::as_str).collect();
        Val::List(codes.into_iter().map(|code| Val::Text(code.to_owned())).collect())
    };
    let view = |view: &CheckView| {
        let named: BTreeSet<Subject> = view.facts.subjects().into_iter().chain(view.outcomes.keys().cloned()).collect();
        let subjects = named.iter().filter(|subject| !subject.is_none()).map(|subject| {
            // A subject with facts and no word about it has nothing against it.
            let outcome = view.outcomes.get(subject).map_or("pass", |outcome| outcome.as_str());
            let entries = vec![
                ("outcome", Val::Text(outcome.to_owned())),
                ("reasons", reasons(&mut view.reasons.get(subject).into_iter())),
                ("facts", facts(&mut view.facts.of(subject))),
            ];
            (subject.as_str().to_owned(), map(entries))
        });
        map(vec![
            ("outcome", Val::Text(view.worst().as_str().to_owned())),
            ("reasons", reasons(&mut view.reasons.values())),
            ("age_s", Val::Int(now.duration_since(view.at).as_secs())),
            ("facts", facts(&mut view.facts.of(&Subject::none()))),
            ("subjects", Val::Map(subjects.collect())),
        ])
    };
    Val::Map(checks.iter().map(|(name, check)| (name.as_str().to_owned(), view(check))).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::records::OutcomeWord;

    #[derive(Debug)]
    struct Here;
    impl Place for Here {
        const NAMES: &'static [&'static str] = &["status", "body", "json", "checks"];
    }

    fn vars(json: &serde_json::Value) -> BTreeMap<&'static str, Val> {
        BTreeMap::from([
            ("status", Val::Int(200)),
            ("body", Val::Text("all is well".to_owned())),
            ("json", Val::from(json)),
            ("checks", Val::Map(BTreeMap::new())),
        ])
    }

    fn eval(source: &str, json: &serde_json::Value) -> Result<Val, String> {
        let expr = Expr::<Here>::compile(source).map_err(|why| format!("compile: {why}"))?;
        expr.eval(&vars(json)).map_err(|why| why.to_string())
    }

    fn refused(source: &str) -> String {
        Expr::<Here>::compile(source).unwrap_err().to_string()
    }

    #[test]
    fn expressions_answer() {
        let json = json!({
            "n": 3, "x": 1.5, "big": 18_446_744_073_709_551_615_u64, "list": [3, 1, 2], "text": "é", "none": null,
            "map": {"b": 1, "a": 2, "c": 0}, "items": [{"id": "a", "ok": true}, {"id": "b", "ok": false}],
        });
        let list = |numbers: &[i64]| Val::List(numbers.iter().map(|n| Val::Int(*n)).collect());
        let texts = |texts: &[&str]| Val::List(texts.iter().map(|t| Val::Text((*t).to_owned())).collect());
        for (source, answer) in [
            ("status == 200 && body.contains('well')", Val::Bool(true)),
            ("json.n", Val::Int(3)),
            ("json.n + 1", Val::Int(4)),
            ("json.n > 2.5 && json.x < 2", Val::Bool(true)),
            ("json.n / 2", Val::Int(1)),
            ("double(json.n) / 2.0", Val::Double(1.5)),
            ("json.big > 1.0", Val::Bool(true)),
            ("json.text + body", Val::Text("éall is well".to_owned())),
            ("size(json.text)", Val::Int(1)),
            ("json.none == null", Val::Bool(true)),
            ("has(json.n) && !has(json.missing)", Val::Bool(true)),
            ("'n' in json", Val::Bool(true)),
            ("2 in json.list", Val::Bool(true)),
            ("json.list.all(n, n > 0)", Val::Bool(true)),
            ("json.list.exists(n, n > 2)", Val::Bool(true)),
            ("json.list.exists_one(n, n > 2)", Val::Bool(true)),
            ("json.list.filter(n, n > 1)", list(&[3, 2])),
            ("json.list.map(n, n * 2)", list(&[6, 2, 4])),
            ("json.list.map(n, n > 1, n * 2)", list(&[6, 4])),
            ("json.list + [9]", list(&[3, 1, 2, 9])),
            ("json.map.map(k, k)", texts(&["a", "b", "c"])),
            ("json.map.filter(k, json.map[k] > 0)", texts(&["a", "b"])),
            ("json.items.filter(i, !i.ok).map(i, i.id)", texts(&["b"])),
            ("json.items.exists(i, json.list.exists(n, n == 3 && i.ok))", Val::Bool(true)),
            ("json.items.map(i, i.id).map(status, status)", texts(&["a", "b"])),
            ("body.matches('^all.*l$')", Val::Bool(true)),
            ("matches(body, 'is w') && !body.matches('zzz')", Val::Bool(true)),
            ("json.list.map(n, string(n)).filter(t, t.matches('^[12]$'))", texts(&["1", "2"])),
            ("{'a': 1, 'b': [2]}", Val::from(&json!({"a": 1, "b": [2]}))),
            ("status >= 200 ? 'ok' : 'bad'", Val::Text("ok".to_owned())),
            ("type(json.n) == int", Val::Bool(true)),
            ("int('12') + 1", Val::Int(13)),
            ("json.missing == 1 || status == 200", Val::Bool(true)),
        ] {
            assert_eq!(eval(source, &json), Ok(answer), "{source}");
        }
    }

    #[test]
    fn what_can_not_be_known_here_is_refused_when_read() {
        for (source, said) in [
            ("stauts == 200", "unknown name `stauts` (known here: status, body, json, checks)"),
            ("json.list.all(n, m > 0)", "unknown name `m` (known here: status, body, json, checks)"),
            ("json.list.all(n, n > 0) && n > 0", "unknown name `n` (known here: status, body, json, checks)"),
            ("body.matches(json.text)", "`matches` takes one pattern in quotes: `text.matches(\"^ok\")`"),
            ("body.matches('(')", "`(` is not a regular expression: unclosed group"),
        ] {
            assert_eq!(refused(source), said, "{source}");
        }
        assert!(refused("frobnicate(body)").starts_with("unknown function `frobnicate` (known are bool, "));
        assert!(refused("timestamp('2026-01-01T00:00:00Z')").starts_with("unknown function `timestamp`"));
        assert!(refused("status ==").starts_with("not a CEL expression: line 1, column "), "{}", refused("status =="));
        assert!(refused("").starts_with("not a CEL expression"), "{}", refused(""));
        assert!(refused("Foo{a: 1}").contains("not supported"));
        assert_eq!(refused(&"1+".repeat(2_100)), "expected an expression of at most 4096 bytes, found 4200");
    }

    #[test]
    fn nesting_is_bounded_before_the_stack_is() {
        for source in [
            format!("{}1{}", "(".repeat(2_000), ")".repeat(2_000)),
            format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000)),
            format!("{}true", "status==1?true:".repeat(250)),
            format!("json{}", ".a".repeat(2_000)),
            format!("status{}", "+1".repeat(2_000)),
            format!("json{}", "[0]".repeat(1_300)),
            "(".repeat(4_000),
            "[".repeat(60) + &"(".repeat(60),
            format!("\"\"\"'\"\"\" == {}1{}", "(".repeat(2_000), ")".repeat(2_000)),
            format!("1 + // it's\n {}1{}", "[".repeat(2_000), "]".repeat(2_000)),
            format!("r'\\' == json{}", ".a".repeat(2_000)),
        ] {
            let why = Expr::<Here>::compile(&source).unwrap_err().to_string();
            assert!(why.contains("deep") || why.contains("not a CEL"), "{why}: {}", &source[..60]);
        }
        for source in [
            format!("{}1{}", "(".repeat(30), ")".repeat(30)),
            format!("status{}", "+1".repeat(60)),
            format!("body{}", " + 'x'".repeat(60)),
            format!("status{}", "-1".repeat(11)),
            format!("true{}", "&&status==200".repeat(300)),
            format!("{}true", "!".repeat(4_001)),
            format!("{}status", "-".repeat(4_000)),
            format!("{}status", "- ".repeat(1_000)),
            format!("json{} == 1 || true", ".a".repeat(120)),
            format!("{}1{}", "[".repeat(60), "]".repeat(60)),
            format!("body == '{}'", "((((".repeat(100)),
        ] {
            assert_eq!(Expr::<Here>::compile(&source).map(drop), Ok(()), "{}", &source[..40]);
            // A quarter of the stack that a thread has by default.
            let small = std::thread::Builder::new().stack_size(512 << 10);
            small.spawn(move || eval(&source, &json!(null)).is_ok()).unwrap().join().unwrap();
        }
    }

    #[test]
    fn errors_name_the_trouble_and_show_no_values() {
        let json = json!({"secret": "hunter2", "n": 1, "list": [1]});
        for (source, said) in [
            ("json.missing", "there is no `missing`"),
            ("json.n / 0", "division by zero"),
            ("json.list[5]", "an index beyond the end of the list"),
            ("json.secret + 1", "can't add string and int"),
            ("9223372036854775807 + json.n", "a whole number beyond 64 bits"),
        ] {
            assert_eq!(eval(source, &json), Err(said.to_owned()), "{source}");
        }
        for source in
            ["json.secret > 1", "json.secret.all(c, true)", "json.secret[0]", "int(json.secret)", "-json.secret"]
        {
            let said = eval(source, &json).unwrap_err();
            assert!(!said.contains("hunter2") && !said.is_empty(), "{source}: {said}");
        }
        let expr = Expr::<Here>::compile("json.n").unwrap();
        assert_eq!(
            expr.holds(&vars(&json)).unwrap_err().to_string(),
            "expected the expression to be true or false, it is an int"
        );
        assert_eq!(expr.eval(&BTreeMap::new()).unwrap_err().to_string(), "`json` has no value here");
    }

    #[test]
    fn long_lists_can_be_measured_but_not_looped_over() {
        let json = json!({"list": (0..1_001).collect::<Vec<_>>(), "ok": (0..1_000).collect::<Vec<_>>()});
        assert_eq!(eval("size(json.list) == 1001 && 1000 in json.list", &json), Ok(Val::Bool(true)));
        assert_eq!(
            eval("json.list.all(n, n >= 0)", &json),
            Err("loop: 1001 elements are more than the 1000 that a loop goes through".to_owned())
        );
        assert_eq!(eval("json.ok.all(n, n >= 0)", &json), Ok(Val::Bool(true)));
        assert_eq!(eval("size((json.ok + json.ok).map(n, n))", &json).unwrap_err().split(':').next(), Some("loop"));
    }

    #[test]
    fn loops_in_loops_end() {
        let json = json!({"l": (0..1_000).collect::<Vec<_>>()});
        let too_much = "the evaluation takes more than 500000 steps (shorter lists, fewer loops in loops)";
        for source in [
            "json.l.all(a, json.l.all(b, json.l.all(c, true)))",
            "json.l.exists(a, json.l.exists(b, a + b < 0))",
            "size(json.l.map(a, json.l.map(b, json.l.map(c, c)))) > 0",
            "size(json.l.filter(a, size(json.l.filter(b, json.l.exists_one(c, c == b))) > 0)) > 0",
            "json.l.exists(a, json.l.all(b, json.l.all(c, true))) || true",
            "!json.l.map(a, json.l.exists(b, json.l.exists(c, false))).all(x, x)",
        ] {
            assert_eq!(eval(source, &json), Err(too_much.to_owned()), "{source}");
        }
        // Text that would grow to gigabytes.
        let vars = BTreeMap::from([
            ("status", Val::Int(0)),
            ("body", Val::Text("x".repeat(1 << 20))),
            ("json", Val::from(&json)),
            ("checks", Val::Null),
        ]);
        for source in
            ["size(json.l.map(a, body + body)) > 0", "size(json.l.map(a, body)) > 0", "size(json.l.map(a, [body])) > 0"]
        {
            let expr = Expr::<Here>::compile(source).unwrap();
            assert_eq!(expr.holds(&vars).unwrap_err().to_string(), too_much, "{source}");
        }
    }

    #[test]
    fn deep_and_odd_json_is_bounded() {
        let mut deep = json!(1);
        for _ in 0..200 {
            deep = json!([deep]);
        }
        let val = Val::from(&deep);
        let mut depth = 0;
        let mut at = &val;
        while let Val::List(list) = at {
            depth += 1;
            at = &list[0];
        }
        assert_eq!((depth, at), (64, &Val::Text("…".to_owned())));
        assert_eq!(eval("size(json)", &deep), Ok(Val::Int(1)));
        let mut hand_made = Val::Null;
        for _ in 0..70 {
            hand_made = Val::List(vec![hand_made]);
        }
        let vars = BTreeMap::from([("json", hand_made)]);
        let said = Expr::<Here>::compile("json == null").unwrap().eval(&vars).unwrap_err();
        assert_eq!(said.to_string(), "a value nests deeper than 64");
    }

    #[test]
    fn only_what_is_read_is_handed_in() {
        let expr = Expr::<Here>::compile("checks.api.outcome == 'pass' && checks['gate-way'].age_s < 60").unwrap();
        assert_eq!(expr.0.names, BTreeSet::from(["checks"]));
        assert_eq!(expr.0.checks, Some(BTreeSet::from(["api".to_owned(), "gate-way".to_owned()])));
        let whole =
            Expr::<Here>::compile("checks.exists(name, checks[name].outcome == 'fail') || checks.a.age_s > 1").unwrap();
        assert_eq!(whole.0.checks, None);
    }

    #[test]
    fn the_checks_that_are_read_are_known() {
        for (source, names) in [
            ("checks['api'].outcome == 'fail' && checks.gpu.age_s > 60", vec!["api", "gpu"]),
            ("['a'].all(x, checks[\"b-c\"].facts[x] > 1)", vec!["b-c"]),
            ("{'k': checks.d.facts.n}['k'] > size(string(checks.e.age_s))", vec!["d", "e"]),
            ("'f' in checks || has(checks.g)", vec![]),
            ("checks.exists(c, checks[c].outcome == 'fail')", vec![]),
            ("json.checks.h == 1", vec![]),
        ] {
            assert_eq!(Expr::<Here>::compile(source).unwrap().checks_read(), names, "{source}");
        }
    }

    #[test]
    fn checks_show_outcome_age_and_facts() {
        let name = CheckName::try_from("gpu").unwrap();
        let at: jiff::Timestamp = "2026-03-20T14:00:00Z".parse().unwrap();
        let mut facts = crate::facts::Facts::new();
        facts.state(&Subject::none(), "driver", "550.1");
        facts.info(&Subject::new("gpu0"), "busy_percent", 93.5);
        facts.info(&Subject::new("gpu1"), "busy_percent", 1_i64);
        facts.info(&Subject::none(), "since", at);
        let outcomes =
            BTreeMap::from([(Subject::none(), OutcomeWord::Pass), (Subject::new("gpu0"), OutcomeWord::Fail)]);
        let codes = |codes: &[&'static str]| codes.iter().copied().map(Code::from).collect();
        let reasons = BTreeMap::from([
            (Subject::new("gpu0"), codes(&["vram_out", "hot"])),
            (Subject::new("gpu1"), codes(&["hot"])),
        ]);
        let view = CheckView { check: name.clone(), at, outcomes, reasons, facts };
        let now = at + jiff::SignedDuration::from_secs(90);
        let vars = BTreeMap::from([("checks", checks_val(&BTreeMap::from([(name, view)]), now))]);
        for source in [
            "checks['gpu'].outcome == 'fail'",
            "checks.gpu.age_s == 90",
            "checks.gpu.facts.driver == '550.1'",
            "checks.gpu.facts.since == 1774015200",
            "checks.gpu.subjects.gpu0.outcome == 'fail' && checks.gpu.subjects.gpu1.outcome == 'pass'",
            "checks.gpu.subjects.exists(s, checks.gpu.subjects[s].facts.busy_percent > 90)",
            "size(checks.gpu.subjects) == 2",
            "checks.gpu.reasons == ['hot', 'vram_out'] && 'hot' in checks.gpu.subjects.gpu1.reasons",
            "checks.gpu.subjects.exists(s, 'vram_out' in checks.gpu.subjects[s].reasons)",
        ] {
            assert_eq!(Expr::<Here>::compile(source).unwrap().holds(&vars), Ok(true), "{source}");
        }
    }

    #[test]
    fn settings_read_expressions_and_point_at_what_is_wrong() {
        #[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
        struct Table {
            when: Expr<Here>,
        }
        let table: Table = toml::from_str("when = \"status == 200\"").unwrap();
        assert_eq!(format!("{:?}", table.when), "`status == 200`");
        let why = toml::from_str::<Table>("when = \"statsu == 200\"").unwrap_err();
        assert_eq!(why.message(), "unknown name `statsu` (known here: status, body, json, checks)");
        assert_eq!(why.span(), Some(7..22));
        let schema = serde_json::to_value(schemars::schema_for!(Table)).unwrap();
        assert_eq!(schema["properties"]["when"]["description"], "A CEL expression; names: status, body, json, checks.");
    }
}
