//! Moments as other systems write them.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Numbers above this are milliseconds: as seconds they would lie beyond the year 5138.
const MILLIS_FROM: f64 = 1e11;

/// A moment as systems write it: seconds or milliseconds since 1970 as a number or digits, RFC 3339, or a date (UTC).
/// Zero and negative numbers mean nothing.
pub(super) fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Number(number) => from_number(number.as_f64()?),
        Value::String(text) => from_text(text.trim()),
        _ => None,
    }
}

fn from_number(number: f64) -> Option<Timestamp> {
    let secs = if number > MILLIS_FROM { number / 1_000.0 } else { number };
    let since = SignedDuration::try_from_secs_f64(secs).ok()?;
    if secs > 0.0 { Timestamp::from_duration(since).ok() } else { None }
}

/// The same of text alone.
pub(super) fn from_text(text: &str) -> Option<Timestamp> {
    let in_utc = |when: DateTime| when.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<f64>().ok().and_then(from_number))
        .or_else(|| text.parse::<DateTime>().ok().and_then(in_utc))
        .or_else(|| text.parse::<Date>().ok().and_then(|date| in_utc(date.at(0, 0, 0, 0))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_read_as_systems_write_them() {
        let may = Some("2026-05-01T00:00:00Z".parse().unwrap());
        for value in [
            json!(1_777_593_600),
            json!(1_777_593_600_000_i64),
            json!(1_777_593_600.0),
            json!("1777593600"),
            json!("1777593600000"),
            json!("2026-05-01T00:00:00Z"),
            json!("2026-05-01T02:00:00+02:00"),
            json!("2026-05-01T00:00:00"),
            json!(" 2026-05-01 "),
        ] {
            assert_eq!(moment(&value), may, "{value}");
        }
        for value in
            [json!(0), json!(-1), json!("soon"), json!(""), json!(null), json!([1]), json!(1e300), json!("NaN")]
        {
            assert_eq!(moment(&value), None, "{value}");
        }
    }
}
