//! What looks like a secret. One automaton over literal beginnings decides whether anything is looked at more closely, so
//! that ordinary text costs one pass and no regular expression is compiled at start-up.
//!
//! Detecting and redacting differ: a redactor goes to the end of the token, wants no closing quote after it and no exact
//! length, and stops at quotes and escapes, so that JSON stays JSON.

mod named;
mod tokens;

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::{OPEN, Span};
use tokens::Token;

/// Which rule looks at the place where a literal was found.
#[derive(Clone, Copy)]
enum Rule {
    /// A placeholder that stands there already.
    Placeholder,
    /// A vendor's prefix.
    Token(&'static Token),
    /// `eyJ…`, three parts with dots.
    Jwt,
    PemBegin,
    PemEnd,
    /// `scheme://user:password@host`.
    UserInfo,
    /// `123456789:AA…`, a Telegram bot's token.
    Telegram,
    /// A name that a secret could follow.
    Name,
    /// `bearer …`, `basic …` without a header's name.
    Scheme,
    /// `-u user:password`.
    UserOption,
}

/// Bytes behind a literal that are looked at to decide, so that no text costs more than its length times this. What is
/// accepted is replaced to its end.
const MAX_LOOK: usize = 1_024;

static RULES: LazyLock<Vec<(&str, Rule)>> = LazyLock::new(|| {
    let mut rules: Vec<(&str, Rule)> = vec![
        (OPEN, Rule::Placeholder),
        ("eyJ", Rule::Jwt),
        ("-----BEGIN ", Rule::PemBegin),
        ("-----END ", Rule::PemEnd),
        ("://", Rule::UserInfo),
        ("bearer ", Rule::Scheme),
        ("basic ", Rule::Scheme),
        ("-u ", Rule::UserOption),
        ("--user ", Rule::UserOption),
    ];
    rules.extend(["0:", "1:", "2:", "3:", "4:", "5:", "6:", "7:", "8:", "9:"].map(|digit| (digit, Rule::Telegram)));
    rules.extend(named::TRIGGERS.iter().map(|name| (*name, Rule::Name)));
    rules.extend(tokens::TOKENS.iter().map(|token| (token.prefix, Rule::Token(token))));
    rules
});

/// None if the automaton can't be built, which a test rules out.
static FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(RULES.iter().map(|(literal, _)| literal))
        .ok()
});

/// Finds what looks like a secret, and returns where placeholders stand already.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) -> Vec<(usize, usize)> {
    let mut placeholders = Vec::new();
    let Some(finder) = &*FINDER else { return placeholders };
    // What an earlier rule took is not looked at again, except for a better name.
    let (mut covered, mut told) = (0, 0);
    for hit in finder.find_iter(text) {
        let Some((_, rule)) = RULES.get(hit.pattern().as_usize()) else { continue };
        let at = Place { text, start: hit.start(), end: hit.end() };
        let span = match rule {
            Rule::Placeholder => {
                placeholders.extend(placeholder(at.after(at.start)).map(|len| (at.start, at.start + len)));
                None
            }
            _ if at.start < told => None,
            Rule::Token(token) => token.find(&at),
            Rule::Jwt => tokens::jwt(&at),
            _ if at.start < covered => None,
            Rule::PemBegin => tokens::pem_begin(&at),
            Rule::PemEnd => tokens::pem_end(&at),
            Rule::UserInfo => named::user_info(&at),
            Rule::Telegram => tokens::telegram(&at),
            Rule::Name => named::value_of_name(&at),
            Rule::Scheme => {
                named::credentials(&at, at.start, false).map(|(start, end, kind)| Span { start, end, kind, rank: 3 })
            }
            Rule::UserOption => named::user_option(&at),
        };
        if let Some(span) = span {
            covered = covered.max(span.end);
            if span.rank >= tokens::RANK {
                told = told.max(span.end);
            }
            spans.push(span);
        }
    }
    placeholders
}

/// A placeholder of ours that begins `text`, and how long it is; what only looks like one hides nothing.
pub(super) fn placeholder(text: &str) -> Option<usize> {
    let rest = text.strip_prefix(OPEN)?;
    let kind = rest.get(..rest.bytes().take(32).position(|b| b == b']')?)?;
    let known = named::KINDS.contains(&kind)
        || tokens::TOKENS.iter().any(|token| token.kind == kind)
        || kind == "telegram-token";
    known.then_some(OPEN.len() + kind.len() + 1)
}

/// A literal that was found, and the text around it.
struct Place<'a> {
    text: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Place<'a> {
    fn after(&self, at: usize) -> &'a str {
        self.text.get(at..).unwrap_or_default()
    }
    fn byte_before(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at.checked_sub(1)?).copied()
    }
    /// Where a run of such bytes that begins at `at` ends, or [`MAX_LOOK`] bytes after it.
    fn run(&self, at: usize, of: impl Fn(u8) -> bool) -> usize {
        self.run_to(at, MAX_LOOK, of)
    }
    /// Where it ends, at most `max` bytes after `at`.
    fn run_to(&self, at: usize, max: usize, of: impl Fn(u8) -> bool) -> usize {
        let bytes = self.text.as_bytes().get(at..).unwrap_or_default();
        self.text.floor_char_boundary(at + bytes.iter().take(max).take_while(|b| of(**b)).count())
    }
    /// Where a run of such bytes that ends at `at` begins, at most `max` bytes before it.
    fn run_back(&self, at: usize, max: usize, of: impl Fn(u8) -> bool) -> usize {
        let bytes = self.text.as_bytes().get(..at).unwrap_or_default();
        at - bytes.iter().rev().take(max).take_while(|b| of(**b)).count()
    }
    fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }
}

fn word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

/// Bits per character: how evenly the characters of a text are spread.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }
    let all = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all);
    shares.map(|share| -share * share.log2()).sum()
}
