//! Secrets that can be told by themselves: vendors' prefixes, JSON Web Tokens, private keys.

use super::{Place, word};
use crate::redact::Span;

/// From this rank on a kind is a token's own, and no better name is looked for.
pub(super) const RANK: u8 = 5;

/// A vendor's token: a prefix and at least so many characters of a kind.
pub(super) struct Token {
    pub prefix: &'static str,
    pub kind: &'static str,
    min: usize,
    chars: fn(u8) -> bool,
    /// Whether a digit and a letter must be among the characters, where words could follow the prefix too.
    mixed: bool,
}

const fn token(prefix: &'static str, kind: &'static str, min: usize) -> Token {
    Token { prefix, kind, min, chars: word, mixed: false }
}
const fn mixed(prefix: &'static str, kind: &'static str, min: usize) -> Token {
    Token { prefix, kind, min, chars: word, mixed: true }
}
const fn of(prefix: &'static str, kind: &'static str, min: usize, chars: fn(u8) -> bool) -> Token {
    Token { prefix, kind, min, chars, mixed: false }
}

fn dotted(b: u8) -> bool {
    word(b) || b == b'.'
}
fn path(b: u8) -> bool {
    dotted(b) || b"/=@%+".contains(&b)
}
fn upper(b: u8) -> bool {
    b.is_ascii_uppercase() || b.is_ascii_digit()
}

/// Prefixes as their vendors document them. Lengths are lower bounds: exact ones change and let the rest of a token through.
pub(super) static TOKENS: [Token; 80] = [
    token("sk-ant-", "anthropic-key", 8),
    token("sk-proj-", "openai-key", 16),
    token("sk-svcacct-", "openai-key", 16),
    token("sk-admin-", "openai-key", 16),
    token("sk-or-v1-", "openrouter-key", 16),
    mixed("sk-", "api-key", 20),
    token("sk_live_", "stripe-key", 10),
    token("sk_test_", "stripe-key", 10),
    token("rk_live_", "stripe-key", 10),
    token("rk_test_", "stripe-key", 10),
    of("whsec_", "webhook-secret", 10, path),
    token("ghp_", "github-token", 20),
    token("gho_", "github-token", 20),
    token("ghu_", "github-token", 20),
    of("ghs_", "github-token", 20, dotted),
    token("ghr_", "github-token", 20),
    token("github_pat_", "github-token", 20),
    of("glpat-", "gitlab-token", 12, dotted),
    of("glptt-", "gitlab-token", 12, dotted),
    of("gldt-", "gitlab-token", 12, dotted),
    of("glrt-", "gitlab-token", 12, dotted),
    of("glcbt-", "gitlab-token", 12, dotted),
    of("AKIA", "aws-key-id", 16, upper),
    of("ASIA", "aws-key-id", 16, upper),
    token("AIza", "google-key", 30),
    of("ya29.", "google-token", 20, dotted),
    token("GOCSPX-", "google-secret", 10),
    token("1//0", "google-token", 24),
    token("xoxb-", "slack-token", 10),
    token("xoxp-", "slack-token", 10),
    token("xoxa-", "slack-token", 10),
    token("xoxr-", "slack-token", 10),
    token("xoxs-", "slack-token", 10),
    of("xoxc-", "slack-token", 10, path),
    of("xoxd-", "slack-token", 10, path),
    of("xoxe.xox", "slack-token", 10, dotted),
    token("xoxe-", "slack-token", 10),
    token("xapp-", "slack-token", 10),
    of("hooks.slack.com/services/", "slack-webhook", 8, path),
    of("hooks.slack.com/workflows/", "slack-webhook", 8, path),
    of("hooks.slack.com/triggers/", "slack-webhook", 8, path),
    of("/api/webhooks/", "discord-webhook", 30, path),
    of("/webhookb2/", "teams-webhook", 30, path),
    of("hc-ping.com/", "ping-url", 16, path),
    mixed("hf_", "huggingface-token", 20),
    mixed("npm_", "npm-token", 30),
    token("pypi-AgE", "pypi-token", 32),
    of("SG.", "sendgrid-key", 40, dotted),
    token("dop_v1_", "digitalocean-token", 20),
    token("doo_v1_", "digitalocean-token", 20),
    token("dor_v1_", "digitalocean-token", 20),
    token("shpat_", "shopify-token", 20),
    token("shpss_", "shopify-token", 20),
    token("shpca_", "shopify-token", 20),
    mixed("dapi", "databricks-token", 32),
    mixed("lin_api_", "linear-key", 20),
    mixed("ntn_", "notion-token", 30),
    mixed("r8_", "replicate-token", 30),
    mixed("gsk_", "groq-key", 30),
    mixed("xai-", "xai-key", 30),
    mixed("pplx-", "perplexity-key", 30),
    mixed("nvapi-", "nvidia-key", 30),
    mixed("csk-", "cerebras-key", 30),
    mixed("fw_", "fireworks-key", 20),
    mixed("tskey-", "tailscale-key", 16),
    of("hvs.", "vault-token", 20, dotted),
    of("hvb.", "vault-token", 20, dotted),
    token("glsa_", "grafana-token", 20),
    of("glc_eyJ", "grafana-token", 20, path),
    token("PMAK-", "postman-key", 20),
    token("sntrys_", "sentry-token", 20),
    token("sntryu_", "sentry-token", 20),
    token("rubygems_", "rubygems-key", 20),
    token("dckr_pat_", "docker-token", 16),
    of("ATATT3", "atlassian-token", 30, path),
    of("ATCTT3", "atlassian-token", 30, path),
    token("sq0atp-", "square-token", 16),
    of("AGE-SECRET-KEY-1", "age-key", 20, upper),
    token("figd_", "figma-token", 20),
    mixed("lsv2_pt_", "langsmith-key", 20),
];

impl Token {
    pub fn find(&self, at: &Place<'_>) -> Option<Span> {
        // The automaton takes letters of any case.
        if at.slice(at.start, at.end) != self.prefix {
            return None;
        }
        // A prefix within a word (`task-`) is none; a path's piece needs no such edge, its host stands before it.
        let is_url = self.prefix.contains('/') && !self.prefix.starts_with("1//");
        if !is_url && at.byte_before(at.start).is_some_and(|b| b.is_ascii_alphanumeric()) && !after_escape(at) {
            return None;
        }
        let end = at.run(at.end, self.chars);
        let rest = at.slice(at.end, end);
        let has = |of: fn(&u8) -> bool| rest.bytes().any(|b| of(&b));
        let enough = rest.len() >= self.min
            && (!self.mixed || has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic))
            && (self.prefix != "SG." || rest.contains('.'));
        // Of a URL the host may be seen; of a token nothing.
        let start = if is_url { at.end } else { at.start };
        let all = || at.run_to(end, usize::MAX, self.chars);
        enough.then(|| Span { start, end: trim_end(at, start, all()), kind: self.kind, rank: 6 })
    }
}

/// Whether what stands before is an escape (`\n`, `%3D`, a terminal's colour), whose last letter is no part of a word.
fn after_escape(at: &Place<'_>) -> bool {
    let colour = at.run_back(at.start.saturating_sub(1), 8, |b| b.is_ascii_digit() || b == b';');
    if at.byte_before(at.start) == Some(b'm') && at.byte_before(colour) == Some(b'[') {
        return true;
    }
    let before = at.slice(at.start.saturating_sub(3), at.start).as_bytes();
    matches!(before, [_, b'\\', b'n' | b'r' | b't'] | [b'\\', b'n' | b'r' | b't'])
        || matches!(before, [b'%', a, b] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
}

/// A sentence's full stop after a token is no part of it.
fn trim_end(at: &Place<'_>, start: usize, end: usize) -> usize {
    start + at.slice(start, end).trim_end_matches(['.', '@']).len()
}

/// `eyJ…` with at least two parts: the base64 of `{"`.
pub(super) fn jwt(at: &Place<'_>) -> Option<Span> {
    if at.slice(at.start, at.end) != "eyJ"
        || at.byte_before(at.start).is_some_and(|b| b.is_ascii_alphanumeric()) && !after_escape(at)
    {
        return None;
    }
    let end = at.run(at.start, dotted);
    let mut parts = at.slice(at.start, end).split('.').map(str::len);
    let long = |part: Option<usize>| part.is_some_and(|len| len >= 10);
    (long(parts.next()) && long(parts.next())).then(|| Span {
        start: at.start,
        end: trim_end(at, at.start, at.run_to(end, usize::MAX, dotted)),
        kind: "jwt",
        rank: RANK,
    })
}

fn is_private(label: &str) -> bool {
    label.contains("PRIVATE KEY")
}

/// What a key's lines are made of, the escapes of line breaks included, and the headers of old formats (`Proc-Type: 4,…`).
fn pem_body(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"+/= \n\\:,-".contains(&b)
}

/// A private key, to its end, or, without one, as far as it can reach.
pub(super) fn pem_begin(at: &Place<'_>) -> Option<Span> {
    let label_end = at.run(at.end, |b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b' ').min(at.end + 64);
    let after = at.after(label_end);
    if !is_private(at.slice(at.end, label_end)) || !after.starts_with("-----") {
        return None;
    }
    let body_end = at.run_to(label_end + 5, usize::MAX, pem_body);
    let body = at.slice(label_end + 5, body_end);
    let end = match body.find("-----END ") {
        Some(found) => {
            let tail = label_end + 5 + found + "-----END ".len();
            let closing = at.after(tail).find("-----").filter(|close| *close <= 64).map_or(0, |close| close + 5);
            tail + closing
        }
        None => body_end,
    };
    Some(Span { start: at.start, end, kind: "private-key", rank: 7 })
}

/// The end of a private key whose beginning was cut off: its last lines.
pub(super) fn pem_end(at: &Place<'_>) -> Option<Span> {
    let rest = at.after(at.end);
    let near = rest.get(..rest.floor_char_boundary(72))?;
    let label = near.get(..near.find("-----")?)?;
    if !is_private(label) {
        return None;
    }
    let mut start = at.start;
    loop {
        let line_end = at.run_back(start, 4, |b| b"\n\\nr ".contains(&b));
        let line_start = at.run_back(line_end, 128, |b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        // Base64 runs in lines of 64; only the last is shorter.
        let enough = if start == at.start { 1 } else { 32 };
        if line_end == start && start != at.start || line_end - line_start < enough {
            break;
        }
        start = line_start;
    }
    Some(Span { start, end: at.end + label.len() + 5, kind: "private-key", rank: 7 })
}

/// A Telegram bot's token: its id, a colon, 35 characters.
pub(super) fn telegram(at: &Place<'_>) -> Option<Span> {
    let colon = at.end - 1;
    let start = at.run_back(colon, 14, |b| b.is_ascii_digit());
    if !(6..=12).contains(&(colon - start)) {
        return None;
    }
    let in_word = at.byte_before(start).is_some_and(|b| b.is_ascii_alphanumeric());
    if in_word && !at.slice(start.saturating_sub(4), start).ends_with("bot") {
        return None;
    }
    let end = at.run(at.end, word);
    let rest = at.slice(at.end, end);
    let has = |of: fn(&u8) -> bool| rest.bytes().any(|b| of(&b));
    (rest.len() >= 30 && has(u8::is_ascii_digit) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase))
        .then_some(Span { start, end, kind: "telegram-token", rank: 6 })
}
