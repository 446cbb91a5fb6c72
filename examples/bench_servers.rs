//! Loopback servers for `benches/one_shot`: HTTP, a greeting over TCP, TLS, and one that takes connections and is silent.
//! Writes the TLS server's certificate to the path given, prints the ports as one line of JSON, and serves until its
//! stdin ends.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"ready\":true}";
const GREETING: &[u8] = b"220 ready\r\n";
/// Connections that may wait to be taken: a cycle of 10,000 checks opens hundreds at once.
const BACKLOG: u32 = 4_096;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let certificate = std::env::args().nth(1).ok_or("which file is the certificate to be written to?")?;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    pulsecheck::host::files::replace(certificate.as_ref(), made.cert.pem().as_bytes(), 0o600)?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));

    let (http, tcp, tls, hung) = (listener()?, listener()?, listener()?, listener()?);
    let ports = [&http, &tcp, &tls, &hung].map(|listener| listener.local_addr().map(|at| at.port()));
    let [http_port, tcp_port, tls_port, hung_port] = ports;
    writeln!(
        std::io::stdout(),
        r#"{{"http": {}, "tcp": {}, "tls": {}, "hung": {}}}"#,
        http_port?,
        tcp_port?,
        tls_port?,
        hung_port?
    )?;

    tokio::spawn(serve(http, |stream| async move { answer(stream).await }));
    tokio::spawn(serve(tcp, |mut stream| async move { stream.write_all(GREETING).await }));
    tokio::spawn(serve(tls, move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let mut stream = acceptor.accept(stream).await?;
            let mut rest = [0; 256];
            while stream.read(&mut rest).await? > 0 {}
            Ok(())
        }
    }));
    tokio::spawn(serve(hung, |mut stream| async move {
        let mut rest = [0; 256];
        while stream.read(&mut rest).await? > 0 {}
        Ok(())
    }));
    // Not tokio's own stdin: it would be read on a thread that the end of the program waits for.
    let (closed, wait) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _nobody_waits = closed.send(ended);
    });
    let _ended = wait.await?;
    Ok(())
}

fn listener() -> std::io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(BACKLOG)
}

async fn serve<F, Done>(listener: TcpListener, with: F)
where
    F: Fn(TcpStream) -> Done,
    Done: Future<Output = std::io::Result<()>> + Send + 'static,
{
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(with(stream));
        }
    }
}

/// One answer to one request without a body.
async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let (mut request, mut buffer) = (Vec::new(), [0; 1_024]);
    while !request.ends_with(b"\r\n\r\n") {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend(buffer.get(..read).unwrap_or_default());
    }
    stream.write_all(ANSWER).await
}
