//! Lines with a limit on each and on all: what `jsonl` and `text` are made of.

use std::io::{BufRead, BufReader, Read};

/// What the last call of [`Lines::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// A line, in the buffer, without its end (`\n` or `\r\n`).
    Whole,
    /// A line beyond the limit; the buffer holds its beginning.
    TooLong,
    /// The file ends here.
    End,
    /// The limit on all bytes is reached; the line that it cuts is not given.
    Cut,
}

/// Reads line by line, never holding more than one line's limit.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    left: u64,
    max_line: usize,
    /// The line now in the buffer, from 1.
    pub number: u64,
    /// Bytes taken so far.
    pub bytes: u64,
    /// Whether the last line had an end.
    pub ended: bool,
}

impl<R: Read> Lines<R> {
    pub fn new(reader: R, max_bytes: u64, max_line: usize) -> Self {
        Self { reader: BufReader::new(reader), left: max_bytes, max_line, number: 0, bytes: 0, ended: true }
    }

    pub fn next(&mut self, line: &mut Vec<u8>) -> std::io::Result<Line> {
        line.clear();
        let mut long = false;
        let mut begun = false;
        loop {
            let chunk = match self.reader.fill_buf() {
                Ok(chunk) => chunk,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if chunk.is_empty() {
                if !begun {
                    return Ok(Line::End);
                }
                self.ended = false;
                break;
            }
            if self.left == 0 {
                return Ok(Line::Cut);
            }
            begun = true;
            let allowed = chunk.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let chunk = chunk.get(..allowed).unwrap_or(chunk);
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(chunk.len(), |at| at + 1);
            let text = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            let room = self.max_line.saturating_sub(line.len());
            long |= text.len() > room;
            line.extend_from_slice(text.get(..room.min(text.len())).unwrap_or_default());
            self.reader.consume(used);
            let used = u64::try_from(used).unwrap_or(u64::MAX);
            self.left = self.left.saturating_sub(used);
            self.bytes = self.bytes.saturating_add(used);
            if end.is_some() {
                self.ended = true;
                break;
            }
        }
        self.number += 1;
        if long {
            return Ok(Line::TooLong);
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Line::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::hostile::{Drip, Endless};

    fn all(raw: &[u8], max_bytes: u64, max_line: usize) -> (Vec<(Line, String)>, Line) {
        let mut lines = Lines::new(Drip(raw), max_bytes, max_line);
        let mut line = Vec::new();
        let mut seen = Vec::new();
        loop {
            match lines.next(&mut line).unwrap() {
                end @ (Line::End | Line::Cut) => return (seen, end),
                found => seen.push((found, String::from_utf8_lossy(&line).into_owned())),
            }
        }
    }

    #[test]
    fn lines_end_as_files_do() {
        let whole = |texts: &[&str]| texts.iter().map(|t| (Line::Whole, (*t).to_owned())).collect::<Vec<_>>();
        assert_eq!(all(b"", 100, 10), (vec![], Line::End));
        assert_eq!(all(b"a\nb", 100, 10), (whole(&["a", "b"]), Line::End));
        assert_eq!(all(b"a\r\n\r\nb\n", 100, 10), (whole(&["a", "", "b"]), Line::End));
        assert_eq!(
            all(b"abc\nd\n", 100, 2),
            (vec![(Line::TooLong, "ab".into()), (Line::Whole, "d".into())], Line::End)
        );
        // Exactly at the limit is not cut; one byte less is, and the half line is not given.
        assert_eq!(all(b"ab\ncd\n", 6, 10), (whole(&["ab", "cd"]), Line::End));
        assert_eq!(all(b"ab\ncd\n", 5, 10), (whole(&["ab"]), Line::Cut));
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let mut lines = Lines::new(Endless(b'x'), 10_000_000, 1_000);
        let mut line = Vec::new();
        assert_eq!(lines.next(&mut line).unwrap(), Line::Cut);
        assert!(line.capacity() <= 4_096 && lines.bytes == 10_000_000);
    }
}
