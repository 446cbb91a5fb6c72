//! Certificates: those that servers present, and those that lie in files. Whether a chain is trusted is asked of the
//! same verifier that clients use; a handshake goes on with a bad chain so that it can be told what is bad about it.

mod certificate;
mod chain;
mod reasons;
pub(super) mod starttls;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use self::certificate::Certificate;
use self::chain::{Standing, Trust};
pub use self::starttls::Starttls;
use super::common::{CONNECT_REASONS, FILE_REASONS, LANE_REASONS, MISSING};
use super::expiry::{self, DAY_S, Threshold};
use super::{Cx, FactDoc, Fetched, Kind, KindDoc, Past, remote};
use crate::clean;
use crate::facts::{Class, Facts, Finding, Scale, Subject, Unit, Unread, Weight, Worse};
use crate::host::files;
use crate::host::tls::{Anchors, fits_name, handshake};
use crate::redact::Clean;
use crate::settings::{Dur, PathGlob};

/// Warn this long before the end. Lifetimes shrink (200 days in 2026, 47 in 2029, CA/Browser Forum ballot SC-081), so
/// fixed days alone would warn all the time.
const WARN: Threshold = Threshold { cap_s: 21.0 * DAY_S, part: 0.25 };
/// Fail this long before the end.
const FAIL: Threshold = Threshold { cap_s: 7.0 * DAY_S, part: 0.08 };
/// Hosts a check may list.
const MAX_HOSTS: usize = 200;
/// Handshakes at once.
const AT_ONCE: usize = 32;
/// Files that a glob may match.
const MAX_FILES: usize = 200;
/// Bytes of one certificate file.
const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Certificates looked at in one file.
const MAX_IN_FILE: usize = 50;

/// See [`Kind`].
#[derive(Debug)]
pub struct Tls;

/// What to look at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Servers as `host` or `host:port`; the port is 443 if none is given.
    #[serde(default)]
    hosts: Vec<HostPort>,
    /// Files with certificates, PEM or DER. Of a PEM file with several, those are watched that sign no others; if all
    /// do, all of them.
    #[serde(default)]
    files: Vec<PathGlob>,
    /// The name to ask for and to expect in the certificate, instead of the host's.
    server_name: Option<AskedName>,
    /// How a connection is brought to TLS. By default what is usual on the port: `smtp` on 25 and 587, `imap` on 143,
    /// `pop3` on 110, `ldap` on 389, `postgres` on 5432, `none` (TLS from the first byte) elsewhere.
    starttls: Option<Starttls>,
    /// Warn when less time than this is left. By default the smaller of 21 days and 25 % of the lifetime.
    warn_before: Option<Dur>,
    /// Fail when less time than this is left. By default the smaller of 7 days and 8 % of the lifetime, and with
    /// `warn_before` at most a third of that.
    fail_before: Option<Dur>,
    /// A PEM file with certificates to trust beside the system's: a private root, or a server's own certificate.
    ca_file: Option<String>,
    /// Whether a self-signed certificate will do. Its names are not looked at then.
    #[serde(default)]
    self_signed_ok: bool,
}

/// A server by name or address and port.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
struct HostPort {
    host: String,
    port: u16,
    name: ServerName<'static>,
}

impl TryFrom<String> for HostPort {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bad = || {
            format!(
                "`{text}` is not a host or host:port (as in `example.com:8443` or `[::1]:443`; \
                 names beyond ASCII in their `xn--` form)"
            )
        };
        let no_port = text.ends_with(']') || text.parse::<std::net::Ipv6Addr>().is_ok();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !no_port => (host, port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?),
            _ => (text.as_str(), 443),
        };
        let host = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host).to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| bad())?;
        Ok(Self { host, port, name })
    }
}

impl HostPort {
    fn subject(&self) -> Subject {
        match self.host.parse() {
            Ok(IpAddr::V6(_)) => Subject::new(&format!("[{}]:{}", self.host, self.port)),
            _ => Subject::new(&format!("{}:{}", self.host, self.port)),
        }
    }
}

/// A name to ask a server for.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
struct AskedName(ServerName<'static>);

impl TryFrom<String> for AskedName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = ServerName::try_from(text.clone());
        name.map(Self).map_err(|_| format!("`{text}` is not a host name (as in `example.com`)"))
    }
}

const fn fact(name: &'static str, class: &'static str, about: &'static str) -> FactDoc {
    FactDoc { name, class, about }
}

impl Kind for Tls {
    const DOC: KindDoc = KindDoc {
        name: "tls",
        about: "Certificates that servers present (with STARTTLS where the port begins without TLS) or that lie in \
                files: time left, names, trust, chain, key. Whether a certificate was revoked is not looked at.",
        subjects: "each server as `host:port`; each certificate file by its path, with ` #2` and so on where one file \
                   holds several",
        facts: &[
            fact("time_left_s", "gauge", "seconds until it, or a certificate above it that it needs, ends"),
            fact("not_after", "info", "when it ends"),
            fact("not_before", "info", "when its time begins"),
            fact("lifetime_s", "info", "seconds from its beginning to its end"),
            fact("issuer", "state", "the issuer's organisation, or its whole name if it has none"),
            fact("issuer_name", "info", "the issuer's whole name"),
            fact("subject_name", "info", "the whole name of what it is for"),
            fact("names", "set", "DNS names and addresses it is made out for"),
            fact("fingerprint", "info", "SHA-256 of it, hex"),
            fact("key_type", "state", "kind and size of its key"),
            fact("weak", "info", "why its key or signature is too weak, if it is"),
            fact("trust", "info", "`trusted`, or the code of what is wrong with the chain"),
            fact("trust_detail", "info", "the certificate that the chain ends in, or why it is refused"),
            fact("trusted", "state", "whether the chain leads to a trusted root"),
            fact("chain_complete", "state", "whether every certificate between it and a root was presented"),
            fact("name_matches", "info", "whether it is made out for the name that was asked for"),
            fact("key_proven", "info", "whether the handshake was signed with its key"),
            fact("client_certificate", "info", "whether the server asked for a certificate of ours"),
            fact("protocol", "info", "TLS version"),
            fact("address", "info", "the address that answered"),
            fact("parsed", "info", "whether the certificate could be parsed"),
            fact("left_out", "info", "files or certificates beyond the limit"),
        ],
        reasons: &[reasons::OWN, CONNECT_REASONS, LANE_REASONS, FILE_REASONS, MISSING],
        example: r#"[check.certificates]
kind = "tls"
hosts = ["example.com", "mail.example.com:587"]
files = ["/etc/letsencrypt/live/*/cert.pem"]
"#,
        thresholds_remind: true,
    };
    type Settings = Settings;

    fn validate(settings: &Settings, report: &mut dyn FnMut(&str, String)) {
        if settings.hosts.is_empty() && settings.files.is_empty() {
            report("hosts", "nothing to look at (name `hosts` or `files`)".to_owned());
        }
        if settings.hosts.len() > MAX_HOSTS {
            report("hosts", format!("more than {MAX_HOSTS} hosts (make it several checks)"));
        }
        if let (Some(warn), Some(fail)) = (settings.warn_before, settings.fail_before)
            && fail >= warn
        {
            report("fail_before", "`fail_before` must be shorter than `warn_before`".to_owned());
        }
        if settings.hosts.is_empty() {
            let only_hosts = [
                ("server_name", settings.server_name.is_some()),
                ("starttls", settings.starttls.is_some()),
                ("ca_file", settings.ca_file.is_some()),
                ("self_signed_ok", settings.self_signed_ok),
            ];
            for (key, _) in only_hosts.into_iter().filter(|(_, set)| *set) {
                report(key, format!("`{key}` is for `hosts`, and there are none"));
            }
        }
    }

    async fn fetch(settings: &Settings, cx: &Cx) -> Result<Fetched, Unread> {
        let mut fetched = Fetched::default();
        let deadline = remote::stop_at(cx);
        if !settings.hosts.is_empty() {
            look_at_hosts(settings, cx, deadline, &mut fetched).await;
        }
        for pattern in &settings.files {
            look_at_files(settings, cx, pattern, deadline, &mut fetched).await;
        }
        Ok(fetched)
    }

    fn assess(settings: &Settings, facts: &Facts, _past: &Past, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        for subject in facts.subjects() {
            assess_one(settings, facts, &subject, now, &mut findings);
        }
        findings
    }
}

async fn look_at_hosts(settings: &Settings, cx: &Cx, deadline: Instant, fetched: &mut Fetched) {
    let extra = settings.ca_file.as_deref().map(|path| cx.host.expand(path));
    let anchors = match cx.host.anchors(extra.as_deref(), deadline).await {
        Ok(anchors) => anchors,
        Err(unread) => {
            fetched.unread.insert(Subject::none(), unread);
            return;
        }
    };
    let anchors = &anchors;
    let mut looks = Vec::with_capacity(settings.hosts.len());
    for at in &settings.hosts {
        looks.push(async move { (at, look_at(settings, cx, at, anchors, deadline).await) });
    }
    let looked: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    for (at, outcome) in looked {
        match outcome {
            Ok(seen) => seen.put(&mut fetched.facts, &at.subject()),
            Err(unread) => {
                fetched.unread.insert(at.subject(), unread);
            }
        }
    }
}

/// One server's certificate, and how its chain stands.
struct Seen {
    standing: Option<Standing>,
    scale: Option<Scale>,
    name_matches: bool,
    key_proven: bool,
    wants_client_certificate: bool,
    protocol: Option<&'static str>,
    address: String,
    now: Timestamp,
}

async fn look_at(
    settings: &Settings,
    cx: &Cx,
    at: &HostPort,
    anchors: &Anchors,
    deadline: Instant,
) -> Result<Seen, Unread> {
    let connected = cx.host.connect(&at.host, at.port, deadline).await;
    remote::note(cx, &at.host, &connected);
    let mut connection = connected?;
    let address = connection.peer.to_string();
    let how = settings.starttls.unwrap_or_else(|| Starttls::usual(at.port));
    starttls::begin(&mut connection.stream, how, deadline).await?;
    let name = settings.server_name.as_ref().map_or(&at.name, |asked| &asked.0);
    let presented = handshake(&mut connection.stream, name, deadline).await?;
    let now = cx.now.wall;
    let standing = Standing::of(&presented.chain, anchors, now);
    Ok(Seen {
        scale: standing.as_ref().map(|standing| scale(settings, &standing.own, standing.ends, now)),
        standing,
        name_matches: presented.chain.first().is_some_and(|own| fits_name(own, name)),
        key_proven: presented.key_proven,
        wants_client_certificate: presented.wants_client_certificate,
        protocol: presented.protocol,
        address,
        now,
    })
}

impl Seen {
    fn put(self, facts: &mut Facts, subject: &Subject) {
        facts.info(subject, "address", self.address);
        facts.info(subject, "client_certificate", self.wants_client_certificate);
        facts.info(subject, "parsed", self.standing.is_some());
        if let Some(protocol) = self.protocol {
            facts.info(subject, "protocol", protocol);
        }
        let (Some(standing), Some(scale)) = (self.standing, self.scale) else { return };
        put_certificate(facts, subject, &standing.own, standing.ends, scale, self.now);
        facts.info(subject, "name_matches", self.name_matches);
        facts.info(subject, "key_proven", self.key_proven);
        facts.info(subject, "trust", standing.trust.code());
        facts.state(subject, "trusted", standing.trust == Trust::Trusted);
        facts.state(subject, "chain_complete", standing.complete);
        if let Some(detail) = standing.detail {
            facts.put_foreign(subject, "trust_detail", detail, Class::Info);
        }
    }
}

fn put_certificate(
    facts: &mut Facts,
    subject: &Subject,
    own: &Certificate,
    ends: Timestamp,
    scale: Scale,
    now: Timestamp,
) {
    facts.gauge(subject, "time_left_s", left_s(ends, now), scale);
    facts.info(subject, "not_after", own.not_after);
    facts.info(subject, "not_before", own.not_before);
    facts.info(subject, "lifetime_s", own.lifetime_s());
    facts.put_foreign(subject, "issuer", own.issuer.clone(), Class::State);
    facts.put_foreign(subject, "issuer_name", own.issuer_name.clone(), Class::Info);
    facts.put_foreign(subject, "subject_name", own.subject_name.clone(), Class::Info);
    facts.set(subject, "names", own.names.clone(), true);
    facts.info(subject, "fingerprint", own.fingerprint.as_str());
    facts.state(subject, "key_type", own.key_type.clone());
    if let Some(why) = own.weak {
        facts.info(subject, "weak", why);
    }
}

fn left_s(ends: Timestamp, now: Timestamp) -> i64 {
    ends.as_second().saturating_sub(now.as_second())
}

/// The bands of the time that is left.
fn scale(settings: &Settings, own: &Certificate, ends: Timestamp, now: Timestamp) -> Scale {
    let lifetime_s = own.lifetime_s();
    let given_warn = settings.warn_before.map(Dur::as_secs_f64);
    let given_fail = settings.fail_before.map(Dur::as_secs_f64);
    let fail =
        given_fail.unwrap_or_else(|| given_warn.map_or(f64::INFINITY, |warn| warn / 3.0).min(FAIL.of(lifetime_s)));
    let warn = given_warn.unwrap_or_else(|| WARN.of(lifetime_s).max(fail));
    let what = if ends < own.not_after { "a certificate above it" } else { "certificate" };
    Scale {
        unit: Unit::Seconds,
        worse: Worse::Below,
        warn: Some(expiry::settled(warn, "expires_soon")),
        fail: Some(expiry::settled(fail, "expires_very_soon")),
        says: clean!("{what} {}", expiry::ends(left_s(ends, now))),
        episode: Some(Clean::new(&own.fingerprint)),
    }
}

/// A certificate file's content: its certificates, and how many more there were.
type InFile = (Vec<Certificate>, usize);

/// Each matching file with what is in it, and whether more files match.
type Matched = (Vec<(PathBuf, Result<InFile, Unread>)>, bool);

fn read_matching(pattern: &Path) -> Result<Matched, Unread> {
    let (paths, more) = files::glob(pattern, MAX_FILES)?;
    let read = paths.into_iter().map(|path| {
        let found = certificates_in(&path);
        (path, found)
    });
    Ok((read.collect(), more))
}

async fn look_at_files(settings: &Settings, cx: &Cx, pattern: &PathGlob, deadline: Instant, fetched: &mut Fetched) {
    let now = cx.now.wall;
    let full = cx.host.expand(pattern.as_str());
    let read = cx.host.lane(pattern.as_str(), deadline, move || read_matching(&full));
    let (read, more) = match read.await.and_then(|inner| inner) {
        Ok(read) => read,
        Err(unread) => {
            fetched.unread.insert(Subject::new(pattern.as_str()), unread);
            return;
        }
    };
    if read.is_empty() {
        let said = clean!("no file matches `{}`", pattern.as_str());
        fetched.unread.insert(Subject::new(pattern.as_str()), Unread::target("missing", said));
    }
    if more {
        fetched.facts.info(&Subject::new(pattern.as_str()), "left_out", "files");
    }
    for (path, found) in read {
        let path = path.display().to_string();
        match found {
            Ok((found, left_out)) => {
                for (place, own) in (1_usize..).zip(found) {
                    let subject =
                        if place == 1 { Subject::new(&path) } else { Subject::new(&format!("{path} #{place}")) };
                    let scale = scale(settings, &own, own.not_after, now);
                    put_certificate(&mut fetched.facts, &subject, &own, own.not_after, scale, now);
                }
                if left_out > 0 {
                    fetched.facts.info(&Subject::new(&path), "left_out", "certificates");
                }
            }
            Err(unread) => {
                fetched.unread.insert(Subject::new(&path), unread);
            }
        }
    }
}

/// Those certificates of a file that are worth watching.
fn certificates_in(path: &Path) -> Result<InFile, Unread> {
    let (bytes, cut) = files::read(path, MAX_FILE_BYTES)?;
    if cut {
        return Err(Unread::blind("too_large", clean!("larger than 1 MiB")));
    }
    watched_of(&bytes).ok_or_else(|| Unread::target("no_certificate", clean!("holds no whole certificate")))
}

fn watched_of(bytes: &[u8]) -> Option<InFile> {
    // A DER certificate is a sequence; no PEM text begins with that byte.
    let ders: Vec<CertificateDer<'_>> = if bytes.first() == Some(&0x30) {
        vec![CertificateDer::from(bytes)]
    } else {
        CertificateDer::pem_slice_iter(bytes).collect::<Result<_, _>>().ok()?
    };
    let all: Vec<Certificate> = ders.iter().map(|der| Certificate::read(der)).collect::<Option<_>>()?;
    let ends: Vec<Certificate> = all.iter().filter(|one| !one.is_authority).cloned().collect();
    let mut watched = if ends.is_empty() { all } else { ends };
    let left_out = watched.len().saturating_sub(MAX_IN_FILE);
    watched.truncate(MAX_IN_FILE);
    (!watched.is_empty()).then_some((watched, left_out))
}

fn assess_one(settings: &Settings, facts: &Facts, subject: &Subject, now: Timestamp, findings: &mut Vec<Finding>) {
    let episode = facts.text(subject, "fingerprint").cloned();
    let mut find = |code: &'static str, weight, said: Clean| {
        findings.push(Finding { episode: episode.clone(), ..Finding::new(code, weight, true, said).on(subject) });
    };
    let quoted = |name| facts.text(subject, name).map_or_else(Clean::default, Clean::quoted);

    if let Some(what) = facts.text(subject, "left_out") {
        find(
            "too_many",
            Weight::Warn,
            clean!("more {what} than are watched ({MAX_FILES} files, {MAX_IN_FILE} certificates a file)"),
        );
    }
    if facts.flag(subject, "parsed") == Some(false) {
        find("bad_certificate", Weight::Fail, clean!("the server's certificate can't be parsed"));
        return;
    }
    let Some(left_s) = facts.number(subject, "time_left_s") else { return };
    if left_s <= 0.0
        && let Some(fact) = facts.get(subject, "time_left_s")
        && let Class::Gauge(scale) = &fact.class
    {
        find("expired", Weight::Fail, scale.says.clone());
    }
    if let Some(begins) = facts.number(subject, "not_before")
        && begins > expiry::seconds(now.as_second())
    {
        find("not_yet_valid", Weight::Fail, clean!("certificate is not valid yet"));
    }
    if let Some(why) = facts.text(subject, "weak") {
        find("weak_key", Weight::Warn, clean!("certificate is weak: {why}"));
    }
    let Some(trust) = facts.text(subject, "trust") else { return };
    let self_signed_will_do = settings.self_signed_ok && trust.as_str() == Trust::SelfSigned.code();
    if facts.flag(subject, "name_matches") == Some(false) && !self_signed_will_do {
        find("name_mismatch", Weight::Fail, clean!("certificate is made out for {}", names(facts, subject)));
    }
    // A key too short to verify a signature with proves nothing, which `weak_key` has said.
    if facts.flag(subject, "key_proven") == Some(false) && facts.get(subject, "weak").is_none() {
        find("key_not_proven", Weight::Fail, clean!("the handshake was not signed with the certificate's key"));
    }
    let detail = quoted("trust_detail");
    match Trust::from_code(trust.as_str()) {
        Some(Trust::Trusted) | None => {}
        Some(Trust::SelfSigned) if settings.self_signed_ok => {}
        Some(Trust::SelfSigned) => find("self_signed", Weight::Fail, clean!("certificate is self-signed")),
        Some(Trust::UnknownIssuer) => {
            find("unknown_issuer", Weight::Fail, clean!("the chain ends in {detail}, which is not trusted here"));
        }
        Some(Trust::IncompleteChain) => {
            let said =
                clean!("the server does not present {detail}, which signed its certificate and is no trusted root");
            find("incomplete_chain", Weight::Fail, said);
        }
        Some(Trust::ChainExpired) => {
            find("chain_expired", Weight::Fail, clean!("a certificate above it in the chain has expired"));
        }
        Some(Trust::Refused) => find("refused", Weight::Fail, clean!("clients refuse the certificate: {detail}")),
        Some(Trust::NoRoots) => {
            find("no_roots", Weight::Warn, clean!("trust can't be judged: this machine has no root certificates"));
        }
    }
}

/// The first names of a certificate, as they may stand in a sentence.
fn names(facts: &Facts, subject: &Subject) -> Clean {
    let none = BTreeSet::new();
    let names = match facts.get(subject, "names").map(|fact| &fact.value) {
        Some(crate::facts::Value::Set(names)) => names,
        _ => &none,
    };
    let first: Vec<_> = names.iter().take(2).map(|name| name.quoted().as_str().to_owned()).collect();
    match (first.is_empty(), names.len() - first.len()) {
        (true, _) => clean!("no name at all"),
        (_, 0) => clean!("{}", first.join(" and ")),
        (_, more) => clean!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests;
