//! What the kinds share that ask other people's SQLite files: the versions of a schema they were written for, and the
//! rows of one query, bounded.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use tokio::time::Instant;

use crate::clean;
use crate::facts::Unread;
use crate::host::{files, theirs};

/// Columns of an answer.
pub(super) const MAX_COLUMNS: usize = 64;
/// Bytes of one value that are kept; what is longer is cut.
const MAX_VALUE_BYTES: usize = 16 * 1024;
/// Bytes that are kept of one answer; what is beyond counts as further rows.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of a query.
const MAX_QUERY_BYTES: usize = 16 * 1024;

/// The rows of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answer {
    pub columns: Vec<String>,
    /// Null, flag, number or text, one a column.
    pub rows: Vec<Vec<Value>>,
    /// Whether there are more rows than were wanted.
    pub more: bool,
}

impl Answer {
    /// Where a column stands.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Reads the rows of one query. Blocking. `:now` in it is the time of this look, in seconds since 1970.
pub(super) fn ask(
    path: &Path,
    versions: Option<&Versions>,
    query: &str,
    max_rows: usize,
    now: Timestamp,
    deadline: Instant,
) -> Result<Answer, Unread> {
    theirs::read(path, None, deadline, |conn| {
        let failed = |error: rusqlite::Error| theirs::unread(path, &error);
        if let Some(versions) = versions {
            let found = theirs::user_version(conn).map_err(failed)?;
            if !versions.hold(found) {
                return Err(theirs::schema_unknown(path, found, &versions.to_string()));
            }
        }
        let answer = rows(conn, query, max_rows, now).map_err(failed)?;
        if answer.columns.len() > MAX_COLUMNS {
            let said = clean!("the query of {} gives more than {MAX_COLUMNS} columns", files::shown(path));
            return Err(Unread::blind("query_failed", said));
        }
        Ok(answer)
    })
}

fn rows(conn: &Connection, query: &str, max_rows: usize, now: Timestamp) -> rusqlite::Result<Answer> {
    let mut statement = conn.prepare(query)?;
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    if let Some(at) = statement.parameter_index(":now")? {
        statement.raw_bind_parameter(at, now.as_second())?;
    }
    let mut answer = Answer { rows: Vec::new(), more: false, columns };
    let mut bytes = 0;
    let mut found = statement.raw_query();
    while let Some(row) = found.next()? {
        if answer.rows.len() >= max_rows || bytes > MAX_BYTES {
            answer.more = true;
            break;
        }
        let row = (0..answer.columns.len().min(MAX_COLUMNS)).map(|at| cell(row, at)).collect::<Result<Vec<_>, _>>()?;
        bytes += row.iter().map(|value| value.as_str().map_or(16, str::len)).sum::<usize>();
        answer.rows.push(row);
    }
    Ok(answer)
}

fn cell(row: &Row<'_>, at: usize) -> rusqlite::Result<Value> {
    Ok(match row.get_ref(at)? {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        // What is not finite is no number to anybody.
        ValueRef::Real(number) => serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number),
        ValueRef::Text(text) => text_cell(text).into(),
        ValueRef::Blob(bytes) => format!("{} bytes", bytes.len()).into(),
    })
}

/// Text that is not UTF-8 keeps what is; one that is too long is cut.
fn text_cell(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..MAX_VALUE_BYTES).unwrap_or(text)).into_owned()
}

/// What is wrong with a query, as far as its text shows.
pub(super) fn query_problem(query: &str) -> Option<&'static str> {
    let begin = query.trim_start().get(..6).unwrap_or_default().to_ascii_uppercase();
    if query.len() > MAX_QUERY_BYTES {
        Some("expected a query of at most 16 KiB")
    } else if !(begin.starts_with("SELECT") || begin.starts_with("WITH") || begin.starts_with("VALUES")) {
        Some("expected one query that begins with SELECT or WITH")
    } else {
        None
    }
}

/// The versions of a schema, as `PRAGMA user_version` gives them, that a query was written for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions(Vec<RangeInclusive<i64>>);

impl Versions {
    /// Whether one of them is this.
    pub(super) fn hold(&self, version: i64) -> bool {
        self.0.iter().any(|range| range.contains(&version))
    }

    fn parse(text: &str) -> Result<RangeInclusive<i64>, String> {
        let wrong = || format!("expected a version like `17` or a range like `17-19`, found `{}`", text.escape_debug());
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse::<u32>().map(i64::from).map_err(|_| wrong());
        let range = number(first)?..=number(last)?;
        if range.is_empty() { Err(wrong()) } else { Ok(range) }
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|range| match (range.start(), range.end()) {
                (first, last) if first == last => first.to_string(),
                (first, last) => format!("{first} to {last}"),
            })
            .collect();
        f.write_str(&words.join(" or "))
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Versions;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version, a range like \"17-19\", or a list of them")
            }
            fn visit_i64<E: de::Error>(self, version: i64) -> Result<Versions, E> {
                self.visit_str(&version.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Versions, E> {
                Ok(Versions(vec![Versions::parse(text).map_err(E::custom)?]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Versions, A::Error> {
                let mut ranges = Vec::new();
                while let Some(Versions(one)) = list.next_element()? {
                    ranges.extend(one);
                }
                if ranges.is_empty() {
                    return Err(de::Error::custom("expected at least one version"));
                }
                Ok(Versions(ranges))
            }
        }
        from.deserialize_any(Written)
    }
}

impl JsonSchema for Versions {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Versions".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let one = serde_json::json!({ "type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+(-[0-9]+)?$" });
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Has {
        v: Versions,
    }

    #[test]
    fn versions_are_a_number_a_range_or_a_list() {
        let read = |text: &str| toml::from_str::<Has>(&format!("v = {text}")).map(|has| has.v);
        for (text, words, holds, not) in [
            ("17", "17", 17, 18),
            ("'17-19'", "17 to 19", 19, 20),
            ("[3, '5-6']", "3 or 5 to 6", 5, 4),
            ("0", "0", 0, 1),
        ] {
            let versions = read(text).unwrap();
            assert_eq!(
                (versions.to_string().as_str(), versions.hold(holds), versions.hold(not)),
                (words, true, false),
                "{text}"
            );
        }
        for text in ["-1", "'19-17'", "''", "'a'", "[]", "1.5", "true"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_has_bounds() {
        let conn = Connection::open_in_memory().unwrap();
        let now = Timestamp::from_second(1_000).unwrap();
        let series = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)";
        let answer = rows(&conn, &format!("{series} SELECT i, hex(zeroblob(50000)) AS long FROM n"), 900, now).unwrap();
        assert_eq!(answer.columns, ["i", "long"]);
        assert!(answer.more && answer.rows.len() < 300, "{}", answer.rows.len());
        assert_eq!(answer.rows[0][1].as_str().unwrap().len(), MAX_VALUE_BYTES);
        let answer = rows(&conn, &format!("{series} SELECT i FROM n"), 1_000, now).unwrap();
        assert_eq!((answer.rows.len(), answer.more), (1_000, false));
        let odd = "SELECT :now, NULL, 1e999, x'ff00', CAST(x'ff41' AS TEXT), 2.5";
        assert_eq!(
            rows(&conn, odd, 1, now).unwrap().rows,
            [vec![1_000.into(), Value::Null, Value::Null, "2 bytes".into(), "\u{fffd}A".into(), 2.5.into()]]
        );
    }

    #[test]
    fn a_query_shows_that_it_is_one() {
        for (query, fine) in
            [("select 1", true), (" WITH a AS (SELECT 1) SELECT * FROM a", true), ("DELETE FROM t", false), ("", false)]
        {
            assert_eq!(query_problem(query).is_none(), fine, "{query}");
        }
        assert!(query_problem(&format!("SELECT {}", "1".repeat(MAX_QUERY_BYTES))).is_some());
    }
}
