//! A TLS server on loopback that shows each client the certificate of the name it asks for, and what such certificates
//! are made of: authorities, names, dates.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A whole number of days.
pub fn days(number: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * number)
}

/// A certificate with its key.
pub struct Made {
    params: CertificateParams,
    key: KeyPair,
    der: CertificateDer<'static>,
    /// As it stands in a `ca_file`.
    pub pem: String,
}

impl Made {
    fn sign(params: CertificateParams, by: Option<&Self>) -> Self {
        let key = KeyPair::generate().unwrap();
        let made = match by {
            Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Self { der: made.der().clone(), pem: made.pem(), params, key }
    }

    /// An authority that is valid for decades: a root, or signed by another.
    pub fn authority(name: &str, by: Option<&Self>) -> Self {
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self::sign(params, by)
    }

    /// The key as a server's configuration wants it.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// A server's certificate for these names that lives `lifetime` and ends at `ends`; self-signed if nobody signs it.
    pub fn server(names: &[&str], lifetime: SignedDuration, ends: Timestamp, by: Option<&Self>) -> Self {
        let mut params = params("a server", names);
        let moment = |at: Timestamp| {
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(u64::try_from(at.as_second()).unwrap())
        };
        params.not_before = moment(ends - lifetime);
        params.not_after = moment(ends);
        Self::sign(params, by)
    }

    /// What a server presents: this one, and those above it that are given.
    pub fn below(&self, above: &[&Self]) -> Arc<CertifiedKey> {
        let chain = std::iter::once(self).chain(above.iter().copied()).map(|made| made.der.clone()).collect();
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        Arc::new(CertifiedKey::new(chain, aws_lc_rs::sign::any_supported_type(&key).unwrap()))
    }
}

fn params(common_name: &str, names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

/// What the server does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Shakes hands.
    Shakes,
    /// Accepts and says nothing.
    Mute,
    /// Closes at once.
    HangsUp,
}

/// What it presents, by the name that is asked for.
#[derive(Debug, Default)]
struct Shown(Mutex<BTreeMap<String, Arc<CertifiedKey>>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().get(hello.server_name()?).cloned()
    }
}

/// The server; it ends with the test's process.
#[derive(Clone)]
pub struct Tls {
    addr: SocketAddr,
    shown: Arc<Shown>,
    mood: Arc<Mutex<Mood>>,
}

impl Tls {
    /// Starts one that knows no name yet.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let shown = Arc::new(Shown::default());
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        let config = Arc::new(config);
        let tls = Self { addr: listener.local_addr().unwrap(), shown, mood: Arc::new(Mutex::new(Mood::Shakes)) };
        let mood = Arc::clone(&tls.mood);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, mood) = (Arc::clone(&config), *mood.lock().unwrap());
                std::thread::spawn(move || serve(stream, config, mood));
            }
        });
        tls
    }

    /// `host:port`.
    pub fn at(&self) -> String {
        format!("127.0.0.1:{}", self.addr.port())
    }

    /// From now on, who asks for this name is shown this.
    pub fn show(&self, name: &str, certificate: Arc<CertifiedKey>) {
        self.shown.0.lock().unwrap().insert(name.to_owned(), certificate);
    }

    /// From now on it treats connections like this.
    pub fn mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

/// Serves one connection to its end; a client that breaks off is the client's matter.
fn serve(mut stream: TcpStream, config: Arc<ServerConfig>, mood: Mood) {
    // Bounded, whatever the client does.
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    match mood {
        Mood::HangsUp => {}
        Mood::Mute => while stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0) {},
        Mood::Shakes => {
            let mut session = ServerConnection::new(config).unwrap();
            while session.is_handshaking() && session.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
            let _said = session.complete_io(&mut stream);
        }
    }
}
