//! Logins over HTTP: a harmless request with a token or a password, or a refresh of an OAuth token that is thrown away.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use serde_json::Value;
use tokio::time::Instant;

use super::{Came, Settings};
use crate::clean;
use crate::facts::Unread;
use crate::host::http::{Request, Response};
use crate::kinds::{Cx, remote};
use crate::redact::{Clean, Secret};

/// Bytes of an answer.
const MAX_BODY_BYTES: usize = 1 << 20;
/// What the content type of a page begins with: many sites show the one for logging in with a good status.
const PAGES: [&str; 2] = ["text/html", "application/xhtml"];

/// Asks with the credentials, and says what the answer means for them.
pub(super) async fn ask(settings: &Settings, url: &str, cx: &Cx, deadline: Instant) -> Result<Came, Unread> {
    let mut headers = Vec::new();
    for (name, value) in &settings.headers {
        headers.push((name.clone(), Secret::public(value)));
    }
    for (name, at) in &settings.secret_headers {
        headers.push((name.clone(), cx.host.secret(at).await?));
    }
    if let Some(at) = &settings.token {
        let token = cx.host.secret(at).await?;
        headers.push(("authorization".to_owned(), Secret::new(&format!("Bearer {}", token.expose()))));
    }
    if let (Some(user), Some(at)) = (&settings.user, &settings.password) {
        headers.push(basic(user, &cx.host.secret(at).await?));
    }
    let method = settings.method.clone().unwrap_or_else(|| "GET".to_owned());
    let response = send(settings, cx, method, url, headers, None, deadline).await?;
    of_answer(settings, &response)
}

/// What an answer says of the credentials.
pub(super) fn of_answer(settings: &Settings, response: &Response) -> Result<Came, Unread> {
    let status = response.status.to_string();
    let unexpected = |why: Clean| Err(Unread::target("unexpected_answer", why));
    match response.status {
        200..=299 => {
            let body = String::from_utf8_lossy(&response.body);
            if settings.refused_when.as_ref().is_some_and(|pattern| pattern.is_match(&body)) {
                let shown = Clean::bytes(&response.body, 200);
                return Ok(Came::refused("credentials_refused", "HTTP", &status, shown.as_str()));
            }
            let came = response.header("content-type").unwrap_or_default().to_ascii_lowercase();
            let is_page = || PAGES.iter().any(|page| came.starts_with(page));
            match &settings.content_type {
                Some(wanted) if !came.starts_with(&wanted.to_ascii_lowercase()) => {
                    let came = Clean::line(&came, 100).quoted();
                    unexpected(clean!("it answers {status} with {came}, which is not `{wanted}`: a page, not the API"))
                }
                None if is_page() => {
                    let came = Clean::line(&came, 100).quoted();
                    unexpected(clean!("it answers {status} with {came}: a page, maybe the one for logging in"))
                }
                _ => Ok(Came::let_in("HTTP", &status)),
            }
        }
        401 => Ok(Came::refused("credentials_refused", "HTTP", &status, "")),
        // Some say 403 where others say 429.
        403 if response.header("retry-after").is_none() && response.header("x-ratelimit-remaining") != Some("0") => {
            Ok(Came::refused("not_permitted", "HTTP", &status, ""))
        }
        403 | 408 | 425 | 429 | 500..=599 => {
            Err(Unread::target("temporary", clean!("it answers {status}, which says nothing of the credentials")))
        }
        300..=399 => unexpected(clean!("it answers {status} and sends one elsewhere, as to a page for logging in")),
        _ => unexpected(clean!("it answers {status}, which says nothing of the credentials")),
    }
}

/// Asks for a new access token and throws it away.
pub(super) async fn refresh(settings: &Settings, url: &str, cx: &Cx, deadline: Instant) -> Result<Came, Unread> {
    let Some(at) = &settings.refresh_token else {
        return Err(Unread::blind("bad_credentials", clean!("there is no refresh token")));
    };
    let token = cx.host.secret(at).await?;
    let mut fields = vec![("grant_type", "refresh_token".to_owned()), ("refresh_token", token.expose().to_owned())];
    let mut headers = vec![
        ("content-type".to_owned(), Secret::public("application/x-www-form-urlencoded")),
        ("accept".to_owned(), Secret::public("application/json")),
    ];
    match (&settings.client_id, &settings.client_secret) {
        (Some(id), Some(at)) => headers.push(basic(id, &cx.host.secret(at).await?)),
        (Some(id), None) => fields.push(("client_id", id.clone())),
        _ => {}
    }
    let body = Some(form(&fields).into_bytes());
    let response = send(settings, cx, "POST".to_owned(), url, headers, body, deadline).await?;
    of_grant(&response, &token)
}

/// What a token endpoint's answer says (RFC 6749 §5).
pub(super) fn of_grant(response: &Response, sent: &Secret) -> Result<Came, Unread> {
    let status = response.status.to_string();
    let body = remote::json(&response.body).unwrap_or(Value::Null);
    let field = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
    match response.status {
        200..=299 if field("access_token").is_empty() => {
            Err(Unread::target("unexpected_answer", clean!("the answer {status} holds no access token")))
        }
        200..=299 => {
            // Nobody ever needs them again; the gate knows them all the same.
            let _known = Secret::new(field("access_token"));
            let next = field("refresh_token");
            let rotated = !next.is_empty() && next != sent.expose();
            let _known = (!next.is_empty()).then(|| Secret::new(next));
            Ok(Came { rotated, ..Came::let_in("refresh", &status) })
        }
        400 | 401 | 403 => match field("error") {
            error @ ("invalid_grant" | "invalid_client" | "unauthorized_client" | "access_denied") => {
                Ok(Came::refused("credentials_refused", "refresh", &status, error))
            }
            "temporarily_unavailable" | "server_error" | "slow_down" => {
                Err(Unread::target("temporary", clean!("the token endpoint can't say now")))
            }
            other => {
                let other = Clean::line(other, 100).quoted();
                Err(Unread::target("unexpected_answer", clean!("the token endpoint answers {status} {other}")))
            }
        },
        408 | 425 | 429 | 500..=599 => {
            Err(Unread::target("temporary", clean!("it answers {status}, which says nothing of the credentials")))
        }
        _ => Err(Unread::target(
            "unexpected_answer",
            clean!("it answers {status}, which says nothing of the credentials"),
        )),
    }
}

async fn send(
    settings: &Settings,
    cx: &Cx,
    method: String,
    url: &str,
    headers: Vec<(String, Secret)>,
    body: Option<Vec<u8>>,
    deadline: Instant,
) -> Result<Response, Unread> {
    let request = Request {
        method,
        url: url.to_owned(),
        headers,
        body,
        redirects: 0,
        max_body_bytes: MAX_BODY_BYTES,
        extra_roots: settings.ca_file.as_deref().map(|path| cx.host.expand(path)),
    };
    let answered = cx.host.http(&request, deadline).await;
    if let Some(host) = remote::host_of(url) {
        remote::note(cx, &host, &answered);
    }
    answered
}

fn basic(user: &str, password: &Secret) -> (String, Secret) {
    let pair = Secret::new(&STANDARD.encode(format!("{user}:{}", password.expose())));
    ("authorization".to_owned(), Secret::new(&format!("Basic {}", pair.expose())))
}

/// `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, String)]) -> String {
    let mut url = Url::parse("http://form.invalid/").ok();
    if let Some(url) = &mut url {
        url.query_pairs_mut().extend_pairs(fields);
    }
    url.and_then(|url| url.query().map(str::to_owned)).unwrap_or_default()
}
