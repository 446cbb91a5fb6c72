//! The end of what a job printed, kept while it prints.

use std::collections::VecDeque;

use super::spool::MAX_TAIL_BYTES;
use crate::redact::Clean;

/// Bytes kept before the tail, so that a secret cut in half at the edge is not in what is shown.
const MARGIN_BYTES: usize = 4 * 1_024;

/// The last bytes of a stream.
#[derive(Debug, Default)]
pub struct Tail {
    kept: VecDeque<u8>,
    cut: bool,
}

impl Tail {
    /// Adds what was printed.
    pub fn push(&mut self, bytes: &[u8]) {
        const MAX: usize = MAX_TAIL_BYTES + MARGIN_BYTES;
        let from = bytes.len().saturating_sub(MAX);
        let bytes = bytes.get(from..).unwrap_or_default();
        let over = (self.kept.len() + bytes.len()).saturating_sub(MAX);
        self.cut |= from > 0 || over > 0;
        self.kept.drain(..over);
        self.kept.extend(bytes);
    }

    /// The tail, redacted, at most [`MAX_TAIL_BYTES`]; `…` in front says that there was more.
    #[must_use]
    pub fn finish(mut self) -> Clean {
        let raw = self.kept.make_contiguous();
        // Redacted as a whole first: what is cut away afterwards can't have split a secret.
        let whole = Clean::bytes(raw, usize::MAX);
        let text = whole.as_str();
        let margin = if self.cut { MARGIN_BYTES } else { 0 };
        let over = if text.len() > MAX_TAIL_BYTES { text.len() + '…'.len_utf8() - MAX_TAIL_BYTES } else { 0 };
        let from = margin.max(over);
        let from = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
        let tail = text.get(from..).unwrap_or_default();
        if from == 0 { whole } else { Clean::new(&format!("…{tail}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_kept_whole() {
        let mut tail = Tail::default();
        tail.push(b"one\n");
        tail.push(b"two\n");
        assert_eq!(tail.finish().as_str(), "one\ntwo\n");
        assert_eq!(Tail::default().finish().as_str(), "");
    }

    #[test]
    fn of_what_is_long_the_end_is_kept_and_the_cut_marked() {
        for chunk in [1, 7, 1_000, 100_000] {
            let printed: Vec<u8> = (0..20_000).flat_map(|n| format!("line {n} é\n").into_bytes()).collect();
            let mut tail = Tail::default();
            for chunk in printed.chunks(chunk) {
                tail.push(chunk);
            }
            let text = tail.finish().as_str().to_owned();
            assert!(text.len() <= MAX_TAIL_BYTES && text.len() > MAX_TAIL_BYTES - 8, "{}", text.len());
            assert!(text.starts_with('…') && text.ends_with("line 19999 é\n"), "{text:.20}");
        }
    }

    #[test]
    fn a_secret_at_the_edge_is_not_shown_in_half() {
        let secret = "edge-of-the-ring-secret-0123456789abcdef";
        let _known = crate::redact::Secret::new(secret);
        for shift in 0..secret.len() {
            let mut tail = Tail::default();
            tail.push(secret.as_bytes());
            tail.push(&vec![b'.'; MAX_TAIL_BYTES + MARGIN_BYTES - shift]);
            let text = tail.finish();
            assert!(!text.as_str().contains("cdef"), "{shift}: {:.60}", text.as_str());
        }
    }
}
