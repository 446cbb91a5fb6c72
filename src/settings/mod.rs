//! What config is made of: durations, sizes, money, secrets by reference, patterns. A leaf: each module owns its own
//! settings and builds them from these.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A length of time as users write it: `90s`, `15m`, `4h`, `7d`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Dur(pub Duration);

/// A size in bytes as users write it: `10MiB`, `512KiB`, `2GB`, or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Size(pub u64);

/// US dollars, a number that is not negative.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Money(pub f64);

/// Where a secret is kept: `env:NAME`, `file:PATH` or `cred:NAME` (systemd credentials). Never the secret itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct SecretRef(pub String);

/// A regular expression, compiled when the config is read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Pattern(pub String);

impl Pattern {
    /// The compiled expression.
    #[must_use]
    #[expect(clippy::unimplemented, reason = "skeleton")]
    pub fn regex(&self) -> &regex::Regex {
        unimplemented!()
    }
}

/// A path that may begin with `~/` and hold glob wildcards (`*`, `?`, `[…]`, `**`), checked when the config is read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PathGlob(pub String);

/// An RFC 9535 JSON path (`$.expiry`), compiled when the config is read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct JsonPath(pub String);
