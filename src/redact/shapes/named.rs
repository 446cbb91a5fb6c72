//! Secrets that are told by the name before them: headers, parameters, `key=value`, the password in a URL.
//!
//! Traps that a rule must not fall into: `auth: failed`, `token_count: 1234567`, `password: incorrect`, a path, a date, a
//! reference to where a secret is kept.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::{MAX_LOOK, Place, entropy, placeholder};
use crate::redact::Span;

/// What a name has in it that a secret may follow, in any case.
pub(super) static TRIGGERS: [&str; 14] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "credential",
    "auth",
    "cookie",
    "signature",
    "jwt",
    "?sig=",
    "&sig=",
    "?code=",
    "&code=",
];

/// The kinds of placeholders beside those of vendors' tokens.
pub(super) static KINDS: [&str; 11] = [
    "secret",
    "password",
    "token",
    "key",
    "credentials",
    "bearer",
    "basic",
    "cookie",
    "signature",
    "jwt",
    "private-key",
];

/// Bytes of a name, and of what stands before the `@` of a URL.
const MAX_NAME: usize = 96;

/// How sure a name makes us.
#[derive(Clone, Copy, PartialEq)]
enum Name {
    /// An `Authorization` header.
    Authorization,
    /// A `Cookie` header.
    Cookie,
    /// A password: short ones and plain numbers count.
    Password,
    /// A secret, a token, an API key.
    Strong,
    /// Something that may be a key: the value must look like chance.
    Weak,
}

/// The value after a name: `password=…`, `"api_key": "…"`, `--token …`, `?sig=…`, `Authorization: …`.
pub(super) fn value_of_name(at: &Place<'_>) -> Option<Span> {
    let in_name = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
    let lead = at.slice(at.start, at.end).starts_with(['?', '&']);
    let start = if lead { at.start + 1 } else { at.run_back(at.start, MAX_NAME, in_name) };
    let end = if lead { at.end - 1 } else { at.run_to(at.end, MAX_NAME, in_name) };
    let start = start + escape_before(at, start);
    let written = at.slice(start, end);
    if written.len() > MAX_NAME {
        return None;
    }
    let param = at.byte_before(start).is_some_and(|b| b == b'?' || b == b'&');
    let (name, kind) = classify(written, param)?;
    let value = Value::after(at, end, written.starts_with("--"))?;
    match name {
        Name::Authorization => {
            if let Some((start, end, kind)) = credentials(at, value.start, true) {
                return Some(Span { start, end, kind, rank: 4 });
            }
            value.looks_secret(Name::Strong, param).then(|| value.span("credentials"))
        }
        Name::Cookie => cookie(at, &value),
        _ => value.looks_secret(name, param).then(|| value.span(kind)),
    }
}

/// Of a name that follows an escaped line break, the break's letter is no part.
fn escape_before(at: &Place<'_>, start: usize) -> usize {
    usize::from(at.byte_before(start) == Some(b'\\') && at.after(start).starts_with(['n', 'r', 't']))
}

/// What a name promises, by its words (`dbPassword`, `X-Api-Key`, `OPENAI_API_KEY`).
fn classify(name: &str, param: bool) -> Option<(Name, &'static str)> {
    const QUALIFIERS: [&str; 21] = [
        "api",
        "access",
        "secret",
        "private",
        "signing",
        "encryption",
        "master",
        "auth",
        "account",
        "storage",
        "webhook",
        "service",
        "deploy",
        "subscription",
        "shared",
        "hmac",
        "client",
        "ssh",
        "bot",
        "app",
        "admin",
    ];
    const NEUTRAL: [&str; 20] = [
        "value",
        "prod",
        "production",
        "dev",
        "staging",
        "test",
        "live",
        "new",
        "old",
        "current",
        "backup",
        "default",
        "b64",
        "base64",
        "hex",
        "raw",
        "1",
        "2",
        "3",
        "string",
    ];
    const HARMLESS: [&str; 16] = [
        "public",
        "pub",
        "host",
        "cache",
        "primary",
        "foreign",
        "sort",
        "partition",
        "fingerprint",
        "idempotency",
        "dedup",
        "count",
        "max",
        "min",
        "num",
        "total",
    ];
    let words = words(name);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    while words.len() > 1 && words.last().is_some_and(|last| NEUTRAL.contains(last)) {
        words.pop();
    }
    let (last, before) = words.split_last()?;
    if words.iter().any(|word| HARMLESS.contains(word)) {
        return None;
    }
    let qualified = before.last().is_some_and(|word| QUALIFIERS.contains(word));
    Some(match *last {
        "authorization" => (Name::Authorization, "credentials"),
        "cookie" | "cookies" => (Name::Cookie, "cookie"),
        "password" | "passwd" | "pwd" | "passphrase" | "passcode" => (Name::Password, "password"),
        "pass" if !before.is_empty() => (Name::Password, "password"),
        "secret" => (Name::Strong, "secret"),
        "token" | "authtoken" | "accesstoken" | "apitoken" | "jwt" => (Name::Strong, "token"),
        "apikey" | "secretkey" | "accesskey" | "privatekey" | "authkey" => (Name::Strong, "key"),
        "key" if qualified => (Name::Strong, "key"),
        "credential" | "credentials" => (Name::Strong, "credentials"),
        "signature" | "sig" if param => (Name::Strong, "signature"),
        "code" if param => (Name::Weak, "token"),
        "key" | "auth" | "pass" | "signature" => (Name::Weak, "key"),
        _ => return None,
    })
}

fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower_before = false;
    for c in name.chars() {
        let edge = !c.is_ascii_alphanumeric() || c.is_ascii_uppercase() && lower_before;
        if edge && words.last().is_some_and(|word| !word.is_empty()) {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut()
            && c.is_ascii_alphanumeric()
        {
            word.push(c.to_ascii_lowercase());
        }
        lower_before = c.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What stands after a name.
struct Value<'a> {
    place: &'a Place<'a>,
    start: usize,
    /// Whether the value stands in quotes of its own.
    quote: Option<u8>,
    /// Whether the name stands in quotes, as in JSON.
    name_quoted: Option<u8>,
    /// Whether nothing but a quote stands between the separator and the value.
    adjacent: bool,
}

impl<'a> Value<'a> {
    /// The value after the name that ends at `at`: `=`, `:`, `=>`, or after an option's name a space.
    fn after(place: &'a Place<'a>, at: usize, option: bool) -> Option<Self> {
        let bytes = place.text.as_bytes();
        let byte = |at: usize| bytes.get(at).copied();
        let blank = |at: usize| place.run(at, |b| b == b' ');
        let quote_at = |at: usize| {
            let escaped = place.run(at, |b| b == b'\\').min(at + 8);
            byte(escaped).filter(|b| b"\"'`".contains(b)).map(|quote| (quote, escaped + 1))
        };
        let (name_quoted, at) = match quote_at(at) {
            Some((quote, after)) => (Some(quote), after),
            None => (None, at),
        };
        let separator = blank(at);
        let after = match (byte(separator)?, byte(separator + 1)) {
            (b'=', Some(b'>')) | (b':', Some(b'=')) => separator + 2,
            (b'=', _) => separator + 1,
            (b':', next) if next != Some(b'/') => separator + 1,
            _ if option && separator > at && name_quoted.is_none() => separator,
            // An encoded `=`.
            (b'%', Some(b'3')) if byte(separator + 2).is_some_and(|b| b == b'D' || b == b'd') => separator + 3,
            _ => return None,
        };
        let spaced = blank(after);
        let (quote, start) = match quote_at(spaced) {
            Some((quote, start)) => (Some(quote), start),
            None => (None, spaced),
        };
        // What stands before the name in quotes of its own (`-H "Cookie: …"`) is not the value's.
        Some(Self { place, start, quote, name_quoted, adjacent: spaced == after })
    }

    /// Where the value ends: at its quote, else at white space or where the next pair begins; never behind a quote or an
    /// escape, since what this text stands in (JSON, a shell's line) must keep them. At most `max` bytes are looked at.
    fn end(&self, max: usize) -> usize {
        let bytes = self.place.text.as_bytes();
        let mut at = self.start;
        while let Some(byte) = bytes.get(at)
            && at - self.start < max
        {
            let ends = match self.quote {
                Some(quote) => *byte == quote || *byte == b'\n' || *byte == b'"',
                None => match byte {
                    b',' | b';' => self.next_pair(at + 1),
                    byte => byte.is_ascii_whitespace() || b"&\"'`<>".contains(byte),
                },
            };
            let escape = *byte == b'\\' && bytes.get(at + 1).is_some_and(|next| b"\"'nrt".contains(next));
            if ends || escape {
                break;
            }
            at += 1;
        }
        let at = self.place.text.floor_char_boundary(at);
        if self.quote.is_some() {
            return at;
        }
        let value = self.place.slice(self.start, at);
        self.start + value.trim_end_matches([',', ';', ')', ']', '}', '|', '.']).len()
    }

    /// Whether a `,` or `;` before `at` ends a value: nothing follows, or another pair.
    fn next_pair(&self, at: usize) -> bool {
        let name_end = self.place.run_to(at, MAX_NAME, |b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b));
        matches!(self.place.text.as_bytes().get(name_end), None | Some(b'=' | b':' | b'"' | b'\n'))
    }

    fn span(&self, kind: &'static str) -> Span {
        Span { start: self.start, end: self.end(usize::MAX), kind, rank: 2 }
    }

    fn looks_secret(&self, name: Name, param: bool) -> bool {
        let value = self.place.slice(self.start, self.end(MAX_LOOK));
        let value = &*without_placeholders(value);
        // A list, a call, a template.
        if self.quote.is_none() && value.starts_with(['(', '[', '{']) {
            return false;
        }
        if value.is_empty() || is_harmless(value) {
            return false;
        }
        let has = |of: fn(&u8) -> bool| value.bytes().any(|b| of(&b));
        let digit = has(u8::is_ascii_digit);
        let letter = value.chars().any(char::is_alphabetic);
        // In JSON a bare value is a number or a word of the language, and replacing it would break the JSON.
        if self.name_quoted.is_some() && self.quote.is_none() && (!letter || !self.adjacent && !digit) {
            return false;
        }
        let set_apart = self.adjacent || self.quote.is_some();
        let len = value.chars().count();
        match name {
            Name::Weak if param => digit && letter && len >= 10,
            Name::Weak => by_chance(value),
            Name::Password if param || set_apart && digit && letter => len >= if param { 4 } else { 6 },
            Name::Password if !letter => set_apart && digit && len >= 6,
            Name::Strong if param => len >= 4,
            _ if len < 8 => false,
            _ if digit && letter => true,
            // Prose can stand after a colon, and a long word is as uneven as a password.
            _ if !letter => false,
            _ => (set_apart || value.chars().any(|c| !c.is_alphanumeric())) && entropy(value) >= 3.0,
        }
    }
}

/// What is left to judge of a value in which something was replaced already.
fn without_placeholders(value: &str) -> Cow<'_, str> {
    let mut left = Cow::Borrowed(value);
    while let Some((start, len)) = left.match_indices('[').find_map(|(at, _)| Some((at, placeholder(left.get(at..)?)?)))
    {
        left.to_mut().replace_range(start..start + len, "");
    }
    left
}

/// Whether a value is something else than a secret.
fn is_harmless(value: &str) -> bool {
    const WORDS: [&str; 34] = [
        "required",
        "optional",
        "none",
        "null",
        "true",
        "false",
        "missing",
        "expired",
        "invalid",
        "unauthorized",
        "undefined",
        "unavailable",
        "disabled",
        "enabled",
        "provided",
        "incorrect",
        "rejected",
        "accepted",
        "changed",
        "rotated",
        "forbidden",
        "configured",
        "unconfigured",
        "authenticated",
        "authentication",
        "authorization",
        "unauthenticated",
        "permission",
        "successful",
        "succeeded",
        "unsupported",
        "unreadable",
        "application",
        "placeholder",
    ];
    let lower = value.trim_end_matches(['.', '!', '?', ':']).to_ascii_lowercase();
    let starts = |with: &[&str]| with.iter().any(|start| lower.starts_with(start));
    WORDS.contains(&lower.as_str())
        || starts(&["env:", "file:", "cred:", "$", "<", "***", "xxxx", "....", "http://", "https://"])
        || value.chars().all(|c| "*x.-_•…#?".contains(c))
        || is_path(value)
        || is_date(value)
}

/// An absolute path or one under the home: pieces with letters, none of them as uneven as a key.
fn is_path(value: &str) -> bool {
    let Some(rest) = ["/", "~/", "./", "../"].iter().find_map(|start| value.strip_prefix(start)) else { return false };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-/@:*".contains(&b);
    rest.bytes().all(plain) && rest.split('/').all(|piece| piece.len() <= 40)
}

/// `2026-11-21…`
fn is_date(value: &str) -> bool {
    let mut parts = value.splitn(3, '-');
    let mut digits =
        |len: usize| parts.next().is_some_and(|p| p.len() >= len && p.bytes().take(len).all(|b| b.is_ascii_digit()));
    value.len() >= 10 && value.as_bytes().get(4) == Some(&b'-') && digits(4) && digits(2) && digits(2)
}

/// Whether a value of 20 characters or more is so uneven that no person chose it. Digests and UUIDs are, but are no secrets.
fn by_chance(value: &str) -> bool {
    let len = value.len();
    let hex = value.bytes().all(|b| b.is_ascii_hexdigit());
    let uuid =
        len == 36 && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && value.matches('-').count() == 4;
    if len < 20 || uuid || hex && [32, 40, 56, 64, 96, 128].contains(&len) {
        return false;
    }
    let has = |of: fn(&u8) -> bool| value.bytes().any(|b| of(&b));
    let plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-.~".contains(&b));
    let all_kinds = has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
    plain && if hex { entropy(value) > 3.0 } else { all_kinds && entropy(value) > 3.8 }
}

/// Credentials that begin with their scheme: `Bearer …`, `Basic …`; of those with parameters (`Digest …`) all of the line.
/// After a header's name (`header`) short ones count too. Returns where they stand and what they are.
pub(super) fn credentials(at: &Place<'_>, start: usize, header: bool) -> Option<(usize, usize, &'static str)> {
    let scheme_end = at.run(start, |b| b.is_ascii_alphanumeric() || b == b'-').min(start + 24);
    let scheme = at.slice(start, scheme_end).to_ascii_lowercase();
    let value = at.run(scheme_end, |b| b == b' ');
    if value == scheme_end || at.byte_before(start).is_some_and(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let in_token = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=:".contains(&b);
    let token_end = at.run(value, in_token);
    let token = at.slice(value, token_end).trim_end_matches(['.', ':']);
    let token_end = value + token.len();
    let has = |of: fn(&u8) -> bool| token.bytes().any(|b| of(&b));
    let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) && token.len() >= 8;
    let both_cases = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && token.len() >= 20;
    let mixed = mixed || header && token.len() >= 4 && !is_harmless(token);
    match scheme.as_str() {
        "bearer" | "token" | "bot" | "apikey" | "key" | "oauth" if mixed || both_cases || token.len() >= 32 => {
            Some((value, token_end, "bearer"))
        }
        "basic" | "negotiate" | "ntlm" if decodes_to_pair(token) || mixed && (header || token.len() >= 12) => {
            Some((value, token_end, "basic"))
        }
        "digest" | "aws4-hmac-sha256" | "signature" | "hawk" | "oauth"
            if without_placeholders(at.slice(value, line_end(at, value, MAX_LOOK))).contains('=') =>
        {
            Some((value, line_end(at, value, usize::MAX), "credentials"))
        }
        _ => None,
    }
}

fn decodes_to_pair(token: &str) -> bool {
    let token = token.trim_end_matches('=');
    let decoded = STANDARD_NO_PAD.decode(token).or_else(|_| URL_SAFE_NO_PAD.decode(token));
    decoded.is_ok_and(|pair| {
        pair.contains(&b':') && std::str::from_utf8(&pair).is_ok_and(|p| !p.contains(char::is_control))
    })
}

/// Where a header's line ends: at a line break, escaped or not, or at a double quote, which a JSON string needs.
fn line_end(at: &Place<'_>, start: usize, max: usize) -> usize {
    let bytes = at.text.as_bytes();
    let mut end = start;
    while let Some(byte) = bytes.get(end)
        && end - start < max
    {
        let escape = *byte == b'\\' && bytes.get(end + 1).is_some_and(|next| b"\"'nr".contains(next));
        if *byte == b'\n' || *byte == b'"' || escape {
            break;
        }
        end += 1;
    }
    at.text.floor_char_boundary(end)
}

/// A cookie header's whole value; `cookie: chocolate` is none.
fn cookie(at: &Place<'_>, value: &Value<'_>) -> Option<Span> {
    // `-H 'Cookie: …'`: a single quote in cookies is rare, and what is behind it is the rest of a command.
    let end = |max| line_end(at, value.start, max).min(at.run_to(value.start, max, |b| b != b'\''));
    let look = without_placeholders(at.slice(value.start, end(MAX_LOOK)));
    let has_pair = look.split(';').any(|pair| {
        pair.split_once('=').is_some_and(|(name, value)| {
            !name.trim().is_empty() && !name.trim().contains(' ') && value.trim().len() >= 4
        })
    });
    if has_pair {
        return Some(Span { start: value.start, end: end(usize::MAX), kind: "cookie", rank: 3 });
    }
    value.looks_secret(Name::Strong, false).then(|| value.span("cookie"))
}

/// The password in `scheme://user:password@host`, or a token in the user's place.
pub(super) fn user_info(at: &Place<'_>) -> Option<Span> {
    const MAX_AUTHORITY: usize = 512;
    let ends = |b: u8| b.is_ascii_whitespace() || b.is_ascii_control() || b"\"'`<>\\".contains(&b);
    let scheme = at.byte_before(at.start).is_some_and(|b| b.is_ascii_alphanumeric());
    let rest = at.slice(at.end, at.run_to(at.end, MAX_AUTHORITY, |b| !ends(b)));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if !scheme || rest.starts_with('[') && placeholder(rest).is_none() {
        return None;
    }
    let colon = rest.find([':', '@'])?;
    let host_at = match authority.rfind('@') {
        Some(found) => found,
        // A password with a slash in it, unencoded; `host:80/a@b` has a port there.
        None if rest.get(colon + 1..authority.len()).is_some_and(|port| port.bytes().any(|b| !b.is_ascii_digit())) => {
            rest.rfind('@')?
        }
        None => return None,
    };
    let (start, kind) = if colon < host_at { (colon + 1, "password") } else { (0, "token") };
    let value = rest.get(start..host_at)?;
    let mixed = value.bytes().any(|b| b.is_ascii_digit()) && value.bytes().any(|b| b.is_ascii_alphabetic());
    let accepted = !value.is_empty()
        && placeholder(value).is_none()
        && !value.starts_with(['$', '{'])
        && (kind == "password" || mixed && value.len() >= 16);
    accepted.then_some(Span { start: at.end + start, end: at.end + host_at, kind, rank: 4 })
}

/// The password in `curl -u user:password`; `docker run -u 1000:1000` has none.
pub(super) fn user_option(at: &Place<'_>) -> Option<Span> {
    if at.byte_before(at.start).is_some_and(|b| !b.is_ascii_whitespace() && !b"\"'[,".contains(&b)) {
        return None;
    }
    let open = at.run(at.end, |b| b == b' ');
    let open = open + usize::from(at.after(open).starts_with(['"', '\'']));
    let user_end = at.run(open, |b| b.is_ascii_alphanumeric() || b"._@+-".contains(&b));
    if user_end == open || user_end - open > MAX_NAME || !at.after(user_end).starts_with(':') {
        return None;
    }
    let end = at.run(user_end + 1, |b| !b.is_ascii_whitespace() && !b"\"'`\\".contains(&b));
    let value = at.slice(user_end + 1, end);
    let digit = value.bytes().any(|b| b.is_ascii_digit());
    let letter = value.chars().any(char::is_alphabetic);
    let accepted = placeholder(value).is_none()
        && !value.starts_with('$')
        && value.len() >= 6
        && letter
        && (digit || entropy(value) >= 3.0);
    accepted.then_some(Span { start: user_end + 1, end, kind: "password", rank: 3 })
}
