//! The gate that everything stored, printed and sent passes: known secrets first (`vault`), then what is shaped like one
//! (`shapes`). [`Clean`] text is made only here.

mod plain;
mod shapes;
mod short;
mod vault;

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::{Deserialize, Deserializer, Serialize};

pub use short::Short;

/// What opens a placeholder; a kind and `]` follow.
const OPEN: &str = "[redacted:";

/// A stretch of text that must not be seen, and what it is called in its placeholder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: usize,
    end: usize,
    kind: &'static str,
    /// Of two that overlap, the higher names both.
    rank: u8,
}

/// Text that passed the gate: valid UTF-8 without control, bidi or invisible characters (line breaks aside) and without
/// secrets. Cleaning it again changes nothing.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Clean(Short);

impl Clean {
    /// No text.
    pub const EMPTY: Self = Self(Short::from_static(""));

    /// Cleans text of any length; line breaks stay, tabs become spaces.
    #[must_use]
    pub fn new(raw: &str) -> Self {
        let plain = plain::plain(raw);
        Self(match redact(&plain) {
            Cow::Borrowed(_) => plain.into(),
            Cow::Owned(text) => text.into(),
        })
    }

    /// Cleans and cuts at a character boundary so that the text and the `…` that marks the cut take at most `max_bytes`
    /// (at least 3); line breaks stay.
    #[must_use]
    pub fn text(raw: &str, max_bytes: usize) -> Self {
        Self::windowed(raw, max_bytes, Self::new)
    }

    /// The same as one line: runs of white space become one space.
    #[must_use]
    pub fn line(raw: &str, max_bytes: usize) -> Self {
        Self::windowed(raw, max_bytes, |raw| {
            let clean = Self::new(raw);
            if !clean.0.contains(['\n', ' ']) {
                return clean;
            }
            let mut line = String::with_capacity(clean.0.len());
            for word in clean.0.split_whitespace() {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            // A name and its value may have stood on two lines.
            Self::new(&line)
        })
    }

    /// Cleans bytes that may not be UTF-8; what is not becomes `�`.
    #[must_use]
    pub fn bytes(raw: &[u8], max_bytes: usize) -> Self {
        Self::text(&String::from_utf8_lossy(raw), max_bytes)
    }

    /// Cleans no more of a long text than can be kept. The margin is for secrets that the cut would halve.
    fn windowed(raw: &str, max_bytes: usize, clean: impl Fn(&str) -> Self) -> Self {
        const MARGIN: usize = 16 << 10;
        let window = raw.floor_char_boundary(max_bytes.saturating_add(MARGIN));
        let Some(seen) = raw.get(..window).filter(|seen| seen.len() < raw.len()) else {
            return clean(raw).cut(max_bytes);
        };
        let cleaned = clean(seen);
        // Where much was taken out, the end of the window would be kept, and with it half a secret.
        if cleaned.0.len() < max_bytes.saturating_add(MARGIN / 2) { clean(raw) } else { cleaned }.cut(max_bytes)
    }

    fn cut(self, max_bytes: usize) -> Self {
        // The mark can make a secret of what was none (`token=Authori…`), so that the cut text is cleaned as well.
        let mut text = self;
        for _ in 0..4 {
            if text.0.len() <= max_bytes {
                break;
            }
            text = Self::new(&text.shortened(max_bytes));
        }
        if text.0.len() <= max_bytes { text } else { Self(text.shortened(max_bytes).into()) }
    }

    fn shortened(&self, max_bytes: usize) -> String {
        const MARK: &str = "…";
        let kept = self.0.floor_char_boundary(max_bytes.saturating_sub(MARK.len()));
        let mut kept = self.0.get(..kept).unwrap_or_default();
        // Half a placeholder would not be known as one.
        if let Some(open) = kept.rfind('[')
            && let Some(len) = self.0.get(open..).and_then(shapes::placeholder)
            && open + len > kept.len()
        {
            kept = kept.get(..open).unwrap_or_default();
        }
        format!("{kept}{MARK}")
    }

    /// Foreign text as it may stand in a sentence: in quotes, one line, at most 80 characters, links and mentions
    /// defanged so that no client makes them live.
    #[must_use]
    pub fn quoted(&self) -> Self {
        const MAX_CHARS: usize = 80;
        let line = Self::line(&self.0, 8 * MAX_CHARS);
        let tame = plain::defang(&line.0);
        let mut text = String::from('"');
        match tame.char_indices().nth(MAX_CHARS - 2) {
            // There is room for 78 characters between the quotes; 77 and the mark if there are more.
            Some((_, _)) => {
                text.extend(tame.chars().take(MAX_CHARS - 3));
                text.push('…');
            }
            None => text.push_str(&tame),
        }
        text.push('"');
        Self::new(&text)
    }

    /// Whether a character stands in clean text as it is, so that two texts that differ in it still differ.
    #[must_use]
    pub fn keeps(c: char) -> bool {
        plain::keeps(c)
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether there is no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
impl From<Clean> for Short {
    fn from(text: Clean) -> Self {
        text.0
    }
}
impl AsRef<str> for Clean {
    fn as_ref(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
impl fmt::Debug for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl<'de> Deserialize<'de> for Clean {
    /// Text from our own store passed the gate on its way in; only what could harm a terminal is taken out again.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        Ok(Self(plain::plain(&text).into()))
    }
}

/// `format!` that ends in [`Clean::new`].
#[macro_export]
macro_rules! clean {
    ($($arg:tt)*) => { $crate::redact::Clean::new(&format!($($arg)*)) };
}

/// A secret value. It shows itself nowhere; making one teaches the gate to replace it everywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a value and tells the gate about it, unless it is shorter than four characters.
    #[must_use]
    pub fn new(value: &str) -> Self {
        vault::learn(value);
        Self(Box::from(value))
    }
    /// Wraps a value that is no secret itself but stands where secrets do (a header's or a variable's value): it shows
    /// itself nowhere, and the gate is not told, so the same word elsewhere stays readable.
    #[must_use]
    pub fn public(value: &str) -> Self {
        Self(Box::from(value))
    }
    /// The value, for the one place that hands it over.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The gate for text that is already composed, as the last pass over the JSON that leaves: secrets are replaced, nothing
/// else is touched, and JSON stays JSON.
#[must_use]
pub fn scrub(text: &str) -> Cow<'_, str> {
    redact(text)
}

/// Prints panics cleaned: their messages hold what the program worked on.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let said = Clean::text(&panic.to_string(), 4_096);
        let _ = writeln!(std::io::stderr().lock(), "internal error: {said}");
    }));
}

fn redact(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    // What is taken out can bring together what makes a shape; two rounds have been enough for every text tried.
    for _ in 0..4 {
        let mut spans = Vec::new();
        vault::find(&text, &mut spans);
        let placeholders = shapes::find(&text, &mut spans);
        match replace(&text, spans, &placeholders) {
            Some(changed) => text = Cow::Owned(changed),
            None => break,
        }
    }
    text
}

/// Replaces the spans, joined where they overlap or touch; nothing when there are none. A placeholder already there is
/// kept, or taken whole.
fn replace(text: &str, mut spans: Vec<Span>, placeholders: &[(usize, usize)]) -> Option<String> {
    spans.retain(|span| !placeholders.iter().any(|(start, end)| *start <= span.start && span.end <= *end));
    for span in &mut spans {
        // Half a placeholder would be no placeholder, and half an escape (`\n`) no JSON.
        for (start, end) in placeholders {
            if span.start < *end && *start < span.end {
                span.start = span.start.min(*start);
                span.end = span.end.max(*end);
            }
        }
        let before = text.get(..span.start).unwrap_or_default();
        if (before.len() - before.trim_end_matches('\\').len()) % 2 == 1 {
            span.start -= 1;
        }
        let taken = text.get(span.start..span.end).unwrap_or_default();
        span.end -= taken.len() - taken.trim_end_matches('\\').len();
    }
    spans.retain(|span| span.start < span.end);
    spans.sort_unstable_by_key(|span| (span.start, span.end));
    let mut joined: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match joined.last_mut() {
            Some(last) if span.start <= last.end => {
                last.end = last.end.max(span.end);
                if span.rank > last.rank {
                    (last.kind, last.rank) = (span.kind, span.rank);
                }
            }
            _ => joined.push(span),
        }
    }
    if joined.is_empty() {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for span in joined {
        out.push_str(text.get(done..span.start).unwrap_or_default());
        out.push_str(OPEN);
        out.push_str(span.kind);
        out.push(']');
        done = span.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    Some(out)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use proptest::prelude::*;

    use super::*;

    fn clean(raw: &str) -> String {
        Clean::new(raw).to_string()
    }

    /// Letters and digits without a pattern, made at run time: no secret stands in this file.
    fn noise(len: usize, seed: u64) -> String {
        let letters = "aZ3kQ9xT0vB7mC5nE1rG8yH2uJ4wK6pLsDfF".as_bytes();
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..len)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                char::from(letters[usize::try_from(state % letters.len() as u64).unwrap()])
            })
            .collect()
    }

    fn upper(len: usize, seed: u64) -> String {
        noise(len, seed).to_uppercase()
    }

    /// Text around a secret, the secret, and the placeholder's kind.
    fn planted() -> Vec<(String, String, &'static str)> {
        let mut all = Vec::new();
        let mut plant = |before: &str, secret: String, after: &str, kind: &'static str| {
            all.push((format!("{before}{secret}{after}"), secret, kind));
        };
        let n = noise;
        // Vendors' tokens, in prose, JSON, URLs and job output.
        plant("error: key ", format!("sk-{}-{}", "ant-api03", n(90, 1)), ", retrying)", "anthropic-key");
        plant("using \"", format!("sk-{}-{}", "proj", n(40, 2)), "\"", "openai-key");
        plant("OPENAI=", format!("sk-{}", n(48, 3)), "\n", "api-key");
        plant("remote: https://", format!("ghp_{}", n(36, 4)), "@github.com/x/y", "github-token");
        plant("token ", format!("github_{}_{}", "pat", n(60, 5)), ".", "github-token");
        plant("(", format!("glpat-{}", n(20, 6)), ")", "gitlab-token");
        plant("aws ", format!("AKIA{}", upper(16, 7)), " denied", "aws-key-id");
        plant("maps?x=", format!("AIza{}", n(35, 8)), "&y=1", "google-key");
        plant("\u{1b}[31m", format!("ya29.{}", n(60, 9)), "\u{1b}[0m", "google-token");
        plant("slack: ", ["xoxb", "123456789012", &n(24, 10)].join("-"), "", "slack-token");
        plant(
            "posting to https://hooks.slack.com/services/",
            format!("T{}/B{}/{}", upper(8, 1), upper(8, 2), n(24, 11)),
            " failed",
            "slack-webhook",
        );
        plant(
            "POST https://discord.com/api/webhooks/",
            format!("1234567890123/{}", n(60, 12)),
            " 404",
            "discord-webhook",
        );
        plant("https://api.telegram.org/bot", format!("123456789:AA{}", n(33, 13)), "/getMe", "telegram-token");
        plant("stripe ", format!("sk_{}_{}", "live", n(24, 14)), "", "stripe-key");
        plant("whs: ", format!("whsec_{}", n(32, 15)), "", "webhook-secret");
        plant("hub ", format!("hf_{}", n(34, 16)), "", "huggingface-token");
        plant("//registry.npmjs.org/:x=", format!("npm_{}", n(36, 17)), "", "npm-token");
        plant("sg ", format!("SG.{}.{}", n(22, 18), n(43, 19)), "", "sendgrid-key");
        plant("groq ", format!("gsk_{}", n(52, 20)), "", "groq-key");
        // Structures.
        let jwt = format!("eyJ{}.eyJ{}.{}", n(33, 21), n(60, 22), n(43, 23));
        plant("cookie is ", jwt.clone(), "", "jwt");
        plant("{\"Authorization\":\"Bearer ", jwt, "\"}", "jwt");
        plant("Authorization: Bearer ", n(40, 24), "\nAccept: */*", "bearer");
        plant(
            "proxy-authorization: Basic ",
            base64::engine::general_purpose::STANDARD.encode(format!("bob:{}", n(9, 25))),
            "",
            "basic",
        );
        plant("curl -H 'Cookie: ", format!("sid={}; theme=dark", n(20, 26)), "' https://x.example", "cookie");
        plant("{\"set-cookie\": \"", format!("s={}; Path=/; HttpOnly", n(20, 27)), "\", \"x\": 1}", "cookie");
        plant("redis://default:", n(16, 28), "@10.0.0.5:6379/0", "password");
        plant("postgres://app:", format!("{}/{}", n(8, 29), n(8, 30)), "@db/x", "password");
        plant("GET /cb?state=1&access_token=", n(20, 31), "&x=1 200", "token");
        plant("https://b.s3.amazonaws.com/o?X-Amz-Signature=", n(64, 32).to_lowercase(), "&x=1", "signature");
        plant(
            "https://x.blob.core.windows.net/c?sv=2024&sig=",
            format!("{}%2B{}%3D", n(20, 33), n(20, 34)),
            "",
            "signature",
        );
        plant("curl -u admin:", n(12, 35), " https://x", "password");
        // Names with values.
        plant("DB_PASSWORD=", n(12, 36), "\nPORT=5432", "password");
        plant("password: ", ["hunter2", "hunter2"].concat(), "", "password");
        plant("login(password='", "correct horse battery staple".to_owned(), "')", "password");
        plant("{\"client_secret\": \"", n(32, 37), "\"}", "secret");
        plant("AWS_SECRET_ACCESS_KEY=", format!("{}/{}+{}", n(12, 38), n(14, 39), n(12, 40)), "", "key");
        plant("run --api-key ", n(24, 41), " --verbose", "key");
        plant("x-api-key: ", n(32, 42), "", "key");
        plant("{\\\"refreshToken\\\":\\\"", n(40, 43), "\\\"}", "token");
        plant("key: ", format!("{}Aa0", n(40, 44)), "", "key");
        plant("vault token=", "5f2b7c1e-9d3a-4e8f-b6a1-0c2d4e6f8a9b".to_owned(), "", "token");
        // Private keys: whole, unterminated, in JSON, and the end of one.
        let body = (0..5).map(|i| n(64, 50 + i)).collect::<Vec<_>>();
        let (begin, end) =
            (format!("-----BEGIN {} KEY-----", "RSA PRIVATE"), format!("-----END {} KEY-----", "RSA PRIVATE"));
        plant("", format!("{begin}\n{}\n{end}", body.join("\n")), "\nok", "private-key");
        plant("{\"private\":\"", format!("{begin}\\n{}\\n{end}", body.join("\\n")), "\\n\"}", "private-key");
        plant("dump: ", format!("{begin}\n{}", body.join("\n")), "", "private-key");
        plant("", format!("{}\n{end}", body.join("\n")), "\nok", "private-key");
        all
    }

    #[test]
    fn planted_secrets_are_replaced_by_their_kind() {
        let planted = planted();
        assert!(planted.len() >= 40);
        for (text, secret, kind) in &planted {
            let cleaned = clean(text);
            assert!(cleaned.contains(&format!("[redacted:{kind}]")), "{kind} in {text:?}: {cleaned:?}");
            let rest = cleaned.replace(&format!("[redacted:{kind}]"), "");
            for piece in secret.split(|c: char| !c.is_ascii_alphanumeric()).filter(|piece| piece.len() >= 6) {
                assert!(!rest.contains(piece), "{piece} of {kind} in {cleaned:?}");
            }
            assert_eq!(clean(&cleaned), cleaned, "cleaned twice");
            let (before, _) = text.split_once(secret.as_str()).unwrap();
            let before = plain::plain(before);
            assert!(cleaned.starts_with(&*before) || kind == &"github-token", "what is before stays: {cleaned:?}");
        }
    }

    #[test]
    fn what_is_behind_a_secret_stays() {
        for (text, cleaned) in [
            ("DB_PASSWORD=abc12345xyz\nPORT=5432", "DB_PASSWORD=[redacted:password]\nPORT=5432"),
            ("a=1,password=abc12345,b=2", "a=1,password=[redacted:password],b=2"),
            ("{password: abc12345}", "{password: [redacted:password]}"),
            ("redis://default:pw@10.0.0.5:6379/0", "redis://default:[redacted:password]@10.0.0.5:6379/0"),
            ("?token=abcd&x=1", "?token=[redacted:token]&x=1"),
            ("Cookie: a=bcdef; c=d\nHost: x", "Cookie: [redacted:cookie]\nHost: x"),
            ("Authorization: Bearer abc123\nHost: x", "Authorization: Bearer [redacted:bearer]\nHost: x"),
            ("(password=abc12345).", "(password=[redacted:password])."),
        ] {
            assert_eq!(clean(text), cleaned);
        }
    }

    #[test]
    fn ordinary_text_stays_as_it_is() {
        let sha = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        for text in [
            "auth: failed",
            "authorization: denied for user bob",
            "token_count: 1234567",
            "total_tokens=48123 max_tokens: 4096",
            "tokens used: 123456789",
            "token expired",
            "token: expired",
            "password: incorrect",
            "password authentication failed for user \"postgres\"",
            "invalid password for root",
            "password_file = /run/secrets/db_password",
            "password=/run/secrets/db_password",
            "token = \"env:SLACK_TOKEN\"",
            "api_key = 'file:~/.config/key'",
            "token=$TOKEN password=${PASSWORD}",
            "secret: keep it simple",
            "the bearer of bad news; bearer authentication required",
            "Authorization: basic authentication required",
            "basic arithmetic",
            "key: value",
            "primary key: 12345678",
            "key=user:12345678",
            "cache_key: 9f86d081884c7d659a2feaa0c55ad015",
            "public key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1y",
            "cookie: chocolate",
            "id 5f2b7c1e-9d3a-4e8f-b6a1-0c2d4e6f8a9b done",
            "commit 05624c2d7f0b8a4d9e2c1b3a5f6e7d8c9b0a1f2e",
            &format!("sha256:{sha}"),
            &format!("digest: sha256:{sha}"),
            &format!("key: {sha}"),
            "/usr/lib/x86_64-linux-gnu/libssl.so.3",
            "https://user@example.com/path?page=2&sort=key",
            "http://127.0.0.1:8080/a@b",
            "https://example.com:443/x?code=200&key=name",
            "http://[::1]:8080/x@y",
            "at 2026-11-21T10:15:30Z, 14:30:05",
            "token: 2026-11-21T10:15:30Z",
            "docker run -u 1000:1000 -u app:app x",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
            "task-force risk-averse sk-learn-something-long-without-digits",
            "the secret of success is patience",
            "{\"token\":12345678,\"secret\":null,\"password\":true,\"auth\":{\"a\":1}}",
            "{\"input_tokens\":1234,\"cache_read_tokens\":99}",
            "certificate expires in 5 d 3 h",
            "author: Jane Doe, keyboard: qwerty12345",
            "passed: 12345678 tests",
            "git@github.com:user/repo.git",
            "eyJ is how a token begins",
            "monkey=banana12345",
            "[redacted:github-token] and [redacted:secret]",
            "ünïcödé — “quotes” … 🦀",
            "",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn known_secrets_are_replaced_wherever_they_turn_up() {
        let value = ["kn0wn", "/Sëcret+", "value 77"].concat();
        let secret = Secret::new(&value);
        assert_eq!(format!("{secret:?}"), "Secret(…)");
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("user:{value}!"));
        let json = serde_json::to_string(&format!("say \"{value}\"")).unwrap();
        for text in
            [format!("a{value}b"), format!("x {encoded} y"), json, "kn0wn%2FS%C3%ABcret%2Bvalue%2077".to_owned()]
        {
            let cleaned = clean(&text);
            assert!(cleaned.contains("[redacted:secret]"), "{cleaned}");
            assert!(!cleaned.replace("[redacted:secret]", "").contains("cret"), "{cleaned}");
            assert_eq!(clean(&cleaned), cleaned);
        }
        // Hidden by colours, tabs and invisible characters.
        assert_eq!(clean("kn0wn\u{200b}/Së\u{1b}[1mcret+value\t77"), "[redacted:secret]");
        assert_eq!(clean("pat stays, as does abc"), "pat stays, as does abc");
        let _ = Secret::new("abc");
        let _ = Secret::public("application/x-not-a-secret");
        assert_eq!(clean("abc application/x-not-a-secret"), "abc application/x-not-a-secret");
    }

    #[test]
    fn secrets_that_overlap_leave_no_rest() {
        let (first, second) = (["qqfirst", "1234"].concat(), ["1234", "secondqq"].concat());
        let _ = (Secret::new(&first), Secret::new(&second));
        assert_eq!(clean("<qqfirst1234secondqq>"), "<[redacted:secret]>");
    }

    #[test]
    fn a_placeholder_can_hold_a_secret_that_is_a_part_of_it() {
        let _ = Secret::new("redacted:github");
        let once = clean(&format!("ghp_{}", noise(36, 4)));
        assert_eq!(once, "[redacted:github-token]");
        assert_eq!(clean(&once), once);
        assert_eq!(clean("password=\"[redacted:hunter2x]\""), "password=\"[redacted:password]\"");
    }

    #[test]
    fn characters_that_deceive_are_taken_out() {
        for (raw, cleaned) in [
            ("a\u{202e}b\u{2066}c\u{200e}d\u{61c}e", "abcde"),
            ("a\u{200b}b\u{200d}c\u{2060}d\u{feff}e\u{ad}f", "abcdef"),
            ("a\u{0}b\u{7f}c\u{9b}d\re", "abcde"),
            ("a\tb\nc", "a b\nc"),
            ("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title\u{7}x \u{1b}(Bz", "red x z"),
            ("cut \u{1b}[31", "cut [31"),
            ("a\u{e0041}b", "ab"),
        ] {
            assert_eq!(clean(raw), cleaned, "{raw:?}");
        }
        assert_eq!(Clean::bytes(b"a\xffb", 100).as_str(), "a\u{fffd}b");
    }

    #[test]
    fn texts_are_cut_at_characters_and_lines_are_lines() {
        assert_eq!(Clean::text("äöü", 6).as_str(), "äöü");
        assert_eq!(Clean::text("äöüß", 7).as_str(), "äö…");
        assert_eq!(Clean::text("abcdef", 5).as_str(), "ab…");
        assert_eq!(Clean::line("  a\n\n b\tc  ", 100).as_str(), "a b c");
        assert_eq!(Clean::line("password:\nswordf1sh99", 100).as_str(), "password: [redacted:password]");
        let long = format!("{} ghp_{}", "x".repeat(90), noise(36, 4));
        assert!(!Clean::text(&long, 100).as_str().contains("ghp_"), "cut after cleaning");
        let keys = format!("ghp_{} ", noise(36, 4)).repeat(10_000);
        let cut = Clean::text(&keys, 1_000);
        assert!(cut.as_str().len() <= 1_000 && !cut.as_str().contains("ghp_"));
    }

    #[test]
    fn foreign_text_is_quoted_dead() {
        for (raw, quoted) in [
            ("plain", "\"plain\""),
            ("see http://evil.example/x and HTTPS://y", "\"see hxxp://evil.example/x and hxxps://y\""),
            ("ping @everyone a@b.c", "\"ping (at)everyone a(at)b.c\""),
            ("a `b` \"c\" “d”", "\"a 'b' 'c' 'd'\""),
            ("<!channel> [x](http://y)", "\"‹!channel› [x] (hxxp://y)\""),
            ("ftp://x www.y.z", "\"ftp[:]//x www[.]y.z\""),
            ("line\nbreak", "\"line break\""),
        ] {
            assert_eq!(Clean::new(raw).quoted().as_str(), quoted);
        }
        let long = Clean::new(&"ä".repeat(200)).quoted();
        assert_eq!(long.as_str().chars().count(), 80);
        assert!(long.as_str().ends_with("…\""));
        assert_eq!(Clean::new(&"ä".repeat(78)).quoted().as_str().chars().count(), 80);
    }

    #[test]
    fn json_that_is_scrubbed_stays_json() {
        let mut texts: Vec<String> = planted().into_iter().map(|(text, _, _)| text).collect();
        texts.push("Cookie: a=bcdef; c='d'\nnext".to_owned());
        texts.push("ends in a backslash password=abc12345\\".to_owned());
        for text in &texts {
            let json = serde_json::json!({"notes": text, "after": ["kept", 1]}).to_string();
            let scrubbed = scrub(&json);
            let back = serde_json::from_str::<serde_json::Value>(&scrubbed).unwrap_or_default();
            assert_eq!(back["after"], serde_json::json!(["kept", 1]), "{scrubbed}");
            assert!(scrubbed.contains("[redacted:"), "{scrubbed}");
        }
        assert!(matches!(scrub("{\"status\":\"green\"}"), Cow::Borrowed(_)));
    }

    #[test]
    fn hostile_text_costs_its_length() {
        // Each would take minutes if a rule looked to the end of the text from every place.
        for piece in [
            "key",
            "token=",
            "cookie:",
            "sk-",
            "eyJ-",
            "eyJaaaaaaaaaa.",
            "a://",
            "authorization: digest ",
            "password:\"",
            "-u a:",
            "123456789:",
            "-----END ",
            "-----BEGIN ",
            "[redacted:",
            "bearer ",
            "é=token:",
            "--token ",
        ] {
            let cleaned = clean(&piece.repeat((32 << 10) / piece.len()));
            assert!(!cleaned.is_empty());
        }
        let value = noise(100_000, 7);
        assert_eq!(
            clean(&format!("token={value} x ghp_{value} Cookie: a={value}")),
            "token=[redacted:token] x [redacted:github-token] Cookie: [redacted:cookie]"
        );
    }

    #[test]
    fn stored_text_is_trusted_but_tamed() {
        assert_eq!(serde_json::from_str::<Clean>("\"a\\u001b[31mb\\u202e\"").unwrap().as_str(), "ab");
        assert_eq!(serde_json::to_string(&Clean::new("a\"b")).unwrap(), "\"a\\\"b\"");
    }

    /// Text with much of what the rules look for.
    fn suspicious() -> impl Strategy<Value = String> {
        let pieces = prop::sample::select(vec![
            "password",
            "token",
            "key",
            "secret",
            "=",
            ":",
            ": ",
            "\"",
            "'",
            "\\",
            "\\n",
            "\n",
            " ",
            "@",
            "://",
            "http://u:",
            "/",
            "?",
            "&sig=",
            "Cookie: ",
            "a=b;",
            "Authorization: ",
            "Bearer ",
            "Basic ",
            "eyJ",
            ".",
            "-----BEGIN RSA PRIVATE KEY-----",
            "-----END RSA PRIVATE KEY-----",
            "sk-ant-",
            "ghp_",
            "AKIA",
            "abcDEF123456789",
            "hunter2x",
            "AAAABBBBCCCCDDDD1111",
            "[redacted:",
            "[redacted:secret]",
            "]",
            "[",
            "{",
            "}",
            ",",
            "-u ",
            "123456789:",
            "\u{200b}",
            "\u{1b}[",
            "é",
            "--api-key ",
        ]);
        prop::collection::vec(prop_oneof![4 => pieces.prop_map(str::to_owned), 1 => "\\PC{0,8}"], 0..24)
            .prop_map(|p| p.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn cleaning_twice_changes_nothing(text in suspicious()) {
            let once = clean(&text);
            prop_assert_eq!(clean(&once), once);
        }
        #[test]
        fn cutting_twice_changes_nothing(text in suspicious(), max in 3_usize..80) {
            let once = Clean::text(&text, max);
            prop_assert!(once.as_str().len() <= max);
            prop_assert_eq!(Clean::text(once.as_str(), max), once);
        }
        #[test]
        fn scrubbed_json_parses(text in suspicious()) {
            let json = serde_json::json!({ "a": text, "b": 1 }).to_string();
            let scrubbed = scrub(&json);
            let back = serde_json::from_str::<serde_json::Value>(&scrubbed);
            prop_assert!(back.as_ref().is_ok_and(|back| back["b"] == 1), "{} from {}", scrubbed, json);
        }
        #[test]
        fn no_character_deceives(text in any::<String>()) {
            let cleaned = clean(&text);
            prop_assert!(cleaned.chars().all(|c| c == '\n' || !c.is_control()));
        }
    }
}
