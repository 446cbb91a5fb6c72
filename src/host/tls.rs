//! A TLS handshake that records what the server presents and goes on whatever it is, so that a bad certificate can be
//! reported instead of ending the look. Nothing is ever sent over such a connection; the HTTP client does not use it.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, ProtocolVersion, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::Host;
use crate::clean;
use crate::facts::Unread;

/// What a server showed in a handshake.
#[derive(Debug, Clone)]
pub struct Presented {
    /// The certificates in the order they came, the server's own first, DER; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether the handshake was signed with the key of the first certificate.
    pub key_proven: bool,
    /// Whether the server wanted a certificate of ours; it may have ended the handshake for want of one.
    pub wants_client_certificate: bool,
    /// `TLS 1.3` or `TLS 1.2`; none when the server ended the handshake for want of a client's certificate.
    pub protocol: Option<&'static str>,
}

/// The certificates that are trusted.
#[derive(Debug)]
pub struct Anchors {
    roots: RootCertStore,
    /// Certificates named one by one: a server's own may be among them.
    named: Vec<CertificateDer<'static>>,
}

impl Anchors {
    /// The given roots, and certificates to trust beside them.
    #[must_use]
    pub fn new(mut roots: RootCertStore, named: Vec<CertificateDer<'static>>) -> Self {
        roots.add_parsable_certificates(named.iter().cloned());
        Self { roots, named }
    }

    /// Whether there is nothing to trust at all, so that no verdict means anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty() && self.named.is_empty()
    }

    /// Whether a chain (the server's own certificate first) leads to a trusted one at a given moment. The name is
    /// another question: [`fits_name`].
    pub fn verify(&self, chain: &[CertificateDer<'_>], at: Timestamp) -> Result<(), CertificateError> {
        let Some((own, above)) = chain.split_first() else { return Err(CertificateError::UnknownIssuer) };
        let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0)));
        let verdict = ParsedCertificate::try_from(own).and_then(|parsed| {
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, above, at, algorithms().all)
        });
        match verdict {
            Ok(()) => Ok(()),
            // A certificate that was named itself needs no issuer; it is dated like any other.
            Err(error) if self.named.iter().any(|named| named == own) && !is_dated(&error) => Ok(()),
            Err(Error::InvalidCertificate(error)) => Err(error),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure),
        }
    }
}

fn is_dated(error: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        Error::InvalidCertificate(Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
    )
}

/// Whether a certificate is made out for a name (its subject alternative names are what counts).
#[must_use]
pub fn fits_name(own: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    ParsedCertificate::try_from(own).is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

impl Host {
    /// What this machine trusts, and the certificates of a PEM file beside it. Codes: `roots_unreadable` (blind), and
    /// those of `lane`.
    pub async fn anchors(&self, extra: Option<&Path>, deadline: Instant) -> Result<Arc<Anchors>, Unread> {
        let roots = RootCertStore::clone(&self.roots(deadline).await?.store);
        let named = match extra {
            Some(path) => self.certificates(path, deadline).await?,
            None => Vec::new(),
        };
        Ok(Arc::new(Anchors::new(roots, named)))
    }
}

/// Does a handshake over a connection and says what was presented; the connection is closed. Codes, all of the
/// target: `not_tls`, `tls_failed`, `connection_reset`, `no_answer`.
pub async fn handshake<S>(stream: S, name: &ServerName<'static>, deadline: Instant) -> Result<Presented, Unread>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let record = Arc::new(Record::default());
    let config = config(&record)?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let outcome = timeout_at(deadline, connector.connect(name.clone(), stream)).await;
    let protocol = match outcome {
        Ok(Ok(mut open)) => {
            let protocol = open.get_ref().1.protocol_version();
            // The goodbye is a courtesy; a peer that doesn't take it changes nothing.
            let _unsaid = timeout_at(deadline, open.shutdown()).await;
            protocol
        }
        Ok(Err(error)) if !record.ended_for_want_of_ours(&error) => return Err(unread(&error)),
        Ok(Err(_)) => None,
        Err(_) => {
            return Err(Unread::target("no_answer", clean!("connected, but the TLS handshake did not end in time")));
        }
    };
    record
        .presented(protocol)
        .ok_or_else(|| Unread::target("tls_failed", clean!("the server presented no certificate")))
}

/// A new configuration for each handshake: a session that is resumed presents no certificate.
fn config(record: &Arc<Record>) -> Result<ClientConfig, Unread> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| Unread::ours("tls_setup", clean!("TLS can't be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(record) as Arc<dyn ServerCertVerifier>)
        .with_client_cert_resolver(Arc::clone(record) as Arc<dyn ResolvesClientCert>);
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

fn unread(error: &io::Error) -> Unread {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidMessage(_)) => Unread::target("not_tls", clean!("what answered does not speak TLS")),
        Some(Error::AlertReceived(alert)) => {
            Unread::target("tls_failed", clean!("the server ended the TLS handshake ({alert:?})"))
        }
        Some(Error::PeerIncompatible(_)) => {
            Unread::target("tls_failed", clean!("the server offers no TLS version or cipher that is still in use"))
        }
        Some(_) => Unread::target("tls_failed", clean!("the TLS handshake failed")),
        None => Unread::target("connection_reset", clean!("the connection was closed during the TLS handshake")),
    }
}

/// What a handshake left behind. It takes every certificate and every signature for good, and notes what they were.
#[derive(Debug, Default)]
struct Record(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    key_proven: bool,
    wants_client_certificate: bool,
}

impl Record {
    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the server broke off after it had asked for a certificate that it did not get.
    fn ended_for_want_of_ours(&self, error: &io::Error) -> bool {
        let not_ours = matches!(
            error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()),
            None | Some(Error::AlertReceived(_))
        );
        not_ours && self.with(|seen| seen.wants_client_certificate && !seen.chain.is_empty())
    }

    fn presented(&self, protocol: Option<ProtocolVersion>) -> Option<Presented> {
        let protocol = protocol.map(|version| match version {
            ProtocolVersion::TLSv1_3 => "TLS 1.3",
            _ => "TLS 1.2",
        });
        self.with(|seen| {
            (!seen.chain.is_empty()).then(|| Presented {
                chain: seen.chain.clone(),
                key_proven: seen.key_proven,
                wants_client_certificate: seen.wants_client_certificate,
                protocol,
            })
        })
    }
}

impl ServerCertVerifier for Record {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let all = std::iter::once(end_entity).chain(intermediates);
        let chain = all.map(|certificate| certificate.clone().into_owned()).collect();
        self.with(|seen| seen.chain = chain);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let proven = verify_tls12_signature(message, cert, dss, &algorithms()).is_ok();
        self.with(|seen| seen.key_proven = proven);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let proven = verify_tls13_signature(message, cert, dss, &algorithms()).is_ok();
        self.with(|seen| seen.key_proven = proven);
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ResolvesClientCert for Record {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.with(|seen| seen.wants_client_certificate = true);
        None
    }

    fn has_certs(&self) -> bool {
        // Said so that `resolve` is called, which is how a request for a certificate is seen.
        true
    }
}
