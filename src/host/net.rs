//! Names and connections, with whose fault it is when none comes about.

use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Host;
use crate::facts::Unread;

/// Whether a host name or address means this machine (`localhost`, 127.0.0.0/8, ::1).
#[must_use]
pub fn is_local(_host: &str) -> bool {
    unimplemented!()
}

impl Host {
    /// The addresses of a name (an address is its own), at most 16. Codes: `dns_failed` (target), `dns_timeout` (target).
    pub async fn resolve(&self, _name: &str, _port: u16, _deadline: Instant) -> Result<Vec<SocketAddr>, Unread> {
        unimplemented!()
    }
    /// A TCP connection to the first address that answers (happy eyeballs). Codes beside those of `resolve`: `connect_timeout`,
    /// `connection_refused`, `unreachable` (all target), `out_of_descriptors` (ours). Waits for a connection slot
    /// (min(512, (descriptors − 64) / 2) at once); no slot by the deadline is `connections_busy` (ours).
    pub async fn connect(&self, _name: &str, _port: u16, _deadline: Instant) -> Result<Connection, Unread> {
        unimplemented!()
    }
}

/// A connection and the slot it holds.
#[derive(Debug)]
pub struct Connection {
    /// The stream.
    pub stream: TcpStream,
    /// Who answered.
    pub peer: SocketAddr,
}
