//! Which store is looked at, how one gets in, and what is too much.

use schemars::JsonSchema;
use serde::Deserialize;

use super::MAX_COLLECTIONS;
use crate::kinds::api::{self, Keys};
use crate::settings::{Dur, Pattern, SecretRef};

/// Numbers that a probe's vector may have.
const MAX_DIMENSIONS: usize = 8_192;

/// The server and what to hold it to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which server it is: `qdrant`, `chroma`, `weaviate`, `milvus` or `pgvector`.
    pub(super) engine: Engine,
    /// Its address, without a path of its API. By default its usual port on this machine (Qdrant 6333, Chroma 8000,
    /// Weaviate 8080, Milvus 19530). For `pgvector`: `postgres://USER@HOST:PORT/DATABASE`, without a password.
    pub(super) url: Option<String>,
    /// The key as the server wants it: Qdrant's `api-key`, Chroma's `x-chroma-token`, Weaviate's key, Milvus' token.
    pub(super) api_key: Option<SecretRef>,
    /// A token for `Authorization: Bearer …` instead.
    pub(super) bearer: Option<SecretRef>,
    /// For `pgvector`: the password of the user in `url`.
    pub(super) password: Option<SecretRef>,
    /// A PEM file with certificates to trust beside the system's.
    pub(super) ca_file: Option<String>,
    /// The collections to look at; one that is not there is a fail. By default all that there are, 150 at most. For
    /// `pgvector`: tables, as `schema.table`.
    pub(super) collections: Option<Vec<String>>,
    /// Where `collections` is not set: a regular expression for names that are not looked at (`^tmp-`).
    pub(super) ignore: Option<Pattern>,
    /// For `chroma`: the tenant.
    #[serde(default = "default_tenant")]
    pub(super) tenant: String,
    /// For `chroma` and `milvus`: the database. By default the server's own default.
    pub(super) database: Option<String>,
    /// For `milvus`: where `/healthz` is. By default port 9091 of the same host; an empty text leaves it out.
    pub(super) health_url: Option<String>,
    /// For how long a collection may be optimized (yellow, grey, indexing) before that is a warn.
    #[serde(default = "two_hours")]
    pub(super) busy_for: Dur,
    /// How many points may be gone, measured against the most of the day before.
    #[serde(default)]
    pub(super) drop: Drop,
    /// After a drop, a count that rises fast enough to be whole again within this time is an index being built anew, and
    /// no trouble.
    #[serde(default = "six_hours")]
    pub(super) refill_for: Dur,
    /// A drop, or a collection that is gone, counts as meant after this time, and what is left is the new measure.
    #[serde(default = "seven_days")]
    pub(super) accepted_after: Dur,
    /// A search that must find something: a server may say that it is ready and find nothing.
    pub(super) probe: Option<Probe>,
}

fn default_tenant() -> String {
    "default_tenant".to_owned()
}
const fn two_hours() -> Dur {
    Dur::hours(2)
}
const fn six_hours() -> Dur {
    Dur::hours(6)
}
const fn seven_days() -> Dur {
    Dur::days(7)
}

/// The servers that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Engine {
    Qdrant,
    Chroma,
    Weaviate,
    Milvus,
    Pgvector,
}

/// How many points may be gone. A share counts only where it is at least `least` points.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Drop {
    /// Beyond this share, in percent, it is a warn.
    pub warn: f64,
    /// Beyond this share, in percent, it is a fail.
    pub fail: f64,
    /// Fewer points than this are never missed.
    pub least: u64,
}

impl Default for Drop {
    fn default() -> Self {
        Self { warn: 20.0, fail: 50.0, least: 100 }
    }
}

/// A search that must find something.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Probe {
    /// The collection that is searched.
    pub collection: String,
    /// The vector that is searched for. Without one, any one record is asked for.
    pub vector: Option<Vec<f64>>,
    /// The name of the vector, where records have several (Qdrant).
    pub vector_name: Option<String>,
}

impl Settings {
    /// The server's address.
    pub(super) fn address(&self) -> String {
        let usual = match self.engine {
            Engine::Qdrant => "http://127.0.0.1:6333",
            Engine::Chroma => "http://127.0.0.1:8000",
            Engine::Weaviate => "http://127.0.0.1:8080",
            Engine::Milvus => "http://127.0.0.1:19530",
            Engine::Pgvector => "",
        };
        self.url.clone().unwrap_or_else(|| usual.to_owned())
    }

    /// The keys, under the header that this server wants.
    pub(super) fn keys(&self) -> Keys<'_> {
        let header = match self.engine {
            Engine::Qdrant => "api-key",
            Engine::Chroma => "x-chroma-token",
            Engine::Weaviate | Engine::Milvus | Engine::Pgvector => "authorization",
        };
        Keys { header, api_key: self.api_key.as_ref(), bearer: self.bearer.as_ref() }
    }

    pub(super) fn validate(&self, report: &mut dyn FnMut(&str, String)) {
        if self.engine == Engine::Pgvector {
            self.validate_postgres(report);
        } else {
            self.validate_server(report);
        }
        if let Some(listed) = &self.collections {
            if listed.is_empty() {
                report("collections", "no collection would be looked at (leave it out for all)".to_owned());
            }
            if listed.len() > MAX_COLLECTIONS {
                report("collections", format!("one check looks at {MAX_COLLECTIONS} collections (make it two checks)"));
            }
            if self.ignore.is_some() {
                report("ignore", "`ignore` leaves names out where `collections` is not set".to_owned());
            }
        }
        let Drop { warn, fail, .. } = self.drop;
        if !(0.0..=100.0).contains(&warn) || !(0.0..=100.0).contains(&fail) || fail < warn {
            report("drop", format!("expected percentages with `fail` not below `warn`, found {warn} and {fail}"));
        }
        for (key, duration) in
            [("busy_for", self.busy_for), ("refill_for", self.refill_for), ("accepted_after", self.accepted_after)]
        {
            if duration.is_zero() {
                report(key, "expected a duration above 0s".to_owned());
            }
        }
        self.validate_probe(report);
    }

    fn validate_server(&self, report: &mut dyn FnMut(&str, String)) {
        if let Some(url) = &self.url {
            api::validate_url("url", url, report);
            if self.engine == Engine::Chroma && url.contains("/api/v") {
                let said = "`url` is the server's address without `/api/…` (under `/api/v1` Chroma answers 410)";
                report("url", said.to_owned());
            }
        }
        api::validate_keys(self.api_key.as_ref(), self.bearer.as_ref(), report);
        if self.password.is_some() {
            report("password", "`password` belongs to the engine `pgvector` (use `api_key` or `bearer`)".to_owned());
        }
        if self.database.is_some() && !matches!(self.engine, Engine::Chroma | Engine::Milvus) {
            report("database", "`database` belongs to the engines `chroma` and `milvus`".to_owned());
        }
        match &self.health_url {
            Some(_) if self.engine != Engine::Milvus => {
                report("health_url", "`health_url` belongs to the engine `milvus`".to_owned());
            }
            Some(url) if !url.is_empty() => api::validate_url("health_url", url, report),
            _ => {}
        }
    }

    fn validate_postgres(&self, report: &mut dyn FnMut(&str, String)) {
        if cfg!(not(feature = "postgres")) {
            report("engine", "this build can't ask PostgreSQL (build it with the feature `postgres`)".to_owned());
        }
        let parsed = self.url.as_deref().map(reqwest::Url::parse);
        match parsed {
            None => report("url", "`pgvector` needs `url` (`postgres://USER@HOST:PORT/DATABASE`)".to_owned()),
            Some(Ok(url)) if !matches!(url.scheme(), "postgres" | "postgresql") || !url.has_host() => {
                report("url", "`url` must be `postgres://USER@HOST:PORT/DATABASE`".to_owned());
            }
            Some(Ok(url)) if url.password().is_some() => {
                report("url", "a password in `url` is a secret (use `password`)".to_owned());
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => report("url", format!("`url` is not a URL: {error}")),
        }
        for (key, given) in [
            ("api_key", self.api_key.is_some()),
            ("bearer", self.bearer.is_some()),
            ("ca_file", self.ca_file.is_some()),
            ("database", self.database.is_some()),
            ("health_url", self.health_url.is_some()),
            ("probe", self.probe.is_some()),
        ] {
            if given {
                report(key, format!("`{key}` belongs to the servers that speak HTTP, not to `pgvector`"));
            }
        }
    }

    fn validate_probe(&self, report: &mut dyn FnMut(&str, String)) {
        let Some(probe) = &self.probe else { return };
        if let Some(vector) = &probe.vector
            && (vector.is_empty() || vector.len() > MAX_DIMENSIONS || vector.iter().any(|number| !number.is_finite()))
        {
            report("probe", format!("expected a vector of 1 to {MAX_DIMENSIONS} finite numbers"));
        }
        if probe.vector_name.is_some() && (self.engine != Engine::Qdrant || probe.vector.is_none()) {
            report("probe", "`vector_name` goes with `vector` and the engine `qdrant`".to_owned());
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.engine == Engine::Weaviate && (probe.collection.is_empty() || !probe.collection.chars().all(plain)) {
            report("probe", format!("`{}` is not a collection's name in Weaviate", probe.collection.escape_debug()));
        }
        if let Some(listed) = &self.collections
            && !listed.contains(&probe.collection)
        {
            report("probe", format!("`{}` is not in `collections`", probe.collection.escape_debug()));
        }
    }
}
