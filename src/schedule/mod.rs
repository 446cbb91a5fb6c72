//! When something is due, pure: slots of a schedule, windows of hours. Times are handed in; nothing here reads a clock.

mod window;

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::settings::Dur;
pub use window::Window;

/// Bytes of a schedule or window.
const MAX_SOURCE_BYTES: usize = 256;

/// A cron expression in a zone (`*/15 * * * *`, `@hourly`, `TZ=Europe/Berlin 0 7 * * mon-fri`), or an interval
/// (`every 15m`). Without `TZ=` it is in UTC until [`Schedule::in_zone`] says otherwise.
///
/// Where clocks go forward, a fixed time that is left out comes at the first moment after the gap; where they go back, a
/// fixed time comes once. Intervals (`*/15`) follow the time that passes.
#[derive(Clone, PartialEq, Eq)]
pub struct Schedule {
    source: String,
    plan: Plan,
}

#[derive(Clone, PartialEq, Eq)]
enum Plan {
    Cron {
        cron: Box<Cron>,
        zone: TimeZone,
        /// Whether the zone stands in the source.
        fixed: bool,
    },
    Every(Dur),
}

impl Schedule {
    /// Reads a cron expression of five fields, an alias (`@hourly` …) or `every DUR`. One that never comes is refused.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let written = crate::settings::echo(text);
            format!("expected a schedule like `*/15 * * * *`, `@hourly` or `every 15m`, found {written}{why}")
        };
        if text.len() > MAX_SOURCE_BYTES {
            return Err(wrong(&format!(" (longer than {MAX_SOURCE_BYTES} bytes)")));
        }
        let source = text.trim();
        if let Some(interval) = source.strip_prefix("every ") {
            let every = Dur::parse(interval.trim())?;
            if every.is_zero() {
                return Err(wrong(" (an interval is longer than nothing)"));
            }
            return Ok(Self { source: source.to_owned(), plan: Plan::Every(every) });
        }
        let (zone, fields) = match source.strip_prefix("CRON_TZ=").or_else(|| source.strip_prefix("TZ=")) {
            Some(rest) => {
                let (name, fields) = rest.split_once(' ').ok_or_else(|| wrong(""))?;
                (Some(zone(name)?), fields.trim())
            }
            None => (None, source),
        };
        if !fields.starts_with('@') && fields.split_whitespace().count() != 5 {
            return Err(wrong(" (five fields: minute hour day month weekday)"));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(fields).map_err(|why| wrong(&format!(" ({})", words(&why))))?;
        let fixed = zone.is_some();
        let plan = Plan::Cron { cron: Box::new(cron), zone: zone.unwrap_or(TimeZone::UTC), fixed };
        let schedule = Self { source: source.to_owned(), plan };
        // From any day on, so that the answer doesn't hang on today: 30 February, 31 April.
        if schedule.next_after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(wrong(" (no such day ever comes)"));
        }
        Ok(schedule)
    }

    /// The same in a zone, unless it names its own.
    #[must_use]
    pub fn in_zone(mut self, of: &TimeZone) -> Self {
        if let Plan::Cron { zone, fixed: false, .. } = &mut self.plan {
            *zone = of.clone();
        }
        self
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The first slot after `t`, which is itself none; an interval counts from `t`. None beyond the calendar's end.
    #[must_use]
    pub fn next_after(&self, t: Timestamp) -> Option<Timestamp> {
        match &self.plan {
            Plan::Every(every) => t.checked_add(every.signed()).ok(),
            Plan::Cron { cron, zone, .. } => {
                let next = cron.find_next_occurrence(&t.to_zoned(zone.clone()), false).ok()?.timestamp();
                (next > t).then_some(next)
            }
        }
    }

    /// The slots after `after` up to and with `until`, the first `limit` of them, and whether there are more.
    #[must_use]
    pub fn slots_between(&self, after: Timestamp, until: Timestamp, limit: usize) -> (Vec<Timestamp>, bool) {
        let next = |t: &Timestamp| self.next_after(*t).filter(|slot| *slot <= until);
        let mut slots = Vec::new();
        let mut slot = next(&after);
        while let Some(at) = slot {
            if slots.len() == limit {
                return (slots, true);
            }
            slots.push(at);
            slot = next(&at);
        }
        (slots, false)
    }

    /// How long it usually is between two slots from `t` on: the shorter of the next two gaps.
    #[must_use]
    pub fn cadence(&self, t: Timestamp) -> Option<SignedDuration> {
        let first = self.next_after(t)?;
        let second = self.next_after(first)?;
        let third = self.next_after(second)?;
        Some(second.duration_since(first).min(third.duration_since(second)))
    }
}

/// Whether something that is done `every` so often is due `now`, where cycles come once per `cycle`: half a cycle early
/// counts, since the next cycle would be later by more. A last time that lies ahead (a clock was set back) counts as none.
#[must_use]
pub fn due(now: Timestamp, last: Option<Timestamp>, every: Dur, cycle: Dur) -> bool {
    last.is_none_or(|last| {
        let half = cycle.signed() / 2;
        last > now || now.duration_since(last).saturating_add(half) >= every.signed()
    })
}

/// A zone by its IANA name.
fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("expected a time zone like `Europe/Berlin`, found {}", crate::settings::echo(name)))
}

/// The crate's words as a fragment.
fn words(why: &croner::errors::CronError) -> String {
    let said = why.to_string();
    let said = said.split_once(": ").map_or(said.as_str(), |(_, detail)| detail);
    let mut chars = said.trim_end_matches('.').chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.source)
    }
}
impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.source)
    }
}
impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.source)
    }
}
impl<'de> Deserialize<'de> for Schedule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Written("a schedule like `*/15 * * * *` or `every 15m`", Self::parse))
    }
}
impl schemars::JsonSchema for Schedule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Schedule".into()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        concat!(module_path!(), "::Schedule").into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A cron expression of five fields, an alias (@hourly, @daily, @weekly, @monthly, @yearly) or `every` and a duration; TZ=Zone before it sets its time zone.",
            "pattern": "^\\s*(every \\S+|((CRON_)?TZ=\\S+\\s+)?(@[A-Za-z]+|\\S+(\\s+\\S+){4}))\\s*$",
            "maxLength": MAX_SOURCE_BYTES,
            "examples": ["*/15 * * * *", "0 7 * * mon-fri", "@hourly", "every 15m", "TZ=Europe/Berlin 30 2 * * *"],
        })
    }
}

/// Reads a string by a function.
struct Written<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> serde::de::Visitor<'_> for Written<T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn slots(schedule: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let zone = TimeZone::get(zone).unwrap();
        let schedule = Schedule::parse(schedule).unwrap().in_zone(&zone);
        let (slots, _) = schedule.slots_between(at(after), at("2100-01-01T00:00Z"), count);
        slots.iter().map(|slot| slot.to_zoned(zone.clone()).strftime("%m-%d %H:%M%:z").to_string()).collect()
    }

    #[test]
    fn slots_come_in_the_zone() {
        for (schedule, zone, after, expected) in [
            ("*/15 * * * *", "UTC", "2026-03-20T14:00:00Z", vec!["03-20 14:15+00:00", "03-20 14:30+00:00"]),
            ("*/15 * * * *", "UTC", "2026-03-20T14:00:01Z", vec!["03-20 14:15+00:00"]),
            ("*/15 * * * *", "UTC", "2026-03-20T14:14:59.999Z", vec!["03-20 14:15+00:00", "03-20 14:30+00:00"]),
            ("0 7 * * mon-fri", "America/Los_Angeles", "2026-03-20T15:00:00Z", vec!["03-23 07:00-07:00"]),
            ("@hourly", "Asia/Kolkata", "2026-03-20T14:00:00Z", vec!["03-20 20:00+05:30", "03-20 21:00+05:30"]),
            ("@weekly", "UTC", "2026-03-20T14:00:00Z", vec!["03-22 00:00+00:00", "03-29 00:00+00:00"]),
            ("0 0 29 2 *", "UTC", "2026-03-20T14:00:00Z", vec!["02-29 00:00+00:00"]),
            ("0 0 13 * 5", "UTC", "2026-03-20T14:00:00Z", vec!["03-27 00:00+00:00", "04-03 00:00+00:00"]),
            ("every 90m", "UTC", "2026-03-20T14:00:00Z", vec!["03-20 15:30+00:00", "03-20 17:00+00:00"]),
            ("TZ=Asia/Tokyo 0 9 * * *", "UTC", "2026-03-20T14:00:00Z", vec!["03-21 00:00+00:00"]),
            ("CRON_TZ=Asia/Tokyo 0 9 * * *", "Europe/Berlin", "2026-03-20T14:00:00Z", vec!["03-21 01:00+01:00"]),
        ] {
            assert_eq!(slots(schedule, zone, after, expected.len()), expected, "{schedule} in {zone}");
        }
    }

    #[test]
    fn a_fixed_time_in_the_gap_comes_after_it_and_a_repeated_one_once() {
        // Berlin goes from 02:00 to 03:00 on 29 March 2026 and from 03:00 back to 02:00 on 25 October.
        assert_eq!(
            slots("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            ["03-28 02:30+01:00", "03-29 03:00+02:00", "03-30 02:30+02:00"]
        );
        assert_eq!(
            slots("30 2 * * *", "Europe/Berlin", "2026-10-23T12:00:00Z", 3),
            ["10-24 02:30+02:00", "10-25 02:30+02:00", "10-26 02:30+01:00"]
        );
        // From between the two half past twos it is not due again.
        assert_eq!(slots("30 2 * * *", "Europe/Berlin", "2026-10-25T00:45:00Z", 1), ["10-26 02:30+01:00"]);
    }

    #[test]
    fn intervals_follow_the_time_that_passes() {
        assert_eq!(
            slots("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:10:00Z", 4),
            ["03-29 01:30+01:00", "03-29 03:00+02:00", "03-29 03:30+02:00", "03-29 04:00+02:00"]
        );
        assert_eq!(
            slots("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:10:00Z", 4),
            ["10-25 02:30+02:00", "10-25 02:00+01:00", "10-25 02:30+01:00", "10-25 03:00+01:00"]
        );
        let quarter = Schedule::parse("*/15 * * * *").unwrap().in_zone(&TimeZone::get("Europe/Berlin").unwrap());
        for day in ["2026-03-28T23:00:00Z", "2026-10-24T22:00:00Z"] {
            let (slots, more) = quarter.slots_between(at(day), at(day) + SignedDuration::from_hours(6), 100);
            assert_eq!((slots.len(), more), (24, false), "{day}");
            assert!(
                slots.windows(2).all(|pair| pair[1].duration_since(pair[0]) == SignedDuration::from_mins(15)),
                "{day}"
            );
        }
    }

    #[test]
    fn slots_are_bounded_and_the_cut_is_said() {
        let schedule = Schedule::parse("* * * * *").unwrap();
        let (slots, more) = schedule.slots_between(at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z"), 3);
        assert_eq!((slots.len(), more), (3, true));
        assert_eq!(schedule.slots_between(at("2026-01-01T00:00Z"), at("2026-01-01T00:02Z"), 9).0.len(), 2);
        assert_eq!(schedule.slots_between(at("2027-01-01T00:00Z"), at("2026-01-01T00:00Z"), 9), (vec![], false));
    }

    #[test]
    fn cadence_is_the_usual_gap() {
        let cadence = |text: &str| Schedule::parse(text).unwrap().cadence(at("2026-03-20T14:00:00Z"));
        assert_eq!(cadence("*/15 * * * *"), Some(SignedDuration::from_mins(15)));
        assert_eq!(cadence("every 2h"), Some(SignedDuration::from_hours(2)));
        assert_eq!(cadence("0 7 * * mon-fri"), Some(SignedDuration::from_hours(24)));
    }

    #[test]
    fn bad_schedules_say_why() {
        let wrong = "expected a schedule like `*/15 * * * *`, `@hourly` or `every 15m`, found ";
        for (text, why) in [
            ("", "`` (five fields: minute hour day month weekday)"),
            ("* * * *", "`* * * *` (five fields: minute hour day month weekday)"),
            ("0 * * * * *", "`0 * * * * *` (five fields: minute hour day month weekday)"),
            ("0 0 30 2 *", "`0 0 30 2 *` (no such day ever comes)"),
            ("every 0s", "`every 0s` (an interval is longer than nothing)"),
            ("TZ=UTC", "`TZ=UTC`"),
        ] {
            assert_eq!(Schedule::parse(text).unwrap_err(), format!("{wrong}{why}"));
        }
        for text in ["61 * * * *", "* 25 * * *", "@reboot", "a b c d e", "*/0 * * * *", "5-1-2 * * * *", "* * * * foo"]
        {
            let said = Schedule::parse(text).unwrap_err();
            assert!(said.starts_with(wrong) && said.ends_with(')'), "{said}");
        }
        assert_eq!(
            Schedule::parse("every 15").unwrap_err(),
            "expected a duration like `15m` or `1h30m` (units: ms, s, m, h, d), found `15`"
        );
        assert_eq!(
            Schedule::parse("TZ=Mars/Base 0 0 * * *").unwrap_err(),
            "expected a time zone like `Europe/Berlin`, found `Mars/Base`"
        );
        assert!(Schedule::parse(&"*".repeat(300)).is_err());
    }

    #[test]
    fn due_half_a_cycle_early_and_after_a_clock_was_set_back() {
        let (every, cycle) = (Dur::hours(1), Dur::mins(15));
        let last = at("2026-03-20T14:00:00Z");
        for (now, expected) in [
            ("2026-03-20T14:45:00Z", false),
            ("2026-03-20T14:52:29Z", false),
            ("2026-03-20T14:52:30Z", true),
            ("2026-03-20T15:00:00Z", true),
            ("2026-03-20T14:00:00Z", false),
            ("2026-03-20T13:00:00Z", true),
        ] {
            assert_eq!(due(at(now), Some(last), every, cycle), expected, "{now}");
        }
        assert!(due(last, None, every, cycle));
        assert!(due(Timestamp::MAX, Some(Timestamp::MIN), every, cycle));
    }

    #[test]
    fn a_settings_field_is_read_and_written() {
        #[derive(Debug, Deserialize, Serialize)]
        struct Table {
            schedule: Schedule,
        }
        let table: Table = toml::from_str("schedule = '0 7 * * mon-fri'").unwrap();
        assert_eq!(serde_json::to_string(&table).unwrap(), "{\"schedule\":\"0 7 * * mon-fri\"}");
        let why = toml::from_str::<Table>("schedule = 15").unwrap_err();
        assert_eq!(why.message(), "invalid type: integer `15`, expected a schedule like `*/15 * * * *` or `every 15m`");
        let schema = serde_json::to_value(schemars::schema_for!(Schedule)).unwrap();
        for example in schema["examples"].as_array().unwrap() {
            assert!(serde_json::from_value::<Schedule>(example.clone()).is_ok(), "{example}");
            assert!(jsonschema::is_valid(&schema, example), "{example}");
        }
    }
}
