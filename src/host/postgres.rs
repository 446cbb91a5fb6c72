//! One query to a PostgreSQL server, over a connection of ours, read-only and bounded.

use tokio::time::Instant;

use super::Host;
use crate::facts::Unread;
use crate::redact::Secret;

/// Rows of a query's answer, each column as text where it is not null.
pub type Rows = Vec<Vec<Option<String>>>;

impl Host {
    /// Runs one query in a read-only transaction with a statement timeout, and gives at most `max_rows` rows. `url` is a
    /// `postgres://user:password@host:port/database?sslmode=…` as libpq knows it; TLS is verified with our roots unless
    /// `sslmode` is `disable`; a password in the environment or a file is the caller's to put in.
    pub async fn postgres(
        &self,
        _url: &Secret,
        _query: &str,
        _max_rows: usize,
        _deadline: Instant,
    ) -> Result<Rows, Unread> {
        unimplemented!()
    }
}
