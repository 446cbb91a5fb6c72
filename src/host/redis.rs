//! A connection to a Redis (or Valkey) server: its own words for what it refuses, bounded in bytes and time.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, RedisConnectionInfo, RedisError, Value,
};
use rustls_pki_types::ServerName;
use serde_json::Value as Json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout_at};

use super::bounded::Bounded;
use super::{Host, files, net};
use crate::clean;
use crate::facts::Unread;
use crate::redact::{Clean, Secret};

/// Bytes that a server may send over one connection.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Nesting of an answer beyond this is left out.
const MAX_DEPTH: usize = 8;

/// A connection that was logged in.
pub struct Redis {
    connection: MultiplexedConnection,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
    place: Clean,
    deadline: Instant,
    too_much: Arc<AtomicBool>,
    _slot: net::Slot,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Host {
    /// Connects to `redis://user:password@host:port/database` and logs in; `rediss://` is TLS verified with our roots,
    /// `redis+unix:///path` a socket. What is asked later is under the same deadline. The codes are those of
    /// `REDIS_REASONS`, `CONNECT_REASONS` and `LANE_REASONS` in `kinds::common`.
    pub async fn redis(&self, url: &Secret, deadline: Instant) -> Result<Redis, Unread> {
        let (at, info, tls) = read(url.expose())
            .ok_or_else(|| Unread::blind("redis_url", clean!("the Redis URL is no `redis://` URL that can be read")))?;
        match at {
            ConnectionAddr::Tcp(name, port) => {
                let place = net::place(&name, port);
                let net::Connection { stream, slot, .. } = self.connect(&name, port, deadline).await?;
                if !tls {
                    return login(stream, info, place, deadline, slot).await;
                }
                let failed =
                    |why: Clean| Unread::target("redis_tls_failed", clean!("no trusted TLS to {place}: {why}"));
                let config = self.verified_tls(None, deadline).await.map_err(|unread| match unread.code.as_str() {
                    "client_failed" => failed(unread.said),
                    _ => unread,
                })?;
                let server = ServerName::try_from(name).map_err(|_| failed(Clean::new("it has no name")))?;
                let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
                let stream = timeout_at(deadline, connector.connect(server, stream))
                    .await
                    .map_err(|_| failed(Clean::new("it answers no handshake (does it speak TLS?)")))?
                    .map_err(|error| failed(Clean::line(&error.to_string(), 200)))?;
                login(stream, info, place, deadline, slot).await
            }
            ConnectionAddr::Unix(path) => {
                let place = files::shown(&path);
                let slot = net::slot(&self.slots, deadline).await?;
                let stream = timeout_at(deadline, UnixStream::connect(&path))
                    .await
                    .map_err(|_| late(&place))?
                    .map_err(|error| net::connect_failed(&place, &error))?;
                login(stream, info, place, deadline, slot).await
            }
            _ => Err(Unread::blind("redis_url", clean!("the Redis URL leads nowhere that is known"))),
        }
    }
}

/// Where a URL leads, who logs in there, and whether by TLS.
fn read(url: &str) -> Option<(ConnectionAddr, RedisConnectionInfo, bool)> {
    let (plain, tls) = match url.strip_prefix("rediss://") {
        Some(rest) => (format!("redis://{rest}"), true),
        None => (url.to_owned(), false),
    };
    if !plain.starts_with("redis://") && !plain.starts_with("redis+unix://") {
        return None;
    }
    let info = plain.into_connection_info().ok()?;
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    Some((info.addr().clone(), settings, tls))
}

async fn login<S>(
    stream: S,
    info: RedisConnectionInfo,
    place: Clean,
    deadline: Instant,
    slot: net::Slot,
) -> Result<Redis, Unread>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let stream = Bounded::new(stream, MAX_BYTES);
    let too_much = stream.broken();
    let made = timeout_at(deadline, MultiplexedConnection::new_with_config(&info, stream, config)).await;
    let (connection, driver) = made.map_err(|_| late(&place))?.map_err(|error| failed(&place, &error))?;
    Ok(Redis { connection, driver: Box::pin(driver.fuse()), place, deadline, too_much, _slot: slot })
}

impl Redis {
    /// One command and its answer: nil is null, bytes are text.
    pub async fn ask(&mut self, words: &[&str]) -> Result<Json, Unread> {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(word);
        }
        let Self { connection, driver, place, deadline, too_much, .. } = self;
        let answer = async {
            let mut query = pin!(command.query_async::<Value>(connection));
            tokio::select! {
                biased;
                answer = &mut query => answer,
                // The answer may have come with the end.
                () = driver => query.await,
            }
        };
        let answer = timeout_at(*deadline, answer).await.map_err(|_| late(place))?;
        answer.map(|value| json(value, MAX_DEPTH)).map_err(|error| {
            if too_much.load(Ordering::Relaxed) {
                let said = clean!("the answer of Redis at {place} is larger than {} MiB", MAX_BYTES / 1024 / 1024);
                return Unread::blind("redis_query_refused", said);
            }
            failed(place, &error)
        })
    }
}

fn json(value: Value, depth_left: usize) -> Json {
    let text = |bytes: &[u8]| Json::String(String::from_utf8_lossy(bytes).into_owned());
    match (value, depth_left.checked_sub(1)) {
        (Value::Int(number), _) => number.into(),
        (Value::Double(number), _) => number.into(),
        (Value::Boolean(flag), _) => flag.into(),
        (Value::Okay, _) => "OK".into(),
        (Value::SimpleString(said), _) => said.into(),
        (Value::BulkString(bytes), _) => text(&bytes),
        (Value::VerbatimString { text, .. }, _) => text.into(),
        (Value::Array(list) | Value::Set(list), Some(left)) => {
            Json::Array(list.into_iter().map(|value| json(value, left)).collect())
        }
        (Value::Map(pairs), Some(left)) => {
            Json::Array(pairs.into_iter().flat_map(|(key, value)| [json(key, left), json(value, left)]).collect())
        }
        _ => Json::Null,
    }
}

fn late(place: &Clean) -> Unread {
    Unread::target("no_answer", clean!("Redis at {place} gave no answer in time"))
}

/// What a server says no with, or how the connection ended.
fn failed(place: &Clean, error: &RedisError) -> Unread {
    let code = error.code().unwrap_or_default().to_owned();
    let detail = Clean::line(error.detail().unwrap_or_default(), 200);
    let by = |what: &str| clean!("Redis at {place} {what}: {}", clean!("{code} {detail}").quoted());
    match (code.as_str(), error.kind()) {
        ("LOADING", _) => Unread::target("redis_loading", clean!("Redis at {place} is still reading its data in")),
        ("NOAUTH", _) => Unread::blind("redis_login_refused", clean!("Redis at {place} wants a password")),
        ("WRONGPASS", _) | (_, ErrorKind::AuthenticationFailed) => {
            Unread::blind("redis_login_refused", clean!("Redis at {place} refuses the user or the password"))
        }
        ("NOPERM", _) => Unread::blind("redis_query_refused", by("does not let us")),
        ("BUSY" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN", _) => {
            Unread::target("redis_not_ready", by("can't answer now"))
        }
        ("", _) => {
            let said = error.to_string();
            let said = clean!("the connection to Redis at {place} broke: {}", Clean::line(&said, 200));
            Unread::target("redis_broken", said)
        }
        _ => Unread::blind("redis_query_refused", by("refuses")),
    }
}
