//! Text that is compiled when the config is read: regular expressions, globs, JSON paths.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;
use std::sync::{Mutex, PoisonError};

use serde::{Serialize, Serializer};

use super::{echo, from_text};

/// Bytes of source that any of these may have.
const MAX_SOURCE_BYTES: usize = 4_096;
/// Bytes that a compiled expression and its caches may take.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Regular expressions that are shared.
const MAX_SHARED: usize = 64;

fn bounded(what: &str, text: &str) -> Result<(), String> {
    if text.len() > MAX_SOURCE_BYTES {
        return Err(format!("expected {what} of at most {MAX_SOURCE_BYTES} bytes, found {}", text.len()));
    }
    Ok(())
}

/// A regular expression (syntax of the crate `regex`, linear time), compiled when the config is read.
#[derive(Clone)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Compiles. What was compiled before is shared: a config of many checks says the same thing often, and each
    /// expression with its caches takes tens of kilobytes.
    pub fn parse(text: &str) -> Result<Self, String> {
        static SHARED: Mutex<BTreeMap<String, regex::Regex>> = Mutex::new(BTreeMap::new());
        bounded("a regular expression", text)?;
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(text) {
            return Ok(Self(known.clone()));
        }
        let compiled = Self::compile(text)?;
        if shared.len() < MAX_SHARED {
            shared.insert(text.to_owned(), compiled.0.clone());
        }
        Ok(compiled)
    }

    fn compile(text: &str) -> Result<Self, String> {
        regex::RegexBuilder::new(text)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .nest_limit(50)
            .build()
            .map(Self)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => {
                    format!("the regular expression {} is too large (fewer or smaller repetitions)", echo(text))
                }
                // The crate's text is a drawing of several lines; its last one says what is wrong.
                error => {
                    let drawn = error.to_string();
                    let last = drawn.lines().last().unwrap_or_default();
                    let why = last.strip_prefix("error: ").unwrap_or(last);
                    format!("{} is not a regular expression: {why}", echo(text))
                }
            })
    }
    /// The compiled expression.
    #[must_use]
    pub fn regex(&self) -> &regex::Regex {
        &self.0
    }
    /// Its source.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
    /// Whether it matches anywhere in `text`.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}
from_text!(Pattern, "Pattern", expecting "a regular expression", schema {
    "type": "string",
    "format": "regex",
    "description": "A regular expression (Rust syntax: no look-around, no back-references); it may match anywhere unless anchored by ^ and $.",
    "maxLength": 4096,
    "examples": ["^ok$", "(?i)error|failed"],
});

/// A path that is absolute or begins with `~/` and may hold glob wildcards (`*`, `?`, `[…]`, `**`), checked when the
/// config is read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathGlob(String);

impl PathGlob {
    /// Checks.
    pub fn parse(text: &str) -> Result<Self, String> {
        bounded("a path", text)?;
        if !(text.starts_with('/') || text.starts_with("~/")) || text.contains(char::is_control) {
            return Err(format!("expected a path that begins with `/` or `~/`, found {}", echo(text)));
        }
        globset::GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|error| format!("{} is not a path or glob: {}", echo(text), error.kind()))?;
        Ok(Self(text.to_owned()))
    }
    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether it may stand for several paths.
    #[must_use]
    pub fn is_glob(&self) -> bool {
        self.0.contains(['*', '?', '[', '{'])
    }
}
from_text!(PathGlob, "PathGlob", expecting "a path that begins with `/` or `~/`", schema {
    "type": "string",
    "description": "An absolute path or one under `~/`; it may hold wildcards: `*`, `?`, `[a-z]`, `{a,b}`, `**` for folders.",
    "pattern": "^(/|~/)",
    "maxLength": 4096,
    "examples": ["/var/log/agent/*.log", "~/.openclaw/openclaw.json", "/srv/out/**/*.json"],
});

/// An RFC 9535 JSON path (`$.expiry`), compiled when the config is read.
#[derive(Clone)]
pub struct JsonPath(String, serde_json_path::JsonPath);

impl JsonPath {
    /// Compiles.
    pub fn parse(text: &str) -> Result<Self, String> {
        bounded("a JSON path", text)?;
        // The crate's parser descends once per bracket; a bound on them bounds its stack.
        if text.bytes().filter(|b| b"([".contains(b)).count() > 64 {
            return Err(format!("the JSON path {} has more than 64 brackets", echo(text)));
        }
        let path = serde_json_path::JsonPath::from_str(text)
            .map_err(|error| format!("{} is not a JSON path like `$.expiry`: {error}", echo(text)))?;
        Ok(Self(text.to_owned(), path))
    }
    /// Its source.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Everything it points at, in the order of the document.
    #[must_use]
    pub fn all<'a>(&self, json: &'a serde_json::Value) -> Vec<&'a serde_json::Value> {
        self.1.query(json).all()
    }
    /// Everything it points at, each with the last key or index on its way there and with its whole path.
    #[must_use]
    pub fn located<'a>(&self, json: &'a serde_json::Value) -> Vec<(String, String, &'a serde_json::Value)> {
        use serde_json_path::PathElement;
        let located = self.1.query_located(json).into_iter();
        located
            .map(|node| {
                let last = match node.location().iter().last() {
                    Some(PathElement::Name(name)) => (*name).to_owned(),
                    Some(PathElement::Index(index)) => index.to_string(),
                    None => "$".to_owned(),
                };
                (last, node.location().to_string(), node.node())
            })
            .collect()
    }
    /// The one thing it points at; nothing when there is none or more than one.
    #[must_use]
    pub fn one<'a>(&self, json: &'a serde_json::Value) -> Option<&'a serde_json::Value> {
        match self.all(json).as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }
}
from_text!(JsonPath, "JsonPath", expecting "a JSON path like `$.expiry`", schema {
    "type": "string",
    "description": "An RFC 9535 JSON path.",
    "pattern": "^\\$",
    "maxLength": 4096,
    "examples": ["$.expiry", "$.profiles[*].expires", "$.jobs[?@.enabled == true].id"],
});

/// What each of these is beside its compiled form: its source.
macro_rules! is_its_source {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`{}`", self.as_str())
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(self.as_str())
            }
        }
    )*};
}
is_its_source!(Pattern, PathGlob, JsonPath);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
impl Eq for Pattern {}
impl PartialEq for JsonPath {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}
impl Eq for JsonPath {}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Table<T> {
        x: T,
    }

    fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        let table = toml::to_string(&std::collections::BTreeMap::from([("x", text)])).unwrap();
        toml::from_str::<Table<T>>(&table).map(|t| t.x).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn patterns_are_compiled_when_read() {
        let pattern = read::<Pattern>("^ok \\d+$").unwrap();
        assert!(pattern.is_match("ok 12") && !pattern.is_match("ok"));
        assert_eq!(format!("{pattern:?}"), "`^ok \\d+$`");
        for (text, said) in [
            ("(", "`(` is not a regular expression: unclosed group"),
            (
                "(?=x)",
                "`(?=x)` is not a regular expression: look-around, including look-ahead and look-behind, is not supported",
            ),
            ("\\w{9999}", "the regular expression `\\w{9999}` is too large (fewer or smaller repetitions)"),
        ] {
            assert_eq!(read::<Pattern>(text).unwrap_err(), said);
        }
        assert_eq!(
            read::<Pattern>(&"x".repeat(5_000)).unwrap_err(),
            "expected a regular expression of at most 4096 bytes, found 5000"
        );
        assert!(read::<Pattern>(&"(".repeat(3_000)).is_err());
    }

    #[test]
    fn globs_are_checked_when_read() {
        assert!(read::<PathGlob>("/var/log/*.log").unwrap().is_glob());
        assert!(!read::<PathGlob>("~/.openclaw/openclaw.json").unwrap().is_glob());
        for (text, said) in [
            ("out/*.json", "expected a path that begins with `/` or `~/`, found `out/*.json`"),
            ("", "expected a path that begins with `/` or `~/`, found ``"),
            ("/x/[a", "`/x/[a` is not a path or glob: unclosed character class; missing ']'"),
        ] {
            assert_eq!(read::<PathGlob>(text).unwrap_err(), said);
        }
    }

    #[test]
    fn json_paths_are_compiled_when_read() {
        let json = json!({"profiles": [{"expires": 1}, {"expires": 2}]});
        let path = read::<JsonPath>("$.profiles[*].expires").unwrap();
        assert_eq!(path.all(&json), [&json!(1), &json!(2)]);
        assert_eq!(path.one(&json), None);
        assert_eq!(read::<JsonPath>("$.profiles[1].expires").unwrap().one(&json), Some(&json!(2)));
        assert!(
            read::<JsonPath>("profiles").unwrap_err().starts_with("`profiles` is not a JSON path like `$.expiry`: ")
        );
        assert!(read::<JsonPath>(&format!("$[?{}", "(".repeat(4_000))).is_err());
        assert!(read::<JsonPath>(&format!("$[?{}@.a", "!".repeat(4_000))).is_err());
    }

    #[test]
    fn schemas_carry_description_and_examples_that_parse() {
        fn examples<T: schemars::JsonSchema>() -> Vec<serde_json::Value> {
            let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap();
            assert!(schema["description"].is_string(), "{schema}");
            schema["examples"].as_array().unwrap().clone()
        }
        fn parse_all<T: schemars::JsonSchema + DeserializeOwned>() {
            let examples = examples::<T>();
            assert!(!examples.is_empty());
            for example in examples {
                assert!(serde_json::from_value::<T>(example.clone()).is_ok(), "{example}");
                let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap();
                assert!(jsonschema::is_valid(&schema, &example), "{example} by its own schema");
            }
        }
        parse_all::<Pattern>();
        parse_all::<PathGlob>();
        parse_all::<JsonPath>();
        parse_all::<super::super::Dur>();
        parse_all::<super::super::Size>();
        parse_all::<super::super::Money>();
        parse_all::<super::super::SecretRef>();
    }
}
