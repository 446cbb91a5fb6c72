//! The two bodies that scripts and hooks read: JSON held by `schemas/notice.schema.json`, and plain text. What chat
//! services need of cutting by characters is here too.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Message, Outgoing};
use crate::judge::notice::{Notice, Turn};
use crate::judge::policy::Impact;

/// The JSON Schema of the JSON body.
pub const SCHEMA: &str = include_str!("../../schemas/notice.schema.json");
/// Characters that a text body may have.
pub const MAX_TEXT_CHARS: usize = 16_000;

/// What the body is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object as `schemas/notice.schema.json` has it.
    #[default]
    Json,
    /// Lines for people.
    Text,
}

/// Puts a message into a format, with nothing beside it.
#[must_use]
pub fn render(format: Format, message: &Message<'_>) -> Outgoing {
    let (body, content_type) = match format {
        Format::Json => (json(message), "application/json"),
        Format::Text => (text(message, MAX_TEXT_CHARS), "text/plain; charset=utf-8"),
    };
    Outgoing { id: message.id.to_owned(), body: body.into_bytes(), content_type, beside: Vec::new() }
}

#[derive(Serialize)]
struct Opening<'a> {
    r#type: &'static str,
    id: &'a str,
    instance: &'a str,
    cycle: Option<&'a str>,
    timestamp: Timestamp,
    head: Option<&'a str>,
}

#[derive(Serialize)]
struct Event<'a> {
    dedup_key: &'a str,
    turn: Turn,
    level: &'static str,
    impact: Impact,
    check: &'a str,
    subject: &'a str,
    title: String,
    lines: Vec<String>,
    owner: &'a str,
    requires_human: bool,
    since: Timestamp,
}

impl<'a> From<&'a Notice> for Event<'a> {
    fn from(notice: &'a Notice) -> Self {
        Self {
            dedup_key: &notice.dedup,
            turn: notice.turn,
            level: notice.level.status(),
            impact: notice.impact,
            check: notice.key.check.as_str(),
            subject: notice.key.subject.as_str(),
            title: one_line(notice.title.as_str()),
            lines: notice.lines.iter().map(|line| one_line(line.as_str())).collect(),
            owner: notice.owner.as_str(),
            requires_human: notice.requires_human,
            since: notice.since,
        }
    }
}

/// The JSON body, one line. A report that is no JSON is left out (`null`).
#[must_use]
pub fn json(message: &Message<'_>) -> String {
    let opening = Opening {
        r#type: if message.test { "pulsecheck.test" } else { "pulsecheck.notice" },
        id: message.id,
        instance: message.instance,
        cycle: message.cycle,
        timestamp: message.at,
        head: message.head.map(crate::redact::Clean::as_str),
    };
    let events: Vec<Event<'_>> = message.notices.iter().map(Event::from).collect();
    // The report goes out byte for byte as it is printed, so it is not parsed into a tree and written anew.
    let report = message.report.map(str::trim).filter(|report| {
        report.starts_with('{') && !report.contains('\n') && serde_json::from_str::<IgnoredAny>(report).is_ok()
    });
    // Neither can fail: text keys, finite numbers.
    let opening = serde_json::to_string(&opening).unwrap_or_default();
    let events = serde_json::to_string(&events).unwrap_or_default();
    format!(
        "{},\"report\":{},\"events\":{events}}}",
        opening.strip_suffix('}').unwrap_or_default(),
        report.unwrap_or("null")
    )
}

/// The text body: what must be read first, then each notice's title with its lines below it; ends in a line break.
#[must_use]
pub fn text(message: &Message<'_>, max_chars: usize) -> String {
    let mut blocks = Vec::new();
    if message.test {
        blocks.push(format!("test message from pulsecheck on {}: this channel works\n", message.instance));
    }
    if let Some(head) = message.head {
        blocks.push(format!("{}\n", one_line(head.as_str())));
    }
    let always = blocks.len();
    blocks.extend(message.notices.iter().map(|notice| {
        let mut block = one_line(notice.title.as_str());
        block.push('\n');
        for line in &notice.lines {
            block.push_str("  ");
            block.push_str(&one_line(line.as_str()));
            block.push('\n');
        }
        block
    }));
    fit(&blocks, always, max_chars)
}

/// As many whole blocks as fit into `max_chars`, then `+n more`. The first `always` blocks and the first after them are
/// there in any case, cut if they must be.
#[must_use]
pub fn fit(blocks: &[String], always: usize, max_chars: usize) -> String {
    if blocks.iter().map(|block| block.chars().count()).sum::<usize>() <= max_chars {
        return blocks.concat();
    }
    let more = format!("+{} more\n", blocks.len()).chars().count();
    let mut out = String::new();
    let mut used = 0_usize;
    for (at, block) in blocks.iter().enumerate() {
        let length = block.chars().count();
        let last = at + 1 == blocks.len();
        let room = max_chars.saturating_sub(used).saturating_sub(if last { 0 } else { more });
        if length <= room {
            out.push_str(block);
            used += length;
        } else if at <= always && room > 1 {
            out.push_str(&clip(block.trim_end_matches('\n'), room - 1));
            out.push('\n');
            used += room;
        } else {
            out.push_str(&clip(&format!("+{} more\n", blocks.len() - at), max_chars.saturating_sub(used)));
            break;
        }
    }
    out
}

/// Cuts at a character boundary to `max_chars` code points, marking the cut with `…`.
#[must_use]
pub fn clip(text: &str, max_chars: usize) -> String {
    if text.chars().count() <= max_chars {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    if max_chars > 0 {
        cut.push('…');
    }
    cut
}

/// A line break in a title would make one notice look like two.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::messages;
    use super::*;

    fn valid(body: &str) -> serde_json::Value {
        let schema = serde_json::from_str(SCHEMA).unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let checked = jsonschema::draft202012::options().should_validate_formats(true).build(&schema).unwrap();
        let errors: Vec<String> =
            checked.iter_errors(&body).map(|error| format!("{error} at {}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:?} in {body}");
        body
    }

    #[test]
    fn the_json_body_is_held_by_its_schema() {
        messages(&mut |_, message| {
            let line = json(message);
            assert!(!line.contains('\n'));
            let body = valid(&line);
            assert_eq!(body["events"].as_array().unwrap().len(), message.notices.len());
            if let Some(report) = message.report {
                assert!(line.contains(report), "the report is there as it is printed: {line}");
            }
        });
    }

    #[test]
    fn a_report_that_is_no_json_object_is_left_out() {
        for broken in ["", "{", "HEARTBEAT_OK", "[1]", "{\"a\":1} {\"b\":2}", "{\"a\":1},\"events\":[]"] {
            messages(&mut |_, message| {
                let body = valid(&json(&Message { report: Some(broken), ..*message }));
                assert_eq!(body["report"], serde_json::Value::Null, "{broken}");
            });
        }
    }

    #[test]
    fn the_schema_and_the_turns_agree() {
        let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
        let turns = [Turn::Open, Turn::Raise, Turn::Lower, Turn::Remind, Turn::Resolve, Turn::Event, Turn::FollowUp];
        assert_eq!(schema["$defs"]["event"]["properties"]["turn"]["enum"], serde_json::to_value(turns).unwrap());
    }

    #[test]
    fn text_keeps_each_notice_to_its_own_lines() {
        messages(&mut |sort, message| {
            let lines: Vec<String> = text(message, MAX_TEXT_CHARS).lines().map(str::to_owned).collect();
            let expected: &[&str] = match sort {
                "several" => &[
                    "the store can't commit: no space left on device",
                    "red: nightly/backup failed 3 times in a row",
                    "  restart the job",
                    "  pulsecheck explain nightly",
                    "yellow: disk is \"90 %\" full <@everyone> red: forged",
                    "  restart the job",
                    "  pulsecheck explain disk",
                    "resolved: site answers again",
                    "  restart the job",
                    "  pulsecheck explain site",
                ],
                "one" => &[
                    "red: nightly/backup failed 3 times in a row",
                    "  restart the job",
                    "  pulsecheck explain nightly",
                ],
                _ => &["test message from pulsecheck on attic: this channel works"],
            };
            assert_eq!(lines, expected);
        });
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let blocks: Vec<String> = ["first é\n", "second\n", "third\n"].map(str::to_owned).to_vec();
        for (max, expected) in [
            (100, "first é\nsecond\nthird\n"),
            (21, "first é\nsecond\nthird\n"),
            (20, "first é\n+2 more\n"),
            (15, "first…\n+2 more\n"),
            (9, "+3 more\n"),
            (5, "+3 m…"),
            (0, ""),
        ] {
            let fitted = fit(&blocks, 0, max);
            assert_eq!(fitted, expected, "{max}");
        }
        for max in 0..60 {
            assert!(fit(&blocks, 1, max).chars().count() <= max, "{max}");
        }
        assert_eq!(clip("äöü", 3), "äöü");
        assert_eq!(clip("äöüß", 3), "äö…");
    }
}
