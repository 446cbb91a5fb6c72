//! Where a redirect leads, and what may go there.

use reqwest::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION, TRANSFER_ENCODING};
use reqwest::{Method, StatusCode, Url};

use super::{Hop, host_and_port, plain_url, shown};
use crate::clean;
use crate::facts::Unread;
use crate::host::net::is_local;
use crate::redact::Clean;

/// What an answer asks for.
pub(super) enum Next {
    /// It is the answer.
    Nothing,
    /// Another request.
    To(Box<Hop>),
}

/// The next request, by the rules of RFC 9110 §15.4 and of browsers for POST; headers stay with scheme, host and port.
pub(super) fn next(hop: &Hop, status: StatusCode, headers: &HeaderMap) -> Result<Next, Unread> {
    let becomes_get = match status.as_u16() {
        303 => !matches!(hop.method, Method::GET | Method::HEAD),
        301 | 302 => hop.method == Method::POST,
        307 | 308 => false,
        _ => return Ok(Next::Nothing),
    };
    let Some(location) = headers.get(LOCATION) else { return Ok(Next::Nothing) };
    let from = shown(&hop.url);
    let mut url = location
        .to_str()
        .ok()
        .and_then(|location| hop.url.join(location).ok())
        .ok_or_else(|| Unread::target("bad_answer", clean!("{from} redirects to something that is no URL")))?;
    let refused = |why: &str| Err(Unread::target("redirect_refused", clean!("{from} redirects to {why}")));
    match url.scheme() {
        "http" if hop.url.scheme() == "https" => return refused("plain HTTP, which is not followed"),
        "http" | "https" => {}
        _ => return refused("something other than HTTP"),
    }
    let here = |url: &Url| url.host_str().is_none_or(is_local);
    if here(&url) && !here(&hop.url) {
        return refused("this machine, which is not followed from elsewhere");
    }
    let mut next = hop.clone();
    if becomes_get {
        next.method = Method::GET;
        next.body = None;
        for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, TRANSFER_ENCODING] {
            next.headers.remove(name);
        }
    }
    if url.scheme() != hop.url.scheme() || host_and_port(&url) != host_and_port(&hop.url) {
        if next.body.is_some() {
            let to = Clean::line(&format!("{}:{}", host_and_port(&url).0, host_and_port(&url).1), 253);
            return refused(&format!("{to}, where the body may not go"));
        }
        next.headers.clear();
        plain_url(&mut url);
    }
    next.url = url;
    Ok(Next::To(Box::new(next)))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn hop(method: &str, url: &str, body: bool) -> Hop {
        let mut headers = HeaderMap::new();
        headers.insert("x-key", HeaderValue::from_static("k"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("a/b"));
        Hop { method: method.parse().unwrap(), url: url.parse().unwrap(), headers, body: body.then(|| vec![1]) }
    }
    /// Method, URL, names of headers and whether there is a body; or the code of the refusal.
    fn then(from: &Hop, status: u16, location: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_bytes(location.as_bytes()).unwrap());
        match next(from, StatusCode::from_u16(status).unwrap(), &headers) {
            Ok(Next::Nothing) => "answer".to_owned(),
            Ok(Next::To(to)) => {
                let names: Vec<_> = to.headers.keys().map(reqwest::header::HeaderName::as_str).collect();
                format!("{} {} [{}] {}", to.method, to.url, names.join(" "), to.body.is_some())
            }
            Err(unread) => unread.code.to_string(),
        }
    }

    #[test]
    fn a_redirect_takes_along_only_what_may_go_there() {
        let get = hop("GET", "https://u:p@a.example/x?q=1", false);
        let post = hop("POST", "https://a.example/x", true);
        let put = hop("PUT", "https://a.example/x", true);
        let plain = hop("GET", "http://a.example/", false);
        let local = hop("GET", "http://127.0.0.1:1/", false);
        for (from, status, location, expected) in [
            (&get, 302, "/y", "GET https://u:p@a.example/y [x-key content-type] false"),
            (&get, 301, "https://a.example:443/y", "GET https://a.example/y [x-key content-type] false"),
            (&get, 302, "https://a.example:444/y", "GET https://a.example:444/y [] false"),
            (&get, 302, "https://v:w@b.example/y", "GET https://b.example/y [] false"),
            (&get, 302, "//b.example/y", "GET https://b.example/y [] false"),
            (&get, 302, "http://a.example/y", "redirect_refused"),
            (&get, 302, "ftp://a.example/y", "redirect_refused"),
            (&get, 302, "https://localhost/y", "redirect_refused"),
            (&get, 302, "https://[::1]/y", "redirect_refused"),
            (&get, 302, "https://", "bad_answer"),
            (&get, 304, "/y", "answer"),
            (&get, 300, "/y", "answer"),
            (&get, 200, "/y", "answer"),
            (&plain, 308, "https://a.example/", "GET https://a.example/ [] false"),
            (&local, 302, "http://127.0.0.1:2/", "GET http://127.0.0.1:2/ [] false"),
            (&post, 302, "/y", "GET https://a.example/y [x-key] false"),
            (&post, 303, "https://b.example/", "GET https://b.example/ [] false"),
            (&post, 307, "/y", "POST https://a.example/y [x-key content-type] true"),
            (&post, 308, "https://b.example/", "redirect_refused"),
            (&put, 302, "/y", "PUT https://a.example/y [x-key content-type] true"),
            (&put, 302, "https://b.example/", "redirect_refused"),
            (&put, 303, "/y", "GET https://a.example/y [x-key] false"),
        ] {
            assert_eq!(then(from, status, location), expected, "{} {status} {location}", from.url);
        }
        let nowhere = next(&get, StatusCode::FOUND, &HeaderMap::new());
        assert!(matches!(nowhere, Ok(Next::Nothing)));
    }
}
