//! What checks leave for themselves: key and bytes, per check, bounded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rusqlite::{Connection, params};

use super::{Error, Reader};
use crate::clean;
use crate::facts::{CheckName, Unread};
use crate::kinds::Memory;
use crate::redact::Clean;

/// Bytes of one value.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Bytes of all values of one check.
pub const MAX_CHECK_BYTES: i64 = 16 * 1024 * 1024;
/// Bytes of a key.
pub const MAX_NAME_BYTES: usize = 256;
/// The reason when the store itself could not be read.
pub const STORE_UNREADABLE: &str = "store_unreadable";

/// What one check wants to keep (`None` forgets).
pub type Remember = (CheckName, String, Option<Vec<u8>>);

/// A key and what it is to hold.
type Wish<'a> = (&'a str, Option<&'a [u8]>);

/// Why a value can't be kept, if it can't.
#[must_use]
pub fn refusal(name: &str, value: Option<&[u8]>) -> Option<Clean> {
    if name.len() > MAX_NAME_BYTES {
        return Some(clean!("a key of {} bytes (a key has {MAX_NAME_BYTES} at most)", name.len()));
    }
    let len = value.map_or(0, <[u8]>::len);
    (len > MAX_VALUE_BYTES).then(|| clean!("`{name}` with {len} bytes (a value has {MAX_VALUE_BYTES} at most)"))
}

/// Writes what checks want to keep. Of a check that wants too much nothing is kept, so that its values stay of one time;
/// what was refused is said.
pub(crate) fn store(conn: &Connection, remember: &[Remember]) -> rusqlite::Result<Vec<Clean>> {
    let mut by_check: BTreeMap<&CheckName, Vec<Wish<'_>>> = BTreeMap::new();
    for (check, name, value) in remember {
        by_check.entry(check).or_default().push((name, value.as_deref()));
    }
    let mut refused = Vec::new();
    let mut put = conn.prepare_cached(
        "INSERT INTO memory (check_name, name, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (check_name, name) DO UPDATE SET value = excluded.value WHERE value IS NOT excluded.value",
    )?;
    let mut forget = conn.prepare_cached("DELETE FROM memory WHERE check_name = ?1 AND name = ?2")?;
    for (check, values) in by_check {
        if let Some(why) = values.iter().find_map(|(name, value)| refusal(name, *value)) {
            refused.push(clean!("{check} wants to remember {why}"));
            continue;
        }
        conn.execute_batch("SAVEPOINT remember")?;
        for (name, value) in values {
            match value {
                Some(value) => put.execute(params![check.as_str(), name, value])?,
                None => forget.execute([check.as_str(), name])?,
            };
        }
        let total: i64 = conn
            .prepare_cached("SELECT coalesce(sum(length(value)), 0) FROM memory WHERE check_name = ?1")?
            .query_row([check.as_str()], |row| row.get(0))?;
        if total > MAX_CHECK_BYTES {
            conn.execute_batch("ROLLBACK TO remember")?;
            refused.push(clean!("{check} wants to remember {total} bytes (a check has {MAX_CHECK_BYTES} at most)"));
        }
        conn.execute_batch("RELEASE remember")?;
    }
    Ok(refused)
}

impl Reader {
    /// All that a check left for itself, by key.
    pub fn memory(&self, check: &CheckName) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        self.read(|conn| {
            conn.prepare_cached("SELECT name, value FROM memory WHERE check_name = ?1")?
                .query_map([check.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }
}

/// One check's memory as of the last commit, read when it is first asked for.
#[derive(Debug)]
pub struct CheckMemory {
    source: Arc<Mutex<Reader>>,
    check: CheckName,
    was: Option<CheckName>,
    loaded: OnceLock<Result<BTreeMap<String, Vec<u8>>, Unread>>,
}

impl CheckMemory {
    /// The memory of a check; one that was renamed and has none yet reads what it left under its former name.
    #[must_use]
    pub fn new(source: Arc<Mutex<Reader>>, check: CheckName, was: Option<CheckName>) -> Self {
        Self { source, check, was, loaded: OnceLock::new() }
    }

    fn all(&self) -> Result<&BTreeMap<String, Vec<u8>>, Unread> {
        let loaded = self.loaded.get_or_init(|| {
            let source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
            let own = source.memory(&self.check);
            match (own, &self.was) {
                (Ok(own), Some(was)) if own.is_empty() => source.memory(was),
                (own, _) => own,
            }
            .map_err(|error| unreadable(&error))
        });
        loaded.as_ref().map_err(Unread::clone)
    }
}

impl Memory for CheckMemory {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Unread> {
        Ok(self.all()?.get(key).cloned())
    }
    fn scan(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Unread> {
        let from = self.all()?.range(prefix.to_owned()..);
        Ok(from
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }
}

/// The store's trouble as a check's: it is ours, not the target's.
pub(crate) fn unreadable(error: &Error) -> Unread {
    Unread::ours(STORE_UNREADABLE, clean!("the store can't be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::facts::{Blame, Facts};
    use crate::judge::{Judged, Word};

    fn remember(home: &Home, name: &str, values: &[(&str, Option<Vec<u8>>)]) -> Vec<String> {
        let mut store = home.open(at(0));
        let held = lease(&mut store, at(0));
        let id: i64 = store.last_cycle().unwrap().map_or(0, |last| last.seq);
        let mut tx = store.begin(&held).unwrap();
        tx.before("", at(0), Known::default()).unwrap();
        let judged = Judged { after: snapshot([stood(name, at(0), Word::Pass, Facts::new())]), ..Judged::default() };
        let remember: Vec<Remember> =
            values.iter().map(|(key, value)| (check(name), (*key).to_owned(), value.clone())).collect();
        let committed = tx.commit_cycle(&cycle(&format!("c{id}"), at(0)), &judged, &remember, &[], &[]).unwrap();
        store.release(&held).unwrap();
        committed.said.iter().map(ToString::to_string).collect()
    }

    fn memory(home: &Home, name: &str, was: Option<&str>) -> CheckMemory {
        let reader = Arc::new(Mutex::new(Reader::open(&home.folder).unwrap()));
        CheckMemory::new(reader, check(name), was.map(check))
    }

    #[test]
    fn a_check_finds_what_it_left() {
        let home = Home::new();
        let some = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(remember(&home, "log", &[("at.a", some("1")), ("at.b", some("2")), ("z", some(""))]), [""; 0]);
        let seen = memory(&home, "log", None);
        assert_eq!(seen.get("at.a").unwrap(), some("1"));
        assert_eq!(seen.get("none").unwrap(), None);
        let scanned = seen.scan("at.").unwrap();
        assert_eq!(scanned, [("at.a".to_owned(), b"1".to_vec()), ("at.b".to_owned(), b"2".to_vec())]);
        remember(&home, "log", &[("at.a", some("9")), ("z", None)]);
        assert_eq!(seen.get("at.a").unwrap(), some("1"), "as of when it was first read");
        let anew = memory(&home, "log", None);
        assert_eq!((anew.get("at.a").unwrap(), anew.get("z").unwrap()), (some("9"), None));
        assert_eq!(memory(&home, "other", None).scan("").unwrap(), []);
        assert_eq!(memory(&home, "renamed", Some("log")).get("at.b").unwrap(), some("2"));
    }

    #[test]
    fn too_much_is_refused_whole_and_said() {
        let home = Home::new();
        let big = Some(vec![7_u8; MAX_VALUE_BYTES]);
        assert_eq!(
            remember(&home, "log", &[("small", Some(vec![1])), ("big", Some(vec![7; MAX_VALUE_BYTES + 1]))]),
            ["log wants to remember `big` with 1048577 bytes (a value has 1048576 at most)"]
        );
        assert_eq!(memory(&home, "log", None).scan("").unwrap(), []);
        let names: Vec<String> = (0..17).map(|n| format!("n{n:02}")).collect();
        let sixteen: Vec<_> = names.iter().take(16).map(|name| (name.as_str(), big.clone())).collect();
        assert_eq!(remember(&home, "log", &sixteen), [""; 0]);
        assert_eq!(
            remember(&home, "log", &[("n00", Some(vec![1])), ("n16", big.clone()), ("n17", big)]),
            ["log wants to remember 17825793 bytes (a check has 16777216 at most)"]
        );
        assert_eq!(memory(&home, "log", None).scan("").unwrap().len(), 16);
        let long = "k".repeat(300);
        assert_eq!(
            remember(&home, "other", &[(&long, None)]),
            ["other wants to remember a key of 300 bytes (a key has 256 at most)"]
        );
    }

    #[test]
    fn a_store_that_can_not_be_read_is_our_own_trouble() {
        let home = Home::new();
        remember(&home, "log", &[]);
        let reader = Reader::open(&home.folder).unwrap();
        home.open(at(0)).read(|conn| conn.execute_batch("DROP TABLE memory")).unwrap();
        let seen = CheckMemory::new(Arc::new(Mutex::new(reader)), check("log"), None);
        let unread = seen.get("x").unwrap_err();
        assert_eq!((unread.blame, unread.code.as_str()), (Blame::Ours, STORE_UNREADABLE));
    }
}
