//! Requests against real servers on loopback that behave well, badly and worse.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::facts::Blame;

fn soon(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}
fn host() -> (tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let host = Host::for_tests(dir.path());
    (dir, host)
}
fn get(url: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: None,
        redirects: 5,
        max_body_bytes: 1_000,
        extra_roots: None,
    }
}
fn code(answer: Result<Response, Unread>) -> String {
    let unread = answer.unwrap_err();
    assert_eq!(unread.blame, Blame::Target, "{unread:?}");
    unread.code.to_string()
}

/// What a server does with one connection, having read the request.
#[derive(Clone)]
enum Does {
    /// Sends these bytes and closes.
    Sends(Vec<u8>),
    /// Sends these bytes and goes on holding the connection.
    SendsAndHolds(Vec<u8>),
    /// Sends these bytes before it has read anything, and closes.
    Greets(Vec<u8>),
    /// Closes without a word, by a reset.
    Resets,
    /// Echoes the request as the body.
    Echoes,
}

async fn request_of(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut got = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let text = String::from_utf8_lossy(&got).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text;
            }
        }
        match stream.read(&mut buffer).await {
            Ok(count @ 1..) => got.extend_from_slice(&buffer[..count]),
            _ => return text,
        }
    }
}

async fn behave(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), does: Does) {
    let request = if matches!(does, Does::Greets(_)) { String::new() } else { request_of(stream).await };
    match does {
        Does::Sends(bytes) | Does::Greets(bytes) => {
            let _closed = stream.write_all(&bytes).await;
            let _closed = stream.shutdown().await;
        }
        Does::SendsAndHolds(bytes) => {
            let _closed = stream.write_all(&bytes).await;
            std::future::pending::<()>().await;
        }
        Does::Echoes => {
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{request}", request.len());
            let _closed = stream.write_all(answer.as_bytes()).await;
        }
        Does::Resets => {}
    }
}

/// A server that treats every connection alike; its port and how many came.
async fn server(does: Does) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let came = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&came);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counts.fetch_add(1, Ordering::SeqCst);
            let does = does.clone();
            tokio::spawn(async move {
                let resets = matches!(does, Does::Resets);
                behave(&mut stream, does).await;
                if resets {
                    stream.set_zero_linger().unwrap();
                }
            });
        }
    });
    (port, came)
}
fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}
fn redirect(to: &str) -> Vec<u8> {
    answer(&format!("302 Found\r\nlocation: {to}"), b"moved")
}

#[tokio::test]
async fn an_answer_comes_whole_with_its_headers() {
    let (_dir, host) = host();
    let (port, _) =
        server(Does::Sends(answer("404 Not Found\r\nX-A: 1\r\nx-a: 2\r\ncontent-type: text/html", b"<p>no"))).await;
    let url = format!("http://user:pass@127.0.0.1:{port}/a/b?key=secret#x");
    let response = host.http(&get(&url), soon(20_000)).await.unwrap();
    assert_eq!((response.status, response.body.as_slice(), response.cut), (404, b"<p>no".as_slice(), false));
    assert_eq!((response.header("X-a"), response.header("Content-Type")), (Some("1"), Some("text/html")));
    assert_eq!(response.header("x-b"), None);
    assert_eq!(response.url, format!("http://127.0.0.1:{port}/a/b"));
    assert!(response.first_byte <= response.took);
}

#[tokio::test]
async fn the_request_is_sent_as_asked() {
    let (_dir, host) = host();
    let (port, _) = server(Does::Echoes).await;
    let request = Request {
        method: "PUT".to_owned(),
        headers: vec![("X-Key".to_owned(), Secret::new("k")), ("user-agent".to_owned(), Secret::new("me"))],
        body: Some(b"{}".to_vec()),
        ..get(&format!("http://127.0.0.1:{port}/p?q=1"))
    };
    let echoed = String::from_utf8(host.http(&request, soon(20_000)).await.unwrap().body).unwrap();
    assert!(echoed.starts_with("PUT /p?q=1 HTTP/1.1\r\n") && echoed.ends_with("\r\n\r\n{}"), "{echoed}");
    assert!(echoed.contains("x-key: k\r\n") && echoed.contains("user-agent: me\r\n"), "{echoed}");
    assert!(!format!("{request:?}").contains("q=1"));
}

#[tokio::test]
async fn bodies_are_cut_after_decoding() {
    let (_dir, host) = host();
    for (length, expected) in [(999, (999, false)), (1_000, (1_000, false)), (1_001, (1_000, true))] {
        let (port, _) = server(Does::Sends(answer("200 OK", &vec![b'x'; length]))).await;
        let response = host.http(&get(&format!("http://127.0.0.1:{port}/")), soon(20_000)).await.unwrap();
        assert_eq!((response.body.len(), response.cut), expected);
    }
    // 64 MiB of zeros in 64 KiB.
    let mut bomb = flate();
    let block = vec![0; 1 << 20];
    for _ in 0..64 {
        bomb.write_all(&block).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 1 << 17);
    let (port, _) = server(Does::Sends(answer("200 OK\r\ncontent-encoding: gzip", &bomb))).await;
    let response = host.http(&get(&format!("http://127.0.0.1:{port}/")), soon(20_000)).await.unwrap();
    assert_eq!((response.body.len(), response.cut), (1_000, true));
    let (port, _) = server(Does::Sends(answer("200 OK\r\ncontent-encoding: gzip", b"not gzip at all, really"))).await;
    assert_eq!(code(host.http(&get(&format!("http://127.0.0.1:{port}/")), soon(20_000)).await), "bad_answer");
}

fn flate() -> flate2::write::GzEncoder<Vec<u8>> {
    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best())
}

#[tokio::test]
async fn bad_servers_are_told_apart() {
    let (_dir, host) = host();
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
    let many = (0..500).fold("HTTP/1.1 200 OK\r\n".to_owned(), |head, n| head + &format!("x-{n}: y\r\n"));
    for (does, expected) in [
        (Does::Resets, "connection_reset"),
        (Does::Sends(Vec::new()), "connection_reset"),
        (Does::Sends(b"HTTP/1.1 200 OK\r\nx-half: ".to_vec()), "connection_reset"),
        (Does::Sends(half.clone()), "connection_reset"),
        (Does::Sends(b"220 mail.example ESMTP\r\n".to_vec()), "bad_answer"),
        (Does::Sends(format!("{many}\r\n").into_bytes()), "bad_answer"),
        (Does::SendsAndHolds(Vec::new()), "no_answer"),
        (Does::SendsAndHolds(b"HTTP/1.1 200 OK\r\nx-half: ".to_vec()), "no_answer"),
        (Does::SendsAndHolds(half), "no_answer"),
    ] {
        let held = matches!(does, Does::SendsAndHolds(_));
        let (port, _) = server(does).await;
        let url = format!("http://u:hunter2@127.0.0.1:{port}/p?token=hunter3");
        let unread = host.http(&get(&url), soon(if held { 400 } else { 20_000 })).await.unwrap_err();
        assert_eq!((unread.blame, unread.code.as_str()), (Blame::Target, expected), "{}", unread.said);
        assert!(unread.said.as_str().contains(&port.to_string()), "{}", unread.said);
        assert!(!unread.said.as_str().contains("hunter"), "{}", unread.said);
    }
}

#[tokio::test]
async fn nobody_there_is_told_from_somebody_silent() {
    let (_dir, host) = host();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(code(host.http(&get(&format!("http://127.0.0.1:{closed}/")), soon(20_000)).await), "connection_refused");
    let nowhere = host.http(&get("http://no such host/"), soon(20_000)).await.unwrap_err();
    assert_eq!((nowhere.blame, nowhere.code.as_str()), (Blame::Blind, "bad_request"));
    assert_eq!(code(host.http(&get("http://nowhere.invalid./"), soon(30_000)).await), "dns_failed");

    // A full queue of connections: the system drops what comes, as a firewall would.
    let full = socket_with_full_queue().await;
    let before = Instant::now();
    for scheme in ["http", "https"] {
        let unread = host.http(&get(&format!("{scheme}://{}/", full.address)), soon(600)).await.unwrap_err();
        assert_eq!(unread.code.as_str(), "connect_timeout", "{}", unread.said);
    }
    assert!(before.elapsed() < Duration::from_secs(10));
    // TLS never begins, but somebody takes the connection.
    let (port, _) = server(Does::SendsAndHolds(Vec::new())).await;
    assert_eq!(code(host.http(&get(&format!("https://127.0.0.1:{port}/")), soon(600)).await), "no_answer");
}

struct Full {
    address: SocketAddr,
    _listener: std::net::TcpListener,
    _queued: Vec<TcpStream>,
}
async fn socket_with_full_queue() -> Full {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&socket, 0).unwrap();
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue does not fill");
    }
    Full { address, _listener: listener, _queued: queued }
}

#[tokio::test]
async fn redirects_are_followed_with_care() {
    let (_dir, host) = host();
    let (echo, echoed) = server(Does::Echoes).await;
    let (to_echo, _) = server(Does::Sends(redirect(&format!("http://127.0.0.1:{echo}/there")))).await;
    let (around, rounds) = server(Does::Sends(redirect("/again"))).await;
    let (keeps, _) = server(Does::Sends(answer(&format!("307 Keep\r\nlocation: http://127.0.0.1:{echo}/"), b""))).await;
    let with_key = |url: String| Request { headers: vec![("x-key".to_owned(), Secret::new("k"))], ..get(&url) };

    let there = host.http(&with_key(format!("http://127.0.0.1:{to_echo}/")), soon(20_000)).await.unwrap();
    assert_eq!(there.url, format!("http://127.0.0.1:{echo}/there"));
    assert!(!String::from_utf8_lossy(&there.body).contains("x-key"), "a header went to another server");

    let loops = host.http(&with_key(format!("http://127.0.0.1:{around}/")), soon(20_000)).await;
    assert_eq!((code(loops).as_str(), rounds.load(Ordering::SeqCst)), ("too_many_redirects", 6));
    let unfollowed = Request { redirects: 0, ..get(&format!("http://127.0.0.1:{around}/")) };
    let itself = host.http(&unfollowed, soon(20_000)).await.unwrap();
    assert_eq!((itself.status, itself.body.as_slice()), (302, b"moved".as_slice()));

    let before = echoed.load(Ordering::SeqCst);
    let post = Request {
        method: "POST".to_owned(),
        body: Some(b"secret".to_vec()),
        ..get(&format!("http://127.0.0.1:{keeps}/"))
    };
    assert_eq!(code(host.http(&post, soon(20_000)).await), "redirect_refused");
    assert_eq!(echoed.load(Ordering::SeqCst), before, "the body went to another server");
}

#[tokio::test]
async fn what_can_not_be_sent_is_the_configs() {
    let (dir, host) = host();
    let url = "http://127.0.0.1:1/";
    let header = |name: &str, value: &str| Request { headers: vec![(name.to_owned(), Secret::new(value))], ..get(url) };
    let no_pem = dir.path().join("no.pem");
    files::replace(&no_pem, b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n", 0o600).unwrap();
    let roots = |path: &Path| Request { extra_roots: Some(path.to_owned()), ..get("https://127.0.0.1:1/") };
    for (request, code) in [
        (get("not a url?hunter2"), "bad_request"),
        (get("ftp://x/hunter2"), "bad_request"),
        (Request { method: "G T".to_owned(), ..get(url) }, "bad_request"),
        (header("a b", "hunter2"), "bad_request"),
        (header("a", "hunter2\r\nx: y"), "bad_request"),
        (roots(&dir.path().join("none.pem")), "roots_unreadable"),
        (roots(&no_pem), "roots_unreadable"),
        (roots(dir.path()), "roots_unreadable"),
    ] {
        let unread = host.http(&request, soon(20_000)).await.unwrap_err();
        assert_eq!((unread.blame, unread.code.as_str()), (Blame::Blind, code), "{}", unread.said);
        assert!(!unread.said.as_str().contains("hunter2"), "{}", unread.said);
    }
}

/// A TLS server that answers `200` to every request, with a certificate for `localhost` made to order.
async fn tls_server(order: impl FnOnce(&mut rcgen::CertificateParams)) -> (u16, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    order(&mut params);
    let cert = params.self_signed(&key).unwrap();
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], private)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    behave(&mut stream, Does::Sends(answer("200 OK", b"safe"))).await;
                }
            });
        }
    });
    (port, cert.pem())
}

#[tokio::test]
async fn trust_comes_from_the_system_or_a_file_and_its_lack_is_told_in_words() {
    let (dir, mut host) = host();
    let (port, pem) = tls_server(|_| {}).await;
    let (expired, expired_pem) = tls_server(|params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    })
    .await;
    let file = dir.path().join("ca.pem");
    files::replace(&file, format!("{pem}{expired_pem}").as_bytes(), 0o600).unwrap();
    let url = format!("https://localhost:{port}/");
    let trusting = |url: &str| Request { extra_roots: Some(file.clone()), ..get(url) };
    assert_eq!(host.http(&trusting(&url), soon(20_000)).await.unwrap().body, b"safe");
    for (request, words) in [
        (get(&url), "the certificate's issuer is not trusted"),
        (trusting(&format!("https://127.0.0.1:{port}/")), "the certificate is for another name"),
        (trusting(&format!("https://localhost:{expired}/")), "the certificate has expired"),
    ] {
        let unread = host.http(&request, soon(20_000)).await.unwrap_err();
        assert_eq!((unread.blame, unread.code.as_str()), (Blame::Target, "tls_failed"), "{}", unread.said);
        assert!(unread.said.as_str().contains(words), "{}", unread.said);
    }
    let (plain, _) = server(Does::Greets(answer("400 Bad Request", b"plain HTTP"))).await;
    let unread = host.http(&trusting(&format!("https://localhost:{plain}/")), soon(20_000)).await.unwrap_err();
    assert_eq!(unread.code.as_str(), "tls_failed", "{}", unread.said);
    assert!(unread.said.as_str().contains("does not speak TLS"), "{}", unread.said);

    // The same file as the system's own, and then none at all.
    host.env.insert("SSL_CERT_FILE".into(), file.into());
    let system = Host::new(host.clock, host.env.clone(), host.paths.clone());
    assert_eq!(system.http(&get(&url), soon(20_000)).await.unwrap().status, 200);
    host.env.insert("SSL_CERT_FILE".into(), dir.path().join("none").into());
    let none = Host::new(host.clock, host.env.clone(), host.paths.clone());
    let unread = none.http(&get(&url), soon(20_000)).await.unwrap_err();
    assert!(unread.said.as_str().contains("no trusted certificates"), "{}", unread.said);
}

#[tokio::test]
async fn a_proxy_is_used_for_others_and_never_for_this_machine() {
    let (_dir, mut host) = host();
    let (proxy, came) = server(Does::Echoes).await;
    let (own, _) = server(Does::Sends(answer("200 OK", b"own"))).await;
    host.env.insert("http_proxy".into(), format!("http://u:p@127.0.0.1:{proxy}").into());
    let direct = host.http(&get(&format!("http://127.0.0.1:{own}/")), soon(20_000)).await.unwrap();
    assert_eq!((direct.body.as_slice(), came.load(Ordering::SeqCst)), (b"own".as_slice(), 0));
    let through = host.http(&get("http://nowhere.invalid/x"), soon(20_000)).await.unwrap();
    let echoed = String::from_utf8(through.body).unwrap();
    assert!(echoed.starts_with("GET http://nowhere.invalid/x HTTP/1.1\r\n"), "{echoed}");
    assert!(echoed.contains("proxy-authorization: Basic dTpw"), "{echoed}");
}

#[tokio::test]
async fn a_dropped_or_ended_request_gives_its_slot_back() {
    let (_dir, host) = host();
    let all = host.slots.available_permits();
    let (port, _) = server(Does::SendsAndHolds(Vec::new())).await;
    {
        let request = get(&format!("http://127.0.0.1:{port}/"));
        let asking = host.http(&request, soon(60_000));
        tokio::pin!(asking);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut asking).await.is_err());
        assert_eq!(host.slots.available_permits(), all - 1);
    }
    assert_eq!(host.slots.available_permits(), all);
}
