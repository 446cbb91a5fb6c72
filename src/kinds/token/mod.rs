//! Tokens and when they end. Only dates are read and kept, never a token.

mod read;
mod stores;
mod used;

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use self::read::{Dates, Day};
use self::stores::Logins;
pub use self::stores::Source;
use self::used::Uses;
use super::common::{
    CONNECT_REASONS, FILE_REASONS, HTTP_REASONS, LANE_REASONS, MISSING, SECRET_REASONS, SQLITE_REASONS,
};
use super::expiry::{self, DAY_S, Threshold};
use super::moment::moment;
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, homes, remote};
use crate::clean;
use crate::facts::{Blame, Edge, Facts, Finding, Scale, Subject, Unit, Unread, Weight, Worse};
use crate::host::files;
use crate::host::http::Request;
use crate::redact::{Clean, Secret};
use crate::settings::{Dur, JsonPath, PathGlob, SecretRef};

/// Warn this long before the end of a token whose lifetime is known.
const WARN: Threshold = Threshold { cap_s: 3.0 * DAY_S, part: 0.25 };
/// Warn this long before the end of one whose lifetime is not known.
const WARN_UNKNOWN_S: f64 = DAY_S;
/// Bytes of a credential file and of an introspection's answer.
const MAX_BYTES: usize = 1024 * 1024;
/// Some tools truncate their file and write it anew instead of replacing it; what can't be read is read once more.
const SECOND_LOOK: Duration = Duration::from_millis(100);

/// See [`Kind`].
#[derive(Debug)]
pub struct Token;

/// Where a token's dates are found: exactly one of `source`, `jwt`, `file`, `introspect` and `issued`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// An agent's own logins, found where it keeps them: `openclaw`, `claude-code` or `codex`.
    source: Option<Source>,
    /// For `source`: the folder that the agent keeps its state in. By default what `$OPENCLAW_STATE_DIR`,
    /// `$CLAUDE_CONFIG_DIR` or `$CODEX_HOME` says, else `~/.openclaw`, `~/.claude` or `~/.codex`.
    path: Option<String>,
    /// A JWT, read for its `exp` and `iat`; its signature is not verified.
    jwt: Option<SecretRef>,
    /// A JSON file with credentials.
    file: Option<String>,
    /// In `file`: the things that hold a token each (`$.profiles.*`, or only some: `$.profiles[?@.expires]`). The paths
    /// below then begin at each of them, and each is a subject by its key.
    each: Option<JsonPath>,
    /// In `file`: when the token ends: seconds or milliseconds since 1970, or ISO 8601.
    expiry_path: Option<JsonPath>,
    /// In `file`: a JWT, read for its `exp` and `iat`.
    jwt_path: Option<JsonPath>,
    /// In `file`: when the token was issued.
    issued_path: Option<JsonPath>,
    /// In `file`: a refresh token. Where there is one, the token's end is no trouble: whoever uses it gets a new one.
    refresh_path: Option<JsonPath>,
    /// With `refresh_path` or `source`: fail when the token was not refreshed for this long after its end.
    refresh_within: Option<Dur>,
    /// With `refresh_within`: files that are written while the token is in use. Then only use counts: it fails when the
    /// token was in use for that long after its end and was not refreshed; somebody who is away is left alone.
    used_path: Option<PathGlob>,
    /// The URL of an introspection endpoint (RFC 7662).
    introspect: Option<String>,
    /// For `introspect`: the token to ask about.
    token: Option<SecretRef>,
    /// For `introspect`: the client to ask as, by HTTP basic authentication.
    client_id: Option<String>,
    /// For `introspect`: that client's secret.
    client_secret: Option<SecretRef>,
    /// For `introspect`: a token for `Authorization: Bearer …` instead of a client.
    bearer: Option<SecretRef>,
    /// For `introspect`: a PEM file with certificates to trust beside the system's.
    ca_file: Option<String>,
    /// The day on which a token was issued that does not tell itself (`claude setup-token`: about a year).
    issued: Option<Day>,
    /// How long a token lives, where nothing says when it ends.
    lifetime: Option<Dur>,
    /// Warn when less time than this is left. By default the smaller of 3 days and 25 % of the lifetime, or 24 hours
    /// where that isn't known.
    warn_before: Option<Dur>,
}

const fn finding(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human: true }
}
const fn blind(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    finding(code, ReasonOutcome::Unknown(Blame::Blind), true, about, action)
}
const fn target(code: &'static str, about: &'static str, action: &'static str) -> ReasonDoc {
    finding(code, ReasonOutcome::Unknown(Blame::Target), false, about, action)
}

const REASONS: &[ReasonDoc] = &[
    finding(
        "expires_soon",
        ReasonOutcome::Warn,
        true,
        "less time is left than `warn_before`, and nothing will refresh it",
        "get a new token before this one ends",
    ),
    finding(
        "expired",
        ReasonOutcome::Fail,
        true,
        "its time is over, and nothing will refresh it",
        "log in again or get a new token",
    ),
    finding(
        "not_refreshed",
        ReasonOutcome::Fail,
        false,
        "its time is over for longer than `refresh_within`, or it was in use for that long since, although there is a \
         refresh token",
        "see why its user does not refresh it, and log in again if it can't",
    ),
    finding("inactive", ReasonOutcome::Fail, true, "the issuer says that it is revoked or over", "get a new token"),
    target("token_file_missing", "the credential file is not there", "log in again or correct `file`"),
    target("no_tokens", "`each` finds nothing in the file", "log in again or correct `each`"),
    target("introspection_failed", "the endpoint gave no proper answer", "see the issuer's log"),
    blind("introspection_refused", "the endpoint does not let us ask", "correct the client or token to ask with"),
    blind(
        "no_expiry",
        "nothing says when it ends",
        "give `issued` and `lifetime`, or leave it out by a filter in `each`",
    ),
    blind("bad_token", "the file, the token or its date can't be read", "correct the path and what it points at"),
    blind("bad_ledger", "an older store of profiles can't be read", "see what wrote it last"),
    blind("too_large", "the file is larger than 1 MiB", "name the file with the credentials alone"),
];

impl Kind for Token {
    const DOC: KindDoc = KindDoc {
        name: "token",
        about: "When tokens end: the logins that an agent keeps, JWTs, JSON credential files, introspection by HTTP, or an \
                issue date given by hand. What has no end (an API key), or isn't kept in a file (a keychain), is \
                counted or said, and nothing more. An end ahead is a warning; it fails only when the token is over and nothing refreshes it. Tokens are \
                never stored or shown.",
        subjects: "with `each`: every token by its key in the file; of OpenClaw: every profile by its id, after the agent's \
                   name where agents have different ones",
        facts: &[
            FactDoc {
                name: "time_left_s",
                class: "gauge",
                about: "seconds until it ends; without a refresh token, bands by `warn_before` and its end",
            },
            FactDoc { name: "expires_at", class: "info", about: "when it ends" },
            FactDoc { name: "lifetime_s", class: "info", about: "seconds from its issue to its end, where known" },
            FactDoc { name: "has_refresh", class: "state", about: "whether there is a refresh token" },
            FactDoc {
                name: "used_s",
                class: "gauge",
                about: "seconds over which it was seen in use since its end; over `refresh_within` it is `not_refreshed`",
            },
            FactDoc { name: "login", class: "state", about: "of a single login: `oauth`, `api key` or `none here`" },
            FactDoc { name: "profiles", class: "info", about: "of OpenClaw: how many profiles have an end" },
            FactDoc { name: "endless", class: "info", about: "how many logins have no end, or tell none" },
            FactDoc { name: "agents_left_out", class: "info", about: "of OpenClaw: agents that were not looked at" },
            FactDoc { name: "active", class: "info", about: "what introspection says" },
        ],
        reasons: &[
            REASONS,
            FILE_REASONS,
            MISSING,
            SQLITE_REASONS,
            SECRET_REASONS,
            HTTP_REASONS,
            CONNECT_REASONS,
            LANE_REASONS,
        ],
        example: r#"[check.claude-login]
kind = "token"
file = "~/.claude/.credentials.json"
expiry_path = "$.claudeAiOauth.expiresAt"
refresh_path = "$.claudeAiOauth.refreshToken"
"#,
        thresholds_remind: true,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        validate(settings, report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let deadline = remote::stop_at(cx);
        let none = Subject::none();
        let mut fetched = Fetched::default();
        if let Some(source) = settings.source {
            let logins = logins(settings, source, cx, deadline).await?;
            put_logins(settings, logins, cx.now.wall, &mut fetched);
        } else if let Some(at) = &settings.jwt {
            let dates = read::jwt(cx.host.secret(at).await?.expose())?;
            put(settings, &none, dates, cx.now.wall, &mut fetched);
        } else if let Some(file) = &settings.file {
            let document = document(cx, file, deadline).await?;
            put_all(settings, &document, cx.now.wall, &mut fetched)?;
        } else if let (Some(url), Some(at)) = (&settings.introspect, &settings.token) {
            let answer = introspect(settings, cx, url, at, deadline).await?;
            put_introspected(settings, &answer, cx.now.wall, &mut fetched)?;
        } else if let Some(day) = settings.issued {
            let dates = Dates { issued: Some(day.0), ..Dates::default() };
            put(settings, &none, dates, cx.now.wall, &mut fetched);
        }
        if let (Some(glob), Some(within)) = (&settings.used_path, settings.refresh_within) {
            let path = cx.host.expand(glob.as_str());
            let newest = cx.host.lane(glob.as_str(), deadline, move || used::newest(&path)).await??;
            Uses::of(cx.memory.get(used::KEPT)?.as_deref()).put(newest, within, &mut fetched);
        }
        Ok(fetched)
    }

    fn assess(_settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let subjects = facts.subjects().into_iter();
        let inactive = subjects.filter(|subject| facts.flag(subject, "active") == Some(false));
        inactive
            .map(|subject| {
                let said = clean!("the issuer says that the token is no longer active");
                Finding::new("inactive", Weight::Fail, true, said).on(&subject)
            })
            .collect()
    }
}

fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    let sources = [
        ("source", settings.source.is_some()),
        ("jwt", settings.jwt.is_some()),
        ("file", settings.file.is_some()),
        ("introspect", settings.introspect.is_some()),
        ("issued", settings.issued.is_some()),
    ];
    let given: Vec<_> = sources.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    match given.as_slice() {
        [] => report(
            "file",
            "nothing says where the token is (one of `source`, `jwt`, `file`, `introspect` or `issued`)".to_owned(),
        ),
        [_] => {}
        [first, others @ ..] => {
            for key in others {
                report(key, format!("`{first}` and `{key}` exclude each other (make it two checks)"));
            }
        }
    }
    let belongs = [
        ("each", settings.each.is_some(), "file"),
        ("expiry_path", settings.expiry_path.is_some(), "file"),
        ("jwt_path", settings.jwt_path.is_some(), "file"),
        ("issued_path", settings.issued_path.is_some(), "file"),
        ("refresh_path", settings.refresh_path.is_some(), "file"),
        ("path", settings.path.is_some(), "source"),
        ("used_path", settings.used_path.is_some(), "refresh_within"),
        ("token", settings.token.is_some(), "introspect"),
        ("client_id", settings.client_id.is_some(), "introspect"),
        ("client_secret", settings.client_secret.is_some(), "client_id"),
        ("bearer", settings.bearer.is_some(), "introspect"),
        ("ca_file", settings.ca_file.is_some(), "introspect"),
    ];
    let has = |key: &str| match key {
        "file" => settings.file.is_some(),
        "source" => settings.source.is_some(),
        "refresh_within" => settings.refresh_within.is_some(),
        "client_id" => settings.client_id.is_some(),
        _ => settings.introspect.is_some(),
    };
    for (key, given, to) in belongs {
        if given && !has(to) {
            report(key, format!("`{key}` belongs to `{to}`, which is not there"));
        }
    }
    if settings.refresh_within.is_some() && settings.refresh_path.is_none() && settings.source.is_none() {
        report("refresh_within", "`refresh_within` belongs to `refresh_path`, which is not there".to_owned());
    }
    if settings.path.as_deref().is_some_and(|path| !path.starts_with('/') && !path.starts_with("~/")) {
        report("path", "expected a folder that begins with `/` or `~/`".to_owned());
    }
    let dated = settings.expiry_path.is_some()
        || settings.jwt_path.is_some()
        || (settings.issued_path.is_some() && settings.lifetime.is_some());
    if settings.file.is_some() && !dated {
        report(
            "file",
            "nothing says when the token ends (`expiry_path`, `jwt_path`, or `issued_path` and `lifetime`)".to_owned(),
        );
    }
    if settings.expiry_path.is_some() && settings.jwt_path.is_some() {
        report("jwt_path", "`expiry_path` and `jwt_path` exclude each other".to_owned());
    }
    if settings.issued.is_some() && settings.lifetime.is_none() {
        report("issued", "`issued` needs `lifetime`".to_owned());
    }
    if let Some(url) = &settings.introspect {
        let scheme = reqwest::Url::parse(url).ok().map(|url| url.scheme().to_owned());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            report("introspect", "`introspect` must be an `http://` or `https://` URL".to_owned());
        }
        if settings.token.is_none() {
            report("introspect", "`introspect` needs `token`".to_owned());
        }
        if settings.client_id.is_some() && settings.client_secret.is_none() {
            report("client_id", "`client_id` needs `client_secret`".to_owned());
        }
        if settings.client_id.is_some() && settings.bearer.is_some() {
            report("bearer", "`bearer` and `client_id` exclude each other".to_owned());
        }
    }
}

/// The logins that an agent keeps.
async fn logins(settings: &Settings, source: Source, cx: &Cx, deadline: Instant) -> Result<Logins, Unread> {
    let path = settings.path.as_deref();
    let (file, read): (_, fn(Option<&Value>) -> Logins) = match source {
        Source::Openclaw => {
            let folder = homes::openclaw(&cx.host, path);
            let about = folder.display().to_string();
            return cx.host.lane(&about, deadline, move || stores::openclaw(&folder, deadline)).await?;
        }
        Source::ClaudeCode => {
            let folder = homes::claude_code(&cx.host, path);
            (folder.join(".credentials.json"), stores::claude_code)
        }
        Source::Codex => (homes::of(&cx.host, path, "CODEX_HOME", "~/.codex").join("auth.json"), stores::codex),
    };
    match document(cx, &file.to_string_lossy(), deadline).await {
        Ok(document) => Ok(read(Some(&document))),
        Err(unread) if unread.code.as_str() == "token_file_missing" => Ok(read(None)),
        Err(unread) => Err(unread),
    }
}

/// The facts of an agent's logins.
fn put_logins(settings: &Settings, logins: Logins, now: Timestamp, fetched: &mut Fetched) {
    let none = Subject::none();
    match logins.login {
        Some(login) => fetched.facts.state(&none, "login", login),
        None => fetched.facts.info(&none, "profiles", logins.profiles.len()),
    }
    fetched.facts.info(&none, "endless", logins.endless);
    if logins.agents_left_out > 0 {
        fetched.facts.info(&none, "agents_left_out", logins.agents_left_out);
    }
    for (subject, dates) in logins.profiles {
        put(settings, &subject, dates, now, fetched);
    }
    fetched.unread.extend(logins.unread);
}

/// Reads a credential file, a second time when the first found it half written.
async fn document(cx: &Cx, file: &str, deadline: Instant) -> Result<Value, Unread> {
    let path = cx.host.expand(file);
    let once = || {
        let path = path.clone();
        cx.host.lane(file, deadline, move || parse_file(&path))
    };
    match once().await? {
        Err(unread) if unread.code.as_str() == "bad_token" => {
            tokio::time::sleep(SECOND_LOOK).await;
            once().await?
        }
        other => other,
    }
}

fn parse_file(path: &Path) -> Result<Value, Unread> {
    let (bytes, cut) = files::read(path, MAX_BYTES).map_err(|unread| match unread.code.as_str() {
        "missing" => Unread::target("token_file_missing", clean!("{} is not there", files::shown(path))),
        _ => unread,
    })?;
    if cut {
        return Err(Unread::blind("too_large", clean!("{} is larger than 1 MiB", files::shown(path))));
    }
    remote::json(&bytes).map_err(|why| Unread::blind("bad_token", clean!("{} is {why}", files::shown(path))))
}

/// The facts of every token in a document.
fn put_all(settings: &Settings, document: &Value, now: Timestamp, fetched: &mut Fetched) -> Result<(), Unread> {
    let Some(each) = &settings.each else {
        put(settings, &Subject::none(), read::credentials(settings, document)?, now, fetched);
        return Ok(());
    };
    let found = each.located(document);
    if found.is_empty() {
        return Err(Unread::target("no_tokens", clean!("nothing in the file is at `{each}`")));
    }
    for (key, path, node) in &found {
        let is_only_one = found.iter().filter(|(other, ..)| other == key).count() == 1;
        let subject = Subject::new(if is_only_one { key } else { path });
        match read::credentials(settings, node) {
            Ok(dates) => put(settings, &subject, dates, now, fetched),
            Err(unread) => {
                fetched.unread.insert(subject, unread);
            }
        }
    }
    Ok(())
}

/// The facts of one token, or that nothing says when it ends.
fn put(settings: &Settings, subject: &Subject, dates: Dates, now: Timestamp, fetched: &mut Fetched) {
    if let Some(has_refresh) = dates.has_refresh {
        fetched.facts.state(subject, "has_refresh", has_refresh);
    }
    let lifetime = settings.lifetime.map(Dur::signed);
    let by_hand = || dates.issued.zip(lifetime).and_then(|(issued, lifetime)| issued.checked_add(lifetime).ok());
    let Some(expires) = dates.expires.or_else(by_hand) else {
        fetched.unread.insert(subject.clone(), Unread::blind("no_expiry", clean!("nothing says when the token ends")));
        return;
    };
    let told = dates.issued.map(|issued| expires.as_second().saturating_sub(issued.as_second()));
    let lifetime_s = told.or(lifetime.map(|lifetime| lifetime.as_secs())).filter(|secs| *secs > 0);
    let facts = &mut fetched.facts;
    facts.info(subject, "expires_at", expires);
    if let Some(lifetime_s) = lifetime_s {
        facts.info(subject, "lifetime_s", lifetime_s);
    }
    let left_s = expires.as_second().saturating_sub(now.as_second());
    let scale = scale(settings, expires, left_s, lifetime_s, dates.has_refresh == Some(true));
    facts.gauge(subject, "time_left_s", left_s, scale);
}

/// The bands of the time that is left: with a refresh token its end is nobody's trouble, unless it stays over.
fn scale(settings: &Settings, expires: Timestamp, left_s: i64, lifetime_s: Option<i64>, has_refresh: bool) -> Scale {
    let warn_s = settings.warn_before.map(Dur::as_secs_f64);
    let warn_s = warn_s.unwrap_or_else(|| lifetime_s.map_or(WARN_UNKNOWN_S, |lifetime_s| WARN.of(lifetime_s)));
    let (warn, fail) = if has_refresh {
        // Where use is looked at, it is use that counts.
        let by_time = settings.refresh_within.filter(|_| settings.used_path.is_none());
        let late =
            by_time.map(|within| Edge { at: -within.as_secs_f64(), code: "not_refreshed".into(), settled: false });
        (None, late)
    } else {
        (Some(expiry::settled(warn_s, "expires_soon")), Some(expiry::settled(0.0, "expired")))
    };
    let but = if has_refresh && left_s <= 0 { " and was not refreshed" } else { "" };
    Scale {
        unit: Unit::Seconds,
        worse: Worse::Below,
        warn,
        fail,
        says: clean!("token {}{but}", expiry::ends(left_s)),
        episode: Some(Clean::new(&expires.to_string())),
    }
}

/// Asks the issuer about a token (RFC 7662).
async fn introspect(
    settings: &Settings,
    cx: &Cx,
    url: &str,
    at: &SecretRef,
    deadline: Instant,
) -> Result<Value, Unread> {
    let token = cx.host.secret(at).await?;
    let mut headers = vec![
        ("content-type".to_owned(), Secret::public("application/x-www-form-urlencoded")),
        ("accept".to_owned(), Secret::public("application/json")),
    ];
    if let Some(at) = &settings.bearer {
        let bearer = cx.host.secret(at).await?;
        headers.push(("authorization".to_owned(), Secret::new(&format!("Bearer {}", bearer.expose()))));
    }
    if let (Some(id), Some(at)) = (&settings.client_id, &settings.client_secret) {
        let secret = cx.host.secret(at).await?;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{id}:{}", secret.expose()));
        headers.push(("authorization".to_owned(), Secret::new(&format!("Basic {pair}"))));
    }
    let request = Request {
        method: "POST".to_owned(),
        url: url.to_owned(),
        headers,
        body: Some(form(token.expose()).into_bytes()),
        redirects: 0,
        max_body_bytes: MAX_BYTES,
        extra_roots: settings.ca_file.as_deref().map(|path| cx.host.expand(path)),
    };
    let answered = cx.host.http(&request, deadline).await;
    if let Some(host) = remote::host_of(url) {
        remote::note(cx, &host, &answered);
    }
    let response = answered?;
    match response.status {
        200 => remote::json(&response.body)
            .map_err(|why| Unread::target("introspection_failed", clean!("the endpoint's answer is {why}"))),
        status @ (400 | 401 | 403) => {
            Err(Unread::blind("introspection_refused", clean!("the endpoint answered {status} to the question")))
        }
        status => Err(Unread::target("introspection_failed", clean!("the endpoint answered {status}"))),
    }
}

/// A form with the one field `token`.
fn form(token: &str) -> String {
    let with = reqwest::Url::parse_with_params("http://form.invalid/", [("token", token)]);
    with.ok().and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}

fn put_introspected(settings: &Settings, answer: &Value, now: Timestamp, fetched: &mut Fetched) -> Result<(), Unread> {
    let none = Subject::none();
    let active = answer.get("active").and_then(Value::as_bool);
    let active = active
        .ok_or_else(|| Unread::target("introspection_failed", clean!("the endpoint's answer has no `active`")))?;
    fetched.facts.info(&none, "active", active);
    let claim = |name: &str| answer.get(name).and_then(moment);
    let dates = Dates { expires: claim("exp"), issued: claim("iat"), has_refresh: None };
    // An issuer that says "active" and no end has answered what was asked.
    if active && (dates.expires.is_some() || settings.lifetime.is_some() && dates.issued.is_some()) {
        put(settings, &none, dates, now, fetched);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
