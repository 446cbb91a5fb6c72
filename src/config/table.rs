//! Reads one TOML table and finds all that is wrong with it. Serde stops at the first error of a table; here the key
//! that caused it is set aside and the rest is read again. The schema of the type knows the keys there may be.

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

/// Reads `table` by `attempt`. `None` when anything is wrong with it; all of it is then in `out`.
pub(super) fn read<'i, 's, T>(
    table: &DeTable<'i>,
    at: &At<'_>,
    shape: impl FnOnce() -> Shape<'s>,
    mut attempt: impl FnMut(ValueDeserializer<'i>) -> Result<T, toml::de::Error>,
    out: &mut Problems,
) -> Option<T> {
    let whole =
        |table: &DeTable<'i>| ValueDeserializer::from(Spanned::new(at.span.clone(), DeValue::Table(table.clone())));
    if let Ok(read) = attempt(whole(table)) {
        return Some(read);
    }
    let shape = shape();
    let (mut left, mut complained) = (table.clone(), false);
    let known = out.list().len();
    shape.strip(&mut left, &shape.schema, true, at, "", out);
    complained |= out.list().len() > known;
    // Each turn sets one key aside, so there are no more turns than keys.
    while let Err(error) = attempt(whole(&left)) {
        let (said, hint) = polish(error.message());
        let span = error.span().unwrap_or_else(|| at.span.clone());
        let culprit =
            left.iter().find(|(key, value)| touches(key, value, &span)).map(|(key, _)| key.get_ref().to_string());
        if let Some(key) = culprit {
            let path = path_to(&left, &span);
            let mut problem = at.problem(span, path.as_deref().unwrap_or(&key), said);
            problem.hint = hint;
            out.push(problem);
            complained = true;
            left.remove(key.as_str());
            continue;
        }
        let missing: Vec<_> = shape.required().into_iter().filter(|key| !table.contains_key(*key)).collect();
        for key in &missing {
            out.push(at.problem(at.span.clone(), "", format!("`{key}` is missing")));
        }
        // What is missing only because it was set aside has been said already.
        if missing.is_empty() && !(complained && error.message().starts_with("missing field")) {
            out.push(at.problem(at.span.clone(), "", said));
        }
        break;
    }
    None
}

/// The value under a dotted key, and where it stands.
pub(super) fn find<'t, 'i>(table: &'t DeTable<'i>, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
    if let Some(value) = table.get(key) {
        return Some(value);
    }
    let (head, rest) = key.split_once('.')?;
    find(table.get(head)?.get_ref().as_table()?, rest)
}

/// Where the value of a key stands, or a member of the list there.
pub(super) fn place(table: &DeTable<'_>, key: &str, member: Option<usize>) -> Option<Range<usize>> {
    let value = find(table, key)?;
    let member = member.and_then(|i| value.get_ref().as_array()?.get(i));
    Some(member.unwrap_or(value).span())
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

/// The dotted key of what stands at `span`.
fn path_to(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    let (key, value) = table.iter().find(|(key, value)| touches(key, value, span))?;
    let rest = value.get_ref().as_table().and_then(|inner| path_to(inner, span));
    Some(dotted(key.get_ref(), rest.as_deref().unwrap_or_default()).trim_end_matches('.').to_owned())
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
