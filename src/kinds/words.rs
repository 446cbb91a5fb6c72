//! Names and numbers as the kinds' settings and bands carry them.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::facts::{BadName, is_name};
use crate::settings::Size;

/// A size as the number that bands are made of.
#[expect(clippy::cast_precision_loss, reason = "sizes are shown and compared in three digits")]
pub(super) fn as_number(size: Size) -> f64 {
    size.0 as f64
}

/// The name of a job, as `pulsecheck exec --job NAME` takes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct JobName(String);

impl JobName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl TryFrom<String> for JobName {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        if is_name(&name) { Ok(Self(name)) } else { Err(BadName(name)) }
    }
}
impl JsonSchema for JobName {
    fn schema_name() -> Cow<'static, str> {
        "JobName".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "The name of a job, as `pulsecheck exec --job` takes it.",
            "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$",
        })
    }
}
