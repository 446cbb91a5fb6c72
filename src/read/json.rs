//! One JSON document.

use std::io::Read;

use super::{at_most, without_bom};

/// What was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Json {
    /// The document; none when there is only white space.
    pub value: Option<serde_json::Value>,
}

/// Why there is no document.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The system could not read it.
    #[error("reading failed: {0}")]
    Io(#[from] std::io::Error),
    /// There is more than the limit.
    #[error("it is larger than {0} bytes")]
    TooLarge(usize),
    /// It is nested deeper than the limit.
    #[error("it is nested deeper than {0} levels")]
    TooDeep(usize),
    /// It is not JSON: where, and what the parser met. The text holds nothing of the document.
    #[error("{what} at line {line} column {column}")]
    Malformed {
        /// From 1.
        line: usize,
        /// From 1, in bytes.
        column: usize,
        /// In the parser's words.
        what: String,
    },
}

/// Reads one document of at most `max_bytes`, nested at most `max_depth` deep; a byte order mark is skipped.
pub fn json(reader: impl Read, max_bytes: usize, max_depth: usize) -> Result<Json, JsonError> {
    let (bytes, more) = at_most(without_bom(reader)?, max_bytes)?;
    if more {
        return Err(JsonError::TooLarge(max_bytes));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Json { value: None });
    }
    parse(&bytes, max_depth).map(|value| Json { value: Some(value) })
}

/// Parses one document. The depth is looked at before the parser is, so that nesting costs no stack.
pub fn parse(bytes: &[u8], max_depth: usize) -> Result<serde_json::Value, JsonError> {
    if deeper_than(bytes, max_depth) {
        return Err(JsonError::TooDeep(max_depth));
    }
    serde_json::from_slice(bytes).map_err(|e| {
        let (line, column) = (e.line(), e.column());
        let what = e.to_string();
        let what = what.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&what).to_owned();
        JsonError::Malformed { line, column, what }
    })
}

fn deeper_than(bytes: &[u8], max_depth: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > max_depth {
                    return true;
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Whether a value says nothing: null, blank text, an empty list or map.
#[must_use]
pub fn is_empty(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What a value is: `null`, `flag`, `number`, `text`, `list` or `map`.
#[must_use]
pub fn shape(value: &serde_json::Value) -> &'static str {
    use serde_json::Value;
    match value {
        Value::Null => "null",
        Value::Bool(_) => "flag",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::MAX_JSON_DEPTH;
    use crate::read::hostile::{self, Drip, Endless};

    #[test]
    fn documents_and_what_is_none() {
        let nested = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        for (raw, want) in [
            (b"{\"a\": 1}".to_vec(), Ok(Some(serde_json::json!({"a": 1})))),
            (b"\xef\xbb\xbf[1]\r\n".to_vec(), Ok(Some(serde_json::json!([1])))),
            (b" \n".to_vec(), Ok(None)),
            (b"".to_vec(), Ok(None)),
            (b"{\"a\":\n  tru}".to_vec(), Err("expected ident at line 2 column 6")),
            (b"{} {}".to_vec(), Err("trailing characters at line 1 column 4")),
            (b"{\"a\": NaN}".to_vec(), Err("expected value at line 1 column 7")),
            (b"[\"[[[[[[\\\"[[[[[\"]".to_vec(), Ok(Some(serde_json::json!(["[[[[[[\"[[[[["])))),
            (nested(65), Err("it is nested deeper than 64 levels")),
            (vec![b'1'; 101], Err("it is larger than 100 bytes")),
        ] {
            let got = json(Drip(&raw), 100.max(if raw.len() == 130 { 130 } else { 0 }), MAX_JSON_DEPTH);
            match want {
                Ok(value) => assert_eq!(got.unwrap().value, value),
                Err(said) => assert_eq!(got.unwrap_err().to_string(), said),
            }
        }
        assert!(json(nested(64).as_slice(), 1_000, MAX_JSON_DEPTH).unwrap().value.is_some());
    }

    #[test]
    fn hostile_input_ends_and_stays_small() {
        for (name, raw) in hostile::table() {
            let got = json(raw.as_slice(), 1_000_000, MAX_JSON_DEPTH);
            let fine =
                ["zero bytes", "one BOM and nothing else", "white space", "brackets in a string"].contains(&name);
            assert_eq!(got.is_ok(), fine, "{name}: {got:?}");
        }
        assert!(matches!(json(Endless(b' '), 1_000, 64), Err(JsonError::TooLarge(1_000))));
    }

    #[test]
    fn emptiness_and_shape() {
        for (raw, empty, word) in [
            ("null", true, "null"),
            ("\" \"", true, "text"),
            ("[]", true, "list"),
            ("{}", true, "map"),
            ("0", false, "number"),
            ("false", false, "flag"),
            ("[null]", false, "list"),
        ] {
            let value = serde_json::from_str(raw).unwrap();
            assert_eq!((is_empty(&value), shape(&value)), (empty, word), "{raw}");
        }
    }
}
