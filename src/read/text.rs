//! Plain text, and bytes of which nothing is known.

use std::io::Read;

use super::lines::{Line, Lines};
use super::{MAX_LINE_BYTES, without_bom};

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// Lines; a last one without an end counts.
    pub lines: u64,
    /// Lines that hold more than white space and zero bytes.
    pub non_blank: u64,
    /// The first line that is not UTF-8.
    pub not_utf8: Option<u64>,
    /// The first line with a zero byte: a file that a crash left half written often has them.
    pub zero_byte: Option<u64>,
    /// Its beginning, at most the `keep` that was asked for, at a character's boundary.
    pub beginning: String,
    /// Whether the limit on bytes came before the end.
    pub cut: bool,
}

/// Reads at most `max_bytes` and keeps the first `keep` of them. Of a line only [`MAX_LINE_BYTES`] are looked at.
pub fn text(reader: impl Read, max_bytes: u64, keep: usize) -> std::io::Result<Text> {
    let mut lines = Lines::new(without_bom(reader)?, max_bytes, MAX_LINE_BYTES);
    let mut seen = Text::default();
    let mut line = Vec::new();
    loop {
        let found = lines.next(&mut line)?;
        match found {
            Line::End => return Ok(seen),
            Line::Cut => seen.cut = true,
            Line::Whole | Line::TooLong => seen.lines += 1,
        }
        // A limit may fall into a character: only what stands before it counts as not UTF-8.
        let valid = match std::str::from_utf8(&line) {
            Ok(valid) => valid,
            Err(e) => {
                if found == Line::Whole || e.error_len().is_some() {
                    seen.not_utf8.get_or_insert(lines.number.max(1));
                }
                std::str::from_utf8(line.get(..e.valid_up_to()).unwrap_or_default()).unwrap_or_default()
            }
        };
        let room = keep.saturating_sub(seen.beginning.len());
        seen.beginning.push_str(valid.get(..valid.floor_char_boundary(room)).unwrap_or_default());
        if lines.ended && found == Line::Whole && seen.beginning.len() < keep {
            seen.beginning.push('\n');
        }
        if line.contains(&0) {
            seen.zero_byte.get_or_insert(lines.number.max(1));
        }
        seen.non_blank += u64::from(!line.iter().all(|&byte| is_blank(byte)));
        if found == Line::Cut {
            return Ok(seen);
        }
    }
}

/// What bytes of an unknown format are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw {
    /// Bytes read.
    pub bytes: u64,
    /// Whether all of them are white space or zero.
    pub blank: bool,
    /// Whether the limit came before the end.
    pub cut: bool,
}

/// Reads at most `max_bytes` and throws them away.
pub fn raw(mut reader: impl Read, max_bytes: u64) -> std::io::Result<Raw> {
    let mut seen = Raw { bytes: 0, blank: true, cut: false };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let n = match reader.read(&mut buffer) {
            Ok(0) => return Ok(seen),
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let left = max_bytes.saturating_sub(seen.bytes);
        let taken = n.min(usize::try_from(left).unwrap_or(usize::MAX));
        seen.blank &= buffer.get(..taken).unwrap_or_default().iter().all(|&byte| is_blank(byte));
        seen.bytes += u64::try_from(taken).unwrap_or(0);
        if taken < n {
            return Ok(Raw { cut: true, ..seen });
        }
    }
}

fn is_blank(byte: u8) -> bool {
    byte == 0 || byte.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::hostile::{self, Drip, Endless};

    #[test]
    fn lines_and_what_they_hold() {
        for (raw, lines, non_blank, not_utf8, zero) in [
            (&b"a\n\n b \n"[..], 3, 2, None, None),
            (b"a", 1, 1, None, None),
            (b" \r\n\t\n", 2, 0, None, None),
            (b"", 0, 0, None, None),
            (b"a\nb\xff\nc\n", 3, 3, Some(2), None),
            (b"a\n\0\0\n", 2, 1, None, Some(2)),
            (b"\xef\xbb\xbfa\n", 1, 1, None, None),
        ] {
            let got = text(Drip(raw), 1_000, 100).unwrap();
            assert_eq!(
                (got.lines, got.non_blank, got.not_utf8, got.zero_byte),
                (lines, non_blank, not_utf8, zero),
                "{raw:?}"
            );
            assert!(!got.cut);
        }
        assert_eq!(text(&b"a\r\n\r\nb"[..], 1_000, 100).unwrap().beginning, "a\n\nb");
        assert_eq!(text("aä".as_bytes(), 1_000, 2).unwrap().beginning, "a");
        // The limit falls into a character, which is not the file's fault.
        let cut = text("ää\n".as_bytes(), 3, 100).unwrap();
        assert_eq!((cut.cut, cut.not_utf8, cut.non_blank), (true, None, 1));
    }

    #[test]
    fn hostile_input_ends() {
        for (_, bytes) in hostile::table() {
            text(bytes.as_slice(), 10_000_000, 1_000).unwrap();
        }
        let endless = text(Endless(b'x'), 3_000_000, 1_000).unwrap();
        assert!(endless.cut && endless.beginning.len() == 1_000);
        assert_eq!(raw(Endless(0), 100_000).unwrap(), Raw { bytes: 100_000, blank: true, cut: true });
        assert_eq!(raw(&b" \0\n"[..], 3).unwrap(), Raw { bytes: 3, blank: true, cut: false });
        assert!(!raw(&b" x"[..], 3).unwrap().blank);
    }
}
