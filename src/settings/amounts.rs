//! Sizes in bytes and money.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::echo;

/// Units of size, the way they are written; letters of any case are read.
const UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
    ("B", 1),
];

/// A size in bytes as users write it: `10MiB`, `512KiB`, `2GB`, or a whole number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

impl Size {
    /// So many KiB.
    #[must_use]
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// So many MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
    /// As a length in memory; what an address can't hold becomes its largest.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }

    /// Reads `10MiB`, `2GB`, `4096`: a whole number, directly followed by its unit.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "expected a size like `10MiB` or `2GB` (units: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB), found {}",
                echo(text)
            )
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
        let bytes = match unit {
            "" => 1,
            unit => {
                UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, n)| *n).ok_or_else(wrong)?
            }
        };
        if number.is_empty() {
            return Err(wrong());
        }
        number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(bytes))
            .filter(|n| i64::try_from(*n).is_ok())
            .map(Self)
            .ok_or_else(|| format!("expected a size below 8 EiB, found {}", echo(text)))
    }
}

impl fmt::Display for Size {
    /// In the largest unit that divides it: `10MiB`, `2GB`, `1500kB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) =
            UNITS.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)).unwrap_or(&("B", 1));
        f.pad(&format!("{}{unit}", self.0 / bytes))
    }
}
impl fmt::Debug for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size like `10MiB` or a whole number of bytes")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
                Size::parse(text).map_err(E::custom)
            }
            fn visit_u64<E: Error>(self, n: u64) -> Result<Size, E> {
                i64::try_from(n).map_err(|_| E::custom("expected a size below 8 EiB"))?;
                Ok(Size(n))
            }
            fn visit_i64<E: Error>(self, n: i64) -> Result<Size, E> {
                u64::try_from(n)
                    .map(Size)
                    .map_err(|_| E::custom(format!("expected a size, found the negative number {n}")))
            }
        }
        from.deserialize_any(Written)
    }
}
impl schemars::JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }
    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Size").into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["string", "integer"],
            "description": "A size: a whole number with its unit (B, kB, KiB, MB, MiB, GB, GiB, TB, TiB), or a number of bytes.",
            "pattern": "^\\d+([kKmMgGtT]?[iI]?[bB])?$",
            "minimum": 0,
            "examples": ["10MiB", "512KiB", "2GB", 4096],
        })
    }
}

/// US dollars: a finite number that is not negative, written `4.20` or `"$4.20"`.
#[derive(Clone, Copy, PartialEq, PartialOrd, Default, Serialize)]
#[serde(transparent)]
pub struct Money(pub f64);

impl Money {
    /// In US dollars.
    #[must_use]
    pub const fn usd(self) -> f64 {
        self.0
    }
    /// Reads `$4.20`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected US dollars like `$4.20` or the number `4.20`, found {}", echo(text));
        let number = text.strip_prefix('$').ok_or_else(wrong)?;
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        Self::new(number.parse().ok().filter(|_| plain).ok_or_else(wrong)?)
    }
    /// Checks that it is finite and not negative.
    pub fn new(usd: f64) -> Result<Self, String> {
        if usd.is_finite() && usd >= 0.0 {
            // -0.0 passes the comparison; it is stored as 0.
            Ok(Self(usd.abs()))
        } else {
            Err(format!("expected US dollars as a number from 0, found {usd}"))
        }
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("${:.2}", self.0))
    }
}
impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${}", self.0)
    }
}
impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Money;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("US dollars like `$4.20` or the number `4.20`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Money, E> {
                Money::parse(text).map_err(E::custom)
            }
            fn visit_f64<E: Error>(self, usd: f64) -> Result<Money, E> {
                Money::new(usd).map_err(E::custom)
            }
            #[expect(clippy::cast_precision_loss, reason = "dollars beyond 2^53 are no budget")]
            fn visit_i64<E: Error>(self, usd: i64) -> Result<Money, E> {
                self.visit_f64(usd as f64)
            }
            #[expect(clippy::cast_precision_loss, reason = "dollars beyond 2^53 are no budget")]
            fn visit_u64<E: Error>(self, usd: u64) -> Result<Money, E> {
                self.visit_f64(usd as f64)
            }
        }
        from.deserialize_any(Written)
    }
}
impl schemars::JsonSchema for Money {
    fn schema_name() -> Cow<'static, str> {
        "Money".into()
    }
    fn schema_id() -> Cow<'static, str> {
        concat!(module_path!(), "::Money").into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": ["number", "string"],
            "description": "US dollars: a number, or text with the sign.",
            "minimum": 0,
            "pattern": "^\\$\\d+(\\.\\d+)?$",
            "examples": [4.2, "$25"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Deserialize)]
    struct Table<T> {
        x: T,
    }

    fn size(toml: &str) -> Result<Size, String> {
        toml::from_str::<Table<Size>>(toml).map(|t| t.x).map_err(|e| e.message().to_owned())
    }
    fn money(toml: &str) -> Result<Money, String> {
        toml::from_str::<Table<Money>>(toml).map(|t| t.x).map_err(|e| e.message().to_owned())
    }

    #[test]
    fn sizes_are_read_and_written() {
        for (toml, bytes, shown) in [
            ("x = '10MiB'", 10 << 20, "10MiB"),
            ("x = '512KiB'", 512 << 10, "512KiB"),
            ("x = '2GB'", 2_000_000_000, "2GB"),
            ("x = '2gb'", 2_000_000_000, "2GB"),
            ("x = '1500kB'", 1_500_000, "1500kB"),
            ("x = 4096", 4096, "4KiB"),
            ("x = '17'", 17, "17B"),
            ("x = 0", 0, "0B"),
        ] {
            let size = size(toml).unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, shown), "{toml}");
        }
    }

    #[test]
    fn bad_sizes_say_what_was_expected() {
        const UNITS: &str = "(units: B, kB, KiB, MB, MiB, GB, GiB, TB, TiB)";
        for text in ["", "MiB", "10 MiB", "1.5GiB", "10M", "-1B", "10MiBs"] {
            assert_eq!(
                size(&format!("x = '{text}'")).unwrap_err(),
                format!("expected a size like `10MiB` or `2GB` {UNITS}, found `{text}`")
            );
        }
        assert_eq!(size("x = -1").unwrap_err(), "expected a size, found the negative number -1");
        assert_eq!(size("x = '8388608TiB'").unwrap_err(), "expected a size below 8 EiB, found `8388608TiB`");
        assert_eq!(
            size("x = 1.5").unwrap_err(),
            "invalid type: floating point `1.5`, expected a size like `10MiB` or a whole number of bytes"
        );
    }

    #[test]
    fn money_is_a_finite_number_from_zero() {
        assert_eq!(money("x = 4.2").unwrap(), Money(4.2));
        assert_eq!(money("x = 25").unwrap(), Money(25.0));
        assert_eq!(money("x = 4.2").unwrap().to_string(), "$4.20");
        assert!(money("x = -0.0").unwrap().usd().is_sign_positive());
        for (toml, found) in [("x = -1", "-1"), ("x = nan", "NaN"), ("x = inf", "inf")] {
            assert_eq!(money(toml).unwrap_err(), format!("expected US dollars as a number from 0, found {found}"));
        }
        assert_eq!((money("x = '$4'").unwrap(), money("x = '$4.20'").unwrap()), (Money(4.0), Money(4.2)));
        for text in ["4", "$", "$-4", "$1e3", "$ 4", "4$", "$inf"] {
            assert_eq!(
                money(&format!("x = '{text}'")).unwrap_err(),
                format!("expected US dollars like `$4.20` or the number `4.20`, found `{text}`")
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(bytes in 0..i64::MAX.unsigned_abs()) {
            prop_assert_eq!(Size::parse(&Size(bytes).to_string()), Ok(Size(bytes)));
        }
    }
}
