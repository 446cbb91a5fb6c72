//! Bounded readers of files and bodies that somebody else wrote. Each one blocks (call it on a lane), has limits in bytes,
//! rows and depth, and says what it cut; none trusts a size, an encoding or an end of line.

pub mod audio;
pub mod csv;
pub mod follow;
pub mod json;
pub mod jsonl;
mod lines;
pub mod tail;
pub mod text;
pub mod tree;

use std::io::{Chain, Cursor, Read};

use sha2::{Digest as _, Sha256};

/// Levels of nesting that JSON may have.
pub const MAX_JSON_DEPTH: usize = 64;
/// Bytes of one line of text; a longer one is counted and skipped.
pub const MAX_LINE_BYTES: usize = 1024 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";

/// A reader that hashes and counts what passes through it.
#[derive(Debug)]
pub struct Hashing<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
}

impl<R: Read> Hashing<R> {
    /// Begins with nothing read.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), bytes: 0 }
    }

    /// How many bytes passed.
    #[must_use]
    pub fn seen_bytes(&self) -> u64 {
        self.bytes
    }

    /// SHA-256 of what passed, 64 hex digits.
    #[must_use]
    pub fn finish(self) -> String {
        hex(&self.hash.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.hash.update(buf.get(..n).unwrap_or_default());
        self.bytes = self.bytes.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
        Ok(n)
    }
}

/// SHA-256 of bytes, 64 hex digits.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).map_or('0', |&d| char::from(d));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The same bytes without a leading UTF-8 byte order mark.
fn without_bom<R: Read>(mut reader: R) -> std::io::Result<Chain<Cursor<Vec<u8>>, R>> {
    let mut head = Vec::with_capacity(BOM.len());
    while let Some(expected) = BOM.get(head.len()) {
        let mut byte = [0];
        match reader.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => head.extend_from_slice(&byte),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        if head.last() != Some(expected) {
            break;
        }
    }
    if head == BOM {
        head.clear();
    }
    Ok(Cursor::new(head).chain(reader))
}

/// Reads at most `max_bytes`; the flag says whether there was more.
fn at_most(reader: impl Read, max_bytes: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    reader.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    let more = bytes.len() > max_bytes;
    bytes.truncate(max_bytes);
    Ok((bytes, more))
}

#[cfg(test)]
pub(crate) mod hostile {
    //! Inputs that every reader must survive, as data.

    use std::io::Read;

    /// Name and bytes.
    pub fn table() -> Vec<(&'static str, Vec<u8>)> {
        vec![
            ("zero bytes", Vec::new()),
            ("one BOM and nothing else", b"\xef\xbb\xbf".to_vec()),
            ("half a BOM", b"\xef\xbb".to_vec()),
            ("white space", b" \t\r\n \n".to_vec()),
            ("half a line", b"{\"a\": 1}\n{\"a\": ".to_vec()),
            ("invalid UTF-8", b"{\"a\": \"\xff\xfe\"}\n".to_vec()),
            ("UTF-16", b"\xff\xfe{\0\"\0a\0\"\0".to_vec()),
            ("NUL bytes", vec![0; 4096]),
            ("NaN", b"{\"a\": NaN}\n".to_vec()),
            ("infinity", b"[1e999, -1e999]\n".to_vec()),
            ("deep arrays", vec![b'['; 200_000]),
            ("deep objects", b"{\"a\":".repeat(50_000)),
            ("brackets in a string", format!("[\"{}\"]", "[".repeat(1_000)).into_bytes()),
            ("CRLF", b"a,b\r\n1,2\r\n".to_vec()),
            ("lone CR", b"a,b\r1,2\r".to_vec()),
            ("an open quote", [b"a,b\n1,\"".as_slice(), &[b'x'; 100_000]].concat()),
            ("one long line", vec![b'x'; 3 * 1024 * 1024]),
            ("ten thousand columns", [b"a,".repeat(10_000), b"\n1\n".to_vec()].concat()),
        ]
    }

    /// A file that never ends, as one that grows while it is read.
    pub struct Endless(pub u8);
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            buf.fill(self.0);
            Ok(buf.len())
        }
    }

    /// Hands over one byte at a time.
    pub struct Drip<'a>(pub &'a [u8]);
    impl Read for Drip<'_> {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            match (self.0.split_first(), buf.first_mut()) {
                (Some((byte, rest)), Some(slot)) => {
                    *slot = *byte;
                    self.0 = rest;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_order_mark_goes_and_nothing_else() {
        for (raw, want) in [
            (&b"\xef\xbb\xbfab"[..], &b"ab"[..]),
            (b"\xef\xbb", b"\xef\xbb"),
            (b"\xef\xbbx", b"\xef\xbbx"),
            (b"", b""),
            (b"ab", b"ab"),
        ] {
            let mut got = Vec::new();
            without_bom(hostile::Drip(raw)).unwrap().read_to_end(&mut got).unwrap();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn hashing_sees_every_byte_once() {
        let mut reader = Hashing::new(&b"abc"[..]);
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        assert_eq!(reader.seen_bytes(), 3);
        assert_eq!(reader.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(sha256(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
