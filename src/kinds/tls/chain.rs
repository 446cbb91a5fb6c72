//! How a presented chain stands: whether it leads to a trusted root, and if not, what of it is missing or wrong.

use jiff::{SignedDuration, Timestamp};
use rustls::CertificateError;
use rustls_pki_types::CertificateDer;

use super::certificate::Certificate;
use crate::host::tls::Anchors;
use crate::redact::Clean;

/// What came of a chain, its own end of time and its names aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    Trusted,
    SelfSigned,
    UnknownIssuer,
    IncompleteChain,
    ChainExpired,
    Refused,
    /// There is nothing to trust on this machine.
    NoRoots,
}

impl Trust {
    const ALL: [Self; 7] = [
        Self::Trusted,
        Self::SelfSigned,
        Self::UnknownIssuer,
        Self::IncompleteChain,
        Self::ChainExpired,
        Self::Refused,
        Self::NoRoots,
    ];

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::SelfSigned => "self_signed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::IncompleteChain => "incomplete_chain",
            Self::ChainExpired => "chain_expired",
            Self::Refused => "refused",
            Self::NoRoots => "no_roots",
        }
    }

    pub(super) fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|trust| trust.code() == code)
    }
}

/// A server's certificate and its chain.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub own: Certificate,
    pub trust: Trust,
    /// The name that the chain ends in, or why it is refused.
    pub detail: Option<Clean>,
    /// Whether no certificate between the server's and a root is missing.
    pub complete: bool,
    /// When clients stop trusting it: its own end, or an earlier one of a certificate above that it needs.
    pub ends: Timestamp,
}

impl Standing {
    /// Judges a chain, the server's own certificate first; none when that one can't be parsed.
    pub(super) fn of(chain: &[CertificateDer<'_>], anchors: &Anchors, now: Timestamp) -> Option<Self> {
        let own = Certificate::read(chain.first()?)?;
        let above: Vec<Certificate> = chain.iter().skip(1).filter_map(|der| Certificate::read(der)).collect();
        // Its own dates are told apart from its trust, so trust is asked for at a moment at which it is valid.
        let at = now.min(own.not_after).max(own.not_before);
        let verdict = anchors.verify(chain, at);
        let (trust, detail, complete) = match verdict {
            Ok(()) => (Trust::Trusted, None, true),
            Err(_) if own.self_issued => (Trust::SelfSigned, None, true),
            Err(_) if anchors.is_empty() => (Trust::NoRoots, None, climb(&own, &above).complete),
            Err(error) => why(&error, &own, &above),
        };
        let ends = if trust == Trust::Trusted { end_of_trust(chain, &above, &own, at, anchors) } else { own.not_after };
        Some(Self { own, trust, detail, complete, ends })
    }
}

fn why(error: &CertificateError, own: &Certificate, above: &[Certificate]) -> (Trust, Option<Clean>, bool) {
    use CertificateError as E;
    let top = climb(own, above);
    match error {
        E::UnknownIssuer if top.complete => (Trust::UnknownIssuer, Some(top.name), true),
        // Servers leave the root itself out, so with an intermediate presented it is the root that is unknown.
        E::UnknownIssuer if top.steps > 0 => (Trust::UnknownIssuer, Some(top.name), false),
        E::UnknownIssuer => (Trust::IncompleteChain, Some(top.name), false),
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. } => {
            (Trust::ChainExpired, None, top.complete)
        }
        other => (Trust::Refused, Some(Clean::new(refusal(other))), top.complete),
    }
}

fn refusal(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    #[expect(deprecated, reason = "the verifier still gives it")]
    match error {
        E::BadEncoding => "it is not encoded as the standard says",
        E::BadSignature => "a signature in the chain is wrong",
        E::UnsupportedSignatureAlgorithm
        | E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => "it is signed in a way no longer accepted",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => "it is not made out for servers",
        E::UnhandledCriticalExtension => "it has a critical extension that clients don't know",
        _ => "its chain breaks the rules (an authority's certificate in place of a server's, name constraints, depth)",
    }
}

/// Where the presented certificates lead.
struct Top {
    /// How many presented certificates stand above the server's own.
    steps: usize,
    /// Whether the last one is a root.
    complete: bool,
    /// The name of the root, or of the issuer that was not presented.
    name: Clean,
}

fn climb(own: &Certificate, above: &[Certificate]) -> Top {
    let mut head = own;
    // Each step takes another certificate at most once, so rings end too.
    for steps in 0..=above.len() {
        if head.self_issued {
            return Top { steps, complete: true, name: head.subject_name.clone() };
        }
        match above.iter().find(|candidate| candidate.subject_der == head.issuer_der) {
            Some(issuer) => head = issuer,
            None => return Top { steps, complete: false, name: head.issuer_name.clone() },
        }
    }
    Top { steps: above.len(), complete: false, name: head.issuer_name.clone() }
}

/// The moment after which the chain is trusted no more, found by asking for each earlier end of a certificate above
/// whether the rest still does without it (servers present old cross-signed ones that nobody needs).
fn end_of_trust(
    chain: &[CertificateDer<'_>],
    above: &[Certificate],
    own: &Certificate,
    at: Timestamp,
    anchors: &Anchors,
) -> Timestamp {
    let mut earlier: Vec<Timestamp> =
        above.iter().map(|one| one.not_after).filter(|end| (at..own.not_after).contains(end)).collect();
    earlier.sort_unstable();
    let after = |end: Timestamp| end.checked_add(SignedDuration::from_secs(1)).unwrap_or(end);
    earlier.into_iter().find(|end| anchors.verify(chain, after(*end)).is_err()).unwrap_or(own.not_after)
}
