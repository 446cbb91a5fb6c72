//! JSON Lines: one document a line.

use std::io::Read;

use super::json::parse;
use super::lines::{Line, Lines};
use super::{MAX_JSON_DEPTH, MAX_LINE_BYTES, without_bom};

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jsonl {
    /// Lines that are JSON.
    pub rows: u64,
    /// Lines that are not, or are too long or too deep; blank ones are neither.
    pub bad_lines: u64,
    /// The number of the first bad line, and what is wrong with it.
    pub first_bad: Option<(u64, String)>,
    /// Whether the limit on bytes came before the end.
    pub cut: bool,
}

/// Reads at most `max_bytes`, a line at most [`MAX_LINE_BYTES`]; `each` gets every good line's number and value.
pub fn jsonl(
    reader: impl Read,
    max_bytes: u64,
    mut each: impl FnMut(u64, serde_json::Value),
) -> std::io::Result<Jsonl> {
    let mut lines = Lines::new(without_bom(reader)?, max_bytes, MAX_LINE_BYTES);
    let mut seen = Jsonl::default();
    let mut line = Vec::new();
    loop {
        let trouble = match lines.next(&mut line)? {
            Line::End => return Ok(seen),
            Line::Cut => return Ok(Jsonl { cut: true, ..seen }),
            Line::TooLong => format!("the line is longer than {MAX_LINE_BYTES} bytes"),
            Line::Whole if line.iter().all(u8::is_ascii_whitespace) => continue,
            Line::Whole => match parse(&line, MAX_JSON_DEPTH) {
                Ok(value) => {
                    seen.rows += 1;
                    each(lines.number, value);
                    continue;
                }
                Err(super::json::JsonError::Malformed { column, what, .. }) => format!("{what} at column {column}"),
                Err(other) => other.to_string(),
            },
        };
        seen.bad_lines += 1;
        seen.first_bad.get_or_insert((lines.number, trouble));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::hostile::{self, Endless};

    #[test]
    fn rows_and_bad_lines() {
        let read = |raw: &[u8], max| jsonl(raw, max, |_, _| {}).unwrap();
        for (raw, rows, bad, first) in [
            (&b"{\"a\":1}\n\n[2]\r\n3"[..], 3, 0, None),
            (b"\xef\xbb\xbf{}\n", 1, 0, None),
            (b"{}\nnot json\n{\n", 1, 2, Some((2, "expected ident at column 2"))),
            (b"{\"a\":1}\n{\"a\": ", 1, 1, Some((2, "EOF while parsing a value at column 6"))),
            (b"{\"a\": NaN}\n", 0, 1, Some((1, "expected value at column 7"))),
        ] {
            let got = read(raw, 1_000);
            let first = first.map(|(n, said): (u64, &str)| (n, said.to_owned()));
            assert_eq!((got.rows, got.bad_lines, &got.first_bad), (rows, bad, &first), "{raw:?}");
        }
        let cut = read(b"{\"a\":1}\n{\"a\":2}\n", 10);
        assert_eq!((cut.rows, cut.bad_lines, cut.cut), (1, 0, true), "a line cut by our own limit is not a bad line");
    }

    #[test]
    fn hostile_input_ends() {
        for (name, raw) in hostile::table() {
            let got = jsonl(raw.as_slice(), 10_000_000, |_, _| {}).unwrap();
            let blank = ["zero bytes", "one BOM and nothing else", "white space"].contains(&name);
            assert_eq!(got.rows + got.bad_lines == 0, blank, "{name}: {got:?}");
        }
        assert!(jsonl(Endless(b'x'), 5_000_000, |_, _| {}).unwrap().cut);
    }
}
