//! What one certificate says, read from its DER.

use std::collections::BTreeSet;

use jiff::Timestamp;
use x509_parser::der_parser::asn1_rs::oid;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

use crate::read;
use crate::redact::Clean;

/// Bytes of a distinguished name that are kept.
const MAX_NAME_BYTES: usize = 200;

/// One certificate.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Certificate {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The issuer's organisation, or its whole name where it has none. Public authorities sign with one of several
    /// intermediates in turn, so the organisation is what stays.
    pub issuer: Clean,
    /// The issuer's whole distinguished name.
    pub issuer_name: Clean,
    /// The distinguished name of what it is for.
    pub subject_name: Clean,
    /// The names of subject and issuer as they stand in the DER: what links a chain.
    pub subject_der: Vec<u8>,
    pub issuer_der: Vec<u8>,
    /// Whether it names itself as its issuer.
    pub self_issued: bool,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// DNS names and addresses it is made out for.
    pub names: BTreeSet<Clean>,
    /// `RSA 2048`, `ECDSA P-256`, `Ed25519`.
    pub key_type: Clean,
    /// Why its key or signature is too weak for today, if it is.
    pub weak: Option<&'static str>,
    /// SHA-256 of the DER, hex.
    pub fingerprint: String,
}

impl Certificate {
    /// Reads a certificate; none when it can't be parsed.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_rest, parsed) = parse_x509_certificate(der).ok()?;
        let validity = parsed.validity();
        let (key_type, weak_key) = key_of(&parsed);
        let signature = &parsed.signature_algorithm.algorithm;
        let sha1 =
            [oid!(1.2.840.113549.1.1.5), oid!(1.2.840.10045.4.1), oid!(1.2.840.113549.1.1.4)].contains(signature);
        let self_issued = parsed.subject().as_raw() == parsed.issuer().as_raw();
        let whole = |name: &X509Name<'_>| Clean::line(&name.to_string(), MAX_NAME_BYTES);
        let organisation = parsed.issuer().iter_organization().next().and_then(|entry| entry.as_str().ok());
        Some(Self {
            not_before: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            not_after: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
            issuer: organisation.map_or_else(|| whole(parsed.issuer()), |name| Clean::line(name, MAX_NAME_BYTES)),
            issuer_name: whole(parsed.issuer()),
            subject_name: whole(parsed.subject()),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            self_issued,
            is_authority: parsed.is_ca(),
            names: names_of(&parsed),
            key_type,
            // Nobody relies on the signature by which a root vouches for itself.
            weak: weak_key.or((sha1 && !self_issued).then_some("it is signed with SHA-1 or MD5")),
            fingerprint: read::sha256(der),
        })
    }

    /// Seconds from the beginning of its validity to the end.
    pub(super) fn lifetime_s(&self) -> i64 {
        self.not_after.as_second().saturating_sub(self.not_before.as_second())
    }
}

fn names_of(parsed: &x509_parser::certificate::X509Certificate<'_>) -> BTreeSet<Clean> {
    let Ok(Some(found)) = parsed.subject_alternative_name() else { return BTreeSet::new() };
    let names = found.value.general_names.iter();
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(Clean::line(name, MAX_NAME_BYTES)),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| Clean::line(&address, MAX_NAME_BYTES)),
            _ => None,
        })
        .collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    let four = <[u8; 4]>::try_from(bytes).ok().map(|octets| std::net::Ipv4Addr::from(octets).to_string());
    four.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(|octets| std::net::Ipv6Addr::from(octets).to_string()))
}

/// The key in words, and why it is weak if it is.
fn key_of(parsed: &x509_parser::certificate::X509Certificate<'_>) -> (Clean, Option<&'static str>) {
    let info = parsed.public_key();
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == oid!(1.3.101.112) {
        return (Clean::new("Ed25519"), None);
    }
    if *algorithm == oid!(1.3.101.113) {
        return (Clean::new("Ed448"), None);
    }
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => {
            let bits = key.key_size();
            (Clean::new(&format!("RSA {bits}")), (bits < 2048).then_some("its RSA key is shorter than 2048 bits"))
        }
        Ok(PublicKey::EC(point)) => {
            let bits = point.key_size();
            let weak = (bits < 224).then_some("its elliptic curve key is shorter than 224 bits");
            (Clean::new(&format!("ECDSA P-{bits}")), weak)
        }
        Ok(PublicKey::DSA(_)) => (Clean::new("DSA"), Some("its DSA key is of a kind no longer in use")),
        _ => (Clean::line(&algorithm.to_id_string(), 64), None),
    }
}
