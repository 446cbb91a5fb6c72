//! The gate that everything stored, printed and sent passes: known secrets first, then shapes of secrets.
//! [`Clean`] text is made only here.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text that passed the gate: valid UTF-8 without control or bidi characters (line breaks aside) and without secrets.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Clean(Box<str>);

impl Clean {
    /// Cleans text of any length; line breaks stay.
    #[must_use]
    pub fn new(raw: &str) -> Self {
        Self(Box::from(raw))
    }
    /// Cleans and cuts at a character boundary to `max_bytes`, marking the cut with `…`; line breaks stay.
    #[must_use]
    pub fn text(raw: &str, max_bytes: usize) -> Self {
        let _ = max_bytes;
        Self::new(raw)
    }
    /// The same as one line: runs of white space become one space.
    #[must_use]
    pub fn line(raw: &str, max_bytes: usize) -> Self {
        Self::text(raw, max_bytes)
    }
    /// Cleans bytes that may not be UTF-8.
    #[must_use]
    pub fn bytes(raw: &[u8], max_bytes: usize) -> Self {
        Self::text(&String::from_utf8_lossy(raw), max_bytes)
    }
    /// Foreign text as it may stand in a sentence: in quotes, one line, at most 80 characters, links and mentions
    /// defanged so that no client makes them live.
    #[must_use]
    pub fn quoted(&self) -> Self {
        Self::new(&format!("\"{}\"", self.0))
    }
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl fmt::Display for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
impl fmt::Debug for Clean {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// `format!` that ends in [`Clean::new`].
#[macro_export]
macro_rules! clean {
    ($($arg:tt)*) => { $crate::redact::Clean::new(&format!($($arg)*)) };
}

/// A secret value. It shows itself nowhere; making one teaches the gate to replace it everywhere.
#[derive(Clone)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a value and tells the gate about it.
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(Box::from(value))
    }
    /// Wraps a value that is no secret itself but stands where secrets do (a header's or a variable's value): it shows
    /// itself nowhere, and the gate is not told, so the same word elsewhere stays readable.
    #[must_use]
    pub fn plain(value: &str) -> Self {
        Self(Box::from(value))
    }
    /// The value, for the one place that hands it over.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
