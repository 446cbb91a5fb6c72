//! Reads one TOML table and finds all that is wrong with it. Serde stops at the first error of a table; here the key
//! that caused it is set aside and the rest is read again. The schema of the type knows the keys there may be.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use schemars::SchemaGenerator;
use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::nearest::nearest;
use super::problems::Problems;
use crate::settings::Problem;

/// Where a table stands: its file and its dotted key.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    /// The file, as the user named it.
    pub file: &'a Path,
    /// The dotted key of the table; empty for the file's own.
    pub key: String,
    /// What to point at when it is about the table as a whole.
    pub span: Range<usize>,
}

impl At<'_> {
    /// The dotted key of something in the table.
    pub fn key_of(&self, key: &str) -> String {
        match (self.key.is_empty(), key.is_empty()) {
            (_, true) => self.key.clone(),
            (true, false) => key.to_owned(),
            (false, false) => format!("{}.{key}", self.key),
        }
    }

    /// A problem with something in the table.
    pub fn problem(&self, span: Range<usize>, key: &str, said: impl Into<String>) -> Problem {
        Problem::new(self.file, span, self.key_of(key), said)
    }
}

/// The keys that a table may have, from the JSON Schema of its type.
pub(super) struct Shape<'a> {
    schema: Value,
    defs: Map<String, Value>,
    /// Keys that stand in the same table and are read by somebody else: suggested, never asked for.
    pub beside: &'a [&'a str],
}

impl<'a> Shape<'a> {
    /// The shape of what `make` describes.
    pub fn new(beside: &'a [&'a str], make: impl FnOnce(&mut SchemaGenerator) -> schemars::Schema) -> Self {
        let mut generator = SchemaGenerator::default();
        let schema = make(&mut generator).to_value();
        Self { schema, defs: generator.take_definitions(true), beside }
    }

    /// Follows `$ref`s and picks the one variant of a union that is a table or list; `Null` where that isn't clear.
    fn resolve<'s>(&'s self, mut schema: &'s Value) -> &'s Value {
        const MOST: usize = 16;
        for _ in 0..MOST {
            if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix("#/$defs/")) {
                schema = self.defs.get(name).unwrap_or(&Value::Null);
                continue;
            }
            let Some(variants) = ["anyOf", "oneOf", "allOf"].iter().find_map(|word| schema.get(word)?.as_array())
            else {
                return schema;
            };
            let nested = |variant: &&Value| {
                let variant = if variant.get("$ref").is_some() { self.resolve(variant) } else { variant };
                ["properties", "items", "additionalProperties", "anyOf"].iter().any(|word| variant.get(word).is_some())
            };
            let mut fitting = variants.iter().filter(nested);
            match (fitting.next(), fitting.next()) {
                (Some(only), None) => schema = only,
                _ => return &Value::Null,
            }
        }
        &Value::Null
    }

    /// Takes every key out of `table` that nobody knows, and says so.
    fn strip(&self, table: &mut DeTable<'_>, schema: &Value, top: bool, at: &At<'_>, path: &str, out: &mut Problems) {
        let schema = self.resolve(schema);
        let known = schema.get("properties").and_then(Value::as_object);
        let rest = schema.get("additionalProperties");
        if let (Some(known), Some(Value::Bool(false))) = (known, rest) {
            let unknown: Vec<_> =
                table.keys().filter(|key| !known.contains_key(key.get_ref().as_ref())).cloned().collect();
            for key in unknown {
                let beside = if top { self.beside } else { &[] };
                let candidates = known.keys().map(String::as_str).chain(beside.iter().copied());
                let name = key.get_ref().as_ref();
                let mut problem = at.problem(key.span(), &dotted(path, name), "unknown key");
                problem = match nearest(name, candidates.clone()) {
                    Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                    None => problem.hint(format!("known here: {}", list(candidates))),
                };
                out.push(problem);
                table.remove(name);
            }
        }
        let keys: Vec<_> = table.keys().map(|key| key.get_ref().to_string()).collect();
        for key in keys {
            let schema = known.and_then(|known| known.get(&key)).or(rest).unwrap_or(&Value::Null);
            if let Some(value) = table.get_mut(key.as_str()) {
                self.strip_value(value.get_mut(), schema, at, &dotted(path, &key), out);
            }
        }
    }

    fn strip_value(&self, value: &mut DeValue<'_>, schema: &Value, at: &At<'_>, path: &str, out: &mut Problems) {
        match value {
            DeValue::Table(table) => self.strip(table, schema, false, at, path, out),
            DeValue::Array(members) => {
                let items = self.resolve(schema).get("items").unwrap_or(&Value::Null);
                for (i, member) in members.iter_mut().enumerate() {
                    self.strip_value(member.get_mut(), items, at, &format!("{path}[{i}]"), out);
                }
            }
            _ => {}
        }
    }

    /// The keys that must be there.
    fn required(&self) -> Vec<&str> {
        let list = self.resolve(&self.schema).get("required").and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }
}

/// What could be read of a table.
pub(super) struct Read<T> {
    pub value: T,
    /// Whether that is all of it. If not, what is wrong has been said, and it was read as if that weren't there.
    pub whole: bool,
}

/// Problems with one table that are looked for: each costs another try.
const MAX_TRIES: usize = 100;

/// Reads `table` by `attempt`. `None` when not even the rest can be read without what is wrong. All that is wrong is in
/// `out`.
pub(super) fn read<'i, 's, T>(
    table: &DeTable<'i>,
    at: &At<'_>,
    shape: impl FnOnce() -> Shape<'s>,
    mut attempt: impl FnMut(ValueDeserializer<'i>) -> Result<T, toml::de::Error>,
    out: &mut Problems,
) -> Option<Read<T>> {
    let from =
        |table: &DeTable<'i>| ValueDeserializer::from(Spanned::new(at.span.clone(), DeValue::Table(table.clone())));
    if let Ok(value) = attempt(from(table)) {
        return Some(Read { value, whole: true });
    }
    let shape = shape();
    let mut left = table.clone();
    shape.strip(&mut left, &shape.schema, true, at, "", out);
    let mut gone: BTreeSet<String> = BTreeSet::new();
    for _ in 0..MAX_TRIES {
        let error = match attempt(from(&left)) {
            Ok(value) => return Some(Read { value, whole: false }),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| at.span.clone());
        let missing = error.message().trim().strip_prefix("missing field `").and_then(|m| m.strip_suffix('`'));
        let (said, hint) = polish(error.message());
        let Some(path) = remove_at(&mut left, &span) else {
            // It is about the table as a whole. What is missing because it was set aside has been said already.
            let required: Vec<_> = shape.required().into_iter().filter(|key| !table.contains_key(*key)).collect();
            for key in &required {
                out.push(at.problem(at.span.clone(), "", format!("`{key}` is missing")));
            }
            if required.is_empty() && !missing.is_some_and(|key| gone.contains(key)) {
                out.push(at.problem(at.span.clone(), "", said));
            }
            return None;
        };
        // Likewise below: a table without a key that was set aside, a list that is too short without a member.
        let follows = missing.is_some_and(|key| gone.contains(&dotted(&path, key)))
            || error.message().starts_with("invalid length") && gone.contains(&path);
        if !follows {
            let mut problem = at.problem(span, &path, said);
            problem.hint = hint;
            out.push(problem);
        }
        gone.insert(path);
    }
    None
}

/// Takes out the smallest thing that `span` begins in: a key or a member of a list. Its dotted key, without the list's
/// index.
fn remove_at(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let (key, value) = table.iter_mut().find(|(key, value)| touches(key, value, span))?;
    let key = key.get_ref().to_string();
    let deeper = match value.get_mut() {
        DeValue::Table(inner) => remove_at(inner, span),
        DeValue::Array(members) => {
            let i = members.iter().position(|member| value_touches(member, span));
            i.map(|i| {
                let inner = members.get_mut(i).and_then(|member| match member.get_mut() {
                    DeValue::Table(inner) => remove_at(inner, span),
                    _ => None,
                });
                if inner.is_none() {
                    let kept = members.iter().enumerate().filter(|(j, _)| *j != i);
                    *members = kept.map(|(_, member)| member.clone()).collect();
                }
                inner.unwrap_or_default()
            })
        }
        _ => None,
    };
    match deeper {
        Some(deeper) if deeper.is_empty() => Some(key),
        Some(deeper) => Some(dotted(&key, &deeper)),
        None => {
            table.remove(key.as_str());
            Some(key)
        }
    }
}

/// The value under a dotted key, and where it stands.
pub(super) fn find<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
    if let Some(value) = table.get(key) {
        return Some(value);
    }
    let (head, rest) = key.split_once('.')?;
    find(table.get(head)?.get_ref().as_table()?, rest)
}

/// Where the value of a key stands.
pub(super) fn place(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    find(table, key).map(Spanned::span)
}

/// Where the member `text` of the list under a key stands, and its index; else the list.
pub(super) fn member(table: &DeTable<'_>, key: &str, text: &str) -> Option<(Range<usize>, String)> {
    let value = find(table, key)?;
    let members = value.get_ref().as_array().into_iter().flat_map(|members| members.iter().enumerate());
    let found = members.into_iter().find(|(_, member)| member.get_ref().as_str() == Some(text));
    Some(found.map_or((value.span(), key.to_owned()), |(i, member)| (member.span(), format!("{key}[{i}]"))))
}

/// Names in backticks, separated by commas.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

fn dotted(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Whether `span` begins in a key or its value. A table's own span is its header, so its members are looked at as well.
fn touches(key: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    key.span().contains(&span.start) || value_touches(value, span)
}

fn value_touches(value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> bool {
    if value.span().contains(&span.start) {
        return true;
    }
    match value.get_ref() {
        DeValue::Table(table) => table.iter().any(|(key, value)| touches(key, value, span)),
        DeValue::Array(members) => members.iter().any(|member| value_touches(member, span)),
        _ => false,
    }
}

/// Serde's words as ours: what was expected first, then what was found; and a hint where a word was nearly right.
fn polish(message: &str) -> (String, Option<String>) {
    let message = message.trim();
    for start in ["invalid type: ", "invalid value: "] {
        if let Some((found, expected)) = message.strip_prefix(start).and_then(|rest| rest.rsplit_once(", expected ")) {
            return (format!("expected {}, found {found}", plain(expected)), None);
        }
    }
    if let Some(key) = message.strip_prefix("missing field ") {
        return (format!("{key} is missing"), None);
    }
    if let Some((found, expected)) = message.strip_prefix("unknown variant ").and_then(|m| m.split_once(", expected "))
    {
        let words = expected.split('`').skip(1).step_by(2);
        let hint = nearest(found.trim_matches('`'), words).map(|meant| format!("did you mean `{meant}`?"));
        return (format!("expected {expected}, found {found}"), hint);
    }
    if let Some((found, expected)) = message.strip_prefix("unknown field ").and_then(|m| m.split_once(", expected ")) {
        return (format!("unknown key {found}, expected {expected}"), None);
    }
    let mut letters = message.chars();
    let first = letters.next().map(|c| c.to_lowercase().to_string()).unwrap_or_default();
    (first + letters.as_str(), None)
}

/// What the language calls a number, as people call it.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number from 0 on",
        "a nonzero u8" | "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number from 1 on"
        }
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "`true` or `false`",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

/// What stands there, with its article.
pub(super) fn sort_of(value: &DeValue<'_>) -> String {
    let sort = value.type_str();
    format!("{} {sort}", if sort.starts_with(['a', 'i']) { "an" } else { "a" })
}
