//! One query to a `PostgreSQL` server, over a connection of ours, read-only and bounded.

use tokio::time::Instant;

use super::Host;
use crate::facts::Unread;
use crate::redact::Secret;

/// Rows of a query's answer, each column as text where it is not null.
pub type Rows = Vec<Vec<Option<String>>>;

impl Host {
    /// Runs one SELECT in a read-only transaction with a statement timeout, and gives at most `max_rows` rows. `url` is a
    /// `postgres://user:password@host:port/database?sslmode=…` as libpq knows it, with one host or the folder of a socket;
    /// a password in the environment or a file is the caller's to put in.
    ///
    /// TLS is verified with our roots, and those in `sslrootcert`; there is none with `sslmode=disable`, nor to a socket or
    /// this machine unless it is asked for. The codes are those of `POSTGRES_REASONS`, `CONNECT_REASONS` and
    /// `LANE_REASONS` in `kinds::common`.
    pub async fn postgres(
        &self,
        url: &Secret,
        query: &str,
        max_rows: usize,
        deadline: Instant,
    ) -> Result<Rows, Unread> {
        #[cfg(feature = "postgres")]
        {
            asked::ask(self, url, query, max_rows, deadline).await
        }
        #[cfg(not(feature = "postgres"))]
        {
            let _unused = (url, query, max_rows, deadline);
            std::future::ready(()).await;
            let said = crate::clean!("this build has no PostgreSQL (feature `postgres`)");
            Err(Unread::blind("not_in_this_build", said))
        }
    }
}

#[cfg(feature = "postgres")]
mod asked {
    use std::path::PathBuf;
    use std::pin::pin;
    use std::time::Duration;

    use futures_util::TryStreamExt as _;
    use rustls::ClientConfig;
    use tokio::io::{AsyncRead, AsyncWrite};
    use tokio::net::UnixStream;
    use tokio::time::{Instant, timeout_at};
    use tokio_postgres::config::{Host as Place, SslMode};
    use tokio_postgres::error::SqlState;
    use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
    use tokio_postgres::{Client, Config, Error, NoTls, SimpleQueryMessage};
    use tokio_postgres_rustls::MakeRustlsConnect;

    use super::Rows;
    use crate::clean;
    use crate::facts::Unread;
    use crate::host::bounded::{Bounded, TOO_MUCH};
    use crate::host::{Host, net};
    use crate::redact::{Clean, Secret};

    /// Bytes that a server may send in all.
    const MAX_BYTES: usize = 4 * 1024 * 1024;
    /// How much sooner than the deadline the server gives up by itself, so that it can still say so.
    const MARGIN: Duration = Duration::from_millis(200);
    /// How long taking leave may take.
    const LEAVE: Duration = Duration::from_millis(200);

    /// Where a URL leads, and how.
    struct To {
        config: Config,
        at: At,
        /// For sentences: no password in it.
        place: Clean,
        tls: Option<Tls>,
    }
    enum At {
        Name(String, u16),
        Socket(PathBuf),
    }
    struct Tls {
        name: String,
        extra_roots: Option<PathBuf>,
    }

    pub(super) async fn ask(
        host: &Host,
        url: &Secret,
        query: &str,
        max_rows: usize,
        deadline: Instant,
    ) -> Result<Rows, Unread> {
        let to = read(url.expose()).map_err(|why| Unread::blind("postgres_url", clean!("the PostgreSQL URL {why}")))?;
        let question = Question { query, max_rows, deadline };
        match &to.at {
            At::Socket(path) => {
                // Slots are for connections that may hang for long; a descriptor is one all the same.
                let _slot = net::slot(&host.slots, deadline).await?;
                let stream = timeout_at(deadline, UnixStream::connect(path))
                    .await
                    .map_err(|_| late(&to.place))?
                    .map_err(|error| net::connect_failed(&to.place, &error))?;
                question.over(&to, stream, NoTls).await
            }
            At::Name(name, port) => {
                let connection = host.connect(name, *port, deadline).await?;
                match &to.tls {
                    None => question.over(&to, connection.stream, NoTls).await,
                    Some(tls) => {
                        let config = client_config(host, tls, &to.place, deadline).await?;
                        let mut maker = MakeRustlsConnect::new(config);
                        let Ok(connector) =
                            <MakeRustlsConnect as MakeTlsConnect<Bounded<tokio::net::TcpStream>>>::make_tls_connect(
                                &mut maker, &tls.name,
                            );
                        question.over(&to, connection.stream, connector).await
                    }
                }
            }
        }
    }

    /// Reads a URL. What is wrong with it is said without anything that stands in it.
    fn read(url: &str) -> Result<To, &'static str> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("does not begin with `postgres://`");
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut ssl_mode, mut extra_roots, mut kept) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => ssl_mode = Some(mode),
                Some(("sslrootcert", path)) => extra_roots = Some(PathBuf::from(path)),
                _ => kept.push(pair),
            }
        }
        let plain_url = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let mut config: Config =
            plain_url.parse().map_err(|_| "can't be read, or has a parameter that is not known")?;
        let [at] = config.get_hosts() else {
            return Err("names no host, or several (one is asked)");
        };
        let port = config.get_ports().first().copied().unwrap_or(5_432);
        let (at, place, local) = match at {
            Place::Tcp(name) => (At::Name(name.clone(), port), net::place(name, port), net::is_local(name)),
            Place::Unix(folder) => {
                let path = folder.join(format!(".s.PGSQL.{port}"));
                let place = crate::host::files::shown(&path);
                (At::Socket(path), place, true)
            }
        };
        let wants_tls = match ssl_mode {
            Some("disable") => false,
            Some("require" | "verify-ca" | "verify-full") => true,
            None | Some("prefer" | "allow") => !local,
            Some(_) => return Err("has an `sslmode` that is not known"),
        };
        let tls = match &at {
            At::Name(name, _) if wants_tls => Some(Tls { name: name.clone(), extra_roots }),
            _ => None,
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        config.application_name("pulsecheck");
        Ok(To { config, at, place, tls })
    }

    async fn client_config(host: &Host, tls: &Tls, place: &Clean, deadline: Instant) -> Result<ClientConfig, Unread> {
        let extra = tls.extra_roots.as_ref().map(|path| host.expand(&path.to_string_lossy()));
        host.verified_tls(extra.as_deref(), deadline).await.map_err(|unread| match unread.code.as_str() {
            "roots_unreadable" => Unread::blind("postgres_url", clean!("`sslrootcert`: {}", unread.said)),
            "client_failed" => Unread::target("postgres_tls_failed", clean!("no TLS to {place}: {}", unread.said)),
            _ => unread,
        })
    }

    struct Question<'a> {
        query: &'a str,
        max_rows: usize,
        deadline: Instant,
    }

    impl Question<'_> {
        /// Logs in over a stream, asks, and takes leave.
        async fn over<S, T>(&self, to: &To, stream: S, tls: T) -> Result<Rows, Unread>
        where
            S: AsyncRead + AsyncWrite + Unpin + Send,
            T: TlsConnect<Bounded<S>>,
        {
            let place = &to.place;
            let stream = Bounded::new(stream, MAX_BYTES);
            let login = timeout_at(self.deadline, to.config.connect_raw(stream, tls)).await;
            let (client, connection) = login.map_err(|_| late(place))?.map_err(|error| failed(place, &error))?;
            let mut connection = pin!(connection);
            let mut over = false;
            let answer = {
                let mut work = pin!(self.ask(&client));
                let all = async {
                    // The connection goes first: when it broke, it knows why.
                    tokio::select! {
                        biased;
                        ended = &mut connection => {
                            over = true;
                            ended?;
                            work.await
                        }
                        rows = &mut work => rows,
                    }
                };
                timeout_at(self.deadline, all).await.map_err(|_| late(place))?
            };
            drop(client);
            // Without a word of leave the server would log a broken connection.
            if !over {
                let leave = self.deadline.min(Instant::now() + LEAVE);
                let _left = timeout_at(leave, connection).await;
            }
            answer.map_err(|error| failed(place, &error))
        }

        async fn ask(&self, client: &Client) -> Result<Rows, Error> {
            let left = self.deadline.saturating_duration_since(Instant::now()).saturating_sub(MARGIN);
            let within = left.as_millis().max(1);
            client.batch_execute(&format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {within}")).await?;
            // As a cursor nothing but one SELECT is taken, and the server makes no more rows than are wanted.
            client.execute(&format!("DECLARE pulsecheck NO SCROLL CURSOR FOR {}", self.query), &[]).await?;
            let fetch = format!("FETCH FORWARD {} FROM pulsecheck", self.max_rows);
            let mut messages = pin!(client.simple_query_raw(&fetch).await?);
            let mut rows = Rows::new();
            while let Some(message) = messages.try_next().await? {
                if let SimpleQueryMessage::Row(row) = message {
                    rows.push((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect());
                }
            }
            client.batch_execute("ROLLBACK").await?;
            Ok(rows)
        }
    }

    fn late(place: &Clean) -> Unread {
        Unread::target("no_answer", clean!("PostgreSQL at {place} gave no answer in time"))
    }

    /// What went wrong between us and a server, by whose it is.
    fn failed(place: &Clean, error: &Error) -> Unread {
        if let Some(said) = error.as_db_error() {
            return refused(place, said.code(), &Clean::line(said.message(), 200));
        }
        let detail = Clean::line(&chain(error), 200);
        let text = detail.as_str();
        if text.contains(TOO_MUCH) {
            let said = clean!("the answer of PostgreSQL at {place} is larger than {} MiB", MAX_BYTES / 1024 / 1024);
            return Unread::blind("postgres_query_failed", said);
        }
        if text.starts_with("expected") && text.contains("parameters") {
            return Unread::blind("postgres_query_failed", clean!("the query for PostgreSQL has parameters ($1)"));
        }
        if text.contains("does not support TLS") {
            let said = clean!("PostgreSQL at {place} offers no TLS (`sslmode=disable` does without)");
            return Unread::target("postgres_tls_failed", said);
        }
        if text.contains("TLS handshake") {
            return Unread::target("postgres_tls_failed", clean!("no trusted TLS to PostgreSQL at {place}: {detail}"));
        }
        if text.contains("password missing") {
            let said = clean!("PostgreSQL at {place} wants a password, and none is given");
            return Unread::blind("postgres_login_refused", said);
        }
        if text.starts_with("authentication error") {
            let said = clean!("PostgreSQL at {place} wants a way to log in that is not known: {detail}");
            return Unread::blind("postgres_login_refused", said);
        }
        Unread::target("postgres_broken", clean!("the connection to PostgreSQL at {place} broke: {detail}"))
    }

    /// What a server says no with.
    fn refused(place: &Clean, code: &SqlState, said: &Clean) -> Unread {
        let by = |what: &str| clean!("PostgreSQL at {place} {what}: {}", said.quoted());
        // The class, its first two characters, is what the standard and PostgreSQL's own codes have in common.
        match (code.code().get(..2).unwrap_or_default(), code) {
            (_, &SqlState::QUERY_CANCELED) => late(place),
            ("28", _) => Unread::blind("postgres_login_refused", by("refuses the login")),
            (_, &SqlState::INVALID_CATALOG_NAME) => Unread::blind("database_missing", by("has no such database")),
            ("57" | "53" | "58" | "XX" | "40" | "55", _) => {
                Unread::target("postgres_not_ready", by("can't answer now"))
            }
            _ => Unread::blind("postgres_query_failed", by("refuses the query")),
        }
    }

    /// An error and what it comes from.
    fn chain(error: &dyn std::error::Error) -> String {
        let mut said = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let more = error.to_string();
            if !said.contains(&more) {
                said.push_str(": ");
                said.push_str(&more);
            }
            source = error.source();
        }
        said
    }
}
