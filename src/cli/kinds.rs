//! `pulsecheck kinds`: what can be looked at, and everything that a kind can be told, from the code that reads it.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Exit, Failure, Session};
use crate::config::{self, nearest};
use crate::kinds::{KINDS, KindDoc};

/// Which one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A kind; without it, all of them with a line each.
    kind: Option<String>,
}

/// Prints it.
pub fn run(args: &Args, session: &mut Session) -> Result<Exit, Failure> {
    let text = match &args.kind {
        None => KINDS.iter().map(|kind| line(kind.doc())).collect(),
        Some(name) => {
            let names = || KINDS.iter().map(|kind| kind.doc().name);
            let kind = KINDS.iter().find(|kind| kind.doc().name == name.as_str()).ok_or_else(|| {
                let meant =
                    nearest(name, names()).map_or_else(String::new, |meant| format!(", did you mean `{meant}`?"));
                Failure(format!("there is no kind of that name{meant} (`pulsecheck kinds` lists them)"))
            })?;
            page(kind.doc(), &config::schema())
        }
    };
    // Of our own making: an example in it must not be taken for a secret.
    session.out.bytes(text.as_bytes());
    Ok(Exit::Done)
}

fn line(doc: &KindDoc) -> String {
    let first = doc.about.split_inclusive(". ").next().unwrap_or(doc.about);
    format!("{:<14}{}\n", doc.name, first.trim())
}

/// All that is documented of a kind.
fn page(doc: &KindDoc, schema: &Value) -> String {
    let mut page = format!("{}\n{}\n", doc.name, doc.about);
    if !doc.subjects.is_empty() {
        let _ = writeln!(page, "\nSubjects: {}.", doc.subjects);
    }
    let _ = write!(page, "\nExample:\n\n{}\nSettings, beside those of every check:\n", doc.example);
    for (key, value) in settings(doc.name, schema) {
        let _ = writeln!(page, "\n  {key}{}", of_what(&value, schema));
        for described in of(&value, "/description").as_str().unwrap_or_default().lines() {
            let _ = writeln!(page, "      {described}");
        }
    }
    page.push_str("\nFacts:\n\n");
    for fact in doc.facts {
        let _ = writeln!(page, "  {} ({}): {}", fact.name, fact.class, fact.about);
    }
    page.push_str("\nReasons:\n\n");
    for reason in doc.all_reasons() {
        let settled = if reason.settled { ", at once" } else { "" };
        let _ = writeln!(
            page,
            "  {} ({}{settled}): {}. What to do: {}",
            reason.code,
            reason.outcome.as_str(),
            reason.about,
            reason.action
        );
    }
    page
}

/// The keys of a kind that other kinds have not, as the schema of the config describes them.
fn settings(kind: &str, schema: &Value) -> Vec<(String, Value)> {
    let kinds = of(schema, "/properties/check/additionalProperties/oneOf").as_array();
    let properties = |kind: &Value| of(kind, "/properties").as_object().cloned().unwrap_or_default();
    let others = kinds.into_iter().flatten();
    let common = |key: &String| others.clone().all(|kind| of(kind, "/properties").get(key).is_some());
    let own = others.clone().find(|other| of(other, "/title") == kind).map(properties).unwrap_or_default();
    own.into_iter().filter(|(key, _)| !common(key)).collect()
}

/// The type and the default of a setting, in words.
fn of_what(value: &Value, schema: &Value) -> String {
    let name = of(value, "/$ref").as_str().and_then(|at| at.rsplit('/').next());
    let named = name.map_or(value, |name| of(schema, &format!("/$defs/{name}")));
    let kind = of(named, "/type").as_str().map_or_else(String::new, |kind| format!(" ({kind})"));
    let listed = of(named, "/enum").as_array().into_iter().flatten();
    let described = of(named, "/oneOf").as_array().into_iter().flatten().map(|one| of(one, "/const"));
    let words: Vec<&str> = listed.chain(described).filter_map(Value::as_str).collect();
    let words = if words.is_empty() { String::new() } else { format!(", one of {}", words.join(", ")) };
    let default = match of(value, "/default") {
        Value::Null => String::new(),
        default => format!(", by default {default}"),
    };
    format!("{kind}{words}{default}")
}

/// What lies at a JSON pointer, or null.
fn of<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}
