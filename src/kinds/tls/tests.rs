use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::facts::{Blame, Code};
use crate::host::tls::Presented;
use crate::kinds::testing;

const DAY: i64 = 86_400;

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

/// A certificate with its key, and who signed it.
struct Made {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
}

/// Parameters of a certificate that began and ends so many seconds from now.
fn params(common_name: &str, names: &[&str], from_s: i64, to_s: i64) -> CertificateParams {
    let moment = |shift: i64| {
        let at = u64::try_from(now().as_second() + shift).unwrap();
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at)
    };
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = moment(from_s);
    params.not_after = moment(to_s);
    params
}

fn authority(name: &str, to_s: i64) -> CertificateParams {
    let mut params = params(name, &[], -1_000 * DAY, to_s);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn make(params: CertificateParams, by: Option<&Made>) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Made { der: certificate.der().clone(), params, key }
}

/// A root, an intermediate, and a server's certificate with the given days left of ninety.
struct World {
    root: Made,
    middle: Made,
    own: Made,
}

impl World {
    fn with_own(own: CertificateParams) -> Self {
        Self::under("Test Root", own)
    }
    fn under(root: &str, own: CertificateParams) -> Self {
        let root = make(authority(root, 3_000 * DAY), None);
        let middle = make(authority("Test Intermediate", 1_000 * DAY), Some(&root));
        let own = make(own, Some(&middle));
        Self { root, middle, own }
    }
    fn days_left(days: i64) -> Self {
        Self::with_own(params("server", &["localhost"], (days - 90) * DAY, days * DAY))
    }
    fn anchors(&self) -> Anchors {
        trusting(vec![self.root.der.clone()])
    }
    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.own.der.clone(), self.middle.der.clone()]
    }
}

fn trusting(named: Vec<CertificateDer<'static>>) -> Anchors {
    Anchors::new(RootCertStore::empty(), named)
}

fn settings(toml: &str) -> Settings {
    toml::from_str(toml).unwrap()
}

/// Facts of one server as a fetch would put them.
fn facts_of(settings: &Settings, chain: &[CertificateDer<'static>], anchors: &Anchors, at: Timestamp) -> Facts {
    let standing = Standing::of(chain, anchors, at);
    let seen = Seen {
        scale: standing.as_ref().map(|standing| scale(settings, &standing.own, standing.ends, at)),
        standing,
        name_matches: fits_name(&chain[0], &ServerName::try_from("localhost").unwrap()),
        key_proven: true,
        wants_client_certificate: false,
        protocol: Some("TLS 1.3"),
        address: "127.0.0.1:443".to_owned(),
        now: at,
    };
    let mut facts = Facts::new();
    seen.put(&mut facts, &subject());
    facts
}

fn subject() -> Subject {
    Subject::new("localhost:443")
}

fn codes(settings: &Settings, facts: &Facts, at: Timestamp) -> Vec<Code> {
    let findings = Tls::assess(settings, facts, &Past::default(), at);
    for finding in &findings {
        let doc = Tls::DOC.reason(finding.code.as_str()).unwrap();
        assert_eq!((doc.outcome, doc.settled), (finding.weight.into(), finding.settled), "{finding:?}");
        assert!(finding.episode.is_some() || finding.code.as_str() == "bad_certificate");
    }
    findings.into_iter().map(|finding| finding.code).collect()
}

fn gauge(fact: &crate::facts::Fact) -> Option<&Scale> {
    if let Class::Gauge(scale) = &fact.class { Some(scale) } else { None }
}

fn band(facts: &Facts, subject: &Subject) -> Option<&'static str> {
    let fact = facts.get(subject, "time_left_s").unwrap();
    let scale = gauge(fact).unwrap();
    let left = fact.value.number().unwrap();
    match (left < scale.fail.as_ref().unwrap().at, left < scale.warn.as_ref().unwrap().at) {
        (true, _) => Some("fail"),
        (_, true) => Some("warn"),
        _ => None,
    }
}

#[test]
fn bad_settings_are_refused() {
    for (toml, key, words) in [
        ("", "hosts", "nothing to look at (name `hosts` or `files`)"),
        (
            "hosts = ['a']\nwarn_before = '7d'\nfail_before = '7d'",
            "fail_before",
            "`fail_before` must be shorter than `warn_before`",
        ),
        (
            "files = ['/a']\nself_signed_ok = true",
            "self_signed_ok",
            "`self_signed_ok` is for `hosts`, and there are none",
        ),
    ] {
        let parsed = settings(toml);
        let mut problems = Vec::new();
        Tls::validate(&parsed, &mut |key, message| problems.push((key.to_owned(), message)));
        assert_eq!(problems, [(key.to_owned(), words.to_owned())]);
    }
    for (toml, words) in [
        ("hosts = ['exa mple.com']", "`exa mple.com` is not a host or host:port"),
        ("hosts = ['example.com:0']", "`example.com:0` is not a host or host:port"),
        ("hosts = ['example.com:https']", "is not a host or host:port"),
        ("hosts = ['a']\nserver_name = 'a b'", "`a b` is not a host name (as in `example.com`)"),
        ("hosts = ['a']\nstarttls = 'ftp'", "unknown variant `ftp`"),
        ("host = ['a']", "unknown field `host`"),
    ] {
        let error = toml::from_str::<Settings>(toml).unwrap_err().to_string();
        assert!(error.contains(words), "{toml}: {error}");
    }
}

#[test]
fn hosts_are_named_with_their_port() {
    for (text, subject, port) in [
        ("example.com", "example.com:443", 443),
        ("example.com:8443", "example.com:8443", 8443),
        ("192.0.2.1:25", "192.0.2.1:25", 25),
        ("[::1]:993", "[::1]:993", 993),
        ("::1", "[::1]:443", 443),
        ("[::1]", "[::1]:443", 443),
    ] {
        let at = HostPort::try_from(text.to_owned()).unwrap();
        assert_eq!((at.subject().as_str(), at.port), (subject, port));
    }
}

#[test]
fn time_left_falls_into_bands_that_shrink_with_the_lifetime() {
    let hosts = settings("hosts = ['localhost']");
    for (lifetime_days, left_hours, expected) in [
        (90, 40 * 24, None),
        (90, 20 * 24, Some("warn")),
        (90, 6 * 24, Some("fail")),
        (90, -24, Some("fail")),
        (6, 72, None),
        (6, 24, Some("warn")),
        (6, 11, Some("fail")),
    ] {
        let to_s = left_hours * 3_600;
        let world = World::with_own(params("server", &["localhost"], to_s - lifetime_days * DAY, to_s));
        let facts = facts_of(&hosts, &world.chain(), &world.anchors(), now());
        assert_eq!(band(&facts, &subject()), expected, "{left_hours} hours left of {lifetime_days} days");
        let expired: &[&str] = if left_hours <= 0 { &["expired"] } else { &[] };
        let found = codes(&hosts, &facts, now());
        assert_eq!(found.iter().map(Code::as_str).collect::<Vec<_>>(), expired);
        assert_eq!(facts.flag(&subject(), "trusted"), Some(true), "its dates are not its trust");
    }
    let world = World::days_left(5);
    for (toml, expected) in [
        ("hosts = ['a']\nwarn_before = '4d'", None),
        ("hosts = ['a']\nwarn_before = '6d'", Some("warn")),
        ("hosts = ['a']\nfail_before = '4d'", Some("warn")),
        ("hosts = ['a']\nwarn_before = '30d'\nfail_before = '6d'", Some("fail")),
    ] {
        let settings = settings(toml);
        let facts = facts_of(&settings, &world.chain(), &world.anchors(), now());
        assert_eq!(band(&facts, &subject()), expected, "{toml}");
    }
}

/// A case, the chain and what is trusted, and the codes and words that are to come.
type Row<'a> = (&'a str, &'a Settings, Vec<CertificateDer<'static>>, Anchors, &'a [&'a str], &'a str);

#[test]
fn what_is_wrong_with_a_chain_is_told_apart() {
    let plain = settings("hosts = ['localhost']");
    let lenient = settings("hosts = ['localhost']\nself_signed_ok = true");
    let world = World::days_left(60);
    let anchors = world.anchors();
    let elsewhere = World::under("Home Root", params("server", &["localhost"], -DAY, 60 * DAY));
    let namesake = World::days_left(60);
    let alone = make(params("box", &["localhost"], -DAY, 60 * DAY), None);
    // What `openssl req -x509` makes: a self-signed certificate that is marked as an authority.
    let mut openssl = authority("box", 900 * DAY);
    openssl.subject_alt_names.clone_from(&alone.params.subject_alt_names);
    let openssl = make(openssl, None);
    let other_name = World::with_own(params("server", &["example.org", "www.example.org", "c.org"], -DAY, 60 * DAY));
    let early = World::with_own(params("server", &["localhost"], DAY, 60 * DAY));
    let mut for_clients = params("server", &["localhost"], -DAY, 60 * DAY);
    for_clients.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let for_clients = World::with_own(for_clients);
    let no_names = World::with_own(params("localhost", &[], -DAY, 60 * DAY));
    let whole = |world: &World| vec![world.own.der.clone(), world.middle.der.clone(), world.root.der.clone()];
    let own = |made: &Made| vec![made.der.clone()];

    let table: Vec<Row<'_>> = vec![
        ("trusted", &plain, world.chain(), world.anchors(), &[], ""),
        (
            "trusted, in a strange order",
            &plain,
            vec![world.own.der.clone(), world.root.der.clone(), world.middle.der.clone()],
            world.anchors(),
            &[],
            "",
        ),
        (
            "intermediate left out",
            &plain,
            own(&world.own),
            world.anchors(),
            &["incomplete_chain"],
            "does not present \"CN=Test Intermediate\"",
        ),
        (
            "a private root, presented",
            &plain,
            whole(&elsewhere),
            world.anchors(),
            &["unknown_issuer"],
            "\"CN=Home Root\"",
        ),
        (
            "a private root, left out",
            &plain,
            elsewhere.chain(),
            trusting(own(&alone)),
            &["unknown_issuer"],
            "ends in \"CN=Home Root\"",
        ),
        (
            "a root of the same name with another key",
            &plain,
            namesake.chain(),
            world.anchors(),
            &["refused"],
            "signature in the chain is wrong",
        ),
        ("self-signed", &plain, own(&alone), world.anchors(), &["self_signed"], "self-signed"),
        ("self-signed by openssl", &plain, own(&openssl), world.anchors(), &["self_signed"], "self-signed"),
        ("self-signed, which will do", &lenient, own(&alone), world.anchors(), &[], ""),
        ("self-signed, named itself", &plain, own(&openssl), trusting(own(&openssl)), &[], ""),
        (
            "for another name",
            &plain,
            other_name.chain(),
            other_name.anchors(),
            &["name_mismatch"],
            "made out for \"c.org\", \"example.org\" and 1 more",
        ),
        ("for no name", &plain, no_names.chain(), no_names.anchors(), &["name_mismatch"], "no name at all"),
        ("not yet valid", &plain, early.chain(), early.anchors(), &["not_yet_valid"], "not valid yet"),
        (
            "for clients only",
            &plain,
            for_clients.chain(),
            for_clients.anchors(),
            &["refused"],
            "not made out for servers",
        ),
        ("no roots on this machine", &plain, world.chain(), trusting(vec![]), &["no_roots"], "no root certificates"),
    ];
    for (case, settings, chain, anchors, expected, words) in table {
        let facts = facts_of(settings, &chain, &anchors, now());
        let found = codes(settings, &facts, now());
        assert_eq!(found.iter().map(Code::as_str).collect::<Vec<_>>(), expected, "{case}");
        if let [finding] = Tls::assess(settings, &facts, &Past::default(), now()).as_slice() {
            let said = finding.said.as_str().replace('\u{200b}', "");
            assert!(said.contains(words), "{case}: {said}");
        }
    }
    drop(anchors);
}

#[test]
fn several_troubles_are_all_told() {
    let plain = settings("hosts = ['localhost']");
    let alone = make(params("box", &["elsewhere"], -90 * DAY, -DAY), None);
    let facts = facts_of(&plain, std::slice::from_ref(&alone.der), &World::days_left(9).anchors(), now());
    let found = codes(&plain, &facts, now());
    assert_eq!(found.iter().map(Code::as_str).collect::<Vec<_>>(), ["expired", "name_mismatch", "self_signed"]);
}

#[test]
fn an_intermediate_that_ends_sooner_sets_the_end_unless_nobody_needs_it() {
    let plain = settings("hosts = ['localhost']");
    let root = make(authority("Test Root", 3_000 * DAY), None);
    let short = make(authority("Test Intermediate", 5 * DAY), Some(&root));
    let own = make(params("server", &["localhost"], -30 * DAY, 60 * DAY), Some(&short));
    let anchors = trusting(vec![root.der.clone()]);
    let chain = [own.der.clone(), short.der.clone()];
    let facts = facts_of(&plain, &chain, &anchors, now());
    assert_eq!(facts.number(&subject(), "time_left_s"), Some(expiry::seconds(5 * DAY)));
    assert_eq!(band(&facts, &subject()), Some("fail"));

    let later = now() + SignedDuration::from_hours(6 * 24);
    let found = codes(&plain, &facts_of(&plain, &chain, &anchors, later), later);
    assert_eq!(found.iter().map(Code::as_str).collect::<Vec<_>>(), ["chain_expired"]);

    // The same intermediate's key, signed once more for longer: the short one is not needed.
    let long = short_again(&short, &root);
    let facts = facts_of(&plain, &[own.der.clone(), short.der.clone(), long], &anchors, now());
    assert_eq!(facts.number(&subject(), "time_left_s"), Some(expiry::seconds(60 * DAY)));
}

fn short_again(short: &Made, root: &Made) -> CertificateDer<'static> {
    let params = authority("Test Intermediate", 900 * DAY);
    params.signed_by(&short.key, &Issuer::from_params(&root.params, &root.key)).unwrap().der().clone()
}

#[test]
fn a_renewal_changes_no_fact_that_is_compared() {
    let plain = settings("hosts = ['localhost']");
    let world = World::days_left(20);
    let renewed = make(params("server", &["localhost"], 0, 90 * DAY), Some(&world.middle));
    let before = facts_of(&plain, &world.chain(), &world.anchors(), now());
    let after = facts_of(&plain, &[renewed.der, world.middle.der.clone()], &world.anchors(), now());
    let compared = |facts: &Facts| {
        let mut kept = facts.clone();
        kept.retain(|_, _, fact| matches!(fact.class, Class::State | Class::Set));
        kept
    };
    assert_eq!(compared(&before), compared(&after));
    let names = compared(&before);
    let names: Vec<_> = names.iter().map(|(_, name, _)| name.as_str().to_owned()).collect();
    assert_eq!(names, ["chain_complete", "issuer", "key_type", "names", "trusted"]);
    assert_ne!(before.text(&subject(), "fingerprint"), after.text(&subject(), "fingerprint"));
}

#[test]
fn every_fact_is_documented() {
    let plain = settings("hosts = ['localhost']");
    let world = World::days_left(20);
    let facts = facts_of(&plain, std::slice::from_ref(&world.own.der), &world.anchors(), now());
    for (_, name, fact) in facts.iter() {
        let doc = Tls::DOC.facts.iter().find(|doc| doc.name == name.as_str()).unwrap();
        let class = match fact.class {
            Class::State => "state",
            Class::Gauge(_) => "gauge",
            Class::Set => "set",
            Class::Counter(_) => "counter",
            Class::Info => "info",
        };
        assert_eq!(doc.class, class, "{name}");
    }
}

#[test]
fn of_a_file_the_certificates_that_sign_no_others_are_watched() {
    let world = World::days_left(20);
    let subjects = |bytes: &[u8]| {
        watched_of(bytes).map(|(found, left_out)| {
            let found: Vec<_> = found.iter().map(|one| one.subject_name.as_str().to_owned()).collect();
            (found, left_out)
        })
    };
    let (own, middle, root) = (&world.own.der, &world.middle.der, &world.root.der);
    let named = |names: &[&str]| Some((names.iter().map(|name| format!("CN={name}")).collect::<Vec<_>>(), 0));
    assert_eq!(subjects(pem_of(&[own, middle, root]).as_bytes()), named(&["server"]));
    assert_eq!(subjects(pem_of(&[middle, root]).as_bytes()), named(&["Test Intermediate", "Test Root"]));
    assert_eq!(subjects(own), named(&["server"]));
    let key = world.own.key.serialize_pem();
    assert_eq!(subjects(format!("{key}{}", pem_of(&[own])).as_bytes()), named(&["server"]));
    let many: Vec<_> = std::iter::repeat_n(own, MAX_IN_FILE + 3).collect();
    assert_eq!(subjects(pem_of(&many).as_bytes()).map(|(found, more)| (found.len(), more)), Some((MAX_IN_FILE, 3)));
    let cut = pem_of(&[own]);
    for bad in [b"".as_slice(), b"hello", key.as_bytes(), &own[..own.len() / 2], &cut.as_bytes()[..cut.len() / 2]] {
        assert_eq!(subjects(bad), None, "{}", String::from_utf8_lossy(bad));
    }
}

/// A real server that does one handshake.
async fn serve(config: rustls::ServerConfig) -> (TcpStream, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ended = acceptor.accept(stream).await;
    });
    (stream, server)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn key_of(made: &Made) -> PrivateKeyDer<'static> {
    PrivateKeyDer::try_from(made.key.serialize_der()).unwrap()
}

async fn shake(config: rustls::ServerConfig) -> Result<Presented, Unread> {
    let (stream, server) = serve(config).await;
    let name = ServerName::try_from("localhost").unwrap();
    let presented = handshake(stream, &name, Instant::now() + Duration::from_secs(5)).await;
    server.await.unwrap();
    presented
}

fn server(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert> {
    rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
}

#[tokio::test]
async fn a_handshake_goes_on_with_any_certificate_and_records_it() {
    let world = World::days_left(-1);
    for (version, word) in [(&rustls::version::TLS13, "TLS 1.3"), (&rustls::version::TLS12, "TLS 1.2")] {
        let config = server(&[version]).with_single_cert(world.chain(), key_of(&world.own)).unwrap();
        let presented = shake(config).await.unwrap();
        assert_eq!(presented.chain, world.chain());
        assert_eq!(presented.protocol, Some(word));
        assert!(presented.key_proven && !presented.wants_client_certificate);
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_of_ours_shows_its_own_all_the_same() {
    let world = World::days_left(60);
    let mut roots = RootCertStore::empty();
    roots.add(world.root.der.clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().unwrap();
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::clone(&verifier))
            .with_single_cert(world.chain(), key_of(&world.own))
            .unwrap();
        let presented = shake(config).await.unwrap();
        assert_eq!(presented.chain, world.chain());
        assert!(presented.wants_client_certificate);
    }
}

#[tokio::test]
async fn a_key_that_is_not_the_certificates_is_noticed() {
    let world = World::days_left(60);
    let other = KeyPair::generate().unwrap();
    let key = PrivateKeyDer::try_from(other.serialize_der()).unwrap();
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let wrong = Arc::new(rustls::sign::CertifiedKey::new(world.chain(), signing));
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from((*wrong).clone()));
    let presented = shake(server(&[&rustls::version::TLS13]).with_cert_resolver(resolver)).await.unwrap();
    assert!(!presented.key_proven);
}

#[tokio::test]
async fn what_is_no_tls_is_told_apart_from_what_breaks_off() {
    for (said, code) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), "not_tls"),
        // A fatal alert: handshake failure.
        (&[21, 3, 3, 0, 2, 2, 40], "tls_failed"),
        (b"", "connection_reset"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(said).await.unwrap();
        peer.shutdown().await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let unread = handshake(stream, &name, Instant::now() + Duration::from_secs(5)).await.unwrap_err();
        assert_eq!((unread.code.as_str(), unread.blame), (code, Blame::Target));
        assert!(Tls::DOC.reason(code).is_some());
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let unread = handshake(stream, &name, Instant::now() + Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(unread.code.as_str(), "no_answer");
}

fn pem_of(ders: &[&CertificateDer<'_>]) -> String {
    ders.iter().fold(String::new(), |text, der| {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("{text}-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
    })
}

/// A server that does handshakes for ever, after `before` was played on each connection.
async fn stay(config: rustls::ServerConfig, before: &'static [(&'static [u8], &'static [u8])]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            for (heard, said) in before {
                let mut line = vec![0; heard.len()];
                stream.read_exact(&mut line).await.unwrap();
                stream.write_all(said).await.unwrap();
            }
            let _ended = acceptor.accept(stream).await;
        }
    });
    port
}

fn plain_server(world: &World) -> rustls::ServerConfig {
    server(&[&rustls::version::TLS13]).with_single_cert(world.chain(), key_of(&world.own)).unwrap()
}

async fn fetch(toml: &str, dir: &Path, within: Duration) -> Fetched {
    let settings = settings(toml);
    let mut problems = Vec::new();
    Tls::validate(&settings, &mut |key, message| problems.push(format!("{key}: {message}")));
    assert_eq!(problems, [""; 0]);
    let host = Arc::new(crate::host::Host::for_tests(dir));
    let moved = crate::clock::Now { wall: now(), boot: Duration::from_secs(1) };
    let cx = testing::cx(host, moved, within);
    Tls::fetch(&settings, &cx).await.unwrap()
}

#[tokio::test]
async fn servers_are_looked_at_side_by_side_and_one_that_hangs_hides_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::days_left(20);
    files::replace(&dir.path().join("root.pem"), pem_of(&[&world.root.der]).as_bytes(), 0o600).unwrap();
    let good = stay(plain_server(&world), &[]).await;
    let smtp: &[(&[u8], &[u8])] =
        &[(b"", b"220 mx\r\n"), (b"EHLO localhost\r\n", b"250 STARTTLS\r\n"), (b"STARTTLS\r\n", b"220 go\r\n")];
    let mail = stay(plain_server(&world), smtp).await;
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = hanging.local_addr().unwrap().port();
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let common = "server_name = 'localhost'\nca_file = '~/root.pem'";
    let toml = format!("hosts = ['127.0.0.1:{good}', '127.0.0.1:{silent}', '127.0.0.1:{closed}']\n{common}");
    let fetched = fetch(&toml, dir.path(), Duration::from_millis(1_500)).await;
    let at = |port: u16| Subject::new(&format!("127.0.0.1:{port}"));
    assert_eq!(band(&fetched.facts, &at(good)), Some("warn"));
    assert_eq!(fetched.facts.flag(&at(good), "trusted"), Some(true));
    assert_eq!(codes(&settings(&toml), &fetched.facts, now()), []);
    let unread: Vec<_> =
        fetched.unread.iter().map(|(subject, unread)| (subject.clone(), unread.code.as_str())).collect();
    let mut expected = vec![(at(silent), "no_answer"), (at(closed), "connection_refused")];
    expected.sort();
    assert_eq!(unread, expected);

    let toml = format!("hosts = ['127.0.0.1:{mail}']\nstarttls = 'smtp'\n{common}");
    let fetched = fetch(&toml, dir.path(), Duration::from_secs(5)).await;
    assert_eq!(fetched.facts.flag(&at(mail), "trusted"), Some(true), "{:?}", fetched.unread);

    let toml = format!("hosts = ['127.0.0.1:{good}']\nca_file = '~/none.pem'");
    let fetched = fetch(&toml, dir.path(), Duration::from_secs(5)).await;
    assert_eq!(fetched.unread[&Subject::none()].code.as_str(), "roots_unreadable");
}

#[tokio::test]
async fn files_are_found_by_glob_and_bad_ones_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::days_left(5);
    let write = |name: &str, bytes: &[u8]| files::replace(&dir.path().join(name), bytes, 0o600).unwrap();
    write("chain.pem", pem_of(&[&world.own.der, &world.middle.der]).as_bytes());
    write("two.pem", pem_of(&[&world.own.der, &world.own.der]).as_bytes());
    write("own.der", &world.own.der);
    write("empty.pem", b"");
    std::fs::create_dir(dir.path().join("folder.pem")).unwrap();
    let fetched =
        fetch("files = ['~/*.pem', '~/own.der', '~/gone.pem', '~/*.crt']", dir.path(), Duration::from_secs(5)).await;
    let path = |name: &str| Subject::new(&dir.path().join(name).display().to_string());
    let subjects: Vec<_> = fetched.facts.subjects().into_iter().collect();
    assert_eq!(subjects, [path("chain.pem"), path("own.der"), path("two.pem"), path("two.pem #2")]);
    assert!(subjects.iter().all(|subject| band(&fetched.facts, subject) == Some("fail")));
    let unread: Vec<_> =
        fetched.unread.iter().map(|(subject, unread)| (subject.clone(), unread.code.as_str())).collect();
    let mut expected = vec![
        (path("empty.pem"), "no_certificate"),
        (path("gone.pem"), "missing"),
        (Subject::new("~/*.crt"), "missing"),
    ];
    if fetched.unread.contains_key(&path("folder.pem")) {
        expected.push((path("folder.pem"), "not_a_file"));
    }
    expected.sort();
    assert_eq!(unread, expected);
}
