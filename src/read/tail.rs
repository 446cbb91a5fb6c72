//! The end of a file, without reading what stands before it.

use std::io::{Read, Seek, SeekFrom};

use super::at_most;

/// What was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tail {
    /// The last bytes, beginning with a line's start where there is one.
    pub bytes: Vec<u8>,
    /// Whether something stands before them.
    pub cut: bool,
}

/// Reads the last `max_bytes` of what was there when it began; what is written meanwhile is not waited for.
pub fn tail(mut file: impl Read + Seek, max_bytes: usize) -> std::io::Result<Tail> {
    let end = file.seek(SeekFrom::End(0))?;
    let start = end.saturating_sub(u64::try_from(max_bytes).unwrap_or(u64::MAX));
    // One byte more, to see whether the cut falls on a line's start.
    let from = start.saturating_sub(1);
    file.seek(SeekFrom::Start(from))?;
    let room = usize::try_from(end - from).unwrap_or(usize::MAX);
    let (mut bytes, _) = at_most(file, room)?;
    if start > 0 {
        let line = bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1).filter(|&at| at < bytes.len());
        bytes.drain(..line.unwrap_or(1).min(bytes.len()));
    }
    Ok(Tail { bytes, cut: start > 0 })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn ends_of_files() {
        for (raw, max, want, cut) in [
            (&b"one\ntwo\nthree\n"[..], 100, &b"one\ntwo\nthree\n"[..], false),
            (b"one\ntwo\nthree\n", 8, b"three\n", true),
            (b"one\ntwo\nthree\n", 10, b"two\nthree\n", true),
            (b"one\ntwo", 3, b"two", true),
            (b"a long line without an end", 3, b"end", true),
            (b"a long line with an end\n", 4, b"end\n", true),
            (b"", 10, b"", false),
            (b"abc", 0, b"", true),
        ] {
            let got = tail(Cursor::new(raw), max).unwrap();
            assert_eq!((got.bytes.as_slice(), got.cut), (want, cut), "{raw:?} {max}");
        }
    }

    #[test]
    fn a_gigabyte_without_a_line_is_not_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        let got = tail(&file, 1_000).unwrap();
        assert_eq!((got.bytes.len(), got.cut), (1_000, true));
    }
}
