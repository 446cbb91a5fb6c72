//! One signed POST per message, as Standard Webhooks has it (<https://www.standardwebhooks.com>): the id stays the same at
//! each try, so a receiver can tell a repeat.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use sha2::Sha256;
use tokio::time::Instant;

use super::body::{self, Format};
use super::{LONGEST_WAIT, Message, Notifier, NotifierDoc, Outgoing, Per, Receipt, Undelivered};
use crate::clean;
use crate::facts::Unread;
use crate::host::Host;
use crate::host::http::Request;
use crate::redact::{Clean, Secret};
use crate::settings::{Dur, SecretRef};

/// The notifier `webhook`.
pub struct Webhook;

/// Settings of a `webhook` channel.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where to post, `https://…`. A URL that is itself a secret goes into `url_secret`.
    #[serde(default)]
    pub url: Option<String>,
    /// Where the URL is kept, instead of `url`: it is then shown nowhere, only its host is.
    #[serde(default)]
    pub url_secret: Option<SecretRef>,
    /// Where the signing key is kept: `whsec_` and base64, or any text. Without it messages are not signed.
    #[serde(default)]
    pub secret: Option<SecretRef>,
    /// Where the key before that is kept: while a key is being changed, messages carry both signatures.
    #[serde(default)]
    pub previous_secret: Option<SecretRef>,
    /// Where a bearer token is kept; sent as `Authorization: Bearer …`.
    #[serde(default)]
    pub bearer: Option<SecretRef>,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Further headers whose values are kept elsewhere.
    #[serde(default)]
    pub secret_headers: BTreeMap<String, SecretRef>,
    /// A PEM file with certificates to trust beside the system's, for servers of one's own.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// What is posted: `json` (the default) or `text`.
    #[serde(default)]
    pub format: Format,
    /// How long one try may take (default `15s`).
    #[serde(default = "default_timeout")]
    pub timeout: Dur,
}

fn default_timeout() -> Dur {
    Dur(Duration::from_secs(15))
}

/// Headers that the notifier itself sets, or that would break the request.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

/// Bytes of an answer that are looked at.
const MAX_ANSWER_BYTES: usize = 4_096;

impl Notifier for Webhook {
    const DOC: NotifierDoc = NotifierDoc {
        name: "webhook",
        about: "Posts the report and its events as JSON to a URL, signed as Standard Webhooks has it. Any 2xx is accepted; \
                408, 425, 429, 5xx and network trouble are tried again; redirects are not followed.",
        per: Per::Incident,
        example: r#"
[notify.hook]
kind = "webhook"
url = "https://hooks.example.net/pulsecheck"
secret = "env:PULSECHECK_HOOK_SECRET"
"#,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        match (&settings.url, &settings.url_secret) {
            (None, None) => report("url", "one of `url` and `url_secret` is needed".to_owned()),
            (Some(_), Some(_)) => report("url_secret", "only one of `url` and `url_secret` can be given".to_owned()),
            (Some(url), None) => match parse_url(url) {
                Err(said) => report("url", said),
                Ok(url) if !url.username().is_empty() || url.password().is_some() => report(
                    "url",
                    "holds a user or password (keep the whole URL elsewhere and name it in `url_secret`, or use `bearer`)"
                        .to_owned(),
                ),
                Ok(_) => {}
            },
            (None, Some(_)) => {}
        }
        if settings.previous_secret.is_some() && settings.secret.is_none() {
            report("previous_secret", "needs `secret`, the key that follows it".to_owned());
        }
        for (name, value) in &settings.headers {
            if let Err(said) = header_name(name, settings) {
                report("headers", said);
            } else if HeaderValue::from_str(value).is_err() {
                report("headers", format!("the value of `{name}` is not one line of printable text"));
            }
        }
        for name in settings.secret_headers.keys() {
            if let Err(said) = header_name(name, settings) {
                report("secret_headers", said);
            }
        }
        if settings.ca_file.as_deref().is_some_and(|path| !path.starts_with('/') && !path.starts_with("~/")) {
            report("ca_file", "expected a path that begins with `/` or `~/`".to_owned());
        }
        if settings.timeout.0.is_zero() {
            report("timeout", "must be more than 0".to_owned());
        }
    }

    fn render(settings: &Settings, message: &Message<'_>) -> Outgoing {
        body::render(settings.format, message)
    }

    async fn deliver(
        settings: &Settings,
        outgoing: &Outgoing,
        host: &Host,
        deadline: Instant,
    ) -> Result<Receipt, Undelivered> {
        let deadline = Instant::now().checked_add(settings.timeout.0).map_or(deadline, |own| own.min(deadline));
        let (url, target) = target(settings, host).await?;
        let now = host.now().wall;
        let mut headers = vec![
            ("content-type".to_owned(), Secret::public(outgoing.content_type)),
            ("user-agent".to_owned(), Secret::public(concat!("pulsecheck/", env!("CARGO_PKG_VERSION")))),
            ("webhook-id".to_owned(), Secret::public(&outgoing.id)),
            ("webhook-timestamp".to_owned(), Secret::public(&now.as_second().to_string())),
        ];
        let mut signatures = Vec::new();
        for at in [&settings.secret, &settings.previous_secret].into_iter().flatten() {
            let key = signing_key(&secret(host, at).await?).ok_or_else(|| {
                Undelivered::not_sent(clean!("the secret at `{at}` begins with whsec_ but is not base64"))
            })?;
            signatures.push(sign(&key, &outgoing.id, now, &outgoing.body));
        }
        if !signatures.is_empty() {
            headers.push(("webhook-signature".to_owned(), Secret::public(&signatures.join(" "))));
        }
        if let Some(at) = &settings.bearer {
            let token = secret(host, at).await?;
            headers.push(("authorization".to_owned(), Secret::new(&format!("Bearer {}", token.expose()))));
        }
        for (name, value) in &settings.headers {
            headers.push((name.to_ascii_lowercase(), Secret::public(value)));
        }
        for (name, at) in &settings.secret_headers {
            headers.push((name.to_ascii_lowercase(), secret(host, at).await?));
        }
        let request = Request {
            method: "POST".to_owned(),
            url,
            headers,
            body: Some(outgoing.body.clone()),
            redirects: 0,
            max_body_bytes: MAX_ANSWER_BYTES,
            extra_roots: settings.ca_file.as_deref().map(|path| host.expand(path)),
        };
        let answer = host.http(&request, deadline).await.map_err(|unread| failed(&target, &unread))?;
        verdict(&target, answer.status, answer.header("retry-after"), &answer.body, now)
    }
}

/// The URL, and the only part of it that may be shown.
async fn target(settings: &Settings, host: &Host) -> Result<(String, String), Undelivered> {
    let never = |said: String| Undelivered::Never { said: Clean::new(&said) };
    let url = match (&settings.url, &settings.url_secret) {
        (Some(url), _) => parse_url(url).map_err(never)?,
        (None, Some(at)) => {
            let url = secret(host, at).await?;
            parse_url(url.expose()).map_err(|said| Undelivered::not_sent(clean!("the URL at `{at}`: {said}")))?
        }
        (None, None) => return Err(never("no URL".to_owned())),
    };
    let target = match (url.host_str(), url.port()) {
        (Some(name), Some(port)) => format!("{name}:{port}"),
        (name, _) => name.unwrap_or_default().to_owned(),
    };
    Ok((url.into(), target))
}

/// A secret; one that can't be read now may be readable later, and the notice waits for that.
async fn secret(host: &Host, at: &SecretRef) -> Result<Secret, Undelivered> {
    host.secret(at).await.map_err(|unread| Undelivered::not_sent(unread.said))
}

/// The error repeats nothing of the URL.
fn parse_url(url: &str) -> Result<Url, String> {
    let wrong = || "expected a URL like `https://hooks.example.net/path`".to_owned();
    let url = Url::parse(url).map_err(|_| wrong())?;
    if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() { Ok(url) } else { Err(wrong()) }
}

fn header_name(name: &str, settings: &Settings) -> Result<(), String> {
    let lower = name.to_ascii_lowercase();
    let same = |other: &&String| other.eq_ignore_ascii_case(name);
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        Err(format!("`{}` is not a header's name", name.escape_default()))
    } else if OWN_HEADERS.contains(&lower.as_str()) {
        Err(format!("`{name}` can't be set"))
    } else if lower == "authorization" && settings.bearer.is_some() {
        Err(format!("`{name}` can't stand beside `bearer`"))
    } else if settings.headers.keys().filter(same).count() + settings.secret_headers.keys().filter(same).count() > 1 {
        Err(format!("`{name}` is given twice"))
    } else {
        Ok(())
    }
}

/// The key's bytes: what follows `whsec_`, decoded, or the text as it is. None when the former is no base64.
fn signing_key(secret: &Secret) -> Option<Vec<u8>> {
    match secret.expose().strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded.trim()).ok(),
        None => Some(secret.expose().as_bytes().to_vec()),
    }
}

/// `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`.
fn sign(key: &[u8], id: &str, at: Timestamp, body: &[u8]) -> String {
    // HMAC takes a key of any length, so there is always one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(id.as_bytes());
    mac.update(b".");
    mac.update(at.as_second().to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Why there is no answer. Words that hold a URL are not taken over: its path may be the secret.
fn failed(target: &str, unread: &Unread) -> Undelivered {
    let code = unread.code.as_str();
    let said = unread.said.as_str();
    if matches!(code, "redirect_refused" | "too_many_redirects") {
        redirected(target)
    } else if said.contains("://") {
        Undelivered::unread(&unread.code, clean!("{target}: {}", code.replace('_', " ")))
    } else if said.contains(target) {
        Undelivered::unread(&unread.code, unread.said.clone())
    } else {
        Undelivered::unread(&unread.code, clean!("{target}: {said}"))
    }
}

fn redirected(target: &str) -> Undelivered {
    Undelivered::Never { said: clean!("{target} sends elsewhere (redirects are not followed; set the final URL)") }
}

/// What an answer means.
fn verdict(
    target: &str,
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> Result<Receipt, Undelivered> {
    let said = || {
        let excerpt = Clean::bytes(body, 400);
        let excerpt = Clean::line(excerpt.as_str(), 400);
        if excerpt.as_str().trim().is_empty() {
            clean!("{target} answered {status}")
        } else {
            clean!("{target} answered {status}: {}", excerpt.quoted())
        }
    };
    match status {
        200..=299 => Ok(Receipt { reference: None, said: clean!("{target} answered {status}") }),
        300..=399 => Err(redirected(target)),
        408 | 425 | 429 | 500..=599 => Err(Undelivered::Later {
            after: retry_after.and_then(|value| wait(value, now)),
            // Too early, too many: it was turned away. Behind a gateway's error somebody may have taken it.
            maybe_arrived: !matches!(status, 425 | 429),
            said: said(),
        }),
        _ => Err(Undelivered::Never { said: said() }),
    }
}

/// `Retry-After`: seconds or an HTTP date, at most [`LONGEST_WAIT`].
fn wait(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are more than the cap.
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
        Duration::try_from(at.duration_since(now)).unwrap_or_default()
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::super::tests::channel;
    use super::*;

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (table, expected) in [
            ("", "url: one of `url` and `url_secret` is needed"),
            (
                "url = 'https://a.example'\nurl_secret = 'env:HOOK'",
                "url_secret: only one of `url` and `url_secret` can be given",
            ),
            ("url = 'ftp://a.example/x'", "url: expected a URL like `https://hooks.example.net/path`"),
            ("url = 'hooks.example.net'", "url: expected a URL like `https://hooks.example.net/path`"),
            (
                "url = 'https://me:pw@a.example'",
                "url: holds a user or password (keep the whole URL elsewhere and name it in `url_secret`, or use `bearer`)",
            ),
            (
                "url = 'https://a.example'\nprevious_secret = 'env:OLD'",
                "previous_secret: needs `secret`, the key that follows it",
            ),
            ("url = 'https://a.example'\nheaders = { 'Webhook-Id' = '1' }", "headers: `Webhook-Id` can't be set"),
            ("url = 'https://a.example'\nheaders = { 'a b' = '1' }", "headers: `a b` is not a header's name"),
            (
                "url = 'https://a.example'\nheaders = { a = \"1\\n2\" }",
                "headers: the value of `a` is not one line of printable text",
            ),
            (
                "url = 'https://a.example'\nbearer = 'env:T'\nheaders = { Authorization = 'x' }",
                "headers: `Authorization` can't stand beside `bearer`",
            ),
            (
                "url = 'https://a.example'\nheaders = { a = 'x' }\nsecret_headers = { A = 'env:T' }",
                "headers: `a` is given twice; secret_headers: `A` is given twice",
            ),
            ("url = 'https://a.example'\nca_file = 'ca.pem'", "ca_file: expected a path that begins with `/` or `~/`"),
            ("url = 'https://a.example'\ntimeout = '0s'", "timeout: must be more than 0"),
            ("url_secret = 'env:HOOK'\nsecret = 'cred:k'\nformat = 'text'", ""),
        ] {
            let (_, problems) = channel("webhook", table).unwrap();
            assert_eq!(problems.join("; "), expected, "{table}");
        }
        let unknown = channel("webhook", "url = 'https://a.example'\nmethod = 'PUT'").unwrap_err();
        assert!(unknown.starts_with("unknown field `method`"), "{unknown}");
    }

    #[test]
    fn a_signature_is_the_one_that_the_specifications_libraries_make() {
        // The vector that the reference libraries of Standard Webhooks test themselves with.
        let key = signing_key(&Secret::public("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
        let at = Timestamp::from_second(1_614_265_330).unwrap();
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(signing_key(&Secret::public("plain text")).unwrap(), b"plain text");
        assert_eq!(signing_key(&Secret::public("whsec_!!!")), None);
    }

    #[test]
    fn answers_mean_what_http_says() {
        let now = "2026-03-20T14:30:00Z".parse().unwrap();
        let of = |status, after| match verdict("hooks.example.net", status, after, b"no such hook", now) {
            Ok(receipt) => format!("ok: {}", receipt.said),
            Err(Undelivered::Later { after, said, .. }) => {
                format!("later {:?}: {said}", after.map(|wait| wait.as_secs()))
            }
            Err(Undelivered::Never { said }) => format!("never: {said}"),
        };
        let answered = |status: u16| format!("hooks.example.net answered {status}: \"no such hook\"");
        for status in [200, 202, 204, 299] {
            assert_eq!(of(status, None), format!("ok: hooks.example.net answered {status}"));
        }
        for status in [400, 401, 403, 404, 405, 410, 413, 422] {
            assert_eq!(of(status, Some("5")), format!("never: {}", answered(status)));
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(of(status, None), format!("later None: {}", answered(status)));
        }
        for status in [301, 302, 304, 307, 308] {
            assert_eq!(
                of(status, None),
                "never: hooks.example.net sends elsewhere (redirects are not followed; set the final URL)"
            );
        }
        for (header, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Fri, 20 Mar 2026 14:31:30 GMT", Some(90)),
            ("Fri, 20 Mar 2026 14:00:00 GMT", Some(0)),
            ("Sat, 21 Mar 2026 14:00:00 GMT", Some(3600)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(of(503, Some(header)), format!("later {seconds:?}: {}", answered(503)), "{header}");
        }
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        let said = parse_url("htps://hooks.example.net/T0/B0/topsecret").unwrap_err();
        assert!(!said.contains("topsecret"), "{said}");
    }

    /// A server that answers each connection's one request with the next of these, and gives back what it was sent.
    fn server(answers: &[&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        use std::io::{Read as _, Write as _};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = answers.to_vec();
        let serving = std::thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut chunk = [0; 4_096];
                loop {
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
                        let head = head.to_ascii_lowercase();
                        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                        length.is_some_and(|length| body.len() == length.trim().parse::<usize>().unwrap())
                    });
                    if whole {
                        requests.push(text);
                        break;
                    }
                    let count = stream.read(&mut chunk).unwrap();
                    assert!(count > 0, "half a request: {text}");
                    request.extend(&chunk[..count]);
                }
                let head = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                stream.write_all(head.as_bytes()).unwrap();
            }
            requests
        });
        (address, serving)
    }

    fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
        let head = request.split_once("\r\n\r\n").unwrap().0;
        let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[tokio::test]
    async fn a_message_arrives_signed_and_a_repeat_has_the_same_id() {
        let dir = tempfile::tempdir().unwrap();
        let mut host = Host::for_tests(dir.path());
        let (address, serving) = server(&["503 Later\r\nRetry-After: 7", "202 Accepted"]);
        for (name, value) in [
            ("HOOK_URL", format!("http://{address}/T0/topsecret-path?x=1")),
            ("NEW_KEY", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()),
            ("OLD_KEY", "the key before that".to_owned()),
            ("BEARER", "bearer-token-901".to_owned()),
            ("ROUTE", "route-secret-44".to_owned()),
        ] {
            host.env.insert(name.into(), value.into());
        }
        let settings: Settings = toml::from_str(
            "url_secret = 'env:HOOK_URL'\nsecret = 'env:NEW_KEY'\nprevious_secret = 'env:OLD_KEY'\n\
             bearer = 'env:BEARER'\nheaders = { X-Team = 'attic' }\nsecret_headers = { X-Route = 'env:ROUTE' }",
        )
        .unwrap();
        let mut told = Vec::new();
        super::super::tests::messages(&mut |_, message| told.push(Webhook::render(&settings, message)));
        let outgoing = told.remove(0);
        let deadline = Instant::now() + Duration::from_secs(20);

        let again = Webhook::deliver(&settings, &outgoing, &host, deadline).await.unwrap_err();
        let said = clean!("{address} answered 503");
        assert_eq!(again, Undelivered::Later { after: Some(Duration::from_secs(7)), maybe_arrived: true, said });
        let receipt = Webhook::deliver(&settings, &outgoing, &host, deadline).await.unwrap();
        assert_eq!(receipt.said, clean!("{address} answered 202"));

        let requests = serving.join().unwrap();
        for request in &requests {
            assert!(request.starts_with("POST /T0/topsecret-path?x=1 HTTP/1.1\r\n"), "{request}");
            let (_, body) = request.split_once("\r\n\r\n").unwrap();
            assert_eq!(body.as_bytes(), outgoing.body);
            for (name, value) in [
                ("content-type", "application/json"),
                ("webhook-id", "msg_0123456789abcdef"),
                ("authorization", "Bearer bearer-token-901"),
                ("x-team", "attic"),
                ("x-route", "route-secret-44"),
                ("user-agent", concat!("pulsecheck/", env!("CARGO_PKG_VERSION"))),
            ] {
                assert_eq!(header(request, name), Some(value), "{request}");
            }
            let at = header(request, "webhook-timestamp").unwrap().parse().unwrap();
            let at = Timestamp::from_second(at).unwrap();
            assert!(host.now().wall.duration_since(at).as_secs() < 60);
            let new = signing_key(&Secret::public("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")).unwrap();
            let both = [&new[..], b"the key before that"].map(|key| sign(key, &outgoing.id, at, &outgoing.body));
            assert_eq!(header(request, "webhook-signature"), Some(&*both.join(" ")));
        }
    }

    #[tokio::test]
    async fn trouble_is_told_without_the_url() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::for_tests(dir.path());
        let (address, serving) = server(&[
            "404 Not Found",
            "302 Found\r\nLocation: /elsewhere",
            "307 Temporary Redirect\r\nLocation: ftp://elsewhere/",
            "xx Nonsense",
        ]);
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for (table, expected) in [
            (format!("url = 'http://{address}/topsecret'"), format!("Never: {address} answered 404")),
            (
                format!("url = 'http://{address}/topsecret'"),
                format!("Never: {address} sends elsewhere (redirects are not followed; set the final URL)"),
            ),
            (
                format!("url = 'http://{address}/topsecret'"),
                format!("Never: {address} sends elsewhere (redirects are not followed; set the final URL)"),
            ),
            (format!("url = 'http://{address}/topsecret'"), format!("Later: {address}: bad answer")),
            (format!("url = 'http://{closed}/topsecret'"), format!("Later: {closed} refuses connections")),
            ("url_secret = 'env:NOT_THERE'".to_owned(), "Later: the secret `env:NOT_THERE` ".to_owned()),
        ] {
            let settings: Settings = toml::from_str(&table).unwrap();
            let outgoing = Outgoing {
                id: "m".to_owned(),
                body: b"hi".to_vec(),
                content_type: "text/plain",
                ..Outgoing::default()
            };
            let deadline = Instant::now() + Duration::from_secs(20);
            let undelivered = Webhook::deliver(&settings, &outgoing, &host, deadline).await.unwrap_err();
            let word = if matches!(undelivered, Undelivered::Never { .. }) { "Never" } else { "Later" };
            let said = format!("{word}: {}", undelivered.said());
            assert!(said.starts_with(&expected), "{said}");
            assert!(!format!("{undelivered:?}").contains("topsecret"), "{undelivered:?}");
        }
        serving.join().unwrap();
    }
}
