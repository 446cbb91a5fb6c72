//! What connections to stores have in common: a bound on the bytes that come, and TLS that is verified.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Host;
use crate::clean;
use crate::facts::Unread;

/// What the error says when more came than is read.
pub(super) const TOO_MUCH: &str = "more than is read";

/// A stream that breaks when more comes than is read.
#[derive(Debug)]
pub(super) struct Bounded<S> {
    stream: S,
    left: usize,
    broken: Arc<AtomicBool>,
}

impl<S> Bounded<S> {
    pub(super) fn new(stream: S, max_bytes: usize) -> Self {
        Self { stream, left: max_bytes, broken: Arc::default() }
    }

    /// Tells later whether more came, for whom the error does not reach.
    pub(super) fn broken(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.broken)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let came = buf.filled().len().saturating_sub(before);
        let Some(left) = self.left.checked_sub(came) else {
            self.broken.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::other(TOO_MUCH)));
        };
        self.left = left;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Host {
    /// TLS that trusts this machine's roots and the certificates of a PEM file. Codes: `roots_unreadable`, `client_failed`,
    /// and those of a lane.
    pub(super) async fn verified_tls(&self, extra: Option<&Path>, deadline: Instant) -> Result<ClientConfig, Unread> {
        let mut roots = RootCertStore::clone(&self.roots(deadline).await?.store);
        if let Some(path) = extra {
            roots.add_parsable_certificates(self.certificates(path, deadline).await?);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder =
            builder.map_err(|error| Unread::ours("client_failed", clean!("no TLS can be set up: {error}")))?;
        Ok(builder.with_root_certificates(roots).with_no_client_auth())
    }
}
