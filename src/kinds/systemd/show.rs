//! What `systemctl` prints, of several versions: blocks of properties, lists of units as JSON or as columns, moments and
//! spans of time in its own words.

use std::collections::BTreeMap;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// The properties that are asked for; those that a version or a type of unit doesn't have are left out by `systemctl`.
pub(super) const PROPERTIES: &str = "Id,Names,LoadState,ActiveState,SubState,Result,Type,NRestarts,ExecMainStatus,\
     StateChangeTimestamp,UnitFileState,TriggeredBy,LastTriggerUSec,NextElapseUSecRealtime,AccuracyUSec,Unit";

/// One unit's properties.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit(BTreeMap<String, String>);

impl Unit {
    /// A property that says something. Unset ones are empty, `[not set]` or `n/a`, by version and type.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !matches!(*value, "" | "[not set]" | "n/a"))
    }
    pub fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }
    pub fn moment(&self, name: &str) -> Option<Timestamp> {
        moment(self.get(name)?)
    }
    pub fn span(&self, name: &str) -> Option<SignedDuration> {
        span(self.get(name)?)
    }
    /// Whether it goes by this name; a unit may have several.
    pub fn is_named(&self, name: &str) -> bool {
        self.get("Id") == Some(name) || self.get("Names").is_some_and(|all| all.split(' ').any(|one| one == name))
    }
}

/// The units of `systemctl show`, in the order in which they were asked for.
pub(super) fn units(text: &str) -> Vec<Unit> {
    let mut units = vec![Unit::default()];
    for line in text.lines() {
        if line.is_empty() {
            units.push(Unit::default());
        } else if let (Some((name, value)), Some(unit)) = (line.split_once('='), units.last_mut()) {
            unit.0.insert(name.to_owned(), value.trim().to_owned());
        }
    }
    units.retain(|unit| !unit.0.is_empty());
    units
}

/// The names in a list of units; none when it is none. Versions that don't know the JSON print columns.
pub(super) fn names(text: &str) -> Option<Vec<String>> {
    let text = text.trim();
    if text.starts_with('[') {
        let rows: Vec<BTreeMap<String, serde_json::Value>> = serde_json::from_str(text).ok()?;
        return rows.iter().map(|row| row.get("unit")?.as_str().map(str::to_owned)).collect();
    }
    // Marks (`●`, `*`) stand before the name of a unit that is not well.
    let name = |line: &str| line.split_whitespace().find(|word| is_unit(word)).map(str::to_owned);
    text.lines().filter(|line| !line.trim().is_empty()).map(name).collect()
}

/// Whether a word is a unit's name: what kind of unit it is stands at its end.
pub(super) fn is_unit(word: &str) -> bool {
    const KINDS: [&str; 11] =
        ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];
    let plain = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    word.rsplit_once('.').is_some_and(|(name, kind)| !name.is_empty() && KINDS.contains(&kind))
        && word.len() <= 255
        && !word.starts_with('-')
        && word.chars().all(plain)
}

/// `Fri 2026-03-20 12:00:00 UTC`, the same with a fraction, `@1774008000`, or microseconds since 1970.
fn moment(text: &str) -> Option<Timestamp> {
    if let Some(seconds) = text.strip_prefix('@') {
        let whole = seconds.split('.').next()?;
        return Timestamp::from_second(whole.parse().ok()?).ok();
    }
    if let Ok(micros) = text.parse::<i64>() {
        return Timestamp::from_microsecond(micros).ok().filter(|at| *at > Timestamp::UNIX_EPOCH);
    }
    let mut words = text.split_whitespace().skip_while(|word| word.starts_with(|first: char| first.is_alphabetic()));
    let (date, time, zone) = (words.next()?, words.next()?, words.next()?);
    if !matches!(zone, "UTC" | "GMT") {
        return None;
    }
    let at: DateTime = format!("{date}T{time}").parse().ok()?;
    at.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// `1h 30min`, `500ms`, `1month 2d`, or microseconds; none for `infinity`.
fn span(text: &str) -> Option<SignedDuration> {
    if let Ok(micros) = text.parse::<i64>() {
        return Some(SignedDuration::from_micros(micros));
    }
    let mut all = 0.0;
    for word in text.split_whitespace() {
        let end = word.find(|c: char| c.is_ascii_alphabetic())?;
        let seconds = match word.get(end..)? {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "min" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            "month" | "M" => 2_629_800.0,
            "y" => 31_557_600.0,
            _ => return None,
        };
        all += word.get(..end)?.parse::<f64>().ok()? * seconds;
    }
    SignedDuration::try_from_secs_f64(all).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_several_versions() {
        let noon = || "2026-03-20T12:00:00Z".parse().ok();
        for (text, at) in [
            ("Fri 2026-03-20 12:00:00 UTC", noon()),
            ("Fri 2026-03-20 12:00:00.000000 UTC", noon()),
            ("2026-03-20 12:00:00 GMT", noon()),
            ("@1774008000", noon()),
            ("@1774008000.000000", noon()),
            ("1774008000000000", noon()),
            ("0", None),
            ("Fri 2026-03-20 13:00:00 CET", None),
            ("infinity", None),
            ("Fri 2026-03-20", None),
            ("@", None),
            ("Fri 2026-13-20 12:00:00 UTC", None),
        ] {
            assert_eq!(moment(text), at, "{text}");
        }
        let unit = |value: &str| units(&format!("LastTriggerUSec={value}")).remove(0);
        for unset in ["", "n/a", "[not set]"] {
            assert_eq!(unit(unset).moment("LastTriggerUSec"), None, "{unset:?}");
        }
    }

    #[test]
    fn spans_in_the_words_of_systemd() {
        for (text, millis) in [
            ("1min", Some(60_000)),
            ("1h 30min", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            ("500ms", Some(500)),
            ("1w 2d", Some(777_600_000)),
            ("60000000", Some(60_000)),
            ("infinity", None),
            ("1 parsec", None),
        ] {
            assert_eq!(span(text).map(|span| span.as_millis()), millis, "{text}");
        }
    }

    #[test]
    fn lists_are_read_as_json_and_as_columns() {
        let both = Some(vec!["a.service".to_owned(), "b@1.service".to_owned()]);
        for (text, names_in_it) in [
            (
                r#"[{"unit":"a.service","load":"loaded","active":"failed","sub":"failed","description":"A b.timer"},{"unit":"b@1.service","load":"loaded"}]"#,
                both.clone(),
            ),
            ("  a.service   loaded failed failed A thing for b.timer\n● b@1.service loaded failed failed B\n", both),
            ("[]", Some(vec![])),
            ("", Some(vec![])),
            ("[{\"unit\":", None),
            ("[{\"name\":\"a.service\"}]", None),
            ("no unit in this line", None),
        ] {
            assert_eq!(names(text), names_in_it, "{text}");
        }
    }

    #[test]
    fn names_of_units() {
        for (name, is) in [
            ("a.service", true),
            ("getty@tty1.service", true),
            ("dev-disk-by\\x2duuid.device", true),
            ("a", false),
            (".service", false),
            ("--now.service", false),
            ("a b.service", false),
            ("a/../b.service", false),
            ("*.service", false),
        ] {
            assert_eq!(is_unit(name), is, "{name}");
        }
    }
}
