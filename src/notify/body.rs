//! The two bodies that scripts and hooks read: JSON held by `schemas/notice.schema.json`, and plain text. What chat
//! services need of cutting by characters is here too.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Message, Outgoing};
use crate::judge::notice::{Notice, Turn};
use crate::judge::policy::Impact;

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
    title: &'a str,
    lines: Vec<&'a str>,
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
            title: notice.title.as_str(),
            lines: notice.lines.iter().map(crate::redact::Clean::as_str).collect(),
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
    // Room for "+N more\n" with a number of any length that a list in memory can have.
    const MORE: usize = 28;
    let mut out = String::new();
    let mut used = 0_usize;
    for (at, block) in blocks.iter().enumerate() {
        let length = block.chars().count();
        let last = at + 1 == blocks.len();
        let room = max_chars.saturating_sub(used).saturating_sub(if last { 0 } else { MORE });
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
