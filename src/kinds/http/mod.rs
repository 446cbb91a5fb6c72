//! A URL and what it must answer: status, content type, body, and any condition over them.

mod told;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use super::common::{CONNECT_REASONS, HTTP_REASONS, LANE_REASONS, SECRET_REASONS};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, remote};
use crate::clean;
use crate::expr::{Expr, Place, Val};
use crate::facts::{Blame, Class, Facts, Finding, Subject, Unread, Weight};
use crate::host::http::{Request, Response};
use crate::redact::{Clean, Secret};
use crate::settings::{Dur, JsonPath, Pattern, SecretRef, Size};

/// Bytes of a body that are kept to be shown when it is not what was expected.
const SHOWN_BYTES: usize = 200;
/// The largest `max_body` that may be set.
const MAX_BODY_BYTES: u64 = 16 * 1024 * 1024;
/// The most redirects that may be allowed.
const MAX_REDIRECTS: usize = 10;

/// See [`Kind`].
#[derive(Debug)]
pub struct Http;

/// The place of `expect`.
#[derive(Debug)]
pub struct Answered;

impl Place for Answered {
    const NAMES: &'static [&'static str] = &["status", "headers", "body", "json", "elapsed_ms"];
}

/// What to ask for and what must come.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// An `http://` or `https://` URL, without a password in it.
    url: String,
    /// The method: `GET` unless there is a body, then `POST`.
    method: Option<String>,
    /// Headers in plain text.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Headers whose values are secrets.
    #[serde(default)]
    secret_headers: BTreeMap<String, SecretRef>,
    /// A token for `Authorization: Bearer …`.
    bearer: Option<SecretRef>,
    /// A user for HTTP basic authentication.
    basic_user: Option<String>,
    /// The password for HTTP basic authentication.
    basic_password: Option<SecretRef>,
    /// What to send as the body.
    body: Option<String>,
    /// The status codes that are fine: numbers, ranges (`"200-204"`) or classes (`"2xx"`). By default 200 to 299.
    #[serde(default = "successes")]
    expect_status: Vec<Statuses>,
    /// What the content type must begin with: `application/json`.
    content_type: Option<String>,
    /// Text that the body must contain.
    body_contains: Option<String>,
    /// A regular expression that must be found in the body.
    body_matches: Option<Pattern>,
    /// A condition over `status`, `headers` (names in lower case), `body`, `json` (null if the body is none) and
    /// `elapsed_ms`. It is asked when everything else is as expected.
    expect: Option<Expr<Answered>>,
    /// How much of the body is read, after decompression; 16 MiB at most.
    #[serde(default = "one_mebibyte")]
    max_body: Size,
    /// How many redirects are followed; to another host only without the secrets.
    #[serde(default = "five")]
    redirects: usize,
    /// A PEM file with certificates to trust beside the system's.
    ca_file: Option<String>,
    /// A header whose value is watched as `version`.
    version_header: Option<String>,
    /// Facts that are read out of the answer's JSON, by name (`{ queue = "$.queue.depth" }`): numbers, flags and text,
    /// shown and never compared. Rules can read them.
    #[serde(default)]
    facts: BTreeMap<String, JsonPath>,
    /// Where the answer's JSON says for how many milliseconds the server has been up (`"$.uptimeMs"`): that it was
    /// restarted is said, once.
    uptime_ms: Option<JsonPath>,
    /// Warn when the answer took longer.
    warn_after: Option<Dur>,
    /// Fail when the answer took longer.
    fail_after: Option<Dur>,
}

fn successes() -> Vec<Statuses> {
    vec![Statuses { first: 200, last: 299 }]
}
fn one_mebibyte() -> Size {
    Size(1024 * 1024)
}
fn five() -> usize {
    5
}

/// Status codes from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Statuses {
    first: u16,
    last: u16,
}

impl Statuses {
    const WANTED: &'static str = "a status code, a range like \"200-204\" or a class like \"2xx\"";

    fn parse(text: &str) -> Option<Self> {
        let code = |digits: &str| digits.trim().parse().ok().filter(|code| (100..=599).contains(code));
        let class = text.strip_suffix("xx").and_then(|class| class.parse::<u16>().ok()).filter(|n| (1..=5).contains(n));
        if let Some(class) = class {
            return Some(Self { first: class * 100, last: class * 100 + 99 });
        }
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (code(first)?, code(last)?),
            None => (code(text)?, code(text)?),
        };
        (first <= last).then_some(Self { first, last })
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Statuses;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Statuses::WANTED)
            }
            fn visit_i64<E: de::Error>(self, code: i64) -> Result<Statuses, E> {
                self.visit_str(&code.to_string())
            }
            fn visit_u64<E: de::Error>(self, code: u64) -> Result<Statuses, E> {
                self.visit_str(&code.to_string())
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
                Statuses::parse(text).ok_or_else(|| E::custom(format!("`{text}` is not {}", Statuses::WANTED)))
            }
        }
        from.deserialize_any(Written)
    }
}

impl JsonSchema for Statuses {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A status code, a range or a class.",
            "type": ["integer", "string"],
            "minimum": 100,
            "maximum": 599,
            "pattern": "^([1-5]xx|[1-5][0-9]{2}(-[1-5][0-9]{2})?)$",
            "examples": [200, "200-204", "2xx"],
        })
    }
}

const fn transient(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    ReasonDoc { code, outcome: ReasonOutcome::Fail, settled: false, about, action, needs_human: false }
}

const REASONS: &[ReasonDoc] = &[
    transient("unexpected_status", "the status is none of `expect_status`", "see the server's log for that status"),
    transient("wrong_content_type", "the content type is not `content_type`", "check the path and what answers there"),
    transient("body_mismatch", "the body lacks `body_contains` or `body_matches`", "see what the server answers"),
    transient("expectation_failed", "`expect` does not hold", "see what the server answers"),
    ReasonDoc {
        code: "expectation_error",
        outcome: ReasonOutcome::Unknown(Blame::Blind),
        settled: true,
        about: "`expect` could not be evaluated on the answer (a field is missing, types differ, too much work)",
        action: "correct `expect` (`has(json.field)` asks whether a field is there)",
        needs_human: true,
    },
    ReasonDoc {
        code: "body_cut",
        outcome: ReasonOutcome::Unknown(Blame::Blind),
        settled: true,
        about: "the body is longer than `max_body`, and what is expected of it was not found in its beginning",
        action: "raise `max_body` or ask for less",
        needs_human: true,
    },
    remote::SLOW,
    remote::TOO_SLOW,
];

impl Kind for Http {
    const DOC: KindDoc = KindDoc {
        name: "http",
        about: "A URL and what it must answer. A status alone proves little: single-page applications answer unknown \
                paths with `200 text/html`, so match `content_type` and the body too. Of an answer that can't be had, \
                the reason is told: name, connection, TLS, time.",
        subjects: "",
        facts: &[
            FactDoc { name: "status", class: "info", about: "the status code" },
            FactDoc { name: "host", class: "state", about: "the host that answered, after redirects" },
            FactDoc { name: "content_type", class: "state", about: "the content type without its parameters" },
            FactDoc { name: "version", class: "state", about: "the value of `version_header`" },
            FactDoc {
                name: "elapsed_ms",
                class: "gauge",
                about: "milliseconds until the whole answer was there; bands by `warn_after` and `fail_after`",
            },
            FactDoc { name: "first_byte_ms", class: "info", about: "milliseconds until the headers were there" },
            FactDoc { name: "body_bytes", class: "info", about: "bytes of the body that were read, decompressed" },
            FactDoc { name: "body_cut", class: "info", about: "whether the body was longer than `max_body`" },
            FactDoc { name: "body_contains", class: "info", about: "whether the body has the text `body_contains`" },
            FactDoc { name: "body_matches", class: "info", about: "whether `body_matches` was found in the body" },
            FactDoc { name: "expect_holds", class: "info", about: "whether `expect` holds" },
            FactDoc {
                name: "uptime_s",
                class: "info",
                about: "for how many seconds the server has been up, by `uptime_ms`",
            },
            FactDoc { name: "started_at", class: "state", about: "when the server started, by `uptime_ms`" },
            FactDoc { name: "*", class: "info", about: "what `facts` asks for; text of it is foreign" },
            FactDoc { name: "body_start", class: "info", about: "the body's beginning, where it is not as expected" },
        ],
        reasons: &[REASONS, HTTP_REASONS, CONNECT_REASONS, LANE_REASONS, SECRET_REASONS],
        example: r#"[check.gateway]
kind = "http"
url = "http://127.0.0.1:18789/readyz"
content_type = "application/json"
expect = 'json.ready == true'
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        validate_url(&settings.url, report);
        let method = settings.method.as_deref().unwrap_or("GET");
        if method.is_empty() || method.len() > 20 || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            report("method", format!("`{method}` is not a method (as in `GET`)"));
        }
        if settings.expect_status.is_empty() {
            report("expect_status", "no status would be fine (leave it out for 200 to 299)".to_owned());
        }
        if settings.max_body.0 > MAX_BODY_BYTES {
            report("max_body", "`max_body` is 16MiB at most".to_owned());
        }
        if settings.redirects > MAX_REDIRECTS {
            report("redirects", format!("at most {MAX_REDIRECTS} redirects are followed"));
        }
        validate_headers(settings, report);
        told::validate(settings, report);
        remote::validate_latency(settings.warn_after, settings.fail_after, report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let deadline = remote::stop_at(cx);
        let request = request(settings, cx).await?;
        let answered = cx.host.http(&request, deadline).await;
        if let Some(host) = remote::host_of(&settings.url) {
            remote::note(cx, &host, &answered);
        }
        let response = answered?;
        let mut fetched = Fetched::from(facts_of(settings, &response));
        if told::is_wanted(settings) && !response.cut {
            let (wanted, body) = (told::Wanted::from(settings), response.body.clone());
            let told =
                cx.host.lane(&format!("answer of {}", cx.check), deadline, move || told::read(&body, &wanted)).await?;
            told.put(cx, &mut fetched)?;
        }
        if wrong_with(settings, &fetched.facts).is_some() {
            return Ok(fetched);
        }
        if body_misses(&fetched.facts) {
            cannot_tell(&mut fetched);
            return Ok(fetched);
        }
        if let Some(expect) = &settings.expect {
            let (expect, cut) = (expect.clone(), response.cut);
            let about = format!("condition of {}", cx.check);
            match cx.host.lane(&about, deadline, move || holds(&expect, &response)).await? {
                Ok(holds) => fetched.facts.info(&Subject::none(), "expect_holds", holds),
                // Of a body that was cut, neither its text nor its JSON can be relied on.
                Err(Trouble::NotJson(_)) if cut => cannot_tell(&mut fetched),
                Err(Trouble::NotJson(body)) => {
                    fetched.facts.info(&Subject::none(), "expect_holds", false);
                    fetched.facts.put_foreign(&Subject::none(), "body_start", body, Class::Info);
                }
                Err(Trouble::Expression(why)) => {
                    fetched
                        .unread
                        .insert(Subject::none(), Unread::blind("expectation_error", clean!("`expect`: {why}")));
                }
            }
        }
        Ok(fetched)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        wrong_with(settings, facts)
            .map(|(code, said)| Finding::new(code, Weight::Fail, false, said))
            .into_iter()
            .collect()
    }
}

/// Why a condition gave no answer.
enum Trouble {
    /// The body is not JSON; its beginning.
    NotJson(Clean),
    Expression(Clean),
}

fn cannot_tell(fetched: &mut Fetched) {
    let said = clean!("the body is longer than `max_body`, and its beginning is not as expected");
    fetched.unread.insert(Subject::none(), Unread::blind("body_cut", said));
}

pub(super) fn validate_url(url: &str, report: &mut dyn FnMut(&str, String)) {
    match reqwest::Url::parse(url) {
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none_or(str::is_empty) => {
            report("url", "`url` must begin with `http://` or `https://` and name a host".to_owned());
        }
        Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            report("url", "a password in `url` is a secret (use `basic_user` and `basic_password`)".to_owned());
        }
        Ok(_) => {}
        Err(error) => report("url", format!("`url` is not a URL: {error}")),
    }
}

fn validate_headers(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    };
    for name in settings.headers.keys().chain(settings.secret_headers.keys()) {
        if !is_token(name) {
            let key = if settings.headers.contains_key(name) { "headers" } else { "secret_headers" };
            report(key, format!("`{}` is not a header's name", name.escape_debug()));
        }
    }
    for (name, value) in &settings.headers {
        let secrets = ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key"];
        if secrets.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
            report("headers", format!("`{name}` is a secret (use `secret_headers`, `bearer` or `basic_password`)"));
        }
        if value.bytes().any(|byte| byte.is_ascii_control()) {
            report("headers", format!("the value of `{name}` has control characters"));
        }
        if settings.secret_headers.keys().any(|other| other.eq_ignore_ascii_case(name)) {
            report("secret_headers", format!("`{name}` stands in `headers` too"));
        }
    }
    if settings.basic_user.is_some() != settings.basic_password.is_some() {
        let key = if settings.basic_user.is_some() { "basic_user" } else { "basic_password" };
        report(key, "`basic_user` and `basic_password` go together".to_owned());
    }
    if settings.bearer.is_some() && settings.basic_user.is_some() {
        report("bearer", "`bearer` and `basic_user` exclude each other".to_owned());
    }
}

async fn request(settings: &Settings, cx: &Cx) -> Result<Request, Unread> {
    let mut headers = Vec::new();
    for (name, value) in &settings.headers {
        headers.push((name.clone(), Secret::public(value)));
    }
    for (name, at) in &settings.secret_headers {
        headers.push((name.clone(), cx.host.secret(at).await?));
    }
    if let Some(at) = &settings.bearer {
        let token = cx.host.secret(at).await?;
        headers.push(("authorization".to_owned(), Secret::new(&format!("Bearer {}", token.expose()))));
    }
    if let (Some(user), Some(at)) = (&settings.basic_user, &settings.basic_password) {
        let password = cx.host.secret(at).await?;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.expose()));
        headers.push(("authorization".to_owned(), Secret::new(&format!("Basic {pair}"))));
    }
    let usual = if settings.body.is_some() { "POST" } else { "GET" };
    Ok(Request {
        method: settings.method.clone().unwrap_or_else(|| usual.to_owned()),
        url: settings.url.clone(),
        headers,
        body: settings.body.clone().map(String::into_bytes),
        redirects: settings.redirects,
        max_body_bytes: settings.max_body.as_usize(),
        extra_roots: settings.ca_file.as_deref().map(|path| cx.host.expand(path)),
    })
}

/// A content type in lower case without its parameters.
fn media_type(header: &str) -> String {
    header.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// What an answer says, all but the condition.
fn facts_of(settings: &Settings, response: &Response) -> Facts {
    let mut facts = Facts::new();
    let none = Subject::none();
    facts.info(&none, "status", i64::from(response.status));
    if let Some(host) = remote::host_of(&response.url) {
        facts.put_foreign(&none, "host", host, Class::State);
    }
    if let Some(value) = header(response, "content-type") {
        facts.put_foreign(&none, "content_type", media_type(value), Class::State);
    }
    if let Some(value) = settings.version_header.as_deref().and_then(|name| header(response, name)) {
        facts.put_foreign(&none, "version", value, Class::State);
    }
    remote::put_elapsed(&mut facts, response.took, settings.warn_after, settings.fail_after);
    facts.info(&none, "first_byte_ms", remote::millis(response.first_byte));
    facts.info(&none, "body_bytes", response.body.len());
    facts.info(&none, "body_cut", response.cut);
    let body = String::from_utf8_lossy(&response.body);
    if let Some(text) = &settings.body_contains {
        facts.info(&none, "body_contains", body.contains(text.as_str()));
    }
    if let Some(pattern) = &settings.body_matches {
        facts.info(&none, "body_matches", pattern.is_match(&body));
    }
    if wrong_with(settings, &facts).is_some() {
        facts.put_foreign(&none, "body_start", Clean::bytes(&response.body, SHOWN_BYTES), Class::Info);
    }
    facts
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Whether something was not found in the body; where [`wrong_with`] finds nothing wrong, the body was cut.
fn body_misses(facts: &Facts) -> bool {
    ["body_contains", "body_matches"].into_iter().any(|name| facts.flag(&Subject::none(), name) == Some(false))
}

/// The first thing that is not as expected: status, content type, body, condition.
fn wrong_with(settings: &Settings, facts: &Facts) -> Option<(&'static str, Clean)> {
    let none = Subject::none();
    let status = facts.number(&none, "status")?;
    let is_fine =
        settings.expect_status.iter().any(|range| (f64::from(range.first)..=f64::from(range.last)).contains(&status));
    if !is_fine {
        let wanted: Vec<_> = settings.expect_status.iter().map(ToString::to_string).collect();
        return Some(("unexpected_status", clean!("answered {status}, expected {}", wanted.join(" or "))));
    }
    if let Some(wanted) = &settings.content_type {
        let seen = facts.text(&none, "content_type");
        let fits = seen.is_some_and(|seen| seen.as_str().starts_with(&media_type(wanted)));
        if !fits {
            let seen = seen.map_or_else(|| Clean::new("no content type"), Clean::quoted);
            return Some(("wrong_content_type", clean!("answered {status} with {seen}, expected `{wanted}`")));
        }
    }
    // What was not found in a body that was cut may stand in the rest of it.
    if facts.flag(&none, "body_cut") != Some(true) {
        for (name, is_pattern) in [("body_contains", false), ("body_matches", true)] {
            if facts.flag(&none, name) == Some(false) {
                let verb = if is_pattern { "match" } else { "contain" };
                return Some((
                    "body_mismatch",
                    clean!("answered {status}, but the body does not {verb} what `{name}` says"),
                ));
            }
        }
    }
    if facts.flag(&none, "expect_holds") == Some(false) {
        let expect = settings.expect.as_ref().map(Expr::source).unwrap_or_default();
        return Some(("expectation_failed", clean!("answered {status}, but `{expect}` does not hold")));
    }
    None
}

/// Evaluates the condition on an answer.
fn holds(expect: &Expr<Answered>, response: &Response) -> Result<bool, Trouble> {
    let json = remote::json(&response.body);
    let mut headers = BTreeMap::new();
    for (name, value) in &response.headers {
        let entry: &mut String = headers.entry(name.to_ascii_lowercase()).or_default();
        if !entry.is_empty() {
            entry.push_str(", ");
        }
        entry.push_str(value);
    }
    let headers = headers.into_iter().map(|(name, value)| (name, Val::Text(value))).collect();
    let vars = BTreeMap::from([
        ("status", Val::Int(i64::from(response.status))),
        ("headers", Val::Map(headers)),
        ("body", Val::Text(String::from_utf8_lossy(&response.body).into_owned())),
        ("json", json.as_ref().map_or(Val::Null, Val::from)),
        ("elapsed_ms", Val::Int(i64::try_from(response.took.as_millis()).unwrap_or(i64::MAX))),
    ]);
    // A condition that stumbles over a body that is no JSON has found the target's trouble, not its own.
    expect.holds(&vars).map_err(|error| match json {
        Err(_) => Trouble::NotJson(Clean::bytes(&response.body, SHOWN_BYTES)),
        Ok(_) => Trouble::Expression(error.0),
    })
}

#[cfg(test)]
mod tests;
