//! A report in words, for terminals and chats.

use jiff::Timestamp;

use super::Report;

/// The report as lines for people: status first, then the items with what to do, then the notes.
#[must_use]
pub fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}{}",
        report.status.to_uppercase(),
        report.host,
        if report.changes_detected { "" } else { " (nothing new)" }
    )];
    for (i, item) in report.top_3.iter().enumerate() {
        let mark = if item.changes.is_empty() { "standing" } else { "new" };
        lines.push(format!("{}. [{} {}, {mark}] {}", i + 1, item.level, item.impact.as_str(), item.item));
        lines.push(format!("   {}: {} (since {})", item.owner, item.action, item.since));
    }
    if report.requires_human {
        lines.push("a person has to act".to_owned());
    }
    if !report.notes.as_str().is_empty() {
        lines.push(report.notes.to_string());
    }
    lines
}

/// How long ago, for people: `3 h 12 min`, `2 d`.
#[must_use]
pub fn since(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(then).as_secs().max(0);
    let (d, h, m) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min"),
        (0, h, 0) => format!("{h} h"),
        (0, h, m) => format!("{h} h {m} min"),
        (d, 0, _) => format!("{d} d"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}
