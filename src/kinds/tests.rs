//! What holds of every kind that stands in the registry, and of the check of Pulsecheck itself.

use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::{KINDS, KindDoc, ReasonOutcome, pulsecheck};
use crate::facts::CheckName;

fn docs() -> impl Iterator<Item = &'static KindDoc> {
    KINDS.iter().map(|kind| kind.doc()).chain([&pulsecheck::DOC])
}

/// Small letters and digits in words that are joined by one of these.
fn is_word(text: &str, joints: &[char]) -> bool {
    let plain = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.split(joints).all(plain)
}

#[test]
fn names_are_words_and_stand_for_one_kind_each() {
    let mut names = BTreeSet::new();
    for doc in docs() {
        assert!(is_word(doc.name, &['-', '_']), "{}", doc.name);
        assert!(names.insert(doc.name), "there are two kinds `{}`", doc.name);
        assert!(doc.about.ends_with('.'), "{}: {}", doc.name, doc.about);
    }
}

#[test]
fn reasons_are_documented_once_with_what_to_do() {
    for doc in docs() {
        let mut codes = BTreeSet::new();
        for reason in doc.all_reasons() {
            let place = format!("{}: {}", doc.name, reason.code);
            assert!(is_word(reason.code, &['_']), "{place}");
            assert!(codes.insert(reason.code), "{place} is documented twice");
            for text in [reason.about, reason.action] {
                assert!(!text.trim().is_empty() && text.trim() == text && !text.ends_with('.'), "{place}: {text:?}");
            }
            let our_fault = reason.outcome == ReasonOutcome::Unknown(crate::facts::Blame::Ours);
            assert!(!(our_fault && reason.settled), "{place}: trouble of our own may pass by itself");
        }
        assert!(!codes.is_empty(), "{}", doc.name);
    }
}

#[test]
fn facts_are_documented_once_with_their_class() {
    for doc in docs() {
        let mut names = BTreeSet::new();
        for fact in doc.facts {
            let place = format!("{}: {}", doc.name, fact.name);
            let name = fact.name.strip_suffix('*').unwrap_or(fact.name);
            assert!(name.is_empty() || is_word(name.trim_end_matches('_'), &['_']), "{place}");
            assert!(names.insert(fact.name), "{place} is documented twice");
            assert!(["state", "gauge", "set", "counter", "info"].contains(&fact.class), "{place}: {}", fact.class);
            assert!(!fact.about.trim().is_empty(), "{place}");
        }
        assert!(!names.is_empty(), "{}", doc.name);
    }
}

#[test]
fn an_example_is_a_check_of_its_own_kind() {
    for kind in KINDS {
        let doc = kind.doc();
        let text: toml::Table = doc.example.parse().unwrap();
        let checks = text["check"].as_table().unwrap();
        assert_eq!((text.len(), checks.len()), (1, 1), "{}", doc.name);
        let mut check = checks.values().next().unwrap().as_table().unwrap().clone();
        assert_eq!(check.remove("kind"), Some(doc.name.into()));

        let own = check.to_string();
        let table = DeTable::parse(&own).unwrap().into_inner();
        let value = ValueDeserializer::from(Spanned::new(0..0, DeValue::Table(table)));
        let mut problems = Vec::new();
        let read = kind.configure(value, &mut |key, why| problems.push(format!("{key}: {why}")));
        assert!(problems.is_empty(), "{}: {problems:?}", doc.name);
        read.unwrap_or_else(|error| panic!("{}: {error}", doc.name));
    }
    let own: toml::Table = pulsecheck::DOC.example.parse().unwrap();
    assert!(own["check"].get(CheckName::OWN).is_some());
}

#[test]
fn every_setting_is_described() {
    for kind in KINDS {
        let name = kind.doc().name;
        let mut generator = schemars::SchemaGenerator::default();
        let schema = kind.schema(&mut generator).to_value();
        let reference = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        let whole = reference.map_or(&schema, |settings| &generator.definitions()[settings]);
        let mut tables = vec![(name.to_owned(), whole)];
        // Tables within tables are written by users as well.
        tables
            .extend(generator.definitions().iter().map(|(definition, table)| (format!("{name}: {definition}"), table)));
        for (place, table) in tables {
            let properties = table["properties"].as_object().into_iter().flatten();
            for (key, property) in properties {
                let text = property["description"].as_str().unwrap_or_default();
                assert!(!text.trim().is_empty(), "{place}: `{key}` is not described");
            }
        }
        assert!(whole["properties"].as_object().is_some_and(|properties| !properties.is_empty()), "{name}");
    }
}
