//! What a user says about an output, and what must not be said together.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::expr::{Expr, Place};
use crate::kinds::words::JobName;
use crate::settings::{Dur, JsonPath, PathGlob, Size};

/// Bytes of a document that are read by default: parsed, it takes several times as much.
const JSON_READ: Size = Size::mib(8);
/// Bytes that are read by default of what is read row by row.
const ROWS_READ: Size = Size::mib(64);
/// Bytes that are read by default where only emptiness matters.
const BEGINNING_READ: Size = Size::mib(1);
/// The largest `max_read`; it is also what is read by default of sound, whose packets are counted to the end.
const MAX_READ: Size = Size::mib(256);
/// Percent of samples that may be clipped by default: a sine that just reaches full scale has 0.6.
const MAX_CLIPPING: f64 = 1.0;

/// What `expect` may use: `json` (the document; of rows a list of the first 1,000; else null), `rows` (their number, or
/// null), `text` (the first 64 KiB of a text, or the end of what a job printed), `size` (bytes), `age_s` and `audio` (a
/// map of the facts about sound, from `codec` to `noise_percent`; else null).
#[derive(Debug, Clone, Copy)]
pub struct OutputPlace;
impl Place for OutputPlace {
    const NAMES: &'static [&'static str] = &["json", "rows", "text", "size", "age_s", "audio"];
}

/// The settings of the kind `output`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key that a user writes by itself")]
pub struct Settings {
    /// The file, or a glob of which the newest file is looked at.
    pub path: Option<PathGlob>,
    /// Instead of a file: what the last successful execution of this job printed, captured by `pulsecheck exec`.
    pub job: Option<JobName>,
    /// The job that writes the file: it must be newer than the start of that job's last successful execution.
    pub after_job: Option<JobName>,
    /// What it must be. Without it: `csv` with `columns`, `json` or `jsonl` with `schema` or `required`, else by the
    /// file's extension, else `any`.
    pub format: Option<Format>,
    /// Whether there may be none, as before the first run; one that is there is held to all the rest.
    #[serde(default)]
    pub optional: bool,
    /// How old it may get.
    pub max_age: Option<Dur>,
    /// The fewest bytes.
    pub min_size: Option<Size>,
    /// The most bytes.
    pub max_size: Option<Size>,
    /// The fewest rows: lines of jsonl, rows of csv below the header, lines of text that aren't blank, elements of a json
    /// list.
    pub min_rows: Option<u64>,
    /// Whether no content at all is fine: zero bytes, white space, `{}`, `[]`, `null`, a header without rows.
    #[serde(default)]
    pub allow_empty: bool,
    /// Texts that count as no content, as the whole of it or as a `required` value, in any case: `TODO`, `n/a`.
    #[serde(default)]
    pub placeholders: Vec<String>,
    /// Columns that a csv's header must have.
    #[serde(default)]
    pub columns: Vec<String>,
    /// JSON Schema that the document, or each of the first 1,000 rows, must match.
    pub schema: Option<InlineSchema>,
    /// The same in a file.
    pub schema_file: Option<PathGlob>,
    /// JSON paths that must each lead to something, and to nothing that is null, blank or empty; in jsonl in each of the
    /// first 1,000 rows.
    #[serde(default)]
    pub required: Vec<JsonPath>,
    /// The shortest that sound may last.
    pub min_duration: Option<Dur>,
    /// The longest that sound may last.
    pub max_duration: Option<Dur>,
    /// The longest that a silence in the sound may last.
    pub max_silence: Option<Dur>,
    /// How many samples of the sound may be clipped, in percent (default 1).
    pub max_clipping: Option<f64>,
    /// Whether sound that is nothing but silence is fine.
    #[serde(default)]
    pub allow_silence: bool,
    /// Whether sound that is nothing but noise is fine.
    #[serde(default)]
    pub allow_static: bool,
    /// CEL that must hold, over `json`, `rows`, `text`, `size`, `age_s` and `audio`.
    pub expect: Option<Expr<OutputPlace>>,
    /// Whether each run must bring other content than the run before.
    #[serde(default)]
    pub changes: bool,
    /// A file written this short a time ago may still be unfinished: what is wrong in it counts as transient.
    #[serde(default = "settle")]
    pub settle: Dur,
    /// How much of it is read (default 8MiB of json, 64MiB of rows and text, 1MiB of `any` where only emptiness matters,
    /// 256MiB of sound).
    pub max_read: Option<Size>,
}

fn settle() -> Dur {
    Dur::secs(30)
}

/// What the content must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON document.
    Json,
    /// One JSON document a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
    /// UTF-8 text without zero bytes.
    Text,
    /// Sound in a WAV file: PCM or floating point.
    Wav,
    /// Sound as mp3.
    Mp3,
    /// Sound as FLAC.
    Flac,
    /// Sound in an Ogg file: Vorbis or FLAC.
    Ogg,
    /// Anything.
    Any,
}

impl Format {
    /// Whether it is sound.
    pub fn is_audio(self) -> bool {
        matches!(self, Self::Wav | Self::Mp3 | Self::Flac | Self::Ogg)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Text => "text",
            Self::Wav => "wav",
            Self::Mp3 => "mp3",
            Self::Flac => "flac",
            Self::Ogg => "ogg",
            Self::Any => "any",
        }
    }
}

/// A JSON Schema that stands in the config as a table, compiled when the config is read.
#[derive(Clone)]
pub struct InlineSchema(pub Arc<Validator>);

impl std::fmt::Debug for InlineSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InlineSchema(…)")
    }
}
impl<'de> Deserialize<'de> for InlineSchema {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let schema = serde_json::Map::deserialize(from)?;
        compile(&serde_json::Value::Object(schema))
            .map(|schema| Self(Arc::new(schema)))
            .map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for InlineSchema {
    fn schema_name() -> Cow<'static, str> {
        "JsonSchema".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "description": "A JSON Schema (draft 2020-12 unless `$schema` says another)." })
    }
}

/// Compiles a JSON Schema; its patterns run in linear time and nothing is fetched.
pub(super) fn compile(schema: &serde_json::Value) -> Result<Validator, String> {
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(schema)
        .map_err(|e| format!("not a JSON Schema: {} (at `{}`)", e.masked(), e.instance_path()))
}

impl Settings {
    /// The format of a file, as said or as its name and the other settings say.
    pub(super) fn format_of(&self, path: &Path) -> Format {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase).unwrap_or_default();
        let by_name = match extension.as_str() {
            "json" => Format::Json,
            "jsonl" | "ndjson" => Format::Jsonl,
            "csv" => Format::Csv,
            "txt" | "md" | "log" => Format::Text,
            "wav" | "wave" => Format::Wav,
            // Where it can't be read, its name alone is no reason to say so.
            "mp3" if cfg!(feature = "audio") => Format::Mp3,
            "flac" if cfg!(feature = "audio") => Format::Flac,
            "ogg" | "oga" if cfg!(feature = "audio") => Format::Ogg,
            _ => Format::Any,
        };
        match self.format {
            Some(format) => format,
            None if !self.columns.is_empty() => Format::Csv,
            None if self.wants_json() && by_name == Format::Jsonl => Format::Jsonl,
            None if self.wants_json() => Format::Json,
            None if self.min_rows.is_some() && (by_name == Format::Any || by_name.is_audio()) => Format::Text,
            None => by_name,
        }
    }

    /// How many bytes of a format are read.
    pub(super) fn read_limit(&self, format: Format) -> Size {
        self.max_read.unwrap_or(match format {
            Format::Json => JSON_READ,
            Format::Any if !self.changes && self.expect.is_none() => BEGINNING_READ,
            Format::Jsonl | Format::Csv | Format::Text | Format::Any => ROWS_READ,
            Format::Wav | Format::Mp3 | Format::Flac | Format::Ogg => MAX_READ,
        })
    }

    /// How many samples may be clipped, in percent.
    pub(super) fn clipping_limit(&self) -> f64 {
        self.max_clipping.unwrap_or(MAX_CLIPPING)
    }

    /// The settings that are about sound, and whether each is there.
    fn about_sound(&self) -> [(&'static str, bool); 6] {
        [
            ("min_duration", self.min_duration.is_some()),
            ("max_duration", self.max_duration.is_some()),
            ("max_silence", self.max_silence.is_some()),
            ("max_clipping", self.max_clipping.is_some()),
            ("allow_silence", self.allow_silence),
            ("allow_static", self.allow_static),
        ]
    }

    /// Whether `expect` may look at `json`: where it doesn't, a large document is no trouble to it.
    pub(super) fn expects_json(&self) -> bool {
        self.expect.as_ref().is_some_and(|expect| expect.source().contains("json"))
    }

    fn wants_json(&self) -> bool {
        self.schema.is_some() || self.schema_file.is_some() || !self.required.is_empty()
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(&str, String)) {
        match (&self.path, &self.job) {
            (None, None) => report("path", "expected `path` (a file or a glob) or `job` (a captured output)".into()),
            (Some(_), Some(_)) => {
                report(
                    "job",
                    "`path` and `job` exclude each other (for the job that writes the file: `after_job`)".into(),
                );
            }
            (None, Some(_)) => self.problems_of_captured(report),
            (Some(path), None) => self.problems_of_sound(self.format_of(Path::new(path.as_str())), report),
        }
        if self.optional && (self.after_job.is_some() || self.job.is_some()) {
            report("optional", "a job that ended well has to leave something (leave out `optional`)".into());
        }
        let not_with = |key: &str, wanted: &str| {
            format!("`{key}` needs {wanted}, found format `{}`", self.format.map_or("any", Format::as_str))
        };
        if !self.columns.is_empty() && self.format.is_some_and(|format| format != Format::Csv) {
            report("columns", not_with("columns", "format `csv`"));
        }
        let as_json = self.format.is_none_or(|format| matches!(format, Format::Json | Format::Jsonl));
        for (key, is_set) in [
            ("schema", self.schema.is_some()),
            ("schema_file", self.schema_file.is_some()),
            ("required", !self.required.is_empty()),
        ] {
            if is_set && !as_json {
                report(key, not_with(key, "format `json` or `jsonl`"));
            }
            if is_set && self.format.is_none() && !self.columns.is_empty() {
                report(key, format!("`{key}` looks into json, `columns` into csv: they exclude each other"));
            }
        }
        if self.schema.is_some() && self.schema_file.is_some() {
            report("schema_file", "`schema` and `schema_file` exclude each other".into());
        }
        if self.schema_file.as_ref().is_some_and(PathGlob::is_glob) {
            report("schema_file", "expected the path of one file, found wildcards".into());
        }
        if self.min_rows.is_some() && self.format.is_some_and(|format| format == Format::Any || format.is_audio()) {
            report("min_rows", not_with("min_rows", "a format with rows"));
        }
        if let (Some(min), Some(max)) = (self.min_size, self.max_size)
            && min > max
        {
            report("max_size", format!("`max_size` {max} is below `min_size` {min}"));
        }
        if self.max_read.is_some_and(|most| most > MAX_READ || most.bytes() == 0) {
            report("max_read", format!("expected a size from 1B to {MAX_READ}"));
        }
    }

    fn problems_of_sound(&self, format: Format, report: &mut dyn FnMut(&str, String)) {
        if !format.is_audio() {
            for (key, _) in self.about_sound().into_iter().filter(|(_, is_set)| *is_set) {
                let found = format.as_str();
                report(key, format!("`{key}` needs format `wav`, `mp3`, `flac` or `ogg`, found format `{found}`"));
            }
        }
        if let Some(most) = self.max_clipping.filter(|most| !(0.0..=100.0).contains(most)) {
            report("max_clipping", format!("{most} is no percentage (it goes from 0 to 100)"));
        }
        if let (Some(min), Some(max)) = (self.min_duration, self.max_duration)
            && min > max
        {
            report("max_duration", format!("`max_duration` {max} is below `min_duration` {min}"));
        }
    }

    /// Of a captured output only the end is kept, redacted: its text can be looked at, its structure can't.
    fn problems_of_captured(&self, report: &mut dyn FnMut(&str, String)) {
        if self.after_job.is_some() {
            report("after_job", "`after_job` needs `path` (a captured output is its job's anyway)".into());
        }
        let structured = self.format.is_some_and(|format| !matches!(format, Format::Any | Format::Text));
        for (key, is_set) in [
            ("format", structured),
            ("columns", !self.columns.is_empty()),
            ("schema", self.schema.is_some()),
            ("schema_file", self.schema_file.is_some()),
            ("required", !self.required.is_empty()),
            ("min_rows", self.min_rows.is_some()),
            ("max_read", self.max_read.is_some()),
        ]
        .into_iter()
        .chain(self.about_sound())
        {
            if is_set {
                report(key, format!("`{key}` needs `path` (of a captured output only the end is kept, redacted)"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(toml: &str) -> Vec<String> {
        let settings: Settings = match toml::from_str(toml) {
            Ok(settings) => settings,
            Err(e) => return vec![e.message().to_owned()],
        };
        let mut said = Vec::new();
        settings.problems(&mut |key, message| said.push(format!("{key}: {message}")));
        said
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (toml, said) in [
            ("path = '/a.json'\nschema = { type = 'object' }\nrequired = ['$.a']", &[][..]),
            ("job = 'report'\nformat = 'text'\nexpect = 'size > 10'", &[]),
            (
                "path = '/a'\nafter_job = 'b'\noptional = true",
                &["optional: a job that ended well has to leave something (leave out `optional`)"],
            ),
            ("", &["path: expected `path` (a file or a glob) or `job` (a captured output)"]),
            (
                "path = '/a'\njob = 'b'",
                &["job: `path` and `job` exclude each other (for the job that writes the file: `after_job`)"],
            ),
            (
                "job = 'b'\nformat = 'json'\nmin_rows = 1",
                &[
                    "format: `format` needs `path` (of a captured output only the end is kept, redacted)",
                    "min_rows: `min_rows` needs `path` (of a captured output only the end is kept, redacted)",
                ],
            ),
            (
                "path = '/a'\nformat = 'json'\ncolumns = ['a']",
                &["columns: `columns` needs format `csv`, found format `json`"],
            ),
            (
                "path = '/a'\nformat = 'csv'\nrequired = ['$.a']",
                &["required: `required` needs format `json` or `jsonl`, found format `csv`"],
            ),
            (
                "path = '/a'\ncolumns = ['a']\nschema = {}",
                &["schema: `schema` looks into json, `columns` into csv: they exclude each other"],
            ),
            (
                "path = '/a'\nschema = {}\nschema_file = '/s*.json'",
                &[
                    "schema_file: `schema` and `schema_file` exclude each other",
                    "schema_file: expected the path of one file, found wildcards",
                ],
            ),
            ("path = '/a'\nmin_size = '2KiB'\nmax_size = 10", &["max_size: `max_size` 10B is below `min_size` 2KiB"]),
            (
                "path = '/a'\nformat = 'any'\nmin_rows = 2",
                &["min_rows: `min_rows` needs a format with rows, found format `any`"],
            ),
            ("path = '/a'\nmax_read = '1GiB'", &["max_read: expected a size from 1B to 256MiB"]),
            (
                "path = '/a'\nformat = 'aiff'",
                &[
                    "unknown variant `aiff`, expected one of `json`, `jsonl`, `csv`, `text`, `wav`, `mp3`, `flac`, `ogg`, `any`",
                ],
            ),
            ("path = '/a'\nformat = 'wav'\nmin_duration = '2s'\nallow_static = true", &[]),
            ("path = '/a-*.MP3'\nmax_silence = '2s'\nmax_clipping = 0", &[]),
            (
                "path = '/a'\nmin_duration = '2s'\nallow_silence = true",
                &[
                    "min_duration: `min_duration` needs format `wav`, `mp3`, `flac` or `ogg`, found format `any`",
                    "allow_silence: `allow_silence` needs format `wav`, `mp3`, `flac` or `ogg`, found format `any`",
                ],
            ),
            (
                "path = '/a.wav'\nformat = 'json'\nmax_silence = '2s'",
                &["max_silence: `max_silence` needs format `wav`, `mp3`, `flac` or `ogg`, found format `json`"],
            ),
            (
                "path = '/a.wav'\nmin_duration = '2m'\nmax_duration = '2s'\nmax_clipping = 101",
                &[
                    "max_clipping: 101 is no percentage (it goes from 0 to 100)",
                    "max_duration: `max_duration` 2s is below `min_duration` 2m",
                ],
            ),
            (
                "path = '/a.wav'\nformat = 'wav'\nmin_rows = 2\ncolumns = ['a']\nrequired = ['$.a']",
                &[
                    "columns: `columns` needs format `csv`, found format `wav`",
                    "required: `required` needs format `json` or `jsonl`, found format `wav`",
                    "min_rows: `min_rows` needs a format with rows, found format `wav`",
                ],
            ),
            (
                "job = 'b'\nmin_duration = '2s'",
                &["min_duration: `min_duration` needs `path` (of a captured output only the end is kept, redacted)"],
            ),
            (
                "path = '/a'\nafter_job = 'My Job'",
                &["`My Job` is not a name (a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or a digit)"],
            ),
            (
                "path = '/a'\nschema = { type = 'objekt' }",
                &[
                    "not a JSON Schema: value is not valid under any of the schemas listed in the 'anyOf' keyword (at `/type`)",
                ],
            ),
        ] {
            assert_eq!(problems(toml), said, "{toml}");
        }
    }

    #[test]
    fn the_format_follows_the_name_and_the_settings() {
        for (toml, path, format) in [
            ("", "/a.json", Format::Json),
            ("", "/a.NDJSON", Format::Jsonl),
            ("", "/a.bin", Format::Any),
            ("columns = ['a']", "/a.txt", Format::Csv),
            ("required = ['$.a']", "/a", Format::Json),
            ("required = ['$.a']", "/a.jsonl", Format::Jsonl),
            ("min_rows = 1", "/a", Format::Text),
            ("", "/a.WAV", Format::Wav),
            ("min_rows = 1", "/a.wav", Format::Text),
            ("", "/a.mp3", if cfg!(feature = "audio") { Format::Mp3 } else { Format::Any }),
            ("format = 'flac'", "/a.mp3", Format::Flac),
            ("format = 'any'", "/a.json", Format::Any),
        ] {
            let settings: Settings = toml::from_str(&format!("path = '/x'\n{toml}")).unwrap();
            assert_eq!(settings.format_of(Path::new(path)), format, "{toml} {path}");
        }
    }
}
