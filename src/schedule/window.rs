//! Windows of hours: when cycles run at all, and when notices wait for the morning.

use std::fmt;

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_SOURCE_BYTES, Written};

/// Days that are looked through for a window's next beginning or its time between two moments.
const MAX_DAYS: usize = 400;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Hours of the day, on some weekdays or all: `07:00-23:00`, over midnight `22:00-06:00`, `mon-fri 08:00-18:00`,
/// `sat,sun 10:00-24:00`. A window over midnight belongs to the day on which it begins. In UTC until [`Window::in_zone`]
/// says otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Window {
    source: String,
    days: Vec<Weekday>,
    start: Time,
    /// The end; midnight stands for the end of the day.
    end: Time,
    zone: TimeZone,
}

impl Window {
    /// Reads `HH:MM-HH:MM`, after weekdays if there are any.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            let written = crate::settings::echo(text);
            format!("expected hours like `07:00-23:00` or `mon-fri 08:00-18:00`, found {written}")
        };
        if text.len() > MAX_SOURCE_BYTES {
            return Err(wrong());
        }
        let source = text.trim();
        let (days, hours) = match source.rsplit_once(' ') {
            Some((days, hours)) => (weekdays(days).ok_or_else(wrong)?, hours),
            None => (DAYS.map(|(_, day)| day).to_vec(), source),
        };
        let (start, end) = hours.split_once('-').ok_or_else(wrong)?;
        let start = time(start).ok_or_else(wrong)?;
        let end = if end == "24:00" { Time::midnight() } else { time(end).ok_or_else(wrong)? };
        if start == end && hours != "00:00-24:00" {
            return Err(format!("{} (from one time to the same is no time at all; all day is `00:00-24:00`)", wrong()));
        }
        Ok(Self { source: source.to_owned(), days, start, end, zone: TimeZone::UTC })
    }

    /// The same in a zone.
    #[must_use]
    pub fn in_zone(mut self, zone: &TimeZone) -> Self {
        self.zone = zone.clone();
        self
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether `t` is in it; its end is not.
    #[must_use]
    pub fn contains(&self, t: Timestamp) -> bool {
        self.around(t).is_some()
    }

    /// When the window that `t` is in ends: the first moment that is in none. None when `t` is in none, or when the
    /// windows follow each other without end.
    #[must_use]
    pub fn ends_after(&self, t: Timestamp) -> Option<Timestamp> {
        let mut end = self.around(t)?;
        // One for each day of the week and one more: then they have no end.
        for _ in 0..8 {
            match self.around(end) {
                Some(later) => end = later,
                None => return Some(end),
            }
        }
        None
    }

    /// When the next window begins, at `t` or after it; `t` itself when it is in one.
    #[must_use]
    pub fn starts_after(&self, t: Timestamp) -> Option<Timestamp> {
        if self.contains(t) {
            return Some(t);
        }
        // Eight days, since the window of today's weekday may be over.
        self.spans(t).take(10).map(|(start, _)| start).find(|start| *start >= t)
    }

    /// How much of the time from `from` to `to` is in it, looking at no more than 400 days.
    #[must_use]
    pub fn within(&self, from: Timestamp, to: Timestamp) -> SignedDuration {
        let spans = self.spans(from).take_while(|(start, _)| *start < to).take(MAX_DAYS);
        let mut done = from;
        let mut sum = SignedDuration::ZERO;
        for (start, end) in spans {
            let (start, end) = (start.max(done), end.min(to));
            if start < end {
                sum = sum.saturating_add(end.duration_since(start));
                done = end;
            }
        }
        sum
    }

    /// The end of the one window that `t` is in.
    fn around(&self, t: Timestamp) -> Option<Timestamp> {
        self.spans(t).take_while(|(start, _)| *start <= t).map(|(_, end)| end).filter(|end| t < *end).max()
    }

    /// The windows from the day before `t` on, at most [`MAX_DAYS`] days' worth. Times that a clock leaves out move behind
    /// the gap.
    fn spans(&self, t: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let first = t.to_zoned(self.zone.clone()).date().yesterday().unwrap_or(Date::MIN);
        first.series(jiff::Span::new().days(1)).take(MAX_DAYS).filter_map(move |day| {
            if !self.days.contains(&day.weekday()) {
                return None;
            }
            let last = if self.end <= self.start { day.tomorrow().ok()? } else { day };
            let moment =
                |day: Date, time: Time| Some(day.to_datetime(time).to_zoned(self.zone.clone()).ok()?.timestamp());
            Some((moment(day, self.start)?, moment(last, self.end)?))
        })
    }
}

/// `mon-fri`, `sat,sun`, `fri-mon`.
fn weekdays(text: &str) -> Option<Vec<Weekday>> {
    let index = |name: &str| DAYS.iter().position(|(day, _)| name.trim().eq_ignore_ascii_case(day));
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (index(first)?, index(last)?),
            None => (index(part)?, index(part)?),
        };
        let count = (last + DAYS.len() - first) % DAYS.len() + 1;
        days.extend(DAYS.iter().cycle().skip(first).take(count).map(|(_, day)| *day));
    }
    Some(days)
}

/// `HH:MM`, two digits each.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let number = |digits: &str| (digits.len() == 2).then(|| digits.parse::<i8>().ok())?;
    Time::new(number(hour)?, number(minute)?, 0, 0).ok()
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.source)
    }
}
impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.source)
    }
}
impl Serialize for Window {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.source)
    }
}
impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Written("hours like `07:00-23:00`", Self::parse))
    }
}
impl schemars::JsonSchema for Window {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hours".into()
    }
    fn schema_id() -> std::borrow::Cow<'static, str> {
        concat!(module_path!(), "::Window").into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Hours of the day, over midnight too, after weekdays if not on all of them.",
            "pattern": "^\\s*([A-Za-z,-]+\\s+)?\\d\\d:\\d\\d-\\d\\d:\\d\\d\\s*$",
            "maxLength": MAX_SOURCE_BYTES,
            "examples": ["07:00-23:00", "22:00-06:00", "mon-fri 08:00-18:00", "sat,sun 10:00-24:00"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn berlin(text: &str) -> Window {
        Window::parse(text).unwrap().in_zone(&TimeZone::get("Europe/Berlin").unwrap())
    }

    #[test]
    fn a_moment_is_in_a_window_or_not_and_the_window_ends() {
        // 20 March 2026 is a Friday; Berlin is an hour ahead of UTC until the 29th, two from then on.
        for (window, t, ends) in [
            ("07:00-23:00", "2026-03-20T06:00:00Z", Some("2026-03-20T22:00:00Z")),
            ("07:00-23:00", "2026-03-20T05:59:59Z", None),
            ("07:00-23:00", "2026-03-20T22:00:00Z", None),
            ("22:00-06:00", "2026-03-20T22:30:00Z", Some("2026-03-21T05:00:00Z")),
            ("22:00-06:00", "2026-03-21T04:59:59Z", Some("2026-03-21T05:00:00Z")),
            ("22:00-06:00", "2026-03-21T05:00:00Z", None),
            ("mon-fri 08:00-18:00", "2026-03-20T12:00:00Z", Some("2026-03-20T17:00:00Z")),
            ("mon-fri 08:00-18:00", "2026-03-21T12:00:00Z", None),
            ("fri 22:00-06:00", "2026-03-21T04:00:00Z", Some("2026-03-21T05:00:00Z")),
            ("fri 22:00-06:00", "2026-03-20T04:00:00Z", None),
            ("sat,sun 00:00-24:00", "2026-03-21T12:00:00Z", Some("2026-03-22T23:00:00Z")),
            ("fri-mon 00:00-24:00", "2026-03-20T12:00:00Z", Some("2026-03-23T23:00:00Z")),
            // The night in which 02:00 becomes 03:00 is an hour shorter.
            ("22:00-06:00", "2026-03-28T22:00:00Z", Some("2026-03-29T04:00:00Z")),
            ("02:30-06:00", "2026-03-29T01:29:00Z", None),
            ("02:30-06:00", "2026-03-29T01:30:00Z", Some("2026-03-29T04:00:00Z")),
        ] {
            let window = berlin(window);
            assert_eq!(window.ends_after(at(t)), ends.map(at), "{window} at {t}");
            assert_eq!(window.contains(at(t)), ends.is_some(), "{window} at {t}");
        }
        let always = berlin("00:00-24:00");
        assert!(always.contains(at("2026-03-20T23:00:00Z")));
        assert_eq!(always.ends_after(at("2026-03-20T23:00:00Z")), None);
    }

    #[test]
    fn the_next_window_begins() {
        for (window, t, starts) in [
            ("07:00-23:00", "2026-03-20T05:00:00Z", "2026-03-20T06:00:00Z"),
            ("07:00-23:00", "2026-03-20T12:00:00Z", "2026-03-20T12:00:00Z"),
            ("07:00-23:00", "2026-03-20T22:00:00Z", "2026-03-21T06:00:00Z"),
            ("fri 07:00-08:00", "2026-03-20T12:00:00Z", "2026-03-27T06:00:00Z"),
            ("mon-fri 08:00-18:00", "2026-03-28T12:00:00Z", "2026-03-30T06:00:00Z"),
        ] {
            assert_eq!(berlin(window).starts_after(at(t)), Some(at(starts)), "{window} at {t}");
        }
    }

    #[test]
    fn the_time_within_is_counted() {
        for (window, from, to, minutes) in [
            ("07:00-23:00", "2026-03-20T05:00:00Z", "2026-03-20T07:00:00Z", 60),
            ("07:00-23:00", "2026-03-20T21:30:00Z", "2026-03-21T06:30:00Z", 60),
            ("00:00-24:00", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", 31 * 24 * 60),
            ("22:00-06:00", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z", 7 * 60),
            ("mon 00:00-24:00", "2026-03-20T00:00:00Z", "2026-03-22T12:00:00Z", 0),
            ("07:00-23:00", "2026-03-20T12:00:00Z", "2026-03-20T11:00:00Z", 0),
        ] {
            let within = berlin(window).within(at(from), at(to));
            assert_eq!(within, SignedDuration::from_mins(minutes), "{window} from {from} to {to}");
        }
        assert_eq!(berlin("07:00-23:00").within(Timestamp::MIN, Timestamp::MAX).as_hours() / 16, 399);
    }

    #[test]
    fn bad_windows_say_what_was_expected() {
        for text in [
            "",
            "7-23",
            "7:00-23:00",
            "07:00",
            "07:00-25:00",
            "24:00-07:00",
            "07:60-08:00",
            "foo 07:00-08:00",
            "mon- 07:00-08:00",
            "07:00 - 23:00",
        ] {
            assert_eq!(
                Window::parse(text).unwrap_err(),
                format!("expected hours like `07:00-23:00` or `mon-fri 08:00-18:00`, found `{text}`")
            );
        }
        assert!(Window::parse("07:00-07:00").unwrap_err().ends_with("all day is `00:00-24:00`)"));
        assert!(Window::parse("Mon-Fri 08:00-18:00").is_ok());
        let schema = serde_json::to_value(schemars::schema_for!(Window)).unwrap();
        for example in schema["examples"].as_array().unwrap() {
            assert!(serde_json::from_value::<Window>(example.clone()).is_ok(), "{example}");
            assert!(jsonschema::is_valid(&schema, example), "{example}");
        }
    }
}
