//! The secrets that the program was handed, in every form in which they could turn up again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::{Span, plain};

/// Secrets that are remembered; the oldest are forgotten, so that a token renewed every hour doesn't fill the memory.
const MAX_SECRETS: usize = 2_048;
/// Characters that a secret has at least: shorter ones stand in every other word.
const MIN_CHARS: usize = 4;
/// Bytes that an encoded form has at least, for the same reason.
const MIN_ENCODED: usize = 8;
/// Bytes of a secret that are looked for; whoever has that many has the secret.
const MAX_BYTES: usize = 4_096;

static LEARNED: Mutex<VecDeque<Box<str>>> = Mutex::new(VecDeque::new());
/// Counts what was learned, so that the finder is built once after a series of lessons.
static VERSION: AtomicUsize = AtomicUsize::new(0);
static FINDER: RwLock<(usize, Option<Arc<AhoCorasick>>)> = RwLock::new((0, None));

/// Remembers a secret.
pub(super) fn learn(value: &str) {
    let value = value.trim();
    if value.chars().count() < MIN_CHARS {
        return;
    }
    let value = value.get(..value.floor_char_boundary(MAX_BYTES)).unwrap_or(value);
    let mut learned = LEARNED.lock().unwrap_or_else(PoisonError::into_inner);
    if learned.iter().any(|known| **known == *value) {
        return;
    }
    learned.push_back(Box::from(value));
    if learned.len() > MAX_SECRETS {
        learned.pop_front();
    }
    VERSION.fetch_add(1, Ordering::Release);
}

/// Finds every known secret in `text`, overlapping ones too.
pub(super) fn find(text: &str, spans: &mut Vec<Span>) {
    let version = VERSION.load(Ordering::Acquire);
    if version == 0 {
        return;
    }
    if let Some(finder) = finder(version) {
        let found = finder.find_overlapping_iter(text);
        spans.extend(found.map(|found| Span { start: found.start(), end: found.end(), kind: "secret", rank: 1 }));
    }
}

fn finder(version: usize) -> Option<Arc<AhoCorasick>> {
    {
        let built = FINDER.read().unwrap_or_else(PoisonError::into_inner);
        if built.0 >= version {
            return built.1.clone();
        }
    }
    let secrets: Vec<Box<str>> = LEARNED.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
    let mut wanted = BTreeSet::new();
    for secret in &secrets {
        forms(secret, &mut wanted);
        for part in of_url(secret) {
            forms(part, &mut wanted);
        }
    }
    // A secret of invisible characters leaves nothing without them, and nothing is found everywhere and for ever.
    wanted.retain(|form| form.chars().count() >= MIN_CHARS);
    // A DFA of a secret that repeats itself (`aaaa…`) takes the square of its length to build.
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::Standard).kind(Some(AhoCorasickKind::ContiguousNFA));
    let finder = builder.build(&wanted).ok().map(Arc::new);
    let mut built = FINDER.write().unwrap_or_else(PoisonError::into_inner);
    if built.0 < version {
        *built = (version, finder.clone());
    }
    finder
}

/// What of a secret URL is the secret: servers repeat the path or the password without the rest. Words in it are none.
fn of_url(url: &str) -> Vec<&str> {
    const NO_WORD: usize = 16;
    let Some((host, rest)) = url.split_once("://").map(|(_, after)| {
        let end = after.find(['/', '?', '#']).unwrap_or(after.len());
        after.split_at(end)
    }) else {
        return Vec::new();
    };
    let password = host.rsplit_once('@').and_then(|(user, _)| user.split_once(':')).map(|(_, password)| password);
    let parts = std::iter::once(rest).chain(rest.split(['/', '?', '&', '=', '#'])).filter(|part| part.len() >= NO_WORD);
    password.into_iter().filter(|password| password.len() >= MIN_ENCODED).chain(parts).collect()
}

/// A secret as it is, without its invisible characters, line by line, and encoded in the ways of URLs, JSON, HTML,
/// base64 (wherever it stands within what was encoded) and hex.
fn forms(secret: &str, into: &mut BTreeSet<String>) {
    let whole = plain::plain(secret);
    for plain in [secret, &whole] {
        into.insert(plain.to_owned());
        into.insert(percent(plain, |b| format!("%{b:02X}")));
        into.insert(percent(plain, |b| format!("%{b:02x}")));
        into.insert(percent(plain, |b| if b == b' ' { "+".to_owned() } else { format!("%{b:02X}") }));
        if let Ok(json) = serde_json::to_string(plain) {
            let json = json.trim_matches('"');
            into.insert(json.to_owned());
            into.insert(json.replace('/', "\\/"));
        }
        into.insert(plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;"));
    }
    let long = |form: &String| form.len() >= MIN_ENCODED;
    into.extend(whole.lines().map(|line| line.trim().to_owned()).filter(|line| line.len() >= 2 * MIN_ENCODED));
    for shift in 0..3 {
        into.extend(
            [STANDARD_NO_PAD, URL_SAFE_NO_PAD].map(|way| base64_middle(secret, shift, &way)).into_iter().filter(long),
        );
    }
    let hex = secret.bytes().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
    into.extend([hex.to_uppercase(), hex].into_iter().filter(|hex| hex.len() >= 2 * MIN_ENCODED));
}

fn percent(text: &str, encode: impl Fn(u8) -> String) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { encode(b) }).collect()
}

/// The part of an encoding that is the same whatever stands before and after: `shift` bytes precede it in its group of
/// three.
fn base64_middle(secret: &str, shift: usize, way: &impl base64::Engine) -> String {
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret.as_bytes());
    // A character holds six bits: the first that holds none of the shift's, the last that holds only the secret's.
    let first = (shift * 8).div_ceil(6);
    let last = bytes.len() * 8 / 6;
    way.encode(&bytes).get(first..last).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn of_a_url_the_parts_are_known_that_are_no_words() {
        for (url, parts) in [
            (
                "https://example.net/v1/hooks/Zk3qPw7nXr5tLm2vBd9s",
                vec!["/v1/hooks/Zk3qPw7nXr5tLm2vBd9s", "Zk3qPw7nXr5tLm2vBd9s"],
            ),
            ("https://example.net?t=Qn6yHc8wJf4gRt2kVb7x", vec!["?t=Qn6yHc8wJf4gRt2kVb7x", "Qn6yHc8wJf4gRt2kVb7x"]),
            ("postgres://agent:Zk3qPw7n@db/agents", vec!["Zk3qPw7n"]),
            ("https://example.net/v1/hooks", vec![]),
            ("no URL at all", vec![]),
        ] {
            assert_eq!(of_url(url), parts, "{url}");
        }
    }

    #[test]
    fn every_form_is_found_in_every_place() {
        // Made at run time, so that it is in no file.
        let secret: String = ["Tr0ub", "4dor&", "\"3/", "ü x"].concat();
        let mut wanted = BTreeSet::new();
        forms(&secret, &mut wanted);
        let found = |text: &str| wanted.iter().any(|form| text.contains(form.as_str()));
        for before in ["", "u", "us", "user:", "user:1"] {
            for after in ["", "\n", "ab", "xyz"] {
                let text = format!("{before}{secret}{after}");
                assert!(found(&text));
                for way in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
                    assert!(found(&way.encode(&text)), "base64 of {before:?} and {after:?}");
                }
                assert!(found(&serde_json::to_string(&text).unwrap()), "JSON");
            }
        }
        assert!(found("q=Tr0ub4dor%26%223%2F%C3%BC%20x&r=1"));
        assert!(found("q=Tr0ub4dor%26%223%2f%c3%bc%20x&r=1"));
        assert!(found("q=Tr0ub4dor%26%223%2F%C3%BC+x"));
        assert!(found("<b>Tr0ub4dor&amp;&quot;3/ü x</b>"));
        assert!(!found("Tr0ub4dor"));
    }

    #[test]
    fn short_encodings_are_not_looked_for() {
        let mut wanted = BTreeSet::new();
        forms("abcd", &mut wanted);
        assert_eq!(wanted, BTreeSet::from(["abcd".to_owned()]));
    }

    #[test]
    fn a_secret_that_nobody_could_see_is_not_found_everywhere() {
        for invisible in ["\u{200b}", "\0"] {
            learn(&invisible.repeat(6));
        }
        let mut spans = Vec::new();
        find("between two letters stands nothing", &mut spans);
        assert_eq!(spans, []);
    }
}
