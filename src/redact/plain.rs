//! Characters: what a terminal, a chat client or a reader could be fooled by is taken out or made harmless.

use std::borrow::Cow;

/// Takes out control characters and escape sequences, bidi controls and invisible characters. Line breaks stay, tabs and
/// the separators of lines and paragraphs become spaces.
pub(super) fn plain(raw: &str) -> Cow<'_, str> {
    let harmless = |b: u8| (0x20..0x7f).contains(&b) || b == b'\n';
    if raw.bytes().all(harmless) || raw.chars().all(|c| c == '\n' || kept(c) == Some(c)) {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_escape(&mut chars),
            '\n' => out.push('\n'),
            c => out.extend(kept(c)),
        }
    }
    Cow::Owned(out)
}

/// Whether a character stays as it is.
pub(super) fn keeps(c: char) -> bool {
    kept(c) == Some(c)
}

/// What becomes of one character.
fn kept(c: char) -> Option<char> {
    match c {
        '\t' | '\u{2028}' | '\u{2029}' => Some(' '),
        c if c.is_control() => None,
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator, zero-width characters and marks of direction,
        // embeddings and overrides, invisible operators, isolates and deprecated format characters, the byte-order
        // mark, interlinear annotations, tags.
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' => None,
        c => Some(c),
    }
}

/// Goes past a terminal's escape sequence (colour, cursor, title), so that what it coloured reads as one word. A sequence
/// without an end is taken for no longer than 64 characters or the line.
fn skip_escape(chars: &mut std::str::Chars<'_>) {
    let start = chars.clone();
    let ended = match chars.next() {
        Some('[') => chars.by_ref().take(64).take_while(|c| ('\u{20}'..'\u{7f}').contains(c)).any(|c| c >= '@'),
        Some(']' | 'P' | '_' | '^') => {
            chars.by_ref().take(256).take_while(|c| *c != '\n').any(|c| c == '\u{7}' || c == '\u{1b}')
        }
        Some('(' | ')') => chars.next().is_some(),
        _ => false,
    };
    if !ended {
        *chars = start;
    }
}

/// Makes links and mentions dead and keeps what would end the quotes or start a markup out.
pub(super) fn defang(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        let (dead, taken) = match c {
            'h' | 'H' if starts_with(rest, "https://") => ("hxxps://", 8),
            'h' | 'H' if starts_with(rest, "http://") => ("hxxp://", 7),
            'w' | 'W' if starts_with(rest, "www.") => ("www[.]", 4),
            ':' if rest.starts_with("://") && !ends_defanged(&out) => ("[:]//", 3),
            ']' if rest.starts_with("](") => ("] (", 2),
            '@' => ("(at)", 1),
            '"' | '`' | '“' | '”' | '„' => ("'", c.len_utf8()),
            '<' => ("‹", 1),
            '>' => ("›", 1),
            '*' | '~' | '|' | '_' if rest.as_bytes().get(1).copied() == u8::try_from(c).ok() => (" ", 2),
            _ => ("", 0),
        };
        let taken = if taken == 0 {
            out.push(c);
            c.len_utf8()
        } else {
            out.push_str(dead);
            taken
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

fn starts_with(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

fn ends_defanged(out: &str) -> bool {
    out.ends_with("hxxp") || out.ends_with("hxxps")
}
