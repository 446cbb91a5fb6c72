//! Reads a content by its format and gathers what there is to say about it. Blocking.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};

use jsonschema::Validator;
use serde_json::Value as Json;

use crate::expr::Val;
use crate::read::audio::{self, Audio, Coding, Deaf};
use crate::read::json::{JsonError, is_empty, json, shape};
use crate::read::{Hashing, MAX_JSON_DEPTH, csv, jsonl, text};
use crate::redact::Clean;

use super::settings::{Format, Settings};

/// Rows that are held against a schema and required paths, and that expressions see.
const MAX_ROWS: usize = 1_000;
/// Bytes of text that expressions see.
const MAX_TEXT: usize = 64 * 1024;

/// What is in it.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// Bytes read.
    pub bytes: u64,
    /// Of all of it; none where it was cut.
    pub sha256: Option<String>,
    /// Whether the limit came before the end.
    pub cut: bool,
    /// Why it could not be read for our limits' sake.
    pub beyond: Option<String>,
    /// Whether there is nothing in it, and in which way.
    pub empty: Option<&'static str>,
    /// Rows, where the format has any.
    pub rows: Option<u64>,
    /// What a json document is.
    pub shape: Option<&'static str>,
    /// Why it isn't what it should be.
    pub malformed: Option<String>,
    /// The header of a csv.
    pub columns: Option<BTreeSet<Clean>>,
    /// Columns of the settings that the header doesn't have.
    pub missing_columns: Vec<String>,
    /// Where and how it departs from the schema; foreign.
    pub wrong_shape: Option<String>,
    /// Paths that lead to nothing, with the line where it is one.
    pub missing_values: Vec<String>,
    /// The document or its first rows, where `expect` wants them.
    pub json: Option<Val>,
    /// The beginning of a text.
    pub text: String,
    /// What it sounds like.
    pub audio: Option<Audio>,
    /// Why it could not be listened to: a code and the words.
    pub unheard: Option<(&'static str, String)>,
}

/// Reads at most the settings' limit.
pub(super) fn content(
    settings: &Settings,
    format: Format,
    schema: Option<&Validator>,
    file: &File,
) -> std::io::Result<Content> {
    let limit = settings.read_limit(format);
    let mut reader = Hashing::new(file);
    let mut seen = match format {
        Format::Wav => return heard(settings, Coding::Wav, file, limit.bytes()),
        Format::Mp3 => return heard(settings, Coding::Mp3, file, limit.bytes()),
        Format::Flac => return heard(settings, Coding::Flac, file, limit.bytes()),
        Format::Ogg => return heard(settings, Coding::Ogg, file, limit.bytes()),
        Format::Json => document(settings, schema, &mut reader, limit.as_usize())?,
        Format::Jsonl => lines(settings, schema, &mut reader, limit.bytes())?,
        Format::Csv => table(settings, &mut reader, limit.bytes())?,
        Format::Text => prose(settings, &mut reader, limit.bytes())?,
        Format::Any => anything(&mut reader, limit.bytes())?,
    };
    seen.bytes = reader.seen_bytes();
    if !seen.cut && seen.beyond.is_none() {
        seen.sha256 = Some(reader.finish());
    }
    Ok(seen)
}

fn document(
    settings: &Settings,
    schema: Option<&Validator>,
    reader: impl Read,
    limit: usize,
) -> std::io::Result<Content> {
    let mut seen = Content::default();
    match json(reader, limit, MAX_JSON_DEPTH) {
        Ok(read) => match read.value {
            None => seen.empty = Some("it holds nothing"),
            Some(value) => {
                seen.shape = Some(shape(&value));
                seen.empty = nothing(settings, &value);
                seen.rows = value.as_array().map(|list| u64::try_from(list.len()).unwrap_or(u64::MAX));
                seen.missing_values = missing(settings, &value).map(str::to_owned).collect();
                seen.wrong_shape = schema.and_then(|schema| wrong(schema, &value));
                if settings.expects_json() {
                    seen.json = Some(Val::from(&value));
                }
            }
        },
        Err(JsonError::Io(e)) => return Err(e),
        Err(e @ JsonError::TooDeep(_)) => seen.beyond = Some(e.to_string()),
        Err(JsonError::TooLarge(_)) => {
            seen.beyond =
                Some(format!("it is larger than the {} that are read of json", settings.read_limit(Format::Json)));
            seen.cut = true;
        }
        Err(e @ JsonError::Malformed { .. }) => seen.malformed = Some(format!("is not JSON: {e}")),
    }
    Ok(seen)
}

fn lines(settings: &Settings, schema: Option<&Validator>, reader: impl Read, limit: u64) -> std::io::Result<Content> {
    let mut seen = Content::default();
    let (mut looked, mut kept) = (0_usize, Vec::new());
    let read = jsonl::jsonl(reader, limit, |line, value| {
        looked += 1;
        if looked > MAX_ROWS {
            return;
        }
        if seen.missing_values.is_empty() {
            seen.missing_values = missing(settings, &value).map(|path| format!("{path} in line {line}")).collect();
        }
        if seen.wrong_shape.is_none() {
            seen.wrong_shape =
                schema.and_then(|schema| wrong(schema, &value)).map(|wrong| format!("line {line}: {wrong}"));
        }
        if settings.expects_json() {
            kept.push(Val::from(&value));
        }
    })?;
    seen.json = Some(Val::List(kept));
    seen.rows = Some(read.rows);
    seen.cut = read.cut;
    seen.empty = (read.rows + read.bad_lines == 0 && !read.cut).then_some("it holds no row");
    seen.malformed = read.first_bad.map(|(line, what)| {
        format!(
            "has {} of {} lines that are not JSON, the first is line {line}: {what}",
            read.bad_lines,
            read.rows + read.bad_lines
        )
    });
    Ok(seen)
}

fn table(settings: &Settings, reader: impl Read, limit: u64) -> std::io::Result<Content> {
    let mut kept = Vec::new();
    let read = csv::csv(reader, limit, |_, fields| {
        if settings.expects_json() && kept.len() < MAX_ROWS {
            kept.push(fields.to_vec());
        }
    })?;
    let as_map = |fields: Vec<String>| {
        Val::Map(read.columns.iter().cloned().zip(fields.into_iter().map(Val::Text)).collect::<BTreeMap<_, _>>())
    };
    let malformed = if let Some(line) = read.too_long {
        Some(format!("has a row in line {line} that doesn't end (an open quote?)"))
    } else if let Some((line, fields)) = read.first_ragged {
        Some(format!(
            "has {} of {} rows with another number of fields than the header's {}, the first in line {line} with {fields}",
            read.ragged_rows,
            read.rows,
            read.columns.len()
        ))
    } else {
        read.not_utf8.map(|line| format!("is not UTF-8 in line {line}"))
    };
    Ok(Content {
        cut: read.cut,
        rows: Some(read.rows),
        empty: (read.rows == 0 && !read.cut).then_some(if read.columns.is_empty() {
            "it holds nothing"
        } else {
            "it holds a header and no row"
        }),
        missing_columns: settings.columns.iter().filter(|name| !read.columns.contains(name)).cloned().collect(),
        columns: (!settings.columns.is_empty())
            .then(|| read.columns.iter().map(|name| Clean::line(name, 64)).collect()),
        malformed,
        json: Some(Val::List(kept.into_iter().map(as_map).collect())),
        ..Content::default()
    })
}

/// Sound is heard in places, so its digest takes a second reading, which is done only where it is asked for.
fn heard(settings: &Settings, coding: Coding, mut file: &File, limit: u64) -> std::io::Result<Content> {
    let mut seen = Content { bytes: file.seek(SeekFrom::End(0))?, ..Content::default() };
    match audio::audio(file, coding, limit) {
        Ok(audio) => {
            seen.bytes = audio.bytes;
            seen.audio = Some(audio);
        }
        Err(Deaf::Io(e)) => return Err(e),
        Err(Deaf::Nothing(how)) => seen.empty = Some(how),
        Err(Deaf::Malformed(how)) => seen.malformed = Some(how),
        Err(Deaf::Unread(how)) => seen.unheard = Some(("unsupported_audio", format!("it {how}"))),
        Err(Deaf::NotInThisBuild) => {
            let said = "this build has no mp3, flac and ogg (feature `audio`)";
            seen.unheard = Some(("not_in_this_build", said.to_owned()));
        }
    }
    if settings.changes {
        seen.cut = seen.bytes > limit;
        if seen.cut {
            seen.bytes = limit;
            return Ok(seen);
        }
        file.rewind()?;
        let mut reader = Hashing::new(file.take(limit));
        std::io::copy(&mut reader, &mut std::io::sink())?;
        seen.sha256 = Some(reader.finish());
    }
    Ok(seen)
}

fn prose(settings: &Settings, reader: impl Read, limit: u64) -> std::io::Result<Content> {
    let read = text::text(reader, limit, MAX_TEXT)?;
    let malformed = if let Some(line) = read.not_utf8 {
        Some(format!("is not UTF-8 text: line {line}"))
    } else {
        read.zero_byte.map(|line| format!("has zero bytes in line {line}"))
    };
    let empty = if read.non_blank == 0 && !read.cut {
        Some("it holds nothing but white space or zero bytes").filter(|_| read.lines > 0).or(Some("it holds nothing"))
    } else {
        is_placeholder(settings, &read.beginning).then_some("it holds a placeholder")
    };
    Ok(Content {
        cut: read.cut,
        rows: Some(read.non_blank),
        empty,
        malformed,
        text: read.beginning,
        ..Content::default()
    })
}

fn anything(reader: impl Read, limit: u64) -> std::io::Result<Content> {
    let read = text::raw(reader, limit)?;
    let empty = match (read.blank && !read.cut, read.bytes) {
        (false, _) => None,
        (true, 0) => Some("it holds nothing"),
        (true, _) => Some("it holds nothing but white space or zero bytes"),
    };
    Ok(Content { cut: read.cut, empty, ..Content::default() })
}

/// Whether a text is one of the settings' placeholders.
pub(super) fn is_placeholder(settings: &Settings, text: &str) -> bool {
    let text = text.trim();
    settings.placeholders.iter().any(|placeholder| placeholder.trim().eq_ignore_ascii_case(text))
}

fn nothing(settings: &Settings, value: &Json) -> Option<&'static str> {
    match value {
        Json::Null => Some("it holds `null`"),
        Json::Object(map) if map.is_empty() => Some("it holds `{}`"),
        Json::Array(list) if list.is_empty() => Some("it holds `[]`"),
        Json::String(text) if is_placeholder(settings, text) => Some("it holds a placeholder"),
        value if is_empty(value) => Some("it holds a blank text"),
        _ => None,
    }
}

/// The required paths that lead to nothing.
fn missing<'a>(settings: &'a Settings, value: &Json) -> impl Iterator<Item = &'a str> {
    settings
        .required
        .iter()
        .filter(|path| {
            let found = path.all(value);
            found.is_empty()
                || found
                    .iter()
                    .any(|value| is_empty(value) || value.as_str().is_some_and(|text| is_placeholder(settings, text)))
        })
        .map(crate::settings::JsonPath::as_str)
}

/// The first departure from the schema: where, and what was expected there. The value itself is not in it.
fn wrong(schema: &Validator, value: &Json) -> Option<String> {
    let error = schema.iter_errors(value).next()?;
    let place = error.instance_path().to_string();
    let place = if place.is_empty() { "the top" } else { &place };
    Some(format!("at {place}: {}", error.masked()))
}
