//! How people are shown things: aligned rows, colours beside words, moments in their zone.

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Row, Table as Grid};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Out;
use crate::judge::Level;
use crate::report;

/// A colour with a meaning; each stands beside a word that says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Red,
    Yellow,
    Green,
    /// Of lesser weight: the whole row is dimmed, not its first word alone.
    Dim,
    Head,
}

impl Tone {
    fn style(self) -> Style {
        let color = |color: AnsiColor| Style::new().bold().fg_color(Some(color.into()));
        match self {
            Self::Red => color(AnsiColor::Red),
            Self::Yellow => color(AnsiColor::Yellow),
            Self::Green => color(AnsiColor::Green),
            Self::Dim => Style::new().dimmed(),
            Self::Head => Style::new().bold(),
        }
    }
}

impl From<Level> for Tone {
    fn from(level: Level) -> Self {
        match level {
            Level::Ok => Self::Green,
            Level::Logged => Self::Dim,
            Level::Yellow => Self::Yellow,
            Level::Red => Self::Red,
        }
    }
}

/// The text in its tone, where stdout takes colours.
pub(super) fn paint(text: &str, tone: Tone, out: &Out) -> String {
    if !out.color() {
        return text.to_owned();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// Rows of cells under each other. On a terminal each row is one line, and what does not fit ends in `…`; elsewhere nothing
/// is cut.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<(Tone, Vec<String>)>,
}

impl Table {
    /// Adds a row; its first cell gets the tone.
    pub(super) fn row<const N: usize>(&mut self, tone: Tone, cells: [String; N]) {
        // A line break within a cell would make two rows of it.
        self.rows.push((tone, cells.into_iter().map(|cell| cell.replace(['\n', '\r'], " ")).collect()));
    }

    /// Prints the rows, indented.
    pub(super) fn print(&self, indent: usize, out: &mut Out) {
        let width = out.is_terminal().then(|| out.width().saturating_sub(indent));
        for (line, (tone, cells)) in self.lines(width).iter().zip(&self.rows) {
            let first = cells.first().map_or("", String::as_str);
            let painted = match line.strip_prefix(first) {
                Some(rest) if *tone != Tone::Dim => format!("{}{rest}", paint(first, *tone, out)),
                _ if *tone == Tone::Dim => paint(line, *tone, out),
                _ => line.clone(),
            };
            out.line(&format!("{}{painted}", " ".repeat(indent)));
        }
    }

    /// One line a row; at most `width` columns where one is given.
    fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut grid = Grid::new();
        // Nothing is a word's end, so that a line is filled to its width before it is cut.
        grid.load_style(comfy_table::presets::NOTHING).set_truncation_indicator("…").set_delimiter('\u{1}');
        match width {
            Some(width) => grid
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_width(u16::try_from(width).unwrap_or(u16::MAX)),
            None => grid.set_content_arrangement(ContentArrangement::Disabled),
        };
        for (_, cells) in &self.rows {
            let mut row = Row::from(cells);
            row.max_height(1);
            grid.add_row(row);
        }
        for column in grid.column_iter_mut() {
            column.set_padding((0, 2));
        }
        grid.lines().map(|line| line.trim_end().to_owned()).collect()
    }
}

/// A moment for people: the time alone on the day that `now` is in.
pub(super) fn moment(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (at, now) = (at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if at.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    at.strftime(format).to_string()
}

/// The same, and how long ago.
pub(super) fn ago(at: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    format!("{} ({} ago)", moment(at, now, zone), report::since(at, now))
}

/// The word that a level is shown by.
pub(super) fn level_word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Logged => "logged",
        Level::Yellow => "yellow",
        Level::Red => "red",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[[&str; 3]]) -> Table {
        let mut table = Table::default();
        for row in rows {
            table.row(Tone::Head, row.map(str::to_owned));
        }
        table
    }

    #[test]
    fn cells_stand_under_each_other_and_only_a_terminal_cuts() {
        let long = "a rather long sentence that says what is the matter ".repeat(4);
        let table = table(&[["red", "api", &long], ["logged", "disk//var", "two\nlines"], ["", "", ""]]);
        let whole = table.lines(None);
        assert_eq!(whole[0], format!("red     api        {}", long.trim_end()));
        assert_eq!(&whole[1..], ["logged  disk//var  two lines", ""]);
        for width in [40, 60, 100] {
            let cut = table.lines(Some(width));
            assert_eq!(cut.len(), 3, "{cut:?}");
            assert!(cut.iter().all(|line| line.chars().count() <= width), "{width}: {cut:?}");
            assert!(cut[0].starts_with("red     api        a rather") && cut[0].ends_with('…'), "{cut:?}");
        }
    }

    #[test]
    fn a_moment_of_today_is_a_time_alone() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let zone = TimeZone::get("America/Los_Angeles").unwrap();
        let now = at("2026-03-20T21:30:00Z");
        for (then, said) in [
            ("2026-03-20T21:00:00Z", "14:00 (30 min ago)"),
            ("2026-03-20T06:30:00Z", "2026-03-19 23:30 (15 h ago)"),
            ("2026-03-20T22:00:00Z", "15:00 (0 s ago)"),
        ] {
            assert_eq!(ago(at(then), now, &zone), said);
        }
    }
}
