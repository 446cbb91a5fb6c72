//! What config is made of: durations, sizes, money, secrets by reference, patterns. A leaf: each module owns its own
//! settings and builds them from these; finding the place of a problem in a file is left to `config`.

mod amounts;
mod compiled;
mod dur;
mod secret;

use std::ops::Range;
use std::path::PathBuf;

pub use amounts::{Money, Size};
pub use compiled::{JsonPath, PathGlob, Pattern};
pub use dur::Dur;
pub use secret::{SecretRef, named_in};

/// Reads a type from a TOML or JSON string by its `parse`, and describes it as that string in the schema.
macro_rules! from_text {
    ($type:ty, $name:literal, expecting $expecting:expr, schema $schema:tt) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        <$type>::parse(text).map_err(E::custom)
                    }
                }
                from.deserialize_str(Text)
            }
        }
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn schema_id() -> std::borrow::Cow<'static, str> {
                concat!(module_path!(), "::", $name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}
use from_text;

/// One thing that is wrong with a config, as plain data: words and place. How it is shown is decided at the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the user named it.
    pub file: PathBuf,
    /// The bytes of the file that it is about; empty at 0 when it is about the whole file.
    pub span: Range<usize>,
    /// The dotted key (`check.api.timeout`); empty when it is about the whole file.
    pub key: String,
    /// What is wrong: a lower-case fragment that names what was expected.
    pub said: String,
    /// The way out, where there is one that `said` doesn't name.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem without a hint.
    #[must_use]
    pub fn new(file: impl Into<PathBuf>, span: Range<usize>, key: impl Into<String>, said: impl Into<String>) -> Self {
        Self { file: file.into(), span, key: key.into(), said: said.into(), hint: None }
    }

    /// The same with the way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the lines of the file may be shown beside it. Where a reference to a secret was expected, the secret
    /// itself may stand there.
    #[must_use]
    pub fn shows_source(&self) -> bool {
        !self.said.contains(secret::WANTED)
    }
}

/// Text that a user wrote, as it may stand in an error: at most 60 characters of one line, in backticks.
pub(crate) fn echo(text: &str) -> String {
    let clean = crate::redact::Clean::line(text, 4 * 60);
    let text = clean.as_str();
    match text.char_indices().nth(60) {
        Some((cut, _)) => format!("`{}…`", text.get(..cut).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}
