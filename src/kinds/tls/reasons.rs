//! The reasons of this kind's own.

use crate::facts::{Blame, Weight};
use crate::kinds::{ReasonDoc, ReasonOutcome};

const fn reason(
    code: &'static str,
    weight: Weight,
    about: &'static str,
    action: &'static str,
    needs_human: bool,
) -> ReasonDoc {
    let outcome = match weight {
        Weight::Warn => ReasonOutcome::Warn,
        Weight::Fail => ReasonOutcome::Fail,
    };
    ReasonDoc { code, outcome, settled: true, about, action, needs_human }
}

const fn unread(code: &'static str, blame: Blame, about: &'static str, action: &'static str) -> ReasonDoc {
    let settled = matches!(blame, Blame::Blind);
    ReasonDoc { code, outcome: ReasonOutcome::Unknown(blame), settled, about, action, needs_human: settled }
}

/// Every reason that is no host function's.
pub(super) const OWN: &[ReasonDoc] = &[
    reason(
        "expires_soon",
        Weight::Warn,
        "less time is left than `warn_before`",
        "renew the certificate and see why it was not renewed by itself",
        false,
    ),
    reason(
        "expires_very_soon",
        Weight::Fail,
        "less time is left than `fail_before`",
        "renew the certificate now",
        true,
    ),
    reason("expired", Weight::Fail, "its time is over", "renew the certificate now", true),
    reason(
        "not_yet_valid",
        Weight::Fail,
        "its time has not begun",
        "check the clocks of this machine and of the issuer",
        true,
    ),
    reason(
        "name_mismatch",
        Weight::Fail,
        "it is made out for other names",
        "install the certificate for this name or correct `server_name`",
        true,
    ),
    reason(
        "self_signed",
        Weight::Fail,
        "nobody vouches for it but itself",
        "install a certificate of a trusted issuer, or trust this one by `ca_file`",
        true,
    ),
    reason(
        "unknown_issuer",
        Weight::Fail,
        "its chain ends in a root that is not trusted here",
        "trust the private root by `ca_file`, or find out who answers in the server's place",
        true,
    ),
    reason(
        "incomplete_chain",
        Weight::Fail,
        "the certificate that signed it was not presented and is no trusted root",
        "let the server present the intermediate certificates too, or trust a private root by `ca_file`",
        true,
    ),
    reason(
        "chain_expired",
        Weight::Fail,
        "a certificate above it is past its time",
        "install the issuer's current intermediate certificates",
        true,
    ),
    reason(
        "refused",
        Weight::Fail,
        "clients refuse its chain for another reason",
        "have the certificate issued anew",
        true,
    ),
    reason(
        "key_not_proven",
        Weight::Fail,
        "the handshake was not signed with the certificate's key",
        "see that the server's key and certificate belong together",
        true,
    ),
    reason("bad_certificate", Weight::Fail, "it can't be parsed", "have the certificate issued anew", true),
    reason(
        "weak_key",
        Weight::Warn,
        "RSA under 2048 bits, a short curve, DSA, or signed with SHA-1 or MD5",
        "have the certificate issued anew with a key and signature of today",
        true,
    ),
    reason(
        "no_roots",
        Weight::Warn,
        "this machine trusts no certificate at all, so that trust can't be judged",
        "install the system's root certificates (the package ca-certificates)",
        true,
    ),
    reason(
        "too_many",
        Weight::Warn,
        "more files or certificates match than are watched",
        "name the certificates that matter",
        false,
    ),
    unread("not_tls", Blame::Target, "what answers does not speak TLS", "check the port and `starttls`"),
    unread("tls_failed", Blame::Target, "the handshake broke off", "see the server's TLS versions, ciphers and log"),
    unread("starttls_refused", Blame::Target, "the server does not go over to TLS", "check the port and `starttls`"),
    unread("connection_reset", Blame::Target, "the connection was closed too early", "see the server's log"),
    unread("no_certificate", Blame::Target, "the file holds no whole certificate", "see what writes the file"),
    unread("too_large", Blame::Blind, "the file is larger than 1 MiB", "name the file with the certificate alone"),
    unread("roots_unreadable", Blame::Blind, "`ca_file` can't be read", "correct the path of the PEM file"),
    unread("tls_setup", Blame::Ours, "TLS can't be set up", "report the defect with `pulsecheck explain`"),
];
