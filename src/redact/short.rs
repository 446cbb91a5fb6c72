//! Text as names and facts have it: mostly short, made once, compared and copied often.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that fit where a text's address would stand.
const HERE: usize = 22;

/// A text that lies in its own place while it is short, and is shared when it is copied else: to compare a hundred
/// thousand of them is to look at so many places in memory, not at three times as many.
#[derive(Clone)]
pub struct Short(Place);

#[derive(Clone)]
enum Place {
    /// In the program.
    Static(&'static str),
    /// Here; what is not used is zero.
    Here { len: u8, bytes: [u8; HERE] },
    /// Elsewhere.
    There(Arc<str>),
}

impl Short {
    /// A text that is part of the program.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Place::Static(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Place::Static(text) => text,
            // It was text when it came here.
            Place::Here { .. } => std::str::from_utf8(self.as_bytes()).unwrap_or_default(),
            Place::There(text) => text,
        }
    }

    /// The text's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Static(text) => text.as_bytes(),
            Place::Here { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Place::There(text) => text.as_bytes(),
        }
    }
}

/// Bytes as numbers that are ordered as they are. The last two overlap, which changes nothing in the order.
fn words(bytes: &[u8; HERE]) -> [u64; 3] {
    let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes);
    [word(0), word(8), word(HERE - 8)]
}

impl From<&str> for Short {
    fn from(text: &str) -> Self {
        let mut bytes = [0; HERE];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(len), Some(room)) => {
                room.copy_from_slice(text.as_bytes());
                Self(Place::Here { len, bytes })
            }
            _ => Self(Place::There(Arc::from(text))),
        }
    }
}
impl From<String> for Short {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}
impl From<Cow<'_, str>> for Short {
    fn from(text: Cow<'_, str>) -> Self {
        Self::from(&*text)
    }
}
impl Default for Short {
    fn default() -> Self {
        Self::from_static("")
    }
}
impl Deref for Short {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}
impl PartialEq for Short {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Place::Here { len: a, bytes: x }, Place::Here { len: b, bytes: y }) => a == b && words(x) == words(y),
            (Place::Static(a), Place::Static(b)) if std::ptr::eq(*a, *b) => true,
            _ => self.as_bytes() == other.as_bytes(),
        }
    }
}
impl Eq for Short {}
impl Ord for Short {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            // Of two that differ only in zeros at the end, the shorter one is less.
            (Place::Here { len: a, bytes: x }, Place::Here { len: b, bytes: y }) => {
                words(x).cmp(&words(y)).then_with(|| a.cmp(b))
            }
            (Place::Static(a), Place::Static(b)) if std::ptr::eq(*a, *b) => Ordering::Equal,
            _ => self.as_bytes().cmp(other.as_bytes()),
        }
    }
}
impl PartialOrd for Short {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Hash for Short {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}
impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
impl Serialize for Short {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}
impl<'de> Deserialize<'de> for Short {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Short;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Short, E> {
                Ok(Short::from(text))
            }
        }
        from.deserialize_str(Text)
    }
}
impl schemars::JsonSchema for Short {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        str::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        str::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use proptest::prelude::*;

    use super::*;

    fn hash(text: &impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn it_is_no_larger_than_what_it_replaces() {
        assert_eq!(size_of::<Short>(), size_of::<String>());
    }

    #[test]
    fn wherever_a_text_lies_it_is_the_same() {
        const SAID: &str = "connect_timeout";
        let (here, there) = (Short::from(SAID), Short(Place::There(Arc::from(SAID))));
        for (a, b) in [(&here, &there), (&Short::from_static(SAID), &here), (&there, &Short::from_static(SAID))] {
            assert_eq!((a, a.cmp(b), hash(a)), (b, Ordering::Equal, hash(&SAID)));
        }
        assert_eq!(Short::default(), Short::from(""));
    }

    proptest! {
        #[test]
        fn it_is_ordered_like_text(a in "[ab\\x00é]{0,26}", b in "[ab\\x00é]{0,26}") {
            let (x, y) = (Short::from(a.as_str()), Short::from(b.as_str()));
            prop_assert_eq!((x.as_str(), y.as_str()), (a.as_str(), b.as_str()));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x == y, a == b);
            let json = serde_json::to_string(&x).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&a).unwrap());
            prop_assert_eq!(serde_json::from_str::<Short>(&json).unwrap(), x);
        }
    }
}
