//! Names: of checks, of what a check looks at, of facts, and of the kinds of trouble.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::redact::{Clean, Short};

/// Bytes of a subject's name.
pub const MAX_SUBJECT_BYTES: usize = 200;

/// The name of a configured check: `[a-z0-9][a-z0-9._-]{0,63}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckName(Short);

impl CheckName {
    /// The check that Pulsecheck runs on itself; it can't be removed.
    pub const OWN: &'static str = "pulsecheck";

    /// The built-in check's name.
    #[must_use]
    pub fn own() -> Self {
        Self(Short::from_static(Self::OWN))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether `name` is `[a-z0-9][a-z0-9._-]{0,63}`: the rule for checks, channels, jobs and owners.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 64
        && bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
}

/// A name that does not follow [`is_name`].
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{0}` is not a name (a name is 1 to 64 of a-z 0-9 . _ - and begins with a letter or a digit)")]
pub struct BadName(pub String);

impl TryFrom<String> for CheckName {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        if is_name(&name) { Ok(Self(Short::from(name))) } else { Err(BadName(name)) }
    }
}
impl TryFrom<&str> for CheckName {
    type Error = BadName;
    fn try_from(name: &str) -> Result<Self, BadName> {
        Self::try_from(name.to_owned())
    }
}
impl From<CheckName> for String {
    fn from(name: CheckName) -> Self {
        name.0.as_str().to_owned()
    }
}
impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
impl fmt::Debug for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The one thing among many that a check looks at; empty means the check itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(Clean);

impl Subject {
    /// The check itself.
    pub const NONE: Self = Self(Clean::EMPTY);

    /// The check itself.
    #[must_use]
    pub fn none() -> Self {
        Self::NONE
    }

    /// A subject by its name: one line of at most [`MAX_SUBJECT_BYTES`]. What can't be seen in it is written out, and a
    /// name that is cut ends in a digest of the whole, so that two names never become one subject.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let seen: String = name
            .chars()
            .map(|c| if Clean::keeps(c) { c.to_string() } else { c.escape_unicode().to_string() })
            .collect();
        if seen.len() <= MAX_SUBJECT_BYTES {
            return Self(Clean::line(&seen, MAX_SUBJECT_BYTES));
        }
        let digest = Sha256::digest(name.as_bytes());
        let digest = digest.iter().take(4).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        let kept = Clean::line(&seen, MAX_SUBJECT_BYTES - digest.len() - 1);
        Self(crate::clean!("{kept}~{digest}"))
    }

    /// Whether this is the check itself.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.0.as_str().is_empty()
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What streaks, incidents, acks, silences and dedup keys belong to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The check's name.
    pub check: CheckName,
    /// The subject within the check; empty for the check itself.
    pub subject: Subject,
}

impl Key {
    /// A finding's key.
    #[must_use]
    pub fn new(check: &CheckName, subject: &Subject) -> Self {
        Self { check: check.clone(), subject: subject.clone() }
    }

    /// The key in a sentence: `secrets /etc/key`, `nightly`. In commands and dedup keys it is `check/subject`. A subject
    /// may be anybody's file name: one that is more than a plain path or address is quoted and defanged.
    #[must_use]
    pub fn shown(&self) -> String {
        let plain = |c: char| c.is_alphanumeric() || " ._-/:+=,~#()".contains(c);
        if self.subject.is_none() || self.subject.as_str() == self.check.as_str() {
            self.check.to_string()
        } else if self.subject.as_str().chars().all(plain) && !self.subject.as_str().contains("://") {
            format!("{} {}", self.check, self.subject)
        } else {
            format!("{} {}", self.check, self.subject.0.quoted())
        }
    }
}
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject.is_none() { write!(f, "{}", self.check) } else { write!(f, "{}/{}", self.check, self.subject) }
    }
}

/// The name of a fact, `snake_case` with its unit where it has one (`days_left`, `size_bytes`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FactName(Short);

impl FactName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<&'static str> for FactName {
    fn from(name: &'static str) -> Self {
        Self(Short::from_static(name))
    }
}
impl From<String> for FactName {
    /// For names that are read (perfdata labels, header names): cleaned and cut to 64 bytes.
    fn from(name: String) -> Self {
        Self(Clean::line(&name, 64).into())
    }
}
impl fmt::Display for FactName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A short, stable, `snake_case` word for one kind of trouble (`expired`, `connect_timeout`): documented by the kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(Short);

impl Code {
    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl From<&'static str> for Code {
    fn from(code: &'static str) -> Self {
        Self(Short::from_static(code))
    }
}
impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn two_names_never_become_one_subject() {
        let long = "a/".repeat(150);
        let names = ["a b", "a\u{1}b", "a\u{200b}b", "a\u{202e}b", "ab", &format!("{long}x"), &format!("{long}y")];
        let subjects: BTreeSet<Subject> = names.iter().map(|name| Subject::new(name)).collect();
        assert_eq!(subjects.len(), names.len(), "{subjects:?}");
        assert!(subjects.iter().all(|subject| subject.as_str().len() <= MAX_SUBJECT_BYTES));
        assert_eq!(Subject::new("a\u{1}b").as_str(), "a\\u{1}b");
    }

    #[test]
    fn a_subject_that_is_no_plain_name_is_quoted_in_sentences() {
        let check = CheckName::try_from("files").unwrap();
        let shown = |name: &str| Key::new(&check, &Subject::new(name)).shown();
        assert_eq!(shown("/etc/ssl/key.pem"), "files /etc/ssl/key.pem");
        assert_eq!(shown("mail.example.com:587"), "files mail.example.com:587");
        assert_eq!(shown("files"), "files");
        let bad = shown("@everyone <!here> [x](http://evil.example) `rm`");
        assert!(!bad.contains(['@', '`']) && !bad.contains("http://"), "{bad}");
    }
}
