//! pgvector: PostgreSQL's extension `vector`, and the rows of the tables that have a column of its type.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::settings::Settings;
use super::{Chosen, Collection, Seen};
use crate::clean;
use crate::facts::{Class, Facts, Subject, Unread};
use crate::kinds::{Cx, api, remote};
use crate::redact::{Clean, Secret};

const EXTENSION: &str = "SELECT extversion FROM pg_extension WHERE extname = 'vector'";
/// Tables with a vector column, named as they can stand in a query.
const TABLES: &str = "SELECT DISTINCT n.nspname || '.' || c.relname, quote_ident(n.nspname) || '.' || quote_ident(c.relname) \
     FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_type t ON t.oid = a.atttypid \
     WHERE t.typname IN ('vector', 'halfvec', 'sparsevec') AND a.attnum > 0 AND NOT a.attisdropped \
     AND c.relkind IN ('r', 'p', 'm', 'f') AND NOT c.relispartition \
     AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1";
/// Tables that are read about at most.
const MAX_TABLES: usize = 10_000;

pub(super) async fn look(settings: &Settings, cx: &Cx) -> Result<Seen, Unread> {
    let database = Database { url: url(settings, cx).await?, cx, deadline: remote::stop_at(cx) };
    let mut server = Facts::new();
    let none = Subject::none();
    let version = database.rows(EXTENSION, 1).await?.into_iter().flatten().flatten().next();
    server.info(&none, "extension", version.is_some());
    if let Some(version) = version {
        server.put_foreign(&none, "version", Clean::line(&version, 60), Class::State);
    }
    let mut quoted: BTreeMap<String, String> = BTreeMap::new();
    for row in database.rows(TABLES, MAX_TABLES).await? {
        if let [Some(name), Some(quote)] = row.as_slice() {
            quoted.insert(name.clone(), quote.clone());
        }
    }
    let chosen = Chosen::of(settings, quoted.keys().cloned().collect::<BTreeSet<_>>());
    let asked = chosen.looked_at.iter().filter_map(|name| quoted.get(name)).map(|table| count(&database, table));
    let collections = api::all(asked.collect()).await;
    Ok(chosen.seen(server, collections))
}

struct Database<'a> {
    url: Secret,
    cx: &'a Cx,
    deadline: Instant,
}

impl Database<'_> {
    async fn rows(&self, query: &str, most: usize) -> Result<Vec<Vec<Option<String>>>, Unread> {
        self.cx.host.postgres(&self.url, query, most, self.deadline).await
    }
}

/// The address with the password in it.
async fn url(settings: &Settings, cx: &Cx) -> Result<Secret, Unread> {
    let address = settings.address();
    let Some(at) = &settings.password else { return Ok(Secret::public(&address)) };
    let password = cx.host.secret(at).await?;
    let bad = || Unread::blind("postgres_url", clean!("no password can be put into `url`"));
    let mut url = reqwest::Url::parse(&address).map_err(|_| bad())?;
    url.set_password(Some(password.expose())).map_err(|()| bad())?;
    Ok(Secret::new(url.as_str()))
}

async fn count(database: &Database<'_>, table: &str) -> Result<Collection, Unread> {
    let rows = database.rows(&format!("SELECT count(*)::text FROM {table}"), 1).await?;
    let count = rows.into_iter().flatten().flatten().next().and_then(|count| count.parse().ok());
    let points: u64 =
        count.ok_or_else(|| Unread::target("postgres_broken", clean!("the table's count is no number")))?;
    Ok(Collection { points: Some(points), ..Collection::default() })
}
