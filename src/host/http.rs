//! The one place that builds HTTP clients: shared roots, no proxy for loopback, bounded bodies, careful redirects.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Host;
use crate::facts::Unread;
use crate::redact::Secret;

/// A request. Redirects are followed at most `redirects` times; to another host only without the headers, and never
/// with a body.
#[derive(Debug, Clone)]
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
    /// The URL that answered, after redirects.
    pub url: String,
    /// From the start to the last byte of the body.
    pub took: Duration,
    /// From the start to the headers.
    pub first_byte: Duration,
}

/// Clients, built when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Clients;

impl Response {
    /// A header's first value.
    #[must_use]
    pub fn header(&self, _name: &str) -> Option<&str> {
        unimplemented!()
    }
}

impl Host {
    /// Sends a request and reads the answer within its bounds. Codes beside those of `connect`: `tls_failed`, `no_answer`
    /// (connected, nothing came in time), `connection_reset`, `bad_answer` (not HTTP), `too_many_redirects` (all target).
    pub async fn http(&self, _request: &Request, _deadline: Instant) -> Result<Response, Unread> {
        unimplemented!()
    }
}
