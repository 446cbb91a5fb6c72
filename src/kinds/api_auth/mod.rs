//! Whether credentials still do: a login and nothing after it, over HTTP, IMAP or SMTP.

mod mail;
#[cfg(test)]
mod tests;
mod web;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use self::wire::Wire;
use super::common::{CONNECT_REASONS, HTTP_REASONS, LANE_REASONS, SECRET_REASONS};
use super::tls::starttls::{self, Starttls};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, ReasonDoc, ReasonOutcome, remote};
use crate::clean;
use crate::facts::{Blame, CheckName, Class, Facts, Finding, Subject, Unread, Weight};
use crate::host::net::is_local;
use crate::redact::{Clean, Secret};
use crate::settings::{Dur, Pattern, SecretRef};

/// See [`Kind`].
#[derive(Debug)]
pub struct ApiAuth;

/// Where to log in, and with what: exactly one of `url`, `imap`, `smtp` and `token_url`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A harmless URL that only those who are logged in may read: `https://api.example.com/v1/me`. Redirects are not
    /// followed.
    url: Option<String>,
    /// A mail server that is logged in to by IMAP: `imap.example.com` or `imap.example.com:993`.
    imap: Option<String>,
    /// A mail server that is logged in to by SMTP: `smtp.example.com` or `smtp.example.com:587`. No mail is sent.
    smtp: Option<String>,
    /// An OAuth token endpoint that is asked for a new access token, which is thrown away. Many issuers give a new refresh
    /// token with it and void the old one: whoever else holds that one is then logged out. Ask a `url` with the current
    /// `token` instead, unless you know that your issuer does not do that: see `refresh_is_safe`.
    token_url: Option<String>,
    /// With `url`: the method, by default `GET`.
    method: Option<String>,
    /// With `url`: headers in plain text.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// With `url`: headers whose values are secrets (`x-api-key`).
    #[serde(default)]
    secret_headers: BTreeMap<String, SecretRef>,
    /// The user, for a password, or for a token at a mail server.
    user: Option<String>,
    /// The user's password: for HTTP basic authentication, or for the mail server.
    password: Option<SecretRef>,
    /// An access token: for `Authorization: Bearer …`, or for XOAUTH2 at a mail server.
    token: Option<SecretRef>,
    /// With `token_url`: the refresh token.
    refresh_token: Option<SecretRef>,
    /// With `token_url`: the client that the refresh token was given to.
    client_id: Option<String>,
    /// With `token_url`: that client's secret, if it has one.
    client_secret: Option<SecretRef>,
    /// With `token_url`: that the issuer leaves the refresh token as it is when it is used.
    #[serde(default)]
    refresh_is_safe: bool,
    /// With `url`: what the content type must begin with; another one is a page, not the API. By default anything but an
    /// HTML page, which may be the one for logging in; say `text/html` where a page is what only those who are logged in
    /// get.
    content_type: Option<String>,
    /// With `url`: a regular expression that, found in an answer with a good status, means a refusal (`"ok": ?false`).
    refused_when: Option<Pattern>,
    /// With `imap` and `smtp`: `tls`, `starttls` or `none`. By default `starttls` on the ports 143, 25 and 587, else `tls`.
    security: Option<Security>,
    /// That the credentials may go over the network where everybody on the way can read them. On this machine itself they
    /// may anyway.
    #[serde(default)]
    plain: bool,
    /// A PEM file with certificates to trust beside the system's.
    ca_file: Option<String>,
    /// After a refusal the same credentials are not tried again for this long: many servers lock an account that is tried
    /// too often. The refusal stands meanwhile; other credentials are tried at once.
    #[serde(default = "an_hour")]
    retry_refused: Dur,
    /// Warn when the login took longer.
    warn_after: Option<Dur>,
    /// Fail when the login took longer.
    fail_after: Option<Dur>,
}

fn an_hour() -> Dur {
    Dur(std::time::Duration::from_hours(1))
}

/// How a connection to a mail server is kept private.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Security {
    /// TLS from the first byte.
    Tls,
    /// TLS after `STARTTLS`; a server that does not offer it is not logged in to.
    Starttls,
    /// Nothing.
    None,
}

impl Security {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Starttls => "starttls",
            Self::None => "none",
        }
    }
}

/// What is shown to a mail server.
enum Credentials {
    Password { user: String, password: Secret },
    Token { user: String, token: Secret },
}

/// What came of a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Came {
    /// The reason of a refusal; none where one was let in.
    refused: Option<String>,
    mechanism: String,
    /// The status, in the protocol's own words.
    answer: String,
    /// What the server said to a refusal.
    said: Clean,
    /// Whether a refresh gave a new refresh token.
    #[serde(default)]
    rotated: bool,
}

impl Came {
    fn let_in(mechanism: &str, answer: &str) -> Self {
        let (mechanism, answer) = (mechanism.to_owned(), answer.to_owned());
        Self { refused: None, mechanism, answer, said: Clean::default(), rotated: false }
    }
    fn refused(code: &str, mechanism: &str, answer: &str, said: &str) -> Self {
        Self { refused: Some(code.to_owned()), said: Clean::line(said, 300), ..Self::let_in(mechanism, answer) }
    }
}

const fn doc(
    code: &'static str,
    outcome: ReasonOutcome,
    settled: bool,
    about: &'static str,
    action: &'static str,
    needs_human: bool,
) -> ReasonDoc {
    ReasonDoc { code, outcome, settled, about, action, needs_human }
}
const TARGET: ReasonOutcome = ReasonOutcome::Unknown(Blame::Target);

const REASONS: &[ReasonDoc] = &[
    doc(
        "credentials_refused",
        ReasonOutcome::Fail,
        true,
        "the server refuses the credentials (401, 535, NO, invalid_grant)",
        "log in again or get new credentials",
        true,
    ),
    doc(
        "not_permitted",
        ReasonOutcome::Fail,
        true,
        "the server knows the credentials and does not permit what is asked (403)",
        "give the account or token the right that it lacks, or ask another `url`",
        true,
    ),
    doc(
        "refresh_rotated",
        ReasonOutcome::Warn,
        true,
        "the issuer gave a new refresh token: the one that others hold may be void now",
        "log in again where the refresh token is used, and look at `url` with the access token instead",
        true,
    ),
    doc(
        "temporary",
        TARGET,
        false,
        "the server can't say now (429, 5xx, 4yz, UNAVAILABLE): the credentials may be good or not",
        "see the server's log or status page",
        false,
    ),
    doc(
        "unexpected_answer",
        TARGET,
        false,
        "the answer lets nobody in and turns nobody away (a redirect, 404, a page, another content type)",
        "correct the address: it should be readable only by who is logged in",
        false,
    ),
    doc(
        "login_not_offered",
        TARGET,
        false,
        "the mail server offers no login that fits the credentials",
        "check the port, and whether the server wants a token instead of a password",
        false,
    ),
    doc(
        "starttls_refused",
        TARGET,
        false,
        "the server did not get to TLS, so that nothing was sent: it does not offer it, or somebody on the way took it out",
        "check the server, or use its port with TLS from the first byte",
        false,
    ),
    doc(
        "bad_credentials",
        ReasonOutcome::Unknown(Blame::Blind),
        true,
        "the credentials can't be sent",
        "correct the secret",
        true,
    ),
    remote::SLOW,
    remote::TOO_SLOW,
];

impl Kind for ApiAuth {
    const DOC: KindDoc = KindDoc {
        name: "api_auth",
        about: "Whether credentials still do: a login and nothing after it, over HTTP, IMAP or SMTP. A refusal is a fail at \
                once; a server that can't answer says nothing of the credentials and is unknown. Secrets go over verified \
                TLS only, unless `plain` allows it or the server is this machine. Refused credentials are sent once, \
                and tried again only after `retry_refused`.",
        subjects: "",
        facts: &[
            FactDoc { name: "refused", class: "info", about: "the reason of a refusal, where there is one" },
            FactDoc { name: "answer", class: "info", about: "the status that answered the login: `200`, `535`, `NO`" },
            FactDoc {
                name: "mechanism",
                class: "info",
                about: "how the login was done: `HTTP`, `refresh`, `PLAIN`, `LOGIN`, `XOAUTH2`",
            },
            FactDoc { name: "security", class: "state", about: "`tls`, `starttls` or `none`" },
            FactDoc { name: "said", class: "info", about: "what the server said to a refusal, foreign" },
            FactDoc { name: "rotated", class: "info", about: "whether the refresh gave a new refresh token" },
            FactDoc {
                name: "asked_at",
                class: "info",
                about: "when the refusal was given, where it was not asked for again",
            },
            FactDoc {
                name: "elapsed_ms",
                class: "gauge",
                about: "milliseconds that the login took; bands by `warn_after` and `fail_after`",
            },
        ],
        reasons: &[REASONS, HTTP_REASONS, CONNECT_REASONS, LANE_REASONS, SECRET_REASONS],
        example: r#"[check.mail-login]
kind = "api_auth"
imap = "imap.example.com"
user = "agent@example.com"
password = "file:~/.config/pulsecheck/mail-password"
"#,
        thresholds_remind: false,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        validate(settings, report);
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let deadline = remote::stop_at(cx);
        let digest = digest(settings, cx).await?;
        let kept = cx.memory.get(REFUSED)?.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        let mut fetched = Fetched::default();
        let none = &Subject::none();
        fetched.facts.state(none, "security", security(settings).as_str());
        if let Some(kept) = kept.filter(|kept| kept.still(settings, &digest, cx.now.wall)) {
            fetched.facts.info(none, "asked_at", kept.at);
            put(&mut fetched.facts, &kept.came);
            return Ok(fetched);
        }
        let (came, took) = if let Some(refused) = just_refused(cx, &digest) {
            refused
        } else {
            let began = Instant::now();
            let came = log_in(settings, cx, deadline).await?;
            let took = began.elapsed();
            if came.refused.is_some() {
                note_refused(cx, &digest, &came, took);
            }
            (came, took)
        };
        remote::put_elapsed(&mut fetched.facts, took, settings.warn_after, settings.fail_after);
        put(&mut fetched.facts, &came);
        let keep = came.refused.is_some().then_some(Kept { digest, at: cx.now.wall, came });
        fetched.remember.push((REFUSED.to_owned(), keep.and_then(|keep| serde_json::to_vec(&keep).ok())));
        Ok(fetched)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, _now: Timestamp) -> Vec<Finding> {
        let none = &Subject::none();
        let (_, shown) = settings.target();
        let mut found = Vec::new();
        if let Some(code) = facts.text(none, "refused") {
            let text = |name| facts.text(none, name).map_or("", Clean::as_str);
            let (code, verb) = match code.as_str() {
                "not_permitted" => ("not_permitted", "does not permit it"),
                _ => ("credentials_refused", "refuses the credentials"),
            };
            let quoted = facts.text(none, "said").map_or_else(String::new, |said| format!(": {}", said.quoted()));
            let said = clean!("{} {verb} ({}){quoted}", Clean::line(&shown, 200), text("answer"));
            found.push(Finding::new(code, Weight::Fail, true, said));
        }
        if facts.flag(none, "rotated") == Some(true) {
            let said = clean!("the issuer replaced the refresh token when it was used: the old one may be void");
            found.push(Finding::new("refresh_rotated", Weight::Warn, true, said));
        }
        found
    }
}

/// The key of the memory.
const REFUSED: &str = "refused";

/// A refusal, and what was refused.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    digest: String,
    at: Timestamp,
    came: Came,
}

impl Kept {
    /// Whether it need not be asked again.
    fn still(&self, settings: &Settings, digest: &str, now: Timestamp) -> bool {
        let since = now.duration_since(self.at);
        self.digest == digest && !since.is_negative() && since < settings.retry_refused.signed()
    }
}

/// A refusal of this cycle: of which check and credentials, in the cycle of which time, and how long it took.
struct Just {
    check: CheckName,
    digest: String,
    cycle: Timestamp,
    came: Came,
    took: Duration,
}

/// Refusals that are kept for a second look of the same cycle, which comes before anything is remembered: it would send what
/// was refused once more, and many servers count.
const MAX_JUST: usize = 256;
static JUST: Mutex<VecDeque<Just>> = Mutex::new(VecDeque::new());

fn just_refused(cx: &Cx, digest: &str) -> Option<(Came, Duration)> {
    let just = JUST.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |just: &&Just| just.check == cx.check && just.digest == digest && just.cycle == cx.now.wall;
    just.iter().find(same).map(|just| (just.came.clone(), just.took))
}

fn note_refused(cx: &Cx, digest: &str, came: &Came, took: Duration) {
    let (check, digest, came) = (cx.check.clone(), digest.to_owned(), came.clone());
    let mut just = JUST.lock().unwrap_or_else(PoisonError::into_inner);
    just.retain(|just| just.check != check);
    just.push_back(Just { check, digest, cycle: cx.now.wall, came, took });
    if just.len() > MAX_JUST {
        just.pop_front();
    }
}

/// Sixteen bits of what is sent: enough to see that the credentials are others, too few to find them by.
async fn digest(settings: &Settings, cx: &Cx) -> Result<String, Unread> {
    let Settings { url, imap, smtp, token_url, method, headers, user, client_id, .. } = settings;
    let mut all = format!("{:?}\n", (url, imap, smtp, token_url, method, headers, user, client_id));
    let given = [&settings.password, &settings.token, &settings.refresh_token, &settings.client_secret];
    for at in given.into_iter().flatten().chain(settings.secret_headers.values()) {
        all.push_str(cx.host.secret(at).await?.expose());
        all.push('\n');
    }
    let mut digits = crate::read::sha256(all.as_bytes());
    digits.truncate(4);
    Ok(digits)
}

fn put(facts: &mut Facts, came: &Came) {
    let none = &Subject::none();
    facts.info(none, "answer", came.answer.as_str());
    facts.info(none, "mechanism", came.mechanism.as_str());
    if let Some(refused) = &came.refused {
        facts.info(none, "refused", refused.as_str());
    }
    if !came.said.is_empty() {
        facts.put_foreign(none, "said", came.said.clone(), Class::Info);
    }
    if came.rotated {
        facts.info(none, "rotated", true);
    }
}

/// What is logged in to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Url,
    Imap,
    Smtp,
    TokenUrl,
}

impl Settings {
    /// The one that is given, and how it is shown.
    fn target(&self) -> (Target, String) {
        let given = [
            (Target::Url, &self.url),
            (Target::Imap, &self.imap),
            (Target::Smtp, &self.smtp),
            (Target::TokenUrl, &self.token_url),
        ];
        let (target, text) =
            given.into_iter().find_map(|(target, text)| Some((target, text.as_deref()?))).unwrap_or((Target::Url, ""));
        match target {
            Target::Imap | Target::Smtp => (target, text.to_owned()),
            // What stands behind a `?` may be a secret.
            Target::Url | Target::TokenUrl => (target, text.split(['?', '#']).next().unwrap_or_default().to_owned()),
        }
    }
}

/// A mail server's name and port.
fn place(text: &str, target: Target, security: Option<Security>) -> Option<(String, u16)> {
    let usual = match (target, security) {
        (Target::Imap, None | Some(Security::Tls)) => 993,
        (Target::Imap, _) => 143,
        (_, Some(Security::Tls)) => 465,
        (_, _) => 587,
    };
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (name, port) = match bare {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, Some(port.strip_prefix(':')?)),
        None => text.rsplit_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok().filter(|port| *port != 0))?;
    let plain = !name.is_empty() && !name.contains(['/', ' ', '@']) && (bare.is_some() || !name.contains(':'));
    plain.then(|| (name.to_owned(), port))
}

fn security(settings: &Settings) -> Security {
    let (target, text) = settings.target();
    match target {
        Target::Url | Target::TokenUrl if text.starts_with("http://") => Security::None,
        Target::Url | Target::TokenUrl => Security::Tls,
        Target::Imap | Target::Smtp => settings.security.unwrap_or_else(|| {
            let port = place(&text, target, None).map(|(_, port)| port);
            if matches!(port, Some(25 | 143 | 587)) { Security::Starttls } else { Security::Tls }
        }),
    }
}

async fn log_in(settings: &Settings, cx: &Cx, deadline: Instant) -> Result<Came, Unread> {
    let (target, text) = settings.target();
    match (target, &settings.url, &settings.token_url) {
        (Target::Url, Some(url), _) => web::ask(settings, url, cx, deadline).await,
        (Target::TokenUrl, _, Some(url)) => web::refresh(settings, url, cx, deadline).await,
        _ => mail(settings, cx, target, &text, deadline).await,
    }
}

async fn mail(settings: &Settings, cx: &Cx, target: Target, text: &str, deadline: Instant) -> Result<Came, Unread> {
    let bad = || Unread::blind("bad_credentials", clean!("there are no credentials to log in with"));
    let (name, port) = place(text, target, settings.security).ok_or_else(bad)?;
    let user = settings.user.clone().ok_or_else(bad)?;
    let credentials = match (&settings.password, &settings.token) {
        (Some(at), _) => Credentials::Password { user, password: cx.host.secret(at).await? },
        (None, Some(at)) => Credentials::Token { user, token: cx.host.secret(at).await? },
        (None, None) => return Err(bad()),
    };
    let connected = cx.host.connect(&name, port, deadline).await;
    remote::note(cx, &name, &connected);
    let mut connection = connected?;
    let security = security(settings);
    if security == Security::Starttls {
        let how = if target == Target::Imap { Starttls::Imap } else { Starttls::Smtp };
        starttls::begin(&mut connection.stream, how, deadline).await?;
    }
    let peer = connection.peer;
    let wire = if security == Security::None {
        Wire::plain(connection.stream, peer)
    } else {
        let roots = settings.ca_file.as_deref().map(|path| cx.host.expand(path));
        Wire::tls(cx.host.secure(connection.stream, &name, port, roots.as_deref(), deadline).await?, peer)
    };
    let dialog = async {
        match (target, security) {
            (Target::Imap, _) => mail::imap(wire, security == Security::Starttls, &credentials).await,
            (_, Security::Starttls) => mail::smtp(wire.greeting(b"220 go on\r\n"), &credentials).await,
            _ => mail::smtp(wire, &credentials).await,
        }
    };
    let came = timeout_at(deadline, dialog).await;
    drop(connection.slot);
    came.unwrap_or_else(|_| {
        Err(Unread::target("no_answer", clean!("connected, but the login's answer did not come in time")))
    })
}

fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
    let given = [
        ("url", settings.url.is_some()),
        ("imap", settings.imap.is_some()),
        ("smtp", settings.smtp.is_some()),
        ("token_url", settings.token_url.is_some()),
    ];
    let given: Vec<&str> = given.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect();
    let [one] = given.as_slice() else {
        match given.as_slice() {
            [first, others @ ..] => {
                for key in others {
                    report(key, format!("`{first}` and `{key}` exclude each other (make it two checks)"));
                }
            }
            [] => report("url", "nothing to log in to (one of `url`, `imap`, `smtp` or `token_url`)".to_owned()),
        }
        return;
    };
    validate_belonging(settings, one, report);
    let (target, text) = settings.target();
    let host = match target {
        Target::Url | Target::TokenUrl => {
            let whole = settings.url.as_deref().or(settings.token_url.as_deref()).unwrap_or_default();
            super::http::validate_url(whole, &mut |_, why| {
                let why = why.replace("`url`", &format!("`{one}`"));
                report(one, why.replace("`basic_user` and `basic_password`", "`user` and `password`"));
            });
            remote::host_of(whole)
        }
        Target::Imap | Target::Smtp => {
            let place = place(&text, target, settings.security);
            if place.is_none() {
                report(one, format!("`{}` is no host or host and port", Clean::line(&text, 100)));
            }
            place.map(|(name, _)| name)
        }
    };
    if security(settings) == Security::None && !settings.plain && host.is_some_and(|host| !is_local(&host)) {
        let way = if matches!(target, Target::Url | Target::TokenUrl) { "`https://`" } else { "`security = \"tls\"`" };
        report(one, format!("the credentials could be read on the way (use {way}, or say `plain = true`)"));
    }
    remote::validate_latency(settings.warn_after, settings.fail_after, report);
}

fn validate_belonging(settings: &Settings, one: &str, report: &mut dyn FnMut(&str, String)) {
    let belongs: [(&str, bool, &[&str]); 12] = [
        ("method", settings.method.is_some(), &["url"]),
        ("headers", !settings.headers.is_empty(), &["url"]),
        ("secret_headers", !settings.secret_headers.is_empty(), &["url"]),
        ("content_type", settings.content_type.is_some(), &["url"]),
        ("refused_when", settings.refused_when.is_some(), &["url"]),
        ("user", settings.user.is_some(), &["url", "imap", "smtp"]),
        ("password", settings.password.is_some(), &["url", "imap", "smtp"]),
        ("token", settings.token.is_some(), &["url", "imap", "smtp"]),
        ("refresh_token", settings.refresh_token.is_some(), &["token_url"]),
        ("client_id", settings.client_id.is_some(), &["token_url"]),
        ("client_secret", settings.client_secret.is_some(), &["token_url"]),
        ("security", settings.security.is_some(), &["imap", "smtp"]),
    ];
    for (key, given, to) in belongs {
        if given && !to.contains(&one) {
            report(key, format!("`{key}` does not go with `{one}`"));
        }
    }
    let method = settings.method.as_deref().unwrap_or("GET");
    if method.is_empty() || method.len() > 20 || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        report("method", format!("`{}` is not a method (as in `GET`)", Clean::line(method, 40)));
    }
    for name in settings.headers.keys().filter(|name| name.eq_ignore_ascii_case("authorization")) {
        report("headers", format!("`{name}` is a secret (use `token`, `password` or `secret_headers`)"));
    }
    if settings.password.is_some() && settings.token.is_some() {
        report("token", "`password` and `token` exclude each other".to_owned());
    }
    if settings.client_secret.is_some() && settings.client_id.is_none() {
        report("client_secret", "`client_secret` needs `client_id`".to_owned());
    }
    match one {
        "url" => {
            if settings.password.is_some() != settings.user.is_some() {
                report("user", "`user` and `password` go together".to_owned());
            }
            if settings.password.is_none() && settings.token.is_none() && settings.secret_headers.is_empty() {
                report(
                    "url",
                    "nothing to log in with (`token`, `user` and `password`, or `secret_headers`)".to_owned(),
                );
            }
        }
        "token_url" => {
            if settings.refresh_token.is_none() {
                report("token_url", "`token_url` needs `refresh_token`".to_owned());
            }
            if !settings.refresh_is_safe {
                let said = "using a refresh token may void the one that others hold (ask a `url` with the current `token`, or \
                            say `refresh_is_safe = true` where the issuer is known not to replace it)";
                report("token_url", said.to_owned());
            }
        }
        _ => {
            if settings.user.is_none() || (settings.password.is_none() && settings.token.is_none()) {
                report(one, format!("`{one}` needs `user` and `password`, or `user` and `token`"));
            }
        }
    }
}
