//! Whether a token is in use after its end: what tells somebody who is away from a refresh that does not work.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};

use crate::clean;
use crate::facts::{Edge, Scale, Subject, Unit, Unread, Value};
use crate::host::files;
use crate::kinds::Fetched;
use crate::read::tree::{self, MAX_DEPTH, MAX_ENTRIES};
use crate::settings::Dur;
use crate::words::span;

/// The key under which is kept when use was first seen.
pub(super) const KEPT: &str = "used";
/// Paths that a glob may match.
const MAX_ROOTS: usize = 10_000;

/// When something was last written there. Blocking.
pub(super) fn newest(path: &Path) -> Result<Option<Timestamp>, Unread> {
    let roots = if files::has_wildcards(path) { files::glob(path, MAX_ROOTS)?.0 } else { vec![path.to_owned()] };
    let seen = tree::newest(&roots, MAX_ENTRIES, MAX_DEPTH);
    if seen.file.is_none() && seen.unreadable > 0 {
        return Err(Unread::blind("permission_denied", clean!("{} may not be looked into", files::shown(path))));
    }
    Ok(seen.file.map(|(at, _)| at))
}

/// By subject: the end that it is about, and the first use that was seen after it, as seconds since 1970.
pub(super) struct Uses(BTreeMap<String, (i64, i64)>);

impl Uses {
    /// What was remembered; what can't be read begins anew.
    pub(super) fn of(kept: Option<&[u8]>) -> Self {
        Self(kept.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default())
    }

    /// Adds for how long each token with a refresh token was in use since its end.
    pub(super) fn put(&self, newest: Option<Timestamp>, within: Dur, fetched: &mut Fetched) {
        let mut kept = BTreeMap::new();
        for subject in fetched.facts.subjects() {
            let Some(Value::At(ends)) = fetched.facts.get(&subject, "expires_at").map(|fact| fact.value.clone()) else {
                continue;
            };
            if fetched.facts.flag(&subject, "has_refresh") != Some(true) {
                continue;
            }
            let over = fetched.facts.number(&subject, "time_left_s").is_some_and(|left| left <= 0.0);
            let used = newest.filter(|used| over && *used > ends);
            let secs = used.map_or(0, |used| self.since(&subject, ends, used, &mut kept));
            fetched.facts.gauge(&subject, "used_s", secs, scale(secs, ends, within));
        }
        fetched.remember.push((KEPT.to_owned(), serde_json::to_vec(&kept).ok()));
    }

    /// Seconds from the first use after the end that was seen to the newest.
    fn since(
        &self,
        subject: &Subject,
        ends: Timestamp,
        used: Timestamp,
        kept: &mut BTreeMap<String, (i64, i64)>,
    ) -> i64 {
        let before = self.0.get(subject.as_str()).filter(|(end, _)| *end == ends.as_second());
        let first = before.map_or(used.as_second(), |(_, first)| *first);
        kept.insert(subject.as_str().to_owned(), (ends.as_second(), first));
        used.duration_since(Timestamp::from_second(first).unwrap_or(used)).max(SignedDuration::ZERO).as_secs()
    }
}

fn scale(secs: i64, ends: Timestamp, within: Dur) -> Scale {
    Scale {
        fail: Some(Edge { at: within.as_secs_f64(), code: "not_refreshed".into(), settled: false }),
        says: clean!("token expired and was not refreshed, though it has been in use for {} since", span(secs)),
        episode: Some(clean!("{ends}")),
        ..Scale::plain(Unit::Seconds)
    }
}
