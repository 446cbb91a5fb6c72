use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::clock::Now;
use crate::host::http::Response;
use crate::kinds::testing::{self, Look, Trial};

const PASSWORD: &str = "open-sesame-4711";

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What a server answers to a line that holds these words; `TAG` stands for the line's first word. An empty answer closes,
/// `…` goes on with single bytes.
type Script = &'static [(&'static str, &'static str)];

#[derive(Clone, Copy, PartialEq)]
enum How {
    Plain,
    Tls,
    Starttls,
}

/// An authority, and a server's certificate by it.
struct World {
    pem: String,
    config: Arc<ServerConfig>,
}

impl World {
    fn new(name: &str) -> Self {
        let root_key = KeyPair::generate().unwrap();
        let mut root = CertificateParams::new(Vec::new()).unwrap();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = root.self_signed(&root_key).unwrap().pem();
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let own = own.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.der().clone()], key)
            .unwrap();
        Self { pem, config: Arc::new(config) }
    }
}

/// A mail server, and what it heard.
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(world: &World, how: How, greeting: &'static str, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (list, config) = (Arc::clone(&heard), Arc::clone(&world.config));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
                let _the_client_broke_off = serve(&stream, &config, how, greeting, script, &list);
            }
        });
        Self { port, heard }
    }
    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }
}

fn serve(
    stream: &TcpStream,
    config: &Arc<ServerConfig>,
    how: How,
    greeting: &str,
    script: Script,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let secured = |stream: TcpStream| StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream);
    let mut talk: BufReader<Box<dyn Stream>> = match how {
        How::Tls => BufReader::new(Box::new(secured(stream.try_clone()?))),
        How::Plain | How::Starttls => BufReader::new(Box::new(stream.try_clone()?)),
    };
    talk.get_mut().write_all(greeting.as_bytes())?;
    loop {
        let mut line = String::new();
        if talk.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim_end();
        heard.lock().unwrap().push(line.to_owned());
        let tag = line.split(' ').next().unwrap_or_default();
        let answer = script.iter().find(|(words, _)| line.contains(words)).map_or("", |(_, answer)| answer);
        if answer == "…" {
            loop {
                talk.get_mut().write_all(b"x")?;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if answer.is_empty() {
            return Ok(());
        }
        talk.get_mut().write_all(answer.replace("TAG", tag).as_bytes())?;
        talk.get_mut().flush()?;
        if line.contains("STARTTLS") && how == How::Starttls {
            talk = BufReader::new(Box::new(secured(stream.try_clone()?)));
        }
    }
}

struct Lab {
    dir: tempfile::TempDir,
    trial: Trial,
    now: Now,
}

impl Lab {
    fn new(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut trial = Trial::new(dir.path());
        trial.host().env.insert("PASSWORD".into(), PASSWORD.into());
        crate::host::files::replace(&dir.path().join("ca.pem"), world.pem.as_bytes(), 0o600).unwrap();
        let now = trial.host().now();
        Self { dir, trial, now }
    }
    fn settings(&self, toml: &str) -> Settings {
        testing::settings::<ApiAuth>(&format!("{toml}\nca_file = '{}'", self.dir.path().join("ca.pem").display()))
    }
    fn look(&mut self, toml: &str) -> Result<Look, Unread> {
        self.within(toml, Duration::from_secs(20))
    }
    fn within(&mut self, toml: &str, within: Duration) -> Result<Look, Unread> {
        let settings = self.settings(toml);
        let look = self.trial.look_within::<ApiAuth>(&settings, self.now, within);
        let shown = format!("{look:?}");
        assert!(!shown.contains("sesame"), "{shown}");
        look
    }
}

/// The codes of a look, or the code of what could not be read.
fn codes(look: &Result<Look, Unread>) -> Vec<String> {
    look.as_ref().map_or_else(|unread| vec![unread.code.to_string()], Look::codes)
}

fn mail(protocol: &str, port: u16, more: &str) -> String {
    format!("{protocol} = '127.0.0.1:{port}'\nuser = 'me'\npassword = 'env:PASSWORD'\n{more}")
}

const OFFERS: (&str, &str) = ("CAPABILITY", "* CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2\r\nTAG OK done\r\n");
const GOODBYE: (&str, &str) = ("LOGOUT", "* BYE bye\r\nTAG OK done\r\n");
const IMAP_OK: Script =
    &[("STARTTLS", "TAG OK go\r\n"), OFFERS, ("AUTHENTICATE", "+ \r\n"), GOODBYE, ("", "A0001 OK in\r\n")];
const HELLO: (&str, &str) = ("EHLO", "250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN XOAUTH2\r\n");
const QUIT: (&str, &str) = ("QUIT", "221 bye\r\n");
const SMTP_OK: Script = &[HELLO, ("STARTTLS", "220 go\r\n"), ("AUTH PLAIN", "235 2.7.0 in\r\n"), QUIT];

#[test]
fn lets_in_over_tls_starttls_and_plain_on_loopback() {
    let world = World::new("127.0.0.1");
    let mut lab = Lab::new(&world);
    for (how, word) in [(How::Tls, "tls"), (How::Starttls, "starttls"), (How::Plain, "none")] {
        let more = format!("security = '{word}'");
        let server = Server::start(&world, how, "* OK ready\r\n", IMAP_OK);
        let look = lab.look(&mail("imap", server.port, &more)).unwrap();
        assert_eq!((look.codes().len(), look.text("", "answer")), (0, Some("OK")), "imap {word}");
        assert_eq!((look.text("", "mechanism"), look.text("", "security")), (Some("PLAIN"), Some(word)));
        assert!(look.number("", "elapsed_ms").is_some());
        let heard = server.heard();
        assert!(heard.last().unwrap().contains("LOGOUT"), "{heard:?}");

        let server = Server::start(&world, how, "220 mx ready\r\n", SMTP_OK);
        let look = lab.look(&mail("smtp", server.port, &more)).unwrap();
        assert_eq!((look.codes().len(), look.text("", "answer")), (0, Some("235")), "smtp {word}");
        let heard = server.heard();
        assert!(heard.last().unwrap().contains("QUIT") && !heard.iter().any(|line| line.contains("MAIL")), "{heard:?}");
    }
}

#[test]
fn a_refusal_is_one_and_trouble_of_the_server_is_none() {
    let world = World::new("127.0.0.1");
    let imap: &[(Script, &str)] = &[
        (
            &[OFFERS, ("AUTHENTICATE", "+ \r\n"), ("", "A0001 NO [AUTHENTICATIONFAILED] wrong\r\n")],
            "credentials_refused",
        ),
        (&[OFFERS, ("AUTHENTICATE", "+ \r\n"), ("", "A0001 NO [UNAVAILABLE] down\r\n")], "temporary"),
        (&[OFFERS, ("AUTHENTICATE", "+ \r\n"), ("", "A0001 NO Too many connections\r\n")], "temporary"),
        (&[OFFERS, ("AUTHENTICATE", "+ \r\n"), ("", "A0001 BAD what\r\n")], "bad_answer"),
        (&[OFFERS, ("AUTHENTICATE", "")], "connection_reset"),
        (&[OFFERS, ("AUTHENTICATE", "HTTP/1.1 400 Bad\r\n")], "bad_answer"),
        (&[("CAPABILITY", "* BYE too busy\r\n")], "temporary"),
        (&[("CAPABILITY", "* CAPABILITY LOGINDISABLED\r\nTAG OK\r\n")], "login_not_offered"),
        (
            &[("CAPABILITY", "* CAPABILITY IMAP4rev1\r\nTAG OK\r\n"), ("LOGIN", "TAG NO [ALERT] wrong\r\n")],
            "credentials_refused",
        ),
    ];
    for (script, code) in imap {
        let mut lab = Lab::new(&world);
        let server = Server::start(&world, How::Tls, "* OK ready\r\n", script);
        let look = lab.look(&mail("imap", server.port, ""));
        assert_eq!(codes(&look), [*code], "{script:?}");
    }
    let smtp: &[(Script, &str)] = &[
        (&[HELLO, ("AUTH", "535 5.7.8 Username and Password not accepted\r\n"), QUIT], "credentials_refused"),
        (&[HELLO, ("AUTH", "534 5.7.9 Application-specific password required\r\n"), QUIT], "credentials_refused"),
        (&[HELLO, ("AUTH", "454 4.7.0 Temporary authentication failure\r\n"), QUIT], "temporary"),
        (&[HELLO, ("AUTH", "421 4.3.0 closing\r\n"), QUIT], "temporary"),
        (&[HELLO, ("AUTH", "500 5.5.1 what\r\n"), QUIT], "bad_answer"),
        (&[HELLO, ("AUTH", "")], "connection_reset"),
        (&[("EHLO", "250 mx\r\n"), QUIT], "login_not_offered"),
        (&[("EHLO", "nonsense\r\n"), QUIT], "bad_answer"),
        (
            &[
                ("EHLO", "250 AUTH LOGIN\r\n"),
                ("AUTH LOGIN", "334 VXNlcm5hbWU6\r\n"),
                ("bWU=", "334 UGFzc3dvcmQ6\r\n"),
                ("=", "535 no\r\n"),
                QUIT,
            ],
            "credentials_refused",
        ),
    ];
    for (script, code) in smtp {
        let mut lab = Lab::new(&world);
        let server = Server::start(&world, How::Tls, "220 mx\r\n", script);
        let look = lab.look(&mail("smtp", server.port, "security = 'tls'"));
        assert_eq!(codes(&look), [*code], "{script:?}");
    }
    for (greeting, protocol, code) in [
        ("* BYE busy\r\n", "imap", "temporary"),
        ("SSH-2.0-x\r\n", "imap", "bad_answer"),
        ("421 busy\r\n", "smtp", "temporary"),
        ("554 no\r\n", "smtp", "bad_answer"),
    ] {
        let server = Server::start(&world, How::Tls, greeting, &[]);
        let look = Lab::new(&world).look(&mail(protocol, server.port, "security = 'tls'"));
        assert_eq!(codes(&look), [code], "{greeting}");
    }
}

#[test]
fn the_sentence_of_a_refusal() {
    let world = World::new("127.0.0.1");
    let mut lab = Lab::new(&world);
    let server = Server::start(
        &world,
        How::Tls,
        "220 mx\r\n",
        &[HELLO, ("AUTH", "535 5.7.8 wrong, see https://mail.example.com\r\n"), QUIT],
    );
    let look = lab.look(&mail("smtp", server.port, "security = 'tls'")).unwrap();
    let said = look.said().to_owned();
    assert!(said.starts_with(&format!("127.0.0.1:{} refuses the credentials (535): \"", server.port)), "{said}");
    assert!(said.contains("wrong, see") && !said.contains("https://"), "foreign words are quoted and tame: {said}");
}

#[test]
fn a_token_at_a_mail_server() {
    let world = World::new("127.0.0.1");
    let token = |protocol: &str, port: u16| {
        format!("{protocol} = '127.0.0.1:{port}'\nuser = 'me'\ntoken = 'env:PASSWORD'\nsecurity = 'tls'")
    };
    let server = Server::start(&world, How::Tls, "* OK\r\n", IMAP_OK);
    let look = Lab::new(&world).look(&token("imap", server.port)).unwrap();
    assert_eq!((look.codes().len(), look.text("", "mechanism")), (0, Some("XOAUTH2")));
    // The reason of a refusal comes as a challenge, which wants an empty answer.
    let why = "+ eyJzdGF0dXMiOiI0MDAifQ==\r\n";
    let script: Script = Box::leak(Box::new([
        OFFERS,
        ("AUTHENTICATE", "+ \r\n"),
        ("dXNlcj1tZQ", why),
        ("", "A0001 NO [AUTHENTICATIONFAILED] no\r\n"),
    ]));
    let server = Server::start(&world, How::Tls, "* OK\r\n", script);
    assert_eq!(codes(&Lab::new(&world).look(&token("imap", server.port))), ["credentials_refused"]);
    let server = Server::start(
        &world,
        How::Tls,
        "220 mx\r\n",
        &[HELLO, ("AUTH XOAUTH2", "334 eyJzdGF0dXMiOiI0MDAifQ==\r\n"), QUIT, ("", "535 5.7.8 no\r\n")],
    );
    assert_eq!(codes(&Lab::new(&world).look(&token("smtp", server.port))), ["credentials_refused"]);
}

#[test]
fn a_password_never_goes_over_what_others_can_read() {
    let world = World::new("127.0.0.1");
    for (protocol, greeting, script) in [
        // Somebody on the way took STARTTLS out.
        ("smtp", "220 mx\r\n", &[("EHLO", "250 AUTH PLAIN\r\n"), QUIT] as Script),
        ("imap", "* OK\r\n", &[("STARTTLS", "TAG NO what\r\n"), OFFERS]),
    ] {
        let server = Server::start(&world, How::Plain, greeting, script);
        let look = Lab::new(&world).look(&mail(protocol, server.port, "security = 'starttls'"));
        assert_eq!(codes(&look), ["starttls_refused"], "{protocol}");
        let heard = server.heard().join("\n");
        assert!(!heard.contains("AUTH") && !heard.contains("LOGIN"), "{heard}");
    }
    // A certificate for another name, and one that nobody vouches for.
    let other = World::new("other.example.com");
    for (world, trusted) in [(&other, &other), (&world, &other)] {
        for (protocol, how, security) in [("imap", How::Tls, "tls"), ("smtp", How::Starttls, "starttls")] {
            let greeting = if protocol == "imap" { "* OK\r\n" } else { "220 mx\r\n" };
            let server = Server::start(world, how, greeting, if protocol == "imap" { IMAP_OK } else { SMTP_OK });
            let look = Lab::new(trusted).look(&mail(protocol, server.port, &format!("security = '{security}'")));
            assert_eq!(codes(&look), ["tls_failed"], "{protocol}");
            assert!(!server.heard().join("\n").contains("AUTH"));
        }
    }
    // What speaks no TLS.
    let server = Server::start(&world, How::Plain, "* OK\r\n", IMAP_OK);
    assert_eq!(codes(&Lab::new(&world).look(&mail("imap", server.port, "security = 'tls'"))), ["tls_failed"]);
}

#[test]
fn a_server_that_drips_or_says_too_much_is_given_up_on() {
    let world = World::new("127.0.0.1");
    for (protocol, greeting, script) in [
        ("imap", "* OK\r\n", &[("CAPABILITY", "…")] as Script),
        ("imap", "* OK\r\n", &[OFFERS, ("AUTHENTICATE", "…")]),
        ("smtp", "220 mx\r\n", &[HELLO, ("AUTH", "…")]),
        ("smtp", "220 mx\r\n", &[("EHLO", "…")]),
    ] {
        let server = Server::start(&world, How::Tls, greeting, script);
        let began = std::time::Instant::now();
        let look = Lab::new(&world).within(&mail(protocol, server.port, "security = 'tls'"), Duration::from_secs(1));
        assert_eq!(codes(&look), ["no_answer"], "{script:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    // The login was answered; the goodbye is not waited for.
    for (protocol, greeting, script) in [
        ("imap", "* OK\r\n", &[OFFERS, ("AUTHENTICATE", "+ \r\n"), ("LOGOUT", "…"), ("", "A0001 OK in\r\n")] as Script),
        ("smtp", "220 mx\r\n", &[HELLO, ("AUTH", "235 in\r\n"), ("QUIT", "…")]),
    ] {
        let server = Server::start(&world, How::Tls, greeting, script);
        assert_eq!(codes(&Lab::new(&world).look(&mail(protocol, server.port, "security = 'tls'"))), QUIET);
    }
    let flood: &'static str = Box::leak("x".repeat(300 * 1024).into_boxed_str());
    for protocol in ["imap", "smtp"] {
        let server = Server::start(&world, How::Tls, flood, &[]);
        let look = Lab::new(&world).look(&mail(protocol, server.port, "security = 'tls'"));
        assert_eq!(codes(&look), ["bad_answer"], "{protocol}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(codes(&Lab::new(&world).look(&mail("imap", closed, ""))), ["connection_refused"]);
}

#[test]
fn what_was_refused_is_not_tried_again_at_once() {
    let world = World::new("127.0.0.1");
    let mut lab = Lab::new(&world);
    let server = Server::start(&world, How::Tls, "220 mx\r\n", &[HELLO, ("AUTH", "535 no\r\n"), QUIT]);
    let toml = mail("smtp", server.port, "security = 'tls'");
    let tries = |server: &Server| server.heard().iter().filter(|line| line.contains("AUTH")).count();
    assert_eq!(codes(&lab.look(&toml)), ["credentials_refused"]);
    assert_eq!(tries(&server), 1);
    lab.now.wall += SignedDuration::from_mins(45);
    let look = lab.look(&toml).unwrap();
    assert_eq!((look.codes(), tries(&server)), (vec!["credentials_refused".to_owned()], 0), "the refusal stands");
    lab.now.wall += SignedDuration::from_mins(15);
    assert_eq!((codes(&lab.look(&toml)).len(), tries(&server)), (1, 1));
    // Other credentials are tried at once.
    lab.trial.host().env.insert("PASSWORD".into(), "open-sesame-4712".into());
    assert_eq!((codes(&lab.look(&toml)).len(), tries(&server)), (1, 1));
}

#[test]
fn a_second_look_of_the_same_cycle_sends_nothing_again() {
    let world = World::new("127.0.0.1");
    let server = Server::start(&world, How::Tls, "220 mx\r\n", &[HELLO, ("AUTH", "535 no\r\n"), QUIT]);
    let toml = mail("smtp", server.port, "security = 'tls'");
    let tries = |server: &Server| server.heard().iter().filter(|line| line.contains("AUTH")).count();
    let mut first = Lab::new(&world);
    assert_eq!((codes(&first.look(&toml)), tries(&server)), (vec!["credentials_refused".to_owned()], 1));
    // What the first look left to remember is not there yet.
    let mut second = Lab::new(&world);
    second.now = first.now;
    let look = second.look(&toml).unwrap();
    assert_eq!((look.codes(), tries(&server)), (vec!["credentials_refused".to_owned()], 0));
    assert!(look.number("", "elapsed_ms").is_some() && look.text("", "asked_at").is_none());
    // It is remembered by the second look as well.
    second.now.wall += SignedDuration::from_mins(5);
    assert_eq!((codes(&second.look(&toml)).len(), tries(&server)), (1, 0));
    let mut later = Lab::new(&world);
    later.now.wall = first.now.wall + SignedDuration::from_mins(5);
    assert_eq!((codes(&later.look(&toml)).len(), tries(&server)), (1, 1), "another cycle asks for itself");
}

#[test]
fn whatever_is_sent_makes_other_credentials() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut host = crate::host::Host::for_tests(dir.path());
    host.env.insert("PASSWORD".into(), PASSWORD.into());
    let cx = testing::cx(Arc::new(host), crate::clock::Clock::machine().now(), Duration::from_secs(20));
    let of = |toml: &str| runtime.block_on(digest(&testing::settings::<ApiAuth>(toml), &cx)).unwrap();
    let base = "url = 'https://h/a'\ntoken = 'env:PASSWORD'";
    let oauth = "token_url = 'https://h/a'\nrefresh_token = 'env:PASSWORD'\nrefresh_is_safe = true";
    assert_eq!(of(base), of(base));
    for (one, other) in
        [(base, "\nmethod = 'POST'"), (base, "\nheaders = { x-team = 'a' }"), (oauth, "\nclient_id = 'me'")]
    {
        assert_ne!(of(one), of(&format!("{one}{other}")), "{other}");
    }
    assert_ne!(of(base), of("url = 'https://h/a?as=bob'\ntoken = 'env:PASSWORD'"));
}

/// A look at a web server that answers like this.
fn web(status: &str, content_type: &str, body: &str, more: &str) -> (Vec<String>, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (port, got) = runtime.block_on(testing::web(status, content_type, body));
    let mut lab = Lab::new(&World::new("127.0.0.1"));
    let look = lab.look(&more.replace("{port}", &port.to_string()));
    let got = got.lock().unwrap().clone();
    runtime.shutdown_background();
    (codes(&look), got)
}

#[test]
fn answers_over_http() {
    let bearer = "url = 'http://127.0.0.1:{port}/me?x=1'\ntoken = 'env:PASSWORD'";
    for (status, code) in [
        ("200 OK", None),
        ("204 No", None),
        ("401 No", Some("credentials_refused")),
        ("403 No", Some("not_permitted")),
        ("403 No\r\nx-ratelimit-remaining: 0", Some("temporary")),
        ("429 Slow", Some("temporary")),
        ("500 Oops", Some("temporary")),
        ("503 Oops", Some("temporary")),
        ("302 Found\r\nlocation: /login", Some("unexpected_answer")),
        ("404 No", Some("unexpected_answer")),
    ] {
        let (codes, got) = web(status, "application/json", "{}", bearer);
        assert_eq!(codes, code.into_iter().collect::<Vec<_>>(), "{status}");
        assert!(got[0].starts_with("GET /me?x=1 ") && got[0].contains(&format!("Bearer {PASSWORD}")), "{got:?}");
    }
    let page = format!("{bearer}\ncontent_type = 'application/json'");
    assert_eq!(web("200 OK", "text/html", "<html>log in", &page).0, ["unexpected_answer"]);
    // A page for logging in comes with a good status, too.
    for page in ["text/html", "Text/HTML; charset=utf-8", "application/xhtml+xml"] {
        assert_eq!(web("200 OK", page, "<html>log in", bearer).0, ["unexpected_answer"], "{page}");
    }
    assert_eq!(web("200 OK", "text/html", "<html>me", &format!("{bearer}\ncontent_type = 'text/html'")).0, QUIET);
    let slack = format!("{bearer}\nrefused_when = '\"ok\": ?false'");
    assert_eq!(web("200 OK", "application/json", "{\"ok\":false}", &slack).0, ["credentials_refused"]);
    assert_eq!(web("200 OK", "application/json", "{\"ok\":true}", &slack).0, QUIET);
    let basic = "url = 'http://127.0.0.1:{port}/'\nuser = 'me'\npassword = 'env:PASSWORD'";
    let (codes, got) = web("200 OK", "text/plain", "", basic);
    assert!(codes.is_empty() && got[0].to_lowercase().contains("authorization: basic "), "{got:?}");
    let key = "url = 'http://127.0.0.1:{port}/'\nsecret_headers = { x-api-key = 'env:PASSWORD' }";
    assert!(web("200 OK", "text/plain", "", key).1[0].contains(&format!("x-api-key: {PASSWORD}")));
}

const QUIET: [String; 0] = [];

#[test]
fn a_refresh_that_is_thrown_away() {
    let toml = "token_url = 'http://127.0.0.1:{port}/token'\nrefresh_token = 'env:PASSWORD'\nclient_id = 'app'\n\
                refresh_is_safe = true";
    for (status, body, code) in [
        ("200 OK", r#"{"access_token": "sesame-new"}"#, None),
        ("200 OK", r#"{"access_token": "sesame-new", "refresh_token": "open-sesame-4711"}"#, None),
        ("200 OK", r#"{"access_token": "sesame-new", "refresh_token": "sesame-other"}"#, Some("refresh_rotated")),
        ("200 OK", "{}", Some("unexpected_answer")),
        ("400 Bad", r#"{"error": "invalid_grant"}"#, Some("credentials_refused")),
        ("401 No", r#"{"error": "invalid_client"}"#, Some("credentials_refused")),
        ("400 Bad", r#"{"error": "invalid_request"}"#, Some("unexpected_answer")),
        ("400 Bad", "<html>", Some("unexpected_answer")),
        ("503 Oops", "", Some("temporary")),
        ("429 Slow", "", Some("temporary")),
    ] {
        let (codes, got) = web(status, "application/json", body, toml);
        assert_eq!(codes, code.into_iter().collect::<Vec<_>>(), "{status} {body}");
        let sent = format!("grant_type=refresh_token&refresh_token={PASSWORD}&client_id=app");
        assert!(got[0].ends_with(&sent), "{got:?}");
    }
}

#[test]
fn an_answer_that_echoes_the_token_is_cleaned() {
    let said = format!("token {PASSWORD} is over");
    let response = Response {
        status: 200,
        headers: Vec::new(),
        body: said.into_bytes(),
        cut: false,
        url: String::new(),
        took: Duration::ZERO,
        first_byte: Duration::ZERO,
    };
    let _known = Secret::new(PASSWORD);
    let settings = testing::settings::<ApiAuth>("url = 'https://h/'\ntoken = 'env:X'\nrefused_when = 'is over'");
    let came = web::of_answer(&settings, &response).unwrap();
    assert!(came.refused.is_some() && !came.said.as_str().contains("sesame"), "{came:?}");
}

#[test]
fn bad_settings_are_refused() {
    for (toml, said) in [
        ("", "url: nothing to log in to (one of `url`, `imap`, `smtp` or `token_url`)"),
        (
            "imap = 'a'\nsmtp = 'b'\nuser = 'u'\npassword = 'env:P'",
            "smtp: `imap` and `smtp` exclude each other (make it two checks)",
        ),
        ("url = 'https://h/'", "url: nothing to log in with (`token`, `user` and `password`, or `secret_headers`)"),
        ("url = 'https://h/'\nuser = 'u'\ntoken = 'env:P'", "user: `user` and `password` go together"),
        (
            "url = 'http://h/'\ntoken = 'env:P'",
            "url: the credentials could be read on the way (use `https://`, or say `plain = true`)",
        ),
        (
            "imap = 'h'\nuser = 'u'\npassword = 'env:P'\nsecurity = 'none'",
            "imap: the credentials could be read on the way (use `security = \"tls\"`, or say `plain = true`)",
        ),
        ("imap = 'h'\nuser = 'u'", "imap: `imap` needs `user` and `password`, or `user` and `token`"),
        ("imap = 'imaps://h'\nuser = 'u'\ntoken = 'env:P'", "imap: `imaps://h` is no host or host and port"),
        ("smtp = 'h:0'\nuser = 'u'\ntoken = 'env:P'", "smtp: `h:0` is no host or host and port"),
        (
            "smtp = 'h'\nuser = 'u'\ntoken = 'env:P'\ncontent_type = 'x'",
            "content_type: `content_type` does not go with `smtp`",
        ),
        (
            "token_url = 'https://h/'\nrefresh_token = 'env:R'",
            "token_url: using a refresh token may void the one that others hold (ask a `url` with the current `token`, \
             or say `refresh_is_safe = true` where the issuer is known not to replace it)",
        ),
        ("token_url = 'https://h/'\nrefresh_is_safe = true", "token_url: `token_url` needs `refresh_token`"),
        (
            "url = 'https://h/'\ntoken = 'env:P'\nheaders = { Authorization = 'x' }",
            "headers: `Authorization` is a secret (use `token`, `password` or `secret_headers`)",
        ),
        ("url = 'https://u:p@h/'\ntoken = 'env:P'", "url: a password in `url` is a secret (use `user` and `password`)"),
    ] {
        assert_eq!(testing::problems::<ApiAuth>(toml), [said], "{toml}");
    }
    for toml in [
        "imap = '127.0.0.1'\nuser = 'u'\npassword = 'env:P'\nsecurity = 'none'",
        "imap = 'h'\nuser = 'u'\npassword = 'env:P'\nsecurity = 'none'\nplain = true",
        "url = 'http://localhost:1/'\ntoken = 'env:P'",
        "imap = '[::1]:143'\nuser = 'u'\ntoken = 'env:P'",
    ] {
        assert_eq!(testing::problems::<ApiAuth>(toml), QUIET, "{toml}");
    }
}

#[test]
fn ports_and_security_go_together() {
    for (toml, name, port, secured) in [
        ("imap = 'h'", "h", 993, Security::Tls),
        ("imap = 'h:143'", "h", 143, Security::Starttls),
        ("imap = 'h'\nsecurity = 'starttls'", "h", 143, Security::Starttls),
        ("smtp = 'h'", "h", 587, Security::Starttls),
        ("smtp = 'h:465'", "h", 465, Security::Tls),
        ("smtp = 'h'\nsecurity = 'tls'", "h", 465, Security::Tls),
        ("smtp = '[2001:db8::1]:25'", "2001:db8::1", 25, Security::Starttls),
        ("imap = '[2001:db8::1]'", "2001:db8::1", 993, Security::Tls),
    ] {
        let settings = testing::settings::<ApiAuth>(&format!("{toml}\nuser = 'u'\ntoken = 'env:T'"));
        let (target, text) = settings.target();
        assert_eq!(place(&text, target, settings.security), Some((name.to_owned(), port)), "{toml}");
        assert_eq!(security(&settings), secured, "{toml}");
    }
}
