//! A service's own API over HTTP: one address, one key, answers that are what they claim to be. What the answers mean is
//! left to the kinds that ask.

use futures_util::{StreamExt as _, stream};
use reqwest::Url;
use serde_json::Value;
use tokio::time::Instant;

use super::{Cx, ReasonDoc, ReasonOutcome, remote};
use crate::clean;
use crate::facts::{Blame, Unread};
use crate::host::http::{Request, Response};
use crate::redact::{Clean, Secret};
use crate::settings::SecretRef;

/// Requests of one check at the same time.
pub(super) const AT_ONCE: usize = 8;
/// Bytes of an answer.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Bytes of an answer that are shown where it is not what was asked for.
const SHOWN_BYTES: usize = 200;

/// What the answers of a server can be, beside what [`Host::http`](crate::host::Host::http) says.
pub(super) const API_REASONS: &[ReasonDoc] = &[
    ReasonDoc {
        code: "access_denied",
        outcome: ReasonOutcome::Unknown(Blame::Blind),
        settled: true,
        about: "the server answers 401 or 403",
        action: "give the check a key that may read (`api_key` or `bearer`)",
        needs_human: true,
    },
    ReasonDoc {
        code: "wrong_api",
        outcome: ReasonOutcome::Unknown(Blame::Blind),
        settled: true,
        about: "the server does not know or take what it is asked for (400, 404, 405, 410, 422): another service, another \
                version or a wrong setting",
        action: "check the settings, `url` above all, and the server's version",
        needs_human: true,
    },
    ReasonDoc {
        code: "answer_too_large",
        outcome: ReasonOutcome::Unknown(Blame::Blind),
        settled: true,
        about: "the answer is larger than 4 MiB",
        action: "ask for less",
        needs_human: true,
    },
    ReasonDoc {
        code: "server_error",
        outcome: ReasonOutcome::Unknown(Blame::Target),
        settled: false,
        about: "the server answers with an error (429, 5xx)",
        action: "see the server's log",
        needs_human: false,
    },
];

/// A server that is asked.
pub(super) struct Api<'a> {
    cx: &'a Cx,
    base: Url,
    headers: Vec<(String, Secret)>,
    ca_file: Option<&'a str>,
    deadline: Instant,
}

/// The key that a server wants: under a header of its own, or as a bearer's token.
pub(super) struct Keys<'a> {
    /// The header that `api_key` goes into; `authorization` makes it a bearer's token.
    pub header: &'static str,
    pub api_key: Option<&'a SecretRef>,
    pub bearer: Option<&'a SecretRef>,
}

impl<'a> Api<'a> {
    /// The server at `url`, a valid one.
    pub async fn new(cx: &'a Cx, url: &str, keys: &Keys<'_>, ca_file: Option<&'a str>) -> Result<Self, Unread> {
        let base = Url::parse(url)
            .map_err(|error| Unread::blind("bad_request", clean!("the address can't be read: {error}")))?;
        let mut headers = vec![("accept".to_owned(), Secret::public("application/json, text/plain, */*"))];
        if let Some(at) = keys.api_key {
            let key = cx.host.secret(at).await?;
            headers.push(match keys.header {
                "authorization" => bearer(&key),
                header => (header.to_owned(), key),
            });
        }
        if let Some(at) = keys.bearer {
            headers.push(bearer(&cx.host.secret(at).await?));
        }
        Ok(Self { cx, base, headers, ca_file, deadline: remote::stop_at(cx) })
    }

    /// The same server under another address, without a key.
    pub fn elsewhere(&self, base: Url) -> Self {
        Self { cx: self.cx, base, headers: Vec::new(), ca_file: self.ca_file, deadline: self.deadline }
    }

    /// The address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Whatever a path answers. A `{}` in it stands for the next of `parts`, which may hold anything.
    pub async fn ask(&self, path: &str, parts: &[&str], body: Option<&Value>) -> Result<Response, Unread> {
        let mut headers = self.headers.clone();
        if body.is_some() {
            headers.push(("content-type".to_owned(), Secret::public("application/json")));
        }
        let request = Request {
            method: if body.is_some() { "POST" } else { "GET" }.to_owned(),
            url: self.url(path, parts).into(),
            headers,
            body: body.map(|body| body.to_string().into_bytes()),
            redirects: 0,
            max_body_bytes: MAX_BODY_BYTES,
            extra_roots: self.ca_file.map(|path| self.cx.host.expand(path)),
        };
        let answered = self.cx.host.http(&request, self.deadline).await;
        if let Some(host) = self.base.host_str() {
            remote::note(self.cx, host.trim_matches(['[', ']']), &answered);
        }
        answered
    }

    /// A path's answer, which must be a success and no web page.
    pub async fn get(&self, path: &str, parts: &[&str]) -> Result<Response, Unread> {
        let response = self.ask(path, parts, None).await?;
        proper(&response, path)?;
        Ok(response)
    }

    /// The JSON of a path.
    pub async fn json(&self, path: &str, parts: &[&str]) -> Result<Value, Unread> {
        json_of(&self.get(path, parts).await?, path)
    }

    /// The JSON that comes for a body.
    pub async fn post(&self, path: &str, parts: &[&str], body: &Value) -> Result<Value, Unread> {
        let response = self.ask(path, parts, Some(body)).await?;
        proper(&response, path)?;
        json_of(&response, path)
    }

    fn url(&self, path: &str, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut parts = parts.iter();
        // An address with a host has a path that can be added to.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            for segment in path.split('/').filter(|segment| !segment.is_empty()) {
                segments.push(if segment == "{}" { parts.next().copied().unwrap_or_default() } else { segment });
            }
        }
        url.set_query(query);
        url
    }
}

fn bearer(token: &Secret) -> (String, Secret) {
    ("authorization".to_owned(), Secret::new(&format!("Bearer {}", token.expose())))
}

/// Runs these at most [`AT_ONCE`] at a time; the results come in their order.
pub(super) async fn all<T>(asked: Vec<impl Future<Output = T>>) -> Vec<T> {
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

/// A path as it may stand in a sentence.
fn shown(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    format!("`/{}`", path.replace("{}", "…"))
}

/// That an answer is a success and no web page.
pub(super) fn proper(response: &Response, path: &str) -> Result<(), Unread> {
    let (status, path) = (response.status, shown(path));
    match status {
        200..=299 if is_page(response) => {
            Err(Unread::target("bad_answer", clean!("{path} answered {status} with a web page")))
        }
        200..=299 => Ok(()),
        300..=399 => Err(Unread::target(
            "bad_answer",
            clean!("{path} answered {status}, a redirect (use the address that it leads to)"),
        )),
        401 | 403 => {
            Err(Unread::blind("access_denied", clean!("{path} answered {status}: the key does not let us in")))
        }
        404 | 405 | 410 => {
            Err(Unread::blind("wrong_api", clean!("{path} answered {status}: the server does not know it")))
        }
        400 | 422 => Err(Unread::blind("wrong_api", with_excerpt(response, &path))),
        _ => Err(Unread::target("server_error", with_excerpt(response, &path))),
    }
}

fn with_excerpt(response: &Response, path: &str) -> Clean {
    let status = response.status;
    match excerpt(response) {
        Some(said) => clean!("{path} answered {status}: {said}"),
        None => clean!("{path} answered {status}"),
    }
}

/// The beginning of an answer in quotes, if there is text in it.
pub(super) fn excerpt(response: &Response) -> Option<Clean> {
    let text = Clean::bytes(response.body.trim_ascii(), SHOWN_BYTES);
    (!text.is_empty()).then(|| text.quoted())
}

/// Whether an answer is a web page: what a proxy, a login or an app with one page says to every path.
pub(super) fn is_page(response: &Response) -> bool {
    let html = response.header("content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"));
    html || response.body.trim_ascii_start().first() == Some(&b'<')
}

fn json_of(response: &Response, path: &str) -> Result<Value, Unread> {
    if response.cut {
        return Err(Unread::blind("answer_too_large", clean!("{} answers with more than 4 MiB", shown(path))));
    }
    remote::json(&response.body).map_err(|why| Unread::target("bad_answer", clean!("{} is {why}", shown(path))))
}

/// That JSON is not shaped as this server's answer.
pub(super) fn misshapen(path: &str, lacks: &str) -> Unread {
    Unread::target("bad_answer", clean!("{} answered JSON without `{lacks}`", shown(path)))
}

/// The text at a place in JSON.
pub(super) fn text<'a>(json: &'a Value, pointer: &str) -> Option<&'a str> {
    json.pointer(pointer).and_then(Value::as_str)
}

/// Reports an address that is none.
pub(super) fn validate_url(key: &str, url: &str, report: &mut dyn FnMut(&str, String)) {
    match Url::parse(url) {
        Ok(parsed) if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none_or(str::is_empty) => {
            report(key, format!("`{key}` must begin with `http://` or `https://` and name a host"));
        }
        Ok(parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            report(key, format!("a password in `{key}` is a secret (use `api_key` or `bearer`)"));
        }
        Ok(parsed) if parsed.query().is_some() || parsed.fragment().is_some() => {
            report(key, format!("`{key}` is the server's address, without a query"));
        }
        Ok(_) => {}
        Err(error) => report(key, format!("`{key}` is not a URL: {error}")),
    }
}

/// Reports two keys where one is wanted.
pub(super) fn validate_keys(
    api_key: Option<&SecretRef>,
    bearer: Option<&SecretRef>,
    report: &mut dyn FnMut(&str, String),
) {
    if api_key.is_some() && bearer.is_some() {
        report("bearer", "`api_key` and `bearer` exclude each other".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn response(status: u16, content_type: &str, body: &str) -> Response {
        Response {
            status,
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.as_bytes().to_vec(),
            cut: false,
            url: "http://a/".to_owned(),
            took: Duration::ZERO,
            first_byte: Duration::ZERO,
        }
    }

    #[test]
    fn an_answer_is_a_success_or_told_apart() {
        for (status, kind, body, want) in [
            (200, "application/json", "{}", None),
            (200, "text/plain", "", None),
            (200, "text/html; charset=utf-8", "hi", Some("bad_answer: `/collections/…` answered 200 with a web page")),
            (200, "", "\n <!doctype html>", Some("bad_answer: `/collections/…` answered 200 with a web page")),
            (
                301,
                "",
                "",
                Some("bad_answer: `/collections/…` answered 301, a redirect (use the address that it leads to)"),
            ),
            (401, "", "", Some("access_denied: `/collections/…` answered 401: the key does not let us in")),
            (410, "", "", Some("wrong_api: `/collections/…` answered 410: the server does not know it")),
            (422, "", "dim", Some("wrong_api: `/collections/…` answered 422: \"dim\"")),
            (503, "", "", Some("server_error: `/collections/…` answered 503")),
            (429, "", "slow\ndown", Some("server_error: `/collections/…` answered 429: \"slow down\"")),
        ] {
            let got = proper(&response(status, kind, body), "collections/{}?a=1").err();
            let got = got.map(|unread| format!("{}: {}", unread.code, unread.said));
            assert_eq!(got.as_deref(), want, "{status} {kind} {body}");
        }
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        for (url, want) in [
            ("http://127.0.0.1:6333", None),
            ("https://a/prefix/", None),
            ("localhost:6333", Some("`url` must begin with `http://` or `https://` and name a host")),
            ("127.0.0.1:6333", Some("`url` is not a URL: relative URL without a base")),
            ("http://me:pass@a/", Some("a password in `url` is a secret (use `api_key` or `bearer`)")),
            ("http://a/?key=x", Some("`url` is the server's address, without a query")),
        ] {
            let mut said = Vec::new();
            validate_url("url", url, &mut |_, why| said.push(why));
            assert_eq!(said.first().map(String::as_str), want, "{url}");
        }
    }
}
