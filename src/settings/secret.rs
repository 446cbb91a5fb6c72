//! Where a secret is kept. No text of this file's errors repeats what was found: it may be the secret itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is said wherever a reference was expected. [`super::Problem::shows_source`] knows it by these words.
pub(super) const WANTED: &str = "expected where a secret is kept: `env:NAME`, `file:PATH` or `cred:NAME` (a secret itself never stands in the config)";

/// Where a secret is kept: `env:NAME`, `file:PATH` or `cred:NAME` (systemd credentials). Never the secret itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRef {
    /// A variable of the environment.
    Env(String),
    /// A file, absolute or under `~/`; what it holds is the secret, less a line break at its end.
    File(String),
    /// A file of that name in `$CREDENTIALS_DIRECTORY`.
    Cred(String),
}

impl SecretRef {
    /// Reads `env:NAME`, `file:PATH`, `cred:NAME`. The error repeats nothing of `text`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let named = |name: &str| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-@".contains(&b);
            !name.is_empty() && name.len() <= 128 && name.bytes().all(plain) && !name.starts_with('.')
        };
        match text.split_once(':') {
            Some(("env", name)) if named(name) && !name.contains(['.', '-', '@']) => Ok(Self::Env(name.to_owned())),
            Some(("cred", name)) if named(name) => Ok(Self::Cred(name.to_owned())),
            Some(("file", path))
                if (path.starts_with('/') || path.starts_with("~/")) && !path.contains(char::is_control) =>
            {
                Ok(Self::File(path.to_owned()))
            }
            Some(("file", _)) => Err(format!("{WANTED}; a path begins with `/` or `~/`")),
            _ => Err(WANTED.to_owned()),
        }
    }
}

thread_local! {
    /// The references read on this thread while somebody wants to know; none otherwise.
    static NAMED: RefCell<Option<BTreeSet<SecretRef>>> = const { RefCell::new(None) };
}

/// What `read` comes to, and every reference that was read from text meanwhile, whoever's settings it stands in.
pub fn named_in<T>(read: impl FnOnce() -> T) -> (T, BTreeSet<SecretRef>) {
    NAMED.set(Some(BTreeSet::new()));
    let done = read();
    (done, NAMED.take().unwrap_or_default())
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Cred(name) => write!(f, "cred:{name}"),
        }
    }
}
impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        // Serde's own errors repeat the value that has the wrong type, so every scalar is taken here.
        struct Written;
        impl Visitor<'_> for Written {
            type Value = SecretRef;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WANTED)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<SecretRef, E> {
                SecretRef::parse(text).map_err(E::custom)
            }
            fn visit_bool<E: Error>(self, _: bool) -> Result<SecretRef, E> {
                Err(E::custom(WANTED))
            }
            fn visit_i64<E: Error>(self, _: i64) -> Result<SecretRef, E> {
                Err(E::custom(WANTED))
            }
            fn visit_u64<E: Error>(self, _: u64) -> Result<SecretRef, E> {
                Err(E::custom(WANTED))
            }
            fn visit_f64<E: Error>(self, _: f64) -> Result<SecretRef, E> {
                Err(E::custom(WANTED))
            }
        }
        let at = from.deserialize_any(Written)?;
        NAMED.with_borrow_mut(|named| named.as_mut().is_some_and(|named| named.insert(at.clone())));
        Ok(at)
    }
}
impl schemars::JsonSchema for SecretRef {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretRef".into()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        concat!(module_path!(), "::SecretRef").into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Where a secret is kept: a variable of the environment, a file, or a systemd credential. Never the secret itself.",
            "pattern": "^(env:[A-Za-z0-9_]+|file:(/|~/).+|cred:[A-Za-z0-9_@-][A-Za-z0-9._@-]*)$",
            "examples": ["env:SLACK_TOKEN", "file:~/.config/pulsecheck/slack-token", "cred:slack-token"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Problem;
    use super::*;

    #[derive(Debug, Deserialize)]
    struct Table {
        token: SecretRef,
    }

    #[test]
    fn what_is_named_anywhere_is_known() {
        let read = |json: &str| serde_json::from_str::<Vec<SecretRef>>(json);
        let (_, named) = named_in(|| read(r#"["env:ONE", "file:/two", "env:ONE"]"#).unwrap());
        assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), ["env:ONE", "file:/two"]);
        read(r#"["env:THREE"]"#).unwrap();
        assert_eq!(named_in(|| ()).1.len(), 0);
    }

    #[test]
    fn the_three_places_are_read() {
        for (text, place) in [
            ("env:SLACK_TOKEN", SecretRef::Env("SLACK_TOKEN".into())),
            ("file:/etc/token", SecretRef::File("/etc/token".into())),
            ("file:~/.token", SecretRef::File("~/.token".into())),
            ("cred:slack.token", SecretRef::Cred("slack.token".into())),
        ] {
            assert_eq!(SecretRef::parse(text), Ok(place.clone()));
            assert_eq!(place.to_string(), text);
            assert_eq!(format!("{place:?}"), text);
            assert_eq!(serde_json::to_string(&place).unwrap(), format!("\"{text}\""));
        }
    }

    #[test]
    fn a_secret_in_the_config_is_refused_and_not_repeated() {
        for toml in [
            "token = 'hunter2-hunter2'",
            "token = 'envy:hunter2-hunter2'",
            "token = 'env:hunter2-hunter2'",
            "token = 'file:hunter2-hunter2'",
            "token = 'cred:../hunter2-hunter2'",
            "token = 'cred:'",
            "token = ''",
            "token = 112233445566",
            "token = 112233.445566",
            "token = true",
            "token = ['hunter2-hunter2']",
        ] {
            let said = toml::from_str::<Table>(toml).unwrap_err();
            let said = said.message();
            assert!(said.contains(WANTED), "{toml}: {said}");
            assert!(!said.contains("hunter2") && !said.contains("112233"), "{toml}: {said}");
            assert!(!Problem::new("x.toml", 0..1, "token", said).shows_source(), "{toml}");
        }
        assert!(toml::from_str::<Table>("token = 'env:X'").unwrap().token == SecretRef::Env("X".into()));
    }
}
