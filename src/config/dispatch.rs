//! From a table to a check or channel: its `kind` picks the code, the common keys are split off, the rest is the kind's.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use schemars::SchemaGenerator;
use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::common::{CHANNEL_KEYS, CHECK_KEYS, ChannelKeys, CheckKeys, OwnKeys, Top, shortened};
use super::files::{Role, Source};
use super::nearest::nearest;
use super::problems::Problems;
use super::table::{self, At, Read, Shape, list, place, sort_of};
use crate::facts::{BadName, CheckName, is_name};
use crate::kinds::{AnyCheck, AnyKind};
use crate::notify::{AnyChannel, AnyNotifier};
use crate::settings::Problem;

/// What a config may be made of; tests bring their own.
#[derive(Clone, Copy)]
pub(super) struct Registry {
    pub kinds: &'static [&'static dyn AnyKind],
    pub notifiers: &'static [&'static dyn AnyNotifier],
}

/// Keys of the main file that hold tables of others, and what to say of those that this version doesn't have.
pub(super) const TABLES: &[&str] = &["check", "notify", "model", "agent"];

/// A file, parsed.
pub(super) struct File<'i> {
    pub source: &'i Source,
    pub root: DeTable<'i>,
}

/// A check as it stands in the config, before what it says of others is looked at.
pub(super) struct WrittenCheck<'t> {
    pub name: CheckName,
    pub at: At<'t>,
    pub table: &'t DeTable<'t>,
    pub keys: CheckKeys,
    /// None when what is left to the kind could not be read.
    pub check: Option<(&'static dyn AnyKind, Arc<dyn AnyCheck>)>,
}

/// A channel as it stands in the config.
pub(super) struct WrittenChannel<'t> {
    pub name: String,
    pub at: At<'t>,
    pub table: &'t DeTable<'t>,
    pub keys: ChannelKeys,
    /// None when what is left to the notifier could not be read.
    pub channel: Option<Arc<dyn AnyChannel>>,
}

/// All that stands in the files.
#[derive(Default)]
pub(super) struct Written<'t> {
    pub top: Option<Read<Top>>,
    /// `[check.pulsecheck]`.
    pub own: Option<(OwnKeys, At<'t>, &'t DeTable<'t>)>,
    pub checks: Vec<WrittenCheck<'t>>,
    pub channels: Vec<WrittenChannel<'t>>,
    /// The names of all checks, those that could not be read as well, and whether they are switched on.
    pub names: BTreeMap<CheckName, bool>,
}

/// Parses a file. Its syntax errors are in `out`, several at once.
pub(super) fn parse<'i>(source: &'i Source, out: &mut Problems) -> Option<File<'i>> {
    const MOST: usize = 20;
    out.know(&source.name, &source.text);
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let mut twice: Option<usize> = None;
    for error in errors.iter().take(MOST) {
        let end = source.text.len();
        let span = error.span().unwrap_or(0..0);
        let span = span.start.min(end)..span.end.min(end);
        if error.message() == "duplicate key" {
            // The keys below a table that is there twice are there twice as well; the table is what matters.
            let since = twice.and_then(|since| source.text.get(since..span.start));
            if since.is_some_and(|between| !between.contains("\n[")) {
                continue;
            }
            let before = source.text.get(..span.start).unwrap_or_default();
            let line = before.get(before.rfind('\n').map_or(0, |at| at + 1)..).unwrap_or_default();
            twice = line.trim_start().starts_with('[').then_some(span.start);
            let problem = Problem::new(&source.name, span, "", "this is there already, further up");
            out.push(problem.hint("TOML has each table and each key of a table once"));
            continue;
        }
        out.push(Problem::new(&source.name, span, "", error.message()));
    }
    errors.is_empty().then(|| File { source, root: root.into_inner() })
}

/// Reads what stands in the files.
pub(super) fn read<'t>(files: &'t [File<'t>], registry: Registry, out: &mut Problems) -> Written<'t> {
    let mut written = Written::default();
    let mut seen: BTreeMap<(&str, String), (&Path, Range<usize>)> = BTreeMap::new();
    for file in files {
        read_own_keys(file, &mut written, out);
        for (word, name, at, table) in tables(file, out) {
            if let Some((file, span)) = seen.get(&(word, name.clone())) {
                // The two places; a pack can't be changed, so it is the other that is pointed at.
                let (here, there) = ((at.file, at.span.clone()), (*file, span.clone()));
                let pack = at.file.to_string_lossy().starts_with("pack:");
                let ((file, span), other) = if pack { (there, here) } else { (here, there) };
                let said = format!("there is another one at {}", out.place(other.0, other.1.start));
                out.push(Problem::new(file, span, at.key, said).hint("rename or remove one of them"));
                continue;
            }
            seen.insert((word, name.clone()), (at.file, at.span.clone()));
            if !is_name(&name) {
                out.push(at.problem(at.span.clone(), "", BadName(shortened(&name)).to_string()));
                continue;
            }
            match word {
                "check" => read_check(&name, at, table, registry, &mut written, out),
                _ => read_channel(name, at, table, registry, &mut written, out),
            }
        }
    }
    written
}

/// The file's own keys, those of the main file; an included one has none.
fn read_own_keys(file: &File<'_>, written: &mut Written<'_>, out: &mut Problems) {
    let at = At { file: &file.source.name, key: String::new(), span: 0..0 };
    let own: DeTable<'_> = only(&file.root, |key| !TABLES.contains(&key));
    if file.source.role == Role::Main {
        let shape = || Shape::new(&["check", "notify"], SchemaGenerator::root_schema_for::<Top>);
        written.top = table::read(&own, &at, shape, Top::deserialize, out);
        return;
    }
    for (key, _) in &own {
        let said = "an included file has only `[check.NAME]` and `[notify.NAME]`";
        out.push(at.problem(key.span(), key.get_ref(), said).hint("put it into the main file"));
    }
}

/// Each `[check.NAME]` and `[notify.NAME]` of a file.
fn tables<'t>(file: &'t File<'t>, out: &mut Problems) -> Vec<(&'static str, String, At<'t>, &'t DeTable<'t>)> {
    let mut found = Vec::new();
    for word in TABLES.iter().copied() {
        let Some((key, value)) = file.root.get_key_value(word) else { continue };
        let at = At { file: &file.source.name, key: word.to_owned(), span: key.span() };
        if word == "model" || word == "agent" {
            out.push(at.problem(key.span(), "", format!("this version has no {word}s yet (take the table out)")));
            continue;
        }
        let DeValue::Table(members) = value.get_ref() else {
            let said = format!("expected tables like `[{word}.NAME]`, found {}", sort_of(value.get_ref()));
            out.push(at.problem(value.span(), "", said));
            continue;
        };
        for (name, member) in members {
            let key = format!("{word}.{}", name.get_ref());
            let at = At { file: &file.source.name, key, span: name.span() };
            match member.get_ref() {
                DeValue::Table(table) => found.push((word, name.get_ref().to_string(), at, table)),
                other => {
                    let said = format!("expected a table `[{word}.NAME]`, found {}", sort_of(other));
                    out.push(at.problem(member.span(), "", said));
                }
            }
        }
    }
    found
}

fn read_check<'t>(
    name: &str,
    at: At<'t>,
    table: &'t DeTable<'t>,
    registry: Registry,
    written: &mut Written<'t>,
    out: &mut Problems,
) {
    let Ok(name) = CheckName::try_from(name) else { return };
    if name.as_str() == CheckName::OWN {
        if let Some(kind) = table.get("kind") {
            let said = "the check of Pulsecheck itself has no `kind`";
            out.push(at.problem(kind.span(), "kind", said).hint("give a check of your own another name"));
        }
        let keys = only(table, |key| key != "kind");
        let shape = || Shape::new(&[], SchemaGenerator::root_schema_for::<OwnKeys>);
        if let Some(keys) = table::read(&keys, &at, shape, OwnKeys::deserialize, out) {
            written.own = Some((keys.value, at, table));
        }
        return;
    }
    let keys = only(table, |key| CHECK_KEYS.contains(&key));
    let shape = || Shape::new(&[], SchemaGenerator::root_schema_for::<CheckKeys>);
    // Every common key may be left out, so the rest can always be read without those that are wrong.
    let Some(Read { value: keys, .. }) = table::read(&keys, &at, shape, CheckKeys::deserialize, out) else { return };
    written.names.insert(name.clone(), keys.enabled);

    let known = registry.kinds.iter().copied().filter(|kind| kind.doc().name != CheckName::OWN);
    let kind = kind_of(table, &at, &known.map(|kind| (kind.doc().name, kind)).collect::<Vec<_>>(), out);
    let check = kind.and_then(|kind| {
        let schema = |generator: &mut _| kind.schema(generator);
        let read = configure(table, &at, CHECK_KEYS, schema, |from, report| kind.configure(from, report), out);
        Some((kind, read?))
    });
    written.checks.push(WrittenCheck { name, at, table, keys, check });
}

fn read_channel<'t>(
    name: String,
    at: At<'t>,
    table: &'t DeTable<'t>,
    registry: Registry,
    written: &mut Written<'t>,
    out: &mut Problems,
) {
    let keys = only(table, |key| CHANNEL_KEYS.contains(&key));
    let shape = || Shape::new(&[], SchemaGenerator::root_schema_for::<ChannelKeys>);
    let Some(Read { value: keys, .. }) = table::read(&keys, &at, shape, ChannelKeys::deserialize, out) else { return };
    let known = registry.notifiers.iter().copied().map(|notifier| (notifier.doc().name, notifier));
    let channel = kind_of(table, &at, &known.collect::<Vec<_>>(), out).and_then(|kind| {
        let schema = |generator: &mut _| kind.schema(generator);
        configure(table, &at, CHANNEL_KEYS, schema, |from, report| kind.configure(from, report), out)
    });
    written.channels.push(WrittenChannel { name, at, table, keys, channel });
}

/// What the word in `kind` stands for.
fn kind_of<K: Copy>(table: &DeTable<'_>, at: &At<'_>, known: &[(&'static str, K)], out: &mut Problems) -> Option<K> {
    let names = || known.iter().map(|(name, _)| *name);
    let all = || format!("there are: {}", list(names()));
    let Some(kind) = table.get("kind") else {
        out.push(at.problem(at.span.clone(), "", "`kind` is missing").hint(all()));
        return None;
    };
    let Some(word) = kind.get_ref().as_str() else {
        let said = format!("expected a string, found {}", sort_of(kind.get_ref()));
        out.push(at.problem(kind.span(), "kind", said).hint(all()));
        return None;
    };
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, kind)| *kind);
    if found.is_none() {
        let problem = at.problem(kind.span(), "kind", format!("unknown kind `{}`", shortened(word)));
        let meant = nearest(word, names());
        out.push(problem.hint(meant.map_or_else(all, |meant| format!("did you mean `{meant}`?"))));
    }
    found
}

/// Reads what is left of a table without `kind` and the `common` keys, and has it validated.
fn configure<'t, T>(
    table: &'t DeTable<'t>,
    at: &At<'_>,
    common: &[&str],
    schema: impl FnOnce(&mut SchemaGenerator) -> schemars::Schema,
    configure: impl Fn(ValueDeserializer<'t>, &mut dyn FnMut(&str, String)) -> Result<T, toml::de::Error>,
    out: &mut Problems,
) -> Option<T> {
    let own = only(table, |key| key != "kind" && !common.contains(&key));
    let mut reported = Vec::new();
    let read = table::read(
        &own,
        at,
        || Shape::new(common, schema),
        |from| {
            reported.clear();
            configure(from, &mut |key, said| reported.push((key.to_owned(), said)))
        },
        out,
    )?;
    // What was read without the keys that are wrong is no whole; what is reported of it may follow from that.
    if !read.whole {
        return None;
    }
    for (key, said) in &reported {
        let span = place(&own, key).unwrap_or_else(|| at.span.clone());
        out.push(at.problem(span, key, said));
    }
    reported.is_empty().then_some(read.value)
}

/// The part of a table whose keys are wanted.
fn only<'i>(table: &DeTable<'i>, wanted: impl Fn(&str) -> bool) -> DeTable<'i> {
    let wanted = |(key, _): &(&Spanned<_>, &Spanned<_>)| {
        let key: &std::borrow::Cow<'_, str> = key.get_ref();
        wanted(key)
    };
    table.iter().filter(wanted).map(|(key, value)| (key.clone(), value.clone())).collect()
}
