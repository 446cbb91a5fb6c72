//! The one place that builds HTTP clients: shared roots, no proxy for loopback, bounded bodies, careful redirects.

pub(super) mod errors;
mod proxies;
mod redirects;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::{Host, files, net};
use crate::clean;
use crate::facts::Unread;
use crate::redact::{Clean, Secret};
use proxies::Proxies;
use redirects::Next;

/// Clients that are kept: one for plain HTTP, one for the system's roots, one a file of extra roots.
const MAX_CLIENTS: usize = 16;
/// Kept at the end of the time for finding out why nothing came.
const RESERVE: Duration = Duration::from_millis(250);

/// A request. Redirects are followed at most `redirects` times (none: the redirect is the answer); to another host only
/// without the headers, and never with a body; never from HTTPS to HTTP or from elsewhere to this machine.
#[derive(Clone)]
pub struct Request {
    /// `GET`, `HEAD`, `POST` …
    pub method: String,
    /// An `http://` or `https://` URL.
    pub url: String,
    /// Headers; values are secrets because they often are.
    pub headers: Vec<(String, Secret)>,
    /// The body, if any.
    pub body: Option<Vec<u8>>,
    /// How many redirects to follow.
    pub redirects: usize,
    /// The body is cut here, after decoding.
    pub max_body_bytes: usize,
    /// PEM certificates to trust beside the system's.
    pub extra_roots: Option<PathBuf>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Url::parse(&self.url).map_or_else(|_| Clean::new("(no URL)"), |url| shown(&url));
        write!(f, "Request({} {shown}, {} headers)", self.method, self.headers.len())
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers in order, names in lower case, values as text.
    pub headers: Vec<(String, String)>,
    /// The body, decoded, cut at the request's limit.
    pub body: Vec<u8>,
    /// Whether the body was cut.
    pub cut: bool,
    /// The URL that answered, after redirects, without user, query and fragment, where secrets may stand.
    pub url: String,
    /// From the start to the last byte of the body.
    pub took: Duration,
    /// From the start to the headers.
    pub first_byte: Duration,
}

impl Response {
    /// A header's first value, by its name in any case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// One request on the wire; redirects make another one of it.
#[derive(Clone)]
struct Hop {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
}

impl Hop {
    fn first(request: &Request) -> Result<Self, Unread> {
        let bad = |why: Clean| Unread::blind("bad_request", why);
        let url = Url::parse(&request.url).map_err(|error| bad(clean!("the URL can't be read: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(bad(Clean::new("the URL is not `http://HOST…` or `https://HOST…`")));
        }
        let method = Method::from_bytes(request.method.as_bytes())
            .map_err(|_| bad(clean!("`{}` is not a method", Clean::line(&request.method, 40))))?;
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let shown = Clean::line(name, 64);
            let name = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| bad(clean!("`{shown}` is not the name of a header")))?;
            let mut value = HeaderValue::from_str(value.expose())
                .map_err(|_| bad(clean!("the value of the header `{shown}` can't be sent (line breaks?)")))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(Self { method, url, headers, body: request.body.clone() })
    }
}

/// Scheme, host, port and path: all of a URL that may stand in a sentence.
fn shown(url: &Url) -> Clean {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    Clean::line(&format!("{}://{host}{port}{}", url.scheme(), url.path()), 300)
}

fn host_and_port(url: &Url) -> (&str, u16) {
    (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(80))
}

/// What of the trust a client was built with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// None: for plain HTTP, so that the roots need not be loaded.
    Plain,
    /// The system's roots.
    System,
    /// Those and a file's; a changed file is another client.
    Extra { path: PathBuf, size_bytes: u64, inode: (u64, u64), modified: jiff::Timestamp },
}

/// Clients, built when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Clients {
    built: Mutex<BTreeMap<Trust, Client>>,
}

impl Host {
    /// Sends a request and reads the answer within its bounds. Codes beside those of `connect`: `tls_failed`, `no_answer`
    /// (connected, nothing came in time), `connection_reset`, `bad_answer` (not HTTP), `too_many_redirects`,
    /// `redirect_refused` (all target), `bad_request`, `roots_unreadable` (blind), `client_failed` (ours).
    pub async fn http(&self, request: &Request, deadline: Instant) -> Result<Response, Unread> {
        let began = Instant::now();
        let mut hop = Hop::first(request)?;
        let proxies = Proxies::new(&self.env);
        // A silent name server holds no slot; what is found here is known when the request is sent.
        let proxy = proxies.of(&hop.url)?;
        let (first, port) = host_and_port(proxy.as_ref().unwrap_or(&hop.url));
        self.resolve(first, port, deadline).await?;
        let _slot = net::slot(&self.slots, deadline).await?;
        for followed in 0..=request.redirects {
            let answer = self.send(&hop, request.extra_roots.as_deref(), &proxies, deadline).await?;
            match redirects::next(&hop, answer.status(), answer.headers())? {
                Next::To(next) if request.redirects > 0 => {
                    if followed == request.redirects {
                        let said = clean!("{} redirects more than {followed} times", shown(&hop.url));
                        return Err(Unread::target("too_many_redirects", said));
                    }
                    hop = *next;
                }
                _ => return receive(answer, &hop, request.max_body_bytes, began, deadline).await,
            }
        }
        Err(Unread::target("too_many_redirects", clean!("{} redirects too often", shown(&hop.url))))
    }

    /// One exchange up to the headers.
    async fn send(
        &self,
        hop: &Hop,
        extra_roots: Option<&Path>,
        proxies: &Proxies,
        deadline: Instant,
    ) -> Result<reqwest::Response, Unread> {
        let began = Instant::now();
        let proxy = proxies.of(&hop.url)?;
        // Who is connected to: the proxy, or the host itself.
        let (first, port) = host_and_port(proxy.as_ref().unwrap_or(&hop.url));
        let tls = hop.url.scheme() == "https" || proxy.as_ref().is_some_and(|proxy| proxy.scheme() == "https");
        let until = deadline - RESERVE.min(deadline.saturating_duration_since(began) / 5);
        let client = self.client(tls, extra_roots, proxies, until).await?;
        // Asked for here, where it has its own reasons and time; the client then finds it known. Only a redirect's host
        // is new.
        let addresses = self.resolve(first, port, until).await?;
        let mut asking = client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
        if let Some(body) = &hop.body {
            asking = asking.body(body.clone());
        }
        match timeout_at(until, asking.send()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(errors::unread(&error, &hop.url, &net::place(first, port), self.no_roots())),
            Err(_) => Err(silent(&addresses, &net::place(first, port), began, deadline).await),
        }
    }

    /// Whether no trusted certificate was found on this machine.
    fn no_roots(&self) -> bool {
        self.roots.get().is_some_and(|roots| roots.store.is_empty())
    }

    /// The client for this much trust, built once.
    async fn client(
        &self,
        tls: bool,
        extra_roots: Option<&Path>,
        proxies: &Proxies,
        deadline: Instant,
    ) -> Result<Client, Unread> {
        let trust = match (tls, extra_roots) {
            (false, _) => Trust::Plain,
            (true, None) => Trust::System,
            (true, Some(path)) => {
                let (about, path) = (path.to_string_lossy().into_owned(), path.to_owned());
                let seen = path.clone();
                let stat = self.lane(&about, deadline, move || files::stat(&seen)).await?;
                let stat = stat.and_then(|stat| stat.ok_or_else(|| files::unread(&path, &ErrorKind::NotFound.into())));
                let stat = stat.map_err(|why| {
                    Unread::blind("roots_unreadable", clean!("the trusted certificates: {}", why.said))
                })?;
                Trust::Extra { path, size_bytes: stat.size_bytes, inode: stat.inode, modified: stat.modified }
            }
        };
        if let Some(client) = self.built(&trust) {
            return Ok(client);
        }
        let store = match &trust {
            Trust::Plain => Arc::new(RootCertStore::empty()),
            Trust::System => Arc::clone(&self.roots(deadline).await?.store),
            Trust::Extra { path, .. } => {
                let mut store = RootCertStore::clone(&self.roots(deadline).await?.store);
                store.add_parsable_certificates(self.certificates(path, deadline).await?);
                Arc::new(store)
            }
        };
        let client = self.build(store, proxies)?;
        let mut built = self.clients.built.lock().unwrap_or_else(PoisonError::into_inner);
        if built.len() >= MAX_CLIENTS {
            built.clear();
        }
        built.insert(trust, client.clone());
        Ok(client)
    }

    fn built(&self, trust: &Trust) -> Option<Client> {
        self.clients.built.lock().unwrap_or_else(PoisonError::into_inner).get(trust).cloned()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that builds clients")]
    fn build(&self, store: Arc<RootCertStore>, proxies: &Proxies) -> Result<Client, Unread> {
        let failed =
            |why: &dyn fmt::Display| Unread::ours("client_failed", clean!("the HTTP client could not be built: {why}"));
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_root_certificates(store)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(errors::Resolver(Arc::clone(&self.names)))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            // A kept connection would hide a server that takes no new ones, and hold up the end of a one-shot run.
            .pool_max_idle_per_host(0)
            .user_agent(concat!("pulsecheck/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if !proxies.is_empty() {
            let proxies = proxies.clone();
            builder = builder.proxy(reqwest::Proxy::custom(move |url| proxies.of(url).ok().flatten()));
        }
        builder.build().map_err(|error| failed(&error.without_url()))
    }
}

/// Reads the body within its bounds.
async fn receive(
    mut answer: reqwest::Response,
    hop: &Hop,
    max_bytes: usize,
    began: Instant,
    deadline: Instant,
) -> Result<Response, Unread> {
    let first_byte = began.elapsed();
    let (host, port) = host_and_port(&hop.url);
    let place = net::place(host, port);
    let headers = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let (mut body, mut cut) = (Vec::new(), false);
    while !cut {
        match timeout_at(deadline, answer.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let fits = chunk.get(..max_bytes - body.len());
                cut = fits.is_some_and(|fits| fits.len() < chunk.len());
                body.extend_from_slice(fits.unwrap_or(&chunk));
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => return Err(errors::unread(&error, &hop.url, &place, false)),
            Err(_) => {
                let (got, took) = (body.len(), began.elapsed().as_secs_f64());
                let said = clean!("{} stopped after {got} bytes of its answer, within {took:.1} s", shown(&hop.url));
                return Err(Unread::target("no_answer", said));
            }
        }
    }
    let mut url = hop.url.clone();
    plain_url(&mut url);
    url.set_query(None);
    url.set_fragment(None);
    Ok(Response {
        status: answer.status().as_u16(),
        headers,
        body,
        cut,
        url: url.into(),
        took: began.elapsed(),
        first_byte,
    })
}

/// Takes user and password out of a URL.
fn plain_url(url: &mut Url) {
    // Only URLs without a host refuse this, and they have neither.
    let _refused = (url.set_username(""), url.set_password(None));
}

/// Why no headers came: the client does not say how far it was, so a connection is tried for what is left of the time.
/// One that comes about means that somebody is there and silent.
async fn silent(addresses: &[SocketAddr], place: &Clean, began: Instant, deadline: Instant) -> Unread {
    let tried = net::race(addresses, place, deadline - RESERVE / 10, TcpStream::connect).await;
    let took = began.elapsed().as_secs_f64();
    match tried {
        Ok(_) => Unread::target("no_answer", clean!("{place} takes connections but gave no answer within {took:.1} s")),
        Err(unread) if unread.code.as_str() == "connect_timeout" => {
            Unread::target("connect_timeout", clean!("no connection to {place} within {took:.1} s"))
        }
        Err(unread) => unread,
    }
}

#[cfg(test)]
mod tests;
