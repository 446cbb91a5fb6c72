//! Names and connections, with whose fault it is when none comes about.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpStream;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::lanes::Lanes;
use super::{Host, files};
use crate::clean;
use crate::facts::{Blame, Unread};
use crate::redact::Clean;

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 16;
/// The next address is tried when the one before has not answered for this long (RFC 8305 §8).
const STAGGER: Duration = Duration::from_millis(250);

/// Whether a host name or address means this machine (`localhost`, 127.0.0.0/8, `::1`, the unspecified addresses).
/// Brackets around an IPv6 address and a trailing dot are allowed.
#[must_use]
pub fn is_local(host: &str) -> bool {
    if let Some(address) = literal(host) {
        return address.to_canonical().is_loopback() || address.is_unspecified();
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// An address written as one, in brackets or not.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// How many connections at once the descriptors allow: two each, some left for everything else.
pub(super) fn slots() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.and_then(|limit| usize::try_from(limit).ok());
    descriptors.map_or(512, |limit| (limit.saturating_sub(64) / 2).clamp(1, 512))
}

/// One of the connection slots; free again when it is dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

pub(super) async fn slot(slots: &Arc<Semaphore>, deadline: Instant) -> Result<Slot, Unread> {
    match timeout_at(deadline, Arc::clone(slots).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(Slot(permit)),
        _ => Err(Unread::ours("connections_busy", Clean::new("no connection slot came free in time"))),
    }
}

type Found = Result<Arc<[IpAddr]>, Unread>;

/// The names of a cycle, each resolved once.
#[derive(Debug)]
pub(super) struct Names {
    lanes: Arc<Lanes>,
    known: Mutex<BTreeMap<String, Arc<OnceCell<Found>>>>,
}

impl Names {
    pub(super) fn new(lanes: Arc<Lanes>) -> Self {
        Self { lanes, known: Mutex::default() }
    }

    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The addresses of a name, at most [`MAX_ADDRESSES`], in the system's order of preference.
    pub(super) async fn resolve(&self, name: &str, deadline: Instant) -> Found {
        if let Some(address) = literal(name) {
            return Ok(Arc::from([address]));
        }
        let name = name.to_ascii_lowercase();
        let cell = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(known.entry(name.clone()).or_default())
        };
        // Those who wait for somebody else's look-up wait no longer than their own deadline. An answer of the system
        // holds for the cycle; that none came, or that we were busy, holds for nobody else.
        let looked = cell.get_or_try_init(|| async {
            match self.look_up(&name, deadline).await {
                Err(unread) if unread.blame == Blame::Ours || unread.code.as_str() != "dns_failed" => Err(unread),
                settled => Ok(settled),
            }
        });
        match timeout_at(deadline, looked).await {
            Ok(Ok(found)) => found.clone(),
            Ok(Err(unread)) => Err(unread),
            Err(_) => Err(dns_timeout(&name)),
        }
    }

    async fn look_up(&self, name: &str, deadline: Instant) -> Found {
        let asked = name.to_owned();
        let about = format!("name {name}");
        let looked = self.lanes.run(&about, deadline, move || {
            // The port is not asked for; it only has to be a number.
            let mut found: Vec<IpAddr> = Vec::new();
            for address in (asked.as_str(), 0).to_socket_addrs()? {
                if !found.contains(&address.ip()) && found.len() < MAX_ADDRESSES {
                    found.push(address.ip());
                }
            }
            io::Result::Ok(found)
        });
        match looked.await {
            Ok(Ok(found)) if found.is_empty() => Err(dns_failed(name, "no address")),
            Ok(Ok(found)) => Ok(Arc::from(found)),
            Ok(Err(error)) if out_of_descriptors(&error) => Err(no_descriptor()),
            Ok(Err(error)) => {
                let text = files::plain(&error);
                Err(dns_failed(name, text.strip_prefix("failed to lookup address information: ").unwrap_or(&text)))
            }
            Err(unread) if unread.code.as_str() == "no_answer" => Err(dns_timeout(name)),
            Err(unread) => Err(unread),
        }
    }
}

fn shown(name: &str) -> Clean {
    clean!("`{}`", Clean::line(name, 253))
}
fn dns_failed(name: &str, why: &str) -> Unread {
    Unread::target("dns_failed", clean!("{} has no address: {}", shown(name), Clean::line(why, 200)))
}
fn dns_timeout(name: &str) -> Unread {
    Unread::target("dns_timeout", clean!("the name server gave no address of {} in time", shown(name)))
}
fn no_descriptor() -> Unread {
    Unread::ours("out_of_descriptors", Clean::new("no file descriptor is left (raise `ulimit -n`)"))
}
pub(super) fn out_of_descriptors(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Host {
    /// The addresses of a name (an address is its own), at most 16; asked for once a cycle. Codes: `dns_failed` (target),
    /// `dns_timeout` (target), those of a lane.
    pub async fn resolve(&self, name: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Unread> {
        let found = self.names.resolve(name, deadline).await?;
        Ok(found.iter().map(|address| SocketAddr::new(*address, port)).collect())
    }
    /// A TCP connection to the first address that answers (happy eyeballs). Codes beside those of `resolve`: `connect_timeout`,
    /// `connection_refused`, `unreachable` (all target), `out_of_descriptors` (ours). Waits for a connection slot
    /// (min(512, (descriptors − 64) / 2) at once); no slot by the deadline is `connections_busy` (ours).
    pub async fn connect(&self, name: &str, port: u16, deadline: Instant) -> Result<Connection, Unread> {
        // A silent name server holds no slot.
        let addresses = self.resolve(name, port, deadline).await?;
        let slot = slot(&self.slots, deadline).await?;
        let place = place(name, port);
        let (stream, peer) = race(&addresses, &place, deadline, TcpStream::connect).await?;
        // Health questions are small; waiting to fill a packet only makes them slower.
        let _kept_slow = stream.set_nodelay(true);
        Ok(Connection { stream, peer, slot })
    }
}

/// `host:port` for sentences.
pub(super) fn place(name: &str, port: u16) -> Clean {
    match literal(name) {
        Some(address) => clean!("{}", SocketAddr::new(address, port)),
        None => clean!("{}:{port}", Clean::line(name, 253)),
    }
}

/// Tries the addresses in order, the next one when the one before failed or is silent for [`STAGGER`].
pub(super) async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: &[SocketAddr],
    place: &Clean,
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<(T, SocketAddr), Unread> {
    let began = Instant::now();
    let mut to_try = addresses.iter().copied();
    let mut under_way = FuturesUnordered::new();
    let mut first_failure: Option<io::Error> = None;
    let mut next_at = began;
    loop {
        if under_way.is_empty() || Instant::now() >= next_at {
            if let Some(address) = to_try.next() {
                let attempt = connect(address);
                under_way.push(async move { (attempt.await, address) });
                next_at = Instant::now() + STAGGER;
            } else if under_way.is_empty() {
                return Err(not_connected(place, first_failure));
            }
        }
        let more = to_try.len() > 0;
        tokio::select! {
            Some((outcome, address)) = under_way.next() => match outcome {
                Ok(stream) => return Ok((stream, address)),
                // Trying the next one would fail the same way.
                Err(error) if out_of_descriptors(&error) => return Err(no_descriptor()),
                Err(error) => {
                    first_failure.get_or_insert(error);
                    next_at = Instant::now();
                }
            },
            () = sleep_until(next_at), if more => {}
            () = sleep_until(deadline) => {
                let took = began.elapsed().as_secs_f64();
                return Err(Unread::target("connect_timeout", clean!("no connection to {place} within {took:.1} s")));
            }
        }
    }
}

/// Why no connection came about, by what the system said of the preferred address.
fn not_connected(place: &Clean, error: Option<io::Error>) -> Unread {
    match error {
        Some(error) => connect_failed(place, &error),
        None => Unread::target("dns_failed", clean!("{place} has no address")),
    }
}

pub(super) fn connect_failed(place: &Clean, error: &io::Error) -> Unread {
    if out_of_descriptors(error) {
        return no_descriptor();
    }
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => {
            Unread::target("connection_refused", clean!("{place} refuses connections"))
        }
        ErrorKind::TimedOut => {
            Unread::target("connect_timeout", clean!("no connection to {place}: the system gave up"))
        }
        // Host and network unreachable, a local firewall's refusal, an address family that this machine has not.
        _ => Unread::target("unreachable", clean!("{place} is unreachable: {}", files::plain(error))),
    }
}

/// A connection and the slot it holds.
#[derive(Debug)]
pub struct Connection {
    /// The stream.
    pub stream: TcpStream,
    /// Who answered.
    pub peer: SocketAddr,
    /// To be kept as long as the stream.
    pub slot: Slot,
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    fn soon(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }
    fn host() -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::for_tests(dir.path());
        (dir, host)
    }
    fn address(last: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, last), 80))
    }

    #[test]
    fn this_machine_is_known_by_its_names() {
        for (name, local) in [
            ("localhost", true),
            ("LocalHost.", true),
            ("a.localhost", true),
            ("127.8.9.1", true),
            ("::1", true),
            ("[::1]", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", true),
            ("128.0.0.1", false),
            ("localhost.example.com", false),
            ("notlocalhost", false),
            ("", false),
        ] {
            assert_eq!(is_local(name), local, "{name}");
        }
    }

    #[test]
    fn there_are_slots_and_no_more_than_512() {
        assert!((1..=512).contains(&slots()));
    }

    #[tokio::test]
    async fn addresses_are_their_own_and_names_are_asked_once() {
        let (_dir, host) = host();
        let literal = host.resolve("[::1]", 7, soon(10_000)).await.unwrap();
        assert_eq!(literal, ["[::1]:7".parse().unwrap()]);
        assert!(host.names.known.lock().unwrap().is_empty());
        let local = host.resolve("LOCALHOST", 7, soon(10_000)).await.unwrap();
        assert!(local.iter().all(|address| address.ip().is_loopback() && address.port() == 7), "{local:?}");
        let cell = Arc::clone(&host.names.known.lock().unwrap()["localhost"]);
        host.resolve("localhost", 8, soon(10_000)).await.unwrap();
        assert!(Arc::ptr_eq(&cell, &host.names.known.lock().unwrap()["localhost"]));
        host.new_cycle();
        assert!(host.names.known.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_name_that_can_not_be_is_the_targets() {
        let (_dir, host) = host();
        for name in ["", "no such name", "nul\0nul"] {
            let unread = host.connect(name, 80, soon(30_000)).await.unwrap_err();
            assert_eq!(
                (unread.blame, unread.code.as_str()),
                (Blame::Target, "dns_failed"),
                "{name:?}: {}",
                unread.said
            );
        }
    }

    #[tokio::test]
    async fn a_connection_holds_its_slot() {
        let (_dir, host) = host();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let all = host.slots.available_permits();
        let connection = host.connect("127.0.0.1", port, soon(20_000)).await.unwrap();
        assert_eq!(connection.peer, listener.local_addr().unwrap());
        assert_eq!(host.slots.available_permits(), all - 1);
        let others = Arc::clone(&host.slots).acquire_many_owned(u32::try_from(all - 1).unwrap()).await.unwrap();
        let busy = host.connect("127.0.0.1", port, soon(30)).await.unwrap_err();
        assert_eq!((busy.blame, busy.code.as_str()), (Blame::Ours, "connections_busy"));
        drop(connection);
        host.connect("127.0.0.1", port, soon(20_000)).await.unwrap();
        drop(others);
    }

    #[tokio::test]
    async fn a_closed_port_refuses() {
        let (_dir, host) = host();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let unread = host.connect("127.0.0.1", port, soon(20_000)).await.unwrap_err();
        assert_eq!(unread.code.as_str(), "connection_refused");
        assert!(unread.said.as_str().contains(&format!("127.0.0.1:{port}")), "{}", unread.said);
    }

    #[tokio::test]
    async fn silent_addresses_do_not_hold_up_the_next_one() {
        let place = Clean::new("example:80");
        let tried = AtomicUsize::new(0);
        let began = Instant::now();
        let connect = |address: SocketAddr| {
            tried.fetch_add(1, Ordering::SeqCst);
            async move {
                match address.ip().to_string().as_str() {
                    "192.0.2.1" => std::future::pending().await,
                    "192.0.2.2" => Err(io::Error::from(ErrorKind::ConnectionRefused)),
                    _ => Ok(()),
                }
            }
        };
        let won = race(&[address(1), address(2), address(3), address(4)], &place, soon(10_000), connect).await;
        assert_eq!(won, Ok(((), address(3))));
        assert_eq!(tried.load(Ordering::SeqCst), 3);
        assert!(began.elapsed() >= STAGGER);

        let refused = race(&[address(2), address(2)], &place, soon(10_000), connect).await.unwrap_err();
        assert_eq!(refused.code.as_str(), "connection_refused");
        let silent = race(&[address(2), address(1)], &place, soon(100), connect).await.unwrap_err();
        assert_eq!(silent.code.as_str(), "connect_timeout");
        assert_eq!(silent.said.as_str(), "no connection to example:80 within 0.1 s");
    }

    #[test]
    fn errors_are_told_apart() {
        let place = Clean::new("example:80");
        for (errno, blame, code) in [
            (Errno::CONNREFUSED, Blame::Target, "connection_refused"),
            (Errno::HOSTUNREACH, Blame::Target, "unreachable"),
            (Errno::NETUNREACH, Blame::Target, "unreachable"),
            (Errno::TIMEDOUT, Blame::Target, "connect_timeout"),
            (Errno::MFILE, Blame::Ours, "out_of_descriptors"),
            (Errno::NFILE, Blame::Ours, "out_of_descriptors"),
        ] {
            let unread = connect_failed(&place, &io::Error::from(errno));
            assert_eq!((unread.blame, unread.code.as_str()), (blame, code), "{errno:?}");
        }
    }
}
