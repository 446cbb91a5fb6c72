//! Reading dates out of tokens and credential files. No value that is secret leaves this module, in errors neither.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use jiff::Timestamp;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::Settings;
use crate::clean;
use crate::facts::Unread;
use crate::kinds::moment::{from_text, moment};
use crate::kinds::remote;

/// Bytes of a token that is decoded.
const MAX_JWT_BYTES: usize = 64 * 1024;

/// What is known of one token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dates {
    pub expires: Option<Timestamp>,
    pub issued: Option<Timestamp>,
    /// Whether there is a refresh token beside it; none when nobody said where one would be.
    pub has_refresh: Option<bool>,
}

/// Decodes a JWT's dates without verifying it.
pub(super) fn jwt(token: &str) -> Result<Dates, Unread> {
    let bad = |why: &str| Unread::blind("bad_token", clean!("not a JWT that can be read ({why})"));
    let token = token.trim();
    if token.len() > MAX_JWT_BYTES {
        return Err(bad("longer than 64 KiB"));
    }
    let parts: Vec<&str> = token.split('.').collect();
    let payload = match parts.as_slice() {
        [_, payload, _] => payload,
        [_, _, _, _, _] => return Err(bad("it is encrypted")),
        _ => return Err(bad("it has not three parts")),
    };
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode(payload.trim_end_matches('='))
        .map_err(|_| bad("its payload is not base64url"))?;
    let claims = remote::json(&bytes).map_err(|why| bad(&format!("its payload is {why}")))?;
    let claim = |name: &str| claims.get(name).and_then(moment);
    Ok(Dates { expires: claim("exp"), issued: claim("iat"), has_refresh: None })
}

/// Reads the dates of one token from the part of a credential file that is about it.
pub(super) fn credentials(settings: &Settings, node: &Value) -> Result<Dates, Unread> {
    let mut dates = Dates::default();
    if let Some(path) = &settings.jwt_path {
        let token = path.one(node).and_then(Value::as_str).unwrap_or_default();
        if token.is_empty() {
            return Err(Unread::blind("bad_token", clean!("there is no token at `{path}`")));
        }
        dates = jwt(token)?;
    }
    if let Some(path) = &settings.expiry_path {
        let found = path.one(node).filter(|value| !value.is_null());
        dates.expires = found.and_then(moment);
        let means_nothing = found.and_then(Value::as_f64).is_some_and(|number| number <= 0.0);
        if found.is_some() && dates.expires.is_none() && !means_nothing {
            return Err(Unread::blind("bad_token", clean!("what is at `{path}` is not a time")));
        }
    }
    if let Some(path) = &settings.issued_path {
        dates.issued = path.one(node).and_then(moment);
    }
    if let Some(path) = &settings.refresh_path {
        dates.has_refresh = Some(path.all(node).into_iter().any(|value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::String(text) => !text.is_empty(),
            _ => true,
        }));
    }
    Ok(dates)
}

/// A day or a moment in config: a TOML date, or the same in quotes. A day begins at midnight UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Day(pub Timestamp);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Day;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a date like 2026-03-01")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Day, E> {
                let is_number = text.parse::<f64>().is_ok();
                let found = if is_number { None } else { from_text(text) };
                found
                    .map(Day)
                    .ok_or_else(|| E::custom(format!("`{}` is not a date like 2026-03-01", text.escape_debug())))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Day, A::Error> {
                // TOML's own dates arrive as a map that only its crate can read.
                let date = toml::value::Datetime::deserialize(de::value::MapAccessDeserializer::new(map))?;
                self.visit_str(&date.to_string())
            }
        }
        from.deserialize_any(Written)
    }
}

impl schemars::JsonSchema for Day {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A date or a moment; a date begins at midnight UTC.",
            "examples": ["2026-03-01", "2026-03-01T08:00:00Z"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(payload: &str) -> String {
        let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", part(r#"{"alg":"none"}"#), part(payload))
    }

    #[test]
    fn a_jwt_is_read_without_being_verified() {
        let dates = jwt(&token(r#"{"exp": 1777593600, "iat": 1777590000.5}"#)).unwrap();
        assert_eq!(dates.expires.unwrap().as_second(), 1_777_593_600);
        assert_eq!(dates.issued.unwrap().as_second(), 1_777_590_000);
        assert_eq!(jwt(&token("{}")).unwrap(), Dates::default());
        let secret = "sk-very-secret";
        for (text, words) in [
            (secret.to_owned(), "it has not three parts"),
            (format!("a.{secret}!.b"), "its payload is not base64url"),
            (token("secret"), "its payload is no JSON"),
            ("a.b.c.d.e".to_owned(), "it is encrypted"),
            (format!("a.{}.b", "x".repeat(MAX_JWT_BYTES)), "longer than 64 KiB"),
        ] {
            let unread = jwt(&text).unwrap_err();
            assert_eq!(unread.code.as_str(), "bad_token");
            assert!(unread.said.as_str().contains(words), "{}", unread.said);
            assert!(!unread.said.as_str().contains("secret"));
        }
    }

    #[test]
    fn days_are_read_with_and_without_quotes() {
        #[derive(serde::Deserialize)]
        struct Table {
            day: Day,
        }
        for text in ["2026-05-01", "'2026-05-01'", "2026-05-01T00:00:00Z", "2026-05-01T00:00:00"] {
            let table: Table = toml::from_str(&format!("day = {text}")).unwrap();
            assert_eq!(table.day.0.to_string(), "2026-05-01T00:00:00Z", "{text}");
        }
        for text in ["'May 1st'", "5", "'1777593600'", "10:00:00"] {
            let error = toml::from_str::<Table>(&format!("day = {text}")).err().unwrap().to_string();
            assert!(error.contains("a date like 2026-03-01"), "{error}");
        }
    }
}
