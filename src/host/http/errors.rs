//! What went wrong with an exchange, in our words: the client's own may hold the whole URL.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::CertificateError as Cert;
use tokio::time::Instant;

use super::shown;
use crate::clean;
use crate::facts::Unread;
use crate::host::{files, net};
use crate::redact::Clean;

/// A name that the client asks for itself was asked for just before; this only bounds what can't be.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands the client the names that the host knows.
pub(super) struct Resolver(pub(super) Arc<net::Names>);

/// Carries the host's reason through the client's errors.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.said)]
struct Unresolved(Unread);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            let found = names.resolve(name.as_str(), Instant::now() + PATIENCE).await;
            let found = found.map_err(|unread| Box::new(Unresolved(unread)) as Box<dyn Error + Send + Sync>)?;
            // Port 0 stands for the URL's.
            let addresses: Vec<_> = found.iter().map(|address| SocketAddr::new(*address, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The reason behind a client's error: the first in its chain that says something definite. `place` is who was connected
/// to; `no_roots` says that this machine trusts nobody.
pub(super) fn unread(error: &reqwest::Error, url: &Url, place: &Clean, no_roots: bool) -> Unread {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut on_the_wire = false;
    while let Some(this) = cause {
        if let Some(Unresolved(unread)) = this.downcast_ref() {
            return unread.clone();
        }
        if let Some(error) = this.downcast_ref::<rustls::Error>() {
            return tls_failed(error, place, no_roots);
        }
        if let Some(hyper) = this.downcast_ref::<hyper::Error>() {
            if hyper.is_parse() {
                return Unread::target("bad_answer", clean!("{} does not answer in HTTP: {hyper}", shown(url)));
            }
            if hyper.is_incomplete_message() || hyper.is_closed() {
                return reset(place);
            }
            on_the_wire = true;
        }
        if let Some(io) = this.downcast_ref::<io::Error>() {
            // An error inside an I/O error is not its source but itself.
            match io.get_ref() {
                Some(inner) => {
                    if let Some(error) = inner.downcast_ref::<rustls::Error>() {
                        return tls_failed(error, place, no_roots);
                    }
                    if let Some(found) = of_io(error, io, url, place, on_the_wire) {
                        return found;
                    }
                    cause = Some(inner);
                    continue;
                }
                None => return of_io(error, io, url, place, on_the_wire).unwrap_or_else(|| reset(place)),
            }
        }
        cause = this.source();
    }
    if error.is_builder() {
        return Unread::blind("bad_request", clean!("the request to {} can't be built", shown(url)));
    }
    let last = innermost(error);
    if error.is_connect() {
        return Unread::target("bad_answer", clean!("no way to {} through {place}: {last}", shown(url)));
    }
    Unread::target("bad_answer", clean!("the answer of {} can't be read: {last}", shown(url)))
}

/// What an I/O error means. An end of file on the wire is a connection that was closed; beyond it, in decoding, it is
/// a body that was packed wrongly.
fn of_io(error: &reqwest::Error, io: &io::Error, url: &Url, place: &Clean, on_the_wire: bool) -> Option<Unread> {
    if net::out_of_descriptors(io) {
        return Some(net::connect_failed(place, io));
    }
    match io.kind() {
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof
            if on_the_wire || !error.is_decode() =>
        {
            Some(reset(place))
        }
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            let why = Clean::line(&files::plain(io), 200);
            Some(Unread::target("bad_answer", clean!("the answer of {} can't be decoded: {why}", shown(url))))
        }
        _ if error.is_connect() && io.raw_os_error().is_some() => Some(net::connect_failed(place, io)),
        ErrorKind::TimedOut => Some(Unread::target("no_answer", clean!("the connection to {place} went silent"))),
        _ => None,
    }
}

fn reset(place: &Clean) -> Unread {
    Unread::target("connection_reset", clean!("{place} closed the connection before a whole answer came"))
}

/// The innermost error's text: the outer ones repeat the URL.
fn innermost(error: &reqwest::Error) -> Clean {
    let mut last: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = last.and_then(Error::source) {
        last = Some(inner);
    }
    last.map_or_else(|| Clean::new("no reason was given"), |last| Clean::line(&last.to_string(), 200))
}

fn tls_failed(error: &rustls::Error, place: &Clean, no_roots: bool) -> Unread {
    let why = tls_words(error);
    let hint = if no_roots { " (this machine has no trusted certificates; install `ca-certificates`)" } else { "" };
    Unread::target("tls_failed", clean!("no TLS connection to {place}: {why}{hint}"))
}

/// Why TLS did not come about, in words for people.
#[must_use]
pub(in crate::host) fn tls_words(error: &rustls::Error) -> Clean {
    let words = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Cert::Expired | Cert::ExpiredContext { .. } => "the certificate has expired",
            Cert::NotValidYet | Cert::NotValidYetContext { .. } => "the certificate is not valid yet",
            Cert::UnknownIssuer => "the certificate's issuer is not trusted",
            Cert::NotValidForName | Cert::NotValidForNameContext { .. } => "the certificate is for another name",
            Cert::Revoked => "the certificate was revoked",
            Cert::BadSignature => "the certificate's signature is wrong",
            other => return clean!("the certificate is not valid: {}", Clean::line(&other.to_string(), 200)),
        },
        rustls::Error::InvalidMessage(_) => "what answers does not speak TLS",
        rustls::Error::PeerIncompatible(_) => "it has no TLS version or cipher in common with us",
        rustls::Error::NoCertificatesPresented => "it shows no certificate",
        rustls::Error::AlertReceived(alert) => return clean!("it refuses ({alert:?})"),
        other => return Clean::line(&other.to_string(), 200),
    };
    Clean::new(words)
}
