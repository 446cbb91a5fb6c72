//! TLS over a connection of ours, for dialogs that send a password: nobody is talked to whose certificate is not verified.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::errors::tls_words;
use super::{Host, net};
use crate::clean;
use crate::facts::Unread;

impl Host {
    /// Does a TLS handshake with a server that has to prove to be `name`, by this machine's roots and those of a PEM file.
    /// Codes: `tls_failed`, `connection_reset`, `no_answer` (target), `roots_unreadable` (blind), `client_failed` (ours).
    pub async fn secure(
        &self,
        stream: TcpStream,
        name: &str,
        port: u16,
        extra_roots: Option<&Path>,
        deadline: Instant,
    ) -> Result<TlsStream<TcpStream>, Unread> {
        let place = net::place(name, port);
        let bare = name.trim_matches(['[', ']']).to_owned();
        let server = ServerName::try_from(bare)
            .map_err(|_| Unread::target("tls_failed", clean!("no certificate can be made out for {place}")))?;
        let mut roots = RootCertStore::clone(&self.roots(deadline).await?.store);
        if let Some(path) = extra_roots {
            roots.add_parsable_certificates(self.certificates(path, deadline).await?);
        }
        let no_roots = roots.is_empty();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Unread::ours("client_failed", clean!("TLS can't be set up: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        match timeout_at(deadline, TlsConnector::from(Arc::new(config)).connect(server, stream)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
                let hint = if no_roots {
                    " (this machine has no trusted certificates; install `ca-certificates`)"
                } else {
                    ""
                };
                let closed = || clean!("{place} closed the connection during the TLS handshake");
                Err(inner.map_or_else(
                    || Unread::target("connection_reset", closed()),
                    |why| {
                        Unread::target("tls_failed", clean!("no TLS connection to {place}: {}{hint}", tls_words(why)))
                    },
                ))
            }
            Err(_) => Err(Unread::target("no_answer", clean!("{place} did not end the TLS handshake in time"))),
        }
    }
}
