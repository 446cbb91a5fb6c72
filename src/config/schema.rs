//! `config.schema.json`: what editors complete and check by, composed from the types that read the config.

use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::common::{ChannelKeys, CheckKeys, OwnKeys, Top};
use super::dispatch::Registry;
use crate::facts::CheckName;
use crate::kinds::KINDS;
use crate::notify::NOTIFIERS;

/// The JSON Schema of a config file. Deterministic: the same build gives the same text.
#[must_use]
pub fn schema() -> Value {
    compose(Registry { kinds: KINDS, notifiers: NOTIFIERS })
}

pub(super) fn compose(registry: Registry) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut top = inlined::<Top>(&mut generator);
    let check_keys = inlined::<CheckKeys>(&mut generator);
    let channel_keys = inlined::<ChannelKeys>(&mut generator);
    let mut own = inlined::<OwnKeys>(&mut generator);
    own.insert("description".to_owned(), "The check that Pulsecheck runs on itself; it can't be removed.".into());

    let kinds = registry.kinds.iter().filter(|kind| kind.doc().name != CheckName::OWN).map(|kind| {
        let settings = kind.schema(&mut generator);
        table(kind.doc().name, kind.doc().about, &check_keys, &resolved(settings, &mut generator))
    });
    let kinds: Vec<_> = kinds.collect();
    let channels = registry.notifiers.iter().map(|notifier| {
        let settings = notifier.schema(&mut generator);
        table(notifier.doc().name, notifier.doc().about, &channel_keys, &resolved(settings, &mut generator))
    });
    let channels: Vec<_> = channels.collect();

    if let Some(properties) = top.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(
            "check".to_owned(),
            json!({
                "type": "object",
                "description": "The checks: `[check.NAME]`.",
                "properties": { CheckName::OWN: own },
                "propertyNames": { "pattern": NAME },
                "additionalProperties": { "oneOf": kinds },
            }),
        );
        properties.insert(
            "notify".to_owned(),
            json!({
                "type": "object",
                "description": "The channels that it speaks through: `[notify.NAME]`.",
                "propertyNames": { "pattern": NAME },
                "additionalProperties": { "oneOf": channels },
            }),
        );
    }
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    whole.insert("title".to_owned(), "Pulsecheck's config".into());
    whole.extend(top.into_iter().filter(|(key, _)| key != "title" && key != "description" && key != "$schema"));
    whole.insert("$defs".to_owned(), Value::Object(generator.take_definitions(true)));
    let mut whole = Value::Object(whole);
    without_null(&mut whole);
    whole
}

/// TOML has no null: what may be left out is left out. Takes `null` from unions, types and defaults.
fn without_null(schema: &mut Value) {
    let null = json!({ "type": "null" });
    if let Value::Object(map) = schema {
        if let Some(Value::Array(types)) = map.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                map.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(values)) = map.get_mut("enum") {
            values.retain(|value| !value.is_null());
        }
        map.retain(|key, value| key != "default" || !value.is_null());
        if let Some(Value::Array(variants)) = map.get_mut("anyOf") {
            variants.retain(|variant| *variant != null);
            if let [Value::Object(only)] = variants.as_slice() {
                let only = only.clone();
                map.remove("anyOf");
                // What is said of the place goes before what is said of the type.
                for (key, value) in only {
                    map.entry(key).or_insert(value);
                }
            }
        }
    }
    match schema {
        Value::Object(map) => map.values_mut().for_each(without_null),
        Value::Array(list) => list.iter_mut().for_each(without_null),
        _ => {}
    }
}

const NAME: &str = "^[a-z0-9][a-z0-9._-]{0,63}$";

/// One kind's table: the common keys and its own.
fn table(kind: &str, about: &str, common: &Map<String, Value>, own: &Map<String, Value>) -> Value {
    let properties = |schema: &Map<String, Value>| schema.get("properties").and_then(Value::as_object).cloned();
    let mut all = Map::new();
    all.insert("kind".to_owned(), json!({ "const": kind }));
    all.extend(properties(own).unwrap_or_default());
    all.extend(properties(common).unwrap_or_default());
    let required = own.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let required: Vec<_> = std::iter::once(Value::from("kind")).chain(required).collect();
    json!({
        "type": "object",
        "title": kind,
        "description": about,
        "properties": all,
        "required": required,
        "additionalProperties": false,
    })
}

fn inlined<T: schemars::JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = generator.subschema_for::<T>();
    resolved(schema, generator)
}

/// A schema without the reference that the generator made of it; the definition goes, since nothing else refers to it.
fn resolved(schema: Schema, generator: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = schema.to_value();
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix("#/$defs/"));
    let definition = match name {
        Some(name) => generator.definitions_mut().remove(name).unwrap_or(Value::Null),
        None => schema,
    };
    match definition {
        Value::Object(definition) => definition,
        _ => Map::new(),
    }
}
