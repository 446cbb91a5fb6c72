//! What a look keeps for the next one: read when asked for, written only where it changed, and held below what a check may
//! keep, since beyond that nothing would be kept at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::facts::Unread;
use crate::kinds::Memory;

/// Bytes of all values together: what a check may keep, less some room for what grows within a look.
const MAX_BYTES: usize = 15 << 20;
/// Bytes of one value.
const MAX_VALUE: usize = 1 << 20;
/// Under this name stand the names and sizes of all others.
const INDEX: &str = "index";

/// Names and what they are to hold; nothing forgets.
pub(super) type Remember = Vec<(String, Option<Vec<u8>>)>;

/// A check's memory while it looks.
pub(super) struct Kept {
    memory: Arc<dyn Memory>,
    sizes: BTreeMap<String, usize>,
    changed: BTreeMap<String, Option<Vec<u8>>>,
}

impl Kept {
    pub fn open(memory: Arc<dyn Memory>) -> Result<Self, Unread> {
        let index = memory.get(INDEX)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Ok(Self { memory, sizes: index.unwrap_or_default(), changed: BTreeMap::new() })
    }

    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, Unread> {
        match self.changed.get(name) {
            Some(value) => Ok(value.clone()),
            None if self.sizes.contains_key(name) => self.memory.get(name),
            None => Ok(None),
        }
    }

    /// A value that is not what it was written as counts as none: it is ours, and is made anew.
    pub fn json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Unread> {
        Ok(self.get(name)?.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    pub fn put(&mut self, name: &str, value: Vec<u8>) {
        if value.is_empty() {
            return self.forget(name);
        }
        self.sizes.insert(name.to_owned(), value.len());
        self.changed.insert(name.to_owned(), Some(value));
    }

    pub fn put_json<T: Serialize>(&mut self, name: &str, value: &T) {
        if let Ok(bytes) = serde_json::to_vec(value) {
            self.put(name, bytes);
        }
    }

    pub fn forget(&mut self, name: &str) {
        if self.sizes.remove(name).is_some() {
            self.changed.insert(name.to_owned(), None);
        }
    }

    /// The names that begin so.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        self.sizes.keys().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    pub fn size(&self, name: &str) -> usize {
        self.sizes.get(name).copied().unwrap_or(0)
    }

    /// What is to be remembered, and how many values had to go for want of room: those of `give_up` that come first by
    /// name, and whatever is larger than a value may be.
    pub fn close(mut self, give_up: &str) -> (Remember, u64) {
        let mut gone = 0;
        let large: Vec<String> =
            self.sizes.iter().filter(|(_, size)| **size > MAX_VALUE).map(|(name, _)| name.clone()).collect();
        for name in large {
            self.forget(&name);
            gone += 1;
        }
        for name in self.names(give_up) {
            if self.sizes.values().sum::<usize>() <= MAX_BYTES {
                break;
            }
            self.forget(&name);
            gone += 1;
        }
        if !self.changed.is_empty()
            && let Ok(index) = serde_json::to_vec(&self.sizes)
        {
            self.changed.insert(INDEX.to_owned(), Some(index));
        }
        (self.changed.into_iter().collect(), gone)
    }
}
