//! Lengths of time as users write them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::echo;

/// The units, largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Ten years: beyond it a typing error is likelier than a wish, and sums with it stay far from every limit.
const MAX_MILLIS: u64 = 3_650 * 86_400_000;

/// A length of time as users write it: `500ms`, `90s`, `15m`, `4h`, `7d`, `1h30m`; at most ten years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Dur(pub Duration);

impl Dur {
    /// So many milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
    /// So many seconds.
    #[must_use]
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
    /// So many minutes.
    #[must_use]
    pub const fn mins(n: u64) -> Self {
        Self(Duration::from_secs(n * 60))
    }
    /// So many hours.
    #[must_use]
    pub const fn hours(n: u64) -> Self {
        Self(Duration::from_secs(n * 3_600))
    }
    /// So many days of 24 hours.
    #[must_use]
    pub const fn days(n: u64) -> Self {
        Self(Duration::from_secs(n * 86_400))
    }

    /// The duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
    /// In seconds, with their fraction.
    #[must_use]
    pub fn as_secs_f64(self) -> f64 {
        self.0.as_secs_f64()
    }
    /// For arithmetic with `jiff` timestamps; what a signed duration can't hold becomes its largest.
    #[must_use]
    pub fn signed(self) -> jiff::SignedDuration {
        jiff::SignedDuration::try_from(self.0).unwrap_or(jiff::SignedDuration::MAX)
    }
    /// Whether it is no time at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Reads `15m`, `1h30m`: whole numbers with units d, h, m, s, ms, the largest first, each at most once.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("expected a duration like `15m` or `1h30m` (units: ms, s, m, h, d), found {}", echo(text));
        let (mut rest, mut total) = (text, 0_u64);
        let mut units = UNITS.iter();
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at_checked(digits).ok_or_else(wrong)?;
            let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, tail) = tail.split_at_checked(letters).ok_or_else(wrong)?;
            if number.is_empty() {
                return Err(wrong());
            }
            // What was passed over on the way to a unit can't come any more: this keeps order and uniqueness.
            let millis = units.find(|(name, _)| *name == unit).map(|(_, millis)| *millis).ok_or_else(wrong)?;
            total = number
                .parse::<u64>()
                .ok()
                .and_then(|n| n.checked_mul(millis))
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= MAX_MILLIS)
                .ok_or_else(|| format!("expected a duration of at most 3650d, found {}", echo(text)))?;
            rest = tail;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Self::millis(total)) }
    }
}

impl From<Duration> for Dur {
    fn from(duration: Duration) -> Self {
        Self(duration)
    }
}

impl fmt::Display for Dur {
    /// The shortest way to write it: one unit where three digits of it do (`90s`, `25h`), else several (`1d1h1m`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.pad(if self.0.is_zero() { "0s" } else { "1ms" });
        }
        if let Some((unit, size)) = UNITS.iter().find(|(_, size)| millis % size == 0)
            && (millis / size < 1_000 || *size == 86_400_000)
        {
            return f.pad(&format!("{}{unit}", millis / size));
        }
        let mut rest = millis;
        let mut parts = Vec::new();
        for (unit, size) in UNITS {
            if rest >= size {
                parts.push(format!("{}{unit}", rest / size));
                rest %= size;
            }
        }
        f.pad(&parts.concat())
    }
}
impl fmt::Debug for Dur {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Dur {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Dur {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Dur;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration like `15m`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Dur, E> {
                Dur::parse(text).map_err(E::custom)
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Dur, E> {
                Err(E::custom(format!(
                    "expected a duration like `15m`, found the bare number {n} (which unit? `\"{n}s\"`, `\"{n}m\"`)"
                )))
            }
            fn visit_u64<E: Error>(self, n: u64) -> Result<Dur, E> {
                Err(E::custom(format!(
                    "expected a duration like `15m`, found the bare number {n} (which unit? `\"{n}s\"`, `\"{n}m\"`)"
                )))
            }
        }
        from.deserialize_any(Written)
    }
}
impl schemars::JsonSchema for Dur {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }
    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Dur").into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A length of time: whole numbers with units (d, h, m, s, ms), the largest unit first.",
            "pattern": "^(?=.)(\\d+d)?(\\d+h)?(\\d+m)?(\\d+s)?(\\d+ms)?$",
            "examples": ["15m", "90s", "4h", "7d", "1h30m", "500ms"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Deserialize)]
    struct Table {
        every: Dur,
    }

    #[test]
    fn durations_are_read_and_written_shortest() {
        for (text, millis, shown) in [
            ("500ms", 500, "500ms"),
            ("90s", 90_000, "90s"),
            ("15m", 900_000, "15m"),
            ("60m", 3_600_000, "1h"),
            ("1h30m", 5_400_000, "90m"),
            ("4h", 14_400_000, "4h"),
            ("7d", 604_800_000, "7d"),
            ("1d1h", 90_000_000, "25h"),
            ("1d1h1m1s1ms", 90_061_001, "1d1h1m1s1ms"),
            ("0s", 0, "0s"),
            ("3650d", MAX_MILLIS, "3650d"),
        ] {
            let dur = Dur::parse(text).unwrap();
            assert_eq!(dur, Dur::millis(millis), "{text}");
            assert_eq!(dur.to_string(), shown, "{text}");
        }
    }

    #[test]
    fn bad_durations_say_what_was_expected() {
        for text in ["", "m", "15", "15 m", "-5m", "1.5h", "15min", "30m1h", "5m5m", "1h-3m", "٣m", "5µs"] {
            let said = Dur::parse(text).unwrap_err();
            assert_eq!(
                said,
                format!("expected a duration like `15m` or `1h30m` (units: ms, s, m, h, d), found `{text}`")
            );
        }
        for text in ["3651d", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(Dur::parse(text).unwrap_err(), format!("expected a duration of at most 3650d, found `{text}`"));
        }
    }

    #[test]
    fn toml_takes_strings_and_refuses_bare_numbers() {
        assert_eq!(toml::from_str::<Table>("every = '15m'").unwrap().every, Dur::mins(15));
        let said = toml::from_str::<Table>("every = 15").unwrap_err();
        assert_eq!(
            said.message(),
            "expected a duration like `15m`, found the bare number 15 (which unit? `\"15s\"`, `\"15m\"`)"
        );
        assert_eq!(said.span(), Some(8..10));
        let said = toml::from_str::<Table>("every = 1.5").unwrap_err();
        assert_eq!(said.message(), "invalid type: floating point `1.5`, expected a duration like `15m`");
    }

    #[test]
    fn json_round_trip() {
        assert_eq!(serde_json::to_string(&Dur::mins(90)).unwrap(), "\"90m\"");
        assert_eq!(serde_json::from_str::<Dur>("\"90m\"").unwrap(), Dur::mins(90));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(millis in 0..=MAX_MILLIS) {
            let dur = Dur::millis(millis);
            prop_assert_eq!(Dur::parse(&dur.to_string()), Ok(dur));
        }
        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,20}") {
            let _ = Dur::parse(&text);
        }
    }
}
